//! A dhcpd.conf as TOML, and a report of what was taken, changed and dropped.
//!
//! Comments stay with the statement that they stand before or beside. What TOML has no words for is
//! dropped and told.

mod comments;
mod hosts;
mod networks;
mod scope;
mod statements;
mod toml;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use base64::Engine as _;

use super::super::problem::{ConfigError, Problems};
use super::super::source::{Files, Place};
use super::super::{Line, OmapiAlgorithm, OmapiKey, disk};
use super::ast::{self, Body, Child, Entry, Value, What};
use super::lower;
use super::reader::Reader;
use super::resolve::Resolver;
use super::spaces::{Definition, ENTERPRISES, Spaces};
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
    let mut resolver = Resolver::of_host();
    let mut unreadable = HashMap::new();
    loop {
        let Written { toml, notes, places } = write(path, &mut resolver, &unreadable)?;
        let wrong = super::super::parse(Path::new("bootstorm.toml"), toml.as_bytes()).err();
        // TOML has fewer words for expressions: what it cannot read is left out.
        let known = unreadable.len();
        let wrongs = wrong.iter().flat_map(ConfigError::problems);
        for problem in wrongs.filter(|problem| !problem.is_warning()) {
            if let Some((_, line, _)) = problem.place()
                && let Some(&place) = places.get(&line)
            {
                unreadable.insert(place, problem.message().to_owned());
            }
        }
        if unreadable.len() == known {
            return Ok(Migration { report: report(path, &notes, wrong.as_ref()), toml });
        }
    }
}

/// The TOML, and the statements of the file by the lines in it.
struct Written {
    toml: String,
    notes: Notes,
    places: HashMap<usize, Place>,
}

/// Writes a file anew without what TOML cannot read of it.
fn write(
    path: &Path,
    resolver: &mut Resolver,
    unreadable: &HashMap<Place, String>,
) -> Result<Written, ConfigError> {
    let mut files = Files::default();
    let mut problems = Problems::default();
    let (bytes, state) = match disk::read(path) {
        Ok((bytes, state)) => (bytes, Some(state)),
        Err(error) => {
            let text = format!("{} cannot be read: {error}", path.display());
            problems.general(super::super::problem::Fault::plain(text));
            return Err(ConfigError::of(problems, path, &files));
        }
    };
    let mut reader = Reader::new(&mut files, &mut problems, resolver);
    let root = reader.read(path.to_owned(), bytes, state);
    let mut writer = Writer::new(reader, unreadable);
    writer.root(&root);
    let written = writer.finish();
    problems.finish(path, &files)?;
    Ok(written)
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
    /// How many lines were written.
    lines: usize,
    /// Statements by the lines that were made of them.
    places: HashMap<usize, Place>,
    /// Statements that TOML cannot read, and why.
    unreadable: &'r HashMap<Place, String>,
    notes: Notes,
    /// Names of groups that hosts name.
    named_groups: HashSet<Rc<str>>,
    /// Of the files in which conditions stand.
    texts: HashMap<u32, Option<Rc<str>>>,
}

/// Entries of a scope, with those of the scopes around it that TOML cannot have there.
type Entries<'a> = Vec<&'a Entry>;

impl<'r> Writer<'r> {
    fn new(reader: Reader<'r>, unreadable: &'r HashMap<Place, String>) -> Self {
        let comments = Comments::of(reader.files);
        Self {
            reader,
            comments,
            out: String::new(),
            lines: 0,
            places: HashMap::new(),
            unreadable,
            notes: Notes::default(),
            named_groups: HashSet::new(),
            texts: HashMap::new(),
        }
    }

    fn finish(self) -> Written {
        Written { toml: self.out, notes: self.notes, places: self.places }
    }

    /// Why TOML cannot read what would be made of a statement.
    fn unreadable(&self, place: Place) -> Option<String> {
        let why = self.unreadable.get(&place)?;
        let text = one_line(self.source(place)?);
        let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
        let more = if end < text.len() { " ..." } else { "" };
        Some(format!("{}{more}: {why}", &text[..end]))
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
        self.lines += 1 + text.as_ref().matches('\n').count();
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    /// The line that is made of a statement.
    fn line_of(&mut self, place: Place, text: impl AsRef<str>) {
        self.line(text);
        self.places.insert(self.lines, place);
    }

    /// Begins a table, behind the comments that stand before it.
    fn table(&mut self, heading: &str, line: Option<Line>) {
        if !self.out.is_empty() {
            self.line("");
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
        hosts::name_groups(root, &mut self.named_groups);
        self.table("[dhcp]", None);
        self.line("# What dhcpd does where nothing is said.");
        self.usual(root);
        self.scope("dhcp", root.entries.iter().collect());
        self.definitions();
        self.classes(root);
        self.networks(root, &Vec::new());
        self.groups(root, "dhcp.group");
        self.hosts(root, "dhcp.host", &Vec::new(), false);
        self.omapi(root);
        let left = self.comments.rest();
        if !left.is_empty() {
            self.line("");
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
            let is_plain = self.reader.spaces.is_plain(space);
            let space = self.reader.spaces.get(space);
            if code > 254 && &*space.name != ENTERPRISES || !is_plain && code <= 254 {
                let what = format!("option {name}: TOML has no codes above 254");
                self.note(line, Became::Dropped, what);
                continue;
            }
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
            for &(key, source) in &class.sources {
                if let (Some(why), Some(line)) = (self.unreadable(source), class.body.line) {
                    self.note(line, Became::Dropped, format!("{key} {why}"));
                    continue;
                }
                let expression = self.expression(source);
                match key {
                    "match if" => self.line_of(source, format!("test = {expression}")),
                    "spawn" => {
                        self.line_of(source, format!("match = {expression}"));
                        self.line("spawn = true");
                    }
                    key => self.line_of(source, format!("{key} = {expression}")),
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

    /// The text of an expression, as TOML.
    fn expression(&self, place: Place) -> String {
        toml::literal(&one_line(self.source(place).unwrap_or_default()))
    }
}

/// A text without comments, with single blanks.
fn one_line(text: &str) -> String {
    comments::without(text).split_whitespace().collect::<Vec<_>>().join(" ")
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
