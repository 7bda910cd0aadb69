//! Clients and a small server under a virtual clock: every wait, packet and violation is the same
//! in each run.

// A helper of a test may panic as the test itself may.
#![allow(clippy::unwrap_used)]

mod firmware;
mod run;
mod server;
mod verdicts;
