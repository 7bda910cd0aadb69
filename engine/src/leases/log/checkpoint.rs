//! A checkpoint: the last record of every address, by rising key, in a file of its own.
//!
//! ```text
//! piece 0: meta, record*    piece 1: record*    ...    end: meta, number of records 8
//! meta: last batch included 8 | next generation 8 | highest version 8 | segments 2 |
//!       flags 1: 1 damaged, 2 longest leases | clock when damage was found 33 |
//!       clocks of earlier boots 2, clock 33 each |
//!       longest leases: seconds 8, seconds 8 that were given until a clock 33
//! ```
//! A piece is a batch of 64 blocks at a multiple of 64. A piece that cannot be read is left out and
//! told of; the others count. The file may be longer than its content: it is reserved for the next.

use std::io;
use std::time::Duration;

use bootstorm_net::file::{BLOCK, Blocks, DurableFile};

use super::batch::{Builder, Fields, Record};
use super::block::{self, CONTENT, Kind, LogId, Stamp};
use crate::leases::Clock;

/// The name of the file.
pub(super) const NAME: &str = "checkpoint";
/// The file that the next one is written to: the one before.
pub(super) const SPARE: &str = "checkpoint.spare";

/// Blocks of a piece.
const PIECE: usize = 64;
/// Bytes of a piece in the file.
const PIECE_BYTES: u64 = (PIECE * BLOCK) as u64;
/// Bytes of a record around its value, at most.
const RECORD_HEAD: usize = 1 + 17 + 8 + 2;

/// What a checkpoint says besides its records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Meta {
    /// The last batch of the log that is included.
    pub(super) included: u64,
    /// Generations from here on were not used before.
    pub(super) next_generation: u64,
    /// The highest version that was ever written.
    pub(super) version: u64,
    /// Segments that the log has.
    pub(super) segments: u16,
    /// When damage was found last.
    pub(super) damaged: Option<Clock>,
    /// The last clock that was written in each boot.
    pub(super) clocks: Vec<Clock>,
    /// How long leases last at most that the configuration gives, and gave.
    pub(super) longest: Longest,
}

/// How long leases last at most, in seconds.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Longest {
    /// Those that are given now.
    pub(super) now: u64,
    /// Those that were given until `until`, when they became shorter.
    pub(super) before: u64,
    pub(super) until: Clock,
}

impl Longest {
    /// A reload takes effect a moment after the clock was read.
    const MARGIN: u64 = 60;

    /// From this clock on none is longer. What was given before may last until then.
    pub(super) fn shorten(&mut self, now: u64, clock: &Clock) {
        if now >= self.now {
            return;
        }
        let before = self.now + Self::MARGIN;
        let ends = |longest: u64, until: &Clock| until.now + Duration::from_secs(longest);
        if self.until.boot != clock.boot {
            (self.before, self.until) = (before.max(self.before), *clock);
        } else if ends(self.before, &self.until) < ends(before, clock) {
            (self.before, self.until) = (before, *clock);
        }
        self.now = now;
    }

    /// Where nothing tells: a day.
    pub(super) const UNKNOWN: Self = Self { now: 86_400, before: 0, until: Clock::ORIGIN };
}

const DAMAGED: u8 = 1;
const LONGEST: u8 = 2;

impl Meta {
    fn write(&self, builder: &mut Builder) {
        for number in [self.included, self.next_generation, self.version] {
            builder.bytes(&number.to_be_bytes());
        }
        builder.bytes(&self.segments.to_be_bytes());
        let damaged = if self.damaged.is_some() { DAMAGED } else { 0 };
        builder.bytes(&[damaged | LONGEST]);
        builder.clock(&self.damaged.unwrap_or_default());
        // There are few.
        builder.bytes(&(self.clocks.len() as u16).to_be_bytes());
        self.clocks.iter().for_each(|clock| builder.clock(clock));
        builder.bytes(&self.longest.now.to_be_bytes());
        builder.bytes(&self.longest.before.to_be_bytes());
        builder.clock(&self.longest.until);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (included, next_generation, version) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let segments = fields.u16()?;
        let flags = fields.u8()?;
        let found = fields.clock()?;
        let clocks = (0..fields.u16()?).map(|_| fields.clock()).collect::<Option<_>>()?;
        let damaged = (flags & DAMAGED != 0).then_some(found);
        let mut longest = Longest::UNKNOWN;
        if flags & LONGEST != 0 {
            let (now, before) = (fields.u64()?, fields.u64()?);
            longest = Longest { now, before, until: fields.clock()? };
        }
        Some(Self { included, next_generation, version, segments, damaged, clocks, longest })
    }
}

/// The length of a file that has at least so many bytes, and room for the end of a checkpoint.
pub(super) fn whole_pieces(bytes: u64) -> u64 {
    (bytes.div_ceil(PIECE_BYTES) + 2) * PIECE_BYTES
}

/// Writes a checkpoint, record by record.
pub(super) struct Writer<'f> {
    file: &'f dyn DurableFile,
    log: LogId,
    generation: u64,
    meta: &'f Meta,
    /// The piece that is being filled.
    builder: Builder,
    piece: u64,
    records: u64,
}

impl<'f> Writer<'f> {
    /// Begins one over whatever the file holds.
    pub(super) fn new(
        file: &'f dyn DurableFile,
        log: LogId,
        generation: u64,
        meta: &'f Meta,
    ) -> Self {
        let mut builder = Builder::new(Blocks::default());
        meta.write(&mut builder);
        Self { file, log, generation, meta, builder, piece: 0, records: 0 }
    }

    pub(super) fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let length = RECORD_HEAD + record.value.map_or(0, <[u8]>::len);
        if self.builder.len() + length > PIECE * CONTENT {
            self.flush(Kind::Checkpoint)?;
        }
        self.builder.record(&record.key, record.version, record.value);
        self.records += 1;
        Ok(())
    }

    /// Completes it, and makes it durable; the number of its bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush(Kind::Checkpoint)?;
        self.meta.write(&mut self.builder);
        self.builder.bytes(&self.records.to_be_bytes());
        self.flush(Kind::End)?;
        self.file.sync()?;
        Ok(self.piece * PIECE_BYTES)
    }

    fn flush(&mut self, kind: Kind) -> io::Result<()> {
        let (log, generation, number) = (self.log, self.generation, self.piece);
        let stamp = Stamp { kind, log, generation, number, follows: 0 };
        let full = std::mem::replace(&mut self.builder, Builder::new(Blocks::default()));
        let mut blocks = full.seal(&stamp);
        blocks.resize(PIECE);
        self.file.write_at(self.piece * PIECE_BYTES, &blocks)?;
        self.builder = Builder::new(blocks);
        self.piece += 1;
        Ok(())
    }
}

/// Reads a checkpoint, piece by piece.
pub(super) struct Reader<'f> {
    file: &'f dyn DurableFile,
    /// Pieces that the file has, the last one perhaps in part.
    pieces: u64,
    log: Option<LogId>,
    generation: u64,
    meta: Meta,
    blocks: Blocks,
    content: Vec<u8>,
    piece: u64,
    records: u64,
    damage: Option<String>,
    ended: bool,
}

impl<'f> Reader<'f> {
    /// Opens a checkpoint. What cannot be read of it shows in [`Reader::damage`] after its end.
    ///
    /// # Errors
    /// What the disk says about the first piece, or the last.
    pub(super) fn open(file: &'f dyn DurableFile) -> io::Result<Self> {
        let length = file.len()?;
        let mut reader = Self {
            file,
            pieces: length.div_ceil(PIECE_BYTES),
            log: None,
            generation: 0,
            meta: Meta { longest: Longest::UNKNOWN, ..Meta::default() },
            blocks: Blocks::default(),
            content: Vec::new(),
            piece: 0,
            records: 0,
            damage: None,
            ended: false,
        };
        for piece in 0..length / PIECE_BYTES {
            let Some(stamp) = reader.read(piece)? else { continue };
            if stamp.number != piece || stamp.kind == Kind::Blank {
                continue;
            }
            if reader.log.is_none() {
                (reader.log, reader.generation) = (Some(stamp.log), stamp.generation);
            }
            // Both ends have it.
            if stamp.number == 0 || stamp.kind == Kind::End {
                let meta = Meta::read(&mut Fields(&reader.content));
                reader.meta = meta.unwrap_or(reader.meta);
                break;
            }
        }
        Ok(reader)
    }

    /// Which log it is of; `None` when nothing of it can be read.
    pub(super) fn log(&self) -> Option<LogId> {
        self.log
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What is missing, once all was read.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Hands over the records of the next piece; `false` after the last.
    ///
    /// # Errors
    /// What `each` returns.
    pub(super) fn next<E>(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.ended {
            return Ok(false);
        }
        let piece = self.piece;
        self.piece += 1;
        let stamp = match self.read(piece) {
            Ok(stamp) => stamp,
            Err(error) => {
                self.damage = Some(format!("piece {piece} of the checkpoint: {error}"));
                // Its end cannot be known.
                self.ended = self.is_last(piece);
                return Ok(!self.ended);
            }
        };
        let ours = stamp.filter(|stamp| {
            (Some(stamp.log), stamp.generation, stamp.number) == (self.log, self.generation, piece)
        });
        let mut fields = Fields(&self.content);
        match ours.map(|stamp| stamp.kind) {
            Some(Kind::Checkpoint) => {
                if piece == 0 {
                    _ = Meta::read(&mut fields);
                }
                let mut records = 0;
                loop {
                    match fields.record() {
                        Ok(Some(record)) => each(&record)?,
                        Ok(None) => break,
                        Err(()) => {
                            let what = format!("piece {piece} of the checkpoint makes no sense");
                            self.damage = Some(what);
                            break;
                        }
                    }
                    records += 1;
                }
                self.records += records;
            }
            Some(Kind::End) => {
                self.ended = true;
                let records = Meta::read(&mut fields).and_then(|_| fields.u64());
                if self.damage.is_none() && records != Some(self.records) {
                    self.damage = Some("records of the checkpoint are missing".to_owned());
                }
            }
            _ => {
                self.damage = Some(format!("piece {piece} of the checkpoint cannot be read"));
                // What is whole and of an earlier checkpoint lies behind the end of this one.
                self.ended = stamp.is_some() || self.is_last(piece);
            }
        }
        Ok(!self.ended)
    }

    /// By the length that the file had at first: a disk that fails may not tell it any more.
    fn is_last(&self, piece: u64) -> bool {
        piece + 1 >= self.pieces
    }

    /// Reads the content of a piece, and tells its stamp; `None` when it is not whole.
    fn read(&mut self, piece: u64) -> io::Result<Option<Stamp>> {
        self.content.clear();
        self.file.read_at(piece * PIECE_BYTES, PIECE, &mut self.blocks)?;
        let mut first: Option<Stamp> = None;
        let mut of = 1;
        for (position, block) in (0..).zip(self.blocks.iter()) {
            if position == of {
                break;
            }
            let Some(block) = block::parse(block).filter(|block| block.position == position) else {
                return Ok(None);
            };
            let stamp = *first.get_or_insert(block.stamp);
            if position == 0 {
                of = block.of;
            }
            if block.stamp != stamp || block.of != of {
                return Ok(None);
            }
            self.content.extend_from_slice(block.content);
        }
        Ok(first.filter(|_| usize::from(of) <= self.blocks.len()))
    }
}
