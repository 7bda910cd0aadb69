//! Leases whose end is done with: what `on expiry` asks for was done. The others of those whose
//! time is over ended while no server ran, or as one was killed.
//!
//! They stand in a file of the state directory, a line for each: the address, and the version of
//! its lease. It is written when a program was started, and not waited for: what a power cut takes
//! of it is done again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::leases::Ended;

/// The file in the state directory.
const FILE: &str = "ended";
/// It is written anew when it has so many lines, and twice as many as then.
const MOST_LINES: usize = 65_536;

/// An address, and the version of a lease that it had.
pub(super) type Mark = (IpAddr, u64);

/// The file of them.
pub(super) struct Done {
    path: PathBuf,
    file: File,
    lines: usize,
    most: usize,
    failed: bool,
}

/// What identifies a lease that has ended.
pub(super) fn mark(ended: &Ended) -> Mark {
    (ended.lease.ip, ended.version)
}

impl Done {
    /// Opens the file, and takes those out of `expired` that are done. Without a file nothing is
    /// known, and all count as done: there was no server of this version before.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn open(directory: &Path, expired: &mut Vec<Ended>) -> io::Result<Self> {
        let path = directory.join(FILE);
        let known = match File::open(&path) {
            Ok(file) => Some(read(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_done = |ended: &Ended| {
            let (ip, version) = mark(ended);
            known.as_ref().is_none_or(|known| known.get(&ip) == Some(&version))
        };
        let done = expired.iter().filter(|ended| is_done(ended)).map(mark).collect();
        let (file, lines) = write(&path, &done)?;
        expired.retain(|ended| !is_done(ended));
        Ok(Self { path, file, lines, most: most(lines), failed: false })
    }

    /// Notes that a lease is done with. What cannot be written is told of once.
    pub(super) fn note(&mut self, mark: Mark) {
        if let Err(error) = self.write(mark)
            && !std::mem::replace(&mut self.failed, true)
        {
            let path = self.path.display();
            tracing::warn!(%error, "{path}: what is done when leases end may be done again");
        }
    }

    fn write(&mut self, (ip, version): Mark) -> io::Result<()> {
        self.file.write_all(format!("{ip} {version}\n").as_bytes())?;
        self.lines += 1;
        if self.lines >= self.most {
            let known = read(File::open(&self.path)?)?;
            (self.file, self.lines) = write(&self.path, &known)?;
            self.most = most(self.lines);
        }
        Ok(())
    }
}

fn most(lines: usize) -> usize {
    MOST_LINES.max(lines * 2)
}

/// The last version of each address. Half a line at the end is none.
fn read(file: File) -> io::Result<HashMap<IpAddr, u64>> {
    let mut known = HashMap::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        known.extend(str::from_utf8(&line).ok().and_then(of_line));
    }
    Ok(known)
}

fn of_line(line: &str) -> Option<Mark> {
    let (ip, version) = line.split_once(' ')?;
    Some((ip.parse().ok()?, version.parse().ok()?))
}

/// Makes the file anew, at once; with how many lines.
fn write(path: &Path, marks: &HashMap<IpAddr, u64>) -> io::Result<(File, usize)> {
    let new = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&new)?);
    for (ip, version) in marks {
        writeln!(file, "{ip} {version}")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(&new, path)?;
    Ok((OpenOptions::new().append(true).open(path)?, marks.len()))
}

#[cfg(test)]
mod tests {
    use bootstorm_protocols::time::Moment;

    use super::*;
    use crate::config::BlockKey;
    use crate::leases::{ClientKey, Ending, Hardware, Lease, LeaseState, Notes};

    fn ended(number: u8, version: u64) -> Ended {
        let hardware = Hardware::ethernet([2, 0, 0, 0, 0, number]);
        let lease = Lease {
            ip: [10, 0, 0, number].into(),
            client: ClientKey::hardware(&hardware),
            hardware,
            state: LeaseState::Expired,
            starts: Moment::default(),
            expires: Moment::default(),
            refused: false,
            told: None,
            pending: false,
            notes: Notes::default(),
        };
        Ended { lease, how: Ending::Expiry, block: BlockKey(1), version }
    }

    fn missed(directory: &Path, expired: &[(u8, u64)]) -> (Vec<Mark>, Done) {
        let mut expired = expired.iter().map(|&(number, version)| ended(number, version)).collect();
        let done = Done::open(directory, &mut expired).unwrap();
        (expired.iter().map(mark).collect(), done)
    }

    #[test]
    fn what_was_done_is_done_once_and_nothing_else_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let of = |number: u8, version| (IpAddr::from([10, 0, 0, number]), version);
        // Leases of before there was a file.
        assert_eq!(missed(directory, &[(1, 7)]).0, []);
        let (left, mut done) = missed(directory, &[(1, 7), (2, 8), (3, 9)]);
        assert_eq!(left, [of(2, 8), of(3, 9)]);
        done.note(of(2, 8));
        // The server is killed, and another lease of an address ends.
        assert_eq!(missed(directory, &[(1, 9), (2, 8), (3, 9)]).0, [of(1, 9), of(3, 9)]);
        let file = directory.join(FILE);
        fs::write(&file, "10.0.0.1 9\n10.0.0.3 10\n\n?\n10.0.0.2 8").unwrap();
        assert_eq!(missed(directory, &[(1, 9), (2, 8), (3, 9)]).0, [of(3, 9)]);
    }

    #[test]
    fn the_file_is_as_long_as_there_are_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut done) = missed(directory.path(), &[]);
        for version in 0..=MOST_LINES as u64 {
            done.note(([10, 0, 0, (version % 3) as u8].into(), version));
        }
        let known = read(File::open(directory.path().join(FILE)).unwrap()).unwrap();
        assert_eq!((known.len(), done.lines < 9), (3, true));
        assert_eq!(known.values().copied().max(), Some(MOST_LINES as u64));
    }
}
