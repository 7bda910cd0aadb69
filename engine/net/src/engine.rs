//! Which backend a host gets, and what denied it a better one.

use std::fmt;
use std::io;

use crate::{Limits, Mmsg};

/// What the configuration asks for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum EngineChoice {
    /// io_uring, and where it is denied recvmmsg.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

/// What a host can do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EngineKind {
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

/// A backend. The shard's loop is generic: `match engine { Engine::Uring(b) => run(b), Engine::Mmsg(b) => run(b) }`.
pub enum Engine {
    /// recvmmsg and sendmmsg.
    Mmsg(Mmsg),
}

impl EngineKind {
    /// Makes a backend of this kind, in the thread that will use it.
    ///
    /// # Errors
    /// Memory or descriptors are used up.
    pub fn open(self, limits: &Limits) -> io::Result<Engine> {
        Mmsg::new(limits).map(Engine::Mmsg)
    }
}

/// io_uring cannot be used, and why.
#[derive(Debug)]
pub struct Denied {
    /// What stands in the way.
    pub reason: Reason,
}

/// What stands in the way of io_uring.
#[derive(Debug)]
pub enum Reason {
    /// The kernel lacks what we need.
    TooOld {
        /// What it lacks.
        missing: &'static str,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::TooOld { missing } => write!(f, "this kernel has no {missing}"),
        }
    }
}

impl std::error::Error for Denied {}

impl EngineChoice {
    /// Finds out what this host allows, once, before the shards start. With `Auto` and io_uring denied the answer is
    /// `Mmsg` and the reason, for one warning.
    ///
    /// # Errors
    /// io_uring was demanded and is denied.
    pub fn resolve(self) -> Result<(EngineKind, Option<Denied>), Denied> {
        Ok((EngineKind::Mmsg, None))
    }
}
