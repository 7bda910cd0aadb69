//! Bytes that many sends share.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes that many sends share: cloning it counts a reference, it copies nothing. The
/// bytes never change and stay where they are while any clone lives, which is what lets the kernel
/// read them in place.
#[derive(Clone, Debug)]
pub struct SharedBytes {
    // A concrete type, not a trait object: a strong reference to an `Arc<Vec<u8>>` proves that
    // nobody has it mutably.
    owner: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl SharedBytes {
    /// A range of `owner`; `None` when it reaches beyond the end.
    pub fn new(owner: Arc<Vec<u8>>, range: Range<usize>) -> Option<SharedBytes> {
        owner.get(range.clone())?;
        Some(SharedBytes { owner, range })
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> SharedBytes {
        let range = 0..bytes.len();
        SharedBytes { owner: Arc::new(bytes), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.owner[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_beyond_the_end_is_refused() {
        let owner = Arc::new(vec![1, 2, 3]);
        assert_eq!(&*SharedBytes::new(owner.clone(), 1..3).unwrap(), &[2, 3]);
        assert!(SharedBytes::new(owner.clone(), 2..4).is_none());
        let backwards = Range { start: 3, end: 2 };
        assert!(SharedBytes::new(owner, backwards).is_none());
    }
}
