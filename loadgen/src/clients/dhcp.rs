//! DHCP of a machine: which message comes next, when it is repeated, what an answer changes.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::dhcpv4::pxe::{NO_PXEDHCP, PXE_CLIENT};
use bootstorm_protocols::dhcpv4::{Message, MessageType, options};
use bootstorm_protocols::time::Moment;

use super::Clients;
use super::encoder::Form;
use super::machine::{Exchange, Machine, Phase};
use super::sockets::Access;
use crate::firmware::DhcpBehaviour;
use crate::metrics::{State, Timed};
use crate::scenario::Stage;
use crate::seed::Purpose;
use crate::validator::{Answer, Asked, Delivery, Offered, boot_file};

/// A boot has failed with so many NAKs in a row.
const MOST_NAKS: u8 = 3;

impl Clients {
    /// Begins an exchange with a DISCOVER that is meant to leave at `at`.
    pub(super) fn discover<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.phase = Phase::Selecting;
        machine.tries = 0;
        machine.begin_exchange();
        machine.bound = false;
        machine.discovered = at;
        machine.asked = at;
        self.set_state(index, State::Discovering);
        if !self.is_attacker(index) {
            self.metrics.exchange_begun(at);
        }
        self.send_message(index, Form::Discover, tx);
        let wait = self.wait(index, |behaviour| behaviour.discover_waits);
        self.arm(index, at + wait.unwrap_or_default());
    }

    /// Takes the offer with a REQUEST.
    pub(super) fn request<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        self.machines[index as usize].phase = Phase::Requesting;
        self.ask(index, at, tx);
    }

    /// Asks the server to confirm the address that the machine remembers (INIT-REBOOT, RFC 2131
    /// section 3.2).
    pub(super) fn reboot<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        self.machines[index as usize].phase = Phase::Rebooting;
        self.ask_anew(index, at, tx);
    }

    /// Asks for parameters with an address that is configured already (RFC 2131 section 3.4).
    pub(super) fn inform<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        self.machines[index as usize].phase = Phase::Informing;
        self.ask_anew(index, at, tx);
    }

    fn ask_anew<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.begin_exchange();
        machine.discovered = at;
        self.ask(index, at, tx);
    }

    /// Sends the message of the machine's phase for the first time.
    fn ask<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.tries = 0;
        machine.asked = at;
        let Some(form) = machine.phase.message() else { return };
        self.set_state(index, State::Requesting);
        self.send_message(index, form, tx);
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
                self.send_message(index, Form::Discover, tx);
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
        let phase = machine.phase;
        let wait = self.wait(index, |behaviour| match phase {
            Phase::Selecting => behaviour.discover_waits,
            _ => behaviour.request_waits,
        });
        if let (Some(wait), Some(form)) = (wait, phase.message()) {
            self.send_message(index, form, tx);
            self.count_again(index);
            self.arm(index, due + wait);
            return;
        }
        let reason = match phase {
            Phase::Selecting => "no OFFER",
            Phase::Rebooting => "no ACK after INIT-REBOOT",
            Phase::Informing => "no ACK after INFORM",
            _ => "no ACK",
        };
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
            Phase::Renewing | Phase::Rebooting | Phase::Informing => {
                self.metrics.failed(Timed::Ack);
            }
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
    pub(super) fn answer<T: Transmit>(&mut self, index: u32, answer: Answer<'_>, tx: &mut T) {
        let phase = self.machines[index as usize].phase;
        match (answer.message.message_type(), phase) {
            (Some(MessageType::Offer), Phase::Selecting | Phase::Collecting) => {
                self.offered(index, answer, tx);
            }
            (Some(MessageType::Ack), Phase::Informing) => {
                self.informed(index, answer, tx);
            }
            (Some(MessageType::Ack), Phase::Requesting | Phase::Renewing | Phase::Rebooting) => {
                self.acknowledged(index, answer, tx);
            }
            (Some(MessageType::Nak), Phase::Requesting | Phase::Renewing | Phase::Rebooting) => {
                self.refused(index, answer, tx);
            }
            // An answer to what was asked before: a repeated message was answered twice, or too
            // late.
            _ => {
                self.count(index, |dhcp| &mut dhcp.late);
                self.validate(index, |validator, asked| validator.late(asked, answer));
            }
        }
    }

    /// A NAK: the client begins anew (RFC 2131 section 3.1, 4), but not for ever.
    fn refused<T: Transmit>(&mut self, index: u32, answer: Answer<'_>, tx: &mut T) {
        let now = answer.now;
        self.validate(index, |validator, asked| validator.nak(asked, answer));
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

    fn offered<T: Transmit>(&mut self, index: u32, answer: Answer<'_>, tx: &mut T) {
        let Answer { message: offer, source, now, .. } = answer;
        let usable = self.validate(index, |validator, asked| validator.offer(asked, answer));
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        if machine.phase == Phase::Collecting || !usable {
            // It has one already, or cannot use this one.
            return;
        }
        machine.address = offer.yiaddr();
        machine.server_id = offer.server_identifier().unwrap_or(source);
        machine.exchange.offered = Some(now);
        machine.exchange.address = offer.yiaddr();
        machine.exchange.lease = offer.lease_time().unwrap_or(0);
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
        let decided = behaviour.proxy_wait && (from_pxe_server(offer) || says_no_proxy(offer));
        let machine = &mut self.machines[index as usize];
        if machine.tries >= behaviour.collect || decided {
            self.request(index, now, tx);
        } else {
            // The timer of the DISCOVER goes on.
            machine.phase = Phase::Collecting;
        }
    }

    fn acknowledged<T: Transmit>(&mut self, index: u32, answer: Answer<'_>, tx: &mut T) {
        let Answer { message: ack, now, .. } = answer;
        let client_id = self.machines[index as usize].program.dhcp().client_id;
        let lease =
            self.validate(index, |validator, asked| validator.ack(asked, answer, client_id));
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        let phase = machine.phase;
        let (asked, discovered) = (machine.asked, machine.discovered);
        machine.address = ack.yiaddr();
        machine.bound = true;
        machine.lease = lease;
        machine.leased = machine.sent;
        if !attacker {
            self.metrics.dhcp.acks += 1;
            self.metrics.answered(Timed::Ack, asked, now);
            match phase {
                Phase::Renewing => self.metrics.dhcp.renewals += 1,
                Phase::Rebooting => self.metrics.dhcp.reboots += 1,
                _ => {
                    self.metrics.dhcp.exchanges += 1;
                    self.metrics.took(Timed::Dora, discovered, now);
                }
            }
        }
        if phase == Phase::Renewing {
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

    /// The answer to an INFORM: parameters, and no lease.
    fn informed<T: Transmit>(&mut self, index: u32, answer: Answer<'_>, tx: &mut T) {
        let now = answer.now;
        self.validate(index, |validator, asked| validator.informed(asked, answer));
        if !self.is_attacker(index) {
            self.metrics.dhcp.acks += 1;
            self.metrics.dhcp.informs += 1;
            let asked = self.machines[index as usize].asked;
            self.metrics.answered(Timed::Ack, asked, now);
        }
        self.finish_stage(index, Duration::ZERO, tx);
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
    pub(super) fn validate<R>(
        &mut self,
        index: u32,
        question: impl FnOnce(&mut crate::validator::Validator, &Asked<'_>) -> R,
    ) -> R {
        let machine = &self.machines[index as usize];
        let Exchange { program, form, offered, address, lease, .. } = machine.exchange;
        let relayed = !self.is_unicast(machine, Some(form));
        let relay = self.sockets.relay(machine.relay).filter(|_| relayed);
        let offered = offered.map(|at| Offered { address, lease, server: machine.server_id, at });
        let awaits_ack = form != Form::Discover;
        let [delivery, nak_delivery] = self.deliveries(machine);
        let asked = Asked {
            machine: index,
            mac: self.ids.mac(index),
            program,
            relay: machine.relay,
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.giaddr),
            relay_option: relay.map_or(&[][..], |relay| &relay.option),
            network: self.sockets.network(machine.relay),
            offered,
            requested: awaits_ack.then_some(machine.address),
            server_id: awaits_ack.then_some(machine.server_id),
            delivery,
            nak_delivery,
            sent: machine.sent,
        };
        question(&mut self.validator, &asked)
    }

    /// How the answer to a machine's last message must come, and how a NAK.
    fn deliveries(&self, machine: &Machine) -> [Delivery; 2] {
        let Exchange { program, form, .. } = machine.exchange;
        let direct = matches!(self.sockets.access, Access::Direct { .. });
        let nak = if direct { Delivery::Broadcast } else { Delivery::Any };
        let other = if form.has_address() && (direct || self.is_unicast(machine, Some(form))) {
            Delivery::Unicast(Some(machine.address))
        } else if !direct {
            Delivery::Any
        } else if program.dhcp().broadcast {
            Delivery::Broadcast
        } else {
            Delivery::Unicast(None)
        };
        [other, nak]
    }

    /// Whether a message of a machine goes straight to the server, and not through a relay agent.
    pub(super) fn is_unicast(&self, machine: &Machine, form: Option<Form>) -> bool {
        form.is_some_and(Form::has_address)
            && self.sockets.renewal(machine.address, machine.server_id).is_some()
    }

    pub(super) fn count(
        &mut self,
        index: u32,
        which: impl Fn(&mut crate::report::Dhcp) -> &mut u64,
    ) {
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
}

/// The offer of a PXE server: there is no other to wait for.
fn from_pxe_server(offer: &Message<'_>) -> bool {
    offer.vendor_class().is_some_and(|class| class.starts_with(PXE_CLIENT))
}

/// Sub-option 176 of option 175, which iPXE reads as a number: any but 0 ends its wait.
fn says_no_proxy(offer: &Message<'_>) -> bool {
    let ipxe = offer.option(options::IPXE);
    let value = ipxe.and_then(|ipxe| ipxe.encapsulated().find_code(NO_PXEDHCP));
    value.is_some_and(|value| value.bytes().any(|byte| byte != 0))
}
