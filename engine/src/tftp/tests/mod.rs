//! The TFTP of a shard against clients on a simulated network, in virtual time.

mod alone;
mod backpressure;
mod clients;
mod limits;
mod loading;
mod multicast;
mod refusals;
mod repeats;
mod simulation;
mod single_port;
mod transfers;
mod uploads;
