//! Hashing with a key, so that no client can choose what falls together in a table.

use foldhash::SharedSeed;

/// Hashes with its key. The default one takes it from the system's randomness.
pub type KeyedHasher = foldhash::quality::SeedableRandomState;

/// One whose key is always the same, for simulations that repeat exactly.
#[must_use]
pub fn with_key(key: u64) -> KeyedHasher {
    KeyedHasher::with_seed(key, SharedSeed::global_fixed())
}
