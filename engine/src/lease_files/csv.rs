//! A CSV file of our own (RFC 4180): what `leases export --format csv` writes, and what a
//! spreadsheet program or a script can make.

use std::fmt::Write as _;
use std::io::BufRead;

use csv_core::{ReadRecordResult, Reader};

use super::read::{Wrong, lines};
use super::{Binding, Entry, FileTime, Item};
use crate::hex;
use crate::leases::Hardware;

/// The columns, in the order in which they are written. Only the first two must be there.
const COLUMNS: [&str; 11] = [
    "ip",
    "state",
    "starts",
    "expires",
    "hardware-type",
    "hardware",
    "client-id",
    "hostname",
    "circuit-id",
    "remote-id",
    "reserved",
];

/// The most cells of a row.
const MOST: usize = 256;

/// What stands before all leases.
pub(super) fn start(out: &mut String) {
    out.push_str(&COLUMNS.join(","));
    out.push('\n');
}

/// Hands over what is in a file.
pub(super) fn read(input: impl BufRead, each: &mut dyn FnMut(Item)) -> Result<(), Wrong> {
    let mut places = [None; COLUMNS.len()];
    let mut buffer = Vec::new();
    lines(input, |number, line, whole| {
        if line.is_empty() {
            return Ok(());
        }
        let cells = match cells(line, &mut buffer) {
            Ok(cells) => cells,
            Err(_) if !whole && number > 1 => {
                each(Item::Torn { line: number });
                return Ok(());
            }
            Err(what) => return Err(Wrong::at(number, what)),
        };
        if number == 1 {
            for (place, name) in cells.iter().enumerate() {
                match COLUMNS.iter().position(|known| known == name) {
                    Some(column) => places[column] = Some(place),
                    None => {
                        let what = format!(
                            "`{}` is no column of a lease file; there are {}",
                            name.escape_debug(),
                            COLUMNS.join(", ")
                        );
                        return Err(Wrong::at(1, what));
                    }
                }
            }
            return match places[1] {
                Some(_) => Ok(()),
                None => Err(Wrong::at(1, "the column `state` is missing")),
            };
        }
        let row = places.map(|place| place.and_then(|place| cells.get(place)).map(String::as_str));
        match entry(row) {
            Ok(entry) => each(Item::Lease(Box::new(entry))),
            Err(_) if !whole => each(Item::Torn { line: number }),
            Err(what) => return Err(Wrong::at(number, what)),
        }
        Ok(())
    })
}

/// The cells of a line. A text with a newline is no part of a lease.
fn cells(line: &[u8], buffer: &mut Vec<u8>) -> Result<Vec<String>, String> {
    buffer.resize(line.len() + 1, 0);
    let mut ends = [0; MOST];
    let mut parser = Reader::new();
    let (result, _, written, count) = parser.read_record(line, buffer, &mut ends);
    let (result, others) = match result {
        ReadRecordResult::InputEmpty => {
            let (result, _, _, others) =
                parser.read_record(&[], &mut buffer[written..], &mut ends[count..]);
            (result, others)
        }
        other => (other, 0),
    };
    if !matches!(result, ReadRecordResult::Record) {
        return Err("this is no row: are there too many cells, or a quote without its end?".into());
    }
    let ends = &ends[..count + others];
    let starts = std::iter::once(&0).chain(ends);
    let cell = |(start, end): (&usize, &usize)| {
        let bytes = buffer[*start..*end].trim_ascii().to_vec();
        String::from_utf8(bytes).map_err(|_| "this is not UTF-8".to_owned())
    };
    starts.zip(ends).map(cell).collect()
}

fn entry(row: [Option<&str>; COLUMNS.len()]) -> Result<Entry, String> {
    let row = row.map(|cell| cell.filter(|text| !text.is_empty()));
    let [
        ip,
        state,
        starts,
        expires,
        htype,
        hardware,
        client_id,
        hostname,
        circuit,
        remote,
        reserved,
    ] = row;
    let ip = ip.unwrap_or_default();
    let ip = ip.parse().map_err(|_| format!("`{}` is no IPv4 address", ip.escape_debug()))?;
    let state = state.unwrap_or_default();
    let binding = Binding::of_own(state)
        .ok_or_else(|| format!("`{}` is no state of a lease", state.escape_debug()))?;
    let time = |text: Option<&str>| {
        let wrong = |text: &str| {
            let text = text.escape_debug();
            format!("`{text}` is no time: write 2026-11-28T02:06:05Z, or never")
        };
        text.map(|text| text.parse::<FileTime>().map_err(|_| wrong(text))).transpose()
    };
    let bytes = |text: Option<&str>| {
        let wrong = |text: &str| format!("`{}` is not hexadecimal", text.escape_debug());
        text.map(|text| hex::bytes(&text.replace('-', ":")).ok_or_else(|| wrong(text))).transpose()
    };
    let said = |text: Option<&str>| text.map(unescape).transpose();
    let htype = htype.map_or(Ok(1), |text| {
        text.parse::<u8>().map_err(|_| format!("`{}` is no hardware type", text.escape_debug()))
    })?;
    let hardware = bytes(hardware)?;
    if hardware.as_ref().is_some_and(|address| address.len() > 16) {
        return Err("a hardware address has 16 bytes at most".to_owned());
    }
    let starts = time(starts)?;
    Ok(Entry {
        binding,
        starts,
        ends: time(expires)?,
        cltt: starts,
        hardware: hardware.map(|address| Hardware::new(htype, &address)),
        client_id: bytes(client_id)?,
        hostname: said(hostname)?,
        circuit_id: said(circuit)?,
        remote_id: said(remote)?,
        reserved: matches!(reserved, Some("true" | "yes" | "1")),
        ..Entry::new(ip)
    })
}

/// The bytes of a text with the escapes of `leases list`: `\x1b`, `\\`, `\"`, `\'`, `\t`, `\r`,
/// `\n`.
pub(crate) fn unescape(text: &str) -> Result<Box<[u8]>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, behind) = match rest {
            [b'x', high, low, behind @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let byte = digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low) as u8);
                (byte, behind)
            }
            [b't', behind @ ..] => (Some(b'\t'), behind),
            [b'r', behind @ ..] => (Some(b'\r'), behind),
            [b'n', behind @ ..] => (Some(b'\n'), behind),
            [other @ (b'\\' | b'"' | b'\''), behind @ ..] => (Some(*other), behind),
            _ => (None, rest),
        };
        rest = behind;
        bytes.push(byte.ok_or_else(|| {
            format!("`{}` has an escape that is none: write \\x0a for a byte", text.escape_debug())
        })?);
    }
    Ok(bytes.into())
}

/// A text that [`unescape`] reads, whose ends are no blanks: a reader takes those away.
fn escape(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match bytes {
        [b' ', ..] | [.., b' '] => text.replace(' ', "\\x20"),
        _ => text,
    }
}

/// One lease.
pub(super) fn lease(entry: &Entry, out: &mut String) {
    let said = |bytes: &Option<Box<[u8]>>| bytes.as_deref().map(escape).unwrap_or_default();
    let time = |time: Option<FileTime>| time.map(|time| time.to_string()).unwrap_or_default();
    let cells = [
        entry.ip.to_string(),
        entry.binding.own_name().to_owned(),
        time(entry.starts),
        time(entry.ends),
        entry.hardware.map(|hardware| hardware.htype().to_string()).unwrap_or_default(),
        entry.hardware.map(|hardware| hardware.to_string()).unwrap_or_default(),
        entry.client_id.as_deref().map(|id| hex::digits(id, "")).unwrap_or_default(),
        said(&entry.hostname),
        said(&entry.circuit_id),
        said(&entry.remote_id),
        if entry.reserved { "true" } else { "" }.to_owned(),
    ];
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        if cell.contains([',', '"']) {
            let _infallible = write!(out, "\"{}\"", cell.replace('"', "\"\""));
        } else {
            out.push_str(cell);
        }
    }
    out.push('\n');
}
