//! DHCPv4 on the wire (RFC 2131, 2132, 951): a borrowed view of a message, a writer into a caller's
//! buffer, the options with their names and types, PXE, and what relay agents add.
//!
//! [`Message::parse`] checks everything once, in one pass, and allocates nothing; afterwards no
//! accessor can fail or panic. [`MessageWriter`] never writes beyond what the client accepts.

mod data;
pub mod domains;
mod message;
mod message_type;
pub mod options;
pub mod pxe;
pub mod rai;
mod user_class;
mod walk;
mod writer;

pub use data::{Bytes, OptionData, Pieces, SubOption, SubOptions};
pub use message::{Message, ParseError};
pub use message_type::MessageType;
pub use rai::RelayAgentInformation;
pub use user_class::UserClass;
pub use writer::{FIXED_FIELDS, Header, MessageWriter, NoRoom, WriteError};

/// UDP port of servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// `op` of messages from clients (RFC 2131 section 2).
pub const BOOTREQUEST: u8 = 1;
/// `op` of messages from servers.
pub const BOOTREPLY: u8 = 2;
/// `htype` of Ethernet.
pub const ETHERNET: u8 = 1;
/// The broadcast bit of `flags` (RFC 2131 section 2).
pub const BROADCAST_FLAG: u16 = 0x8000;
/// A lease time of all ones never ends (RFC 2131 section 3.3).
pub const INFINITE: u32 = u32::MAX;
/// Every reply is padded to this length, which BOOTP clients and relays expect (RFC 951, RFC 1542
/// section 2.1).
pub const MIN_MESSAGE: usize = 300;

/// Bytes before the options: the fixed fields, chaddr, sname and file.
const FIXED: usize = 236;
const SNAME: usize = 44;
const SNAME_LEN: usize = 64;
const FILE: usize = 108;
const FILE_LEN: usize = 128;
/// What tells options from BOOTP's own vendor area (RFC 2131 section 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Offset of the options: after the magic cookie.
const OPTIONS: usize = FIXED + COOKIE.len();
