//! One request and all that is found out about it before it is decided.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, Ipv4Addr};

use bootstorm_protocols::dhcpv4::{Message, MessageType, RelayAgentInformation, options};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::arrival::{Arrival, Link, LinkBy};
use super::evaluate::Known;
use super::identity::{self, Found};
use super::inform::informed_address;
use super::machine::{Machine, Membership};
use super::own::{Noted, Own};
use super::reservation::Reservation;
use super::{Reply, Silence, machine};
use crate::config::{
    ClassId, Dhcp, Flag, HostId, Identity, NetworkId, Parameter, PoolId, ScopeChain, SubclassId,
    SubnetId,
};
use crate::leases::{
    Admission, Bill, ClientKey, Discovered, Hardware, KeyKind, KnownAs, Lease, LeaseScope,
    RelaySaid, Said, ShardLeases,
};

/// A request in its place: which link it came from, who sent it, what is known of the sender.
#[derive(Debug)]
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
    /// It is a unicast from the client's address: no relay agent or switch could add to it.
    past_relays: bool,
    /// Neither the message nor a lease tells for certain which port the client is plugged into,
    /// and the configuration goes by that. Its REBINDING, which is broadcast, will tell.
    pub(super) port_is_unknown: bool,
    /// Seconds since 1970, if the configuration goes by dates.
    pub(super) wall: Option<u64>,
    /// See [`Flag::IgnoreClientUids`].
    ignores_client_id: bool,
    pub(super) link: Link,
    /// What named it.
    pub(super) link_by: LinkBy,
    /// What the sender said in its DISCOVER, where the message says less.
    pub(super) before: Option<Discovered<'a>>,
    pub(super) machine: Machine<'a>,
    /// The machine's identity on this link.
    pub(super) key: ClientKey,
    pub(super) reservation: Reservation,
    /// Classes it is a member of, in the order of the configuration.
    pub(super) classes: &'a [ClassId],
    /// The subclasses of these that it is a member of.
    pub(super) subclasses: &'a [SubclassId],
    /// What a lease of it is billed to.
    pub(super) bill: Option<Bill>,
    /// All that a lease of it could be billed to has as many as it may.
    over_limit: bool,
    /// What the client has or had, in any network.
    pub(super) own: &'a [Own],
    /// What the configuration keeps on those leases of them on which it keeps anything.
    scopes: &'a [(Ipv4Addr, LeaseScope<'a>)],
    /// The scopes of its link, and those of the address that was asked about last: see
    /// [`Exchange::chain`].
    link_chain: OnceCell<&'a ScopeChain<'a>>,
    last_chain: Cell<Option<(Ipv4Addr, &'a ScopeChain<'a>)>>,
}

/// The address that a REQUEST names.
fn offered(message: &Message<'_>) -> Ipv4Addr {
    message.requested_address().unwrap_or(message.ciaddr())
}

/// The client's leases and offers on its link that say which host it is. What its own lease or
/// offer says of the client goes before what others say: an ACK agrees with the OFFER, and a
/// renewal with the ACK.
pub(super) fn own_that_say_who<'a>(
    own: &'a [Own],
    message: &Message<'_>,
    dhcp: &'a Dhcp,
    network: NetworkId,
) -> impl Iterator<Item = &'a Own> {
    let here = own.iter().filter(|own| own.is_here);
    let offered = offered(message);
    let names_address = !matches!(message.message_type(), None | Some(MessageType::Discover));
    let about = here.clone().find(|own| names_address && own.ip == offered && own.is_held());
    let counts =
        move |own: &&Own| (own.is_active() || !names_address) && own.counts_anywhere(dhcp, network);
    let others =
        here.filter(counts).filter(move |_| about.is_none_or(|own| !own.is_given_to_host()));
    about.into_iter().chain(others)
}

/// Whether a lease says at which port of a relay agent its client is. In ISC dhcpd that of a
/// reserved address does not; here it does if the port is why the client has it.
fn says_its_port(admission: Admission<'_>, dhcp: &Dhcp) -> bool {
    let Admission::Host(KnownAs { by, .. }) = admission else { return true };
    !dhcp.is_as_dhcpd() || by == KeyKind::Circuit
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
        let (link, link_by) = Link::find(dhcp, message, relay.as_ref(), arrival)?;
        let mut before = None;
        let mut machine = Machine::read(message, before, relay.as_ref(), arena);
        let mut key = identity::key(message, &machine, dhcp.identity).ok_or(Silence::NoIdentity)?;
        let (mut new_by_hardware, mut is_noted) = (None, false);
        let tells_apart = dhcp.identity == Identity::ClientIdOrHardware;
        if tells_apart {
            let is_here = |lease: &Lease| lease.ipv4().is_some_and(|ip| link.holds(dhcp, ip));
            match identity::find(message, &machine, &key, is_here, leases, now) {
                Some(Found::ByHardware { key: by_hardware, noted }) => {
                    (key, is_noted) = (by_hardware, noted);
                }
                Some(Found::Nothing(by_hardware)) => new_by_hardware = Some(by_hardware),
                None => {}
            }
        }
        // RFC 2131 3.1: the ACK agrees with the OFFER, so what decided there decides here.
        let offered = offered(message);
        if message.message_type() == Some(MessageType::Request)
            && message.server_identifier().is_some()
            && let Some(said) = leases.discovered(&key, offered, message.xid(), now)
            && machine::says_less(message, said)
        {
            before = Some(Discovered::new(arena.alloc_slice_copy(said.as_bytes())));
            machine = Machine::read(message, before, relay.as_ref(), arena);
        }
        let past_relays = ciaddr_in_use
            .filter(|_| message.giaddr().is_unspecified() && arrival.unicast().is_some());
        let mut own = BumpVec::new_in(arena);
        let mut scopes = BumpVec::new_in(arena);
        let mut port_is_unknown =
            past_relays.is_some() && dhcp.goes_by_ports && leases.is_damaged(now);
        leases.of_client(&key, now, |lease| {
            if tells_apart
                && (identity::is_of_another(lease, machine.client_id)
                    || is_noted && lease.notes.client_id().is_none())
            {
                return;
            }
            let may_be_outdated = leases.may_be_outdated(lease, now);
            let noted = Noted::of(&lease.notes, &machine, past_relays.is_some());
            own.extend(Own::of(lease, may_be_outdated, dhcp, link, noted));
            if dhcp.has_statements {
                let scope = lease.notes.scope();
                let kept = lease.ipv4().filter(|_| scope != LeaseScope::default());
                scopes.extend(kept.map(|ip| (ip, scope.copied(arena))));
            }
            if past_relays.is_some() && past_relays == lease.ipv4() && !may_be_outdated {
                // The machine is where it was.
                port_is_unknown = false;
                let notes = &lease.notes;
                if !says_its_port(notes.admission(), dhcp) {
                    return;
                }
                let copy = |bytes: &[u8]| &*arena.alloc_slice_copy(bytes);
                machine.circuit_id = machine.circuit_id.or_else(|| notes.circuit_id().map(copy));
                machine.remote_id = machine.remote_id.or_else(|| notes.remote_id().map(copy));
            }
        });
        let own = own.into_bump_slice();
        let saying = own_that_say_who(own, message, dhcp, link.network);
        let informs = message.message_type() == Some(MessageType::Inform);
        let informed = informs.then(|| informed_address(message, arrival, dhcp)).flatten();
        let known = Known { message, before, machine: &machine, members: &[], arena };
        let mut reservation =
            Reservation::find(dhcp, &known, link.network, informed, saying, arena);
        // An address of this host is nobody else's, whatever the configuration says.
        reservation.address = reservation.address.filter(|address| !arrival.owns(*address));
        let Membership { classes, subclasses, bills } =
            machine.classes(message, before, dhcp, arena);
        // The first that has room, as dhcpd does.
        let is_own = |ip| own.iter().any(|own| IpAddr::V4(own.ip) == ip);
        let bill = bills.iter().copied().find(|&bill| leases.has_room(bill, is_own, now));
        let mut exchange = Self {
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
            link_by,
            before,
            machine,
            key,
            reservation,
            classes,
            subclasses,
            bill,
            over_limit: bill.is_none() && !bills.is_empty(),
            own,
            scopes: scopes.into_bump_slice(),
            past_relays: past_relays.is_some(),
            port_is_unknown,
            wall: dhcp.used.dates.then(|| leases.wall_at(now)),
            ignores_client_id: false,
            link_chain: OnceCell::new(),
            last_chain: Cell::new(None),
        };
        if exchange.is(Flag::IgnoreClientUids, None) {
            exchange.ignores_client_id = true;
            exchange.key = new_by_hardware.unwrap_or(exchange.key);
        }
        Ok(exchange)
    }

    /// Whether the rules of ISC dhcpd hold where servers differ.
    pub(super) fn is_as_dhcpd(&self) -> bool {
        self.dhcp.is_as_dhcpd()
    }

    /// Why the configuration has this server ignore the machine, by the scopes of its link. ISC
    /// dhcpd goes by the scopes of the address that it would give: it sends NAKs to everybody.
    pub(super) fn ignored(&self) -> Option<Silence> {
        let by_link = !self.is_as_dhcpd() && self.may_be_silenced();
        by_link.then(|| self.silenced(self.chain(None))).flatten()
    }

    /// Whether some scope has this server ignore anybody.
    pub(super) fn may_be_silenced(&self) -> bool {
        let deny = [Flag::BootUnknownClients, Flag::Bootp, Flag::Booting];
        deny.into_iter().any(|flag| self.dhcp.same_for_all(flag) != Some(true))
            || self.dhcp.uses(Parameter::MinSecs)
    }

    /// Why the scopes of an address have this server ignore the machine.
    pub(super) fn silenced(&self, chain: &ScopeChain<'a>) -> Option<Silence> {
        // To ISC dhcpd who has an address reserved on another link alone is unknown here.
        let is_known = match self.is_as_dhcpd() {
            true => self.reservation.host.is_some(),
            false => self.reservation.known,
        };
        if !chain.is(Flag::BootUnknownClients) && !is_known {
            return Some(Silence::UnknownClient);
        }
        if !chain.is(Flag::Bootp) && self.machine.bootp {
            return Some(Silence::BootpDenied);
        }
        (!chain.is(Flag::Booting)).then_some(Silence::BootingDenied)
    }

    /// Whether the classes of the machine have as many leases as they may, so that it gets no
    /// address of a pool. A reserved address is not billed.
    pub(super) fn is_over_limit(&self) -> bool {
        self.over_limit
    }

    /// What the configuration keeps on the client's lease of an address.
    pub(super) fn scope(&self, address: Ipv4Addr) -> LeaseScope<'a> {
        let own = self.scopes.iter().find(|(own, _)| *own == address);
        own.map(|(_, scope)| *scope).unwrap_or_default()
    }

    /// Its hardware address.
    pub(super) fn hardware(&self) -> Hardware {
        Hardware::new(self.message.htype(), self.machine.chaddr)
    }

    /// What a lease remembers of the machine.
    pub(super) fn said(&self) -> Said<'a> {
        let stashed = self.is(Flag::StashAgentOptions, None);
        Said {
            client_id: self.machine.client_id.filter(|_| !self.ignores_client_id),
            tells_apart: self.dhcp.identity == Identity::ClientIdOrHardware,
            hostname: self.option(options::HOST_NAME),
            circuit_id: self.relay.and(self.machine.circuit_id).filter(|_| stashed),
            remote_id: self.relay.and(self.machine.remote_id).filter(|_| stashed),
            relay: if self.past_relays { RelaySaid::Kept } else { RelaySaid::All },
            scope: None,
        }
    }

    /// An option of the request as one slice.
    pub(super) fn option(&self, code: u8) -> Option<&'a [u8]> {
        self.message.option(code).map(|data| machine::joined(data, self.arena))
    }

    /// Whether a flag is on by the scopes of [`Exchange::chain`].
    pub(super) fn is(&self, flag: Flag, address: Option<Ipv4Addr>) -> bool {
        let same_for_all = self.dhcp.same_for_all(flag);
        same_for_all.unwrap_or_else(|| self.chain(address).is(flag))
    }

    /// The scopes that hold for the machine with `address`; without one, those of its link. All
    /// that they depend on stays as it is, so their statements run once.
    pub(super) fn chain(&self, address: Option<Ipv4Addr>) -> &'a ScopeChain<'a> {
        let Some(ip) = address else {
            return self.link_chain.get_or_init(|| self.new_chain(None));
        };
        match self.last_chain.get() {
            Some((last, chain)) if last == ip => chain,
            _ => {
                let chain = self.new_chain(address);
                self.last_chain.set(Some((ip, chain)));
                chain
            }
        }
    }

    /// The scopes that say what stands in a NAK: those of the link. ISC dhcpd goes by the subnet
    /// and by the pool of it that were declared first, and by no host entry; and its link is the
    /// one that the message came from, whatever ciaddr says.
    pub(super) fn chain_of_nak(&self) -> &'a ScopeChain<'a> {
        if !self.is_as_dhcpd() {
            return self.chain(None);
        }
        let link = match self.link_by {
            LinkBy::Ciaddr(_) => Link::of_interface(self.dhcp, self.arrival).unwrap_or(self.link),
            _ => self.link,
        };
        let network = self.dhcp.network(link.network);
        let subnet = network.first_subnet.unwrap_or(link.subnet);
        self.chain_of_scopes(subnet, network.first_pool, None, None)
    }

    /// The scopes that hold for the machine with `address`, but for those of a pool.
    pub(super) fn chain_without_pool(&self, address: Ipv4Addr) -> &'a ScopeChain<'a> {
        let subnet = self.dhcp.subnet_of(address).unwrap_or(self.link.subnet);
        self.chain_of_scopes(subnet, None, self.reservation.host, Some(address))
    }

    fn new_chain(&self, address: Option<Ipv4Addr>) -> &'a ScopeChain<'a> {
        let place = address.map(|address| self.place_of(address)).unwrap_or_default();
        let subnet = place.subnet.unwrap_or(self.link.subnet);
        self.chain_of_scopes(subnet, place.pool, self.reservation.host, address)
    }

    fn chain_of_scopes(
        &self,
        subnet: SubnetId,
        pool: Option<PoolId>,
        host: Option<HostId>,
        address: Option<Ipv4Addr>,
    ) -> &'a ScopeChain<'a> {
        let members = (self.classes, self.subclasses);
        let chain = ScopeChain::new(self.dhcp, Some(subnet), pool, members, host, self.arena);
        self.arena.alloc(chain.run(&self.facts(address), self.arena))
    }

    /// The scopes that decided about a reply, or that there is none, and the address that they were
    /// run for.
    pub(super) fn decided_by(
        &self,
        reply: Option<&Reply<'a>>,
    ) -> (&'a ScopeChain<'a>, Option<Ipv4Addr>) {
        let informed = || informed_address(self.message, self.arrival, self.dhcp);
        match (reply, self.last_chain.get()) {
            (Some(reply), _) if reply.nak.is_some() => (reply.chain, None),
            (Some(reply), _) if reply.yiaddr.is_unspecified() => (reply.chain, informed()),
            (Some(reply), _) => (reply.chain, Some(reply.yiaddr)),
            (None, Some((address, chain))) => (chain, Some(address)),
            (None, None) => (self.chain(None), None),
        }
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

    /// Option 54 of every reply: what the relay agent wants to stand there (RFC 5107), else where
    /// clients reach this server.
    pub(super) fn server_identifier(&self, reachable: Ipv4Addr) -> Ipv4Addr {
        self.identifier_override.unwrap_or(reachable)
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
}
