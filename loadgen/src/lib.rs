//! `bootstorm-load` plays thousands of booting machines against any DHCP and TFTP server, and judges the answers.
//!
//! ```text
//!   scenario ─┐
//!   firmware ─┼─> fleet ──> (packet engine) ──> the server
//!   seed ─────┘     │  ▲            │
//!                   ▼  └────────────┘
//!          tally, judge, health ──> verdict ──> report
//! ```

pub mod board;
pub mod cli;
pub mod firmware;
pub mod fleet;
pub mod guard;
pub mod health;
pub mod http;
pub mod identity;
pub mod job;
pub mod judge;
pub mod live;
pub mod memberships;
mod opening;
pub mod report;
pub mod routes;
pub mod run;
pub mod scenario;
pub mod search;
pub mod seed;
pub mod slo;
pub mod tally;
pub mod units;
mod verdict;
