//! Hashing with a key, so that no client can choose what falls together in a table.
//!
//! Clients choose their hardware addresses and identifiers. Who does not know the key cannot
//! compute which of them collide. foldhash is no cryptographic hash: it promises nothing against
//! somebody who could measure single look-ups.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;

/// Hashes with its key. Its `Default` takes the key from addresses of the process and from the
/// clock, and is for tests.
pub type KeyedHasher = foldhash::quality::SeedableRandomState;

/// One whose key nobody can guess.
#[must_use]
pub fn keyed() -> KeyedHasher {
    // The larger part of the key; foldhash wants it to live as long as the program.
    static SHARED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));
    KeyedHasher::with_seed(random(), &SHARED)
}

/// One whose key is always the same, for simulations that repeat exactly.
#[must_use]
pub fn with_key(key: u64) -> KeyedHasher {
    KeyedHasher::with_seed(key, SharedSeed::global_fixed())
}

/// Of the system's randomness, by way of the standard library's keys for its own tables.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another() {
        let hashes: Vec<_> = (0..10).map(|_| keyed().hash_one(7)).collect();
        assert!((1..10).all(|at| !hashes[..at].contains(&hashes[at])), "{hashes:?}");
        assert_eq!(with_key(1).hash_one(7), with_key(1).hash_one(7));
    }
}
