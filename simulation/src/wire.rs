//! The way between the machines and the server: relay agents, losses, and what is noted of each
//! datagram.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstorm_net::sim::Outside;
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, INFINITE, Message, MessageType, SERVER_PORT};
use bootstorm_protocols::time::Moment;

use crate::clients::INFORM_TRANSACTION;
use crate::machine::Phase;
use crate::oracle::Invariant;
use crate::program::{Program, Question};
use crate::random::Purpose;
use crate::site::{KnownBy, LINKS, Link, SERVER, circuit, relay, remote};
use crate::world::{Happening, LONGEST_WAY, Said, World};

/// What a machine asks, without what is the same for all.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: MessageType,
    pub(crate) ciaddr: Option<Ipv4Addr>,
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    /// To the server alone, not by broadcast.
    pub(crate) unicast: bool,
}

impl World {
    /// A machine sends a DHCP message.
    pub(crate) fn ask(&mut self, machine: usize, asked: Asked) {
        let Self { machines, .. } = self;
        let own = &mut machines[machine];
        let place = own.place;
        own.began.insert(own.xid, (own.program(), place));
        let direct = LINKS[place.link] == Link::Direct;
        let relayed = !direct && !asked.unicast;
        let giaddr = if relayed { relay(place.link) } else { Ipv4Addr::UNSPECIFIED };
        let adds = relayed && place.is_told();
        let question = Question {
            kind: asked.kind,
            identity: &own.plan.identity,
            program: own.program(),
            xid: own.xid,
            ciaddr: asked.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED),
            requested: asked.requested,
            server: asked.server,
            giaddr,
            port: adds.then(|| (circuit(place.port), remote(place.link))),
        };
        let payload = question.write();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
        let (source, to) = if relayed {
            (SocketAddr::from((giaddr, SERVER_PORT)), SocketAddr::from((SERVER, SERVER_PORT)))
        } else if asked.unicast {
            let own = asked.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
            (SocketAddr::from((own, CLIENT_PORT)), SocketAddr::from((SERVER, SERVER_PORT)))
        } else {
            let source = asked.ciaddr.map_or(any, |own| SocketAddr::from((own, CLIENT_PORT)));
            (source, SocketAddr::from((Ipv4Addr::BROADCAST, SERVER_PORT)))
        };
        let address = asked.requested.or(asked.ciaddr).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let note = match asked.kind {
            MessageType::Request => {
                own.requests.entry(own.xid).or_insert((address, 0)).0 = address;
                self.oracle.requests(machine, address, own.xid, self.now);
                self.requests(machine, address);
                Said::Request
            }
            MessageType::Release | MessageType::Decline => Said::GivesBack(address),
            _ if own.program() == Program::Bootp => Said::Other,
            MessageType::Discover => {
                own.discovered = Some(self.now);
                let xid = own.xid;
                self.oracle.discovers(machine, xid, self.now);
                Said::Other
            }
            _ => Said::Other,
        };
        self.tell(|world| {
            let own = &world.machines[machine];
            let way = if asked.unicast { " to the server alone" } else { "" };
            let about =
                if address.is_unspecified() { String::new() } else { format!(" {address}") };
            let kind = format!("{:?}", asked.kind).to_uppercase();
            let (name, phase, xid) = (world.name(machine), own.phase, own.xid);
            format!("{name}: {kind}{about}{way} ({phase:?}, xid {xid:x})")
        });
        self.send(machine, Outside { segment: 0, mac: None, source, to, payload }, note);
    }

    /// What a REQUEST says of the machine's other addresses, and of an earlier wish.
    fn requests(&mut self, machine: usize, address: Ipv4Addr) {
        if self.site.one_lease {
            let key = self.key_of(machine);
            let all = self.site.known_by == KnownBy::Either;
            self.oracle.leaves_others((machine, &key), all, address);
        }
        if !self.wishes_endless(machine) {
            self.oracle.not_for_ever(address, machine);
        }
    }

    /// A datagram of a machine leaves.
    pub(crate) fn send(&mut self, machine: usize, datagram: Outside, note: Said) {
        let own = &mut self.machines[machine];
        own.sent += 1;
        let (number, link) = (own.sent, own.place.link);
        self.record(b'>', machine as u64, &datagram.payload);
        if self.now < self.cut[link] {
            return;
        }
        for at in self.arrivals_of(Purpose::ToServer, machine, number) {
            let datagram = datagram.clone();
            self.schedule(at, Happening::ToServer { machine, datagram, note });
        }
    }

    pub(crate) fn arrives_at_server(&mut self, machine: usize, datagram: Outside, note: Said) {
        if self.server.is_none() || self.is_stopping() {
            return;
        }
        self.arrivals += 1;
        self.datagrams += 1;
        let count = self.arrivals;
        let own = &mut self.machines[machine];
        let xid = Message::parse(&datagram.payload).map_or(0, |message| message.xid());
        own.heard.entry(xid).or_insert((self.epoch, self.edits));
        match note {
            Said::Request => {
                if let Some(request) = own.requests.get_mut(&xid) {
                    request.1 = count;
                }
            }
            Said::GivesBack(ip) => {
                own.given_back.insert(ip, count);
            }
            Said::Other => {}
        }
        if let Some(server) = &self.server {
            server.arrive(datagram);
        }
    }

    /// The server has sent something.
    pub(crate) fn server_sends(&mut self, datagram: Outside) {
        self.datagrams += 1;
        let port = datagram.to.port();
        if port == 0
            && let IpAddr::V4(ip) = datagram.to.ip()
        {
            return self.pinged(ip, &datagram.payload);
        }
        if port != SERVER_PORT && port != CLIENT_PORT {
            if let Some(machine) = self.reader(datagram.to) {
                self.on_the_way(machine, datagram);
            }
            return;
        }
        let Ok(message) = Message::parse(&datagram.payload) else {
            return self.violated(Invariant::Runs, "the server sends no DHCP message".to_owned());
        };
        // Hardware addresses end with the machine's number.
        let number = message.chaddr().last_chunk().map(|tail| u16::from_be_bytes(*tail));
        let machine = usize::from(number.unwrap_or(u16::MAX));
        if self.machines.get(machine).is_none_or(|own| own.plan.identity.mac != message.chaddr()) {
            return;
        }
        self.record(b'<', machine as u64, &datagram.payload);
        self.judge_sent(machine, &message);
        // The relay agent, the machine's own address, or its link.
        let to = datagram.to.ip();
        let own = &self.machines[machine];
        let link = own.place.link;
        let reaches = match to {
            IpAddr::V4(to) if to == relay(link) && LINKS[link] != Link::Direct => true,
            IpAddr::V4(to) if own.uses(to) => true,
            _ => {
                LINKS[link] == Link::Direct
                    && (datagram.mac == Some(own.plan.identity.mac)
                        || to == IpAddr::V4(Ipv4Addr::BROADCAST))
            }
        };
        if reaches {
            self.on_the_way(machine, datagram);
        }
    }

    fn on_the_way(&mut self, machine: usize, datagram: Outside) {
        let own = &mut self.machines[machine];
        own.received += 1;
        let (number, link) = (own.received, own.place.link);
        if self.now < self.cut[link] || self.now < self.deaf[link] {
            return;
        }
        let epoch = self.epoch;
        for at in self.arrivals_of(Purpose::ToMachine, machine, number) {
            let datagram = datagram.clone();
            self.schedule(at, Happening::ToMachine { machine, datagram, epoch });
        }
    }

    /// Judges a DHCP reply when it leaves, whether it arrives or not.
    fn judge_sent(&mut self, machine: usize, message: &Message<'_>) {
        let kind = message.message_type();
        let ip = message.yiaddr();
        self.tell(|world| {
            let file = String::from_utf8_lossy(message.boot_file());
            let name = world.name(machine);
            let kind = kind.map_or("reply".to_owned(), |kind| format!("{kind:?}").to_uppercase());
            let time = match message.lease_time() {
                Some(INFINITE) => " for ever".to_owned(),
                Some(seconds) => format!(" for {seconds} s"),
                None => String::new(),
            };
            let file = if file.is_empty() { String::new() } else { format!(", file {file}") };
            format!("    to {name}: {kind} {ip}{time}{file}")
        });
        let seconds = if kind.is_none() { Some(INFINITE) } else { message.lease_time() };
        match (kind, seconds) {
            (Some(MessageType::Offer), _) => self.judge_offer(machine, ip),
            (Some(MessageType::Ack) | None, Some(INFINITE)) => {
                self.oracle.acknowledges(ip, machine, Moment::NEVER);
            }
            (Some(MessageType::Ack), Some(seconds)) => {
                let until = self.now + Duration::from_secs(seconds.into());
                self.oracle.acknowledges(ip, machine, until);
            }
            _ => {}
        }
        let own = &self.machines[machine];
        match kind {
            Some(MessageType::Nak) => {
                let asked = own.requests.get(&message.xid()).map(|(ip, _)| *ip);
                let recent = own.discovered.is_some_and(|at| self.now.since(at) < LONGEST_WAY);
                if let Some(ip) = asked {
                    self.oracle.refused(ip, machine, recent);
                }
            }
            Some(MessageType::Offer | MessageType::Ack) | None => {
                let file = message.boot_file();
                if !self.may_be_told(machine, kind, message.xid(), file) {
                    let name = self.name(machine);
                    let file = String::from_utf8_lossy(file);
                    let detail = format!("{name} is told the boot file \"{file}\" with {ip}");
                    return self.violated(Invariant::BootFile, detail);
                }
                let leases = !ip.is_unspecified() || message.lease_time().is_some();
                if message.xid() & 0xffff_0000 == INFORM_TRANSACTION && leases {
                    let detail = format!("{} is given {ip} for an INFORM", self.name(machine));
                    return self.violated(Invariant::Inform, detail);
                }
                let asked = own.requests.get(&message.xid()).map_or(0, |(_, at)| *at);
                let given_back = own.given_back.get(&ip).copied().unwrap_or(0);
                // An ACK whose lease is on disk already may wait for the end of its delay, or of
                // what came with its REQUEST.
                let waits = self.site.reply_delay || self.site.cache_threshold > 0;
                if kind == Some(MessageType::Ack) && asked > 0 && asked < given_back && !waits {
                    let name = self.name(machine);
                    let detail =
                        format!("{name} gave {ip} back before its REQUEST of it was acknowledged");
                    self.violated(Invariant::AfterRelease, detail);
                }
            }
            _ => {}
        }
    }

    /// Whether a machine reads what comes to it.
    pub(crate) fn is_on(&self, machine: usize) -> bool {
        !matches!(self.machines[machine].phase, Phase::Off | Phase::Starting)
    }

    /// A machine for people.
    pub(crate) fn name(&self, machine: usize) -> String {
        let own = &self.machines[machine];
        let place = own.place;
        let program = own.program().name();
        format!("machine {machine} ({program}, link {} port {})", place.link, place.port)
    }
}
