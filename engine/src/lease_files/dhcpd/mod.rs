//! dhcpd.leases(5) of ISC dhcpd 4.4.

mod parts;
mod reader;
mod tokens;
mod write;

pub(super) use reader::read;
pub(super) use write::{lease, start};

/// Names of hardware types. All others are `unknown-` and a number.
const HARDWARE: [(u8, &str); 5] =
    [(1, "ethernet"), (6, "token-ring"), (8, "fddi"), (32, "infiniband"), (24, "ieee1394")];

pub(crate) use parts::{StatementEnd, StatementPart, statements};
