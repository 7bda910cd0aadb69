//! Frames a file: DATA packets one after the other, as they are sent.
//!
//! ```text
//!   chunk: | 0 3 | n | data ... | 0 3 | n + 1 | data ... |     a window is a range of it
//! ```
//! These bytes are the same for every client that reads the file in the same [`Shape`], so they are
//! made once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bootstorm_protocols::tftp::netascii::Encoder;
use bootstorm_protocols::tftp::{DATA_HEADER_LEN, Mode, Rollover, data_header};

/// Approximate bytes of a chunk: the unit of reading, framing and caching.
const CHUNK_LEN: u64 = 1 << 20;
/// The blocks of a chunk are a multiple of this: no window of 2, 4, ... 64 blocks crosses chunks.
const ALIGNMENT: u64 = 64;
/// Bytes read from the file in one call.
pub(super) const READ_LEN: usize = 256 << 10;

/// Those parameters of a transfer that the framed bytes depend on.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Shape {
    pub(super) blksize: u16,
    pub(super) mode: Mode,
    pub(super) rollover: Rollover,
}

impl Shape {
    /// Bytes of a full block with its header.
    pub(super) fn frame_len(&self) -> u64 {
        u64::from(self.blksize) + DATA_HEADER_LEN as u64
    }

    /// Blocks of a chunk.
    pub(super) fn chunk_blocks(&self) -> u64 {
        let blocks = (CHUNK_LEN / self.frame_len()).max(1);
        if blocks > ALIGNMENT { blocks - blocks % ALIGNMENT } else { blocks }
    }

    /// The number of the last block of `len` bytes of data. It is shorter than the others, perhaps
    /// empty.
    pub(super) fn last_block(&self, len: u64) -> u64 {
        len / u64::from(self.blksize) + 1
    }

    /// The most bytes of data that a file of `len` bytes can become.
    pub(super) fn longest(&self, len: u64) -> u64 {
        match self.mode {
            Mode::Octet => len,
            Mode::Netascii => len.saturating_mul(2),
        }
    }
}

/// Where in the file a chunk begins.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Start {
    pub(super) offset: u64,
    /// Its state: the border may be inside a line end.
    pub(super) encoder: Encoder,
}

/// A framed piece of a file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// The number of the last block if it is in this chunk.
    pub(super) last: Option<u64>,
    /// Where the next chunk begins.
    pub(super) next: Start,
}

/// Frames a chunk without doing I/O: the caller reads what [`Self::wants`] says and feeds it.
#[derive(Debug)]
pub(super) struct Framer {
    shape: Shape,
    first: u64,
    /// Bytes of a full chunk.
    full: usize,
    next: Start,
    bytes: Vec<u8>,
}

impl Framer {
    /// The chunk that begins with block `first`, at `start` in a file of `size` bytes.
    pub(super) fn new(shape: Shape, first: u64, start: Start, size: u64) -> Self {
        // A chunk is at most about CHUNK_LEN, or one block of 64 KiB.
        let full = shape.chunk_blocks() * shape.frame_len();
        let left = shape.longest(size.saturating_sub(start.offset));
        let framed = shape.last_block(left).saturating_mul(shape.frame_len());
        let bytes = Vec::with_capacity(full.min(framed) as usize);
        Self { shape, first, full: full as usize, next: start, bytes }
    }

    /// The offset to read at and the bytes of use; `None` if the chunk is full.
    pub(super) fn wants(&self) -> Option<(u64, usize)> {
        (self.bytes.len() < self.full)
            .then(|| (self.next.offset, (self.full - self.bytes.len()).min(READ_LEN)))
    }

    /// Frames what was read at the offset of [`Self::wants`]. What does not fit is ignored.
    pub(super) fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() && self.bytes.len() < self.full {
            let room = self.room();
            let taken = match self.shape.mode {
                Mode::Octet => {
                    let (now, _) = input.split_at(room.min(input.len()));
                    self.bytes.extend_from_slice(now);
                    now.len()
                }
                Mode::Netascii => self.encode(input, room).0,
            };
            self.next.offset += taken as u64;
            input = input.get(taken..).unwrap_or_default();
        }
    }

    /// The room in the current block in bytes. Begins the next block if this one is full.
    fn room(&mut self) -> usize {
        let frame_len = self.shape.frame_len() as usize;
        if self.bytes.len().is_multiple_of(frame_len) {
            let block = self.first + (self.bytes.len() / frame_len) as u64;
            self.bytes.extend_from_slice(&data_header(block, self.shape.rollover));
        }
        frame_len - self.bytes.len() % frame_len
    }

    fn encode(&mut self, input: &[u8], room: usize) -> (usize, usize) {
        let from = self.bytes.len();
        self.bytes.resize(from + room, 0);
        let output = self.bytes.get_mut(from..).unwrap_or_default();
        let (taken, written) = self.next.encoder.encode(input, output);
        self.bytes.truncate(from + written);
        (taken, written)
    }

    /// The chunk, full or at the end of the file.
    pub(super) fn finish(mut self) -> Chunk {
        while self.next.encoder.owes() && self.bytes.len() < self.full {
            let room = self.room();
            self.encode(&[], room);
        }
        let mut last = None;
        if self.bytes.len() < self.full {
            // After a full block at the end of the file comes an empty one.
            self.room();
            last = Some(self.first + self.bytes.len() as u64 / self.shape.frame_len());
        }
        self.bytes.shrink_to_fit();
        Chunk { bytes: self.bytes, last, next: self.next }
    }
}

/// Reads and frames in this thread.
pub(super) fn read(file: &File, framer: &mut Framer) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some((offset, len)) = framer.wants() {
        buffer.resize(len.max(buffer.len()), 0);
        let len = file.read_at(&mut buffer[..len], offset)?;
        if len == 0 {
            break;
        }
        framer.feed(&buffer[..len]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn shape(blksize: u16, mode: Mode) -> Shape {
        Shape { blksize, mode, rollover: Rollover::ToZero }
    }

    /// Frames all chunks and takes them apart again.
    fn blocks(file: &File, shape: Shape) -> Vec<(u16, Vec<u8>)> {
        let (mut first, mut start, mut all) = (1, Start::default(), Vec::new());
        loop {
            let mut framer = Framer::new(shape, first, start, file.metadata().unwrap().len());
            read(file, &mut framer).unwrap();
            let chunk = framer.finish();
            for block in chunk.bytes.chunks(shape.frame_len() as usize) {
                assert_eq!(block[..2], [0, 3]);
                all.push((u16::from_be_bytes([block[2], block[3]]), block[4..].to_vec()));
            }
            if let Some(last) = chunk.last {
                assert_eq!(last, all.len() as u64);
                return all;
            }
            first += shape.chunk_blocks();
            start = chunk.next;
        }
    }

    #[test]
    fn every_file_ends_with_a_short_block() {
        for len in [0, 1, 511, 512, 513, 1024, 3_000_000] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            for blksize in [512, 1468, 65_464] {
                let shape = shape(blksize, Mode::Octet);
                let blocks = blocks(&file(&bytes), shape);
                assert_eq!(blocks.len() as u64, shape.last_block(len as u64));
                let (numbers, data): (Vec<u16>, Vec<Vec<u8>>) = blocks.into_iter().unzip();
                assert!(numbers.iter().enumerate().all(|(at, &number)| number == at as u16 + 1));
                assert!(data.concat() == bytes);
                assert!(data.last().unwrap().len() < usize::from(blksize));
            }
        }
    }

    #[test]
    fn numbers_wrap_inside_a_chunk() {
        let blocks = blocks(&file(&vec![7; 8 * 66_000]), shape(8, Mode::Octet));
        assert_eq!(blocks[65_534].0, 65_535);
        assert_eq!(blocks[65_535].0, 0);
        assert_eq!(blocks[65_536].0, 1);
    }

    #[test]
    fn netascii_goes_on_across_chunks() {
        let text = "line\n\r".repeat(400_000);
        let blocks = blocks(&file(text.as_bytes()), shape(1001, Mode::Netascii));
        let data: Vec<u8> = blocks.into_iter().flat_map(|(_, data)| data).collect();
        assert!(data == "line\r\n\r\0".repeat(400_000).as_bytes());
    }

    #[test]
    fn windows_of_64_do_not_cross_chunks() {
        for blksize in [8, 512, 1024, 1428, 1468, 8192] {
            assert_eq!(shape(blksize, Mode::Octet).chunk_blocks() % 64, 0, "{blksize}");
        }
        assert_eq!(shape(65_464, Mode::Octet).chunk_blocks(), 16);
    }
}
