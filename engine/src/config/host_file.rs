//! `host-file`: hosts as a spreadsheet program writes them, CSV (RFC 4180) with the names of keys
//! in its first line. A row becomes the table that `[[dhcp.host]]` would be. The file is read a row
//! at a time and not kept.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::PathBuf;

use csv_core::{ReadRecordResult, Reader};

use super::fields;
use super::problem::{Fault, Problems};
use super::schema;
use super::source::{self, FileState, Files, Place};
use super::tree::{Entry, Node, Table, Value};

/// The longest row; a quote that is not closed would else take the rest of the file.
const LONGEST_ROW: usize = 64 << 10;

/// Keys of which a cell may hold several values, with blanks between them.
const LISTS: [&str; 3] = ["hardware", "uuid", "ip"];

/// One row: its cells, and where they stand.
#[derive(Debug, Default)]
struct Row {
    /// The whole of it, without its end.
    place: Range<usize>,
    cells: Vec<(Vec<u8>, Range<usize>)>,
}

/// A file that is read row by row.
#[derive(Debug)]
struct Rows<R> {
    input: R,
    parser: Reader,
    /// What has been read of the file and is in no row yet.
    text: Vec<u8>,
    /// Where `text` begins in the file.
    start: usize,
}

/// Reads the hosts of a file; `named` is where its path stands.
pub(super) fn read(
    path: PathBuf,
    named: Place,
    files: &mut Files,
    problems: &mut Problems,
    each: impl FnMut(Node, &mut Problems),
) {
    let name = path.display().to_string();
    let opened = source::open(&path)
        .map_err(|error| format!("the host file {name} cannot be read: {error}"));
    let added = opened.and_then(|(file, state)| Ok((files.add_unread(path, state)?, file, state)));
    let (id, file, state) = match added {
        Ok(added) => added,
        Err(text) => return problems.error(named, Fault::plain(text)),
    };
    let rows = Rows::new(BufReader::with_capacity(64 << 10, &file));
    let read = hosts(rows, id, problems, each);
    let changed = match read {
        Ok(read) => FileState::of(&file).is_ok_and(|now| now != state) || read != state.length(),
        Err(error) => {
            let text = format!("the host file {name} cannot be read: {error}");
            return problems.error(named, Fault::plain(text));
        }
    };
    if changed {
        problems.error(named, Fault::changed(&format!("the host file {name}")));
    }
}

/// Gives every row as a table; says how many bytes there were.
fn hosts(
    mut rows: Rows<impl BufRead>,
    file: u32,
    problems: &mut Problems,
    mut each: impl FnMut(Node, &mut Problems),
) -> io::Result<u64> {
    let mut columns: Option<Vec<&'static str>> = None;
    loop {
        let row = match rows.next()? {
            Next::Row(row) => row,
            Next::End => break,
            Next::TooLong(range) => {
                let help = "a quote is not closed: a text with quotes doubles them: \"2\"\" disk\"";
                let fault = Fault::new("this row does not end", help);
                problems.error(Place::of(file, range), fault);
                // What follows is in pieces, and the file is wrong in any case.
                return rows.skip_rest();
            }
        };
        match &columns {
            Some(columns) => {
                if let Some(node) = table(columns, row, file, problems) {
                    each(node, problems);
                }
            }
            None => match header(&row, file, problems) {
                Some(header) => columns = Some(header),
                None => return rows.skip_rest(),
            },
        }
    }
    if columns.is_none() {
        let help = "write the names of keys into its first line: name,hardware,ip";
        problems.error(Place::of(file, 0..0), Fault::new("this host file is empty", help));
    }
    Ok(rows.start as u64)
}

/// The keys of the columns, if all of them are known.
fn header(row: &Row, file: u32, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let mut columns: Vec<&'static str> = Vec::new();
    let mut good = true;
    for (cell, range) in &row.cells {
        let name = String::from_utf8_lossy(cell);
        let known = schema::HOST_FILE.all_keys().find(|key| *key == &*name);
        let fault = match known {
            Some(key) if columns.contains(&key) => {
                Fault::new(format!("two columns are named `{key}`"), "keep one of them")
            }
            Some(key) => {
                columns.push(key);
                continue;
            }
            None if row.cells.len() == 1 && name.contains([';', '\t']) => {
                Fault::new("the cells of a host file stand between commas", "save it with commas")
            }
            None => fields::unknown_key(&name, &schema::HOST_FILE),
        };
        problems.error(Place::of(file, range.clone()), fault);
        good = false;
    }
    if good && !columns.contains(&"name") {
        let fault = Fault::new("a host file needs the column `name`", "add it: name,hardware,ip");
        problems.error(Place::of(file, row.place.clone()), fault);
        good = false;
    }
    good.then_some(columns)
}

/// A row as a table.
fn table(columns: &[&'static str], row: Row, file: u32, problems: &mut Problems) -> Option<Node> {
    let row_place = Place::of(file, row.place);
    if row.cells.len() != columns.len() {
        let (cells, columns) = (row.cells.len(), columns.len());
        let text = format!("this row has {cells} cells, and the first line {columns}");
        let help = "an empty cell has its comma, too, and a text with commas stands in quotes";
        problems.error(row_place, Fault::new(text, help));
        return None;
    }
    let mut entries = Vec::with_capacity(columns.len());
    for (&key, (cell, range)) in columns.iter().zip(row.cells) {
        let place = Place::of(file, range);
        let Ok(text) = String::from_utf8(cell) else {
            let help = "save the file as UTF-8; write bytes as hex:0a0b";
            problems.error(place, Fault::new("this is not UTF-8", help));
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let node = |value| Node { place, value };
        let inner = |key: &str, value: Node| {
            Value::Table(Table { entries: vec![Entry { key: key.into(), place, node: value }] })
        };
        let (key, value) = match key {
            "host-name" => ("options", inner(key, node(Value::Text(text.into())))),
            "boot-file" => ("boot", inner("file", node(Value::Text(text.into())))),
            // A bare number is seconds.
            "lease-time" => match text.parse() {
                Ok(seconds) => (key, Value::Integer(seconds)),
                Err(_) => (key, Value::Text(text.into())),
            },
            _ if LISTS.contains(&key) && text.contains(' ') => {
                let values = text.split_ascii_whitespace();
                (key, Value::Array(values.map(|value| node(Value::Text(value.into()))).collect()))
            }
            _ => (key, Value::Text(text.into())),
        };
        entries.push(Entry { key: key.into(), place, node: node(value) });
    }
    Some(Node { place: row_place, value: Value::Table(Table { entries }) })
}

/// What comes next in a file.
enum Next {
    Row(Row),
    /// A row that is longer than any.
    TooLong(Range<usize>),
    End,
}

impl<R: BufRead> Rows<R> {
    fn new(input: R) -> Self {
        Self { input, parser: Reader::new(), text: Vec::new(), start: 0 }
    }

    /// The next row that says something.
    fn next(&mut self) -> io::Result<Next> {
        let mut cells = Vec::new();
        let mut ends = Vec::new();
        let mut quoted = false;
        loop {
            let before = self.text.len();
            let room = (LONGEST_ROW + 1).saturating_sub(before) as u64;
            let at_end = (&mut self.input).take(room).read_until(b'\n', &mut self.text)? == 0;
            if self.text.is_empty() {
                return Ok(Next::End);
            }
            if self.text.len() > LONGEST_ROW {
                return Ok(Next::TooLong(self.start..self.start + self.text.len()));
            }
            if quoted && !at_end && !self.text[before..].contains(&b'"') {
                continue;
            }
            if self.start == 0 && self.text.starts_with(BYTE_ORDER_MARK) {
                self.take(BYTE_ORDER_MARK.len());
            }
            if self.text.trim_ascii_start().is_empty() || self.text.starts_with(b"#") {
                let line = self.text.iter().position(|&byte| byte == b'\n');
                self.take(line.map_or(self.text.len(), |newline| newline + 1));
                continue;
            }
            self.parser.reset();
            cells.resize(self.text.len(), 0);
            ends.resize(self.text.len() + 1, 0);
            let (mut result, used, mut length, mut count) =
                self.parser.read_record(&self.text, &mut cells, &mut ends);
            if at_end && result == ReadRecordResult::InputEmpty {
                let (last, _, more, others) =
                    self.parser.read_record(&[], &mut cells[length..], &mut ends[count..]);
                (result, length, count) = (last, length + more, count + others);
            }
            // Else it goes on behind the line, up to the end of a quote.
            quoted = result == ReadRecordResult::InputEmpty;
            if result == ReadRecordResult::Record {
                cells.truncate(length);
                let row = self.row(&cells, &ends[..count], used);
                self.take(used);
                if self.text.starts_with(b"\n") {
                    self.take(1);
                }
                return Ok(Next::Row(row));
            }
        }
    }

    /// The row in the first bytes of the text.
    fn row(&self, cells: &[u8], ends: &[usize], used: usize) -> Row {
        let text = self.text[..used].trim_ascii_end();
        let place = self.start..self.start + text.len();
        let ranges = ranges(text);
        let starts = std::iter::once(&0).chain(ends);
        let cells = starts.zip(ends).enumerate().map(|(index, (&start, &end))| {
            let range =
                ranges.get(index).map(|range| self.start + range.start..self.start + range.end);
            (cells[start..end].trim_ascii().to_vec(), range.unwrap_or(place.clone()))
        });
        Row { cells: cells.collect(), place }
    }

    fn take(&mut self, length: usize) {
        self.text.drain(..length);
        self.start += length;
    }

    /// Reads what is left; the length of all.
    fn skip_rest(&mut self) -> io::Result<u64> {
        let rest = io::copy(&mut self.input, &mut io::sink())?;
        Ok((self.start + self.text.len()) as u64 + rest)
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where the cells of a row stand in it, with their quotes and without blanks around them.
fn ranges(row: &[u8]) -> Vec<Range<usize>> {
    let mut cells = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut open = false;
    for (at, &byte) in row.iter().enumerate() {
        quoted |= at == start && byte == b'"';
        open ^= quoted && byte == b'"';
        if byte == b',' && !open {
            cells.push(start..at);
            (start, quoted) = (at + 1, false);
        }
    }
    cells.push(start..row.len());
    cells
        .into_iter()
        .map(|cell| {
            let text = &row[cell.clone()];
            let start = cell.start + (text.len() - text.trim_ascii_start().len());
            start..start + text.trim_ascii().len()
        })
        .collect()
}
