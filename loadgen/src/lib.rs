//! `bootstorm-load` simulates thousands of booting machines against any DHCP and TFTP server, and
//! checks the answers.
//!
//! ```text
//!   scenario ─┐
//!   firmware ─┼─> clients ──> (packet engine) ──> the server
//!   seed ─────┘     │  ▲            │
//!                   ▼  └────────────┘
//!          metrics, validator, health ──> verdict ──> report
//! ```

pub mod cli;
pub mod clients;
pub mod firmware;
pub mod guard;
pub mod health;
pub mod http;
pub mod identity;
pub mod job;
pub mod live;
pub mod memberships;
pub mod metrics;
mod own_latency;
pub mod progress;
pub mod report;
pub mod responder;
pub mod routes;
pub mod run;
pub mod scenario;
pub mod search;
pub mod seed;
mod setup;
pub mod slo;
pub mod units;
pub mod validator;
mod verdict;
