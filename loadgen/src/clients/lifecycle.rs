//! The lifecycle of a machine: power-on, stages, failure, power cuts.

use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::arrivals::Arrivals;
use super::machine::{Machine, Phase};
use super::timers::TimerKind;
use super::{BURST, Clients};
use crate::firmware::Program;
use crate::metrics::{State, Timed};
use crate::routes::Block;
use crate::scenario::Stage;
use crate::seed::Purpose;

impl Clients {
    /// A machine is powered on, and its firmware asks at once: the power-on self test is over.
    pub(super) fn power_on<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        if !self.is_attacker(index) {
            self.metrics.powered_on(at);
        }
        let machine = &mut self.machines[index as usize];
        machine.powered = Some(at);
        machine.stage = 0;
        self.begin_stage(index, at, tx);
    }

    /// Begins a machine's current stage.
    pub(super) fn begin_stage<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        self.machines[index as usize].rounds = 0;
        match self.stage(index) {
            Some(
                &(Stage::Dhcp(requester) | Stage::Discover(requester) | Stage::Reboot(requester)),
            ) => {
                let machine = &mut self.machines[index as usize];
                machine.program = requester.of(machine.firmware);
                self.start_program(index, at, tx);
            }
            Some(&(Stage::Inform(requester) | Stage::Release(requester))) => {
                let machine = &mut self.machines[index as usize];
                machine.program = requester.of(machine.firmware);
                if matches!(self.stage(index), Some(Stage::Inform(_))) {
                    self.inform(index, at, tx);
                } else {
                    self.release(index, tx);
                    self.finish_stage(index, Duration::ZERO, tx);
                }
            }
            Some(Stage::Tftp(_)) => {
                let machine = &mut self.machines[index as usize];
                machine.item = 0;
                machine.file_tries = 0;
                self.settle_address(index);
                self.load(index, at, tx);
            }
            Some(Stage::Http(_)) => {
                self.machines[index as usize].item = 0;
                self.settle_address(index);
                self.fetch(index, at, tx);
            }
            None => self.come_up(index, at),
        }
    }

    /// A program begins: at once, or when it has initialised the card and shown its banner.
    pub(super) fn start_program<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        let begins = machine.program.dhcp().begins;
        let nth = machine.datagrams[0];
        let begins = at + self.seed.between(Purpose::Start, index, nth, begins);
        if begins > at && !self.is_attacker(index) {
            self.machines[index as usize].phase = Phase::Starting;
            self.set_state(index, State::Discovering);
            self.arm(index, begins);
        } else {
            self.first_message(index, at, tx);
        }
    }

    /// The program asks for its address: the one that it remembers, or any.
    pub(super) fn first_message<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let reboots = matches!(self.stage(index), Some(Stage::Reboot(_)));
        if reboots && !self.machines[index as usize].address.is_unspecified() {
            self.reboot(index, at, tx);
        } else {
            self.discover(index, at, tx);
        }
    }

    /// Goes on to the next stage after a pause.
    pub(super) fn finish_stage<T: Transmit>(&mut self, index: u32, pause: Duration, tx: &mut T) {
        let now = tx.now();
        let machine = &mut self.machines[index as usize];
        machine.stage += 1;
        if pause.is_zero() {
            self.begin_stage(index, now, tx);
        } else {
            machine.phase = Phase::Pausing;
            self.arm(index, now + pause);
        }
    }

    pub(super) fn come_up(&mut self, index: u32, now: Moment) {
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        machine.phase = Phase::Up;
        machine.failed_boots = 0;
        let powered = machine.powered.unwrap_or(now);
        self.set_state(index, State::Up);
        self.disarm(index);
        if attacker {
            return;
        }
        self.metrics.came_up(now);
        if !self.in_turns {
            self.metrics.took(Timed::Boot, powered, now);
        }
        if self.renew && self.machines[index as usize].bound {
            self.rest_until_renewal(index);
        }
    }

    /// A boot has failed: the firmware tries again or gives up.
    pub(super) fn fail_boot(&mut self, index: u32, reason: &str, at: Moment) {
        let attacker = self.is_attacker(index);
        let machine = &mut self.machines[index as usize];
        machine.transfer = None;
        machine.stage = 0;
        machine.failed_boots = machine.failed_boots.saturating_add(1);
        let again = machine.failed_boots < self.boot_attempts && !attacker && !self.in_turns;
        if again {
            machine.phase = Phase::Pausing;
            self.metrics.retried_boots += 1;
            self.set_state(index, State::Discovering);
            self.arm(index, at + self.boot_pause);
            return;
        }
        machine.phase = Phase::GivenUp;
        self.disarm(index);
        if self.in_turns {
            // Its turn comes again; what is counted is the exchange that found no end.
            self.set_state(index, State::Off);
        } else if !attacker {
            self.set_state(index, State::GivenUp);
            self.metrics.gave_up(reason);
        }
    }

    /// Adds a local route for a machine's address.
    pub(super) fn route(&mut self, index: u32) {
        let machine = &self.machines[index as usize];
        let (address, relay) = (machine.address, machine.relay);
        if !self.sockets.needs_route(relay) || self.is_attacker(index) {
            return;
        }
        if self.uses_own_addresses && !self.routes.cover(address) {
            let added = self.routes.add(Block { first: address, prefix: 32 });
            if let Err(error) = added {
                self.route_error.get_or_insert(error.to_string());
            }
        }
    }

    /// Gives a machine that asks for no address its fixed one.
    pub(super) fn settle_address(&mut self, index: u32) {
        let machine = &mut self.machines[index as usize];
        if let Some(client_addresses) = self.sockets.client_addresses
            && !machine.bound
        {
            machine.address = client_addresses.of(index);
            machine.bound = true;
        }
    }

    /// Every rack loses power at times of its own.
    pub(super) fn plan_power_cuts(&mut self, racks: u64) {
        if self.power_cuts.is_some() {
            for rack in 0..racks as u32 {
                self.plan_power_cut(rack, 0, self.start);
            }
        }
    }

    pub(super) fn plan_power_cut(&mut self, rack: u32, nth: u32, from: Moment) {
        if let Some(cuts) = &self.power_cuts
            && nth < cuts.times
        {
            let after = self.seed.between(Purpose::PowerCut, rack, nth, cuts.after.map(|s| s.0));
            // The number of the rack in the upper, of the cut in the lower bits.
            let number = rack << 8 | (nth & 0xff);
            self.wheel.insert(from + after, TimerKind::PowerCut(number).pack());
        }
    }

    pub(super) fn cut_power(&mut self, number: u32, now: Moment) {
        let (rack, nth) = (number >> 8, number & 0xff);
        let Some(off) = self.power_cuts.as_ref().map(|cuts| cuts.off.0) else { return };
        self.cuts_left = self.cuts_left.saturating_sub(1);
        let first = rack * self.rack;
        for index in first..(first + self.rack).min(self.real) {
            let machine = &mut self.machines[index as usize];
            // One that has not been powered on yet comes when its time comes.
            if machine.phase == Phase::Off {
                continue;
            }
            if let Some(transfer) = machine.transfer.take() {
                self.metrics.tftp.set_aside();
                self.files.abandon(transfer.file, index);
            }
            self.machines[index as usize].lose_power();
            self.disarm(index);
            self.set_state(index, State::Off);
            let post = self.seed.between(Purpose::PostTime, index, nth + 1, self.post);
            self.arm(index, now + off + post);
        }
        self.plan_power_cut(rack, nth + 1, now + off);
    }

    /// Powers on whose time has come.
    pub(super) fn begin_due<T: Transmit>(&mut self, tx: &mut T) {
        let now = tx.now();
        for _ in 0..BURST {
            let due = self.arrivals.due(self.start, now, self.busy, self.in_flight);
            let Some(arrival) = due else { break };
            self.health.acted(arrival.at, now);
            let machine = &self.machines[arrival.machine as usize];
            if self.in_turns && machine.awaits_answer() {
                // It is still waiting from its last turn, which so found no end.
                self.metrics.dhcp.unanswered += 1;
                self.exchange_failed(arrival.machine);
            }
            self.power_on(arrival.machine, arrival.at, tx);
        }
        self.attack_due(now, tx);
    }

    pub(super) fn attack_due<T: Transmit>(&mut self, now: Moment, tx: &mut T) {
        for _ in 0..BURST {
            let Some(attack) = &mut self.attack else { return };
            let room = self.machines.len() < crate::identity::MOST_MACHINES as usize;
            let Some(at) = attack.next(self.start).filter(|at| *at <= now && room) else { return };
            attack.begun += 1;
            let index = self.machines.len() as u32;
            let relay = (attack.begun % self.sockets.relays().max(1) as u64) as u16;
            self.machines.push(Machine::new(Program::Plain, relay));
            self.power_on(index, at, tx);
        }
    }

    /// When something is to be begun next.
    pub(super) fn next_begin(&self) -> Option<Moment> {
        let arrival = match self.arrivals {
            // A window opens when somebody finishes, which is seen at the end of that batch.
            Arrivals::Window { .. } => None,
            _ => self.arrivals.peek(self.start),
        };
        let attack = self.attack.as_ref().and_then(|attack| attack.next(self.start));
        arrival.into_iter().chain(attack).min()
    }
}
