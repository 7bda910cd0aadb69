//! Known machines, kept small: a site has a million of them, and a reload holds them twice.
//!
//! What all hosts have stands in lists of their own, one behind the other in the order of the
//! hosts, and each host says where its part ends. What a host says of itself stands in a list as
//! well, once for all hosts that say the same. The hash tables hold places in these lists and no
//! keys. A look-up allocates nothing.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::sync::Arc;

use bootstorm_protocols::dhcpv4::options;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{GroupId, Host, HostId, HostIds, HostKey, OptionPath, Scope};

/// So many bytes of a key need no memory of their own.
const INLINE: usize = 22;

/// Every `[[dhcp.host]]`.
#[derive(Debug, Default)]
pub struct Hosts {
    list: Vec<Stored>,
    keys: Vec<Key>,
    ips: Vec<Ipv4Addr>,
    /// No two are equal, and none is empty.
    scopes: Vec<Scope>,
    /// An empty one.
    none: Scope,
    /// Seeded anew for each model.
    hasher: RandomState,
    by_name: HashTable<HostId>,
    by_ip: HashTable<(Ipv4Addr, HostId)>,
    /// The first place of every key in `keys`.
    by_key: HashTable<u32>,
    /// Hosts with a common key, by the first place of that key.
    several: HashMap<u32, Vec<HostId>>,
    /// Every scope, until [`Hosts::finish`].
    by_scope: HashTable<ScopeNumber>,
    /// How many keys there are of each kind, by [`Kind::number`].
    kinds: [u32; Kind::NUMBERS],
    /// The options that hosts are found by, in the order in which they are first named. A
    /// circuit-id, and a remote-id that stands alone, are among them.
    options: Vec<OptionPath>,
}

/// A place in [`Hosts::scopes`], counted from 1.
type ScopeNumber = NonZero<u32>;

/// One host. Its keys and addresses begin where those of the host before it end.
#[derive(Debug)]
struct Stored {
    name: Arc<str>,
    scope: Option<ScopeNumber>,
    group: Option<GroupId>,
    keys_end: u32,
    ips_end: u32,
}

/// What a key is compared with.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Hardware,
    Uuid,
    ClientId,
    /// A circuit-id, from any switch.
    Circuit,
    /// A circuit-id; the remote-id that must match as well is the next key.
    CircuitAtSwitch,
    /// A remote-id, on any port.
    Remote,
    /// The remote-id of the key before it; not in the hash table.
    Switch,
    /// An option, by its place in [`Hosts::options`].
    Option(u8),
}

/// Hosts are found by so many options at most.
const MOST_OPTIONS: usize = u8::MAX as usize;

/// What became of a host that was added.
pub(super) struct Pushed {
    pub(super) id: HostId,
    /// The first of its keys that hosts cannot be found by: it is of one option too many.
    pub(super) left_out: Option<usize>,
}

impl Kind {
    const NUMBERS: usize = 8;

    /// Tells the kinds apart, but not one option from another.
    fn number(self) -> usize {
        match self {
            Self::Hardware => 0,
            Self::Uuid => 1,
            Self::ClientId => 2,
            Self::Circuit => 3,
            Self::CircuitAtSwitch => 4,
            Self::Remote => 5,
            Self::Switch => 6,
            Self::Option(_) => 7,
        }
    }

    /// The kind under which a key is looked up: a circuit-id is found whatever its switch.
    fn index(self) -> Option<Self> {
        match self {
            Self::CircuitAtSwitch => Some(Self::Circuit),
            Self::Switch => None,
            kind => Some(kind),
        }
    }
}

#[derive(Debug)]
struct Key {
    bytes: KeyBytes,
    host: HostId,
    kind: Kind,
    /// Whether [`Hosts::several`] has more hosts for it.
    shared: bool,
}

#[derive(Debug)]
enum KeyBytes {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl KeyBytes {
    fn new(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Boxed(key.into()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

/// Beyond so many keys or addresses a host would have those of others.
fn place(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Hosts {
    /// Adds a host; later ones of the same name or address are not found by it. A key of an option
    /// for which there is [no room](Pushed::left_out) is left out.
    pub(super) fn push(&mut self, host: Host) -> Pushed {
        let id = HostId(place(self.list.len()));
        let mut left_out = None;
        for (number, key) in host.keys.into_iter().enumerate() {
            if !self.push_host_key(id, key) {
                left_out = left_out.or(Some(number));
            }
        }
        for ip in host.ips {
            self.ips.push(ip);
            if self.by_ip(ip).is_none() {
                let hasher = &self.hasher;
                let hash = |&(ip, _): &_| hasher.hash_one::<Ipv4Addr>(ip);
                self.by_ip.insert_unique(hash(&(ip, id)), (ip, id), hash);
            }
        }
        let (keys_end, ips_end) = (place(self.keys.len()), place(self.ips.len()));
        let scope = self.scope_number(host.scope);
        let new = self.by_name(&host.name).is_none();
        self.list.push(Stored { name: host.name, scope, group: host.group, keys_end, ips_end });
        if new {
            let (list, hasher) = (&self.list, &self.hasher);
            let hash = |id: &HostId| hasher.hash_one(&*list[id.index()].name);
            self.by_name.insert_unique(hash(&id), id, hash);
        }
        Pushed { id, left_out }
    }

    /// Adds a key of a host, unless it is one of an option for which there is no room.
    #[must_use]
    fn push_host_key(&mut self, id: HostId, key: HostKey) -> bool {
        let option = match &key {
            HostKey::Circuit { circuit_id: Some(_), .. } => Some(OptionPath::CIRCUIT_ID),
            HostKey::Circuit { remote_id: Some(_), .. } => Some(OptionPath::REMOTE_ID),
            HostKey::Option { path, .. } => Some(*path),
            _ => None,
        };
        let place = option.map(|path| self.note_option(path));
        if place == Some(None) {
            return false;
        }
        match key {
            HostKey::Hardware(bytes) => self.push_key(id, Kind::Hardware, &bytes),
            HostKey::Uuid(bytes) => self.push_key(id, Kind::Uuid, &bytes),
            HostKey::ClientId(bytes) => self.push_key(id, Kind::ClientId, &bytes),
            HostKey::Circuit { circuit_id: Some(port), remote_id: Some(switch) } => {
                self.push_key(id, Kind::CircuitAtSwitch, &port);
                self.push_key(id, Kind::Switch, &switch);
            }
            HostKey::Circuit { circuit_id: Some(port), remote_id: None } => {
                self.push_key(id, Kind::Circuit, &port);
            }
            HostKey::Circuit { circuit_id: None, remote_id: Some(switch) } => {
                self.push_key(id, Kind::Remote, &switch);
            }
            HostKey::Circuit { circuit_id: None, remote_id: None } => {}
            HostKey::Option { value, .. } => {
                let place = place.flatten();
                place.into_iter().for_each(|place| self.push_key(id, Kind::Option(place), &value));
            }
        }
        true
    }

    /// The place of an option that hosts are found by.
    fn place_of(&self, path: OptionPath) -> Option<u8> {
        let place = self.options.iter().position(|known| *known == path)?;
        u8::try_from(place).ok()
    }

    /// The same; it is added unless it is there. `None`: there are too many.
    fn note_option(&mut self, path: OptionPath) -> Option<u8> {
        let place = self.place_of(path);
        if place.is_some() || self.options.len() >= MOST_OPTIONS {
            return place;
        }
        self.options.push(path);
        u8::try_from(self.options.len() - 1).ok()
    }

    /// The number of a scope, which is added unless it is there; `None` for an empty one.
    fn scope_number(&mut self, scope: Scope) -> Option<ScopeNumber> {
        if scope == Scope::default() {
            return None;
        }
        let hash = self.hasher.hash_one(&scope);
        let same = |&number: &_| self.scope(number) == Some(&scope);
        if let Some(&known) = self.by_scope.find(hash, same) {
            return Some(known);
        }
        self.scopes.push(scope);
        let number = NonZero::new(place(self.scopes.len()))?;
        let (scopes, hasher) = (&self.scopes, &self.hasher);
        let rehash = |number: &ScopeNumber| hasher.hash_one(&scopes[number.get() as usize - 1]);
        self.by_scope.insert_unique(hash, number, rehash);
        Some(number)
    }

    /// What a host says that says nothing.
    pub(super) fn no_scope(&self) -> &Scope {
        &self.none
    }

    fn scope(&self, number: ScopeNumber) -> Option<&Scope> {
        self.scopes.get(number.get() as usize - 1)
    }

    fn push_key(&mut self, host: HostId, kind: Kind, bytes: &[u8]) {
        let at = place(self.keys.len());
        self.keys.push(Key { bytes: KeyBytes::new(bytes), host, kind, shared: false });
        let Some(kind) = kind.index() else { return };
        self.kinds[kind.number()] += 1;
        if let Some(first) = self.first(kind, bytes) {
            let first_key = &mut self.keys[first as usize];
            first_key.shared = true;
            let one = first_key.host;
            self.several.entry(first).or_insert_with(|| vec![one]).push(host);
            return;
        }
        let (keys, hasher) = (&self.keys, &self.hasher);
        let hash = |&at: &u32| {
            let key = &keys[at as usize];
            hasher.hash_one((key.kind.index(), key.bytes.as_slice()))
        };
        self.by_key.insert_unique(hash(&at), at, hash);
    }

    /// Whether any host has a key of a kind.
    fn any(&self, kind: Kind) -> bool {
        self.kinds[kind.number()] > 0
    }

    /// The first place of a key.
    fn first(&self, kind: Kind, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((Some(kind), bytes));
        let same = |&at: &u32| {
            let key = &self.keys[at as usize];
            key.kind.index() == Some(kind) && key.bytes.as_slice() == bytes
        };
        self.by_key.find(hash, same).copied()
    }

    #[inline]
    fn with_key(&self, kind: Kind, bytes: &[u8]) -> HostIds<'_> {
        if self.any(kind) { self.with_key_of_some(kind, bytes) } else { &[] }
    }

    fn with_key_of_some(&self, kind: Kind, bytes: &[u8]) -> HostIds<'_> {
        let Some(first) = self.first(kind, bytes) else { return &[] };
        let key = &self.keys[first as usize];
        match self.several.get(&first).filter(|_| key.shared) {
            Some(ids) => ids,
            None => std::slice::from_ref(&key.host),
        }
    }

    /// Gives back what is not needed once every host is here.
    pub(super) fn finish(&mut self) {
        self.list.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.ips.shrink_to_fit();
        self.scopes.shrink_to_fit();
        self.by_scope = HashTable::new();
    }

    /// The same hosts but for those from a place on: of them some are taken out, and others put
    /// in. Both have rising names. `None` if hosts are found by too many options then.
    pub(super) fn changed(
        &self,
        first: usize,
        removed: &HashSet<&str>,
        added: Vec<Host>,
    ) -> Option<Self> {
        let stay = |host: &HostView<'_>| !removed.contains(&**host.name());
        let mut all = self.with_room(added.len());
        let mut added = added.into_iter().peekable();
        let mut push = |host| all.push(host).left_out.is_none();
        for host in self.iter().enumerate().filter(|(at, host)| *at < first || stay(host)) {
            let (at, host) = host;
            while at >= first
                && let Some(new) = added.next_if(|new| *new.name < **host.name())
            {
                push(new).then_some(())?;
            }
            push(host.to_owned()).then_some(())?;
        }
        added.all(push).then_some(())?;
        all.finish();
        Some(all)
    }

    /// None, with room for as many as these and some more.
    fn with_room(&self, more: usize) -> Self {
        Self {
            list: Vec::with_capacity(self.list.len() + more),
            keys: Vec::with_capacity(self.keys.len() + more),
            ips: Vec::with_capacity(self.ips.len() + more),
            by_name: HashTable::with_capacity(self.by_name.len() + more),
            by_ip: HashTable::with_capacity(self.by_ip.len() + more),
            by_key: HashTable::with_capacity(self.by_key.len() + more),
            ..Self::default()
        }
    }

    /// What hosts say, once where several say the same.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = HostView<'_>> {
        (0..self.list.len()).map(|index| HostView { hosts: self, index })
    }

    /// Whether any of them is found by a UUID.
    pub(crate) fn have_uuids(&self) -> bool {
        self.any(Kind::Uuid)
    }

    /// Whether any of them is found by the port that its relay agent says.
    pub(super) fn name_ports(&self) -> bool {
        self.options.iter().any(|path| path.code == options::RELAY_AGENT_INFORMATION)
    }

    /// Every reserved address, in the order of the configuration.
    pub fn ips(&self) -> &[Ipv4Addr] {
        &self.ips
    }

    /// The host of a place in the list; panics beyond its end.
    pub(super) fn get(&self, id: HostId) -> HostView<'_> {
        HostView { hosts: self, index: id.index() }
    }

    /// The first host that has the address.
    pub(super) fn by_ip(&self, ip: Ipv4Addr) -> Option<HostId> {
        let hash = self.hasher.hash_one(ip);
        self.by_ip.find(hash, |&(other, _)| other == ip).map(|&(_, id)| id)
    }

    /// The first host of that name.
    pub(super) fn by_name(&self, name: &str) -> Option<HostId> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |id| &*self.list[id.index()].name == name).copied()
    }

    pub(super) fn by_hardware(&self, chaddr: &[u8]) -> HostIds<'_> {
        self.with_key(Kind::Hardware, chaddr)
    }

    pub(super) fn by_uuid(&self, uuid: &[u8; 16]) -> HostIds<'_> {
        self.with_key(Kind::Uuid, uuid)
    }

    pub(super) fn by_client_id(&self, client_id: &[u8]) -> HostIds<'_> {
        self.with_key(Kind::ClientId, client_id)
    }

    /// Hosts with that circuit-id, whatever switch they ask for.
    pub(super) fn by_circuit_id(&self, circuit_id: &[u8]) -> HostIds<'_> {
        self.with_key(Kind::Circuit, circuit_id)
    }

    /// Hosts with that remote-id and no circuit-id.
    pub(super) fn by_remote_id(&self, remote_id: &[u8]) -> HostIds<'_> {
        self.with_key(Kind::Remote, remote_id)
    }

    /// The options that hosts are found by, each with its place; those first that are named last.
    pub(crate) fn options(&self) -> impl Iterator<Item = (u8, OptionPath)> {
        // Counted from the options: a longer range is walked down to them from its end.
        let numbered = self.options.iter().enumerate().rev();
        numbered.filter_map(|(place, &path)| Some((u8::try_from(place).ok()?, path)))
    }

    /// Hosts that are found by a value of the option at a place of [`Hosts::options`].
    pub(crate) fn by_option(&self, place: u8, value: &[u8]) -> HostIds<'_> {
        self.with_key(Kind::Option(place), value)
    }

    /// Whether several hosts are found by this key.
    pub(super) fn is_shared(&self, key: HostKey<&[u8]>) -> bool {
        self.with_same_key(&key).len() > 1
    }

    /// The hosts that are found by this key.
    pub(super) fn with_same_key<B: AsRef<[u8]>>(&self, key: &HostKey<B>) -> HostIds<'_> {
        match key {
            HostKey::Hardware(bytes) => self.by_hardware(bytes.as_ref()),
            HostKey::Uuid(uuid) => self.by_uuid(uuid),
            HostKey::ClientId(bytes) => self.by_client_id(bytes.as_ref()),
            HostKey::Circuit { circuit_id: Some(bytes), .. } => self.by_circuit_id(bytes.as_ref()),
            HostKey::Circuit { circuit_id: None, remote_id: Some(bytes) } => {
                self.by_remote_id(bytes.as_ref())
            }
            HostKey::Circuit { circuit_id: None, remote_id: None } => &[],
            HostKey::Option { path, value } => match self.place_of(*path) {
                Some(place) => self.by_option(place, value.as_ref()),
                None => &[],
            },
        }
    }

    /// Where the first host with the address has it in [`Hosts::ips`].
    pub(super) fn ip_position(&self, ip: Ipv4Addr) -> Option<usize> {
        let host = self.get(self.by_ip(ip)?);
        let position = host.ips().iter().position(|&own| own == ip)?;
        Some(host.ips_start() + position)
    }

    fn keys_of(&self, index: usize) -> &[Key] {
        let start = index.checked_sub(1).map_or(0, |before| self.list[before].keys_end);
        &self.keys[start as usize..self.list[index].keys_end as usize]
    }
}

impl HostKey {
    /// A value of an option.
    pub(super) fn of_option(path: OptionPath, value: Box<[u8]>) -> Self {
        match path {
            OptionPath::CIRCUIT_ID => Self::Circuit { circuit_id: Some(value), remote_id: None },
            OptionPath::REMOTE_ID => Self::Circuit { circuit_id: None, remote_id: Some(value) },
            path => Self::Option { path, value },
        }
    }
}

impl FromIterator<Host> for Hosts {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Self {
        let mut all = Self::default();
        for host in hosts {
            all.push(host);
        }
        all.finish();
        all
    }
}

/// `[[dhcp.host]]` in a model.
#[derive(Copy, Clone, Debug)]
pub struct HostView<'c> {
    hosts: &'c Hosts,
    index: usize,
}

impl<'c> HostView<'c> {
    fn stored(self) -> &'c Stored {
        &self.hosts.list[self.index]
    }

    /// Its name, unique.
    pub fn name(self) -> &'c Arc<str> {
        &self.stored().name
    }

    /// What identifies it; any one of them is enough.
    pub fn keys(self) -> impl Iterator<Item = HostKey<&'c [u8]>> {
        let keys = self.hosts.keys_of(self.index);
        let behind = keys.iter().skip(1).map(Some).chain([None]);
        keys.iter().zip(behind).filter_map(|(key, behind)| {
            let bytes = key.bytes.as_slice();
            let circuit = |circuit_id, remote_id| Some(HostKey::Circuit { circuit_id, remote_id });
            match key.kind {
                Kind::Hardware => Some(HostKey::Hardware(bytes)),
                Kind::Uuid => bytes.try_into().ok().map(HostKey::Uuid),
                Kind::ClientId => Some(HostKey::ClientId(bytes)),
                Kind::Circuit => circuit(Some(bytes), None),
                Kind::CircuitAtSwitch => {
                    circuit(Some(bytes), behind.map(|switch| switch.bytes.as_slice()))
                }
                Kind::Remote => circuit(None, Some(bytes)),
                Kind::Switch => None,
                Kind::Option(place) => {
                    let path = *self.hosts.options.get(usize::from(place))?;
                    Some(HostKey::Option { path, value: bytes })
                }
            }
        })
    }

    /// Its addresses, one for each network; none means that it takes one from a pool. Of several in
    /// one network the first is the host's, and the others are nobody's.
    pub fn ips(self) -> &'c [Ipv4Addr] {
        &self.hosts.ips[self.ips_start()..self.stored().ips_end as usize]
    }

    fn ips_start(self) -> usize {
        self.index.checked_sub(1).map_or(0, |before| self.hosts.list[before].ips_end as usize)
    }

    /// The host as one that is not of a model.
    fn to_owned(self) -> Host {
        let boxed = |bytes: Option<&[u8]>| bytes.map(Box::from);
        let keys = self.keys().map(|key| match key {
            HostKey::Hardware(bytes) => HostKey::Hardware(bytes.into()),
            HostKey::Uuid(uuid) => HostKey::Uuid(uuid),
            HostKey::ClientId(bytes) => HostKey::ClientId(bytes.into()),
            HostKey::Circuit { circuit_id, remote_id } => {
                let (circuit_id, remote_id) = (boxed(circuit_id), boxed(remote_id));
                HostKey::Circuit { circuit_id, remote_id }
            }
            HostKey::Option { path, value } => HostKey::Option { path, value: value.into() },
        });
        Host {
            name: Arc::clone(self.name()),
            keys: keys.collect(),
            ips: self.ips().to_vec(),
            group: self.group(),
            scope: self.scope().cloned().unwrap_or_default(),
        }
    }

    /// The group it belongs to.
    pub fn group(self) -> Option<GroupId> {
        self.stored().group
    }

    /// What holds for it; `None` where it says nothing but who it is.
    pub fn scope(self) -> Option<&'c Scope> {
        self.hosts.scope(self.stored().scope?)
    }
}
