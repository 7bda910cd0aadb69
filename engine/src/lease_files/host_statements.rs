//! Statements of a host in dhcpd, as the keys of `[[dhcp.host]]`.
//!
//! dhcpd takes any statement. What stands here are those that have a key of a host and a constant
//! value, with the words that Foreman, the Python libraries and dhcpd's lease file write.

use serde_json::{Map, Value, json};

use super::{StatementEnd, StatementPart, statements};
use crate::hex;
use crate::live_hosts::HostObject;

/// Parameters of dhcpd and the keys that they are here.
const PARAMETERS: [(&str, &str); 7] = [
    ("next-server", "next-server"),
    ("server-name", "server-name"),
    ("server-identifier", "server-identifier"),
    ("default-lease-time", "lease-time"),
    ("min-lease-time", "min-lease-time"),
    ("max-lease-time", "max-lease-time"),
    ("vendor-option-space", "vendor-option-space"),
];

/// What stands before bytes.
const HEX: &str = "hex:";

/// The keys of a host that statements make besides those of [`PARAMETERS`].
const OPTIONS: &str = "options";
const BOOT: &str = "boot";

/// Puts what the statements say into a host, in the place of all that statements said before.
///
/// # Errors
/// What has no place in a host.
pub(crate) fn apply(text: &[u8], host: &mut HostObject) -> Result<(), String> {
    for key in PARAMETERS.iter().map(|(_, key)| *key).chain([OPTIONS, BOOT]) {
        host.remove(key);
    }
    read(text, host, Err)
}

/// Puts those of the statements that have a place in a host into it; the others.
pub(super) fn apply_known(text: &[u8], host: &mut HostObject) -> Vec<String> {
    let mut unknown = Vec::new();
    let read = read(text, host, |what| {
        unknown.push(what);
        Ok(())
    });
    unknown.extend(read.err());
    unknown
}

/// Puts the statements into a host; `unknown` is given what has no place there, and may end it.
fn read(
    text: &[u8],
    host: &mut HostObject,
    mut unknown: impl FnMut(String) -> Result<(), String>,
) -> Result<(), String> {
    let mut options = Map::new();
    // What stands in braces holds sometimes, and a host here has no such statements.
    let mut depth = 0_u32;
    let read = statements(text, |parts, end| match end {
        StatementEnd::Open => {
            depth += 1;
            if depth > 1 {
                return Ok(());
            }
            unknown(format!("`{} {{ }}` has no place in a host here", shown(parts)))
        }
        StatementEnd::Close if depth > 0 => {
            depth -= 1;
            Ok(())
        }
        StatementEnd::Statement if depth > 0 || parts.is_empty() => Ok(()),
        StatementEnd::Statement => statement(parts, host, &mut options).or_else(&mut unknown),
        StatementEnd::Close => unknown("a `}` stands without its `{`".to_owned()),
        StatementEnd::File => unknown(format!("`{}` has no `;`", shown(parts))),
    });
    if !options.is_empty() {
        host.insert(OPTIONS.to_owned(), Value::Object(options));
    }
    read
}

fn shown(parts: &[StatementPart]) -> String {
    parts.iter().map(StatementPart::shown).collect::<Vec<_>>().join(" ")
}

fn statement(
    parts: &[StatementPart],
    host: &mut HostObject,
    options: &mut Map<String, Value>,
) -> Result<(), String> {
    let words: Vec<&str> = parts.iter().map(StatementPart::word).collect();
    let refused = || format!("`{}` has no place in a host here", shown(parts));
    let (is_option, name, rest) = match words[..] {
        ["option", name, ..] => (true, name, &parts[2..]),
        // Without `server.` an option is meant.
        ["supersede", name, ..] => (!name.starts_with("server."), name, &parts[2..]),
        [name, ..] => (false, name, &parts[1..]),
        [] => return Err(refused()),
    };
    let name = name.strip_prefix(if is_option { "dhcp." } else { "server." }).unwrap_or(name);
    let values = values(match rest {
        [StatementPart::Mark(b'='), rest @ ..] => rest,
        rest => rest,
    })
    .ok_or_else(refused)?;
    let value = match &values[..] {
        [one] => one.clone(),
        several => Value::Array(several.to_vec()),
    };
    if is_option {
        return option(name, value, options).ok_or_else(refused);
    }
    if name == "filename" {
        host.insert(BOOT.to_owned(), json!({ "file": value }));
        return Ok(());
    }
    let known = PARAMETERS.iter().find(|(theirs, _)| *theirs == name).ok_or_else(refused)?;
    let value = match (known.0, value) {
        // An address as four bytes.
        ("next-server" | "server-identifier", Value::String(text)) => {
            Value::String(address(&text).unwrap_or(text))
        }
        (_, value) => value,
    };
    host.insert(known.1.to_owned(), value);
    Ok(())
}

/// Puts an option in its place: `NAME`, or `SPACE.NAME` into the table of its space.
fn option(name: &str, value: Value, options: &mut Map<String, Value>) -> Option<()> {
    let (space, name) = match name.split_once('.') {
        Some((space, name)) => (Some(space), name),
        None => (None, name),
    };
    if name.is_empty() || name.contains('.') || space.is_some_and(str::is_empty) {
        return None;
    }
    // So an option is called that has no name; of those only bytes are known.
    let number = ["option-", "unknown-"].iter().find_map(|start| name.strip_prefix(start));
    let number = number.filter(|number| number.parse::<u8>().is_ok());
    let value = match (number, value) {
        (Some(_), Value::String(text)) if !text.starts_with(HEX) => {
            Value::String(format!("{HEX}{}", hex::digits(text.as_bytes(), "")))
        }
        (_, value) => value,
    };
    let of = match space {
        None => options,
        Some(space) => {
            let table = options.entry(space).or_insert_with(|| Value::Object(Map::new()));
            table.as_object_mut()?
        }
    };
    of.insert(number.unwrap_or(name).to_owned(), value);
    Some(())
}

fn values(parts: &[StatementPart]) -> Option<Vec<Value>> {
    parts
        .split(|part| matches!(part, StatementPart::Mark(b',')))
        .map(|one| match one {
            [StatementPart::Text(text)] => String::from_utf8(text.clone()).ok().map(Value::String),
            [StatementPart::Word(word)] => Some(match &**word {
                "true" | "on" => json!(true),
                "false" | "off" => json!(false),
                word => match word.parse::<i64>() {
                    Ok(number) => json!(number),
                    Err(_) if is_hex(word) => json!(format!("{HEX}{}", hex::padded(word))),
                    Err(_) => json!(word),
                },
            }),
            _ => None,
        })
        .collect()
}

/// Bytes as dhcpd writes them: `a:0:0:7`.
fn is_hex(word: &str) -> bool {
    let byte = |part: &str| matches!(part.len(), 1 | 2) && u8::from_str_radix(part, 16).is_ok();
    word.contains(':') && word.split(':').all(byte)
}

fn address(text: &str) -> Option<String> {
    let digits = text.strip_prefix(HEX).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(|bits| std::net::Ipv4Addr::from_bits(bits).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Result<Value, String> {
        let mut host = HostObject::new();
        apply(text.as_bytes(), &mut host).map(|()| Value::Object(host))
    }

    #[test]
    fn what_foreman_and_python_write() {
        let text = "filename = \"pxelinux.0\"; next-server = 0a:01:00:6; \
                    option host-name = \"n1\"; option option-150 = 0a:1:0:6;";
        let expected = json!({
            "boot": {"file": "pxelinux.0"}, "next-server": "10.1.0.6",
            "options": {"host-name": "n1", "150": "hex:0a010006"},
        });
        assert_eq!(applied(text), Ok(expected));
        let text = "supersede host-name \"n2\"; supersede server.filename = \"a\"; \
                    option domain-name-servers 10.0.0.1, 10.0.0.2; default-lease-time 600;";
        let expected = json!({
            "boot": {"file": "a"}, "lease-time": 600,
            "options": {"host-name": "n2", "domain-name-servers": ["10.0.0.1", "10.0.0.2"]},
        });
        assert_eq!(applied(text), Ok(expected));
        let text = "option SUNW.root-path-name \"/a\"; option SUNW.root-server-ip-address \
                    10.0.0.1; vendor-option-space SUNW; option option-143 = \"a=1;b=2;\";";
        let expected = json!({
            "vendor-option-space": "SUNW",
            "options": {
                "SUNW": {"root-path-name": "/a", "root-server-ip-address": "10.0.0.1"},
                "143": "hex:613d313b623d323b",
            },
        });
        assert_eq!(applied(text), Ok(expected));
        assert_eq!(applied(""), Ok(json!({})));
    }

    #[test]
    fn what_they_said_before_is_gone() {
        let every = PARAMETERS.map(|(name, _)| match name {
            "server-name" => format!("{name} \"a\"; "),
            name if name.ends_with("time") => format!("{name} 600; "),
            name => format!("{name} 10.0.0.1; "),
        });
        let text = every.concat() + "filename \"a\"; option host-name \"n\";";
        let mut host = HostObject::from_iter([("group".to_owned(), json!("g"))]);
        apply(text.as_bytes(), &mut host).unwrap();
        assert_eq!(host.len(), PARAMETERS.len() + 3);
        apply(b"next-server 10.0.0.2;", &mut host).unwrap();
        assert_eq!(Value::Object(host), json!({"group": "g", "next-server": "10.0.0.2"}));
    }

    #[test]
    fn those_with_a_place_are_taken_without_the_others() {
        let text = "supersede server.filename = \"a\"; if known { supersede server.filename = \
                    \"b\"; if known { } next-server 10.0.0.9; } supersede host-name = \"n1\"; \
                    ddns-hostname \"x\";";
        let mut host = HostObject::new();
        let unknown = apply_known(text.as_bytes(), &mut host);
        let expected = json!({"boot": {"file": "a"}, "options": {"host-name": "n1"}});
        assert_eq!(Value::Object(host), expected);
        assert!(unknown[0].starts_with("`if known { }`"), "{unknown:?}");
        assert!(unknown[1].starts_with("`ddns-hostname ") && unknown.len() == 2);
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for text in [
            "nonsense foo;",
            "filename \"a\"",
            "if known { filename \"a\"; }",
            "option SUNW.root.more \"a\";",
            "option .root \"a\";",
            "filename concat(\"a\", \"b\");",
            "\"",
            "}",
        ] {
            assert!(applied(text).is_err(), "{text}: {:?}", applied(text));
        }
    }
}
