//! Reading `[dhcp]` and all that stands in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::builder::{
    self, Around, Builder, HostDraft, NetworkDraft, PoolDraft, SubclassDraft, SubnetDraft,
};
use super::definitions::Definitions;
use super::effect_reader::Variables;
use super::expression::Data;
use super::fields::Fields;
use super::live::Naming;
use super::problem::{Fault, Problems};
use super::rows::NotInRows;
use super::scope_reader::{Names, ScopePlaces};
use super::source::{Files, Place};
use super::tree::{Entry, Node, Value};
use super::{
    Class, ClassId, Compatibility, Dhcp, Flag, GroupId, Host, HostKey, Identity, Permit, Submatch,
};
use super::{expression, host_file, schema, scope_reader, units};

/// Reads the table into a builder.
///
/// `live` are hosts that stand in no file of the configuration.
pub(super) fn dhcp(
    node: Node,
    live: Vec<Node>,
    files: &mut Files,
    problems: &mut Problems,
) -> Result<Builder, NotInRows> {
    let mut builder = Builder::default();
    let Some(mut fields) = Fields::open(node, &schema::DHCP, problems) else { return Ok(builder) };
    settings(&mut fields, &mut builder.dhcp, problems);
    let mut definitions = Definitions::new(builder.dhcp.is_as_dhcpd());
    let tables = fields.tables("option-definition", &schema::OPTION_DEFINITION, problems);
    definitions.read(tables, problems);
    builder.dhcp.spaces = definitions.model();
    let mut names = Names::new(&definitions);
    spaces(&mut fields, &mut names, problems);

    // Classes are named by each other's neighbours, so their names come before what is in them.
    let classes = fields.tables("class", &schema::CLASS, problems);
    let classes = class_names(classes, &mut names, problems);
    let unknown = [("allow", true), ("ignore", false)];
    let unknown =
        fields.get_placed("unknown-clients", problems, |node| units::word(node, &unknown));
    let mut global = names.global_scope(&mut fields, files, problems);
    if let Some((booted, place)) = unknown {
        let flags = &mut global.0.settings_mut().flags;
        if flags.get(Flag::BootUnknownClients).is_some() {
            let text = "`unknown-clients` and `boot-unknown-clients` say the same";
            problems.error(place, Fault::new(text, "keep one of them"));
        }
        flags.set(Flag::BootUnknownClients, booted);
    }
    builder.set_global(global, problems);
    for (name, mut fields) in classes {
        let parts = fields.tables("subclass", &schema::SUBCLASS, problems);
        let class = class(name, &mut fields, &names, files, problems);
        let id = builder.add_class(class, Vec::new(), problems);
        for mut fields in parts {
            let value = fields.require("value", "\"rack1\"", problems, units::octets);
            let scope = names.scope(&mut fields, files, problems);
            let lease_limit = lease_limit(&mut fields, problems);
            let Some((value, place)) = value else { continue };
            let draft = SubclassDraft { class: id, value, lease_limit, place, scope };
            builder.add_subclass(draft, problems);
        }
    }
    for mut fields in fields.tables("shared-network", &schema::SHARED_NETWORK, problems) {
        let name = fields.require("name", "\"hall3\"", problems, name);
        let scope = names.scope(&mut fields, files, problems);
        if let Some(name) = name {
            let draft = NetworkDraft { groups: Vec::new(), scope };
            builder.add_network(name, draft, problems);
        }
    }
    for mut fields in fields.tables("subnet", &schema::SUBNET, problems) {
        let pools = fields.nodes("pools");
        let pools =
            pools.into_iter().flat_map(|node| pool(node, &names, files, problems)).collect();
        let prefix = fields.require("subnet", "\"10.1.0.0/16\"", problems, units::prefix);
        let network = fields.get_placed("shared-network", problems, name);
        let scope = names.scope(&mut fields, files, problems);
        builder.lacks_subnet |= prefix.is_none();
        if let Some((prefix, place)) = prefix {
            let groups = Vec::new();
            let draft = SubnetDraft { prefix, place, network, pools, groups, scope };
            builder.add_subnet(draft, problems);
        }
    }
    let mut hosts: Vec<(Node, Option<GroupId>)> = Vec::new();
    for fields in fields.tables("group", &schema::GROUP, problems) {
        group(fields, &[], &mut hosts, &names, &mut builder, files, problems);
    }
    hosts.extend(fields.nodes("host").into_iter().map(|host| (host, None)));
    add_hosts(hosts, &names, &mut builder, files, problems)?;
    for (path, place) in fields.list("host-file", problems, units::path) {
        let path = files.beside(place, &path);
        // The cells are texts: nothing of them is looked for in its file.
        let none = Files::default();
        host_file::read(path, place, files, problems, |node, problems| {
            add_host(node, None, &names, &mut builder, &none, problems);
        });
    }
    // Those behind all others can change while all others stay.
    let live = live.into_iter().map(|host| (host, None)).collect();
    add_hosts(live, &names, &mut builder, files, problems)?;
    builder.dhcp.asks_ports |= names.names_ports.get();
    let Names { classes, spaces, variables, .. } = names;
    builder.dhcp.variables = variables.into_inner().finish(problems);
    builder.dhcp.naming = Arc::new(Naming { definitions, classes, spaces });
    Ok(builder)
}

/// Adds hosts that stand in no file of the configuration, which is not of this language.
pub(super) fn add_live_hosts(
    hosts: Vec<Node>,
    definitions: Definitions,
    builder: &mut Builder,
    files: &mut Files,
    problems: &mut Problems,
) -> Result<(), NotInRows> {
    let mut names = Names::new(&definitions);
    let variables = std::mem::take(&mut builder.dhcp.variables);
    names.variables = RefCell::new(Variables::known(variables));
    let hosts = hosts.into_iter().map(|host| (host, None)).collect();
    add_hosts(hosts, &names, builder, files, problems)?;
    builder.dhcp.asks_ports |= names.names_ports.get();
    builder.dhcp.variables = names.variables.into_inner().finish(problems);
    builder.dhcp.naming = Arc::new(Naming { definitions, ..Naming::default() });
    Ok(())
}

/// Adds hosts, each with the group that it stands in.
fn add_hosts(
    hosts: Vec<(Node, Option<GroupId>)>,
    names: &Names<'_>,
    builder: &mut Builder,
    files: &mut Files,
    problems: &mut Problems,
) -> Result<(), NotInRows> {
    // The text of many hosts is large: it is gone before the model of them is.
    for (node, _) in &hosts {
        if let Value::Row(row) = &node.value {
            files.drop_text(row.file);
        }
    }
    let files = &*files;
    for (node, group) in hosts {
        match node.value {
            Value::Row(row) => {
                let Some(source) = files.get(row.file) else { continue };
                row.read(source, problems, |node, problems| {
                    add_host(node, group, names, builder, files, problems);
                })?;
            }
            _ => add_host(node, group, names, builder, files, problems),
        }
    }
    Ok(())
}

fn add_host(
    node: Node,
    group: Option<GroupId>,
    names: &Names<'_>,
    builder: &mut Builder,
    files: &Files,
    problems: &mut Problems,
) {
    let fields = Fields::open(node, &schema::HOST, problems);
    let draft =
        fields.and_then(|mut fields| host(&mut fields, group, names, builder, files, problems));
    draft.into_iter().for_each(|draft| builder.add_host(draft, problems));
}

/// A group and those inside it. `around` are the groups that it stands in, the innermost first.
fn group(
    mut fields: Fields,
    around: &[GroupId],
    hosts: &mut Vec<(Node, Option<GroupId>)>,
    names: &Names<'_>,
    builder: &mut Builder,
    files: &Files,
    problems: &mut Problems,
) {
    let (own, inside) = (fields.nodes("host"), fields.tables("group", &schema::GROUP, problems));
    let name = fields.get_placed("name", problems, name);
    let scope = names.scope(&mut fields, files, problems);
    let scopes = around.iter().copied().map(Around::Group).collect();
    let id = builder.add_group(name, scopes, scope, problems);
    hosts.extend(own.into_iter().map(|host| (host, Some(id))));
    let around: Vec<GroupId> = std::iter::once(id).chain(around.iter().copied()).collect();
    for fields in inside {
        group(fields, &around, hosts, names, builder, files, problems);
    }
}

/// The keys of `[dhcp]` that are set once and for all.
fn settings(fields: &mut Fields, dhcp: &mut Dhcp, problems: &mut Problems) {
    let identities = [
        ("hardware", Identity::Hardware),
        ("client-id", Identity::ClientId),
        ("client-id-or-hardware", Identity::ClientIdOrHardware),
    ];
    let servers = [("none", Compatibility::None), ("dhcpd", Compatibility::Dhcpd)];
    let day = Duration::from_secs(86_400);
    if let Some(rapid) = fields.get("rapid-commit", problems, units::boolean) {
        dhcp.rapid_commit = rapid;
    }
    if let Some(identity) = fields.get("identity", problems, |node| units::word(node, &identities))
    {
        dhcp.identity = identity;
    }
    if let Some(server) = fields.get("compatibility", problems, |node| units::word(node, &servers))
    {
        dhcp.compatibility = server;
    }
    if let Some(port) =
        fields.get("remote-port", problems, |node| units::integer(node, 1..=u16::MAX))
    {
        dhcp.client_port = port;
    }
    if let Some(address) = fields.get("limited-broadcast-address", problems, units::ipv4) {
        dhcp.limited_broadcast = address;
    }
    if let Some(time) = fields
        .get("offer-time", problems, |node| units::duration_in(node, Duration::from_secs(1), day))
    {
        dhcp.offer_time = time;
    }
    if let Some(time) = fields
        .get("decline-time", problems, |node| units::duration_in(node, Duration::ZERO, 365 * day))
    {
        dhcp.decline_time = time;
    }
}

/// Names every class, and gives its table back to be read once all names are known.
fn class_names(
    tables: Vec<Fields>,
    names: &mut Names<'_>,
    problems: &mut Problems,
) -> Vec<((String, Place), Fields)> {
    let mut places: HashMap<Box<str>, Place> = HashMap::new();
    let mut classes = Vec::new();
    for mut fields in tables {
        let Some((name, place)) = fields.require("name", "\"gpu-nodes\"", problems, name) else {
            continue;
        };
        if let Some(first) = places.insert(name.as_str().into(), place) {
            builder::twice(&format!("class `{name}`"), place, first, problems);
            continue;
        }
        if let Ok(id) = u32::try_from(classes.len()) {
            names.classes.insert(name.as_str().into(), ClassId(id));
            classes.push(((name, place), fields));
        }
    }
    classes
}

fn class(
    (name, place): (String, Place),
    fields: &mut Fields,
    names: &Names<'_>,
    files: &Files,
    problems: &mut Problems,
) -> (Class, ScopePlaces) {
    let matches = names.conditions(fields, problems);
    let test = fields.take("test");
    let lease_limit = lease_limit(fields, problems);
    let submatch = submatch(fields, (&name, place), names, files, problems);
    if test.is_none() && matches.is_empty() && submatch.is_none() {
        let text = format!("nobody is a member of class `{name}`: it has no conditions");
        let help = "add one: arch, vendor-class, user-class, mac-prefix, uuid, circuit-id, \
                    remote-id, test or match";
        problems.warn(place, Fault::new(text, help));
    }
    let test = test
        .zip(names.classes.get(&*name))
        .and_then(|(entry, &own)| names.class_test(&entry.node, (own, &name), files, problems));
    let (scope, places) = names.scope(fields, files, problems);
    let within = Box::default();
    (Class { name, matches, test, submatch, scope, within, lease_limit }, places)
}

fn lease_limit(fields: &mut Fields, problems: &mut Problems) -> Option<u32> {
    fields.get("lease-limit", problems, |node| units::integer(node, 0..=u32::MAX))
}

/// How the subclasses of a class are told apart.
fn submatch(
    fields: &mut Fields,
    (name, place): (&str, Place),
    names: &Names<'_>,
    files: &Files,
    problems: &mut Problems,
) -> Option<Submatch> {
    let spawn = fields.get_placed("spawn", problems, units::boolean);
    let Some(entry) = fields.take("match") else {
        if let Some((_, place)) = spawn {
            let text = "`spawn` needs the key `match`";
            let help = "add match = 'option agent.circuit-id': each value makes a subclass";
            problems.error(place, Fault::new(text, help));
        }
        return None;
    };
    let own = names.classes.get(name).copied();
    let expression = names.read("match", own, &entry.node, files, problems, expression::data)?;
    if matches!(expression, Data::Constant(_) | Data::Null) {
        let text = format!(
            "nobody is a member of a subclass of `{name}`: it does not depend on the message"
        );
        problems.warn(
            place,
            Fault::new(text, "name something of the message: option, hardware, packet"),
        );
    }
    Some(Submatch { expression, spawn: spawn.is_some_and(|(spawn, _)| spawn) })
}

/// One entry of `pools`: a text, or a table with one range or several.
fn pool(node: Node, names: &Names<'_>, files: &Files, problems: &mut Problems) -> Vec<PoolDraft> {
    if !matches!(node.value, Value::Table(_)) {
        let range = units::range(&node).map_err(|fault| fault.after("a pool"));
        let range = problems.keep(node.place, range);
        return range.map(|range| PoolDraft::plain(range, node.place)).into_iter().collect();
    }
    let declared = node.place;
    let Some(mut fields) = Fields::open(node, &schema::POOL, problems) else { return Vec::new() };
    if fields.peek("range").is_none() {
        let help = "add range = \"10.1.4.0-10.1.255.250\"";
        problems.error(fields.place, Fault::new("a pool needs the key `range`", help));
    }
    let ranges = fields.list("range", problems, units::range);
    let permit = |node: &Node| permit(node, names);
    let values = |placed: Vec<(Permit, Place)>| placed.into_iter().map(|(permit, _)| permit);
    let allow: Vec<Permit> = values(fields.list("allow", problems, permit)).collect();
    let deny: Vec<Permit> = values(fields.list("deny", problems, permit)).collect();
    let class = fields.get("class", problems, |node| names.class(node));
    let (scope, places) = names.scope(&mut fields, files, problems);
    let draft = |(range, place)| PoolDraft {
        range,
        place,
        declared,
        allow: allow.clone(),
        deny: deny.clone(),
        class,
        groups: Vec::new(),
        scope: (scope.clone(), places.clone()),
    };
    ranges.into_iter().map(draft).collect()
}

fn permit(node: &Node, names: &Names<'_>) -> Result<Permit, Fault> {
    let text = units::text(node)?;
    if let Some(class) = text.strip_prefix("class:") {
        return names.class_named(class.trim()).map(Permit::Member);
    }
    if let Some(time) = text.strip_prefix("after ") {
        let time = Node { value: Value::Text(time.trim().into()), place: node.place };
        return units::date(&time).map(Permit::After);
    }
    let words = [
        ("known", Permit::Known),
        ("unknown", Permit::Unknown),
        ("bootp", Permit::Bootp),
        ("all", Permit::All),
        ("class:NAME", Permit::All),
        ("after TIME", Permit::All),
    ];
    units::word(node, &words)
}

pub(super) fn host(
    fields: &mut Fields,
    inside: Option<GroupId>,
    names: &Names<'_>,
    builder: &Builder,
    files: &Files,
    problems: &mut Problems,
) -> Option<HostDraft> {
    let name = fields.require("name", "\"rack1-n01\"", problems, name);
    let keys = host_keys(fields, names.definitions, problems);
    let ips = fields.list("ip", problems, units::ipv4);
    let named = fields.get_placed("group", problems, |node| builder.group_named(node));
    if let (Some((_, place)), Some(_)) = (named, inside) {
        let help = "leave the line out: a host inside a group belongs to it";
        problems.error(place, Fault::new("this host stands inside a group already", help));
    }
    let (scope, places) = names.host_scope(fields, files, problems);
    let (name, place) = name?;
    let name = name.into();
    let (ips, ip_places) = ips.into_iter().unzip();
    let (keys, key_places) = keys.into_iter().unzip();
    let group = inside.or(named.map(|(group, _)| group));
    let host = Host { name, keys, ips, group, scope };
    Some(HostDraft { host, place, key_places, ip_places, line: None, places })
}

/// What identifies a host, each with its place.
fn host_keys(
    fields: &mut Fields,
    definitions: &Definitions,
    problems: &mut Problems,
) -> Vec<(HostKey, Place)> {
    const KEYS: [&str; 6] =
        ["hardware", "uuid", "client-id", "circuit-id", "remote-id", "host-identifier"];
    if KEYS.iter().all(|key| fields.peek(key).is_none()) {
        let text = "nothing says which machine this host is";
        let help = "add hardware = \"52:54:00:12:34:56\", or uuid, client-id, circuit-id, remote-id, \
             host-identifier";
        problems.error(fields.place, Fault::new(text, help));
    }
    let mut keys = Vec::new();
    let hardware = fields.list("hardware", problems, units::hardware);
    keys.extend(hardware.into_iter().map(|(bytes, place)| (HostKey::Hardware(bytes), place)));
    let uuid = fields.list("uuid", problems, units::uuid);
    keys.extend(uuid.into_iter().map(|(bytes, place)| (HostKey::Uuid(bytes), place)));
    let client_id = fields.list("client-id", problems, client_ids);
    keys.extend(client_id.into_iter().flat_map(|(ids, place)| {
        ids.into_iter().map(move |bytes| (HostKey::ClientId(bytes), place))
    }));
    let circuits = fields.list("circuit-id", problems, units::octets);
    let remotes = fields.list("remote-id", problems, units::octets);
    let circuit =
        |circuit_id, remote_id, place| (HostKey::Circuit { circuit_id, remote_id }, place);
    // A port number means nothing without its switch, so where both are given both must match.
    for (remote, place) in &remotes {
        if circuits.is_empty() {
            keys.push(circuit(None, Some(remote.clone()), *place));
        }
        keys.extend(
            circuits
                .iter()
                .map(|(bytes, place)| circuit(Some(bytes.clone()), Some(remote.clone()), *place)),
        );
    }
    if remotes.is_empty() {
        keys.extend(circuits.into_iter().map(|(bytes, place)| circuit(Some(bytes), None, place)));
    }
    if let Some(Entry { node, .. }) = fields.take("host-identifier") {
        identifiers(None, node, definitions, &mut keys, problems);
    }
    keys
}

/// Options that identify a host, of a space or of none.
fn identifiers(
    space: Option<&str>,
    node: Node,
    definitions: &Definitions,
    keys: &mut Vec<(HostKey, Place)>,
    problems: &mut Problems,
) {
    let place = node.place;
    let Value::Table(table) = node.value else {
        let help = "write host-identifier = { user-class = \"rack-7\" }";
        let fault = units::must_be("a table", &node, help);
        return problems.error(place, fault.after("`host-identifier`"));
    };
    for entry in table.entries {
        if let (Value::Table(_), None) = (&entry.node.value, space) {
            identifiers(Some(&entry.key), entry.node, definitions, keys, problems);
            continue;
        }
        let found = definitions.of_message(space, &entry.key);
        let Some((path, option)) = problems.keep(entry.place, found) else { continue };
        if let Some(value) = scope_reader::encode(&option, &entry.key, &entry.node, problems) {
            keys.push((HostKey::of_option(path, value.into()), entry.node.place));
        }
    }
}

/// A client identifier. Clients send a text as it is or behind an octet 0 for its type (RFC 2132,
/// section 9.14), so a text stands for both; bytes stand for themselves.
fn client_ids(node: &Node) -> Result<Vec<Box<[u8]>>, Fault> {
    let bytes = units::octets(node)?;
    if units::text(node)?.starts_with("hex:") {
        return Ok(vec![bytes]);
    }
    let typed: Box<[u8]> = std::iter::once(0).chain(bytes.iter().copied()).collect();
    Ok(vec![bytes, typed])
}

fn name(node: &Node) -> Result<String, Fault> {
    units::text(node).map(str::to_owned)
}

/// Every `[dhcp.option-space.NAME]`.
fn spaces(fields: &mut Fields, names: &mut Names<'_>, problems: &mut Problems) {
    let Some(entry) = fields.take("option-space") else { return };
    let Value::Table(table) = entry.node.value else {
        let help = "write [dhcp.option-space.PXE], and the options of the space below it";
        return problems.error(entry.place, Fault::new("`option-space` must be a table", help));
    };
    for entry in table.entries {
        let place = entry.place;
        if !names.definitions.has_space(&entry.key) {
            problems.error(place, names.definitions.unknown_space(&entry.key));
            continue;
        }
        let Value::Table(table) = entry.node.value else {
            let text = format!("`{}` must be a table, not {}", entry.key, entry.node.value.kind());
            problems.error(entry.node.place, Fault::plain(text));
            continue;
        };
        let values = names.space(&entry.key, table, problems);
        names.spaces.insert(entry.key, (values, place));
    }
}
