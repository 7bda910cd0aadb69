//! Stores that lie, to prove that the kill and power-cut tests notice. Built only with the feature
//! `mutants`, and chosen by the environment variable `BOOTSTORM_MUTANT`.

use parking_lot::Mutex;

use super::Write;

/// In which way the store lies.
pub(super) enum Mutant {
    /// `ack-before-write`: a batch is written when the next one comes. kill -9 loses it.
    Late(Mutex<Vec<Write>>),
    /// `ack-without-fsync`: the kernel has the batch, the disk may not. A power cut loses it.
    NoFsync,
}

impl Mutant {
    /// The one that the environment asks for.
    pub(super) fn chosen() -> Option<Self> {
        match std::env::var("BOOTSTORM_MUTANT").ok()?.as_str() {
            "ack-before-write" => Some(Self::Late(Mutex::default())),
            "ack-without-fsync" => Some(Self::NoFsync),
            _ => None,
        }
    }
}
