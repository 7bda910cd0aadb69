//! Quirks: known faults of firmware, and what TFTP grants to a machine that has one.
//!
//! ```text
//!   DHCP answer: option 60, chaddr --match--> set of quirks --note--> address
//!   TFTP request: address --note--> set of quirks --apply--> what the OACK grants
//! ```
//! TFTP sees an address and nothing else of a machine; what it is, it says to DHCP. So the match is
//! made when this server gives an address, and noted with it. Where another server gives the
//! addresses nothing is noted, and no quirk applies.

mod builtin;
mod notes;
#[cfg(test)]
pub(crate) mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bootstorm_protocols::tftp::Negotiated;

pub use builtin::{BUILT_IN, BuiltIn};
pub use notes::Notes;

/// Quirks in force at one time: as many as a note has bits for them.
pub const MAX_QUIRKS: usize = 24;
/// Bytes of a quirk's name at most: it stands in a log line.
pub const MAX_NAME: usize = 32;

/// An option of TFTP that a quirk can have left unanswered (RFC 2347 section 3).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum TftpOption {
    /// RFC 2348.
    Blksize,
    /// RFC 7440.
    Windowsize,
    /// RFC 2349.
    Tsize,
    /// RFC 2349.
    Timeout,
    /// What follows block 65535.
    Rollover,
    /// RFC 2090.
    Multicast,
}

impl TftpOption {
    /// Every option with its name on the wire. Without them all there is no OACK: the transfer is
    /// one of RFC 1350.
    pub const ALL: [(&'static str, Self); 6] = [
        ("blksize", Self::Blksize),
        ("windowsize", Self::Windowsize),
        ("tsize", Self::Tsize),
        ("timeout", Self::Timeout),
        ("rollover", Self::Rollover),
        ("multicast", Self::Multicast),
    ];
}

/// What of a transfer quirks change.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The options that are granted.
    pub negotiated: Negotiated,
    /// The shortest time before an unanswered packet is sent again.
    pub min_retry: Duration,
}

/// One fault, whom it befalls, and what helps.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Quirk {
    /// Its name, unique, at most [`MAX_NAME`] bytes.
    pub name: Box<str>,
    /// Beginnings of option 60; without any, every machine has one of them.
    pub vendor_class: Vec<Box<[u8]>>,
    /// Beginnings of `chaddr`; without any, every machine has one of them.
    pub mac_prefix: Vec<Box<[u8]>>,
    /// The largest blksize to grant, in bytes.
    pub max_blksize: Option<u16>,
    /// The largest windowsize to grant, in blocks.
    pub max_windowsize: Option<u16>,
    /// Options that are left unanswered, as by a server that does not know them.
    pub ignore_options: Vec<TftpOption>,
    /// The shortest time before an unanswered packet is sent again.
    pub min_retry: Option<Duration>,
    /// The least time between a DHCP request and its reply.
    pub reply_delay: Option<Duration>,
}

impl Quirk {
    /// Whether a machine with this `chaddr` and option 60, empty where it has none, has the
    /// quirk: both kinds of conditions must hold, one entry of each is enough.
    pub fn matches(&self, chaddr: &[u8], class: &[u8]) -> bool {
        one_of(&self.vendor_class, |start| class.starts_with(start))
            && one_of(&self.mac_prefix, |start| chaddr.starts_with(start))
    }

    /// Changes the terms as the quirk demands; false if they need no change.
    pub fn apply(&self, terms: &mut Terms) -> bool {
        let before = *terms;
        let negotiated = &mut terms.negotiated;
        negotiated.blksize = at_most(negotiated.blksize, self.max_blksize);
        negotiated.windowsize = at_most(negotiated.windowsize, self.max_windowsize);
        for option in &self.ignore_options {
            match option {
                TftpOption::Blksize => negotiated.blksize = None,
                TftpOption::Windowsize => negotiated.windowsize = None,
                TftpOption::Tsize => negotiated.tsize = None,
                TftpOption::Timeout => negotiated.timeout = None,
                TftpOption::Rollover => negotiated.rollover = None,
                TftpOption::Multicast => negotiated.multicast = None,
            }
        }
        terms.min_retry = terms.min_retry.max(self.min_retry.unwrap_or_default());
        *terms != before
    }
}

fn one_of(starts: &[Box<[u8]>], fits: impl Fn(&[u8]) -> bool) -> bool {
    starts.is_empty() || starts.iter().any(|start| fits(start))
}

/// What was granted, lowered. What was not asked for stays so: an OACK holds nothing else (RFC 2347
/// section 3).
fn at_most(granted: Option<u16>, most: Option<u16>) -> Option<u16> {
    granted.map(|granted| granted.min(most.unwrap_or(granted)))
}

/// Some of the quirks in force, by their place in the list.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct QuirkSet(u32);

impl QuirkSet {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The quirks in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quirks {
    list: Vec<Quirk>,
    fingerprint: u32,
}

impl Quirks {
    /// These quirks in this order; those beyond [`MAX_QUIRKS`] are left out.
    pub fn new(mut list: Vec<Quirk>) -> Self {
        list.truncate(MAX_QUIRKS);
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        Self { list, fingerprint: (hasher.finish() & 0xff_ffff) as u32 }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Quirk> {
        self.list.iter()
    }

    /// 24 bits that tell these quirks from others: sets are of use only with the list that they
    /// were made with.
    fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// The quirks of a machine with this `chaddr` and option 60, empty where it has none.
    pub fn of(&self, chaddr: &[u8], class: &[u8]) -> QuirkSet {
        let bits = self.list.iter().enumerate().filter(|(_, quirk)| quirk.matches(chaddr, class));
        QuirkSet(bits.fold(0, |set, (bit, _)| set | 1 << bit))
    }

    /// The least time between a DHCP request of a machine with these quirks and its reply.
    pub fn reply_delay(&self, set: QuirkSet) -> Duration {
        self.chosen(set).filter_map(|quirk| quirk.reply_delay).max().unwrap_or_default()
    }

    /// Applies a set in the order of the list; `touched` is told each quirk that changed something.
    pub fn apply(&self, set: QuirkSet, terms: &mut Terms, mut touched: impl FnMut(&Quirk)) {
        for quirk in self.chosen(set) {
            if quirk.apply(terms) {
                touched(quirk);
            }
        }
    }
}

impl Quirks {
    /// The quirks of a set, in the order of the list.
    fn chosen(&self, set: QuirkSet) -> impl Iterator<Item = &Quirk> {
        let chosen = move |(bit, _): &(usize, &Quirk)| set.0 & 1 << bit != 0;
        self.list.iter().enumerate().filter(chosen).map(|(_, quirk)| quirk)
    }
}

impl Default for Quirks {
    /// The built-in ones that are on unless they are switched off.
    fn default() -> Self {
        Self::new(BUILT_IN.iter().filter(|quirk| quirk.on).map(BuiltIn::quirk).collect())
    }
}
