//! The fleet under a virtual clock: against a server that does what it is told, every wait, every packet and every verdict of
//! the judge is the same each time.

// A helper of a test may panic as the test itself may.
#![allow(clippy::unwrap_used)]

mod firmware;
mod server;
mod verdicts;
mod world;
