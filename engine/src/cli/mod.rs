//! The command line: one file a subcommand, and what they share.

mod check;
mod completions;
mod events;
mod explain;
mod export;
mod fetch;
mod host;
mod import;
mod leases;
mod man;
mod migrate;
mod probe;
mod rehearse;
mod reload;
mod serve;
mod status;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bootstorm::config::{self, CommandLine, Config, ConfigError};
use bootstorm::control::client::{Client, ClientError};
use bootstorm::control::protocol::Response;
use bootstorm::leases::Hardware;
use bootstorm::terminal::escaped;
use clap::{Args, CommandFactory, Parser, Subcommand};

const DEFAULT_CONFIG: &str = "/etc/bootstorm/bootstorm.toml";

const EXAMPLES: &str = "\
Examples:
  bootstorm check
      Is /etc/bootstorm/bootstorm.toml right, and if not, where is it wrong?
  bootstorm probe --interface eth1
      Does somebody else answer DHCP on this network?
  bootstorm rehearse --config /etc/dhcp/dhcpd.conf --interface eth1
      How would its answers differ from those of the server that is there?
  bootstorm serve --dry-run
      Receive, decide and log; send and store nothing.
  bootstorm serve
      Boot machines.
  bootstorm events --follow --mac 52:54:00:12:34:56
      Watch one machine boot.
  bootstorm explain --last --mac 52:54:00:12:34:56
      Why did it get that answer, or none?
  bootstorm leases show 52:54:00:12:34:56
      Which address does it have, and until when?
  bootstorm leases list --json | jq -r 'select(.state == \"active\") | .ip'
      Every address in use.
  bootstorm host add rack1-n07 --hardware 52:54:00:12:34:56 --ip 10.1.0.107
      A machine gets an address of its own, at once.
  bootstorm migrate --leases /var/lib/dhcp/dhcpd.leases
      Take over what dhcpd has given away, before the first start.
  bootstorm fetch tftp://10.1.0.6/ipxe.efi -o /dev/null
      Load what a machine would load, and see how fast.
  bootstorm reload
      Take over a changed configuration without losing anything.

Exit status:
  0  done
  1  the answer is no: no such lease, nobody answers, the file is refused, explain: no answer or NAK
  2  could not run: wrong usage, no permission, no server, and whatever else may pass
  78 the configuration is wrong
  80 serve: another DHCP server answers on this network";

/// Boots machines from the network: DHCP, TFTP and durable leases for whole data centres.
#[derive(Debug, Parser)]
#[command(name = "bootstorm", version, after_help = EXAMPLES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Leases(leases::Leases),
    Host(host::Host),
    Migrate(migrate::Migrate),
    Status(status::Status),
    Events(events::Events),
    Explain(Box<explain::Explain>),
    Reload(reload::Reload),
    Probe(probe::Probe),
    Rehearse(rehearse::Rehearse),
    Fetch(fetch::Fetch),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Exit status when a command could not run; trying again may help.
const COULD_NOT_RUN: u8 = 2;
/// Exit status when the configuration is wrong: EX_CONFIG of sysexits(3), and systemd calls it so.
/// The systemd unit does not try again, so this number stays.
const CONFIGURATION: u8 = 78;
/// Exit status of `serve` when another DHCP server answers. Above the numbers of sysexits(3), so
/// that systemd gives it no name. The systemd unit does not try again, so this number stays.
const NOT_ALONE: u8 = 80;

/// What a subcommand found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, or yes: exit 0.
    Yes,
    /// No: exit 1.
    No,
}

/// Why a subcommand could not run.
#[derive(Debug)]
enum Failure {
    /// `bootstorm: <thing>: <cause>`, and the way out. Trying again may help: exit 2.
    Message(String),
    /// The configuration is wrong; `bootstorm: <cause>`, or a diagnostic with its line underlined.
    Configuration(String),
    /// Another DHCP server answers on this network.
    NotAlone(String),
    /// Whoever read our output has had enough: no failure, but no reason to go on.
    OutputClosed,
}

impl Failure {
    /// `bootstorm: <message>`
    fn new(message: impl Display) -> Self {
        Self::Message(message.to_string())
    }

    /// `bootstorm: <thing>: <cause>`
    fn of(thing: impl Display, cause: impl Display) -> Self {
        Self::Message(format!("{thing}: {cause}"))
    }
}

/// Standard output cannot be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::of("standard output", error),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error)
    }
}

type Outcome = Result<Answer, Failure>;

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let outcome = run(cli.command, &mut out).and_then(|answer| {
        out.flush()?;
        Ok(answer)
    });
    match outcome {
        Ok(Answer::Yes) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(Failure::Message(message)) => {
            complain(&message);
            ExitCode::from(COULD_NOT_RUN)
        }
        Err(Failure::Configuration(text)) => {
            // Nobody is left to tell when standard error is closed, here and below.
            let _closed = io::stderr().write_all(text.as_bytes());
            ExitCode::from(CONFIGURATION)
        }
        Err(Failure::NotAlone(message)) => {
            complain(&message);
            ExitCode::from(NOT_ALONE)
        }
    }
}

fn run(command: Command, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(out),
        Command::Leases(command) => command.run(out),
        Command::Host(command) => command.run(out),
        Command::Migrate(command) => command.run(out),
        Command::Status(command) => command.run(out),
        Command::Events(command) => command.run(out),
        Command::Explain(command) => command.run(out),
        Command::Reload(command) => command.run(out),
        Command::Probe(command) => command.run(out),
        Command::Rehearse(command) => command.run(out),
        Command::Fetch(command) => command.run(out),
        Command::Completions(command) => command.run(out),
        Command::Man(command) => command.run(out),
    }
}

/// Help and version go to standard output with 0; what is wrong goes to standard error with 2, as
/// `bootstorm: <cause>`.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _closed = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    match text.strip_prefix("error: ") {
        Some(cause) => complain(cause.trim_end()),
        // The help itself, for a command line without a subcommand.
        None => drop(error.print()),
    }
    ExitCode::from(COULD_NOT_RUN)
}

/// A line for people on standard error.
fn complain(message: &str) {
    let _closed = writeln!(io::stderr(), "bootstorm: {}", escaped(message));
}

/// The whole command, for completions and man pages.
fn command() -> clap::Command {
    Cli::command()
}

/// `--config`
#[derive(Clone, Debug, Args)]
struct ConfigArg {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

impl ConfigArg {
    fn path(&self) -> PathBuf {
        self.config.clone()
    }

    /// Reads the configuration; errors are rendered with the line they stand in.
    fn load(&self) -> Result<Config, Failure> {
        config::load(&self.config).map_err(rendered)
    }

    /// The same, with warnings of what this host lacks.
    fn load_on_host(&self, given: &GivenArg) -> Result<Config, Failure> {
        config::load_on_host(&self.config, &given.command_line()).map_err(rendered)
    }
}

/// What a configuration of ISC dhcpd has no words for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "With a configuration of ISC dhcpd")]
struct GivenArg {
    /// Where leases and the control socket live [default: /var/lib/bootstorm]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// An interface to serve, several times for several [default: those with an address in a
    /// subnet]
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Serve boot files by TFTP from this directory
    #[arg(long, value_name = "DIR")]
    tftp_root: Option<PathBuf>,
}

impl GivenArg {
    fn command_line(&self) -> CommandLine {
        CommandLine {
            state_dir: self.state_dir.clone(),
            interfaces: self.interface.clone(),
            tftp_root: self.tftp_root.clone(),
        }
    }
}

fn rendered(error: ConfigError) -> Failure {
    Failure::Configuration(error.render(io::stderr().is_terminal()))
}

/// Which server to talk to.
#[derive(Clone, Debug, Args)]
struct ServerArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The server's state directory, instead of reading it from the configuration
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl ServerArg {
    fn state_dir(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(directory) => Ok(directory.clone()),
            None => config::state_dir(&self.config.config).map_err(rendered),
        }
    }

    fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.state_dir()?)?)
    }
}

/// A hardware address: checked before the server is asked, kept as it was written.
fn mac(text: &str) -> Result<String, String> {
    Hardware::of_text(text).map(|_| text.to_owned())
}

/// One JSON object on a line of its own.
fn print_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// The server said what does not answer the question.
fn unexpected(response: &Response) -> Failure {
    ClientError::Language(format!("{response:?}")).into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_flag_of_every_command_holds_together() {
        super::command().debug_assert();
    }
}
