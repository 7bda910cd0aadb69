//! The type of a message.

use core::fmt;

/// Type of a DHCP message, option 53 (RFC 2132 section 9.6; IANA registry).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client takes an offer, verifies or extends a lease.
    Request,
    /// A client found the address in use.
    Decline,
    /// The server grants.
    Ack,
    /// The server refuses.
    Nak,
    /// The client gives the address back.
    Release,
    /// The client has an address and asks for options only.
    Inform,
    /// The server asks the client to renew (RFC 3203).
    ForceRenew,
    /// An access concentrator asks for a lease (RFC 4388).
    LeaseQuery,
    /// No client holds it (RFC 4388).
    LeaseUnassigned,
    /// Not known here (RFC 4388).
    LeaseUnknown,
    /// A client holds it (RFC 4388).
    LeaseActive,
    /// Bulk leasequery (RFC 6926).
    BulkLeaseQuery,
    /// End of a bulk leasequery (RFC 6926).
    LeaseQueryDone,
    /// Active leasequery (RFC 7724).
    ActiveLeaseQuery,
    /// Status of an active leasequery (RFC 7724).
    LeaseQueryStatus,
    /// Leasequery over TLS (RFC 7724).
    Tls,
    /// Any other code.
    Unknown(u8),
}

impl MessageType {
    /// From the value of option 53.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            9 => Self::ForceRenew,
            10 => Self::LeaseQuery,
            11 => Self::LeaseUnassigned,
            12 => Self::LeaseUnknown,
            13 => Self::LeaseActive,
            14 => Self::BulkLeaseQuery,
            15 => Self::LeaseQueryDone,
            16 => Self::ActiveLeaseQuery,
            17 => Self::LeaseQueryStatus,
            18 => Self::Tls,
            other => Self::Unknown(other),
        }
    }

    /// The value of option 53.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
            Self::ForceRenew => 9,
            Self::LeaseQuery => 10,
            Self::LeaseUnassigned => 11,
            Self::LeaseUnknown => 12,
            Self::LeaseActive => 13,
            Self::BulkLeaseQuery => 14,
            Self::LeaseQueryDone => 15,
            Self::ActiveLeaseQuery => 16,
            Self::LeaseQueryStatus => 17,
            Self::Tls => 18,
            Self::Unknown(other) => other,
        }
    }
}

/// The name as people know it: DISCOVER, OFFER, REQUEST.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Discover => "DISCOVER",
            Self::Offer => "OFFER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Ack => "ACK",
            Self::Nak => "NAK",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
            Self::ForceRenew => "FORCERENEW",
            Self::LeaseQuery => "LEASEQUERY",
            Self::LeaseUnassigned => "LEASEUNASSIGNED",
            Self::LeaseUnknown => "LEASEUNKNOWN",
            Self::LeaseActive => "LEASEACTIVE",
            Self::BulkLeaseQuery => "BULKLEASEQUERY",
            Self::LeaseQueryDone => "LEASEQUERYDONE",
            Self::ActiveLeaseQuery => "ACTIVELEASEQUERY",
            Self::LeaseQueryStatus => "LEASEQUERYSTATUS",
            Self::Tls => "TLS",
            Self::Unknown(code) => return write!(f, "message type {code}"),
        };
        f.pad(name)
    }
}
