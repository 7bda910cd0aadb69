//! Comparing the server's tables with what the machines were told, now and then and at the end.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm::leases::{Lease, LeaseState};
use bootstorm_protocols::dhcpv4::MessageType;
use bootstorm_protocols::time::Moment;

use crate::committer::Progress;
use crate::machine::Phase;
use crate::oracle::{Invariant, Promise, time};
use crate::program::Program;
use crate::site::{Host, HostKey, KnownBy, SERVER, Users, host_file, link_of, subclass_file};
use crate::story::Place;
use crate::world::World;

/// A reply may be written before a reload and leave after it, when its lease is on disk.
const LONGEST_HELD: Duration = Duration::from_secs(20);

/// A machine that got no answer asks again by then.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// The machine that has a lease: hardware addresses end with its number.
fn holder(lease: &Lease) -> usize {
    let number = lease.hardware.address().last_chunk().map(|tail| u16::from_be_bytes(*tail));
    number.unwrap_or_default().into()
}

impl World {
    /// What the machines were told is in the table.
    pub(crate) fn check_promises(&mut self) {
        let Some(server) = &self.server else { return };
        let monotonic = server.clocks.monotonic(self.now);
        let wrong = self.oracle.promises.iter().find_map(|(ip, promise)| {
            if self.now >= promise.until || promise.refused || promise.doubtful {
                return None;
            }
            let lease = server.leases.at(*ip, monotonic);
            let held = lease.as_ref().is_some_and(|lease| {
                // By client identifier, the programs of one machine are clients of their own: what
                // is reserved for the machine goes from one to the next.
                let next =
                    self.site.known_by != KnownBy::Hardware && lease.hardware == promise.hardware;
                lease.is_active(monotonic) && lease.client == promise.key
                    || lease.state.is_taken() && next
            });
            if held { None } else { Some((*ip, promise.clone(), lease)) }
        });
        if let Some((ip, promise, lease)) = wrong {
            let there = lease.map_or("nothing".to_owned(), |lease| {
                format!("{:?} of {:?} until {}", lease.state, lease.client, time(lease.expires))
            });
            let (name, until) = (self.name(promise.machine), time(promise.until));
            let detail = format!("{name} was given {ip} until {until}; the server knows {there}");
            self.violated(Invariant::Forgotten, detail);
        }
        self.check_limit();
    }

    /// Those that count have no more addresses than they may. Hosts' addresses do not count, nor
    /// what a server has lost.
    fn check_limit(&mut self) {
        let counts = |(ip, promise): &(&Ipv4Addr, &Promise)| {
            // dhcpd knows no classes of BOOTP clients.
            let is_unknown =
                self.site.as_dhcpd && self.machines[promise.machine].program() == Program::Bootp;
            let is_valid = self.now < promise.until && !promise.doubtful;
            is_valid && !is_unknown && !self.was_reserved(**ip)
        };
        let mut groups: BTreeMap<(usize, u32), Vec<Ipv4Addr>> = BTreeMap::new();
        for (ip, promise) in self.oracle.promises.iter().filter(counts) {
            if let Some(group) = self.site.limit_of(promise.machine) {
                groups.entry(group).or_default().push(*ip);
            }
        }
        if let Some(((_, limit), have)) =
            groups.iter().find(|((_, limit), have)| have.len() > *limit as usize)
        {
            let detail = format!("{limit} addresses are allowed, and these are given: {have:?}");
            self.violated(Invariant::Limit, detail);
        }
    }

    /// Host entries that there are, and that there were.
    pub(crate) fn hosts_ever(&self) -> impl Iterator<Item = &Host> {
        self.site.hosts.iter().chain(self.retired.iter().map(|(_, host)| host))
    }

    /// Whether an address is, or was, that of a host entry.
    fn was_reserved(&self, ip: Ipv4Addr) -> bool {
        self.hosts_ever().any(|host| host.ip == Some(ip))
    }

    /// Whether the limit leaves an address for a machine that has none, beyond doubt: who was
    /// refused because of it asks again after a while. `now`: the server's time.
    fn has_room(&self, machine: usize, table: &HashMap<Ipv4Addr, Lease>, now: Moment) -> bool {
        let Some((group, limit)) = self.site.limit_of(machine) else { return true };
        let counts = |lease: &&Lease| {
            let of = self.site.limit_of(holder(lease));
            let counted = lease.state.is_taken() || now.since(lease.expires) <= LONGEST_PATIENCE;
            counted && of.is_some_and(|(of, _)| of == group)
        };
        table.values().filter(counts).count() < limit as usize
    }

    /// What a start has lost, it says. One that finds nothing, and comes after one that had written
    /// everything anew from memory, has lost nothing.
    pub(crate) fn check_start(&mut self) {
        self.check_alarm();
        let Some(server) = &self.server else { return };
        let monotonic = server.clocks.monotonic(self.now);
        let found = server.leases.damage(monotonic).and_then(|damage| damage.found);
        let may_lose = std::mem::take(&mut self.unhealed) || found.is_some();
        if server.leases.is_damaged(monotonic) {
            self.tell(|_| {
                let how = if may_lose { "has lost leases" } else { "is, or was, damaged" };
                let found = found.map_or(String::new(), |found| format!(": {found}"));
                format!("the server says that its lease log {how}{found}")
            });
            if may_lose {
                self.oracle.damaged(self.epoch);
            }
        }
    }

    /// Nothing is taken for damage but flipped bits.
    pub(crate) fn check_alarm(&mut self) {
        let Some(server) = &self.server else { return };
        let damaged = server.leases.damage(server.clocks.monotonic(self.now)).is_some();
        if damaged && !self.flipped {
            let detail = "the lease log is said to be damaged".to_owned();
            self.violated(Invariant::Alarm, detail);
        }
    }

    /// The counts of each pool are those of its leases, and no lease is of an unknown address. To
    /// be called right after housekeeping, or what has ended is counted as it was.
    pub(crate) fn check_counts(&mut self) {
        let Some(server) = &self.server else { return };
        if server.committer.state != Progress::Idle || server.leases.awaits_commit() {
            return;
        }
        let table = server.table(self.now);
        if table.keys().any(|ip| !self.oracle.known.contains(ip)) {
            return self.violated(Invariant::Bounded, "a lease of an unknown address".to_owned());
        }
        self.check_one_lease(&table);
        let Some(server) = &self.server else { return };
        let dhcp = &server.config.dhcp;
        let mut wrong = None;
        for id in dhcp.subnets.iter().flat_map(|subnet| subnet.pools.iter().copied()) {
            let Some(counts) = server.leases.pool_counts(id) else {
                wrong = Some("a pool has no counts".to_owned());
                break;
            };
            let (low, high) = dhcp.pool(id).range;
            let own = |ip: &Ipv4Addr| {
                (low..=high).contains(ip) && *ip != SERVER && self.site.host_of(*ip).is_none()
            };
            let leases = table.iter().filter(|(ip, _)| own(ip)).map(|(_, lease)| lease);
            let leases: Vec<_> = leases.collect();
            let of = |wanted: LeaseState| {
                leases.iter().filter(|lease| lease.state == wanted).count() as u64
            };
            let ended = of(LeaseState::Expired) + of(LeaseState::Released);
            let sum =
                counts.unused + counts.idle + counts.offered + counts.active + counts.declined;
            let taken = of(LeaseState::Active);
            let agree = sum == counts.size
                && (counts.active, counts.idle) == (taken, ended)
                && counts.offered == of(LeaseState::Offered)
                && counts.declined == of(LeaseState::Declined);
            if !agree {
                wrong = Some(format!(
                    "pool {low}-{high}: {counts:?}, but {taken} leases are active and {ended} over"
                ));
                break;
            }
        }
        if let Some(detail) = wrong {
            self.violated(Invariant::Counts, detail);
        }
    }

    /// What a client was told before it said that it has another address is not its any more. A
    /// server that was started since may have lost what was on its way to the disk.
    fn check_one_lease(&mut self, table: &HashMap<Ipv4Addr, Lease>) {
        let failed = self.server.as_ref().is_none_or(|server| server.failed_batches() > 0);
        // Rapid commit needs no REQUEST, and where either tells them apart, clients of one hardware
        // address are others without a client identifier.
        let is_clear = !self.site.rapid_commit && self.site.known_by != KnownBy::Either;
        if !self.site.one_lease || !is_clear || self.start > 1 || failed {
            return;
        }
        let mut clients = HashMap::new();
        // A BOOTP client asks for what it gets in no REQUEST.
        let counts = |(_, lease): &(&Ipv4Addr, &Lease)| {
            let machine = self.machines.get(holder(lease));
            let is_bootp = machine.is_some_and(|own| own.program() == Program::Bootp);
            lease.state == LeaseState::Active && !is_bootp
        };
        for (ip, lease) in table.iter().filter(counts) {
            if let Some(other) = clients.insert(&lease.client, ip) {
                let detail = format!("{:?} has {ip} and {other}", lease.client);
                return self.violated(Invariant::OneLease, detail);
            }
        }
    }

    /// Whether a machine may be told a boot file, in a transaction that it began.
    pub(crate) fn may_be_told(
        &self,
        machine: usize,
        kind: Option<MessageType>,
        xid: u32,
        file: &[u8],
    ) -> bool {
        let own = &self.machines[machine];
        let began = own.began.get(&xid).copied();
        let (program, place) = began.unwrap_or((own.program(), own.place));
        // What begins anew, and says all of itself, hears of its file.
        let must = kind == Some(MessageType::Offer) && !own.plan.identity.terse;
        if file.is_empty() && !(must && self.site.ifs) {
            return true;
        }
        let is_classified = program != Program::Bootp;
        let subclass = self.site.subclasses.iter().find(|number| usize::from(**number) == machine);
        let subclass = subclass.filter(|_| is_classified);
        let expected = subclass
            .map_or_else(|| self.site.file_of(program).to_owned(), |number| subclass_file(*number));
        if file == expected.as_bytes() {
            return true;
        }
        let recent = self.retired.iter().filter(|(until, _)| self.now.since(*until) < LONGEST_HELD);
        let mut hosts = self.site.hosts.iter().chain(recent.map(|(_, host)| host));
        hosts.any(|host| {
            file == host_file(host.name).as_bytes() && self.is_host(machine, place, host)
        })
    }

    /// Whether a host entry is for a machine, whatever the machine's messages say.
    fn is_host(&self, machine: usize, place: Place, host: &Host) -> bool {
        let plan = &self.machines[machine].plan;
        match &host.key {
            HostKey::Hardware(cards) => cards.contains(&plan.identity.mac),
            HostKey::Uuid(uuid) => *uuid == plan.identity.uuid,
            HostKey::ClientId(id) => plan
                .programs
                .iter()
                .any(|program| plan.identity.client_id(*program).as_ref() == Some(id)),
            HostKey::Circuit { link, port } => {
                place == Place { link: *link, port: *port } && place.is_told()
            }
        }
    }

    /// Whether a program's messages show that the host entry is the machine's.
    fn shows(&self, machine: usize, program: Program, host: &Host) -> bool {
        let own = &self.machines[machine];
        match &host.key {
            // dhcpd knows no host by it.
            HostKey::Uuid(_) if self.site.as_dhcpd => false,
            HostKey::Uuid(_) => program.is_firmware() && !own.plan.identity.terse,
            HostKey::ClientId(id) => own.plan.identity.client_id(program).as_ref() == Some(id),
            HostKey::Hardware(_) => true,
            // What it gets is without end, so only its hardware address counts.
            HostKey::Circuit { .. } => program != Program::Bootp,
        }
    }

    /// The host entries of a machine with an address on its link.
    fn reservations(&self, machine: usize) -> Vec<&Host> {
        let own = &self.machines[machine];
        let here = |host: &&Host| {
            host.ip.is_some_and(|ip| link_of(ip) == own.place.link)
                && self.is_host(machine, own.place, host)
        };
        self.site.hosts.iter().filter(here).collect()
    }

    /// A machine with a valid lease got a NAK.
    pub(crate) fn judge_refusal(&mut self, machine: usize, ip: Ipv4Addr) {
        let Some(promise) = self.oracle.promises.get(&ip) else { return };
        let valid = promise.machine == machine && self.now < promise.until;
        let moves = !self.reservations(machine).is_empty();
        if valid && promise.edits == self.edits && !moves && !promise.doubtful {
            let (name, until) = (self.name(machine), time(promise.until));
            let detail = format!("{name} has {ip} until {until} and gets a NAK for it");
            self.violated(Invariant::Kept, detail);
        }
    }

    /// When nothing goes wrong any more and everybody had time enough.
    pub(crate) fn check_end(&mut self) {
        self.check_promises();
        let Some(server) = &self.server else {
            return self.violated(Invariant::Runs, "the server is down in the end".to_owned());
        };
        if !server.is_idle() || server.transfers() > 0 {
            let transfers = server.transfers();
            let detail = format!("replies wait, or transfers: {transfers}");
            return self.violated(Invariant::Bounded, detail);
        }
        let table = server.table(self.now);
        let monotonic = server.clocks.monotonic(self.now);
        for (ip, lease) in &table {
            // Who has no address because of the limit goes on with its boot until the end.
            if self.site.limit_of(holder(lease)).is_some() {
                continue;
            }
            let finite = lease.expires != Moment::NEVER;
            // Who finds no address goes on with its boot, as other clients, and may leave what it
            // was acknowledged a moment ago.
            let promised = self.oracle.promises.contains_key(ip)
                || self.oracle.was_sent(holder(lease), *ip, self.now);
            if lease.state == LeaseState::Active && finite && !promised {
                let detail = format!("{ip} is leased to {:?}, who does not have it", lease.client);
                return self.violated(Invariant::Leaked, detail);
            }
        }
        let taken = |ip: Ipv4Addr| table.get(&ip).is_some_and(|lease| lease.state.is_taken());
        for machine in 0..self.machines.len() {
            let own = &self.machines[machine];
            if own.plan.absent {
                continue;
            }
            let program = own.program();
            if program == Program::Bootp && server.leases.is_damaged(monotonic) {
                // Nothing that another may have is given without end.
                continue;
            }
            let served = matches!(own.phase, Phase::Bound | Phase::Renewing | Phase::Rebinding);
            let held = own.held.map(|held| held.ip).filter(|_| served);
            let reservations = self.reservations(machine);
            // The first entry that fits says which address, for dhcpd also if it is of another
            // link.
            let entries =
                self.site.hosts.iter().filter(|host| self.is_host(machine, own.place, host));
            let is_clear = !self.site.as_dhcpd || entries.count() == 1;
            if is_clear
                && let [host] = reservations[..]
                && let Some(ip) = host.ip
                && ip != SERVER
                && self.shows(machine, program, host)
                && held != Some(ip)
                && !taken(ip)
            {
                let detail =
                    format!("{} has {held:?} in the end, and not {ip}", self.name(machine));
                return self.violated(Invariant::Reserved, detail);
            }
            if held.is_none()
                && reservations.is_empty()
                && self.has_room(machine, &table, monotonic)
            {
                let free = self.site.pools.iter().filter(|pool| {
                    pool.link == own.place.link && self.permits(machine, program, pool.users)
                });
                // Who was refused asks again after a while.
                let long_free = |ip: Ipv4Addr| {
                    let lease = table.get(&ip);
                    lease.is_none_or(|lease| monotonic.since(lease.expires) > LONGEST_PATIENCE)
                };
                let free = free.flat_map(|pool| pool.addresses());
                let mut free = free.filter(|ip| {
                    let reserved = self.site.host_of(*ip).is_some();
                    !taken(*ip) && long_free(*ip) && *ip != SERVER && !reserved
                });
                if let Some(ip) = free.next() {
                    let detail = format!("{} has no address, and {ip} is free", self.name(machine));
                    return self.violated(Invariant::Served, detail);
                }
            }
        }
    }

    /// Whether a pool is for a machine, beyond doubt.
    fn permits(&self, machine: usize, program: Program, users: Users) -> bool {
        let place = self.machines[machine].place;
        let mut entries =
            self.site.hosts.iter().filter(|host| self.is_host(machine, place, host)).peekable();
        if program == Program::Bootp {
            return false;
        }
        match users {
            Users::All => true,
            Users::Firmware => program.is_firmware() && !self.machines[machine].plan.identity.terse,
            Users::System => !program.is_firmware(),
            Users::Known => {
                entries.peek().is_some() && entries.all(|host| self.shows(machine, program, host))
            }
            Users::Unknown => entries.peek().is_none(),
        }
    }
}
