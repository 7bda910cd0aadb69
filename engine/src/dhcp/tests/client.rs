//! Clients that speak as real firmware, boot loaders and installers do.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_protocols::dhcpv4::{BROADCAST_FLAG, Header, MessageType, MessageWriter, options};

use super::server::Answer;

/// A datagram on its way to the server.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) payload: Vec<u8>,
    pub(super) source: SocketAddrV4,
    /// Destination of the IP header.
    pub(super) to: Ipv4Addr,
}

impl Datagram {
    /// The same with another ciaddr.
    pub(super) fn with_ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.payload[12..16].copy_from_slice(&address.octets());
        self
    }

    /// The same from another source address.
    pub(super) fn from(mut self, address: Ipv4Addr) -> Self {
        self.source.set_ip(address);
        self
    }
}

/// A relay agent that a client's broadcasts pass.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    /// The value of option 82; none when empty.
    pub(super) information: Vec<u8>,
}

/// One program of one machine.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) htype: u8,
    pub(super) chaddr: Vec<u8>,
    pub(super) broadcast: bool,
    pub(super) xid: u32,
    pub(super) relay: Option<Relay>,
    /// Options of every message besides those that its type asks for.
    pub(super) options: Vec<(u8, Vec<u8>)>,
}

/// UUID of the machines here, as the firmware sends it.
pub(super) const UUID: [u8; 16] =
    [0x56, 0x4d, 0x32, 0x10, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4, 5, 6, 7, 8];

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);

impl Client {
    /// A client that sends nothing but what it must.
    pub(super) fn plain(mac: [u8; 6]) -> Self {
        Self {
            htype: 1,
            chaddr: mac.to_vec(),
            broadcast: false,
            xid: 0x1000_0000 | u32::from(mac[5]),
            relay: None,
            options: Vec::new(),
        }
    }

    fn pxe(mac: [u8; 6], arch: u16, vendor_class: &str) -> Self {
        Self::plain(mac)
            .with(options::PARAMETER_REQUEST_LIST, &[1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97, 128])
            .with(options::MAX_MESSAGE_SIZE, &1472_u16.to_be_bytes())
            .with(options::PXE_CLIENT_ID, &[&[0], &UUID[..]].concat())
            .with(options::PXE_SYSTEM_TYPE, &arch.to_be_bytes())
            .with(94, &[1, 2, 1])
            .with(options::VENDOR_CLASS_IDENTIFIER, vendor_class.as_bytes())
    }

    /// A BIOS network ROM.
    pub(super) fn bios(mac: [u8; 6]) -> Self {
        Self::pxe(mac, 0, "PXEClient:Arch:00000:UNDI:002001").broadcasting()
    }

    /// UEFI on x86-64 (EDK2): it sends its UUID as client identifier.
    pub(super) fn edk2(mac: [u8; 6]) -> Self {
        Self::pxe(mac, 7, "PXEClient:Arch:00007:UNDI:003016")
            .with(options::CLIENT_IDENTIFIER, &[&[0], &UUID[..]].concat())
            .broadcasting()
    }

    /// UEFI HTTP Boot on x86-64.
    pub(super) fn http_boot(mac: [u8; 6]) -> Self {
        Self::pxe(mac, 16, "HTTPClient:Arch:00016:UNDI:003001").broadcasting()
    }

    /// iPXE on x86-64 UEFI: a PXE client by vendor class, with a raw user class and a client
    /// identifier of its own making.
    pub(super) fn ipxe(mac: [u8; 6]) -> Self {
        Self::pxe(mac, 7, "PXEClient:Arch:00007:UNDI:003010")
            .with(options::CLIENT_IDENTIFIER, &[&[1], &mac[..]].concat())
            .with(options::USER_CLASS, b"iPXE")
            .with(options::IPXE, &[0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e])
    }

    /// The boot ROM of a Raspberry Pi 3: an ARM machine that says it is a BIOS.
    pub(super) fn raspberry_pi(serial: u8) -> Self {
        Self::pxe([0xb8, 0x27, 0xeb, 0, 0, serial], 0, "PXEClient:Arch:00000:UNDI:002001")
    }

    /// dhclient of an installed system.
    pub(super) fn dhclient(mac: [u8; 6]) -> Self {
        Self::plain(mac)
            .with(options::PARAMETER_REQUEST_LIST, &[1, 28, 2, 3, 15, 6, 119, 12, 121])
            .with(options::HOST_NAME, b"debian")
    }

    /// dhcpcd or systemd-networkd: a client identifier by RFC 4361.
    pub(super) fn installer(mac: [u8; 6]) -> Self {
        let duid = [255, 0, 0, 0, 1, 0, 2, 0, 0, 0xab, 0x11, 9, 8, 7, 6, 5, 4, 3, 2];
        Self::dhclient(mac).with(options::CLIENT_IDENTIFIER, &duid)
    }

    /// busybox udhcpc of an initrd.
    pub(super) fn udhcpc(mac: [u8; 6]) -> Self {
        Self::plain(mac)
            .with(options::CLIENT_IDENTIFIER, &[&[1], &mac[..]].concat())
            .with(options::VENDOR_CLASS_IDENTIFIER, b"udhcp 1.35.0")
            .with(options::PARAMETER_REQUEST_LIST, &[1, 3, 6, 12, 15, 28, 42])
            .with(options::MAX_MESSAGE_SIZE, &576_u16.to_be_bytes())
    }

    /// Windows, which sets the broadcast flag.
    pub(super) fn windows(mac: [u8; 6]) -> Self {
        Self::plain(mac)
            .with(options::CLIENT_IDENTIFIER, &[&[1], &mac[..]].concat())
            .with(options::VENDOR_CLASS_IDENTIFIER, b"MSFT 5.0")
            .with(options::PARAMETER_REQUEST_LIST, &[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121])
            .broadcasting()
    }

    /// The same with one more option, or another value of it.
    pub(super) fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.retain(|(known, _)| *known != code);
        self.options.push((code, value.to_vec()));
        self
    }

    /// The same without an option.
    pub(super) fn without(mut self, code: u8) -> Self {
        self.options.retain(|(known, _)| *known != code);
        self
    }

    /// The same in its next transaction.
    pub(super) fn anew(&self) -> Self {
        Self { xid: self.xid.wrapping_add(0x100), ..self.clone() }
    }

    pub(super) fn broadcasting(mut self) -> Self {
        self.broadcast = true;
        self
    }

    /// The same behind a relay agent with that address.
    pub(super) fn behind(mut self, address: Ipv4Addr, information: &[u8]) -> Self {
        self.relay = Some(Relay { address, port: 67, information: information.to_vec() });
        self
    }

    pub(super) fn discover(&self) -> Datagram {
        self.through_relay(MessageType::Discover, Ipv4Addr::UNSPECIFIED, &[])
    }

    /// A DISCOVER with a wish for an address.
    pub(super) fn discover_again(&self, wish: Ipv4Addr) -> Datagram {
        self.through_relay(
            MessageType::Discover,
            Ipv4Addr::UNSPECIFIED,
            &[(options::REQUESTED_ADDRESS, wish.octets().to_vec())],
        )
    }

    /// SELECTING: the REQUEST that takes an offer.
    pub(super) fn select(&self, offer: &Answer) -> Datagram {
        self.select_from(offer.message().server_identifier().unwrap(), offer.yiaddr())
    }

    pub(super) fn select_from(&self, server: Ipv4Addr, address: Ipv4Addr) -> Datagram {
        self.through_relay(
            MessageType::Request,
            Ipv4Addr::UNSPECIFIED,
            &[
                (options::REQUESTED_ADDRESS, address.octets().to_vec()),
                (options::SERVER_IDENTIFIER, server.octets().to_vec()),
            ],
        )
    }

    /// INIT-REBOOT: the REQUEST for an address that is remembered.
    pub(super) fn reboot(&self, address: Ipv4Addr) -> Datagram {
        self.through_relay(
            MessageType::Request,
            Ipv4Addr::UNSPECIFIED,
            &[(options::REQUESTED_ADDRESS, address.octets().to_vec())],
        )
    }

    /// RENEWING: by unicast to the server, past every relay agent.
    pub(super) fn renew(&self, address: Ipv4Addr) -> Datagram {
        self.unicast(MessageType::Request, address, &[])
    }

    /// REBINDING: by broadcast, from the address.
    pub(super) fn rebind(&self, address: Ipv4Addr) -> Datagram {
        self.leaving_from(self.through_relay(MessageType::Request, address, &[]), address)
    }

    /// A direct client's datagram as it leaves from its address.
    fn leaving_from(&self, mut datagram: Datagram, address: Ipv4Addr) -> Datagram {
        if self.relay.is_none() {
            datagram.source = SocketAddrV4::new(address, 68);
        }
        datagram
    }

    pub(super) fn release(&self, address: Ipv4Addr) -> Datagram {
        let server = (options::SERVER_IDENTIFIER, SERVER.octets().to_vec());
        self.unicast(MessageType::Release, address, &[server])
    }

    pub(super) fn decline(&self, address: Ipv4Addr) -> Datagram {
        self.through_relay(
            MessageType::Decline,
            Ipv4Addr::UNSPECIFIED,
            &[
                (options::REQUESTED_ADDRESS, address.octets().to_vec()),
                (options::SERVER_IDENTIFIER, SERVER.octets().to_vec()),
            ],
        )
    }

    pub(super) fn inform(&self, address: Ipv4Addr) -> Datagram {
        self.leaving_from(self.through_relay(MessageType::Inform, address, &[]), address)
    }

    /// A BOOTP request: no message type.
    pub(super) fn bootp(&self) -> Datagram {
        let payload = self.message(None, Ipv4Addr::UNSPECIFIED, &[], self.relay.as_ref());
        self.broadcast_of(payload)
    }

    fn through_relay(
        &self,
        kind: MessageType,
        ciaddr: Ipv4Addr,
        more: &[(u8, Vec<u8>)],
    ) -> Datagram {
        self.broadcast_of(self.message(Some(kind), ciaddr, more, self.relay.as_ref()))
    }

    fn broadcast_of(&self, payload: Vec<u8>) -> Datagram {
        match &self.relay {
            Some(relay) => Datagram {
                payload,
                source: SocketAddrV4::new(relay.address, relay.port),
                to: SERVER,
            },
            None => Datagram {
                payload,
                source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
                to: Ipv4Addr::BROADCAST,
            },
        }
    }

    fn unicast(&self, kind: MessageType, ciaddr: Ipv4Addr, more: &[(u8, Vec<u8>)]) -> Datagram {
        Datagram {
            payload: self.message(Some(kind), ciaddr, more, None),
            source: SocketAddrV4::new(ciaddr, 68),
            to: SERVER,
        }
    }

    fn message(
        &self,
        kind: Option<MessageType>,
        ciaddr: Ipv4Addr,
        more: &[(u8, Vec<u8>)],
        relay: Option<&Relay>,
    ) -> Vec<u8> {
        let header = Header {
            hops: u8::from(relay.is_some()),
            flags: if self.broadcast { BROADCAST_FLAG } else { 0 },
            ciaddr,
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.address),
            ..Header::request(self.htype, &self.chaddr, self.xid)
        };
        let mut buf = [0; 1400];
        let mut writer = MessageWriter::new(&mut buf, 1400, &header).unwrap();
        if let Some(kind) = kind {
            writer.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
        }
        for (code, value) in self.options.iter().chain(more) {
            writer.option(*code, value).unwrap();
        }
        if let Some(relay) = relay.filter(|relay| !relay.information.is_empty()) {
            writer.option(options::RELAY_AGENT_INFORMATION, &relay.information).unwrap();
        }
        let len = writer.finish();
        buf[..len].to_vec()
    }
}
