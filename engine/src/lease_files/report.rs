//! What became of the leases of a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Format;

/// Examples that are named for each reason.
const EXAMPLES: usize = 3;

/// How often something was met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

/// What became of the leases of files: what was taken, what was changed, what was dropped, and why.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Each file, its format, and how many records it has.
    pub files: Vec<(PathBuf, Format, u64)>,
    /// Leases that are valid, the infinite ones among them.
    pub active: u64,
    /// Leases that have ended, whose clients get them again if they are free.
    pub ended: u64,
    /// Addresses that nobody gets for a while.
    pub quarantined: u64,
    /// Hosts that OMAPI made, which are live hosts now.
    pub hosts: u64,
    /// What is otherwise than in the file, by what it is.
    pub changed: BTreeMap<String, Tally>,
    /// What was left out, by what it is.
    pub dropped: BTreeMap<String, Tally>,
}

impl Report {
    /// Something is otherwise than in the file.
    pub fn change(&mut self, what: impl Into<String>, example: impl ToString) {
        note(self.changed.entry(what.into()).or_default(), example);
    }

    /// Something was left out.
    pub fn drop(&mut self, what: impl Into<String>, example: impl ToString) {
        note(self.dropped.entry(what.into()).or_default(), example);
    }

    /// How many leases were taken.
    pub fn taken(&self) -> u64 {
        self.active + self.ended + self.quarantined
    }

    /// The report for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (file, format, records) in &self.files {
            lines.push(format!("read: {}: {records} records ({})", file.display(), format.name()));
        }
        lines.push(format!(
            "taken: {} leases: {} active, {} that have ended (for their former clients), {} in \
             quarantine",
            self.taken(),
            self.active,
            self.ended,
            self.quarantined
        ));
        if self.hosts > 0 {
            lines.push(format!("taken: {} hosts made by OMAPI, as live hosts", self.hosts));
        }
        for (word, tallies) in [("changed", &self.changed), ("dropped", &self.dropped)] {
            for (what, Tally { count, examples }) in tallies {
                let mut line = format!("{word}: {count} × {what}");
                if !examples.is_empty() {
                    let more = if *count > examples.len() as u64 { ", ..." } else { "" };
                    line.push_str(&format!(" ({}{more})", examples.join(", ")));
                }
                lines.push(line);
            }
        }
        lines
    }
}

fn note(tally: &mut Tally, example: impl ToString) {
    tally.count += 1;
    if tally.examples.len() < EXAMPLES {
        let example = example.to_string();
        if !example.is_empty() {
            tally.examples.push(example);
        }
    }
}
