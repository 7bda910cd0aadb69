//! The command line of `bootstorm-load`.

mod args;
mod compare;
mod files;
mod find_limit;
mod play;
mod shell;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command};
use crate::report::Verdict;
use crate::scenario::LIBRARY;

/// The limits that were asked for held.
const MET: u8 = 0;
/// One was missed, or the server did something wrong.
const MISSED: u8 = 1;
/// Nothing was run.
const COULD_NOT_RUN: u8 = 2;
/// It ran, and says nothing about the server.
const INVALID: u8 = 3;
/// A search found a load that is met, and not whether the server can do more.
const LOWER_BOUND: u8 = 4;

/// Anything that ends the program with a message.
type Failure = Box<dyn std::error::Error>;

/// Runs the program with its arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<String> =
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, everything else a mistake.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { COULD_NOT_RUN } else { MET });
        }
    };
    let command = words.join(" ");
    let status = match args.command {
        Command::Dora(dora) => play::dora(&dora, &command),
        Command::Tftp(tftp) => play::tftp(&tftp, &command),
        Command::Storm(storm) => play::storm(&storm, &command),
        Command::FindLimit(limit) => find_limit::run(&limit, &command),
        Command::Compare(files) => compare::run(&files),
        Command::Files(files) => files::run(&files),
        Command::Scenarios { name } => scenarios(name.as_deref()),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::man(&directory),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("bootstorm-load: {failure}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Met => MET,
        Verdict::Missed => MISSED,
        Verdict::Invalid => INVALID,
    }
}

/// Lists the built-in scenarios, or prints one to start an own one from.
fn scenarios(name: Option<&str>) -> Result<u8, Failure> {
    match name {
        None => {
            for built in LIBRARY {
                let scenario = crate::scenario::Scenario::load(built.name, &[])?;
                println!("{:12} {}", built.name, scenario.summary);
            }
        }
        Some(name) => match LIBRARY.iter().find(|built| built.name == name) {
            Some(built) => print!("{}", built.text),
            None => {
                return Err(format!(
                    "no built-in scenario is called `{name}`; `bootstorm-load scenarios` lists them"
                )
                .into());
            }
        },
    }
    Ok(MET)
}
