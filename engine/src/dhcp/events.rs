//! Requests and decisions as events for logs and metrics.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{Message, MessageType, ParseError};

use super::arrival::Arrival;
use super::{Action, Silence};
use crate::config::LogLevel;
use crate::event::{BootEvent, Detail, FileName, Kind, LogText};
use crate::leases::Hardware;

/// The kind of [`of_request`].
pub fn kind_of_request(message: &Message<'_>) -> Kind {
    match message.message_type() {
        Some(MessageType::Discover) => Kind::Discover,
        Some(MessageType::Request) => Kind::Request,
        Some(MessageType::Decline) => Kind::Decline,
        Some(MessageType::Release) => Kind::Release,
        Some(MessageType::Inform) => Kind::Inform,
        None => Kind::Bootp,
        Some(_) => Kind::Silence,
    }
}

/// The event of a request that came in: what the machine says it is.
pub fn of_request(message: &Message<'_>, arrival: &Arrival<'_>) -> BootEvent {
    let kind = kind_of_request(message);
    let detail = Detail::Client {
        architecture: message.architecture().map(|architecture| architecture.code()),
        stage: super::machine::Firmware::of(message).name(),
    };
    BootEvent { detail, ..event(kind, message, arrival, named_address(message)) }
}

/// The event of a datagram that is no DHCP message. Its sender is named as far as the header goes.
pub fn of_malformed(
    payload: &[u8],
    source: Ipv4Addr,
    ifindex: u32,
    error: ParseError,
) -> BootEvent {
    let header = Message::hardware_of(payload);
    let hardware = header.map(|(htype, chaddr)| Hardware::new(htype, chaddr));
    BootEvent {
        ifindex,
        detail: Detail::Malformed(error),
        ..BootEvent::new(Kind::Malformed, hardware.unwrap_or_default(), source)
    }
}

/// The event of a decision.
pub fn of_decision(message: &Message<'_>, arrival: &Arrival<'_>, action: &Action<'_>) -> BootEvent {
    match action {
        Action::Silence(silence) => {
            let kind = match silence {
                Silence::PoolFull => Kind::PoolFull,
                _ => Kind::Silence,
            };
            let detail = Detail::Reason(silence.name());
            BootEvent { detail, ..event(kind, message, arrival, named_address(message)) }
        }
        Action::Reply(reply) | Action::ProbeThenOffer(reply, _) | Action::AckWhenDurable(reply) => {
            let kind = match reply.kind {
                Some(MessageType::Offer) => Kind::Offer,
                Some(MessageType::Nak) => Kind::Nak,
                Some(_) => Kind::Ack,
                None => Kind::BootReply,
            };
            let detail = match reply.nak {
                Some(reason) => Detail::Reason(reason.text()),
                None => Detail::Answer {
                    file: FileName::new(reply.boot_file),
                    lease_seconds: reply.lease_seconds,
                    reason: reply.boot_reason,
                },
            };
            let address =
                if reply.yiaddr.is_unspecified() { named_address(message) } else { reply.yiaddr };
            BootEvent { detail, ..event(kind, message, arrival, address) }
        }
        Action::Record { address } => {
            let kind = match message.message_type() {
                Some(MessageType::Decline) => Kind::Decline,
                _ => Kind::Release,
            };
            event(kind, message, arrival, *address)
        }
    }
}

/// The event of variables that a lease has no room for; `decided` is that of its reply.
pub fn of_variables_lost(decided: &BootEvent) -> BootEvent {
    let detail = Detail::Reason("a lease keeps 16 variables of 238 bytes together");
    BootEvent { kind: Kind::VariablesLost, detail, ..*decided }
}

/// The events of what the configuration logs about the client of a reply, but for an OFFER that
/// waits for a ping; `decided` is the event of the reply.
pub fn of_statements<'a>(
    action: &Action<'a>,
    decided: &BootEvent,
) -> impl Iterator<Item = BootEvent> + use<'a> {
    let decided = *decided;
    let at_once = !matches!(action, Action::ProbeThenOffer(..));
    let reply = action.reply().filter(|_| at_once);
    let logs = reply.map_or(&[][..], |reply| reply.chain.effects().now.logs);
    logs.iter().map(move |log| log_event(log, &decided))
}

/// The event of a `log` statement; `about` is that of what it is about.
pub(super) fn log_event((level, text): &(LogLevel, &[u8]), about: &BootEvent) -> BootEvent {
    let kind = match level {
        LogLevel::Error => Kind::LogError,
        LogLevel::Warn | LogLevel::Info => Kind::LogInfo,
        LogLevel::Debug | LogLevel::Trace => Kind::LogDebug,
    };
    BootEvent { kind, detail: Detail::Text(LogText::new(text)), ..*about }
}

fn event(kind: Kind, message: &Message<'_>, arrival: &Arrival<'_>, address: Ipv4Addr) -> BootEvent {
    let hardware = Hardware::new(message.htype(), message.chaddr());
    BootEvent {
        ifindex: arrival.ifindex,
        relay: message.giaddr(),
        ..BootEvent::new(kind, hardware, address)
    }
}

/// The address a request is about: what the client has or asks for.
fn named_address(message: &Message<'_>) -> Ipv4Addr {
    match message.ciaddr() {
        Ipv4Addr::UNSPECIFIED => message.requested_address().unwrap_or(Ipv4Addr::UNSPECIFIED),
        ciaddr => ciaddr,
    }
}
