//! `bootstorm events`

use std::io::Write;

use bootstorm::control::protocol::{Request, Response};

use super::{Answer, Outcome, ServerArg, complain, mac, print_json, unexpected};

/// Watch machines boot, as it happens
///
/// One line for each thing that happens: DISCOVER, OFFER, REQUEST, ACK, every file fetched with its
/// rate. Unlike the log this is never sampled; whoever reads too slowly is told how much was lost.
/// Ends with the server, or with Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    server: ServerArg,
    /// Keep following; what is past is in the log
    #[arg(short, long, required = true)]
    follow: bool,
    /// Only this machine, and the TFTP transfers of its addresses
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let mut client = self.server.connect()?;
        client.ask(&Request::Events { mac: self.mac })?;
        while let Some(response) = client.next_event()? {
            match response {
                Response::Event(row) if self.json => print_json(out, &row)?,
                Response::Event(row) => writeln!(out, "{row}")?,
                Response::Lost(count) => {
                    complain(&format!("{count} events lost: this reader is too slow"));
                }
                other => return Err(unexpected(&other)),
            }
            out.flush()?;
        }
        Ok(Answer::Yes)
    }
}
