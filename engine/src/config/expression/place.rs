//! Where a part of a TOML text stands in its file.

use std::ops::Range;

use super::super::source::{Files, Place};

/// Where a part of a text value stands; the whole value if nobody can tell.
pub(in crate::config) fn within(whole: Place, part: Range<usize>, files: &Files) -> Place {
    let found = || {
        let raw = files.get(whole.file)?.text()?.get(whole.range())?;
        let part = in_string(raw, part)?;
        let offset = |at: usize| whole.start.checked_add(u32::try_from(at).ok()?);
        Some(Place { start: offset(part.start)?, end: offset(part.end)?, ..whole })
    };
    found().unwrap_or(whole)
}

/// The bytes of `raw`, a TOML string with its quotes, that a part of its value stands for; `None`
/// where `raw` is no string or has no such part.
pub(super) fn in_string(raw: &str, part: Range<usize>) -> Option<Range<usize>> {
    let (quotes, has_escapes) = [("\"\"\"", true), ("'''", false), ("\"", true), ("'", false)]
        .into_iter()
        .find(|(quotes, _)| raw.starts_with(quotes))?;
    let mut at = quotes.len();
    let body = raw.len().checked_sub(quotes.len())?;
    if quotes.len() == 3 {
        // A line end behind the quotes is no part of the value.
        let rest = &raw[at..];
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let (mut value, mut start) = (0, None);
    while value < part.end && at < body {
        let (raw_len, value_len) = character(raw.get(at..body)?, has_escapes)?;
        if value >= part.start && value_len > 0 {
            start = start.or(Some(at));
        }
        at += raw_len;
        value += value_len;
    }
    Some(start.unwrap_or(at)..at)
}

/// How many bytes the first character takes as it is written and as it is meant.
fn character(raw: &str, has_escapes: bool) -> Option<(usize, usize)> {
    let first = raw.chars().next()?;
    if first != '\\' || !has_escapes {
        return Some((first.len_utf8(), first.len_utf8()));
    }
    let digits = match raw[1..].chars().next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        kind if kind.is_ascii_whitespace() => {
            // A backslash at the end of a line takes the blanks behind it away.
            return Some((raw.len() - raw[1..].trim_ascii_start().len(), 0));
        }
        // One character of ASCII.
        kind => return Some((1 + kind.len_utf8(), 1)),
    };
    let code = u32::from_str_radix(raw.get(2..2 + digits)?, 16).ok()?;
    Some((2 + digits, char::from_u32(code)?.len_utf8()))
}
