//! dhcpd's language.

mod chain;
mod corpus;
mod damaged;
mod document;
mod reading;
