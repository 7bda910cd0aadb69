//! A dhcpd.conf as TOML, and a report of what was taken, changed and dropped.
//!
//! Comments stay with the statement that they stand before or beside. What TOML has no words for is
//! dropped and told.

mod comments;
mod scope;
mod toml;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use base64::Engine as _;

use super::super::problem::{ConfigError, Problems};
use super::super::source::{Files, Place};
use super::super::{HostKey, Line, OmapiAlgorithm, OmapiKey, disk};
use super::ast::{self, Body, Child, Entry, Value, What, Who};
use super::lower;
use super::reader::Reader;
use super::resolve::Resolver;
use super::spaces::{Definition, Spaces};
use super::table::Status;
use comments::Comments;
use toml::{bytes, quoted};

/// A configuration in TOML, and what became of the other.
#[derive(Debug)]
pub struct Migration {
    /// The new configuration.
    pub toml: String,
    /// What was taken, changed and dropped, for a person to read.
    pub report: String,
}

/// Makes TOML of a file in dhcpd's language.
///
/// # Errors
/// As [`super::super::load`]: the file must be one that would be served.
pub fn migrate(path: &Path) -> Result<Migration, ConfigError> {
    let mut files = Files::default();
    let mut problems = Problems::default();
    let mut resolver = Resolver::of_host();
    let read = disk::read(path);
    let (bytes, state) = match read {
        Ok((bytes, state)) => (bytes, Some(state)),
        Err(error) => {
            let text = format!("{} cannot be read: {error}", path.display());
            problems.general(super::super::problem::Fault::plain(text));
            return Err(ConfigError::of(problems, path, &files));
        }
    };
    let mut reader = Reader::new(&mut files, &mut problems, &mut resolver);
    let root = reader.read(path.to_owned(), bytes, state);
    let mut writer = Writer::new(reader);
    writer.root(&root);
    let (toml, notes) = writer.finish();
    problems.finish(path, &files)?;
    let unread = super::super::parse(Path::new("bootstorm.toml"), toml.as_bytes()).err();
    Ok(Migration { report: report(path, &notes, unread.as_ref()), toml })
}

/// What became of something that was not simply taken.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Became {
    Changed,
    Dropped,
}

/// What the report says.
#[derive(Debug, Default)]
struct Notes {
    /// How many of each kind were taken.
    taken: BTreeMap<&'static str, usize>,
    /// File and line, what became of it, what, and why.
    others: Vec<(String, Became, String)>,
}

/// The report; `unread` is what is wrong with the TOML.
fn report(path: &Path, notes: &Notes, unread: Option<&ConfigError>) -> String {
    let mut text = format!("{}\n", path.display());
    let taken: Vec<String> =
        notes.taken.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let taken = if taken.is_empty() { "nothing".to_owned() } else { taken.join(", ") };
    let _ = writeln!(text, "taken: {taken}");
    for became in [Became::Changed, Became::Dropped] {
        let heading = if became == Became::Changed { "changed" } else { "dropped" };
        let mut of_kind = notes.others.iter().filter(|(_, own, _)| *own == became).peekable();
        if of_kind.peek().is_none() {
            let _ = writeln!(text, "{heading}: nothing");
            continue;
        }
        let _ = writeln!(text, "{heading}:");
        for (line, _, what) in of_kind {
            let _ = writeln!(text, "  {line}: {what}");
        }
    }
    if let Some(unread) = unread {
        text.push_str("to be mended by hand:\n");
        for problem in unread.problems() {
            let _ = writeln!(text, "  {}", problem.one_line());
        }
    }
    text
}

/// The TOML while it is written.
struct Writer<'r> {
    reader: Reader<'r>,
    comments: Comments,
    out: String,
    notes: Notes,
    /// Of the files in which conditions stand.
    texts: HashMap<u32, Option<Rc<str>>>,
    /// The lease times of the outermost scope, in seconds: the usual, the least, the longest.
    lease_times: [u32; 3],
}

/// Entries of a scope, with those of the scopes around it that TOML cannot have there.
type Entries<'a> = Vec<&'a Entry>;

impl<'r> Writer<'r> {
    fn new(reader: Reader<'r>) -> Self {
        let comments = Comments::of(reader.files);
        Self {
            reader,
            comments,
            out: String::new(),
            notes: Notes::default(),
            texts: HashMap::new(),
            lease_times: [43_200, 300, 86_400],
        }
    }

    fn finish(self) -> (String, Notes) {
        (self.out, self.notes)
    }

    fn note(&mut self, line: Line, became: Became, what: impl Into<String>) {
        let name = self.reader.files.get(line.file).map(|file| file.name.to_string());
        let place = format!("{}:{}", name.unwrap_or_default(), line.line);
        self.notes.others.push((place, became, what.into()));
    }

    fn count(&mut self, what: &'static str) {
        *self.notes.taken.entry(what).or_default() += 1;
    }

    fn line(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    /// Begins a table, behind the comments that stand before it.
    fn table(&mut self, heading: &str, line: Option<Line>) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        if let Some(line) = line {
            self.comments_before(line);
        }
        self.line(heading);
    }

    fn comments_before(&mut self, line: Line) {
        for comment in self.comments.take(line) {
            self.line(comment);
        }
    }

    fn root(&mut self, root: &Body) {
        self.comments.assign(root, &self.reader.classes);
        self.table("[dhcp]", None);
        self.line("# What dhcpd does where nothing is said.");
        self.usual(root);
        self.scope("dhcp", root.entries.iter().collect());
        self.definitions();
        self.classes(root);
        self.networks(root, &Vec::new());
        self.groups(root, "dhcp.group");
        self.hosts(root, "dhcp.host", &Vec::new());
        self.omapi(root);
        let left = self.comments.rest();
        if !left.is_empty() {
            self.out.push('\n');
            left.into_iter().for_each(|comment| self.line(comment));
        }
    }

    /// What stands in `[control]`. Mistakes are told where the file is read.
    fn omapi(&mut self, root: &Body) {
        let mut told = Problems::default();
        let Some(omapi) = lower::omapi(root, &self.reader.keys, &mut told) else { return };
        self.table("[control]", None);
        self.line(format!("omapi = {}", quoted(&omapi.address.to_string())));
        let Some(OmapiKey { name, algorithm, secret }) = omapi.key else { return };
        let named = OmapiAlgorithm::NAMES.iter().find(|(_, own)| *own == algorithm);
        let algorithm = named.map_or("", |(name, _)| name);
        let secret = base64::engine::general_purpose::STANDARD.encode(secret);
        self.line(format!(
            "omapi-key = {{ name = {}, algorithm = {}, secret = {} }}",
            quoted(&name),
            quoted(algorithm),
            quoted(&secret)
        ));
    }

    /// dhcpd's defaults, but for those that the file sets.
    fn usual(&mut self, root: &Body) {
        let usual = [
            ("ping-check", "ping-check = true"),
            ("ping-cltt-secs", "ping-cltt-secs = \"1m\""),
            ("abandon-lease-time", "decline-time = \"1d\""),
            ("echo-client-id", "echo-client-id = false"),
            ("dhcp-cache-threshold", "dhcp-cache-threshold = 25"),
        ];
        self.line("compatibility = \"dhcpd\"");
        self.line("identity = \"client-id-or-hardware\"");
        self.line("offer-time = \"2m\"");
        for (name, text) in usual {
            let is_set = root.entries.iter().any(|entry| match &entry.what {
                What::Parameter { row, value } => row.name == name && *value != Value::Missing,
                _ => false,
            });
            if !is_set {
                self.line(text);
            }
        }
    }

    fn definitions(&mut self) {
        let defined = std::mem::take(&mut self.reader.defined);
        for (space, Definition { name, code, format }, line) in defined {
            if code > 254 {
                let what = format!("option {name}: TOML has no codes above 254");
                self.note(line, Became::Dropped, what);
                continue;
            }
            let space = self.reader.spaces.get(space);
            let space = (&*space.name != super::standard::DHCP).then(|| space.name.to_string());
            self.table("[[dhcp.option-definition]]", Some(line));
            self.line(format!("name = {}", quoted(&name)));
            self.line(format!("code = {code}"));
            self.line(format!("type = {}", quoted(&format.to_string())));
            if let Some(space) = space {
                self.line(format!("space = {}", quoted(&space)));
            }
            self.count("option definitions");
        }
    }

    fn classes(&mut self, root: &Body) {
        let classes = std::mem::take(&mut self.reader.classes);
        let mut around = Around::default();
        around.collect(root, &Vec::new());
        for (number, class) in classes.iter().enumerate() {
            let number = ast::ClassNumber(u32::try_from(number).unwrap_or(u32::MAX));
            self.table("[[dhcp.class]]", class.body.line);
            self.line(format!("name = {}", quoted(&class.name)));
            for (key, source) in &class.sources {
                match *key {
                    "spawn" => {
                        self.line(format!("match = {}", self.expression(*source)));
                        self.line("spawn = true");
                    }
                    key => {
                        let key = if key == "match if" { "test" } else { key };
                        self.line(format!("{key} = {}", self.expression(*source)));
                    }
                }
            }
            if let Some(limit) = class.lease_limit {
                self.line(format!("lease-limit = {limit}"));
            }
            let mut entries = around.classes.get(&number).cloned().unwrap_or_default();
            if let (false, Some(line)) = (entries.is_empty(), class.body.line) {
                let what = format!(
                    "class `{}` has the values of the scopes that it stands in for its own",
                    class.name
                );
                self.note(line, Became::Changed, what);
            }
            entries.extend(&class.body.entries);
            self.scope("dhcp.class", entries);
            self.count("classes");
            for subclass in around.subclasses.get(&number).into_iter().flatten() {
                self.table("[[dhcp.class.subclass]]", subclass.body.line);
                self.line(format!("value = {}", bytes(&subclass.value)));
                if let Some(limit) =
                    subclass.lease_limit.filter(|&own| class.lease_limit != Some(own))
                {
                    self.line(format!("lease-limit = {limit}"));
                }
                self.scope("dhcp.class.subclass", subclass.body.entries.iter().collect());
                self.count("subclasses");
            }
        }
        self.reader.classes = classes;
    }

    /// Subnets and shared networks, wherever they stand.
    fn networks(&mut self, body: &Body, around: &Entries<'_>) {
        for child in &body.children {
            match child {
                Child::Group(group) => {
                    let inside = around.iter().copied().chain(&group.body.entries).collect();
                    self.networks(&group.body, &inside);
                }
                Child::Network(network) => {
                    self.table("[[dhcp.shared-network]]", network.body.line);
                    self.line(format!("name = {}", quoted(&network.name)));
                    self.merged(around, network.body.line);
                    let entries = around.iter().copied().chain(&network.body.entries).collect();
                    self.scope("dhcp.shared-network", entries);
                    self.count("shared networks");
                    let mut pools = Vec::new();
                    outer_pools(&network.body, &mut pools);
                    self.subnets(&network.body, &Vec::new(), Some(&network.name), &pools);
                }
                Child::Subnet(subnet) => self.subnet(subnet, around, None, &[]),
                _ => {}
            }
        }
    }

    /// The subnets of a shared network.
    fn subnets(
        &mut self,
        body: &Body,
        around: &Entries<'_>,
        network: Option<&str>,
        pools: &[&ast::Pool],
    ) {
        for child in &body.children {
            match child {
                Child::Group(group) => {
                    let inside = around.iter().copied().chain(&group.body.entries).collect();
                    self.subnets(&group.body, &inside, network, pools);
                }
                Child::Subnet(subnet) => self.subnet(subnet, around, network, pools),
                _ => {}
            }
        }
    }

    /// The values of groups around something that is no host.
    fn merged(&mut self, around: &Entries<'_>, line: Option<Line>) {
        if let (false, Some(line)) = (around.is_empty(), line) {
            let what = "the values of the groups around it are its own";
            self.note(line, Became::Changed, what);
        }
    }

    fn subnet(
        &mut self,
        subnet: &ast::Subnet,
        around: &Entries<'_>,
        network: Option<&str>,
        pools: &[&ast::Pool],
    ) {
        self.table("[[dhcp.subnet]]", subnet.body.line);
        self.line(format!("subnet = {}", quoted(&subnet.prefix.to_string())));
        if let Some(network) = network {
            self.line(format!("shared-network = {}", quoted(network)));
        }
        self.merged(around, subnet.body.line);
        let entries = around.iter().copied().chain(&subnet.body.entries).collect();
        self.scope("dhcp.subnet", entries);
        self.count("subnets");
        self.pools(&subnet.body);
        for pool in pools {
            let own = |range: &&ast::Range| subnet.prefix.contains(range.first);
            let ranges: Vec<&ast::Range> = pool.ranges.iter().filter(own).collect();
            if !ranges.is_empty() {
                self.pool(pool, &ranges);
            }
        }
    }

    fn pools(&mut self, body: &Body) {
        for child in &body.children {
            match child {
                Child::Group(group) => self.pools(&group.body),
                Child::Pool(pool) => self.pool(pool, &pool.ranges.iter().collect::<Vec<_>>()),
                Child::Range(range) => {
                    self.table("[[dhcp.subnet.pools]]", None);
                    self.line(format!("range = {}", quoted(&span(range))));
                    if !range.bootp {
                        self.line("deny = [\"bootp\"]");
                    }
                    self.count("ranges");
                }
                _ => {}
            }
        }
    }

    fn pool(&mut self, pool: &ast::Pool, ranges: &[&ast::Range]) {
        self.table("[[dhcp.subnet.pools]]", pool.body.line);
        let ranges: Vec<String> = ranges.iter().map(|range| quoted(&span(range))).collect();
        self.line(format!("range = [{}]", ranges.join(", ")));
        for allow in [true, false] {
            let mut words = Vec::new();
            for permission in pool.permits.iter().filter(|permission| permission.allow == allow) {
                match permission.who {
                    Who::All | Who::Unauthenticated => words.push(quoted("all")),
                    Who::Known => words.push(quoted("known")),
                    Who::Unknown => words.push(quoted("unknown")),
                    Who::Bootp => words.push(quoted("bootp")),
                    Who::Member(class) => {
                        let name = &self.reader.classes[class.0 as usize].name;
                        words.push(quoted(&format!("class:{name}")));
                    }
                    Who::After(time) => {
                        // `never` is none.
                        let time = jiff::Timestamp::from_second(time).ok();
                        words.extend(time.map(|time| quoted(&format!("after {time}"))));
                    }
                    Who::Authenticated => {
                        let line = pool.body.line.unwrap_or(Line { file: 0, line: 1 });
                        let what = "a permit of clients that authenticate";
                        self.note(line, Became::Dropped, what);
                    }
                }
            }
            if !words.is_empty() {
                let key = if allow { "allow" } else { "deny" };
                self.line(format!("{key} = [{}]", words.join(", ")));
            }
        }
        self.scope("dhcp.subnet.pools", pool.body.entries.iter().collect());
        self.count("pools");
    }

    /// Groups that have hosts, with them.
    fn groups(&mut self, body: &Body, path: &str) {
        for child in &body.children {
            let Child::Group(group) = child else { continue };
            if !has_hosts(&group.body) {
                continue;
            }
            self.table(&format!("[[{path}]]"), group.body.line);
            self.scope(path, group.body.entries.iter().collect());
            self.count("groups");
            for child in &group.body.children {
                if let Child::Host(host) = child {
                    self.host(host, &format!("{path}.host"));
                }
            }
            self.groups(&group.body, &format!("{path}.group"));
        }
    }

    /// Hosts that stand in no group.
    fn hosts(&mut self, body: &Body, path: &str, around: &Entries<'_>) {
        for child in &body.children {
            let inside = match child {
                Child::Host(host) => {
                    if let (false, Some(line)) = (around.is_empty(), host.body.line) {
                        let what = format!(
                            "host `{}` gets the values of the scope that it stands in only there",
                            host.name
                        );
                        self.note(line, Became::Changed, what);
                    }
                    self.host(host, path);
                    continue;
                }
                Child::Network(network) => &network.body,
                Child::Subnet(subnet) => &subnet.body,
                Child::Pool(pool) => &pool.body,
                _ => continue,
            };
            let around = around.iter().copied().chain(&inside.entries).collect();
            self.hosts(inside, path, &around);
            self.groups(inside, "dhcp.group");
        }
    }

    fn host(&mut self, host: &ast::Host, path: &str) {
        let has_key = !host.keys.is_empty()
            || host.body.entries.iter().any(|entry| {
                matches!(&entry.what, What::Option { space, code: 61, .. } if *space == self.reader.dhcp)
            });
        let line = host.body.line;
        if !has_key {
            if let Some(line) = line {
                let what = format!("host `{}`: nothing says which machine it is", host.name);
                self.note(line, Became::Dropped, what);
            }
            return;
        }
        self.table(&format!("[[{path}]]"), line);
        self.line(format!("name = {}", quoted(&host.name)));
        for (key, _) in &host.keys {
            match key {
                HostKey::Hardware(address) => {
                    let address = crate::hex::digits(address, ":");
                    self.line(format!("hardware = {}", quoted(&address)));
                }
                HostKey::ClientId(id) => self.line(format!("client-id = {}", toml::hex(id))),
                HostKey::Circuit { circuit_id: Some(id), .. } => {
                    self.line(format!("circuit-id = {}", bytes(id)));
                }
                HostKey::Circuit { remote_id: Some(id), .. } => {
                    self.line(format!("remote-id = {}", bytes(id)));
                }
                HostKey::Circuit { .. } | HostKey::Uuid(_) => {}
            }
        }
        let ips: Vec<String> =
            host.addresses.iter().map(|(address, _)| quoted(&address.to_string())).collect();
        match ips.as_slice() {
            [] => {}
            [ip] => self.line(format!("ip = {ip}")),
            _ => self.line(format!("ip = [{}]", ips.join(", "))),
        }
        self.scope(path, host.body.entries.iter().collect());
        self.count("hosts");
    }

    /// The text of an expression, as TOML.
    fn expression(&self, place: Place) -> String {
        let file = self.reader.files.get(place.file);
        let text = file.and_then(|file| file.text()?.get(place.range())).unwrap_or_default();
        toml::literal(&one_line(text))
    }
}

/// A text without comments, with single blanks.
fn one_line(text: &str) -> String {
    comments::without(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn span(range: &ast::Range) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    }
}

/// Pools that stand in a shared network beside its subnets.
fn outer_pools<'a>(body: &'a Body, pools: &mut Vec<&'a ast::Pool>) {
    for child in &body.children {
        match child {
            Child::Pool(pool) => pools.push(pool),
            Child::Group(group) => outer_pools(&group.body, pools),
            _ => {}
        }
    }
}

fn has_hosts(body: &Body) -> bool {
    body.children.iter().any(|child| match child {
        Child::Host(_) => true,
        Child::Group(group) => has_hosts(&group.body),
        _ => false,
    })
}

/// Classes and subclasses, and the entries around classes.
#[derive(Default)]
struct Around<'a> {
    classes: BTreeMap<ast::ClassNumber, Entries<'a>>,
    subclasses: BTreeMap<ast::ClassNumber, Vec<&'a ast::Subclass>>,
}

impl<'a> Around<'a> {
    fn collect(&mut self, body: &'a Body, around: &Entries<'a>) {
        for child in &body.children {
            let inside = match child {
                Child::Class(number) => {
                    self.classes.insert(*number, around.clone());
                    continue;
                }
                Child::Subclass(subclass) => {
                    self.subclasses.entry(subclass.class).or_default().push(subclass);
                    continue;
                }
                Child::Group(group) => &group.body,
                Child::Network(network) => &network.body,
                Child::Subnet(subnet) => &subnet.body,
                Child::Pool(pool) => &pool.body,
                Child::Subnet6(_) | Child::Range(_) | Child::Host(_) => continue,
            };
            let around = around.iter().copied().chain(&inside.entries).collect();
            self.collect(inside, &around);
        }
    }
}

/// Whether TOML has nothing for a parameter because it does nothing.
fn does_nothing(status: Status) -> bool {
    status != Status::Served
}
