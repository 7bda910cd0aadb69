//! Machines that read their boot files by TFTP.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bootstorm_net::sim::Outside;
use bootstorm_protocols::tftp::{
    Arrived, Mode, Negotiated, Packet, Receiver, ReceiverSend, RetryPolicy, ack, write_request,
};

use crate::machine::{Phase, Transfer};
use crate::oracle::Invariant;
use crate::random::{Purpose, Seed};
use crate::site::{INSTALLER_FILE, SERVER, host_file, subclass_file};
use crate::world::{Said, World};

/// A machine gives up after a while without an answer.
fn patience() -> RetryPolicy {
    RetryPolicy { tries: 6, total: Duration::from_secs(30), ..RetryPolicy::default() }
}

/// The files of the server, and how long each is: none, whole blocks, and parts of one.
const FILES: [(&str, usize); 3] = [("boot.bios", 1468 * 4), ("boot.uefi", 30_001), ("script", 500)];

/// What a file holds.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let known = FILES.iter().find(|(file, _)| *file == name).map(|(_, len)| *len);
    let number = name.bytes().fold(0_u64, |sum, byte| sum * 31 + u64::from(byte));
    let len = known.unwrap_or((number % 5000) as usize);
    let mut random = Seed(number).stream(Purpose::Content);
    (0..len).map(|_| random.next() as u8).collect()
}

/// Writes every file that a configuration can name.
pub(crate) fn write_files(root: &Path) -> std::io::Result<()> {
    let hosts = (0..MOST_HOSTS).map(host_file);
    let subclasses = (0..MOST_HOSTS).map(subclass_file);
    let known = FILES.iter().map(|(name, _)| *name).chain([INSTALLER_FILE]).map(str::to_owned);
    for name in known.chain(hosts).chain(subclasses) {
        std::fs::write(root.join(&name), content(&name))?;
    }
    Ok(())
}

/// Host entries at most, and numbers of machines that are subclasses.
pub(crate) const MOST_HOSTS: u16 = 64;

impl World {
    pub(crate) fn begin_transfer(&mut self, machine: usize, file: String) {
        let draw = self.seed.draw(Purpose::Choice, machine as u64, self.machines[machine].sent);
        let blksize = [None, Some(1468), Some(512), Some(1024)][(draw % 4) as usize];
        let windowsize = [None, Some(4), Some(16)][(draw >> 8) as usize % 3];
        let tsize = (draw >> 16 & 1 == 0).then_some(0);
        let asked = Negotiated { blksize, windowsize, tsize, ..Negotiated::default() };
        let own = &mut self.machines[machine];
        own.ports_used = own.ports_used.wrapping_add(1);
        own.phase = Phase::Reading;
        own.transfer = Some(Transfer {
            file,
            receiver: Receiver::asking(&asked, &patience(), self.now),
            peer: (SERVER, 69).into(),
            // A port of its own for each transfer.
            port: 2000 + own.ports_used % 40_000,
            bytes: Vec::new(),
        });
        self.transfer_goes_on(machine);
    }

    fn transfer_goes_on(&mut self, machine: usize) {
        while let Some(transfer) = &mut self.machines[machine].transfer
            && let Some(pending) = transfer.receiver.pending()
        {
            let mut buf = [0; 600];
            let negotiated = *transfer.receiver.negotiated();
            let len = match pending {
                ReceiverSend::Ack(block) => {
                    let packet = ack(block, negotiated.rollover());
                    buf[..packet.len()].copy_from_slice(&packet);
                    packet.len()
                }
                _ => {
                    let name = transfer.file.as_bytes();
                    let written = write_request(&mut buf, false, name, Mode::Octet);
                    // The name of a file is short.
                    let Ok(mut writer) = written else { return };
                    if negotiated.write_options(&mut writer).is_err() {
                        return;
                    }
                    writer.finish()
                }
            };
            let request = matches!(pending, ReceiverSend::Request);
            let to = if request { SocketAddr::from((SERVER, 69)) } else { transfer.peer };
            transfer.receiver.sent(self.now);
            let port = transfer.port;
            let Some(source) = self.own_socket(machine, port) else { return };
            let payload = buf[..len].to_vec();
            let datagram = Outside { segment: 0, mac: None, source, to, payload };
            self.send(machine, datagram, Said::Other);
        }
        let Some(transfer) = &self.machines[machine].transfer else { return };
        if transfer.receiver.is_complete() {
            return self.transfer_complete(machine);
        }
        if let Some(deadline) = transfer.receiver.deadline() {
            self.wake_at(machine, deadline);
        }
    }

    fn transfer_complete(&mut self, machine: usize) {
        let Some(transfer) = self.machines[machine].transfer.take() else { return };
        if transfer.bytes != content(&transfer.file) {
            let (name, len) = (self.name(machine), transfer.bytes.len());
            let detail = format!("{name} got {len} wrong bytes of \"{}\"", transfer.file);
            return self.violated(Invariant::Bytes, detail);
        }
        self.next_program(machine);
    }

    pub(crate) fn transfer_timer(&mut self, machine: usize) {
        let Some(transfer) = &mut self.machines[machine].transfer else { return };
        match transfer.receiver.on_deadline(self.now) {
            Ok(()) => self.transfer_goes_on(machine),
            Err(_) => self.transfer_failed(machine, "nobody answers"),
        }
    }

    fn transfer_failed(&mut self, machine: usize, why: &str) {
        let transfer = self.machines[machine].transfer.take();
        if self.calm
            && let Some(transfer) = transfer
        {
            let name = self.name(machine);
            let detail = format!("{name} cannot read \"{}\": {why}", transfer.file);
            self.violated(Invariant::Ends, detail);
        }
        self.next_program(machine);
    }

    pub(crate) fn transfer_datagram(&mut self, machine: usize, datagram: &Outside) {
        let now = self.now;
        let Some(transfer) = &mut self.machines[machine].transfer else { return };
        let started = transfer.peer.port() != 69;
        if datagram.to.port() != transfer.port || started && datagram.source != transfer.peer {
            return;
        }
        match Packet::parse(&datagram.payload) {
            Ok(Packet::Error { .. }) => self.transfer_failed(machine, "the server says so"),
            Ok(Packet::OptionAck(options)) => {
                transfer.peer = datagram.source;
                if transfer.receiver.on_option_ack(&options, now).is_err() {
                    return self.transfer_failed(machine, "options that it did not ask for");
                }
                self.transfer_goes_on(machine);
            }
            Ok(Packet::Data { block, data }) => {
                transfer.peer = datagram.source;
                match transfer.receiver.on_data(block, data.len(), now) {
                    Arrived::Take | Arrived::Complete => transfer.bytes.extend_from_slice(data),
                    Arrived::Ignored => {}
                    Arrived::TooLong => return self.transfer_failed(machine, "a long block"),
                }
                self.transfer_goes_on(machine);
            }
            _ => self.violated(Invariant::Bytes, "a packet that is not TFTP".to_owned()),
        }
    }
}
