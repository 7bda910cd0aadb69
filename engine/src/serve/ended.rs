//! Leases whose end is done with: what `on expiry` asks for was done. The others of those whose
//! time is over ended while no server ran, or as one was killed.
//!
//! They stand in a file of the state directory, a line for each: the address, and the version of
//! its lease. It is written when a program was started, and not waited for: what a power cut takes
//! of it is done again. Without the file nothing is known, and every lease whose time is over
//! counts as done with. So only that is written which has all of those.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::leases::Ended;

/// The file in the state directory, and the next one while it is written.
pub(super) const ENTRIES: [&str; 2] = ["ended", "ended.new"];
/// It is written anew when it has so many lines, and twice as many as then.
const MOST_LINES: usize = 65_536;

/// An address, and the version of a lease that it had.
pub(super) type Mark = (IpAddr, u64);

/// The file of them.
pub(super) struct Done {
    path: PathBuf,
    /// `None` before the first note.
    file: Option<File>,
    lines: usize,
    most: usize,
    /// The last line may be half a line.
    is_torn: bool,
    /// Whether the log was told of a failure.
    told: bool,
    /// Leases that are done with and go on: the clock was set back while the host was down.
    resumed: HashMap<IpAddr, u64>,
}

/// What identifies a lease that has ended.
pub(super) fn mark(ended: &Ended) -> Mark {
    (ended.lease.ip, ended.version)
}

/// Makes the file if there is none, once the configuration has something done when leases end.
pub(super) fn begin(directory: &Path, expired: impl FnOnce() -> Vec<Ended>) {
    let path = directory.join(ENTRIES[0]);
    if !path.exists() {
        write_or_warn(&path, &expired().iter().map(mark).collect());
    }
}

impl Done {
    /// Reads the file, and takes those out of `expired` that are done with. It is written anew
    /// without leases that are no more if the configuration has something done when leases end
    /// (`is_used`). `version` is that of the lease of an address.
    pub(super) fn open(
        directory: &Path,
        is_used: bool,
        expired: &mut Vec<Ended>,
        version: impl Fn(IpAddr) -> Option<u64>,
    ) -> Self {
        let path = directory.join(ENTRIES[0]);
        let mut resumed = HashMap::new();
        let known = match File::open(&path).and_then(read) {
            Ok(mut known) => {
                known.retain(|ip, own| version(*ip) == Some(*own));
                resumed.clone_from(&known);
                expired.retain(|ended| resumed.remove(&ended.lease.ip).is_none());
                resumed.shrink_to_fit();
                known
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "{}: nothing is done for leases that ended while no \
                                            server ran", path.display());
                }
                expired.drain(..).map(|ended| mark(&ended)).collect()
            }
        };
        if is_used {
            write_or_warn(&path, &known);
        }
        let lines = known.len();
        // An old file may end with half a line.
        let (most, is_torn) = (most(lines), true);
        Self { path, file: None, lines, most, is_torn, told: false, resumed }
    }

    /// Whether a lease that ends has ended before.
    pub(super) fn has(&self, (ip, version): Mark) -> bool {
        self.resumed.get(&ip) == Some(&version)
    }

    /// Notes that a lease is done with. What cannot be written is told of once.
    pub(super) fn note(&mut self, mark: Mark) {
        let noted = self.write(mark);
        self.is_torn = noted.is_err();
        if let Err(error) = noted
            && !std::mem::replace(&mut self.told, true)
        {
            let path = self.path.display();
            tracing::warn!(%error, "{path}: what is done when leases end may be done again");
        }
    }

    fn write(&mut self, (ip, version): Mark) -> io::Result<()> {
        if self.file.is_none() {
            match OpenOptions::new().append(true).open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = if self.is_torn { "\n" } else { "" };
        file.write_all(format!("{before}{ip} {version}\n").as_bytes())?;
        self.lines += 1;
        if self.lines >= self.most {
            // If it fails, it is tried again when there are twice as many.
            self.most = most(self.lines);
            let known = read(File::open(&self.path)?)?;
            write(&self.path, &known)?;
            (self.file, self.lines, self.most) = (None, known.len(), most(known.len()));
        }
        Ok(())
    }
}

fn most(lines: usize) -> usize {
    MOST_LINES.max(lines * 2)
}

/// The last version of each address. Half a line is none.
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

/// Makes the file anew, durably. If that fails, it stays as it is.
fn write(path: &Path, marks: &HashMap<IpAddr, u64>) -> io::Result<()> {
    let new = path.with_file_name(ENTRIES[1]);
    let write = || {
        let mut file = BufWriter::new(File::create(&new)?);
        for (ip, version) in marks {
            writeln!(file, "{ip} {version}")?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, path)
    };
    if let Err(error) = write() {
        let _not_there = fs::remove_file(&new);
        return Err(error);
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn write_or_warn(path: &Path, marks: &HashMap<IpAddr, u64>) {
    if let Err(error) = write(path, marks) {
        tracing::warn!(%error, "{}: not written anew, so it stays as it is", path.display());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bootstorm_protocols::time::Moment;

    use super::*;
    use crate::config::BlockKey;
    use crate::leases::{ClientKey, Ending, Hardware, Lease, LeaseState, Notes};

    /// The end of a lease of 10.0.0.`number`.
    pub(in crate::serve) fn ended(number: u8, version: u64) -> Ended {
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

    /// What is missed of the leases of a start. `others` have not ended.
    fn start(directory: &Path, expired: &[(u8, u64)], others: &[(u8, u64)]) -> (Vec<Mark>, Done) {
        let all: HashMap<_, _> = expired.iter().chain(others).map(|&each| of(each)).collect();
        let mut expired = expired.iter().map(|&(number, version)| ended(number, version)).collect();
        let done = Done::open(directory, true, &mut expired, |ip| all.get(&ip).copied());
        (expired.iter().map(mark).collect(), done)
    }

    fn missed(directory: &Path, expired: &[(u8, u64)]) -> (Vec<Mark>, Done) {
        start(directory, expired, &[])
    }

    fn of((number, version): (u8, u64)) -> Mark {
        ([10, 0, 0, number].into(), version)
    }

    #[test]
    fn what_was_done_is_done_once_and_nothing_else_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        // Leases of before there was a file.
        assert_eq!(missed(directory, &[(1, 7)]).0, []);
        let (left, mut done) = missed(directory, &[(1, 7), (2, 8), (3, 9)]);
        assert_eq!(left, [of((2, 8)), of((3, 9))]);
        done.note(of((2, 8)));
        // The server is killed, and another lease of an address ends.
        assert_eq!(missed(directory, &[(1, 9), (2, 8), (3, 9)]).0, [of((1, 9)), of((3, 9))]);
        let file = directory.join(ENTRIES[0]);
        fs::write(&file, "10.0.0.1 9\n10.0.0.3 10\n\n?\n10.0.0.2 8").unwrap();
        assert_eq!(missed(directory, &[(1, 9), (2, 8), (3, 9)]).0, [of((3, 9))]);
    }

    #[test]
    fn a_file_that_cannot_be_written_anew_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let file = directory.join(ENTRIES[0]);
        fs::write(&file, "10.0.0.2 8\n10.0.0.1 9\n10.0.0.3 1").unwrap();
        // Nothing can be written there, and it is no file to remove.
        fs::create_dir(directory.join(ENTRIES[1])).unwrap();
        let leases = [(1, 9), (3, 12)];
        let (left, mut done) = missed(directory, &leases);
        assert_eq!(left, [of((3, 12))]);
        done.note(of((3, 12)));
        drop(done);
        assert_eq!(missed(directory, &leases).0, []);
        assert_eq!(fs::read(&file).unwrap(), b"10.0.0.2 8\n10.0.0.1 9\n10.0.0.3 1\n10.0.0.3 12\n");
    }

    #[test]
    fn what_a_failure_leaves_of_a_line_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let (_, mut done) = missed(directory, &[]);
        done.note(of((1, 5)));
        let file = directory.join(ENTRIES[0]);
        // As if the disk was full then.
        let old = done.file.replace(File::open(&file).unwrap()).unwrap();
        done.note(of((2, 6)));
        (&old).write_all(b"10.0.0").unwrap();
        done.file = Some(old);
        done.note(of((3, 7)));
        assert_eq!(missed(directory, &[(1, 5), (2, 6), (3, 7)]).0, [of((2, 6))]);
    }

    #[test]
    fn nothing_is_written_for_a_configuration_that_needs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut expired = vec![ended(1, 7)];
        let mut done = Done::open(directory, false, &mut expired, |_| None);
        done.note(of((2, 8)));
        assert_eq!((expired, fs::read_dir(directory).unwrap().count()), (Vec::new(), 0));
        // With a reload it needs something.
        begin(directory, || vec![ended(1, 7)]);
        done.note(of((2, 8)));
        begin(directory, || panic!("there is a file"));
        let leases = [(1, 7), (2, 8), (3, 9)];
        assert_eq!(missed(directory, &leases).0, [of((3, 9))]);
    }

    #[test]
    fn a_lease_that_goes_on_after_its_end_ends_once() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let (_, mut done) = missed(directory, &[]);
        done.note(of((1, 5)));
        done.note(of((2, 6)));
        for _ in 0..2 {
            let (left, done) = start(directory, &[(2, 6)], &[(1, 5)]);
            assert_eq!((left, done.has(of((1, 5))), done.has(of((1, 6)))), (vec![], true, false));
        }
        assert_eq!(missed(directory, &[(1, 5), (2, 6)]).0, []);
    }

    #[test]
    fn the_file_is_as_long_as_there_are_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut done) = missed(directory.path(), &[]);
        for version in 0..=MOST_LINES as u64 {
            done.note(of(((version % 3) as u8, version)));
        }
        let known = read(File::open(directory.path().join(ENTRIES[0])).unwrap()).unwrap();
        assert_eq!((known.len(), done.lines < 9), (3, true));
        assert_eq!(known.values().copied().max(), Some(MOST_LINES as u64));
    }
}
