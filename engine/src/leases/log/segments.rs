//! The files of the segments, and what each is used for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bootstorm_net::file::{BLOCK, Blocks, Directory, DurableFile};

use super::Layout;
use super::block::{self, LogId};
use super::scan::Segment;

/// What the name of a segment begins with, before its number.
const NAME: &str = "segment-";
/// What a name ends with until the file is complete.
pub(super) const UNFINISHED: &str = ".new";

/// The segment that is written to.
pub(super) struct Current {
    pub(super) index: usize,
    pub(super) file: Arc<dyn DurableFile>,
    pub(super) generation: u64,
    /// The next block.
    pub(super) next: u16,
}

/// Where a block of a segment lies.
pub(super) fn offset(block: u16) -> u64 {
    u64::from(block) * BLOCK as u64
}

/// The segments of a log.
#[derive(Default)]
pub(super) struct Segments {
    all: Vec<File>,
    log: Option<LogId>,
    /// The last batch that was durable when a segment was sealed.
    durable: u64,
}

struct File {
    /// `None` for one that is missing.
    file: Option<Arc<dyn DurableFile>>,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Missing,
    Free,
    Current,
    /// Left for the next. `highest`: the last batch that was written, or tried, in it. `torn`: the
    /// blocks of which nobody knows what the disk has, because the last write failed or was torn.
    Sealed {
        highest: u64,
        torn: Range<u16>,
    },
}

/// A segment that waits for a checkpoint.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) index: usize,
    pub(super) file: Arc<dyn DurableFile>,
    pub(super) highest: u64,
    torn: Range<u16>,
}

impl Segments {
    /// Opens those that are there, and reads them. What is missing below the last, or is not as
    /// long as it should be, is in [`Segments::gaps`].
    pub(super) fn open(
        directory: &dyn Directory,
        names: &[String],
        log: Option<LogId>,
        layout: Layout,
    ) -> io::Result<(Self, Vec<Segment>)> {
        let mut segments = Self { all: Vec::new(), log, durable: 0 };
        let mut scans = Vec::new();
        let mut blocks = Blocks::default();
        let numbers = names.iter().filter_map(|name| name.strip_prefix(NAME)?.parse().ok());
        let count = numbers.max().map_or(0, |last: u16| usize::from(last) + 1);
        for index in 0..count {
            let file = match directory.open(&name(index), false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?),
            };
            let mut opened = File { file: None, state: State::Missing };
            if let Some(file) = file
                && file.len()? >= offset(layout.segment_blocks)
            {
                file.read_at(0, layout.segment_blocks.into(), &mut blocks)?;
                let log = *segments.log.get_or_insert_with(|| {
                    let mut stamps = blocks.iter().filter_map(block::parse);
                    stamps.next().map_or(LogId::default(), |block| block.stamp.log)
                });
                let scan = Segment::scan(&blocks, log);
                opened.state = State::Sealed { highest: scan.highest(), torn: scan.damaged() };
                opened.file = Some(Arc::from(file));
                scans.push(scan);
            }
            segments.all.push(opened);
        }
        Ok((segments, scans))
    }

    /// Those that are to be made anew.
    pub(super) fn gaps(&self) -> Vec<usize> {
        let missing = |(_, file): &(usize, &File)| file.state == State::Missing;
        self.all.iter().enumerate().filter(missing).map(|(index, _)| index).collect()
    }

    /// Which log they belong to, if there is one.
    pub(super) fn log(&self) -> Option<LogId> {
        self.log
    }

    /// How many there are, with those that are missing.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.all.len()).unwrap_or(u16::MAX)
    }

    /// Batch `durable` is the last that counts. Frees those that hold nothing after batch
    /// `included`, and have nothing to mend.
    pub(super) fn recovered(&mut self, durable: u64, included: u64) {
        self.durable = durable;
        for File { state, .. } in &mut self.all {
            let is_free = match state {
                State::Sealed { highest, torn } => *highest <= included && torn.start == torn.end,
                State::Missing | State::Free | State::Current => false,
            };
            if is_free {
                *state = State::Free;
            }
        }
    }

    /// Takes a free one, to be the present one.
    pub(super) fn take(&mut self) -> Option<(usize, Arc<dyn DurableFile>)> {
        let index = self.all.iter().position(|file| file.state == State::Free)?;
        let file = &mut self.all[index];
        file.state = State::Current;
        Some((index, file.file.clone()?))
    }

    /// The present one is left; `durable`: the last batch that is on the disk.
    pub(super) fn seal(&mut self, index: usize, highest: u64, torn: Range<u16>, durable: u64) {
        self.all[index].state = State::Sealed { highest, torn };
        self.durable = durable;
    }

    /// Whether half of them or fewer are free.
    pub(super) fn are_low(&self) -> bool {
        let free = self.all.iter().filter(|file| file.state == State::Free).count();
        free * 2 <= self.all.len()
    }

    /// Makes what sealed ones hold durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sealed().iter().try_for_each(|segment| segment.file.sync())
    }

    /// The last batch that counts of what sealed ones hold.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn sealed(&self) -> Vec<Sealed> {
        let sealed = |(index, file): (usize, &File)| match &file.state {
            State::Sealed { highest, torn } => {
                let (highest, torn) = (*highest, torn.clone());
                Some(Sealed { index, file: file.file.clone()?, highest, torn })
            }
            State::Missing | State::Free | State::Current => None,
        };
        self.all.iter().enumerate().filter_map(sealed).collect()
    }

    /// What it held is in a durable checkpoint.
    pub(super) fn free(&mut self, index: usize) {
        self.all[index].state = State::Free;
    }

    /// There is a new one, in a gap or behind the last.
    pub(super) fn add(&mut self, index: usize, file: Arc<dyn DurableFile>) {
        let new = File { file: Some(file), state: State::Free };
        match self.all.get_mut(index) {
            Some(gap) => *gap = new,
            None => self.all.push(new),
        }
    }
}

impl Sealed {
    /// Makes sure that a segment whose last write failed takes writes again. Only the blocks of
    /// that write are written: a power cut meanwhile tears no more than it had torn.
    pub(super) fn mend(&self, log: LogId) -> io::Result<()> {
        if self.torn.start < self.torn.end {
            let blank = block::blank(self.torn.len(), log);
            self.file.write_at(offset(self.torn.start), &blank)?;
            self.file.sync()?;
        }
        Ok(())
    }
}

/// Makes the next segment: written, so that its blocks are its own, and durable before it has its
/// name. The caller makes the name durable.
pub(super) fn make(
    directory: &dyn Directory,
    index: usize,
    log: LogId,
    layout: Layout,
) -> io::Result<Arc<dyn DurableFile>> {
    let name = name(index);
    let unfinished = format!("{name}{UNFINISHED}");
    let make = || {
        let file = directory.open(&unfinished, true)?;
        file.write_at(0, &block::blank(layout.segment_blocks.into(), log))?;
        file.sync()?;
        directory.rename(&unfinished, &name)?;
        Ok(Arc::from(file))
    };
    make().inspect_err(|_| {
        // Its room is wanted elsewhere, and the next try makes it anew.
        _ = directory.remove(&unfinished);
    })
}

fn name(index: usize) -> String {
    format!("{NAME}{index:02}")
}
