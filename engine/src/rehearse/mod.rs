//! What this server would have answered where another one answers: both answers to each message of
//! a client are compared. Nothing is sent.
//!
//! This server stands in the place of the other one: it has the addresses that the other one
//! answers from. What the other one acknowledges is leased here as well, so a client that comes
//! back is known.

mod capture;
mod compare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{BOOTREPLY, BOOTREQUEST, Message, MessageType, SERVER_PORT};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use serde::Serialize;

pub use capture::{CaptureError, Frames};

use crate::config::{Config, LeaseTime};
use crate::dhcp::{self, Arrival};
use crate::explain::words::{Words, remedy};
use crate::leases::{
    Change, Clock, Committer, Hardware, LeaseStore, Leases, MemoryStore, ShardLeases, StoreError,
    Write,
};

/// How long the other server may take to answer; ISC dhcpd pings an address for a second first.
const PATIENCE: Duration = Duration::from_secs(4);
/// Messages that wait for an answer at one time. Beyond that the oldest count as unanswered.
const WAITING: usize = 16_384;
/// Clients that are told apart.
const CLIENTS: usize = 1_000_000;
/// Differences of one client that are told, at most.
const TOLD: usize = 32;

/// A UDP datagram as it was seen.
#[derive(Copy, Clone, Debug)]
pub struct Seen<'d> {
    /// When.
    pub at: Moment,
    /// Where it came from.
    pub source: SocketAddrV4,
    /// Where it went.
    pub destination: SocketAddrV4,
    /// What is in it.
    pub payload: &'d [u8],
}

/// One client's message, answered in two ways.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Differing {
    /// Hardware address of the client.
    pub mac: String,
    /// `DISCOVER`, `REQUEST`, ..., `BOOTP`.
    pub message: String,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// One thing that differs between the two answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// What it is: `answer`, `address`, `siaddr`, `file`, `sname`, or `option 3 routers`.
    pub what: String,
    /// What the other server says; empty for nothing.
    pub theirs: String,
    /// What this server would say; empty for nothing.
    pub ours: String,
    /// Where that comes from, or what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
}

/// What came of it all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Clients that were heard.
    pub clients: usize,
    /// Clients with an answer that differs.
    pub clients_differing: usize,
    /// Messages whose answers were compared, silence included.
    pub compared: u64,
    /// Those whose answers differ.
    pub differing: u64,
    /// How many clients each thing differs for.
    pub by_difference: BTreeMap<String, usize>,
    /// Whether nothing differs, and something was compared.
    pub safe: bool,
}

/// Compares what this server would answer with what another one answers.
pub struct Rehearsal<'c> {
    config: &'c Config,
    leases: ShardLeases,
    committer: Committer,
    /// Addresses that the other server answers from, and its identifiers.
    servers: Vec<Ipv4Addr>,
    waiting: HashMap<Asking, Request>,
    /// What waits in the order in which it came, with its time; also what was answered since.
    order: VecDeque<(Moment, Asking)>,
    clients: HashSet<Hardware>,
    differing: HashSet<Hardware>,
    /// The clients that each thing differs for, which have been told of it.
    affected: BTreeMap<String, HashSet<Hardware>>,
    summary: Summary,
}

/// A machine, its transaction, and whether it sent a DISCOVER: what answers that may be heard after
/// the REQUEST that follows, which has the same transaction.
type Asking = (Hardware, u32, bool);

/// A client's message that waits for its answer.
struct Request {
    at: Moment,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: Vec<u8>,
}

impl<'c> Rehearsal<'c> {
    /// Begins with these leases, those of the other server. `servers` are addresses of it that are
    /// known.
    ///
    /// # Errors
    /// Never with leases of this server's own store.
    pub fn new(
        config: &'c Config,
        clock: Clock,
        leases: &[Write],
        servers: &[Ipv4Addr],
    ) -> Result<Self, StoreError> {
        let store = Arc::new(MemoryStore::default());
        store.commit(leases, &clock)?;
        let leases = Leases::open(store, &config.dhcp, 1, clock)?;
        Ok(Self {
            config,
            leases: leases.shard(0, || ()),
            committer: leases.committer(),
            servers: servers.to_vec(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            clients: HashSet::new(),
            differing: HashSet::new(),
            affected: BTreeMap::new(),
            summary: Summary::default(),
        })
    }

    /// Takes a datagram. What differs in the answers that are known by now comes back.
    pub fn see(&mut self, seen: &Seen<'_>) -> Vec<Differing> {
        let mut found = self.unanswered(seen.at, PATIENCE);
        let Ok(message) = Message::parse(seen.payload) else { return found };
        let hardware = Hardware::new(message.htype(), message.chaddr());
        match message.op() {
            BOOTREQUEST if seen.destination.port() == SERVER_PORT => {
                if self.clients.len() < CLIENTS {
                    self.clients.insert(hardware);
                }
                let request = Request {
                    at: seen.at,
                    source: seen.source,
                    destination: seen.destination,
                    payload: seen.payload.to_vec(),
                };
                match message.message_type() {
                    Some(MessageType::Release | MessageType::Decline) => self.given_back(&request),
                    _ => {
                        // A repetition of a message that was answered is compared again.
                        let discovers = message.message_type() == Some(MessageType::Discover);
                        found.extend(self.wait((hardware, message.xid(), discovers), request));
                    }
                }
            }
            BOOTREPLY => {
                let identifier = message.server_identifier();
                for address in [Some(*seen.source.ip()), identifier].into_iter().flatten() {
                    if !self.servers.contains(&address) && !address.is_unspecified() {
                        self.servers.push(address);
                    }
                }
                // A relay agent passes it on once more.
                let answers: &[bool] = match message.message_type() {
                    Some(MessageType::Offer) => &[true],
                    // With rapid commit a DISCOVER has it, too.
                    Some(MessageType::Ack) => &[false, true],
                    _ => &[false],
                };
                let mut keys = answers.iter().map(|&of| (hardware, message.xid(), of));
                if let Some(request) = keys.find_map(|key| self.waiting.remove(&key)) {
                    found.extend(self.answered(&request, seen, &message));
                }
            }
            _ => {}
        }
        found
    }

    /// What is left when nothing more comes: messages that nobody answered.
    pub fn finish(&mut self) -> (Vec<Differing>, Summary) {
        let newest = self.waiting.values().map(|request| request.at).max();
        // The last ones may have been answered after the end.
        let found = newest.map_or_else(Vec::new, |newest| self.unanswered(newest, PATIENCE / 2));
        let summary = Summary {
            clients: self.clients.len(),
            clients_differing: self.differing.len(),
            by_difference: self
                .affected
                .iter()
                .map(|(what, clients)| (what.clone(), clients.len()))
                .collect(),
            safe: self.summary.compared > 0 && self.summary.differing == 0,
            ..self.summary.clone()
        };
        (found, summary)
    }

    fn answered(
        &mut self,
        request: &Request,
        seen: &Seen<'_>,
        theirs: &Message<'_>,
    ) -> Option<Differing> {
        let message = Message::parse(&request.payload).ok()?;
        let arena = Bump::new();
        // Its address on the client's link, where no relay agent stands between.
        let own = [*seen.source.ip()];
        let interface = if message.giaddr().is_unspecified() { &own[..] } else { &self.servers };
        let arrival = request.arrival(interface, &self.servers);
        let dhcp = &self.config.dhcp;
        let plan = dhcp::plan(&message, &arrival, dhcp, &self.leases, seen.at, &arena);
        let words = Words { dhcp, files: &self.config.sources };
        let differences = compare::answers(&plan, &message, theirs, &self.leases, words);
        let mut changes = Vec::new();
        if let Some(findings) = plan.findings() {
            match theirs.message_type() {
                Some(MessageType::Offer) => plan.remember(&mut self.leases),
                Some(MessageType::Ack) if !theirs.yiaddr().is_unspecified() => {
                    let time = theirs.lease_time().map(LeaseTime::from_seconds);
                    let time = time.and_then(LeaseTime::duration);
                    let expires = time.map_or(Moment::NEVER, |time| seen.at + time);
                    let learned = findings.learn(&mut self.leases, theirs.yiaddr(), expires);
                    changes = learned.unwrap_or_default();
                }
                _ => {}
            }
        }
        drop(plan);
        self.make_durable(changes, seen.at);
        self.note(&message, differences)
    }

    /// The client gave its address back, or declined it: nobody answers that.
    fn given_back(&mut self, request: &Request) {
        let Ok(message) = Message::parse(&request.payload) else { return };
        let arena = Bump::new();
        let servers = self.servers.clone();
        let arrival = request.arrival(&servers, &servers);
        let dhcp = &self.config.dhcp;
        let decision = dhcp::answer(&message, &arrival, dhcp, &mut self.leases, request.at, &arena);
        let changes: Vec<Change> = decision.changes.into_iter().collect();
        self.make_durable(changes, request.at);
    }

    fn make_durable(&mut self, changes: Vec<Change>, now: Moment) {
        // Nobody waits for them, and they are kept in memory.
        let _undone = self.leases.submit(changes, None, now);
        self.committer.run_once(now);
        self.leases.completed(|_, _| ());
    }

    /// Keeps a message until it is answered. Where too many wait, what differs in the silence to
    /// the oldest comes back.
    fn wait(&mut self, asking: Asking, request: Request) -> Option<Differing> {
        let oldest = if self.waiting.len() >= WAITING { self.oldest(|_| true) } else { None };
        if self.order.len() >= 2 * WAITING {
            // At least half of it was answered.
            let waiting = &self.waiting;
            self.order.retain(|(at, key)| waiting.get(key).is_some_and(|own| own.at == *at));
        }
        self.order.push_back((request.at, asking));
        self.waiting.insert(asking, request);
        oldest.and_then(|request| self.silent(&request))
    }

    /// Takes out the oldest message that waits, if its time fits.
    fn oldest(&mut self, fits: impl Fn(Moment) -> bool) -> Option<Request> {
        while let Some(&(at, key)) = self.order.front() {
            let waits = self.waiting.get(&key).is_some_and(|request| request.at == at);
            if waits && !fits(at) {
                return None;
            }
            self.order.pop_front();
            if waits {
                return self.waiting.remove(&key);
            }
        }
        None
    }

    /// Messages that were not answered for so long.
    fn unanswered(&mut self, now: Moment, patience: Duration) -> Vec<Differing> {
        let mut found = Vec::new();
        while let Some(request) = self.oldest(|at| now >= at + patience) {
            found.extend(self.silent(&request));
        }
        found
    }

    /// The other server did not answer.
    fn silent(&mut self, request: &Request) -> Option<Differing> {
        if self.servers.is_empty() {
            // It was not heard at all yet.
            return None;
        }
        let message = Message::parse(&request.payload).ok()?;
        let arena = Bump::new();
        let arrival = request.arrival(&self.servers, &self.servers);
        let dhcp = &self.config.dhcp;
        let plan = dhcp::plan(&message, &arrival, dhcp, &self.leases, request.at, &arena);
        let differences = plan.action.reply().map(|reply| Difference {
            what: "answer".to_owned(),
            theirs: "silence".to_owned(),
            ours: compare::kind_of(reply.kind).to_owned(),
            from: String::new(),
        });
        drop(plan);
        self.note(&message, differences.into_iter().collect())
    }

    /// Counts what was compared. What was told of this client before is not told again.
    fn note(&mut self, message: &Message<'_>, differences: Vec<Difference>) -> Option<Differing> {
        self.summary.compared += 1;
        if differences.is_empty() {
            return None;
        }
        self.summary.differing += 1;
        let hardware = Hardware::new(message.htype(), message.chaddr());
        if self.differing.len() < CLIENTS {
            self.differing.insert(hardware);
        }
        let kind = message.message_type().map_or("BOOTP".to_owned(), |kind| kind.to_string());
        let mut fresh = Vec::new();
        for difference in differences {
            let clients = self.affected.entry(difference.what.clone()).or_default();
            if clients.len() < CLIENTS && clients.insert(hardware) && fresh.len() < TOLD {
                fresh.push(difference);
            }
        }
        (!fresh.is_empty()).then(|| Differing {
            mac: hardware.to_string(),
            message: kind,
            differences: fresh,
        })
    }
}

impl Request {
    fn arrival<'a>(&self, interface: &'a [Ipv4Addr], server: &'a [Ipv4Addr]) -> Arrival<'a> {
        Arrival {
            ifindex: 1,
            interface,
            server,
            mtu: 1500,
            destination: Some(*self.destination.ip()),
            source: self.source,
        }
    }
}

/// What to do about silence of this server.
fn way_out(silence: dhcp::Silence, message: &Message<'_>) -> String {
    let place = match message.giaddr() {
        Ipv4Addr::UNSPECIFIED => "the interface".to_owned(),
        giaddr => format!("relay agent {giaddr}"),
    };
    remedy(silence, &place, message.giaddr()).unwrap_or_default()
}
