//! The command line as a person meets it: the real binary, its exit status and what it says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

use bootstorm::quirks::BUILT_IN;

/// What a run left behind.
struct Run {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn bootstorm(arguments: &[&str]) -> Run {
    finish(Command::new(env!("CARGO_BIN_EXE_bootstorm")).args(arguments).output().unwrap())
}

fn finish(output: Output) -> Run {
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// Exit status, and words that standard error must hold.
    #[track_caller]
    fn fails(&self, status: i32, words: &[&str]) -> &Self {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Exit 0, and words that standard output must hold.
    #[track_caller]
    fn says(&self, words: &[&str]) -> &Self {
        assert_eq!(self.status, Some(0), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} in:\n{}", self.stdout);
        }
        self
    }
}

fn configuration(directory: &Path) -> String {
    let path = directory.join("bootstorm.toml");
    let text = format!(
        "[server]\nstate-dir = {:?}\n\n[[dhcp.subnet]]\nsubnet = \"10.1.0.0/24\"\n\
         pools = [\"10.1.0.100-10.1.0.199\"]\n",
        directory.join("state")
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_teaches_and_version_names_the_version() {
    bootstorm(&["--help"]).says(&["Usage: bootstorm", "Examples:", "Exit status:", "leases"]);
    bootstorm(&["--version"]).says(&[concat!("bootstorm ", env!("CARGO_PKG_VERSION"))]);
    bootstorm(&["serve", "--help"]).says(&["--dry-run", "SIGHUP reloads"]);
    for command in ["check", "leases", "status", "events", "reload", "probe", "fetch", "man"] {
        bootstorm(&[command, "--help"]).says(&["Usage: bootstorm"]);
    }
}

#[test]
fn a_wrong_command_line_is_exit_2_and_names_the_way_out() {
    bootstorm(&[]).fails(2, &["Usage: bootstorm"]);
    bootstorm(&["serv"]).fails(2, &["bootstorm: unrecognized subcommand 'serv'", "'serve'"]);
    bootstorm(&["check", "--confg", "x"]).fails(2, &["bootstorm: ", "--config"]);
    bootstorm(&["events"]).fails(2, &["--follow"]);
    bootstorm(&["events", "--follow", "--mac", "rack7"]).fails(2, &["52:54:00:12:34:56"]);
    bootstorm(&["leases", "release", "rack7"]).fails(2, &["rack7"]);
    bootstorm(&["leases", "show", "rack7"]).fails(2, &["neither an IPv4 address nor"]);
    bootstorm(&["serve", "--log-level", "loud"]).fails(2, &["possible values: error, warn, info"]);
    bootstorm(&["probe", "--interface", "lo", "--wait", "0"]).fails(2, &["0.1 to 60"]);
}

#[test]
fn a_missing_or_broken_configuration_is_exit_78_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere.toml");
    let missing = missing.to_str().unwrap();
    for command in ["check", "serve", "status", "reload"] {
        bootstorm(&[command, "--config", missing]).fails(78, &["nowhere.toml"]);
    }
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, "[server]\ninterfacs = [\"eth0\"]\n").unwrap();
    let broken = broken.to_str().unwrap();
    for command in ["check", "serve"] {
        bootstorm(&[command, "--config", broken])
            .fails(78, &["broken.toml:2:1", "interfacs = [\"eth0\"]", "interfaces"]);
    }
}

#[test]
fn a_user_that_does_not_exist_is_a_mistake_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path());
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("[server]", "[server]\nuser = \"no-such-user-here\"");
    std::fs::write(&config, text).unwrap();
    bootstorm(&["serve", "--config", &config]).fails(78, &["no-such-user-here", "useradd"]);
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path());
    bootstorm(&["check", "--config", &config])
        .says(&["good: 1 subnet, 1 pool with 100 addresses, 0 hosts", "no TFTP"]);
    assert!(!directory.path().join("state").exists(), "check touches nothing");
}

#[test]
fn quirks_in_force_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tftp.toml");
    let text = "[tftp]\nroot = \"/\"\nquirks-on = [\"ovmf-blksize\"]\n[[tftp.quirk]]\nname = \"mine\"\n\
                mac-prefix = \"02\"\nmax-blksize = 1024\n";
    std::fs::write(&path, text).unwrap();
    bootstorm(&["check", "--config", path.to_str().unwrap()])
        .says(&["TFTP quirks in force: bios-fragments, ovmf-blksize, ", ", mine\n"]);
    let on = BUILT_IN.iter().filter(|quirk| quirk.on);
    let off: Vec<_> = on.map(|quirk| format!("\"{}\"", quirk.name)).collect();
    let text = format!("[tftp]\nroot = \"/\"\nquirks-off = [{}]\n", off.join(", "));
    std::fs::write(&path, text).unwrap();
    bootstorm(&["check", "--config", path.to_str().unwrap()]).says(&["quirks in force: none"]);
}

#[test]
fn without_a_server_every_question_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path());
    let commands: [&[&str]; 4] =
        [&["status"], &["reload"], &["events", "--follow"], &["leases", "list"]];
    for command in commands {
        let arguments = [command, &["--config", &config]].concat();
        bootstorm(&arguments).fails(2, &["no bootstorm is running", "bootstorm serve"]);
    }
    assert!(!directory.path().join("state").exists(), "asking makes no state directory");
    let elsewhere = directory.path().join("elsewhere");
    bootstorm(&["status", "--state-dir", elsewhere.to_str().unwrap()])
        .fails(2, &["elsewhere/control.sock"]);
}

#[test]
fn probe_names_what_is_wrong_with_an_interface() {
    bootstorm(&["probe", "--interface", "nosuch0"]).fails(2, &["nosuch0: no such interface", "lo"]);
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        bootstorm(&["completions", shell]).says(&["bootstorm", "dry-run", "windowsize"]);
    }
    bootstorm(&["man"]).says(&[".TH bootstorm 1"]);
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    bootstorm(&["man", pages.to_str().unwrap()]).says(&[]);
    for page in ["bootstorm.1", "bootstorm-serve.1", "bootstorm-leases-list.1", "bootstorm-fetch.1"]
    {
        assert!(pages.join(page).is_file(), "{page}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bootstorm"))
        .args(["completions", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = finish(child.wait_with_output().unwrap());
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
}

mod stored {
    //! Leases of a server that is down.

    use std::net::IpAddr;
    use std::time::Duration;

    use bootstorm::leases::{
        ClientKey, Hardware, Lease, LeaseState, LeaseStore, Notes, StatePlace, Write,
    };

    use super::*;

    fn store_two(state_dir: &Path) {
        std::fs::create_dir_all(state_dir).unwrap();
        let clock = bootstorm::clock::read().unwrap();
        let lease = |host: u8, seconds| {
            let hardware = Hardware::ethernet([2, 0, 0, 0, 0, host]);
            let lease = Lease {
                ip: IpAddr::from([10, 1, 0, host]),
                client: ClientKey::hardware(&hardware),
                hardware,
                state: LeaseState::Active,
                starts: clock.now,
                expires: clock.now + Duration::from_secs(seconds),
                refused: false,
                told: None,
                pending: false,
                notes: Notes::default(),
            };
            Write { ip: lease.ip, version: host.into(), known: 0, lease: Some(lease) }
        };
        let store = StatePlace::new(state_dir).open(&clock).unwrap();
        store.commit(&[lease(200, 3600), lease(101, 3600)], &clock).unwrap();
    }

    #[test]
    fn they_are_listed_shown_and_released() {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path());
        store_two(&directory.path().join("state"));
        let leases = |arguments: &[&str]| {
            bootstorm(&[&["leases"], arguments, &["--config", &config]].concat())
        };
        let list = leases(&["list", "--json"]);
        list.says(&[r#""ip":"10.1.0.101""#, r#""hardware":"02:00:00:00:00:65""#, "active"]);
        let rows: Vec<serde_json::Value> =
            list.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), &rows[1]["ip"]), (2, &serde_json::json!("10.1.0.200")));

        leases(&["list"]).says(&["ADDRESS", "10.1.0.101      02:00:00:00:00:65 active   "]);
        leases(&["show", "02:00:00:00:00:c8"]).says(&["address:     10.1.0.200"]);
        leases(&["show", "10.1.0.102"]).fails(1, &["10.1.0.102: no lease"]);

        leases(&["release", "10.1.0.101"]).says(&["10.1.0.101: released"]);
        leases(&["release", "10.1.0.101"]).fails(1, &["10.1.0.101: no lease to release"]);
        leases(&["show", "10.1.0.101"]).says(&["state:       released"]);
        leases(&["show", "10.1.0.200"]).says(&["state:       active"]);
    }

    #[test]
    fn listing_a_damaged_store_says_so_and_repairs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path());
        let state_dir = directory.path().join("state");
        store_two(&state_dir);
        let checkpoint = state_dir.join("lease-log/checkpoint");
        let mut bytes = std::fs::read(&checkpoint).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&checkpoint, &bytes).unwrap();
        for command in [&["list"][..], &["show", "10.1.0.101"]] {
            let run = bootstorm(&[&["leases"], command, &["--config", &config]].concat());
            run.says(&["10.1.0.101"]);
            assert!(run.stderr.contains("lease-log is damaged: "), "{}", run.stderr);
            assert!(std::fs::read(&checkpoint).unwrap() == bytes, "the checkpoint was written");
        }
        let run = bootstorm(&["leases", "release", "10.1.0.101", "--config", &config]);
        run.says(&["10.1.0.101: released"]);
        assert!(run.stderr.contains("lease-log is damaged: "), "{}", run.stderr);
    }

    #[test]
    fn a_store_in_use_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path());
        let state_dir = directory.path().join("state");
        store_two(&state_dir);
        let clock = bootstorm::clock::read().unwrap();
        let _open = StatePlace::new(&state_dir).open(&clock).unwrap();
        bootstorm(&["leases", "list", "--config", &config]).fails(2, &["in use", "control socket"]);
    }
}

mod fetch {
    //! `fetch` against a TFTP server of a few lines.

    use std::net::UdpSocket;
    use std::thread::{self, JoinHandle};

    use bootstorm_protocols::tftp::{ErrorCode, Packet, Rollover, data_header, write_error};

    use super::*;

    /// Serves `content` once, in blocks of 512 bytes from a port of its own, and drops the first
    /// copy of block 2.
    fn serve(content: &'static [u8]) -> (String, JoinHandle<()>) {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("tftp://{}/boot/file.bin", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 1024];
            let (len, client) = listener.recv_from(&mut buffer).unwrap();
            let Ok(Packet::Read(request)) = Packet::parse(&buffer[..len]) else { panic!() };
            if request.filename != b"boot/file.bin" {
                let len =
                    write_error(&mut buffer, ErrorCode::FileNotFound, "no such\x1bfile").unwrap();
                listener.send_to(&buffer[..len], client).unwrap();
                return;
            }
            let data = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut lost = false;
            let blocks = (content.len() / 512) as u64 + 1;
            let mut block = 1;
            while block <= blocks {
                let start = (block as usize - 1) * 512;
                let bytes = &content[start..content.len().min(start + 512)];
                let packet = [&data_header(block, Rollover::ToZero)[..], bytes].concat();
                if block != 2 || std::mem::replace(&mut lost, true) {
                    data.send_to(&packet, client).unwrap();
                    // A stranger's packet from the same host is not part of the transfer.
                    listener.send_to(&data_header(block + 1, Rollover::ToZero), client).unwrap();
                }
                let (len, _) = data.recv_from(&mut buffer).unwrap();
                if let Ok(Packet::Ack { block: acked }) = Packet::parse(&buffer[..len]) {
                    block = u64::from(acked) + 1;
                }
            }
        });
        (url, thread)
    }

    static CONTENT: [u8; 1300] = {
        let mut content = [0; 1300];
        let mut i = 0;
        while i < content.len() {
            content[i] = (i / 7) as u8;
            i += 1;
        }
        content
    };

    #[test]
    fn a_file_comes_whole_through_loss_and_strangers() {
        let directory = tempfile::tempdir().unwrap();
        let (url, server) = serve(&CONTENT);
        let output = directory.path().join("out.bin");
        let run = bootstorm(&["fetch", &url, "-o", output.to_str().unwrap()]);
        run.says(&[]);
        assert!(run.stderr.contains("1300 bytes"), "{}", run.stderr);
        assert!(run.stderr.contains("blksize 512, windowsize 1"), "{}", run.stderr);
        server.join().unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), CONTENT);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn a_device_is_written_and_not_replaced() {
        let (url, server) = serve(&CONTENT);
        bootstorm(&["fetch", "--quiet", &url, "-o", "/dev/null"]).says(&[]);
        server.join().unwrap();
        use std::os::unix::fs::FileTypeExt;
        assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_refusal_is_exit_1_with_the_servers_words_made_harmless() {
        let directory = tempfile::tempdir().unwrap();
        let (url, server) = serve(&CONTENT);
        let output = directory.path().join("other.bin");
        let url = url.replace("file.bin", "other.bin");
        bootstorm(&["fetch", &url, "-o", output.to_str().unwrap()])
            .fails(1, &["boot/other.bin: no such\\x1bfile (TFTP error 1)"]);
        server.join().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn silence_and_wrong_targets_are_exit_2() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("tftp://{}/f", silent.local_addr().unwrap());
        bootstorm(&["fetch", &url, "-o", "-", "--timeout", "1"])
            .fails(2, &["no answer", "firewall"]);
        bootstorm(&["fetch", &url, "-o", "/"]).fails(2, &["is a directory"]);
        bootstorm(&["fetch", "ftp://h/f"]).fails(2, &["not a TFTP URL"]);
        bootstorm(&["fetch", "tftp://127.0.0.1/a/.."]).fails(2, &["use -o FILE"]);
    }
}
