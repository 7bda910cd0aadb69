//! The memfile of Kea's DHCPv4 server: a line for each change of a lease, with fields between
//! commas.
//!
//! Kea writes commas in texts as `&#x2c`. The last line of an address counts, and one whose
//! `valid_lifetime` is 0 removes it. Versions of Kea have different columns, so they are found by
//! their names.

use std::fmt::Write as _;
use std::io::BufRead;

use super::read::{Wrong, lines};
use super::{Binding, Entry, FileTime, Item};
use crate::hex;
use crate::leases::Hardware;

/// The columns that are written, which every Kea since 1.4 reads.
pub(super) const HEADER: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,\
fqdn_fwd,fqdn_rev,hostname,state,user_context\n";

const COLUMNS: [&str; 8] = [
    "address",
    "hwaddr",
    "client_id",
    "valid_lifetime",
    "expire",
    "hostname",
    "state",
    "user_context",
];

/// `valid_lifetime` of a lease without end (RFC 2131, section 3.3).
const INFINITE: u64 = u32::MAX as u64;

/// Hands over what is in a memfile.
pub(super) fn read(input: impl BufRead, each: &mut dyn FnMut(Item)) -> Result<(), Wrong> {
    let mut places = [None; COLUMNS.len()];
    lines(input, |number, line, whole| {
        if line.is_empty() {
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(Wrong::at(number, "this is not UTF-8"));
        };
        if number == 1 {
            for (place, name) in places.iter_mut().zip(COLUMNS) {
                *place = text.split(',').position(|column| column.trim() == name);
            }
            let missing = places.iter().zip(COLUMNS).take(7).find(|(place, _)| place.is_none());
            return match missing {
                Some((_, name)) => Err(Wrong::at(1, format!("the column `{name}` is missing"))),
                None => Ok(()),
            };
        }
        let cells: Vec<&str> = text.split(',').collect();
        let row = places.map(|place| place.and_then(|place| cells.get(place).copied()));
        match entry(row) {
            Ok(item) => each(item),
            // The last line of a server that was killed.
            Err(_) if !whole => each(Item::Torn { line: number }),
            Err(what) => return Err(Wrong::at(number, what)),
        }
        Ok(())
    })
}

fn entry(row: [Option<&str>; COLUMNS.len()]) -> Result<Item, String> {
    let [address, hardware, client_id, lifetime, expire, hostname, state, context] = row;
    let wrong = |name: &str, value: &str| {
        let value: String = value.escape_debug().take(60).collect();
        format!("`{value}` is no {name} of a lease")
    };
    let cell = |name: &str, value: Option<&str>| {
        value.map(str::to_owned).ok_or_else(|| format!("the cell `{name}` is missing"))
    };
    let address = cell("address", address)?;
    let ip = address.parse().map_err(|_| wrong("address", &address))?;
    let number = |name, value: Option<&str>| {
        let value = cell(name, value)?;
        value.parse::<u64>().map_err(|_| wrong(name, &value))
    };
    let lifetime = number("valid_lifetime", lifetime)?;
    if lifetime == 0 {
        return Ok(Item::Removed(ip));
    }
    let expire = number("expire", expire)?;
    let binding = match number("state", state)? {
        0 => Binding::Active,
        1 => Binding::Abandoned,
        2 => Binding::Expired,
        3 => Binding::Released,
        other => return Err(wrong("state", &other.to_string())),
    };
    let bytes = |name, value: Option<&str>| {
        let value = value.unwrap_or_default();
        let bytes =
            (!value.is_empty()).then(|| hex::bytes(value).ok_or_else(|| wrong(name, value)));
        bytes.transpose()
    };
    let hardware = bytes("hwaddr", hardware)?;
    let starts = FileTime(expire.saturating_sub(lifetime));
    let ends = if lifetime == INFINITE { FileTime::NEVER } else { FileTime(expire) };
    let hostname = hostname.unwrap_or_default().replace("&#x2c", ",");
    let hostname = hostname.trim_end_matches('.');
    let [circuit_id, remote_id] = relay(context.unwrap_or_default());
    Ok(Item::Lease(Box::new(Entry {
        binding,
        starts: Some(starts),
        ends: Some(ends),
        cltt: Some(starts),
        // Kea does not write the type; all but a few are Ethernet.
        hardware: hardware.map(|address| Hardware::new(1, &address)),
        client_id: bytes("client_id", client_id)?,
        hostname: (!hostname.is_empty()).then(|| hostname.as_bytes().into()),
        circuit_id,
        remote_id,
        ..Entry::new(ip)
    })))
}

/// What the relay agent said: `{"ISC": {"relay-agent-info": {"sub-options": "0x0104..."}}}`, in
/// earlier versions without the last object. What else Kea or a person keeps there is left out.
fn relay(context: &str) -> [Option<Box<[u8]>>; 2] {
    let mut said = [None, None];
    let context: serde_json::Value =
        serde_json::from_str(&context.replace("&#x2c", ",")).unwrap_or_default();
    let info = &context["ISC"]["relay-agent-info"];
    let text = info.as_str().or_else(|| info["sub-options"].as_str()).unwrap_or_default();
    let options = text.strip_prefix("0x").and_then(hex::bytes).unwrap_or_default();
    let mut rest = &*options;
    while let [code, length, behind @ ..] = rest {
        let Some((value, behind)) = behind.split_at_checked(usize::from(*length)) else { break };
        if let Some(said) = said.get_mut(usize::from(*code).wrapping_sub(1)) {
            *said = Some(value.into());
        }
        rest = behind;
    }
    said
}

/// One lease; `subnet` is the number of its subnet in Kea's configuration.
pub(super) fn lease(entry: &Entry, subnet: u32, out: &mut String) {
    let starts = entry.starts.unwrap_or_default().0;
    let (lifetime, expire) = match entry.ends {
        Some(FileTime::NEVER) | None => (INFINITE, starts.saturating_add(INFINITE)),
        Some(FileTime(ends)) => {
            // 0 would remove it.
            let lifetime = ends.saturating_sub(starts).clamp(1, INFINITE - 1);
            (lifetime, ends)
        }
    };
    let state = match entry.binding {
        Binding::Active => 0,
        Binding::Abandoned => 1,
        Binding::Released => 3,
        Binding::Free | Binding::Backup | Binding::Expired | Binding::Reset => 2,
    };
    // Kea gives a declined address to nobody, and names nobody.
    let client = entry.binding != Binding::Abandoned;
    let hardware = entry.hardware.filter(|_| client);
    let hardware =
        hardware.map(|hardware| hex::digits(hardware.address(), ":")).unwrap_or_default();
    let client_id = entry.client_id.as_deref().filter(|_| client);
    let client_id = client_id.map(|id| hex::digits(id, ":")).unwrap_or_default();
    let hostname = entry.hostname.as_deref().filter(|_| client).map(String::from_utf8_lossy);
    let hostname = hostname
        .unwrap_or_default()
        .replace(|character: char| character.is_control() || character == '\u{fffd}', "")
        .replace(',', "&#x2c");
    let mut options = String::new();
    for (code, value) in [(1, &entry.circuit_id), (2, &entry.remote_id)] {
        if let Some(value) = value.as_deref().filter(|value| value.len() <= 255) {
            let digits = hex::digits(value, "");
            let _infallible = write!(options, "{code:02x}{:02x}{digits}", value.len());
        }
    }
    let context = if options.is_empty() || !client {
        String::new()
    } else {
        let options = options.to_uppercase();
        format!(r#"{{ "ISC": {{ "relay-agent-info": {{ "sub-options": "0x{options}" }} }} }}"#)
    };
    let ip = entry.ip;
    let _infallible = writeln!(
        out,
        "{ip},{hardware},{client_id},{lifetime},{expire},{subnet},0,0,{hostname},{state},{context}"
    );
}
