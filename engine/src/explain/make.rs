//! A message is planned, and what was found out on the way is put down.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use bootstorm_protocols::dhcpv4::{CLIENT_PORT, Message, MessageType, SERVER_PORT, options};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;

use super::asked::Kind;
use super::words::{self, Words};
use super::{
    AddressPart, AnswerPart, Asked, BRANCHES, BranchPart, CLASSES, ClassPart, Explanation,
    HeldPart, HostPart, LeasesFrom, LimitPart, LinkPart, LivePart, PoolPart, RequestPart, Source,
};
use crate::config::{Decision, Dhcp, LIVE_HOSTS, Names, PoolId, ScopeId};
use crate::dhcp::{
    self, Action, EntryFound, EntryUse, Findings, Holder, LimitFound, LinkBy, MemberFound,
    NotMember, Plan, PoolState, Reply, Through,
};
use crate::hex;
use crate::interfaces::{Interface, Interfaces};
use crate::leases::{Admission, KeyKind, LeaseState, ShardLeases};
use crate::live_hosts::{By, LiveHosts};
use crate::recent::Received;

/// What a message is planned on.
pub struct Subject<'s> {
    /// Where the configuration stands.
    pub config: String,
    /// The configuration.
    pub dhcp: &'s Dhcp,
    /// The files that it was read from.
    pub files: &'s [PathBuf],
    /// This host's interfaces.
    pub interfaces: Cow<'s, Interfaces>,
    /// Where the live hosts are.
    pub state_dir: &'s Path,
    /// The leases. What is remembered of DISCOVERs may change.
    pub leases: ShardLeases,
    /// Whose they are.
    pub from: LeasesFrom,
    /// The time.
    pub now: Moment,
    /// Shows a moment as a time of day.
    pub time: &'s dyn Fn(Moment) -> String,
}

impl Subject<'_> {
    /// Explains the answer to a machine that somebody describes.
    ///
    /// # Errors
    /// What is not said well, and what to say instead.
    pub fn asked(&mut self, asked: &Asked) -> Result<Explanation, String> {
        let ifindex = self.interface(asked)?;
        let interface = self.interfaces.get(ifindex);
        let first = interface.and_then(|interface| interface.addresses.first()).copied();
        let now = self.now;
        let received = |payload| Received {
            at: now,
            ifindex,
            source: match asked.relay {
                Some(relay) => SocketAddrV4::new(relay, SERVER_PORT),
                None => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
            },
            destination: match asked.relay {
                Some(_) => first,
                None => Some(Ipv4Addr::BROADCAST),
            },
            payload,
        };
        let discover = received(asked.message(None)?);
        let (has, kind) = match asked.kind()? {
            Kind::Discover => return self.explain(&discover, false),
            Kind::Bootp => return self.explain(&received(asked.bootp()?), false),
            Kind::Request => return self.taken(asked, &discover, received),
            Kind::Renew => (asked.ciaddr, MessageType::Request),
            Kind::Has(MessageType::Decline) => (asked.address, MessageType::Decline),
            Kind::Has(kind) => (asked.ciaddr, kind),
        };
        let has = match has {
            Some(has) => has,
            None => self.held_address(&discover)?,
        };
        let message = asked.of_holder(kind, has)?;
        // What it does not broadcast comes from its address, past the relay agents.
        let broadcasts = matches!(kind, MessageType::Decline | MessageType::Inform);
        let mut received = received(message);
        if !broadcasts || asked.relay.is_none() && kind == MessageType::Inform {
            received.source = SocketAddrV4::new(has, CLIENT_PORT);
        }
        if !broadcasts {
            received.destination = first;
        }
        self.explain(&received, false)
    }

    /// A REQUEST: of an address that is remembered, or of what is offered.
    fn taken(
        &mut self,
        asked: &Asked,
        discover: &Received,
        received: impl Fn(Vec<u8>) -> Received,
    ) -> Result<Explanation, String> {
        let offered = match asked.address {
            Some(address) => Some((address, None)),
            None => self.remember(discover)?,
        };
        match offered {
            None => self.explain(discover, false),
            Some(offered) => self.explain(&received(asked.message(Some(offered))?), false),
        }
    }

    /// The address that the sender of a DISCOVER has a lease of.
    fn held_address(&self, discover: &Received) -> Result<Ipv4Addr, String> {
        let held = self.explain(discover, false)?.held;
        let active = held.iter().find(|held| held.state == LeaseState::Active.name());
        active.and_then(|held| held.ip.parse().ok()).ok_or_else(|| {
            "the machine has no lease here; name the address that it has with --ciaddr, or with \
             --address for a DECLINE"
                .to_owned()
        })
    }

    /// Explains the answer to a message that was received. `before` is the DISCOVER of its
    /// transaction, if that was received, too.
    ///
    /// # Errors
    /// It is no DHCP message.
    pub fn received(
        &mut self,
        received: &Received,
        before: Option<&Received>,
    ) -> Result<Explanation, String> {
        let offered = |before: &&Received| self.now < before.at + self.dhcp.offer_time;
        if let Some(before) = before.filter(offered) {
            self.remember(before)?;
        }
        self.explain(received, true)
    }

    /// Plans a DISCOVER and remembers it as a shard does. Which address it is offered, and by which
    /// server.
    fn remember(
        &mut self,
        received: &Received,
    ) -> Result<Option<(Ipv4Addr, Option<Ipv4Addr>)>, String> {
        let arena = Bump::new();
        let message = Message::parse(&received.payload).map_err(|error| error.to_string())?;
        let arrival =
            self.interfaces.arrival(received.ifindex, received.destination, received.source);
        let plan = dhcp::plan(&message, &arrival, self.dhcp, &self.leases, self.now, &arena);
        let offered = plan.action.reply().map(|reply| {
            let server =
                reply.options().iter().find(|each| each.code == options::SERVER_IDENTIFIER);
            let server = server.and_then(|server| <[u8; 4]>::try_from(server.value).ok());
            (reply.yiaddr, server.map(Ipv4Addr::from))
        });
        plan.remember(&mut self.leases);
        Ok(offered)
    }

    /// The interface that a described message comes in on.
    fn interface(&mut self, asked: &Asked) -> Result<u32, String> {
        if let Some(name) = &asked.interface {
            return self.named(name);
        }
        let all = &self.interfaces;
        let served = all.served();
        let subnet = |address: &Ipv4Addr| self.dhcp.subnet_of(*address).is_some();
        let mut fit = served.iter().filter(|each| each.addresses.iter().any(subnet));
        match (fit.next(), fit.next()) {
            (Some(only), None) => Ok(only.index),
            // The relay agent or the address says which link it is.
            (Some(first), Some(_))
                if asked.relay.is_some() || asked.renew || asked.ciaddr.is_some() =>
            {
                Ok(first.index)
            }
            (Some(first), Some(second)) => {
                let names = [first, second].into_iter().chain(fit).map(|each| &*each.name);
                let names: Vec<&str> = names.collect();
                Err(format!(
                    "on which interface? name one with --interface: {}; or the relay agent with \
                     --relay",
                    names.join(", ")
                ))
            }
            (None, _) => served.first().map(|each| each.index).ok_or_else(|| {
                "no interface of this host is served; name the address that one would have with \
                 --interface, or the relay agent with --relay"
                    .to_owned()
            }),
        }
    }

    /// The interface of that name, or with that address; for an address that the host does not have
    /// one is made up.
    fn named(&mut self, name: &str) -> Result<u32, String> {
        let all = &self.interfaces;
        if let Some(found) = all.named(name) {
            return Ok(found.index);
        }
        let Ok(address) = name.parse() else {
            let mut names: Vec<&str> = all.all().map(|each| &*each.name).collect();
            names.sort_unstable();
            return Err(format!(
                "this host has no interface {name:?}; it has {}; or write the address that the \
                 interface has",
                names.join(", ")
            ));
        };
        if let Some(found) = all.all().find(|each| each.addresses.contains(&address)) {
            return Ok(found.index);
        }
        let made_up = Interface {
            name: name.to_owned(),
            addresses: vec![address],
            served: true,
            ..Interface::unknown(u32::MAX)
        };
        let index = made_up.index;
        self.interfaces =
            Cow::Owned(Interfaces::of(all.all().cloned().chain([made_up]).collect::<Vec<_>>()));
        Ok(index)
    }

    fn explain(&self, received: &Received, is_real: bool) -> Result<Explanation, String> {
        let arena = Bump::new();
        let message = Message::parse(&received.payload).map_err(|error| error.to_string())?;
        let arrival =
            self.interfaces.arrival(received.ifindex, received.destination, received.source);
        let plan = dhcp::plan(&message, &arrival, self.dhcp, &self.leases, self.now, &arena);
        let place = self.place(received, &message);
        let mut explanation = Explanation {
            config: self.config.clone(),
            leases: self.from,
            request: self.request(received, &message, is_real),
            answer: answer(&plan, &place, &message),
            ..Explanation::default()
        };
        let part = Part {
            subject: self,
            words: Words { dhcp: self.dhcp, files: self.files },
            message: &message,
        };
        if let Some(findings) = plan.findings() {
            part.found_out(&plan, findings, &mut explanation);
        }
        if let Some(reply) = plan.action.reply() {
            part.reply(reply, &mut explanation);
        }
        Ok(explanation)
    }

    /// `interface eth1`, `relay agent 10.2.0.1`
    fn place(&self, received: &Received, message: &Message<'_>) -> String {
        match message.giaddr() {
            Ipv4Addr::UNSPECIFIED => format!("interface {}", self.name_of(received.ifindex)),
            giaddr => format!("relay agent {giaddr}"),
        }
    }

    fn name_of(&self, ifindex: u32) -> String {
        match self.interfaces.name(ifindex) {
            "" => format!("number {ifindex}"),
            name => name.to_owned(),
        }
    }

    fn request(&self, received: &Received, message: &Message<'_>, is_real: bool) -> RequestPart {
        let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
        let mac = message.chaddr();
        let listed = message.options().map(|(code, _)| code);
        let mut codes: Vec<u8> = Vec::new();
        // A long option comes in pieces.
        listed.for_each(|code| {
            if !codes.contains(&code) {
                codes.push(code);
            }
        });
        let options = codes.into_iter().filter_map(|code| {
            let value: Vec<u8> = message.option(code)?.bytes().collect();
            Some(words::option(code, &value))
        });
        RequestPart {
            received: is_real.then(|| (self.time)(received.at)),
            message: message.message_type().map_or("BOOTP".to_owned(), |kind| kind.to_string()),
            mac: hex::digits(mac, ":"),
            interface: Some(self.name_of(received.ifindex)),
            relay: given(message.giaddr()),
            ciaddr: given(message.ciaddr()),
            firmware: None,
            options: options.collect(),
        }
    }
}

fn answer(plan: &Plan<'_>, place: &str, message: &Message<'_>) -> AnswerPart {
    let (kind, after) = match &plan.action {
        Action::Silence(silence) => {
            return AnswerPart {
                kind: "silence".to_owned(),
                reason: Some(silence.name().to_owned()),
                remedy: words::remedy(*silence, place, message.giaddr()),
                after: None,
            };
        }
        Action::Record { address } => {
            let what = match message.message_type() {
                Some(MessageType::Decline) => "declined, and in quarantine from now on",
                _ => "given back",
            };
            return AnswerPart {
                kind: "none".to_owned(),
                reason: Some(format!("{address} is {what}")),
                ..AnswerPart::default()
            };
        }
        Action::Reply(reply) => (kind_of(reply), None),
        Action::ProbeThenOffer(reply, _) => {
            (kind_of(reply), Some("the address was pinged and nobody answered"))
        }
        Action::AckWhenDurable(reply) => (kind_of(reply), Some("the lease is on disk")),
    };
    let nak = plan.action.reply().and_then(|reply| reply.nak);
    AnswerPart {
        kind: kind.to_owned(),
        reason: nak.map(|reason| reason.text().to_owned()),
        remedy: nak.map(|reason| words::remedy_of_nak(reason).to_owned()),
        after: after.map(str::to_owned),
    }
}

fn kind_of(reply: &Reply<'_>) -> &'static str {
    match reply.kind {
        Some(MessageType::Offer) => "offer",
        Some(MessageType::Nak) => "nak",
        Some(_) => "ack",
        None => "boot-reply",
    }
}

/// One message, its plan, and the words for it.
pub(super) struct Part<'p> {
    pub(super) subject: &'p Subject<'p>,
    pub(super) words: Words<'p>,
    pub(super) message: &'p Message<'p>,
}

impl Part<'_> {
    fn found_out<'a>(
        &self,
        plan: &Plan<'a>,
        findings: Findings<'a>,
        explanation: &mut Explanation,
    ) {
        let Some(reasons) = plan.reasons() else { return };
        let firmware = findings.firmware();
        explanation.request.firmware = (!firmware.is_empty()).then(|| firmware.to_owned());
        explanation.link = Some(self.link(&reasons, findings));
        explanation.identity = Some(findings.key().kind().name().to_owned());
        self.classes(findings, explanation);
        self.branches(plan, findings, explanation);
        explanation.hosts = self.hosts(&reasons, findings);
        explanation.held = self.held(findings);
        explanation.address = reasons.chosen.map(|chosen| AddressPart {
            ip: Some(chosen.ip),
            through: through(chosen.through).to_owned(),
            source: match chosen.admission {
                Admission::Host(known) => self.host(known.name),
                Admission::Pool { .. } | Admission::Unknown => self
                    .subject
                    .dhcp
                    .pool_of(chosen.ip)
                    .map_or(words::made_by("server"), |id| self.words.scope(ScopeId::Pool(id))),
            },
        });
        explanation.pools = self.pools(&reasons, findings);
        let elsewhere = self.subject.dhcp.pools.len() - explanation.pools.len();
        explanation.pools_elsewhere = elsewhere;
        let reply = plan.action.reply().filter(|reply| reply.nak.is_none());
        if let Some(reply) = reply {
            explanation.boot = Some(self.boot(reply, findings));
        }
    }

    fn link(&self, reasons: &dhcp::Reasons<'_>, findings: Findings<'_>) -> LinkPart {
        let (by, address) = match findings.link_by() {
            LinkBy::LinkSelection(address) => ("link-selection", address),
            LinkBy::SubnetSelection(address) => ("subnet-selection", address),
            LinkBy::Relay(address) => ("relay", address),
            LinkBy::Ciaddr(address) => ("ciaddr", address),
            LinkBy::Interface(address) => ("interface", address),
        };
        let network = self.subject.dhcp.network(reasons.network);
        LinkPart {
            by: by.to_owned(),
            address: Some(address),
            subnet: self.words.scope(ScopeId::Subnet(reasons.subnet)),
            network: network
                .name
                .is_some()
                .then(|| self.words.scope(ScopeId::Network(reasons.network))),
        }
    }

    fn classes(&self, findings: Findings<'_>, explanation: &mut Explanation) {
        let mut others = 0;
        for (id, membership) in findings.classes(&self.subject.leases) {
            if membership.is_err() {
                others += 1;
                if others > CLASSES {
                    explanation.more_classes += 1;
                    continue;
                }
            }
            let class = self.subject.dhcp.class(id);
            let why = match &membership {
                Ok(MemberFound { subclass: Some(subclass), .. }) => {
                    format!("by {}", self.words.scope(ScopeId::Subclass(*subclass)).name)
                }
                Ok(_) => match (class.test.is_some(), class.matches.is_empty()) {
                    (true, true) => "its test is true",
                    (true, false) => "its conditions hold and its test is true",
                    (false, false) => "its conditions hold",
                    (false, true) => "it spawns a subclass for the client's value",
                }
                .to_owned(),
                Err(NotMember::AsksNothing) if class.submatch.is_none() => {
                    "it has neither conditions nor a test".to_owned()
                }
                Err(NotMember::Test) => {
                    format!("its test is not true: {}", findings.why_not(id, &self.words))
                }
                Err(NotMember::Subclass | NotMember::AsksNothing) => {
                    match findings.subclass_value(id) {
                        Some(value) => format!("it has no subclass for {}", words::quoted(value)),
                        None => "its `match` is null for the client".to_owned(),
                    }
                }
                Err(NotMember::TooMany) => {
                    "the client is a member of five classes that stand before it; dhcpd has no \
                     more, nor has compatibility = \"dhcpd\""
                        .to_owned()
                }
                Err(NotMember::Condition(condition)) => {
                    self.words.fails(*condition, &class.matches, &findings.said(*condition))
                }
            };
            let member = membership.is_ok();
            let class = self.words.scope(ScopeId::Class(id));
            let limit = membership.ok().and_then(|found| found.limit);
            let limit = limit.map(|LimitFound { used, most, is_full }| LimitPart {
                used,
                most,
                full: is_full,
            });
            explanation.classes.push(ClassPart { class, member, why, limit });
        }
    }

    fn branches<'a>(&self, plan: &Plan<'a>, findings: Findings<'a>, explanation: &mut Explanation) {
        let decisions = findings.decisions(plan.action.reply(), &self.words);
        explanation.more_branches = decisions.len().saturating_sub(BRANCHES);
        let part = |Decision { level, line, branch, is_taken, why }| {
            let name = match level {
                Some(level) => self.words.scope(level).name,
                None => "on commit".to_owned(),
            };
            let source = Source { name, at: self.words.place(Some(line)) };
            BranchPart { branch: branch.to_owned(), source, taken: is_taken, why }
        };
        explanation.branches = decisions.into_iter().take(BRANCHES).map(part).collect();
    }

    fn hosts(&self, reasons: &dhcp::Reasons<'_>, findings: Findings<'_>) -> Vec<HostPart> {
        let dhcp = self.subject.dhcp;
        let entries = findings.entries();
        let live = match entries.is_empty() {
            true => LiveHosts::default(),
            // What cannot be read nobody needs to know of.
            false => LiveHosts::read(&self.subject.state_dir.join(LIVE_HOSTS)).unwrap_or_default(),
        };
        let part = |EntryFound { id, by, option, what }| {
            let why = match what {
                EntryUse::Elsewhere => Some("it has addresses in other networks only".to_owned()),
                EntryUse::After => Some("another entry counts before it".to_owned()),
                EntryUse::Counts => reasons.holder.map(|holder| self.holder(&holder)),
            };
            HostPart {
                host: self.words.scope(ScopeId::Host(id)),
                by: KeyKind::name(by).to_owned(),
                option: option.map(|path| self.words.option(path)),
                counts: what == EntryUse::Counts,
                address: dhcp.host_address(id, reasons.network),
                why,
                live: live_part(&live, dhcp.host(id).name()),
            }
        };
        entries.into_iter().map(part).collect()
    }

    fn host(&self, name: &str) -> Source {
        match self.subject.dhcp.host_by_name(name) {
            Some(id) => self.words.scope(ScopeId::Host(id)),
            None => Source { name: format!("host {name:?}"), at: None },
        }
    }

    /// Who keeps the client from its reserved address.
    fn holder(&self, holder: &Holder) -> String {
        let until = (self.subject.time)(holder.ends);
        match holder.state {
            LeaseState::Declined => format!("{} is in quarantine until {until}", holder.ip),
            LeaseState::Offered => {
                format!("{} is offered to {} until {until}", holder.ip, holder.hardware)
            }
            _ => format!("{} is leased by {} until {until}", holder.ip, holder.hardware),
        }
    }

    fn held(&self, findings: Findings<'_>) -> Vec<HeldPart> {
        let mut held = Vec::new();
        self.subject.leases.of_client(findings.key(), self.subject.now, |lease| {
            held.push(HeldPart {
                ip: lease.ip.to_string(),
                state: lease.state.name().to_owned(),
                until: (self.subject.time)(lease.expires),
                refused: lease.refused,
                variables: lease.notes.scope().variables.iter().map(words::variable).collect(),
            });
        });
        held
    }

    fn pools(&self, reasons: &dhcp::Reasons<'_>, findings: Findings<'_>) -> Vec<PoolPart> {
        let dhcp = self.subject.dhcp;
        let chosen = reasons.chosen;
        let of_pool = chosen.filter(|chosen| !matches!(chosen.admission, Admission::Host(_)));
        let gives = of_pool.and_then(|chosen| dhcp.pool_of(chosen.ip));
        let part = |(id, state): (PoolId, PoolState)| {
            let (state, why) = match state {
                _ if gives == Some(id) => ("chosen", "it gives the address".to_owned()),
                PoolState::NotPermitted(why) => self.words.not_permitted(why, id),
                PoolState::Full => ("full", "no address of it is free".to_owned()),
                PoolState::Free => {
                    let why = match chosen.map(|chosen| chosen.through) {
                        Some(Through::Reservation) => "an address is reserved for the client",
                        Some(Through::Lease) => "the client has a lease",
                        Some(Through::Offer) => "the client has an offer",
                        Some(Through::Previous) => "the client had another address, which is free",
                        Some(Through::Wish) => "the address that the client asks for is free",
                        Some(Through::Free) => "a pool before it has a free address",
                        None => "no address is given",
                    };
                    ("not-needed", why.to_owned())
                }
            };
            PoolPart { pool: self.words.scope(ScopeId::Pool(id)), state: state.to_owned(), why }
        };
        findings.pools(&self.subject.leases).into_iter().map(part).collect()
    }
}

/// A host by its name, if it is a live one.
fn live_part(live: &LiveHosts, name: &str) -> Option<LivePart> {
    let origin = live.contains(name).then(|| live.origin(name))?;
    let through = origin.map(|origin| match origin.by {
        By::Command => "bootstorm host",
        By::Omapi => "OMAPI",
        By::Import => "import",
    });
    Some(LivePart {
        changed: origin.map(|origin| origin.at.to_string()),
        through: through.map(str::to_owned),
    })
}

fn through(through: Through) -> &'static str {
    match through {
        Through::Reservation => "reservation",
        Through::Lease => "lease",
        Through::Offer => "offer",
        Through::Previous => "previous",
        Through::Wish => "wish",
        Through::Free => "free",
    }
}
