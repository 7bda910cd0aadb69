//! Hosts that are added to a model that is in force, or taken out of it, without reading the rest
//! of the configuration again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use super::builder::{Builder, HostDraft};
use super::definitions::Definitions;
use super::fields::Fields;
use super::problem::Problems;
use super::scope_reader::Names;
use super::scope_spaces::SpaceValues;
use super::source::{Files, Place};
use super::tree::{Node, Table};
use super::{
    ClassId, Config, Dhcp, Host, HostId, HostKey, HostView, Hosts, ModelId, Scope, dhcp_reader,
    schema,
};

/// What a host may name of the options and classes that a configuration defines.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    pub(super) definitions: Definitions,
    pub(super) classes: HashMap<Box<str>, ClassId>,
    pub(super) spaces: BTreeMap<Box<str>, (SpaceValues, Place)>,
}

/// A change of live hosts.
#[derive(Copy, Clone, Debug)]
pub struct HostChange<'a> {
    /// How many live hosts there are before it.
    pub before: usize,
    /// Names of live hosts that are taken out, or are other ones from now on.
    pub removed: &'a HashSet<&'a str>,
    /// `[[dhcp.host]]` tables of those that are added, by rising name.
    pub added: &'a str,
    /// The file of live hosts.
    pub file: &'a Path,
    /// The addresses of this host.
    pub own: &'a [Ipv4Addr],
}

impl Config {
    /// The configuration after a change of live hosts. `None` if anything is to be said of it, good
    /// or bad: then the whole has to be read again, which says what, and where.
    pub fn with_hosts(&self, change: &HostChange<'_>) -> Option<Self> {
        // Statements are put together over the whole model.
        let has_statements = |name: &&str| {
            let host = self.dhcp.host_by_name(name).map(|id| self.dhcp.host(id));
            host.and_then(HostView::scope).is_some_and(Scope::is_dynamic)
        };
        if change.removed.iter().any(has_statements) {
            return None;
        }
        let hosts = self.read_hosts(change)?;
        let first = self.dhcp.hosts.len().checked_sub(change.before)?;
        let hosts = self.dhcp.hosts.changed(first, change.removed, hosts)?;
        let dhcp = self.dhcp.with(hosts)?;
        let mut sources = self.sources.clone();
        if !sources.iter().any(|source| source == change.file) {
            sources.push(change.file.to_owned());
        }
        Some(Self {
            server: self.server.clone(),
            dhcp,
            tftp: self.tftp.clone(),
            control: self.control.clone(),
            log: self.log.clone(),
            warnings: self.warnings.clone(),
            more_warnings: self.more_warnings,
            sources,
            host_names: self.host_names.clone(),
        })
    }

    /// The hosts that are added, if there is nothing to say of any.
    fn read_hosts(&self, change: &HostChange<'_>) -> Option<Vec<Host>> {
        let dhcp = &self.dhcp;
        let (mut files, mut problems) = (Files::default(), Problems::default());
        let file = files.add(change.file.to_owned(), change.added.to_owned(), None).ok()?;
        let table = Table::parse(change.added, file, &mut problems);
        let mut builder = Builder::for_hosts_of(dhcp);
        let names = Names::of(&dhcp.naming);
        let mut seen = Seen::default();
        let mut hosts = Vec::new();
        for node in nodes(table, file, &mut problems) {
            let mut fields = Fields::open(node, &schema::HOST, &mut problems)?;
            let draft =
                dhcp_reader::host(&mut fields, None, &names, &builder, &files, &mut problems)?;
            builder.look_at_host(&draft, dhcp, &mut problems);
            let HostDraft { host, .. } = draft;
            if !dhcp.fits(&host, change, &mut seen) {
                return None;
            }
            hosts.push(host);
        }
        let lacks_files = self.tftp.is_none() && !builder.wanted.files.is_empty();
        let names_servers = !builder.wanted.identifiers.is_empty();
        let good = problems.is_empty() && !lacks_files && !names_servers;
        (good && !names.names_ports.get()).then_some(hosts)
    }
}

/// The tables of hosts in a file of live hosts.
pub(super) fn nodes(table: Table, file: u32, problems: &mut Problems) -> Vec<Node> {
    let start = Place { file, start: 0, end: 0 };
    let dhcp = Fields::of(table, start, &schema::LIVE_HOSTS, problems).take("dhcp");
    let dhcp = dhcp.and_then(|dhcp| Fields::open(dhcp.node, &schema::LIVE_DHCP, problems));
    dhcp.map(|mut fields| fields.nodes("host")).unwrap_or_default()
}

/// What hosts of one change have.
#[derive(Default)]
struct Seen {
    ips: HashSet<Ipv4Addr>,
    keys: HashSet<HostKey>,
}

impl Dhcp {
    /// The same with other hosts; `None` if those name other addresses as another machine's: they
    /// may be reserved.
    fn with(&self, hosts: Hosts) -> Option<Self> {
        let mut dhcp = Self {
            global: self.global.clone(),
            networks: self.networks.clone(),
            subnets: self.subnets.clone(),
            pools: self.pools.clone(),
            declared_pools: self.declared_pools.clone(),
            address_map: self.address_map.clone(),
            classes: self.classes.clone(),
            class_index: self.class_index.clone(),
            subclasses: self.subclasses.clone(),
            groups: self.groups.clone(),
            hosts,
            excluded: self.excluded.clone(),
            server_identifiers: self.server_identifiers.clone(),
            places: self.places.clone(),
            spaces: self.spaces.clone(),
            blocks: self.blocks.clone(),
            variables: self.variables.clone(),
            naming: Arc::clone(&self.naming),
            id: ModelId::next(),
            ..*self
        };
        if dhcp.find_excluded() != self.excluded {
            return None;
        }
        dhcp.note_what_is_used();
        Some(dhcp)
    }

    /// Whether a host contradicts no other one, and has addresses that a machine can have.
    fn fits(&self, host: &Host, change: &HostChange<'_>, seen: &mut Seen) -> bool {
        let stays = |id: HostId| !change.removed.contains(&**self.host(id).name());
        if host.scope.is_dynamic() || self.host_by_name(&host.name).is_some_and(stays) {
            return false;
        }
        let mut networks = HashSet::new();
        for &ip in &host.ips {
            let Some(subnet) = self.subnet_of(ip).map(|id| self.subnet(id)) else { return false };
            let (least, most) = subnet.prefix.hosts();
            let free = !self.host_by_ip(ip).is_some_and(stays) && seen.ips.insert(ip);
            let usable = (least..=most).contains(&ip)
                && self.place_of(ip).excluded.is_none()
                && !change.own.contains(&ip);
            if !free || !usable || !networks.insert(subnet.network) {
                return false;
            }
        }
        host.keys.iter().all(|key| {
            !self.hosts.with_same_key(key).iter().copied().any(stays)
                && seen.keys.insert(key.clone())
        })
    }
}
