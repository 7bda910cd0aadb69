//! `[[dhcp.host]]` tables in a row: a file may have a million, and the tree of a table takes many
//! times the memory of its text. So the text is cut at their headers, what is left is read as a
//! whole, and the hosts are read some at a time when they are wanted. The text of a file is dropped
//! before that and read again, some at a time as well.
//!
//! The cuts are guessed from lines, and what looks like a header may be part of a text of several
//! lines. The parser confirms each: a piece without errors ends where the top level goes on. For a
//! piece with errors the parser is asked whether it takes the line behind it as a header. Where it
//! does not, the file is read as a whole.

use std::ops::Range;

use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};

use super::problem::{Fault, Problems};
use super::source::{SourceFile, Window};
use super::tree::{self, Converter, Node, Table, Value};

/// So much text is read at a time, or one host.
const BATCH: usize = if cfg!(test) { 200 } else { 64 << 10 };

/// So much text is in memory at a time, if it can be read again, or two batches of long tables.
const WINDOW: usize = 2 * BATCH;

/// The nesting at which the `toml` crate stops.
const PARSER_DEPTH: u32 = 80;

/// A way through tables.
type Path = &'static [&'static str];

/// Where the tables stand that come in thousands.
const PATHS: [Path; 2] = [&["dhcp", "host"], &["dhcp", "group", "host"]];

/// The parser does not see tables where the text is cut: the file must be read as a whole.
#[derive(Debug)]
pub(super) struct NotInRows {
    pub(super) file: u32,
}

/// Tables of one kind in a file, with nothing between them.
#[derive(Clone, Debug)]
pub(super) struct Row {
    path: Path,
    pub(super) file: u32,
    /// From the line of the first header to the end of the last table, in bytes.
    range: Range<usize>,
}

/// A stretch of a file that is read in one go with others.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where it begins in the text that is read.
    pub(super) at: usize,
    /// Where it stands in the file.
    pub(super) range: Range<usize>,
    /// The row that it stands for, of which it is the first header.
    pub(super) row: Option<Row>,
}

/// What a line begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Header {
    /// A table of a row.
    Table(Path),
    /// A table inside of such a table.
    Inner(Path),
    Other,
}

/// The tree of a file whose rows have not been read.
pub(super) fn parse(
    source: &SourceFile,
    file: u32,
    problems: &mut Problems,
) -> Result<Table, NotInRows> {
    let text = source.text().unwrap_or_default();
    let pieces = cut(text, file);
    let kept: String = pieces.iter().map(|piece| &text[piece.range.clone()]).collect();
    let (document, errors) = DeTable::parse_recoverable(&kept);
    let mut converter = Converter::new(file, &kept, &pieces, text.len());
    let mut found = Problems::default();
    for error in &errors {
        // A row is only its first table here, so what is wrong with that may be wrong with all.
        if converter.row(tree::span(error, &kept).start).is_some() {
            return Err(NotInRows { file });
        }
        converter.note(error, &mut found);
    }
    let mut before_rows = pieces.iter().filter(|piece| piece.row.is_none());
    let goes_on = |Piece { range, .. }: &Piece| goes_on_behind(&text[range.start..], range.len());
    if !errors.is_empty() && !before_rows.all(goes_on) {
        return Err(NotInRows { file });
    }
    let table = converter.table(document.into_inner(), &mut found);
    if converter.scattered {
        return Err(NotInRows { file });
    }
    for row in pieces.iter().filter_map(|piece| piece.row.as_ref()) {
        let met = converter.rows.iter().filter(|start| **start == row.start()).count();
        match met {
            1 => {}
            // The parser makes nothing of what stands behind some errors; it reads it all the same.
            0 if !errors.is_empty() => row.read(source, &mut found, |_, _| ())?,
            _ => return Err(NotInRows { file }),
        }
    }
    problems.absorb(found);
    Ok(table)
}

impl Row {
    /// Where it begins in its file.
    pub(super) fn start(&self) -> usize {
        self.range.start
    }

    /// Reads the tables one after the other. `source` is the file that they are in.
    pub(super) fn read(
        &self,
        source: &SourceFile,
        problems: &mut Problems,
        mut each: impl FnMut(Node, &mut Problems),
    ) -> Result<(), NotInRows> {
        let Some(mut window) = source.window() else {
            problems.general(Fault::changed(&source.name));
            return Ok(());
        };
        let mut start = self.range.start;
        // The parser drops what stands behind some errors: up to here that is to be little.
        let mut one_by_one = start;
        while start < self.range.end {
            let alone = start < one_by_one;
            let least = if alone { 1 } else { BATCH };
            let Some(length) = self.batch(&mut window, start, least) else {
                problems.general(Fault::changed(&source.name));
                return Ok(());
            };
            let (text, _) = window.from(start);
            let (part, range) = (&text[..length], start..start + length);
            let (document, errors) = DeTable::parse_recoverable(part);
            if !errors.is_empty() {
                if !alone {
                    one_by_one = range.end;
                    continue;
                }
                if !goes_on_behind(text, length) {
                    return Err(NotInRows { file: self.file });
                }
            }
            start = range.end;
            let pieces = [Piece { at: 0, range, row: None }];
            let mut converter = Converter::new(self.file, part, &pieces, start);
            errors.iter().for_each(|error| converter.note(error, problems));
            let table = converter.table(document.into_inner(), problems);
            tables(table, self.path).into_iter().for_each(|node| each(node, problems));
        }
        Ok(())
    }

    /// The length of the tables from `start` on up to the first that begins `least` bytes behind it
    /// or later, or to the end of the row. They and the line behind them are in the window then.
    /// `None` where the file has changed.
    fn batch(&self, window: &mut Window<'_>, start: usize, least: usize) -> Option<usize> {
        let rest = self.range.end - start;
        loop {
            let (text, whole) = window.from(start);
            let here = text.get(..rest).unwrap_or(text);
            // A place in the middle of a line, or of a character, is behind its header.
            let from = least.min(here.len());
            let newline =
                here.as_bytes()[from.saturating_sub(1)..].iter().position(|&byte| byte == b'\n');
            let from = newline.map_or(here.len(), |newline| from + newline);
            let table = |&(_, line): &(usize, &str)| header(line) == Some(Header::Table(self.path));
            if let Some((length, _)) = lines(here, from).find(table) {
                return Some(length);
            }
            if text.len() > rest || whole && text.len() == rest {
                return Some(rest);
            }
            window.read(start, WINDOW.min(rest + 1))?;
        }
    }
}

/// The tables that a path leads to.
fn tables(table: Table, path: Path) -> Vec<Node> {
    let Some((key, inner)) = path.split_first() else { return Vec::new() };
    let entry = table.entries.into_iter().find(|entry| &*entry.key == *key);
    match entry.map(|entry| entry.node.value) {
        Some(Value::Table(table)) => tables(table, inner),
        Some(Value::Array(nodes)) if inner.is_empty() => nodes,
        _ => Vec::new(),
    }
}

/// The pieces of a file that are read as one.
fn cut(text: &str, file: u32) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    let mut add = |range: Range<usize>, row: Option<Row>| {
        if !range.is_empty() {
            let length = range.len();
            pieces.push(Piece { at, range, row });
            at += length;
        }
    };
    // The row that has not ended, and the end of its first header.
    let mut row: Option<(Row, usize)> = None;
    let mut other = 0;
    for (start, line) in lines(text, 0) {
        let Some(header) = header(line) else { continue };
        if let (Some((row, _)), Header::Table(path) | Header::Inner(path)) = (&row, header)
            && row.path == path
        {
            continue;
        }
        match row.take() {
            Some((mut row, end)) => {
                row.range.end = start;
                other = start;
                add(row.range.start..end, Some(row));
            }
            None if matches!(header, Header::Table(_)) => add(other..start, None),
            None => {}
        }
        if let Header::Table(path) = header {
            row = Some((Row { path, file, range: start..text.len() }, start + line.len()));
        }
    }
    match row {
        Some((row, end)) => add(row.range.start..end, Some(row)),
        None => add(other..text.len(), None),
    }
    pieces
}

/// The lines from a place on, with their ends, and where they begin.
fn lines(text: &str, start: usize) -> impl Iterator<Item = (usize, &str)> {
    text[start..].split_inclusive('\n').scan(start, |start, line| {
        let own = *start;
        *start += line.len();
        Some((own, line))
    })
}

/// What kind of header a line is, if it is one. Names in quotes make no row; they are read as
/// everything else is.
fn header(line: &str) -> Option<Header> {
    let header = line.trim_start_matches([' ', '\t']).strip_prefix('[')?;
    let (header, double) = match header.strip_prefix('[') {
        Some(header) => (header, true),
        None => (header, false),
    };
    let end = if double { "]]" } else { "]" };
    let Some((name, rest)) = header.split_once(end) else { return Some(Header::Other) };
    let rest = rest.trim();
    if !rest.is_empty() && !rest.starts_with('#') {
        return Some(Header::Other);
    }
    let begins = |path: Path| {
        let mut parts = name.split('.').map(|part| part.trim_matches([' ', '\t']));
        path.iter().all(|&key| parts.next() == Some(key)).then_some(parts)
    };
    let path = PATHS.into_iter().find_map(|path| Some((path, begins(path)?.next().is_none())));
    Some(match path {
        Some((path, true)) if double => Header::Table(path),
        Some((path, false)) => Header::Inner(path),
        _ => Header::Other,
    })
}

/// Whether the parser, after it has read the piece of `length` bytes that the text begins with,
/// from the top level on, sees a header behind it.
fn goes_on_behind(text: &str, length: usize) -> bool {
    let Some((_, line)) = lines(text, length).next() else { return true };
    let both = &text[..length + line.len()];
    let source = Source::new(both);
    let mut header = false;
    let mut events = |event: Event| {
        let opens = matches!(event.kind(), EventKind::StdTableOpen | EventKind::ArrayTableOpen);
        header |= opens && event.span().start() >= length;
    };
    let mut guard = RecursionGuard::new(&mut events, PARSER_DEPTH);
    parse_document(&source.lex().into_vec(), &mut guard, &mut ());
    header
}
