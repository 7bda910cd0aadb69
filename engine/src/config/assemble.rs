//! The second half of putting the model together: subnets, pools and hosts against each other.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use super::builder::{
    Around, Builder, HostNeeds, HostPlaces, NetworkDraft, PoolDraft, SubnetDraft,
};
use super::excluded::routers;
use super::problem::{Fault, Problems};
use super::scope_reader::ScopePlaces;
use super::source::Place;
use super::statement::{self, Action, Events, Statement};
use super::units::Range;
use super::{
    AddressMap, BlockKey, ClassIndex, Dhcp, HostKey, Network, NetworkId, Pool, PoolId, ScopeId,
    Subnet, SubnetId, Use, schema,
};

impl Builder {
    /// The model, and what it expects of this host. What is wrong is noted; the model is of use
    /// only if nothing was.
    pub(super) fn finish(self, problems: &mut Problems) -> (Dhcp, HostNeeds) {
        let tolerant = self.is_tolerant();
        let Self { mut dhcp, mut subnets, networks, wanted, lacks_subnet, .. } = self;
        let (around_classes, around_groups) = (self.around_classes, self.around_groups);
        // By network address, so that overlaps are between neighbours and lookups can bisect.
        subnets.sort_by_key(|draft| (draft.prefix, draft.place));
        overlapping_subnets(&subnets, tolerant, problems);
        let mut networks = Networks { tables: networks, ids: HashMap::new() };
        let mut pools: Vec<PlacedPool> = Vec::new();
        let mut subnet_places = Vec::new();
        for mut draft in subnets {
            let id = SubnetId(id(dhcp.subnets.len()));
            subnet_places.push(draft.place);
            warn_of_routers(&draft, problems);
            let drafts = std::mem::take(&mut draft.pools);
            for draft_pool in drafts {
                pools.extend(pool(draft_pool, id, &draft, problems));
            }
            let network = networks.id(draft.network.take(), &mut dhcp);
            dhcp.networks[network.index()].subnets.push(id);
            let (prefix, groups) = (draft.prefix, draft.groups.into());
            let (scope, places) = draft.scope;
            dhcp.places.add(ScopeId::Subnet(id), places.line, places.lines);
            let around = dhcp.search_subnet(prefix.network());
            let pools = Vec::new();
            dhcp.subnets.push(Subnet { network, prefix, around, scope, groups, pools });
        }
        networks.warn(&dhcp, problems);
        let pool_places = add_pools(&mut dhcp, pools, problems);
        find_first(&mut dhcp, &subnet_places, &pool_places);
        dhcp.excluded = dhcp.find_excluded();
        dhcp.address_map = AddressMap::new(&dhcp);
        for (index, around) in around_classes.into_iter().enumerate() {
            dhcp.classes[index].within = within(&dhcp, &networks, &around);
        }
        for (index, around) in around_groups.into_iter().enumerate() {
            dhcp.groups[index].within = within(&dhcp, &networks, &around);
        }
        dhcp.class_index = ClassIndex::new(&dhcp.classes);
        dhcp.hosts.finish();
        dhcp.places.finish();
        look_at_hosts(&dhcp, &wanted.hosts, (lacks_subnet, tolerant), problems);
        dhcp.note_what_is_used();
        dhcp.blocks = blocks(&dhcp);
        look_at_reservations(&dhcp, &wanted.hosts, tolerant, problems);
        dhcp.server_identifiers = wanted.identifiers.iter().map(|&(address, _)| address).collect();
        dhcp.server_identifiers.sort_unstable();
        dhcp.server_identifiers.dedup();
        (dhcp, wanted)
    }
}

/// What runs when leases end.
fn blocks(dhcp: &Dhcp) -> Vec<(BlockKey, Box<[Statement]>)> {
    let mut blocks = BTreeMap::new();
    for scope in dhcp.scopes() {
        statement::each(scope.statements(), &mut |statement| {
            if let Action::On(Events { commit: _, release, expiry }, block) = &statement.action
                && (*release || *expiry)
            {
                blocks.insert(block.key, block.statements.clone());
            }
        });
    }
    blocks.into_iter().collect()
}

/// A place in a list. Files of 4 GiB at most have been read, so lists are shorter than that.
fn id(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// An address is of one subnet. In a file of dhcpd's (`tolerant`) one may lie in another that
/// stands before it: of several that have an address dhcpd takes the one that was declared last.
fn overlapping_subnets(drafts: &[SubnetDraft], tolerant: bool, problems: &mut Problems) {
    // Sorted by network address, prefixes lie inside one another or apart.
    let mut around: Vec<&SubnetDraft> = Vec::new();
    for draft in drafts {
        around.retain(|other| other.prefix.overlaps(draft.prefix));
        for other in &around {
            let (outer, inner) = (other.prefix, draft.prefix);
            let (place, first) = (draft.place.max(other.place), draft.place.min(other.place));
            let mut ranges = other.pools.iter().map(|pool| (pool.range.ends(), pool.place));
            let within = ranges
                .find(|((low, high), _)| *low <= inner.broadcast() && *high >= inner.network());
            let (text, help) = match within {
                _ if !tolerant => (
                    format!("subnets {outer} and {inner} overlap"),
                    "an address belongs to one subnet: shorten one of them".to_owned(),
                ),
                _ if outer == inner => (
                    format!("subnet {outer} is declared twice"),
                    "dhcpd goes by the later one alone: make one of them".to_owned(),
                ),
                _ if place == other.place => (
                    format!("subnet {outer} hides {inner}, which stands before it"),
                    format!("dhcpd never uses {inner} then: move it behind, or remove it"),
                ),
                Some((_, range)) => {
                    let text = format!("this range of subnet {outer} is in subnet {inner}");
                    let fault = Fault::new(text, "move it to the subnet that its addresses are of");
                    problems.conflict(range, fault, draft.place, "the subnet");
                    continue;
                }
                None => {
                    let text = format!("subnet {inner} lies in subnet {outer}");
                    let help = "a machine with an address of both is in the narrower one";
                    problems.warn_of(place, Fault::new(text, help), first, "the other is here");
                    continue;
                }
            };
            problems.conflict(place, Fault::new(text, help), first, "the other is here");
        }
        around.push(draft);
    }
}

/// Shared networks while subnets are given to them.
#[derive(Debug)]
struct Networks {
    /// Every `[[dhcp.shared-network]]` that no subnet has named yet.
    tables: HashMap<String, (Place, NetworkDraft)>,
    /// Those that have an id, and where they are named first without having a table.
    ids: HashMap<String, (NetworkId, Option<Place>)>,
}

impl Networks {
    /// The network of a subnet: the one it names, or one of its own.
    fn id(&mut self, named: Option<(String, Place)>, dhcp: &mut Dhcp) -> NetworkId {
        let Dhcp { networks, places, .. } = dhcp;
        let new = NetworkId(id(networks.len()));
        let Some((name, place)) = named else {
            networks.push(Network::default());
            return new;
        };
        if let Some(&(known, _)) = self.ids.get(&name) {
            return known;
        }
        let table = self.tables.remove(&name);
        self.ids.insert(name.clone(), (new, table.is_none().then_some(place)));
        let NetworkDraft { groups, scope: (scope, own) } =
            table.map(|(_, draft)| draft).unwrap_or_default();
        places.add(ScopeId::Network(new), own.line, own.lines);
        let groups = groups.into();
        networks.push(Network { name: Some(name), scope, groups, ..Network::default() });
        new
    }

    /// Warns of names that look like slips.
    fn warn(&self, dhcp: &Dhcp, problems: &mut Problems) {
        for (name, (place, _)) in &self.tables {
            let text = format!("no subnet is in shared network `{name}`");
            let help = format!("write shared-network = \"{name}\" in its subnets");
            problems.warn(*place, Fault::new(text, help));
        }
        for (name, &(network, place)) in &self.ids {
            let lonely = dhcp.network(network).subnets.len() == 1;
            let Some(place) = place.filter(|_| lonely) else { continue };
            let others = self.tables.keys().chain(self.ids.keys()).filter(|other| *other != name);
            let text = format!("only one subnet is in shared network `{name}`");
            let help = match schema::nearest(name, others.map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a subnet that is alone on its link needs no shared network".to_owned(),
            };
            problems.warn(place, Fault::new(text, help));
        }
    }
}

/// The ids of the scopes around another; those that the model lacks are left out.
fn within(dhcp: &Dhcp, networks: &Networks, around: &[Around]) -> Box<[ScopeId]> {
    let id = |around: &Around| match around {
        Around::Group(id) => Some(ScopeId::Group(*id)),
        Around::Network(name) => networks.ids.get(name).map(|&(id, _)| ScopeId::Network(id)),
        Around::Subnet(prefix) => dhcp.subnet_of(prefix.network()).map(ScopeId::Subnet),
        Around::Pool(first) => dhcp.pool_of(*first).map(ScopeId::Pool),
        Around::Class(id) => Some(ScopeId::Class(*id)),
        Around::Subclass(id) => Some(ScopeId::Subclass(*id)),
    };
    around.iter().filter_map(id).collect()
}

/// A pool with its addresses, if there are any.
fn pool(
    draft: PoolDraft,
    subnet: SubnetId,
    around: &SubnetDraft,
    problems: &mut Problems,
) -> Option<PlacedPool> {
    let place = draft.place;
    let prefix = around.prefix;
    let (first, last) = draft.range.ends();
    if !prefix.contains(first) || !prefix.contains(last) {
        let outside = if prefix.contains(first) { last } else { first };
        let text = format!("{outside} is not in subnet {prefix}");
        let help = format!("the subnet has {} to {}", prefix.network(), prefix.broadcast());
        problems.conflict(place, Fault::new(text, help), around.place, "the subnet");
        return None;
    }
    let (least, most) = prefix.hosts();
    let range = (first.max(least), last.min(most));
    // Whoever writes a prefix means its hosts; who writes the address itself is told.
    if matches!(draft.range, Range::Span(..)) && range != (first, last) {
        let text = "no machine can have the first or the last address of a subnet";
        let help = format!("they are left out; write \"{}-{}\"", range.0, range.1);
        problems.warn(place, Fault::new(text, help));
    }
    if range.0 > range.1 {
        problems.error(place, Fault::plain("this pool has no address that a machine can have"));
        return None;
    }
    let PoolDraft { declared, allow, deny, class, groups, scope: (scope, places), .. } = draft;
    let groups = groups.into();
    let pool = Pool { declared: 0, subnet, range, scope, groups, allow, deny, class };
    Some(PlacedPool { pool, place, declared, places })
}

/// Warns of a router that its subnet does not reach.
fn warn_of_routers(draft: &SubnetDraft, problems: &mut Problems) {
    // On a shared network it may be in another subnet.
    let Some(place) = draft.scope.1.routers.filter(|_| draft.network.is_none()) else { return };
    if let Some(router) = routers(&draft.scope.0).find(|router| !draft.prefix.contains(*router)) {
        let text = format!("router {router} is not in subnet {}", draft.prefix);
        let fault = Fault::new(text, "machines reach only routers in their own subnet");
        problems.warn_of(place, fault, draft.place, "the subnet");
    }
}

/// One range of a pool.
struct PlacedPool {
    /// Not counted to a declared pool yet.
    pool: Pool,
    place: Place,
    /// Where the declared pool stands.
    declared: Place,
    places: ScopePlaces,
}

/// Adds the pools by rising address, and says where each was declared.
fn add_pools(dhcp: &mut Dhcp, mut pools: Vec<PlacedPool>, problems: &mut Problems) -> Vec<Place> {
    pools.sort_by_key(|placed| (placed.pool.range, placed.place));
    let all = pools.iter().map(|placed| placed.declared).collect();
    let mut declared_at: HashMap<Place, usize> = HashMap::new();
    let mut furthest: Option<(Ipv4Addr, Place)> = None;
    for PlacedPool { mut pool, place, declared, places } in pools {
        if let Some((_, other)) = furthest.filter(|&(last, _)| pool.range.0 <= last) {
            let text = "these pools overlap";
            let help = "an address belongs to one pool: begin the second behind the first";
            let (place, first) = (place.max(other), place.min(other));
            problems.conflict(place, Fault::new(text, help), first, "the other is here");
        }
        if furthest.is_none_or(|(last, _)| last < pool.range.1) {
            furthest = Some((pool.range.1, place));
        }
        let pool_id = PoolId(id(dhcp.pools.len()));
        dhcp.places.add(ScopeId::Pool(pool_id), places.line, places.lines);
        dhcp.subnets[pool.subnet.index()].pools.push(pool_id);
        pool.declared = *declared_at.entry(declared).or_insert(dhcp.declared_pools.len());
        match dhcp.declared_pools.get_mut(pool.declared) {
            Some(ranges) => ranges.push(pool_id),
            None => dhcp.declared_pools.push(vec![pool_id]),
        }
        dhcp.pools.push(pool);
    }
    all
}

/// Notes what of each network stands first in the configuration, by the places of all subnets and
/// of all pools.
fn find_first(dhcp: &mut Dhcp, subnet_places: &[Place], pool_places: &[Place]) {
    let Dhcp { networks, subnets, .. } = dhcp;
    for network in networks {
        let own = || network.subnets.iter().copied();
        let pools = own().flat_map(|id| subnets[id.index()].pools.iter().copied());
        let first_pool = pools.min_by_key(|id| pool_places.get(id.index()));
        network.first_subnet = own().min_by_key(|id| subnet_places.get(id.index()));
        network.first_pool = first_pool;
    }
}

/// Looks for hosts that contradict each other or the subnets.
fn look_at_hosts(
    dhcp: &Dhcp,
    places: &HostPlaces,
    (lacks_subnet, tolerant): (bool, bool),
    problems: &mut Problems,
) {
    let mut by_key: HashMap<(HostKey<&[u8]>, Option<NetworkId>), Place> = HashMap::new();
    let mut networks: Vec<Option<NetworkId>> = Vec::new();
    let mut key_places = places.keys.iter();
    let mut addresses = places.ips.iter().enumerate();
    for host in dhcp.hosts.iter() {
        networks.clear();
        for (&ip, (position, &place)) in host.ips().iter().zip(addresses.by_ref()) {
            let first = dhcp.hosts.ip_position(ip).filter(|first| *first != position);
            if let Some(&first) = first.and_then(|first| places.ips.get(first)) {
                let text = format!("two hosts have the address {ip}");
                let fault = Fault::new(text, "give one of them another");
                problems.conflict_or(tolerant, place, fault, (first, "the other is here"));
                continue;
            }
            let known = (&*networks, lacks_subnet);
            networks.extend(network_of(dhcp, (ip, place), known, tolerant, problems));
        }
        if host.ips().is_empty() {
            networks.push(None);
        }
        for (key, &place) in host.keys().zip(key_places.by_ref()) {
            if !dhcp.hosts.is_shared(key) {
                continue;
            }
            // A machine may stand in several networks, with a host for each; one without addresses
            // is for the networks that have none of their own.
            let mut told = false;
            for network in &networks {
                let first = *by_key.entry((key, *network)).or_insert(place);
                if first != place && !told {
                    told = true;
                    let text = "two hosts are the same machine in one network";
                    let help = "join them: a host may have several hardware addresses, and one ip \
                                in each network";
                    let fault = Fault::new(text, help);
                    problems.conflict_or(tolerant, place, fault, (first, "the other is here"));
                }
            }
        }
    }
}

/// A reservation of an address that something else has: for a router or boot server of its own it
/// is right, else a slip.
fn look_at_reservations(dhcp: &Dhcp, places: &HostPlaces, tolerant: bool, problems: &mut Problems) {
    for &(address, what) in &dhcp.excluded {
        let Some(place) = places.of_ip(&dhcp.hosts, address) else { continue };
        let text = format!("{address} is {} as well", what.name());
        match what {
            Use::Router | Use::NextServer => {
                let help = "right only if this host is that machine: nobody else gets the address";
                problems.warn(place, Fault::new(text, help));
            }
            Use::ServerIdentifier | Use::Broadcast => {
                problems.error_or(
                    tolerant,
                    place,
                    Fault::new(text, "give the host another address"),
                );
            }
        }
    }
}

/// Checks an address of a host, whose addresses before it are in `networks`, and says in which
/// network it is.
fn network_of(
    dhcp: &Dhcp,
    (ip, place): (Ipv4Addr, Place),
    (networks, lacks_subnet): (&[Option<NetworkId>], bool),
    tolerant: bool,
    problems: &mut Problems,
) -> Option<Option<NetworkId>> {
    let Some(subnet) = dhcp.subnet_of(ip).map(|id| dhcp.subnet(id)) else {
        if !lacks_subnet {
            let text = format!("{ip} is in no subnet");
            let help =
                format!("add [[dhcp.subnet]] with the subnet of {ip}, or correct the address");
            problems.error_or(tolerant, place, Fault::new(text, help));
        }
        return None;
    };
    let (least, most) = subnet.prefix.hosts();
    if !(least..=most).contains(&ip) {
        let text = format!("{ip} is the first or the last address of {}", subnet.prefix);
        let fault = Fault::new(text, format!("machines can have {least} to {most}"));
        problems.error_or(tolerant, place, fault);
    }
    if networks.contains(&Some(subnet.network)) {
        let text = "this host has two addresses in one network";
        let help = "it gets the first of them there, and nobody gets the others";
        problems.warn(place, Fault::new(text, help));
    }
    Some(Some(subnet.network))
}
