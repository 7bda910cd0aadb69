//! The report as a JSON document: written by `--json`, read by `compare`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{OwnLatency, Quantiles, Report, SCHEMA, WithFailures};

/// A document longer than this is no report: the longest that the generator writes has a few MiB.
const LONGEST: u64 = 256 << 20;

/// Why a report could not be read or written. Each names the file, the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("{}: cannot be read: {cause}; name a file that `--json` wrote", name.display())]
    Read {
        /// The file.
        name: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file could not be made or written.
    #[error("{}: cannot be written: {cause}; name a file in a directory that exists, can be \
        written and has room", name.display())]
    Write {
        /// The file.
        name: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no JSON, or one that was cut off.
    #[error("{}: is no JSON document: {cause}; it must be the whole of what `--json` \
        wrote", name.display())]
    NoJson {
        /// The file.
        name: PathBuf,
        /// What the parser said, with line and column.
        cause: serde_json::Error,
    },
    /// It is JSON, but no report of the form that this version reads.
    #[error("{}: has schema {found}, and this version reads \"{SCHEMA}\"; \
        {way_out}", name.display())]
    Schema {
        /// The file.
        name: PathBuf,
        /// What stands in `schema`.
        found: String,
        /// What to do.
        way_out: &'static str,
    },
    /// It has the right schema, but a field is missing or of another type.
    #[error("{}: is no whole report: {cause}; write it anew with `--json`", name.display())]
    Incomplete {
        /// The file.
        name: PathBuf,
        /// What the parser said.
        cause: serde_json::Error,
    },
    /// It is longer than a report can be.
    #[error("{}: is longer than {} MiB, so it is no report; name a file that `--json` \
        wrote", name.display(), LONGEST >> 20)]
    TooLong {
        /// The file.
        name: PathBuf,
    },
}

/// Reads the report in a file.
///
/// # Errors
///
/// When the file cannot be read, or is no report of this [`SCHEMA`].
pub fn read(path: &Path) -> Result<Report, Error> {
    let file = File::open(path).map_err(|cause| Error::Read { name: path.to_owned(), cause })?;
    read_from(file, path)
}

/// Reads a report from anything; `name` is what errors call it.
///
/// # Errors
///
/// As for [`read`].
pub fn read_from(source: impl Read, name: &Path) -> Result<Report, Error> {
    let name = || name.to_owned();
    let mut text = Vec::new();
    source
        .take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(|cause| Error::Read { name: name(), cause })?;
    if text.len() as u64 > LONGEST {
        return Err(Error::TooLong { name: name() });
    }
    let value: Value =
        serde_json::from_slice(&text).map_err(|cause| Error::NoJson { name: name(), cause })?;
    match value.get("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        found => return Err(wrong_schema(name(), found)),
    }
    // From the text and not from the value, for the error then has line and column.
    serde_json::from_slice(&text).map_err(|cause| Error::Incomplete { name: name(), cause })
}

fn wrong_schema(name: PathBuf, found: Option<&Value>) -> Error {
    let number = |text: &str| {
        text.strip_prefix("bootstorm-load/").and_then(|number| number.parse::<u64>().ok())
    };
    let (found, way_out) = match found {
        None => ("none".to_owned(), "name a file that bootstorm-load --json wrote"),
        Some(Value::String(text)) => {
            let way_out = match (number(text), number(SCHEMA)) {
                (Some(theirs), Some(ours)) if theirs > ours => {
                    "use the version of bootstorm-load that wrote it, or a later one"
                }
                (Some(_), Some(_)) => {
                    "run the storm again with this version, or read it with the version that wrote \
                     it"
                }
                _ => "name a file that bootstorm-load --json wrote",
            };
            (
                format!("\"{}\"", super::formatting::clip(&super::formatting::plain(text), 60)),
                way_out,
            )
        }
        Some(_) => ("that is no text".to_owned(), "name a file that bootstorm-load --json wrote"),
    };
    Error::Schema { name, found, way_out }
}

/// Writes a report to a file, whole or not at all: a reader never finds half of one.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, report: &Report) -> Result<(), Error> {
    let fail = |cause| Error::Write { name: path.to_owned(), cause };
    // A pipe or a device takes no renaming over it.
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(fail)?;
        return write_to(file, report).map_err(fail);
    }
    // The file that a link names is to be replaced, and not the link.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = File::create(&beside)
        .and_then(|file| write_to(&file, report).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|cause| {
        // The first cause is the one to tell; what stays behind is only untidy.
        let _ = std::fs::remove_file(&beside);
        fail(cause)
    })
}

/// Writes a report to anything, with a line feed at the end. Numbers that JSON cannot say (not a
/// number, infinite) are written as 0, and a note says how many there were.
///
/// # Errors
///
/// Those of the writer.
pub fn write_to(sink: impl Write, report: &Report) -> io::Result<()> {
    let mut sink = io::BufWriter::new(sink);
    let mut report = report.clone();
    let wrong = make_finite(&mut report);
    if wrong > 0 {
        report.notes.push(format!("{wrong} figures were no finite numbers and are written as 0"));
    }
    serde_json::to_writer_pretty(&mut sink, &report)?;
    sink.write_all(b"\n")?;
    sink.flush()
}

/// Puts 0 for what is no number; how many there were.
fn make_finite(report: &mut Report) -> usize {
    let mut wrong = 0;
    let mut check = |number: &mut f64| {
        if !number.is_finite() {
            *number = 0.0;
            wrong += 1;
        }
    };
    let generator = &mut report.generator;
    for number in [
        &mut report.run.seconds,
        &mut report.dhcp.exchanges_per_second,
        &mut report.tftp.seconds,
        &mut report.tftp.megabytes_per_second,
        &mut report.http.seconds,
        &mut report.http.megabytes_per_second,
        &mut report.timeline.bucket_seconds,
        &mut generator.worst_delay,
        &mut generator.p999_delay,
        &mut generator.busy,
        &mut generator.waited_for_cpu_seconds,
        &mut generator.memory_mib,
        &mut generator.worst_fetch_wait,
    ] {
        check(number);
    }
    if let Some(OwnLatency { answers: _, p50, p99, max }) = &mut generator.own_latency {
        [p50, p99, max].into_iter().for_each(&mut check);
    }
    for found in report.latency.values_mut() {
        let Quantiles { count: _, failed: _, min, mean, p50, p90, p99, p999, max, with_failures } =
            found;
        for number in [min, mean, p50, p90, p99, p999, max] {
            check(number);
        }
        if let Some(WithFailures { p50, p90, p99, p999, max }) = with_failures {
            [p50, p90, p99, p999, max].into_iter().flatten().for_each(&mut check);
        }
    }
    report.machines.all_up_seconds.iter_mut().for_each(&mut check);
    report.timeline.latency_bounds.iter_mut().for_each(&mut check);
    report
        .violations
        .iter_mut()
        .flat_map(|row| &mut row.first)
        .for_each(|example| check(&mut example.at_seconds));
    wrong
}
