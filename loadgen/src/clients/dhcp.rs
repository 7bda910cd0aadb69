//! DHCP of a machine: which messages it sends, when it repeats them, how it takes the answers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootstorm_net::{Target, Transmit};
use bootstorm_protocols::dhcpv4::pxe::PXE_CLIENT;
use bootstorm_protocols::dhcpv4::{BOOTREPLY, CLIENT_PORT, Message, MessageType, SERVER_PORT};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
use bootstorm_protocols::time::Moment;

use super::encoder::Encoder;
use super::machine::{Machine, Phase};
use super::sockets::Access;
use super::{Clients, SendPath};
use crate::firmware::DhcpBehaviour;
use crate::metrics::{State, Timed};
use crate::scenario::Stage;
use crate::seed::Purpose;
use crate::validator::{Asked, Kind, boot_file};

/// A boot has failed with so many NAKs in a row.
const MOST_NAKS: u8 = 3;

impl Clients {
    /// Begins an exchange with a DISCOVER that is meant to leave at `at`.
    pub(super) fn discover<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.phase = Phase::Selecting;
        machine.tries = 0;
        machine.serial = machine.serial.wrapping_add(1);
        machine.bound = false;
        machine.discovered = at;
        machine.asked = at;
        self.set_state(index, State::Discovering);
        if !self.is_attacker(index) {
            self.metrics.exchange_begun(at);
        }
        self.send_message(index, MessageType::Discover, tx);
        let wait = self.wait(index, |behaviour| behaviour.discover_waits);
        self.arm(index, at + wait.unwrap_or_default());
    }

    /// Takes the offer with a REQUEST.
    pub(super) fn request<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.phase = Phase::Requesting;
        machine.tries = 0;
        machine.asked = at;
        self.set_state(index, State::Requesting);
        self.send_message(index, MessageType::Request, tx);
        let wait = self.wait(index, |behaviour| behaviour.request_waits);
        self.arm(index, at + wait.unwrap_or_default());
    }

    /// A wait after a DISCOVER is over, and there is an offer: takes it, or waits for better ones
    /// still.
    pub(super) fn collected<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let due = self.machines[index as usize].due;
        let machine = &mut self.machines[index as usize];
        machine.tries = machine.tries.saturating_add(1);
        let enough = machine.tries >= machine.program.dhcp().collect;
        match self.wait(index, |behaviour| behaviour.discover_waits).filter(|_| !enough) {
            Some(wait) => {
                self.send_message(index, MessageType::Discover, tx);
                self.arm(index, due + wait);
            }
            None => self.request(index, due, tx),
        }
    }

    /// A message was not answered in time.
    pub(super) fn unanswered<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let due = self.machines[index as usize].due;
        let machine = &mut self.machines[index as usize];
        machine.tries = machine.tries.saturating_add(1);
        let requesting = machine.phase == Phase::Requesting;
        let wait = self.wait(index, |behaviour| {
            if requesting { behaviour.request_waits } else { behaviour.discover_waits }
        });
        if let Some(wait) = wait {
            let kind = if requesting { MessageType::Request } else { MessageType::Discover };
            self.send_message(index, kind, tx);
            self.count_again(index);
            self.arm(index, due + wait);
            return;
        }
        let reason = if requesting { "no ACK" } else { "no OFFER" };
        self.begin_again(index, due, reason, tx);
    }

    /// Begins again with a DISCOVER, or fails.
    fn begin_again<T: Transmit>(&mut self, index: u32, at: Moment, reason: &str, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.rounds = machine.rounds.saturating_add(1);
        if !self.is_attacker(index) {
            self.metrics.dhcp.unanswered += 1;
            self.exchange_failed(index);
        }
        let machine = &self.machines[index as usize];
        if machine.rounds < machine.program.dhcp().rounds {
            self.discover(index, at, tx);
        } else {
            self.fail_boot(index, reason, at);
        }
    }

    /// Counts an exchange that has failed as infinitely late, by the message that it waited for.
    pub(super) fn exchange_failed(&mut self, index: u32) {
        if self.is_attacker(index) {
            return;
        }
        match self.machines[index as usize].phase {
            Phase::Selecting => {
                self.metrics.failed(Timed::Offer);
                self.metrics.failed(Timed::Dora);
            }
            Phase::Requesting => {
                self.metrics.failed(Timed::Ack);
                self.metrics.failed(Timed::Dora);
            }
            Phase::Renewing => self.metrics.failed(Timed::Ack),
            _ => {}
        }
    }

    /// The wait after the message that was just sent; `None` after the last.
    fn wait(
        &self,
        index: u32,
        of: impl Fn(&DhcpBehaviour) -> &'static [Duration],
    ) -> Option<Duration> {
        let machine = &self.machines[index as usize];
        let behaviour = machine.program.dhcp();
        let wait = *of(behaviour).get(usize::from(machine.tries))?;
        let nth = machine.datagrams[0];
        let early = wait.saturating_sub(behaviour.jitter);
        Some(self.seed.between(Purpose::Wait, index, nth, [early, wait + behaviour.jitter]))
    }

    /// An answer to `index`, whose transaction id and hardware address fit.
    pub(super) fn answer<T: Transmit>(
        &mut self,
        index: u32,
        message: &Message<'_>,
        source: Ipv4Addr,
        tx: &mut T,
    ) {
        let now = tx.now();
        let phase = self.machines[index as usize].phase;
        match (message.message_type(), phase) {
            (Some(MessageType::Offer), Phase::Selecting | Phase::Collecting) => {
                self.offered(index, message, source, tx);
            }
            (Some(MessageType::Ack), Phase::Requesting | Phase::Renewing) => {
                self.acknowledged(index, message, source, tx);
            }
            (Some(MessageType::Nak), Phase::Requesting | Phase::Renewing) => {
                self.refused(index, now, tx);
            }
            // An answer to what was asked before: a repeated message was answered twice, or too
            // late.
            _ => self.count(index, |dhcp| &mut dhcp.late),
        }
    }

    /// A NAK: the client begins anew (RFC 2131 section 3.1, 4), but not for ever.
    fn refused<T: Transmit>(&mut self, index: u32, now: Moment, tx: &mut T) {
        self.count(index, |dhcp| &mut dhcp.naks);
        self.exchange_failed(index);
        let machine = &mut self.machines[index as usize];
        if machine.phase == Phase::Renewing {
            machine.rounds = 0;
        }
        machine.rounds = machine.rounds.saturating_add(1);
        if machine.rounds < MOST_NAKS {
            self.discover(index, now, tx);
        } else {
            self.fail_boot(index, "NAK", now);
        }
    }

    fn offered<T: Transmit>(
        &mut self,
        index: u32,
        offer: &Message<'_>,
        source: Ipv4Addr,
        tx: &mut T,
    ) {
        let now = tx.now();
        let usable =
            self.validate(index, |validator, asked| validator.offer(asked, offer, source, now));
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        if machine.phase == Phase::Collecting || !usable {
            // It has one already, or cannot use this one.
            return;
        }
        machine.address = offer.yiaddr();
        machine.server_id = offer.server_identifier().unwrap_or(source);
        machine.next_server = match offer.siaddr() {
            none if none.is_unspecified() => machine.server_id,
            some => some,
        };
        let (asked, program) = (machine.asked, machine.program);
        if !attacker {
            self.metrics.dhcp.offers += 1;
            self.metrics.answered(Timed::Offer, asked, now);
        }
        if matches!(self.stage(index), Some(Stage::Discover(_))) {
            self.finish_exchange(index, now, tx);
            return;
        }
        let behaviour = program.dhcp();
        let pxe = behaviour.pxe_offer_ends_collecting
            && offer.vendor_class().is_some_and(|class| class.starts_with(PXE_CLIENT));
        let machine = &mut self.machines[index as usize];
        if machine.tries >= behaviour.collect || pxe {
            self.request(index, now, tx);
        } else {
            // The timer of the DISCOVER goes on.
            machine.phase = Phase::Collecting;
        }
    }

    fn acknowledged<T: Transmit>(
        &mut self,
        index: u32,
        ack: &Message<'_>,
        source: Ipv4Addr,
        tx: &mut T,
    ) {
        let now = tx.now();
        let lease = self.validate(index, |validator, asked| validator.ack(asked, ack, source, now));
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        let renewing = machine.phase == Phase::Renewing;
        let (asked, discovered) = (machine.asked, machine.discovered);
        machine.address = ack.yiaddr();
        machine.bound = true;
        machine.lease = lease;
        machine.leased = machine.sent;
        if !attacker {
            self.metrics.dhcp.acks += 1;
            self.metrics.answered(Timed::Ack, asked, now);
            if renewing {
                self.metrics.dhcp.renewals += 1;
            } else {
                self.metrics.dhcp.exchanges += 1;
                self.metrics.took(Timed::Dora, discovered, now);
            }
        }
        if renewing {
            self.rest_until_renewal(index);
            return;
        }
        let machine = &mut self.machines[index as usize];
        if machine.declines > 0 {
            machine.declines -= 1;
            self.decline(index, now, tx);
            return;
        }
        let file = boot_file(ack);
        self.machines[index as usize].boot_file =
            if file.is_empty() { None } else { self.files.named(&file) };
        self.route(index);
        self.finish_stage(index, self.machines[index as usize].program.dhcp().settle, tx);
    }

    /// An exchange without REQUEST is over.
    fn finish_exchange<T: Transmit>(&mut self, index: u32, now: Moment, tx: &mut T) {
        if !self.is_attacker(index) {
            let discovered = self.machines[index as usize].discovered;
            self.metrics.dhcp.exchanges += 1;
            self.metrics.took(Timed::Dora, discovered, now);
        }
        self.finish_stage(index, Duration::ZERO, tx);
    }

    /// Calls the validator with what the machine asked for.
    fn validate<R>(
        &mut self,
        index: u32,
        question: impl FnOnce(&mut crate::validator::Validator, &Asked<'_>) -> R,
    ) -> R {
        let machine = &self.machines[index as usize];
        let relayed = !self.is_unicast(machine);
        let relay = self.sockets.relay(machine.relay).filter(|_| relayed);
        let network = self.sockets.network(machine.relay);
        let waits_for_ack = matches!(machine.phase, Phase::Requesting | Phase::Renewing);
        let asked = Asked {
            machine: index,
            mac: self.ids.mac(index),
            program: machine.program,
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.giaddr),
            relay_option: relay.map_or(&[][..], |relay| &relay.option),
            network,
            requested: waits_for_ack.then_some(machine.address),
            server_id: waits_for_ack.then_some(machine.server_id),
            sent: machine.sent,
        };
        question(&mut self.validator, &asked)
    }

    /// Renewals go straight to the server.
    fn is_unicast(&self, machine: &Machine) -> bool {
        machine.phase == Phase::Renewing
            && self.sockets.renewal(machine.address, machine.server_id).is_some()
    }

    fn count(&mut self, index: u32, which: impl Fn(&mut crate::report::Dhcp) -> &mut u64) {
        if !self.is_attacker(index) {
            *which(&mut self.metrics.dhcp) += 1;
        }
    }

    pub(super) fn count_again(&mut self, index: u32) {
        if !self.is_attacker(index) {
            self.metrics.dhcp.retransmissions += 1;
            self.metrics.sent_again();
        }
    }

    /// Writes a message and sends it the way that the machine has now.
    pub(super) fn send_message<T: Transmit>(&mut self, index: u32, kind: MessageType, tx: &mut T) {
        let now = tx.now();
        if self.is_attacker(index) {
            self.metrics.dhcp.attack_messages += 1;
        } else {
            let dhcp = &mut self.metrics.dhcp;
            match kind {
                MessageType::Discover => dhcp.discovers += 1,
                MessageType::Decline => dhcp.declines += 1,
                _ => dhcp.requests += 1,
            }
            self.metrics.sent();
        }
        let machine = &mut self.machines[index as usize];
        machine.sent = now;
        let machine = &self.machines[index as usize];
        let unicast = self.is_unicast(machine);
        let relay = self.sockets.relay(machine.relay).filter(|_| !unicast);
        let mac = self.ids.mac(index);
        let mut encoder = Encoder {
            kind,
            mac,
            xid: self.ids.xid(index, machine.serial),
            secs: now.since(machine.discovered).as_secs().min(u16::MAX.into()) as u16,
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.giaddr),
            relay_option: relay.map_or(&[][..], |relay| &relay.option),
            address: machine.address,
            server_id: machine.server_id,
            renewing: machine.phase == Phase::Renewing,
            behaviour: machine.program.dhcp(),
            client_id: [0; 32],
            client_id_len: 0,
            uuid: [0; 16],
            lease_time: self.lease_time,
        };
        encoder.client_id_len =
            self.ids.client_id(index, encoder.behaviour.client_id, &mut encoder.client_id);
        if encoder.behaviour.architecture.is_some() {
            encoder.uuid = self.ids.uuid(index);
        }
        let path = match &self.sockets.access {
            _ if unicast => {
                self.sockets.renewal(machine.address, machine.server_id).map(SendPath::from)
            }
            Access::Relayed(_) => relay.map(|relay| SendPath {
                socket: relay.socket,
                target: self.sockets.to_server(relay),
            }),
            Access::Direct { link, ifindex, .. } => {
                let target = Target::Link { ifindex: *ifindex, mac: [0xff; 6] };
                Some(SendPath { socket: *link, target })
            }
            Access::None => None,
        };
        let Some(path) = path else { return };
        let framed = matches!(path.target, Target::Link { .. });
        let mut scratch = [0; 1024];
        let len = encoder.write(&mut scratch[HEADROOM..]);
        if framed {
            let frame = UdpFrame {
                src_mac: mac,
                dst_mac: [0xff; 6],
                src: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
                dst: SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT),
            };
            // A message of these few options fits any frame.
            if let Ok(len) = frame.seal(&mut scratch, len) {
                self.transmit(index, path, &scratch[..len], tx);
            }
        } else {
            self.transmit(index, path, &scratch[HEADROOM..HEADROOM + len], tx);
        }
    }

    /// Finds the machine that a DHCP answer is for, and whether it is waiting for it.
    pub(super) fn dhcp_arrived<T: Transmit>(
        &mut self,
        payload: &[u8],
        source: Ipv4Addr,
        tx: &mut T,
    ) {
        let now = tx.now();
        let message = match Message::parse(payload) {
            Ok(message) if message.op() == BOOTREPLY => message,
            Ok(_) => {
                self.strays += 1;
                return;
            }
            Err(error) => {
                self.validator.violation(Kind::Malformed, u32::MAX, [0; 6], now, || {
                    format!("{} bytes from {source}: {error}", payload.len())
                });
                return;
            }
        };
        let (index, serial) = self.ids.of_xid(message.xid());
        let known = self
            .machines
            .get(index as usize)
            .is_some_and(|_| message.chaddr() == self.ids.mac(index));
        if !known {
            self.mismatched(&message, now);
            return;
        }
        if self.machines[index as usize].serial != serial {
            self.count(index, |dhcp| &mut dhcp.late);
            return;
        }
        self.answer(index, &message, source, tx);
    }

    /// Transaction id and hardware address do not belong together: one of them is wrong.
    fn mismatched(&mut self, message: &Message<'_>, now: Moment) {
        let (index, serial) = self.ids.of_xid(message.xid());
        let by_xid = self.machines.get(index as usize).filter(|m| m.serial == serial);
        if by_xid.is_some_and(Machine::awaits_answer) {
            let mac = self.ids.mac(index);
            let got = <[u8; 6]>::try_from(message.chaddr()).unwrap_or_default();
            self.validator.violation(Kind::Chaddr, index, mac, now, || {
                format!("chaddr {} in the answer", crate::validator::Mac(got))
            });
            return;
        }
        let machine = self.ids.of_mac(message.chaddr());
        match machine.filter(|machine| (*machine as usize) < self.machines.len()) {
            Some(machine) if self.machines[machine as usize].awaits_answer() => {
                let expected = self.ids.xid(machine, self.machines[machine as usize].serial);
                let mac = self.ids.mac(machine);
                self.validator.violation(Kind::Xid, machine, mac, now, || {
                    format!("xid {:#010x} in the answer, {expected:#010x} asked", message.xid())
                });
            }
            _ => self.strays += 1,
        }
    }
}
