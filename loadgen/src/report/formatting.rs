//! How figures and foreign text are written, the same in the summary, the page and the comparison.

use super::Report;

/// What stands where nothing was measured.
pub(super) const NOTHING: &str = "–";

/// The kinds of time in the order of a boot, with what they time. Kinds that are not listed follow,
/// by name.
const TIMED: [(&str, &str); 7] = [
    ("offer", "DISCOVER to OFFER"),
    ("ack", "REQUEST to ACK"),
    ("answer", "any DHCP answer"),
    ("dora", "DISCOVER to ACK"),
    ("transfer", "TFTP transfer"),
    ("http", "HTTP transfer"),
    ("boot", "self test to up"),
];

/// The kinds of time that were measured, in the order of a boot, each with what it times.
pub(super) fn timed(report: &Report) -> Vec<(String, String)> {
    let known = TIMED.iter().filter(|(key, _)| report.latency.contains_key(*key));
    let other = report.latency.keys().filter(|key| TIMED.iter().all(|(known, _)| known != key));
    known
        .map(|(key, meaning)| ((*key).to_owned(), (*meaning).to_owned()))
        .chain(other.map(|key| (key.clone(), plain(key))))
        .collect()
}

/// A whole number with commas: `10,000`.
pub(super) fn count(number: u64) -> String {
    group(&number.to_string())
}

/// `1 machine`, `10,000 machines`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A number with three digits that count: `0.42`, `12.3`, `1,234`.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        s if s == 0.0 || s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.01 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { group(text) }
}

/// A time given in milliseconds: `420 µs`, `12.3 ms`, `74.1 s`, `2 min 5 s`.
pub(super) fn millis(value: f64) -> String {
    let size = value.abs();
    match size {
        s if !s.is_finite() => NOTHING.to_owned(),
        0.0 => "0 ms".to_owned(),
        s if s < 0.9995 => format!("{} µs", number(value * 1e3)),
        s if s < 999.5 => format!("{} ms", number(value)),
        _ => seconds(value / 1e3),
    }
}

/// A time given in milliseconds in at most 8 characters, up to a day: long times stay in seconds.
pub(super) fn millis_in_table(value: f64) -> String {
    if value.abs() >= 999.5 && value.abs() < 1e8 {
        format!("{} s", number(value / 1e3))
    } else {
        millis(value)
    }
}

/// A time given in milliseconds, `None` for one that is infinite.
pub(super) fn or_never(value: Option<f64>, write: fn(f64) -> String) -> String {
    value.map_or_else(|| "never".to_owned(), write)
}

/// A time given in seconds.
pub(super) fn seconds(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    match size {
        s if !s.is_finite() => NOTHING.to_owned(),
        0.0 => "0 s".to_owned(),
        s if s < 0.9995 => millis(value * 1e3),
        s if s < 119.5 => format!("{} s", number(value)),
        s if s < 7200.0 => {
            let whole = s.round() as u64;
            format!("{sign}{} min {} s", whole / 60, whole % 60)
        }
        s if s < 1e9 => {
            let minutes = (s / 60.0).round() as u64;
            format!("{sign}{} h {} min", count(minutes / 60), minutes % 60)
        }
        _ => format!("{value:.1e} s"),
    }
}

/// Bytes in powers of a thousand: `512 B`, `1.05 MB`.
pub(super) fn bytes(value: u64) -> String {
    let mut size = value as f64;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if size < 999.5 {
            return format!("{} {unit}", number(size));
        }
        size /= 1e3;
    }
    format!("{} EB", number(size))
}

/// `part` of `whole` as a percentage.
pub(super) fn percent(part: f64, whole: f64) -> String {
    let share = part / whole * 100.0;
    if share.is_finite() { format!("{} %", number(share)) } else { NOTHING.to_owned() }
}

/// Text from elsewhere without anything that steers a terminal or turns the direction of writing:
/// such characters become `\x1b` or `\u{202e}`.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let code = u32::from(letter);
        match letter {
            '\n' | '\t' | '\r' => out.push(' '),
            _ if code < 0x20 || (0x7f..0xa0).contains(&code) => {
                out.push_str(&format!("\\x{code:02x}"))
            }
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'
            | '\u{ffff}' => out.push_str(&format!("\\u{{{code:x}}}")),
            _ => out.push(letter),
        }
    }
    out
}

/// `text`, cut to a number of characters, an ellipsis for what was cut.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Lines of at most `width` characters, broken at spaces, or inside words that are longer than a
/// line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Alignment of a table's column.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows as lines with aligned columns, two spaces between them. A cell is as long as it is: clip
/// before.
pub(super) fn columns(rows: &[Vec<String>], aligns: &[Align]) -> Vec<String> {
    let widths: Vec<usize> = (0..aligns.len())
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(aligns).zip(&widths).map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, rest) =
        digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(rest) = rest {
        out.push('.');
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_keep_three_digits() {
        let numbers =
            [0.0, 0.5, 0.421_9, 12.345, 999.96, 1234.5, -1234.5, 1e20, f64::NAN, -0.0, 0.00001];
        let written =
            ["0", "0.5", "0.42", "12.3", "1,000", "1,234", "-1,234", "1.00e20", "–", "0", "0"];
        for (value, wanted) in numbers.into_iter().zip(written) {
            assert_eq!(number(value), wanted);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "machine", "machines"), "1 machine");
    }

    #[test]
    fn times_and_sizes_choose_their_unit() {
        let times =
            [0.0, 0.42, 0.9999, 12.34, 999.9, 74_100.0, 125_000.0, 7_300_000.0, f64::INFINITY];
        let written =
            ["0 ms", "420 µs", "1 ms", "12.3 ms", "1 s", "74.1 s", "2 min 5 s", "2 h 2 min", "–"];
        for (value, wanted) in times.into_iter().zip(written) {
            assert_eq!(millis(value), wanted);
        }
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1_048_576), "1.05 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(percent(1.0, 0.0), NOTHING);
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c\n"), "a\\x1b[2Jb\\u{202e}c ");
    }

    #[test]
    fn lines_keep_to_their_width() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(clip("abcdef", 4), "abc…");
    }
}
