//! The rules of DHCPv4: from one message, its arrival, the configuration and the leases to one
//! decision. Nothing here reads a clock, makes randomness, or sends.
//!
//! | message | condition | decision |
//! | --- | --- | --- |
//! | any | no subnet for its link; a machine without identity | silence |
//! | any but RELEASE, DECLINE | unknown machine and `unknown-clients = "ignore"` | silence |
//! | DISCOVER | an address is free that the machine may have | OFFER, held for `offer-time` |
//! | | with rapid commit on both sides | ACK once the lease is durable |
//! | | `ping-check`, and the machine never had the address | OFFER unless the probe is answered |
//! | REQUEST, SELECTING | names another server | silence, our offer is free again |
//! | | the machine may have the address | ACK once the lease is durable |
//! | | otherwise | NAK (see `nak`) |
//! | REQUEST, other states | it is the machine's leased or reserved address | ACK once durable |
//! | | a valid lease forbids it, or this server is authoritative | NAK (see `nak`) |
//! | | otherwise | silence |
//! | DECLINE | from the holder | quarantine for `decline-time`; a reserved address stays usable |
//! | RELEASE | from the holder | the address is free, and kept for the machine while others are |
//! | INFORM | ciaddr is on the client's network | ACK without address and lease time |
//! | BOOTP | reserved address | BOOTREPLY |
//! | | a pool that permits `bootp` | BOOTREPLY once the endless lease is durable |
//!
//! A machine may have an address that is reserved for it, or one of a pool of its network that
//! permits it and that no `[[dhcp.host]]` reserves. With a reserved address it may have no other,
//! unless a machine that got the address before it was reserved still has it.

mod arrival;
mod boot;
mod bootp;
mod cache;
mod delivery;
mod discover;
mod events;
mod exchange;
mod identity;
mod inform;
mod machine;
mod nak;
mod options;
mod release;
mod reply;
mod request;
mod reservation;
mod silence;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{BOOTREQUEST, Message, MessageType};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;

pub use arrival::Arrival;
pub use cache::ReplyCache;
pub use delivery::Delivery;
pub use nak::NakReason;
pub use reply::{Origin, Outgoing, Reply};
pub use silence::Silence;

use crate::config::Dhcp;
use crate::event::BootEvent;
use crate::leases::{Change, ShardLeases};
use exchange::Exchange;

/// What is to be done about one message, and the line it is worth in the log.
#[derive(Debug)]
#[must_use]
pub struct Decision<'a> {
    /// What to do.
    pub action: Action<'a>,
    /// What happened, for logs and metrics.
    pub event: BootEvent,
}

/// What is to be done about one message.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing.
    Silence(Silence),
    /// Send this now.
    Reply(Reply<'a>),
    /// Probe `yiaddr` (ICMP echo) and send this if nobody answers within `ping-check`. If somebody
    /// answers: call [`ShardLeases::quarantine`], then answer the same message again, which offers
    /// another address. If a probe of the address is already under way, no second one is needed.
    ProbeThenOffer(Reply<'a>),
    /// Send this when the change is durable.
    AckWhenDurable {
        /// For [`ShardLeases::submit`].
        change: Change,
        /// The ACK, or the BOOTREPLY with an endless lease.
        reply: Reply<'a>,
    },
    /// Make the change durable; nobody waits for it.
    Record {
        /// For [`ShardLeases::submit`].
        change: Change,
        /// The address that was given back or declined.
        address: Ipv4Addr,
    },
}

impl<'a> Action<'a> {
    /// The reply, if there is one.
    pub fn reply(&self) -> Option<&Reply<'a>> {
        match self {
            Self::Reply(reply)
            | Self::ProbeThenOffer(reply)
            | Self::AckWhenDurable { reply, .. } => Some(reply),
            Self::Silence(_) | Self::Record { .. } => None,
        }
    }
}

/// Decides about one message. The effects on offers and leases take place in memory at once; what
/// has to be durable comes back as a [`Change`].
///
/// Nothing is allocated but in `arena`, which is to be reset when the replies are written.
pub fn answer<'a>(
    message: &'a Message<'a>,
    arrival: &'a Arrival<'a>,
    dhcp: &'a Dhcp,
    leases: &mut ShardLeases,
    now: Moment,
    arena: &'a Bump,
) -> Decision<'a> {
    let action = decide(message, arrival, dhcp, leases, now, arena);
    let event = events::of_decision(message, arrival, &action);
    Decision { action, event }
}

fn decide<'a>(
    message: &'a Message<'a>,
    arrival: &'a Arrival<'a>,
    dhcp: &'a Dhcp,
    leases: &mut ShardLeases,
    now: Moment,
    arena: &'a Bump,
) -> Action<'a> {
    if message.op() != BOOTREQUEST {
        return Action::Silence(Silence::NotARequest);
    }
    let exchange = match Exchange::open(message, arrival, dhcp, leases, now, arena) {
        Ok(exchange) => exchange,
        Err(silence) => return Action::Silence(silence),
    };
    match message.message_type() {
        None => exchange.bootp(leases),
        Some(MessageType::Discover) => exchange.discover(leases),
        Some(MessageType::Request) => exchange.request(leases),
        Some(MessageType::Decline) => exchange.decline(leases),
        Some(MessageType::Release) => exchange.release(leases),
        Some(MessageType::Inform) => exchange.inform(),
        Some(_) => Action::Silence(Silence::MessageType),
    }
}

/// The event of a datagram that is no DHCP message.
pub use events::of_malformed as malformed;
/// The event of a request that came in, before it is decided.
pub use events::of_request as received;
