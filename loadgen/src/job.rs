//! A run as the command line asks for it, and why it could not be made.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use bootstorm_net::EngineChoice;
use bootstorm_protocols::tftp::Negotiated;

use crate::routes::Block;
use crate::scenario::Scenario;
use crate::slo::Slo;
use crate::validator::LocalCopies;

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is played.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// Which set of hardware addresses machines have: each is of other machines.
    pub generation: u8,
    /// At the end machines give their leases back, so many a second.
    pub release: Option<u32>,
    /// The server.
    pub server: Ipv4Addr,
    /// The interface towards it.
    pub interface: Option<String>,
    /// Relay agents.
    pub relays: Vec<RelaySpec>,
    /// Clients broadcast instead.
    pub direct: bool,
    /// Addresses of machines that ask for none.
    pub clients: Option<Block>,
    /// Machines speak from this host's address, a port each, even where they could have their own.
    pub ports: bool,
    /// Take the blocks of a window together (UDP_GRO), as machines whose network cards put them
    /// together do.
    pub gro: bool,
    /// Keep the core while an answer is near, as firmware does that polls its network card.
    pub busy_poll: bool,
    /// Measure the generator's own latency first.
    pub own_latency: bool,
    /// Options of TFTP requests in place of the firmware's.
    pub asked: Option<Negotiated>,
    /// The port of multicast groups, where machines ask for streams.
    pub multicast_port: Option<u16>,
    /// The TFTP server, where it is not the one that DHCP names.
    pub tftp_server: Option<Ipv4Addr>,
    /// The HTTP server, where it is not port 80 of the server.
    pub http_server: Option<SocketAddrV4>,
    /// Where copies of the server's files are.
    pub copies: LocalCopies,
    /// Where the packets around violations go.
    pub capture: Option<PathBuf>,
    /// Which packet engine.
    pub engine: EngineChoice,
    /// What is asked of the server.
    pub slo: Slo,
    /// The command line, for the report.
    pub command: String,
}

/// A relay agent as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelaySpec {
    /// Its address.
    pub giaddr: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: Option<u8>,
    /// Its circuit id (option 82, sub-option 1).
    pub circuit: Option<Vec<u8>>,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such interface.
    #[error("no interface is called `{name}` here; there are {there}")]
    Interface {
        /// The name asked for.
        name: String,
        /// The names there are.
        there: String,
    },
    /// The interface has no IPv4 address, and no relay agent was named.
    #[error(
        "{0} has no IPv4 address to play a relay agent with: give it one, name one with --relay, \
         or say --direct"
    )]
    NoAddress(String),
    /// Direct clients need to know where they are.
    #[error("--direct needs --interface: the one that the broadcasts leave by")]
    NoInterface,
    /// The server cannot be reached.
    #[error("no route to {server}: {error}")]
    NoRoute {
        /// The server.
        server: Ipv4Addr,
        /// The kernel's.
        error: io::Error,
    },
    /// io_uring was demanded and is denied.
    #[error(transparent)]
    Denied(#[from] bootstorm_net::Denied),
    /// A socket could not be opened.
    #[error(
        "{0}; port 67 wants root, and must not be in use by a DHCP server or relay agent in the \
         same place"
    )]
    Socket(io::Error),
    /// An address could not be made this host's.
    #[error("{0}; it wants CAP_NET_ADMIN")]
    Route(io::Error),
    /// The packet engine failed.
    #[error("the packet engine failed: {0}")]
    Engine(io::Error),
    /// No memory.
    #[error("no memory for statistics: {0}")]
    Memory(#[from] hdrhistogram::CreationError),
}
