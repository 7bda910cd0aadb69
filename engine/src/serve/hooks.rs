//! The thread that runs programs for the configuration (`execute`), and says what is to be done for
//! leases that have ended. It waits for programs, so that no shard does.
//!
//! A program is started directly, with no shell, as the user and with the sandbox of the server,
//! but with none of its capabilities. Its arguments come from the network.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;

use super::ended::{Done, Mark, mark};
use crate::config::Config;
use crate::dhcp;
use crate::event::{BootEvent, Detail, Kind, LogText};
use crate::hooks::{BACKLOG, Command, Hooks, Job};
use crate::leases::{Ended, Ending};
use crate::log::EventSink;
use crate::metrics::Metrics;

/// Programs that run at once.
const MOST_RUNNING: usize = 16;
/// How long one may run before it is killed with all that it has started.
const LIMIT: Duration = Duration::from_secs(60);
/// Where programs are looked for whose names have no slash.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between two looks at the programs that run.
const POLL: Duration = Duration::from_millis(5);
/// How often the log tells of programs that were dropped.
const TELL: Duration = Duration::from_secs(10);
/// Programs that wait in the thread for one of the same address.
const AHEAD: usize = 256;

/// What the thread works with.
pub(super) struct HookThread {
    pub(super) hooks: Hooks,
    pub(super) jobs: Receiver<Job>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: EventSink,
    /// Leases whose end is done with; `None` without a file.
    pub(super) done: Option<Done>,
    /// Those that ended while there was no server.
    pub(super) missed: Missed,
}

/// Leases that ended while there was no server: what is to be done for them waits here. They are
/// one for each address at most, so their number has no other limit.
#[derive(Default)]
pub(super) struct Missed {
    by_address: HashMap<IpAddr, Ended>,
    /// Their addresses in the order of their ends, and those of leases that are taken.
    order: std::vec::IntoIter<IpAddr>,
}

impl Missed {
    /// Of leases in the order of their ends.
    pub(super) fn new(ended: Vec<Ended>) -> Self {
        let order: Vec<_> = ended.iter().map(|ended| ended.lease.ip).collect();
        let by_address = ended.into_iter().map(|ended| (ended.lease.ip, ended)).collect();
        Self { by_address, order: order.into_iter() }
    }

    /// Takes the next one.
    fn next(&mut self) -> Option<Ended> {
        let Self { by_address, order } = self;
        order.find_map(|address| by_address.remove(&address))
    }

    /// Takes that of an address.
    fn of(&mut self, address: IpAddr) -> Option<Ended> {
        self.by_address.remove(&address)
    }
}

/// Starts the thread. It ends with the process.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(parts: HookThread) -> io::Result<()> {
    thread::Builder::new().name("hooks".to_owned()).spawn(move || {
        crate::privileges::renounce_or_warn();
        Running::new(parts).run();
    })?;
    Ok(())
}

/// A program that runs.
struct Program {
    child: Child,
    command: Command,
    until: Instant,
    killed: bool,
}

struct Running {
    parts: HookThread,
    programs: Vec<Program>,
    /// Each with the lease whose end is done with when it was started.
    waiting: VecDeque<(Command, Option<Mark>)>,
    /// How many dropped ones the log has told of, and when it may again.
    told: u64,
    tell_at: Instant,
}

impl Running {
    fn new(parts: HookThread) -> Self {
        let (programs, waiting) = (Vec::new(), VecDeque::new());
        Self { parts, programs, waiting, told: 0, tell_at: Instant::now() }
    }

    /// Works until nobody can ask for anything any more.
    fn run(mut self) {
        while self.receive() {
            self.look(Instant::now());
            self.begin();
            self.tell_dropped(Instant::now());
            self.parts.events.batch_end();
        }
    }

    /// Counts what was dropped, and says so now and then.
    fn tell_dropped(&mut self, now: Instant) {
        let dropped = self.parts.hooks.dropped();
        self.parts.metrics.hooks.dropped.set(dropped);
        if dropped > self.told && now >= self.tell_at {
            let more = dropped - self.told;
            tracing::warn!("{more} programs were not run: too many wait (bootstormhooks_total)");
            (self.told, self.tell_at) = (dropped, now + TELL);
        }
    }

    /// Takes the next job, or waits until there is something to look at; `false` at the end.
    fn receive(&mut self) -> bool {
        if self.waiting.len() >= AHEAD {
            thread::sleep(POLL);
            return true;
        }
        // What began to wait before all others, but for others that would be dropped.
        if self.parts.jobs.len() < BACKLOG / 2
            && let Some(ended) = self.parts.missed.next()
        {
            self.end(&ended);
            return true;
        }
        let received = match self.programs.is_empty() {
            true => self.parts.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => self.parts.jobs.recv_timeout(POLL),
        };
        let address = match &received {
            Ok(Job::Run(command)) => Some(command.address.into()),
            Ok(Job::End(ended)) => Some(ended.lease.ip),
            Err(_) => None,
        };
        // The lease that an address had before ends before anything is done for the next one.
        if let Some(ended) = address.and_then(|address| self.parts.missed.of(address)) {
            self.end(&ended);
        }
        match received {
            Ok(Job::Run(command)) => self.waiting.push_back((command, None)),
            Ok(Job::End(ended)) => self.end(&ended),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Does what is asked for when a lease has ended, or has it wait.
    fn end(&mut self, ended: &Ended) {
        let expired = (ended.how == Ending::Expiry).then(|| mark(ended));
        if expired.zip(self.parts.done.as_ref()).is_some_and(|(mark, done)| done.has(mark)) {
            return;
        }
        let config = self.parts.config.load();
        // Where the configuration says it no more, there is nothing to do.
        let tasks = dhcp::tasks_at_end(ended, &config.dhcp).unwrap_or_default();
        tasks.logs.iter().for_each(|log| self.parts.events.emit(log));
        let mut mark = expired;
        let mut commands = tasks.commands.into_iter().peekable();
        while let Some(command) = commands.next() {
            let of_last = if commands.peek().is_none() { mark.take() } else { None };
            self.waiting.push_back((command, of_last));
        }
        self.done(mark);
    }

    fn done(&mut self, mark: Option<Mark>) {
        if let Some((done, mark)) = self.parts.done.as_mut().zip(mark) {
            done.note(mark);
        }
    }

    /// Starts what can be started: programs for one address one after the other, in their order.
    fn begin(&mut self) {
        while self.programs.len() < MOST_RUNNING {
            let is_free = |command: &Command| {
                self.programs.iter().all(|program| program.command.address != command.address)
            };
            let next = self.waiting.iter().position(|(command, _)| is_free(command));
            let Some((command, mark)) = next.and_then(|next| self.waiting.remove(next)) else {
                return;
            };
            match spawn(&command.words) {
                Ok(child) => {
                    self.parts.metrics.hooks.started.increment();
                    let until = Instant::now() + LIMIT;
                    self.programs.push(Program { child, command, until, killed: false });
                }
                Err(error) => self.failed(&command, &format!("not started: {error}")),
            }
            self.done(mark);
        }
    }

    /// Notes the programs that have ended, and kills those that take too long.
    fn look(&mut self, now: Instant) {
        for mut program in std::mem::take(&mut self.programs) {
            match program.child.try_wait() {
                Ok(None) => {
                    if now >= program.until && !program.killed {
                        program.kill();
                        self.parts.metrics.hooks.killed.increment();
                        let seconds = LIMIT.as_secs();
                        self.failed(&program.command, &format!("killed after {seconds} s"));
                    }
                    self.programs.push(program);
                }
                Ok(Some(status)) if status.success() || program.killed => {}
                Ok(Some(status)) => self.failed(&program.command, &of_status(status)),
                Err(error) => self.failed(&program.command, &format!("not waited for: {error}")),
            }
        }
    }

    fn failed(&mut self, command: &Command, why: &str) {
        self.parts.metrics.hooks.failed.increment();
        let name =
            command.words.first().map_or("", |name| std::str::from_utf8(name).unwrap_or("?"));
        let detail = Detail::Text(LogText::new(format!("{name}: {why}").as_bytes()));
        let event = BootEvent::new(Kind::HookFailed, command.hardware, command.address);
        self.parts.events.emit(&BootEvent { detail, ..event });
    }
}

impl Program {
    /// Kills it and what it has started. What cannot be killed has ended.
    fn kill(&mut self) {
        self.killed = true;
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ended = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Starts a program in a process group of its own.
fn spawn(words: &[Box<[u8]>]) -> io::Result<Child> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let mut words = words.iter().map(|word| OsStr::from_bytes(word));
    let name = words.next().unwrap_or_default();
    std::process::Command::new(name)
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn of_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::super::ended::tests::ended;
    use super::*;
    use crate::event::bus::EventBus;
    use crate::leases::Hardware;
    use crate::log::EventLog;

    struct Lab {
        running: Running,
        _log: EventLog,
        hooks: Hooks,
    }

    fn lab() -> Lab {
        lab_of("authoritative;")
    }

    fn lab_of(config: &str) -> Lab {
        let (hooks, jobs) = Hooks::new();
        let (log, mut sinks) = EventLog::start(1, EventBus::default()).unwrap();
        let config = crate::config::parse(Path::new("x.conf"), config.as_bytes()).unwrap();
        let parts = HookThread {
            hooks: hooks.clone(),
            jobs,
            config: Arc::new(ArcSwap::from_pointee(config)),
            metrics: Arc::new(Metrics::new(1)),
            events: sinks.pop().unwrap(),
            done: None,
            missed: Missed::default(),
        };
        let running = Running::new(parts);
        Lab { running, _log: log, hooks }
    }

    fn command(number: u8, words: &[&str]) -> Command {
        Command {
            words: words.iter().map(|word| word.as_bytes().into()).collect(),
            hardware: Hardware::ethernet([2, 0, 0, 0, 0, number]),
            address: Ipv4Addr::new(10, 0, 0, number),
        }
    }

    impl Lab {
        /// Until all that waits has run: started, failed and killed.
        fn finish(&mut self) -> [u64; 3] {
            while !(self.running.programs.is_empty() && self.running.waiting.is_empty()) {
                self.running.look(Instant::now());
                self.running.begin();
                thread::sleep(Duration::from_millis(1));
            }
            let hooks = &self.running.parts.metrics.hooks;
            [hooks.started.get(), hooks.failed.get(), hooks.killed.get()]
        }
    }

    #[test]
    fn arguments_are_given_as_they_are_and_the_environment_is_clean() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script =
            "{ pwd; env | grep -v '^_=\\|^PWD=\\|^SHLVL='; printf '[%s]' \"$@\"; } > \"$0\"";
        let mut lab = lab();
        let words = ["sh", "-c", script, out.to_str().unwrap(), "a b", "$(id)", "", "*;'\""];
        lab.running.waiting.push_back((command(1, &words), None));
        assert_eq!(lab.finish(), [1, 0, 0]);
        let text = std::fs::read_to_string(out).unwrap();
        assert_eq!(text, format!("/\nPATH={PATH}\n[a b][$(id)][][*;'\"]"));
    }

    #[test]
    fn what_fails_and_what_cannot_be_started_is_counted() {
        let mut lab = lab();
        for words in [&["false"][..], &["/nowhere/x"], &["sh", "-c", "kill -9 $$"], &["true"]] {
            lab.running.waiting.push_back((command(1, words), None));
        }
        assert_eq!(lab.finish(), [3, 3, 0]);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children_and_holds_nobody_else_up() {
        let mut lab = lab();
        lab.running.waiting.push_back((command(1, &["sh", "-c", "sleep 600 & sleep 600"]), None));
        lab.running.waiting.push_back((command(1, &["false"]), None));
        lab.running.waiting.push_back((command(2, &["true"]), None));
        lab.running.begin();
        // The second one waits for the first one, which is of the same address.
        assert_eq!((lab.running.programs.len(), lab.running.waiting.len()), (2, 1));
        let group = Pid::from_raw(lab.running.programs[0].child.id().cast_signed()).unwrap();
        while lab.running.programs.len() > 1 {
            lab.running.look(Instant::now());
            thread::sleep(Duration::from_millis(1));
        }
        lab.running.look(Instant::now() + LIMIT);
        assert_eq!(lab.finish(), [3, 2, 1]);
        let gone = || rustix::process::test_kill_process_group(group).is_err();
        while !gone() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    const AT_END: &str =
        r#"on expiry { execute("end", binary-to-ascii(10, 8, ".", leased-address)); }"#;

    impl Lab {
        /// An end for which something is done.
        fn end(&self, number: u8) -> Ended {
            let config = self.running.parts.config.load();
            Ended { block: config.dhcp.blocks[0].0, ..ended(number, 7) }
        }

        /// What waits once another job was received, each a word and the number of its address.
        fn receive(&mut self) -> Vec<(String, u8)> {
            assert!(self.running.receive());
            let text = |command: &Command| String::from_utf8_lossy(&command.words[0]).into_owned();
            let of = |(command, _): (Command, _)| (text(&command), command.address.octets()[3]);
            self.running.waiting.drain(..).map(of).collect()
        }
    }

    #[test]
    fn a_lease_that_ended_while_there_was_no_server_ends_before_the_next_one_of_its_address() {
        let mut lab = lab_of(AT_END);
        lab.running.parts.missed = Missed::new([3, 1, 2].map(|number| lab.end(number)).to_vec());
        let word = |word: &str, number| (word.to_owned(), number);
        // More jobs wait than what was missed goes before.
        for _ in 0..=BACKLOG / 2 {
            assert!(lab.hooks.ask(Job::Run(command(2, &["commit"]))));
        }
        assert_eq!(lab.receive(), [word("end", 2), word("commit", 2)]);
        assert_eq!(lab.receive(), [word("commit", 2)]);
        // Fewer do.
        assert_eq!(lab.receive(), [word("end", 3)]);
        assert_eq!(lab.receive(), [word("end", 1)]);
        assert_eq!(lab.receive(), [word("commit", 2)]);
    }

    #[test]
    fn a_lease_that_goes_on_after_its_end_has_no_other_end() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ended"), "10.0.0.1 7\n").unwrap();
        let mut lab = lab_of(AT_END);
        let done = Done::open(directory.path(), true, &mut Vec::new(), |_| Some(7));
        lab.running.parts.done = Some(done);
        let word = |number| ("end".to_owned(), number);
        for number in [1, 2] {
            assert!(lab.hooks.ask(Job::End(Box::new(lab.end(number)))));
        }
        assert_eq!((lab.receive(), lab.receive()), (vec![], vec![word(2)]));
        let renewed = Ended { version: 8, ..lab.end(1) };
        assert!(lab.hooks.ask(Job::End(Box::new(renewed))));
        assert_eq!(lab.receive(), [word(1)]);
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted() {
        let (hooks, jobs) = Hooks::new();
        let job = || Job::Run(command(1, &["true"]));
        let taken = (0..5000).filter(|_| hooks.ask(job())).count();
        assert_eq!((taken, hooks.dropped()), (jobs.len(), 5000 - taken as u64));
        assert!(taken >= 1000);
        assert!(Hooks::unheard().ask(job()));
    }
}
