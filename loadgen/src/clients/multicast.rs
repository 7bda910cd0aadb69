//! Multicast TFTP (RFC 2090). A block arrives once and is delivered to every machine in the group.
//! The rules are those of the listener in `protocols::tftp`.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_net::{SocketId, Transmit};
use bootstorm_protocols::tftp::{Arrived, Listener, Multicast, Packet};
use bootstorm_protocols::time::Moment;

use super::Clients;
use super::impairment::{DelayedPacket, Destination};
use super::tftp::Outcome;
use crate::seed::Purpose;
use crate::validator::{BlockOutcome, FileId, Kind};

/// The machines that listen to a group; some may have left.
#[derive(Debug)]
pub(super) struct ListenerGroup {
    group: SocketAddrV4,
    machines: Vec<u32>,
}

/// The result of checking a block, for the next machine that receives the same datagram.
type Checked = Option<(FileId, u16, BlockOutcome)>;

impl Clients {
    /// The server has granted a place in a stream: the machine joins the group.
    pub(super) fn begin_to_listen(
        &mut self,
        index: u32,
        granted: Multicast,
        now: Moment,
    ) -> Outcome {
        let Some(group) = granted.group else { return Outcome::GoesOn };
        if self.multicast_port != Some(group.port()) {
            return Outcome::Failed(format!(
                "TFTP multicast to port {0}: say --multicast-port {0}",
                group.port()
            ));
        }
        if let Err(error) = self.memberships.join(*group.ip()) {
            return Outcome::Failed(error.to_string());
        }
        let machine = &mut self.machines[index as usize];
        let patience = machine.program.tftp().patience;
        let Some(transfer) = machine.transfer.as_deref_mut() else { return Outcome::GoesOn };
        let agreed = transfer.receiver.negotiated();
        let (block_len, window) = (agreed.block_len(), agreed.window_len());
        let listener =
            Listener::new(block_len, window, agreed.timeout(), granted.master, &patience, now);
        transfer.listener = Some(Box::new((group, listener)));
        // Its blocks come in any order.
        self.files.abandon(transfer.file, index);
        match self.listener_groups.iter_mut().find(|listener_group| listener_group.group == group) {
            Some(listener_group) => listener_group.machines.push(index),
            None => self.listener_groups.push(ListenerGroup { group, machines: vec![index] }),
        }
        Outcome::GoesOn
    }

    /// A datagram for a group. It is delivered to every machine in it, subject to impairment.
    pub(super) fn group_arrived<T: Transmit>(
        &mut self,
        socket: SocketId,
        [source, group]: [SocketAddrV4; 2],
        payload: &[u8],
        tx: &mut T,
    ) {
        let Some(at) = self
            .listener_groups
            .iter()
            .position(|listener_group| listener_group.group.ip() == group.ip())
        else {
            self.strays += 1;
            return;
        };
        // Taken out: a machine that completes its file here may join another group.
        let mut machines = std::mem::take(&mut self.listener_groups[at].machines);
        if let Some(&first) = machines.first() {
            self.validator.recorder.record(tx.now(), first, [source, group], payload);
        }
        let mut checked = None;
        machines.retain(|&index| {
            if !self.listens(index, *group.ip()) {
                return false;
            }
            let Some(impairment) = &self.impairment else {
                self.multicast_arrived(index, source, payload, &mut checked, tx);
                return true;
            };
            let machine = &mut self.machines[index as usize];
            machine.datagrams[1] = machine.datagrams[1].wrapping_add(1);
            let copies = impairment.copies(Purpose::ToMachine, index, machine.datagrams[1]);
            let to = Destination::Machine { socket, source, destination: *group.ip() };
            self.deliver_copies(
                copies,
                DelayedPacket { machine: index, to, bytes: payload.to_vec() },
                tx,
            );
            true
        });
        let newcomers = std::mem::take(&mut self.listener_groups[at].machines);
        machines.extend(newcomers);
        self.listener_groups[at].machines = machines;
    }

    /// Whether a machine is in this group, and its transfer not over.
    pub(super) fn listens(&self, index: u32, group: Ipv4Addr) -> bool {
        let transfer =
            self.machines.get(index as usize).and_then(|machine| machine.transfer.as_deref());
        let listener = transfer.and_then(|transfer| transfer.listener.as_ref());
        listener.is_some_and(|listener| *listener.0.ip() == group)
    }

    /// A block of a machine's stream arrived.
    pub(super) fn multicast_arrived<T: Transmit>(
        &mut self,
        index: u32,
        source: SocketAddrV4,
        payload: &[u8],
        checked: &mut Checked,
        tx: &mut T,
    ) {
        let transfer = self.machines[index as usize].transfer.as_deref();
        if transfer.is_none_or(|transfer| transfer.peer != Some(source)) {
            self.strays += 1;
            return;
        }
        match self.take_multicast(index, payload, checked, tx.now()) {
            Outcome::GoesOn => self.send_pending(index, tx),
            outcome => self.end_transfer(index, outcome, tx),
        }
    }

    fn take_multicast(
        &mut self,
        index: u32,
        payload: &[u8],
        checked: &mut Checked,
        now: Moment,
    ) -> Outcome {
        let mac = self.ids.mac(index);
        let transfer = self.machines[index as usize].transfer.as_deref_mut();
        let Some(transfer) = transfer else { return Outcome::GoesOn };
        let block_len = transfer.receiver.negotiated().block_len();
        let Some(listener) = &mut transfer.listener else { return Outcome::GoesOn };
        let Ok(Packet::Data { block, data }) = Packet::parse(payload) else {
            let len = payload.len();
            self.validator.violation(Kind::TftpProtocol, index, mac, now, || {
                format!("{len} bytes for a multicast group that are no DATA")
            });
            return Outcome::GoesOn;
        };
        let whole = match listener.1.on_data(block, data.len(), now) {
            Arrived::Take => false,
            Arrived::Complete => true,
            Arrived::Ignored => return Outcome::GoesOn,
            Arrived::TooLong => return self.too_long(index, block, data.len(), now),
        };
        transfer.bytes += data.len() as u64;
        let file = transfer.file;
        let outcome = match *checked {
            Some((checked, len, outcome)) if (checked, len) == (file, block_len) => outcome,
            _ => self.files.any_block(file, block.into(), block_len, data),
        };
        *checked = Some((file, block_len, outcome));
        self.check_block(index, file, block.into(), data.len(), outcome, now);
        if whole { Outcome::Complete } else { Outcome::GoesOn }
    }
}
