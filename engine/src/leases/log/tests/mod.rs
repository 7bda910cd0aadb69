//! The log on a disk that fails, and its bytes.

mod disk;
mod format;
mod model;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bootstorm_protocols::time::Moment;

use self::disk::{Disk, Fault};
use super::checkpoint::{Meta, Reader};
use super::records::Records;
use super::scan::Chain;
use super::*;
use crate::leases::{BootId, ClientKey, Hardware, Lease, LeaseState, Notes};

const SMALL: Layout = Layout { segment_blocks: 16, segments: 4, most_segments: 6 };

fn clock(seconds: u64) -> Clock {
    Clock {
        now: Moment::from_nanos(seconds * 1_000_000_000),
        wall: 1_800_000_000 + seconds,
        boot: BootId([7; 16]),
        synchronised: true,
    }
}

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

/// A write that can be told from all others by its version.
fn put(number: u8, version: u64) -> Write {
    let hardware = Hardware::ethernet([2, 0, 0, 0, 0, number]);
    let lease = Lease {
        ip: address(number),
        client: ClientKey::hardware(&hardware),
        hardware,
        state: LeaseState::Active,
        starts: Moment::from_nanos(1),
        expires: Moment::from_nanos(1 + version),
        refused: false,
        told: None,
        pending: false,
        notes: Notes::default(),
    };
    Write { ip: address(number), version, known: 0, lease: Some(lease) }
}

fn erase(number: u8, version: u64) -> Write {
    Write { ip: address(number), version, known: 0, lease: None }
}

fn open(disk: &Disk) -> Result<LeaseLog, StoreError> {
    LeaseLog::open(Arc::new(disk.clone()), [9; 16], SMALL)
}

/// The number and version of each address that has a lease, and what else is said.
fn load(log: &LeaseLog) -> Result<(Vec<(u8, u64)>, Recovered), StoreError> {
    let mut found = Vec::new();
    let recovered = log.load(&clock(1), &mut |loaded| match loaded {
        Loaded::Lease(lease, version) => {
            let IpAddr::V4(ip) = lease.ip else { panic!("{lease:?}") };
            assert_eq!(lease.expires.as_nanos(), 1 + version, "the value of another version");
            found.push((ip.octets()[3], version));
        }
        other => panic!("{other:?}"),
    })?;
    assert!(found.is_sorted());
    Ok((found, recovered))
}

#[test]
fn what_was_committed_is_there_after_a_power_cut() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    assert_eq!(load(&log).unwrap(), (vec![], Recovered::default()));
    log.commit(&[put(1, 1), put(2, 2)], &clock(1)).unwrap();
    log.commit(&[put(1, 3), erase(2, 4), put(3, 5)], &clock(1)).unwrap();
    drop(log);
    disk.cut_power();
    let log = open(&disk).unwrap();
    let recovered = Recovered { version: 5, ..Recovered::default() };
    assert_eq!(load(&log).unwrap(), (vec![(1, 3), (3, 5)], recovered));
}

#[test]
fn segments_are_used_again_and_nothing_is_lost() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    let commit = |versions: std::ops::Range<u64>| {
        for version in versions {
            log.commit(&[put((version % 50) as u8, version)], &clock(1)).unwrap();
            log.maintain().unwrap();
        }
    };
    commit(1..200);
    let names = disk.names();
    commit(200..500);
    assert_eq!(disk.names(), names);
    drop(log);
    let log = open(&disk).unwrap();
    let (found, recovered) = load(&log).unwrap();
    let all = (450..500).map(|version| ((version % 50) as u8, version));
    assert_eq!((found, recovered.version), (all.collect(), 499));
}

#[test]
fn a_full_disk_stops_nothing() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    disk.fill(true);
    for version in 1..500 {
        log.commit(&[put((version % 200) as u8, version)], &clock(1)).unwrap();
        log.maintain().unwrap();
    }
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(load(&log).unwrap().1.version, 499);
}

/// A power cut may bring the names before a checkpoint back, for as long as they are not durable.
#[test]
fn no_checkpoint_is_written_over_one_that_a_power_cut_may_bring_back() {
    for (seed, calls) in (0..20).flat_map(|seed| (0..5).map(move |calls| (seed, calls))) {
        let disk = Disk::new(seed);
        let log = open(&disk).unwrap();
        disk.fail(Fault::Names);
        let mut version = 0;
        while log.maintain().is_ok() {
            version += 1;
            log.commit(&[put((version % 200) as u8, version)], &clock(1)).unwrap();
        }
        disk.die_after(calls);
        assert!(log.maintain().is_err(), "the power is cut in the middle of the next");
        drop(log);
        disk.cut_power();
        let log = open(&disk).unwrap();
        let (found, recovered) = load(&log).unwrap();
        assert_eq!((recovered.damaged, log.damage()), (None, None), "{seed} {calls}");
        assert_eq!((found.len() as u64, recovered.version), (version, version));
    }
}

#[test]
fn without_maintenance_the_committer_makes_room_itself() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    for version in 1..300 {
        log.commit(&[put(1, version)], &clock(1)).unwrap();
    }
    drop(log);
    assert_eq!(load(&open(&disk).unwrap()).unwrap().0, [(1, 299)]);
}

#[test]
fn a_disk_that_fails_for_long_is_written_to_again() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    log.commit(&[put(1, 1)], &clock(1)).unwrap();
    for version in 2..100 {
        disk.fail(Fault::Dead);
        assert!(log.commit(&[put(1, version)], &clock(1)).is_err());
        log.reopen().unwrap();
    }
    disk.fail(Fault::None);
    log.commit(&[put(1, 200)], &clock(1)).unwrap();
    drop(log);
    disk.cut_power();
    let (found, recovered) = load(&open(&disk).unwrap()).unwrap();
    assert_eq!((found, recovered.damaged), (vec![(1, 200)], None));
}

/// One lease that is written, another whose write fails but is on the disk, and one after it.
fn with_a_failed_batch(disk: &Disk) -> LeaseLog {
    let log = open(disk).unwrap();
    load(&log).unwrap();
    log.commit(&[put(1, 1)], &clock(1)).unwrap();
    disk.fail(Fault::Kept);
    assert!(log.commit(&[put(1, 2)], &clock(1)).is_err());
    log.commit(&[put(2, 3)], &clock(1)).unwrap();
    log
}

// What is bad at the end was torn, for all that the log can know.
#[test]
fn a_failed_batch_does_not_count_when_the_one_after_it_is_bad() {
    for block in 0..2 {
        let disk = Disk::new(1);
        drop(with_a_failed_batch(&disk));
        disk.damage("segment-01", block, |block| block[2000] ^= 1);
        let (found, recovered) = load(&open(&disk).unwrap()).unwrap();
        assert_eq!((found, recovered.damaged), (vec![(1, 1)], None), "block {block}");
    }
}

#[test]
fn a_failed_batch_is_in_no_checkpoint() {
    let disk = Disk::new(1);
    let log = with_a_failed_batch(&disk);
    log.gives(Duration::from_secs(300)).unwrap();
    drop(log);
    let (found, recovered) = load(&open(&disk).unwrap()).unwrap();
    assert_eq!((found, recovered.damaged), (vec![(1, 1), (2, 3)], None));
}

#[test]
fn a_checkpoint_misses_the_last_batch_of_a_segment() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    load(&log).unwrap();
    for version in 1..=17 {
        log.commit(&[put(version as u8, version)], &clock(1)).unwrap();
    }
    disk.damage("segment-00", 15, |block| block[2000] ^= 1);
    log.gives(Duration::from_secs(300)).unwrap();
    assert!(log.damage().is_some() && log.has_lost());
}

#[test]
fn the_log_belongs_to_one_process() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(StoreError::InUse(_))));
    drop(log);
    open(&disk).unwrap();
}

#[test]
fn a_first_start_that_was_cut_off_anywhere_is_begun_anew() {
    for calls in 0.. {
        let disk = Disk::new(calls.into());
        disk.die_after(calls);
        let made = open(&disk).is_ok();
        disk.cut_power();
        let log = open(&disk).unwrap();
        assert_eq!(load(&log).unwrap(), (vec![], Recovered::default()), "after {calls} calls");
        if made {
            assert!(calls > 10);
            break;
        }
    }
}

#[test]
fn damage_is_remembered_by_the_next_start() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    for version in 1..=3 {
        log.commit(&[put(version as u8, version)], &clock(1)).unwrap();
    }
    drop(log);
    disk.damage("segment-00", 1, |block| block[2000] ^= 1);
    for _ in 0..3 {
        let log = open(&disk).unwrap();
        let (found, recovered) = load(&log).unwrap();
        assert_eq!(found, [(1, 1), (3, 3)]);
        assert_eq!(recovered.damaged, Some(clock(1).now));
    }
}

// A disk may hang, and reloads go on.
#[test]
fn a_reload_does_not_wait_for_a_checkpoint_under_way() {
    let log = open(&Disk::new(1)).unwrap();
    load(&log).unwrap();
    log.gives(Duration::from_secs(300)).unwrap();
    let checkpoint = log.checkpoints.lock();
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel();
        let log = &log;
        scope.spawn(move || {
            log.gives(Duration::from_secs(300)).unwrap();
            log.gives_no_longer(Duration::from_secs(20), &clock(50));
            done.send(()).unwrap();
        });
        let waited = is_done.recv_timeout(Duration::from_secs(30));
        drop(checkpoint);
        waited.expect("it waits for the checkpoint");
    });
}

// As the checkpoint that is lost, nothing but time makes it shorter.
#[test]
fn how_long_leases_may_last_is_known_after_damage() {
    let seconds = Duration::from_secs;
    let longest = |disk: &Disk, now| {
        let recovered = open(disk).unwrap().load(&clock(now), &mut |_| ()).unwrap();
        (recovered.longest.as_secs(), recovered.damaged)
    };
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    load(&log).unwrap();
    log.gives(seconds(300)).unwrap();
    log.gives(seconds(200)).unwrap();
    drop(log);
    disk.cut_power();
    assert_eq!(longest(&disk, 2), (300, None));
    let log = open(&disk).unwrap();
    load(&log).unwrap();
    log.gives_no_longer(seconds(20), &clock(50));
    log.gives_no_longer(seconds(10), &clock(60));
    log.gives(seconds(30)).unwrap();
    for version in 1..=3 {
        log.commit(&[put(version as u8, version)], &clock(70)).unwrap();
    }
    drop(log);
    assert_eq!(longest(&disk, 70), (30, None));
    disk.damage("segment-00", 1, |block| block[2000] ^= 1);
    // Those of 300 s were given until 50 s after the origin, or a minute later.
    assert_eq!(longest(&disk, 70), (340, Some(clock(70).now)));
    assert_eq!(longest(&disk, 500), (340, Some(clock(70).now)));
    for block in (0..disk.blocks(checkpoint::NAME)).step_by(64) {
        disk.damage(checkpoint::NAME, block, |block| block.fill(0));
    }
    assert_eq!(longest(&disk, 80), (86_400, Some(clock(80).now)));
}

#[test]
fn damage_that_a_checkpoint_meets_is_told_at_once() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    load(&log).unwrap();
    let commit = |versions: std::ops::Range<u64>| {
        for version in versions {
            log.commit(&[put(version as u8, version)], &clock(1)).unwrap();
            log.maintain().unwrap();
        }
    };
    commit(1..60);
    assert_eq!(log.damage(), None);
    disk.damage(checkpoint::NAME, 0, |block| block.fill(0));
    commit(60..120);
    let damage = log.damage().unwrap();
    assert!(damage.contains("piece 0 of the checkpoint"), "{damage}");
    // What is lost is known to whoever writes, and is asked for once.
    assert!(log.has_lost() && !log.has_lost());
}

#[test]
fn a_segment_that_is_missing_or_short_is_damage_and_made_anew() {
    for name in ["segment-00", "segment-01"] {
        let disk = Disk::new(1);
        let log = open(&disk).unwrap();
        for version in 1..30 {
            log.commit(&[put(version as u8, version)], &clock(1)).unwrap();
        }
        drop(log);
        disk.remove(name).unwrap();
        let log = open(&disk).unwrap();
        assert!(load(&log).unwrap().1.damaged.is_some());
        assert!(disk.names().contains(&name.to_owned()));
        log.commit(&[put(1, 100)], &clock(1)).unwrap();
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_loses_no_more_than_its_piece() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    for version in 1..60 {
        log.commit(&[put(version as u8, version)], &clock(1)).unwrap();
        log.maintain().unwrap();
    }
    drop(log);
    // The head of the file: the end says the same.
    disk.damage(checkpoint::NAME, 0, |block| block.fill(0));
    let log = open(&disk).unwrap();
    let (found, recovered) = load(&log).unwrap();
    assert!(recovered.damaged.is_some() && recovered.version == 59);
    assert!(found.contains(&(59, 59)) && found.len() < 59);
    log.commit(&[put(1, 100)], &clock(1)).unwrap();
    drop(log);
    let (found, _) = load(&open(&disk).unwrap()).unwrap();
    assert!(found.contains(&(1, 100)) && found.contains(&(59, 59)));
}

#[test]
fn a_batch_of_the_longest_records_fits() {
    use crate::leases::commit::{LARGEST_BATCH, MOST_DOUBTS};
    let mut builder = Builder::new(Blocks::default());
    builder.clock(&clock(1));
    for number in 0..(LARGEST_BATCH + MOST_DOUBTS) as u128 {
        let key = Key::of(IpAddr::V6((u128::MAX - number).into()));
        builder.record(&key, u64::MAX, Some(&[1; record::LONGEST]));
    }
    assert!(builder.blocks() <= Layout::default().largest_batch());
}

#[test]
fn reading_a_checkpoint_ends_with_a_disk_that_fails_for_good() {
    let disk = Disk::new(1);
    let log = open(&disk).unwrap();
    log.commit(&[put(1, 1)], &clock(1)).unwrap();
    let file = log.directory.open(checkpoint::NAME, false).unwrap();
    let mut reader = Reader::open(&*file).unwrap();
    disk.fail(Fault::Dead);
    let mut turns = 0;
    while reader.next(|_| Ok::<(), ()>(())).unwrap() {
        turns += 1;
        assert!(turns < 1000, "it reads for ever");
    }
    assert!(reader.damage().is_some());
}
