//! What the command line takes.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use bootstorm_net::EngineChoice;
use bootstorm_protocols::tftp::MULTICAST_PORT;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::job::RelaySpec;
use crate::routes::Block;
use crate::slo::Slo;
use crate::units::Span;

/// Plays thousands of booting machines against a DHCP and TFTP server, and checks every answer.
#[derive(Parser)]
#[command(name = "bootstorm-load", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 all limits met, 1 one missed or a wrong answer, 2 could not run, \
                        3 run, but invalid: the generator was at fault.\n\
                        It sends only to loopback or inside a network namespace, unless it is told \
                        otherwise."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Plain exchanges, at a rate or as fast as the server answers
    Dora(DoraArgs),
    /// Clients that fetch files by TFTP, all at once
    Tftp(TftpArgs),
    /// A scenario: racks, rows and halls of machines that boot
    Storm(StormArgs),
    /// The highest rate, or the most machines at once, that still meet the limits
    FindLimit(FindLimitArgs),
    /// Two reports side by side
    Compare(CompareArgs),
    /// Makes the files that a scenario's machines ask for
    Files(FilesArgs),
    /// Lists the built-in scenarios, or prints one
    Scenarios {
        /// The scenario to print
        name: Option<String>,
    },
    /// Prints completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages
    Man {
        /// Where to write bootstorm-load.1 and a page for every command
        directory: PathBuf,
    },
}

/// What every run takes.
#[derive(ClapArgs, Clone)]
pub(super) struct Common {
    /// The server
    #[arg(long, value_name = "IP")]
    pub(super) server: Ipv4Addr,
    /// The interface towards it: its address plays the relay agent unless --relay names one
    #[arg(long, value_name = "IF")]
    pub(super) interface: Option<String>,
    /// A relay agent to play, repeatable; racks stand behind them in turn
    #[arg(long, value_name = "GIADDR[/PREFIX][,CIRCUIT]", value_parser = relay)]
    pub(super) relay: Vec<RelaySpec>,
    /// Clients broadcast on --interface instead of going through a relay agent
    #[arg(long, conflicts_with = "relay")]
    pub(super) direct: bool,
    /// Addresses of clients that ask for none (TFTP without DHCP); made local while the run lasts
    #[arg(long, value_name = "BLOCK")]
    pub(super) client_net: Option<Block>,
    /// Load from this host's address, a port for each machine, instead of from machines' own
    /// addresses
    #[arg(long)]
    pub(super) ports: bool,
    /// Take every block of a window by itself, not together (UDP_GRO): no network card of the
    /// machines helps
    #[arg(long)]
    pub(super) no_gro: bool,
    /// Keep the core while an answer is near, as firmware does that polls its network card
    #[arg(long)]
    pub(super) busy_poll: bool,
    /// Begins at once, without half a second that measures the generator's own latency
    #[arg(long)]
    pub(super) no_own_latency: bool,
    /// The TFTP server, where it is not the one that DHCP names
    #[arg(long, value_name = "IP")]
    pub(super) tftp_server: Option<Ipv4Addr>,
    /// The HTTP server of scenarios that fetch by HTTP [default: port 80 of the server]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) http: Option<SocketAddrV4>,
    /// A folder with copies of the server's files, to compare bytes with
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// The same seed makes the same storm; drawn when it is not said
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Limits on top of the scenario's, such as giveups=0,p99=500ms,boot-p99=60s
    #[arg(long, value_name = "LIMITS")]
    pub(super) slo: Option<Slo>,
    /// Writes the report as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Writes the report as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Where the packets around wrong answers go (pcapng) [default: bootstorm-load.pcapng beside
    /// the JSON]
    #[arg(long, value_name = "FILE")]
    pub(super) capture: Option<PathBuf>,
    /// Which packet engine
    #[arg(long, value_enum, default_value_t = EngineName::Auto)]
    pub(super) engine: EngineName,
    /// Changes a number of the scenario, repeatable: arrival.every=500ms
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Says nothing while it runs
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Sends on this host's own network, not only on loopback or in a namespace
    #[arg(long)]
    pub(super) i_own_this_network: bool,
    /// Allows scenarios that take or spoil addresses on purpose
    #[arg(long)]
    pub(super) attack: bool,
}

#[derive(ClapArgs)]
pub(super) struct DoraArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Exchanges begun a second; without it, as many as the server answers
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<f64>,
    /// Exchanges at a time, where there is no rate
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    pub(super) in_flight: Option<u32>,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// Clients that take turns
    #[arg(long, value_name = "N")]
    pub(super) machines: Option<u32>,
    /// Clients of another generation have other hardware addresses: for a server that knows those
    /// of an earlier run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) generation: u8,
    /// Only DISCOVER and OFFER
    #[arg(long)]
    pub(super) discover_only: bool,
}

#[derive(ClapArgs)]
pub(super) struct TftpArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// A file to fetch, repeatable: every client fetches all of them in turn
    #[arg(long, value_name = "NAME", required = true)]
    pub(super) file: Vec<String>,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) clients: u32,
    /// Bytes of a block; 0 does not ask
    #[arg(long, value_name = "N", default_value_t = 1468)]
    pub(super) blksize: u16,
    /// Blocks of a window; 1 does not ask
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) windowsize: u16,
    /// Time over which clients begin, evenly
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(super) over: Span,
    /// Ask for a place in a multicast stream (RFC 2090)
    #[arg(long)]
    pub(super) multicast: bool,
    /// The port that the server sends streams to
    #[arg(long, value_name = "PORT", default_value_t = MULTICAST_PORT, requires = "multicast")]
    pub(super) multicast_port: u16,
}

#[derive(ClapArgs)]
pub(super) struct StormArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// A built-in scenario, or the path of one
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) scenario: String,
    /// Machines, in place of the scenario's number
    #[arg(long, value_name = "N")]
    pub(super) machines: Option<u32>,
}

#[derive(ClapArgs)]
pub(super) struct FindLimitArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// A scenario whose machines are to be as many as possible; without it, plain exchanges at the
    /// highest rate
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) scenario: Option<String>,
    /// The first rate, or number of machines, that is tried
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) start: u32,
    /// The highest that is tried
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(super) most: u32,
    /// How near the answer must be
    #[arg(long, value_name = "SHARE", default_value = "5%")]
    pub(super) within: crate::units::Share,
    /// Seconds of a trial at a rate, at least: finer steps last longer, so that no queue of the
    /// server hides that a rate is too high
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub(super) seconds: f64,
    /// Trials that must confirm the answer
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) confirm: u32,
    /// Seconds of a trial that confirms the answer, at least; with a scenario, of all of them
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    pub(super) confirm_seconds: f64,
    /// Trials last --seconds and no longer: to try it out, not to quote
    #[arg(long)]
    pub(super) short: bool,
    /// A shell command before each trial, such as one that starts the server with no leases;
    /// without it machines give their leases back after each trial, and the next has other machines
    #[arg(long, value_name = "COMMAND")]
    pub(super) before_trial: Option<String>,
    /// Only DISCOVER and OFFER
    #[arg(long)]
    pub(super) discover_only: bool,
}

#[derive(ClapArgs)]
pub(super) struct CompareArgs {
    /// The report to compare with
    pub(super) before: PathBuf,
    /// The one that is compared
    pub(super) after: PathBuf,
}

#[derive(ClapArgs)]
pub(super) struct FilesArgs {
    /// A built-in scenario, or the path of one
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) scenario: String,
    /// The folder that the server serves
    #[arg(long, value_name = "DIR")]
    pub(super) into: PathBuf,
    /// Changes a number of the scenario, repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

#[derive(Copy, Clone, ValueEnum)]
pub(super) enum EngineName {
    /// io_uring, or recvmmsg where it is denied
    Auto,
    /// io_uring
    Uring,
    /// recvmmsg and sendmmsg
    Mmsg,
}

impl From<EngineName> for EngineChoice {
    fn from(name: EngineName) -> EngineChoice {
        match name {
            EngineName::Auto => EngineChoice::Auto,
            EngineName::Uring => EngineChoice::Uring,
            EngineName::Mmsg => EngineChoice::Mmsg,
        }
    }
}

/// `10.100.0.1`, `10.100.0.1/16`, `10.100.0.1/16,rack 7`.
fn relay(text: &str) -> Result<RelaySpec, String> {
    let (address, circuit) = match text.split_once(',') {
        Some((address, circuit)) => (address, Some(circuit.as_bytes().to_vec())),
        None => (text, None),
    };
    let (address, prefix) = match address.split_once('/') {
        Some((address, prefix)) => {
            let prefix = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix));
            let prefix = prefix.ok_or("the prefix is a number from 1 to 32")?;
            (address, Some(prefix))
        }
        None => (address, None),
    };
    let giaddr = address
        .parse()
        .map_err(|_| format!("`{address}` is no IPv4 address; write 10.100.0.1/16,rack7"))?;
    if circuit.as_ref().is_some_and(|circuit| circuit.is_empty() || circuit.len() > 253) {
        return Err("a circuit id has 1 to 253 bytes".to_owned());
    }
    Ok(RelaySpec { giaddr, prefix, circuit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn relays_are_read_in_all_their_forms() {
        let plain = relay("10.1.0.1").unwrap();
        assert_eq!((plain.prefix, plain.circuit), (None, None));
        let whole = relay("10.1.0.1/16,rack 7, port 3").unwrap();
        assert_eq!(whole.giaddr, Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(whole.prefix, Some(16));
        assert_eq!(whole.circuit.unwrap(), b"rack 7, port 3");
        for wrong in ["", "10.1.0.1/0", "10.1.0.1/33", "10.1.0.1,", "host"] {
            assert!(relay(wrong).is_err(), "{wrong}");
        }
    }
}
