//! dhcpd's language.

mod chain;
pub(crate) mod corpus;
mod damaged;
mod document;
mod manual;
mod reading;
