//! What a datagram costs its sender by each way that Linux has: the ways that the packet engine
//! takes, and those it does not.
//!
//! ```text
//!   cargo run --release -p bootstorm-net --example transmit -- [ROUNDS] [gro] [WORD ...]
//! ```
//! One thread on CPU 0 sends 1472-byte datagrams out of a 64 MiB image, one for each send or 44
//! (UDP_SEGMENT), from a network namespace over a veth pair to another. There a socket's filter
//! drops them after the receiving kernel has done its work, so no receiver limits the rate. With
//! `gro` that socket accepts coalesced datagrams (UDP_GRO). Each round tries all ways in turn. It
//! prints medians, and each way's cost as a part of the plain way's in the same round. With WORDs
//! it tries only ways whose names contain one. Needs root, and removes what it made.

mod echo;
mod namespaces;
mod ring;
mod xdp;

use std::error::Error;
use std::time::{Duration, Instant};

use namespaces::{Namespaces, SEGMENT};

type Failure = Box<dyn Error + Send + Sync>;

/// How long a way is tried in each round.
const SPAN: Duration = Duration::from_millis(300);

/// One way to send.
trait Way {
    /// Sends some datagrams and returns how many.
    fn burst(&mut self) -> Result<u64, Failure>;

    /// What there is to be said of it afterwards.
    fn note(&self) -> String {
        String::new()
    }
}

/// What one way did in one round.
#[derive(Copy, Clone, Debug)]
struct Figures {
    per_second: f64,
    /// Processor time of the whole process for each datagram, in nanoseconds.
    cost: f64,
}

/// How a way is set up.
type Make = Box<dyn Fn(&Namespaces) -> Result<Box<dyn Way>, Failure>>;

fn main() -> Result<(), Failure> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match words.first().map(|word| word.parse::<usize>()) {
        Some(Ok(rounds)) => {
            words.remove(0);
            rounds.max(1)
        }
        _ => 5,
    };
    let gro = words.iter().any(|word| word == "gro");
    words.retain(|word| word != "gro");
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let namespaces = Namespaces::new(gro)?;
    for segments in [1, 44] {
        let ways = ring::ways(segments).into_iter().chain(xdp::ways(segments));
        let ways: Vec<(&str, Make)> =
            ways.filter(|(name, _)| *name == ring::PLAIN || wanted(name)).collect();
        compare(&namespaces, segments, &ways, rounds)?;
    }
    if wanted("napi") {
        echo::compare(&namespaces, rounds)?;
    }
    Ok(())
}

fn compare(
    namespaces: &Namespaces,
    segments: u16,
    ways: &[(&str, Make)],
    rounds: usize,
) -> Result<(), Failure> {
    let mut found: Vec<Result<Vec<Figures>, String>> = ways.iter().map(|_| Ok(vec![])).collect();
    let mut notes = vec![String::new(); ways.len()];
    for _ in 0..rounds {
        for (at, (_, make)) in ways.iter().enumerate() {
            let Ok(figures) = &mut found[at] else { continue };
            match make(namespaces)
                .and_then(|mut way| Ok((run(namespaces, way.as_mut())?, way.note())))
            {
                Ok((figure, note)) => {
                    figures.push(figure);
                    notes[at] = note;
                }
                Err(error) => found[at] = Err(error.to_string()),
            }
        }
    }
    println!("\n| {segments} of {SEGMENT} bytes a send | datagrams/s | ns each | of plain | |");
    println!("| --- | --- | --- | --- | --- |");
    let Some(Ok(plain)) = found.first() else {
        return Err(format!("the plain way failed: {:?}", found.first()).into());
    };
    for (((name, _), figures), note) in ways.iter().zip(&found).zip(&notes) {
        match figures {
            Ok(figures) => {
                let rate = median(figures.iter().map(|figure| figure.per_second));
                let cost = median(figures.iter().map(|figure| figure.cost));
                let pairs = figures.iter().zip(plain);
                let part = median(pairs.map(|(own, plain)| own.cost / plain.cost));
                println!("| {name} | {rate:.0} | {cost:.0} | {part:.2} | {note} |");
            }
            Err(error) => println!("| {name} | | | | {error} |"),
        }
    }
    Ok(())
}

fn run(namespaces: &Namespaces, way: &mut dyn Way) -> Result<Figures, Failure> {
    // Caches, neighbours, page tables.
    for _ in 0..50 {
        way.burst()?;
    }
    let before = namespaces.arrived();
    let (begun, spent) = (Instant::now(), namespaces::processor_time());
    let mut datagrams = 0;
    while begun.elapsed() < SPAN {
        datagrams += way.burst()?;
    }
    let (took, spent) = (begun.elapsed(), namespaces::processor_time() - spent);
    let arrived = u64::from(namespaces.arrived().wrapping_sub(before));
    if !namespaces.counts_together() && arrived < datagrams - datagrams / 20 {
        return Err(format!("of {datagrams} datagrams {arrived} arrived").into());
    }
    Ok(Figures {
        per_second: datagrams as f64 / took.as_secs_f64(),
        cost: spent.as_nanos() as f64 / datagrams as f64,
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
