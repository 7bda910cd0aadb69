//! DHCP and TFTP as bytes and rules: no I/O, no clock, no thread, no lock; parsing and writing
//! allocate nothing.

pub mod dhcpv4;
pub mod frame;
pub mod icmp;
pub mod tftp;
pub mod time;
pub mod wire;
