//! What one client asks, and the answers: as dhcpd 4.4 gives them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::dhcpv4::ETHERNET;
use bootstorm_protocols::time::Moment;
use serde_json::Value;

use super::wire::{self, Message, Operation, Received, Values};
use super::{Backend, Wanted, key};
use crate::config::{Config, HostId, HostKey, HostView, OmapiAlgorithm, OmapiKey};
use crate::hex;
use crate::lease_files::host_statements;
use crate::leases::{Clock, Hardware, Lease, LeaseState};
use crate::live_hosts::{Change, HostObject};

/// The handle of the one key.
const AUTHENTICATOR: u32 = 1;

/// Objects that one client may have open; the oldest is closed for another one.
const MOST_OPEN: usize = 1024;

/// The state of a lease that nobody has, as dhcpd numbers it.
const FREE: u32 = 1;

/// Why something was not done, as ISC numbers it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Code {
    Success = 0,
    NoPermission = 6,
    Exists = 18,
    NotFound = 23,
    NotImplemented = 27,
    InvalidArgument = 0x6_0003,
    /// The keys are of different objects.
    Multiple = 0x6_0007,
    NoKeys = 0x6_0009,
}

type Refused = (Code, String);

/// What is sent back: the operation, a handle, and the values of the message and of the object.
type Reply = (Operation, u32, Values, Values);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Object {
    Host(String),
    Lease(Ipv4Addr),
}

/// A conversation with one client.
pub(super) struct Session<'b> {
    key: Option<Arc<OmapiKey>>,
    backend: &'b dyn Backend,
    /// It has shown the key.
    known: bool,
    /// What it has open, with the handles.
    open: Vec<(u32, Object)>,
    next_handle: u32,
    next_id: u32,
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// The connection ends then.
    pub(super) last: bool,
}

impl<'b> Session<'b> {
    pub(super) fn new(key: Option<Arc<OmapiKey>>, backend: &'b dyn Backend) -> Self {
        let (next_handle, next_id) = (AUTHENTICATOR + 1, 1);
        Self { key, backend, known: false, open: Vec::new(), next_handle, next_id }
    }

    /// Whether the client may ask.
    pub(super) fn is_known(&self) -> bool {
        self.known || self.key.is_none()
    }

    pub(super) fn answer(&mut self, received: &Received<'_>) -> Answer {
        let message = &received.message;
        let key = self.key.clone();
        let signed = message.authenticator != 0;
        let (reply, last) = match &key {
            Some(key) if signed => {
                if self.known && key::verify(key, received.signed, received.signature) {
                    (self.reply(message), false)
                } else {
                    let wrong = "the signature is not that of the key".to_owned();
                    (Err((Code::NoPermission, wrong)), true)
                }
            }
            Some(_) if !is_greeting(message) => {
                (Err((Code::NoKeys, "No authenticator on message".to_owned())), false)
            }
            _ => (self.reply(message), false),
        };
        let (operation, handle, values, object) = reply.unwrap_or_else(|(code, text)| {
            let mut values = result(code);
            values.put("message", text);
            (Operation::Status, 0, values, Values::default())
        });
        let key = key.filter(|_| signed && !last);
        let answer = Message {
            authenticator: if key.is_some() { AUTHENTICATOR } else { 0 },
            operation,
            handle,
            id: self.next_id,
            answers: message.id,
            message: values,
            object,
        };
        self.next_id = self.next_id.wrapping_add(1);
        let bytes = match key {
            Some(key) => wire::write(&answer, key::length(&key), |bytes| key::sign(&key, bytes)),
            None => wire::write(&answer, 0, |_| Vec::new()),
        };
        Answer { bytes, last }
    }

    fn reply(&mut self, message: &Message) -> Result<Reply, Refused> {
        let done = (Operation::Status, 0, result(Code::Success), Values::default());
        match message.operation {
            Operation::Open => self.open(message),
            Operation::Refresh => {
                let object = self.opened(message.handle)?;
                Ok(opened(message.handle, self.values(&object)?))
            }
            Operation::Update => {
                match self.opened(message.handle)? {
                    Object::Host(name) => self.update(&name, &message.object)?,
                    Object::Lease(ip) => self.update_lease(ip, &message.object)?,
                }
                Ok(done)
            }
            Operation::Delete => {
                match self.opened(message.handle)? {
                    Object::Host(name) => {
                        let name = [("name".to_owned(), Value::String(name))];
                        self.change(Change::Remove, HostObject::from_iter(name))?;
                    }
                    Object::Lease(_) => return Err(not_implemented("a lease is not removed")),
                }
                self.open.retain(|(handle, _)| *handle != message.handle);
                Ok(done)
            }
            // Nobody waits for an answer to these, and dhcpd's clients take one.
            Operation::Notify | Operation::Status => Ok(done),
            Operation::Other(_) => Err(not_implemented("there is no such operation")),
        }
    }

    fn open(&mut self, message: &Message) -> Result<Reply, Refused> {
        let object = match message.message.get("type").unwrap_or_default() {
            b"authenticator" => {
                self.authenticate(&message.object)?;
                return Ok(opened(AUTHENTICATOR, Values::default()));
            }
            b"host" => Object::Host(self.open_host(message)?),
            b"lease" => Object::Lease(self.find_lease(&message.object)?),
            b"group" => {
                return Err(not_implemented(
                    "groups are made in the configuration; a host may name one",
                ));
            }
            _ => return Err((Code::NotFound, "no matching handle".to_owned())),
        };
        let values = self.values(&object)?;
        let known = self.open.iter().find(|(_, open)| *open == object).map(|(handle, _)| *handle);
        let handle = known.unwrap_or_else(|| {
            if self.open.len() == MOST_OPEN {
                self.open.remove(0);
            }
            let handle = self.next_handle;
            self.next_handle = handle.checked_add(1).unwrap_or(AUTHENTICATOR + 1);
            self.open.push((handle, object));
            handle
        });
        Ok(opened(handle, values))
    }

    fn opened(&self, handle: u32) -> Result<Object, Refused> {
        let found = self.open.iter().find(|(known, _)| *known == handle);
        found
            .map(|(_, object)| object.clone())
            .ok_or_else(|| (Code::NotFound, "no matching handle".to_owned()))
    }

    fn authenticate(&mut self, object: &Values) -> Result<(), Refused> {
        let refused = || (Code::NotFound, "there is no such key".to_owned());
        let key = self.key.as_ref().ok_or_else(refused)?;
        let algorithm = String::from_utf8_lossy(object.get("algorithm").unwrap_or_default());
        // dhcpd writes a domain behind the name.
        let algorithm = algorithm.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let named = OmapiAlgorithm::NAMES.iter().find(|(name, _)| *name == algorithm);
        let same = named.is_some_and(|(_, algorithm)| *algorithm == key.algorithm);
        if !same || object.get("name") != Some(key.name.as_bytes()) {
            return Err(refused());
        }
        self.known = true;
        Ok(())
    }

    /// The host that some keys are of, or a new one.
    fn open_host(&mut self, message: &Message) -> Result<String, Refused> {
        let config = self.backend.config();
        let found = find_host(&config, &message.object)?;
        let create = message.message.is_set("create");
        match found {
            Some(_) if create && message.message.is_set("exclusive") => {
                Err((Code::Exists, "specified object already exists".to_owned()))
            }
            Some(id) => {
                let name = config.dhcp.host(id).name().to_string();
                if create {
                    self.update(&name, &message.object)?;
                }
                Ok(name)
            }
            None if create => {
                let mut host = HostObject::new();
                apply(&message.object, &mut host)?;
                let name = match host.get("name") {
                    Some(Value::String(name)) => name.clone(),
                    _ => own_name(&message.object)?,
                };
                host.insert("name".to_owned(), Value::String(name.clone()));
                self.change(Change::Add, host)?;
                Ok(name)
            }
            None => Err((Code::NotFound, "no object matches specification".to_owned())),
        }
    }

    fn update(&self, name: &str, object: &Values) -> Result<(), Refused> {
        let mut host = self.backend.live_host(name).ok_or_else(|| {
            let text = format!("host {name} stands in the configuration: change it there");
            (Code::NoPermission, text)
        })?;
        if object.get("name").is_some_and(|new| new != name.as_bytes()) {
            return Err((Code::InvalidArgument, "a host keeps its name".to_owned()));
        }
        apply(object, &mut host)?;
        self.change(Change::Set, host)
    }

    /// Ends a lease: its end is set to a time that is over, or its state to free. As in dhcpd
    /// nothing else of a lease is changed.
    fn update_lease(&self, ip: Ipv4Addr, object: &Values) -> Result<(), Refused> {
        let (lease, clock) = self.backend.lease(&Wanted::Address(ip));
        let is = lease_values(ip, lease.as_ref(), &clock);
        let mut ends = false;
        for (name, value) in object.0.iter().filter(|(name, value)| is.get(name) != Some(value)) {
            let number = <[u8; 4]>::try_from(&**value).ok().map(u32::from_be_bytes);
            ends = match (&**name, number) {
                ("ends", Some(time)) => u64::from(time) <= clock.wall,
                ("state", Some(FREE)) => true,
                _ => false,
            };
            if !ends {
                let text = format!("of a lease {} cannot be set so", name.escape_debug());
                return Err((Code::NoPermission, text));
            }
        }
        let over = [LeaseState::Released, LeaseState::Expired];
        if !ends || lease.is_none_or(|lease| over.contains(&lease.state)) {
            return Ok(());
        }
        let invalid = |error| (Code::InvalidArgument, error);
        match self.backend.release(ip).map_err(invalid)? {
            true => Ok(()),
            false => Err(invalid(format!("nobody holds {ip}"))),
        }
    }

    fn change(&self, change: Change, host: HostObject) -> Result<(), Refused> {
        self.backend.change(change, host).map_err(|error| {
            // What is shown to people at a terminal has frames and many lines.
            let mut lines = error.lines().map(|line| line.trim_matches([' ', '×', '│', '╭', '╰']));
            let text = lines.find(|line| !line.is_empty()).unwrap_or("it cannot be done");
            (Code::InvalidArgument, text.to_owned())
        })
    }

    fn find_lease(&self, object: &Values) -> Result<Ipv4Addr, Refused> {
        let wanted = if let Some(ip) = object.get("ip-address") {
            Wanted::Address(address(ip)?)
        } else if let Some(card) = object.get("hardware-address") {
            Wanted::Hardware(hardware(card, object)?)
        } else if let Some(id) = object.get("dhcp-client-identifier") {
            Wanted::ClientId(id)
        } else {
            return Err((Code::NoKeys, "no key of a lease is given".to_owned()));
        };
        let (lease, _) = self.backend.lease(&wanted);
        let found = match (wanted, lease.and_then(|lease| lease.ipv4())) {
            (_, Some(ip)) => Some(ip),
            // An address that nobody had yet is free.
            (Wanted::Address(ip), None) => {
                self.backend.config().dhcp.pool_of(ip).is_some().then_some(ip)
            }
            _ => None,
        };
        found.ok_or_else(|| (Code::NotFound, "no object matches specification".to_owned()))
    }

    /// The values of an object, as dhcpd sends them.
    fn values(&self, object: &Object) -> Result<Values, Refused> {
        match object {
            Object::Host(name) => {
                let config = self.backend.config();
                let id = config.dhcp.host_by_name(name);
                let gone = || (Code::NotFound, "the host was removed".to_owned());
                Ok(host_values(config.dhcp.host(id.ok_or_else(gone)?)))
            }
            Object::Lease(ip) => {
                let (lease, clock) = self.backend.lease(&Wanted::Address(*ip));
                Ok(lease_values(*ip, lease.as_ref(), &clock))
            }
        }
    }
}

/// A client that has shown no key yet may only say which it has.
fn is_greeting(message: &Message) -> bool {
    message.operation == Operation::Open
        && message.message.get("type") == Some(b"authenticator".as_slice())
}

fn not_implemented(text: &str) -> Refused {
    (Code::NotImplemented, text.to_owned())
}

/// What the message of a status says.
fn result(code: Code) -> Values {
    let mut values = Values::default();
    values.put("result", (code as u32).to_be_bytes());
    values
}

/// An object that is open, with its values.
fn opened(handle: u32, object: Values) -> Reply {
    (Operation::Update, handle, Values::default(), object)
}

/// The host that all given keys are of; `None` if they are nobody's.
fn find_host(config: &Config, object: &Values) -> Result<Option<HostId>, Refused> {
    let dhcp = &config.dhcp;
    let mut found: Vec<Option<HostId>> = Vec::new();
    if let Some(name) = object.get("name") {
        let name = std::str::from_utf8(name).unwrap_or_default();
        found.push(dhcp.host_by_name(name));
    }
    if let Some(card) = object.get("hardware-address").filter(|card| !card.is_empty()) {
        found.push(dhcp.hosts_by_hardware(card).first().copied());
    }
    if let Some(id) = object.get("dhcp-client-identifier").filter(|id| !id.is_empty()) {
        found.push(dhcp.hosts_by_client_id(id).first().copied());
    }
    let first = found.first().copied().flatten();
    if found.iter().any(|other| *other != first) {
        return Err((Code::Multiple, "object lookup failed".to_owned()));
    }
    Ok(first)
}

/// Puts values of OMAPI into a host. An empty value removes what was there.
fn apply(object: &Values, host: &mut HostObject) -> Result<(), Refused> {
    let invalid = |text: String| (Code::InvalidArgument, text);
    for (name, value) in &object.0 {
        let text = || {
            std::str::from_utf8(value)
                .map(|text| Value::String(text.to_owned()))
                .map_err(|_| invalid(format!("{name} is no text")))
        };
        let (key, value) = match &**name {
            "name" => ("name", text()?),
            "group" => ("group", text()?),
            "hardware-address" => ("hardware", Value::String(hex::digits(value, ":"))),
            "dhcp-client-identifier" => {
                ("client-id", Value::String(format!("hex:{}", hex::digits(value, ""))))
            }
            "ip-address" if value.is_empty() => ("ip", Value::Null),
            "ip-address" => {
                let ips = value.chunks(4).map(|ip| Ok(Value::String(address(ip)?.to_string())));
                ("ip", Value::Array(ips.collect::<Result<_, Refused>>()?))
            }
            "statements" => {
                host_statements::apply(value, host).map_err(invalid)?;
                continue;
            }
            // Ethernet or not: hosts are known by the bytes.
            "hardware-type" | "known" => continue,
            other => return Err(invalid(format!("a host has no {}", other.escape_debug()))),
        };
        if object.get(name).is_none_or(<[u8]>::is_empty) {
            host.remove(key);
        } else {
            host.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

/// The name of a host that is given none.
fn own_name(object: &Values) -> Result<String, Refused> {
    let key = object.get("hardware-address").or_else(|| object.get("dhcp-client-identifier"));
    match key.filter(|key| !key.is_empty()) {
        Some(key) => Ok(format!("nh{}", hex::digits(key, ""))),
        None => Err((Code::InvalidArgument, "nothing says which machine the host is".to_owned())),
    }
}

fn address(bytes: &[u8]) -> Result<Ipv4Addr, Refused> {
    <[u8; 4]>::try_from(bytes)
        .map(Ipv4Addr::from)
        .map_err(|_| (Code::InvalidArgument, "an IPv4 address has four bytes".to_owned()))
}

fn hardware(card: &[u8], object: &Values) -> Result<Hardware, Refused> {
    let htype = object.get("hardware-type").and_then(|htype| htype.last()).copied();
    match card.len() {
        1..=16 => Ok(Hardware::new(htype.unwrap_or(ETHERNET), card)),
        _ => Err((Code::InvalidArgument, "a hardware address has 1 to 16 bytes".to_owned())),
    }
}

fn host_values(host: HostView<'_>) -> Values {
    let mut values = Values::default();
    let ips: Vec<u8> = host.ips().iter().flat_map(|ip| ip.octets()).collect();
    if !ips.is_empty() {
        values.put("ip-address", ips);
    }
    values.put("name", host.name().as_bytes());
    if let Some(card) = host.keys().find_map(|key| match key {
        HostKey::Hardware(card) => Some(card.to_vec()),
        _ => None,
    }) {
        values.put("hardware-address", card);
        values.put("hardware-type", u32::from(ETHERNET).to_be_bytes());
    }
    if let Some(id) = host.keys().find_map(|key| match key {
        HostKey::ClientId(id) => Some(id.to_vec()),
        _ => None,
    }) {
        values.put("dhcp-client-identifier", id);
    }
    values
}

fn lease_values(ip: Ipv4Addr, lease: Option<&Lease>, clock: &Clock) -> Values {
    let mut values = Values::default();
    let state = match lease {
        Some(lease) if lease.is_active(clock.now) => 2,
        Some(lease) if lease.state == LeaseState::Declined => 5,
        _ => FREE,
    };
    values.put("state", state.to_be_bytes());
    values.put("ip-address", ip.octets());
    // Seconds since 1970 in 32 bits, as dhcpd has them.
    let time = |moment: Moment| u32::try_from(clock.wall_at(moment)).unwrap_or(u32::MAX);
    let (mut starts, mut ends) = (0, 0);
    if let Some(lease) = lease {
        if let Some(id) = lease.notes.client_id() {
            values.put("dhcp-client-identifier", id);
        }
        if let Some(name) = lease.notes.hostname() {
            values.put("client-hostname", name);
        }
        if !lease.hardware.address().is_empty() {
            values.put("hardware-address", lease.hardware.address());
            values.put("hardware-type", u32::from(lease.hardware.htype()).to_be_bytes());
        }
        (starts, ends) = (time(lease.starts), time(lease.expires));
    }
    for (name, time) in [
        ("ends", ends),
        ("starts", starts),
        ("tstp", ends),
        ("tsfp", 0),
        ("atsfp", 0),
        ("cltt", starts),
    ] {
        values.put(name, time.to_be_bytes());
    }
    values.put("flags", [0]);
    values
}
