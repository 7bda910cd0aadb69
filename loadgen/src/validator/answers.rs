//! The checks of DHCP answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::options::{
    BOOTFILE_NAME, CLIENT_IDENTIFIER, MESSAGE, MESSAGE_TYPE, REBINDING_TIME,
    RELAY_AGENT_INFORMATION, RENEWAL_TIME, SERVER_IDENTIFIER, VENDOR_CLASS_IDENTIFIER,
};
use bootstorm_protocols::dhcpv4::{Message, MessageType};
use bootstorm_protocols::time::Moment;

use super::{Kind, Validator};
use crate::firmware::{ClientId, Program};
use crate::routes::Block;

/// A declined address must not be given again so soon: somebody else is using it.
const QUARANTINE: Duration = Duration::from_secs(60);
/// A server keeps an offer for so long at least: a NAK before that is not warranted.
const OFFER_KEPT: Duration = Duration::from_secs(10);
/// OFFER and ACK may count the same lease to ends that are so many seconds apart.
const SAME_LEASE: u32 = 1;
/// Options that a NAK may carry (RFC 2131 table 3; RFC 3046 section 2.2).
const NAK_OPTIONS: [u8; 6] = [
    MESSAGE_TYPE,
    SERVER_IDENTIFIER,
    MESSAGE,
    VENDOR_CLASS_IDENTIFIER,
    CLIENT_IDENTIFIER,
    RELAY_AGENT_INFORMATION,
];

/// What an answer is held against.
#[derive(Copy, Clone, Debug)]
pub struct Asked<'a> {
    /// Number of the machine.
    pub machine: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Which program asked.
    pub program: Program,
    /// Number of its relay agent.
    pub relay: u16,
    /// The relay agent's address in the request, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// Option 82 of the request; empty when it had none.
    pub relay_option: &'a [u8],
    /// The network that the machine is on, where it is known.
    pub network: Option<Block>,
    /// The first offer of this exchange.
    pub offered: Option<Offered>,
    /// The address of a REQUEST or INFORM.
    pub requested: Option<Ipv4Addr>,
    /// The server identifier that the machine goes by.
    pub server_id: Option<Ipv4Addr>,
    /// How an OFFER or ACK must come.
    pub delivery: Delivery,
    /// How a NAK must come.
    pub nak_delivery: Delivery,
    /// When the message was sent: leases count from here (RFC 2131 section 4.4.1).
    pub sent: Moment,
}

/// An offer that a machine has had.
#[derive(Copy, Clone, Debug)]
pub struct Offered {
    /// The address.
    pub address: Ipv4Addr,
    /// Lease time in seconds.
    pub lease: u32,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// When it came.
    pub at: Moment,
}

/// How an answer must come to its machine (RFC 2131 section 4.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// As it likes: a relay agent's socket receives nothing else.
    Any,
    /// By broadcast.
    Broadcast,
    /// To this address, or else to the one that the answer gives.
    Unicast(Option<Ipv4Addr>),
}

/// An answer, and how it came.
#[derive(Copy, Clone, Debug)]
pub struct Answer<'m> {
    /// The message.
    pub message: &'m Message<'m>,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Where to; 0.0.0.0 where that is not known.
    pub destination: Ipv4Addr,
    /// When it came.
    pub now: Moment,
}

impl Validator {
    /// Checks an OFFER. Returns whether a machine can use it.
    pub fn offer(&mut self, asked: &Asked<'_>, answer: Answer<'_>) -> bool {
        // Any server may offer, whichever one was chosen.
        let asked = &Asked { server_id: None, ..*asked };
        self.common(asked, answer);
        let Answer { message: offer, now, .. } = answer;
        let address = offer.yiaddr();
        if let Some(holder) = self.holders.other_holder(address, asked.machine, now) {
            self.violation(Kind::HeldAddressOffered, asked.machine, asked.mac, now, || {
                format!("{address} was offered; machine {holder} holds it")
            });
        }
        if self.holders.declined_since(address, now, QUARANTINE) {
            self.violation(Kind::DeclinedAddress, asked.machine, asked.mac, now, || {
                format!("{address} was offered again after a DECLINE")
            });
        }
        let first = asked.offered.filter(|first| offer.server_identifier() == Some(first.server));
        if let Some(first) = first.filter(|first| first.address != address) {
            self.violation(Kind::OfferChanged, asked.machine, asked.mac, now, || {
                format!("{address} was offered, {} before in the same exchange", first.address)
            });
        }
        !address.is_unspecified() && offer.server_identifier().is_some()
    }

    /// Checks an ACK and records the holder of the address. Returns the lease time in seconds.
    pub fn ack(&mut self, asked: &Asked<'_>, answer: Answer<'_>, client_id: ClientId) -> u32 {
        self.repeated_ack(asked, answer);
        let Answer { message: ack, now, .. } = answer;
        let address = ack.yiaddr();
        let lease = ack.lease_time().unwrap_or(0);
        let other = self.holders.other_lease(address, asked.machine, now);
        if let Some((held, as_whom)) = other
            && (as_whom == client_id || self.expected.one_address)
        {
            self.violation(Kind::StageAddress, asked.machine, asked.mac, now, || {
                format!("{address} was given while the machine's lease of {held} runs")
            });
        }
        let until = asked.sent + Duration::from_secs(lease.into());
        if let Some(holder) = self.holders.give(address, asked.machine, client_id, until, now) {
            self.violation(Kind::DuplicateAddress, asked.machine, asked.mac, now, || {
                format!("{address} was given; machine {holder} holds it")
            });
        }
        lease
    }

    /// Checks an ACK that changes nothing any more.
    fn repeated_ack(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        self.common(asked, answer);
        let Answer { message: ack, now, .. } = answer;
        let address = ack.yiaddr();
        if let Some(requested) = asked.requested.filter(|requested| *requested != address) {
            self.violation(Kind::AddressChanged, asked.machine, asked.mac, now, || {
                format!("{requested} was requested, the ACK gives {address}")
            });
        }
        let lease = ack.lease_time().unwrap_or(0);
        let offered = asked.offered.filter(|offered| offered.lease.abs_diff(lease) > SAME_LEASE);
        // A lease without a time is a violation already.
        if let Some(offered) = offered.filter(|offered| offered.lease > 0 && lease > 0) {
            self.violation(Kind::LeaseTime, asked.machine, asked.mac, now, || {
                format!("the OFFER said {} s, the ACK {lease} s", offered.lease)
            });
        }
    }

    /// Checks the answer to an INFORM: it gives no address and no lease (RFC 2131 section 4.3.5).
    pub fn informed(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        self.relayed(asked, answer);
        self.server_identifier(asked, answer);
        self.delivery(asked, asked.delivery, answer);
        let Answer { message: ack, now, .. } = answer;
        let lease = ack.lease_time();
        if !ack.yiaddr().is_unspecified() || lease.is_some() {
            self.violation(Kind::InformAck, asked.machine, asked.mac, now, || {
                let lease = lease.map_or("none".to_owned(), |lease| format!("{lease} s"));
                format!("yiaddr {}, lease time {lease} in the answer to an INFORM", ack.yiaddr())
            });
        }
    }

    /// Checks a NAK; the machine holds nothing afterwards.
    pub fn nak(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        self.relayed(asked, answer);
        self.server_identifier(asked, answer);
        self.delivery(asked, asked.nak_delivery, answer);
        let Answer { message: nak, now, .. } = answer;
        if let Some(why) = malformed_nak(nak) {
            self.violation(Kind::NakMalformed, asked.machine, asked.mac, now, || why);
        }
        let Some(address) = asked.requested else { return };
        let other = self.holders.other_holder(address, asked.machine, now);
        let offered = asked
            .offered
            .is_some_and(|first| first.address == address && now.since(first.at) < OFFER_KEPT);
        let holds = self.holders.holds(address, asked.machine, now);
        if (offered && other.is_none()) || holds {
            self.violation(Kind::NakUnwarranted, asked.machine, asked.mac, now, || {
                let why = if holds { "holds" } else { "was offered a moment ago" };
                format!("a NAK for {address}, which the machine {why}")
            });
        }
        self.holders.release(address, asked.machine);
    }

    /// Checks an answer that nothing waits for any more, of the machine's last exchange.
    pub fn late(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        match answer.message.message_type() {
            Some(MessageType::Offer) => {
                self.offer(asked, answer);
            }
            // An INFORM's has no address.
            Some(MessageType::Ack) if !answer.message.yiaddr().is_unspecified() => {
                self.repeated_ack(asked, answer);
            }
            Some(MessageType::Nak) => self.nak(asked, answer),
            _ => {}
        }
    }

    /// Checks an answer to an earlier exchange of the machine, as far as that needs no memory of
    /// it.
    pub fn stale(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        let message = answer.message;
        let gives = matches!(message.message_type(), Some(MessageType::Offer | MessageType::Ack));
        if !gives || message.yiaddr().is_unspecified() {
            return;
        }
        // It may belong to another server's exchange.
        let asked = &Asked { server_id: None, ..*asked };
        // One of the two may have gone straight to the server.
        if !message.giaddr().is_unspecified() && !asked.giaddr.is_unspecified() {
            self.relayed(asked, answer);
        }
        self.server_identifier(asked, answer);
        self.address(asked, message.yiaddr(), answer.now);
        self.lease_time(asked, answer);
    }

    /// What holds for OFFERs and ACKs alike.
    fn common(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        self.relayed(asked, answer);
        self.server_identifier(asked, answer);
        self.address(asked, answer.message.yiaddr(), answer.now);
        self.lease_time(asked, answer);
        self.parameters(asked, answer);
        self.delivery(asked, asked.delivery, answer);
        let message = answer.message;
        let expected = self.expected.boot_files.get(&asked.program.as_scenarios_say());
        if let Some(expected) = expected.filter(|file| !names_file(message, file)).cloned() {
            self.violation(Kind::BootFile, asked.machine, asked.mac, answer.now, || {
                format!("boot file `{}`, expected `{expected}`", boot_file(message).escape_ascii())
            });
        }
    }

    /// What a relay agent needs to get back.
    fn relayed(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        let Answer { message, now, .. } = answer;
        if message.giaddr() != asked.giaddr {
            self.violation(Kind::Giaddr, asked.machine, asked.mac, now, || {
                format!(
                    "giaddr {} in the answer, {} in the request",
                    message.giaddr(),
                    asked.giaddr
                )
            });
        }
        let echoed = message.relay_agent_information();
        let right = match &echoed {
            Some(echo) => echo.data() == *asked.relay_option,
            None => asked.relay_option.is_empty(),
        };
        if !right {
            self.violation(Kind::RelayOption, asked.machine, asked.mac, now, || match echoed {
                None => "option 82 is missing in the answer".to_owned(),
                Some(echo) => format!(
                    "option 82 has {} bytes in the answer, {} in the request, or others",
                    echo.data().len(),
                    asked.relay_option.len()
                ),
            });
        }
    }

    fn server_identifier(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        let said = answer.message.server_identifier();
        let known = said.map(|said| *self.servers.entry(answer.source).or_insert(said));
        let expected = asked.server_id.or(known);
        if said.is_none() || said != expected || said != known {
            self.violation(Kind::ServerIdentifier, asked.machine, asked.mac, answer.now, || {
                match said {
                    None => "the answer has no server identifier".to_owned(),
                    Some(said) => {
                        let before = expected.filter(|e| *e != said).or(known).unwrap_or(said);
                        format!("server identifier {said}, before it was {before}")
                    }
                }
            });
        }
    }

    fn address(&mut self, asked: &Asked<'_>, address: Ipv4Addr, now: Moment) {
        if let Some(network) = asked.network.filter(|network| !network.contains(address)) {
            self.violation(Kind::Subnet, asked.machine, asked.mac, now, || {
                format!("{address} is not in {network}")
            });
        }
        // A network of two addresses or one has neither of its own (RFC 3021).
        let own = asked.network.is_some_and(|network| {
            network.prefix < 31 && (address == network.first || address == network.last())
        });
        if own || self.reserved.contains(&address) {
            self.violation(Kind::ReservedAddress, asked.machine, asked.mac, now, || {
                format!("{address} belongs to the network itself, a relay agent or the server")
            });
        }
    }

    /// RFC 2131 section 4.4.5: T1 is before T2, and T2 before the end.
    fn lease_time(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        let message = answer.message;
        let time = |code| message.option(code).and_then(|data| data.u32());
        let (lease, t1, t2) = (message.lease_time(), time(RENEWAL_TIME), time(REBINDING_TIME));
        let sane = lease.is_some_and(|lease| {
            lease > 0
                && t2.is_none_or(|t2| t2 <= lease)
                && t1.is_none_or(|t1| t1 <= t2.unwrap_or(lease))
        });
        if !sane {
            let show =
                |time: Option<u32>| time.map_or("none".to_owned(), |time| format!("{time} s"));
            self.violation(Kind::LeaseTime, asked.machine, asked.mac, answer.now, || {
                format!("lease {}, T1 {}, T2 {}", show(lease), show(t1), show(t2))
            });
        }
    }

    fn delivery(&mut self, asked: &Asked<'_>, wanted: Delivery, answer: Answer<'_>) {
        let Answer { message, destination, now, .. } = answer;
        let (right, wanted) = match wanted {
            Delivery::Any => return,
            Delivery::Broadcast => (destination.is_broadcast(), Ipv4Addr::BROADCAST),
            Delivery::Unicast(to) => {
                let to = to.unwrap_or(message.yiaddr());
                (destination == to, to)
            }
        };
        if !right && !destination.is_unspecified() {
            self.violation(Kind::Delivery, asked.machine, asked.mac, now, || {
                format!("the answer came to {destination}, it should have come to {wanted}")
            });
        }
    }
}

/// What a NAK must not have, and what the relay agent needs to pass it on (RFC 2131 sections 4.3.1
/// and 4.3.2).
fn malformed_nak(nak: &Message<'_>) -> Option<String> {
    for (name, address) in
        [("ciaddr", nak.ciaddr()), ("yiaddr", nak.yiaddr()), ("siaddr", nak.siaddr())]
    {
        if !address.is_unspecified() {
            return Some(format!("{name} {address} in a NAK"));
        }
    }
    if let Some((code, _)) = nak.options().find(|(code, _)| !NAK_OPTIONS.contains(code)) {
        return Some(format!("option {code} in a NAK"));
    }
    let relayed = !nak.giaddr().is_unspecified();
    (relayed && !nak.broadcast()).then(|| "a relayed NAK without the broadcast flag".to_owned())
}

/// The boot file of a message: option 67, or the field.
pub fn boot_file<'m>(message: &Message<'m>) -> std::borrow::Cow<'m, [u8]> {
    match message.option(BOOTFILE_NAME) {
        // Some servers count a NUL in.
        Some(name) if !name.is_empty() => {
            let name: Vec<u8> = name.bytes().take_while(|byte| *byte != 0).collect();
            name.into()
        }
        _ => message.boot_file().into(),
    }
}

fn names_file(message: &Message<'_>, file: &str) -> bool {
    *boot_file(message) == *file.as_bytes()
}
