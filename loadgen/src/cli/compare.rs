//! `compare`: two reports side by side.

use std::io::IsTerminal;

use super::args::CompareArgs;
use super::{Failure, MET};
use crate::report;

pub(super) fn run(args: &CompareArgs) -> Result<u8, Failure> {
    let before = report::json::read(&args.before)?;
    let after = report::json::read(&args.after)?;
    let colours = std::io::stdout().is_terminal();
    print!("{}", report::compare::compare(&before, &after).render(colours));
    Ok(MET)
}
