//! The files of the live hosts: all of them as they once were, and what has changed since.
//!
//! `hosts.toml` has all hosts. A change of few of them is a line of JSON at the end of
//! `hosts.journal` beside it: `{"origin": ORIGIN, "set": [HOST, ...], "remove": [NAME, ...]}` with
//! the keys of `[[dhcp.host]]`. When the journal has become long, and when the server starts,
//! `hosts.toml` is written anew and the journal is removed. If the server is killed between both,
//! the changes are made once more to hosts that have them, which changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    Change, Changed, HEADER, HostObject, LiveHost, LiveHosts, NAME, ORIGIN, Origin, table, text,
};

/// The file of changes, beside that of the hosts.
pub const JOURNAL: &str = "hosts.journal";

/// A journal of so many bytes is not long, however few hosts there are.
const SHORT: u64 = 1 << 20;

/// Why live hosts cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LiveHostsError {
    /// The disk, or the file system.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Somebody else has written the file.
    #[error(
        "{path}:{line}: this is not as it was written by this server; hosts that are written by \
         hand stand in the configuration", path = path.display()
    )]
    Strange {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The journal is damaged, and not where a killed server leaves it.
    #[error(
        "{path}:{line}: this change of live hosts is damaged ({what}): restore the file, or remove \
         the line to go on without its change", path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// How that is known.
        what: serde_json::Error,
    },
    /// The journal is not as this server has left it.
    #[error(
        "{path}: somebody else has taken away what this server wrote there, and the change is not \
         made: `bootstorm reload` puts in force what is there now", path = path.display()
    )]
    Taken {
        /// Which file.
        path: PathBuf,
    },
    /// Whether a change was written is not known.
    #[error(
        "{path}: {cause}; the change may be in the file nevertheless: `bootstorm reload` puts in \
         force what is there", path = path.display()
    )]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// A change as the journal has it: what came of it, for each host that it was about.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    origin: Origin,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    set: Vec<HostObject>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
}

/// The journal of the hosts in a file.
fn journal_of(path: &Path) -> PathBuf {
    path.with_file_name(JOURNAL)
}

/// Whether changes of the hosts in a file are in its journal only.
fn has_journal(path: &Path) -> bool {
    fs::metadata(journal_of(path)).is_ok_and(|file| file.len() > 0)
}

/// The file of live hosts as it will be when its journal is put into it; `None` if it has none.
///
/// # Errors
/// As [`LiveHosts::read`].
pub(crate) fn text_with_journal(path: &Path) -> Result<Option<String>, LiveHostsError> {
    has_journal(path).then(|| LiveHosts::read(path).map(|live| live.to_string())).transpose()
}

impl LiveHosts {
    /// Reads the file of them and its journal; files that are not there have none.
    ///
    /// # Errors
    /// When they cannot be read, or are not of this server.
    pub fn read(path: &Path) -> Result<Self, LiveHostsError> {
        // A file that takes the place of another one is another file.
        let which = || {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        };
        loop {
            let before = which();
            let mut live = Self { hosts: read_hosts(path)?, journal: 0 };
            live.read_journal(&journal_of(path))?;
            // Else the journal may be that of the file that is there by now.
            if which() == before {
                return Ok(live);
            }
        }
    }

    fn read_journal(&mut self, path: &Path) -> Result<(), LiveHostsError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(LiveHostsError::Io { path: path.to_owned(), cause }),
        };
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let is_last = self.journal + line.len() as u64 == bytes.len() as u64;
            // Blocks that never reached the disk are zeros.
            let is_torn = is_last && (!line.ends_with(b"\n") || line.contains(&0));
            let damaged = |what| {
                let (path, line) = (path.to_owned(), index + 1);
                LiveHostsError::Damaged { path, line, what }
            };
            let Record { origin, set, remove } = match serde_json::from_slice(line) {
                // Nobody was answered.
                _ if is_torn => return Ok(()),
                Ok(record) => record,
                Err(error) => return Err(damaged(error)),
            };
            for name in remove {
                self.hosts.remove(&name);
            }
            for host in set {
                let set = self.change(Change::Set, host, Some(origin));
                set.map_err(|what| damaged(serde::de::Error::custom(what)))?;
            }
            self.journal += line.len() as u64;
        }
        Ok(())
    }

    /// Writes all of them into a new file, durably.
    ///
    /// # Errors
    /// When the disk refuses; the file is removed then.
    pub fn write(&self, path: &Path) -> Result<(), LiveHostsError> {
        let failed = |cause| LiveHostsError::Io { path: path.to_owned(), cause };
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        let mut write = || {
            write!(out, "{self}")?;
            out.flush()?;
            out.get_ref().sync_all()
        };
        write().map_err(|cause| {
            remove(path);
            failed(cause)
        })
    }

    /// Puts a file that all of them were written into in the place of that which was read, durably,
    /// and removes its journal.
    ///
    /// # Errors
    /// When the disk refuses. Unless it is [`LiveHostsError::Unknown`], the old file is there, and
    /// the new one is removed.
    pub fn replace(&mut self, new: &Path, path: &Path) -> Result<(), LiveHostsError> {
        fs::rename(new, path).map_err(|cause| {
            remove(new);
            LiveHostsError::Io { path: path.to_owned(), cause }
        })?;
        let unknown = |path: &Path| {
            let path = path.to_owned();
            |cause| LiveHostsError::Unknown { path, cause }
        };
        sync_directory_of(path).map_err(unknown(path))?;
        let journal = journal_of(path);
        match fs::remove_file(&journal) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(unknown(&journal))?,
        }
        self.journal = 0;
        sync_directory_of(path).map_err(unknown(&journal))
    }

    /// Whether there are changes that are in the journal only.
    pub fn has_journal(&self) -> bool {
        self.journal > 0
    }

    /// Whether the journal of the hosts in a file has become long beside it.
    pub fn outgrows(&self, path: &Path) -> bool {
        let hosts = fs::metadata(path).map_or(0, |file| file.len());
        self.journal > hosts.max(SHORT)
    }

    /// Writes a change that was made into the journal of a file, durably. What a killed server has
    /// left behind the last change is cut off.
    ///
    /// # Errors
    /// When the disk refuses, and when the journal is not there as far as it is known.
    pub fn append(&mut self, path: &Path, changed: &Changed) -> Result<(), LiveHostsError> {
        let mut record = Record { origin: changed.origin, set: Vec::new(), remove: Vec::new() };
        for name in changed.hosts.keys() {
            match self.object(name) {
                Some(host) => record.set.push(host),
                None => record.remove.push(name.clone()),
            }
        }
        let journal = journal_of(path);
        let append = |file: &File| {
            let mut line = serde_json::to_vec(&record)?;
            line.push(b'\n');
            file.set_len(self.journal)?;
            file.write_all_at(&line, self.journal)?;
            file.sync_all()?;
            if self.journal == 0 {
                sync_directory_of(path)?;
            }
            Ok(line.len() as u64)
        };
        let is_new = self.journal == 0;
        let open = OpenOptions::new().write(true).create(is_new).truncate(false).open(&journal);
        let file = match open.and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((length, file)) if length >= self.journal => file,
            // A change behind a hole would be lost.
            Ok(_) => return Err(LiveHostsError::Taken { path: journal }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !is_new => {
                return Err(LiveHostsError::Taken { path: journal });
            }
            Err(cause) => return Err(LiveHostsError::Io { path: journal, cause }),
        };
        match append(&file) {
            Ok(length) => self.journal += length,
            Err(cause) => {
                let undone = file.set_len(self.journal).and_then(|()| file.sync_all());
                return Err(match undone {
                    Ok(()) => LiveHostsError::Io { path: journal, cause },
                    Err(_) => LiveHostsError::Unknown { path: journal, cause },
                });
            }
        }
        Ok(())
    }
}

/// Writes the file of live hosts anew if it has a journal, and removes that. Whether there was a
/// change in it that was not whole.
///
/// # Errors
/// As [`LiveHosts::read`], and when the disk refuses.
pub fn fold(path: &Path) -> Result<bool, LiveHostsError> {
    if !has_journal(path) {
        return Ok(false);
    }
    let mut live = LiveHosts::read(path)?;
    let torn = fs::metadata(journal_of(path)).is_ok_and(|file| file.len() > live.journal);
    let new = path.with_added_extension("new");
    live.write(&new)?;
    live.replace(&new, path)?;
    Ok(torn)
}

/// Removes what is of no use any more. If that fails, the next one to write it does so anew.
pub fn remove(path: &Path) {
    let _kept = fs::remove_file(path);
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The hosts of a file without its journal.
fn read_hosts(path: &Path) -> Result<BTreeMap<String, LiveHost>, LiveHostsError> {
    let failed = |cause| LiveHostsError::Io { path: path.to_owned(), cause };
    let mut hosts = BTreeMap::new();
    let file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(hosts),
        Err(error) => return Err(failed(error)),
    };
    let mut current: Option<(String, LiveHost)> = None;
    let mut begins = false;
    for (index, line) in file.lines().enumerate() {
        let line = line.map_err(failed)?;
        let strange = || LiveHostsError::Strange { path: path.to_owned(), line: index + 1 };
        match (&*line, &mut current) {
            (text, Some((_, host))) if !begins && text.starts_with(ORIGIN) => {
                host.origin = text[ORIGIN.len()..].to_owned().try_into().ok();
            }
            (text, _) if text.is_empty() || text.starts_with('#') => {}
            (HEADER, _) if !begins => begins = true,
            (text, _) if begins => {
                hosts.extend(current.take());
                let name = text.strip_prefix(NAME).and_then(text::unquote);
                let host = LiveHost { keys: String::new(), origin: None };
                current = Some((name.ok_or_else(strange)?, host));
                begins = false;
            }
            (text, Some((_, host))) if text.contains(" = ") => {
                host.keys.push_str(text);
                host.keys.push('\n');
            }
            _ => return Err(strange()),
        }
    }
    hosts.extend(current);
    Ok(hosts)
}

/// The text of the file of live hosts.
impl std::fmt::Display for LiveHosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "# Written by `bootstorm host` and OMAPI. Do not change it by hand.")?;
        self.hosts.iter().try_for_each(|(name, host)| write!(f, "{}", table(name, host)))
    }
}
