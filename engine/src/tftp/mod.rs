//! TFTP: from requests to transfers. One [`TftpServer`] for all shards, one [`TftpShard`] for each.
//!
//! ```text
//!   port 69 --request--> shard --job--> loader threads: map rules, path rules, open, frame
//!                          ^                 |
//!                          +---completion----+--> image: framed blocks that all transfers share
//!   data ports <--window = range of a chunk-- transfer <--ACK--
//! ```
//! A shard never touches a file, so a slow disk delays transfers and nothing else. A window is sent
//! from the image, in as few sends as the kernel's segmentation allows. The rules of the protocol
//! are in `bootstorm_protocols::tftp`.

mod admission;
mod frame;
mod groups;
mod images;
mod loader;
mod map;
mod outcomes;
mod paths;
mod quirks;
mod rate;
mod reader;
mod reason;
mod receiving;
mod requests;
mod search;
mod sending;
mod service;
mod shard;
mod sockets;
mod streams;
#[cfg(test)]
mod tests;
mod transfers;
mod turns;
mod upload;
mod watch;
mod windows;

pub use map::{Map, MapError};
pub(crate) use reason::REASONS;
pub use service::{Prepared, TftpError, TftpServer};
pub use shard::TftpShard;
pub use sockets::TftpPorts;
