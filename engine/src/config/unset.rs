//! Options that are sent though no level of a chain says what they are.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::options;
use bumpalo::Bump;

use super::{Dhcp, Flag, HostId, ScopeId, SubnetId};

/// What options are sent with that no level sets, for a client in `subnet`, known as `host`.
#[derive(Copy, Clone, Debug)]
pub(super) struct Unset<'c> {
    pub(super) dhcp: &'c Dhcp,
    pub(super) subnet: Option<SubnetId>,
    pub(super) host: Option<HostId>,
}

impl<'c> Unset<'c> {
    /// The name of the client's host, if `use-host-decl-names` has it sent.
    pub(super) fn host_name(self, is: impl FnOnce(Flag) -> bool) -> Option<(&'c [u8], ScopeId)> {
        let id = self.host.filter(|_| is(Flag::UseHostDeclNames))?;
        Some((self.dhcp.host(id).name().as_bytes(), ScopeId::Host(id)))
    }

    /// The mask of the client's subnet.
    pub(super) fn subnet_mask(self) -> Option<Ipv4Addr> {
        self.subnet.map(|id| self.dhcp.subnet(id).prefix.mask())
    }

    /// What option `code` is sent with to a client that gets `address`.
    pub(super) fn option(
        self,
        code: u8,
        address: Option<&'c [u8]>,
        is: impl FnOnce(Flag) -> bool,
        arena: &'c Bump,
    ) -> Option<&'c [u8]> {
        match code {
            options::SUBNET_MASK => Some(arena.alloc(self.subnet_mask()?.octets())),
            options::ROUTERS => address.filter(|_| is(Flag::UseLeaseAddrForDefaultRoute)),
            options::HOST_NAME => self.host_name(is).map(|(name, _)| name),
            _ => None,
        }
    }
}
