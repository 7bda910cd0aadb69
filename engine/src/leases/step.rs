//! What the rules ask the leases to do, one step at a time.

use std::net::IpAddr;

use bootstorm_protocols::time::Moment;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::KeyKind;

/// By what a client was given its address. Names, never positions in the configuration: they hold
/// across reloads and restarts.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Admission<'a> {
    /// The lease is of an earlier version of this program, or cannot be told.
    #[default]
    Unknown,
    /// A pool, by its range.
    Pool {
        /// Its first address.
        low: IpAddr,
        /// Its last address.
        high: IpAddr,
        /// The host entry that counted for the client, where later messages of the same machine
        /// may be silent about the key that it was found by.
        host: Option<KnownAs<'a>>,
        /// What the lease is billed to, if a class of the client limits its leases.
        bill: Option<Bill>,
    },
    /// The address is reserved for the client.
    Host(KnownAs<'a>),
}

impl Admission<'_> {
    /// What the lease is billed to.
    pub fn bill(&self) -> Option<Bill> {
        match self {
            Self::Pool { bill, .. } => *bill,
            Self::Unknown | Self::Host(_) => None,
        }
    }
}

/// What a lease is billed to: a class, or the subclass of one value. It is on disk, so it never
/// changes what it is made of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Bill {
    pub(super) key: u64,
    pub(super) limit: u32,
}

impl Bill {
    /// The bill of a class by its name, and of one value if each value has its own; at most `limit`
    /// leases at one time.
    pub fn new(class: &str, value: Option<&[u8]>, limit: u32) -> Self {
        // A name has no NUL, so no class is billed for the value of another.
        let mut hash = Xxh3::new();
        hash.update(class.as_bytes());
        if let Some(value) = value {
            hash.update(&[0]);
            hash.update(value);
        }
        Self { key: hash.digest(), limit }
    }

    /// How many leases it has at one time at most.
    pub(crate) fn limit(self) -> u32 {
        self.limit
    }

    /// What tells it from bills of other classes and values: XXH3 of both (64 bits, no seed).
    pub fn key(self) -> u64 {
        self.key
    }
}

/// As which `[[dhcp.host]]` a client was known.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct KnownAs<'a> {
    /// The name of the entry.
    pub name: &'a str,
    /// The kind of key that the client was found by.
    pub by: KeyKind,
    /// The key that the client was found by, if it is a UUID or client identifier; every message
    /// says the others again. Missing where a lease of an earlier version did not write it down,
    /// also after renewals, until a message of the client says it.
    pub key: Option<KeyHash>,
}

/// A key of a `[[dhcp.host]]`, as a lease remembers it: XXH3 (64 bits, without a seed) of the UUID
/// in the byte order of its text, or of the whole client identifier. It is on disk, so it never
/// changes. It tells whether the entry still has the key, and protects against nobody: who would
/// make a collision needs the key itself first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct KeyHash(pub(super) u64);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    /// The hash of a value of an option, of an option space or of none: the value of another
    /// option has another hash.
    pub fn of_option(code: u8, inner: Option<u8>, value: &[u8]) -> Self {
        let inner = inner.map_or(0, |inner| 0x100 | u64::from(inner));
        Self(xxh3_64_with_seed(value, inner << 8 | u64::from(code)))
    }
}

/// A change of what a client holds. See the table in `leases/state.rs` for what it does in which
/// state of the address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// Holds exactly this address for the client. A lease that the client has there stays, and is
    /// remembered to be admitted by this from now on: the ACK goes by what the OFFER went by.
    Offer {
        /// The address.
        ip: IpAddr,
        /// By what it may have it.
        admission: Admission<'a>,
        /// When the offer ends.
        until: Moment,
    },
    /// The client gets the address, which is offered to it or was its own last, or keeps it.
    /// It clears [`Lease::refused`](super::Lease::refused).
    Bind {
        /// The address.
        ip: IpAddr,
        /// By what it has it.
        admission: Admission<'a>,
        /// When the lease ends that the ACK tells of; [`Moment::NEVER`] is never. The lease ends no
        /// earlier than was promised before.
        expires: Moment,
        /// The REQUEST is one of RENEWING or REBINDING: the client goes by an end that it was
        /// told, so it has heard of one.
        heard: bool,
    },
    /// The client gives the address back, its lease or its offer.
    Release {
        /// The address.
        ip: IpAddr,
    },
    /// The client found somebody else on the address: nobody gets it for a while.
    Decline {
        /// The address.
        ip: IpAddr,
        /// When the quarantine ends.
        until: Moment,
    },
    /// The client may not go on with the address, of which it has a valid lease: a NAK is sent for
    /// it, or the client begins anew and can have it in no stage of its boot.
    Refuse {
        /// The address.
        ip: IpAddr,
    },
    /// The client, which was refused the address, starts anew: its lease ends.
    End {
        /// The address.
        ip: IpAddr,
    },
    /// The client does not take the offer.
    Withdraw {
        /// The address.
        ip: IpAddr,
    },
}

impl Step<'_> {
    /// The address that the step is about.
    pub fn ip(&self) -> IpAddr {
        match *self {
            Self::Offer { ip, .. }
            | Self::Bind { ip, .. }
            | Self::Release { ip }
            | Self::Decline { ip, .. }
            | Self::Refuse { ip }
            | Self::End { ip }
            | Self::Withdraw { ip } => ip,
        }
    }

    /// What the address is billed to from now on.
    pub(super) fn bill(&self) -> Option<Bill> {
        match self {
            Self::Offer { admission, .. } | Self::Bind { admission, .. } => admission.bill(),
            _ => None,
        }
    }
}

/// A step cannot be taken: the leases are not as they were when it was planned. Plan again.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Conflict(pub Refusal);

/// Why a client does not get an address, or why a step cannot be taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Every address of the pools is taken.
    #[error("every address it may have is taken")]
    PoolFull,
    /// Another client holds the address.
    #[error("another client holds the address")]
    HeldByOther,
    /// The address is in quarantine: somebody was found to use it.
    #[error("the address is in quarantine")]
    Quarantined,
    /// The class that the lease would be billed to has as many as it may.
    #[error("a class of the client has as many leases as it may")]
    LimitReached,
    /// The client does not hold the address.
    #[error("the client does not hold the address")]
    NotHeld,
}
