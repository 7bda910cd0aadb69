//! The threads that read files, with and without a ring.

use std::fs::File;
use std::io::{PipeWriter, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstorm_protocols::tftp::{Mode, Rollover};
use rustix::fs::fstat;

use super::clients::content;
use crate::tftp::frame::Shape;
use crate::tftp::images::{Failure, Image, Images, Window};
use crate::tftp::loader::{Loader, Threads};

const SHAPE: Shape = Shape { blksize: 1024, mode: Mode::Octet, rollover: Rollover::ToZero };
const LEN: usize = 5 << 20;

fn image(images: &Images, file: File) -> Arc<Image> {
    let stat = fstat(&file).unwrap();
    images.image(file, &stat, SHAPE)
}

/// A file whose reads block until something is written. Its size is 0, so it has one block.
fn hanging(images: &Images) -> (Arc<Image>, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (image(images, OwnedFd::from(reader).into()), writer)
}

fn big(images: &Images, folder: &Path) -> Arc<Image> {
    let path = folder.join("big");
    std::fs::write(&path, content(LEN, 1)).unwrap();
    image(images, File::open(path).unwrap())
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn has(image: &Image, chunk: usize) -> bool {
    let first = chunk as u64 * SHAPE.chunk_blocks() + 1;
    matches!(image.window(first, 1, 1), Window::Found { .. })
}

/// The whole file as it is sent, without headers.
fn data(image: &Image) -> Vec<u8> {
    let (mut first, mut all) = (1, Vec::new());
    while first <= image.last().unwrap() {
        let Window::Found { bytes, blocks } = image.window(first, 64, 1) else { panic!("{first}") };
        all.extend(bytes.chunks(SHAPE.frame_len() as usize).flat_map(|block| &block[4..]));
        first += blocks;
    }
    all
}

/// A loader with a ring; `None` if this host denies rings.
fn ring(images: &Arc<Images>) -> Option<Loader> {
    let loader = Loader::new(Threads::Ring, Arc::clone(images)).unwrap();
    if !loader.has_ring() {
        eprintln!("io_uring is denied here: nothing tested");
    }
    loader.has_ring().then_some(loader)
}

#[test]
fn all_ways_of_reading_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for threads in [Threads::Ring, Threads::Denied, Threads::None] {
        let images = Arc::new(Images::new(1 << 30));
        let loader = Loader::new(threads, Arc::clone(&images)).unwrap();
        let image = big(&images, dir.path());
        let chunks = image.last().unwrap().div_ceil(SHAPE.chunk_blocks()) as usize;
        assert!((0..chunks).rev().all(|index| loader.want(&image, index, None)));
        wait("the file", || (0..chunks).all(|index| has(&image, index)));
        assert!(data(&image) == content(LEN, 1), "{threads:?}");
    }
}

#[test]
fn where_a_ring_is_denied_threads_read() {
    let images = Arc::new(Images::new(1 << 30));
    let loader = Loader::new(Threads::Denied, images).unwrap();
    assert!(!loader.has_ring());
}

#[test]
fn reads_that_hang_hold_up_neither_who_asks_nor_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let images = Arc::new(Images::new(1 << 30));
    let Some(loader) = ring(&images) else { return };
    let hanging: Vec<_> = (0..20).map(|_| hanging(&images)).collect();
    for (image, _) in &hanging {
        // In this thread the read would not return.
        assert!(loader.want(image, 0, None));
    }
    let image = big(&images, dir.path());
    for index in 0..3 {
        assert!(loader.want(&image, index, None));
        wait("a chunk beside those that hang", || has(&image, index));
    }
    for (image, mut writer) in hanging {
        assert!(!has(&image, 0) && image.failure().is_none());
        writer.write_all(b"late").unwrap();
        drop(writer);
        wait("a chunk that hung", || has(&image, 0));
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_its_image() {
    let images = Arc::new(Images::new(1 << 30));
    let Some(loader) = ring(&images) else { return };
    let (image, mut writer) = hanging(&images);
    assert!(loader.want(&image, 0, None));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(image.failure(), None);
    writer.write_all(&[1; 2000]).unwrap();
    drop(writer);
    wait("the failure", || image.failure().is_some());
    assert_eq!(image.failure(), Some(Failure::Changed));
    assert!(!has(&image, 0));
    assert_eq!(images.resident(), 0);
}

#[test]
fn ten_thousand_who_ask_at_once_are_one_read() {
    let dir = tempfile::tempdir().unwrap();
    for threads in [Threads::Ring, Threads::Denied] {
        let images = Arc::new(Images::new(1 << 30));
        let loader = Loader::new(threads, Arc::clone(&images)).unwrap();
        let image = big(&images, dir.path());
        let before = images.tick();
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..1000).for_each(|_| assert!(loader.want(&image, 0, None))));
            }
        });
        wait("the chunk", || has(&image, 0));
        // Dropping it finishes the queued jobs.
        drop(loader);
        assert_eq!(images.tick() - before, 2, "each chunk that comes into memory takes one step");
    }
}

#[test]
fn a_loader_that_ends_has_read_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    for threads in [Threads::Ring, Threads::Denied] {
        let images = Arc::new(Images::new(1 << 30));
        let loader = Loader::new(threads, Arc::clone(&images)).unwrap();
        let image = big(&images, dir.path());
        assert!((0..3).all(|index| loader.want(&image, index, None)));
        drop(loader);
        assert!((0..3).all(|index| has(&image, index)));
    }
}
