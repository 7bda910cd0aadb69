//! A small DHCP and TFTP server with one fault on demand.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm_net::{Datagram, Handler, SocketId, Target, Transmit};
use bootstorm_protocols::dhcpv4::{Header, Message, MessageType, MessageWriter, options};
use bootstorm_protocols::tftp::{Packet, Rollover, data_header};
use bootstorm_protocols::time::Moment;

pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 255, 1);
pub(crate) const FILE_LEN: usize = 3000;

/// What is wrong with the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Nothing,
    /// None: answers as a PXE server (option 60).
    PxeServer,
    /// None: option 175 has sub-option 176 with this value; any but 0 says there is no ProxyDHCP.
    NoProxy(u8),
    /// Answers nobody.
    Silent,
    /// Offers, and never acknowledges.
    OffersOnly,
    /// Refuses what it has offered.
    Naks,
    /// Gives every fourth client another one's address.
    Duplicate,
    /// One byte of a block, for every third transfer.
    Flip,
    /// Another server identifier in every ACK.
    ServerId,
    /// Option 82 does not come back.
    RelayOption,
    Xid,
    Chaddr,
    Giaddr,
    Subnet,
    LeaseZero,
    WrongFile,
    AckOther,
    /// Refuses an address that a client remembers.
    NaksReboot,
    /// A lease in the answer to an INFORM.
    InformLease,
    /// Every third transfer ends a block early.
    ShortFile,
}

pub(crate) struct Server {
    pub(crate) fault: Fault,
    pub(crate) dhcp: SocketId,
    pub(crate) tftp: SocketId,
    pub(crate) boot_file: &'static str,
    /// Everything that arrived, and when.
    pub(crate) heard: Vec<(Moment, SocketAddr, Vec<u8>)>,
    given: HashMap<Vec<u8>, Ipv4Addr>,
    transfers: HashMap<SocketAddr, u32>,
    begun: u32,
}

impl Server {
    pub(crate) fn new(fault: Fault, dhcp: SocketId, tftp: SocketId) -> Server {
        Server {
            fault,
            dhcp,
            tftp,
            boot_file: "boot.img",
            heard: Vec::new(),
            given: HashMap::new(),
            transfers: HashMap::new(),
            begun: 0,
        }
    }

    /// DHCP messages that arrived, as (seconds, type).
    pub(crate) fn messages(&self) -> Vec<(f64, MessageType)> {
        let message = |(at, _, bytes): &(Moment, SocketAddr, Vec<u8>)| {
            let kind = Message::parse(bytes).ok()?.message_type()?;
            Some((at.since(Moment::default()).as_secs_f64(), kind))
        };
        self.heard.iter().filter_map(message).collect()
    }

    fn dhcp<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        let Ok(request) = Message::parse(datagram.payload) else { return };
        let kind = match request.message_type() {
            Some(MessageType::Discover) => MessageType::Offer,
            Some(MessageType::Request) if self.fault == Fault::Naks => MessageType::Nak,
            Some(MessageType::Request)
                if self.fault == Fault::NaksReboot && request.server_identifier().is_none() =>
            {
                MessageType::Nak
            }
            Some(MessageType::Request) if self.fault != Fault::OffersOnly => MessageType::Ack,
            Some(MessageType::Inform) => MessageType::Ack,
            _ => return,
        };
        if self.fault == Fault::Silent {
            return;
        }
        let place = self.given.len() as u32;
        let shared = self.fault == Fault::Duplicate && place % 4 == 3;
        let fresh = Ipv4Addr::from(u32::from_be_bytes([10, 9, 1, 0]) + place - u32::from(shared));
        let mut address = *self.given.entry(request.chaddr().to_vec()).or_insert(fresh);
        if kind == MessageType::Ack && self.fault == Fault::AckOther {
            address = (u32::from(address) + 100).into();
        }
        if self.fault == Fault::Subnet {
            address = Ipv4Addr::new(192, 168, 7, 7);
        }
        let informs = request.message_type() == Some(MessageType::Inform);
        if informs && self.fault != Fault::InformLease {
            address = Ipv4Addr::UNSPECIFIED;
        }
        let header = self.header(&request, address);
        let target = if request.giaddr().is_unspecified() {
            SocketAddr::from((request.ciaddr(), 68))
        } else {
            SocketAddr::from((request.giaddr(), 67))
        };
        let target = Target::Udp { to: target, from: Some(ADDRESS.into()), ifindex: 0 };
        let fault = self.fault;
        let write = |buf: &mut [u8]| {
            let mut writer = MessageWriter::new(buf, 1000, &header).unwrap();
            let own = if kind == MessageType::Ack && fault == Fault::ServerId { 2 } else { 1 };
            let lease: u32 = if fault == Fault::LeaseZero { 0 } else { 100 };
            writer.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
            writer.option(options::SERVER_IDENTIFIER, &[10, 9, 255, own]).unwrap();
            if !informs || fault == Fault::InformLease {
                writer.option(options::LEASE_TIME, &lease.to_be_bytes()).unwrap();
            }
            writer.option(options::SUBNET_MASK, &[255, 255, 0, 0]).unwrap();
            match fault {
                Fault::PxeServer => {
                    writer.option(options::VENDOR_CLASS_IDENTIFIER, b"PXEClient").unwrap();
                }
                Fault::NoProxy(value) => writer.option(options::IPXE, &[176, 1, value]).unwrap(),
                _ => {}
            }
            if let Some(information) = request.relay_agent_information()
                && fault != Fault::RelayOption
            {
                writer.echo(&information).unwrap();
            }
            writer.finish()
        };
        tx.send(self.dhcp, &target, write).unwrap();
    }

    fn header<'m>(&self, request: &Message<'m>, address: Ipv4Addr) -> Header<'m> {
        let mut header = Header::reply_to(request);
        header.yiaddr = address;
        header.siaddr = ADDRESS;
        header.file = match self.fault {
            Fault::WrongFile => b"other.img",
            _ => self.boot_file.as_bytes(),
        };
        match self.fault {
            Fault::Xid => header.xid ^= 0x100,
            Fault::Chaddr => header.chaddr[5] ^= 1,
            Fault::Giaddr => header.giaddr = Ipv4Addr::new(10, 9, 0, 77),
            _ => {}
        }
        header
    }

    /// Lockstep, blocks of 512 bytes, no options.
    fn tftp<T: Transmit>(&mut self, datagram: &Datagram<'_>, tx: &mut T) {
        let block = match Packet::parse(datagram.payload) {
            Ok(Packet::Read(_)) => {
                self.begun += 1;
                self.transfers.insert(datagram.source, self.begun);
                1
            }
            Ok(Packet::Ack { block }) => block + 1,
            _ => return,
        };
        let Some(&transfer) = self.transfers.get(&datagram.source) else { return };
        let every_third = transfer % 3 == 0;
        let len =
            if self.fault == Fault::ShortFile && every_third { FILE_LEN - 512 } else { FILE_LEN };
        let file: Vec<u8> = (0..len).map(|at| (at * 7 / 3) as u8).collect();
        let at = usize::from(block - 1) * 512;
        if at > len || self.fault == Fault::Silent {
            return;
        }
        let mut data = file[at..(at + 512).min(len)].to_vec();
        if self.fault == Fault::Flip && every_third && block == 2 {
            data[99] ^= 1;
        }
        let target = Target::Udp { to: datagram.source, from: Some(ADDRESS.into()), ifindex: 0 };
        let write = |buf: &mut [u8]| {
            buf[..4].copy_from_slice(&data_header(block.into(), Rollover::ToZero));
            buf[4..4 + data.len()].copy_from_slice(&data);
            4 + data.len()
        };
        tx.send(self.tftp, &target, write).unwrap();
    }
}

impl<T: Transmit> Handler<T> for Server {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        self.heard.push((tx.now(), datagram.source, datagram.payload.to_vec()));
        if datagram.socket == self.dhcp {
            self.dhcp(&datagram, tx);
        } else {
            self.tftp(&datagram, tx);
        }
    }

    fn woken(&mut self, _tx: &mut T) {}

    fn sent(&mut self, _token: u64, _result: io::Result<()>, _tx: &mut T) {}

    fn batch_end(&mut self, _dry: bool, tx: &mut T) -> Option<Moment> {
        Some(tx.now() + Duration::from_secs(1))
    }
}
