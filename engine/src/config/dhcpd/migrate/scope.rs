//! The values of one scope.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::expression::Token;
use super::super::super::option_types::OptionType;
use super::super::super::source::Place;
use super::super::super::{Line, Parameter, Settings};
use super::super::ast::{Entry, Value, What};
use super::super::cursor::{Counted, Cursor};
use super::super::format::{Format, Part};
use super::super::grammar::{Mistake, Parser};
use super::super::spaces::SpaceNumber;
use super::super::{lower, standard};
use super::toml::{literal, quoted, seconds, value};
use super::{Became, Spaces, Writer, does_nothing, one_line};

/// A branch of an `if`: its condition, which the last may lack, and what it says.
type Branch = (Option<String>, Vec<Entry>);

/// Keys of one table, each with its place in the scope, its value, and where it comes from.
type Values<'e> = BTreeMap<String, (usize, String, &'e Entry)>;

/// What a value is for: a table, and a key in it.
type Key = (Option<String>, String);

impl Writer<'_> {
    /// Writes the keys of a scope, behind the heading of its table.
    pub(super) fn scope(&mut self, path: &str, entries: Vec<&Entry>) {
        self.scope_without(path, entries, &HashSet::new());
    }

    /// The same without the values for keys that a later statement has.
    fn scope_without(&mut self, path: &str, entries: Vec<&Entry>, hidden: &HashSet<Key>) {
        // Of several values for one key the last stands.
        let mut tables: BTreeMap<Option<String>, Values<'_>> = BTreeMap::new();
        let mut conditions = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            if let What::Statements(_) = &entry.what {
                conditions.push((at, entry));
                continue;
            }
            if let Some(why) = self.unreadable(entry.place) {
                self.note(entry.line, Became::Dropped, why);
            } else if let Some(((table, key), value)) = self.entry(path, entry)
                && !hidden.contains(&(table.clone(), key.clone()))
            {
                tables.entry(table).or_default().insert(key, (at, value, entry));
            }
        }
        // In TOML conditions stand behind all values.
        let behind = |condition: usize| -> HashSet<Key> {
            let fixed = |(at, _, entry): &(usize, String, &Entry)| {
                let (What::Option { value, .. } | What::Parameter { value, .. }) = &entry.what
                else {
                    return false;
                };
                *at > condition && matches!(value, Value::Bytes(_))
            };
            let keys = tables.iter().flat_map(|(table, values)| {
                let keys = values.iter().filter(|(_, value)| fixed(value)).map(|(key, _)| key);
                keys.map(|key| (table.clone(), key.clone()))
            });
            keys.chain(hidden.iter().cloned()).collect()
        };
        let conditions: Vec<_> =
            conditions.into_iter().map(|(at, entry)| (entry, behind(at))).collect();
        for (table, values) in tables {
            if let Some(table) = table {
                self.line(format!("\n[{path}.{table}]"));
            }
            self.values(values);
        }
        for (entry, hidden) in conditions {
            self.condition(path, entry, &hidden);
        }
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
    fn values(&mut self, values: Values<'_>) {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|(_, (at, ..))| *at);
        for (key, (_, value, entry)) in values {
            self.comments_before(entry.line);
            self.line_of(entry.place, format!("{key} = {value}"));
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
        let expression = one_line(expression.trim_end().trim_end_matches(';'));
        Some(format!("{{ expression = {} }}", literal(&expression)))
    }

    pub(super) fn source(&self, place: Place) -> Option<&str> {
        self.reader.files.get(place.file)?.text()?.get(place.range())
    }

    /// The text of a file, to be read while it is written of.
    fn text(&mut self, file: u32) -> Option<Rc<str>> {
        let text = || self.reader.files.get(file)?.text().map(Rc::from);
        self.texts.entry(file).or_insert_with(text).clone()
    }

    /// Statements that depend on the message: `if` is taken, others are dropped.
    fn condition(&mut self, path: &str, entry: &Entry, hidden: &HashSet<Key>) {
        if let Some(why) = self.unreadable(entry.place) {
            return self.note(entry.line, Became::Dropped, why);
        }
        let file = entry.place.file;
        let Some(text) = self.text(file) else { return };
        let from = Counted { at: entry.place.start as usize, line: entry.line.line };
        let cursor = Cursor::at(&text, file, from, self.reader.problems);
        let mut parser = Parser { cursor, reader: &mut self.reader };
        if !parser.cursor.peek().is_word("if") {
            let word = parser.cursor.word().unwrap_or_default().to_owned();
            let what = format!("{word}: TOML has no words for it; it stays in dhcpd's language");
            return self.note(entry.line, Became::Dropped, what);
        }
        let mut dropped = Vec::new();
        let branches = branches(&mut parser, &text, &mut dropped);
        for line in dropped {
            let what = "a statement of an `if` that TOML has no words for";
            self.note(line, Became::Dropped, what);
        }
        let Ok(branches) = branches else { return };
        self.comments_before(entry.line);
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
}

/// The branches of an `if`, from that word on.
fn branches(
    parser: &mut Parser<'_, '_, '_>,
    text: &str,
    dropped: &mut Vec<Line>,
) -> Result<Vec<Branch>, Mistake> {
    let mut branches: Vec<Branch> = Vec::new();
    loop {
        let last = parser.cursor.peek().is_word("else");
        if !branches.is_empty() && !last && !parser.cursor.peek().is_word("elsif") {
            return Ok(branches);
        }
        parser.take();
        let test = if !last || parser.word("if") {
            let start = parser.cursor.offset();
            while !matches!(parser.cursor.peek(), Token::Symbol('{') | Token::End) {
                parser.take();
            }
            Some(one_line(text.get(start..parser.cursor.offset()).unwrap_or_default()))
        } else {
            None
        };
        let whole = test.is_none();
        parser.symbol('{');
        let mut entries = Vec::new();
        while !parser.symbol('}') {
            if *parser.cursor.peek() == Token::End {
                return Ok(branches);
            }
            entries.extend(entry(parser, dropped)?);
        }
        branches.push((test, entries));
        if whole {
            return Ok(branches);
        }
    }
}

/// One statement of a branch.
fn entry(
    parser: &mut Parser<'_, '_, '_>,
    dropped: &mut Vec<Line>,
) -> Result<Option<Entry>, Mistake> {
    let start = parser.cursor.place();
    let line = parser.cursor.line(start);
    let word = parser.cursor.word().unwrap_or_default().to_ascii_lowercase();
    let what = match word.as_str() {
        "option" | "supersede" | "send" => {
            parser.take();
            Some(parser.assignment()?)
        }
        "if" => {
            loop {
                parser.skip();
                if !parser.cursor.peek().is_word("else") && !parser.cursor.peek().is_word("elsif") {
                    break;
                }
            }
            Some(What::Statements(Box::default()))
        }
        _ => parser.setting()?,
    };
    let Some(what) = what else {
        dropped.push(line);
        parser.skip();
        return Ok(None);
    };
    Ok(Some(Entry { place: parser.cursor.since(start), line, what }))
}
