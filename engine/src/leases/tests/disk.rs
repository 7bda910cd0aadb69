//! The log on a real file system: reopening, a full disk, an earlier store that becomes one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn start(directory: &Path, now: u64) -> Server {
    let store = Arc::new(StatePlace::new(directory).open(&clock(now)).unwrap());
    Server::start(Site::new(&[("10.0.0.1", "10.0.250.1")], &[]), store, 2, clock(now))
}

fn addresses(server: &Server, now: u64) -> Vec<(Ipv4Addr, LeaseState)> {
    let page = server.leases.page(ip("0.0.0.0"), usize::MAX >> 1, at(now));
    page.into_iter().filter_map(|lease| Some((lease.ipv4()?, lease.state))).collect()
}

/// What an earlier version had on disk: the leases of these machines.
fn write_earlier_store(state_dir: &Path, machines: u32) {
    let database = ::fjall::Database::builder(state_dir.join("leases")).open().unwrap();
    let options = ::fjall::KeyspaceCreateOptions::default;
    let keyspace = database.keyspace("leases", options).unwrap();
    for number in 1..=machines {
        let (hardware, client) = machine(number);
        let address = Ipv4Addr::from_bits(ip("10.0.0.0").to_bits() + number);
        let lease = Lease {
            ip: address.into(),
            client,
            hardware,
            state: LeaseState::Active,
            starts: at(0),
            expires: at(HOUR),
            refused: false,
            told: None,
            pending: false,
            notes: Notes::default(),
        };
        let mut value = Vec::new();
        record::encode(&lease, &clock(0), &mut value);
        keyspace.insert(&*key::Key::of(address.into()), value).unwrap();
    }
    database.persist(::fjall::PersistMode::SyncAll).unwrap();
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

/// Flips a bit of the second batch, which others follow.
fn damage_second_batch(state_dir: &Path) {
    let segment = state_dir.join("lease-log/segment-00");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 + 2000] ^= 1;
    fs::write(&segment, bytes).unwrap();
}

#[test]
fn damage_is_told_until_no_lease_can_be_missing() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let given: Vec<_> = (0..3).map(|number| server.lease(number, 0, HOUR)).collect();
    assert_eq!(server.leases.damage(at(0)), None);
    drop(server);
    damage_second_batch(directory.path());
    let server = start(directory.path(), 2);
    assert_eq!(
        (server.state(given[0], 2), server.state(given[1], 2)),
        (Some(LeaseState::Active), None)
    );
    let damage = server.leases.damage(at(3)).unwrap();
    assert_eq!(damage.until, Some(at(2 + HOUR)));
    let found = damage.found.clone().unwrap();
    assert!(found.contains("batch 2 is missing"), "{found}");
    // It was found since the start, whatever time passes.
    let later = Damage { until: None, ..damage.clone() };
    assert_eq!(server.leases.damage(at(2 + HOUR)), Some(later));
    drop(server);
    let server = start(directory.path(), 4);
    assert_eq!(server.leases.damage(at(4)), Some(Damage { found: None, ..damage }));
    assert_eq!(server.leases.damage(at(2 + HOUR)), None);
}

#[test]
fn the_store_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let place = StatePlace::new(directory.path());
    assert_eq!(place.present(), None);
    let mut server = start(directory.path(), 0);
    assert_eq!(place.present(), Some(place.log()));
    let given = server.lease(1, 0, HOUR);
    let error = place.open(&clock(0)).err();
    assert!(matches!(error, Some(StoreError::InUse(_))), "{error:?}");
    drop(server);
    assert_eq!(start(directory.path(), 2).state(given, 2), Some(LeaseState::Active));
}

#[test]
fn an_earlier_store_becomes_a_log_and_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    write_earlier_store(state, 200);
    assert_eq!(StatePlace::new(state).present(), Some(state.join("leases")));
    let mut server = start(state, 5);
    assert_eq!(addresses(&server, 5).len(), 200);
    assert_eq!(server.state(ip("10.0.0.200"), 5), Some(LeaseState::Active));
    server.lease(1000, 5, HOUR);
    drop(server);
    assert!(state.join("leases.before-log/keyspaces").is_dir());
    let note = fs::read_to_string(state.join("leases")).unwrap();
    assert!(note.contains("lease-log"), "{note}");
    assert_eq!(addresses(&start(state, 6), 6).len(), 201);
    // What an earlier version does first: it looks for the parts of its database, and takes
    // anything but "not found" for an error.
    let error = fs::read_dir(state.join("leases/keyspaces")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
}

/// The states that a kill leaves behind each step of the way from an earlier store.
#[test]
fn a_migration_that_was_killed_goes_on() {
    let steps: [&dyn Fn(&Path); 6] = [
        // While the log is being made.
        &|state| fs::create_dir(state.join("lease-log.new")).unwrap(),
        &|state| {
            fs::create_dir(state.join("lease-log.new")).unwrap();
            fs::write(state.join("lease-log.new/segment-00.new"), [1; 999]).unwrap();
        },
        // It is made, and holds what is out of date by now.
        &|state| {
            fs::create_dir(state.join("other")).unwrap();
            write_earlier_store(&state.join("other"), 3);
            drop(start(&state.join("other"), 1));
            fs::rename(state.join("other/lease-log"), state.join("lease-log.new")).unwrap();
        },
        // The note is there.
        &|state| fs::write(state.join("leases.before-log"), "note").unwrap(),
        // The names are exchanged.
        &|state| {
            drop(start(state, 1));
            fs::rename(state.join("lease-log"), state.join("lease-log.new")).unwrap();
        },
        // All is done but a first lease.
        &|state| drop(start(state, 1)),
    ];
    for (number, step) in steps.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        write_earlier_store(directory.path(), 50);
        step(directory.path());
        for _ in 0..2 {
            let server = start(directory.path(), 5);
            assert_eq!(addresses(&server, 5).len(), 50, "step {number}");
        }
        assert!(directory.path().join("leases.before-log/keyspaces").is_dir());
        assert!(directory.path().join("leases").is_file());
        assert!(!directory.path().join("lease-log.new").exists());
    }
}

/// Every name below a directory, with the bytes of files.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut tree(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// The addresses that have a lease, and what is damaged. Nothing in the state directory changes.
fn read(state_dir: &Path) -> Result<(Vec<IpAddr>, Option<String>), StoreError> {
    let before = tree(state_dir);
    let mut found = Vec::new();
    let damage = StatePlace::new(state_dir).read(&clock(5), &mut |loaded| match loaded {
        Loaded::Lease(lease, _) => found.push(lease.ip),
        other => panic!("{other:?}"),
    });
    assert!(tree(state_dir) == before, "the state directory has changed");
    damage.map(|damage| (found, damage))
}

#[test]
fn reading_a_store_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    assert_eq!(read(state).unwrap(), (Vec::new(), None));
    let mut server = start(state, 0);
    let given: Vec<IpAddr> = (0..3).map(|number| server.lease(number, 0, HOUR).into()).collect();
    // Not beside a server.
    assert!(matches!(read(state), Err(StoreError::InUse(_))));
    drop(server);
    let rising = |mut addresses: Vec<IpAddr>| {
        addresses.sort_unstable();
        addresses
    };
    let whole = (rising(given.clone()), None);
    assert_eq!(read(state).unwrap(), whole);
    // A start would remove this, and make that.
    fs::write(state.join("lease-log/segment-09.new"), [1; 99]).unwrap();
    fs::remove_file(state.join("lease-log/lock")).unwrap();
    assert_eq!(read(state).unwrap(), whole);
    // A start would write the mark down.
    damage_second_batch(state);
    let left = rising(vec![given[0], given[2]]);
    let (found, damage) = read(state).unwrap();
    assert_eq!(found, left);
    assert!(damage.is_some_and(|damage| damage.contains("batch 2 is missing")));
    // A start would make a new one.
    fs::remove_file(state.join("lease-log/checkpoint")).unwrap();
    let (found, damage) = read(state).unwrap();
    assert_eq!(found, left);
    assert!(damage.is_some_and(|damage| damage.contains("the checkpoint is missing")));
}

#[test]
fn reading_an_earlier_store_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    write_earlier_store(state, 200);
    let (found, damage) = read(state).unwrap();
    assert_eq!((found.len(), damage), (200, None));
    assert_eq!(found[199], IpAddr::from([10, 0, 0, 200]));
    // Not beside a server of an earlier version.
    let database = ::fjall::Database::builder(state.join("leases")).open().unwrap();
    let place = StatePlace::new(state);
    let error = place.read(&clock(5), &mut |_| panic!("it is open")).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(database);
    // A migration that was killed, before the log counts and after.
    fs::create_dir(state.join("lease-log.new")).unwrap();
    assert_eq!(read(state).unwrap().0.len(), 200);
    let mut server = start(state, 1);
    server.lease(1000, 1, HOUR);
    drop(server);
    fs::rename(state.join("lease-log"), state.join("lease-log.new")).unwrap();
    assert_eq!(read(state).unwrap().0.len(), 201);
}

#[test]
fn two_stores_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    drop(start(directory.path(), 1));
    fs::remove_file(directory.path().join("leases")).unwrap();
    write_earlier_store(directory.path(), 3);
    let error = StatePlace::new(directory.path()).open(&clock(2)).err().unwrap();
    assert!(error.to_string().contains("move away the one"), "{error}");
    let error = read(directory.path()).unwrap_err();
    assert!(error.to_string().contains("move away the one"), "{error}");
}

#[test]
fn an_earlier_first_start_that_was_killed_has_no_leases() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("leases");
    fs::create_dir_all(database.join("keyspaces")).unwrap();
    fs::write(database.join("lock"), []).unwrap();
    fs::write(database.join("version"), []).unwrap();
    fs::write(database.join("0.jnl"), [0; 99]).unwrap();
    start(directory.path(), 0).lease(1, 0, HOUR);
    // But what may hold leases is never passed over.
    let directory = tempfile::tempdir().unwrap();
    write_earlier_store(directory.path(), 3);
    fs::remove_file(directory.path().join("leases/version")).unwrap();
    assert!(StatePlace::new(directory.path()).open(&clock(0)).is_err());
    assert!(directory.path().join("leases/keyspaces").is_dir());
}

#[test]
fn a_directory_that_is_no_whole_earlier_store_is_refused() {
    let add: [&dyn Fn(&Path); 3] = [
        // A store in the wrong place.
        &|database| fs::create_dir(database.join("leases")).unwrap(),
        &|database| fs::write(database.join("1.jnl"), [0; 99]).unwrap(),
        // Batches of a store whose other files are lost.
        &|database| fs::write(database.join("0.jnl"), [1; 99]).unwrap(),
    ];
    for add in add {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("leases");
        fs::create_dir(&database).unwrap();
        add(&database);
        let place = StatePlace::new(directory.path());
        let error = place.open(&clock(0)).err().unwrap().to_string();
        assert!(error.contains("no whole lease store") && error.contains("away to"), "{error}");
        let error = read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("no whole lease store"), "{error}");
        assert!(database.is_dir() && !directory.path().join("lease-log").exists());
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
    // Everything but a few pages is taken.
    let mut size = 64 << 20;
    while size > 4096 {
        let mut bytes = fs::read(&ballast).unwrap_or_default();
        bytes.resize(bytes.len() + size, 1);
        if fs::write(&ballast, &bytes).is_err() {
            size /= 2;
        }
    }
    for round in 0..3 {
        // 16 MiB of batches and more, so segments are used again.
        for number in 0..3000 {
            server.lease(number, round, HOUR);
        }
        drop(server);
        server = start(directory, round);
        let active = |state: &&(Ipv4Addr, LeaseState)| state.1 == LeaseState::Active;
        assert_eq!(addresses(&server, round).iter().filter(active).count(), 3000);
        server.check();
    }
}

#[test]
fn a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a_full_disk needs root for a file system of its own");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64m tmpfs \"$FULL_DISK\" && exec \"$@\"";
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
