//! The records of many batches, by address.

use super::batch::{Fields, Record};
use super::scan::Chain;
use crate::leases::Clock;
use crate::leases::clock;
use crate::leases::key::Key;

/// For each address the record that counts: the highest version, of equal ones the last.
#[derive(Default)]
pub(super) struct Records {
    content: Vec<u8>,
    sorted: Vec<Entry>,
    /// The last clock that was written in each boot.
    pub(super) clocks: Vec<Clock>,
    /// The highest version, over all records.
    pub(super) version: u64,
    /// A batch that is whole and makes no sense.
    unreadable: Option<u64>,
}

struct Entry {
    key: Key,
    version: u64,
    at: usize,
    /// `None`: the address was erased.
    length: Option<usize>,
}

impl Records {
    pub(super) fn of(chain: &Chain<'_>) -> Self {
        let mut records = Self::default();
        for (segment, batch) in &chain.batches {
            if records.add(segment.content(batch)).is_none() {
                records.unreadable = Some(batch.number);
            }
        }
        // Stable: of equal versions the later stays behind.
        records.sorted.sort_by_key(|entry| (entry.key, entry.version));
        records.sorted.reverse();
        records.sorted.dedup_by_key(|entry| entry.key);
        records.sorted.reverse();
        records
    }

    fn add(&mut self, content: &[u8]) -> Option<()> {
        let mut fields = Fields(content);
        clock::saw(&mut self.clocks, fields.clock()?);
        while let Some(record) = fields.record().ok()? {
            let Record { key, version, value } = record;
            let (at, length) = (self.content.len(), value.map(<[u8]>::len));
            self.content.extend_from_slice(value.unwrap_or_default());
            self.sorted.push(Entry { key, version, at, length });
            self.version = version.max(self.version);
        }
        Some(())
    }

    /// What is wrong, if anything is.
    pub(super) fn unreadable(&self) -> Option<String> {
        self.unreadable.map(|number| format!("batch {number} makes no sense"))
    }

    /// By rising key, each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.sorted.iter().map(|entry| Record {
            key: entry.key,
            version: entry.version,
            value: entry.length.map(|length| &self.content[entry.at..entry.at + length]),
        })
    }
}
