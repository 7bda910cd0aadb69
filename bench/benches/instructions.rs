//! How many instructions one DORA costs a shard under each configuration, beside the empty one.
//!
//! ```text
//! cargo bench -p bootstorm-bench --bench instructions            # all of them
//! cargo bench -p bootstorm-bench --bench instructions -- large   # the empty one and these
//! ```
//!
//! It runs itself under callgrind (package valgrind). What a function costs is then in
//! `target/instructions/NAME.out`, for `callgrind_annotate`.

mod lab;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use lab::{BATCH, CONFIGURATIONS, Machines};

/// Machines that boot while instructions are counted.
const BOOTS: u32 = 2048;
/// What is counted, each with all that it calls.
const STEPS: [&str; 3] = ["discover", "request", "acks_leave"];
/// Where these functions are.
const LAB: &str = "instructions::lab::Lab::";
/// Says to the program that it is under callgrind.
const UNDER_CALLGRIND: &str = "--under-callgrind";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [first, name] = words.as_slice()
        && first == UNDER_CALLGRIND
    {
        return boot(name);
    }
    let names = CONFIGURATIONS.map(|(name, _)| name);
    let known = |word: &String| names.contains(&word.as_str());
    if let Some(word) = words.iter().find(|word| !known(word)) {
        let names = names.join(", ");
        return Err(format!("no configuration is called {word}: there are {names}").into());
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../instructions");
    fs::create_dir_all(&directory)?;
    println!("{:12} {:>9} {:>9} {:>9} {:>9}", "", "DISCOVER", "REQUEST", "ACK sent", "of empty");
    let mut empty = None;
    for (place, name) in names.into_iter().enumerate() {
        if place > 0 && !words.is_empty() && words.iter().all(|word| word != name) {
            continue;
        }
        let steps = count(name, &directory.join(format!("{name}.out")))?;
        let all = steps.iter().sum::<u64>() as f64;
        let of_empty = all / *empty.get_or_insert(all);
        let [discover, request, sent] = steps;
        println!("{name:12} {discover:9} {request:9} {sent:9} {of_empty:9.3}");
    }
    Ok(())
}

/// Boots machines; the instructions before [`counted`] do not count.
fn boot(name: &str) -> Result<(), Box<dyn Error>> {
    let (_, config) =
        CONFIGURATIONS.iter().find(|(own, _)| *own == name).ok_or("no such configuration")?;
    counted(Machines::new(&config()));
    Ok(())
}

#[inline(never)]
fn counted(mut machines: Machines) {
    for _ in 0..BOOTS / BATCH {
        machines.boot();
    }
}

/// Instructions of each step for one machine.
fn count(name: &str, out: &PathBuf) -> Result<[u64; 3], Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--compress-strings=no",
        "--zero-before=instructions::counted",
    ]);
    valgrind.args(STEPS.map(|step| format!("--toggle-collect={LAB}{step}")));
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(env::current_exe()?).args([UNDER_CALLGRIND, name]);
    let ran = valgrind.stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let ran = ran.map_err(|error| format!("valgrind: {error}; install the package valgrind"))?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into());
    }
    let text = fs::read_to_string(out)?;
    let mut steps = [0; 3];
    for (of_all, step) in steps.iter_mut().zip(STEPS) {
        *of_all = inclusive(&text, step) / u64::from(BOOTS);
    }
    Ok(steps)
}

/// Instructions of a function of the lab and of all that it calls, out of a file of callgrind:
/// below `fn=` and the name stand lines of a position and a number, for its own and for its calls.
fn inclusive(text: &str, step: &str) -> u64 {
    let name = format!("{LAB}{step}");
    let mut is_it = false;
    let mut all = 0;
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            is_it = function == name;
        } else if is_it && line.starts_with(|first: char| "0123456789+-*".contains(first)) {
            all += line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        }
    }
    all
}
