//! `bootstorm check`

use std::io::{self, IsTerminal, Write};

use bootstorm::config::{self, Pool};
use bootstorm::probe;
use bootstorm::terminal::escaped;
use bootstorm::tftp::Map;

use super::{Answer, ConfigArg, Failure, GivenArg, Outcome, rendered};

/// Addresses left out of pools that are named, at most.
const NOTES: usize = 20;

/// Check a configuration without touching anything
///
/// Reads the configuration as `serve` and `reload` would. What is wrong is shown with file, line
/// and column, the line itself underlined, and what to write instead (exit 78). What is only
/// suspicious, as a boot file that is missing under the TFTP root or an interface that this host
/// has not, is shown as a warning (exit 0).
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    given: GivenArg,
}

impl Check {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let config =
            config::check(&self.config.config, &self.given.command_line()).map_err(rendered)?;
        let colour = io::stderr().is_terminal();
        if let Some(tftp) = &config.tftp
            && let Err(error) = Map::new(&tftp.map)
        {
            let problem = tftp.map[error.index].problem(error.problem);
            return Err(Failure::Configuration(problem.render(colour)));
        }
        for warning in &config.warnings {
            // A closed standard error does not make the configuration worse.
            let _closed = io::stderr().write_all(warning.render(colour).as_bytes());
        }
        if config.more_warnings > 0 {
            let _closed = writeln!(io::stderr(), "... and {} more warnings", config.more_warnings);
        }
        let dhcp = &config.dhcp;
        // Without them the notes tell less.
        let interfaces = bootstorm_net::interfaces().unwrap_or_default();
        let left_out = dhcp.left_out(&probe::addresses(&interfaces));
        let range = |pool: &Pool| u64::from(pool.range.1.to_bits() - pool.range.0.to_bits()) + 1;
        let addresses = dhcp.pools.iter().map(range).sum::<u64>() - left_out.len() as u64;
        writeln!(
            out,
            "{}: good: {}, {} with {}, {}, {}; {}",
            self.config.config.display(),
            count(dhcp.subnets.len() as u64, "subnet"),
            count(dhcp.pools.len() as u64, "pool"),
            count(addresses, "address"),
            count(dhcp.hosts.len() as u64, "host"),
            match &config.tftp {
                Some(tftp) => format!("TFTP from {}", escaped(&tftp.root.display().to_string())),
                None => "no TFTP".to_owned(),
            },
            count((config.warnings.len() + config.more_warnings) as u64, "warning"),
        )?;
        if !left_out.is_empty() {
            let told =
                left_out.iter().take(NOTES).map(|(address, what)| format!("{address} ({what})"));
            let more = left_out.len().saturating_sub(NOTES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(out, "left out of pools: {}{more}", told.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(tftp) = &config.tftp {
            let names: Vec<&str> = tftp.quirks.iter().map(|quirk| &*quirk.name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            writeln!(out, "TFTP quirks in force: {}", escaped(&names))?;
        }
        Ok(Answer::Yes)
    }
}

/// `1 pool`, `2 pools`, `3 addresses`
fn count(number: u64, noun: &str) -> String {
    let plural = if noun.ends_with('s') { "es" } else { "s" };
    format!("{number} {noun}{}", if number == 1 { "" } else { plural })
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!(count(1, "address"), "1 address");
        assert_eq!(count(2, "address"), "2 addresses");
        assert_eq!(count(0, "pool"), "0 pools");
    }
}
