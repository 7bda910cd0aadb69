//! The loop of a simulation: one server, its machines, and everything that happens to them, in the
//! order of one virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstorm_net::sim::Outside;
use bootstorm_protocols::time::Moment;
use xxhash_rust::xxh3::Xxh3;

use crate::committer::Fate;
use crate::disk::Disk;
use crate::lifecycle::HOUSEKEEPING;
use crate::machine::{Machine, Phase};
use crate::operator::Command;
use crate::oracle::{Invariant, Oracle, Violation, time};
use crate::random::{Purpose, Seed};
use crate::server::{Clocks, Server};
use crate::site::{Host, LINKS, Site};
use crate::story::{Story, Troubles, Weather, What};

/// A datagram is on its way for so long at most.
pub(crate) const LONGEST_WAY: Duration = Duration::from_secs(2);
/// Steps of one simulation at most: more is a loop that never ends.
const MOST_STEPS: u64 = 3_000_000;
/// Every so many steps the tables are compared with what the machines were told.
const CHECK_EVERY: u64 = 400;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Story(usize),
    /// The timer of a machine.
    Timer {
        machine: usize,
        number: u64,
    },
    ToServer {
        machine: usize,
        datagram: Outside,
        note: Said,
    },
    ToMachine {
        machine: usize,
        datagram: Outside,
        epoch: u64,
    },
    /// The disk has done a batch of that server.
    Written {
        start: u64,
    },
    Housekeeping {
        start: u64,
    },
    /// The answer to a ping comes to that server.
    Echo {
        ip: Ipv4Addr,
        reply: Vec<u8>,
        in_time: bool,
        start: u64,
    },
    /// The disk has room again.
    Room,
    /// A stranger is gone.
    Gone(Ipv4Addr),
    /// The server that is stopping has no more time.
    Ended {
        start: u64,
        shards: usize,
        pause: Duration,
    },
    Start {
        shards: usize,
    },
    /// A machine is used in the quiet time: so that it finds its way to what it should have.
    Calm(u8),
}

/// What of a message the oracle has to know when it arrives at the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Other,
    Request,
    /// RELEASE or DECLINE.
    GivesBack(Ipv4Addr),
}

struct Queued {
    at: Moment,
    number: u64,
    happening: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// How a simulation went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    /// Of everything that was sent and decided.
    pub(crate) hash: u64,
    pub(crate) steps: u64,
    pub(crate) datagrams: u64,
    /// Sentences, if they were wanted.
    pub(crate) told: Vec<String>,
}

/// A simulation under way.
pub(crate) struct World {
    pub(crate) seed: Seed,
    pub(crate) troubles: Troubles,
    pub(crate) story: Story,
    pub(crate) site: Site,
    pub(crate) now: Moment,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) step: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) server: Option<Server>,
    pub(crate) clocks: Clocks,
    pub(crate) disk: Disk,
    pub(crate) root: PathBuf,
    /// Counts the starts of the server.
    pub(crate) start: u64,
    /// Counts starts and reloads.
    pub(crate) epoch: u64,
    /// Counts changes of the configuration file.
    pub(crate) edits: u64,
    /// Host entries that were in force, and until when.
    pub(crate) retired: Vec<(Moment, Host)>,
    pub(crate) stopping: bool,
    pub(crate) weather: Weather,
    /// Until when each link is cut off.
    pub(crate) cut: [Moment; LINKS.len()],
    /// Until when no answer reaches it.
    pub(crate) deaf: [Moment; LINKS.len()],
    pub(crate) slow: u64,
    pub(crate) failing: u64,
    /// Until when the disk is full.
    pub(crate) full: Moment,
    /// The server has run: its log is there.
    pub(crate) started: bool,
    /// Bits have flipped on the disk.
    pub(crate) flipped: bool,
    /// The server that ended had found that its log is damaged, and had not written everything
    /// anew; or it did not come so far as to say what it found.
    pub(crate) unhealed: bool,
    pub(crate) batches: u64,
    /// Pings of the server so far.
    pub(crate) pings: u64,
    /// Addresses of devices that the server knows nothing of.
    pub(crate) strangers: BTreeSet<Ipv4Addr>,
    /// Addresses that have answered a ping, and until when they may not be offered.
    pub(crate) in_use: BTreeMap<Ipv4Addr, Moment>,
    /// What an operator waits for.
    pub(crate) command: Option<Command>,
    /// When an operator released an address last, and whose it was.
    pub(crate) decided: BTreeMap<Ipv4Addr, (Moment, usize)>,
    pub(crate) oracle: Oracle,
    pub(crate) violation: Option<Violation>,
    hash: Xxh3,
    pub(crate) datagrams: u64,
    /// Counts what arrives at the server.
    pub(crate) arrivals: u64,
    telling: bool,
    told: Vec<String>,
    pub(crate) calm: bool,
    /// The longest finite lease of any configuration so far, in seconds.
    pub(crate) longest_lease: u64,
}

impl World {
    /// The beginning of a story. `root` is the directory of the files.
    pub(crate) fn new(story: Story, root: &Path, telling: bool) -> Self {
        let machines = story.machines.iter().cloned().map(Machine::new).collect();
        Self {
            seed: story.seed,
            troubles: story.troubles,
            site: story.site.clone(),
            now: Moment::default(),
            queue: BinaryHeap::new(),
            queued: 0,
            step: 0,
            machines,
            server: None,
            clocks: Clocks { booted: Moment::default(), boots: 1, wall: 0, synchronised: true },
            disk: Disk::new(story.seed.draw(Purpose::Disk, 2, 0), story.machines.len()),
            root: root.to_owned(),
            start: 0,
            epoch: 0,
            edits: 0,
            retired: Vec::new(),
            stopping: false,
            weather: Weather::default(),
            cut: [Moment::default(); LINKS.len()],
            deaf: [Moment::default(); LINKS.len()],
            slow: 2,
            failing: 0,
            full: Moment::default(),
            started: false,
            flipped: false,
            unhealed: false,
            batches: 0,
            pings: 0,
            strangers: BTreeSet::new(),
            in_use: BTreeMap::new(),
            command: None,
            decided: BTreeMap::new(),
            oracle: Oracle::default(),
            violation: None,
            hash: Xxh3::new(),
            datagrams: 0,
            arrivals: 0,
            telling,
            told: Vec::new(),
            calm: false,
            longest_lease: 0,
            story,
        }
    }

    /// Plays the story to its end, or to the first violation.
    pub(crate) fn play(mut self) -> Outcome {
        self.schedule(Moment::default(), Happening::Start { shards: self.story.shards });
        for index in 0..self.story.events.len() {
            let at = self.story.events[index].at;
            self.schedule(at, Happening::Story(index));
        }
        self.schedule(self.story.calm, Happening::Calm(0));
        while self.violation.is_none() && self.advance() {}
        Outcome {
            violation: self.violation,
            hash: self.hash.digest(),
            steps: self.step,
            datagrams: self.datagrams,
            told: self.told,
        }
    }

    /// Goes on to what happens next; false at the end.
    fn advance(&mut self) -> bool {
        let queued = self.queue.peek().map(|Reverse(next)| next.at);
        let server = self.server.as_ref().and_then(|server| server.next(self.now));
        let Some(next) = queued.into_iter().chain(server).min() else { return false };
        self.now = self.now.max(next);
        self.step += 1;
        if self.step > MOST_STEPS {
            self.violated(Invariant::Runs, "the simulation does not come to an end".to_owned());
            return false;
        }
        let mut last = false;
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= self.now)
            && let Some(Reverse(next)) = self.queue.pop()
        {
            last |= self.happens(next.happening);
            if self.violation.is_some() {
                return false;
            }
        }
        self.run_server();
        if self.step.is_multiple_of(CHECK_EVERY) {
            self.check_promises();
        }
        !last
    }

    fn happens(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Story(index) => {
                let what = self.story.events[index].what.clone();
                self.story_happens(what);
            }
            Happening::Timer { machine, number } => {
                if self.machines[machine].timer == number {
                    self.timer(machine);
                }
            }
            Happening::ToServer { machine, datagram, note } => {
                self.arrives_at_server(machine, datagram, note);
            }
            Happening::ToMachine { machine, datagram, epoch } => {
                self.arrives_at_machine(machine, &datagram, epoch);
            }
            Happening::Written { start } if start == self.start => self.written(),
            Happening::Housekeeping { start } if start == self.start => {
                if let Some(server) = &self.server {
                    server.housekeeping(self.now);
                    // What the checkpoint thread does. It tries again when it fails.
                    let _failed = server.log.maintain();
                    self.check_alarm();
                    // Looking at every lease takes a while.
                    if (self.now.as_nanos() / 1_000_000_000).is_multiple_of(8) {
                        self.check_counts();
                        self.check_promises();
                    }
                    self.schedule(self.now + HOUSEKEEPING, Happening::Housekeeping { start });
                }
                self.drained(start);
            }
            Happening::Ended { start, shards, pause } if start == self.start => {
                self.stop_server(Fate::Written);
                self.schedule(self.now + pause, Happening::Start { shards });
            }
            Happening::Start { shards } if self.server.is_none() => self.start_server(shards),
            Happening::Echo { ip, reply, in_time, start } if start == self.start => {
                self.echo_arrives(ip, &reply, in_time);
            }
            Happening::Room => self.disk.files.set_full(self.now < self.full),
            Happening::Gone(ip) => {
                self.strangers.remove(&ip);
            }
            Happening::Written { .. }
            | Happening::Echo { .. }
            | Happening::Housekeeping { .. }
            | Happening::Ended { .. }
            | Happening::Start { .. } => {}
            Happening::Calm(round) => return self.calm_round(round),
        }
        false
    }

    pub(crate) fn schedule(&mut self, at: Moment, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at, number: self.queued, happening }));
    }

    /// Notes what makes one run differ from another.
    pub(crate) fn record(&mut self, kind: u8, who: u64, bytes: &[u8]) {
        self.hash.update(&[kind]);
        self.hash.update(&self.now.as_nanos().to_le_bytes());
        self.hash.update(&who.to_le_bytes());
        self.hash.update(bytes);
    }

    pub(crate) fn tell(&mut self, sentence: impl FnOnce(&Self) -> String) {
        if self.telling {
            let line = format!("{:>12}  {}", time(self.now), sentence(self));
            self.told.push(line);
        }
    }

    pub(crate) fn violated(&mut self, invariant: Invariant, detail: String) {
        let (at, step) = (self.now, self.step);
        self.violation.get_or_insert(Violation { invariant, at, step, detail });
    }

    /// In quiet times: nothing goes wrong any more, and every machine is switched on; then each
    /// starts again some times, so that it can come to the address that it should have. True after
    /// the last round.
    fn calm_round(&mut self, round: u8) -> bool {
        const ROUNDS: u8 = 5;
        let settle = Duration::from_secs(self.longest_lease + 70);
        match round {
            0 => {
                self.tell(|_| "from now on nothing goes wrong".to_owned());
                self.weather = Weather { delay: 1, ..Weather::default() };
                self.set_send_faults();
                self.cut = [self.now; LINKS.len()];
                self.deaf = [self.now; LINKS.len()];
                self.set_disk(Some(2), Some(0));
                self.disk.files.set_full(false);
                self.strangers.clear();
                for machine in 0..self.machines.len() {
                    if self.machines[machine].phase == Phase::Off {
                        self.begin_boot(machine);
                    }
                }
                self.schedule(self.now + settle, Happening::Calm(1));
            }
            _ if round < ROUNDS => {
                self.calm = true;
                for machine in 0..self.machines.len() {
                    self.story_happens(What::Reset { machine });
                }
                self.schedule(self.now + Duration::from_secs(80), Happening::Calm(round + 1));
            }
            ROUNDS => self.schedule(self.now + settle, Happening::Calm(round + 1)),
            // Something is on its way to the disk, or to a machine, most of the time.
            _ if round < u8::MAX && !self.is_quiet() => {
                let soon = Duration::from_millis(100);
                self.schedule(self.now + soon, Happening::Calm(round + 1));
            }
            _ => {
                self.check_end();
                return true;
            }
        }
        false
    }

    fn is_quiet(&self) -> bool {
        self.server.as_ref().is_some_and(|server| {
            server.is_idle() && server.transfers() == 0 && !server.leases.awaits_commit()
        })
    }

    /// When a datagram leaves now, by which it arrives: none when it is lost, several when it is
    /// duplicated.
    pub(crate) fn arrivals_of(&self, purpose: Purpose, machine: usize, number: u64) -> Vec<Moment> {
        let Weather { loss, duplicate, reorder, delay, .. } = self.weather;
        let draw = |which: u64| self.seed.draw(purpose, machine as u64, number * 8 + which);
        if draw(0) % 1000 < loss {
            return Vec::new();
        }
        let copies = if draw(1) % 1000 < duplicate { 2 } else { 1 };
        let arrival = |copy: u64| {
            let mut micros = 100 + draw(2 + copy) % (delay * 1000 + 1);
            if draw(4 + copy) % 1000 < reorder {
                micros += draw(6 + copy) % 1_400_000;
            }
            self.now + Duration::from_micros(micros)
        };
        (0..copies).map(arrival).collect()
    }

    /// The machine whose transfer a datagram belongs to.
    pub(crate) fn reader(&self, to: SocketAddr) -> Option<usize> {
        let found = |machine: &Machine| {
            let transfer = machine.transfer.as_ref();
            transfer.is_some_and(|transfer| transfer.port == to.port())
                && machine.held.is_some_and(|held| to.ip() == std::net::IpAddr::V4(held.ip))
        };
        self.machines.iter().position(found)
    }
}
