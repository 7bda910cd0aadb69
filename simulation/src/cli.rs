//! The command line of `simulate`.

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::oracle::{Invariant, time};
use crate::play::play;
use crate::shrink::shrink;
use crate::story::{Story, Trouble, Troubles};
use crate::transfers::write_files;

/// Plays the whole server under a virtual clock, with seeded faults.
#[derive(Parser, Debug)]
#[command(name = "simulate", version)]
struct Arguments {
    /// Seeds to play: a number, or a range as in 0..1000.
    #[arg(long, default_value = "0..1000", value_parser = range)]
    seeds: Range<u64>,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on after a violation; each kind is told once, with its shortest story.
    #[arg(long)]
    go_on: bool,
    /// Play each seed so often, and compare the runs.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// All that may go wrong, also where the server is known to fail.
    #[arg(long)]
    everything: bool,
    /// What may go wrong, and nothing else.
    #[arg(long, value_delimiter = ',', value_parser = trouble)]
    only: Vec<Trouble>,
    /// What does not go wrong.
    #[arg(long, value_delimiter = ',', value_parser = trouble)]
    without: Vec<Trouble>,
    /// Tell the story of each seed.
    #[arg(long)]
    tell: bool,
    /// Do not look for the shortest story.
    #[arg(long)]
    no_shrink: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let number =
        |text: &str| text.replace('_', "").parse::<u64>().map_err(|error| error.to_string());
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|one| one..one + 1),
    }
}

fn trouble(name: &str) -> Result<Trouble, String> {
    let known = Trouble::ALL.iter().find(|trouble| trouble.name() == name);
    known.copied().ok_or_else(|| {
        let names: Vec<_> = Trouble::ALL.iter().map(|trouble| trouble.name()).collect();
        format!("no such trouble; there are {}", names.join(", "))
    })
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<bool> {
    let root = tempfile::tempdir()?;
    write_files(root.path())?;
    let all = match (arguments.everything, arguments.only.is_empty()) {
        (true, _) => Troubles::all(),
        (false, true) => Troubles::withstood(),
        (false, false) => Troubles::none(),
    };
    let troubles = arguments.only.iter().fold(all, |troubles, trouble| troubles.with(*trouble));
    let troubles =
        arguments.without.iter().fold(troubles, |troubles, trouble| troubles.without(*trouble));
    let begun = Instant::now();
    let end = arguments.seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let (mut seeds, mut steps, mut datagrams) = (0, 0, 0);
    let mut found: Vec<(Invariant, u64)> = Vec::new();
    for seed in arguments.seeds.clone() {
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        let story = Story::of(seed, troubles);
        let outcome = play(&story, root.path(), arguments.tell);
        seeds += 1;
        steps += outcome.steps;
        datagrams += outcome.datagrams;
        outcome.told.iter().for_each(|sentence| println!("{sentence}"));
        for _ in 1..arguments.times {
            let again = play(&story, root.path(), false);
            if again.hash != outcome.hash {
                println!("seed {seed}: {}: two runs differ", Invariant::Repeats.name());
                found.push((Invariant::Repeats, seed));
            }
        }
        let Some(violation) = outcome.violation else { continue };
        let known = found.iter().any(|(invariant, _)| *invariant == violation.invariant);
        found.push((violation.invariant, seed));
        println!("seed {seed}: {violation}");
        if !known && !arguments.no_shrink {
            let (short, attempts) = shrink(&story, violation.invariant, root.path());
            let machines = short.machines.iter().filter(|plan| !plan.absent).count();
            let count = short.events.len();
            println!(
                "The shortest story found in {attempts} attempts: {machines} machines, {count} events."
            );
            let outcome = play(&short, root.path(), true);
            outcome.told.iter().for_each(|sentence| println!("{sentence}"));
            if let Some(violation) = outcome.violation {
                println!(
                    "{:>12}  VIOLATED: {}: {}",
                    time(violation.at),
                    violation.invariant.name(),
                    violation.detail
                );
            }
        }
        if !arguments.go_on {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {seconds:.1} s ({:.0} a minute), {steps} steps, {datagrams} datagrams ({:.0} a second)",
        seeds as f64 * 60.0 / seconds,
        datagrams as f64 / seconds,
    );
    let mut kinds: Vec<Invariant> = found.iter().map(|(invariant, _)| *invariant).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of_kind: Vec<u64> = found
            .iter()
            .filter(|(invariant, _)| *invariant == kind)
            .map(|(_, seed)| *seed)
            .collect();
        let first: Vec<_> = of_kind.iter().take(8).map(u64::to_string).collect();
        println!("{}: {} seeds, {}", kind.name(), of_kind.len(), first.join(" "));
    }
    Ok(found.is_empty())
}
