//! What happens to a machine on its way to boot, as small values that a shard can hand over without
//! waiting.
//!
//! The rules and the TFTP transfers make them, the shard passes them on, and the log thread
//! (`log.rs`) turns them into lines and gives them to whoever follows (`bootstorm events
//! --follow`).

pub mod bus;
pub mod row;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bootstorm_protocols::dhcpv4::ParseError;

use crate::leases::Hardware;

/// Up to `N` bytes kept in place, so that an event is `Copy` and costs no allocation. Longer input
/// is cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Short<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    /// The first `N` (at most 255) bytes of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(N).min(usize::from(u8::MAX));
        let mut kept = [0; N];
        kept[..len].copy_from_slice(&bytes[..len]);
        // `len` is at most 255, by the line above.
        Self { len: len as u8, bytes: kept }
    }

    /// What was kept.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// True when nothing was given.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_slice().escape_ascii())
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A DISCOVER came in.
    Discover,
    /// An OFFER went out.
    Offer,
    /// A REQUEST came in.
    Request,
    /// An ACK went out; its lease is on disk.
    Ack,
    /// A NAK went out.
    Nak,
    /// A client found its address in use by another.
    Decline,
    /// A client gave its address back.
    Release,
    /// A lease has ended by its time, and the configuration has something done then.
    Expiry,
    /// A program that the configuration has run could not be run, or failed: `Detail::Text` says
    /// which and why.
    HookFailed,
    /// A client with an address of its own asked for options.
    Inform,
    /// A BOOTP request came in.
    Bootp,
    /// A BOOTP reply went out.
    BootReply,
    /// A request was not answered, and should not be: `Detail::Reason` says why.
    Silence,
    /// A datagram that is no DHCP message was dropped: `Detail::Malformed` says where it fails.
    Malformed,
    /// A request could not be answered because every address it may have is taken.
    PoolFull,
    /// A machine did not get the address that is reserved for it: somebody else has it.
    ReservedHeld,
    /// An address was to be pinged before it was offered, and could not be.
    NotPinged,
    /// Variables that statements set were dropped: the lease has no room for them.
    VariablesLost,
    /// A `log` statement of the configuration, of an error: `Detail::Text` has its text.
    LogError,
    /// The same, for information.
    LogInfo,
    /// The same, for whoever looks for a fault.
    LogDebug,
    /// A lease could not be written, so its ACK was withheld.
    CommitFailed,
    /// A TFTP transfer began.
    TransferStarted,
    /// A TFTP transfer ended well.
    TransferFinished,
    /// A TFTP transfer was refused or given up.
    TransferFailed,
    /// A file was asked for by TFTP that is not there.
    FileMissing,
}

impl Kind {
    /// The word that stands in log lines and in `events`: the field's own name in capitals where it
    /// has one.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Discover => "DISCOVER",
            Kind::Offer => "OFFER",
            Kind::Request => "REQUEST",
            Kind::Ack => "ACK",
            Kind::Nak => "NAK",
            Kind::Decline => "DECLINE",
            Kind::Release => "RELEASE",
            Kind::Inform => "INFORM",
            Kind::Expiry => "expiry",
            Kind::HookFailed => "hook failed",
            Kind::Bootp => "BOOTREQUEST",
            Kind::BootReply => "BOOTREPLY",
            Kind::Silence => "silence",
            Kind::Malformed => "malformed",
            Kind::PoolFull => "pool full",
            Kind::ReservedHeld => "address held",
            Kind::NotPinged => "not pinged",
            Kind::VariablesLost => "variables dropped",
            Kind::LogError | Kind::LogInfo | Kind::LogDebug => "log",
            Kind::CommitFailed => "lease not written",
            Kind::TransferStarted => "TFTP start",
            Kind::TransferFinished => "TFTP done",
            Kind::TransferFailed => "TFTP failed",
            Kind::FileMissing => "TFTP missing",
        }
    }

    /// The level at which the event is logged.
    pub fn level(self) -> tracing::Level {
        match self {
            // Those that are not written are as many as packets come; the committer tells of the
            // disk, and of their number.
            Kind::Silence | Kind::Malformed | Kind::CommitFailed | Kind::LogDebug => {
                tracing::Level::DEBUG
            }
            Kind::LogError => tracing::Level::ERROR,
            Kind::Nak
            | Kind::Decline
            | Kind::PoolFull
            | Kind::ReservedHeld
            | Kind::NotPinged
            | Kind::VariablesLost
            | Kind::HookFailed
            | Kind::TransferFailed => tracing::Level::WARN,
            _ => tracing::Level::INFO,
        }
    }

    /// Whether there are few of them however much happens, so that each is logged.
    pub(crate) fn is_rare(self) -> bool {
        self == Kind::NotPinged
    }
}

/// A boot file or TFTP file name as far as it fits into a log line.
pub type FileName = Short<64>;

/// The names of quirks, as far as they fit into a log line.
pub type QuirkNames = Short<{ crate::quirks::MAX_NAME }>;

/// The text of a `log` statement as far as it fits.
pub type LogText = Short<128>;

/// What else is known, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// Of a request: what the machine says it is.
    Client {
        /// Option 93, the first architecture named.
        architecture: Option<u16>,
        /// The stage it is in: `firmware`, `iPXE`, or empty.
        stage: &'static str,
    },
    /// Of an OFFER or ACK.
    Answer {
        /// The boot file; empty when none was sent.
        file: FileName,
        /// The lease time in seconds; `u32::MAX` is for ever.
        lease_seconds: u32,
        /// Why a machine that wants to boot got no file, or not the first that its rules name;
        /// empty where there is nothing to explain.
        reason: &'static str,
    },
    /// Why a request was refused or not answered.
    Reason(&'static str),
    /// What the configuration says.
    Text(LogText),
    /// Who has the event's address, and for how long from now; `None` is for ever.
    Holder {
        /// The holder's hardware address.
        hardware: Hardware,
        /// Nobody holds it, somebody was found to use it: it is in quarantine.
        quarantine: bool,
        /// How long it lasts.
        left: Option<Duration>,
    },
    /// Why the event's address was not pinged before it was offered.
    NotPinged {
        /// What kept the ping from being sent.
        why: Unsent,
        /// It was offered all the same.
        offered: bool,
        /// How many others were not pinged since the last such event.
        others: u32,
    },
    /// Why a datagram is no DHCP message, with the place in it; made into text by the log thread.
    Malformed(ParseError),
    /// Of a TFTP transfer.
    Transfer {
        /// The client, where it speaks IPv6.
        ipv6: Option<Ipv6Addr>,
        /// The file.
        file: FileName,
        /// Bytes of file data that were (or are to be) sent.
        bytes: u64,
        /// From the request to the end; zero at the start.
        took: Duration,
        /// Agreed block size in bytes.
        blksize: u16,
        /// Agreed window in blocks.
        windowsize: u16,
        /// Blocks sent more than once.
        retransmits: u32,
        /// The quirks that changed what was agreed, with commas between; empty where none did.
        quirks: QuirkNames,
        /// Why it failed; empty when it did not.
        reason: &'static str,
    },
}

/// Why a ping was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The kernel refused it, with this errno.
    Errno(i32),
    /// As many pings as a shard has at one time are under way.
    TooMany,
    /// There was no room for it in the shard or in its socket.
    NoRoom,
}

/// One thing that happened to one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootEvent {
    /// What happened.
    pub kind: Kind,
    /// Whom it happened to; empty where only an address is known, as in TFTP.
    pub hardware: Hardware,
    /// The address it has, is offered or asks for; unspecified when there is none.
    pub address: Ipv4Addr,
    /// The interface the datagram came in on; 0 when unknown.
    pub ifindex: u32,
    /// The relay agent it came through (giaddr); unspecified when direct.
    pub relay: Ipv4Addr,
    /// What else is known.
    pub detail: Detail,
}

impl BootEvent {
    /// An event of a direct client without detail; fill in the rest with struct update syntax.
    pub fn new(kind: Kind, hardware: Hardware, address: Ipv4Addr) -> Self {
        Self {
            kind,
            hardware,
            address,
            ifindex: 0,
            relay: Ipv4Addr::UNSPECIFIED,
            detail: Detail::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_is_cut_and_shown_without_control_characters() {
        assert_eq!(Short::<4>::new(b"abcdef").as_slice(), b"abcd");
        assert_eq!(format!("{:?}", FileName::new(b"a\x1b[2Jb\n")), "a\\x1b[2Jb\\n");
    }
}
