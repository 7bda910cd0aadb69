//! The rules of DHCPv4: from one message, its arrival, the configuration and the leases to one
//! decision. Nothing here reads a clock, makes randomness, or sends. [`plan`] decides and changes
//! nothing; [`answer`] plans, takes the plan's steps on the leases, and plans anew where another
//! shard was faster.
//!
//! | message | condition | decision |
//! | --- | --- | --- |
//! | any | no subnet for its link; a machine without identity | silence |
//! | any but RELEASE, DECLINE | unknown machine and `boot-unknown-clients = false` | silence |
//! | DISCOVER | an address is free that the machine may have | OFFER, held for `offer-time` |
//! | | with rapid commit on both sides | ACK once the lease is durable |
//! | | `ping-check`, and the machine never had the address | OFFER unless the probe is answered |
//! | | in any case | its leases that were refused end; those it can have no more are refused |
//! | REQUEST, SELECTING | names another server | silence, our offer is free again |
//! | | the machine may have the address, and nobody else has it | ACK once the lease is durable |
//! | | otherwise | NAK (see `nak`) |
//! | REQUEST, other states | it is the machine's leased or reserved address | ACK once durable |
//! | | a valid lease forbids it, or this server is authoritative | NAK (see `nak`) |
//! | | otherwise | silence |
//! | DECLINE | from the holder | quarantine for `decline-time`; a reserved address stays usable |
//! | RELEASE | from the holder | the address is free, and kept for the machine while others are |
//! | INFORM | ciaddr is on the client's network | ACK without address and lease time |
//! | BOOTP | reserved address, or a pool that permits `bootp` | BOOTREPLY once durable |
//!
//! A machine may have an address that is reserved for it, or one of a pool of its network that
//! permits it and that no `[[dhcp.host]]` reserves. It may have several: pools by class give one
//! machine an address in each stage of its boot.
//!
//! A lease that has not ended is nobody else's, whatever the configuration says by now. Where
//! another machine has the address that is reserved for this one, this one gets an address of a
//! pool, or none, and the other one a NAK at its next REQUEST. When the address has become free, a
//! machine that has another one gets a NAK as well, so that it moves. The one exception are clients
//! of one hardware address (`identity = "client-id"`): the reserved address follows it.
//!
//! With `compatibility = "dhcpd"` it is as in ISC dhcpd 4.4 where servers differ: a client gets
//! what is free and it asks for by name, and NAKs by [`nak`]'s last rule.

mod addresses;
mod arrival;
mod boot;
mod bootp;
mod cache;
mod delivery;
mod discover;
mod evaluate;
mod events;
mod exchange;
mod findings;
mod holder;
mod identity;
mod inform;
mod lease_time;
mod machine;
mod nak;
mod options;
mod own;
mod plan;
mod release;
mod reply;
mod request;
mod reservation;
mod silence;
mod statements;
mod tasks;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{BOOTREQUEST, Message, MessageType};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

pub(crate) use addresses::NotPermitted;
pub use arrival::Arrival;
pub(crate) use arrival::LinkBy;
pub(crate) use boot::PassedOver;
pub use cache::ReplyCache;
pub use delivery::Delivery;
pub(crate) use findings::{
    BootFound, EntryFound, EntryUse, Findings, LimitFound, MemberFound, PoolState,
};
pub use holder::{Holder, HoldersTold};
pub(crate) use machine::{Condition, NotMember};
pub use nak::NakReason;
pub use plan::{Chosen, Plan, Reasons, Through};
pub use reply::{Origin, Outgoing, Reply};
pub use silence::Silence;

use crate::config::Dhcp;
use crate::leases::{Change, ShardLeases};
use exchange::Exchange;
use plan::Draft;

/// What is to be done about one message.
#[derive(Debug)]
#[must_use]
pub struct Decision<'a> {
    /// What to do.
    pub action: Action<'a>,
    /// For [`ShardLeases::submit`]: with a token for an [`Action::AckWhenDurable`], else without.
    pub changes: BumpVec<'a, Change>,
    /// Who keeps the client from the address that is reserved for it.
    pub holder: Option<Holder>,
    /// Variables that statements set and the lease has no room for.
    pub variables_lost: u32,
}

/// What is to be done about one message. A reply is long, and lies in the arena.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing.
    Silence(Silence),
    /// Send this now.
    Reply(&'a Reply<'a>),
    /// Probe `yiaddr` (ICMP echo) and send this if nobody answers within that time. If somebody
    /// answers: call [`ShardLeases::quarantine`], then answer the same message again, which offers
    /// another address. If a probe of the address is already under way, no second one is needed.
    ProbeThenOffer(&'a Reply<'a>, Duration),
    /// Send this, an ACK or the BOOTREPLY with an endless lease, when the changes are durable.
    AckWhenDurable(&'a Reply<'a>),
    /// Nobody waits for the changes.
    Record {
        /// The address that was given back or declined.
        address: Ipv4Addr,
    },
}

impl<'a> Action<'a> {
    /// The reply, if there is one.
    pub fn reply(&self) -> Option<&'a Reply<'a>> {
        match self {
            Self::Reply(reply) | Self::ProbeThenOffer(reply, _) | Self::AckWhenDurable(reply) => {
                Some(reply)
            }
            Self::Silence(_) | Self::Record { .. } => None,
        }
    }
}

/// How often a message is planned anew whose plan the leases did not allow: another shard was
/// faster. Then the client hears nothing and asks again.
const PLANS: usize = 8;

/// Decides about one message and carries it out: the effects on offers and leases take place in
/// memory at once; what has to be durable comes back as [`Decision::changes`].
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
    let mut changes = BumpVec::new_in(arena);
    let mut decided = (Action::Silence(Silence::Contended), None, 0);
    for _ in 0..PLANS {
        let mut plan = plan(message, arrival, dhcp, leases, now, arena);
        if plan.apply(leases, &mut changes).is_ok() {
            decided = (plan.action, plan.holder, plan.variables_lost);
            break;
        }
    }
    let (action, holder, variables_lost) = decided;
    Decision { action, changes, holder, variables_lost }
}

/// Decides about one message. Changes nothing.
pub fn plan<'a>(
    message: &'a Message<'a>,
    arrival: &'a Arrival<'a>,
    dhcp: &'a Dhcp,
    leases: &ShardLeases,
    now: Moment,
    arena: &'a Bump,
) -> Plan<'a> {
    if message.op() != BOOTREQUEST {
        return Plan::new(None, Draft::silence(Silence::NotARequest, arena));
    }
    let exchange = match Exchange::open(message, arrival, dhcp, leases, now, arena) {
        // It is long, and every move is a copy.
        Ok(exchange) => &*arena.alloc(exchange),
        Err(silence) => return Plan::new(None, Draft::silence(silence, arena)),
    };
    let takes_lease = match message.message_type() {
        None | Some(MessageType::Discover) => true,
        // ISC dhcpd sends NAKs to everybody.
        Some(MessageType::Request) => !exchange.is_as_dhcpd(),
        Some(_) => false,
    };
    if takes_lease && exchange.is_over_limit() && exchange.reservation.address.is_none() {
        return Plan::new(Some(exchange), Draft::silence(Silence::LeaseLimit, arena));
    }
    let draft = match message.message_type() {
        None => exchange.bootp(leases),
        Some(MessageType::Discover) => exchange.discover(leases),
        Some(MessageType::Request) => exchange.request(leases),
        Some(MessageType::Decline) => exchange.decline(),
        Some(MessageType::Release) => exchange.release(),
        Some(MessageType::Inform) => exchange.inform(),
        Some(_) => Draft::silence(Silence::MessageType, arena),
    };
    Plan::new(Some(exchange), draft)
}

/// Its kind.
pub use events::kind_of_request as received_kind;
/// The event of a decision: what happens when it is carried out.
pub use events::of_decision as decided;
/// The event of a datagram that is no DHCP message.
pub use events::of_malformed as malformed;
/// The event of a request that came in, before it is decided.
pub use events::of_request as received;
/// The events of what the configuration logs about a reply.
pub use events::of_statements as logged;
/// The event of variables that a lease has no room for.
pub use events::of_variables_lost as variables_lost;
/// What is to be done when a reply leaves, or its lease is durable.
pub use tasks::of_action as tasks;
/// What is to be done for a lease that has ended.
pub use tasks::of_ended as tasks_at_end;
