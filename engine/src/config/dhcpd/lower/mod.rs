//! From what was read to the drafts of the builder.

mod pools;
mod scope;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::CLIENT_PORT;

use super::super::builder::{
    Around, Builder, HostDraft, NetworkDraft, Placed, PoolDraft, SubclassDraft, SubnetDraft,
};
use super::super::problem::{Fault, Problems};
use super::super::source::Place;
use super::super::units;
use super::super::{
    Class, ClassId, Compatibility, GroupId, Host, HostKey, Identity, Omapi, OmapiKey, Permit,
};
use super::ast::{self, Body, Child, Entry, Value, What};
use super::reader::START;
use super::spaces::{SpaceNumber, Spaces};
use super::table::Status;
use pools::NetworkPools;
use scope::Draft;
pub(super) use scope::{assign, option};

/// What dhcpd does where nothing is said: how long it leaves declined addresses alone.
const ABANDONED: Duration = Duration::from_secs(86_400);
/// How long an offer waits for its REQUEST.
const OFFERED: Duration = Duration::from_secs(120);

struct Lower<'a, 'p> {
    spaces: &'a Spaces,
    dhcp: SpaceNumber,
    /// The scopes around each class.
    around_classes: Vec<Vec<Around>>,
    /// Groups with a name.
    groups: HashMap<Rc<str>, GroupId>,
    /// Hosts and the scopes around each.
    hosts: Vec<(&'a ast::Host, Vec<Around>)>,
    /// Subclasses and the scopes around each.
    subclasses: Vec<(&'a ast::Subclass, Vec<Around>)>,
    /// Groups for hosts that stand in a scope of another kind.
    made: HashMap<Vec<Around>, GroupId>,
    /// Subnets of the network that is read, or the one subnet without one.
    subnets: Vec<SubnetDraft>,
    pools: NetworkPools,
    builder: Builder,
    in_root: bool,
    problems: &'p mut Problems,
}

/// Parameters that there are once, for everybody.
pub(super) const ONCE: [&str; 5] =
    ["abandon-lease-time", "remote-port", "limited-broadcast-address", "omapi-port", "omapi-key"];

/// Where a declaration stands.
#[derive(Clone, Default)]
struct At {
    /// All scopes around it but the outermost, the innermost first.
    around: Vec<Around>,
    /// The groups between it and the pool, subnet or network around it, likewise.
    groups: Vec<GroupId>,
    network: Option<(String, Place)>,
    /// Its subnet, by its place among those of the network.
    subnet: Option<usize>,
}

impl At {
    fn inside(&self, scope: Around) -> Self {
        let mut around = vec![scope];
        around.extend(self.around.iter().cloned());
        Self { around, groups: Vec::new(), ..self.clone() }
    }

    fn in_group(&self, group: GroupId) -> Self {
        let mut groups = vec![group];
        groups.extend(&self.groups);
        Self { groups, ..self.inside(Around::Group(group)) }
    }
}

/// Makes the drafts.
pub(super) fn lower(
    root: &Body,
    classes: &[ast::Class],
    (spaces, dhcp): (&Spaces, SpaceNumber),
    problems: &mut Problems,
) -> Builder {
    let mut lower = Lower {
        spaces,
        dhcp,
        around_classes: vec![Vec::new(); classes.len()],
        groups: HashMap::new(),
        hosts: Vec::new(),
        subclasses: Vec::new(),
        made: HashMap::new(),
        subnets: Vec::new(),
        pools: NetworkPools::default(),
        builder: Builder::default(),
        in_root: false,
        problems,
    };
    lower.root(root);
    lower.declarations(root, &At::default());
    lower.classes(classes);
    lower.hosts();
    lower.builder
}

impl<'a> Lower<'a, '_> {
    /// The scope of everybody, and what there is once.
    fn root(&mut self, root: &'a Body) {
        let mut draft = Draft::outermost();
        self.in_root = true;
        self.entries(&root.entries, &mut draft);
        self.in_root = false;
        let dhcp = &mut self.builder.dhcp;
        dhcp.compatibility = Compatibility::Dhcpd;
        dhcp.identity = Identity::ClientIdOrHardware;
        dhcp.offer_time = OFFERED;
        dhcp.decline_time = ABANDONED;
        if let Some((time, _)) = constant(&root.entries, "abandon-lease-time") {
            dhcp.decline_time = Duration::from_secs(time);
        }
        if let Some((port, _)) = constant(&root.entries, "remote-port") {
            dhcp.client_port = u16::try_from(port).unwrap_or(CLIENT_PORT);
        }
        if let Some((address, _)) = constant(&root.entries, "limited-broadcast-address") {
            dhcp.limited_broadcast =
                Ipv4Addr::from_bits(u32::try_from(address).unwrap_or(u32::MAX));
        }
        let ping = constant(&root.entries, "ping-check");
        if ping.is_none_or(|(on, _)| on == 1) {
            let place = ping.map(|(_, place)| place);
            let usual = if place.is_none() { ", as dhcpd does where nothing is said" } else { "" };
            let text = format!("each new address is pinged before it is offered{usual}");
            let help = "in a storm every machine waits for it: write ping-check false; if nobody \
                        uses addresses of the pools without asking";
            self.problems.warn(place.unwrap_or(START), Fault::new(text, help));
        }
        self.builder.set_global(draft.finish(root), self.problems);
    }

    fn entries(&mut self, entries: &[Entry], draft: &mut Draft) {
        for entry in entries {
            if draft.add(self.spaces, entry) {
                continue;
            }
            if let What::Parameter { row, .. } = entry.what
                && row.status == Status::Served
            {
                self.not_here(row.name, entry.place);
            }
        }
    }

    /// A parameter that scopes do not have.
    fn not_here(&mut self, name: &str, place: Place) {
        let text = match ONCE.contains(&name) {
            // The outermost scope has it.
            true if self.in_root => return,
            true => format!("`{name}` counts in the outermost scope only"),
            false => format!("`{name}` is read and does nothing yet"),
        };
        self.problems.warn(place, Fault::plain(text));
    }

    fn scope(&mut self, body: &Body) -> Placed {
        let mut draft = Draft::default();
        self.entries(&body.entries, &mut draft);
        draft.finish(body)
    }

    fn declarations(&mut self, body: &'a Body, at: &At) {
        for child in &body.children {
            match child {
                Child::Group(group) => {
                    let scope = self.scope(&group.body);
                    // A later group of a name takes the place of the one before.
                    let name = group.name.clone();
                    let name = name.filter(|(name, _)| !self.groups.contains_key(name));
                    let named = name.map(|(name, place)| (name.to_string(), place));
                    let around = at.around.clone();
                    let id = self.builder.add_group(named, around, scope, self.problems);
                    if let Some((name, _)) = &group.name {
                        self.groups.insert(name.clone(), id);
                    }
                    self.declarations(&group.body, &at.in_group(id));
                }
                Child::Network(network) => self.network(network, at),
                Child::Subnet(subnet) => self.subnet(subnet, at),
                Child::Subnet6(subnet) => self.declarations(&subnet.body, at),
                Child::Pool(pool) => self.pool(pool, at),
                Child::Range(range) => {
                    let draft = self.pools.range(range, &at.groups, self.problems);
                    self.place(draft, range, at);
                }
                Child::Host(host) => self.hosts.push((host, at.around.clone())),
                Child::Class(number) => {
                    self.around_classes[number.0 as usize].clone_from(&at.around);
                }
                Child::Subclass(subclass) => self.subclasses.push((subclass, at.around.clone())),
            }
        }
    }

    fn network(&mut self, network: &'a ast::Network, at: &At) {
        let scope = self.scope(&network.body);
        let name = (network.name.clone(), network.place);
        let draft = NetworkDraft { groups: at.groups.clone(), scope };
        self.builder.add_network(name.clone(), draft, self.problems);
        let inside = at.inside(Around::Network(name.0.clone()));
        self.declarations(&network.body, &At { network: Some(name), ..inside });
        self.add_subnets();
    }

    fn subnet(&mut self, subnet: &'a ast::Subnet, at: &At) {
        let scope = self.scope(&subnet.body);
        self.subnets.push(SubnetDraft {
            prefix: subnet.prefix,
            place: subnet.place,
            network: at.network.clone(),
            pools: Vec::new(),
            groups: at.groups.clone(),
            scope,
        });
        let inside = at.inside(Around::Subnet(subnet.prefix));
        let place = self.subnets.len().checked_sub(1);
        self.declarations(&subnet.body, &At { subnet: place, ..inside });
        if at.network.is_none() {
            self.add_subnets();
        }
    }

    fn add_subnets(&mut self) {
        self.pools = NetworkPools::default();
        for subnet in std::mem::take(&mut self.subnets) {
            self.builder.add_subnet(subnet, self.problems);
        }
    }

    fn pool(&mut self, pool: &'a ast::Pool, at: &At) {
        let scope = self.scope(&pool.body);
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for permission in &pool.permits {
            let list = if permission.allow { &mut allow } else { &mut deny };
            list.extend(permit(permission.who));
        }
        // An empty list allows everybody, and one that concerns nobody allows nobody.
        if allow.is_empty() && pool.permits.iter().any(|permission| permission.allow) {
            deny.push(Permit::All);
        }
        let Some(first) = pool.ranges.first() else { return };
        let groups = at.groups.clone();
        let plain = PoolDraft::plain(addresses(first), first.place);
        let whole = PoolDraft { allow, deny, groups, scope, ..plain };
        let whole = self.pools.add(whole, &pool.permits);
        for range in &pool.ranges {
            let (place, of_range) = (range.place, addresses(range));
            self.place(PoolDraft { range: of_range, place, ..whole.clone() }, range, at);
        }
        self.declarations(&pool.body, &at.inside(Around::Pool(first.first)));
    }

    /// Puts a pool into the subnet that it is of.
    fn place(&mut self, draft: PoolDraft, range: &ast::Range, at: &At) {
        let around = at.subnet.and_then(|place| self.subnets.get_mut(place));
        // Its own subnet says what is wrong with a range that is not in it.
        if let Some(subnet) = around {
            return subnet.pools.push(draft);
        }
        let mut subnets = self.subnets.iter_mut();
        match subnets.find(|subnet| subnet.prefix.contains(range.first)) {
            Some(subnet) => subnet.pools.push(draft),
            None => {
                let text = format!("{} is in no subnet that stands before it", range.first);
                let help = "a range stands in its subnet, or behind it in its shared network";
                self.problems.error(range.place, Fault::new(text, help));
            }
        }
    }

    fn classes(&mut self, classes: &'a [ast::Class]) {
        for (class, around) in classes.iter().zip(std::mem::take(&mut self.around_classes)) {
            let (scope, places) = self.scope(&class.body);
            let model = Class {
                name: class.name.to_string(),
                test: class.match_if.clone(),
                submatch: class.submatch.clone(),
                lease_limit: class.lease_limit,
                scope,
                ..Class::default()
            };
            self.builder.add_class((model, places), around, self.problems);
        }
        for (subclass, around) in std::mem::take(&mut self.subclasses) {
            let class = ClassId::from_index(subclass.class.0);
            let draft = SubclassDraft {
                class,
                value: subclass.value.as_slice().into(),
                lease_limit: subclass.lease_limit,
                place: subclass.place,
                scope: self.scope(&subclass.body),
            };
            let id = self.builder.add_subclass(draft, self.problems);
            let mut inside = At { around, ..At::default() }.inside(Around::Class(class));
            inside = inside.inside(Around::Subclass(id));
            self.declarations(&subclass.body, &inside);
        }
    }

    fn hosts(&mut self) {
        for (host, around) in std::mem::take(&mut self.hosts) {
            let group = match &host.group {
                Some(name) => self.groups.get(name).copied(),
                None => self.group(around),
            };
            let (scope, places) = self.scope(&host.body);
            let mut keys = host.keys.clone();
            keys.extend(client_identifier(&host.body.entries, self.dhcp));
            if keys.is_empty() {
                let text = format!("nothing says which machine `{}` is", host.name);
                let help = "add hardware ethernet 52:54:00:12:34:56;";
                self.problems.warn(host.place, Fault::new(text, help));
            }
            let (keys, key_places) = keys.into_iter().unzip();
            let (ips, ip_places) = host.addresses.iter().copied().unzip();
            let model = Host { name: (&*host.name).into(), keys, ips, group, scope };
            let (place, line) = (host.place, host.body.line);
            let draft = HostDraft { host: model, place, key_places, ip_places, line, places };
            self.builder.add_host(draft, self.problems);
        }
    }

    /// The group of the model for the scopes around a host.
    fn group(&mut self, around: Vec<Around>) -> Option<GroupId> {
        match around.first() {
            None => return None,
            Some(&Around::Group(id)) => return Some(id),
            Some(_) => {}
        }
        if let Some(&made) = self.made.get(&around) {
            return Some(made);
        }
        let scope = Placed::default();
        let id = self.builder.add_group(None, around.clone(), scope, self.problems);
        self.made.insert(around, id);
        Some(id)
    }
}

fn addresses(range: &ast::Range) -> units::Range {
    units::Range::Span(range.first, range.last)
}

/// The permit of the model; nothing where it concerns nobody.
fn permit(who: ast::Who) -> Option<Permit> {
    Some(match who {
        ast::Who::All => Permit::All,
        ast::Who::Known => Permit::Known,
        ast::Who::Unknown => Permit::Unknown,
        ast::Who::Bootp => Permit::Bootp,
        ast::Who::Member(class) => Permit::Member(ClassId::from_index(class.0)),
        // Nobody is authenticated.
        ast::Who::Unauthenticated => Permit::All,
        ast::Who::Authenticated => return None,
        ast::Who::After(time) => Permit::After(u64::try_from(time).unwrap_or(0)),
    })
}

/// A client identifier among a host's options identifies it.
pub(super) fn client_identifier(entries: &[Entry], dhcp: SpaceNumber) -> Option<(HostKey, Place)> {
    entries.iter().rev().find_map(|entry| match &entry.what {
        What::Option { space, code: 61, value: Value::Bytes(bytes) } if *space == dhcp => {
            Some((HostKey::ClientId(bytes.as_slice().into()), entry.place))
        }
        _ => None,
    })
}

/// Where dhcpd keeps its leases.
pub(super) fn lease_file(root: &Body) -> PathBuf {
    let named = last(&root.entries, "lease-file-name");
    let named = named.map(|(bytes, _)| PathBuf::from(OsStr::from_bytes(bytes)));
    named.unwrap_or_else(|| PathBuf::from("/var/lib/dhcp/dhcpd.leases"))
}

/// Where OMAPI is spoken. dhcpd lets everybody change hosts who reaches it and where no key is
/// named; here that is who is on this host.
pub(super) fn omapi(
    root: &Body,
    keys: &HashMap<String, Option<OmapiKey>>,
    problems: &mut Problems,
) -> Option<Omapi> {
    let named = last(&root.entries, "omapi-key");
    let key = named.map(|(name, place)| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        match keys.get(&name) {
            Some(Some(key)) => Some(key.clone()),
            Some(None) => {
                let text = format!("OMAPI cannot sign with key `{name}`");
                let help = "an algorithm is one of hmac-md5 to hmac-sha512, a secret is base 64: \
                            tsig-keygen -a hmac-sha256 omapi prints a key";
                problems.error(place, Fault::new(text, help));
                None
            }
            None => {
                let help = "write it before: key NAME { algorithm hmac-md5; secret ...; }";
                problems.error(place, Fault::new(format!("there is no key `{name}`"), help));
                None
            }
        }
    });
    let (port, place) = constant(&root.entries, "omapi-port")?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let address = match key {
        Some(_) => Ipv4Addr::UNSPECIFIED,
        None => {
            let text = "OMAPI without a key is spoken on 127.0.0.1 alone";
            let help = "whoever reaches it may change hosts: add omapi-key, and a key";
            problems.warn(place, Fault::new(text, help));
            Ipv4Addr::LOCALHOST
        }
    };
    Some(Omapi { address: SocketAddr::new(IpAddr::V4(address), port), key: key.flatten() })
}

/// The value that a parameter has at last in a scope, and where.
fn last<'e>(entries: &'e [Entry], name: &str) -> Option<(&'e [u8], Place)> {
    entries.iter().rev().find_map(|entry| match &entry.what {
        What::Parameter { row, value: Value::Bytes(bytes) } if row.name == name => {
            Some((bytes.as_slice(), entry.place))
        }
        _ => None,
    })
}

/// The number that a parameter has at last in a scope, and where.
fn constant(entries: &[Entry], name: &str) -> Option<(u64, Place)> {
    let (bytes, place) = last(entries, name)?;
    Some((bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)), place))
}
