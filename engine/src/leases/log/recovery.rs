//! What the files of a log say, read without a change to any of them.

use std::io;

use bootstorm_net::file::Directory;

use super::Layout;
use super::batch::Record;
use super::block::LogId;
use super::checkpoint::{self, Meta, Reader};
use super::maintain::merge;
use super::records::Records;
use super::scan::{self, Chain};
use super::segments::Segments;
use crate::leases::clock::Clocks;
use crate::leases::store::decode;
use crate::leases::{Clock, Loaded};

/// What was found in the directory of a log.
pub(super) struct Recovery {
    /// Which log it is; `None` where nothing says so.
    pub(super) id: Option<LogId>,
    /// Without one the log was never complete.
    pub(super) has_checkpoint: bool,
    /// What the checkpoint says.
    pub(super) meta: Meta,
    pub(super) segments: Segments,
    /// The highest number of a batch, whole or not, in the checkpoint or not.
    pub(super) highest: u64,
    /// The last batch that is durable.
    pub(super) last: u64,
    /// Generations from here on were not used before.
    pub(super) next_generation: u64,
    pub(super) found: Found,
}

/// What was written after the checkpoint, and what is missing.
pub(super) struct Found {
    pub(super) records: Records,
    pub(super) damage: Option<String>,
}

impl Recovery {
    /// Reads all but the records of the checkpoint.
    pub(super) fn of(directory: &dyn Directory, layout: Layout) -> io::Result<Self> {
        let names = directory.list()?;
        let mut damage = None;
        let mut meta = Meta::default();
        let mut id = None;
        let mut generation = 0;
        let has_checkpoint = names.iter().any(|name| name == checkpoint::NAME);
        if has_checkpoint {
            let file = directory.open(checkpoint::NAME, false)?;
            let reader = Reader::open(&*file)?;
            id = reader.log();
            generation = reader.generation();
            meta = reader.meta().clone();
            if id.is_none() {
                damage = Some("the checkpoint cannot be read".to_owned());
            }
        }
        let (mut segments, scans) = Segments::open(directory, &names, id, layout)?;
        let written = scans.iter().any(|scan| scan.generation > 0);
        if !has_checkpoint {
            if written {
                damage = Some("the checkpoint is missing".to_owned());
            } else {
                // A first start that was killed, or none yet.
                segments = Segments::default();
            }
        }
        let missing = usize::from(meta.segments).saturating_sub(scans.len());
        if missing > 0 {
            damage = Some(format!("segments are missing: {missing}"));
        }
        let chain = Chain::of(&scans, meta.included, None, layout.largest_batch());
        let records = Records::of(&chain);
        damage = damage.or(chain.damage.clone()).or(records.unreadable());
        let highest = scans.iter().map(scan::Segment::highest).max().unwrap_or(0);
        let generations = scans.iter().map(|scan| scan.generation).max().unwrap_or(0);
        let next_generation = (generations.max(generation) + 1).max(meta.next_generation);
        segments.recovered(chain.last, meta.included);
        Ok(Self {
            id: id.or_else(|| segments.log()),
            has_checkpoint,
            highest: highest.max(meta.included),
            last: chain.last,
            next_generation,
            segments,
            meta,
            found: Found { records, damage },
        })
    }
}

impl Found {
    /// Hands over what counts of each address, by rising address. `meta` is that of the checkpoint,
    /// if there is one. Returns the clocks that tell when anything was, and what is damaged.
    pub(super) fn hand_over(
        self,
        directory: &dyn Directory,
        meta: Option<&Meta>,
        clock: &Clock,
        each: &mut dyn FnMut(Loaded),
    ) -> io::Result<(Clocks, Option<String>)> {
        let Self { records, damage } = self;
        let mut clocks = Clocks::new(*clock);
        let earlier = meta.into_iter().flat_map(|meta| &meta.clocks);
        earlier.chain(&records.clocks).for_each(|clock| clocks.saw(*clock));
        let mut give = |record: &Record<'_>| {
            if let Some(value) = record.value {
                each(decode(&record.key, record.version, value, &clocks));
            }
            Ok::<(), io::Error>(())
        };
        if meta.is_none() {
            records.iter().try_for_each(|record| give(&record))?;
            return Ok((clocks, damage));
        }
        let file = directory.open(checkpoint::NAME, false)?;
        let mut reader = Reader::open(&*file)?;
        merge(&mut reader, records.iter(), give)?;
        let damage = damage.or(reader.damage().map(str::to_owned));
        Ok((clocks, damage))
    }
}
