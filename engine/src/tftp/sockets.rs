//! The sockets of one shard: what each is for, and which transfer a datagram belongs to.

use std::net::IpAddr;

use bootstorm_net::{Datagram, SocketId, Transmit};
use bootstorm_protocols::tftp::ErrorCode;

use super::reason::Reason;
use super::requests::send_error;
use super::shard::TftpShard;

/// A socket of port 69, and the sockets that its transfers use in turn. RFC 1350 section 4 wants
/// another port for each transfer; 16 are enough to keep late packets of a client's last transfer
/// out of its next.
#[derive(Clone, Debug)]
pub struct TftpPorts {
    /// Bound to port 69.
    pub listen: SocketId,
    /// Bound to ports of their own, for requests to any address; not shared with other shards.
    /// Without any, all answers leave from `listen` (`single-port`).
    pub data: Vec<SocketId>,
    /// The same, each bound to an address of this host, for requests to this address: it saves the
    /// kernel work for each block and each ACK.
    pub bound: Vec<(IpAddr, SocketId)>,
}

/// What a socket is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Foreign,
    /// Requests. Index into the ports.
    Listen(usize),
    Data,
    /// Requests and their transfers. Index into the ports.
    SinglePort(usize),
}

impl Role {
    /// Index of the ports whose requests arrive here.
    pub(super) fn requests(self) -> Option<usize> {
        match self {
            Self::Listen(ports) | Self::SinglePort(ports) => Some(ports),
            Self::Foreign | Self::Data => None,
        }
    }

    /// Whether packets of transfers arrive here.
    pub(super) fn has_transfers(self) -> bool {
        matches!(self, Self::Data | Self::SinglePort(_))
    }

    pub(super) fn is_single_port(self) -> bool {
        matches!(self, Self::SinglePort(_))
    }
}

impl TftpShard {
    /// Replaces the sockets, as a reload does. Transfers on removed sockets end by themselves.
    pub(crate) fn set_ports(&mut self, ports: Vec<TftpPorts>) {
        self.roles.clear();
        let mut set = |socket: SocketId, role| {
            if self.roles.len() <= socket.index() {
                self.roles.resize(socket.index() + 1, Role::Foreign);
            }
            self.roles[socket.index()] = role;
        };
        for (index, port) in ports.iter().enumerate() {
            let listen = match port.data.is_empty() {
                true => Role::SinglePort(index),
                false => Role::Listen(index),
            };
            set(port.listen, listen);
            let bound = port.bound.iter().map(|(_, socket)| socket);
            port.data.iter().chain(bound).for_each(|&socket| set(socket, Role::Data));
        }
        self.ports = ports;
    }

    pub(super) fn role(&self, socket: SocketId) -> Role {
        self.roles.get(socket.index()).copied().unwrap_or(Role::Foreign)
    }

    /// The data socket for the client's next transfer: each in turn, or the one that was asked.
    pub(super) fn data_socket(
        &mut self,
        ports: usize,
        datagram: &Datagram<'_>,
    ) -> Option<SocketId> {
        if self.role(datagram.socket).is_single_port() {
            return Some(datagram.socket);
        }
        let TftpPorts { data, bound, .. } = self.ports.get(ports)?;
        let bucket = self.bucket(&datagram.source.ip());
        let turn = self.rotation.get_mut(bucket)?;
        *turn = turn.wrapping_add(1);
        let turn = usize::from(*turn);
        let own = bound.iter().filter(|(address, _)| Some(*address) == datagram.destination);
        match turn.checked_rem(own.clone().count()) {
            Some(turn) => own.clone().nth(turn).map(|(_, socket)| *socket),
            None => data.get(turn.checked_rem(data.len())?).copied(),
        }
    }

    /// The transfer between a client and the socket its datagram came to.
    pub(super) fn known<T: Transmit>(
        &mut self,
        datagram: &Datagram<'_>,
        tx: &mut T,
    ) -> Option<u64> {
        let number = self.transfer_of(datagram);
        if number.is_some() {
            return number;
        }
        if self.role(datagram.socket).is_single_port() {
            // An ERROR would end the transfer that the client may have begun meanwhile.
            self.count(Reason::UnknownTransfer);
            return None;
        }
        let bucket = self.bucket(&datagram.source);
        if self.served.get(bucket) == Some(&Some((datagram.source, datagram.socket))) {
            return None;
        }
        self.count(Reason::UnknownTransfer);
        let (code, text) = (ErrorCode::UnknownTransfer, Reason::UnknownTransfer.text());
        send_error(tx, datagram.socket, datagram, code, text);
        None
    }

    /// The transfer that a datagram belongs to: the client's, if it came to the transfer's port,
    /// or with one port for all transfers, to the address that the client asked at.
    pub(super) fn transfer_of(&mut self, datagram: &Datagram<'_>) -> Option<u64> {
        let single_port = self.role(datagram.socket).is_single_port();
        let number = self.transfers.of_client(&datagram.source)?;
        let known = self.transfers.get(number)?;
        if !single_port {
            return (known.socket == datagram.socket).then_some(number);
        }
        if !known.single_port || known.local != datagram.destination {
            return None;
        }
        // An interface that was made again has another socket.
        (known.socket, known.ifindex) = (datagram.socket, datagram.ifindex);
        Some(number)
    }
}
