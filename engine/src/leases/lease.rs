//! One lease, as everybody sees it.

use std::net::{IpAddr, Ipv4Addr};

use bootstorm_protocols::time::Moment;

use super::{Admission, ClientKey, Hardware, Notes};
use crate::config::BlockKey;

/// What is known of one address. Cloning it does not allocate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The address.
    pub ip: IpAddr,
    /// Who holds it, or held it last.
    pub client: ClientKey,
    /// The hardware address that came with the last message.
    pub hardware: Hardware,
    /// What the address is to its client.
    pub state: LeaseState,
    /// When it was given, or renewed last.
    pub starts: Moment,
    /// When the state ends: for [`LeaseState::Active`] the lease, for [`LeaseState::Offered`] the
    /// offer, for [`LeaseState::Declined`] the quarantine; when it ended for the others.
    /// [`Moment::NEVER`] is an infinite lease.
    pub expires: Moment,
    /// Its holder may not go on with it, by a NAK or by the configuration: the next DISCOVER of
    /// another transaction ends it.
    pub refused: bool,
    /// Of an infinite lease: the latest end that the client was told of since. Whether it heard is
    /// not known.
    pub told: Option<Moment>,
    /// Its last change is not durable yet.
    pub pending: bool,
    /// What else is remembered of the client, and how it was admitted.
    pub notes: Notes,
}

/// What an address is to its client. The numbers are on disk and never change their meaning.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum LeaseState {
    /// Held for a client that has not requested it yet. Never on disk.
    Offered = 1,
    /// The client has it.
    Active = 2,
    /// The client gave it back (RFC 2131, section 4.3.4).
    Released = 3,
    /// Its time is over. On disk it is [`LeaseState::Active`] with a past end.
    Expired = 4,
    /// Somebody else was found to use it (RFC 2131, section 4.3.3): nobody gets it for a while.
    Declined = 5,
}

impl LeaseState {
    /// The state of a number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Offered, Self::Active, Self::Released, Self::Expired, Self::Declined]
            .into_iter()
            .find(|state| *state as u8 == number)
    }

    /// The word for people and for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Active => "active",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Declined => "declined",
        }
    }

    /// Whether the address may not go to another client.
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Offered | Self::Active | Self::Declined)
    }
}

/// A lease that has ended, for which the configuration has something done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// As it was last.
    pub lease: Lease,
    /// How it has ended.
    pub how: Ending,
    /// What is to run.
    pub block: BlockKey,
    /// Tells the lease from those that the address has before and after it.
    pub version: u64,
}

/// How a lease ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its time is over.
    Expiry,
    /// It was given back, or an operator or the server ended it.
    Release,
}

impl Lease {
    /// The address, if it is one of IPv4.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }

    /// By what the client was given it.
    pub fn admission(&self) -> Admission<'_> {
        self.notes.admission()
    }

    /// Whether the client may use the address at `now`.
    pub fn is_active(&self, now: Moment) -> bool {
        self.state == LeaseState::Active && now < self.expires
    }
}
