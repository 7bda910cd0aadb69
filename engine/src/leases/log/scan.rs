//! What segments hold: whole batches, what of them counts, and whether anything is missing.
//!
//! The last write before a power cut may be torn, and then its batch was never acknowledged: it is
//! cut off in silence. Anything else that is not whole was lost on the disk. It shows in two ways:
//! - Each block names the batch that was durable before it. If that one is not whole, it is lost.
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
    /// Of these segments, what was written after batch `included`. No batch has more blocks than
    /// `largest`.
    pub(super) fn of(segments: &'s [Segment], included: u64, largest: usize) -> Self {
        let mut whole = BTreeMap::new();
        for segment in segments {
            let new = segment.batches.iter().filter(|batch| batch.number > included);
            whole.extend(new.map(|batch| (batch.number, (segment, batch))));
        }
        let mut chain = Self { last: included, ..Self::default() };
        let torn = segments.iter().flat_map(|segment| &segment.torn);
        let torn = torn.filter(|(number, _)| *number > included);
        let mut missing: Vec<u64> = torn
            .map(|(_, follows)| *follows)
            .filter(|follows| *follows > included && !whole.contains_key(follows))
            .collect();
        let mut next = whole.keys().next_back().copied();
        chain.last = next.unwrap_or(included);
        while let Some(number) = next {
            let Some(&(segment, batch)) = whole.get(&number) else { break };
            chain.batches.push((segment, batch));
            next = Some(batch.follows).filter(|follows| *follows > included);
            if let Some(follows) = next
                && !whole.contains_key(&follows)
            {
                missing.push(follows);
                next = whole.range(..follows).next_back().map(|(number, _)| *number);
            }
        }
        chain.batches.reverse();
        if let Some(number) = missing.iter().min() {
            chain.damage = Some(format!("batch {number} is missing, and later ones are there"));
        }
        if let Some(segment) = segments.iter().find(|segment| segment.broken > largest) {
            let broken = segment.broken;
            chain.damage = Some(format!("{broken} blocks of one segment cannot be read"));
        }
        chain
    }
}
