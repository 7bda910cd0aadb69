//! Making the story of a seed.

use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::program::{Identity, Program};
use crate::random::{Purpose, Seed, Stream};
use crate::site::{BARE_PORTS, Host, HostKey, KnownBy, LINKS, Pool, Site, Users, address};
use crate::story::{Change, End, Event, Place, Plan, Story, Trouble, Troubles, Weather, What};

/// The programs of a boot, one after the other.
const BOOTS: &[&[Program]] = &[
    &[Program::Bios, Program::System],
    &[Program::Uefi, Program::Ipxe, Program::System],
    &[Program::Uefi, Program::Ipxe, Program::Installer, Program::System],
    &[Program::Bios, Program::Ipxe, Program::System],
    &[Program::System],
    &[Program::System],
    &[Program::Uefi],
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Story {
    /// The story of a seed.
    pub(crate) fn of(seed: u64, troubles: Troubles) -> Self {
        let seed = Seed(seed);
        let random = seed.stream(Purpose::Plan);
        // Not everything goes wrong in every story: what is rare beside much else is found so.
        let mut chosen = Troubles::none();
        for &trouble in Trouble::ALL {
            let share = match trouble {
                Trouble::Crowd => 5,
                Trouble::ClientIds | Trouble::Infinite | Trouble::EitherIdentity => 250,
                Trouble::AsDhcpd | Trouble::CacheThreshold | Trouble::LeaseLimit => 250,
                Trouble::OneLease | Trouble::InfiniteReserved => 200,
                Trouble::Subclasses | Trouble::Ifs => 300,
                Trouble::FlippedBits | Trouble::PingCheck | Trouble::Strangers => 200,
                _ => 500,
            };
            // By its name, so that a trouble more or less changes nothing for the others.
            let name = trouble
                .name()
                .bytes()
                .fold(0, |sum: u64, byte| sum.rotate_left(5) ^ u64::from(byte));
            let drawn = seed.draw(Purpose::Trouble, name, 0) % 1000;
            if drawn < share && troubles.has(trouble) {
                chosen = chosen.with(trouble);
            }
        }
        if chosen.has(Trouble::ClientIds) || chosen.has(Trouble::EitherIdentity) {
            // Two cards that say the same client identifier are one client (RFC 2131 section 4.2).
            chosen = chosen.without(Trouble::TwoCards);
        }
        if chosen.has(Trouble::FlippedBits) {
            // A server that has lost leases believes whoever says to have one, and probes for no
            // longer than a day.
            let hidden = [Trouble::Adversary, Trouble::Infinite, Trouble::InfiniteReserved];
            chosen = hidden.into_iter().fold(chosen, Troubles::without);
        }
        if chosen.has(Trouble::CacheThreshold) {
            // An ACK that writes nothing reserves nothing, and gives nothing back.
            let hidden = [Trouble::OneLease, Trouble::InfiniteReserved];
            chosen = hidden.into_iter().fold(chosen, Troubles::without);
        }
        let mut maker = Maker { random, chosen };
        let machines = maker.machines();
        let mut site = maker.site(&machines);
        let length = maker.random.between(60, 420);
        let shards = maker.random.between(1, 3) as usize;
        let mut events = maker.events(&machines, length);
        if chosen.has(Trouble::FlippedBits) {
            maker.last_leases_lost(&machines, &mut site, length, &mut events);
        }
        events.sort_by_key(|event| event.at);
        let calm = Moment::default() + seconds(length);
        Self { seed, troubles: chosen, site, machines, shards, events, calm }
    }
}

/// What the disk loses.
#[derive(Copy, Clone)]
enum Loss {
    /// A machine has moved to where no port is told, and renews its lease later.
    Moved,
    /// One has given its address back, another has got it, and the first comes again.
    GivenBack,
    /// Leases have become short, and others ask for the addresses of those that are long.
    Shortened,
}

struct Maker {
    random: Stream,
    chosen: Troubles,
}

impl Maker {
    fn has(&self, trouble: Trouble) -> bool {
        self.chosen.has(trouble)
    }

    fn machines(&mut self) -> Vec<Plan> {
        let count = match self.has(Trouble::Crowd) {
            true => self.random.between(300, 700),
            false => self.random.between(2, 14),
        };
        (0..count).map(|number| self.machine(number as u16)).collect()
    }

    fn machine(&mut self, number: u16) -> Plan {
        let [high, low] = number.to_be_bytes();
        // Two cards of one machine have one UUID.
        let same = self.has(Trouble::TwoCards) && number % 4 == 1;
        let [_, uuid_low] = (number - u16::from(same)).to_be_bytes();
        let mut uuid = [0x11; 16];
        (uuid[14], uuid[15]) = (high, uuid_low);
        let mut programs = self.random.pick(BOOTS).to_vec();
        if self.random.chance(150) && self.has(Trouble::Bootp) {
            programs = vec![Program::Bootp];
        }
        let link = self.random.below(LINKS.len() as u64) as usize;
        let (terse, rapid) = (self.random.chance(200), self.random.chance(300));
        let reads = self.random.chance(600) && self.has(Trouble::Transfers);
        Plan {
            identity: Identity {
                mac: [2, 0, 0, 0, high, low],
                uuid,
                terse,
                rapid: rapid && self.has(Trouble::RapidCommit),
                endless: self.has(Trouble::InfiniteReserved) && number.is_multiple_of(3),
            },
            programs,
            place: Place { link, port: number },
            reads,
            absent: false,
        }
    }

    fn site(&mut self, machines: &[Plan]) -> Site {
        let mut pools = Vec::new();
        for link in 0..LINKS.len() {
            let on_link = machines.iter().filter(|plan| plan.place.link == link).count() as u64;
            // Too few, just enough, or plenty.
            let room = self.random.between(on_link / 2, on_link * 2 + 2).clamp(1, 100) as u8;
            let mut users = vec![Users::All];
            if self.has(Trouble::ClassPools) && self.random.chance(700) {
                users = vec![Users::Firmware, Users::System];
            } else if self.has(Trouble::KnownPools) && self.random.chance(700) {
                users = vec![Users::Known, Users::Unknown];
            }
            for (place, users) in users.into_iter().enumerate() {
                let low = 10 + place as u8 * 120;
                pools.push(Pool { link, low, high: low + room - 1, users });
            }
        }
        let infinite = self.has(Trouble::Infinite) && self.random.chance(300);
        let lease = *self.random.pick(&[20, 40, 60, 120, 300]);
        let cached = *self.random.pick(&[10, 25, 60, 100]);
        let limit = u32::try_from(self.random.between(1, 1 + machines.len() as u64 / 2)).ok();
        let mut site = Site {
            pools,
            hosts: Vec::new(),
            lease: if infinite { None } else { Some(lease) },
            known_by: match (self.has(Trouble::ClientIds), self.has(Trouble::EitherIdentity)) {
                (true, _) => KnownBy::ClientId,
                (false, true) => KnownBy::Either,
                (false, false) => KnownBy::Hardware,
            },
            as_dhcpd: self.has(Trouble::AsDhcpd),
            cache_threshold: if self.has(Trouble::CacheThreshold) { cached } else { 0 },
            limit: limit.filter(|_| self.has(Trouble::LeaseLimit)),
            spawns: self.has(Trouble::Subclasses),
            subclasses: Vec::new(),
            ifs: self.has(Trouble::Ifs),
            one_lease: self.has(Trouble::OneLease),
            infinite_reserved: self.has(Trouble::InfiniteReserved),
            authoritative: self.random.chance(500),
            rapid_commit: self.has(Trouble::RapidCommit),
            reply_delay: self.has(Trouble::ReplyDelay),
            ping_check: self.has(Trouble::PingCheck),
            order: 0,
        };
        if self.has(Trouble::Subclasses) {
            site.subclasses = (0..machines.len() as u16).step_by(5).take(8).collect();
        }
        for number in 0..self.random.below(4) {
            let machine = self.random.below(machines.len() as u64) as usize;
            let in_pool = self.random.chance(500);
            let host = self.random.below(60) as u8;
            if let Some(key) = self.key(&machines[machine]) {
                let link = machines[machine].place.link;
                // Inside of the first pool, or of none.
                let ip = address(link, if in_pool { 10 + host % 8 } else { 100 + host % 20 });
                let taken = site.hosts.iter().any(|other| other.ip == Some(ip) || other.key == key);
                if !taken {
                    let (name, ip) = (number as u16, Some(ip));
                    site.hosts.push(Host { name, key, ip, live: false });
                }
            }
        }
        site
    }

    /// By what a host entry knows a machine.
    pub(crate) fn key(&mut self, plan: &Plan) -> Option<HostKey> {
        let way = self.random.below(4);
        host_key(plan, way, self.chosen)
    }

    fn events(&mut self, machines: &[Plan], length: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for machine in 0..machines.len() {
            let at = self.at(length.min(20));
            events.push(Event { at, what: What::Boot { machine } });
        }
        let most = if self.has(Trouble::Crowd) { 80 } else { 40 };
        for _ in 0..self.random.between(4, most) {
            let at = self.at(length);
            if let Some(what) = self.what(machines) {
                events.push(Event { at, what });
            }
        }
        if self.has(Trouble::FlippedBits) {
            for _ in 0..self.random.between(1, 3) {
                let (at, draw) = (self.at(length), self.random.next() as u8);
                let flips = self.random.between(20, 200) as u8;
                let (shards, pause) = (1 + usize::from(draw % 3), seconds(u64::from(draw % 8)));
                let end = match self.random.chance(500) {
                    true => End::Kill { draw, flips },
                    false => End::Reboot { draw, wall: 0, flips },
                };
                events.push(Event { at, what: What::Restart { end, shards, pause } });
            }
            for _ in 0..self.random.below(3) {
                let (at, flips) = (self.at(length), self.random.between(20, 200) as u8);
                events.push(Event { at, what: What::FlippedBits { flips } });
            }
        }
        if self.has(Trouble::FullDisk) && (self.has(Trouble::Crowd) || self.random.chance(300)) {
            // Before the first checkpoint, and for more batches than the log has room for.
            let at = Moment::default() + seconds(1);
            events.push(Event { at, what: What::FullDisk { time: seconds(length) } });
        }
        if self.has(Trouble::HostsByPort) && self.has(Trouble::MovingMachines) {
            self.moved_from_port(machines, length, &mut events);
        }
        if self.has(Trouble::Infinite) && self.has(Trouble::LeaseTime) && self.has(Trouble::Cut) {
            self.shortened(machines, length, &mut events);
        }
        events
    }

    /// What seldom comes together: a machine moves behind a relay agent that adds nothing and keeps
    /// its address, and the port where it was becomes somebody.
    fn moved_from_port(&mut self, machines: &[Plan], length: u64, events: &mut Vec<Event>) {
        let machine = self.random.below(machines.len() as u64) as usize;
        let Place { link, port } = machines[machine].place;
        let then = self.random.between(25, length / 2);
        if !machines[machine].place.is_told() {
            return;
        }
        let at = |seconds: u64| Moment::default() + Duration::from_secs(seconds);
        let place = Place { link, port: BARE_PORTS + port };
        events.push(Event { at: at(then), what: What::Move { machine, place } });
        let reserves = What::Reload { change: Change::ReservePort { machine }, pick: 0 };
        events.push(Event { at: at(then + 8), what: reserves });
    }

    /// What seldom comes together: an infinite lease is made finite, and no machine hears of it.
    fn shortened(&mut self, machines: &[Plan], length: u64, events: &mut Vec<Event>) {
        let at = |seconds: u64| Moment::default() + Duration::from_secs(seconds);
        let lease = |lease| What::Reload { change: Change::LeaseTime(lease), pick: 0 };
        let then = self.random.between(20, length / 2);
        events.push(Event { at: at(0), what: lease(None) });
        events.push(Event { at: at(then), what: lease(Some(15)) });
        for link in 0..LINKS.len() {
            let what = What::Cut { link, time: Duration::from_secs(60), answers: true };
            events.push(Event { at: at(then), what });
        }
        let resets = (0..machines.len()).map(|machine| What::Reset { machine });
        events.extend(resets.map(|what| Event { at: at(then + 1), what }));
    }

    /// What seldom comes together: the disk loses what was written last, and what was written of
    /// the same addresses before counts again; and then the machines come that it is about.
    fn last_leases_lost(
        &mut self,
        machines: &[Plan],
        site: &mut Site,
        length: u64,
        events: &mut Vec<Event>,
    ) {
        let mut add = |second: u64, what: What| {
            events.push(Event { at: Moment::default() + seconds(second), what });
        };
        let lease = |lease| What::Reload { change: Change::LeaseTime(Some(lease)), pick: 0 };
        let of_ports = machines.iter().position(|plan| plan.place.is_told());
        let moved = of_ports
            .filter(|_| self.has(Trouble::HostsByPort) && self.has(Trouble::MovingMachines));
        let possible = [
            moved.map(|_| Loss::Moved),
            self.has(Trouble::Release).then_some(Loss::GivenBack),
            self.has(Trouble::LeaseTime).then_some(Loss::Shortened),
        ];
        let possible: Vec<Loss> = possible.into_iter().flatten().collect();
        if possible.is_empty() {
            return;
        }
        let loss = *self.random.pick(&possible);
        let then = self.random.between(20, (length / 2).min(60));
        let machine = moved.unwrap_or(self.random.below(machines.len() as u64) as usize);
        let Place { link, port } = machines[machine].place;
        let here = |other: &usize| machines[*other].place.link == link;
        // What is written last is not about the machine.
        let elsewhere = (0..machines.len()).find(|other| !here(other));
        let ends = match loss {
            Loss::Moved => {
                add(0, lease(60));
                add(0, What::Reload { change: Change::ReservePort { machine }, pick: 0 });
                let place = Place { link, port: BARE_PORTS + port };
                add(then, What::Move { machine, place });
                then + 20
            }
            Loss::GivenBack => {
                site.pools.retain(|pool| pool.link != link);
                site.pools.push(Pool { link, low: 10, high: 10, users: Users::All });
                add(0, lease(200));
                for neighbour in (0..machines.len()).filter(here) {
                    add(then, What::Release { machine: neighbour });
                    add(then + 1, What::Off { machine: neighbour });
                    let comes = then + if neighbour == machine { 34 } else { 4 };
                    add(comes, What::Boot { machine: neighbour });
                }
                then + 30
            }
            Loss::Shortened => {
                let first = self.random.below(2) as usize;
                add(0, lease(200));
                add(then, lease(15));
                let some = (first..machines.len()).step_by(2);
                some.for_each(|machine| add(then + 20, What::Boot { machine }));
                then + 1
            }
        };
        if let Some(machine) = elsewhere {
            add(ends - 8, What::Reset { machine });
        }
        add(ends, What::SpoiledBatches { count: self.random.between(1, 8) as u8 });
        let end = End::Kill { draw: 1, flips: 0 };
        add(ends, What::Restart { end, shards: 1, pause: seconds(1) });
    }

    fn at(&mut self, length: u64) -> Moment {
        Moment::from_nanos(self.random.below(length * 1_000_000_000))
    }

    fn what(&mut self, machines: &[Plan]) -> Option<What> {
        let machine = self.random.below(machines.len() as u64) as usize;
        let pick = self.random.next();
        let small = self.random.below(1000);
        let choice = self.random.below(36);
        let needs = |trouble: Trouble, what: What| Some(what).filter(|_| self.has(trouble));
        let reload = |change: Change| What::Reload { change, pick };
        let time = Duration::from_millis(small * 20 + 50);
        match choice {
            0..=2 => Some(What::Boot { machine }),
            3..=5 => Some(What::Reset { machine }),
            6 => Some(What::Off { machine }),
            7 => needs(Trouble::Release, What::Release { machine }),
            8 => needs(Trouble::Decline, What::WillDecline { machine }),
            9 => {
                let bare = if pick >> 20 & 3 == 0 { BARE_PORTS } else { 0 };
                let port = bare + (pick >> 8) as u16 % 12;
                // Often on its own link, where it may keep its address.
                let own = machines[machine].place.link;
                let link = if pick >> 22 & 1 == 0 { own } else { (pick % 3) as usize };
                let place = Place { link, port };
                needs(Trouble::MovingMachines, What::Move { machine, place })
            }
            10 | 11 => {
                let weather = Weather {
                    loss: if self.has(Trouble::Loss) { small % 400 } else { 0 },
                    duplicate: if self.has(Trouble::Disorder) { pick % 200 } else { 0 },
                    reorder: if self.has(Trouble::Disorder) { (pick >> 8) % 200 } else { 0 },
                    delay: if self.has(Trouble::Disorder) { (pick >> 16) % 250 } else { 1 },
                    send_errors: if self.has(Trouble::SendErrors) { (pick >> 24) % 50 } else { 0 },
                };
                Some(What::Weather(weather))
            }
            12 => {
                let link = 1 + (pick % 2) as usize;
                needs(Trouble::Cut, What::Cut { link, time: time * 2, answers: pick >> 8 & 1 == 0 })
            }
            13 => {
                needs(Trouble::Stall, What::Stall { shard: (pick % 3) as usize, time: time / 10 })
            }
            14 => needs(Trouble::SlowDisk, What::SlowDisk { millis: small * small / 300 }),
            15 => needs(Trouble::FailingDisk, What::FailingDisk { share: pick % 700 }),
            16..=18 => {
                let draw = (pick >> 8) as u8;
                let wrong = self.has(Trouble::WallClock) && pick >> 20 & 1 == 0;
                let wall = if wrong { (pick >> 24) as i64 % 7200 - 3600 } else { 0 };
                let flipped = self.has(Trouble::FlippedBits) && pick >> 40 & 3 > 0;
                let flips = if flipped { 1 + (pick >> 42) as u8 % 60 } else { 0 };
                let (trouble, end) = match pick % 4 {
                    0 => (Trouble::Stop, End::Stop),
                    1 | 2 => (Trouble::Kill, End::Kill { draw, flips }),
                    _ => (Trouble::Reboot, End::Reboot { draw, wall, flips }),
                };
                let end = Some(end).filter(|_| self.has(trouble));
                let shards = 1 + (pick >> 16) as usize % 3;
                end.map(|end| What::Restart { end, shards, pause: time / 4 })
            }
            19 => {
                let seconds = (pick % 20_000) as i64 - 10_000;
                let seconds = if small < 300 { 0 } else { seconds };
                needs(Trouble::WallClock, What::WallStep { seconds })
            }
            20 => needs(Trouble::Reorder, reload(Change::Reorder)),
            21 | 22 => {
                let change = match small % 5 {
                    0 => Change::MovePool,
                    1 => Change::ShrinkPool,
                    2 => Change::GrowPool,
                    3 => Change::RemovePool,
                    _ => Change::AddPool,
                };
                needs(Trouble::MovePools, reload(change))
            }
            23 => {
                let infinite = self.has(Trouble::Infinite) && small.is_multiple_of(3);
                let lease = [15, 30, 60, 200][(pick % 4) as usize];
                let lease = if infinite { None } else { Some(lease) };
                needs(Trouble::LeaseTime, reload(Change::LeaseTime(lease)))
            }
            24 | 25 => {
                let (taken, moves_pool) = (!small.is_multiple_of(3), !small.is_multiple_of(2));
                needs(Trouble::Reserve, reload(Change::Reserve { taken, moves_pool }))
            }
            26 => {
                let change = match small % 4 {
                    0 | 1 => Change::Swap,
                    2 => Change::HandOver,
                    _ => Change::Forget,
                };
                needs(Trouble::Swap, reload(change))
            }
            27 => Some(reload(Change::Undo)),
            28 => needs(Trouble::FullDisk, What::FullDisk { time: time * 4 }),
            29 | 30 => needs(Trouble::OperatorRelease, What::OperatorRelease { pick }),
            31 => needs(Trouble::Inform, What::Inform { machine }),
            32 | 33 => {
                let place = address((pick % 3) as usize, 10 + (pick >> 8) as u8 % 8);
                needs(Trouble::Strangers, What::Stranger { ip: place, time: time * 8 })
            }
            _ => needs(Trouble::Adversary, What::Hostile { machine, act: pick }),
        }
    }
}

/// By what a host entry knows a machine: in one of the ways that the troubles allow.
pub(crate) fn host_key(plan: &Plan, way: u64, troubles: Troubles) -> Option<HostKey> {
    let identity = &plan.identity;
    match way {
        1 if troubles.has(Trouble::HostsByUuid) => Some(HostKey::Uuid(identity.uuid)),
        2 if troubles.has(Trouble::HostsByClientId) => {
            let last = *plan.programs.last()?;
            identity.client_id(last).map(HostKey::ClientId)
        }
        3 if troubles.has(Trouble::HostsByPort) && plan.place.is_told() => {
            Some(HostKey::Circuit { link: plan.place.link, port: plan.place.port })
        }
        _ => Some(HostKey::Hardware(vec![identity.mac])),
    }
}
