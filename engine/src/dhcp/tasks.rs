//! What statements ask for besides a reply: programs that are run, and what is logged of a lease
//! once it is durable, or has ended.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::MessageType;
use bumpalo::Bump;

use super::Action;
use super::events::log_event;
use super::reply::Reply;
use crate::config::{Asked, Dhcp, Effects, Facts, Value, VariableId};
use crate::event::{BootEvent, Kind};
use crate::hooks::{Command, Tasks};
use crate::leases::{Admission, Ended, Ending};

impl<'a> Reply<'a> {
    /// The programs that are run when it leaves, or its lease is durable.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &'a [&'a [u8]]> {
        let Effects { now, .. } = self.chain.effects();
        now.programs.iter().chain(self.at_commit().programs).copied()
    }

    /// What `on commit` asks for.
    pub(super) fn at_commit(&self) -> Asked<'a> {
        if self.is_of_lease() { self.chain.effects().commit } else { Asked::default() }
    }

    /// Whether it gives a lease: an ACK that is none to an INFORM, or a BOOTREPLY.
    fn is_of_lease(&self) -> bool {
        !self.yiaddr.is_unspecified() && matches!(self.kind, None | Some(MessageType::Ack))
    }
}

/// What is to be done when the reply of an action leaves, or its lease is durable; `None` for
/// nothing, which allocates nothing. `decided` is the event of the reply.
pub fn of_action(action: &Action<'_>, decided: &BootEvent) -> Option<Box<Tasks>> {
    let reply = action.reply()?;
    let logs = match action {
        Action::ProbeThenOffer(..) => reply.chain.effects().now.logs,
        _ => reply.at_commit().logs,
    };
    let mut programs = reply.programs().peekable();
    if programs.peek().is_none() && logs.is_empty() {
        return None;
    }
    Some(Box::new(Tasks {
        logs: logs.iter().map(|log| log_event(log, decided)).collect(),
        commands: programs.map(|words| command(words, decided)).collect(),
    }))
}

/// What is to be done for a lease that has ended; `None` if the configuration does not say it any
/// more.
pub fn of_ended(ended: &Ended, dhcp: &Dhcp) -> Option<Tasks> {
    let (lease, arena) = (&ended.lease, Bump::new());
    let kind = match ended.how {
        Ending::Expiry => Kind::Expiry,
        Ending::Release => Kind::Release,
    };
    let address = lease.ipv4().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let event = BootEvent::new(kind, lease.hardware, address);
    let facts = Former { ended, dhcp, arena: &arena };
    let asked = dhcp.run_block(ended.block, &facts, &arena)?;
    Some(Tasks {
        logs: asked.logs.iter().map(|log| log_event(log, &event)).collect(),
        commands: asked.programs.iter().map(|words| command(words, &event)).collect(),
    })
}

fn command(words: &[&[u8]], event: &BootEvent) -> Command {
    Command {
        words: words.iter().map(|&word| word.into()).collect(),
        hardware: event.hardware,
        address: event.address,
    }
}

/// What is known when a lease has ended: the lease, and no message.
struct Former<'e> {
    ended: &'e Ended,
    dhcp: &'e Dhcp,
    arena: &'e Bump,
}

impl<'a> Facts<'a> for Former<'a> {
    fn hardware(&self) -> Option<&'a [u8]> {
        let hardware = &self.ended.lease.hardware;
        let bytes = std::iter::once(hardware.htype()).chain(hardware.address().iter().copied());
        Some(bumpalo::collections::Vec::from_iter_in(bytes, self.arena).into_bump_slice())
    }

    fn leased_address(&self) -> Option<&'a [u8]> {
        Some(self.arena.alloc(self.ended.lease.ipv4()?.octets()))
    }

    fn host_decl_name(&self) -> Option<&'a [u8]> {
        match self.ended.lease.admission() {
            Admission::Host(host) => Some(self.arena.alloc_slice_copy(host.name.as_bytes())),
            Admission::Unknown | Admission::Pool { .. } => None,
        }
    }

    fn variable(&self, variable: VariableId) -> Option<Value<'a>> {
        let name = self.dhcp.variables.get(variable.index())?;
        self.ended.lease.notes.scope().variables.get(name)
    }
}
