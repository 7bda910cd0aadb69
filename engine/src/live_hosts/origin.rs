//! When a live host became what it is, and through whom.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who changes live hosts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// `bootstorm host`.
    Command,
    /// A program that speaks OMAPI.
    Omapi,
    /// `bootstorm migrate --leases` and `bootstorm leases import`.
    Import,
}

impl By {
    /// All of them, with their names in the file of live hosts.
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Command, "command"), (Self::Omapi, "omapi"), (Self::Import, "import")];
}

/// When a live host was added or changed last, and through whom.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    /// When, in whole seconds.
    pub at: Timestamp,
    /// Through whom.
    pub by: By,
}

impl Origin {
    /// A change that is made at that time.
    pub fn new(at: Timestamp, by: By) -> Self {
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        Self { at, by }
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let read = || {
            let (at, by) = text.split_once(' ')?;
            let by = By::NAMES.into_iter().find(|(_, name)| *name == by)?.0;
            Some(Self { at: at.parse().ok()?, by })
        };
        read().ok_or("a change says when and through whom it was made")
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

/// `2026-11-28T09:20:00Z command`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, By::NAMES[self.by as usize].1)
    }
}
