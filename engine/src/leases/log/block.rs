//! One block of a segment or a checkpoint.
//!
//! ```text
//! checksum 8: XXH3 of all that follows | "bslg" 4 | version 1 | kind 1 |
//! position in the batch 2 | blocks of the batch 2 | bytes of content in this block 2 | zero 4 |
//! log 16 | generation 8 | number 8 | follows 8 | content
//! ```
//! Numbers are big-endian. A recycled segment keeps blocks of its earlier use, which are whole;
//! their generation is lower. The log's id tells blocks of another log apart, which may lie in the
//! same place of the disk.

use bootstorm_net::file::{BLOCK, Blocks};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"bslg";
const VERSION: u8 = 1;
/// Bytes before the content.
const HEADER: usize = 64;
/// Content that one block has room for.
pub(super) const CONTENT: usize = BLOCK - HEADER;

/// Which log.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct LogId(pub(super) [u8; 16]);

/// What a block is part of. The numbers are on disk and never change their meaning.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing was written here yet.
    Blank = 0,
    /// A batch of the log.
    Batch = 1,
    /// A piece of a checkpoint.
    Checkpoint = 2,
    /// The last piece of a checkpoint.
    End = 3,
}

/// What a batch says of itself in each of its blocks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) kind: Kind,
    pub(super) log: LogId,
    /// Rises each time that the segment, or the file of the checkpoint, is used anew.
    pub(super) generation: u64,
    /// Rises with each batch of the log; in a checkpoint, with each piece from 0 on.
    pub(super) number: u64,
    /// The number of the last batch that was known to be durable when this one was written: what
    /// lies between them failed. 0 for none.
    pub(super) follows: u64,
}

/// A block that is whole.
pub(super) struct Block<'a> {
    pub(super) stamp: Stamp,
    pub(super) position: u16,
    /// Blocks of its batch, at least one.
    pub(super) of: u16,
    pub(super) content: &'a [u8],
}

/// Reads a block. `None` when it is not whole, or not of a version that this program knows.
pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Block<'_>> {
    if u64_at(block, 0) != xxh3_64(&block[8..]) || block[8..12] != MAGIC || block[12] != VERSION {
        return None;
    }
    let kind = [Kind::Blank, Kind::Batch, Kind::Checkpoint, Kind::End]
        .into_iter()
        .find(|kind| *kind as u8 == block[13])?;
    let log = LogId(*block[24..].first_chunk()?);
    let (generation, number) = (u64_at(block, 40), u64_at(block, 48));
    let stamp = Stamp { kind, log, generation, number, follows: u64_at(block, 56) };
    let (position, of) = (u16_at(block, 14), u16_at(block, 16));
    let content = block[HEADER..].get(..u16_at(block, 18).into())?;
    (position < of).then_some(Block { stamp, position, of, content })
}

/// Completes the blocks of one batch, which has `length` bytes of content: headers and checksums.
pub(super) fn seal(blocks: &mut Blocks, length: usize, stamp: &Stamp) {
    let of = blocks.len();
    for position in 0..of {
        let Some(block) = blocks.get_mut(position) else { return };
        let length = length.saturating_sub(position * CONTENT).min(CONTENT);
        block[8..12].copy_from_slice(&MAGIC);
        block[12] = VERSION;
        block[13] = stamp.kind as u8;
        // A batch fits into a segment, and a segment has fewer blocks than that.
        for (at, number) in [(14, position), (16, of), (18, length)] {
            block[at..at + 2].copy_from_slice(&(number as u16).to_be_bytes());
        }
        block[20..24].fill(0);
        block[24..40].copy_from_slice(&stamp.log.0);
        for (at, number) in [(40, stamp.generation), (48, stamp.number), (56, stamp.follows)] {
            block[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        let checksum = xxh3_64(&block[8..]);
        block[..8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Blocks that say that nothing was written: a new file is filled with them. They are not zero, so
/// that zeros in a file are a sign of damage, and that no layer below leaves them out.
pub(super) fn blank(count: usize, log: LogId) -> Blocks {
    let mut one = Blocks::default();
    one.push()[HEADER..].fill(0xB5);
    let stamp = Stamp { kind: Kind::Blank, log, generation: 0, number: 0, follows: 0 };
    seal(&mut one, CONTENT, &stamp);
    let mut blocks = Blocks::default();
    for _ in 0..count {
        blocks.push().copy_from_slice(one.bytes());
    }
    blocks
}

/// Where the content of a block begins.
pub(super) fn content(block: &mut [u8; BLOCK]) -> &mut [u8] {
    &mut block[HEADER..]
}

fn u64_at(bytes: &[u8; BLOCK], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn u16_at(bytes: &[u8; BLOCK], at: usize) -> u16 {
    bytes[at..].first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}
