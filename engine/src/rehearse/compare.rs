//! Compares two answers to one message, field by field.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{Message, MessageType, options};

use super::{Difference, way_out};
use crate::config::{Key, ScopeChain};
use crate::dhcp::{Action, Origin, Outgoing, Plan, Reply, ReplyCache, Through};
use crate::explain::words::{self, Words};
use crate::leases::ShardLeases;

/// What is not compared: the type, which is the answer itself, the identifier of the server, where
/// options went on (52), and texts for people.
const NOT_COMPARED: [u8; 4] =
    [options::MESSAGE_TYPE, options::SERVER_IDENTIFIER, options::OPTION_OVERLOAD, options::MESSAGE];

/// So many seconds of lease, renewal and rebinding time are no difference: of a lease that is
/// answered with what is left of it, each server counts and rounds for itself.
const SECONDS: u32 = 2;

/// How the plan differs from the answer of another server.
pub(super) fn answers(
    plan: &Plan<'_>,
    request: &Message<'_>,
    theirs: &Message<'_>,
    leases: &ShardLeases,
    words: Words<'_>,
) -> Vec<Difference> {
    let kind = theirs.message_type();
    let reply = match &plan.action {
        Action::Silence(silence) => {
            let ours = format!("silence: {}", silence.name());
            return vec![answer(kind, &ours, &way_out(*silence, request))];
        }
        Action::Record { .. } => return vec![answer(kind, "silence", "")],
        Action::Reply(reply) | Action::ProbeThenOffer(reply, _) | Action::AckWhenDurable(reply) => {
            *reply
        }
    };
    if reply.kind != kind {
        let why = reply.nak.map_or(String::new(), |reason| format!(": {}", reason.text()));
        return vec![answer(kind, &format!("{}{why}", kind_of(reply.kind)), "")];
    }
    if reply.nak.is_some() {
        return Vec::new();
    }
    let mut differences = Vec::new();
    let mut reply = reply;
    if reply.yiaddr != theirs.yiaddr() {
        let fresh = plan.reasons().and_then(|reasons| reasons.chosen);
        let fresh = fresh.is_some_and(|chosen| chosen.through == Through::Free);
        let findings = plan.findings();
        let same = findings.filter(|known| fresh && known.could_get(theirs.yiaddr(), leases));
        match same {
            // Any free address will do.
            Some(findings) => reply = findings.reply_of(kind, theirs.yiaddr()),
            None => differences.push(Difference {
                what: "address".to_owned(),
                theirs: theirs.yiaddr().to_string(),
                ours: reply.yiaddr.to_string(),
                from: String::new(),
            }),
        }
    }
    fields(reply, theirs, words, &mut differences);
    differences
}

fn answer(kind: Option<MessageType>, ours: &str, from: &str) -> Difference {
    Difference {
        what: "answer".to_owned(),
        theirs: kind_of(kind).to_owned(),
        ours: ours.to_owned(),
        from: from.to_owned(),
    }
}

pub(super) fn kind_of(kind: Option<MessageType>) -> &'static str {
    match kind {
        Some(MessageType::Offer) => "OFFER",
        Some(MessageType::Nak) => "NAK",
        Some(_) => "ACK",
        None => "BOOTREPLY",
    }
}

fn fields(
    reply: &Reply<'_>,
    theirs: &Message<'_>,
    words: Words<'_>,
    differences: &mut Vec<Difference>,
) {
    let mut buf = [0; 2048];
    let len = reply.write(&mut ReplyCache::default(), &mut buf);
    let Ok(ours) = Message::parse(&buf[..len]) else { return };
    let address = |ip: Ipv4Addr| if ip.is_unspecified() { String::new() } else { ip.to_string() };
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut field = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            let (what, from) = (what.to_owned(), String::new());
            differences.push(Difference { what, theirs, ours, from });
        }
    };
    field("siaddr", address(theirs.siaddr()), address(ours.siaddr()));
    field("file", text(theirs.boot_file()), text(ours.boot_file()));
    field("sname", text(theirs.server_name()), text(ours.server_name()));
    let codes = |message: &Message<'_>| message.options().map(|(code, _)| code).collect::<Vec<_>>();
    let mut all = [codes(theirs), codes(&ours)].concat();
    all.sort_unstable();
    all.dedup();
    for code in all.into_iter().filter(|code| !NOT_COMPARED.contains(code)) {
        let value = |message: &Message<'_>| -> Option<Vec<u8>> {
            Some(message.option(code)?.bytes().collect())
        };
        let (theirs, ours) = (value(theirs), value(&ours));
        if theirs == ours || is_the_same(reply, code, theirs.as_deref(), ours.as_deref()) {
            continue;
        }
        let shown = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or(String::new(), |value| words::option(code, value).value)
        };
        let name = words::option(code, &[]).name;
        differences.push(Difference {
            what: format!("option {code} {name}").trim_end().to_owned(),
            theirs: shown(&theirs),
            ours: shown(&ours),
            from: source(reply, code, ours.is_some(), words),
        });
    }
}

/// Whether two values mean the same to the client: times that hardly differ; and where one of the
/// two leaves an option out, what the client does or knows without it, which is renewal and
/// rebinding time at their defaults (RFC 2131 section 4.4.5), and what it sent and gets back.
fn is_the_same(reply: &Reply<'_>, code: u8, theirs: Option<&[u8]>, ours: Option<&[u8]>) -> bool {
    let lease = u64::from(reply.lease_seconds);
    let time = |value: Option<&[u8]>| Some(u32::from_be_bytes(value?.try_into().ok()?));
    let is_time =
        [options::LEASE_TIME, options::RENEWAL_TIME, options::REBINDING_TIME].contains(&code);
    if is_time && let (Some(theirs), Some(ours)) = (time(theirs), time(ours)) {
        return theirs.abs_diff(ours) <= SECONDS;
    }
    let usual = match code {
        options::RENEWAL_TIME => lease / 2,
        options::REBINDING_TIME => lease * 7 / 8,
        _ => {
            let echoed = |each: &Outgoing<'_>| each.code == code && each.origin == Origin::Echo;
            return theirs.is_none() && reply.options().iter().any(echoed);
        }
    };
    // At most the lease time, which has 32 bits.
    let usual = (usual as u32).to_be_bytes();
    matches!((theirs, ours), (None, Some(said)) | (Some(said), None) if said == usual)
}

/// Where this server's value comes from, or why there is none.
fn source(reply: &Reply<'_>, code: u8, is_sent: bool, words: Words<'_>) -> String {
    let chain: &ScopeChain<'_> = reply.chain();
    if !is_sent {
        let asked = reply.asked().is_empty() || reply.asked().contains(&code);
        return match chain.option(code) {
            Some(_) if !asked => "configured, and the client does not ask for it".to_owned(),
            Some(_) => "configured, and not for such a reply".to_owned(),
            None => "not configured".to_owned(),
        };
    }
    let sent = reply.options().iter().find(|each| each.code == code);
    match sent.map(|each| each.origin) {
        Some(Origin::Scope(scope)) => {
            let source = words.value(chain, scope, Key::Option(code));
            source.at.map_or(source.name.clone(), |at| format!("{} ({at})", source.name))
        }
        Some(Origin::Echo) => "sent back".to_owned(),
        Some(Origin::Protocol) | None => "made by the server".to_owned(),
    }
}
