//! The validator checks every answer. It knows what was asked and which machine holds which
//! address, and nothing of the server's inside.

mod files;
mod leases;
mod recorder;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::Message;
use bootstorm_protocols::time::Moment;

pub use self::files::{BlockOutcome, FileId, Files, HTTP, LocalCopies};
use self::leases::Holders;
pub use self::recorder::Recorder;
use crate::firmware::Program;
use crate::report::{Example, ViolationRow};
use crate::routes::Block;

/// So many violations of a kind are kept with their details.
const EXAMPLES: usize = 5;
/// A declined address must not be given again so soon: somebody else is using it.
const QUARANTINE: Duration = Duration::from_secs(60);

/// What a server can do wrong.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// An ACK for an address that another machine holds.
    DuplicateAddress,
    /// An OFFER of an address that another machine holds.
    HeldAddressOffered,
    /// An address that was declined a moment ago.
    DeclinedAddress,
    /// An ACK for another address than the one requested.
    AddressChanged,
    /// An address outside of the subnet of the relay agent.
    Subnet,
    /// An address that no machine may have.
    ReservedAddress,
    /// The transaction id is of another exchange.
    Xid,
    /// The hardware address is another machine's.
    Chaddr,
    /// The relay agent's address is not the request's.
    Giaddr,
    /// Option 82 does not come back as it was sent.
    RelayOption,
    /// The server identifier is missing or changes.
    ServerIdentifier,
    /// The lease time is missing or makes no sense.
    LeaseTime,
    /// The answer to an INFORM gives an address or a lease.
    InformAck,
    /// Another boot file than expected.
    BootFile,
    /// Not a DHCP message at all.
    Malformed,
    /// A block of a file has other bytes than it should.
    Content,
    /// A file is longer or shorter than it should be, or than announced.
    FileSize,
    /// A packet that breaks the rules of TFTP.
    TftpProtocol,
}

impl Kind {
    /// In kebab case, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::DuplicateAddress => "duplicate-address",
            Kind::HeldAddressOffered => "held-address-offered",
            Kind::DeclinedAddress => "declined-address",
            Kind::AddressChanged => "address-changed",
            Kind::Subnet => "subnet",
            Kind::ReservedAddress => "reserved-address",
            Kind::Xid => "xid",
            Kind::Chaddr => "chaddr",
            Kind::Giaddr => "giaddr",
            Kind::RelayOption => "relay-option",
            Kind::ServerIdentifier => "server-identifier",
            Kind::LeaseTime => "lease-time",
            Kind::InformAck => "inform-ack",
            Kind::BootFile => "boot-file",
            Kind::Malformed => "malformed",
            Kind::Content => "content",
            Kind::FileSize => "file-size",
            Kind::TftpProtocol => "tftp-protocol",
        }
    }

    /// What it means, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Kind::DuplicateAddress => "An address was given to a machine while another held it.",
            Kind::HeldAddressOffered => "An address was offered while another machine held it.",
            Kind::DeclinedAddress => {
                "An address was offered less than a minute after a machine had found it in use."
            }
            Kind::AddressChanged => "An ACK gave another address than the one requested.",
            Kind::Subnet => "An address does not belong to the network that the machine is on.",
            Kind::ReservedAddress => {
                "An address was given that belongs to the network itself, a relay agent or the \
                 server."
            }
            Kind::Xid => "An answer carried the transaction id of another exchange.",
            Kind::Chaddr => "An answer carried another machine's hardware address.",
            Kind::Giaddr => "An answer carried another relay agent's address.",
            Kind::RelayOption => {
                "The relay agent's information (option 82) did not come back as sent."
            }
            Kind::ServerIdentifier => "The server identifier was missing, or changed.",
            Kind::LeaseTime => "The lease time, or the times of renewal in it, made no sense.",
            Kind::InformAck => "The answer to an INFORM gave an address or a lease.",
            Kind::BootFile => "The boot file was not the one expected.",
            Kind::Malformed => "An answer was no DHCP message.",
            Kind::Content => "A file arrived with wrong bytes.",
            Kind::FileSize => "A file arrived with a wrong length.",
            Kind::TftpProtocol => "A packet broke the rules of TFTP.",
        }
    }
}

/// What an answer is held against.
#[derive(Copy, Clone, Debug)]
pub struct Asked<'a> {
    /// Number of the machine.
    pub machine: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Which program asked.
    pub program: Program,
    /// The relay agent's address in the request, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// Option 82 of the request; empty when it had none.
    pub relay_option: &'a [u8],
    /// The network that the machine is on, where it is known.
    pub network: Option<Block>,
    /// The address of a REQUEST.
    pub requested: Option<Ipv4Addr>,
    /// The server identifier that the machine goes by.
    pub server_id: Option<Ipv4Addr>,
    /// When the message was sent: leases count from here (RFC 2131 section 4.4.1).
    pub sent: Moment,
}

/// What was wrong, and with whom.
#[derive(Debug, Default)]
struct Row {
    count: u64,
    first: Vec<Example>,
}

/// Checks every answer of a run.
#[derive(Debug)]
pub struct Validator {
    start: Moment,
    holders: Holders,
    /// Server identifiers by the address that answered.
    servers: BTreeMap<Ipv4Addr, Ipv4Addr>,
    expected_files: BTreeMap<Program, String>,
    /// Addresses that no machine may get.
    reserved: Vec<Ipv4Addr>,
    rows: BTreeMap<Kind, Row>,
    /// Recent packets, and those that are kept for the capture file.
    pub recorder: Recorder,
}

impl Validator {
    /// A validator without any state. `reserved` are addresses that no machine may get.
    pub fn new(
        start: Moment,
        expected_files: BTreeMap<Program, String>,
        reserved: Vec<Ipv4Addr>,
        recorder: Recorder,
    ) -> Validator {
        Validator {
            start,
            holders: Holders::default(),
            servers: BTreeMap::new(),
            expected_files,
            reserved,
            rows: BTreeMap::new(),
            recorder,
        }
    }

    /// Notes something wrong.
    pub fn violation(
        &mut self,
        kind: Kind,
        machine: u32,
        mac: [u8; 6],
        now: Moment,
        detail: impl FnOnce() -> String,
    ) {
        let row = self.rows.entry(kind).or_default();
        row.count += 1;
        if row.first.len() < EXAMPLES {
            let detail = detail();
            self.recorder.keep(machine, kind.name(), &detail);
            row.first.push(Example {
                at_seconds: now.since(self.start).as_secs_f64(),
                machine,
                mac: Mac(mac).to_string(),
                detail,
            });
        }
    }

    /// How many violations there were.
    pub fn violations(&self) -> u64 {
        self.rows.values().map(|row| row.count).sum()
    }

    /// All violations, for the report.
    pub fn rows(&self) -> Vec<ViolationRow> {
        let row = |(kind, row): (&Kind, &Row)| ViolationRow {
            kind: kind.name().to_owned(),
            meaning: kind.meaning().to_owned(),
            count: row.count,
            first: row.first.clone(),
        };
        self.rows.iter().map(row).collect()
    }

    /// Checks an OFFER. Returns whether a machine can use it.
    pub fn offer(
        &mut self,
        asked: &Asked<'_>,
        offer: &Message<'_>,
        source: Ipv4Addr,
        now: Moment,
    ) -> bool {
        self.common(asked, offer, source, now);
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
        !address.is_unspecified() && offer.server_identifier().is_some()
    }

    /// Checks an ACK and records the holder of the address. Returns the lease time in
    /// seconds.
    pub fn ack(
        &mut self,
        asked: &Asked<'_>,
        ack: &Message<'_>,
        source: Ipv4Addr,
        now: Moment,
    ) -> u32 {
        self.common(asked, ack, source, now);
        let address = ack.yiaddr();
        if let Some(requested) = asked.requested.filter(|requested| *requested != address) {
            self.violation(Kind::AddressChanged, asked.machine, asked.mac, now, || {
                format!("{requested} was requested, the ACK gives {address}")
            });
        }
        let lease = ack.lease_time().unwrap_or(0);
        let until = asked.sent + Duration::from_secs(lease.into());
        if let Some(holder) = self.holders.give(address, asked.machine, until, now) {
            self.violation(Kind::DuplicateAddress, asked.machine, asked.mac, now, || {
                format!("{address} was given; machine {holder} holds it")
            });
        }
        lease
    }

    /// Checks the answer to an INFORM: it gives no address and no lease (RFC 2131 section 4.3.5).
    pub fn informed(
        &mut self,
        asked: &Asked<'_>,
        ack: &Message<'_>,
        source: Ipv4Addr,
        now: Moment,
    ) {
        self.relayed(asked, ack, now);
        self.server_identifier(asked, ack, source, now);
        let lease = ack.lease_time();
        if !ack.yiaddr().is_unspecified() || lease.is_some() {
            self.violation(Kind::InformAck, asked.machine, asked.mac, now, || {
                let lease = lease.map_or("none".to_owned(), |lease| format!("{lease} s"));
                format!("yiaddr {}, lease time {lease} in the answer to an INFORM", ack.yiaddr())
            });
        }
    }

    /// The machine has given its address back.
    pub fn released(&mut self, address: Ipv4Addr, machine: u32) {
        self.holders.release(address, machine);
    }

    /// The machine has found the address in use.
    pub fn declined(&mut self, address: Ipv4Addr, machine: u32, now: Moment) {
        self.holders.decline(address, machine, now);
    }

    /// Machines and the addresses that they hold.
    pub fn leases(&self) -> Vec<(u32, Ipv4Addr)> {
        self.holders.leases()
    }

    /// The machine that holds an address.
    pub fn holder(&self, address: Ipv4Addr) -> Option<u32> {
        self.holders.holder(address)
    }

    /// What holds for OFFERs and ACKs alike.
    fn common(&mut self, asked: &Asked<'_>, message: &Message<'_>, source: Ipv4Addr, now: Moment) {
        let (machine, mac) = (asked.machine, asked.mac);
        self.relayed(asked, message, now);
        self.server_identifier(asked, message, source, now);
        self.address(asked, message.yiaddr(), now);
        self.lease_time(asked, message, now);
        let expected = self.expected_files.get(&asked.program.as_scenarios_say());
        if let Some(expected) = expected.filter(|file| !names_file(message, file)).cloned() {
            self.violation(Kind::BootFile, machine, mac, now, || {
                format!("boot file `{}`, expected `{expected}`", boot_file(message).escape_ascii())
            });
        }
    }

    /// What a relay agent needs to get back.
    fn relayed(&mut self, asked: &Asked<'_>, message: &Message<'_>, now: Moment) {
        if message.giaddr() != asked.giaddr {
            self.violation(Kind::Giaddr, asked.machine, asked.mac, now, || {
                format!(
                    "giaddr {} in the answer, {} in the request",
                    message.giaddr(),
                    asked.giaddr
                )
            });
        }
        self.relay_option(asked, message, now);
    }

    fn relay_option(&mut self, asked: &Asked<'_>, message: &Message<'_>, now: Moment) {
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

    fn server_identifier(
        &mut self,
        asked: &Asked<'_>,
        message: &Message<'_>,
        source: Ipv4Addr,
        now: Moment,
    ) {
        let said = message.server_identifier();
        let known = match said {
            Some(said) => Some(*self.servers.entry(source).or_insert(said)),
            None => None,
        };
        let expected = asked.server_id.or(known);
        if said.is_none() || said != expected || said != known {
            self.violation(Kind::ServerIdentifier, asked.machine, asked.mac, now, || match said {
                None => "the answer has no server identifier".to_owned(),
                Some(said) => {
                    let before = expected.filter(|e| *e != said).or(known).unwrap_or(said);
                    format!("server identifier {said}, before it was {before}")
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
    fn lease_time(&mut self, asked: &Asked<'_>, message: &Message<'_>, now: Moment) {
        use bootstorm_protocols::dhcpv4::options::{REBINDING_TIME, RENEWAL_TIME};
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
            self.violation(Kind::LeaseTime, asked.machine, asked.mac, now, || {
                format!("lease {}, T1 {}, T2 {}", show(lease), show(t1), show(t2))
            });
        }
    }
}

/// The boot file of a message: option 67, or the field.
pub fn boot_file<'m>(message: &Message<'m>) -> std::borrow::Cow<'m, [u8]> {
    use bootstorm_protocols::dhcpv4::options::BOOTFILE_NAME;
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

/// A hardware address as people write it.
#[derive(Copy, Clone, Debug)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
