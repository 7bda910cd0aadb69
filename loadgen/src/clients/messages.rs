//! DHCP messages of machines on the wire: how each is sent, and which machine an answer is for.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_net::{Target, Transmit};
use bootstorm_protocols::dhcpv4::{BOOTREPLY, CLIENT_PORT, Message, SERVER_PORT};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
use bootstorm_protocols::time::Moment;

use super::encoder::{Encoder, Form};
use super::machine::Machine;
use super::sockets::Access;
use super::{Clients, SendPath};
use crate::validator::{Answer, Kind};

impl Clients {
    /// Writes a message and sends it the way that the machine has now.
    pub(super) fn send_message<T: Transmit>(&mut self, index: u32, form: Form, tx: &mut T) {
        let now = tx.now();
        if self.is_attacker(index) {
            self.metrics.dhcp.attack_messages += 1;
        } else {
            let dhcp = &mut self.metrics.dhcp;
            match form {
                Form::Discover => dhcp.discovers += 1,
                Form::Decline => dhcp.declines += 1,
                Form::Release => dhcp.releases += 1,
                // Counted when it is answered.
                Form::Inform => {}
                Form::Selecting | Form::Rebooting | Form::Renewing => dhcp.requests += 1,
            }
            self.metrics.sent();
        }
        let machine = &mut self.machines[index as usize];
        machine.sent = now;
        machine.exchange.form = form;
        machine.exchange.program = machine.program;
        let machine = &self.machines[index as usize];
        let unicast = self.is_unicast(machine, Some(form));
        let relay = self.sockets.relay(machine.relay).filter(|_| !unicast);
        let mac = self.ids.mac(index);
        let mut encoder = Encoder {
            form,
            mac,
            xid: self.ids.xid(index, machine.serial),
            secs: now.since(machine.discovered).as_secs().min(u16::MAX.into()) as u16,
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.giaddr),
            relay_option: relay.map_or(&[][..], |relay| &relay.option),
            address: machine.address,
            server_id: machine.server_id,
            behaviour: machine.program.dhcp(),
            client_id: [0; 32],
            client_id_len: 0,
            uuid: [0; 16],
            lease_time: self.lease_time,
        };
        encoder.client_id_len =
            self.ids.client_id(index, encoder.behaviour.client_id, &mut encoder.client_id);
        if encoder.behaviour.architecture.is_some() {
            encoder.uuid = self.ids.uuid(index);
        }
        let path = match &self.sockets.access {
            _ if unicast => {
                self.sockets.renewal(machine.address, machine.server_id).map(SendPath::from)
            }
            Access::Relayed(_) => relay.map(|relay| SendPath {
                socket: relay.socket,
                target: self.sockets.to_server(relay),
            }),
            Access::Direct { link, ifindex, .. } => {
                let target = Target::Link { ifindex: *ifindex, mac: [0xff; 6] };
                Some(SendPath { socket: *link, target })
            }
            Access::None => None,
        };
        let Some(path) = path else { return };
        let framed = matches!(path.target, Target::Link { .. });
        let mut scratch = [0; 1024];
        let len = encoder.write(&mut scratch[HEADROOM..]);
        if framed {
            let frame = UdpFrame {
                src_mac: mac,
                dst_mac: [0xff; 6],
                src: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
                dst: SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT),
            };
            // A message of these few options fits any frame.
            if let Ok(len) = frame.seal(&mut scratch, len) {
                self.transmit(index, path, &scratch[..len], tx);
            }
        } else {
            self.transmit(index, path, &scratch[HEADROOM..HEADROOM + len], tx);
        }
    }

    /// Finds the machine that a DHCP answer is for, and whether it is waiting for it.
    pub(super) fn dhcp_arrived<T: Transmit>(
        &mut self,
        payload: &[u8],
        [source, destination]: [Ipv4Addr; 2],
        tx: &mut T,
    ) {
        let now = tx.now();
        let message = match Message::parse(payload) {
            Ok(message) if message.op() == BOOTREPLY => message,
            Ok(_) => {
                self.strays += 1;
                return;
            }
            Err(error) => {
                self.validator.violation(Kind::Malformed, u32::MAX, [0; 6], now, || {
                    format!("{} bytes from {source}: {error}", payload.len())
                });
                return;
            }
        };
        let (index, serial) = self.ids.of_xid(message.xid());
        let known = self
            .machines
            .get(index as usize)
            .is_some_and(|_| message.chaddr() == self.ids.mac(index));
        if !known {
            self.mismatched(&message, now);
            return;
        }
        let answer = Answer { message: &message, source, destination, now };
        if self.machines[index as usize].serial == serial {
            self.answer(index, answer, tx);
        } else {
            self.count(index, |dhcp| &mut dhcp.late);
            self.validate(index, |validator, asked| validator.stale(asked, answer));
        }
    }

    /// Transaction id and hardware address do not belong together: one of them is wrong.
    fn mismatched(&mut self, message: &Message<'_>, now: Moment) {
        let (index, serial) = self.ids.of_xid(message.xid());
        let by_xid = self.machines.get(index as usize).filter(|m| m.serial == serial);
        if by_xid.is_some_and(Machine::awaits_answer) {
            let mac = self.ids.mac(index);
            let got = <[u8; 6]>::try_from(message.chaddr()).unwrap_or_default();
            self.validator.violation(Kind::Chaddr, index, mac, now, || {
                format!("chaddr {} in the answer", crate::validator::Mac(got))
            });
            return;
        }
        let machine = self.ids.of_mac(message.chaddr());
        match machine.filter(|machine| (*machine as usize) < self.machines.len()) {
            Some(machine) if self.machines[machine as usize].awaits_answer() => {
                let expected = self.ids.xid(machine, self.machines[machine as usize].serial);
                let mac = self.ids.mac(machine);
                self.validator.violation(Kind::Xid, machine, mac, now, || {
                    format!("xid {:#010x} in the answer, {expected:#010x} asked", message.xid())
                });
            }
            _ => self.strays += 1,
        }
    }
}
