//! What must hold, judged by what the machines were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm::leases::{ClientKey, Hardware};
use bootstorm_protocols::time::Moment;

use crate::site::OFFER_TIME;
use crate::world::LONGEST_WAY;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A promise of the server.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum Invariant { $($(#[$doc])* $name,)* }

        impl Invariant {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

invariants! {
    /// At no time do two machines have one address, as the machines were told.
    OneMachine = "one-address-one-machine",
    /// What a machine was acknowledged is in the table until it ends.
    Forgotten = "no-ack-forgotten",
    /// No machine is told the boot file of another, or of another program.
    BootFile = "own-boot-file",
    /// No more machines of a class have addresses of pools than its limit allows.
    Limit = "lease-limit-kept",
    /// After a REQUEST a client has no other lease, where the configuration says so.
    OneLease = "one-lease-per-client",
    /// An address that was asked for without end is nobody else's, where it is reserved so.
    ForEver = "infinite-is-reserved",
    /// A pool's counts are those of its leases.
    Counts = "counts-agree",
    /// The ACK says what the OFFER said, unless a reload or restart came between.
    AckAgrees = "ack-agrees-with-offer",
    /// No ACK leaves for an address that its machine gave back after it asked.
    AfterRelease = "no-ack-after-release",
    /// Who has a valid lease may keep it while the configuration stays.
    Kept = "valid-lease-kept",
    /// A file arrives as it is, or the transfer fails.
    Bytes = "transfer-exact",
    /// In quiet times every transfer ends, with the file or an error.
    Ends = "transfer-ends",
    /// Nothing is kept but what the configuration knows; nothing waits for ever.
    Bounded = "memory-bounded",
    /// In the end every machine has an address, while there is one that it may have.
    Served = "everybody-served",
    /// In the end a machine has the address that is reserved for it, if nobody else has it.
    Reserved = "reservation-reached",
    /// An address is not taken for ever without anybody who uses it.
    Leaked = "no-address-lost",
    /// An address that has answered a ping is not offered.
    InUse = "address-in-use-not-offered",
    /// A full disk stops no ACK: the log has its room.
    Room = "full-disk-serves",
    /// The answer to an INFORM leases nothing.
    Inform = "inform-leases-nothing",
    /// What a kill, a power cut or a failed write leave on the disk is not taken for damage.
    Alarm = "no-false-alarm",
    /// The server starts, reloads and runs, and nothing panics.
    Runs = "server-runs",
    /// The same seed makes the same run.
    Repeats = "seed-repeats",
}

/// What was found to be wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) at: Moment,
    pub(crate) step: u64,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, step, detail } = self;
        write!(f, "{} at {} (step {step}): {detail}", invariant.name(), time(*at))
    }
}

/// A point in the simulation's time.
pub(crate) fn time(at: Moment) -> String {
    if at == Moment::NEVER {
        return "never".to_owned();
    }
    format!("{:.3} s", at.as_nanos() as f64 / 1e9)
}

/// What a machine was told about an address.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) machine: usize,
    /// When it ends by the machine's count.
    pub(crate) until: Moment,
    /// The identity by which it was given.
    pub(crate) key: ClientKey,
    pub(crate) hardware: Hardware,
    /// The server has sent a NAK for it, heard or not: the machine's next DISCOVER ends it.
    pub(crate) refused: bool,
    /// The server has said since that its log is damaged: it may have lost the lease.
    pub(crate) doubtful: bool,
    /// No answer came when the server pinged the address after that.
    pub(crate) unseen: bool,
    /// The configuration has refused the machine the address since it was given: transactions of
    /// the DISCOVERs that the machine has sent since, and of its REQUESTs for the address, and when
    /// each began. With a DISCOVER it ends that is not the first of them, or in a transaction that
    /// has taken longer than any DISCOVER is late.
    pub(crate) lost: Option<BTreeMap<u32, Moment>>,
    /// How often the configuration had been edited when it was heard.
    pub(crate) edits: u64,
}

/// The server forgets the transaction of a DISCOVER when its offer is over.
const LATEST: Duration = Duration::from_secs(OFFER_TIME).saturating_sub(LONGEST_WAY);

/// Everything that the machines were told and that still holds.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) promises: BTreeMap<Ipv4Addr, Promise>,
    /// Every address that a configuration knew so far.
    pub(crate) known: BTreeSet<Ipv4Addr>,
    /// Who had an address that was given to another because no answer to a ping came, and until
    /// when: it may go on, and a server that loses the later lease believes who uses the address.
    passed_over: BTreeMap<Ipv4Addr, (usize, Moment)>,
    /// Whom an ACK has left for, heard or not, and when its lease ends at the latest.
    acknowledged: BTreeMap<Ipv4Addr, (usize, Moment)>,
    /// Whose addresses are for ever, for they asked for them without end.
    pub(crate) for_ever: BTreeMap<Ipv4Addr, usize>,
    /// The epoch of the last start that has lost leases.
    lost: u64,
    /// Addresses that were pinged since and did not answer.
    silent: BTreeSet<Ipv4Addr>,
}

impl Oracle {
    /// A machine was acknowledged an address; who else has it.
    pub(crate) fn told(&mut self, ip: Ipv4Addr, promise: Promise, now: Moment) -> Option<Promise> {
        let is_other = |other: &Promise| other.machine != promise.machine && now < other.until;
        let other = self.promises.get(&ip).filter(|other| is_other(other)).cloned();
        if promise.doubtful && promise.unseen && other.as_ref().is_some_and(|own| !own.doubtful) {
            // The address was given to that one while this ACK was on its way.
            self.passed_over.insert(ip, (promise.machine, promise.until));
            return None;
        }
        self.promises.insert(ip, promise);
        // Who does not answer is not seen by a server that has lost its lease.
        if let Some(other) = other.as_ref().filter(|other| other.doubtful && other.unseen) {
            self.passed_over.insert(ip, (other.machine, other.until));
            return None;
        }
        other
    }

    /// An ACK leaves, or what answers a BOOTP client: it may be lost.
    pub(crate) fn acknowledges(&mut self, ip: Ipv4Addr, machine: usize, until: Moment) {
        let before = self.acknowledged.get(&ip).filter(|(whose, _)| *whose == machine);
        let until = before.map_or(until, |(_, before)| until.max(*before));
        self.acknowledged.insert(ip, (machine, until));
    }

    /// Whether the last ACK of an address that has left was a machine's, and its lease goes on.
    pub(crate) fn was_sent(&self, machine: usize, ip: Ipv4Addr, now: Moment) -> bool {
        self.acknowledged.get(&ip).is_some_and(|(whose, until)| *whose == machine && now < *until)
    }

    /// Whether a machine may go on with an address because its answer to a ping was lost.
    pub(crate) fn was_passed_over(&self, machine: usize, ip: Ipv4Addr, now: Moment) -> bool {
        self.passed_over.get(&ip).is_some_and(|(whose, until)| *whose == machine && now < *until)
    }

    /// A machine does not use an address any more.
    pub(crate) fn given_up(&mut self, ip: Ipv4Addr, machine: usize) {
        if self.promises.get(&ip).is_some_and(|promise| promise.machine == machine) {
            self.promises.remove(&ip);
        }
    }

    /// The same, and it says so, or the server does.
    pub(crate) fn ended(&mut self, ip: Ipv4Addr, machine: usize) {
        self.given_up(ip, machine);
        self.not_for_ever(ip, machine);
        if self.acknowledged.get(&ip).is_some_and(|(whose, _)| *whose == machine) {
            self.acknowledged.remove(&ip);
        }
    }

    /// A machine asks for its address in another way, or may not have it any more.
    pub(crate) fn not_for_ever(&mut self, ip: Ipv4Addr, machine: usize) {
        if self.for_ever.get(&ip) == Some(&machine) {
            self.for_ever.remove(&ip);
        }
    }

    /// A client sends a REQUEST, and has no other address from then on. `all`: nor have the other
    /// clients of its machine.
    pub(crate) fn leaves_others(
        &mut self,
        (machine, key): (usize, &ClientKey),
        all: bool,
        kept: Ipv4Addr,
    ) {
        self.promises.retain(|ip, promise| {
            promise.machine != machine || *ip == kept || !(all || promise.key == *key)
        });
        self.for_ever.retain(|ip, whose| *whose != machine || *ip == kept);
    }

    /// The server says, when it starts in an epoch, that its log is damaged.
    pub(crate) fn damaged(&mut self, epoch: u64) {
        self.lost = epoch;
        self.silent.clear();
        self.for_ever.clear();
        self.promises.values_mut().for_each(|promise| promise.doubtful = true);
    }

    /// Whether the server may have lost, since an ACK of an epoch left, what that one says; and if
    /// so, whether a ping of the address has been without an answer since.
    pub(crate) fn doubts(&self, ip: Ipv4Addr, epoch: u64) -> (bool, bool) {
        let doubtful = epoch < self.lost;
        (doubtful, doubtful && self.silent.contains(&ip))
    }

    /// A ping of an address was not answered in time.
    pub(crate) fn not_seen(&mut self, ip: Ipv4Addr) {
        self.silent.insert(ip);
        if let Some(promise) = self.promises.get_mut(&ip) {
            promise.unseen = promise.doubtful;
        }
    }

    /// The server has sent a NAK for an address. `discovering`: a DISCOVER of the machine is on its
    /// way.
    pub(crate) fn refused(&mut self, ip: Ipv4Addr, machine: usize, discovering: bool) {
        self.not_for_ever(ip, machine);
        let Some(promise) = self.promises.get_mut(&ip) else { return };
        if promise.machine == machine {
            promise.refused = true;
            if discovering {
                self.promises.remove(&ip);
            }
        }
    }

    /// A machine sends a DISCOVER: what it was refused before has ended.
    pub(crate) fn discovers(&mut self, machine: usize, xid: u32, now: Moment) {
        self.promises.retain(|_, promise| {
            promise.machine != machine || {
                let asks_again = promise.lost.as_mut().is_some_and(|asked| {
                    let began = *asked.entry(xid).or_insert(now);
                    asked.len() > 1 || now.since(began) >= LATEST
                });
                !promise.refused && !asks_again
            }
        });
    }

    /// A machine sends a REQUEST for an address. If it is refused, the NAK may never leave.
    pub(crate) fn requests(&mut self, machine: usize, ip: Ipv4Addr, xid: u32, now: Moment) {
        let promise = self.promises.get_mut(&ip).filter(|promise| promise.machine == machine);
        if let Some(asked) = promise.and_then(|promise| promise.lost.as_mut()) {
            asked.entry(xid).or_insert(now);
        }
    }

    /// The configuration has changed. `lost` tells whether a machine can have an address no more,
    /// and if so the transaction of a DISCOVER of its that is under way.
    pub(crate) fn edited(
        &mut self,
        lost: impl Fn(usize, Ipv4Addr) -> Option<Option<(u32, Moment)>>,
    ) {
        self.for_ever.retain(|ip, machine| lost(*machine, *ip).is_none());
        for (ip, promise) in &mut self.promises {
            if promise.lost.is_none()
                && let Some(under_way) = lost(promise.machine, *ip)
            {
                promise.lost = Some(under_way.into_iter().collect());
            }
        }
    }

    /// Whether a machine has an address by a promise that holds.
    pub(crate) fn has(&self, machine: usize, ip: Ipv4Addr, now: Moment) -> bool {
        self.promises
            .get(&ip)
            .is_some_and(|promise| promise.machine == machine && now < promise.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn promise(machine: usize, until: u64) -> Promise {
        let hardware = Hardware::ethernet([2, 0, 0, 0, 0, machine as u8]);
        let key = ClientKey::hardware(&hardware);
        let (refused, doubtful, unseen) = (false, false, false);
        Promise {
            machine,
            until: at(until),
            key,
            hardware,
            refused,
            doubtful,
            unseen,
            lost: None,
            edits: 0,
        }
    }

    #[test]
    fn an_address_is_another_machines_until_its_time_is_over_or_it_gave_it_up() {
        let mut oracle = Oracle::default();
        assert!(oracle.told(IP, promise(1, 10), at(0)).is_none());
        assert!(oracle.told(IP, promise(1, 20), at(5)).is_none());
        assert_eq!(oracle.told(IP, promise(2, 30), at(19)).unwrap().machine, 1);
        let mut oracle = Oracle::default();
        oracle.told(IP, promise(1, 10), at(0));
        assert!(oracle.told(IP, promise(2, 30), at(10)).is_none());
        oracle.given_up(IP, 1);
        assert_eq!(oracle.promises.len(), 1, "it is not the machine's to give up");
        oracle.given_up(IP, 2);
        assert!(oracle.told(IP, promise(3, 30), at(11)).is_none());
    }

    #[test]
    fn a_refused_lease_ends_with_the_discover_of_its_machine() {
        let mut oracle = Oracle::default();
        oracle.told(IP, promise(1, 100), at(0));
        oracle.discovers(1, 1, at(1));
        assert!(oracle.has(1, IP, at(1)));
        oracle.refused(IP, 2, false);
        oracle.discovers(1, 2, at(1));
        assert!(oracle.has(1, IP, at(1)), "another was refused");
        oracle.refused(IP, 1, false);
        oracle.discovers(2, 3, at(1));
        assert!(oracle.has(1, IP, at(1)));
        oracle.discovers(1, 4, at(1));
        assert!(!oracle.has(1, IP, at(1)));
    }

    #[test]
    fn a_lost_address_is_left_with_the_second_discover() {
        for under_way in [None, Some((7, at(1)))] {
            let mut oracle = Oracle::default();
            oracle.told(IP, promise(1, 100), at(0));
            oracle.edited(|_, _| None);
            oracle.discovers(1, 8, at(1));
            oracle.discovers(1, 9, at(1));
            assert!(oracle.has(1, IP, at(1)), "it may have the address");
            oracle.edited(|_, _| Some(under_way));
            oracle.discovers(1, 7, at(1));
            oracle.discovers(1, 7, at(2));
            assert!(oracle.has(1, IP, at(1)), "one of them may be late");
            oracle.discovers(1, 10, at(2));
            assert!(!oracle.has(1, IP, at(1)));
        }
    }

    #[test]
    fn who_was_passed_over_may_go_on_until_its_time_is_over() {
        let mut oracle = Oracle::default();
        oracle.told(IP, promise(1, 10), at(0));
        oracle.damaged(1);
        assert_eq!(oracle.told(IP, promise(2, 20), at(1)).unwrap().machine, 1, "it may be seen");
        let mut oracle = Oracle::default();
        oracle.told(IP, promise(1, 10), at(0));
        oracle.damaged(1);
        oracle.not_seen(IP);
        assert!(oracle.told(IP, promise(2, 20), at(1)).is_none());
        assert!(oracle.was_passed_over(1, IP, at(9)));
        assert!(!oracle.was_passed_over(1, IP, at(10)) && !oracle.was_passed_over(2, IP, at(9)));
    }

    #[test]
    fn an_ack_that_left_before_a_start_that_lost_leases_is_as_doubtful_as_one_that_had_arrived() {
        let mut oracle = Oracle::default();
        assert_eq!(oracle.doubts(IP, 0), (false, false), "nothing is lost");
        oracle.not_seen(IP);
        oracle.damaged(2);
        assert_eq!(oracle.doubts(IP, 1), (true, false), "who answered before may be there");
        oracle.not_seen(IP);
        assert_eq!(oracle.doubts(IP, 1), (true, true));
        assert_eq!(oracle.doubts(IP, 2), (false, false), "the server knows what it says since");

        for (unseen, whose) in [(true, 2), (false, 1)] {
            let mut oracle = Oracle::default();
            oracle.told(IP, promise(2, 30), at(1));
            let late = Promise { doubtful: true, unseen, ..promise(1, 20) };
            let other = oracle.told(IP, late, at(2));
            assert_eq!(other.is_none(), unseen, "without a ping the address was not free");
            assert!(oracle.has(whose, IP, at(2)));
            assert_eq!(oracle.was_passed_over(1, IP, at(19)), unseen);
        }
    }

    #[test]
    fn an_ack_that_was_lost_counts_until_the_lease_is_given_back() {
        let mut oracle = Oracle::default();
        oracle.acknowledges(IP, 1, at(20));
        oracle.acknowledges(IP, 1, at(10));
        oracle.given_up(IP, 1);
        assert!(oracle.was_sent(1, IP, at(19)), "the machine goes by its own count");
        assert!(!oracle.was_sent(1, IP, at(20)) && !oracle.was_sent(2, IP, at(1)));
        oracle.ended(IP, 1);
        assert!(!oracle.was_sent(1, IP, at(1)));
    }

    #[test]
    fn a_request_leaves_the_clients_other_addresses() {
        let other = Ipv4Addr::new(10, 0, 0, 11);
        for all in [false, true] {
            let mut oracle = Oracle::default();
            let id = ClientKey::client_id(b"1");
            oracle.told(IP, promise(1, 100), at(0));
            oracle.told(other, Promise { key: id.clone(), ..promise(1, 100) }, at(0));
            oracle.leaves_others((1, &id), all, other);
            assert_eq!(oracle.has(1, IP, at(1)), !all, "it is of another client");
            let key = promise(1, 100).key;
            oracle.leaves_others((1, &key), false, IP);
            assert!(oracle.has(1, other, at(1)));
            oracle.leaves_others((1, &id), false, IP);
            assert!(!oracle.has(1, other, at(1)));
        }
    }

    #[test]
    fn what_is_for_ever_ends_when_its_machine_or_the_configuration_says_so() {
        let mut oracle = Oracle::default();
        let ends: [fn(&mut Oracle); 5] = [
            |oracle| oracle.ended(IP, 1),
            |oracle| oracle.not_for_ever(IP, 1),
            |oracle| oracle.refused(IP, 1, false),
            |oracle| oracle.edited(|_, _| Some(None)),
            |oracle| oracle.damaged(1),
        ];
        for end in ends {
            oracle.for_ever.insert(IP, 1);
            oracle.given_up(IP, 1);
            oracle.not_for_ever(IP, 2);
            oracle.edited(|_, _| None);
            assert_eq!(oracle.for_ever.get(&IP), Some(&1));
            end(&mut oracle);
            assert_eq!(oracle.for_ever.get(&IP), None);
        }
    }
}
