//! Pings: the server asks whether an address is in use before it offers it. Machines answer for the
//! address that they use, and so do devices that have one of their own, of which it knows nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::oracle::Invariant;
use crate::random::Purpose;
use crate::site::{DECLINE_TIME, link_of};
use crate::world::{Happening, World};

impl World {
    /// The server asks whether an address is in use.
    pub(crate) fn pinged(&mut self, ip: Ipv4Addr, request: &[u8]) {
        self.pings += 1;
        let link = link_of(ip);
        let user = |own: &crate::machine::Machine| own.uses(ip) && own.place.link == link;
        let machine = self.machines.iter().position(user);
        let is_used = machine.is_some() || self.strangers.contains(&ip);
        self.record(b'?', u32::from(ip).into(), &[]);
        self.tell(|_| {
            format!("    the server pings {ip}{}", if is_used { "" } else { ": nobody" })
        });
        // What a stranger does depends on its address.
        let number = machine.map_or(u64::from(u32::from(ip)), |machine| machine as u64);
        let mut answers = Vec::new();
        if is_used && self.now >= self.cut[link] && self.now >= self.deaf[link] {
            answers = self.arrivals_of(Purpose::Ping, number as usize, self.pings);
        }
        let in_time = self.now + self.site.ping_wait();
        let answered = answers.iter().any(|at| *at < in_time);
        let start = self.start;
        for at in answers {
            let (reply, in_time) = (echo_reply(ip, request), at < in_time);
            self.schedule(at, Happening::Echo { ip, reply, in_time, start });
        }
        if !answered {
            self.in_use.remove(&ip);
            self.oracle.not_seen(ip);
        } else if let Some(promise) = self.oracle.promises.get_mut(&ip)
            && !self.machines[promise.machine].uses(ip)
        {
            // Somebody else uses it, whatever the server has told.
            (promise.doubtful, promise.unseen) = (true, true);
        }
    }

    /// The answer to a ping comes to the server.
    pub(crate) fn echo_arrives(&mut self, ip: Ipv4Addr, reply: &[u8], in_time: bool) {
        let Some(server) = &self.server else { return };
        server.echo(ip, reply);
        if in_time {
            self.in_use.insert(ip, self.now + Duration::from_secs(DECLINE_TIME));
        }
    }

    /// An address that was in use a moment ago is not offered.
    pub(crate) fn judge_offer(&mut self, machine: usize, ip: Ipv4Addr) {
        let in_use = self.in_use.get(&ip).is_some_and(|until| self.now < *until);
        // Who has a lease of an address gets that one, pinged or not; an ACK that was lost may have
        // renewed it.
        let has =
            self.oracle.has(machine, ip, self.now) || self.oracle.was_sent(machine, ip, self.now);
        if in_use && !has {
            let detail =
                format!("{} is offered {ip}, which has answered a ping", self.name(machine));
            self.violated(Invariant::InUse, detail);
        }
    }
}

/// An IPv4 packet with the answer to an echo request (RFC 792), as a raw socket delivers it.
fn echo_reply(from: Ipv4Addr, request: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    (packet[0], packet[9]) = (0x45, 1);
    packet[12..16].copy_from_slice(&from.octets());
    packet.extend_from_slice(request);
    packet[20] = 0;
    packet
}
