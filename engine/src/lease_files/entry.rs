//! What a file says of one address.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::leases::Hardware;

/// A time of the wall clock, in seconds since 1970; `u64::MAX` is never.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct FileTime(pub u64);

impl FileTime {
    /// Later than all others.
    pub const NEVER: Self = Self(u64::MAX);
    /// The latest that has a date: the end of the year 9999.
    pub(super) const LATEST: u64 = 253_402_300_799;

    /// The date in UTC; `None` for never, and for what no calendar reaches.
    pub(super) fn date(self) -> Option<jiff::civil::DateTime> {
        let seconds = i64::try_from(self.0).ok()?;
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(jiff::tz::Offset::UTC.to_datetime(time))
    }

    /// The time of a date in UTC; dates before 1970 are the first second of it.
    pub(super) fn of(date: jiff::civil::DateTime) -> Option<Self> {
        let time = jiff::tz::Offset::UTC.to_timestamp(date).ok()?;
        Some(Self(u64::try_from(time.as_second()).unwrap_or(0)))
    }
}

/// RFC 3339 in UTC, or `never`.
impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date() {
            Some(date) => write!(f, "{date}Z"),
            None => f.write_str("never"),
        }
    }
}

/// A time in RFC 3339, or `never`; times before 1970 are the first second of it.
impl FromStr for FileTime {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        if text == "never" {
            return Ok(Self::NEVER);
        }
        let time: jiff::Timestamp = text.parse()?;
        Ok(Self(u64::try_from(time.as_second()).unwrap_or(0)))
    }
}

/// What an address is, in the words of dhcpd.leases(5).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Binding {
    /// Nobody has it. If the lease names a client, that one had it last.
    #[default]
    Free,
    /// Free, for the other server of a failover pair to give away.
    Backup,
    /// Its time was over, and the other server of the pair does not know yet.
    Expired,
    /// Given back, and the other server of the pair does not know yet.
    Released,
    /// An operator freed it, and the other server of the pair does not know yet.
    Reset,
    /// A client has it.
    Active,
    /// Somebody else was found to use it.
    Abandoned,
}

impl Binding {
    /// All of them, with their words.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Free, "free"),
        (Self::Backup, "backup"),
        (Self::Expired, "expired"),
        (Self::Released, "released"),
        (Self::Reset, "reset"),
        (Self::Active, "active"),
        (Self::Abandoned, "abandoned"),
    ];

    /// The state of a word of dhcpd.leases(5).
    pub fn of(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(state, _)| state)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// The state of a word of [`Self::own_name`], or of dhcpd.leases(5).
    pub(crate) fn of_own(name: &str) -> Option<Self> {
        if name == "declined" { Some(Self::Abandoned) } else { Self::of(name) }
    }

    /// Its word in this server's lists and files.
    pub(super) fn own_name(self) -> &'static str {
        if self == Self::Abandoned { "declined" } else { self.name() }
    }
}

/// A variable that `set` gave a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Variable {
    /// Bytes.
    Data(Box<[u8]>),
    /// A number.
    Number(i64),
    /// True or false.
    Boolean(bool),
}

/// A class that a lease counts for, and the value of a subclass.
pub(super) type Billing = (Box<str>, Option<Box<[u8]>>);

/// What a file says of one address. What it does not say is `None` or empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The address.
    pub ip: Ipv4Addr,
    /// What it is to its client.
    pub binding: Binding,
    /// When it was given, or renewed last.
    pub starts: Option<FileTime>,
    /// When the state ends, or ended.
    pub ends: Option<FileTime>,
    /// When its client was heard of last.
    pub cltt: Option<FileTime>,
    /// The hardware address.
    pub hardware: Option<Hardware>,
    /// Option 61.
    pub client_id: Option<Box<[u8]>>,
    /// Option 12.
    pub hostname: Option<Box<[u8]>>,
    /// Option 82, sub-option 1.
    pub circuit_id: Option<Box<[u8]>>,
    /// Option 82, sub-option 2.
    pub remote_id: Option<Box<[u8]>>,
    /// Other sub-options of option 82, by the names that the file gives them.
    pub agent: Vec<(Box<str>, Box<[u8]>)>,
    /// The address is its client's, whatever its end (`infinite-is-reserved`).
    pub reserved: bool,
    /// The client speaks BOOTP, and never renews.
    pub bootp: bool,
    /// Variables by their names.
    pub variables: Vec<(Box<str>, Variable)>,
    /// Classes that a `lease limit` counts it for.
    pub billing: Vec<Billing>,
}

impl Entry {
    /// An address of which nothing is known.
    pub fn new(ip: Ipv4Addr) -> Self {
        Self {
            ip,
            binding: Binding::Free,
            starts: None,
            ends: None,
            cltt: None,
            hardware: None,
            client_id: None,
            hostname: None,
            circuit_id: None,
            remote_id: None,
            agent: Vec::new(),
            reserved: false,
            bootp: false,
            variables: Vec::new(),
            billing: Vec::new(),
        }
    }

    /// When its client was heard of last, as far as the file tells.
    pub fn heard(&self) -> FileTime {
        self.cltt.or(self.starts).unwrap_or_default()
    }

    /// When the last of what it says happened. That a client or a person gave the address back
    /// happened when the lease ended; that its time was over says nothing new.
    pub(super) fn said(&self) -> FileTime {
        let given_back = matches!(self.binding, Binding::Released | Binding::Reset);
        let ended = self.ends.filter(|ends| given_back && *ends != FileTime::NEVER);
        self.heard().max(ended.unwrap_or_default())
    }

    /// Whether it names a client.
    pub fn names_a_client(&self) -> bool {
        self.client_id.is_some() || self.hardware.is_some_and(|hardware| hardware.names_a_card())
    }
}
