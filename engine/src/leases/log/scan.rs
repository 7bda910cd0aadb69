//! What segments hold: whole batches, what of them counts, and whether anything is missing.
//!
//! The last write before a power cut may be torn, and then its batch was never acknowledged: it is
//! cut off in silence. Anything else that is not whole was lost on the disk. It shows in two ways:
//! - Each block names the batch that was durable before it. If that one is not whole, it is lost.
//!   What lies between the two failed, and does not count. A torn batch says so, too.
//! - One write is under way at a time, a segment is left after a failed one, and what that one left
//!   is mended before the segment is used again. So at most one batch is torn in a segment. More
//!   blocks that are not whole than the largest batch has are damage.

use std::collections::BTreeMap;
use std::ops::Range;

use bootstorm_net::file::Blocks;

use super::block::{self, Kind, LogId};

/// One batch of a segment, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) follows: u64,
    /// Its content in [`Segment::content`].
    content: Range<usize>,
}

/// What one segment holds of its present use.
#[derive(Clone, Default, Debug)]
pub(super) struct Segment {
    /// 0 for one that was never used.
    pub(super) generation: u64,
    pub(super) batches: Vec<Batch>,
    /// Number, and the batch before, of blocks whose batch is not whole.
    torn: Vec<(u64, u64)>,
    /// Blocks that are not whole.
    broken: usize,
    /// From the first of them to the last.
    damaged: Range<u16>,
    content: Vec<u8>,
}

impl Segment {
    /// Reads the blocks of a segment.
    pub(super) fn scan(blocks: &Blocks, log: LogId) -> Self {
        let parsed: Vec<_> = blocks
            .iter()
            .map(|block| block::parse(block).filter(|block| block.stamp.log == log))
            .collect();
        let used = |block: &&block::Block<'_>| block.stamp.kind == Kind::Batch;
        let generation = parsed.iter().flatten().filter(used).map(|block| block.stamp.generation);
        let mut segment = Self { generation: generation.max().unwrap_or(0), ..Self::default() };
        let mut at = 0;
        while at < parsed.len() {
            let Some(block) = &parsed[at] else {
                segment.broken += 1;
                // A segment has fewer blocks than that.
                let (this, next) = (at as u16, at as u16 + 1);
                let first = if segment.broken == 1 { this } else { segment.damaged.start };
                segment.damaged = first..next;
                at += 1;
                continue;
            };
            let stamp = block.stamp;
            if !used(&block) || stamp.generation != segment.generation {
                at += 1;
                continue;
            }
            let of = usize::from(block.of);
            let blocks = parsed.get(at..at + of).unwrap_or_default();
            let whole = !blocks.is_empty()
                && (0..).zip(blocks).all(|(position, block)| {
                    block.as_ref().is_some_and(|block| {
                        (block.stamp, block.position, usize::from(block.of))
                            == (stamp, position, of)
                    })
                });
            if !whole {
                segment.torn.push((stamp.number, stamp.follows));
                at += 1;
                continue;
            }
            let start = segment.content.len();
            for block in blocks.iter().flatten() {
                segment.content.extend_from_slice(block.content);
            }
            let content = start..segment.content.len();
            let (number, follows) = (stamp.number, stamp.follows);
            segment.batches.push(Batch { number, follows, content });
            at += of;
        }
        segment
    }

    /// The highest number of a batch that was written here, whole or not; 0 for none.
    pub(super) fn highest(&self) -> u64 {
        let torn = self.torn.iter().map(|(number, _)| *number);
        self.batches.iter().map(|batch| batch.number).chain(torn).max().unwrap_or(0)
    }

    /// The blocks from the first to the last that are not whole.
    pub(super) fn damaged(&self) -> Range<u16> {
        self.damaged.clone()
    }

    /// The content of one of its batches.
    pub(super) fn content(&self, batch: &Batch) -> &[u8] {
        &self.content[batch.content.clone()]
    }
}

/// The batches that count, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Chain<'s> {
    pub(super) batches: Vec<(&'s Segment, &'s Batch)>,
    /// The number of the last of them; what the checkpoint includes when there is none.
    pub(super) last: u64,
    /// What is missing.
    pub(super) damage: Option<String>,
}

impl<'s> Chain<'s> {
    /// Of these segments, what was written after batch `included`. `durable`: the last batch that
    /// is known to be on the disk; `None` where nothing but the segments tells. No batch has more
    /// blocks than `largest`.
    pub(super) fn of(
        segments: &'s [Segment],
        included: u64,
        durable: Option<u64>,
        largest: usize,
    ) -> Self {
        let batches =
            segments.iter().flat_map(|segment| segment.batches.iter().map(move |b| (segment, b)));
        let whole: BTreeMap<_, _> =
            batches.map(|(segment, batch)| (batch.number, (segment, batch))).collect();
        let last = || {
            let whole = whole.keys().next_back().copied().unwrap_or(0);
            // A torn one does not count, nor does what failed before it.
            let torn = segments.iter().flat_map(|segment| &segment.torn).max();
            torn.filter(|(number, _)| *number > whole).map_or(whole, |(_, follows)| *follows)
        };
        let mut chain = Self::default();
        let mut missing = None;
        let mut next = durable.unwrap_or_else(last);
        while next > included {
            next = match whole.get(&next) {
                Some(&(segment, batch)) => {
                    chain.batches.push((segment, batch));
                    batch.follows.min(next - 1)
                }
                None => {
                    missing = Some(next);
                    whole.range(..next).next_back().map_or(0, |(number, _)| *number)
                }
            };
        }
        chain.batches.reverse();
        chain.last = chain.batches.last().map_or(included, |(_, batch)| batch.number);
        if let Some(number) = missing {
            chain.damage = Some(format!("batch {number} is missing, and later ones are there"));
        }
        if let Some(segment) = segments.iter().find(|segment| segment.broken > largest) {
            let broken = segment.broken;
            chain.damage = Some(format!("{broken} blocks of one segment cannot be read"));
        }
        chain
    }
}
