//! Values as TOML writes them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::format::{Format, Part, Repeat};

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if other.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(other));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A text that stands as it is, if it can.
pub(super) fn literal(text: &str) -> String {
    match text.contains(['\'', '\n']) {
        true => quoted(text),
        false => format!("'{text}'"),
    }
}

/// An expression in the place of a value.
pub(super) fn expressed(text: &str) -> String {
    format!("{{ expression = {} }}", literal(text))
}

/// Bytes, as a text if they are one.
pub(super) fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text)
            if !text.is_empty()
                && !text.chars().any(char::is_control)
                && !text.starts_with("hex:") =>
        {
            quoted(text)
        }
        _ => hex(bytes),
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("\"hex:{}\"", crate::hex::digits(bytes, ":"))
}

/// Seconds.
pub(super) fn seconds(number: u32) -> String {
    match number {
        u32::MAX => quoted("infinite"),
        number if number > 0 && number % 86_400 == 0 => quoted(&format!("{}d", number / 86_400)),
        number if number > 0 && number % 3600 == 0 => quoted(&format!("{}h", number / 3600)),
        number if number > 0 && number % 60 == 0 => quoted(&format!("{}m", number / 60)),
        number => quoted(&format!("{number}s")),
    }
}

/// The value of an option; as hexadecimal digits where nothing better is known.
pub(super) fn value(format: &Format, all: &[u8]) -> String {
    plain(format, all).unwrap_or_else(|| hex(all))
}

fn plain(format: &Format, all: &[u8]) -> Option<String> {
    let mut rest = all;
    if let ([part], Repeat::Nothing) = (format.parts.as_slice(), format.repeat) {
        let value = one(part, &mut rest)?;
        return rest.is_empty().then_some(value);
    }
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut values = Vec::new();
        for part in &format.parts {
            values.push(one(part, &mut rest)?);
        }
        records.push(values);
        if format.repeat != Repeat::All {
            break;
        }
    }
    if !rest.is_empty() || format.repeat == Repeat::Last {
        return None;
    }
    let of_one = format.parts.len() == 1;
    let list = |values: &Vec<String>| match of_one {
        true => values.concat(),
        false => format!("[{}]", values.join(", ")),
    };
    let records: Vec<String> = records.iter().map(list).collect();
    Some(match (format.repeat, records.as_slice()) {
        (Repeat::All, _) => format!("[{}]", records.join(", ")),
        (_, [record]) => record.clone(),
        _ => return None,
    })
}

/// One part, taken from the bytes.
fn one(part: &Part, rest: &mut &[u8]) -> Option<String> {
    let fixed = match part {
        Part::Address | Part::Time => 4,
        Part::Address6 => 16,
        Part::Number(width) => usize::from(*width),
        Part::Flag | Part::Word(_) => 1,
        Part::Nothing => 0,
        Part::Text | Part::Bytes | Part::Encapsulate(_) => {
            let value = std::mem::take(rest);
            return Some(bytes(value));
        }
        Part::Name | Part::Names { .. } | Part::Space => return None,
    };
    let (value, behind) = rest.split_at_checked(fixed)?;
    *rest = behind;
    let number = value.iter().fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
    Some(match part {
        Part::Address => quoted(&Ipv4Addr::from(u32::try_from(number).ok()?).to_string()),
        Part::Address6 => quoted(&Ipv6Addr::from(number).to_string()),
        Part::Flag => match number {
            0 => "false".to_owned(),
            1 => "true".to_owned(),
            _ => return None,
        },
        Part::Nothing => "true".to_owned(),
        _ => number.to_string(),
    })
}
