//! The journal of the live hosts.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::super::{By, Change, HostObject, JOURNAL, LiveHosts, LiveHostsError, Origin, fold};

fn origin(by: By) -> Origin {
    Origin::new("2026-11-28T09:20:00.7Z".parse().unwrap(), by)
}

struct Site {
    directory: tempfile::TempDir,
    live: LiveHosts,
}

impl Site {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), live: LiveHosts::default() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("hosts.toml")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join(JOURNAL)
    }

    /// What is read, without how much of the journal that is.
    fn read(&self) -> Result<String, LiveHostsError> {
        LiveHosts::read(&self.path()).map(|live| live.to_string())
    }

    /// Makes a change and writes it into the journal.
    fn change(&mut self, change: Change, hosts: &[(&str, u32)]) {
        self.try_change(change, hosts).unwrap();
    }

    fn try_change(&mut self, change: Change, hosts: &[(&str, u32)]) -> Result<(), LiveHostsError> {
        let object = |(name, time): &(&str, u32)| {
            HostObject::from_iter([
                ("name".to_owned(), json!(name)),
                ("lease-time".to_owned(), json!(time)),
                ("options".to_owned(), json!({"host-name": "a \"b\"\n"})),
            ])
        };
        let hosts = hosts.iter().map(object).collect();
        let changed = self.live.change_all(change, hosts, origin(By::Omapi)).unwrap();
        self.live.append(&self.path(), &changed)
    }
}

/// Three changes, with the hosts and the length of the journal after each.
fn three_changes() -> (Site, Vec<(String, u64)>) {
    let mut site = Site::new();
    let mut states = vec![(site.live.to_string(), 0)];
    for (change, hosts) in [
        (Change::Add, &[("n1", 1), ("n2", 2)][..]),
        (Change::Set, &[("n1", 3), ("n3", 3)]),
        (Change::Remove, &[("n2", 0), ("n3", 0)]),
    ] {
        site.change(change, hosts);
        states.push((site.live.to_string(), site.live.journal));
    }
    (site, states)
}

#[test]
fn changes_are_read_again_and_put_into_the_file() {
    let (mut site, states) = three_changes();
    assert_eq!(site.read().unwrap(), states[3].0);
    assert!(!site.path().exists(), "a change does not write all hosts");
    let live = LiveHosts::read(&site.path()).unwrap();
    assert_eq!(live.origin("n1"), Some(origin(By::Omapi)));
    assert_eq!(live.origin("n2"), None);
    let journal = fs::read(site.journal()).unwrap();
    assert_eq!(journal.len() as u64, states[3].1);

    assert!(!fold(&site.path()).unwrap(), "no change was torn");
    assert!(!site.journal().exists());
    let text = fs::read_to_string(site.path()).unwrap();
    assert_eq!(text, states[3].0);
    assert!(text.contains("\n# set 2026-11-28T09:20:00Z omapi\n"), "{text}");
    // An earlier version does not say it.
    fs::write(site.path(), text.replace("# set 2", "# 2")).unwrap();
    assert_eq!(LiveHosts::read(&site.path()).unwrap().origin("n1"), None);
    fs::write(site.path(), text).unwrap();
    assert_eq!(site.read().unwrap(), states[3].0);

    // The server was killed before it removed the journal.
    fs::write(site.journal(), &journal).unwrap();
    assert_eq!(site.read().unwrap(), states[3].0);
    assert!(!fold(&site.path()).unwrap());
    site.live = LiveHosts::read(&site.path()).unwrap();
    site.change(Change::Add, &[("n4", 4)]);
    assert_eq!(site.read().unwrap(), site.live.to_string());
}

#[test]
fn a_change_that_is_cut_off_was_never_made() {
    let (mut site, states) = three_changes();
    let whole = fs::read(site.journal()).unwrap();
    // Blocks that never reached the disk are zeros, before and behind those that did.
    let last = states[2].1 as usize;
    let lost = (last + 1..=whole.len()).map(|end| {
        let mut lost = whole.clone();
        lost[last..end].fill(0);
        (last, lost)
    });
    let cut = (0..=whole.len()).flat_map(|length| {
        let written = &whole[..length];
        [(length, written.to_vec()), (length, [written, &[0; 100]].concat())]
    });
    for (length, torn) in cut.chain(lost) {
        let (text, valid) = states.iter().rev().find(|(_, end)| *end <= length as u64).unwrap();
        fs::write(site.journal(), torn).unwrap();
        site.live = LiveHosts::read(&site.path()).unwrap();
        assert_eq!((&site.live.to_string(), site.live.journal), (text, *valid), "{length}");
        // The next change takes its place. It waits for the disk.
        if length % 16 != 0 {
            continue;
        }
        site.change(Change::Set, &[("n9", 9)]);
        assert_eq!(site.read().unwrap(), site.live.to_string(), "{length}");
    }
}

#[test]
fn nothing_is_written_behind_a_journal_that_somebody_took_away() {
    for again in [None, Some(1), Some(0)] {
        let (mut site, states) = three_changes();
        let (_, length) = states[3];
        fold(&site.path()).unwrap();
        if let Some(less) = again {
            fs::write(site.journal(), vec![b'x'; (length as usize - 1) * less]).unwrap();
        }
        let before = fs::read(site.journal()).ok();
        let error = site.try_change(Change::Add, &[("n4", 4)]).unwrap_err().to_string();
        assert!(error.contains("bootstorm reload"), "{error}");
        assert_eq!(fs::read(site.journal()).ok(), before);
        _ = fs::remove_file(site.journal());
        // Read again, they can be changed.
        site.live = LiveHosts::read(&site.path()).unwrap();
        site.change(Change::Add, &[("n4", 4)]);
        assert_eq!(site.read().unwrap(), site.live.to_string());
    }
}

#[test]
fn a_torn_change_is_told_when_the_journal_goes() {
    let (site, states) = three_changes();
    let mut journal = OpenOptions::new().append(true).open(site.journal()).unwrap();
    journal.write_all(b"{\"set\":[{\"na").unwrap();
    assert!(fold(&site.path()).unwrap());
    assert_eq!(site.read().unwrap(), states[3].0);
}

#[test]
fn a_journal_that_is_damaged_elsewhere_is_refused() {
    let (site, _) = three_changes();
    let whole = fs::read_to_string(site.journal()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let head = "{\"origin\":\"2026-11-28T09:20:00Z omapi\",\"set\":";
    let null = format!("{head}[{{\"name\":\"n1\",\"ip\":null}}]}}");
    let unnamed = format!("{head}[{{}}]}}");
    for (damaged, line) in [
        ("{\"set\":[{\"na", 1),
        ("", 2),
        ("{\"put\":[]}", 2),
        (&unnamed, 3),
        ("\0\0", 2),
        (&null, 1),
    ] {
        let mut damaged_lines = lines.clone();
        damaged_lines[line - 1] = damaged;
        fs::write(site.journal(), damaged_lines.join("\n") + "\n").unwrap();
        for error in [site.read().unwrap_err(), fold(&site.path()).unwrap_err()] {
            let text = error.to_string();
            let place = format!("{JOURNAL}:{line}: ");
            assert!(text.contains(&place) && text.contains("remove the line"), "{text}");
        }
    }
    assert!(site.journal().exists());
}

#[test]
fn a_journal_is_long_beside_its_hosts() {
    let mut site = Site::new();
    let text = "x".repeat(1 << 18);
    let mut number = 0;
    while !site.live.outgrows(&site.path()) {
        number += 1;
        let host = json!({"name": "n", "group": text, "lease-time": number});
        let host = serde_json::from_value(host).unwrap();
        let changed = site.live.change_all(Change::Set, vec![host], origin(By::Command)).unwrap();
        site.live.append(&site.path(), &changed).unwrap();
    }
    assert_eq!(number, 4);
    let new = site.directory.path().join("hosts.toml.new");
    site.live.write(&new).unwrap();
    site.live.replace(&new, &site.path()).unwrap();
    assert!(!site.live.has_journal() && !site.journal().exists());
    assert_eq!(site.read().unwrap(), site.live.to_string());
}

#[test]
fn the_configuration_is_read_with_the_journal() {
    let mut site = Site::new();
    let config = site.directory.path().join("server.toml");
    let text = format!(
        "[server]\nstate-dir = {:?}\n[dhcp]\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\n",
        site.directory.path()
    );
    fs::write(&config, text).unwrap();
    let host = |name: &str, card: u8| {
        let card = format!("52:54:00:00:00:{card:02x}");
        HostObject::from_iter([("name".into(), json!(name)), ("hardware".into(), json!(card))])
    };
    let names = |config: &Path| {
        let config = crate::config::load(config).unwrap();
        config.dhcp.hosts.iter().map(|host| host.name().to_string()).collect::<Vec<_>>()
    };
    let hosts = vec![host("n1", 1), host("n2", 2)];
    site.live.change_all(Change::Add, hosts, origin(By::Command)).unwrap();
    site.live.write(&site.path()).unwrap();
    assert_eq!(names(&config), ["n1", "n2"]);
    for (change, hosts) in
        [(Change::Add, vec![host("n3", 3)]), (Change::Remove, vec![host("n1", 1)])]
    {
        let changed = site.live.change_all(change, hosts, origin(By::Omapi)).unwrap();
        site.live.append(&site.path(), &changed).unwrap();
    }
    assert_eq!(names(&config), ["n2", "n3"]);
    fold(&site.path()).unwrap();
    assert_eq!(names(&config), ["n2", "n3"]);

    // Lines of a text that is in no file would mislead.
    let mut bad = host("n\"4", 4);
    bad.insert("colour".into(), json!("red"));
    let hosts = vec![bad, host("n5", 3)];
    site.live = LiveHosts::read(&site.path()).unwrap();
    let changed = site.live.change_all(Change::Add, hosts, origin(By::Omapi)).unwrap();
    site.live.append(&site.path(), &changed).unwrap();
    for _ in 0..2 {
        let text = crate::config::load(&config).unwrap_err().render(false);
        for words in ["live host `n\"4`: ", "colour", "live host `n5`: ", ": live host `n3`"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("hosts.toml"), "{text}");
        fold(&site.path()).unwrap();
    }
}

#[test]
fn a_journal_that_cannot_be_removed_goes_on() {
    let (mut site, states) = three_changes();
    let new = site.directory.path().join("hosts.toml.new");
    let journal = fs::read(site.journal()).unwrap();
    // A directory is not removed as a file.
    fs::remove_file(site.journal()).unwrap();
    fs::create_dir(site.journal()).unwrap();
    site.live.write(&new).unwrap();
    let error = site.live.replace(&new, &site.path()).unwrap_err();
    assert!(matches!(error, LiveHostsError::Unknown { .. }), "{error}");
    fs::remove_dir(site.journal()).unwrap();
    fs::write(site.journal(), &journal).unwrap();
    assert!(site.live.has_journal());
    site.change(Change::Set, &[("n1", 9)]);
    assert_eq!(site.live.journal, fs::metadata(site.journal()).unwrap().len());
    assert!(site.live.journal > states[3].1);
    assert_eq!(site.read().unwrap(), site.live.to_string());
}

#[test]
fn a_new_file_that_is_not_whole_is_removed() {
    let (mut site, states) = three_changes();
    let new = site.directory.path().join("hosts.toml.new");
    for _ in 0..2 {
        std::os::unix::fs::symlink("/dev/full", &new).unwrap();
        let error = fold(&site.path()).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert!(new.symlink_metadata().is_err());
    }
    fs::create_dir(site.path()).unwrap();
    fs::write(site.path().join("x"), "").unwrap();
    site.live.write(&new).unwrap();
    assert!(site.live.replace(&new, &site.path()).is_err());
    assert!(!new.exists());
    fs::remove_dir_all(site.path()).unwrap();
    assert_eq!(site.read().unwrap(), states[3].0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        static WHOLE: LazyLock<Vec<u8>> =
            LazyLock::new(|| fs::read(three_changes().0.journal()).unwrap());
        let mut site = Site::new();
        let mut whole = WHOLE.clone();
        for (place, byte) in damage {
            let place = place.index(whole.len());
            whole[place] = byte;
        }
        for text in [&whole, &bytes] {
            fs::write(site.journal(), text).unwrap();
            // What can be read can be gone on with.
            if let Ok(live) = LiveHosts::read(&site.path()) {
                site.live = live;
                site.change(Change::Set, &[("n9", 9)]);
                prop_assert_eq!(site.read().unwrap(), site.live.to_string());
            }
        }
    }
}
