//! `fuzz`: everything that reads what others write, fed with what nobody should write.
//!
//! One seed determines all cases of a target. They run in a process of their own with little
//! memory, which ends with the first panic; the process that started it sees which case that was,
//! and ends it when one case takes too much processor time.

mod mutation;
mod random;
mod targets;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use random::Random;

/// Address space of the process that runs the cases, in bytes. Reading a configuration takes 64 MiB
/// of it for the stack of a thread.
const MEMORY: u64 = 768 << 20;

/// Feeds what reads files and messages of others with damaged ones.
#[derive(Parser, Debug)]
#[command(name = "fuzz", version)]
struct Arguments {
    /// Targets; all without any
    targets: Vec<String>,
    /// Stop after so many seconds for each target
    #[arg(long)]
    seconds: Option<u64>,
    /// Cases of each target; without --seconds 1,000
    #[arg(long)]
    cases: Option<u64>,
    /// All cases follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first case
    #[arg(long, default_value_t = 0)]
    case: u64,
    /// A case that takes more processor time is a fault, in seconds
    #[arg(long, default_value_t = 60)]
    longest: u64,
    /// Write the bytes of the first case to the standard output, and feed nothing
    #[arg(long)]
    show: bool,
    /// Run the cases here, and write the number of each into this file before
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut targets = arguments.targets.clone();
    if targets.is_empty() {
        targets = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    let mut good = true;
    for name in targets {
        let result = match &arguments.inside {
            Some(progress) => inside(&name, progress, &arguments).map(|()| true),
            None => outside(&name, &arguments),
        };
        match result {
            Ok(no_fault) => good &= no_fault,
            Err(error) => {
                eprintln!("fuzz: {name}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the cases of a target in another process; whether there was no fault.
fn outside(name: &str, arguments: &Arguments) -> io::Result<bool> {
    if targets::named(name).is_none() {
        let names: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
        return Err(io::Error::other(format!("no such target; there are {}", names.join(", "))));
    }
    let progress = tempfile::NamedTempFile::new()?;
    progress.as_file().write_all_at(&arguments.case.to_le_bytes(), 0)?;
    let mut command = Command::new(std::env::current_exe()?);
    // Each thread would reserve address space of its own.
    command.env("MALLOC_ARENA_MAX", "1").stdin(Stdio::null());
    command.arg(name).arg("--inside").arg(progress.path());
    command.args(["--seed", &arguments.seed.to_string()]);
    command.args(["--case", &arguments.case.to_string()]);
    if arguments.show {
        command.arg("--show");
    }
    for (key, value) in [("--seconds", arguments.seconds), ("--cases", arguments.cases)] {
        if let Some(value) = value {
            command.args([key, &value.to_string()]);
        }
    }
    let mut child = command.spawn()?;
    let longest = Duration::from_secs(arguments.longest);
    let (ended, case) = watch(&mut child, progress.as_file(), longest)?;
    let how = match ended {
        Some(status) if status.success() => {
            if !arguments.show {
                println!("{name}: cases {} to {case}: no fault", arguments.case);
            }
            return Ok(true);
        }
        Some(status) => match status.signal() {
            Some(signal) => format!("ends with signal {signal}"),
            None => format!("ends with {status}"),
        },
        None => format!("takes more than {} s", arguments.longest),
    };
    println!(
        "{name}: case {case} {how}; again: fuzz {name} --seed {} --case {case} --cases 1; its \
         bytes: the same with --show",
        arguments.seed
    );
    Ok(false)
}

/// Ticks of a second in /proc.
const TICKS: u64 = 100;
/// A case that waits for something may take so many times the longest time.
const WAITING: u32 = 30;

/// Waits until the cases are through, or one of them takes too long. How it ended, and with which
/// case.
fn watch(
    child: &mut Child,
    progress: &File,
    longest: Duration,
) -> io::Result<(Option<ExitStatus>, u64)> {
    let (mut last, mut since, mut used) = (None, Instant::now(), Duration::ZERO);
    loop {
        let status = child.try_wait()?;
        let mut number = [0; 8];
        progress.read_exact_at(&mut number, 0)?;
        let case = u64::from_le_bytes(number);
        if status.is_some() {
            return Ok((status, case));
        }
        let now = processor_time(child.id()).unwrap_or(used);
        if last != Some(case) {
            (last, since, used) = (Some(case), Instant::now(), now);
        } else if now.saturating_sub(used) > longest || since.elapsed() > longest * WAITING {
            child.kill()?;
            child.wait()?;
            return Ok((None, case));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What all threads of a process have used (proc_pid_stat(5)).
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may have blanks.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Runs the cases.
fn inside(name: &str, progress: &PathBuf, arguments: &Arguments) -> io::Result<()> {
    // A panic in any thread is a fault.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
    let Some(target) = targets::named(name) else { return Ok(()) };
    if arguments.show {
        let input = target.input(&mut Random::of(arguments.seed, arguments.case));
        return io::stdout().write_all(&input);
    }
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), ..getrlimit(Resource::As) })?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) })?;
    let progress = File::options().write(true).open(progress)?;
    let end = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let cases = arguments.cases.or(end.is_none().then_some(1000)).unwrap_or(u64::MAX);
    for case in arguments.case..arguments.case.saturating_add(cases) {
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        progress.write_all_at(&case.to_le_bytes(), 0)?;
        target.feed(&target.input(&mut Random::of(arguments.seed, case)));
    }
    Ok(())
}
