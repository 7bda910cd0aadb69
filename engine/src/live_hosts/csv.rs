//! Many hosts in one file: CSV with the columns of a `host-file`, or JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv_core::{ReadRecordResult, Reader};
use serde_json::{Value, json};

use super::HostObject;

/// The longest line.
const LONGEST_LINE: u64 = 64 << 10;

/// Columns of which a cell may hold several values, with blanks between them.
const LISTS: [&str; 3] = ["hardware", "uuid", "ip"];

/// Why a file of hosts cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {what}", file.display())]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Hands over the hosts of a file: JSON if it begins with `{` or `[`, one object a line or one
/// array; else CSV with the names of keys in its first line.
///
/// # Errors
/// What is wrong, with its line.
pub fn read(file: &Path, mut each: impl FnMut(HostObject)) -> Result<(), FileError> {
    let failed = |line, what: String| FileError { file: file.to_owned(), line, what };
    let opened = File::open(file).map_err(|error| failed(1, error.to_string()))?;
    let mut input = BufReader::with_capacity(64 << 10, opened);
    let start = input.fill_buf().map_err(|error| failed(1, error.to_string()))?;
    match start.trim_ascii_start().first() {
        Some(b'{' | b'[') => json(input, &mut each).map_err(|(line, what)| failed(line, what)),
        _ => rows(input, &mut each).map_err(|(line, what)| failed(line, what)),
    }
}

type Wrong = (usize, String);

fn json(input: impl Read, each: &mut dyn FnMut(HostObject)) -> Result<(), Wrong> {
    for value in serde_json::Deserializer::from_reader(input).into_iter::<Value>() {
        let value = value.map_err(|error| (error.line(), format!("this is not JSON: {error}")))?;
        let values = match value {
            Value::Array(values) => values,
            other => vec![other],
        };
        for value in values {
            match value {
                Value::Object(host) => each(host),
                other => return Err((1, format!("{other} is no object of a host"))),
            }
        }
    }
    Ok(())
}

fn rows(mut input: impl BufRead, each: &mut dyn FnMut(HostObject)) -> Result<(), Wrong> {
    let mut line = Vec::new();
    let mut columns: Option<Vec<String>> = None;
    for number in 1.. {
        line.clear();
        let read = Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| (number, error.to_string()))? == 0 {
            break;
        }
        if line.len() as u64 == LONGEST_LINE {
            return Err((number, "the line does not end".to_owned()));
        }
        let text = line.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let cells = cells(text).map_err(|what| (number, what))?;
        let Some(columns) = &columns else {
            if !cells.iter().any(|cell| cell == "name") {
                let what = "the first line must name the columns: name,hardware,ip";
                return Err((number, what.to_owned()));
            }
            columns = Some(cells);
            continue;
        };
        if cells.len() != columns.len() {
            let (cells, columns) = (cells.len(), columns.len());
            let what = format!("this row has {cells} cells, and the first line {columns}");
            return Err((number, what));
        }
        let filled = columns.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        each(filled.map(|(column, cell)| key(column, cell)).collect());
    }
    Ok(())
}

/// What a cell is of `[[dhcp.host]]`.
fn key(column: &str, cell: String) -> (String, Value) {
    let value = match column {
        "host-name" => return ("options".to_owned(), json!({ "host-name": cell })),
        "boot-file" => return ("boot".to_owned(), json!({ "file": cell })),
        // A bare number is seconds.
        "lease-time" => match cell.parse::<i64>() {
            Ok(seconds) => json!(seconds),
            Err(_) => json!(cell),
        },
        list if LISTS.contains(&list) && cell.contains(' ') => {
            cell.split_ascii_whitespace().collect()
        }
        _ => json!(cell),
    };
    (column.to_owned(), value)
}

fn cells(line: &[u8]) -> Result<Vec<String>, String> {
    let mut buffer = vec![0; line.len() + 1];
    let mut ends = [0; 64];
    let mut parser = Reader::new();
    let (mut result, _, written, mut count) = parser.read_record(line, &mut buffer, &mut ends);
    if result == ReadRecordResult::InputEmpty {
        let (last, _, _, more) =
            parser.read_record(&[], &mut buffer[written..], &mut ends[count..]);
        (result, count) = (last, count + more);
    }
    if result != ReadRecordResult::Record {
        return Err("this is no row: are there too many cells, or a quote without its end?".into());
    }
    let starts = std::iter::once(&0).chain(&ends);
    let cell = |(start, end): (&usize, &usize)| {
        let bytes = buffer[*start..*end].trim_ascii().to_vec();
        String::from_utf8(bytes).map_err(|_| "this is not UTF-8".to_owned())
    };
    starts.zip(&ends[..count]).map(cell).collect()
}
