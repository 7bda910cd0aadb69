//! `bootstorm completions`

use std::io::Write;

use clap_complete::Shell;

use super::{Answer, Outcome};

/// Print completions for a shell
///
/// For bash: bootstorm completions bash > /usr/share/bash-completion/completions/bootstorm
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        // Into memory first: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "bootstorm", &mut script);
        out.write_all(&script)?;
        Ok(Answer::Yes)
    }
}
