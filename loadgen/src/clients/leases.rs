//! What a machine does with a lease: renews it, lets it expire, or declines it.

use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::Clients;
use super::encoder::Form;
use super::machine::{Machine, Phase};

/// How long a client waits after a DECLINE (RFC 2131 section 3.1, 5).
const AFTER_DECLINE: Duration = Duration::from_secs(10);
/// A lease is to be renewed at these parts of its time: at a half, and each time at half of what is
/// left (RFC 2131 section 4.4.5), then it is over.
const RENEW_AT: [f64; 5] = [0.5, 0.75, 0.875, 0.9375, 1.0];

impl Clients {
    /// Tells the server that the address is in use by somebody else, and begins again after a
    /// pause.
    pub(super) fn decline<T: Transmit>(&mut self, index: u32, now: Moment, tx: &mut T) {
        self.send_message(index, Form::Decline, tx);
        let machine = &mut self.machines[index as usize];
        let address = machine.address;
        machine.bound = false;
        machine.phase = Phase::Pausing;
        self.validator.declined(address, index, now);
        self.arm(index, now + AFTER_DECLINE);
    }

    /// Gives the address back (RFC 2131 section 4.4.6). Nothing answers that.
    pub(super) fn release<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        machine.begin_exchange();
        machine.discovered = tx.now();
        self.send_message(index, Form::Release, tx);
        let machine = &mut self.machines[index as usize];
        machine.bound = false;
        self.validator.released(machine.address, index);
    }

    /// Sets the timer for the next renewal of a machine that is up.
    pub(super) fn rest_until_renewal(&mut self, index: u32) {
        let machine = &mut self.machines[index as usize];
        machine.phase = Phase::Up;
        machine.tries = 0;
        let due = machine.leased + part_of_lease(machine, 0);
        self.arm(index, due);
    }

    /// Asks for more time, again and again until the lease is over.
    pub(super) fn renew<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let due = self.machines[index as usize].due;
        let machine = &mut self.machines[index as usize];
        if machine.phase == Phase::Up {
            machine.phase = Phase::Renewing;
            machine.begin_exchange();
            machine.asked = due;
        } else {
            machine.tries = machine.tries.saturating_add(1);
        }
        let next = usize::from(machine.tries) + 1;
        if next >= RENEW_AT.len() {
            self.metrics.dhcp.expired += 1;
            self.exchange_failed(index);
            self.discover(index, due, tx);
            return;
        }
        let due = self.machines[index as usize].leased
            + part_of_lease(&self.machines[index as usize], next);
        let again = self.machines[index as usize].tries > 0;
        // The lease that this may bring counts from here.
        self.send_message(index, Form::Renewing, tx);
        if again {
            self.count_again(index);
        }
        self.arm(index, due);
    }
}

/// That part of the lease time, counted from the lease's beginning.
fn part_of_lease(machine: &Machine, which: usize) -> Duration {
    let part = RENEW_AT.get(which).copied().unwrap_or(1.0);
    Duration::from_secs(machine.lease.into()).mul_f64(part)
}
