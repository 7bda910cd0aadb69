//! What the statements of a lease file mean.

use std::io::BufRead;
use std::net::Ipv4Addr;

use super::super::read::Wrong;
use super::super::{Binding, Entry, FileTime, Item, LiveHost, Variable};
use super::HARDWARE;
use super::tokens::{End, Kind, Statement, Statements};
use crate::hex;
use crate::leases::Hardware;

/// The most variables, agent options or classes of one lease.
const MOST: usize = 1024;

/// Hands over what is in a lease file.
pub(in super::super) fn read(input: impl BufRead, each: &mut dyn FnMut(Item)) -> Result<(), Wrong> {
    let mut statements = Statements::new(input);
    loop {
        let end = statements.next()?;
        let now = &statements.now;
        let line = now.line;
        let whole = match (now.word(0), end) {
            ("", End::File) => return Ok(()),
            (_, End::File) => false,
            (_, End::Close) => return Err(Wrong::at(line, "a `}` without its `{`")),
            ("lease", End::Open) => {
                let entry = Entry::new(address(now)?);
                match lease(&mut statements, entry)? {
                    Some(entry) => {
                        each(Item::Lease(Box::new(entry)));
                        true
                    }
                    None => false,
                }
            }
            ("host", End::Open) => {
                let name = String::from_utf8_lossy(now.part(1).1).into();
                match host(&mut statements, name)? {
                    Some(item) => {
                        each(item);
                        true
                    }
                    None => false,
                }
            }
            (name, End::Open) => match block(name) {
                Some(what) => {
                    let whole = statements.skip_block()?;
                    if whole {
                        each(Item::LeftOut(what));
                    }
                    whole
                }
                None => return Err(unknown(now)),
            },
            ("server-duid" | "authoring-byte-order", End::Statement) => true,
            ("class" | "subclass", End::Statement) => true,
            // What is left of a lease file that somebody edited.
            ("", End::Statement) if now.is_empty() => true,
            (_, End::Statement) => return Err(unknown(now)),
        };
        if !whole {
            each(Item::Torn { line });
            return Ok(());
        }
    }
}

/// A declaration that is known and of no use here.
fn block(name: &str) -> Option<&'static str> {
    Some(match name {
        "group" => "groups made by OMAPI: their hosts lose the statements of the group",
        "class" | "subclass" => "classes made by `spawn with`: they are made anew when needed",
        "failover" => "states of failover peers: this server has no peer",
        "ia-na" | "ia-ta" | "ia-pd" | "ia_na" | "ia_ta" | "ia_pd" => {
            "leases of DHCPv6, which this server does not serve yet"
        }
        _ => return None,
    })
}

fn unknown(now: &Statement) -> Wrong {
    let name: String = now.word(0).escape_debug().take(40).collect();
    let what = format!(
        "`{name}` is no declaration of a lease file (lease, host, group, class, subclass, \
         failover, server-duid, authoring-byte-order): is this a dhcpd.leases?"
    );
    Wrong::at(now.line, what)
}

fn address(now: &Statement) -> Result<Ipv4Addr, Wrong> {
    let text = now.word(1);
    text.parse().map_err(|_| {
        let what = format!("`lease {}` is no IPv4 address", text.escape_debug());
        Wrong::at(now.line, what)
    })
}

/// What stands in a lease; `None` if the file ends in it.
fn lease<R: BufRead>(
    statements: &mut Statements<R>,
    mut entry: Entry,
) -> Result<Option<Entry>, Wrong> {
    loop {
        match statements.next()? {
            End::File => return Ok(None),
            End::Close => return Ok(Some(entry)),
            // `on expiry { ... }`, which is for dynamic DNS.
            End::Open => {
                if !statements.skip_block()? {
                    return Ok(None);
                }
            }
            End::Statement => statement(&statements.now, &mut entry)?,
        }
    }
}

fn statement(now: &Statement, entry: &mut Entry) -> Result<(), Wrong> {
    match (now.word(0), now.word(1)) {
        ("starts", _) => entry.starts = Some(time(now)?),
        ("ends", _) => entry.ends = Some(time(now)?),
        ("cltt", _) => entry.cltt = Some(time(now)?),
        // Of the failover protocol; checked, and of no use.
        ("tstp" | "tsfp" | "atsfp", _) => _ = time(now)?,
        ("binding", "state") => entry.binding = binding(now, 2)?,
        ("next" | "rewind", "binding") => _ = binding(now, 3)?,
        // As dhcpd 3.0 wrote it.
        ("abandoned", _) => entry.binding = Binding::Abandoned,
        ("reserved", _) => entry.reserved = true,
        ("bootp" | "dynamic-bootp", _) => entry.bootp = true,
        ("hardware", _) => entry.hardware = Some(hardware(now)?),
        ("uid", _) => entry.client_id = Some(bytes(now, 1)?),
        ("client-hostname", _) => entry.hostname = Some(now.part(1).1.into()),
        ("option", name) => {
            if let Some(name) = name.strip_prefix("agent.") {
                agent(now, name, entry)?;
            }
        }
        ("set", name) if now.part(2).1 == b"=" => {
            let value = variable(now)?;
            let name: Box<str> = name.into();
            entry.variables.retain(|(known, _)| *known != name);
            push(now, &mut entry.variables, (name, value))?;
        }
        ("billing", kind @ ("class" | "subclass")) => {
            let name = String::from_utf8_lossy(now.part(2).1).into();
            let value = (kind == "subclass").then(|| bytes(now, 3)).transpose()?;
            push(now, &mut entry.billing, (name, value))?;
        }
        // dhcpd, too, goes on behind what it does not know here.
        _ => {}
    }
    Ok(())
}

fn push<T>(now: &Statement, list: &mut Vec<T>, one: T) -> Result<(), Wrong> {
    if list.len() == MOST {
        return Err(Wrong::at(now.line, format!("a lease has more than {MOST} of these")));
    }
    list.push(one);
    Ok(())
}

fn agent(now: &Statement, name: &str, entry: &mut Entry) -> Result<(), Wrong> {
    let value = bytes(now, 2)?;
    match name {
        "circuit-id" => entry.circuit_id = Some(value),
        "remote-id" => entry.remote_id = Some(value),
        other => push(now, &mut entry.agent, (other.into(), value))?,
    }
    Ok(())
}

/// `W Y/M/D H:M:S`, `epoch N` or `never`.
fn time(now: &Statement) -> Result<FileTime, Wrong> {
    let wrong = || {
        let texts = now.parts().skip(1).map(|(_, bytes)| String::from_utf8_lossy(bytes));
        let text: String = texts.collect::<Vec<_>>().join(" ").escape_debug().take(60).collect();
        let what = format!(
            "`{text}` is no time: dhcpd writes `6 2026/11/28 02:06:05`, `epoch 1795831565` or \
             `never`"
        );
        Wrong::at(now.line, what)
    };
    let found = match now.word(1) {
        "never" => Some(FileTime::NEVER),
        "epoch" => {
            let seconds = now.word(2).parse().ok();
            seconds.filter(|seconds| *seconds <= FileTime::LATEST).map(FileTime)
        }
        // The day of the week, which dhcpd does not read either.
        _ => date(now.word(2), now.word(3)),
    };
    found.ok_or_else(wrong)
}

fn date(date: &str, time: &str) -> Option<FileTime> {
    let mut date = date.split('/');
    let mut next = || date.next()?.parse::<i16>().ok();
    let [year, month, day] = [next()?, next()?, next()?];
    let mut time = time.split(':');
    let mut next = || time.next()?.parse::<i8>().ok();
    let [hour, minute, second] = [next()?, next()?, next()?];
    // RFC 3339 has a 60th second, and so may a file.
    let second = second.min(59);
    let [month, day] = [month, day].map(i8::try_from);
    let date = jiff::civil::DateTime::new(year, month.ok()?, day.ok()?, hour, minute, second, 0);
    FileTime::of(date.ok()?)
}

fn binding(now: &Statement, place: usize) -> Result<Binding, Wrong> {
    let name = now.word(place);
    Binding::of(name).ok_or_else(|| {
        let what = format!("`{}` is no binding state", name.escape_debug());
        Wrong::at(now.line, what)
    })
}

fn hardware(now: &Statement) -> Result<Hardware, Wrong> {
    let name = now.word(1);
    let known = HARDWARE.iter().find(|(_, known)| *known == name).map(|(htype, _)| *htype);
    let htype = known.or_else(|| name.strip_prefix("unknown-")?.parse().ok());
    let htype = htype.ok_or_else(|| {
        let what = format!("`{}` is no hardware type", name.escape_debug());
        Wrong::at(now.line, what)
    })?;
    let address = if now.len() < 3 { Box::default() } else { bytes(now, 2)? };
    if address.len() > 16 {
        return Err(Wrong::at(now.line, "a hardware address has 16 bytes at most"));
    }
    Ok(Hardware::new(htype, &address))
}

/// A text in quotes, an IPv4 address, or bytes in hexadecimal with `:` between them, from a place
/// on.
fn bytes(now: &Statement, place: usize) -> Result<Box<[u8]>, Wrong> {
    let (kind, first) = now.part(place);
    if kind == Kind::Text {
        return Ok(first.into());
    }
    if let Ok(ip) = now.word(place).parse::<Ipv4Addr>() {
        return Ok(ip.octets().into());
    }
    hex::bytes(&hex::padded(now.word(place))).ok_or_else(|| {
        let text: String = now.word(place).escape_debug().take(60).collect();
        Wrong::at(
            now.line,
            format!("`{text}` is neither a text in quotes nor bytes such as 1:2a:0"),
        )
    })
}

/// The value of `set NAME = VALUE`.
fn variable(now: &Statement) -> Result<Variable, Wrong> {
    let (kind, value) = now.part(3);
    let word = now.word(3);
    if kind == Kind::Word {
        match word {
            "true" => return Ok(Variable::Boolean(true)),
            "false" => return Ok(Variable::Boolean(false)),
            _ => {}
        }
        if let Some(number) = word.strip_prefix('%') {
            let number = number.parse().map_err(|_| {
                Wrong::at(now.line, format!("`%{}` is no number", number.escape_debug()))
            })?;
            return Ok(Variable::Number(number));
        }
        return bytes(now, 3).map(Variable::Data);
    }
    Ok(Variable::Data(value.into()))
}

/// What stands in a host; `None` if the file ends in it.
fn host<R: BufRead>(statements: &mut Statements<R>, name: Box<str>) -> Result<Option<Item>, Wrong> {
    let mut host = LiveHost { name, ..LiveHost::default() };
    let mut deleted = false;
    let mut depth = 0;
    loop {
        let end = statements.next()?;
        let now = &statements.now;
        match (now.word(0), end) {
            (_, End::File) => return Ok(None),
            (_, End::Close) if depth == 0 => break,
            ("dynamic", End::Statement) if depth == 0 => {}
            ("deleted", End::Statement) if depth == 0 => deleted = true,
            ("hardware", End::Statement) if depth == 0 => host.hardware = Some(hardware(now)?),
            ("uid", End::Statement) if depth == 0 => host.client_id = Some(bytes(now, 1)?),
            ("fixed-address", End::Statement) if depth == 0 => {
                let names = now.parts().skip(1).filter(|(kind, _)| *kind == Kind::Word);
                host.addresses =
                    names.map(|(_, name)| String::from_utf8_lossy(name).into()).collect();
            }
            ("group", End::Statement) if depth == 0 => {
                host.group = Some(String::from_utf8_lossy(now.part(1).1).into());
            }
            (_, end) => {
                write(now, end, &mut host.statements);
                depth += i32::from(end == End::Open) - i32::from(end == End::Close);
            }
        }
        if host.statements.len() > LONGEST_STATEMENTS {
            return Err(Wrong::at(now.line, "the statements of this host have no end"));
        }
    }
    Ok(Some(if deleted { Item::HostDeleted(host.name) } else { Item::Host(host) }))
}

const LONGEST_STATEMENTS: usize = 256 << 10;

/// Writes a statement as it could stand in dhcpd.conf.
fn write(now: &Statement, end: End, out: &mut String) {
    for (place, (kind, bytes)) in now.parts().enumerate() {
        if place > 0 && !(kind == Kind::Mark && bytes == b",") {
            out.push(' ');
        }
        match kind {
            Kind::Text => super::write::quote(bytes, out),
            Kind::Word | Kind::Mark => out.push_str(&String::from_utf8_lossy(bytes)),
        }
    }
    out.push_str(match end {
        End::Open => " { ",
        End::Close => "} ",
        End::Statement | End::File => "; ",
    });
}
