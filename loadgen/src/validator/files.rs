//! Checks the bytes of every transfer. Each block is compared when it arrives: with a local copy of
//! the file if there is one, else by a 64-bit digest with the first block of that number that any
//! machine received. The first complete transfer of a file is hashed with SHA-256 for the report.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::report::{FileRow, Reference};

/// Stands before the path in the name of a file that comes by HTTP.
pub const HTTP: &str = "http:";

/// A file, by a number of its own.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct FileId(u16);

/// Where local copies of the server's files are.
#[derive(Clone, Debug, Default)]
pub struct LocalCopies(pub Option<PathBuf>);

/// What became of a block.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BlockOutcome {
    /// As it should be.
    Right,
    /// Other bytes than the local copy has, or than another machine was sent.
    Wrong,
}

#[derive(Debug)]
struct File {
    name: Vec<u8>,
    local: Option<Vec<u8>>,
    /// Digest of the local copy, once it was asked for.
    digest: Option<u64>,
    size: Option<u64>,
    complete: u64,
    /// What has come, by block length: the file is cut elsewhere with each.
    blocks: HashMap<u16, Blocks>,
    /// SHA-256 of the local copy, or of the first whole transfer.
    hash: Option<String>,
}

/// A file in blocks of one length.
#[derive(Debug, Default)]
struct Blocks {
    /// Digests of the blocks that have come.
    digests: Vec<Option<u64>>,
    /// The hash of the first transfer that is whole.
    whole: Hashing,
}

#[derive(Debug, Default)]
enum Hashing {
    #[default]
    Idle,
    /// This machine's transfer is being hashed.
    Running(u32, Box<Sha256>),
    Done,
}

/// What is wrong with a transfer that is complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The file should have so many bytes.
    Length(u64),
    /// In blocks of this length it is another file than in blocks of another one.
    BlockLength(u16),
}

/// All files that machines ask for.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<File>,
    by_name: HashMap<Vec<u8>, FileId>,
    copies: LocalCopies,
}

impl Files {
    /// With local copies to compare with, where there are some.
    pub fn new(copies: LocalCopies) -> Files {
        Files { copies, ..Files::default() }
    }

    /// The file of this name; `None` when more than 65,535 names are asked for.
    pub fn named(&mut self, name: &[u8]) -> Option<FileId> {
        if let Some(&id) = self.by_name.get(name) {
            return Some(id);
        }
        let id = FileId(u16::try_from(self.files.len()).ok()?);
        let local = self.copies.read(name).ok();
        let size = local.as_ref().map(|bytes| bytes.len() as u64);
        let hash = local.as_ref().map(|bytes| hex(&Sha256::digest(bytes)));
        let (name, blocks) = (name.to_vec(), HashMap::new());
        let digest = None;
        self.files.push(File {
            name: name.clone(),
            local,
            digest,
            size,
            complete: 0,
            blocks,
            hash,
        });
        self.by_name.insert(name, id);
        Some(id)
    }

    /// The name, for people.
    pub fn name(&self, id: FileId) -> String {
        self.file(id).map_or_else(String::new, |file| file.name.escape_ascii().to_string())
    }

    /// The name, as asked for.
    pub fn raw_name(&self, id: FileId) -> &[u8] {
        self.file(id).map_or(&[], |file| &file.name)
    }

    /// A machine got the `block`th block (from 1) of a transfer in blocks of `block_len` bytes, in
    /// order.
    pub fn block(
        &mut self,
        id: FileId,
        machine: u32,
        block: u64,
        block_len: u16,
        data: &[u8],
    ) -> BlockOutcome {
        if let Some(file) = self.files.get_mut(usize::from(id.0))
            && file.local.is_none()
        {
            let whole = &mut file.blocks.entry(block_len).or_default().whole;
            if block == 1 && !matches!(whole, Hashing::Done) && !whole.is_of_another(machine) {
                *whole = Hashing::Running(machine, Box::new(Sha256::new()));
            }
            if let Hashing::Running(hashed, hash) = whole
                && *hashed == machine
            {
                hash.update(data);
            }
        }
        self.any_block(id, block, block_len, data)
    }

    /// Some machine got a block, in whatever order.
    pub fn any_block(
        &mut self,
        id: FileId,
        block: u64,
        block_len: u16,
        data: &[u8],
    ) -> BlockOutcome {
        let Some(file) = self.files.get_mut(usize::from(id.0)) else { return BlockOutcome::Wrong };
        let index = block.saturating_sub(1) as usize;
        let right = match &file.local {
            Some(bytes) => {
                let begin = (index * usize::from(block_len)).min(bytes.len());
                let end = (begin + usize::from(block_len)).min(bytes.len());
                bytes[begin..end] == *data
            }
            None => {
                let digest = xxh3_64(data);
                let known = &mut file.blocks.entry(block_len).or_default().digests;
                // In order, but for those of a multicast stream.
                if known.len() <= index {
                    known.resize(index + 1, None);
                }
                *known[index].get_or_insert(digest) == digest
            }
        };
        if right { BlockOutcome::Right } else { BlockOutcome::Wrong }
    }

    /// Whether there is a local copy to compare with.
    pub fn has_copy(&self, id: FileId) -> bool {
        self.file(id).is_some_and(|file| file.local.is_some())
    }

    /// A whole file came at once, and this is its digest.
    pub fn whole(&mut self, id: FileId, digest: u64) -> BlockOutcome {
        let Some(file) = self.files.get_mut(usize::from(id.0)) else { return BlockOutcome::Wrong };
        if let Some(bytes) = &file.local {
            let copy = *file.digest.get_or_insert_with(|| xxh3_64(bytes));
            return if copy == digest { BlockOutcome::Right } else { BlockOutcome::Wrong };
        }
        // No transfer has blocks of no bytes, so this is the place of the whole.
        let known = &mut file.blocks.entry(0).or_default().digests;
        if known.is_empty() {
            known.push(Some(digest));
        }
        if known[0] == Some(digest) { BlockOutcome::Right } else { BlockOutcome::Wrong }
    }

    /// A transfer in blocks of this length is complete with so many bytes. Returns what is wrong
    /// with it as a whole.
    pub fn complete(
        &mut self,
        id: FileId,
        machine: u32,
        block_len: u16,
        bytes: u64,
    ) -> Option<Flaw> {
        let file = self.files.get_mut(usize::from(id.0))?;
        file.complete += 1;
        let size = *file.size.get_or_insert(bytes);
        let whole = &mut file.blocks.entry(block_len).or_default().whole;
        let hashed = match std::mem::take(whole) {
            Hashing::Running(hashed, hash) if hashed == machine => Some(hex(&hash.finalize())),
            other => {
                *whole = other;
                None
            }
        };
        if size != bytes {
            return Some(Flaw::Length(size));
        }
        let hashed = hashed?;
        *whole = Hashing::Done;
        let first = file.hash.get_or_insert_with(|| hashed.clone());
        (*first != hashed).then_some(Flaw::BlockLength(block_len))
    }

    /// A transfer ended before its time.
    pub fn abandon(&mut self, id: FileId, machine: u32) {
        let Some(file) = self.files.get_mut(usize::from(id.0)) else { return };
        for blocks in file.blocks.values_mut() {
            if matches!(blocks.whole, Hashing::Running(hashed, _) if hashed == machine) {
                blocks.whole = Hashing::Idle;
            }
        }
    }

    /// All files, for the report.
    pub fn rows(&self) -> Vec<FileRow> {
        let row = |file: &File| FileRow {
            name: file.name.escape_ascii().to_string(),
            size: file.size,
            transfers: file.complete,
            sha256: file.hash.clone(),
            compared_with: match file.local {
                Some(_) => Reference::LocalCopy,
                None => Reference::EachOther,
            },
        };
        self.files.iter().map(row).collect()
    }

    fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(usize::from(id.0))
    }
}

impl Hashing {
    /// Whether another machine's transfer is being hashed.
    fn is_of_another(&self, machine: u32) -> bool {
        matches!(self, Hashing::Running(hashed, _) if *hashed != machine)
    }
}

impl LocalCopies {
    /// The bytes of the copy. Names come from the server: nothing outside of the folder is read.
    fn read(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let folder = self.0.as_ref().ok_or_else(absent)?;
        let name = std::str::from_utf8(name).map_err(|_| absent())?;
        let name = match name.strip_prefix(HTTP) {
            // What follows the path of a URL is no part of a file's name.
            Some(path) => path.split(['?', '#']).next().unwrap_or(path),
            None => name,
        };
        let relative = Path::new(name.trim_start_matches('/'));
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !relative.components().all(plain) {
            return Err(absent());
        }
        std::fs::read(folder.join(relative))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_compared_with_each_other() {
        let mut files = Files::default();
        let id = files.named(b"a").unwrap();
        assert_eq!(files.block(id, 1, 1, 4, b"abcd"), BlockOutcome::Right);
        assert_eq!(files.block(id, 2, 1, 4, b"abcd"), BlockOutcome::Right);
        assert_eq!(files.block(id, 3, 1, 4, b"abXd"), BlockOutcome::Wrong);
        // Another block length cuts the file elsewhere.
        assert_eq!(files.block(id, 4, 1, 8, b"abcdef"), BlockOutcome::Right);
        assert_eq!(files.block(id, 1, 2, 4, b"ef"), BlockOutcome::Right);
        assert_eq!(files.complete(id, 1, 4, 6), None);
        assert_eq!(files.complete(id, 2, 4, 4), Some(Flaw::Length(6)));
        let row = &files.rows()[0];
        assert_eq!((row.size, row.transfers), (Some(6), 2));
        assert_eq!(row.sha256.as_deref(), Some(&*hex(&Sha256::digest(b"abcdef"))));
    }

    #[test]
    fn a_file_that_is_another_in_blocks_of_one_length_is_found() {
        let mut files = Files::default();
        let id = files.named(b"a").unwrap();
        let mut load = |machine, block_len: u16, bytes: &[u8]| {
            let mut outcomes = Vec::new();
            for (at, data) in bytes.chunks(block_len.into()).enumerate() {
                outcomes.push(files.block(id, machine, at as u64 + 1, block_len, data));
            }
            let flaw = files.complete(id, machine, block_len, bytes.len() as u64);
            (outcomes.contains(&BlockOutcome::Wrong), flaw)
        };
        assert_eq!(load(1, 4, b"abcdef"), (false, None));
        // Every machine with this block length gets the same wrong bytes.
        assert_eq!(load(2, 3, b"abcdeX"), (false, Some(Flaw::BlockLength(3))));
        assert_eq!(load(3, 3, b"abcdeX"), (false, None));
        assert_eq!(load(4, 5, b"abcdef"), (false, None));
    }

    #[test]
    fn a_transfer_that_another_machine_begins_meanwhile_is_hashed_to_its_end() {
        let mut files = Files::default();
        let id = files.named(b"a").unwrap();
        files.block(id, 1, 1, 4, b"abcd");
        files.block(id, 2, 1, 4, b"abcd");
        // It asks again, and begins anew.
        files.block(id, 1, 1, 4, b"abcd");
        files.block(id, 2, 2, 4, b"e");
        files.block(id, 1, 2, 4, b"e");
        assert_eq!(files.complete(id, 2, 4, 5), None);
        assert_eq!(files.complete(id, 1, 4, 5), None);
        assert_eq!(files.rows()[0].sha256.as_deref(), Some(&*hex(&Sha256::digest(b"abcde"))));
        // One that is abandoned leaves its place to the next.
        files.block(id, 3, 1, 2, b"ab");
        files.abandon(id, 3);
        files.block(id, 4, 1, 2, b"ab");
        files.block(id, 4, 2, 2, b"cX");
        files.block(id, 4, 3, 2, b"e");
        assert_eq!(files.complete(id, 4, 2, 5), Some(Flaw::BlockLength(2)));
    }

    #[test]
    fn a_local_copy_is_the_truth_and_stays_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"abcdef").unwrap();
        std::fs::write(folder.path().parent().unwrap().join("outside"), b"x").ok();
        let mut files = Files::new(LocalCopies(Some(folder.path().to_owned())));
        let id = files.named(b"/a").unwrap();
        assert_eq!(files.block(id, 1, 2, 4, b"ef"), BlockOutcome::Right);
        assert_eq!(files.block(id, 1, 2, 4, b"eF"), BlockOutcome::Wrong);
        assert_eq!(files.block(id, 1, 2, 4, b"e"), BlockOutcome::Wrong);
        assert_eq!(files.block(id, 1, 9, 4, b"x"), BlockOutcome::Wrong);
        assert_eq!(files.rows()[0].compared_with, Reference::LocalCopy);
        for name in [&b"../outside"[..], b"no\xffne", b"", b"absent"] {
            let id = files.named(name).unwrap();
            assert_eq!(files.block(id, 1, 1, 4, b"x"), BlockOutcome::Right);
        }
        assert_eq!(files.rows()[1].compared_with, Reference::EachOther);
    }

    #[test]
    fn what_comes_by_http_is_compared_with_the_copy_as_well() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"abcdef").unwrap();
        let mut files = Files::new(LocalCopies(Some(folder.path().to_owned())));
        let id = files.named(b"http:/a?mac=02:b0").unwrap();
        assert_eq!(files.whole(id, xxh3_64(b"abcdef")), BlockOutcome::Right);
        // The first answer is wrong here, so that comparing machines with each other finds nothing.
        let other = files.named(b"http:/a").unwrap();
        assert_eq!(files.whole(other, xxh3_64(b"abcdeX")), BlockOutcome::Wrong);
        assert_eq!(files.whole(other, xxh3_64(b"abcdeX")), BlockOutcome::Wrong);
        assert_eq!(files.complete(other, 1, 0, 5), Some(Flaw::Length(6)));
        assert_eq!(files.rows()[0].compared_with, Reference::LocalCopy);
        let absent = files.named(b"http:/../a").unwrap();
        assert_eq!(files.whole(absent, 1), BlockOutcome::Right);
    }
}
