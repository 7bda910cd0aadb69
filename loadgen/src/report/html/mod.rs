//! The run as one HTML page that needs nothing but itself: no network, no font, no script to be
//! complete.
//!
//! The page is well-formed XML as well as HTML. Marks are SVG that is stretched to the width there
//! is; their labels are text beside it, so they keep their size in a narrow window.

mod axis;
mod charts;
mod frame;
mod heat;
mod tables;
mod view;

use super::formatting::{NOTHING, bytes, count, counted, millis, number, or_never, plain, seconds};
use super::{Report, Verdict, headline};
use view::View;

/// How the page looks. No `<` and no `&` in it: the page is XML, too.
const STYLE: &str = include_str!("style.css");

/// Read-outs under the pointer; the page is complete without. No `<` and no `&` in it, either.
const SCRIPT: &str = include_str!("hover.js");

/// The report as a page. Every text of the report is escaped; every figure may be anything.
pub fn render(report: &Report) -> String {
    let view = View::new(&report.timeline);
    let headline = headline(report);
    let mut page = String::with_capacity(256 << 10);
    head(&mut page, &headline);
    page.push_str("<main>\n");
    opening(&mut page, report, &headline);
    tiles(&mut page, report);
    tables::limits(&mut page, report);
    tables::violations(&mut page, report);
    charts::all(&mut page, report, &view);
    heat::section(&mut page, report, &view);
    tables::giveups(&mut page, report);
    tables::messages(&mut page, report);
    tables::files(&mut page, report);
    tables::generator(&mut page, report);
    tables::notes(&mut page, report);
    tables::replay(&mut page, report);
    page.push_str("</main>\n<script>\n");
    page.push_str(SCRIPT);
    page.push_str("</script>\n</body>\n</html>\n");
    page
}

/// Text as it may stand in an element or an attribute.
fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for letter in plain(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

fn head(page: &mut String, headline: &str) {
    page.push_str(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta \
         charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<meta name=\"referrer\" \
         content=\"no-referrer\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\"/>\n\
         <link rel=\"icon\" href=\"data:,\"/>\n",
    );
    page.push_str(&format!(
        "<title>bootstorm-load: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        esc(headline)
    ));
}

fn opening(page: &mut String, report: &Report, headline: &str) {
    let (class, mark, word) = match report.verdict {
        Verdict::Met => ("good", "✓", "Limits met"),
        Verdict::Missed => ("bad", "✗", "Limits missed"),
        Verdict::Invalid => ("doubt", "?", "Invalid run"),
    };
    let run = &report.run;
    let interrupted =
        if report.interrupted { " <span class=\"badge doubt\">! Interrupted</span>" } else { "" };
    page.push_str(&format!(
        "<header class=\"{class}\">\n<p><span class=\"badge {class}\">{mark} \
         {word}</span>{interrupted}</p>\n\
         <h1>{}</h1>\n<p class=\"about\">{}</p>\n<p class=\"about\">Scenario <b>{}</b> against \
         <b>{}</b>, {}, begun {}.</p>\n",
        esc(headline),
        esc(&run.summary),
        esc(&run.scenario),
        esc(&run.server),
        seconds(run.seconds),
        esc(&run.started),
    ));
    if let Some(load_loop) = run.load_loop {
        page.push_str(&format!("<p class=\"about\">An {}.</p>\n", esc(load_loop.meaning())));
    }
    if !report.invalid_because.is_empty() {
        page.push_str("<p><b>This run says nothing about the server, because</b></p>\n");
        tables::list(page, &report.invalid_because);
    }
    page.push_str("</header>\n");
}

fn tiles(page: &mut String, report: &Report) {
    let machines = &report.machines;
    let duplicates = report
        .violations
        .iter()
        .filter(|row| row.kind == "duplicate-address")
        .fold(0_u64, |sum, row| sum.saturating_add(row.count));
    let boot = report.latency.get("boot").filter(|boot| !boot.is_empty());
    let bad = |number: u64| if number > 0 { "bad" } else { "" };
    let of = |total: u64| format!("of {}", count(total));
    let tftp = report.tftp.complete > 0;
    let http = report.http.complete > 0;
    let moved = if tftp || !http { &report.tftp } else { &report.http };
    let moved_by = if tftp || !http { "TFTP" } else { "HTTP" };
    let rate = |value: f64, done: bool| if done { number(value) } else { NOTHING.to_owned() };
    page.push_str("<section aria-label=\"Main figures\"><dl class=\"tiles\">\n");
    for (class, name, value, under) in [
        (
            if machines.up < machines.total { "bad" } else { "" },
            "Machines up",
            count(machines.up),
            of(machines.total),
        ),
        (bad(machines.given_up), "Gave up", count(machines.given_up), of(machines.total)),
        (
            bad(duplicates),
            "Addresses given twice",
            count(duplicates),
            format!("in {}", counted(report.dhcp.acks, "ACK", "ACKs")),
        ),
        (
            "",
            "DHCP exchanges",
            rate(report.dhcp.exchanges_per_second, report.dhcp.exchanges > 0),
            "a second".to_owned(),
        ),
        (
            "",
            "Files",
            rate(moved.megabytes_per_second, moved.complete > 0),
            format!("MB/s by {moved_by}; {} in all", bytes(moved.bytes)),
        ),
        (
            "",
            "Boot, median",
            boot.map_or_else(
                || NOTHING.to_owned(),
                |boot| or_never(boot.with_failures().p50, millis),
            ),
            "self test to up".to_owned(),
        ),
        (
            "",
            "Boot, 99 of 100",
            boot.map_or_else(
                || NOTHING.to_owned(),
                |boot| or_never(boot.with_failures().p99, millis),
            ),
            "were up within this".to_owned(),
        ),
    ] {
        page.push_str(&format!(
            "<div class=\"tile {class}\"><dt>{name}</dt><dd>{}</dd><dd \
             class=\"under\">{}</dd></div>\n",
            esc(&value),
            esc(&under)
        ));
    }
    page.push_str("</dl></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_leaves_its_place() {
        assert_eq!(
            esc("<b a='1' c=\"2\">&\0"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\\x00"
        );
    }

    #[test]
    fn style_and_script_are_the_same_as_xml() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains(['<', '&']));
        }
    }
}
