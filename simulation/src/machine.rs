//! What a machine knows and is about to do.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use bootstorm_protocols::tftp::Receiver;
use bootstorm_protocols::time::Moment;

use crate::program::Program;
use crate::site::link_of;
use crate::story::{Place, Plan};

/// What it waits for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Off,
    /// Its next program is about to begin.
    Starting,
    /// An OFFER.
    Discovering,
    /// The ACK to its choice of an offer (SELECTING).
    Selecting,
    /// The ACK to an address that it remembers (INIT-REBOOT).
    Rebooting,
    /// Its file.
    Reading,
    /// Half of its lease.
    Bound,
    /// An ACK from the server that gave the address.
    Renewing,
    /// An ACK from any server.
    Rebinding,
}

/// An OFFER that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) ip: Ipv4Addr,
    /// What an ACK has to agree with.
    pub(crate) terms: String,
    /// The server's start and configuration when the DISCOVER came to it.
    pub(crate) epoch: u64,
    /// When the offer ends, counted from the first DISCOVER.
    pub(crate) until: Moment,
}

/// The address that it uses.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Held {
    pub(crate) ip: Ipv4Addr,
    pub(crate) renew: Moment,
    pub(crate) rebind: Moment,
    pub(crate) until: Moment,
}

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) file: String,
    pub(crate) receiver: Receiver,
    pub(crate) peer: SocketAddr,
    pub(crate) port: u16,
    pub(crate) bytes: Vec<u8>,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) plan: Plan,
    pub(crate) place: Place,
    pub(crate) phase: Phase,
    pub(crate) stage: usize,
    /// Timers of an earlier number are outdated.
    pub(crate) timer: u64,
    pub(crate) xid: u32,
    pub(crate) tries: u32,
    /// When it first sent the message that it repeats.
    pub(crate) asked: Moment,
    pub(crate) offered: Option<Offered>,
    pub(crate) held: Option<Held>,
    /// The address that it asks for.
    pub(crate) wanted: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) ports_used: u16,
    pub(crate) will_decline: bool,
    /// When it said RELEASE, DECLINE or DISCOVER last: what it said may be on its way for a while.
    pub(crate) discovered: Option<Moment>,
    /// Datagrams to and from it so far.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// The server's start and configuration, and how often the file had been edited, when a
    /// transaction first came to it.
    pub(crate) heard: HashMap<u32, (u64, u64)>,
    /// As which program, and where, it began each transaction.
    pub(crate) began: HashMap<u32, (Program, Place)>,
    /// Its REQUESTs: by transaction, the address and when the last arrived at the server.
    pub(crate) requests: HashMap<u32, (Ipv4Addr, u64)>,
    /// When its RELEASE or DECLINE of an address arrived at the server.
    pub(crate) given_back: HashMap<Ipv4Addr, u64>,
}

impl Machine {
    pub(crate) fn new(plan: Plan) -> Self {
        let place = plan.place;
        Self {
            plan,
            place,
            phase: Phase::Off,
            stage: 0,
            timer: 0,
            xid: 0,
            tries: 0,
            asked: Moment::default(),
            offered: None,
            held: None,
            wanted: None,
            server: None,
            transfer: None,
            ports_used: 0,
            will_decline: false,
            discovered: None,
            sent: 0,
            received: 0,
            heard: HashMap::new(),
            began: HashMap::new(),
            requests: HashMap::new(),
            given_back: HashMap::new(),
        }
    }

    pub(crate) fn program(&self) -> Program {
        self.plan.programs[self.stage]
    }

    /// Whether the program is its last one, which keeps its address.
    pub(crate) fn is_last(&self) -> bool {
        self.stage + 1 == self.plan.programs.len()
    }

    /// Whether its program asks for the address that it had.
    pub(crate) fn remembers(&self) -> bool {
        self.is_last() && self.program() != Program::Bootp
    }

    /// Whether it uses that address.
    pub(crate) fn uses(&self, ip: Ipv4Addr) -> bool {
        self.phase != Phase::Off && self.held.is_some_and(|held| held.ip == ip)
    }

    /// Whether an address may be its own where it is now. One of another link it got before it was
    /// moved, perhaps to where it was at first.
    pub(crate) fn may_keep(&self, ip: Ipv4Addr) -> bool {
        self.place == self.plan.place && link_of(ip) == self.place.link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::address;
    use crate::story::{Story, Troubles};

    #[test]
    fn who_was_moved_back_has_no_claim_to_an_address_of_the_other_link() {
        let plan = Story::of(0, Troubles::withstood()).machines.swap_remove(0);
        let here = plan.place.link;
        let other = (here + 1) % 3;
        let mut machine = Machine::new(plan);
        assert!(machine.may_keep(address(here, 10)));
        machine.place.link = other;
        assert!(!machine.may_keep(address(here, 10)) && !machine.may_keep(address(other, 10)));
        machine.place = machine.plan.place;
        assert!(!machine.may_keep(address(other, 10)), "it got it there");
    }
}
