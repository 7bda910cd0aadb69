//! What the statements of scopes go by: one message, its sender, and the address that it gets.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::MessageType;

use super::Reply;
use super::evaluate::Known;
use super::exchange::Exchange;
use crate::config::{ClassId, Effects, Facts, OptionPath, Value, VariableId};
use crate::leases::{LeaseScope, VARIABLE_BYTES};

/// All that is known of a client when its address is.
struct Client<'e, 'a> {
    exchange: &'e Exchange<'a>,
    known: Known<'e, 'a>,
    address: Option<Ipv4Addr>,
}

impl<'a> Exchange<'a> {
    /// What the configuration keeps on the lease that a reply tells of, and how many variables it
    /// has no room for; `None` where that is what it has kept. `room` is for the variables.
    pub(super) fn kept<'r>(
        &self,
        reply: &Reply<'a>,
        room: &'r mut [u8; VARIABLE_BYTES],
    ) -> Option<(LeaseScope<'r>, u32)> {
        if !self.dhcp.has_statements {
            return None;
        }
        let before = self.scope(reply.yiaddr);
        let Effects { now, ends, .. } = reply.chain.effects();
        let set = now.variables.iter().chain(reply.at_commit().variables);
        let is_new = (before.release, before.expiry) != (ends.release, ends.expiry);
        if set.clone().next().is_none() && !is_new {
            return None;
        }
        let named = set.filter_map(|(variable, value)| {
            Some((&**self.dhcp.variables.get(variable.index())?, *value))
        });
        let (variables, lost) = before.variables.with(named, room);
        let (expiry, release) = (ends.expiry, ends.release);
        Some((LeaseScope { expiry, release, variables }, lost))
    }

    /// What statements go by for a client that gets `address`.
    pub(super) fn facts(&self, address: Option<Ipv4Addr>) -> impl Facts<'a> {
        let known = Known {
            message: self.message,
            before: self.before,
            machine: &self.machine,
            members: self.classes,
            arena: self.arena,
        };
        Client { exchange: self, known, address }
    }
}

impl<'a> Facts<'a> for Client<'_, 'a> {
    fn option(&self, path: OptionPath) -> Option<&'a [u8]> {
        self.known.option(path)
    }

    fn hardware(&self) -> Option<&'a [u8]> {
        self.known.hardware()
    }

    fn message(&self) -> &'a [u8] {
        self.known.message()
    }

    fn file(&self) -> &'a [u8] {
        self.known.file()
    }

    fn server_name(&self) -> &'a [u8] {
        self.known.server_name()
    }

    fn is_member(&self, class: ClassId) -> bool {
        self.known.is_member(class)
    }

    fn is_known(&self) -> bool {
        self.exchange.reservation.known
    }

    fn is_static(&self) -> bool {
        self.address.is_some() && self.exchange.reservation.address == self.address
    }

    /// None for an INFORM, which asks for no lease.
    fn leased_address(&self) -> Option<&'a [u8]> {
        if self.known.message.message_type() == Some(MessageType::Inform) {
            return None;
        }
        Some(self.exchange.arena.alloc(self.address?.octets()))
    }

    fn variable(&self, variable: VariableId) -> Option<Value<'a>> {
        let name = self.exchange.dhcp.variables.get(variable.index())?;
        self.exchange.scope(self.address?).variables.get(name)
    }

    fn host_decl_name(&self) -> Option<&'a [u8]> {
        let host = self.exchange.reservation.host.filter(|_| self.is_static())?;
        Some(self.exchange.dhcp.host(host).name().as_bytes())
    }
}
