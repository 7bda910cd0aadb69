//! The TFTP of a shard against clients on a simulated network, in virtual time.

mod alone;
mod backpressure;
mod fleet;
mod limits;
mod loading;
mod multicast;
mod refusals;
mod transfers;
mod uploads;
