//! The bytes of the format, which never change for a version, and what is made of any others.

use bootstorm_net::file::{BLOCK, Blocks};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::batch::Fields;
use super::super::checkpoint::Longest;
use super::super::scan::Segment;
use super::*;

const LOG: LogId = LogId([9; 16]);

/// A batch of one lease; `of` is how many blocks it takes.
fn batch(generation: u64, number: u64, follows: u64, of: usize) -> Blocks {
    let mut builder = Builder::new(Blocks::default());
    builder.clock(&clock(1));
    while builder.blocks() < of || builder.len() < 100 {
        builder.record(&Key::of(address(1)), number, Some(&[7; 200]));
    }
    builder.seal(&Stamp { kind: Kind::Batch, log: LOG, generation, number, follows })
}

fn segment(batches: &[Blocks]) -> Blocks {
    let mut all = Blocks::default();
    let blank = block::blank(16, LOG);
    for block in batches.iter().flat_map(Blocks::iter).chain(blank.iter()).take(16) {
        all.push().copy_from_slice(block);
    }
    all
}

fn numbers(chain: &Chain<'_>) -> Vec<u64> {
    chain.batches.iter().map(|(_, batch)| batch.number).collect()
}

#[test]
fn the_bytes_of_a_batch() {
    let mut builder = Builder::new(Blocks::default());
    builder.clock(&clock(2));
    builder.record(&Key::of(address(5)), 0x0102, Some(b"lease"));
    builder.record(&Key::of("2001:db8::1".parse().unwrap()), 7, None);
    let kind = Kind::Batch;
    let stamp = Stamp { kind, log: LOG, generation: 3, number: 0x0405, follows: 0x0404 };
    let blocks = builder.seal(&stamp);
    assert_eq!((blocks.len(), blocks.bytes().len()), (1, BLOCK));
    let golden = [
        // Magic, version, kind, position, blocks, length, zero.
        "62736c67 01 01 0000 0001 0052 00000000",
        // Log, generation, number, follows.
        "09090909090909090909090909090909 0000000000000003 0000000000000405 0000000000000404",
        // The clock.
        "07070707070707070707070707070707 0000000077359400 000000006b49d202 01",
        // The lease, then what is erased.
        "05 040a000005 0000000000000102 0005 6c65617365",
        "11 0620010db8000000000000000000000001 0000000000000007 ffff",
    ];
    let golden: String = golden.concat().chars().filter(|char| *char != ' ').collect();
    let text: String = blocks.bytes()[8..].iter().map(|byte| format!("{byte:02x}")).collect();
    let (written, rest) = text.split_at(golden.len());
    assert_eq!(written, golden);
    assert!(rest.chars().all(|char| char == '0'));
    assert_eq!(blocks.bytes()[..8], xxh3_64(&blocks.bytes()[8..]).to_be_bytes());
    assert_eq!(blocks.bytes()[..8], 0x1a30_8e72_ff0c_9e0d_u64.to_be_bytes());
}

#[test]
fn the_bytes_of_a_checkpoint() {
    let disk = Disk::new(1);
    let file = disk.open("one", true).unwrap();
    let meta = Meta {
        included: 1,
        next_generation: 2,
        version: 3,
        segments: 4,
        damaged: Some(clock(5)),
        clocks: vec![clock(6)],
        longest: Longest { now: 9, before: 10, until: clock(7) },
    };
    let mut writer = checkpoint::Writer::new(&*file, LOG, 7, &meta);
    let key = Key::of(address(5));
    writer.record(&batch::Record { key, version: 8, value: Some(b"lease") }).unwrap();
    writer.finish().unwrap();
    let blocks = disk.read("one");
    let text: String = blocks[0][64..250].iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = [
        "0000000000000001 0000000000000002 0000000000000003 0004",
        "03 07070707070707070707070707070707 000000012a05f200 000000006b49d205 01",
        "0001 07070707070707070707070707070707 0000000165a0bc00 000000006b49d206 01",
        "0000000000000009 000000000000000a",
        "07070707070707070707070707070707 00000001a13b8600 000000006b49d207 01",
        "05 040a000005 0000000000000008 0005 6c65617365",
    ];
    let golden: String = golden.concat().chars().filter(|char| *char != ' ').collect();
    assert_eq!(text[..golden.len()], golden);
    assert_eq!((blocks.len(), blocks[0][13], blocks[64][13]), (128, 2, 3));
    let mut reader = Reader::open(&*file).unwrap();
    assert_eq!((reader.meta(), reader.generation(), reader.log()), (&meta, 7, Some(LOG)));
    let mut records = 0;
    while reader
        .next(|record| {
            assert_eq!((record.key, record.version, record.value), (key, 8, Some(&b"lease"[..])));
            records += 1;
            Ok::<(), ()>(())
        })
        .unwrap()
    {}
    assert_eq!((records, reader.damage()), (1, None));
}

#[test]
fn a_torn_tail_is_cut_off_in_silence() {
    for torn in 0..3 {
        let mut blocks = segment(&[batch(1, 1, 0, 1), batch(1, 2, 1, 3), batch(1, 3, 2, 3)]);
        blocks.get_mut(4 + torn).unwrap()[99] ^= 1;
        let scans = [Segment::scan(&blocks, LOG)];
        let chain = Chain::of(&scans, 0, None, 8);
        assert_eq!((numbers(&chain), &chain.damage), (vec![1, 2], &None));
        assert_eq!(scans[0].highest(), 3);
    }
}

#[test]
fn a_bad_batch_before_a_whole_one_is_damage() {
    let mut blocks = segment(&[batch(1, 1, 0, 1), batch(1, 2, 1, 3), batch(1, 3, 2, 3)]);
    blocks.get_mut(2).unwrap()[99] ^= 1;
    let scans = [Segment::scan(&blocks, LOG)];
    let chain = Chain::of(&scans, 0, None, 8);
    assert_eq!(numbers(&chain), [1, 3]);
    assert!(chain.damage.is_some());
    // What a checkpoint includes may be bad.
    assert_eq!(Chain::of(&scans, 2, None, 8).damage, None);
    // And one block of a torn batch is enough to know that there was one before it.
    blocks.get_mut(5).unwrap()[99] ^= 1;
    let scans = [Segment::scan(&blocks, LOG)];
    let chain = Chain::of(&scans, 0, None, 8);
    assert_eq!(numbers(&chain), [1]);
    assert!(chain.damage.is_some());
}

#[test]
fn a_batch_that_failed_does_not_count_whole_or_not() {
    let first = segment(&[batch(1, 1, 0, 1), batch(1, 2, 1, 3)]);
    let second = segment(&[batch(2, 3, 1, 1)]);
    let scans = [Segment::scan(&second, LOG), Segment::scan(&first, LOG)];
    let chain = Chain::of(&scans, 0, None, 8);
    assert_eq!((numbers(&chain), &chain.damage), (vec![1, 3], &None));
}

#[test]
fn what_an_earlier_use_or_another_log_left_does_not_count() {
    let blocks = segment(&[batch(5, 9, 0, 1), batch(4, 8, 7, 1)]);
    let scans = [Segment::scan(&blocks, LOG)];
    let chain = Chain::of(&scans, 0, None, 8);
    assert_eq!((numbers(&chain), &chain.damage), (vec![9], &None));
    let scans = [Segment::scan(&blocks, LogId([1; 16]))];
    assert!(Chain::of(&scans, 0, None, 8).damage.is_some());
}

#[test]
fn the_highest_version_counts_and_of_equal_ones_the_later() {
    let write = |number: u64, follows, version, value: &[u8]| {
        let mut builder = Builder::new(Blocks::default());
        builder.clock(&clock(number));
        builder.record(&Key::of(address(1)), version, Some(value));
        let kind = Kind::Batch;
        builder.seal(&Stamp { kind, log: LOG, generation: 1, number, follows })
    };
    let blocks = segment(&[
        write(1, 0, 5, b"a"),
        write(2, 1, 6, b"b"),
        write(3, 2, 6, b"c"),
        write(4, 3, 4, b"d"),
    ]);
    let scans = [Segment::scan(&blocks, LOG)];
    let records = Records::of(&Chain::of(&scans, 0, None, 8));
    let all: Vec<_> = records.iter().map(|record| (record.version, record.value)).collect();
    assert_eq!(all, [(6, Some(&b"c"[..]))]);
    assert_eq!((records.version, &records.clocks[..]), (6, &[clock(4)][..]));
}

proptest! {
    #[test]
    fn no_content_makes_it_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut fields = Fields(&content);
        _ = fields.clock();
        while let Ok(Some(_)) = fields.record() {}
    }

    #[test]
    fn no_block_with_a_right_checksum_makes_it_panic(
        header in prop::collection::vec(any::<u8>(), 52),
    ) {
        let mut blocks = segment(&[batch(1, 1, 0, 2)]);
        let block = blocks.get_mut(1).unwrap();
        // All but the magic and the version.
        block[13..64].copy_from_slice(&header[1..]);
        block[13] %= 5;
        let checksum = xxh3_64(&block[8..]);
        block[..8].copy_from_slice(&checksum.to_be_bytes());
        let scans = [Segment::scan(&blocks, LOG)];
        _ = Records::of(&Chain::of(&scans, 0, None, 8));
    }
}
