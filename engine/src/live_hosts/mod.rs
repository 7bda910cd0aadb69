//! Hosts that are added, changed and removed while the server runs.
//!
//! They are `[[dhcp.host]]` tables in a file of the state directory, which the configuration's
//! loader reads behind the configuration's own hosts. Nobody else writes it, so it has one form:
//! each host begins with the line `[[dhcp.host]]`, then its name, a comment that says when and
//! through whom it became so, then each other key on a line of its own. Changes since the file was
//! written stand in a journal beside it ([`files`]).

mod csv;
mod files;
mod origin;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use csv::{FileError, read};
pub(crate) use files::text_with_journal;
pub use files::{JOURNAL, LiveHostsError, fold, remove};
pub use origin::{By, Origin};

/// One host: the keys of `[[dhcp.host]]`, as JSON has them.
pub type HostObject = Map<String, Value>;

const HEADER: &str = "[[dhcp.host]]";
const NAME: &str = "name = ";
const ORIGIN: &str = "# set ";

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

/// A host without its name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LiveHost {
    /// The text of the keys, a line each.
    keys: String,
    /// `None` where an earlier version has written it.
    origin: Option<Origin>,
}

/// The live hosts of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveHosts {
    hosts: BTreeMap<String, LiveHost>,
    /// So many bytes of the journal are changes that were made in them.
    journal: u64,
}

impl LiveHosts {
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
        origin: Origin,
    ) -> Result<Changed, String> {
        let mut changed = Changed { before: self.len(), hosts: BTreeMap::new(), origin };
        for host in hosts {
            let name = host.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let was_there = self.contains(&name);
            self.change(change, host, Some(origin))?;
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
    pub fn change(
        &mut self,
        change: Change,
        mut host: HostObject,
        origin: Option<Origin>,
    ) -> Result<(), String> {
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
        self.hosts.insert(name, LiveHost { keys, origin });
        Ok(())
    }

    /// Each host, by rising name.
    pub fn objects(&self) -> impl Iterator<Item = HostObject> {
        self.hosts.iter().map(|(name, host)| object(name, host))
    }

    /// The host of that name.
    pub fn object(&self, name: &str) -> Option<HostObject> {
        self.hosts.get(name).map(|host| object(name, host))
    }

    /// When the host of that name became what it is, and through whom, if that is known.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.hosts.get(name)?.origin
    }
}

/// What a change did.
#[derive(Debug)]
pub struct Changed {
    /// How many hosts there were before it.
    pub before: usize,
    /// Names of hosts, and whether they were there before it.
    hosts: BTreeMap<String, bool>,
    origin: Origin,
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

/// The name of the host that a byte of the file's text belongs to.
pub(crate) fn name_at(text: &str, at: usize) -> Option<String> {
    let at = text.floor_char_boundary(at);
    let line_end = at + text[at..].find('\n')?;
    let header = text[..line_end].rfind(&format!("\n{HEADER}"))? + 1;
    let name = text[header..].lines().nth(1)?.strip_prefix(NAME)?;
    text::unquote(name)
}

/// A host as it stands in the file.
fn table(name: &str, host: &LiveHost) -> impl Display {
    fmt::from_fn(move |f| {
        write!(f, "\n{HEADER}\n{NAME}{}\n", text::quote(name))?;
        if let Some(origin) = host.origin {
            writeln!(f, "{ORIGIN}{origin}")?;
        }
        f.write_str(&host.keys)
    })
}

fn object(name: &str, LiveHost { keys, .. }: &LiveHost) -> HostObject {
    let mut host = HostObject::new();
    host.insert("name".to_owned(), Value::String(name.to_owned()));
    // What this module wrote is TOML, and TOML of these kinds is JSON.
    host.extend(toml::from_str::<HostObject>(keys).unwrap_or_default());
    host
}
