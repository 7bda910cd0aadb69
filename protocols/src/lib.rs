//! DHCP and TFTP as bytes and rules: no I/O, no clock, no thread, no lock; parsing and writing
//! allocate nothing.

#![warn(clippy::must_use_candidate, clippy::missing_errors_doc)]

pub mod dhcpv4;
pub mod frame;
pub mod icmp;
pub mod tftp;
pub mod time;
pub mod wire;
