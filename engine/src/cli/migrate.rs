//! `bootstorm migrate`

use std::io::Write;
use std::path::PathBuf;

use super::Outcome;
use super::import::{How, import};

/// Move in from another DHCP server
///
/// Takes over its leases before the first start, as `leases import` does: stop the other server,
/// run this, start this one. docs/MOVING.md has the order of all steps, and the way back.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// Its lease files: one of a server alone, both of a failover pair
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    leases: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

impl Migrate {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        import(&self.leases, &self.how, out)
    }
}
