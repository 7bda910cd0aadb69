//! dhcpd's language.

mod reading;
