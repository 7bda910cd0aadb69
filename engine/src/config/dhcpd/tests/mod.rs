//! dhcpd's language.

mod chain;
mod corpus;
mod damaged;
mod document;
mod manual;
mod reading;
