//! A sender and a receiver over a channel that loses, repeats and reorders, in virtual time.

mod pair;
mod repeats;
mod streams;
mod transfers;
mod wrap;
