//! One request and all that is found out about it before it is decided.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{Message, MessageType, RelayAgentInformation, options};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::arrival::{Arrival, Link};
use super::machine::Machine;
use super::reservation::Reservation;
use super::{Silence, identity, machine};
use crate::config::{ClassId, Dhcp, HostId, Permit, PoolId, ScopeChain, UnknownClients};
use crate::leases::{
    Candidates, Client, ClientKey, Discovered, Hardware, Lease, Said, ShardLeases,
};

/// A request in its place: which link it came from, who sent it, what is known of the sender.
pub(super) struct Exchange<'a> {
    pub(super) message: &'a Message<'a>,
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) dhcp: &'a Dhcp,
    pub(super) arena: &'a Bump,
    pub(super) now: Moment,
    /// Option 82, if a relay agent or switch added it.
    pub(super) relay: Option<RelayAgentInformation<'a>>,
    /// What the relay agent wants to stand in option 54 (RFC 5107).
    identifier_override: Option<Ipv4Addr>,
    /// See [`Arrival::ciaddr_in_use`].
    pub(super) ciaddr_in_use: Option<Ipv4Addr>,
    pub(super) link: Link,
    pub(super) machine: Machine<'a>,
    /// The machine's identity on this link.
    pub(super) key: ClientKey,
    pub(super) reservation: Reservation,
    /// Classes it is a member of, in the order of the configuration.
    pub(super) classes: &'a [ClassId],
    /// The lease it has or had on this link.
    pub(super) lease: Option<Lease>,
}

impl<'a> Exchange<'a> {
    /// Finds out everything, or why the request is none of this server's.
    pub(super) fn open(
        message: &'a Message<'a>,
        arrival: &'a Arrival<'a>,
        dhcp: &'a Dhcp,
        leases: &ShardLeases,
        now: Moment,
        arena: &'a Bump,
    ) -> Result<Self, Silence> {
        let relay = message.relay_agent_information();
        let ciaddr_in_use = arrival.ciaddr_in_use(dhcp, message);
        let link = Link::find(dhcp, message, relay.as_ref(), arrival)?;
        let mut machine = Machine::read(message, None, relay.as_ref(), arena);
        let key = identity::key(message, &machine, dhcp.identity).ok_or(Silence::NoIdentity)?;
        // RFC 2131 3.1: the ACK agrees with the OFFER, so what decided there decides here.
        let offered = message.requested_address().unwrap_or(message.ciaddr());
        if message.message_type() == Some(MessageType::Request)
            && message.server_identifier().is_some()
            && let Some(before) = leases.discovered(&key, offered, message.xid(), now)
            && machine::says_less(message, before)
        {
            let before = Discovered::new(arena.alloc_slice_copy(before.as_bytes()));
            machine = Machine::read(message, Some(before), relay.as_ref(), arena);
        }
        let lease = leases.find(link.network, &key, now);
        if relay.is_none()
            && ciaddr_in_use.is_some()
            && let Some(notes) = lease.as_ref().and_then(|lease| lease.notes.as_ref())
        {
            // A renewal by unicast passes no relay agent; the machine is where it was.
            let copy = |bytes: &Option<Box<[u8]>>| {
                bytes.as_deref().map(|bytes| &*arena.alloc_slice_copy(bytes))
            };
            machine.circuit_id = copy(&notes.circuit_id);
            machine.remote_id = copy(&notes.remote_id);
        }
        let held = lease.as_ref().filter(|lease| lease.is_active(now)).map(|lease| lease.ip);
        let mut reservation = Reservation::find(dhcp, &machine, link.network, held);
        // An address of this host is nobody else's, whatever the configuration says.
        reservation.address = reservation.address.filter(|address| !arrival.owns(*address));
        let classes = machine.classes(dhcp, arena);
        Ok(Self {
            message,
            arrival,
            dhcp,
            arena,
            now,
            relay,
            identifier_override: relay
                .as_ref()
                .and_then(RelayAgentInformation::server_identifier_override),
            ciaddr_in_use,
            link,
            machine,
            key,
            reservation,
            classes,
            lease,
        })
    }

    /// Whether the configuration has this server ignore the machine.
    pub(super) fn ignored(&self) -> bool {
        self.dhcp.unknown_clients == UnknownClients::Ignore && !self.reservation.known
    }

    /// The machine as the leases know it.
    pub(super) fn client(&self) -> Client<'_> {
        Client {
            network: self.link.network,
            key: &self.key,
            hardware: Hardware::new(self.message.htype(), self.machine.chaddr),
            notes: Said {
                client_id: self.machine.client_id,
                hostname: self.option(options::HOST_NAME),
                circuit_id: self.relay.and(self.machine.circuit_id),
                remote_id: self.relay.and(self.machine.remote_id),
            },
        }
    }

    /// An option of the request as one slice.
    pub(super) fn option(&self, code: u8) -> Option<&'a [u8]> {
        self.message.option(code).map(|data| machine::joined(data, self.arena))
    }

    /// The scopes that hold for the machine with `address`; without one, those of its link.
    pub(super) fn chain(&self, address: Option<Ipv4Addr>) -> ScopeChain<'a> {
        let subnet = address.and_then(|address| self.dhcp.subnet_of(address));
        let pool = address.and_then(|address| self.dhcp.pool_of(address));
        ScopeChain::new(
            self.dhcp,
            Some(subnet.unwrap_or(self.link.subnet)),
            pool,
            self.classes,
            self.reservation.host,
        )
    }

    /// This server's own address towards the client: what it was written to, or its address on
    /// the client's link, or its first one there.
    pub(super) fn own_address(&self) -> Ipv4Addr {
        let on_link =
            || self.arrival.interface.iter().copied().find(|&address| self.is_on_link(address));
        self.arrival
            .unicast()
            .or_else(on_link)
            .or_else(|| self.arrival.interface.first().copied())
            .unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Where clients reach this server: at the address that the configuration sets, else at its
    /// own.
    pub(super) fn reachable_address(&self, chain: &ScopeChain<'a>) -> Ipv4Addr {
        chain.server_identifier().unwrap_or_else(|| self.own_address())
    }

    /// Option 54 of every reply: what the relay agent wants to stand there (RFC 5107), else where
    /// clients reach this server.
    pub(super) fn server_identifier(&self, chain: &ScopeChain<'a>) -> Ipv4Addr {
        self.identifier_override.unwrap_or_else(|| self.reachable_address(chain))
    }

    /// Whether option 54 of a request means this server. It does with
    /// - every address of this host: RFC 2131 section 4.1 lets a server take any of its addresses,
    ///   and a client may know one from before `server-identifier` was set;
    /// - every `server-identifier` of the configuration, whatever its scope: a REQUEST may say less
    ///   about its sender than the DISCOVER did, so that another scope holds for it;
    /// - what the relay agent of this request wants (RFC 5107).
    pub(super) fn is_own_identifier(&self, identifier: Ipv4Addr) -> bool {
        self.arrival.owns(identifier)
            || self.dhcp.server_identifiers.binary_search(&identifier).is_ok()
            || self.identifier_override == Some(identifier)
    }

    /// Whether `address` is of a subnet of the client's link.
    pub(super) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        self.dhcp
            .subnet_of(address)
            .is_some_and(|subnet| self.dhcp.subnet(subnet).network == self.link.network)
    }

    /// Whether the machine may have `address`, whoever has it now.
    pub(super) fn may_have(&self, address: Ipv4Addr, leases: &ShardLeases) -> bool {
        if !self.is_on_link(address) || self.arrival.owns(address) {
            return false;
        }
        match self.reservation.address {
            Some(reserved) if reserved == address => return true,
            // It is to move to its reserved address, unless that is not free yet.
            Some(reserved) if !self.blocked(reserved, leases) => return false,
            _ => {}
        }
        self.dhcp.host_by_ip(address).is_none()
            && self.dhcp.excluded(address).is_none()
            && self.dhcp.pool_of(address).is_some_and(|pool| self.permitted(pool))
    }

    /// Whether a machine that is not this one still has a lease on the reserved address: one it
    /// got before the address was reserved.
    pub(super) fn blocked(&self, reserved: Ipv4Addr, leases: &ShardLeases) -> bool {
        leases.at(reserved, self.now).is_some_and(|lease| {
            lease.is_active(self.now)
                && lease.client != self.key
                && !self.reservation.host.is_some_and(|host| self.is_host(host, &lease))
        })
    }

    /// Whether the holder of a reserved address is the machine of `host` by another name: another
    /// of its network cards, the machine that stood on its port before, or, where no pool could
    /// have given the address, whoever the entry admitted.
    fn is_host(&self, host: HostId, lease: &Lease) -> bool {
        let notes = lease.notes.as_deref();
        let client_id = notes.and_then(|notes| notes.client_id.as_deref());
        let circuit_id = notes.and_then(|notes| notes.circuit_id.as_deref());
        let remote_id = notes.and_then(|notes| notes.remote_id.as_deref());
        self.dhcp.pool_of(lease.ip).is_none()
            || self.dhcp.hosts_by_hardware(lease.hardware.address()).contains(&host)
            || client_id.is_some_and(|id| self.dhcp.hosts_by_client_id(id).contains(&host))
            || self.dhcp.hosts_by_circuit(circuit_id, remote_id).any(|id| id == host)
    }

    /// The reserved address as the leases want to hear of it.
    pub(super) fn fixed(&self, reserved: Ipv4Addr, leases: &ShardLeases) -> Candidates<'static> {
        Candidates::Fixed { ip: reserved, replace: !self.blocked(reserved, leases) }
    }

    /// The pools of the link that permit the machine, those of its own subnet first.
    pub(super) fn pools(&self) -> &'a [PoolId] {
        let network = self.dhcp.network(self.link.network);
        let mut pools = BumpVec::new_in(self.arena);
        let others = network.subnets.iter().copied().filter(|&subnet| subnet != self.link.subnet);
        for subnet in std::iter::once(self.link.subnet).chain(others) {
            let permitted = |pool: &PoolId| self.permitted(*pool);
            pools.extend(self.dhcp.subnet(subnet).pools.iter().copied().filter(permitted));
        }
        pools.into_bump_slice()
    }

    fn permitted(&self, pool: PoolId) -> bool {
        let pool = self.dhcp.pool(pool);
        let bootp = self.message.message_type().is_none();
        let applies = |permit: &Permit| match *permit {
            // BOOTP clients keep what they get for ever, so a pool must name them.
            Permit::All => !bootp,
            Permit::Known => self.reservation.known && !bootp,
            Permit::Unknown => !self.reservation.known && !bootp,
            Permit::Bootp => bootp,
            Permit::Member(class) => self.classes.contains(&class) && !bootp,
        };
        let denied = pool.deny.iter().any(|permit| applies(permit) || *permit == Permit::All);
        let allowed = pool.allow.iter().any(applies) || (pool.allow.is_empty() && !bootp);
        let member = pool.class.is_none_or(|class| self.classes.contains(&class));
        allowed && !denied && member
    }
}
