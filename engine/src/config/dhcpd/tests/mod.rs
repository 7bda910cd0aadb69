//! dhcpd's language.

mod corpus;
mod damaged;
mod document;
mod reading;
