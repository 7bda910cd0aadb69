//! What the package installs for shells and for `man`.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;
use super::{Failure, MET};

/// Prints completions.
pub(super) fn completions(shell: Shell) -> Result<u8, Failure> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "bootstorm-load", &mut script);
    io::stdout().write_all(&script)?;
    Ok(MET)
}

/// Writes a manual page for the program and each command.
pub(super) fn man(directory: &Path) -> Result<u8, Failure> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(MET)
}
