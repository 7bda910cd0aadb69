//! What is said to a client: header, options in their order, and where each of them comes from.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{BROADCAST_FLAG, Header, Message, MessageType, MessageWriter};
use bootstorm_protocols::time::Moment;

use super::boot::Boot;
use super::delivery::Delivery;
use super::exchange::Exchange;
use super::nak::NakReason;
use super::options::Options;
use crate::config::{LeaseTime, ScopeChain, ScopeId};

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
    /// Everything but option 82, in the order it is written.
    pub options: &'a [Outgoing<'a>],
    ciaddr: Ipv4Addr,
    flags: u16,
    request: &'a Message<'a>,
    max_len: usize,
}

/// `file` holds 128 bytes and `sname` 64, one of them the closing NUL.
pub(super) const FILE_LIMIT: usize = 127;
const SNAME_LIMIT: usize = 63;

impl Reply<'_> {
    /// Writes the message to `buf` and returns its length: at least 300 bytes, because BOOTP
    /// clients and relay agents drop shorter ones (RFC 1542 section 2.1), and at most what the
    /// client takes. Options without room are left out. 0 when `buf` is shorter than a message.
    pub fn write(&self, buf: &mut [u8]) -> usize {
        let header = Header {
            flags: self.flags,
            ciaddr: self.ciaddr,
            yiaddr: self.yiaddr,
            siaddr: self.siaddr,
            sname: fitting(self.server_name, SNAME_LIMIT),
            file: fitting(self.boot_file, FILE_LIMIT),
            ..Header::reply_to(self.request)
        };
        let Ok(mut writer) = MessageWriter::new(buf, self.max_len, &header) else { return 0 };
        if self.kind.is_none() {
            writer.forbid_overload();
        }
        if let Some(relay) = self.request.relay_agent_information() {
            // RFC 3046 section 2.2: back in every reply, as the last option.
            let _ = writer.echo(&relay);
        }
        for option in self.options {
            let _ = writer.option(option.code, option.value);
        }
        writer.finish()
    }
}

/// The text if its field holds it.
fn fitting(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit { text } else { &[] }
}

impl<'a> Exchange<'a> {
    /// How long the client may have `address`.
    pub(super) fn lease_time(&self, address: Ipv4Addr) -> LeaseTime {
        let chain = self.chain(Some(address));
        match self.message.lease_time() {
            Some(wish) => chain.lease_time_for(LeaseTime::from_seconds(wish)),
            None => chain.lease_time(),
        }
    }

    /// When a lease that begins now ends.
    pub(super) fn expiry(&self, lease: LeaseTime) -> Moment {
        lease.duration().map_or(Moment::NEVER, |duration| self.now + duration)
    }

    pub(super) fn offer(&self, address: Ipv4Addr) -> Reply<'a> {
        let lease = self.lease_time(address);
        let offer = self.grant(MessageType::Offer, address, lease);
        // RFC 2131 table 3: ciaddr is zero in an OFFER.
        Reply { ciaddr: Ipv4Addr::UNSPECIFIED, ..offer }
    }

    pub(super) fn ack(&self, address: Ipv4Addr, lease: LeaseTime) -> Reply<'a> {
        self.grant(MessageType::Ack, address, lease)
    }

    fn grant(&self, kind: MessageType, address: Ipv4Addr, lease: LeaseTime) -> Reply<'a> {
        let chain = self.chain(Some(address));
        let mut options = Options::new(self, Some(kind), &chain);
        options.lease(&chain, lease);
        if self.message.message_type() == Some(MessageType::Discover) && kind == MessageType::Ack {
            options.rapid_commit();
        }
        Reply {
            yiaddr: address,
            lease_seconds: lease.seconds(),
            delivery: self.delivery_of(address),
            ..self.parameters(Some(kind), &chain, address, options)
        }
    }

    /// RFC 2131 4.3.5: no yiaddr, no lease time.
    pub(super) fn ack_to_inform(&self, address: Ipv4Addr) -> Reply<'a> {
        let kind = Some(MessageType::Ack);
        let chain = self.chain(Some(address));
        Reply {
            delivery: self.delivery_of_inform(address),
            ..self.parameters(kind, &chain, address, Options::new(self, kind, &chain))
        }
    }

    /// RFC 1534 section 2: no option that only DHCP knows.
    pub(super) fn boot_reply(&self, address: Ipv4Addr) -> Reply<'a> {
        let chain = self.chain(Some(address));
        Reply {
            yiaddr: address,
            lease_seconds: u32::MAX,
            delivery: self.delivery_of(address),
            ..self.parameters(None, &chain, address, Options::new(self, None, &chain))
        }
    }

    /// RFC 2131 table 3: of the parameters only message, server and client identifier.
    pub(super) fn nak(&self, reason: NakReason) -> Reply<'a> {
        let kind = Some(MessageType::Nak);
        let chain = self.chain(None);
        let mut options = Options::new(self, kind, &chain);
        options.explanation(reason.text());
        let routed = self.arrival.unicast().is_some()
            && self.arrival.is_routed(self.dhcp, self.message.ciaddr());
        let relayed = !self.message.giaddr().is_unspecified();
        Reply {
            // RFC 2131 4.3.2: the relay agent must broadcast a NAK, the client has no address.
            flags: self.message.flags() | if relayed { BROADCAST_FLAG } else { 0 },
            ciaddr: Ipv4Addr::UNSPECIFIED,
            delivery: Delivery::of_nak(self.message, self.ciaddr_in_use, self.relay_port(), routed),
            delay: chain.reply_delay(),
            nak: Some(reason),
            ..self.bare(kind, options)
        }
    }

    /// A reply with boot file and options, to be addressed.
    fn parameters(
        &self,
        kind: Option<MessageType>,
        chain: &ScopeChain<'a>,
        address: Ipv4Addr,
        mut options: Options<'a, '_>,
    ) -> Reply<'a> {
        let boot = Boot::choose(chain, &self.machine, self.classes);
        // siaddr is the next server, by default this one, where clients reach it; a machine that
        // boots nothing gets none unless the configuration names one.
        let siaddr = match boot.next_server {
            Some(next_server) => next_server,
            None if boot.file.is_empty() => Ipv4Addr::UNSPECIFIED,
            None => self.reachable_address(chain),
        };
        options.boot(chain, &boot, siaddr);
        options.parameters(chain, address);
        Reply {
            siaddr,
            server_name: chain.server_name().unwrap_or_default(),
            boot_file: boot.file,
            boot_scope: boot.scope,
            boot_reason: boot.reason(self.machine.firmware),
            delay: chain.reply_delay(),
            ..self.bare(kind, options)
        }
    }

    fn bare(&self, kind: Option<MessageType>, options: Options<'a, '_>) -> Reply<'a> {
        Reply {
            kind,
            delivery: Delivery::Broadcast,
            source: self.own_address(),
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            server_name: &[],
            boot_file: &[],
            boot_scope: None,
            boot_reason: "",
            lease_seconds: 0,
            vendor_class: self.machine.vendor_class,
            delay: Duration::ZERO,
            nak: None,
            options: options.finish(),
            // RFC 2131 table 3: ciaddr of an ACK is that of its REQUEST.
            ciaddr: self.message.ciaddr(),
            flags: self.message.flags(),
            request: self.message,
            max_len: self.message.reply_room(self.arrival.mtu),
        }
    }

    /// How a reply that gives `address` reaches the client.
    fn delivery_of(&self, address: Ipv4Addr) -> Delivery {
        Delivery::of_answer(self.message, self.ciaddr_in_use, self.relay_port(), address)
    }

    /// How the ACK to an INFORM from `address` reaches the client.
    fn delivery_of_inform(&self, address: Ipv4Addr) -> Delivery {
        let source = *self.arrival.source.ip();
        let (message, port) = (self.message, self.relay_port());
        Delivery::of_inform(message, self.ciaddr_in_use, source, port, address)
    }

    /// The port that the relay agent wants replies at, if it is not 67 (RFC 8357 section 5).
    fn relay_port(&self) -> Option<u16> {
        self.relay.filter(|relay| relay.relay_source_port()).map(|_| self.arrival.source.port())
    }
}
