//! `bootstorm man`

use std::io::Write;
use std::path::PathBuf;

use super::{Answer, Failure, Outcome};

/// Write the manual pages
///
/// Without a directory the main page goes to standard output: bootstorm man | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Where to write bootstorm.1 and a page for every command
    directory: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        match self.directory {
            None => clap_mangen::Man::new(super::command()).render(&mut *out)?,
            Some(directory) => std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(super::command(), &directory))
                .map_err(|error| Failure::of(directory.display(), error))?,
        }
        Ok(Answer::Yes)
    }
}
