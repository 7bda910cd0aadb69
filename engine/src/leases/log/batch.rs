//! The content of a batch: records of addresses, one after another over as many blocks as it takes.
//!
//! ```text
//! batch: the clock when it was written: boot id 16, nanoseconds since boot 8,
//!        seconds since 1970 8, synchronised 1 | record*
//! record: key length 1, key | version 8 | value length 2 (65535: erased, no value), value
//! ```

use bootstorm_net::file::Blocks;
use bootstorm_protocols::time::Moment;

use super::block::{self, CONTENT, Stamp};
use crate::leases::key::Key;
use crate::leases::{BootId, Clock};

const ERASED: u16 = u16::MAX;

/// Builds one batch.
pub(super) struct Builder {
    blocks: Blocks,
    /// Bytes of content so far.
    length: usize,
}

impl Builder {
    /// Begins one in blocks whose memory is used again.
    pub(super) fn new(mut blocks: Blocks) -> Self {
        blocks.clear();
        blocks.push();
        Self { blocks, length: 0 }
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.length == self.blocks.len() * CONTENT {
                self.blocks.push();
            }
            let last = self.blocks.len() - 1;
            let used = self.length - last * CONTENT;
            let Some(block) = self.blocks.get_mut(last) else { return };
            let room = &mut block::content(block)[used..];
            let length = bytes.len().min(room.len());
            let (now, later) = bytes.split_at(length);
            room[..length].copy_from_slice(now);
            self.length += length;
            bytes = later;
        }
    }

    pub(super) fn clock(&mut self, clock: &Clock) {
        self.bytes(&clock.boot.0);
        self.bytes(&clock.now.as_nanos().to_be_bytes());
        self.bytes(&clock.wall.to_be_bytes());
        self.bytes(&[clock.synchronised.into()]);
    }

    /// Adds the record of an address; `None` erases it. A value is below 64 KiB.
    pub(super) fn record(&mut self, key: &Key, version: u64, value: Option<&[u8]>) {
        // A key has 17 bytes at most.
        self.bytes(&[key.len() as u8]);
        self.bytes(key);
        self.bytes(&version.to_be_bytes());
        let length = value.map_or(ERASED, |value| {
            u16::try_from(value.len()).unwrap_or(ERASED - 1).min(ERASED - 1)
        });
        self.bytes(&length.to_be_bytes());
        self.bytes(value.map_or(&[], |value| &value[..value.len().min(usize::from(length))]));
    }

    /// Number of blocks so far.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of content so far.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Makes it at least so many blocks long; then it takes no more content.
    pub(super) fn lengthen(&mut self, blocks: usize) {
        while self.blocks.len() < blocks {
            self.blocks.push();
        }
    }

    /// Completes it.
    pub(super) fn seal(mut self, stamp: &Stamp) -> Blocks {
        block::seal(&mut self.blocks, self.length, stamp);
        self.blocks
    }
}

/// One record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Record<'a> {
    pub(super) key: Key,
    pub(super) version: u64,
    /// `None`: the address was erased.
    pub(super) value: Option<&'a [u8]>,
}

/// Reads the content of a batch.
#[derive(Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn clock(&mut self) -> Option<Clock> {
        Some(Clock {
            boot: BootId(self.array()?),
            now: Moment::from_nanos(self.u64()?),
            wall: self.u64()?,
            synchronised: self.u8()? != 0,
        })
    }

    /// The next record. `Err` when what is left is none, `Ok(None)` at the end.
    pub(super) fn record(&mut self) -> Result<Option<Record<'a>>, ()> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut read = || {
            let length = self.u8()?;
            let key = Key::from_bytes(self.take(length.into())?)?;
            let version = self.u64()?;
            let value = match self.u16()? {
                ERASED => None,
                length => Some(self.take(length.into())?),
            };
            Some(Record { key, version, value })
        };
        read().map(Some).ok_or(())
    }
}
