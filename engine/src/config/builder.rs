//! Putting the model together: names become ids, lists are sorted, and what contradicts itself is
//! told with both places. Front ends for other syntaxes fill the same builder.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;

use super::hosts::Pushed;
use super::problem::{Fault, Problems};
use super::scope_reader::ScopePlaces;
use super::source::Place;
use super::tree::Node;
use super::units::{self, Range};
use super::{
    Class, ClassId, Dhcp, Group, GroupId, Host, Hosts, LeaseTime, Line, Permit, Prefix, Scope,
    ScopeId, Settings, Subclass, SubclassId, schema,
};

/// A scope and where its parts stand.
pub(super) type Placed = (Scope, ScopePlaces);

/// A scope that others stand in, by what does not change while the model is put together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Around {
    Group(GroupId),
    /// By its name.
    Network(String),
    Subnet(Prefix),
    /// By its first address.
    Pool(Ipv4Addr),
    Class(ClassId),
    Subclass(SubclassId),
}

/// A shared network as it was read.
#[derive(Debug, Default)]
pub(super) struct NetworkDraft {
    /// The groups that it stands in, the innermost first.
    pub(super) groups: Vec<GroupId>,
    pub(super) scope: Placed,
}

/// A subnet as it was read.
#[derive(Debug)]
pub(super) struct SubnetDraft {
    pub(super) prefix: Prefix,
    pub(super) place: Place,
    pub(super) network: Option<(String, Place)>,
    pub(super) pools: Vec<PoolDraft>,
    /// The groups that it stands in inside its network, the innermost first.
    pub(super) groups: Vec<GroupId>,
    pub(super) scope: Placed,
}

/// A pool as it was read.
#[derive(Clone, Debug)]
pub(super) struct PoolDraft {
    pub(super) range: Range,
    pub(super) place: Place,
    /// Where the pool stands that it is a range of: one for all of its ranges.
    pub(super) declared: Place,
    pub(super) allow: Vec<Permit>,
    pub(super) deny: Vec<Permit>,
    pub(super) class: Option<ClassId>,
    /// The groups that it stands in inside its subnet, the innermost first.
    pub(super) groups: Vec<GroupId>,
    pub(super) scope: Placed,
}

impl PoolDraft {
    /// A pool that says nothing but its addresses.
    pub(super) fn plain(range: Range, place: Place) -> Self {
        let (allow, deny, groups) = (Vec::new(), Vec::new(), Vec::new());
        let (declared, scope) = (place, Placed::default());
        Self { range, place, declared, allow, deny, class: None, groups, scope }
    }
}

/// A host as it was read.
#[derive(Debug)]
pub(super) struct HostDraft {
    pub(super) host: Host,
    /// The place of its name.
    pub(super) place: Place,
    /// The places of `host.keys`.
    pub(super) key_places: Vec<Place>,
    /// The places of `host.ips`.
    pub(super) ip_places: Vec<Place>,
    /// Where it begins, for the model.
    pub(super) line: Option<Line>,
    pub(super) places: ScopePlaces,
}

/// A subclass as it was read.
#[derive(Debug)]
pub(super) struct SubclassDraft {
    pub(super) class: ClassId,
    pub(super) value: Box<[u8]>,
    pub(super) lease_limit: Option<u32>,
    /// The place of its value.
    pub(super) place: Place,
    pub(super) scope: Placed,
}

/// Where the parts of all hosts stand, in the order of [`super::Hosts`].
#[derive(Debug, Default)]
pub(super) struct HostPlaces {
    /// One for each host.
    names: Vec<Place>,
    /// One for each key.
    pub(super) keys: Vec<Place>,
    /// One for each address.
    pub(super) ips: Vec<Place>,
}

impl HostPlaces {
    /// Where an address is reserved.
    pub(super) fn of_ip(&self, hosts: &Hosts, ip: Ipv4Addr) -> Option<Place> {
        self.ips.get(hosts.ip_position(ip)?).copied()
    }
}

/// A boot file that this server has to have, to be looked for on disk.
#[derive(Debug)]
pub(super) struct WantedFile {
    pub(super) file: Box<[u8]>,
    pub(super) place: Place,
}

/// What the configuration expects of the host that the server runs on.
#[derive(Debug, Default)]
pub(super) struct HostNeeds {
    /// See [`Dhcp::is_as_dhcpd`].
    pub(super) as_dhcpd: bool,
    pub(super) files: Vec<WantedFile>,
    /// Every `server-identifier`.
    pub(super) identifiers: Vec<(Ipv4Addr, Place)>,
    pub(super) hosts: HostPlaces,
}

/// A model that is being put together.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// What needs no second look: settings, global scope, classes, groups.
    pub(super) dhcp: Dhcp,
    pub(super) subnets: Vec<SubnetDraft>,
    /// Every `[[dhcp.shared-network]]`.
    pub(super) networks: HashMap<String, (Place, NetworkDraft)>,
    pub(super) wanted: HostNeeds,
    /// A subnet was not understood, so nobody can say which addresses are in none.
    pub(super) lacks_subnet: bool,
    /// Around each class, the innermost first.
    pub(super) around_classes: Vec<Vec<Around>>,
    /// Around each group, likewise.
    pub(super) around_groups: Vec<Vec<Around>>,
    groups: HashMap<String, (GroupId, Place)>,
    /// Where the subclasses are.
    subclasses: HashMap<SubclassId, Place>,
}

impl Builder {
    /// Whether hosts and subclasses that contradict each other or the subnets are warned of only,
    /// for the server whose rules hold takes them.
    pub(super) fn is_tolerant(&self) -> bool {
        self.dhcp.is_as_dhcpd()
    }

    /// A model with the groups of another one, which hosts may name.
    pub(super) fn for_hosts_of(dhcp: &Dhcp) -> Self {
        let place = Place { file: 0, start: 0, end: 0 };
        let named =
            |(number, group): (u32, &Group)| Some((group.name.clone()?, (GroupId(number), place)));
        let groups = (0..).zip(&dhcp.groups).filter_map(named).collect();
        let wanted = HostNeeds { as_dhcpd: dhcp.is_as_dhcpd(), ..HostNeeds::default() };
        Self { groups, wanted, ..Self::default() }
    }

    pub(super) fn set_global(&mut self, (scope, places): Placed, problems: &mut Problems) {
        self.wanted.as_dhcpd = self.dhcp.is_as_dhcpd();
        look_at((&scope, &places), &[], &mut self.wanted, problems);
        self.dhcp.global = scope;
        self.dhcp.places.add(ScopeId::Global, places.line, places.lines);
    }

    /// Adds a class that stands in the scopes `around` it, the innermost first.
    pub(super) fn add_class(
        &mut self,
        (class, places): (Class, ScopePlaces),
        around: Vec<Around>,
        problems: &mut Problems,
    ) -> ClassId {
        look_at((&class.scope, &places), &[&self.dhcp.global], &mut self.wanted, problems);
        let id = ClassId(u32::try_from(self.dhcp.classes.len()).unwrap_or(u32::MAX));
        self.dhcp.places.add(ScopeId::Class(id), places.line, places.lines);
        self.dhcp.classes.push(class);
        self.around_classes.push(around);
        id
    }

    /// Adds a subclass of a class that was added before. Its id is that of the first of that value.
    pub(super) fn add_subclass(
        &mut self,
        draft: SubclassDraft,
        problems: &mut Problems,
    ) -> SubclassId {
        let SubclassDraft { class, value, lease_limit, place, scope: (scope, places) } = draft;
        let wider = [&self.dhcp.class(class).scope, &self.dhcp.global];
        look_at((&scope, &places), &wider, &mut self.wanted, problems);
        let subclass = Subclass { class, value, scope, lease_limit };
        let id = self.dhcp.subclasses.add(subclass);
        let tolerant = self.is_tolerant();
        match self.subclasses.entry(id) {
            Entry::Occupied(first) => {
                let text =
                    format!("this subclass of `{}` is defined twice", self.dhcp.class(class).name);
                let fault = Fault::new(text, "join them: a value stands for one subclass");
                problems.conflict_or(tolerant, place, fault, (*first.get(), "first defined here"));
            }
            Entry::Vacant(new) => {
                new.insert(place);
                self.dhcp.places.add(ScopeId::Subclass(id), places.line, places.lines);
            }
        }
        id
    }

    pub(super) fn add_network(
        &mut self,
        (name, place): (String, Place),
        draft: NetworkDraft,
        problems: &mut Problems,
    ) {
        let (scope, places) = &draft.scope;
        look_at((scope, places), &[&self.dhcp.global], &mut self.wanted, problems);
        let what = format!("shared network `{name}`");
        if let Some((first, _)) = self.networks.insert(name, (place, draft)) {
            twice(&what, place, first, problems);
        }
    }

    pub(super) fn add_subnet(&mut self, draft: SubnetDraft, problems: &mut Problems) {
        let none = Scope::default();
        let network = draft.network.as_ref().and_then(|(name, _)| self.networks.get(name));
        let network = network.map_or(&none, |(_, draft)| &draft.scope.0);
        let (scope, places) = &draft.scope;
        let global = &self.dhcp.global;
        look_at((scope, places), &[network, global], &mut self.wanted, problems);
        for pool in &draft.pools {
            let wider = [scope, network, global];
            look_at((&pool.scope.0, &pool.scope.1), &wider, &mut self.wanted, problems);
        }
        self.subnets.push(draft);
    }

    /// Adds a group that stands in the scopes `around` it, the innermost first.
    ///
    /// A host that stands in a scope of another kind is a member of a group without name and
    /// values that stands there.
    pub(super) fn add_group(
        &mut self,
        name: Option<(String, Place)>,
        around: Vec<Around>,
        (scope, places): Placed,
        problems: &mut Problems,
    ) -> GroupId {
        look_at((&scope, &places), &[&self.dhcp.global], &mut self.wanted, problems);
        let id = GroupId(u32::try_from(self.dhcp.groups.len()).unwrap_or(u32::MAX));
        let (name, place) = name.unzip();
        if let (Some(name), Some(place)) = (&name, place)
            && let Some((_, first)) = self.groups.insert(name.clone(), (id, place))
        {
            twice(&format!("group `{name}`"), place, first, problems);
        }
        self.dhcp.places.add(ScopeId::Group(id), places.line, places.lines);
        self.dhcp.groups.push(Group { name, scope, within: Box::default() });
        self.around_groups.push(around);
        id
    }

    /// A group by its name.
    pub(super) fn group_named(&self, node: &Node) -> Result<GroupId, Fault> {
        let name = units::text(node)?;
        self.groups.get(name).map(|&(id, _)| id).ok_or_else(|| Fault {
            message: format!("names a group, and there is no group `{name}`"),
            help: Some(match schema::nearest(name, self.groups.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [[dhcp.group]] with name = \"{name}\""),
            }),
        })
    }

    /// Looks at a host that may be added to a model.
    pub(super) fn look_at_host(&mut self, draft: &HostDraft, dhcp: &Dhcp, problems: &mut Problems) {
        look_at_host(draft, dhcp, &mut self.wanted, problems);
    }

    pub(super) fn add_host(&mut self, draft: HostDraft, problems: &mut Problems) {
        look_at_host(&draft, &self.dhcp, &mut self.wanted, problems);
        let HostDraft { host, place, key_places, ip_places, line, .. } = draft;
        let places = &mut self.wanted.hosts;
        if let Some(first) = self.dhcp.host_by_name(&host.name) {
            let first = places.names.get(first.index()).copied().unwrap_or(place);
            twice(&format!("host `{}`", host.name), place, first, problems);
        }
        let Pushed { id, left_out } = self.dhcp.hosts.push(host);
        if let Some(&place) = left_out.and_then(|number| key_places.get(number)) {
            let text = "hosts are found by too many different options";
            problems.error(place, Fault::new(text, "255 is the most"));
        }
        places.names.push(place);
        places.keys.extend(key_places);
        places.ips.extend(ip_places);
        self.dhcp.places.add_host(id, line);
    }
}

fn look_at_host(draft: &HostDraft, dhcp: &Dhcp, wanted: &mut HostNeeds, problems: &mut Problems) {
    let none = Scope::default();
    let group = draft.host.group.map_or(&none, |id| &dhcp.group(id).scope);
    look_at((&draft.host.scope, &draft.places), &[group, &dhcp.global], wanted, problems);
}

/// Looks at a scope once. `wider` are the scopes around it, the narrowest first, as far as they are
/// certain: whoever is in a subnet is in its network, but the members of a class may be anywhere.
fn look_at(
    (scope, places): (&Scope, &ScopePlaces),
    wider: &[&Scope],
    wanted: &mut HostNeeds,
    problems: &mut Problems,
) {
    // ISC dhcpd takes what contradicts itself here, and cuts the one by the other.
    if !wanted.as_dhcpd {
        lease_times(scope, places, wider, problems);
    }
    let settings = scope.settings();
    wanted.identifiers.extend(settings.server_identifier.zip(places.server_identifier));
    wanted.identifiers.extend_from_slice(&places.inside.identifiers);
    let mut chain = std::iter::once(scope).chain(wider.iter().copied());
    if chain.any(|scope| scope.settings().next_server.is_some()) {
        return;
    }
    let inside = places.inside.files.iter().map(|(file, place)| (&**file, *place));
    let files = inside.chain(places.files(settings));
    wanted.files.extend(files.map(|(file, place)| WantedFile { file: file.into(), place }));
}

/// The least lease time is not above the most, and the usual one lies between them.
fn lease_times(scope: &Scope, places: &ScopePlaces, wider: &[&Scope], problems: &mut Problems) {
    let places = [places.lease_time, places.min_lease_time, places.max_lease_time];
    let Some(place) = places.into_iter().flatten().max() else { return };
    let first = |get: fn(&Settings) -> Option<LeaseTime>| {
        let mut chain = std::iter::once(scope).chain(wider.iter().copied());
        chain.find_map(|scope| get(scope.settings()))
    };
    let usual = first(|settings| settings.lease_time).unwrap_or(Dhcp::DEFAULT_LEASE_TIME);
    let least = first(|settings| settings.min_lease_time).unwrap_or(usual);
    let most = first(|settings| settings.max_lease_time).unwrap_or(usual);
    let text = if least > most {
        "min-lease-time is longer than max-lease-time"
    } else if usual > most {
        "lease-time is longer than max-lease-time"
    } else if usual < least {
        "lease-time is shorter than min-lease-time"
    } else {
        return;
    };
    let help = format!(
        "here they are: min {}, usual {}, max {} seconds; what a scope leaves out it takes from \
         those around it, and min and max are the usual time unless they are set",
        least.seconds(),
        usual.seconds(),
        most.seconds()
    );
    problems.error(place, Fault::new(text, help));
}

/// A name stands for two things.
pub(super) fn twice(what: &str, place: Place, first: Place, problems: &mut Problems) {
    let fault = Fault::new(format!("{what} is defined twice"), "give one of them another name");
    problems.conflict(place, fault, first, "first defined here");
}
