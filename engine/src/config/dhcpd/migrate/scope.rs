//! The values of one scope.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::option_types::OptionType;
use super::super::super::source::Place;
use super::super::super::statement::Mode;
use super::super::super::{Line, Parameter, Settings};
use super::super::ast::{Entry, Value, What};
use super::super::format::{Format, Part};
use super::super::spaces::SpaceNumber;
use super::super::{lower, standard};
use super::statements::{Branch, Done, On, Said, Switch};
use super::toml::{expressed, literal, quoted, seconds, value};
use super::{Became, Spaces, Writer, does_nothing, one_line};

/// Keys of one table, each with its value.
type Values = BTreeMap<String, Valued>;

/// A value of TOML, and where it comes from.
struct Valued {
    /// The place of its statement in the scope.
    at: usize,
    text: String,
    place: Place,
    line: Line,
    mode: Mode,
    /// Its bytes, if it does not depend on the message.
    bytes: Option<Vec<u8>>,
}

/// What a value is for: a table, and a key in it.
type Key = (Option<String>, String);

/// A statement that has a table of its own.
enum Inside {
    If(Vec<Branch>),
    Switch(Switch),
}

/// What a scope says, by where TOML has it.
#[derive(Default)]
struct Parts<'e> {
    tables: BTreeMap<Option<String>, Values>,
    /// Names of classes.
    add_class: Vec<String>,
    conditions: Vec<(usize, &'e Entry, Inside)>,
    events: Vec<(&'e Entry, On)>,
}

impl Writer<'_> {
    /// Writes the keys of a scope, behind the heading of its table.
    pub(super) fn scope(&mut self, path: &str, entries: Vec<&Entry>) {
        self.scope_without(path, entries, &HashSet::new());
    }

    /// The same without the values for keys that a later statement has.
    pub(super) fn scope_without(
        &mut self,
        path: &str,
        entries: Vec<&Entry>,
        hidden: &HashSet<Key>,
    ) {
        let mut parts = Parts::default();
        for (at, entry) in entries.into_iter().enumerate() {
            if let Some(why) = self.unreadable(entry.place) {
                self.note(entry.line, Became::Dropped, why);
                continue;
            }
            if !matches!(entry.what, What::Statements(_)) {
                self.value(path, (at, Mode::Supersede), entry, entry.place, hidden, &mut parts);
                continue;
            }
            match self.said(entry) {
                None => {}
                Some(Said::Value(mode, value)) => {
                    self.value(path, (at, mode), &value, entry.place, hidden, &mut parts);
                }
                Some(Said::Set(name, value)) => self.set((at, entry), name, &value, &mut parts),
                Some(Said::Add(class)) => {
                    self.note_order(entry, &parts);
                    parts.add_class.push(quoted(&class));
                }
                Some(Said::If(branches)) => {
                    parts.conditions.push((at, entry, Inside::If(branches)));
                }
                Some(Said::Switch(switch)) => {
                    parts.conditions.push((at, entry, Inside::Switch(switch)));
                }
                Some(Said::On(on)) => parts.events.push((entry, on)),
                Some(Said::Other(word)) => self.note_other(entry.line, &word),
            }
        }
        self.write_parts(path, parts, hidden);
    }

    fn write_parts(&mut self, path: &str, parts: Parts<'_>, hidden: &HashSet<Key>) {
        let Parts { tables, add_class, conditions, mut events } = parts;
        // In TOML conditions stand behind all values.
        let behind = |condition: usize| -> HashSet<Key> {
            let fixed = |value: &Valued| {
                value.at > condition && value.mode == Mode::Supersede && value.bytes.is_some()
            };
            let keys = tables.iter().flat_map(|(table, values)| {
                let keys = values.iter().filter(|(_, value)| fixed(value)).map(|(key, _)| key);
                keys.map(|key| (table.clone(), key.clone()))
            });
            keys.chain(hidden.iter().cloned()).collect()
        };
        let conditions: Vec<_> =
            conditions.into_iter().map(|(at, entry, inside)| (entry, inside, behind(at))).collect();
        if !add_class.is_empty() {
            self.line(format!("add-class = [{}]", add_class.join(", ")));
        }
        for (table, values) in tables {
            if let Some(table) = table {
                self.line(format!("\n[{path}.{table}]"));
            }
            self.values(values);
        }
        for (entry, inside, hidden) in conditions {
            self.comments_before(entry.line);
            match inside {
                Inside::If(branches) => self.branches(path, entry, branches, &hidden),
                Inside::Switch(switch) => self.switch(path, entry, switch, &hidden),
            }
        }
        // Of several for one event the last counts.
        let mut later: HashSet<&str> = HashSet::new();
        for (entry, on) in events.iter_mut().rev() {
            let told = on.events.len();
            on.events.retain(|event| !later.contains(event));
            if on.events.len() < told {
                let what = "an `on`: a later one of its scope takes its place, as in dhcpd";
                self.note(entry.line, Became::Dropped, what);
            }
            later.extend(&on.events);
        }
        for (entry, on) in events.iter().filter(|(_, on)| !on.events.is_empty()) {
            self.on(path, entry, on);
        }
    }

    /// Adds a value, or puts it together with that of before.
    fn value(
        &mut self,
        path: &str,
        (at, mode): (usize, Mode),
        entry: &Entry,
        place: Place,
        hidden: &HashSet<Key>,
        parts: &mut Parts<'_>,
    ) {
        let Some((key, text)) = self.entry(path, entry) else { return };
        let (table, name) = key.clone();
        if hidden.contains(&key) {
            return;
        }
        if mode != Mode::Supersede {
            if table.as_deref() != Some("options") {
                let what = format!("{name}: TOML has words to add to options of messages only");
                return self.note(entry.line, Became::Dropped, what);
            }
            self.note_order(entry, parts);
        }
        let bytes = match &entry.what {
            What::Option { value: Value::Bytes(bytes), .. }
            | What::Parameter { value: Value::Bytes(bytes), .. } => Some(bytes.clone()),
            _ => None,
        };
        let mut valued = Valued { at, text, place, line: entry.line, mode, bytes };
        let values = parts.tables.entry(table).or_default();
        if let Some(before) = values.get(&name).filter(|_| mode != Mode::Supersede) {
            match together(before, &valued) {
                Some(None) => return,
                Some(Some((mode, bytes))) => {
                    if let What::Option { space, code, .. } = entry.what {
                        valued.text = self.option_bytes(space, code, &bytes).unwrap_or_default();
                    }
                    (valued.mode, valued.bytes) = (mode, Some(bytes));
                }
                None => {
                    let what = format!("{name}: TOML has one value for an option of a scope");
                    return self.note(entry.line, Became::Dropped, what);
                }
            }
        }
        values.insert(name, valued);
    }

    fn set(
        &mut self,
        (at, entry): (usize, &Entry),
        name: String,
        value: &str,
        parts: &mut Parts<'_>,
    ) {
        self.note_order(entry, parts);
        let values = parts.tables.entry(Some("set".to_owned())).or_default();
        let (place, line) = (entry.place, entry.line);
        let valued =
            Valued { at, text: literal(value), place, line, mode: Mode::Supersede, bytes: None };
        if values.insert(name.clone(), valued).is_some() {
            let what = format!("set {name}: of several in one scope the last stands");
            self.note(line, Became::Changed, what);
        }
    }

    /// In TOML it stands before the conditions of its scope.
    fn note_order(&mut self, entry: &Entry, parts: &Parts<'_>) {
        if !parts.conditions.is_empty() {
            let what = "in TOML it counts before the conditions that it stands behind here";
            self.note(entry.line, Became::Changed, what);
        }
    }

    fn note_other(&mut self, line: Line, word: &str) {
        let what = format!("{word}: TOML has no words for it here");
        self.note(line, Became::Dropped, what);
    }

    fn branches(
        &mut self,
        path: &str,
        entry: &Entry,
        branches: Vec<Branch>,
        hidden: &HashSet<Key>,
    ) {
        for (at, (test, entries)) in branches.iter().enumerate() {
            let within = match (at, test) {
                (0, _) => format!("{path}.if"),
                (_, Some(_)) => format!("{path}.if.elsif"),
                (_, None) => format!("{path}.if.else"),
            };
            match test {
                Some(test) => {
                    self.line(format!("\n[[{within}]]"));
                    self.line_of(entry.place, format!("test = {}", literal(test)));
                }
                None => self.line(format!("\n[{within}]")),
            }
            self.scope_without(&within, entries.iter().collect(), hidden);
        }
        self.count("conditions");
    }

    fn switch(&mut self, path: &str, entry: &Entry, switch: Switch, hidden: &HashSet<Key>) {
        let Switch { value, mut cases } = switch;
        let place = cases.iter().position(|case| case.is_default);
        if let Some(place) = place.filter(|place| place + 1 < cases.len()) {
            // Where nothing falls into it nor out of it, it may stand last.
            let apart = cases[place].ends && place.checked_sub(1).is_none_or(|at| cases[at].ends);
            if !apart {
                let what = "a `switch` whose `default` stands between cases and falls through";
                return self.note(entry.line, Became::Dropped, what);
            }
            let default = cases.remove(place);
            if let Some(last) = cases.last_mut() {
                last.ends = true;
            }
            cases.push(default);
        }
        self.line(format!("\n[[{path}.switch]]"));
        self.line_of(entry.place, format!("value = {}", literal(&value)));
        let count = cases.len();
        for (at, case) in cases.into_iter().enumerate() {
            let within = match case.is_default {
                true => {
                    self.line(format!("\n[{path}.switch.default]"));
                    format!("{path}.switch.default")
                }
                false => {
                    self.line(format!("\n[[{path}.switch.case]]"));
                    let labels = match case.labels.as_slice() {
                        [label] => label.clone(),
                        labels => format!("[{}]", labels.join(", ")),
                    };
                    self.line_of(entry.place, format!("is = {labels}"));
                    if !case.ends && at + 1 < count {
                        self.line("fall-through = true");
                    }
                    format!("{path}.switch.case")
                }
            };
            self.scope_without(&within, case.entries.iter().collect(), hidden);
        }
        self.count("switches");
    }

    fn on(&mut self, path: &str, entry: &Entry, on: &On) {
        for (line, done) in &on.done {
            if let Done::Other(word) = done {
                self.note_other(*line, word);
            }
        }
        let tables = on.tables();
        if tables.is_empty() {
            let what = "an `on` without statements: TOML has no words for it";
            return self.note(entry.line, Became::Dropped, what);
        }
        self.comments_before(entry.line);
        let events: Vec<String> = on.events.iter().map(|event| quoted(event)).collect();
        for lines in tables {
            self.line(format!("\n[[{path}.on]]"));
            match events.as_slice() {
                [event] => self.line(format!("event = {event}")),
                events => self.line(format!("event = [{}]", events.join(", "))),
            }
            for line in lines {
                self.line_of(entry.place, line);
            }
        }
        self.count("events");
    }

    /// The key and value of an entry; what TOML lacks is noted.
    fn entry(&mut self, path: &str, entry: &Entry) -> Option<(Key, String)> {
        let (space, code, given) = match &entry.what {
            What::Statements(_) => return None,
            What::Parameter { row, value } => {
                let found = self.parameter(row.name, value, entry, path == "dhcp");
                // It stands in [control].
                let elsewhere = path == "dhcp" && row.name.starts_with("omapi-");
                if found.is_none() && !elsewhere {
                    let why = match does_nothing(row.status) {
                        true => row.note,
                        false => "TOML has no key for it here",
                    };
                    self.note(entry.line, Became::Dropped, format!("{}: {why}", row.name));
                }
                return found.map(|(key, value)| ((None, key), value));
            }
            What::Option { space, code, value } => (*space, *code, value),
        };
        let value = self.option_value(space, code, given, entry)?;
        let name = self.option_name(space, code);
        let table = || Some("options".to_owned());
        if space == self.reader.dhcp {
            if path.ends_with("host") && code == 61 {
                return Some(((None, "client-id".to_owned()), value));
            }
            if lower::option(&self.reader.spaces, space, code).is_none() {
                let what = format!("option {name}: the server works it out");
                self.note(entry.line, Became::Dropped, what);
                return None;
            }
            return Some(match code {
                54 => ((None, "server-identifier".to_owned()), value),
                _ => ((table(), name), value),
            });
        }
        let of = self.reader.spaces.get(space).name.to_string();
        let why = match &*of {
            standard::FQDN | standard::AGENT | standard::DHCP6 => "it does nothing",
            _ if !self.reader.spaces.is_plain(space) => "TOML has no such spaces",
            _ => return Some(((Some(format!("options.{of}")), name), value)),
        };
        self.note(entry.line, Became::Dropped, format!("option {of}.{name}: {why}"));
        None
    }

    /// Lines in the order of the file.
    fn values(&mut self, values: Values) {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|(_, value)| value.at);
        for (key, Valued { text, place, line, mode, .. }) in values {
            self.comments_before(line);
            let text = match mode {
                Mode::Supersede => text,
                Mode::Default => format!("{{ default = {text} }}"),
                Mode::Append => format!("{{ append = {text} }}"),
                Mode::Prepend => format!("{{ prepend = {text} }}"),
            };
            self.line_of(place, format!("{key} = {text}"));
        }
    }

    /// The key and value of a parameter.
    fn parameter(
        &self,
        name: &str,
        given: &Value,
        entry: &Entry,
        outermost: bool,
    ) -> Option<(String, String)> {
        let parameter = Parameter::by_dhcpd_name(name);
        let key = match name {
            "abandon-lease-time" if outermost => "decline-time",
            "remote-port" | "limited-broadcast-address" if outermost => name,
            _ => parameter?.key(),
        };
        let bytes = match given {
            Value::Missing => return None,
            Value::Expression(_) => return Some((key.to_owned(), self.assigned(entry)?)),
            Value::Bytes(bytes) => bytes,
        };
        let number = bytes.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        // No file at all.
        if key == "filename" && bytes.is_empty() {
            return Some(("boot".to_owned(), "[{ file = \"none\" }]".to_owned()));
        }
        let text = match parameter {
            Some(Parameter::BootpLeaseCutoff) => number.to_string(),
            Some(Parameter::PingTimeoutMs) => quoted(&format!("{number}ms")),
            Some(Parameter::Flag(_)) => (number == 1).to_string(),
            None if key == "decline-time" => seconds(number),
            None if bytes.len() == 4 => quoted(&std::net::Ipv4Addr::from(number).to_string()),
            None => number.to_string(),
            Some(parameter) => match Settings::kind(parameter) {
                OptionType::Address => quoted(&std::net::Ipv4Addr::from(number).to_string()),
                OptionType::Text => quoted(&String::from_utf8_lossy(bytes)),
                OptionType::Unsigned(4) => seconds(number),
                _ => number.to_string(),
            },
        };
        Some((key.to_owned(), text))
    }

    /// The name of an option in TOML: a name that it knows, or the code.
    pub(super) fn option_name(&self, space: SpaceNumber, code: u32) -> String {
        let spaces: &Spaces = &self.reader.spaces;
        let Some(definition) = spaces.get(space).coded(code) else { return code.to_string() };
        let own = self.reader.defines.contains(&(space, code));
        let standard = u8::try_from(code).ok().and_then(options::by_code);
        let known = space == self.reader.dhcp
            && standard.is_some_and(|standard| standard.is_named(&definition.name));
        match own || known {
            true => definition.name.to_string(),
            false => code.to_string(),
        }
    }

    fn option_value(
        &mut self,
        space: SpaceNumber,
        code: u32,
        given: &Value,
        entry: &Entry,
    ) -> Option<String> {
        let bytes = match given {
            Value::Missing => {
                let what = "a name of a host that nobody knows: write its address";
                self.note(entry.line, Became::Dropped, what);
                return None;
            }
            Value::Expression(_) => return self.assigned(entry),
            Value::Bytes(bytes) => bytes,
        };
        let is_names = self.format_of(space, code).is_some_and(|format| {
            let own = self.reader.defines.contains(&(space, code));
            format.parts == [Part::Names { compressed: true }] && !own
        });
        let names = if is_names { self.names(entry) } else { None };
        names.or_else(|| self.option_bytes(space, code, bytes))
    }

    fn format_of(&self, space: SpaceNumber, code: u32) -> Option<&Format> {
        self.reader.spaces.get(space).coded(code).map(|definition| &definition.format)
    }

    /// Bytes of an option as its type has them.
    pub(super) fn option_bytes(
        &self,
        space: SpaceNumber,
        code: u32,
        bytes: &[u8],
    ) -> Option<String> {
        let own = self.reader.defines.contains(&(space, code));
        Some(match self.format_of(space, code) {
            Some(format) if format.parts == [Part::Names { compressed: true }] && !own => {
                super::toml::hex(bytes)
            }
            // The one number with a sign among the standard options.
            Some(_) if space == self.reader.dhcp && code == 2 && !own => {
                let octets: [u8; 4] = bytes.try_into().ok()?;
                i32::from_be_bytes(octets).to_string()
            }
            Some(format) => value(format, bytes),
            None => super::toml::bytes(bytes),
        })
    }

    /// Names in quotes, as they are written.
    fn names(&self, entry: &Entry) -> Option<String> {
        let text = self.source(entry.place)?;
        let start = text.find('"')?;
        let names = text[start..].trim_end_matches(';').trim();
        (!names.contains('\\')).then(|| format!("[{}]", one_line(names)))
    }

    /// The expression behind the `=` of an entry.
    fn assigned(&self, entry: &Entry) -> Option<String> {
        let text = self.source(entry.place)?;
        let (_, expression) = text.split_once('=')?;
        Some(expressed(&one_line(expression.trim_end().trim_end_matches(';'))))
    }

    pub(super) fn source(&self, place: Place) -> Option<&str> {
        self.reader.files.get(place.file)?.text()?.get(place.range())
    }

    /// The text of a file, to be read while it is written of.
    pub(super) fn text(&mut self, file: u32) -> Option<Rc<str>> {
        let text = || self.reader.files.get(file)?.text().map(Rc::from);
        self.texts.entry(file).or_insert_with(text).clone()
    }
}

/// What comes of two statements for one option in one scope: what becomes of a value of before, and
/// the bytes. `Some(None)`: the second does nothing. `None`: one statement cannot say it.
fn together(before: &Valued, then: &Valued) -> Option<Option<(Mode, Vec<u8>)>> {
    let put = |mode, first: &Valued, second: &Valued| {
        let bytes = [first.bytes.as_deref()?, second.bytes.as_deref()?].concat();
        Some(Some((mode, bytes)))
    };
    match (before.mode, then.mode) {
        (_, Mode::Default) => Some(None),
        (mode @ (Mode::Supersede | Mode::Append), Mode::Append) => put(mode, before, then),
        (mode @ (Mode::Supersede | Mode::Prepend), Mode::Prepend) => put(mode, then, before),
        _ => None,
    }
}
