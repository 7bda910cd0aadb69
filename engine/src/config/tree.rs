//! The configuration as a tree whose every key and value knows its place, of one file or several.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Problems};
use super::source::Place;

/// Deeper than any configuration, and shallow enough for every stack.
const DEPTH_LIMIT: u32 = 32;

/// Address space, of which a usual file touches a few pages.
const PARSER_STACK: usize = 64 << 20;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(Box<str>),
    /// Only numbers that fit are kept; others are refused where they are read.
    Integer(i64),
    Bool(bool),
    /// A number with a fraction or a date: no key takes one.
    Other(&'static str),
    Array(Vec<Node>),
    Table(Table),
}

/// Keys in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    /// The place of the key.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Value {
    /// What a person would call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Other(kind) => kind,
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Table {
    /// Reads one file. What does not parse is noted; the rest is kept, so that all errors of a file
    /// are seen at once.
    pub(super) fn parse(text: &str, file: u32, problems: &mut Problems) -> Self {
        // The parser bounds nesting to 80 tables, each behind a key of 80 parts, and drops what it
        // made by recursion: more than the stack of an ordinary thread holds.
        std::thread::scope(|scope| {
            let parser = std::thread::Builder::new()
                .name("configuration".to_owned())
                .stack_size(PARSER_STACK)
                .spawn_scoped(scope, || {
                    let (document, errors) = DeTable::parse_recoverable(text);
                    let mut found = Problems::default();
                    for error in errors {
                        let end = text.len();
                        let span = error.span().unwrap_or(end..end);
                        found.unreadable(place(file, span), syntax(error.message()));
                    }
                    let table = convert_table(document.into_inner(), file, DEPTH_LIMIT, &mut found);
                    (table, found)
                });
            let parsed = match parser.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(parsed)) => parsed,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(error) => {
                    let text = format!("no thread can be started to read files: {error}");
                    problems.general(Fault::plain(text));
                    return Self::default();
                }
            };
            problems.absorb(parsed.1);
            parsed.0
        })
    }

    /// Adds what another file says. Tables join; lists of tables (`[[...]]`) follow each other;
    /// anything else may be said once only.
    pub(super) fn merge(&mut self, other: Self, problems: &mut Problems) {
        for entry in other.entries {
            let Some(own) = self.entries.iter_mut().find(|own| own.key == entry.key) else {
                self.entries.push(entry);
                continue;
            };
            match (&mut own.node.value, entry.node.value) {
                (Value::Table(own), Value::Table(other)) => own.merge(other, problems),
                (Value::Array(own), Value::Array(other)) if are_tables(own) && are_tables(&other) => {
                    own.extend(other);
                }
                _ => problems.conflict(
                    entry.place,
                    Fault::new(
                        format!("`{}` is set in two files", entry.key),
                        "an included file adds to the others and overrides nothing: keep one of them",
                    ),
                    own.place,
                    "first set here",
                ),
            }
        }
    }
}

fn are_tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node.value, Value::Table(_)))
}

fn convert_table(table: DeTable<'_>, file: u32, depth: u32, problems: &mut Problems) -> Table {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let place = place(file, key.span());
            Entry {
                key: key.into_inner().into(),
                place,
                node: convert(value, file, place, depth, problems),
            }
        })
        .collect();
    entries.sort_by_key(|entry| entry.place);
    Table { entries }
}

fn convert(
    value: Spanned<DeValue<'_>>,
    file: u32,
    key: Place,
    depth: u32,
    problems: &mut Problems,
) -> Node {
    let place = place(file, value.span());
    let Some(depth) = depth.checked_sub(1) else {
        problems.error(key, Fault::plain("tables and lists are nested too deeply here"));
        return Node { place, value: Value::Other("a value") };
    };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number of more than 64 bits"),
            }
        }
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(values) => Value::Array(
            values.into_iter().map(|value| convert(value, file, key, depth, problems)).collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, file, depth, problems)),
    };
    Node { place, value }
}

fn place(file: u32, span: std::ops::Range<usize>) -> Place {
    // Files above 4 GiB are refused before they are parsed.
    let clip = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
    Place { file, start: clip(span.start), end: clip(span.end) }
}

/// The parser's own words, with a way out for the slips that people make most.
fn syntax(message: &str) -> Fault {
    let text = format!("this is not TOML: {message}");
    if message.contains("quoted") || message.contains("string values must be") {
        Fault::new(text, "texts stand in quotes: lease-time = \"1h\"")
    } else if message.contains("duplicate key") {
        Fault::new(text, "a key stands once in a table; for several tables of a kind write [[...]]")
    } else {
        Fault::plain(text)
    }
}
