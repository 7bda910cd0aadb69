//! The tables of the page.

use super::{bytes, count, counted, esc, millis, number, seconds};
use crate::report::{Dhcp, Reference, Report, Transfers, formatting};

/// A column of numbers, or the first one, which names the rows.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
}

/// A table whose first column names its rows and whose others are numbers.
pub(super) fn numbers(page: &mut String, caption: &str, columns: &[Column]) {
    open(page, caption, columns.iter().map(|column| column.name.as_str()), "numbers");
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    for row in 0..rows {
        page.push_str("<tr>");
        for (index, column) in columns.iter().enumerate() {
            let cell = esc(column.cells.get(row).map(String::as_str).unwrap_or_default());
            page.push_str(&if index == 0 {
                format!("<th scope=\"row\">{cell}</th>")
            } else {
                format!("<td>{cell}</td>")
            });
        }
        page.push_str("</tr>\n");
    }
    close(page);
}

/// The same behind a line to open it with.
pub(super) fn folded(summary: &str, columns: &[Column]) -> String {
    let mut out = format!("<details><summary>{}</summary>\n", esc(summary));
    numbers(&mut out, summary, columns);
    out.push_str("</details>\n");
    out
}

/// Texts, one below the other.
pub(super) fn list(page: &mut String, texts: &[String]) {
    page.push_str("<ul>");
    for text in texts {
        page.push_str(&format!("<li>{}</li>", esc(text)));
    }
    page.push_str("</ul>\n");
}

pub(super) fn limits(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Limits</h2>\n");
    if report.slo.is_empty() {
        page.push_str("<p>No limits were asked for.</p>\n</section>\n");
        return;
    }
    open(page, "Limits and what was found", ["limit on", "allowed", "found", "result"], "");
    for row in &report.slo {
        let result = if row.met {
            "<span class=\"good\">✓ held</span>"
        } else {
            "<span class=\"bad\">✗ missed</span>"
        };
        page.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{result}</td></tr>\n",
            esc(&row.name),
            esc(&row.limit),
            esc(&row.found)
        ));
    }
    close(page);
    page.push_str("</section>\n");
}

pub(super) fn violations(page: &mut String, report: &Report) {
    page.push_str("<section><h2>What the server did wrong</h2>\n");
    if report.violations.is_empty() {
        page.push_str("<p>Nothing, in what was seen.</p>\n</section>\n");
        return;
    }
    open(
        page,
        "Violations with the first examples",
        ["kind", "times", "meaning, and the first ones seen"],
        "wide second",
    );
    for row in &report.violations {
        page.push_str(&format!(
            "<tr><th scope=\"row\" class=\"bad\">{}</th><td class=\"n\" \
             data-label=\"times\">{}</td><td>{}",
            esc(&row.kind),
            count(row.count),
            esc(&row.meaning)
        ));
        if !row.first.is_empty() {
            page.push_str("<ul class=\"examples\">");
            for example in &row.first {
                page.push_str(&format!(
                    "<li>after {}, machine {} (<code>{}</code>): {}</li>",
                    esc(&seconds(example.at_seconds)),
                    example.machine,
                    esc(&example.mac),
                    esc(&example.detail)
                ));
            }
            page.push_str("</ul>");
        }
        page.push_str("</td></tr>\n");
    }
    close(page);
    if let Some(capture) = &report.capture {
        page.push_str(&format!(
            "<p>The packets around the first of these are in <code>{}</code>.</p>\n",
            esc(capture)
        ));
    }
    page.push_str("</section>\n");
}

pub(super) fn giveups(page: &mut String, report: &Report) {
    if report.giveups.is_empty() {
        return;
    }
    page.push_str("<section><h2>Why machines gave up</h2>\n");
    open(page, "Machines that gave up, by reason", ["reason", "machines", "share"], "bars second");
    let all: f64 = report.giveups.iter().map(|row| row.count as f64).sum();
    let most = report.giveups.iter().map(|row| row.count).max().unwrap_or(0).max(1);
    for row in &report.giveups {
        page.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td><span class=\"bar\" \
             style=\"width:{:.1}%\"></span> {}</td></tr>\n",
            esc(&row.reason),
            count(row.count),
            row.count as f64 / most as f64 * 60.0,
            esc(&formatting::percent(row.count as f64, all))
        ));
    }
    close(page);
    page.push_str("</section>\n");
}

pub(super) fn messages(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Machines, messages and transfers</h2>\n<div class=\"flow\">\n");
    let Dhcp { discovers, offers, requests, acks, naks, declines, .. } = report.dhcp;
    let dhcp = &report.dhcp;
    pairs(
        page,
        "DHCP",
        &[
            ("DISCOVER sent", count(discovers)),
            ("OFFER received", count(offers)),
            ("REQUEST sent", count(requests)),
            ("ACK received", count(acks)),
            ("NAK received", count(naks)),
            ("DECLINE sent", count(declines)),
            ("RELEASE sent", count(dhcp.releases)),
            ("INFORM answered", count(dhcp.informs)),
            ("addresses confirmed after INIT-REBOOT", count(dhcp.reboots)),
            ("leases renewed", count(dhcp.renewals)),
            ("leases that ran out unrenewed", count(dhcp.expired)),
            ("messages sent again", count(dhcp.retransmissions)),
            ("answers that came too late", count(dhcp.late)),
            ("complete exchanges", count(dhcp.exchanges)),
            ("exchanges without an end", count(dhcp.unanswered)),
            ("exchanges a second", number(dhcp.exchanges_per_second)),
            ("messages of an attacker, on top", count(dhcp.attack_messages)),
        ],
    );
    let machines = &report.machines;
    pairs(
        page,
        "Machines",
        &[
            ("in the scenario", count(machines.total)),
            ("up", count(machines.up)),
            ("given up", count(machines.given_up)),
            ("still at it when the run ended", count(machines.unfinished)),
            ("never powered on", count(machines.not_started)),
            ("boots begun", count(machines.boots)),
            ("boots that failed and were begun again", count(machines.retried_boots)),
            (
                "all up after",
                machines.all_up_seconds.map_or_else(|| formatting::NOTHING.to_owned(), seconds),
            ),
        ],
    );
    for (name, transfers) in [("TFTP", &report.tftp), ("HTTP", &report.http)] {
        if transfers.begun > 0 {
            moved(page, name, transfers);
        }
    }
    page.push_str("</div>\n</section>\n");
}

fn moved(page: &mut String, name: &str, transfers: &Transfers) {
    pairs(
        page,
        name,
        &[
            ("transfers begun", count(transfers.begun)),
            ("complete", count(transfers.complete)),
            ("failed", count(transfers.failed)),
            ("most at the same time", count(transfers.most_at_once)),
            (
                "bytes received in order",
                format!("{} ({})", bytes(transfers.bytes), count(transfers.bytes)),
            ),
            ("messages sent again", count(transfers.retransmissions)),
            ("blocks that came twice", count(transfers.duplicate_blocks)),
            ("from the first request to the last byte", seconds(transfers.seconds)),
            ("MB/s over that time", number(transfers.megabytes_per_second)),
        ],
    );
}

pub(super) fn files(page: &mut String, report: &Report) {
    if report.files.is_empty() {
        return;
    }
    page.push_str("<section><h2>Files</h2>\n");
    open(
        page,
        "Files that were fetched",
        ["name", "size", "transfers", "compared with", "SHA-256 of the first"],
        "wide second third",
    );
    for file in &report.files {
        let compared = match file.compared_with {
            Reference::LocalCopy => "a local copy",
            Reference::EachOther => "each other",
        };
        let size = file.size.map_or_else(
            || formatting::NOTHING.to_owned(),
            |size| format!("{} ({} B)", bytes(size), count(size)),
        );
        page.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"size\">{size}</td>\
             <td class=\"n\" data-label=\"transfers\">{}</td><td data-label=\"compared \
             with\">{compared}</td>\
             <td data-label=\"SHA-256\"><code>{}</code></td></tr>\n",
            esc(&file.name),
            count(file.transfers),
            esc(file.sha256.as_deref().unwrap_or(formatting::NOTHING))
        ));
    }
    close(page);
    page.push_str("</section>\n");
}

pub(super) fn generator(page: &mut String, report: &Report) {
    let own = &report.generator;
    page.push_str("<section><h2>The generator itself</h2>\n");
    page.push_str(
        "<p>What it did late or lost is not the server's fault; a run with too much of \
        it is invalid.</p>\n",
    );
    if let Some(latency) = &own.own_latency {
        page.push_str(&format!(
            "<p>By itself, against a bare responder on loopback before the run, it found a median \
             of {}, {} for 99 of 100, and {} at most in {}: what answers take without a \
             server.</p>\n",
            esc(&millis(latency.p50)),
            esc(&millis(latency.p99)),
            esc(&millis(latency.max)),
            counted(latency.answers, "answer", "answers")
        ));
    }
    pairs(
        page,
        "How the generator performed",
        &[
            ("engine", report.run.engine.clone()),
            ("timed actions", count(own.timed_actions)),
            ("of these more than 100 ms late", count(own.late_actions)),
            ("999 of 1,000 not later than", millis(own.p999_delay)),
            ("the latest by", millis(own.worst_delay)),
            ("busy", formatting::percent(own.busy, 1.0)),
            ("waited for its core", seconds(own.waited_for_cpu_seconds)),
            ("datagrams the kernel dropped", count(own.kernel_drops)),
            ("datagrams that could not be sent", count(own.send_errors)),
            ("datagrams that belong to no machine", count(own.strays)),
            ("HTTP fetches more than 100 ms late", count(own.late_fetches)),
            ("the latest HTTP fetch by", millis(own.worst_fetch_wait)),
            ("memory", format!("{} MiB", number(own.memory_mib))),
        ],
    );
    page.push_str("</section>\n");
}

pub(super) fn notes(page: &mut String, report: &Report) {
    if report.notes.is_empty() {
        return;
    }
    page.push_str("<section><h2>Notes</h2>\n");
    list(page, &report.notes);
    page.push_str("</section>\n");
}

pub(super) fn replay(page: &mut String, report: &Report) {
    let run = &report.run;
    page.push_str(&format!(
        "<section><h2>The same storm again</h2>\n<pre><code>{}</code></pre>\n\
         <p>Seed <b>{}</b>, schedule <code>{}</code>: equal numbers are equal storms.</p>\n",
        esc(&run.command),
        run.seed,
        esc(&run.schedule)
    ));
    let mut where_from =
        vec![format!("written by bootstorm-load {} as {}", report.version, report.schema)];
    if let Some(interface) = &run.interface {
        where_from.push(format!("interface {interface}"));
    }
    if !run.relays.is_empty() {
        let shown = run.relays.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let rest = run.relays.len().saturating_sub(8);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        where_from.push(format!("relay agents {shown}{rest}"));
    }
    page.push_str(&format!(
        "<p class=\"about\">{}.</p>\n</section>\n",
        esc(&where_from.join("; "))
    ));
}

fn pairs(page: &mut String, caption: &str, rows: &[(&str, String)]) {
    page.push_str(&format!(
        "<div class=\"scroll\"><table class=\"pairs\"><caption>{}</caption><tbody>\n",
        esc(caption)
    ));
    for (name, value) in rows {
        page.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
            esc(name),
            esc(value)
        ));
    }
    page.push_str("</tbody></table></div>\n");
}

fn open<'a>(
    page: &mut String,
    caption: &str,
    names: impl IntoIterator<Item = &'a str>,
    class: &str,
) {
    page.push_str(&format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table \
         class=\"{class}\"><caption class=\"unseen\">{0}</caption>\n<thead><tr>",
        esc(caption)
    ));
    for name in names {
        page.push_str(&format!("<th scope=\"col\">{}</th>", esc(name)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
}

fn close(page: &mut String) {
    page.push_str("</tbody></table></div>\n");
}
