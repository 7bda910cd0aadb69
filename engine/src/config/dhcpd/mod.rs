//! Reading ISC dhcpd's configuration language (dhcpd.conf(5), dhcp-options(5), dhcp-eval(5)).
//!
//! `cursor` gives tokens; `grammar`, `options`, `declarations` and `checked` put them together as
//! dhcpd's own parser does (`ast`). `statements` has expressions and executable statements read.
//! `reader` knows what names stand for, and `value` encodes values by their types (`format`,
//! `spaces`, `standard`). `table` says of each statement what becomes of it. `lower` makes the
//! model of what was read.
//!
//! Memory and time are bounded: declarations and files are nested at most 50 deep, values and files
//! have limits, and look-ups of names end after ten seconds together.

mod ast;
mod checked;
mod cursor;
mod declarations;
mod format;
mod grammar;
mod language;
mod lower;
mod migrate;
mod options;
mod reader;
mod resolve;
mod spaces;
mod standard;
mod statements;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod time;
mod value;

use std::path::PathBuf;

use super::Omapi;
use super::builder::Builder;
use super::definitions::Definitions;
use super::problem::Problems;
use super::source::{FileState, Files};
pub(super) use language::is_dhcpd;
pub use migrate::{Migration, migrate};
use reader::Reader;
pub(super) use resolve::Resolver;
use spaces::Definition;

/// What a file says.
pub(super) struct Read {
    pub(super) builder: Builder,
    /// The options that it defines, for hosts that stand elsewhere.
    pub(super) definitions: Definitions,
    /// Where dhcpd keeps its leases.
    pub(super) lease_file: PathBuf,
    /// Where OMAPI is spoken.
    pub(super) omapi: Option<Omapi>,
}

/// Reads a file and all that it includes.
pub(super) fn read(
    path: PathBuf,
    (bytes, state): (Vec<u8>, Option<FileState>),
    resolver: &mut Resolver,
    files: &mut Files,
    problems: &mut Problems,
) -> Read {
    let mut reader = Reader::new(files, problems, resolver);
    let root = reader.read(path, bytes, state);
    let Reader { spaces, dhcp, classes, variables, asks_ports, defined, keys, .. } = reader;
    let mut definitions = Definitions::default();
    for (space, Definition { name, code, format }, _) in &defined {
        let space = spaces.get(*space);
        definitions.add(name, *code, &format.to_string(), Some(&space.name));
    }
    let mut builder = lower::lower(&root, &classes, (&spaces, dhcp), problems);
    builder.dhcp.spaces = spaces.model();
    builder.dhcp.variables = variables;
    builder.dhcp.asks_ports |= asks_ports;
    let omapi = lower::omapi(&root, &keys, problems);
    Read { builder, definitions, lease_file: lower::lease_file(&root), omapi }
}
