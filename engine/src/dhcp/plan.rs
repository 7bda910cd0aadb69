//! A plan: what is to be done about one message, and why. Making one changes nothing; `apply`
//! carries it out, unless the leases have changed since.

use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::exchange::Exchange;
use super::findings::Findings;
use super::holder::Holder;
use super::{Action, Silence, machine};
use crate::config::{ClassId, HostId, NetworkId, SubnetId};
use crate::leases::{
    Admission, Change, Client, Conflict, KeyKind, Said, ShardLeases, Step, VARIABLE_BYTES,
};

/// What is to be done about one message, and why. Nothing of it has happened yet.
#[derive(Debug)]
#[must_use]
pub struct Plan<'a> {
    /// What is done once the steps are taken.
    pub action: Action<'a>,
    /// What of it changes leases, in this order.
    pub steps: BumpVec<'a, Step<'a>>,
    /// Who keeps the client from the address that is reserved for it.
    pub holder: Option<Holder>,
    chosen: Option<Chosen<'a>>,
    /// Variables that statements set and the lease has no room for, once it is applied.
    pub(super) variables_lost: u32,
    /// For which addresses the DISCOVER is remembered, and until when.
    remember: BumpVec<'a, (Ipv4Addr, Moment)>,
    /// What was found out about the sender, if anything was.
    exchange: Option<&'a Exchange<'a>>,
}

/// What decided about one message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reasons<'a> {
    /// The link that the client is on.
    pub network: NetworkId,
    /// The subnet that named the link.
    pub subnet: SubnetId,
    /// The classes that it is a member of.
    pub classes: &'a [ClassId],
    /// Whether any `[[dhcp.host]]` knows it.
    pub known: bool,
    /// The `[[dhcp.host]]` that counts here, and by which of its keys the client was found.
    pub host: Option<(HostId, KeyKind)>,
    /// The address that is reserved for it here.
    pub reserved: Option<Ipv4Addr>,
    /// Who has the reserved address, where that kept the client from it.
    pub holder: Option<Holder>,
    /// The address that it gets.
    pub chosen: Option<Chosen<'a>>,
}

/// An address for a client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Chosen<'a> {
    /// The address.
    pub ip: Ipv4Addr,
    /// The rule of the configuration that gives it.
    pub admission: Admission<'a>,
    /// Why this one of those that the rule gives.
    pub through: Through,
}

/// Why a client gets one address and not another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Through {
    /// It is reserved for the client.
    Reservation,
    /// The client has a valid lease of it.
    Lease,
    /// It was offered to the client.
    Offer,
    /// The client had it before, and nobody took it since.
    Previous,
    /// The client asks for it, and it is free.
    Wish,
    /// It is free.
    Free,
}

/// A plan that is being made: the part that differs from message to message.
pub(super) struct Draft<'a> {
    pub(super) action: Action<'a>,
    pub(super) steps: BumpVec<'a, Step<'a>>,
    pub(super) holder: Option<Holder>,
    pub(super) chosen: Option<Chosen<'a>>,
    pub(super) remember: BumpVec<'a, (Ipv4Addr, Moment)>,
}

impl<'a> Draft<'a> {
    /// A plan that changes nothing.
    pub(super) fn of(action: Action<'a>, arena: &'a Bump) -> Self {
        let (steps, remember) = (BumpVec::new_in(arena), BumpVec::new_in(arena));
        Self { action, steps, holder: None, chosen: None, remember }
    }

    /// A plan to answer nothing.
    pub(super) fn silence(silence: Silence, arena: &'a Bump) -> Self {
        Self::of(Action::Silence(silence), arena)
    }
}

impl<'a> Plan<'a> {
    /// A plan about a message; without `exchange`, of a message whose sender does not matter.
    pub(super) fn new(exchange: Option<&'a Exchange<'a>>, draft: Draft<'a>) -> Self {
        let Draft { action, steps, holder, chosen, remember } = draft;
        Self { action, steps, holder, chosen, variables_lost: 0, remember, exchange }
    }

    /// What decided; `None` where nothing was found out about the sender.
    pub fn reasons(&self) -> Option<Reasons<'a>> {
        let exchange = self.exchange?;
        let reservation = exchange.reservation;
        Some(Reasons {
            network: exchange.link.network,
            subnet: exchange.link.subnet,
            classes: exchange.classes,
            known: reservation.known,
            host: reservation.host.zip(reservation.by.map(|by| by.kind)),
            reserved: reservation.address,
            holder: self.holder,
            chosen: self.chosen,
        })
    }

    /// What else was found out about the sender.
    pub(crate) fn findings(&self) -> Option<Findings<'a>> {
        self.exchange.map(Findings)
    }

    /// Has the leases remember the DISCOVER.
    pub(crate) fn remember(&self, leases: &mut ShardLeases) {
        let Some(Exchange { message, arena, key, .. }) = self.exchange else { return };
        for (ip, until) in &self.remember {
            let said = machine::telling(message, arena);
            leases.remember_discover(key, *ip, message.xid(), *until, said);
        }
    }

    /// Takes the steps; what is to be made durable is added to `changes`, whatever becomes of the
    /// plan. [`Conflict`]: the leases are not any more as they were when the plan was made, and
    /// another one is needed.
    pub(super) fn apply(
        &mut self,
        leases: &mut ShardLeases,
        changes: &mut BumpVec<'a, Change>,
    ) -> Result<(), Conflict> {
        let Some(exchange) = self.exchange else { return Ok(()) };
        let Exchange { now, key, .. } = exchange;
        let mut room = [0; VARIABLE_BYTES];
        let scope = self.action.reply().and_then(|reply| exchange.kept(reply, &mut room));
        let (scope, lost) = scope.unzip();
        self.variables_lost = lost.unwrap_or(0);
        let notes = Said { scope, ..exchange.said() };
        let client = Client { key, hardware: exchange.hardware(), notes };
        for step in &self.steps {
            match (leases.apply(&client, step, *now), step) {
                (Ok(Some(change)), _) => changes.push(change),
                // Its ACK is held already, for the REQUEST of before.
                (Ok(None), Step::Bind { .. }) => {
                    self.action = Action::Silence(Silence::CommitPending);
                }
                (Ok(None), _) => {}
                // It has ended meanwhile: that is what was wanted.
                (Err(_), Step::End { .. } | Step::Withdraw { .. } | Step::Refuse { .. }) => {}
                (Err(conflict), _) => return Err(conflict),
            }
        }
        self.remember(leases);
        Ok(())
    }
}
