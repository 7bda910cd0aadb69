//! kill -9 and power cuts: what was acknowledged is on the disk.
//!
//! A child process hands out leases as fast as it can and says so, line by line; then it is killed,
//! or its machine loses power: it is stopped, the file that its file system lies in is copied, and
//! the copy is mounted, without anything that was not synced. Every acknowledged lease must be
//! there. With the feature `mutants` the same is done to stores that say ACK too early, and must
//! find leases lost.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;

/// A first address and how many there are: more than are given out.
const POOL: (&str, &str) = ("10.0.0.1", "10.0.255.254");
/// Renewed for ever by the child; the rest of the pool goes to new machines.
const REGULARS: u32 = 50;
/// Leases on their way at one time.
const IN_FLIGHT: usize = 150;

fn now() -> Clock {
    crate::clock::read().unwrap()
}

/// The child.
#[test]
#[ignore = "it runs until it is killed"]
fn write_until_killed() {
    let directory = std::env::var_os("STATE_DIR").expect("where to write");
    let store = Arc::new(FjallStore::open(Path::new(&directory)).unwrap());
    let site = Site::new(&[POOL], &[]);
    let leases = Leases::open(store, &site.dhcp, 1, now()).unwrap();
    let thread = std::thread::current();
    let mut shard = leases.shard(0, move || thread.unpark());
    let _committer = leases.committer().spawn(bootstorm_net::now).unwrap();
    let pools = site.pools();
    let mut said = Vec::new();
    let mut next = 0;
    let mut addresses = HashMap::new();
    loop {
        while shard.waiting() < IN_FLIGHT {
            // Two renewals for each new machine.
            let number = if next % 3 == 0 { REGULARS + next / 3 % 60_000 } else { next % REGULARS };
            next += 1;
            let (hardware, key) = machine(number);
            let network = site.network;
            let client = Client { network, key: &key, hardware, notes: Said::default() };
            let now = bootstorm_net::now();
            let until = now + Duration::from_secs(60);
            let offer = shard.offer(&client, Candidates::Pools(&pools), None, now, until).unwrap();
            let expires = now + Duration::from_secs(86_400);
            match shard.bind(&client, offer.ip, now, expires) {
                Bind::Pending(change) => {
                    addresses.insert(number, offer.ip);
                    shard.submit(change, Some(number.into()), now).unwrap();
                }
                Bind::AlreadyPending => break,
                Bind::Refused(refusal) => panic!("{refusal}"),
            }
        }
        shard.kick(true);
        std::thread::park_timeout(Duration::from_millis(100));
        shard.completed(|number, written| {
            let number = number as u32;
            written.unwrap();
            writeln!(said, "ACK {} {number}", addresses[&number]).unwrap();
        });
        // One system call for each turn, as a server sends its ACKs.
        std::io::stdout().write_all(&said).unwrap();
        std::io::stdout().flush().unwrap();
        said.clear();
    }
}

/// Prints what a store holds.
#[test]
#[ignore = "it is the last act of a_power_cut"]
fn read_what_is_left() {
    let directory = std::env::var_os("STATE_DIR").expect("where to read");
    let mut out = String::new();
    for (address, client) in holders(Path::new(&directory)) {
        out += &format!("HELD {address} {client}\n");
    }
    std::io::stdout().write_all(out.as_bytes()).unwrap();
}

fn holders(directory: &Path) -> HashMap<Ipv4Addr, u32> {
    let store = FjallStore::open(directory).unwrap();
    let mut holders = HashMap::new();
    let clock = now();
    let numbers: HashMap<_, _> =
        (0..=REGULARS + 60_000).map(|number| (machine(number).1, number)).collect();
    store
        .load(&clock, &mut |loaded| match loaded {
            Loaded::Lease(lease) if lease.is_active(clock.now) => {
                holders.insert(lease.ip, numbers[&lease.client]);
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    holders
}

fn test_command(name: &str, wrapper: Option<&str>, directory: &Path) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        None => Command::new(binary),
        Some(script) => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
            command.arg(binary);
            command
        }
    };
    let name = format!("leases::tests::cuts::{name}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]);
    command.env("STATE_DIR", directory).env_remove("BOOTSTORM_MUTANT");
    command
}

/// Lines of a child that begin with a word and name an address and a machine.
fn lines(out: &mut BufReader<ChildStdout>, word: &str, at_most: usize) -> HashMap<Ipv4Addr, u32> {
    let mut found = HashMap::new();
    let mut line = String::new();
    for _ in 0..at_most {
        line.clear();
        // The last line of a killed child may be cut short.
        if out.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        let mut words = line.split_ascii_whitespace().skip_while(|found| *found != word);
        if let (Some(_), Some(address), Some(number)) = (words.next(), words.next(), words.next()) {
            let number: u32 = number.parse().unwrap();
            let before = found.insert(ip(address), number);
            assert!(before.is_none_or(|before| before == number), "{address} was given twice");
        }
    }
    found
}

struct Writer(Child, BufReader<ChildStdout>);

impl Writer {
    fn start(mut command: Command, mutant: Option<&str>) -> Self {
        if let Some(mutant) = mutant {
            command.env("BOOTSTORM_MUTANT", mutant);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Acknowledged leases that are not on the disk after each of some kills, and all of them.
fn lost_by_kills(rounds: usize, mutant: Option<&str>) -> (usize, usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashMap::new();
    let mut lost = 0;
    for round in 0..rounds {
        let command = test_command("write_until_killed", None, directory.path());
        let mut writer = Writer::start(command, mutant);
        let mut new = lines(&mut writer.1, "ACK", 500 + 377 * (round % 7));
        writer.0.kill().unwrap();
        writer.0.wait().unwrap();
        new.extend(lines(&mut writer.1, "ACK", usize::MAX));
        for (address, number) in new {
            let before = acknowledged.insert(address, number);
            assert!(before.is_none_or(|before| before == number), "{address} was given twice");
        }
        let held = holders(directory.path());
        let missing = |entry: &(&Ipv4Addr, &u32)| held.get(entry.0) != Some(entry.1);
        lost += acknowledged.iter().filter(missing).count();
        if mutant.is_some() {
            acknowledged.clear();
        }
    }
    eprintln!("{rounds} kills: {lost} acknowledged leases lost");
    (lost, acknowledged.len())
}

/// The same after a power cut; `None` where there is no root or no loop device.
fn lost_by_power_cut(mutant: Option<&str>) -> Option<(usize, usize)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a power cut needs root for a file system of its own");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let (image, copy) = (directory.path().join("disk"), directory.path().join("copy"));
    let place = directory.path().join("mounted");
    fs::create_dir(&place).unwrap();
    fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap();
    assert!(made.success());
    let mount = |image: &Path| {
        format!("mount -o loop '{}' '{}'; exec \"$@\"", image.display(), place.display())
    };

    let command = test_command("write_until_killed", Some(&mount(&image)), &place);
    let mut writer = Writer::start(command, mutant);
    let mut acknowledged = lines(&mut writer.1, "ACK", 20_000);
    assert!(!acknowledged.is_empty(), "nothing could be written: is there no loop device?");
    writer.signal(rustix::process::Signal::STOP);
    let tasks = format!("/proc/{}/task", writer.0.id());
    let stopped = || {
        fs::read_dir(&tasks).unwrap().all(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        })
    };
    while !stopped() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let copied = Command::new("cp").arg("--sparse=always").args([&image, &copy]).status().unwrap();
    assert!(copied.success());
    writer.0.kill().unwrap();
    writer.0.wait().unwrap();
    acknowledged.extend(lines(&mut writer.1, "ACK", usize::MAX));

    let mut reader = test_command("read_what_is_left", Some(&mount(&copy)), &place);
    let mut reader = reader.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(reader.stdout.take().unwrap());
    let held = lines(&mut out, "HELD", usize::MAX);
    // A store of which nothing was ever synced may not even open.
    assert!(reader.wait().unwrap().success() || mutant.is_some());
    let missing = |entry: &(&Ipv4Addr, &u32)| held.get(entry.0) != Some(entry.1);
    let lost = acknowledged.iter().filter(missing).count();
    eprintln!("a power cut: {lost} of {} acknowledged leases lost", acknowledged.len());
    Some((lost, acknowledged.len()))
}

#[test]
fn kill_9() {
    // The soak asks for more.
    let rounds = std::env::var("LEASE_KILLS").map_or(5, |rounds| rounds.parse().unwrap());
    let (lost, all) = lost_by_kills(rounds, None);
    assert_eq!(lost, 0, "of {all}");
}

#[test]
fn a_power_cut() {
    if let Some((lost, all)) = lost_by_power_cut(None) {
        assert_eq!(lost, 0, "of {all}");
    }
}

/// The tests above are worth something: they notice servers that say ACK too early.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    #[test]
    fn kill_9_notices_an_ack_before_the_write() {
        let (lost, _) = lost_by_kills(5, Some("ack-before-write"));
        assert!(lost > 0);
    }

    #[test]
    fn a_power_cut_notices_an_ack_without_fsync() {
        let lost = lost_by_power_cut(Some("ack-without-fsync"));
        assert!(lost.is_none_or(|(lost, _)| lost > 0));
    }

    #[test]
    fn kill_9_alone_does_not_notice_an_ack_without_fsync() {
        let (lost, _) = lost_by_kills(2, Some("ack-without-fsync"));
        assert_eq!(lost, 0, "the page cache outlives the process");
    }
}
