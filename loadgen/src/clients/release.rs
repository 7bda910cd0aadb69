//! The end of a trial: machines give back what they hold, so that the next trial finds the server
//! without their leases.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_net::{Datagram, Handler, Transmit};
use bootstorm_protocols::time::Moment;

use super::Clients;

/// How often some are sent.
const STEP: Duration = Duration::from_millis(5);
/// Steps after the last one.
const LAST_STEPS: u32 = 4;

/// Sends a RELEASE for every lease that machines hold, evenly, and reads nothing.
#[derive(Debug)]
pub struct Release<'a> {
    clients: &'a mut Clients,
    leases: Vec<(u32, Ipv4Addr)>,
    each_step: usize,
    next_step: Moment,
    /// Steps since the last one was sent.
    idle: u32,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("machines", &self.machines.len()).finish_non_exhaustive()
    }
}

impl<'a> Release<'a> {
    /// From `now` on, so many a second.
    pub fn new(clients: &'a mut Clients, per_second: u32, now: Moment) -> Release<'a> {
        let leases = clients.validator.leases();
        let each_step = (f64::from(per_second) * STEP.as_secs_f64()).ceil() as usize;
        Release { clients, leases, each_step: each_step.max(1), next_step: now, idle: 0 }
    }

    /// Whether all have been sent, and the packet engine has had turns to hand them to the kernel.
    pub fn is_over(&self) -> bool {
        self.idle >= LAST_STEPS
    }
}

impl<T: Transmit> Handler<T> for Release<'_> {
    fn datagram(&mut self, _datagram: Datagram<'_>, _tx: &mut T) {}

    fn woken(&mut self, _tx: &mut T) {}

    fn sent(&mut self, _token: u64, _result: io::Result<()>, _tx: &mut T) {}

    fn batch_end(&mut self, _dry: bool, tx: &mut T) -> Option<Moment> {
        let now = tx.now();
        if now >= self.next_step {
            self.next_step = now + STEP;
            if self.leases.is_empty() {
                self.idle += 1;
            }
            let rest = self.leases.len().saturating_sub(self.each_step);
            for (machine, address) in self.leases.split_off(rest) {
                self.clients.machines[machine as usize].address = address;
                self.clients.release(machine, tx);
            }
        }
        Some(self.next_step)
    }
}
