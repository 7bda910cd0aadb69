//! Hosts that are added, changed and removed while the server runs.
//!
//! They are `[[dhcp.host]]` tables in a file of the state directory, which the configuration's
//! loader reads behind the configuration's own hosts. Nobody else writes it, so it has one form:
//! each host begins with the line `[[dhcp.host]]`, then its name, then each other key on a line of
//! its own. A change makes a new file, which takes the place of the old one when the configuration
//! was read with it.

mod csv;
mod moved;
pub(crate) mod statements;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use csv::{FileError, read};
pub use moved::take;

/// One host: the keys of `[[dhcp.host]]`, as JSON has them.
pub type HostObject = Map<String, Value>;

const HEADER: &str = "[[dhcp.host]]";

/// What to do with a host.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Add it; one of that name must not be there.
    Add,
    /// Add it, in the place of the live one of that name if there is one.
    Set,
    /// Remove the live one of that name.
    Remove,
}

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
}

/// The live hosts of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveHosts {
    /// By name the text of the other keys, a line each.
    hosts: BTreeMap<String, String>,
}

impl LiveHosts {
    /// Reads the file of them; a file that is not there has none.
    ///
    /// # Errors
    /// When it cannot be read, or is not of this server.
    pub fn read(path: &Path) -> Result<Self, LiveHostsError> {
        let failed = |cause| LiveHostsError::Io { path: path.to_owned(), cause };
        let file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut hosts = BTreeMap::new();
        let mut current: Option<(String, String)> = None;
        let mut begins = false;
        for (index, line) in file.lines().enumerate() {
            let line = line.map_err(failed)?;
            let strange = || LiveHostsError::Strange { path: path.to_owned(), line: index + 1 };
            match (&*line, &mut current) {
                (text, _) if text.is_empty() || text.starts_with('#') => {}
                (HEADER, _) if !begins => begins = true,
                (text, _) if begins => {
                    hosts.extend(current.take());
                    let name = text.strip_prefix("name = ").and_then(text::unquote);
                    current = Some((name.ok_or_else(strange)?, String::new()));
                    begins = false;
                }
                (text, Some((_, keys))) if text.contains(" = ") => {
                    keys.push_str(text);
                    keys.push('\n');
                }
                _ => return Err(strange()),
            }
        }
        hosts.extend(current);
        Ok(Self { hosts })
    }

    /// Writes the file, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), LiveHostsError> {
        let write = || {
            let mut out = BufWriter::new(File::create(path)?);
            writeln!(out, "# Written by `bootstorm host` and OMAPI. Do not change it by hand.")?;
            for (name, keys) in &self.hosts {
                write!(out, "{}", table(name, keys))?;
            }
            out.into_inner()?.sync_all()
        };
        write().map_err(|cause| LiveHostsError::Io { path: path.to_owned(), cause })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether there is one of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.hosts.contains_key(name)
    }

    /// Makes a change of several hosts.
    ///
    /// # Errors
    /// What is wrong with one of them, for people; those before it are changed then.
    pub fn change_all(
        &mut self,
        change: Change,
        hosts: Vec<HostObject>,
    ) -> Result<Changed, String> {
        let mut changed = Changed { before: self.len(), hosts: BTreeMap::new() };
        for host in hosts {
            let name = host.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let was_there = self.contains(&name);
            self.change(change, host)?;
            changed.hosts.entry(name).or_insert(was_there);
        }
        Ok(changed)
    }

    /// The file's text of those that a change has added.
    pub fn added(&self, changed: &Changed) -> String {
        let text = |name: &String| Some(table(name, self.hosts.get(name)?).to_string());
        changed.hosts.keys().filter_map(text).collect()
    }

    /// Makes one change.
    ///
    /// # Errors
    /// What is wrong with it, for people; nothing is changed then.
    pub fn change(&mut self, change: Change, mut host: HostObject) -> Result<(), String> {
        let name = match host.remove("name") {
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(_) => return Err("`name` must be a text".to_owned()),
            None => return Err("the host has no `name`".to_owned()),
        };
        let there = self.hosts.contains_key(&name);
        match change {
            Change::Remove if !there => {
                return Err(format!(
                    "there is no live host `{name}`; hosts of the configuration are removed there"
                ));
            }
            Change::Remove => {
                self.hosts.remove(&name);
                return Ok(());
            }
            Change::Add if there => {
                return Err(format!("there is a live host `{name}`: `host set` changes it"));
            }
            Change::Add | Change::Set => {}
        }
        let keys = text::keys(&host).map_err(|error| format!("host `{name}`: {error}"))?;
        self.hosts.insert(name, keys);
        Ok(())
    }

    /// Each host, by rising name.
    pub fn objects(&self) -> impl Iterator<Item = HostObject> {
        self.hosts.iter().map(|(name, keys)| object(name, keys))
    }

    /// The host of that name.
    pub fn object(&self, name: &str) -> Option<HostObject> {
        self.hosts.get(name).map(|keys| object(name, keys))
    }
}

/// What a change did.
#[derive(Debug)]
pub struct Changed {
    /// How many hosts there were before it.
    pub before: usize,
    /// Names of hosts, and whether they were there before it.
    hosts: BTreeMap<String, bool>,
}

impl Changed {
    /// How many hosts are other ones, new ones, or no more.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Names of hosts that are no more, or are other ones.
    pub fn removed(&self) -> HashSet<&str> {
        let removed = self.hosts.iter().filter(|(_, was_there)| **was_there);
        removed.map(|(name, _)| name.as_str()).collect()
    }
}

/// A host as it stands in the file.
fn table(name: &str, keys: &str) -> impl Display {
    fmt::from_fn(move |f| write!(f, "\n{HEADER}\nname = {}\n{keys}", text::quote(name)))
}

fn object(name: &str, keys: &str) -> HostObject {
    let mut host = HostObject::new();
    host.insert("name".to_owned(), Value::String(name.to_owned()));
    // What this module wrote is TOML, and TOML of these kinds is JSON.
    host.extend(toml::from_str::<HostObject>(keys).unwrap_or_default());
    host
}

/// Puts a file that was written in the place of another, durably.
///
/// # Errors
/// When the disk refuses; which of both is there is not known then.
pub fn replace(new: &Path, old: &Path) -> Result<(), LiveHostsError> {
    let directory = old.parent().unwrap_or(Path::new("."));
    fs::rename(new, old)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|cause| LiveHostsError::Io { path: old.to_owned(), cause })
}
