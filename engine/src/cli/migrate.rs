//! `bootstorm migrate`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bootstorm::config;

use super::import::{How, import};
use super::{Answer, Failure, Outcome, rendered};

/// Move in from another DHCP server
///
/// With FILE, a dhcpd.conf, prints it as TOML, and to standard error a report of what was taken,
/// changed and dropped; the file itself is served as it is, too. With --leases, takes over the
/// other server's leases before the first start, as `leases import` does: stop the other server,
/// run this, start this one. docs/MOVING.md has the order of all steps, and the way back.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// Its configuration, in dhcpd's language
    #[arg(value_name = "FILE", required_unless_present = "leases")]
    configuration: Option<PathBuf>,
    /// Write bootstorm.toml and report.txt into this directory
    #[arg(short, long, value_name = "DIR", requires = "configuration")]
    output: Option<PathBuf>,
    /// Its lease files: one of a server alone, both of a failover pair
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "configuration")]
    leases: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

impl Migrate {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        match &self.configuration {
            Some(path) => translate(path, self.output.as_deref(), out),
            None => import(&self.leases, &self.how, out),
        }
    }
}

/// Prints a configuration as TOML, or writes it and the report into a directory.
fn translate(path: &Path, output: Option<&Path>, out: &mut dyn Write) -> Outcome {
    let migration = config::migrate(path).map_err(rendered)?;
    match output {
        None => {
            out.write_all(migration.toml.as_bytes())?;
            // A closed standard error does not make the configuration worse.
            let _closed = io::stderr().write_all(migration.report.as_bytes());
        }
        Some(directory) => {
            let files = [("bootstorm.toml", &migration.toml), ("report.txt", &migration.report)];
            for (name, text) in files {
                let path = directory.join(name);
                std::fs::write(&path, text).map_err(|error| Failure::of(path.display(), error))?;
                writeln!(out, "{}", path.display())?;
            }
        }
    }
    Ok(Answer::Yes)
}
