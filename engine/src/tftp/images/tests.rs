//! Images are framed once, stay within the budget, and never mix versions.

use super::*;
use bootstorm_protocols::tftp::Rollover;
use std::io::Write;
use std::path::Path;

const SHAPE: Shape = Shape { blksize: 1024, mode: Mode::Octet, rollover: Rollover::ToZero };

fn open(images: &Images, path: &Path, shape: Shape) -> Arc<Image> {
    let file = File::open(path).unwrap();
    let stat = fstat(&file).unwrap();
    images.image(file, &stat, shape)
}

fn written(len: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let bytes: Vec<u8> = (0..len).map(|at| (at / 1024) as u8).collect();
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn load(images: &Images, image: &Arc<Image>, index: usize) {
    if image.ask(index, None) {
        images.load(image, index);
    }
}

/// The data of one block.
fn block(image: &Image, images: &Images, number: u64) -> Option<Vec<u8>> {
    match image.window(number, 1, images.tick()) {
        Window::Found { bytes, blocks } => {
            assert_eq!(blocks, 1);
            assert_eq!(bytes[..4], [0, 3, (number >> 8) as u8, number as u8]);
            Some(bytes[4..].to_vec())
        }
        Window::Missing(_) => None,
    }
}

#[test]
fn one_file_is_framed_once_for_a_shape() {
    let (_dir, path) = written(5000);
    let images = Images::new(1 << 30);
    let image = open(&images, &path, SHAPE);
    assert!(Arc::ptr_eq(&image, &open(&images, &path, SHAPE)));
    let other = Shape { blksize: 512, ..SHAPE };
    assert!(!Arc::ptr_eq(&image, &open(&images, &path, other)));
    assert!(image.ask(0, None), "the first loads");
    assert!(!image.ask(0, None), "the second waits");
    images.load(&image, 0);
    assert!(!image.ask(0, None), "the third finds it");
    assert_eq!((image.last(), image.size()), (Some(5), Some(5000)));
    assert_eq!(images.resident(), 5000 + 5 * 4);
}

#[test]
fn a_window_is_one_range_with_the_short_block_last() {
    let (_dir, path) = written(5000);
    let images = Images::new(1 << 30);
    let image = open(&images, &path, SHAPE);
    assert!(matches!(image.window(1, 64, 0), Window::Missing(0)));
    load(&images, &image, 0);
    let Window::Found { bytes, blocks } = image.window(3, 64, 0) else { panic!() };
    assert_eq!(blocks, 3);
    assert_eq!(bytes.len(), 2 * 1028 + 4 + 5000 - 4096);
    let Window::Found { bytes, blocks } = image.window(3, 2, 0) else { panic!() };
    assert_eq!((blocks, bytes.len()), (2, 2 * 1028));
    // Nothing lies behind the end.
    assert!(matches!(image.window(6, 1, 0), Window::Missing(0)));
}

#[test]
fn the_budget_holds_and_the_longest_unused_goes_first() {
    let (_dir, path) = written(5 << 20);
    let images = Images::new(2 << 20);
    let image = open(&images, &path, SHAPE);
    let chunk = SHAPE.chunk_blocks();
    load(&images, &image, 0);
    load(&images, &image, 1);
    assert!(block(&image, &images, 1).is_some(), "used again: chunk 1 is the older now");
    load(&images, &image, 2);
    assert!(images.resident() <= 2 << 20);
    assert!(block(&image, &images, 1).is_some());
    assert!(block(&image, &images, chunk + 1).is_none());
    // It comes back when it is asked for.
    load(&images, &image, 1);
    assert_eq!(block(&image, &images, chunk + 1), Some(vec![chunk as u8; 1024]));
    let ahead = |first, count| image.lacks_ahead(first, count).collect::<Vec<_>>();
    assert_eq!(ahead(1, 1), [0; 0], "chunk 1 is there");
    assert_eq!(ahead(chunk * 2 + 1, 1), [3]);
    assert_eq!(ahead(1, 3), [2, 3]);
    assert_eq!(ahead(image.last().unwrap(), 3), [0; 0], "nothing lies behind the end");
}

#[test]
fn a_file_that_changes_gives_no_mixture() {
    let (_dir, path) = written(3 << 20);
    let images = Images::new(1 << 30);
    let image = open(&images, &path, SHAPE);
    load(&images, &image, 0);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"more").unwrap();
    load(&images, &image, 1);
    assert_eq!(image.failure(), Some(Failure::Changed));
    assert!(block(&image, &images, 1).is_some(), "what was read before is one version");
    assert!(matches!(image.window(SHAPE.chunk_blocks() + 1, 1, 0), Window::Missing(1)));
    let new = open(&images, &path, SHAPE);
    assert!(!Arc::ptr_eq(&image, &new));
    assert_eq!(new.failure(), None);
    assert_eq!(images.resident(), 0, "the old image is counted no more");
}

#[test]
fn a_file_that_is_replaced_stays_what_it_was_for_those_who_have_it() {
    let (dir, path) = written(3 << 20);
    let images = Images::new(1 << 30);
    let image = open(&images, &path, SHAPE);
    let new = dir.path().join("new");
    std::fs::write(&new, "new").unwrap();
    std::fs::rename(&new, &path).unwrap();
    load(&images, &image, 1);
    assert_eq!(image.failure(), None);
    assert!(block(&image, &images, SHAPE.chunk_blocks() + 1).is_some());
    assert_eq!(open(&images, &path, SHAPE).size(), Some(3));
}

#[test]
fn idle_images_are_closed_before_descriptors_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new(1 << 30);
    let path = |at: usize| dir.path().join(at.to_string());
    std::fs::write(path(0), "in use").unwrap();
    let used = open(&images, &path(0), SHAPE);
    for at in 1..MAX_IMAGES + 50 {
        std::fs::write(path(at), at.to_string()).unwrap();
        let image = open(&images, &path(at), SHAPE);
        load(&images, &image, 0);
    }
    assert_eq!(images.cache.lock().images.len(), MAX_IMAGES);
    assert!(Arc::ptr_eq(&used, &open(&images, &path(0), SHAPE)));
}

#[test]
fn netascii_learns_its_length_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    std::fs::write(&path, "line\n".repeat(400_000)).unwrap();
    let images = Images::new(1 << 30);
    let image = open(&images, &path, Shape { mode: Mode::Netascii, ..SHAPE });
    assert_eq!((image.size(), image.last()), (None, None));
    load(&images, &image, 0);
    load(&images, &image, 1);
    assert_eq!(image.last(), None);
    load(&images, &image, 2);
    assert_eq!(image.last(), Some(400_000 * 6 / 1024 + 1));
}

#[test]
fn a_file_that_changes_leaves_memory_when_nobody_is_sent_it_any_more() {
    let (dir, path) = written(5000);
    let images = Images::new(1 << 30);
    let other = dir.path().join("other");
    std::fs::write(&other, [7; 100]).unwrap();
    type Change = fn(&Path, &Path);
    let changes: [Change; 3] = [
        |path, other| std::fs::rename(other, path).unwrap(),
        |path, _| std::fs::remove_file(path).unwrap(),
        |path, _| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap(),
    ];
    for change in changes {
        std::fs::write(&path, [1; 5000]).unwrap();
        std::fs::write(&other, [2; 100]).unwrap();
        let mine = open(&images, &path, SHAPE);
        load(&images, &mine, 0);
        assert_eq!(images.resident(), 5020);
        change(&path, &other);
        std::fs::write(&other, [3; 100]).unwrap();
        let next = open(&images, &other, SHAPE);
        load(&images, &next, 0);
        assert_eq!(images.resident(), 5020 + 104, "it is still being sent");
        assert_eq!(block(&mine, &images, 2).unwrap(), [1; 1024]);
        drop(mine);
        open(&images, &other, SHAPE);
        assert_eq!(images.resident(), 104, "only the other file is kept");
        std::fs::write(&other, b"").unwrap();
        drop(next);
        let empty = open(&images, &other, SHAPE);
        load(&images, &empty, 0);
        assert_eq!(images.resident(), 4);
    }
}
