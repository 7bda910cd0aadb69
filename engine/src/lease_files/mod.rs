//! Leases as other programs keep them in files: dhcpd.leases(5) of ISC dhcpd, the memfile of Kea,
//! and a CSV file of our own. All of them are read and written.
//!
//! ```text
//! file ──reader──> Item (Entry, ...) ──merge──> Taken ──import──> Lease ──> lease store
//! file <──writer── Entry <──────────────────────────────────────  Lease
//! ```
//! An [`Entry`] is what any of these files says of one address. Reading is streaming: a file of any
//! size takes as much memory as it has addresses that a server of this configuration could give.

mod billing;
mod csv;
mod dhcpd;
mod entry;
pub(crate) mod host_statements;
mod hosts;
mod import;
mod kea;
mod read;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use billing::Billings;
pub(crate) use csv::unescape;
pub(crate) use dhcpd::{StatementEnd, StatementPart, statements};
pub use entry::{Binding, Entry, FileTime, Variable};
pub use hosts::take_hosts;
pub use import::Taken;
pub use read::{FileError, Item, LiveHost, has_leases, read};
pub use report::{Report, Tally};
pub use store::{Existing, ImportError, Imported, Plan, Store, broken_off};
pub use write::{Format, Writer};
