//! From the leases of files to those of the lease store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use bootstorm_protocols::time::Moment;

use super::read::{self, FileError, Item, LiveHost};
use super::{Binding, Entry, FileTime, Report, Variable};
use crate::config::{Dhcp, HostKey, Identity, Value};
use crate::leases::{
    Admission, Bill, ClientKey, Clock, Hardware, KeyKind, KnownAs, Lease, LeaseScope, LeaseState,
    Notes, VARIABLE_BYTES, Variables,
};

/// How variables for updates of DNS begin.
const DDNS: &str = "ddns-";

/// What was read of files so far.
pub struct Taken<'c> {
    dhcp: &'c Dhcp,
    leases: BTreeMap<Ipv4Addr, Entry>,
    hosts: BTreeMap<Box<str>, LiveHost>,
    deleted: BTreeSet<Box<str>>,
    report: Report,
}

impl<'c> Taken<'c> {
    /// Takes leases for a server of that configuration.
    pub fn new(dhcp: &'c Dhcp) -> Self {
        let (leases, hosts) = (BTreeMap::new(), BTreeMap::new());
        Self { dhcp, leases, hosts, deleted: BTreeSet::new(), report: Report::default() }
    }

    /// Takes what is in a file. In it the last record of an address counts; of those of several
    /// files, the servers of a failover pair, that whose client was heard of last.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(&mut self, file: &Path) -> Result<(), FileError> {
        let mut leases = BTreeMap::new();
        let mut records = 0;
        let Self { dhcp, hosts, deleted, report, .. } = self;
        let format = read::read(file, &mut |item| match item {
            Item::Lease(entry) => {
                records += 1;
                if dhcp.subnet_of(entry.ip).is_some() {
                    leases.insert(entry.ip, *entry);
                } else if entry.names_a_client() {
                    report.drop("the address is in no subnet of this configuration", entry.ip);
                }
            }
            Item::Removed(ip) => {
                records += 1;
                leases.remove(&ip);
            }
            Item::Host(host) => {
                deleted.remove(&host.name);
                hosts.insert(host.name.clone(), host);
            }
            Item::HostDeleted(name) => {
                hosts.remove(&name);
                deleted.insert(name);
            }
            Item::LeftOut(what) => report.drop(what, ""),
            Item::Torn { line } => {
                let place = format!("{}:{line}", file.display());
                report.drop("the file ends in the middle of this: its writer was killed", place);
            }
        })?;
        report.files.push((file.to_owned(), format, records));
        for (ip, entry) in leases {
            self.merge(ip, entry);
        }
        Ok(())
    }

    fn merge(&mut self, ip: Ipv4Addr, entry: Entry) {
        let Some(known) = self.leases.get_mut(&ip) else {
            self.leases.insert(ip, entry);
            return;
        };
        // Where both heard of the client at the same time, the order of the files says nothing.
        let rank = |entry: &Entry| (entry.said(), entry.binding, entry.ends);
        let same = |a: &Entry, b: &Entry| (a.hardware, &a.client_id) == (b.hardware, &b.client_id);
        let clash = known.binding == Binding::Active
            && entry.binding == Binding::Active
            && !same(known, &entry);
        if clash {
            self.report.change(
                "the files name different clients for the address: the later one has it",
                ip,
            );
        }
        if rank(known) < rank(&entry) {
            *known = entry;
        }
    }

    /// The hosts that OMAPI made, by rising name, and the names of those that it deleted.
    pub fn take_hosts(&mut self) -> (Vec<LiveHost>, BTreeSet<Box<str>>) {
        let hosts = std::mem::take(&mut self.hosts).into_values().collect();
        (hosts, std::mem::take(&mut self.deleted))
    }

    /// The leases, by rising address, and what became of them.
    pub fn finish(self, clock: &Clock) -> (Vec<Lease>, Report) {
        let Self { dhcp, leases, mut report, .. } = self;
        let leases = leases.into_values();
        let leases = leases.filter_map(|entry| lease(&entry, dhcp, clock, &mut report)).collect();
        (leases, report)
    }
}

/// What becomes of one entry; `None` if there is nothing to remember.
fn lease(entry: &Entry, dhcp: &Dhcp, clock: &Clock, report: &mut Report) -> Option<Lease> {
    let ip = entry.ip;
    let now = FileTime(clock.wall);
    let moment = |time: FileTime| match time {
        FileTime::NEVER => Moment::NEVER,
        FileTime(wall) => clock.moment_at(wall),
    };
    let ends = entry.ends.unwrap_or(FileTime(0));
    let starts = moment(entry.heard()).min(clock.now);
    let hardware = entry.hardware.unwrap_or_default();
    let client = client(entry, dhcp.identity);
    let valid = entry.binding == Binding::Active && (now < ends || entry.reserved);
    let (state, expires, told) = match (entry.binding, &client) {
        (Binding::Abandoned, _) => {
            // Without an end dhcpd leaves the address alone until a person looks.
            let until = entry.ends.map_or(clock.now + dhcp.decline_time, moment);
            if until <= clock.now {
                return None;
            }
            (LeaseState::Declined, until, None)
        }
        (_, None) if valid => {
            report.change("nobody is named who has the address: in quarantine until it ends", ip);
            (LeaseState::Declined, moment(ends), None)
        }
        (_, None) => return None,
        _ if valid && entry.reserved && ends != FileTime::NEVER => {
            report.change("the address is its client's for good (`reserved`): without end", ip);
            (LeaseState::Active, Moment::NEVER, Some(moment(ends)).filter(|end| clock.now < *end))
        }
        _ if valid => (LeaseState::Active, moment(ends), None),
        (Binding::Active | Binding::Expired, _) => {
            (LeaseState::Active, moment(ends).min(clock.now), None)
        }
        _ => (LeaseState::Released, moment(ends).min(clock.now), None),
    };
    match state {
        LeaseState::Declined => report.quarantined += 1,
        LeaseState::Active if valid => report.active += 1,
        _ => report.ended += 1,
    }
    left_out(entry, valid, report);
    let client = client.unwrap_or_else(|| ClientKey::new(KeyKind::Hardware, &[]));
    if valid && dhcp.pool_of(ip).is_none() && dhcp.host_by_ip(ip).is_none() {
        report.change("no pool and no host has the address: its client gets another one", ip);
    }
    let said = [&entry.client_id, &entry.hostname, &entry.circuit_id, &entry.remote_id];
    let said = said.map(Option::as_deref);
    let mut room = [0; VARIABLE_BYTES];
    let (variables, lost) = Variables::default().with(variables(entry), &mut room);
    if lost > 0 {
        report.drop("variables that the lease has no room for", ip);
    }
    let bill = valid.then(|| bill(entry, dhcp, report)).flatten();
    let notes = Notes::new(&client, hardware, said, admission(ip, &hardware, bill, dhcp))
        .with_scope(LeaseScope { variables, ..LeaseScope::default() });
    let (refused, pending) = (false, false);
    let ip = IpAddr::V4(ip);
    Some(Lease { ip, client, hardware, state, starts, expires, refused, told, pending, notes })
}

/// The identity that the client of a lease will have here.
fn client(entry: &Entry, identity: Identity) -> Option<ClientKey> {
    let hardware = entry.hardware.filter(Hardware::names_a_card);
    let hardware = hardware.map(|hardware| ClientKey::hardware(&hardware));
    let client_id = entry.client_id.as_deref().map(ClientKey::client_id);
    match identity {
        Identity::Hardware => hardware.or(client_id),
        Identity::ClientId | Identity::ClientIdOrHardware => client_id.or(hardware),
    }
}

/// By what the client has the address, as if it had been given here.
fn admission<'c>(
    ip: Ipv4Addr,
    hardware: &Hardware,
    bill: Option<Bill>,
    dhcp: &'c Dhcp,
) -> Admission<'c> {
    if let Some(host) = dhcp.host_by_ip(ip) {
        let host = dhcp.host(host);
        let is_its = |key: HostKey<&[u8]>| key == HostKey::Hardware(hardware.address());
        let known = KnownAs { name: host.name(), by: KeyKind::Hardware, key: None };
        return match host.keys().any(is_its) {
            true => Admission::Host(known),
            false => Admission::Unknown,
        };
    }
    dhcp.pool_of(ip).map_or(Admission::Unknown, |pool| {
        let (low, high) = dhcp.pool(pool).range;
        Admission::Pool { low: low.into(), high: high.into(), host: None, bill }
    })
}

/// What a lease is billed to, of the classes that limit leases in this configuration.
fn bill(entry: &Entry, dhcp: &Dhcp, report: &mut Report) -> Option<Bill> {
    let bill = entry.billing.iter().find_map(|(name, value)| {
        let class = dhcp.class_ids().find(|id| dhcp.class(*id).name == **name)?;
        let value = value.as_deref();
        let own = value.and_then(|value| dhcp.subclasses.find(class, value));
        let limit = own.and_then(|own| dhcp.subclass(own).lease_limit);
        Some(Bill::new(name, value, limit.or(dhcp.class(class).lease_limit)?))
    });
    if bill.is_none() && !entry.billing.is_empty() {
        let what = "the class that a lease counts for has no limit in this configuration";
        report.drop(what, entry.ip);
    }
    bill
}

/// The variables of a lease, but for those that dhcpd itself keeps there.
fn variables(entry: &Entry) -> impl Iterator<Item = (&str, Option<Value<'_>>)> + Clone {
    let is_own = |name: &str| name != "vendor-class-identifier" && !name.starts_with(DDNS);
    let own = entry.variables.iter().filter(move |(name, _)| is_own(name));
    own.map(|(name, value)| {
        let value = match value {
            Variable::Data(bytes) => Value::Data(bytes),
            // dhcpd writes them with a sign.
            Variable::Number(number) => Value::Numeric(number.cast_unsigned()),
            Variable::Boolean(value) => Value::Boolean(*value),
        };
        (&**name, Some(value))
    })
}

/// Says what the store has no place for.
fn left_out(entry: &Entry, valid: bool, report: &mut Report) {
    for (name, _) in entry.variables.iter().filter(|(name, _)| name.starts_with(DDNS)) {
        let what = format!("the variable {name}: this server does not update DNS yet");
        report.drop(what, entry.ip);
    }
    for (name, _) in &entry.agent {
        if name.starts_with("unknown-") {
            report.drop("a sub-option of option 82 that nothing here goes by", entry.ip);
        }
    }
    if entry.bootp && valid && entry.ends != Some(FileTime::NEVER) {
        report.change("a BOOTP client's lease, which it never renews, has an end", entry.ip);
    }
}
