//! DHCPv4 on the wire, seen from outside: layouts by hand, captures of real peers, hostile bytes,
//! the traps other servers fell into, properties, and a second implementation's opinion.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod common;
mod golden;
mod hostile;
mod layout;
mod options;
mod properties;
mod second_opinion;
mod traps;
