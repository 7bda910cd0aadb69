//! A comparison as text.

use super::{Change, Comparison, Figure, Unit};
use crate::report::formatting::{
    Align, NOTHING, clip, columns, count, millis, number, plain, seconds, wrap,
};
use crate::report::text::Style;

/// Columns of a terminal.
const WIDTH: usize = 80;

impl Comparison {
    /// As text, in lines of at most 80 characters; `colours` says that ANSI sequences may mark what
    /// changed.
    pub fn render(&self, colours: bool) -> String {
        let style = Style { colours };
        let mut lines = Vec::new();
        for (side, text) in ["A  ", "B  "].iter().zip(&self.headlines) {
            for (index, line) in wrap(&plain(text), WIDTH - 3).into_iter().enumerate() {
                lines.push(format!("{}{line}", if index == 0 { side } else { "   " }));
            }
        }
        for warning in &self.warnings {
            for (index, line) in wrap(&plain(warning), WIDTH - 9).into_iter().enumerate() {
                let label = if index == 0 { style.doubtful("WARNING") } else { " ".repeat(7) };
                lines.push(format!("{label}  {line}"));
            }
        }
        lines.push(String::new());
        lines.extend(self.table(style));
        lines.push(String::new());
        lines.extend(self.conclusion(style));
        lines.push(String::new());
        lines.join("\n")
    }

    fn table(&self, style: Style) -> Vec<String> {
        let mut rows = vec![["", "A", "B", "difference", "B / A", ""].map(str::to_owned).to_vec()];
        for figure in &self.figures {
            let write = |value: Option<f64>| {
                value
                    .map_or_else(|| NOTHING.to_owned(), |value| clip(&figure.unit.write(value), 12))
            };
            let (mut difference, mut ratio) = (NOTHING.to_owned(), NOTHING.to_owned());
            if let (Some(a), Some(b)) = (figure.a, figure.b) {
                let sign = if b > a { "+" } else { "" };
                difference = clip(&format!("{sign}{}", figure.unit.write(b - a)), 12);
                if a != 0.0 {
                    ratio = clip(&times(b / a), 7);
                }
            }
            let change = match figure.change {
                Change::Better => style.good("better"),
                Change::Worse => style.bad("WORSE"),
                Change::Same | Change::Unknown => String::new(),
            };
            rows.push(vec![
                clip(&plain(&figure.name), 20),
                write(figure.a),
                write(figure.b),
                difference,
                ratio,
                change,
            ]);
        }
        let right = Align::Right;
        columns(&rows, &[Align::Left, right, right, right, right, Align::Left])
    }

    fn conclusion(&self, style: Style) -> Vec<String> {
        let names = |figures: &mut dyn Iterator<Item = &Figure>| {
            figures.map(|figure| plain(&figure.name)).collect::<Vec<_>>().join(", ")
        };
        let (better, worse) = (names(&mut self.better()), names(&mut self.worse()));
        let mut lines = Vec::new();
        if !better.is_empty() {
            lines.extend(
                wrap(&format!("Better in B: {better}."), WIDTH).iter().map(|line| style.good(line)),
            );
        }
        if !worse.is_empty() {
            lines.extend(
                wrap(&format!("Worse in B: {worse}."), WIDTH).iter().map(|line| style.bad(line)),
            );
        }
        if lines.is_empty() {
            lines.push("Nothing differs by more than two runs of one storm do.".to_owned());
        }
        if !self.warnings.is_empty() {
            let doubt = "Mind the warnings above: the difference may come from them and not from \
                the server.";
            lines.extend(wrap(doubt, WIDTH));
        }
        lines
    }
}

impl Unit {
    /// A value with its unit.
    fn write(self, value: f64) -> String {
        match self {
            Self::Count => number_or_count(value),
            Self::Millis => millis(value),
            Self::Seconds => seconds(value),
            Self::PerSecond => format!("{}/s", number(value)),
            Self::MegabytesPerSecond => format!("{} MB/s", number(value)),
        }
    }
}

/// Counts to the last digit, as far as a float has it.
fn number_or_count(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(value.abs() as u64));
    }
    number(value)
}

/// A ratio, in which a few of 10,000 still show.
fn times(ratio: f64) -> String {
    match ratio.abs() {
        size if size < 10.0 => format!("{ratio:.3}"),
        size if size < 100.0 => format!("{ratio:.1}"),
        _ => number(ratio),
    }
}
