//! JSON values as TOML, each on one line.

use std::fmt::Write as _;

use serde_json::Value;

use super::HostObject;

/// The keys of a host, a line each.
///
/// # Errors
/// What TOML has no word for.
pub(super) fn keys(host: &HostObject) -> Result<String, String> {
    let mut out = String::new();
    for (key, value) in host {
        let _infallible = write!(out, "{} = ", quote(key));
        write_value(value, &mut out).map_err(|what| format!("`{key}`: {what}"))?;
        out.push('\n');
    }
    Ok(out)
}

fn write_value(value: &Value, out: &mut String) -> Result<(), String> {
    match value {
        Value::Null => return Err("null says nothing: leave the key out".to_owned()),
        Value::Bool(value) => _ = write!(out, "{value}"),
        Value::Number(number) if number.is_i64() => _ = write!(out, "{number}"),
        Value::Number(number) => return Err(format!("{number} is no whole number")),
        Value::String(text) => out.push_str(&quote(text)),
        Value::Array(values) => {
            out.push('[');
            for value in values {
                write_value(value, out)?;
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (place, (key, value)) in entries.iter().enumerate() {
                let comma = if place == 0 { " " } else { ", " };
                let _infallible = write!(out, "{comma}{} = ", quote(key));
                write_value(value, out)?;
            }
            out.push_str(" }");
        }
    }
    Ok(())
}

/// A text in quotes as both TOML and JSON read it.
pub(super) fn quote(text: &str) -> String {
    // JSON does not escape it, and TOML wants it escaped. A text always becomes JSON.
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

/// The text of [`quote`].
pub(super) fn unquote(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}
