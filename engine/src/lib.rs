//! The bootstorm server: DHCP, TFTP and leases for machines that boot from the network.

pub mod clock;
pub mod config;
pub mod control;
pub mod dhcp;
pub mod event;
pub mod explain;
pub mod hashing;
pub mod interfaces;
pub mod lease_files;
pub mod leases;
pub mod live_hosts;
pub mod liveness;
pub mod log;
pub mod metrics;
pub mod omapi;
pub mod privileges;
pub mod probe;
pub mod quirks;
pub mod recent;
pub mod serve;
pub mod service_manager;
pub mod shard;
pub mod signals;
pub mod snapshot;
pub mod terminal;
pub mod tftp;
