//! Memory that a disk can read and write directly.

use std::fmt;

/// Size of a block, and alignment of its memory, in bytes: what every disk can write by itself.
pub const BLOCK: usize = 4096;

#[derive(Copy, Clone)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// Whole blocks in memory, aligned as direct writes need it. Keeps its memory when it is emptied.
#[derive(Clone, Default)]
pub struct Blocks(Vec<Block>);

impl Blocks {
    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes it so many blocks; new ones are zero.
    pub fn resize(&mut self, count: usize) {
        self.0.resize(count, Block([0; BLOCK]));
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a zero block, and gives it.
    pub fn push(&mut self) -> &mut [u8; BLOCK] {
        let at = self.0.len();
        self.0.push(Block([0; BLOCK]));
        &mut self.0[at].0
    }

    /// One block.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&[u8; BLOCK]> {
        self.0.get(at).map(|block| &block.0)
    }

    /// One block, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut [u8; BLOCK]> {
        self.0.get_mut(at).map(|block| &mut block.0)
    }

    /// The blocks one after another.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8; BLOCK]> {
        self.0.iter().map(|block| &block.0)
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a block is its array and nothing else (repr(C), whose size is a multiple of the
        // alignment, so without padding), and the blocks of a Vec lie one after another.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * BLOCK) }
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.0.len() * BLOCK;
        // SAFETY: as in `bytes`, and any bytes are a valid block.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} blocks", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_lie_one_after_another() {
        let mut blocks = Blocks::default();
        blocks.push()[0] = 1;
        blocks.push()[BLOCK - 1] = 2;
        assert_eq!(blocks.bytes().as_ptr().addr() % BLOCK, 0);
        assert_eq!((blocks.bytes().len(), blocks.bytes()[0]), (2 * BLOCK, 1));
        assert_eq!(blocks.bytes()[2 * BLOCK - 1], 2);
        blocks.bytes_mut()[BLOCK] = 3;
        assert_eq!(blocks.get(1).map(|block| block[0]), Some(3));
        assert_eq!(blocks.get(2), None);
    }
}
