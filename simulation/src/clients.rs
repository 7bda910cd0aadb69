//! What machines do: they ask, repeat, give up, take what they are given, and go on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm::leases::{ClientKey, Hardware};
use bootstorm_net::sim::Outside;
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, INFINITE, Message, MessageType, options};
use bootstorm_protocols::time::Moment;

use crate::machine::{Held, Offered, Phase};
use crate::oracle::{Invariant, Promise, time};
use crate::program::Program;
use crate::random::Purpose;
use crate::site::{KnownBy, OFFER_TIME, SERVER};
use crate::wire::Asked;
use crate::world::{Happening, LONGEST_WAY, World};

/// The transactions of INFORMs, beside the one that a machine is in: the lower half is its number.
pub(crate) const INFORM_TRANSACTION: u32 = 0xfffe_0000;
/// How often a message is repeated before a machine gives up.
const TRIES: u32 = 4;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl World {
    /// Sets the only timer of a machine.
    pub(crate) fn wake_at(&mut self, machine: usize, at: Moment) {
        let own = &mut self.machines[machine];
        own.timer += 1;
        let number = own.timer;
        if at != Moment::NEVER {
            self.schedule(at, Happening::Timer { machine, number });
        }
    }

    /// What the server knows the program of a machine by.
    pub(crate) fn key_of(&self, machine: usize) -> ClientKey {
        let own = &self.machines[machine];
        let identity = &own.plan.identity;
        match identity.client_id(own.program()) {
            Some(id) if self.site.known_by != KnownBy::Hardware => ClientKey::client_id(&id),
            _ => ClientKey::hardware(&Hardware::ethernet(identity.mac)),
        }
    }

    /// Whether its program asks for a lease without end, and such an address is reserved.
    pub(crate) fn wishes_endless(&self, machine: usize) -> bool {
        let own = &self.machines[machine];
        self.site.infinite_reserved && own.plan.identity.wishes_endless(own.program())
    }

    /// A machine's own random number below `end`.
    fn chance(&mut self, machine: usize, end: u64) -> u64 {
        let own = &self.machines[machine];
        self.seed.draw(Purpose::Patience, machine as u64, own.timer) % end
    }

    /// The machine is switched on: its first program begins, once nothing of what it sent before is
    /// on its way any more.
    pub(crate) fn begin_boot(&mut self, machine: usize) {
        if self.machines[machine].plan.absent {
            return;
        }
        self.machines[machine].stage = 0;
        self.begin_program(machine);
    }

    fn begin_program(&mut self, machine: usize) {
        let pause = LONGEST_WAY + millis(500 + self.chance(machine, 3000));
        if self.machines[machine].program() == Program::Bootp {
            // It uses its address no more, and nobody remembers it.
            self.oracle.promises.retain(|_, promise| promise.machine != machine);
        }
        let own = &mut self.machines[machine];
        own.phase = Phase::Starting;
        own.held = None;
        own.transfer = None;
        own.wanted = None;
        self.wake_at(machine, self.now + pause);
    }

    /// Its system starts again and remembers its address.
    pub(crate) fn begin_reset(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        if own.plan.absent || !own.is_last() {
            return;
        }
        let remembered = own.held.map(|held| held.ip);
        self.begin_program(machine);
        self.machines[machine].wanted = remembered;
    }

    pub(crate) fn switch_off(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        own.phase = Phase::Off;
        own.held = None;
        own.transfer = None;
        own.timer += 1;
    }

    fn discover(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        own.phase = Phase::Discovering;
        own.tries = 0;
        own.offered = None;
        own.held = None;
        own.asked = self.now;
        self.new_transaction(machine);
        self.repeat(machine);
    }

    fn new_transaction(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        // No machine has the transaction ids of another.
        own.xid = own.xid.wrapping_add(1) & 0xffff | (machine as u32) << 16;
        own.asked = self.now;
        own.tries = 0;
    }

    /// Sends what it waits for an answer to, and sets the timer of the next try.
    fn repeat(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        own.tries += 1;
        let wait = 2000 << own.tries.min(3);
        let (wanted, server) = (own.wanted, own.server);
        let held = own.held.map(|held| held.ip);
        let nothing = Asked {
            kind: MessageType::Request,
            ciaddr: None,
            requested: None,
            server: None,
            unicast: false,
        };
        let asked = match own.phase {
            Phase::Discovering => {
                Asked { kind: MessageType::Discover, requested: wanted, ..nothing }
            }
            Phase::Selecting => Asked { requested: wanted, server, ..nothing },
            Phase::Rebooting => Asked { requested: wanted, ..nothing },
            Phase::Renewing => Asked { ciaddr: held, unicast: true, ..nothing },
            Phase::Rebinding => Asked { ciaddr: held, ..nothing },
            Phase::Off | Phase::Starting | Phase::Reading | Phase::Bound => return,
        };
        let jitter = self.chance(machine, 1000);
        self.ask(machine, asked);
        self.wake_at(machine, self.now + millis(wait - 500 + jitter));
    }

    /// A machine's timer is over.
    pub(crate) fn timer(&mut self, machine: usize) {
        let own = &self.machines[machine];
        match own.phase {
            Phase::Off => {}
            Phase::Starting => match own.wanted.filter(|_| own.remembers()) {
                Some(_) => {
                    self.machines[machine].phase = Phase::Rebooting;
                    self.new_transaction(machine);
                    self.repeat(machine);
                }
                None => self.discover(machine),
            },
            Phase::Discovering if own.tries >= TRIES => {
                let pause = millis(5000 + self.chance(machine, 15_000));
                let own = &mut self.machines[machine];
                own.phase = Phase::Starting;
                own.wanted = None;
                self.wake_at(machine, self.now + pause);
            }
            Phase::Selecting if own.tries >= TRIES => self.discover(machine),
            Phase::Rebooting if own.tries >= 3 => self.go_on_or_discover(machine),
            Phase::Discovering | Phase::Selecting | Phase::Rebooting => self.repeat(machine),
            Phase::Reading => self.transfer_timer(machine),
            Phase::Bound => {
                self.machines[machine].phase = Phase::Renewing;
                self.new_transaction(machine);
                self.repeat(machine);
            }
            Phase::Renewing | Phase::Rebinding => self.extend(machine),
        }
    }

    /// Nobody answers about the address that it remembers. By RFC 2131 section 3.2 it may use the
    /// address for as long as its lease goes on; where it has moved it does not.
    fn go_on_or_discover(&mut self, machine: usize) {
        let own = &self.machines[machine];
        let kept = own.wanted.filter(|ip| self.oracle.has(machine, *ip, self.now));
        let Some(ip) = kept.filter(|ip| own.may_keep(*ip)) else {
            return self.discover(machine);
        };
        let until = self.oracle.promises[&ip].until;
        let renew =
            if until == Moment::NEVER { until } else { self.now + until.since(self.now) / 2 };
        let own = &mut self.machines[machine];
        own.held = Some(Held { ip, renew, rebind: until, until });
        own.server = Some(SERVER);
        own.phase = Phase::Bound;
        self.tell(|world| format!("{} goes on with {ip} without an answer", world.name(machine)));
        self.wake_at(machine, renew);
    }

    fn extend(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        let Some(held) = own.held else { return };
        if self.now >= held.until {
            self.tell(|world| format!("{}: its lease of {} is over", world.name(machine), held.ip));
            self.oracle.given_up(held.ip, machine);
            return self.discover(machine);
        }
        if self.now >= held.rebind && own.phase == Phase::Renewing {
            own.phase = Phase::Rebinding;
            self.new_transaction(machine);
        }
        self.repeat(machine);
        // Half of what is left, but at least some seconds (RFC 2131 section 4.4.5).
        let own = &self.machines[machine];
        let end = if own.phase == Phase::Renewing { held.rebind } else { held.until };
        let half = end.since(self.now) / 2;
        let next = (self.now + half.max(millis(3000))).min(held.until.max(self.now + millis(1)));
        self.wake_at(machine, next);
    }

    /// A datagram arrives at a machine.
    pub(crate) fn arrives_at_machine(&mut self, machine: usize, datagram: &Outside, epoch: u64) {
        if !self.is_on(machine) {
            return;
        }
        if datagram.to.port() != CLIENT_PORT && datagram.source.port() != 67 {
            return self.transfer_datagram(machine, datagram);
        }
        let Ok(message) = Message::parse(&datagram.payload) else { return };
        let own = &self.machines[machine];
        if message.xid() != own.xid {
            return;
        }
        match (own.phase, message.message_type()) {
            (Phase::Discovering, Some(MessageType::Offer)) => self.offered(machine, &message),
            (Phase::Discovering, Some(MessageType::Ack)) if own.plan.identity.rapid => {
                self.acknowledged(machine, &message, epoch);
            }
            (Phase::Discovering, None) if own.program() == Program::Bootp => {
                self.acknowledged(machine, &message, epoch);
            }
            (Phase::Selecting, Some(MessageType::Ack)) => {
                self.compare_with_offer(machine, &message, epoch);
                self.acknowledged(machine, &message, epoch);
            }
            (Phase::Rebooting | Phase::Renewing | Phase::Rebinding, Some(MessageType::Ack)) => {
                self.acknowledged(machine, &message, epoch);
            }
            (
                Phase::Selecting | Phase::Rebooting | Phase::Renewing | Phase::Rebinding,
                Some(MessageType::Nak),
            ) => self.refused(machine),
            _ => {}
        }
    }

    fn offered(&mut self, machine: usize, message: &Message<'_>) {
        let terms = terms(message, self.site.cache_threshold == 0);
        let own = &mut self.machines[machine];
        let ip = message.yiaddr();
        let until = own.asked + Duration::from_secs(OFFER_TIME);
        let epoch = own.heard.get(&own.xid).map_or(0, |(epoch, _)| *epoch);
        own.offered = Some(Offered { ip, terms, epoch, until });
        own.server = message.server_identifier();
        own.wanted = Some(ip);
        own.phase = Phase::Selecting;
        own.tries = 0;
        own.asked = self.now;
        self.repeat(machine);
    }

    fn compare_with_offer(&mut self, machine: usize, message: &Message<'_>, epoch: u64) {
        let own = &self.machines[machine];
        let Some(offered) = own.offered.as_ref().filter(|offered| {
            // What the DISCOVER said is known for as long as its offer is held.
            offered.epoch == epoch && self.now < offered.until
        }) else {
            return;
        };
        let ip = message.yiaddr();
        let terms = terms(message, self.site.cache_threshold == 0);
        if ip != offered.ip || terms != offered.terms {
            let detail = format!(
                "{} was offered {} with {}; it is acknowledged {ip} with {terms}",
                self.name(machine),
                offered.ip,
                offered.terms,
            );
            self.violated(Invariant::AckAgrees, detail);
        }
    }

    fn acknowledged(&mut self, machine: usize, message: &Message<'_>, epoch: u64) {
        let ip = message.yiaddr();
        let own = &self.machines[machine];
        let seconds = match own.program() {
            Program::Bootp => INFINITE,
            _ => message.lease_time().unwrap_or(0),
        };
        let asked = own.asked;
        let time_of = |seconds: u32| match seconds {
            INFINITE => Moment::NEVER,
            _ => asked + Duration::from_secs(seconds.into()),
        };
        let until = time_of(seconds);
        let told = |code| message.option(code).and_then(|data| data.u32());
        let renew = told(options::RENEWAL_TIME).unwrap_or(seconds / 2);
        let rebind = told(options::REBINDING_TIME).unwrap_or(seconds / 8 * 7);
        let (renew, rebind) = match seconds {
            INFINITE => (Moment::NEVER, Moment::NEVER),
            // Half of a second would be none.
            _ => (time_of(renew).max(self.now + millis(500)), time_of(rebind)),
        };
        let hardware = Hardware::ethernet(own.plan.identity.mac);
        let key = self.key_of(machine);
        // Rapid commit, and what answers a BOOTP client, reserve nothing.
        let asked_for_ever = own.phase != Phase::Discovering && self.wishes_endless(machine);
        let edits = own.heard.get(&own.xid).map_or(0, |(_, edits)| *edits);
        let refused = false;
        let (doubtful, unseen) = self.oracle.doubts(ip, epoch);
        let promise =
            Promise { machine, until, key, hardware, refused, doubtful, unseen, lost: None, edits };
        // What an operator said since counts.
        let outdated = self.may_be_outdated(ip);
        let goes_on =
            self.may_go_on(ip, machine) || self.oracle.was_passed_over(machine, ip, self.now);
        if !outdated
            && let Some(other) = self.oracle.told(ip, promise, self.now)
            && !(other.doubtful && goes_on)
        {
            let detail = format!(
                "{} is acknowledged {ip}, which {} was given until {}",
                self.name(machine),
                self.name(other.machine),
                time(other.until),
            );
            return self.violated(Invariant::OneMachine, detail);
        }
        if let Some(whose) = self.oracle.for_ever.get(&ip).filter(|whose| **whose != machine) {
            let (name, whose) = (self.name(machine), self.name(*whose));
            let detail = format!("{name} is acknowledged {ip}, which is {whose}'s for ever");
            return self.violated(Invariant::ForEver, detail);
        }
        if asked_for_ever && !outdated && !doubtful {
            self.oracle.for_ever.insert(ip, machine);
        }
        // The configuration may have changed while the ACK was on its way.
        self.note_lost();
        let file = String::from_utf8_lossy(message.boot_file()).into_owned();
        let own = &mut self.machines[machine];
        own.server = message.server_identifier();
        own.wanted = Some(ip);
        own.held = Some(Held { ip, renew, rebind, until });
        // It asks by ARP whether the address is in use.
        let in_use = own.phase == Phase::Selecting && self.strangers.contains(&ip);
        let declines = std::mem::take(&mut own.will_decline) || in_use;
        if declines && own.program() != Program::Bootp {
            return self.decline(machine, ip);
        }
        if own.plan.reads && !file.is_empty() {
            return self.begin_transfer(machine, file);
        }
        self.next_program(machine);
    }

    /// What its program was for is done.
    pub(crate) fn next_program(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        if own.is_last() {
            let Some(held) = own.held else { return self.discover(machine) };
            own.phase = Phase::Bound;
            return self.wake_at(machine, held.renew);
        }
        own.stage += 1;
        self.begin_program(machine);
    }

    fn refused(&mut self, machine: usize) {
        let own = &self.machines[machine];
        let ip = own.held.map(|held| held.ip).or(own.wanted).unwrap_or(Ipv4Addr::UNSPECIFIED);
        if own.phase != Phase::Selecting && own.may_keep(ip) {
            self.judge_refusal(machine, ip);
        }
        self.oracle.ended(ip, machine);
        let own = &mut self.machines[machine];
        own.phase = Phase::Starting;
        own.held = None;
        own.wanted = None;
        self.wake_at(machine, self.now + millis(1000));
    }

    fn decline(&mut self, machine: usize, ip: Ipv4Addr) {
        let server = self.machines[machine].server;
        self.give_back(machine, ip);
        self.new_transaction(machine);
        let kind = MessageType::Decline;
        self.ask(
            machine,
            Asked { kind, ciaddr: None, requested: Some(ip), server, unicast: false },
        );
        // RFC 2131 section 3.1 (5): at least ten seconds.
        self.wake_at(machine, self.now + millis(10_000));
    }

    pub(crate) fn release(&mut self, machine: usize) {
        let own = &self.machines[machine];
        let can = self.is_on(machine) && own.program() != Program::Bootp;
        let Some(ip) = own.held.map(|held| held.ip).filter(|_| can) else { return };
        let server = own.server;
        if own.phase == Phase::Bound && self.chance(machine, 2) == 0 {
            // Its renewal is under way, or waits for the disk.
            self.machines[machine].phase = Phase::Renewing;
            self.new_transaction(machine);
            self.repeat(machine);
        }
        self.give_back(machine, ip);
        self.new_transaction(machine);
        let kind = MessageType::Release;
        self.ask(machine, Asked { kind, ciaddr: Some(ip), requested: None, server, unicast: true });
        let pause = LONGEST_WAY + millis(1000 + self.chance(machine, 20_000));
        self.wake_at(machine, self.now + pause);
    }

    /// A machine that has an address asks for options only.
    pub(crate) fn inform(&mut self, machine: usize) {
        let own = &mut self.machines[machine];
        let can = own.phase == Phase::Bound && own.program() != Program::Bootp;
        let Some(held) = own.held.filter(|_| can) else { return };
        // As a transaction of its own, so that its lease goes on.
        let xid = std::mem::replace(&mut own.xid, INFORM_TRANSACTION | machine as u32);
        let kind = MessageType::Inform;
        let ciaddr = Some(held.ip);
        self.ask(machine, Asked { kind, ciaddr, requested: None, server: None, unicast: true });
        self.machines[machine].xid = xid;
    }

    fn give_back(&mut self, machine: usize, ip: Ipv4Addr) {
        self.oracle.ended(ip, machine);
        let own = &mut self.machines[machine];
        own.phase = Phase::Starting;
        own.held = None;
        own.transfer = None;
        own.wanted = None;
    }

    /// The socket that it reads files with.
    pub(crate) fn own_socket(&self, machine: usize, port: u16) -> Option<SocketAddr> {
        let held = self.machines[machine].held?;
        Some(SocketAddr::new(IpAddr::V4(held.ip), port))
    }
}

/// What an ACK has to repeat of its OFFER: server, file, and all options but the type and those
/// that only repeat what the machine said. `timed`: the times as well, which an ACK does not repeat
/// that tells what is left of a lease.
fn terms(message: &Message<'_>, timed: bool) -> String {
    let times = [options::LEASE_TIME, options::RENEWAL_TIME, options::REBINDING_TIME];
    let repeated = [
        options::MESSAGE_TYPE,
        options::RELAY_AGENT_INFORMATION,
        options::PXE_CLIENT_ID,
        options::CLIENT_IDENTIFIER,
        options::RAPID_COMMIT,
    ];
    let file = String::from_utf8_lossy(message.boot_file());
    let mut terms = format!("file \"{file}\" of {}", message.siaddr());
    let counts = |code: &u8| !repeated.contains(code) && (timed || !times.contains(code));
    for (code, value) in message.options().filter(|(code, _)| counts(code)) {
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        terms.push_str(&format!(", option {code} {value}"));
    }
    terms
}
