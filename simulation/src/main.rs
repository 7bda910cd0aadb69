//! `simulate`: plays the whole server under a virtual clock, with seeded faults.

use std::process::ExitCode;

fn main() -> ExitCode {
    bootstorm_simulation::cli::main()
}
