//! The summary that a run ends with, for a terminal of 80 columns.

use super::formatting::{
    Align, NOTHING, bytes, clip, columns, count, counted, millis, millis_in_table, number,
    or_never, percent, plain, seconds, timed, wrap,
};
use super::{Dhcp, Generator, Report, Transfers, Verdict, headline};

/// Columns of a terminal.
const WIDTH: usize = 80;

/// Columns of the words that lines begin with.
const LABEL: usize = 12;

/// The report as text: a headline, then what a reader of figures wants, in lines of at most 80
/// characters. `colours` says that the verdict may be coloured with ANSI sequences; nothing else
/// depends on it. No text out of the report can steer the terminal.
pub fn render(report: &Report, colours: bool) -> String {
    let mut out = Out { text: String::new() };
    let style = Style { colours };
    for line in wrap(&headline(report), WIDTH) {
        out.line(&style.verdict(report.verdict, &line));
    }
    out.line("");
    run(&mut out, report);
    limits(&mut out, report, &style);
    machines(&mut out, report);
    dhcp(&mut out, &report.dhcp);
    transfers(&mut out, "TFTP", &report.tftp);
    transfers(&mut out, "HTTP", &report.http);
    latency(&mut out, report);
    violations(&mut out, report);
    generator(&mut out, report);
    for note in &report.notes {
        out.field("note", note);
    }
    out.text
}

/// Colours, or none.
#[derive(Copy, Clone)]
pub(super) struct Style {
    pub(super) colours: bool,
}

impl Style {
    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        match verdict {
            Verdict::Met => self.good(text),
            Verdict::Missed => self.bad(text),
            Verdict::Invalid => self.doubtful(text),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A paragraph with a word before it.
    fn field(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(&plain(text), WIDTH - LABEL).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.line(format!("{label:<LABEL$}{line}").trim_end());
        }
    }

    fn table(&mut self, label: &str, rows: &[Vec<String>], aligns: &[Align]) {
        for (index, line) in columns(rows, aligns).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.line(format!("{label:<LABEL$}{line}").trim_end());
        }
    }
}

fn run(out: &mut Out, report: &Report) {
    let run = &report.run;
    let by = run.interface.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
    let relays = match run.relays.len() {
        0 => String::new(),
        number => format!(" through {}", counted(number as u64, "relay agent", "relay agents")),
    };
    out.field(
        "run",
        &format!(
            "{}, seed {}, against {}{by}{relays}; {} with engine {}",
            run.scenario,
            run.seed,
            run.server,
            seconds(run.seconds),
            run.engine
        ),
    );
    out.field(
        "",
        &format!("schedule {}, begun {}, version {}", run.schedule, run.started, report.version),
    );
    if let Some(load_loop) = run.load_loop {
        out.field("", load_loop.meaning());
    }
}

fn limits(out: &mut Out, report: &Report, style: &Style) {
    let verdict = match report.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Invalid => "INVALID",
    };
    out.field("verdict", verdict);
    for reason in &report.invalid_because {
        out.field("", &format!("because {reason}"));
    }
    let cell = |text: &str| clip(&plain(text), 16);
    let rows: Vec<_> = report
        .slo
        .iter()
        .map(|row| {
            let held = if row.met { style.good("held") } else { style.bad("MISSED") };
            vec![cell(&row.name), cell(&row.limit), format!("found {}", cell(&row.found)), held]
        })
        .collect();
    out.table("limits", &rows, &[Align::Left; 4]);
}

fn machines(out: &mut Out, report: &Report) {
    let machines = &report.machines;
    let mut parts = vec![
        format!("{} of {} up", count(machines.up), count(machines.total)),
        format!("{} given up", count(machines.given_up)),
    ];
    for (number, what) in
        [(machines.unfinished, "still at it"), (machines.not_started, "never powered on")]
    {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    if machines.boots != machines.total || machines.retried_boots > 0 {
        let boots = counted(machines.boots, "boot", "boots");
        parts.push(format!("{boots}, {} of them begun again", count(machines.retried_boots)));
    }
    if let Some(time) = machines.all_up_seconds {
        parts.push(format!("the last after {}", seconds(time)));
    }
    out.field("machines", &parts.join("; "));
    for row in &report.giveups {
        out.field("", &format!("{} gave up: {}", count(row.count), row.reason));
    }
}

fn dhcp(out: &mut Out, dhcp: &Dhcp) {
    if dhcp.discovers == 0 && dhcp.requests == 0 && dhcp.attack_messages == 0 {
        out.field("DHCP", "none");
        return;
    }
    out.field(
        "DHCP",
        &format!(
            "{}, {} a second; {} unanswered",
            counted(dhcp.exchanges, "complete exchange", "complete exchanges"),
            number(dhcp.exchanges_per_second),
            count(dhcp.unanswered)
        ),
    );
    let list = |parts: &[(u64, &str)]| {
        let shown = parts.iter().filter(|(number, _)| *number > 0);
        shown
            .map(|(number, what)| format!("{} {what}", count(*number)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let or_none = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    let sent = list(&[
        (dhcp.discovers, "DISCOVER"),
        (dhcp.requests, "REQUEST"),
        (dhcp.declines, "DECLINE"),
        (dhcp.releases, "RELEASE"),
    ]);
    out.field(
        "",
        &format!("sent {}; {} of them again", or_none(sent), count(dhcp.retransmissions)),
    );
    let received = list(&[
        (dhcp.offers, "OFFER"),
        (dhcp.acks, "ACK"),
        (dhcp.naks, "NAK"),
        (dhcp.late, "late"),
    ]);
    out.field("", &format!("received {}", or_none(received)));
    let leases = list(&[
        (dhcp.renewals, "leases renewed"),
        (dhcp.expired, "leases ran out unrenewed"),
        (dhcp.reboots, "confirmed after INIT-REBOOT"),
        (dhcp.informs, "INFORM answered"),
    ]);
    if !leases.is_empty() {
        out.field("", &leases);
    }
    if dhcp.attack_messages > 0 {
        out.field(
            "",
            &format!(
                "{} on top",
                counted(dhcp.attack_messages, "attack message", "attack messages")
            ),
        );
    }
}

fn transfers(out: &mut Out, name: &str, transfers: &Transfers) {
    if transfers.begun == 0 {
        return;
    }
    out.field(
        name,
        &format!(
            "{} of {} complete, {} failed; at most {} at once",
            count(transfers.complete),
            counted(transfers.begun, "transfer", "transfers"),
            count(transfers.failed),
            count(transfers.most_at_once)
        ),
    );
    out.field(
        "",
        &format!(
            "{} in {}: {} MB/s; {}",
            bytes(transfers.bytes),
            seconds(transfers.seconds),
            number(transfers.megabytes_per_second),
            counted(transfers.retransmissions, "message sent again", "messages sent again")
        ),
    );
}

fn latency(out: &mut Out, report: &Report) {
    // A column that most runs would fill with zeros.
    let failures = report.latency.values().any(|found| found.failed > 0);
    let mut heads = vec!["time of", "count"];
    heads.extend(failures.then_some("failed"));
    heads.extend(["median", "90 %", "99 %", "99.9 %", "longest"]);
    let mut rows = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    for (key, meaning) in timed(report) {
        let Some(quantiles) = report.latency.get(&key).filter(|found| !found.is_empty()) else {
            continue;
        };
        let all = quantiles.with_failures();
        let mut row = vec![clip(&meaning, 17), clip(&count(quantiles.count), 10)];
        row.extend(failures.then(|| clip(&count(quantiles.failed), 7)));
        row.extend(
            [all.p50, all.p90, all.p99, all.p999, all.max]
                .map(|time| or_never(time, millis_in_table)),
        );
        rows.push(row);
    }
    if rows.len() == 1 {
        return;
    }
    out.line("");
    let mut aligns = vec![Align::Right; heads.len()];
    aligns[0] = Align::Left;
    for line in columns(&rows, &aligns) {
        out.line(&clip(&line, WIDTH));
    }
    out.line("");
}

fn violations(out: &mut Out, report: &Report) {
    if report.violations.is_empty() {
        out.field("server", "did nothing wrong in what was seen");
    }
    for (index, row) in report.violations.iter().enumerate() {
        let label = if index == 0 { "WRONG" } else { "" };
        out.field(label, &format!("{} {}: {}", count(row.count), row.kind, row.meaning));
        if let Some(first) = row.first.first() {
            out.field(
                "",
                &format!(
                    "first after {}, machine {} ({}): {}",
                    seconds(first.at_seconds),
                    first.machine,
                    first.mac,
                    first.detail
                ),
            );
        }
    }
    if let Some(capture) = &report.capture {
        out.field("packets", &format!("around the first of these: {capture}"));
    }
}

fn generator(out: &mut Out, report: &Report) {
    let own = &report.generator;
    if let Some(latency) = &own.own_latency {
        out.field(
            "by itself",
            &format!(
                "{} of a bare responder: median {}, 99 % {}, longest {}",
                counted(latency.answers, "answer", "answers"),
                millis(latency.p50),
                millis(latency.p99),
                millis(latency.max)
            ),
        );
    }
    if !matters(own, report.run.seconds) && report.verdict != Verdict::Invalid {
        let busy = if own.busy.is_finite() { percent(own.busy, 1.0) } else { NOTHING.to_owned() };
        out.field(
            "generator",
            &format!("kept up: busy {busy}, never later than {}", millis(own.worst_delay)),
        );
        return;
    }
    out.field(
        "generator",
        &format!(
            "{} of {} more than 100 ms late; 99.9 % within {}, the worst {}",
            count(own.late_actions),
            counted(own.timed_actions, "timed action", "timed actions"),
            millis(own.p999_delay),
            millis(own.worst_delay)
        ),
    );
    out.field(
        "",
        &format!(
            "busy {}, waited {} for its core; {} MiB",
            percent(own.busy, 1.0),
            seconds(own.waited_for_cpu_seconds),
            number(own.memory_mib)
        ),
    );
    if own.late_fetches > 0 {
        out.field(
            "",
            &format!(
                "{} more than 100 ms late, the latest {}",
                counted(own.late_fetches, "HTTP fetch", "HTTP fetches"),
                millis(own.worst_fetch_wait)
            ),
        );
    }
    out.field(
        "",
        &format!(
            "{} datagrams dropped by the kernel, {} not sent, {} of nobody",
            count(own.kernel_drops),
            count(own.send_errors),
            count(own.strays)
        ),
    );
}

/// Whether a reader must know how the generator fared to trust the rest.
pub(super) fn matters(own: &Generator, run_seconds: f64) -> bool {
    own.late_actions > 0
        || own.late_fetches > 0
        || own.kernel_drops > 0
        || own.send_errors > 0
        || own.strays > 0
        || own.busy > 0.8
        || own.waited_for_cpu_seconds > run_seconds * 0.01
}
