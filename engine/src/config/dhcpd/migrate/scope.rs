//! The values of one scope.

use std::collections::BTreeMap;
use std::rc::Rc;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::expression::Token;
use super::super::super::option_types::OptionType;
use super::super::super::source::Place;
use super::super::super::{Line, Parameter, Settings};
use super::super::ast::{Entry, Value, What};
use super::super::cursor::{Counted, Cursor};
use super::super::format::Part;
use super::super::grammar::{Mistake, Parser};
use super::super::spaces::SpaceNumber;
use super::super::{lower, standard};
use super::toml::{literal, quoted, seconds, value};
use super::{Became, Spaces, Writer, does_nothing, one_line};

/// A branch of an `if`: its condition, which the last may lack, and what it says.
type Branch = (Option<String>, Vec<Entry>);

impl Writer<'_> {
    /// Writes the keys of a scope, behind the heading of its table.
    pub(super) fn scope(&mut self, path: &str, entries: Vec<&Entry>) {
        // Of several values for one key the last stands.
        let mut keys: BTreeMap<String, (usize, String, Line)> = BTreeMap::new();
        let mut set: BTreeMap<String, (usize, String, Line)> = BTreeMap::new();
        let mut spaces: BTreeMap<String, BTreeMap<String, (String, Line)>> = BTreeMap::new();
        let mut conditions = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            match &entry.what {
                What::Statements(_) => conditions.push(entry),
                What::Parameter { row, value: given } => {
                    match self.parameter(row.name, given, entry, path == "dhcp") {
                        Some((key, value)) => drop(keys.insert(key, (at, value, entry.line))),
                        None if path == "dhcp" && row.name.starts_with("omapi-") => {}
                        None if does_nothing(row.status) => {
                            let what = format!("{}: {}", row.name, row.note);
                            self.note(entry.line, Became::Dropped, what);
                        }
                        None => {
                            let what = format!("{}: TOML has no key for it here", row.name);
                            self.note(entry.line, Became::Dropped, what);
                        }
                    }
                }
                What::Option { space, code, value: given } => {
                    let Some(value) = self.option_value(*space, *code, given, entry) else {
                        continue;
                    };
                    let name = self.option_name(*space, *code);
                    if *space == self.reader.dhcp {
                        if path.ends_with("host") && *code == 61 {
                            keys.insert("client-id".to_owned(), (at, value, entry.line));
                        } else if lower::option(&self.reader.spaces, *space, *code).is_none()
                            || *code == 55
                        {
                            let what = format!("option {name}: the server works it out");
                            self.note(entry.line, Became::Dropped, what);
                        } else if *code == 54 {
                            keys.insert("server-identifier".to_owned(), (at, value, entry.line));
                        } else {
                            set.insert(name, (at, value, entry.line));
                        }
                    } else {
                        let of = self.reader.spaces.get(*space).name.to_string();
                        if [standard::FQDN, standard::AGENT, standard::DHCP6].contains(&&*of) {
                            let what = format!("option {of}.{name}: it does nothing");
                            self.note(entry.line, Became::Dropped, what);
                        } else if self.reader.spaces.is_enterprise(*space) {
                            let what = format!("option {of}.{name}: TOML has no such spaces");
                            self.note(entry.line, Became::Dropped, what);
                        } else {
                            spaces.entry(of).or_default().insert(name, (value, entry.line));
                        }
                    }
                }
            }
        }
        self.lease_times(path, &mut keys);
        self.values(keys);
        if !set.is_empty() || !spaces.is_empty() {
            self.line(format!("\n[{path}.options]"));
            self.values(set);
            for (space, values) in spaces {
                let values: Vec<String> = values
                    .into_iter()
                    .map(|(name, (value, line))| {
                        self.comments_before(line);
                        format!("{name} = {value}")
                    })
                    .collect();
                self.line(format!("{space} = {{ {} }}", values.join(", ")));
            }
        }
        for entry in conditions {
            self.condition(path, entry);
        }
    }

    /// In TOML the usual lease time lies between the least and the longest. In dhcpd it need not,
    /// and there are limits where nothing is said: the least counts first, then the longest.
    fn lease_times(&mut self, path: &str, keys: &mut BTreeMap<String, (usize, String, Line)>) {
        const NAMES: [&str; 3] = ["lease-time", "min-lease-time", "max-lease-time"];
        let given = NAMES.map(|name| keys.get(name).cloned());
        let own = given.clone().map(|given| super::toml::number_of(&given?.1));
        let outermost = path == "dhcp";
        if !outermost && given.iter().all(Option::is_none) {
            return;
        }
        let around = self.lease_times;
        let [mut usual, least, mut longest] =
            [0, 1, 2].map(|which| own[which].unwrap_or(around[which]));
        // Whoever says how long a lease usually is means that it may be so long.
        if own[2].is_none() {
            longest = longest.max(usual);
        }
        longest = longest.max(least);
        let least = if own[1].is_none() { least.min(usual).min(longest) } else { least };
        usual = usual.clamp(least, longest);
        let (at, line) = given
            .iter()
            .flatten()
            .map(|(at, _, line)| (*at, *line))
            .next_back()
            .unwrap_or((0, Line { file: u32::MAX, line: 0 }));
        // Their comments stand where the file has them.
        let nowhere = Line { file: u32::MAX, line: 0 };
        let mut changed = false;
        for (which, time) in [usual, least, longest].into_iter().enumerate() {
            if own[which] == Some(time)
                || own[which].is_none() && around[which] == time && !outermost
            {
                continue;
            }
            changed |= own[which].is_some() || around[which] != time;
            let (at, line) =
                given[which].as_ref().map_or((at, nowhere), |(at, _, line)| (*at, *line));
            keys.insert(NAMES[which].to_owned(), (at, seconds(time), line));
        }
        if changed {
            let what = "lease times: the usual one lies between the least and the longest";
            self.note(line, Became::Changed, what);
        }
        if outermost {
            self.lease_times = [usual, least, longest];
        }
    }

    /// Lines in the order of the file.
    fn values(&mut self, values: BTreeMap<String, (usize, String, Line)>) {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|(_, (at, ..))| *at);
        for (key, (_, value, line)) in values {
            self.comments_before(line);
            self.line(format!("{key} = {value}"));
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
    fn option_name(&self, space: SpaceNumber, code: u32) -> String {
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
        let definition = self.reader.spaces.get(space).coded(code);
        let format = definition.map(|definition| definition.format.clone());
        let own = self.reader.defines.contains(&(space, code));
        Some(match format {
            Some(format) if format.parts == [Part::Names { compressed: true }] && !own => {
                self.names(entry).unwrap_or_else(|| super::toml::hex(bytes))
            }
            // The one number with a sign among the standard options.
            Some(_) if space == self.reader.dhcp && code == 2 && !own => {
                let octets: [u8; 4] = bytes.as_slice().try_into().ok()?;
                i32::from_be_bytes(octets).to_string()
            }
            Some(format) => value(&format, bytes),
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

    fn source(&self, place: Place) -> Option<&str> {
        self.reader.files.get(place.file)?.text()?.get(place.range())
    }

    /// The text of a file, to be read while it is written of.
    fn text(&mut self, file: u32) -> Option<Rc<str>> {
        let text = || self.reader.files.get(file)?.text().map(Rc::from);
        self.texts.entry(file).or_insert_with(text).clone()
    }

    /// Statements that depend on the message: `if` is taken, others are dropped.
    fn condition(&mut self, path: &str, entry: &Entry) {
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
                    self.line(format!("test = {}", literal(test)));
                }
                None => self.line(format!("\n[{within}]")),
            }
            self.scope(&within, entries.iter().collect());
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
