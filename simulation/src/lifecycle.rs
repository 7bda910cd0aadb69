//! The server's life in a simulation: its turns, its disk, its starts, ends and reloads.

use std::time::Duration;

use bootstorm::leases::LeaseStore;

use crate::committer::{Fate, Progress};
use crate::oracle::Invariant;
use crate::random::Purpose;
use crate::server::{Clocks, Server};
use crate::story::End;
use crate::world::{Happening, World};

/// Interval of the server's housekeeping.
pub(crate) const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long a server that is told to stop goes on.
const DRAIN: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn run_server(&mut self) {
        // What the server sends may change what it has to do next, but not at this moment.
        let Some(server) = &mut self.server else { return };
        match server.run(self.now) {
            Ok(sent) => {
                for datagram in sent {
                    self.server_sends(datagram);
                }
            }
            Err(error) => return self.violated(Invariant::Runs, error),
        }
        self.run_committer();
    }

    fn run_committer(&mut self) {
        while let Some(server) = &mut self.server {
            let monotonic = server.clocks.monotonic(self.now);
            if !server.committer.has_work(&server.leases, monotonic) {
                break;
            }
            let failures = server.failed_batches();
            if server.committer.run(monotonic) == Progress::Idle {
                // A checkpoint may have had to come first, and may have failed.
                let works = self.failing == 0;
                self.batch_ends(failures, works);
                continue;
            }
            let draw = self.seed.draw(Purpose::Disk, 0, self.batches);
            let micros = 200 + draw % (self.slow * 1000 + 1);
            let start = self.start;
            self.record(b'w', self.batches, &[]);
            self.schedule(self.now + Duration::from_micros(micros), Happening::Written { start });
        }
    }

    pub(crate) fn written(&mut self) {
        let draw = self.seed.draw(Purpose::Disk, 1, self.batches);
        self.batches += 1;
        let fails = draw % 1000 < self.failing;
        let fate = if fails { Fate::Failed } else { Fate::Written };
        if fails {
            self.tell(|_| "the disk: a batch of leases fails".to_owned());
        }
        self.record(b'f', fails.into(), &[]);
        let Some(server) = &mut self.server else { return };
        let failures = server.failed_batches();
        server.committer.written(fate);
        self.batch_ends(failures, !fails);
    }

    pub(crate) fn start_server(&mut self, shards: usize) {
        self.start += 1;
        self.epoch += 1;
        self.note_site();
        let text = self.site.to_toml(&self.root);
        let seed = self.seed.draw(Purpose::Network, 0, self.start);
        match Server::start(&text, &self.disk, shards, self.clocks, self.now, seed) {
            Ok(server) => {
                self.server = Some(server);
                self.started = true;
                self.tell(|world| {
                    format!("the server starts with {shards} shards: {}", world.site)
                });
                let start = self.start;
                self.schedule(self.now + HOUSEKEEPING, Happening::Housekeeping { start });
                self.set_send_faults();
                self.check_start();
                self.check_promises();
            }
            // The service manager tries again until the disk works.
            Err(error) if self.failing > 0 || self.is_new_on_full_disk() => {
                self.tell(|_| format!("the server does not start: {error}"));
                self.unhealed |= self.flipped;
                self.disk.files.killed();
                self.schedule(self.now + HOUSEKEEPING, Happening::Start { shards });
            }
            Err(error) => self.violated(Invariant::Runs, error),
        }
    }

    /// A log is not made where there is no room; one that is there needs none.
    fn is_new_on_full_disk(&self) -> bool {
        self.now < self.full && !self.started
    }

    /// Ends the server; what is being written has this fate.
    pub(crate) fn stop_server(&mut self, fate: Fate) {
        self.stopping = false;
        let Some(mut server) = self.server.take() else { return };
        if server.committer.state == Progress::Writing {
            server.committer.written(fate);
        }
        // In good order: the committer writes what waits. An operator waits for an answer even
        // where the process is killed; there it is the connection that ends.
        let monotonic = server.clocks.monotonic(self.now);
        while server.leases.awaits_commit() && (fate == Fate::Written || self.command.is_some()) {
            if server.committer.run(monotonic) == Progress::Writing {
                server.committer.written(fate);
            }
            if fate != Fate::Written {
                break;
            }
        }
        let damage = server.leases.damage(monotonic);
        let found = damage.is_some_and(|damage| damage.found.is_some());
        self.unhealed |= found && (server.committer.has_doubts() || server.log.has_lost());
        self.command_ends();
    }

    /// A server that is stopping may have finished before its time is over.
    pub(crate) fn drained(&mut self, start: u64) {
        let idle = self.server.as_ref().is_some_and(Server::is_idle);
        if self.stopping && idle {
            self.stopping = false;
            let shards = self.story.shards;
            self.schedule(self.now, Happening::Ended { start, shards, pause: HOUSEKEEPING });
        }
    }

    pub(crate) fn restart(&mut self, end: End, shards: usize, pause: Duration) {
        if self.server.is_none() || self.stopping {
            return;
        }
        match end {
            End::Stop => {
                self.tell(|_| "the server is told to stop".to_owned());
                self.stopping = true;
                if let Some(server) = &self.server {
                    server.drain();
                }
                let start = self.start;
                self.schedule(self.now + DRAIN, Happening::Ended { start, shards, pause });
            }
            End::Kill { draw, flips } => {
                self.tell(|_| format!("the server is killed, and down for {pause:?}"));
                self.kill(draw);
                self.disk.files.killed();
                self.flip(flips);
                self.schedule(self.now + pause, Happening::Start { shards });
            }
            End::Reboot { draw, wall, flips } => {
                self.tell(|_| {
                    format!("the server's machine is rebooted, its wall clock is {wall} s off")
                });
                self.kill(draw);
                self.disk.files.power_cut();
                self.flip(flips);
                let pause = pause + Duration::from_secs(5);
                self.clocks = Clocks {
                    booted: self.now + pause,
                    boots: self.clocks.boots + 1,
                    wall,
                    synchronised: wall == 0,
                };
                self.schedule(self.now + pause, Happening::Start { shards });
            }
        }
    }

    pub(crate) fn flip(&mut self, flips: u8) {
        if flips > 0 {
            self.tell(|_| format!("{flips} bits of the disk flip"));
            self.disk.files.flip_bits(flips.into());
            self.flipped = true;
        }
    }

    pub(crate) fn spoil_batches(&mut self, count: u8) {
        self.tell(|_| format!("a bit flips in each of the last {count} batches but one"));
        self.disk.files.spoil_batches(count.into());
        self.flipped = true;
    }

    pub(crate) fn fill_disk(&mut self, time: Duration) {
        self.tell(|_| format!("the disk is full for {time:?}"));
        self.full = self.now + time;
        self.disk.files.set_full(true);
        self.schedule(self.full, Happening::Room);
    }

    /// The committer is through with a batch. It fails where the disk does, and for nothing else.
    fn batch_ends(&mut self, failures: u64, works: bool) {
        self.command_ends();
        let Some(server) = &self.server else { return };
        if works && server.failed_batches() > failures {
            let detail = "a batch of leases fails, and the disk works".to_owned();
            self.violated(Invariant::Room, detail);
        }
    }

    /// Ends the server at once, half of the time in the middle of a checkpoint.
    fn kill(&mut self, draw: u8) {
        if draw.is_multiple_of(2)
            && let Some(server) = &self.server
        {
            self.disk.files.kill_after(u64::from(draw) / 8);
            let _killed = server.log.maintain();
        }
        self.stop_server(Fate::Killed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn reload(&mut self) {
        self.changed(Server::reload);
    }

    /// As `bootstorm host` does.
    pub(crate) fn change_hosts(&mut self) {
        self.changed(Server::change_hosts);
    }

    fn changed(&mut self, take: impl FnOnce(&mut Server, &str) -> Result<(), String>) {
        self.note_site();
        let text = self.site.to_toml(&self.root);
        let Some(server) = &mut self.server else { return };
        self.epoch += 1;
        if let Err(error) = take(server, &text) {
            return self.violated(Invariant::Runs, error);
        }
        self.check_promises();
    }

    fn note_site(&mut self) {
        let lease = self.site.lease.unwrap_or(0);
        self.longest_lease = self.longest_lease.max(lease.into());
        let pools = self.site.pools.iter().flat_map(|pool| pool.addresses());
        let hosts = self.site.hosts.iter().filter_map(|host| host.ip);
        self.oracle.known.extend(pools.chain(hosts));
    }

    pub(crate) fn set_disk(&mut self, slow: Option<u64>, failing: Option<u64>) {
        self.slow = slow.unwrap_or(self.slow);
        self.failing = failing.unwrap_or(self.failing);
        self.disk.files.set_failing(self.failing / 4);
    }

    pub(crate) fn step_wall_clock(&mut self, seconds: i64) {
        // 0 is a time source that sets the clock; a person who does it is not trusted any more.
        self.clocks.wall = if seconds == 0 { 0 } else { self.clocks.wall + seconds };
        self.clocks.synchronised = seconds == 0;
        if let Some(server) = &mut self.server {
            server.clocks = Clocks { ..self.clocks };
        }
    }

    pub(crate) fn set_send_faults(&self) {
        if let Some(server) = &self.server {
            let share = self.weather.send_errors as f64 / 1000.0;
            server.set_send_faults(share, share);
        }
    }
}
