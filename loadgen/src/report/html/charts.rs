//! The curves over time.

use serde_json::json;

use super::axis::Axis;
use super::frame::{Frame, HIGH, WIDE};
use super::tables::{self, Column};
use super::view::{Phase, View};
use super::{count, counted, esc, number, seconds};
use crate::report::Report;

/// Most rows of the table beside a chart.
const ROWS: usize = 40;

/// One curve, bucket by bucket.
struct Series<'a> {
    name: &'a str,
    class: &'a str,
    /// `area`, `line` or `line dashed`.
    style: &'a str,
    values: Vec<f64>,
}

/// Every curve of the page.
pub(super) fn all(page: &mut String, report: &Report, view: &View) {
    page.push_str("<section><h2>The run over time</h2>\n");
    if view.buckets == 0 {
        page.push_str(
            "<p>No samples over time were taken, so there are no curves.</p>\n</section>\n",
        );
        return;
    }
    let x = Axis::time(view.seconds());
    page.push_str(&phases(view, &x));
    page.push_str("<div class=\"pair\">\n");
    page.push_str(&messages(view, &x));
    page.push_str(&throughput(view, &x));
    page.push_str(&came_up(report, view, &x));
    page.push_str(&gave_up(view, &x));
    page.push_str("</div>\n</section>\n");
}

fn phases(view: &View, x: &Axis) -> String {
    // Each layer's upper edge, from the bottom to the top. Before the first bucket nobody was
    // powered on.
    let total = |bucket: usize| view.phases.iter().map(|list| list[bucket] as f64).sum::<f64>();
    let most = (0..view.buckets).map(total).fold(0.0, f64::max);
    let y = Axis::values(most, "machines", true);
    let off = 4;
    let mut lower = vec![0.0; view.buckets + 1];
    let mut marks = String::new();
    for (index, (phase, values)) in Phase::ALL.iter().zip(&view.phases).enumerate() {
        let mut upper = lower.clone();
        upper[0] += if index == off { total(0) } else { 0.0 };
        upper.iter_mut().skip(1).zip(values).for_each(|(edge, value)| *edge += *value as f64);
        if values.iter().any(|value| *value > 0) {
            let mut path = String::new();
            for (bucket, edge) in upper.iter().enumerate() {
                path.push_str(&point(
                    bucket == 0,
                    x.share(view.bucket * bucket as f64),
                    y.share(*edge),
                ));
            }
            for (bucket, edge) in lower.iter().enumerate().rev() {
                path.push_str(&point(false, x.share(view.bucket * bucket as f64), y.share(*edge)));
            }
            marks.push_str(&format!("<path class=\"layer {}\" d=\"{path}Z\"/>\n", phase.class));
        }
        lower = upper;
    }
    let last = view.phases.iter().zip(&Phase::ALL).filter_map(|(list, phase)| {
        list.last()
            .filter(|value| **value > 0)
            .map(|value| format!("{} {}", count(*value), phase.name))
    });
    let told = format!("At the end: {}.", last.collect::<Vec<_>>().join(", "));
    let mut columns = vec![time_column(view)];
    columns.extend(view.phases.iter().zip(&Phase::ALL).map(|(list, phase)| {
        Column {
            name: phase.name.to_owned(),
            cells: spread(view)
                .map(|range| {
                    list.get(range.end - 1).map_or_else(String::new, |value| count(*value))
                })
                .collect(),
        }
    }));
    Frame {
        title: "Machines by phase",
        told,
        x,
        y: &y,
        legend: Phase::ALL.iter().map(|phase| (phase.name, phase.class)).collect(),
        marks,
        read: json!({
            "step": view.bucket,
            "at": "end",
            "names": Phase::ALL.map(|phase| phase.name),
            "values": view.phases,
        }),
        below: tables::folded("Machines by phase as a table", &columns),
        class: "",
        height: 300,
    }
    .figure()
}

fn messages(view: &View, x: &Axis) -> String {
    let per_second =
        |list: &[u64]| list.iter().map(|value| *value as f64 / view.bucket).collect::<Vec<_>>();
    let series = [
        Series { name: "sent", class: "c-sent", style: "area", values: per_second(&view.sent) },
        Series {
            name: "answered",
            class: "c-answered",
            style: "line",
            values: per_second(&view.answered),
        },
        Series {
            name: "sent again (with TFTP)",
            class: "c-again",
            style: "line dashed",
            values: per_second(&view.retransmissions),
        },
    ];
    let sum =
        |list: &[u64]| count(list.iter().fold(0_u64, |sum, value| sum.saturating_add(*value)));
    let told = format!(
        "{} sent, {} answered, {} sent again in all.",
        sum(&view.sent),
        sum(&view.answered),
        sum(&view.retransmissions)
    );
    curves(view, x, "DHCP messages", "messages a second", told, &series, "")
}

fn throughput(view: &View, x: &Axis) -> String {
    if view.bytes.iter().all(|value| *value == 0) {
        return "<figure class=\"chart\"><figcaption>File transfers</figcaption><p>No file was \
            transferred.</p></figure>\n"
            .to_owned();
    }
    let values: Vec<f64> =
        view.bytes.iter().map(|value| *value as f64 / 1e6 / view.bucket).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let series = [Series { name: "received", class: "c-bytes", style: "area", values }];
    let told = format!("At most {} MB a second.", number(most));
    curves(view, x, "File transfers", "MB/s (million bytes a second)", told, &series, "")
}

fn came_up(report: &Report, view: &View, x: &Axis) -> String {
    let mut up = 0_u64;
    let sums: Vec<u64> = view
        .came_up
        .iter()
        .map(|value| {
            up = up.saturating_add(*value);
            up
        })
        .collect();
    // A bucket ends later than the last machine in it came up.
    let all = report.machines.all_up_seconds.filter(|time| time.is_finite());
    let after = |share: f64| {
        let wanted = (up as f64 * share).ceil();
        let bucket = sums.iter().position(|sum| *sum as f64 >= wanted)?;
        Some(seconds((view.bucket * (bucket + 1) as f64).min(all.unwrap_or(f64::MAX))))
    };
    let came = counted(up, "machine came up", "machines came up");
    let told = match (after(0.5), after(0.99)) {
        (Some(half), Some(most)) if up > 1 => {
            let all = all.map(|time| format!(", all after {}", seconds(time))).unwrap_or_default();
            format!("{came}: half of them after {half}, 99 of 100 after {most}{all}.")
        }
        _ if up == 0 => "No machine came up.".to_owned(),
        _ => format!("{came}."),
    };
    let below = format!("<p class=\"told\">{}</p>\n", esc(&told));
    let values = sums.iter().map(|sum| *sum as f64).collect();
    let series = [Series { name: "came up so far", class: "c-up", style: "area", values }];
    curves(view, x, "Machines that came up, added up", "machines", told, &series, &below)
}

fn gave_up(view: &View, x: &Axis) -> String {
    if view.gave_up.iter().all(|value| *value == 0) {
        return "<figure class=\"chart\"><figcaption>Machines that gave up</figcaption><p>Nobody \
            gave up.</p></figure>\n"
            .to_owned();
    }
    let values = view.gave_up.iter().map(|value| *value as f64).collect();
    let series = [Series { name: "gave up", class: "c-given", style: "area", values }];
    let unit = format!("machines in each {}", seconds(view.bucket));
    let told = format!(
        "{} in all.",
        count(view.gave_up.iter().fold(0_u64, |sum, value| sum.saturating_add(*value)))
    );
    curves(view, x, "Machines that gave up", &unit, told, &series, "")
}

/// Curves of steps: a value holds for its bucket.
fn curves(
    view: &View,
    x: &Axis,
    title: &str,
    unit: &str,
    told: String,
    series: &[Series<'_>],
    below: &str,
) -> String {
    let most = series.iter().flat_map(|series| &series.values).copied().fold(0.0, f64::max);
    let y = Axis::values(most, unit, unit.starts_with("machines"));
    let mut marks = String::new();
    for Series { class, style, values, .. } in
        series.iter().filter(|series| series.values.iter().any(|value| *value > 0.0))
    {
        let mut path = String::new();
        for (bucket, value) in values.iter().enumerate() {
            let height = y.share(*value);
            path.push_str(&point(bucket == 0, x.share(view.bucket * bucket as f64), height));
            path.push_str(&point(false, x.share(view.bucket * (bucket + 1) as f64), height));
        }
        if *style == "area" {
            marks.push_str(&format!(
                "<path class=\"area {class}\" d=\"M0 {HIGH}{}L{WIDE} {HIGH}Z\"/>\n",
                path.replacen('M', "L", 1)
            ));
            marks.push_str(&format!("<path class=\"line {class}\" d=\"{path}\"/>\n"));
        } else {
            marks.push_str(&format!("<path class=\"{style} {class}\" d=\"{path}\"/>\n"));
        }
    }
    let rounded = |values: &[f64]| {
        values.iter().map(|value| (value * 100.0).round() / 100.0).collect::<Vec<_>>()
    };
    let mut columns = vec![time_column(view)];
    columns.extend(series.iter().map(|series| {
        Column {
            name: format!("{}, {unit}", series.name),
            cells: spread(view)
                .map(|range| {
                    let part = series.values.get(range).unwrap_or_default();
                    // A sum so far is what it is at the end; anything else is a mean of its
                    // buckets.
                    let value = if series.name.ends_with("so far") {
                        part.last().copied().unwrap_or(0.0)
                    } else {
                        part.iter().sum::<f64>() / part.len().max(1) as f64
                    };
                    number(value)
                })
                .collect(),
        }
    }));
    let below = format!("{below}{}", tables::folded(&format!("{title} as a table"), &columns));
    Frame {
        title,
        told,
        x,
        y: &y,
        legend: series.iter().map(|series| (series.name, series.class)).collect(),
        marks,
        read: json!({
            "step": view.bucket,
            "at": "span",
            "names": series.iter().map(|series| series.name).collect::<Vec<_>>(),
            "values": series.iter().map(|series| rounded(&series.values)).collect::<Vec<_>>(),
        }),
        below,
        class: "",
        height: 200,
    }
    .figure()
}

/// A point of a path; shares of the plot, the second one upwards.
fn point(first: bool, across: f64, up: f64) -> String {
    format!("{}{:.1} {:.1}", if first { 'M' } else { 'L' }, across * WIDE, (1.0 - up) * HIGH)
}

/// Ranges of buckets for the rows of a table.
fn spread(view: &View) -> impl Iterator<Item = std::ops::Range<usize>> {
    let step = view.buckets.div_ceil(ROWS).max(1);
    let buckets = view.buckets;
    (0..buckets).step_by(step).map(move |from| from..(from + step).min(buckets))
}

fn time_column(view: &View) -> Column {
    Column {
        name: "up to second".to_owned(),
        cells: spread(view).map(|range| number(view.bucket * range.end as f64)).collect(),
    }
}
