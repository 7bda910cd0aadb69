//! A lease as people and programs read it: a line of `leases list`, an object of `leases list
//! --json`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::ETHERNET;
use bootstorm_protocols::time::Moment;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Value;
use crate::hex;
use crate::lease_files::{Binding, Entry, FileTime, Variable, unescape};
use crate::leases::{Hardware, Lease, LeaseState, Notes};

/// One reading of both clocks, to show moments of the monotonic clock as times of day.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The monotonic clock.
    pub now: Moment,
    /// The wall clock at the same time.
    pub wall: Timestamp,
}

impl Clocks {
    /// Reads both.
    pub fn read() -> Self {
        Self { now: bootstorm_net::now(), wall: Timestamp::now() }
    }

    /// The time of day of a moment, in RFC 3339 and whole seconds; `never` for [`Moment::NEVER`]
    /// and for what no calendar reaches.
    pub fn text(&self, moment: Moment) -> String {
        if moment == Moment::NEVER {
            return "never".to_owned();
        }
        let ahead = SignedDuration::try_from(moment.since(self.now));
        let behind = SignedDuration::try_from(self.now.since(moment));
        let (Ok(ahead), Ok(behind)) = (ahead, behind) else { return "never".to_owned() };
        self.wall
            .checked_add(ahead)
            .and_then(|time| time.checked_sub(behind))
            .map_or_else(|_| "never".to_owned(), |time| format!("{time:.0}"))
    }
}

/// One lease with its fields by name. Absent fields are left out of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseRow {
    /// The address.
    pub ip: String,
    /// The hardware address that came with the last message; empty for a client that has none.
    pub hardware: String,
    /// The kind of its network (IANA hardware types), unless that is Ethernet.
    #[serde(rename = "hardware-type", skip_serializing_if = "Option::is_none")]
    pub hardware_type: Option<u8>,
    /// `offered`, `active`, `released`, `expired` or `declined`.
    pub state: String,
    /// When it was given, or renewed last: RFC 3339, UTC.
    pub starts: String,
    /// When the state ends, or ended: RFC 3339, UTC, or `never`.
    pub expires: String,
    /// What the machine is told apart by: `hardware`, `client-id`, `uuid` or `circuit`.
    pub identity: String,
    /// Option 12, with escapes for what is not printable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Option 61 in hexadecimal.
    #[serde(rename = "client-id", skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Option 82, sub-option 1, with escapes for what is not printable.
    #[serde(rename = "circuit-id", skip_serializing_if = "Option::is_none")]
    pub circuit_id: Option<String>,
    /// Option 82, sub-option 2, with escapes for what is not printable.
    #[serde(rename = "remote-id", skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    /// What it counts for where a class limits its leases: [`Bill::key`](crate::leases::Bill::key)
    /// in hexadecimal.
    #[serde(rename = "billed-to", skip_serializing_if = "Option::is_none")]
    pub billed_to: Option<String>,
    /// Variables that statements of the configuration set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableRow>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VariableRow {
    /// True or false.
    Boolean(bool),
    /// A number.
    Number(i64),
    /// Bytes, with escapes for what is not printable.
    Text(String),
}

impl LeaseRow {
    /// The row of a lease. A lease whose time is over is shown as expired, though no sweep has met
    /// it yet.
    pub fn new(lease: &Lease, clocks: &Clocks) -> Self {
        let over = lease.state == LeaseState::Active && !lease.is_active(clocks.now);
        let state = if over { LeaseState::Expired } else { lease.state };
        let notes = &lease.notes;
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
        Self {
            ip: lease.ip.to_string(),
            hardware: lease.hardware.to_string(),
            hardware_type: Some(lease.hardware.htype())
                .filter(|htype| !matches!(*htype, 0 | ETHERNET)),
            state: state.name().to_owned(),
            starts: clocks.text(lease.starts),
            expires: clocks.text(lease.expires),
            identity: lease.client.kind().name().to_owned(),
            hostname: text(notes.hostname()),
            client_id: notes.client_id().map(|id| hex::digits(id, "")),
            circuit_id: text(notes.circuit_id()),
            remote_id: text(notes.remote_id()),
            billed_to: notes.admission().bill().map(|bill| format!("{:016x}", bill.key())),
            variables: variables(notes),
        }
    }

    fn file_variables(&self) -> Result<Vec<(Box<str>, Variable)>, String> {
        let variables = self.variables.iter().map(|(name, value)| {
            let value = match value {
                VariableRow::Boolean(value) => Variable::Boolean(*value),
                VariableRow::Number(number) => Variable::Number(*number),
                VariableRow::Text(text) => Variable::Data(unescape(text)?),
            };
            Ok((name.as_str().into(), value))
        });
        variables.collect()
    }

    /// The lease as a file of another program has it; `None` for an offer, which no file has.
    ///
    /// # Errors
    /// What is no row of this version of the program.
    pub fn entry(&self) -> Result<Option<Entry>, String> {
        let state = &*self.state;
        if state == "offered" {
            return Ok(None);
        }
        let binding = Binding::of_own(state).ok_or_else(|| format!("the state {state:?}"))?;
        let time = |text: &str| match text.parse::<FileTime>() {
            Ok(time) => Ok(Some(time)),
            Err(error) => Err(format!("the time {text:?}: {error}")),
        };
        let hardware = match &*self.hardware {
            "" => None,
            text => {
                let card = Hardware::of_text(text)?;
                Some(Hardware::new(self.hardware_type.unwrap_or(ETHERNET), card.address()))
            }
        };
        let said = |text: &Option<String>| text.as_deref().map(unescape).transpose();
        let client_id = self.client_id.as_deref().filter(|digits| !digits.is_empty());
        let client_id =
            client_id.map(|digits| hex::bytes(digits).ok_or("a client-id")).transpose()?;
        let starts = time(&self.starts)?;
        Ok(Some(Entry {
            binding,
            starts,
            ends: time(&self.expires)?,
            cltt: starts,
            hardware,
            client_id,
            hostname: said(&self.hostname)?,
            circuit_id: said(&self.circuit_id)?,
            remote_id: said(&self.remote_id)?,
            variables: self.file_variables()?,
            ..Entry::new(self.ip.parse().map_err(|_| format!("the address {:?}", self.ip))?)
        }))
    }
}

/// The variables of a lease by their names.
pub(crate) fn variables(notes: &Notes) -> BTreeMap<String, VariableRow> {
    let row = |value| match value {
        Value::Boolean(value) => VariableRow::Boolean(value),
        // dhcpd writes numbers with a sign.
        Value::Numeric(number) => VariableRow::Number(number.cast_signed()),
        Value::Data(bytes) => VariableRow::Text(bytes.escape_ascii().to_string()),
    };
    let all = notes.scope().variables.iter();
    all.map(|(name, value)| (name.escape_ascii().to_string(), row(value))).collect()
}

/// Which leases are meant: those of an address, of a machine, or all.
#[derive(Clone, Copy, Debug)]
pub struct LeaseFilter(Wanted);

#[derive(Clone, Copy, Debug)]
enum Wanted {
    All,
    Address(Ipv4Addr),
    Machine(Hardware),
}

impl LeaseFilter {
    /// All of them.
    pub fn all() -> Self {
        Self(Wanted::All)
    }

    /// That of an address.
    pub fn of_address(ip: Ipv4Addr) -> Self {
        Self(Wanted::Address(ip))
    }

    /// Reads an IPv4 address or a hardware address.
    pub fn parse(of: &str) -> Result<Self, String> {
        if let Ok(ip) = of.parse() {
            return Ok(Self::of_address(ip));
        }
        match Hardware::of_text(of) {
            Ok(hardware) => Ok(Self(Wanted::Machine(hardware))),
            Err(_) => Err(format!(
                "{of:?} is neither an IPv4 address nor a hardware address such as 52:54:00:12:34:56"
            )),
        }
    }

    /// Whether the lease is meant. The type of the hardware does not matter: nobody writes it.
    pub fn admits(&self, lease: &Lease) -> bool {
        match self.0 {
            Wanted::All => true,
            Wanted::Address(ip) => lease.ip == ip,
            Wanted::Machine(hardware) => lease.hardware.address() == hardware.address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::leases::{Admission, ClientKey, LeaseScope, VARIABLE_BYTES, Variables};

    fn clocks() -> Clocks {
        Clocks {
            now: Moment::from_nanos(50_000_000_000),
            wall: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn lease() -> Lease {
        let hardware = Hardware::ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        Lease {
            ip: IpAddr::from([10, 1, 4, 7]),
            client: ClientKey::hardware(&hardware),
            hardware,
            state: LeaseState::Active,
            starts: clocks().now - Duration::from_secs(5),
            expires: clocks().now + Duration::from_secs(55),
            refused: false,
            told: None,
            pending: false,
            notes: Notes::default(),
        }
    }

    #[test]
    fn times_are_of_the_wall_clock() {
        let row = LeaseRow::new(&lease(), &clocks());
        assert_eq!((&*row.starts, &*row.expires), ("2026-01-02T03:04:00Z", "2026-01-02T03:05:00Z"));
        assert_eq!((&*row.state, &*row.hardware), ("active", "52:54:00:12:34:56"));
        assert_eq!(clocks().text(Moment::NEVER), "never");
    }

    #[test]
    fn a_lease_that_ran_out_is_shown_as_expired() {
        let lease = Lease { expires: clocks().now, ..lease() };
        assert_eq!(LeaseRow::new(&lease, &clocks()).state, "expired");
    }

    #[test]
    fn what_the_client_said_cannot_write_to_the_terminal() {
        let lease = lease();
        let said = [Some(&[1, 0x52][..]), Some(b"n01\x1b[31m"), None, None];
        let notes = Notes::new(&lease.client, lease.hardware, said, Admission::Unknown);
        let row = LeaseRow::new(&Lease { notes, ..lease }, &clocks());
        assert_eq!(row.hostname.as_deref(), Some("n01\\x1b[31m"));
        let json = serde_json::to_string(&row).unwrap();
        assert!(json.contains(r#""client-id":"0152""#) && !json.contains("circuit-id"), "{json}");
    }

    #[test]
    fn variables_are_shown_and_written_to_files() {
        let set = [
            ("clmac", Some(Value::Data(b"52:54\x1b"))),
            ("count", Some(Value::Numeric(7))),
            ("seen", Some(Value::Boolean(true))),
        ];
        let mut room = [0; VARIABLE_BYTES];
        let (variables, _) = Variables::default().with(set.into_iter(), &mut room);
        let scope = LeaseScope { variables, ..LeaseScope::default() };
        let row = LeaseRow::new(
            &Lease { notes: Notes::default().with_scope(scope), ..lease() },
            &clocks(),
        );
        let json = serde_json::to_string(&row).unwrap();
        let part = r#""variables":{"clmac":"52:54\\x1b","count":7,"seen":true}"#;
        assert!(json.contains(part), "{json}");
        assert_eq!(serde_json::from_str::<LeaseRow>(&json).unwrap(), row);
        let entry = row.entry().unwrap().unwrap();
        let data = Variable::Data((*b"52:54\x1b").into());
        let (count, seen) = (Variable::Number(7), Variable::Boolean(true));
        let expected = [("clmac", data), ("count", count), ("seen", seen)];
        assert_eq!(entry.variables, expected.map(|(name, value)| (name.into(), value)));
    }

    #[test]
    fn a_filter_is_an_address_or_a_machine() {
        let admits = |of| LeaseFilter::parse(of).unwrap().admits(&lease());
        assert!(LeaseFilter::all().admits(&lease()));
        assert!(admits("10.1.4.7") && admits("52-54-00-12-34-56") && admits("5254.0012.3456"));
        assert!(!admits("10.1.4.8") && !admits("52:54:00:12:34:57"));
        assert!(LeaseFilter::parse("rack1-n01").unwrap_err().contains("neither an IPv4 address"));
    }
}
