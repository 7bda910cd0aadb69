//! What is said to a client: header, options in their order, and where each of them comes from.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{
    BROADCAST_FLAG, FIXED_FIELDS, Header, Message, MessageType, MessageWriter,
    RelayAgentInformation,
    options::{self, HOST_NAME},
};
use bootstorm_protocols::wire::Writer;
use bumpalo::Bump;

use super::boot::Boot;
use super::cache::{KEY, ReplyCache};
use super::delivery::Delivery;
use super::exchange::Exchange;
use super::machine::{self, Firmware};
use super::nak::NakReason;
use super::options::Options;
use crate::config::{
    Flag, GroupId, Key, LayerSet, LeaseTerm, LeaseTime, LeaseTimeBy, ModelId, Parameter, PoolId,
    Scope, ScopeChain, ScopeId, Settings, SubclassId, SubnetId,
};

/// Where a value in a reply comes from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The protocol asks for it, or the server made it.
    Protocol,
    /// The client sent it and gets it back.
    Echo,
    /// The configuration, and which level of it.
    Scope(ScopeId),
}

/// One option of a reply.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Outgoing<'a> {
    /// Its code.
    pub code: u8,
    /// Its value as on the wire, without code and length.
    pub value: &'a [u8],
    /// Where the value comes from.
    pub origin: Origin,
}

/// A reply, ready to be written. It borrows from the request, the configuration and the arena.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// OFFER, ACK or NAK; `None` for a BOOTREPLY.
    pub kind: Option<MessageType>,
    /// How it reaches the client.
    pub delivery: Delivery,
    /// This server's address that it is sent from.
    pub source: Ipv4Addr,
    /// The client's address from now on; unspecified in a NAK and in the ACK to an INFORM.
    pub yiaddr: Ipv4Addr,
    /// The server of the next boot stage.
    pub siaddr: Ipv4Addr,
    /// What goes to `sname`; empty for nothing.
    pub server_name: &'a [u8],
    /// The boot file, empty for none. It goes to `file` if it is at most 127 bytes long.
    pub boot_file: &'a [u8],
    /// The level whose boot rule chose it.
    pub boot_scope: Option<ScopeId>,
    /// Why a machine that wants to boot gets no file, or not the first that its rules name; empty
    /// where there is nothing to explain.
    pub boot_reason: &'static str,
    /// The lease time in seconds, `u32::MAX` for ever; 0 where none is given.
    pub lease_seconds: u32,
    /// Option 60 of the client, empty for none; where its REQUEST is silent, of its DISCOVER.
    pub vendor_class: &'a [u8],
    /// The least time between the request and this reply.
    pub delay: Duration,
    /// Why it is a NAK; `None` where it is none.
    pub nak: Option<NakReason>,
    /// The levels of the configuration that hold for the client.
    pub(super) chain: &'a ScopeChain<'a>,
    /// What the options say of the lease; `None` for nothing.
    pub(super) lease: Option<LeaseTime>,
    /// What decided the lease time, if one is given.
    pub(crate) lease_by: Option<LeaseTimeBy>,
    /// Whether it is the ACK to a DISCOVER.
    pub(super) rapid_commit: bool,
    pub(super) firmware: Firmware,
    /// Option 54.
    pub(super) server_identifier: Ipv4Addr,
    /// Option 55 of the request, empty for none.
    pub(super) asked: &'a [u8],
    /// The value of option 12, and the level it comes from.
    pub(super) host_name: Option<(&'a [u8], ScopeId)>,
    /// Options 61, 118 and 97 of the request, which are sent back.
    pub(super) client_id: Option<&'a [u8]>,
    pub(super) subnet_selection: Option<&'a [u8]>,
    pub(super) uuid: Option<&'a [u8]>,
    /// Its address is the client's router.
    pub(super) is_own_router: bool,
    /// The client knows no options, nor the cookie before them (RFC 951).
    without_options: bool,
    /// Option 82 of the request. RFC 3046 section 2.2: back in every reply, as the last option.
    relay: Option<&'a [u8]>,
    pub(super) arena: &'a Bump,
    ciaddr: Ipv4Addr,
    flags: u16,
    request: &'a Message<'a>,
    max_len: usize,
}

/// `file` holds 128 bytes and `sname` 64, one of them the closing NUL.
pub(super) const FILE_LIMIT: usize = 127;
const SNAME_LIMIT: usize = 63;

/// Values that a reply may have for itself alone: see [`Reply::varying`].
pub(super) const VARYING: usize = 5;

impl<'a> Reply<'a> {
    /// Writes the message to `buf` and returns its length: at least 300 bytes, because BOOTP
    /// clients and relay agents drop shorter ones (RFC 1542 section 2.1), and at most what the
    /// client takes. Options without room are left out. 0 when `buf` is shorter than a message.
    ///
    /// `cache` is the shard's: what was written before is copied.
    pub fn write(&self, cache: &mut ReplyCache, buf: &mut [u8]) -> usize {
        let mut room = [0; KEY];
        let Some(key) = self.key(buf.len(), &mut room) else { return self.render(buf) };
        if let Some(len) = cache.copy(key, self, &self.header(), buf) {
            return len;
        }
        let len = self.render(buf);
        cache.keep(key, self, &buf[..len]);
        len
    }

    /// Says how long the client has its address.
    pub(super) fn give(&mut self, LeaseTerm { time, by }: LeaseTerm) {
        self.lease_seconds = time.seconds();
        self.lease = Some(time);
        self.lease_by = Some(by);
    }

    /// The levels of the configuration that hold for the client, with the address that it gets.
    pub(crate) fn chain(&self) -> &'a ScopeChain<'a> {
        self.chain
    }

    /// The port of clients, and where broadcasts go.
    pub(crate) fn broadcast(&self) -> (u16, Ipv4Addr) {
        let dhcp = self.chain.dhcp();
        (dhcp.client_port, dhcp.limited_broadcast)
    }

    /// Bytes of the longest message that the client takes.
    pub(crate) fn room(&self) -> usize {
        self.max_len
    }

    /// Option 55 of the request, empty for none.
    pub(crate) fn asked(&self) -> &'a [u8] {
        self.asked
    }

    /// Everything but option 82, in the order in which it is written.
    pub fn options(&self) -> &'a [Outgoing<'a>] {
        Options::of(self)
    }

    /// Writes the message anew.
    pub(super) fn render(&self, buf: &mut [u8]) -> usize {
        let Ok(mut writer) = MessageWriter::new(buf, self.max_len, &self.header()) else {
            return 0;
        };
        if self.kind.is_none() {
            writer.forbid_overload();
        }
        if self.without_options {
            let len = writer.finish();
            buf[FIXED_FIELDS..len].fill(0);
            return len;
        }
        if let Some(relay) = self.relay {
            let _ = writer.echo(&RelayAgentInformation::new(relay.into()));
        }
        for option in self.options() {
            let _ = writer.option(option.code, option.value);
        }
        writer.finish()
    }

    fn header(&self) -> Header<'_> {
        let as_dhcpd = self.chain.dhcp().is_as_dhcpd();
        Header {
            // RFC 2131 table 3 has both zero.
            secs: if as_dhcpd { self.request.secs() } else { 0 },
            hops: if as_dhcpd { self.request.hops() } else { 0 },
            flags: self.flags,
            ciaddr: self.ciaddr,
            yiaddr: self.yiaddr,
            siaddr: self.siaddr,
            sname: fitting(self.server_name, SNAME_LIMIT),
            file: fitting(self.boot_file, FILE_LIMIT),
            ..Header::reply_to(self.request)
        }
    }

    /// The values that another reply of the same key may have otherwise, with their codes.
    pub(super) fn varying(&self) -> [(u8, Option<&'a [u8]>); VARYING] {
        [
            (options::CLIENT_IDENTIFIER, self.client_id),
            (options::SUBNET_SELECTION, self.subnet_selection),
            (options::PXE_CLIENT_ID, self.uuid),
            (options::RELAY_AGENT_INFORMATION, self.relay),
            (HOST_NAME, self.host_name.map(|(name, _)| name)),
        ]
    }

    /// The configuration that it is of.
    pub(super) fn model(&self) -> ModelId {
        self.chain.dhcp().id
    }

    /// All that the bytes behind the fixed fields depend on, when they are written to a buffer of
    /// that length; but for the values of [`Reply::varying`], of which it is how long they are.
    /// `None` where hardly another reply has the same, or it is too long.
    fn key<'k>(&self, buf_len: usize, room: &'k mut [u8; KEY]) -> Option<&'k [u8]> {
        // Every field is named, so that a new one is thought of.
        let Self {
            kind,
            delivery: _,
            source: _,
            yiaddr: _,
            siaddr,
            // Of the levels.
            server_name: _,
            boot_file,
            boot_scope,
            boot_reason: _,
            lease_seconds: _,
            vendor_class: _,
            delay: _,
            nak,
            chain,
            lease,
            lease_by: _,
            rapid_commit,
            firmware,
            server_identifier,
            asked,
            // Of the levels, and as long as `varying` says.
            host_name: _,
            client_id: _,
            subnet_selection: _,
            uuid: _,
            is_own_router,
            without_options,
            relay: _,
            arena: _,
            ciaddr: _,
            flags: _,
            request: _,
            max_len,
        } = self;
        if nak.is_some()
            || *is_own_router
            || *without_options
            || chain.host_scope().is_some_and(|scope| !says_only_a_name(scope))
        {
            return None;
        }
        let place = |index: Option<usize>| index.map_or(u32::MAX, |index| index as u32);
        let length = |text: Option<&[u8]>| text.map_or(u16::MAX, |text| text.len() as u16);
        let kinds = [
            kind.map_or(0, MessageType::code),
            u8::from(*rapid_commit) | u8::from(boot_scope.is_some()) << 1,
            *firmware as u8,
            // An infinite lease has no other value than this.
            u8::from(lease.is_some()),
        ];
        let numbers = [
            lease.map_or(0, LeaseTime::seconds),
            siaddr.to_bits(),
            server_identifier.to_bits(),
            (*max_len).min(buf_len).try_into().ok()?,
            place(chain.subnet().map(SubnetId::index)),
            place(chain.pool().map(PoolId::index)),
            place(chain.group().map(GroupId::index)),
            place(Some(chain.classes().len())),
        ];
        let [a, b, c, d, e] = self.varying().map(|(_, value)| length(value));
        let lengths = [a, b, c, d, e, length(Some(boot_file)), length(Some(asked))];
        let mut key = Writer::new(room);
        key.bytes(&kinds).ok()?;
        key.bytes(numbers.map(u32::to_be_bytes).as_flattened()).ok()?;
        key.bytes(lengths.map(u16::to_be_bytes).as_flattened()).ok()?;
        for class in chain.classes() {
            key.u32(class.index() as u32).ok()?;
        }
        // Most of ten thousand say nothing by themselves.
        let speak = |id: &&SubclassId| !chain.dhcp().subclass(**id).scope.is_empty();
        for subclass in chain.subclasses().iter().filter(speak) {
            key.u32(u32::MAX - subclass.index() as u32).ok()?;
        }
        write_layers(chain, &mut key)?;
        key.bytes(boot_file).ok()?;
        key.bytes(asked).ok()?;
        let len = key.position();
        room.get(..len)
    }
}

/// Adds what the statements of the levels set for this message. `None` where there is no room.
fn write_layers(chain: &ScopeChain<'_>, key: &mut Writer<'_>) -> Option<()> {
    for (place, set) in chain.layers() {
        key.u32(place.try_into().ok()?).ok()?;
        match set {
            // It is a part of the model as long as its address is.
            LayerSet::Fixed(scope, _) => {
                key.bytes(&std::ptr::from_ref(scope).addr().to_be_bytes()).ok()?;
            }
            LayerSet::Value(what, value, _) => {
                let (kind, code) = match what {
                    Key::Option(code) => (1, code),
                    Key::Parameter(Parameter::Flag(flag)) => (2, flag as u8),
                    Key::Parameter(other) => (3, other.bit().trailing_zeros() as u8),
                    // These set nothing by themselves.
                    Key::InSpace(..) | Key::Boot(_) | Key::AlwaysSend => (0, 0),
                };
                let len = value.map_or(u16::MAX, |value| value.len() as u16);
                key.bytes(&[kind, code]).ok()?;
                key.u16(len).ok()?;
                key.bytes(value.unwrap_or_default()).ok()?;
            }
        }
    }
    Some(())
}

/// Whether a host has nothing for itself alone in its replies but a name.
fn says_only_a_name(scope: &Scope) -> bool {
    let Settings {
        always_send,
        server_name,
        // What these say is in the key.
        boot: _,
        lease_time: _,
        min_lease_time: _,
        max_lease_time: _,
        next_server: _,
        filename: _,
        // It is of use only with values of spaces.
        vendor_option_space: _,
        server_identifier: _,
        // What of this is in the message is in the key as well, or in the fixed fields.
        flags: _,
        // These are not in the message.
        reply_delay: _,
        min_secs: _,
        cache_threshold: _,
        bootp_lease_time: _,
        ping_timeout: _,
        ping_timeout_ms: _,
        ping_cltt: _,
        adaptive_threshold: _,
        bootp_lease_cutoff: _,
    } = scope.settings();
    let options = &scope.options;
    options.len() == usize::from(options.contains(HOST_NAME))
        && always_send.is_empty()
        && server_name.is_none()
}

/// Where clients reach this server: at the address that the configuration sets, else at its own.
fn reachable_address(chain: &ScopeChain<'_>, own: Ipv4Addr) -> Ipv4Addr {
    chain.server_identifier().unwrap_or(own)
}

/// The text if its field holds it.
fn fitting(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit { text } else { &[] }
}

impl<'a> Exchange<'a> {
    /// An OFFER of a lease, which is not longer than `cap`.
    pub(super) fn offer(&self, address: Ipv4Addr, cap: Option<LeaseTerm>) -> &'a Reply<'a> {
        let offer = self.grant(MessageType::Offer, address, cap);
        // RFC 2131 table 3: ciaddr is zero in an OFFER.
        offer.ciaddr = Ipv4Addr::UNSPECIFIED;
        offer
    }

    pub(super) fn ack(&self, address: Ipv4Addr, cap: Option<LeaseTerm>) -> &'a mut Reply<'a> {
        self.grant(MessageType::Ack, address, cap)
    }

    fn grant(
        &self,
        kind: MessageType,
        address: Ipv4Addr,
        cap: Option<LeaseTerm>,
    ) -> &'a mut Reply<'a> {
        let discover = self.message.message_type() == Some(MessageType::Discover);
        let reply = self.parameters(Some(kind), address, self.chain(Some(address)));
        reply.yiaddr = address;
        reply.give(self.lease_time(reply.chain, cap));
        reply.rapid_commit = discover && kind == MessageType::Ack;
        self.deliver(reply);
        reply
    }

    /// RFC 2131 4.3.5: no yiaddr, no lease time. ISC dhcpd does not send the name of a host
    /// entry, and goes by a pool only if ciaddr is in it.
    pub(super) fn ack_to_inform(&self, address: Ipv4Addr) -> &'a Reply<'a> {
        let chain = match self.is_as_dhcpd() && self.message.ciaddr().is_unspecified() {
            true => self.chain_without_pool(address),
            false => self.chain(Some(address)),
        };
        let reply = self.parameters(Some(MessageType::Ack), address, chain);
        if self.is_as_dhcpd() {
            reply.host_name = reply.chain.option(HOST_NAME);
        }
        reply.delivery = self.delivery_of_inform(address);
        reply
    }

    /// RFC 1534 section 2: no option that only DHCP knows. For a reserved address ISC dhcpd gives
    /// back the name in `file` unless the configuration has one, gives no option 82 back, and sends
    /// everything.
    pub(super) fn boot_reply(&self, address: Ipv4Addr) -> &'a Reply<'a> {
        let reply = self.parameters(None, address, self.chain(Some(address)));
        if self.is_as_dhcpd() && self.reservation.address == Some(address) {
            reply.relay = None;
            reply.asked = &[];
            if reply.boot_scope.is_none() {
                reply.boot_file = self.message.file();
            }
        }
        reply.yiaddr = address;
        // No option says so.
        let LeaseTerm { time, by } = self.bootp_lease(reply.chain, address);
        reply.lease_seconds = time.seconds();
        reply.lease_by = Some(by);
        reply.without_options = self.is_as_dhcpd()
            && self.reservation.address == Some(address)
            && !self.message.has_cookie()
            && !reply.chain.is(Flag::AlwaysReplyRfc1048);
        self.deliver(reply);
        reply
    }

    pub(super) fn nak(&self, reason: NakReason) -> &'a Reply<'a> {
        let routed = !self.is_as_dhcpd()
            && self.arrival.unicast().is_some()
            && self.arrival.is_routed(self.dhcp, self.message.ciaddr());
        let relayed = !self.message.giaddr().is_unspecified();
        let reply = self.bare(Some(MessageType::Nak), self.chain_of_nak());
        // RFC 2131 4.3.2: the relay agent must broadcast a NAK, the client has no address.
        reply.flags |= if relayed || self.is_as_dhcpd() { BROADCAST_FLAG } else { 0 };
        reply.ciaddr = Ipv4Addr::UNSPECIFIED;
        reply.delivery =
            Delivery::of_nak(self.message, self.ciaddr_in_use, self.relay_port(), routed)
                .to_port(self.dhcp.client_port);
        reply.nak = Some(reason);
        reply
    }

    /// A reply with boot file and options, to be addressed.
    fn parameters(
        &self,
        kind: Option<MessageType>,
        address: Ipv4Addr,
        chain: &'a ScopeChain<'a>,
    ) -> &'a mut Reply<'a> {
        let boot = Boot::choose(chain, &self.machine, self.classes);
        // siaddr is the next server, by default this one, where clients reach it; a machine that
        // boots nothing gets none unless the configuration names one.
        let own = self.reservation.address == Some(address);
        let boots_by_pxe = self.machine.firmware == Firmware::Pxe;
        let reply = self.bare(kind, chain);
        reply.siaddr = match boot.next_server {
            Some(next_server) => next_server,
            // A BOOTP client with an address of its own is told of the server that answers.
            None if self.is_as_dhcpd() && kind.is_none() && own => reply.source,
            None if boot.file.is_empty() || self.is_as_dhcpd() => Ipv4Addr::UNSPECIFIED,
            None => reachable_address(chain, reply.source),
        };
        reply.server_name = chain.server_name().unwrap_or_default();
        reply.boot_file = boot.file;
        reply.boot_scope = boot.scope;
        reply.boot_reason = boot.reason(self.machine.firmware);
        let decided = chain.decided(options::PARAMETER_REQUEST_LIST);
        let asked = match decided.filter(|_| self.is_as_dhcpd()) {
            Some(list) => list.map(|(list, _)| list),
            None => self.option(options::PARAMETER_REQUEST_LIST),
        };
        reply.asked = asked.unwrap_or_default();
        reply.host_name = chain.host_name();
        reply.uuid = self.option(options::PXE_CLIENT_ID).filter(|_| boots_by_pxe);
        reply
    }

    /// In the arena, where it is filled in: it is long, and every move is a copy.
    fn bare(&self, kind: Option<MessageType>, chain: &'a ScopeChain<'a>) -> &'a mut Reply<'a> {
        // ISC dhcpd gives it back with a lease or a NAK.
        let informs = self.message.message_type() == Some(MessageType::Inform);
        let echoed = chain.is(Flag::EchoClientId) && !(informs && self.is_as_dhcpd());
        let source = self.own_address();
        let reachable = reachable_address(chain, source);
        self.arena.alloc_with(|| Reply {
            kind,
            delivery: Delivery::Broadcast,
            source,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            server_name: &[],
            boot_file: &[],
            boot_scope: None,
            boot_reason: "",
            lease_seconds: 0,
            vendor_class: self.machine.vendor_class,
            delay: chain.reply_delay(),
            nak: None,
            lease: None,
            lease_by: None,
            rapid_commit: false,
            firmware: self.machine.firmware,
            server_identifier: self.server_identifier(reachable),
            asked: &[],
            host_name: None,
            client_id: self.option(options::CLIENT_IDENTIFIER).filter(|_| echoed),
            subnet_selection: self.option(options::SUBNET_SELECTION),
            uuid: None,
            is_own_router: false,
            without_options: false,
            relay: self.relay.map(|relay| machine::joined(relay.data(), self.arena)),
            arena: self.arena,
            // RFC 2131 table 3: ciaddr of an ACK is that of its REQUEST.
            ciaddr: self.message.ciaddr(),
            flags: self.message.flags(),
            request: self.message,
            max_len: self.room(),
            chain,
        })
    }

    /// The longest message that the client takes. ISC dhcpd does not count option 82, which the
    /// relay agent takes away.
    fn room(&self) -> usize {
        let room = self.message.reply_room(self.arrival.mtu);
        match self.relay.filter(|_| self.is_as_dhcpd()) {
            Some(relay) => {
                // IP and UDP headers.
                (room + 2 + relay.data().len()).min(usize::from(self.arrival.mtu).max(576) - 28)
            }
            None => room,
        }
    }

    /// Says how a reply that gives an address reaches the client.
    fn deliver(&self, reply: &mut Reply<'a>) {
        let chain = reply.chain;
        // ISC dhcpd does not say so to a BOOTP client with a reserved address.
        let reserved = reply.kind.is_none() && self.reservation.address == Some(reply.yiaddr);
        reply.is_own_router = chain.is(Flag::UseLeaseAddrForDefaultRoute)
            && chain.decided(options::ROUTERS).is_none()
            && !(reserved && self.is_as_dhcpd());
        if chain.is(Flag::AlwaysBroadcast) {
            reply.flags |= BROADCAST_FLAG;
        }
        let broadcast = reply.flags & BROADCAST_FLAG != 0;
        let port = self.relay_port();
        // ISC dhcpd writes to ciaddr unless the client is on this link and asks for a broadcast, or
        // names a server, which only clients do that have no address yet.
        let unusual = broadcast || self.message.server_identifier().is_some();
        let is_direct = || self.arrival.interface.iter().any(|&own| self.is_on_link(own));
        let has_none =
            self.is_as_dhcpd() && (reply.kind != Some(MessageType::Ack) || unusual && is_direct());
        let ciaddr = self.ciaddr_in_use.filter(|_| !has_none);
        let answer = Delivery::of_answer(self.message, broadcast, ciaddr, port, reply.yiaddr);
        reply.delivery = answer.to_port(self.dhcp.client_port);
    }

    /// How the ACK to an INFORM from `address` reaches the client.
    fn delivery_of_inform(&self, address: Ipv4Addr) -> Delivery {
        let source = *self.arrival.source.ip();
        let (message, port) = (self.message, self.relay_port());
        Delivery::of_inform(message, self.ciaddr_in_use, source, port, address)
            .to_port(self.dhcp.client_port)
    }

    /// The port that the relay agent wants replies at, if it is not 67 (RFC 8357 section 5).
    fn relay_port(&self) -> Option<u16> {
        self.relay.filter(|relay| relay.relay_source_port()).map(|_| self.arrival.source.port())
    }
}
