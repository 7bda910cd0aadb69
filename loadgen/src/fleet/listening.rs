//! Machines that share a stream (RFC 2090). A block comes once and is heard by all who listen; the rules are those of the
//! listener in `protocols::tftp`.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_net::{SocketId, Transmit};
use bootstorm_protocols::tftp::{Arrived, Listener, Multicast, Packet};
use bootstorm_protocols::time::Moment;

use super::Fleet;
use super::loading::Outcome;
use super::weather::{Bound, Parcel};
use crate::judge::{BlockOutcome, FileId, Kind};
use crate::seed::Purpose;

/// The machines that listen to a group; some may have left.
#[derive(Debug)]
pub(super) struct Audience {
    group: SocketAddrV4,
    machines: Vec<u32>,
}

/// What a block was found to be, for the next machine that hears it.
type Judged = Option<(FileId, u16, BlockOutcome)>;

impl Fleet {
    /// The server has granted a place in a stream: from now on the machine listens.
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
        match self.audiences.iter_mut().find(|audience| audience.group == group) {
            Some(audience) => audience.machines.push(index),
            None => self.audiences.push(Audience { group, machines: vec![index] }),
        }
        Outcome::GoesOn
    }

    /// A datagram for a group: everybody who listens hears it, as far as the network lets it through.
    pub(super) fn group_arrived<T: Transmit>(
        &mut self,
        socket: SocketId,
        [source, group]: [SocketAddrV4; 2],
        payload: &[u8],
        tx: &mut T,
    ) {
        let Some(at) = self.audiences.iter().position(|audience| audience.group.ip() == group.ip())
        else {
            self.strays += 1;
            return;
        };
        // Taken out, because a machine that hears its last block may begin to listen to something else.
        let mut machines = std::mem::take(&mut self.audiences[at].machines);
        if let Some(&first) = machines.first() {
            self.judge.recorder.saw(tx.now(), first, [source, group], payload);
        }
        let mut judged = None;
        machines.retain(|&index| {
            if !self.listens(index, *group.ip()) {
                return false;
            }
            let Some(weather) = &self.weather else {
                self.hear(index, source, payload, &mut judged, tx);
                return true;
            };
            let machine = &mut self.machines[index as usize];
            machine.datagrams[1] = machine.datagrams[1].wrapping_add(1);
            let fate = weather.fate(Purpose::ToMachine, index, machine.datagrams[1]);
            let to = Bound::Machine { socket, source, destination: *group.ip() };
            self.carry(fate, Parcel { machine: index, to, bytes: payload.to_vec() }, tx);
            true
        });
        let newcomers = std::mem::take(&mut self.audiences[at].machines);
        machines.extend(newcomers);
        self.audiences[at].machines = machines;
    }

    /// Whether a machine is in this group, and its transfer not over.
    pub(super) fn listens(&self, index: u32, group: Ipv4Addr) -> bool {
        let transfer =
            self.machines.get(index as usize).and_then(|machine| machine.transfer.as_deref());
        let listener = transfer.and_then(|transfer| transfer.listener.as_ref());
        listener.is_some_and(|listener| *listener.0.ip() == group)
    }

    /// A machine hears a block of its stream.
    pub(super) fn hear<T: Transmit>(
        &mut self,
        index: u32,
        source: SocketAddrV4,
        payload: &[u8],
        judged: &mut Judged,
        tx: &mut T,
    ) {
        let transfer = self.machines[index as usize].transfer.as_deref();
        if transfer.is_none_or(|transfer| transfer.peer != Some(source)) {
            self.strays += 1;
            return;
        }
        match self.take_heard(index, payload, judged, tx.now()) {
            Outcome::GoesOn => self.speak(index, tx),
            outcome => self.end_transfer(index, outcome, tx),
        }
    }

    fn take_heard(
        &mut self,
        index: u32,
        payload: &[u8],
        judged: &mut Judged,
        now: Moment,
    ) -> Outcome {
        let mac = self.ids.mac(index);
        let transfer = self.machines[index as usize].transfer.as_deref_mut();
        let Some(transfer) = transfer else { return Outcome::GoesOn };
        let block_len = transfer.receiver.negotiated().block_len();
        let Some(listener) = &mut transfer.listener else { return Outcome::GoesOn };
        let Ok(Packet::Data { block, data }) = Packet::parse(payload) else {
            let len = payload.len();
            self.judge.violation(Kind::TftpProtocol, index, mac, now, || {
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
        let outcome = match *judged {
            Some((judged, len, outcome)) if (judged, len) == (file, block_len) => outcome,
            _ => self.files.block(file, index, block.into(), block_len, data),
        };
        *judged = Some((file, block_len, outcome));
        self.judge_block(index, file, block.into(), data.len(), outcome, now);
        if whole { Outcome::Complete } else { Outcome::GoesOn }
    }
}
