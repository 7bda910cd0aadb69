//! Sending and receiving of datagrams: impairment is applied, packets are recorded, and each
//! datagram is passed to its machine.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_net::{SocketId, Target, Transmit};
use bootstorm_protocols::frame::UdpFrame;

use super::impairment::{Copies, DelayedPacket, Destination};
use super::sockets::{Role, Sources};
use super::timers::TimerKind;
use super::{Clients, SendPath};
use crate::seed::Purpose;

impl Clients {
    /// Sends a datagram, as far as the network lets it through.
    pub(super) fn transmit<T: Transmit>(
        &mut self,
        index: u32,
        path: SendPath,
        bytes: &[u8],
        tx: &mut T,
    ) {
        let machine = &mut self.machines[index as usize];
        machine.datagrams[0] = machine.datagrams[0].wrapping_add(1);
        let (nth, address) = (machine.datagrams[0], machine.address);
        let payload = match path.target {
            Target::Link { .. } => UdpFrame::parse(bytes).map_or(bytes, |(_, payload)| payload),
            Target::Udp { .. } => bytes,
        };
        let ends = self.sockets.ends(&path.target, address);
        self.validator.recorder.record(tx.now(), index, ends, payload);
        let Some(impairment) = &self.impairment else {
            self.send(path, bytes, tx);
            return;
        };
        let copies = impairment.copies(Purpose::ToServer, index, nth);
        let to = Destination::Server { socket: path.socket, target: path.target };
        self.deliver_copies(
            copies,
            DelayedPacket { machine: index, to, bytes: bytes.to_vec() },
            tx,
        );
    }

    pub(super) fn send<T: Transmit>(&mut self, path: SendPath, bytes: &[u8], tx: &mut T) {
        let sent = tx.send(path.socket, &path.target, |slot| {
            let len = bytes.len().min(slot.len());
            slot[..len].copy_from_slice(&bytes[..len]);
            len
        });
        if sent.is_err() {
            self.health.send_refused();
        }
    }

    /// Puts the copies of a datagram on their way.
    pub(super) fn deliver_copies<T: Transmit>(
        &mut self,
        copies: Copies,
        packet: DelayedPacket,
        tx: &mut T,
    ) {
        let now = tx.now();
        for after in copies.into_iter().flatten() {
            let held = if after.is_zero() {
                None
            } else {
                self.impairment.as_mut().and_then(|impairment| impairment.hold(packet.clone()))
            };
            match held {
                Some(number) => {
                    self.wheel.insert(now + after, TimerKind::Delayed(number).pack());
                }
                None => self.deliver(&packet, tx),
            }
        }
    }

    pub(super) fn deliver<T: Transmit>(&mut self, packet: &DelayedPacket, tx: &mut T) {
        match packet.to {
            Destination::Server { socket, target } => {
                self.send(SendPath { socket, target }, &packet.bytes, tx);
            }
            Destination::Machine { socket, source, destination } => {
                self.arrive(
                    packet.machine,
                    socket,
                    [source, SocketAddrV4::new(destination, 0)],
                    &packet.bytes,
                    tx,
                );
            }
        }
    }

    /// A datagram came out of a socket.
    pub(super) fn receive<T: Transmit>(
        &mut self,
        socket: SocketId,
        [source, destination]: [SocketAddrV4; 2],
        payload: &[u8],
        tx: &mut T,
    ) {
        if self.roles.get(socket.index()) == Some(&Some(Role::Groups)) {
            return self.group_arrived(socket, [source, destination], payload, tx);
        }
        let Some(index) = self.addressee(socket, *destination.ip(), payload) else {
            // Checked as well: the transaction id may be what is wrong.
            self.arrive(u32::MAX, socket, [source, destination], payload, tx);
            return;
        };
        let machine = &mut self.machines[index as usize];
        machine.datagrams[1] = machine.datagrams[1].wrapping_add(1);
        let nth = machine.datagrams[1];
        self.validator.recorder.record(tx.now(), index, [source, destination], payload);
        let Some(impairment) = &self.impairment else {
            self.arrive(index, socket, [source, destination], payload, tx);
            return;
        };
        let copies = impairment.copies(Purpose::ToMachine, index, nth);
        let to = Destination::Machine { socket, source, destination: *destination.ip() };
        self.deliver_copies(
            copies,
            DelayedPacket { machine: index, to, bytes: payload.to_vec() },
            tx,
        );
    }

    /// The machine that a datagram is for, as far as can be told.
    pub(super) fn addressee(
        &self,
        socket: SocketId,
        destination: Ipv4Addr,
        payload: &[u8],
    ) -> Option<u32> {
        let known = |index: &u32| (*index as usize) < self.machines.len();
        match self.roles.get(socket.index()).copied().flatten()? {
            Role::Relay(_) | Role::Link | Role::Client => {
                let xid = payload.get(4..8)?.try_into().ok()?;
                Some(self.ids.of_xid(u32::from_be_bytes(xid)).0).filter(known)
            }
            Role::Transfers(share) => {
                let owner = self.sockets.owner(destination, share);
                owner.or_else(|| self.validator.holder(destination)).filter(known)
            }
            Role::Port(first) => self.on_port(first),
            // A group is no machine's.
            Role::Unused | Role::Groups => None,
        }
    }

    /// The machine that uses a port now. Where there are fewer ports than machines, one of those
    /// that share it.
    pub(super) fn on_port(&self, first: u32) -> Option<u32> {
        let Sources::Ports { sockets, .. } = &self.sockets.sources else { return None };
        let sharing = (first..self.machines.len() as u32).step_by(sockets.len().max(1));
        sharing.into_iter().find(|index| self.machines[*index as usize].transfer.is_some())
    }

    /// Passes a datagram to its machine, or counts it as a stray.
    pub(super) fn arrive<T: Transmit>(
        &mut self,
        index: u32,
        socket: SocketId,
        [source, destination]: [SocketAddrV4; 2],
        payload: &[u8],
        tx: &mut T,
    ) {
        match self.roles.get(socket.index()).copied().flatten() {
            Some(Role::Relay(_) | Role::Link | Role::Client) => {
                self.dhcp_arrived(payload, [*source.ip(), *destination.ip()], tx);
            }
            Some(Role::Transfers(_) | Role::Port(_)) if (index as usize) < self.machines.len() => {
                self.tftp_arrived(index, socket, source, payload, tx);
            }
            Some(Role::Groups) if self.listens(index, *destination.ip()) => {
                self.multicast_arrived(index, source, payload, &mut None, tx);
            }
            Some(Role::Unused | Role::Groups) => {}
            _ => self.strays += 1,
        }
    }
}
