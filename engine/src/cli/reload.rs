//! `bootstorm reload`

use std::io::Write;

use bootstorm::control::client::ClientError;
use bootstorm::control::protocol::{Request, Response};

use super::{Answer, Failure, Outcome, ServerArg, unexpected};

/// Have the running server take over a changed configuration
///
/// No packet and no lease is lost. When the new configuration is wrong the old one stays, and the
/// error is shown here as `check` would show it (exit 2). SIGHUP does the same without telling how
/// it went.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    server: ServerArg,
}

impl Reload {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let mut client = self.server.connect()?;
        client.ask(&Request::Reload {})?;
        match client.response() {
            Ok(Response::Reloaded(changed)) => writeln!(out, "reloaded: {changed}")?,
            Ok(other) => return Err(unexpected(&other)),
            Err(ClientError::Refused(error)) => {
                return Err(Failure::of("not reloaded, the old one stays", error.trim_end()));
            }
            Err(other) => return Err(other.into()),
        }
        Ok(Answer::Yes)
    }
}
