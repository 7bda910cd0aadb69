//! A server in memory: rules, leases and a clock that only moves when it is told.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;
use parking_lot::Mutex;

use super::client::Datagram;
use crate::config::Config;
use crate::dhcp::{
    Action, Arrival, Delivery, Holder, Plan, ReplyCache, Silence, answer, decided, plan, tasks,
    tasks_at_end,
};
use crate::event::{BootEvent, Detail, Kind};
use crate::explain::{Asked, Explanation, LeasesFrom, Subject};
use crate::hooks::{Command, Tasks};
use crate::interfaces::{Interface, Interfaces};
use crate::leases::{
    Admission, Change, Client as Sender, Clock, Committer, Ended, Hardware, Lease, LeaseStore,
    Leases, MemoryStore, Said, ShardLeases, Step,
};
use crate::recent::Recent;

/// The server's addresses: one on the hall's link, one on a link that has no subnet.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 6), Ipv4Addr::new(192, 0, 2, 6)];

pub(super) struct Server {
    pub(super) config: Config,
    store: Arc<MemoryStore>,
    leases: Arc<Leases>,
    shard: ShardLeases,
    committer: Committer,
    pub(super) cache: ReplyCache,
    pub(super) now: Moment,
    /// Addresses of the interface that datagrams come in on.
    pub(super) interface: Vec<Ipv4Addr>,
    /// Addresses of the host.
    own: Vec<Ipv4Addr>,
    pub(super) mtu: u16,
    /// Who kept the last client from its reserved address.
    pub(super) holder: Option<Holder>,
    /// Variables that the last lease had no room for.
    pub(super) variables_lost: u32,
    /// What is to be done besides, the programs as their words.
    run: Vec<String>,
    ended: Heard,
    recent: Recent,
    explained: usize,
    /// Where live hosts are looked for.
    pub(super) state_dir: PathBuf,
}

/// Leases that have ended.
type Heard = Arc<Mutex<Vec<Ended>>>;

/// Datagrams of one server that are explained.
const EXPLAINED: usize = 100;

/// What the server did with one datagram.
#[derive(Debug)]
pub(super) enum Outcome {
    Silence(Silence),
    Reply(Answer),
    /// A reply that leaves if a probe of its address stays unanswered.
    Probe(Answer),
    /// Nothing is sent; a change was made durable.
    Recorded,
}

/// A reply as the client receives it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    pub(super) delivery: Delivery,
    pub(super) source: Ipv4Addr,
    pub(super) event: BootEvent,
    /// Whether it waited for a lease to be durable.
    pub(super) durable: bool,
    /// How long its address is pinged before.
    pub(super) ping: Option<Duration>,
    /// Where each option comes from.
    pub(super) origins: Vec<(u8, crate::dhcp::Origin)>,
}

impl Server {
    pub(super) fn new(config: &str) -> Self {
        Self::of(configuration(config))
    }

    pub(super) fn of(config: Config) -> Self {
        let store = Arc::new(MemoryStore::default());
        let ended = Heard::default();
        let (leases, shard, committer) = open(&store, &config, Moment::from_nanos(0), &ended);
        Self {
            config,
            store,
            leases,
            shard,
            committer,
            cache: ReplyCache::default(),
            now: Moment::from_nanos(0),
            interface: vec![ADDRESSES[0]],
            own: ADDRESSES.to_vec(),
            mtu: 1500,
            holder: None,
            variables_lost: 0,
            run: Vec::new(),
            ended,
            recent: Recent::of(64),
            explained: 0,
            state_dir: PathBuf::from("/nonexistent"),
        }
    }

    /// What happens to a datagram. An explanation of it says the same.
    pub(super) fn receive(&mut self, datagram: &Datagram) -> Outcome {
        // Enough of them: it takes a while.
        if self.explained == EXPLAINED {
            return self.carry_out(datagram);
        }
        self.explained += 1;
        let explanation = self.explain(datagram);
        let outcome = self.carry_out(datagram);
        let reply = explanation.reply.as_ref().map_or("", |reply| &reply.bytes);
        let (kind, sent) = match &outcome {
            // That the same is being written already is seen when the step is taken.
            Outcome::Silence(Silence::CommitPending) => return outcome,
            Outcome::Silence(silence) => {
                assert_eq!(explanation.answer.reason.as_deref(), Some(silence.name()));
                ("silence", None)
            }
            Outcome::Reply(answer) | Outcome::Probe(answer) => {
                let kind = match answer.message().message_type() {
                    Some(MessageType::Offer) => "offer",
                    Some(MessageType::Nak) => "nak",
                    Some(_) => "ack",
                    None => "boot-reply",
                };
                (kind, Some(answer))
            }
            Outcome::Recorded => ("none", None),
        };
        assert_eq!(explanation.answer.kind, kind, "{explanation}");
        let sent = sent.map_or(&[][..], |answer| &answer.payload);
        let sent: String = sent.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(reply, sent, "{explanation}");
        outcome
    }

    /// Explains what is to be done about a datagram, as `explain --last` does.
    pub(super) fn explain(&mut self, datagram: &Datagram) -> Explanation {
        let Datagram { payload, source, to } = datagram;
        self.recent.keep(self.now, 2, *source, Some(*to), payload);
        let message = Message::parse(payload).unwrap();
        let (last, before) = self.recent.last(message.chaddr()).unwrap();
        let explanation = self.subject(|subject| subject.received(&last, before.as_ref()).unwrap());
        let text = explanation.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let json = serde_json::to_string(&explanation).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
        explanation
    }

    /// Explains the answer to a machine that somebody describes.
    pub(super) fn asked(&self, asked: &Asked) -> Result<Explanation, String> {
        self.subject(|subject| subject.asked(asked))
    }

    fn subject<T>(&self, see: impl FnOnce(&mut Subject<'_>) -> T) -> T {
        let served = Interface {
            addresses: self.interface.clone(),
            mtu: self.mtu,
            served: true,
            ..Interface::unknown(2)
        };
        let others = self.own.iter().copied().filter(|own| !self.interface.contains(own));
        let others = Interface { addresses: others.collect(), ..Interface::unknown(3) };
        let interfaces = Interfaces::of([served, others]);
        see(&mut Subject {
            config: "test.toml".to_owned(),
            dhcp: &self.config.dhcp,
            files: &self.config.sources,
            interfaces: Cow::Borrowed(&interfaces),
            state_dir: &self.state_dir,
            leases: self.leases.view(0),
            from: LeasesFrom::Server,
            now: self.now,
            time: &|moment| format!("{moment:?}"),
        })
    }

    fn carry_out(&mut self, datagram: &Datagram) -> Outcome {
        let message = Message::parse(&datagram.payload).unwrap();
        let arrival = arrival(&self.interface, &self.own, self.mtu, datagram);
        let arena = Bump::new();
        let dhcp = &self.config.dhcp;
        let decision = answer(&message, &arrival, dhcp, &mut self.shard, self.now, &arena);
        let mut durable = false;
        self.holder = decision.holder;
        self.variables_lost = decision.variables_lost;
        let waits = matches!(decision.action, Action::AckWhenDurable(_));
        self.shard.submit(decision.changes, waits.then_some(1), self.now).unwrap();
        self.committer.run_once(self.now);
        self.shard.completed(|token, result| durable = token == 1 && result.is_ok());
        assert_eq!(durable, waits, "the lease of an ACK was not committed");
        let event = decided(&message, &arrival, &decision.action);
        let tasks = tasks(&decision.action, &event);
        self.run.extend(done_at_end(&self.ended, &self.config));
        self.run.extend(tasks.iter().flat_map(|tasks| texts(tasks)));
        let (reply, ping) = match decision.action {
            Action::Silence(silence) => return Outcome::Silence(silence),
            Action::Record { .. } => return Outcome::Recorded,
            Action::AckWhenDurable(reply) | Action::Reply(reply) => (reply, None),
            Action::ProbeThenOffer(reply, wait) => (reply, Some(wait)),
        };
        let mut buf = [0; 2048];
        let len = reply.write(&mut self.cache, &mut buf);
        second_opinion(&buf[..len]);
        // What was written before, for this client or another, is the same as what is written anew.
        for _ in 0..2 {
            let (mut copy, mut anew) = ([1; 2048], [2; 2048]);
            let copied = reply.write(&mut self.cache, &mut copy);
            let rendered = reply.render(&mut anew);
            assert_eq!(
                copy[..copied].escape_ascii().to_string(),
                anew[..rendered].escape_ascii().to_string()
            );
            assert_eq!(copy[..copied], buf[..len]);
        }
        let answer = Answer {
            payload: buf[..len].to_vec(),
            delivery: reply.delivery,
            source: reply.source,
            event,
            durable,
            ping,
            origins: reply.options().iter().map(|option| (option.code, option.origin)).collect(),
        };
        if ping.is_some() { Outcome::Probe(answer) } else { Outcome::Reply(answer) }
    }

    /// What would be done about a datagram.
    pub(super) fn plan<T>(&self, datagram: &Datagram, see: impl FnOnce(Plan<'_>) -> T) -> T {
        let message = Message::parse(&datagram.payload).unwrap();
        let arrival = arrival(&self.interface, &self.own, self.mtu, datagram);
        let arena = Bump::new();
        see(plan(&message, &arrival, &self.config.dhcp, &self.shard, self.now, &arena))
    }

    /// The reply to a datagram that must get one.
    pub(super) fn reply(&mut self, datagram: &Datagram) -> Answer {
        match self.receive(datagram) {
            Outcome::Reply(answer) => answer,
            other => panic!("no reply but {other:?}"),
        }
    }

    /// The reply, and that it is of the type.
    pub(super) fn expect(&mut self, kind: MessageType, datagram: &Datagram) -> Answer {
        let answer = self.reply(datagram);
        assert_eq!(answer.message().message_type(), Some(kind), "{answer:?}");
        answer
    }

    pub(super) fn silence(&mut self, datagram: &Datagram) -> Silence {
        match self.receive(datagram) {
            Outcome::Silence(silence) => silence,
            other => panic!("no silence but {other:?}"),
        }
    }

    /// The address a client gets with DISCOVER and REQUEST.
    pub(super) fn lease(&mut self, client: &super::Client) -> Ipv4Addr {
        let offer = self.expect(MessageType::Offer, &client.discover());
        let ack = self.expect(MessageType::Ack, &client.select(&offer));
        assert_eq!(ack.yiaddr(), offer.yiaddr());
        assert!(ack.durable);
        ack.yiaddr()
    }

    /// Somebody answered the probe of an address.
    pub(super) fn probe_answered(&mut self, address: Ipv4Addr) {
        let until = self.now + self.config.dhcp.decline_time;
        let hardware = self.at(address).unwrap().hardware;
        if let Some(change) = self.shard.quarantine(address, hardware, self.now, self.now, until) {
            self.record(change);
        }
    }

    /// Begins to make the lease of a REQUEST durable, and does not wait.
    pub(super) fn begin(&mut self, datagram: &Datagram) -> Vec<Change> {
        let message = Message::parse(&datagram.payload).unwrap();
        let arrival = arrival(&self.interface, &self.own, self.mtu, datagram);
        let arena = Bump::new();
        let dhcp = &self.config.dhcp;
        let decision = answer(&message, &arrival, dhcp, &mut self.shard, self.now, &arena);
        match decision.action {
            Action::AckWhenDurable(_) => decision.changes.into_iter().collect(),
            other => panic!("no ACK but {other:?}"),
        }
    }

    /// Makes changes durable; whether they were granted.
    pub(super) fn record(&mut self, changes: impl IntoIterator<Item = Change>) -> bool {
        self.shard.submit(changes, Some(2), self.now).unwrap();
        self.committer.run_once(self.now);
        let mut granted = false;
        self.shard.completed(|token, result| granted = token == 2 && result.is_ok());
        granted
    }

    /// Makes the lease of a client one of an earlier version of this program, which is admitted by
    /// `admission`.
    pub(super) fn make_old(
        &mut self,
        client: &super::Client,
        address: Ipv4Addr,
        admission: Admission<'_>,
    ) {
        let lease = self.at(address).unwrap();
        let notes = Said { client_id: lease.notes.client_id(), ..Said::default() };
        let hardware = Hardware::new(client.htype, &client.chaddr);
        let sender = Sender { key: &lease.client, hardware, notes };
        let (ip, expires) = (address.into(), lease.expires);
        let bind = Step::Bind { ip, admission, expires, heard: false };
        let change = self.shard.apply(&sender, &bind, self.now).unwrap().unwrap();
        assert!(self.record(change));
        self.restart();
    }

    /// What was to be done since the last call.
    pub(super) fn take_run(&mut self) -> Vec<String> {
        self.run.extend(done_at_end(&self.ended, &self.config));
        std::mem::take(&mut self.run)
    }

    /// Ends what is over.
    pub(super) fn sweep(&mut self) {
        self.leases.sweep(&clock(self.now), 1000);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Starts again with what is durable.
    pub(super) fn restart(&mut self) {
        (self.leases, self.shard, self.committer) =
            open(&self.store, &self.config, self.now, &self.ended);
        self.recent = Recent::of(64);
    }

    /// Starts again after the store has lost every lease, and noticed.
    pub(super) fn lose_leases(&mut self) {
        self.store.lose();
        self.restart();
    }

    /// Starts again after the store has lost something, nobody knows what, and noticed.
    pub(super) fn damage(&mut self) {
        self.store.damage();
        self.restart();
    }

    /// The host has other addresses from now on.
    pub(super) fn set_own_addresses(&mut self, own: &[Ipv4Addr]) {
        self.own = own.to_vec();
        self.leases.reconfigure(own, &self.config.dhcp);
    }

    /// Takes over another configuration.
    pub(super) fn reload(&mut self, config: &str) {
        self.config = configuration(config);
        self.leases.reconfigure(&self.own, &self.config.dhcp);
    }

    /// What is known of an address.
    pub(super) fn at(&self, address: Ipv4Addr) -> Option<Lease> {
        self.shard.at(address, self.now)
    }
}

/// What is done for the leases that have ended since the last call.
fn done_at_end(heard: &Heard, config: &Config) -> Vec<String> {
    let ended = std::mem::take(&mut *heard.lock());
    let tasks = ended.iter().filter_map(|ended| tasks_at_end(ended, &config.dhcp));
    tasks.flat_map(|tasks| texts(&tasks)).collect()
}

/// What is logged, and what is run.
fn texts(tasks: &Tasks) -> Vec<String> {
    let log = |event: &BootEvent| match event.detail {
        Detail::Text(text) => format!("log {text:?}"),
        other => panic!("{other:?} in a log"),
    };
    let words = |command: &Command| {
        let words: Vec<_> =
            command.words.iter().map(|word| word.escape_ascii().to_string()).collect();
        words.join(" ")
    };
    // Those of nulls are logged for debugging.
    let logs = tasks.logs.iter().filter(|event| event.kind == Kind::LogInfo).map(log);
    logs.chain(tasks.commands.iter().map(words)).collect()
}

fn clock(now: Moment) -> Clock {
    Clock { now, wall: 1_700_000_000, boot: Default::default(), synchronised: true }
}

fn open(
    store: &Arc<MemoryStore>,
    config: &Config,
    now: Moment,
    ended: &Heard,
) -> (Arc<Leases>, ShardLeases, Committer) {
    let store: Arc<dyn LeaseStore> = Arc::<MemoryStore>::clone(store);
    let leases = Leases::open(store, &config.dhcp, 1, clock(now)).unwrap();
    let heard = Arc::clone(ended);
    leases.on_end(move |ended| heard.lock().push(ended));
    leases.reconfigure(&ADDRESSES, &config.dhcp);
    let shard = leases.shard(0, || ());
    let committer = leases.committer();
    (leases, shard, committer)
}

fn arrival<'a>(
    interface: &'a [Ipv4Addr],
    server: &'a [Ipv4Addr],
    mtu: u16,
    datagram: &Datagram,
) -> Arrival<'a> {
    Arrival {
        ifindex: 2,
        interface,
        server,
        mtu,
        destination: Some(datagram.to),
        source: datagram.source,
    }
}

/// The configuration in a text.
pub(super) fn configuration(text: &str) -> Config {
    crate::config::parse(Path::new("test.toml"), text.as_bytes()).unwrap()
}

/// Another implementation reads what we write.
fn second_opinion(payload: &[u8]) {
    use dhcproto::{Decodable, Decoder};
    dhcproto::v4::Message::decode(&mut Decoder::new(payload)).unwrap();
}

impl Answer {
    pub(super) fn message(&self) -> Message<'_> {
        Message::parse(&self.payload).unwrap()
    }

    pub(super) fn yiaddr(&self) -> Ipv4Addr {
        self.message().yiaddr()
    }

    /// The value of an option.
    pub(super) fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.message().option(code).map(|data| data.bytes().collect())
    }

    /// The boot file in the `file` field.
    pub(super) fn file(&self) -> String {
        String::from_utf8(self.message().boot_file().to_vec()).unwrap()
    }

    /// The codes of all options in the order of the message.
    pub(super) fn codes(&self) -> Vec<u8> {
        self.message().options().map(|(code, _)| code).collect()
    }

    /// What the log says about the choice of the boot file.
    pub(super) fn boot_reason(&self) -> &'static str {
        match self.event.detail {
            Detail::Answer { reason, .. } => reason,
            other => panic!("{other:?} of no answer"),
        }
    }

    pub(super) fn to(&self) -> SocketAddrV4 {
        match self.delivery {
            Delivery::Relay(to) | Delivery::Unicast(to) => to,
            other => panic!("no UDP destination but {other:?}"),
        }
    }
}
