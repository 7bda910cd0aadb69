//! `bootstorm serve`

use bootstorm::config::{LogFormat, LogLevel};
use bootstorm::serve::{self, Options, ServeError};
use clap::ValueEnum;

use super::{Answer, ConfigArg, Failure, GivenArg, Outcome};

/// Answer DHCP, serve TFTP, keep leases
///
/// The configuration is TOML, or ISC dhcpd's as it is: `serve --config /etc/dhcp/dhcpd.conf
/// --state-dir DIR [--tftp-root DIR] [--interface NAME]...`. Which it is, the file shows.
///
/// Runs in the foreground and logs to standard error, as systemd wants it. SIGHUP reloads, SIGTERM
/// and SIGINT drain and end it with exit 0, at once while it starts; a second SIGINT ends it at
/// once. On its first start with an empty state directory it first asks on every served interface,
/// for at most a second, whether another DHCP server answers there; if one does, it names it and
/// ends with exit 80, unless allow-other-servers says otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    given: GivenArg,
    /// Receive, decide and log, but send and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Start without leases, although dhcpd has left some that were not imported
    #[arg(long)]
    no_import: bool,
    /// How log lines look, instead of [log] format
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// The least important lines that are logged, instead of [log] level
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// Only what needs a person
    Error,
    /// And what may soon
    Warn,
    /// And one line for each boot event, sampled at full load
    Info,
    /// And why requests were not answered
    Debug,
    /// And everything else
    Trace,
}

impl Serve {
    pub(crate) fn run(self) -> Outcome {
        let config = self.config.load_on_host(&self.given)?;
        // What many hosts were read from.
        bootstorm_net::give_back_memory();
        let format = match self.log_format {
            None => config.log.format,
            Some(Format::Human) => LogFormat::Human,
            Some(Format::Json) => LogFormat::Json,
        };
        let level = match self.log_level {
            None => config.log.level,
            Some(Level::Error) => LogLevel::Error,
            Some(Level::Warn) => LogLevel::Warn,
            Some(Level::Info) => LogLevel::Info,
            Some(Level::Debug) => LogLevel::Debug,
            Some(Level::Trace) => LogLevel::Trace,
        };
        bootstorm::log::init(format, level);
        let options = Options {
            config_path: self.config.path(),
            command_line: self.given.command_line(),
            dry_run: self.dry_run,
            no_import: self.no_import,
        };
        serve::run(config, options).map_err(failure)?;
        Ok(Answer::Yes)
    }
}

fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::NotAlone(_) => Failure::NotAlone(format!("serve: {error}")),
        _ if error.is_of_configuration() => {
            Failure::Configuration(format!("bootstorm: serve: {error}\n"))
        }
        _ => Failure::of("serve", error),
    }
}
