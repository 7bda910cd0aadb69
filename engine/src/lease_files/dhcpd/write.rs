//! Writing what dhcpd reads.

use std::fmt::Write as _;

use super::super::{Binding, Entry, FileTime, Variable};
use super::HARDWARE;
use crate::leases::Hardware;

/// What stands before all leases.
pub(in super::super) fn start(out: &mut String) {
    out.push_str(
        "# The format of this file is documented in the dhcpd.leases(5) manual page.\n\
         # This lease file was written by bootstorm.\n\n\
         # authoring-byte-order entry is generated, DO NOT DELETE\n",
    );
    let order = if cfg!(target_endian = "big") { "big" } else { "little" };
    line(out, format_args!("authoring-byte-order {order}-endian;\n"));
}

/// One lease.
pub(in super::super) fn lease(entry: &Entry, out: &mut String) {
    line(out, format_args!("lease {} {{", entry.ip));
    let times = [("starts", entry.starts), ("ends", entry.ends), ("cltt", entry.cltt)];
    for (name, time) in times.into_iter().filter_map(|(name, time)| Some((name, time?))) {
        line(out, format_args!("  {name} {};", date(time)));
    }
    // The others tell the second server of a failover pair what the first one did.
    let binding = match entry.binding {
        state @ (Binding::Active | Binding::Abandoned) => state,
        _ => Binding::Free,
    };
    line(out, format_args!("  binding state {};", binding.name()));
    // What dhcpd makes of it when its time is over; else it would stay as it is for ever.
    if matches!(entry.binding, Binding::Active | Binding::Abandoned) {
        out.push_str("  next binding state free;\n");
    }
    if entry.binding == Binding::Active {
        out.push_str("  rewind binding state free;\n");
    }
    for (set, name) in [(entry.reserved, "reserved"), (entry.bootp, "dynamic-bootp")] {
        if set {
            line(out, format_args!("  {name};"));
        }
    }
    for (class, value) in &entry.billing {
        let kind = if value.is_some() { "subclass" } else { "class" };
        let _infallible = write!(out, "  billing {kind} ");
        quote(class.as_bytes(), out);
        if let Some(value) = value {
            out.push(' ');
            octets(value, out);
        }
        out.push_str(";\n");
    }
    client(entry.hardware, entry.client_id.as_deref(), out);
    for (name, value) in &entry.variables {
        let _infallible = write!(out, "  set {name} = ");
        match value {
            Variable::Data(bytes) => quote(bytes, out),
            Variable::Number(number) => _ = write!(out, "%{number}"),
            Variable::Boolean(value) => _ = write!(out, "{value}"),
        }
        out.push_str(";\n");
    }
    let named = [("circuit-id", &entry.circuit_id), ("remote-id", &entry.remote_id)];
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    {
        let _infallible = write!(out, "  option agent.{name} ");
        octets(value, out);
        out.push_str(";\n");
    }
    // As dhcpd, which leaves a name with other bytes out.
    let printable = |name: &&[u8]| name.iter().all(|byte| matches!(byte, 0x20..=0x7e));
    if let Some(name) = entry.hostname.as_deref().filter(printable) {
        out.push_str("  client-hostname ");
        quote(name, out);
        out.push_str(";\n");
    }
    out.push_str("}\n");
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _infallible = writeln!(out, "{text}");
}

fn client(hardware: Option<Hardware>, client_id: Option<&[u8]>, out: &mut String) {
    if let Some(hardware) = hardware.filter(|hardware| !hardware.address().is_empty()) {
        let htype = hardware.htype();
        let known = HARDWARE.iter().find(|(number, _)| *number == htype).map(|(_, name)| *name);
        let name = known.map_or_else(|| format!("unknown-{htype}"), str::to_owned);
        line(out, format_args!("  hardware {name} {hardware};"));
    }
    if let Some(id) = client_id.filter(|id| !id.is_empty()) {
        out.push_str("  uid ");
        quote(id, out);
        out.push_str(";\n");
    }
}

fn date(time: FileTime) -> String {
    match time.date() {
        None => "never".to_owned(),
        Some(date) => {
            let weekday = date.weekday().to_sunday_zero_offset();
            format!(
                "{weekday} {:04}/{:02}/{:02} {:02}:{:02}:{:02}",
                date.year(),
                date.month(),
                date.day(),
                date.hour(),
                date.minute(),
                date.second()
            )
        }
    }
}

/// A text in quotes; what is not printable as three octal digits.
pub(super) fn quote(bytes: &[u8], out: &mut String) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => _ = write!(out, "\\{byte:03o}"),
        }
    }
    out.push('"');
}

/// As dhcpd shows an option of bytes: a text if all of them are printable, else in hexadecimal.
fn octets(bytes: &[u8], out: &mut String) {
    if bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return quote(bytes, out);
    }
    for (place, byte) in bytes.iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        let _infallible = write!(out, "{colon}{byte:x}");
    }
}
