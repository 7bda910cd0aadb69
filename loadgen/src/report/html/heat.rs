//! How long DHCP answers took, over time: a map of counts, and quantiles of everything that was
//! timed.

use serde_json::json;

use super::axis::{Axis, Tick};
use super::frame::{Frame, HIGH, WIDE};
use super::tables::{self, Column};
use super::view::{Map, View};
use super::{count, esc, millis};
use crate::report::{Report, formatting};

/// Shades of the map; `h0` to `h7` in the style.
const SHADES: usize = 8;

/// The least distance of labels of rows, in pixels.
const APART: f64 = 18.0;

/// Latency as a section of the page.
pub(super) fn section(page: &mut String, report: &Report, view: &View) {
    page.push_str("<section><h2>How long answers took</h2>\n");
    if view.map.rows.is_empty() {
        page.push_str("<p>No DHCP answer was timed, so there is no map.</p>\n");
    } else {
        page.push_str(&figure(&view.map));
    }
    page.push_str(
        "<p>Each time runs from the moment the first message was <em>meant</em> to be sent, \
         however late it was sent \
         and however often it was repeated: a server that stalls is charged for everybody who had \
         to wait.</p>\n",
    );
    quantiles(page, report);
    page.push_str("</section>\n");
}

fn figure(map: &Map) -> String {
    let most = map.rows.iter().flatten().copied().max().unwrap_or(0);
    let steps = shades(most);
    let x = Axis::time(map.column * map.columns as f64);
    let rows = map.rows.len();
    let height = (rows as u32).saturating_mul(if rows > 24 { 12 } else { 18 }).clamp(60, 640);
    let y = edges(map, f64::from(height));
    // One path for each shade: thousands of elements would only make the page slow.
    let mut paths = vec![String::new(); steps.len()];
    let tall = HIGH / rows as f64;
    for (row, counts) in map.rows.iter().enumerate() {
        let top = HIGH - tall * (row + 1) as f64;
        let mut column = 0;
        while column < counts.len() {
            let Some(shade) = shade(&steps, counts[column]) else {
                column += 1;
                continue;
            };
            let from = column;
            while counts.get(column).is_some_and(|count| self::shade(&steps, *count) == Some(shade))
            {
                column += 1;
            }
            let left = x.share(map.column * from as f64) * WIDE;
            let right = x.share(map.column * column as f64) * WIDE;
            paths[shade].push_str(&format!("M{left:.2} {top:.2}H{right:.2}v{tall:.2}H{left:.2}Z"));
        }
    }
    let mut marks = String::new();
    for (index, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        marks.push_str(&format!(
            "<path class=\"heat {}\" d=\"{path}\"/>\n",
            class(index, steps.len())
        ));
    }
    let names: Vec<_> = (0..rows).map(|row| row_name(map, row)).collect();
    let sums: Vec<u64> = map
        .rows
        .iter()
        .map(|row| row.iter().fold(0_u64, |sum, count| sum.saturating_add(*count)))
        .collect();
    let all: f64 = sums.iter().map(|sum| *sum as f64).sum();
    let mut sofar = 0.0;
    let shares = sums.iter().map(|sum| {
        sofar += *sum as f64;
        formatting::percent(sofar, all)
    });
    let table = [
        Column { name: "took".to_owned(), cells: names.clone() },
        Column { name: "answers".to_owned(), cells: sums.iter().map(|sum| count(*sum)).collect() },
        Column { name: "this or less".to_owned(), cells: shares.collect() },
    ];
    let below = format!(
        "{}{}",
        legend(&steps, map.column),
        tables::folded("Answers by the time they took, as a table", &table)
    );
    let busiest = sums
        .iter()
        .zip(&names)
        .max_by_key(|(sum, _)| **sum)
        .map(|(_, name)| name.as_str())
        .unwrap_or_default();
    Frame {
        title: "DHCP answers by the time they took",
        told: format!("Most answers took {busiest}."),
        x: &x,
        y: &y,
        legend: Vec::new(),
        marks,
        read: json!({ "step": map.column, "at": "map", "names": names, "values": map.rows }),
        below,
        class: "map",
        height,
    }
    .figure()
}

/// The axis of the map: bounds at the edges between rows, as many as there is room for.
fn edges(map: &Map, height: f64) -> Axis {
    let rows = map.rows.len();
    let step = (APART / (height / rows as f64)).ceil().max(1.0) as usize;
    let edges = map.bounds.iter().take(rows).enumerate().step_by(step);
    let ticks = edges
        .map(|(index, bound)| Tick { at: (index + 1) as f64 / rows as f64, label: millis(*bound) })
        .collect();
    Axis { end: 1.0, ticks, unit: "time until the answer".to_owned() }
}

fn row_name(map: &Map, row: usize) -> String {
    let below = row.checked_sub(1).and_then(|row| map.bounds.get(row));
    match (below, map.bounds.get(row)) {
        (Some(below), Some(bound)) => format!("{} to {}", millis(*below), millis(*bound)),
        (None, Some(bound)) => format!("up to {}", millis(*bound)),
        (Some(below), None) => format!("more than {}", millis(*below)),
        (None, None) => "any time".to_owned(),
    }
}

/// The least count of each shade, rising by equal factors: a single slow answer must be seen beside
/// thousands of fast ones.
fn shades(most: u64) -> Vec<u64> {
    let mut steps: Vec<u64> = vec![1];
    for index in 1..SHADES {
        let least = (most as f64).powf(index as f64 / SHADES as f64).ceil() as u64;
        if steps.last().is_some_and(|last| least > *last) && least <= most {
            steps.push(least);
        }
    }
    steps
}

fn shade(steps: &[u64], count: u64) -> Option<usize> {
    steps.iter().rposition(|least| count >= *least)
}

/// Few shades are spread over the whole scale.
fn class(index: usize, shades: usize) -> String {
    let spread = if shades <= 1 { SHADES / 2 } else { index * (SHADES - 1) / (shades - 1) };
    format!("h{spread}")
}

fn legend(steps: &[u64], column: f64) -> String {
    let mut out = format!(
        "<p class=\"scale\"><span>Answers in {}:</span>",
        esc(&formatting::seconds(column))
    );
    for (index, least) in steps.iter().enumerate() {
        let next = steps.get(index + 1).map(|next| next - 1);
        let label = match next {
            None => format!("{} or more", count(*least)),
            Some(most) if most == *least => count(*least),
            Some(most) => format!("{}–{}", count(*least), count(most)),
        };
        out.push_str(&format!(
            " <span class=\"shade\"><span class=\"key {}\"></span>{label}</span>",
            class(index, steps.len())
        ));
    }
    out.push_str("</p>\n");
    out
}

fn quantiles(page: &mut String, report: &Report) {
    let timed: Vec<_> = formatting::timed(report)
        .into_iter()
        .filter_map(|(key, meaning)| {
            report
                .latency
                .get(&key)
                .filter(|found| !found.is_empty())
                .map(|found| (key, meaning, found))
        })
        .collect();
    if timed.is_empty() {
        page.push_str("<p>Nothing was timed.</p>\n");
        return;
    }
    let mut columns = vec![Column {
        name: "time of".to_owned(),
        cells: timed
            .iter()
            .map(
                |(key, meaning, _)| {
                    if key == meaning { meaning.clone() } else { format!("{meaning} ({key})") }
                },
            )
            .collect(),
    }];
    columns.push(Column {
        name: "count".to_owned(),
        cells: timed.iter().map(|(_, _, found)| count(found.count)).collect(),
    });
    columns.push(Column {
        name: "failed".to_owned(),
        cells: timed.iter().map(|(_, _, found)| count(found.failed)).collect(),
    });
    type Take = fn(&crate::report::Quantiles) -> Option<f64>;
    let takes: [(&str, Take); 7] = [
        ("shortest", |found| (found.count > 0).then_some(found.min)),
        ("mean", |found| (found.failed == 0).then_some(found.mean)),
        ("median", |found| found.with_failures().p50),
        ("90 %", |found| found.with_failures().p90),
        ("99 %", |found| found.with_failures().p99),
        ("99.9 %", |found| found.with_failures().p999),
        ("longest", |found| found.with_failures().max),
    ];
    for (name, take) in takes {
        columns.push(Column {
            name: name.to_owned(),
            cells: timed
                .iter()
                .map(|(_, _, found)| formatting::or_never(take(found), millis))
                .collect(),
        });
    }
    tables::numbers(page, "Quantiles of every time", &columns);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_rise_and_cover_every_count() {
        for most in [0, 1, 2, 7, 8, 1000, u64::MAX] {
            let steps = shades(most);
            assert!(steps.is_sorted_by(|a, b| a < b), "{most}: {steps:?}");
            assert_eq!(shade(&steps, 0), None);
            assert_eq!(shade(&steps, 1), Some(0));
            assert_eq!(shade(&steps, most.max(1)), Some(steps.len() - 1));
        }
        assert_eq!(
            (class(0, 1), class(0, 8), class(7, 8), class(1, 2)),
            ("h4".into(), "h0".into(), "h7".into(), "h7".into())
        );
    }
}
