//! TFTP of a machine. The rules of a transfer are in `protocols::tftp`; this module adds the
//! firmware's behaviour and passes every block to the validator.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::tftp::{
    Arrived, ErrorCode, ListenerSend, Mode, Packet, Receiver, ReceiverSend, ack, write_error,
    write_request,
};
use bootstorm_protocols::time::Moment;

use super::machine::{Phase, Transfer};
use super::{Clients, SendPath};
use crate::metrics::{State, Timed};
use crate::scenario::{BOOT_FILE, Stage};
use crate::validator::{BlockOutcome, FileId, Flaw, Kind};

/// Fewer blocks than this that come twice are no violation.
const LEAST_TWICE: u64 = 8;

impl Transfer {
    /// What the transfer has to send. A listener's messages are translated to a receiver's.
    fn pending(&self) -> Option<ReceiverSend> {
        let Some(listener) = &self.listener else { return self.receiver.pending() };
        listener.1.pending().map(|send| match send {
            ListenerSend::Request => ReceiverSend::Request,
            ListenerSend::Ack(block) => ReceiverSend::Ack(block),
        })
    }

    fn sent(&mut self, now: Moment) {
        match &mut self.listener {
            Some(listener) => listener.1.sent(now),
            None => self.receiver.sent(now),
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match &self.listener {
            Some(listener) => listener.1.deadline(),
            None => self.receiver.deadline(),
        }
    }
}

/// What came of a packet of a transfer.
pub(super) enum Outcome {
    GoesOn,
    /// The size is known: the request proper may follow.
    Probed,
    Complete,
    Failed(String),
}

impl Clients {
    /// Begins with the file at the machine's place in its list.
    pub(super) fn load<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &self.machines[index as usize];
        let Some(Stage::Tftp(names)) = self.stages.get(usize::from(machine.stage)) else { return };
        let Some(name) = names.get(usize::from(machine.item)) else {
            self.finish_stage(index, Duration::ZERO, tx);
            return;
        };
        let file = match machine.boot_file {
            boot_file if name == BOOT_FILE => boot_file,
            _ => self.files.named(name.as_bytes()),
        };
        let Some(file) = file else {
            self.fail_boot(index, "no boot file named", at);
            return;
        };
        self.set_state(index, State::Loading);
        let probe = self.machines[index as usize].program.tftp().size_probe.is_some();
        self.begin_transfer(index, file, probe, at, tx);
    }

    fn begin_transfer<T: Transmit>(
        &mut self,
        index: u32,
        file: FileId,
        probe: bool,
        at: Moment,
        tx: &mut T,
    ) {
        let machine = &mut self.machines[index as usize];
        let behaviour = machine.program.tftp();
        machine.transfers = machine.transfers.wrapping_add(1);
        let Some(socket) = self.sockets.transfer_socket(index, machine.transfers) else { return };
        let mut asked = self.asked.unwrap_or(behaviour.asked);
        if probe {
            asked.tsize = Some(0);
        }
        let server = match self.tftp_server {
            Some(server) => server,
            None if machine.next_server.is_unspecified() => self.sockets.server,
            None => machine.next_server,
        };
        machine.phase = Phase::Loading;
        machine.transfer = Some(Box::new(Transfer {
            receiver: Receiver::asking(&asked, &behaviour.patience, at),
            listener: None,
            asked,
            file,
            socket,
            server,
            peer: None,
            probe,
            bytes: 0,
            began: at,
            repeated: 0,
            twice: 0,
        }));
        self.metrics.tftp.begin(at);
        self.send_pending(index, tx);
    }

    /// Sends the packets that the transfer has pending, and sets its timer.
    pub(super) fn send_pending<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let now = tx.now();
        let machine = &mut self.machines[index as usize];
        let Some(transfer) = machine.transfer.as_deref_mut() else { return };
        if let Some(send) = transfer.pending() {
            // A request goes to the port that everybody asks at, even if it is made once more.
            let peer = transfer.peer.filter(|_| send != ReceiverSend::Request);
            let target = self.sockets.transfer_target(machine.address, transfer.server, peer);
            let path = SendPath { socket: transfer.socket, target };
            let mut request = [0; 600];
            let packet: &[u8] = match send {
                ReceiverSend::Request => {
                    let name = self.files.raw_name(transfer.file);
                    let asked = &transfer.asked;
                    let written = write_request(&mut request, false, name, Mode::Octet).and_then(
                        |mut writer| {
                            asked.write_options(&mut writer)?;
                            Ok(writer.finish())
                        },
                    );
                    match written {
                        Ok(len) => &request[..len],
                        // Names come from replies and scenarios; this one is longer than any
                        // packet.
                        Err(_) => {
                            self.end_transfer(index, Outcome::Failed("name too long".into()), tx);
                            return;
                        }
                    }
                }
                ReceiverSend::Ack(block) => {
                    request[..4]
                        .copy_from_slice(&ack(block, transfer.receiver.negotiated().rollover()));
                    &request[..4]
                }
                // A receiver that requested the file never sends this.
                ReceiverSend::OptionAck => &[],
            };
            transfer.sent(now);
            let len = packet.len();
            self.transmit(index, path, &request[..len], tx);
        }
        let machine = &self.machines[index as usize];
        let due = machine.transfer.as_ref().and_then(|transfer| transfer.deadline());
        if let Some(due) = due {
            self.arm(index, due);
        }
    }

    /// Nothing came in time.
    pub(super) fn load_again<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let now = tx.now();
        let Some(transfer) = self.machines[index as usize].transfer.as_deref_mut() else { return };
        transfer.repeated += 1;
        let gave_up = match &mut transfer.listener {
            Some(listener) => listener.1.on_deadline(now),
            None => transfer.receiver.on_deadline(now),
        };
        if gave_up.is_err() {
            self.end_transfer(index, Outcome::Failed("TFTP silent".into()), tx);
            return;
        }
        self.metrics.tftp.figures.retransmissions += 1;
        self.metrics.sent_again();
        self.send_pending(index, tx);
    }

    /// A packet for one of a machine's ports.
    pub(super) fn tftp_arrived<T: Transmit>(
        &mut self,
        index: u32,
        socket: bootstorm_net::SocketId,
        source: SocketAddrV4,
        payload: &[u8],
        tx: &mut T,
    ) {
        let machine = &mut self.machines[index as usize];
        let Some(transfer) = machine.transfer.as_deref_mut().filter(|t| t.socket == socket) else {
            // Late packets of a transfer that is over. A server that makes such a machine the
            // master of a stream waits for its answer.
            if self.multicast_port.is_some()
                && let Ok(Packet::OptionAck(_)) = Packet::parse(payload)
            {
                self.refuse(index, socket, source, tx);
            }
            return;
        };
        let stranger = match transfer.peer {
            Some(peer) => peer != source,
            None => *source.ip() != transfer.server,
        };
        if stranger {
            self.refuse(index, socket, source, tx);
            return;
        }
        transfer.peer = Some(source);
        match self.take(index, payload, tx.now()) {
            Outcome::GoesOn => self.send_pending(index, tx),
            outcome => self.end_transfer(index, outcome, tx),
        }
    }

    /// What a packet of the transfer means.
    fn take(&mut self, index: u32, payload: &[u8], now: Moment) -> Outcome {
        let mac = self.ids.mac(index);
        let machine = &mut self.machines[index as usize];
        let Some(transfer) = machine.transfer.as_deref_mut() else { return Outcome::GoesOn };
        let file = transfer.file;
        match Packet::parse(payload) {
            Ok(Packet::Data { block, data }) => {
                let arrived = transfer.receiver.on_data(block, data.len(), now);
                let whole = match arrived {
                    Arrived::Take => false,
                    Arrived::Complete => true,
                    Arrived::Ignored => {
                        let last = transfer.receiver.blocks();
                        // One that was taken already, and not one behind a gap.
                        let behind = (last as u16).wrapping_sub(block);
                        if last > 0 && behind < transfer.receiver.negotiated().window_len() {
                            transfer.twice += 1;
                            self.metrics.tftp.figures.duplicate_blocks += 1;
                        }
                        return Outcome::GoesOn;
                    }
                    Arrived::TooLong => return self.too_long(index, block, data.len(), now),
                };
                transfer.bytes += data.len() as u64;
                let number = transfer.receiver.blocks();
                let block_len = transfer.receiver.negotiated().block_len();
                let outcome = self.files.block(file, index, number, block_len, data);
                self.check_block(index, file, number, data.len(), outcome, now);
                if whole { Outcome::Complete } else { Outcome::GoesOn }
            }
            Ok(Packet::OptionAck(options)) => {
                let understood = match &mut transfer.listener {
                    Some(listener) => listener.1.on_option_ack(&options, now).map(|()| None),
                    None => transfer
                        .receiver
                        .on_option_ack(&options, now)
                        .map(|granted| granted.multicast),
                };
                match understood {
                    Ok(_) if transfer.probe => Outcome::Probed,
                    Ok(Some(granted)) => self.begin_to_listen(index, granted, now),
                    Ok(None) => Outcome::GoesOn,
                    Err(refused) => {
                        self.validator.violation(Kind::TftpProtocol, index, mac, now, || {
                            format!("OACK: {refused}")
                        });
                        Outcome::Failed("TFTP options unusable".into())
                    }
                }
            }
            Ok(Packet::Error { code, message }) => {
                let text = String::from_utf8_lossy(message);
                let text: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
                Outcome::Failed(format!("TFTP error {} ({text})", code.code()))
            }
            Ok(Packet::Read(_) | Packet::Write(_) | Packet::Ack { .. }) | Err(_) => {
                let len = payload.len();
                self.validator.violation(Kind::TftpProtocol, index, mac, now, || {
                    format!("{len} bytes that are no DATA, OACK or ERROR")
                });
                Outcome::GoesOn
            }
        }
    }

    /// Counts a block, and says so when its bytes are wrong.
    pub(super) fn check_block(
        &mut self,
        index: u32,
        file: FileId,
        number: u64,
        len: usize,
        outcome: BlockOutcome,
        now: Moment,
    ) {
        self.metrics.loaded(len as u64);
        if outcome == BlockOutcome::Wrong {
            let (mac, name) = (self.ids.mac(index), self.files.name(file));
            self.validator.violation(Kind::Content, index, mac, now, || {
                format!("block {number} of `{name}` ({len} bytes) has wrong bytes")
            });
        }
    }

    pub(super) fn too_long(&mut self, index: u32, block: u16, len: usize, now: Moment) -> Outcome {
        let mac = self.ids.mac(index);
        self.validator.violation(Kind::TftpProtocol, index, mac, now, || {
            format!("block {block} has {len} bytes, more than agreed on")
        });
        Outcome::Failed("TFTP block too long".into())
    }

    pub(super) fn end_transfer<T: Transmit>(&mut self, index: u32, outcome: Outcome, tx: &mut T) {
        let now = tx.now();
        // Before the transfer goes, its last ACK leaves, or the ERROR that ends a probe.
        match &outcome {
            Outcome::Complete => self.send_pending(index, tx),
            Outcome::Probed => self.abort_probe(index, tx),
            Outcome::GoesOn | Outcome::Failed(_) => {}
        }
        let machine = &mut self.machines[index as usize];
        let Some(transfer) = machine.transfer.take() else { return };
        let (file, bytes) = (transfer.file, transfer.bytes);
        match outcome {
            Outcome::GoesOn => {}
            Outcome::Probed => {
                self.metrics.tftp.set_aside();
                self.begin_transfer(index, file, false, now, tx);
            }
            Outcome::Complete if transfer.probe => {
                // A server without options has sent a file of one block.
                self.metrics.tftp.set_aside();
                self.begin_transfer(index, file, false, now, tx);
            }
            Outcome::Complete => {
                self.metrics.tftp.end(true, now);
                self.metrics.took(Timed::Transfer, transfer.began, now);
                self.check_whole(index, file, bytes, &transfer, now);
                let machine = &mut self.machines[index as usize];
                machine.item += 1;
                machine.file_tries = 0;
                self.load(index, now, tx);
            }
            Outcome::Failed(reason) => {
                self.metrics.tftp.end(false, now);
                self.metrics.failed(Timed::Transfer);
                self.files.abandon(file, index);
                let machine = &mut self.machines[index as usize];
                machine.file_tries += 1;
                if machine.file_tries < machine.program.tftp().attempts {
                    self.load(index, now, tx);
                    return;
                }
                let reason = format!("{reason}: {}", self.files.name(file));
                self.fail_boot(index, &reason, now);
            }
        }
    }

    /// Checks a transfer that is complete.
    fn check_whole(
        &mut self,
        index: u32,
        file: FileId,
        bytes: u64,
        transfer: &Transfer,
        now: Moment,
    ) {
        let agreed = transfer.receiver.negotiated();
        let flaw = self.files.complete(file, index, agreed.block_len(), bytes);
        let announced = agreed.tsize.filter(|announced| *announced != bytes);
        self.check_repetitions(index, file, transfer, now);
        let (mac, name) = (self.ids.mac(index), self.files.name(file));
        if let Some(announced) = announced {
            self.validator.violation(Kind::FileSize, index, mac, now, || {
                format!("`{name}` has {bytes} bytes, {announced} were announced")
            });
            return;
        }
        match flaw {
            None => {}
            Some(Flaw::Length(expected)) => {
                self.validator.violation(Kind::FileSize, index, mac, now, || {
                    format!("`{name}` has {bytes} bytes, it should have {expected}")
                });
            }
            Some(Flaw::BlockLength(len)) => {
                self.validator.violation(Kind::Content, index, mac, now, || {
                    format!("`{name}` is another file in blocks of {len} bytes than in others")
                });
            }
        }
    }

    /// Blocks that came twice, though neither the machine nor the network repeated anything. A
    /// server may repeat a block whose ACK it has waited for; one that repeats a quarter of them
    /// does not wait.
    fn check_repetitions(&mut self, index: u32, file: FileId, transfer: &Transfer, now: Moment) {
        let window = u64::from(transfer.receiver.negotiated().window_len());
        let asked_for = u64::from(transfer.repeated) * window;
        let twice = u64::from(transfer.twice).saturating_sub(asked_for);
        let blocks = transfer.receiver.blocks();
        if twice >= LEAST_TWICE && twice * 4 > blocks && !self.network_repeats {
            let (mac, name) = (self.ids.mac(index), self.files.name(file));
            self.validator.violation(Kind::DuplicateBlocks, index, mac, now, || {
                format!("{twice} of {blocks} blocks of `{name}` came twice without being asked for")
            });
        }
    }

    /// Ends a probe as firmware does.
    fn abort_probe<T: Transmit>(&mut self, index: u32, tx: &mut T) {
        let code = self.machines[index as usize].program.tftp().size_probe;
        let code = code.unwrap_or(ErrorCode::NotDefined);
        self.send_error(index, code, "User aborted the transfer", tx);
    }

    fn send_error<T: Transmit>(&mut self, index: u32, code: ErrorCode, text: &str, tx: &mut T) {
        let machine = &self.machines[index as usize];
        let Some(transfer) = &machine.transfer else { return };
        let target = self.sockets.transfer_target(machine.address, transfer.server, transfer.peer);
        let path = SendPath { socket: transfer.socket, target };
        let mut buf = [0; 64];
        // The buffer holds every text of ours.
        let Ok(len) = write_error(&mut buf, code, text) else { return };
        self.transmit(index, path, &buf[..len], tx);
    }

    /// Answers a packet from an unknown transfer id (RFC 1350 section 4).
    fn refuse<T: Transmit>(
        &mut self,
        index: u32,
        socket: bootstorm_net::SocketId,
        source: SocketAddrV4,
        tx: &mut T,
    ) {
        self.strays += 1;
        let address = self.machines[index as usize].address;
        let target = self.sockets.transfer_target(address, Ipv4Addr::UNSPECIFIED, Some(source));
        let mut buf = [0; 64];
        let Ok(len) = write_error(&mut buf, ErrorCode::UnknownTransfer, "Unknown transfer ID")
        else {
            return;
        };
        self.transmit(index, SendPath { socket, target }, &buf[..len], tx);
    }
}
