//! What a story has happen, carried out.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::MessageType;

use crate::machine::Phase;
use crate::maker::host_key;
use crate::program::Program;
use crate::random::Stream;
use crate::site::{Host, HostKey, Pool, SERVER, Users, address, link_of};
use crate::story::{Change, Place, Trouble, What};
use crate::transfers::MOST_HOSTS;
use crate::wire::Asked;
use crate::world::{Happening, LONGEST_WAY, World};

impl World {
    pub(crate) fn story_happens(&mut self, what: What) {
        match what {
            What::Boot { machine } => {
                self.tell(|world| format!("{} is switched on", world.name(machine)));
                self.begin_boot(machine);
            }
            What::Reset { machine } => match self.machines[machine].phase {
                Phase::Off => {}
                Phase::Bound | Phase::Renewing | Phase::Rebinding => {
                    self.tell(|world| format!("{} starts again", world.name(machine)));
                    self.begin_reset(machine);
                }
                _ => self.begin_boot(machine),
            },
            What::Off { machine } => {
                self.tell(|world| format!("{} is switched off", world.name(machine)));
                self.switch_off(machine);
            }
            What::Release { machine } => self.release(machine),
            What::WillDecline { machine } => self.machines[machine].will_decline = true,
            What::Move { machine, place } => {
                let own = &mut self.machines[machine];
                own.place = place;
                self.tell(|world| format!("{} is plugged in there now", world.name(machine)));
                if self.machines[machine].phase != Phase::Off {
                    self.begin_reset(machine);
                    self.begin_boot_unless_last(machine);
                }
            }
            What::Reload { change, pick } => self.change_site(change, pick),
            What::Restart { end, shards, pause } => self.restart(end, shards, pause),
            What::Weather(weather) => {
                self.tell(|_| format!("the network: {weather:?}"));
                self.weather = weather;
                self.set_send_faults();
            }
            What::Cut { link, time, answers } => {
                let until = self.now + time;
                if answers {
                    self.tell(|_| format!("answers to link {link} are lost for {time:?}"));
                    self.deaf[link] = until;
                } else {
                    self.tell(|_| format!("link {link} is cut off for {time:?}"));
                    self.cut[link] = until;
                }
            }
            What::Stall { shard, time } => {
                let until = self.now + time;
                if let Some(server) = &mut self.server {
                    server.stall(shard, until);
                }
            }
            What::SlowDisk { millis } => {
                self.tell(|_| format!("the disk takes up to {millis} ms for a batch"));
                self.set_disk(Some(millis), None);
            }
            What::FailingDisk { share } => {
                self.tell(|_| format!("{share} of 1000 batches fail"));
                self.set_disk(None, Some(share));
            }
            What::FlippedBits { flips } => self.flip(flips),
            What::SpoiledBatches { count } => self.spoil_batches(count),
            What::WallStep { seconds } => {
                self.tell(|_| format!("the wall clock is set by {seconds} s"));
                self.step_wall_clock(seconds);
            }
            What::FullDisk { time } => self.fill_disk(time),
            What::OperatorRelease { pick } => self.operator_releases(pick),
            What::Inform { machine } => self.inform(machine),
            What::Stranger { ip, time } => {
                if ip != SERVER {
                    self.tell(|_| format!("a device with the address {ip} is there for {time:?}"));
                    self.strangers.insert(ip);
                    self.schedule(self.now + time, Happening::Gone(ip));
                }
            }
            What::Hostile { machine, act } => self.hostile(machine, act),
        }
    }

    fn begin_boot_unless_last(&mut self, machine: usize) {
        if !self.machines[machine].is_last() {
            self.begin_boot(machine);
        }
    }

    /// A machine that means harm, under its own name: it asks for the addresses of others, gives
    /// them back and declines them.
    fn hostile(&mut self, machine: usize, act: u64) {
        let of_others: Vec<Ipv4Addr> = self
            .oracle
            .promises
            .iter()
            .filter(|(_, promise)| promise.machine != machine)
            .map(|(ip, _)| *ip)
            .collect();
        let own = &self.machines[machine];
        // All that a BOOTP client can say is that it begins anew.
        if of_others.is_empty() || own.plan.absent || own.program() == Program::Bootp {
            return;
        }
        let ip = of_others[act as usize % of_others.len()];
        let server = Some(SERVER);
        let none = Asked {
            kind: MessageType::Request,
            ciaddr: None,
            requested: None,
            server: None,
            unicast: false,
        };
        let asked = match act >> 32 & 3 {
            0 => Asked { kind: MessageType::Decline, requested: Some(ip), server, ..none },
            1 => Asked {
                kind: MessageType::Release,
                ciaddr: Some(ip),
                server,
                unicast: true,
                ..none
            },
            2 => Asked { requested: Some(ip), server, ..none },
            _ => Asked { ciaddr: Some(ip), ..none },
        };
        // As a transaction of its own, so that its other one goes on.
        let own = &mut self.machines[machine];
        let xid = own.xid;
        own.xid = 0xffff_0000 | act as u32 & 0xffff;
        self.ask(machine, asked);
        self.machines[machine].xid = xid;
    }

    /// Edits the configuration, and reloads it where the server runs.
    fn change_site(&mut self, change: Change, pick: u64) {
        let before = self.site.clone();
        let mut random = Stream(pick);
        self.edit(change, &mut random);
        if self.site == before {
            return;
        }
        self.edits += 1;
        let now = self.now;
        self.retired.extend(before.hosts.iter().cloned().map(|host| (now, host)));
        self.tell(|world| format!("reload ({change:?}): {}", world.site));
        self.note_lost();
        if self.site.file() == before.file() {
            self.change_hosts();
        } else {
            self.reload();
        }
    }

    /// Tells the oracle which addresses their holders can have no more. A server cannot know that a
    /// machine is the host of a UUID or client identifier which its messages do not say.
    pub(crate) fn note_lost(&mut self) {
        let Self { oracle, machines, site, now, .. } = self;
        oracle.edited(|machine, ip| {
            let own = &machines[machine];
            let lost = match site.host_of(ip).map(|host| &host.key) {
                Some(HostKey::Hardware(cards)) => !cards.contains(&own.plan.identity.mac),
                Some(_) => true,
                None => !site.pools.iter().any(|pool| pool.contains(ip)),
            };
            let under_way = own.discovered.filter(|at| now.since(*at) < LONGEST_WAY);
            lost.then(|| under_way.map(|at| (own.xid, at)))
        });
    }

    fn edit(&mut self, change: Change, random: &mut Stream) {
        let site = &mut self.site;
        let pool = random.below(site.pools.len().max(1) as u64) as usize;
        let host = random.below(site.hosts.len().max(1) as u64) as usize;
        let amount = random.between(1, 6) as u8;
        match change {
            Change::Reorder => site.order = site.order.wrapping_add(random.between(1, 4)),
            Change::LeaseTime(lease) => site.lease = lease,
            Change::Undo => {
                let live: Vec<Host> = site.hosts.iter().filter(|host| host.live).cloned().collect();
                *site = self.story.site.clone();
                site.hosts.retain(|host| {
                    !live.iter().any(|other| other.key == host.key || other.ip == host.ip)
                });
                site.hosts.extend(live);
            }
            Change::MovePool => {
                if let Some(pool) = site.pools.get_mut(pool) {
                    move_pool(pool, amount, random.chance(500));
                }
            }
            Change::ShrinkPool => {
                if let Some(pool) = site.pools.get_mut(pool) {
                    pool.high = pool.high.saturating_sub(amount).max(pool.low);
                }
            }
            Change::GrowPool => {
                if let Some(pool) = site.pools.get_mut(pool) {
                    pool.high = (pool.high + amount).min(zone(pool) + 100);
                }
            }
            Change::RemovePool => {
                if pool < site.pools.len() {
                    site.pools.remove(pool);
                }
            }
            Change::AddPool => {
                let link = random.below(3) as usize;
                let low = if random.chance(500) { 10 } else { 130 };
                let new = Pool { link, low, high: low + amount, users: Users::All };
                if !site.pools.iter().any(|pool| pool.link == link && zone(pool) == zone(&new)) {
                    site.pools.push(new);
                }
            }
            Change::Reserve { taken, moves_pool } => self.reserve(taken, moves_pool, random),
            Change::ReservePort { machine } => {
                let Place { link, port } = self.machines[machine].plan.place;
                let key = HostKey::Circuit { link, port };
                if !site.hosts.iter().any(|host| host.key == key) {
                    self.add_host(key, None, false);
                }
            }
            Change::Swap => {
                let with_ip = |other: &usize| site.hosts[*other].ip.is_some();
                let hosts: Vec<usize> = (0..site.hosts.len()).filter(with_ip).collect();
                if hosts.len() >= 2 {
                    let first = hosts[host % hosts.len()];
                    let second = hosts[(host + 1) % hosts.len()];
                    let (a, b) = (site.hosts[first].ip, site.hosts[second].ip);
                    (site.hosts[first].ip, site.hosts[second].ip) = (b, a);
                }
            }
            Change::HandOver => {
                let machine = random.below(self.machines.len() as u64) as usize;
                let key = host_key(&self.machines[machine].plan, random.below(4), self.troubles);
                if let (Some(host), Some(key)) = (site.hosts.get(host).cloned(), key)
                    && !site.hosts.iter().any(|other| other.key == key)
                {
                    let (ip, live) = (host.ip, host.live);
                    site.hosts.retain(|other| *other != host);
                    self.add_host(key, ip, live);
                }
            }
            Change::Forget => {
                if host < site.hosts.len() {
                    site.hosts.remove(host);
                }
            }
        }
    }

    /// A machine gets an address of its own.
    fn reserve(&mut self, taken: bool, moves_pool: bool, random: &mut Stream) {
        let machine = random.below(self.machines.len() as u64) as usize;
        let plan = &self.machines[machine].plan;
        let link = plan.place.link;
        let Some(key) = host_key(plan, random.below(4), self.troubles) else { return };
        let held: Vec<Ipv4Addr> =
            self.oracle.promises.keys().copied().filter(|ip| link_of(*ip) == link).collect();
        let free = address(link, 10 + random.below(12) as u8);
        let ip = match taken && !held.is_empty() {
            true => *random.pick(&held),
            false => free,
        };
        let site = &mut self.site;
        if site.hosts.iter().any(|host| host.ip == Some(ip)) {
            return;
        }
        site.hosts.retain(|host| host.key != key);
        if moves_pool && let Some(pool) = site.pools.iter_mut().find(|pool| pool.contains(ip)) {
            // Away from the address, as administrators do before they reserve it.
            let host = ip.octets()[3];
            let length = pool.high - pool.low;
            if host < zone(pool) + 100 {
                pool.low = host + 1;
                pool.high = pool.low.saturating_add(length).min(zone(pool) + 100);
            }
        }
        let live = random.chance(500) && self.troubles.has(Trouble::LiveHosts);
        self.add_host(key, Some(ip), live);
    }

    fn add_host(&mut self, key: HostKey, ip: Option<Ipv4Addr>, live: bool) {
        // A name is never used for another machine.
        let name = self.hosts_ever().map(|host| host.name + 1).max().unwrap_or(10);
        if name < MOST_HOSTS {
            self.site.hosts.push(Host { name, key, ip, live });
        }
    }
}

/// Where the range lies that a pool may move in: two on each link.
fn zone(pool: &Pool) -> u8 {
    if pool.low < 120 { 10 } else { 130 }
}

fn move_pool(pool: &mut Pool, amount: u8, up: bool) {
    let start = zone(pool);
    let length = pool.high - pool.low;
    pool.low = match up {
        true => (pool.low + amount).min(start + 100 - length.min(100)),
        false => pool.low.saturating_sub(amount).max(start),
    };
    pool.high = pool.low + length;
}
