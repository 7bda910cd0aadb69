//! `bootstorm probe`

use std::io::Write;
use std::time::Duration;

use bootstorm::probe::{ForeignServer, other_servers};
use serde_json::json;

use super::{Answer, Failure, Outcome, complain, print_json};

/// Ask who answers DHCP on a network
///
/// Sends a DISCOVER as a machine without an address does, and lists every server that makes an
/// OFFER (exit 0), or says that nobody does (exit 1). No address is taken. A server on this host is
/// not heard: what a host broadcasts does not come back to it. Needs root or CAP_NET_RAW.
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// Network interface; may be given several times
    #[arg(short, long = "interface", value_name = "IF", required = true)]
    interfaces: Vec<String>,
    /// Seconds to wait for answers; some servers ping an address for a second before they offer it
    #[arg(long, value_name = "SECONDS", default_value_t = 2.5, value_parser = seconds)]
    wait: f64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds from 0.1 to 60".to_owned()),
    }
}

impl Probe {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let all = bootstorm_net::interfaces()
            .map_err(|error| Failure::of("network interfaces", error))?;
        let mut asked = Vec::new();
        for name in &self.interfaces {
            let found = all.iter().find(|interface| interface.name == *name);
            asked.push(found.ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
                Failure::of(name, format!("no such interface; there are {}", names.join(", ")))
            })?);
        }
        let answers = other_servers(&asked, Duration::from_secs_f64(self.wait), &[])
            .map_err(|error| Failure::of("packet socket", format!("{error}; run it as root")))?;
        if let Some((name, error)) = answers.unasked.first() {
            return Err(Failure::of(name, format!("cannot ask: {error}; is it up? (ip link)")));
        }
        for server in &answers.servers {
            if self.json {
                print_json(out, &row(server))?;
            } else {
                human(server, out)?;
            }
        }
        if answers.servers.is_empty() {
            complain(&format!("nobody answers DHCP on {}", self.interfaces.join(", ")));
            return Ok(Answer::No);
        }
        Ok(Answer::Yes)
    }
}

fn human(server: &ForeignServer, out: &mut dyn Write) -> Result<(), Failure> {
    write!(out, "{server}")?;
    if server.source != server.server {
        write!(out, ", through {}", server.source)?;
    }
    if !server.next_server.is_unspecified() {
        write!(out, ", next-server {}", server.next_server)?;
    }
    if !server.boot_file.is_empty() {
        write!(out, ", boot file {}", server.boot_file)?;
    }
    Ok(writeln!(out)?)
}

fn row(server: &ForeignServer) -> serde_json::Value {
    json!({
        "interface": server.interface,
        "server": server.server,
        "source": server.source,
        "mac": server.mac.to_string(),
        "offered": server.offered,
        "next-server": server.next_server,
        "boot-file": server.boot_file,
    })
}
