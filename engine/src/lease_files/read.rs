//! Reading a file whose format is told by its first line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::{Entry, Format, csv, dhcpd, kea};
use crate::leases::Hardware;

/// What a reader meets in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A lease. An address may come many times: the last one counts.
    Lease(Box<Entry>),
    /// Nothing is known of the address any more: Kea removed its lease.
    Removed(Ipv4Addr),
    /// A host that OMAPI made. A name may come many times: the last one counts.
    Host(LiveHost),
    /// The host of that name was deleted.
    HostDeleted(Box<str>),
    /// Something that is known and of no use here, by a few words. May come often.
    LeftOut(&'static str),
    /// The file ends in the middle of something, which is left out: its writer was killed.
    Torn {
        /// The line where that begins.
        line: u64,
    },
}

/// A host that OMAPI made, as dhcpd writes it down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveHost {
    /// Its name.
    pub name: Box<str>,
    /// Its hardware address.
    pub hardware: Option<Hardware>,
    /// Its client identifier.
    pub client_id: Option<Box<[u8]>>,
    /// Its addresses, or names of them.
    pub addresses: Vec<Box<str>>,
    /// The group it belongs to.
    pub group: Option<Box<str>>,
    /// Statements of dhcpd.conf, one after the other.
    pub statements: String,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {what}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` where it is not about one.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What is wrong at a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: Option<u64>,
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn at(line: u64, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self { line: None, what: format!("cannot be read: {error}") }
    }
}

/// Hands over what is in a file, in its order, and returns which format it has.
///
/// # Errors
/// What is not of the format, with its line. What was handed over before that is no use then.
pub fn read(file: &Path, each: &mut dyn FnMut(Item)) -> Result<Format, FileError> {
    let opened = File::open(file).map_err(Wrong::from);
    opened
        .and_then(|opened| read_from(BufReader::with_capacity(64 << 10, opened), each))
        .map_err(|Wrong { line, what }| FileError { file: file.to_owned(), line, what })
}

/// The same from anything that can be read.
pub(super) fn read_from(
    mut input: impl BufRead,
    each: &mut dyn FnMut(Item),
) -> Result<Format, Wrong> {
    let start = input.fill_buf()?;
    let format = if start.starts_with(b"address,") {
        kea::read(input, each)?;
        Format::Kea
    } else if start.starts_with(b"ip,") {
        csv::read(input, each)?;
        Format::Csv
    } else {
        dhcpd::read(input, each)?;
        Format::Dhcpd
    };
    Ok(format)
}

/// Whether a file holds a lease of dhcpd; a file that does not exist holds none.
///
/// # Errors
/// When it cannot be read.
pub fn has_leases(file: &Path) -> io::Result<bool> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut found = false;
    let read = lines(BufReader::new(opened), |_, line, _| {
        found |= line.starts_with(b"lease ");
        // Ends the reading, as an error would.
        if found { Err(Wrong { line: None, what: String::new() }) } else { Ok(()) }
    });
    match read {
        Err(Wrong { line: None, what }) if !found => Err(io::Error::other(what)),
        // Lines without end are no lease file's.
        _ => Ok(found),
    }
}

/// The longest line of a file that has a line for each lease.
const LONGEST_LINE: u64 = 64 << 10;

/// Hands over each line with its number, from 1, and whether it has its end.
pub(super) fn lines(
    mut input: impl BufRead,
    mut each: impl FnMut(u64, &[u8], bool) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if io::Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        if !whole && line.len() as u64 == LONGEST_LINE {
            return Err(Wrong::at(number, "the line does not end"));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        each(number, text.strip_suffix(b"\r").unwrap_or(text), whole)?;
    }
    Ok(())
}
