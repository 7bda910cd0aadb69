//! The configuration as a tree whose every key and value knows its place, of one file or several.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::problem::{Fault, Problems};
use super::rows::{Piece, Row};
use super::source::Place;

/// Deeper than any configuration, and shallow enough for every stack.
const DEPTH_LIMIT: u32 = 32;

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
    /// Tables that are read when they are wanted.
    Row(Row),
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
            Self::Table(_) | Self::Row(_) => "a table",
        }
    }
}

impl Table {
    /// Reads one file. What does not parse is noted; the rest is kept, so that all errors of a file
    /// are seen at once.
    pub(super) fn parse(text: &str, file: u32, problems: &mut Problems) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let pieces = [Piece { at: 0, range: 0..text.len(), row: None }];
        let mut converter = Converter::new(file, text, &pieces, text.len());
        errors.iter().for_each(|error| converter.note(error, problems));
        converter.table(document.into_inner(), problems)
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
    nodes.iter().all(|node| matches!(node.value, Value::Table(_) | Value::Row(_)))
}

/// Makes trees of what the parser made of some pieces of a file.
#[derive(Debug)]
pub(super) struct Converter<'a> {
    file: u32,
    /// The pieces, put together.
    text: &'a str,
    pieces: &'a [Piece],
    /// What the end of `text` is in the file.
    end: usize,
    /// Where the rows begin that were met, in the file.
    pub(super) rows: Vec<usize>,
    /// Whether something far from a row belongs to its last table.
    pub(super) scattered: bool,
}

impl<'a> Converter<'a> {
    pub(super) fn new(file: u32, text: &'a str, pieces: &'a [Piece], end: usize) -> Self {
        Self { file, text, pieces, end, rows: Vec::new(), scattered: false }
    }

    /// Notes what the parser says.
    pub(super) fn note(&self, error: &Error, problems: &mut Problems) {
        problems.unreadable(self.place(span(error, self.text)), syntax(error.message()));
    }

    pub(super) fn table(&mut self, table: DeTable<'_>, problems: &mut Problems) -> Table {
        self.table_at(table, DEPTH_LIMIT, problems)
    }

    /// The row whose first header has this place in the text.
    pub(super) fn row(&self, at: usize) -> Option<&'a Row> {
        self.piece(at)?.row.as_ref()
    }

    fn piece(&self, at: usize) -> Option<&'a Piece> {
        let behind = self.pieces.partition_point(|piece| piece.at <= at);
        self.pieces.get(behind.checked_sub(1)?)
    }

    fn place(&self, span: Range<usize>) -> Place {
        let start = match self.piece(span.start) {
            Some(piece) if span.start < self.text.len() => {
                piece.range.start + (span.start - piece.at)
            }
            _ => self.end,
        };
        Place::of(self.file, start..start + span.len())
    }

    fn table_at(&mut self, table: DeTable<'_>, depth: u32, problems: &mut Problems) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| {
                let place = self.place(key.span());
                let node = self.node(value, place, depth, problems);
                Entry { key: key.into_inner().into(), place, node }
            })
            .collect();
        entries.sort_by_key(|entry| entry.place);
        Table { entries }
    }

    fn node(
        &mut self,
        value: Spanned<DeValue<'_>>,
        key: Place,
        depth: u32,
        problems: &mut Problems,
    ) -> Node {
        let span = value.span();
        let place = self.place(span.clone());
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
                values.into_iter().map(|value| self.node(value, key, depth, problems)).collect(),
            ),
            // The tables around one have the place of a key in its header.
            DeValue::Table(table) => match self.row(span.start) {
                Some(row) if self.text[span.start..].starts_with('[') => {
                    self.rows.push(row.start());
                    self.scattered |= !table.is_empty();
                    Value::Row(row.clone())
                }
                _ => Value::Table(self.table_at(table, depth, problems)),
            },
        };
        Node { place, value }
    }
}

/// Where an error stands in the text; without a place of its own, at the end.
pub(super) fn span(error: &Error, text: &str) -> Range<usize> {
    error.span().unwrap_or(text.len()..text.len())
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
