//! The whole server under a virtual clock: the product's own shards, rules, leases and TFTP on a
//! simulated network, with a faulty disk, faulty clocks, reloads and restarts, and machines that
//! boot, renew, move and misbehave. One seed determines everything that happens.

mod checks;
pub mod cli;
mod clients;
mod committer;
mod disk;
mod events;
mod files;
mod lifecycle;
mod machine;
mod maker;
mod operator;
mod oracle;
mod pings;
mod play;
mod program;
mod random;
mod server;
mod shrink;
mod site;
mod story;
mod transfers;
mod wire;
mod world;
