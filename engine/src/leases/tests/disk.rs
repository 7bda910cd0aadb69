//! The store on a real file system: reopening, a disk that is full, a first start that was killed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

fn start(directory: &Path, now: u64) -> Server {
    let store = Arc::new(FjallStore::open(directory).unwrap());
    Server::start(Site::new(&[("10.0.0.1", "10.0.250.1")], &[]), store, 2, clock(now))
}

fn addresses(server: &Server, now: u64) -> Vec<(Ipv4Addr, LeaseState)> {
    let page = server.leases.page(ip("0.0.0.0"), usize::MAX >> 1, at(now));
    page.into_iter().map(|lease| (lease.ip, lease.state)).collect()
}

#[test]
fn leases_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let given: Vec<_> = (0..300).map(|number| server.lease(number, 0, HOUR)).collect();
    assert!(server.release(0, 7, given[7], 1));
    server.committer.run_once(at(1));
    let before = addresses(&server, 2);
    drop(server);
    for _ in 0..3 {
        let server = start(directory.path(), 2);
        assert_eq!(addresses(&server, 2), before);
        server.check();
    }
}

#[test]
fn the_store_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!FjallStore::exists(directory.path()));
    let mut server = start(directory.path(), 0);
    assert!(FjallStore::exists(directory.path()));
    let given = server.lease(1, 0, HOUR);
    let error = FjallStore::open(directory.path()).err();
    assert!(matches!(error, Some(StoreError::InUse(_))), "{error:?}");
    drop(server);
    assert_eq!(start(directory.path(), 2).state(given, 2), Some(LeaseState::Active));
}

#[test]
fn a_first_start_that_was_killed_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("leases");
    fs::create_dir_all(database.join("keyspaces")).unwrap();
    fs::write(database.join("lock"), []).unwrap();
    fs::write(database.join("0.jnl"), []).unwrap();
    fs::write(database.join("version"), []).unwrap();
    start(directory.path(), 0).lease(1, 0, HOUR);
    // But what holds leases is never removed.
    fs::remove_file(database.join("version")).unwrap();
    assert!(FjallStore::open(directory.path()).is_err());
    assert!(database.join("keyspaces").read_dir().unwrap().next().is_some());
}

#[test]
fn a_damaged_journal_loses_nothing_that_came_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let given: Vec<_> = (0..50).map(|number| server.lease(number, 0, HOUR)).collect();
    drop(server);
    // The end of the last batch is missing, as after a power cut in the middle of a write.
    let journal = directory.path().join("leases/0.jnl");
    let bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in [1, 9, 30, 100] {
        let mut torn = bytes.clone();
        torn[end - cut..].fill(0);
        fs::write(&journal, torn).unwrap();
        let server = start(directory.path(), 1);
        let found = addresses(&server, 1);
        assert!(found.len() >= given.len() - 1, "{cut}: {}", found.len());
        drop(server);
    }
}

/// Run by [`a_full_disk`] in a mount namespace of its own.
#[test]
#[ignore = "it is the inner half of a_full_disk"]
fn a_full_disk_inside() {
    let directory = std::env::var_os("FULL_DISK").expect("a small file system");
    let directory = Path::new(&directory);
    let ballast = directory.join("ballast");
    let mut server = start(directory, 0);
    let mut now = 0;
    let mut acknowledged: Vec<_> =
        (0..200).map(|number| (number, server.lease(number, now, HOUR))).collect();
    let mut number = 200;
    for round in 0..3 {
        // Everything but a few pages is taken.
        let mut size = 64 << 20;
        while size > 4096 {
            let mut bytes = fs::read(&ballast).unwrap_or_default();
            bytes.resize(bytes.len() + size, 1);
            if fs::write(&ballast, &bytes).is_err() {
                size /= 2;
            }
        }
        let mut failures = 0;
        while failures < 5 {
            now += 3;
            number += 1;
            let address = server.offer(0, number, None, now).unwrap().ip;
            assert!(server.request(0, number, address, now, HOUR));
            server.committer.run_once(at(now));
            match server.completed(0)[..] {
                [(_, true)] => acknowledged.push((number, address)),
                [(_, false)] => failures += 1,
                ref other => panic!("{other:?}"),
            }
            server.check();
        }
        fs::remove_file(&ballast).unwrap();
        now += 3;
        number += 1;
        acknowledged.push((number, server.lease(number, now, HOUR)));
        if round == 1 {
            drop(server);
            server = start(directory, now);
        }
        for (number, address) in &acknowledged {
            let lease = server.leases.at(*address, at(now)).expect("it was acknowledged");
            assert_eq!(lease.client, machine(*number).1);
            assert_eq!(lease.state, LeaseState::Active);
        }
    }
    drop(server);
    let server = start(directory, now);
    let active = |state: &&(Ipv4Addr, LeaseState)| state.1 == LeaseState::Active;
    assert_eq!(addresses(&server, now).iter().filter(active).count(), acknowledged.len());
}

#[test]
fn a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a_full_disk needs root for a file system of its own");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m tmpfs \"$FULL_DISK\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "leases::tests::disk::a_full_disk_inside", "--ignored", "--nocapture"])
        .env("FULL_DISK", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
