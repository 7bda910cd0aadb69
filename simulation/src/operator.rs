//! An operator at the command line: `bootstorm leases release`.

use std::net::Ipv4Addr;
use std::thread::JoinHandle;

use crate::world::{LONGEST_WAY, World};

/// A command that waits in a thread of its own until the disk has what it changed.
pub(crate) struct Command {
    thread: JoinHandle<bool>,
    /// When the committer has been through so many batches the command has its answer.
    after: u64,
}

impl World {
    /// Somebody's address goes back to its pool, whatever its machine says.
    pub(crate) fn operator_releases(&mut self, pick: u64) {
        let Some(server) = self.server.as_ref().filter(|_| self.command.is_none()) else { return };
        let promised = self.oracle.promises.len();
        // Only in an empty queue is it known when the change is there, and in which batch.
        if promised == 0 || self.is_stopping() || server.leases.awaits_commit() {
            return;
        }
        let of = self.oracle.promises.iter().nth(pick as usize % promised);
        let Some((ip, machine)) = of.map(|(ip, promise)| (*ip, promise.machine)) else { return };
        let leases = server.leases.clone();
        let monotonic = server.clocks.monotonic(self.now);
        let thread = std::thread::spawn(move || leases.release(ip, monotonic).is_ok());
        while !thread.is_finished() && !server.leases.awaits_commit() {
            std::thread::yield_now();
        }
        let after = server.committer.batches_until_next();
        self.command = Some(Command { thread, after });
        self.tell(|_| format!("an operator releases {ip}"));
        self.operator_decides(ip, machine);
    }

    /// What the machine was told does not hold any more.
    fn operator_decides(&mut self, ip: Ipv4Addr, machine: usize) {
        self.oracle.ended(ip, machine);
        self.decided.insert(ip, (self.now, machine));
        let arrivals = self.arrivals;
        self.machines[machine].given_back.insert(ip, arrivals);
    }

    /// Whether an ACK of an address may have been on its way when an operator released it.
    pub(crate) fn may_be_outdated(&self, ip: Ipv4Addr) -> bool {
        self.decided.get(&ip).is_some_and(|(at, _)| self.now.since(*at) < LONGEST_WAY)
    }

    /// Whether a machine may have gone on with an address that an operator took from it: a server
    /// that has lost the later lease of another believes who uses the address.
    pub(crate) fn may_go_on(&self, ip: Ipv4Addr, machine: usize) -> bool {
        self.decided.get(&ip).is_some_and(|(_, whose)| *whose == machine)
    }

    /// To be called after each step of the committer.
    pub(crate) fn command_ends(&mut self) {
        let batches = self.server.as_ref().map_or(u64::MAX, |server| server.committer.batches);
        if let Some(command) =
            self.command.take_if(|command| batches >= command.after || command.thread.is_finished())
        {
            // Its panic was printed.
            let released = command.thread.join().unwrap_or(false);
            self.tell(|_| {
                format!("the operator's release {}", if released { "is done" } else { "fails" })
            });
        }
    }
}
