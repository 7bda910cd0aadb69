//! What the TFTP service is told.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::At;
use super::{Prefix, Problem};
use crate::quirks::Quirks;

/// `multicast` of `[tftp]`
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Multicast {
    /// Each stream has a group of these.
    pub groups: Prefix,
    /// The port that blocks are sent to.
    pub port: u16,
    /// Routers that a block may pass, and one more.
    pub ttl: u8,
}

/// What clients may write.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum UploadMode {
    /// Nothing.
    #[default]
    Off,
    /// Files of new names.
    Create,
    /// Files of new names, and in the place of others.
    Overwrite,
}

/// `[tftp]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tftp {
    /// The directory that no request leaves.
    pub root: PathBuf,
    /// Whether clients may write.
    pub upload: UploadMode,
    /// The largest blksize to agree to (RFC 2348), 8 to 65464.
    pub max_blksize: u16,
    /// The largest windowsize to agree to (RFC 7440), 1 to 65535; above 32767 it counts as 32767.
    pub max_windowsize: u16,
    /// Whether a client that lost much of its last transfer is granted a smaller window.
    pub adaptive_windowsize: bool,
    /// Streams that many clients share (RFC 2090); `None` sends to each client by itself.
    pub multicast: Option<Multicast>,
    /// Whether a blksize is cut to the path's MTU.
    pub clamp_to_mtu: bool,
    /// Transfers at one time, over all shards.
    pub max_transfers: u32,
    /// Transfers that run at one time for one client address, over all shards.
    pub max_transfers_per_client: u32,
    /// Ports to send from, first and last; `None` takes what the kernel gives.
    pub port_range: Option<(u16, u16)>,
    /// Whether all answers leave from the port that was asked.
    pub single_port: bool,
    /// How file names are rewritten, in order.
    pub map: Vec<MapRule>,
    /// Whether a name that does not exist finds one that differs in case only.
    pub case_insensitive: bool,
    /// Bytes of memory for framed images, over all shards.
    pub image_budget: u64,
    /// Bytes a second of one transfer at most.
    pub client_rate: Option<u64>,
    /// Bytes a second that all transfers of an interface may take, headers included: of the one
    /// named, or of each that is not.
    pub interface_rates: Vec<(Option<String>, u64)>,
    /// How long to wait for an ACK before anything is known of the round trip.
    pub timeout: Duration,
    /// The shortest time before an unanswered packet is sent again, at most `timeout`.
    pub min_retry: Duration,
    /// Retransmissions of one window before a transfer is given up.
    pub retries: u32,
    /// Known faults of firmware, and what machines that have them are granted.
    pub quirks: Quirks,
}

/// One line of a map file: an operation, a pattern, a replacement. What they mean is told by the
/// TFTP service, which compiles them. File names are bytes, so both may be no UTF-8.
#[derive(Clone, Debug)]
pub struct MapRule {
    /// The letters of the operation, as tftpd-hpa has them: `r`, `rg`, `ri`, `a`, ...
    pub operation: String,
    /// A regular expression.
    pub pattern: Vec<u8>,
    /// What replaces the match; empty where the operation needs none.
    pub replacement: Vec<u8>,
    pub(super) at: Option<At>,
}

impl MapRule {
    /// A rule that stands in no file.
    pub fn new(
        operation: String,
        pattern: impl Into<Vec<u8>>,
        replacement: impl Into<Vec<u8>>,
    ) -> Self {
        let (pattern, replacement) = (pattern.into(), replacement.into());
        Self { operation, pattern, replacement, at: None }
    }

    /// What is wrong with this rule, to be shown with the line it stands in.
    pub fn problem(&self, message: String) -> Problem {
        Problem::new(message, self.at.clone())
    }
}

impl PartialEq for MapRule {
    /// Rules are equal that do the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.operation == other.operation
            && self.pattern == other.pattern
            && self.replacement == other.replacement
    }
}

impl Eq for MapRule {}

impl Tftp {
    /// Bytes a second that the transfers of an interface may take.
    pub fn rate_of(&self, interface: &str) -> Option<u64> {
        let of = |wanted: Option<&str>| {
            let mut rates = self.interface_rates.iter().rev();
            rates.find(|(name, _)| name.as_deref() == wanted).map(|(_, rate)| *rate)
        };
        of(Some(interface)).or_else(|| of(None))
    }

    /// The service of `root` with every other key at its default.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            upload: UploadMode::Off,
            max_blksize: 65464,
            max_windowsize: 64,
            adaptive_windowsize: true,
            multicast: None,
            clamp_to_mtu: true,
            max_transfers: 16_384,
            max_transfers_per_client: 256,
            port_range: None,
            single_port: false,
            map: Vec::new(),
            case_insensitive: false,
            image_budget: 512 << 20,
            client_rate: None,
            interface_rates: Vec::new(),
            timeout: Duration::from_secs(1),
            min_retry: Duration::from_millis(200),
            retries: 10,
            quirks: Quirks::default(),
        }
    }
}
