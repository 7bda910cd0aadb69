//! Reports such as runs make, out of a small simulation: a storm that went well, one that did not,
//! and the oddest.

#![allow(dead_code)] // each of its users takes a part of it

use std::collections::BTreeMap;

use bootstorm_loadgen::report::*;

/// Numbers that look like chance and are the same every time.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Times of one machine in seconds: power-on, DISCOVER, OFFER, ACK, up.
struct Boot {
    discover: f64,
    offer: f64,
    ack: f64,
    up: Option<f64>,
    gave_up: Option<f64>,
}

/// 10,000 machines come within 20 s, and the last is up at 74 s.
pub(crate) fn good() -> Report {
    let mut chance = Chance(7);
    let boots: Vec<Boot> = (0..10_000)
        .map(|index| {
            let came = 20.0 * f64::from(index) / 10_000.0;
            let discover = came + 0.4 * chance.next();
            let crowd = (came / 20.0 * std::f64::consts::PI).sin();
            let wait = |chance: &mut Chance| {
                0.0006 * (1.0 + 30.0 * crowd * chance.next().powi(4)) * (0.3 - chance.next().ln())
            };
            let offer = discover + wait(&mut chance);
            let ack = offer + 0.002 + 2.5 * wait(&mut chance);
            let up = 6.0 + 66.5 * f64::from(index) / 10_000.0 + 1.5 * chance.next();
            Boot { discover, offer, ack, up: Some(up.max(ack + 2.0)), gave_up: None }
        })
        .collect();
    let mut report = from_boots(&boots, 0.5, 150);
    report.verdict = Verdict::Met;
    report.machines.all_up_seconds = boots.iter().filter_map(|boot| boot.up).reduce(f64::max);
    report.slo = vec![
        slo("giveups", "<= 0", "0", true),
        slo("violations", "<= 0", "0", true),
        slo("p99", "<= 500ms", "21.3ms", true),
        slo("boot-p99", "<= 90s", "73.1s", true),
    ];
    report
}

/// The same storm against a server that stalls for six seconds, gives an address twice and sends a
/// wrong file.
pub(crate) fn bad() -> Report {
    let mut chance = Chance(11);
    let boots: Vec<Boot> = (0..10_000)
        .map(|index| {
            let came = 20.0 * f64::from(index) / 10_000.0;
            let discover = came + 0.4 * chance.next();
            let stalled = (8.0..14.0).contains(&discover);
            let offer =
                if stalled { 14.0 + 2.0 * chance.next() } else { discover + 0.004 * chance.next() };
            let ack = offer + if stalled { chance.next() } else { 0.01 * chance.next() };
            if index % 270 == 1 {
                return Boot {
                    discover,
                    offer: f64::MAX,
                    ack: f64::MAX,
                    up: None,
                    gave_up: Some(discover + 30.0),
                };
            }
            let up = 6.0 + 80.0 * f64::from(index) / 10_000.0 + 4.0 * chance.next();
            Boot { discover, offer, ack, up: Some(up.max(ack + 2.0)), gave_up: None }
        })
        .collect();
    let mut report = from_boots(&boots, 0.5, 184);
    report.verdict = Verdict::Missed;
    report.slo = vec![
        slo("giveups", "<= 0", "38", false),
        slo("p99", "<= 500ms", "7.1s", false),
        slo("boot-p99", "<= 90s", "87.2s", true),
    ];
    report.giveups = vec![give_up("no OFFER", 31), give_up("TFTP silent: boot.img", 7)];
    report.violations = vec![
        ViolationRow {
            kind: "duplicate-address".to_owned(),
            meaning: "An address was given to a machine while another one held it.".to_owned(),
            count: 3,
            first: vec![
                example(
                    9.812,
                    4711,
                    "10.77.18.4 is held by machine 4502 (02:bb:00:00:11:96) until 3609.8 s",
                ),
                example(
                    13.250,
                    4802,
                    "10.77.18.9 is held by machine 4507 (02:bb:00:00:11:9b) until 3610.1 s",
                ),
            ],
        },
        ViolationRow {
            kind: "content".to_owned(),
            meaning: "A file arrived with other bytes than the local copy.".to_owned(),
            count: 1,
            first: vec![example(
                41.5,
                812,
                "boot.img: SHA-256 5f0c… and not 9a11…, first difference at byte 1,048,576",
            )],
        },
    ];
    report.capture = Some("/var/tmp/storm/violations.pcapng".to_owned());
    report.dhcp.retransmissions = 8_123;
    report.notes.push("The server's host and the generator's shared two cores.".to_owned());
    report
}

/// A run that says nothing.
pub(crate) fn invalid() -> Report {
    let mut report = good();
    report.verdict = Verdict::Invalid;
    report.invalid_because = vec![
        "the generator lost 312 answers itself".to_owned(),
        "its thread waited 4.1 s for a core".to_owned(),
    ];
    report.generator.kernel_drops = 312;
    report.generator.waited_for_cpu_seconds = 4.1;
    report
}

/// Nothing at all.
pub(crate) fn empty() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        verdict: Verdict::Met,
        interrupted: false,
        slo: Vec::new(),
        invalid_because: Vec::new(),
        notes: Vec::new(),
        run: Run {
            scenario: "storm".to_owned(),
            summary: "Machines that were all switched on at once.".to_owned(),
            command: "bootstorm-load run storm --seed 42".to_owned(),
            load_loop: Some(Loop::Open),
            seed: 42,
            schedule: "9f1c20d7a4be8863".to_owned(),
            server: "10.77.0.1".to_owned(),
            interface: None,
            relays: Vec::new(),
            engine: "uring".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            seconds: 0.0,
        },
        machines: Machines::default(),
        giveups: Vec::new(),
        dhcp: Dhcp::default(),
        tftp: Transfers::default(),
        http: Transfers::default(),
        files: Vec::new(),
        latency: BTreeMap::new(),
        timeline: Timeline::default(),
        violations: Vec::new(),
        capture: None,
        generator: Generator::default(),
        limit: None,
    }
}

/// One bucket with one machine.
pub(crate) fn tiny() -> Report {
    let boots = [Boot { discover: 0.01, offer: 0.0104, ack: 0.0109, up: Some(0.4), gave_up: None }];
    let mut report = from_boots(&boots, 0.5, 1);
    report.machines.all_up_seconds = Some(0.4);
    report
}

/// Markup, quotes, escape sequences and overlong words wherever text goes; the largest numbers
/// wherever numbers go.
pub(crate) fn hostile() -> Report {
    let text = "</script></style><script>alert(1)</script>'\"& ]]> \u{1b}[2J\u{0}\u{202e}"
        .to_owned()
        + &"x".repeat(300);
    let mut report = bad();
    for field in [
        &mut report.version,
        &mut report.run.scenario,
        &mut report.run.summary,
        &mut report.run.command,
        &mut report.run.schedule,
        &mut report.run.server,
        &mut report.run.engine,
        &mut report.run.started,
    ] {
        field.clone_from(&text);
    }
    report.run.interface = Some(text.clone());
    report.run.relays = vec![text.clone(); 20];
    report.notes = vec![text.clone()];
    report.invalid_because = vec![text.clone(); 2];
    report.capture = Some(text.clone());
    report.slo = vec![slo(&text, &text, &text, false)];
    report.giveups = vec![give_up(&text, u64::MAX), give_up("none", 0)];
    report
        .latency
        .insert(text.clone(), Quantiles { count: u64::MAX, max: f64::MAX, ..Quantiles::default() });
    report.files = vec![FileRow {
        name: text.clone(),
        size: Some(u64::MAX),
        transfers: u64::MAX,
        sha256: Some(text.clone()),
        compared_with: Reference::EachOther,
    }];
    report.violations = vec![ViolationRow {
        kind: text.clone(),
        meaning: text.clone(),
        count: u64::MAX,
        first: vec![Example {
            at_seconds: f64::MAX,
            machine: u32::MAX,
            mac: text.clone(),
            detail: text,
        }],
    }];
    report.machines = Machines {
        total: u64::MAX,
        up: u64::MAX,
        given_up: u64::MAX,
        unfinished: u64::MAX,
        not_started: u64::MAX,
        boots: u64::MAX,
        retried_boots: u64::MAX,
        all_up_seconds: Some(f64::MAX),
    };
    for list in
        [&mut report.timeline.sent, &mut report.timeline.bytes, &mut report.timeline.phases.up]
    {
        list.iter_mut().step_by(3).for_each(|value| *value = u64::MAX);
    }
    report
}

pub(crate) fn slo(name: &str, limit: &str, found: &str, met: bool) -> SloRow {
    SloRow { name: name.to_owned(), limit: limit.to_owned(), found: found.to_owned(), met }
}

pub(crate) fn give_up(reason: &str, count: u64) -> GiveUpRow {
    GiveUpRow { reason: reason.to_owned(), count }
}

fn example(at_seconds: f64, machine: u32, detail: &str) -> Example {
    let mac = format!("02:bb:00:00:{:02x}:{:02x}", machine >> 8, machine & 255);
    Example { at_seconds, machine, mac, detail: detail.to_owned() }
}

fn from_boots(boots: &[Boot], bucket: f64, buckets: usize) -> Report {
    const FILE: u64 = 4 << 20;
    let mut report = empty();
    let total = boots.len() as u64;
    let counted =
        |what: &dyn Fn(&Boot) -> bool| boots.iter().filter(|boot| what(boot)).count() as u64;
    let up = counted(&|boot| boot.up.is_some());
    let given_up = counted(&|boot| boot.gave_up.is_some());
    report.run.command =
        "bootstorm-load run storm --machines 10000 --arrival 20s --server 10.77.0.1 --seed 42 \
         --slo 'p99<=500ms'"
            .to_owned();
    report.run.interface = Some("eth0".to_owned());
    report.run.seconds = bucket * buckets as f64;
    report.machines = Machines { total, up, given_up, boots: total, ..Machines::default() };
    let mut offers = Vec::new();
    let mut acks = Vec::new();
    let mut doras = Vec::new();
    let mut whole = Vec::new();
    let mut time = Timeline { bucket_seconds: bucket, ..Timeline::default() };
    for list in [
        &mut time.sent,
        &mut time.answered,
        &mut time.retransmissions,
        &mut time.bytes,
        &mut time.came_up,
        &mut time.gave_up,
    ] {
        *list = vec![0; buckets];
    }
    time.latency_bounds = (0..24)
        .map(|step| 0.1 * 10_f64.powf(f64::from(step) / 4.0))
        .map(|bound| (bound * 100.0).round() / 100.0)
        .collect();
    time.latency = vec![vec![0; buckets]; time.latency_bounds.len() + 1];
    let place = |at: f64| ((at / bucket) as usize).min(buckets - 1);
    for boot in boots {
        time.sent[place(boot.discover)] += 1;
        if boot.offer < 1e6 {
            let (offer, ack) = ((boot.offer - boot.discover) * 1e3, (boot.ack - boot.offer) * 1e3);
            offers.push(offer);
            acks.push(ack);
            doras.push(offer + ack);
            time.sent[place(boot.offer)] += 1;
            for (at, took) in [(boot.offer, offer), (boot.ack, ack)] {
                time.answered[place(at)] += 1;
                let row = time
                    .latency_bounds
                    .iter()
                    .position(|bound| took <= *bound)
                    .unwrap_or(time.latency_bounds.len());
                time.latency[row][place(at)] += 1;
            }
        }
        let again = if boot.offer < 1e6 { boot.offer - boot.discover } else { 30.0 };
        for second in
            (1..).map(|step: u32| f64::from(step) * 4.0).take_while(|second| *second < again)
        {
            time.retransmissions[place(boot.discover + second)] += 1;
            time.sent[place(boot.discover + second)] += 1;
        }
        if let Some(at) = boot.up {
            time.came_up[place(at)] += 1;
            time.bytes[place(at)] += FILE;
            whole.push((at - boot.discover) * 1e3);
        }
        if let Some(at) = boot.gave_up {
            time.gave_up[place(at)] += 1;
        }
    }
    for bucket_index in 0..buckets {
        let now = bucket * (bucket_index + 1) as f64;
        let mut counts = [0; 6];
        for boot in boots {
            let phase = if boot.gave_up.is_some_and(|at| at <= now) {
                5
            } else if boot.up.is_some_and(|at| at <= now) {
                4
            } else if boot.ack <= now {
                3
            } else if boot.offer <= now {
                2
            } else {
                usize::from(boot.discover <= now)
            };
            counts[phase] += 1;
        }
        let phases = &mut time.phases;
        let lists = [
            &mut phases.off,
            &mut phases.discovering,
            &mut phases.requesting,
            &mut phases.loading,
            &mut phases.up,
            &mut phases.given_up,
        ];
        lists.into_iter().zip(counts).for_each(|(list, count)| list.push(count));
    }
    let messages: u64 = time.sent.iter().sum();
    let again: u64 = time.retransmissions.iter().sum();
    let answered = offers.len() as u64;
    report.dhcp = Dhcp {
        discovers: messages - answered,
        offers: answered,
        requests: answered,
        acks: answered,
        retransmissions: again,
        exchanges: answered,
        unanswered: total - answered,
        exchanges_per_second: answered as f64 / 20.4,
        ..Dhcp::default()
    };
    report.tftp = Transfers {
        begun: up,
        complete: up,
        most_at_once: up.div_ceil(3),
        bytes: up * FILE,
        retransmissions: 17,
        seconds: 66.5,
        megabytes_per_second: (up * FILE) as f64 / 1e6 / 66.5,
        ..Transfers::default()
    };
    report.files = vec![FileRow {
        name: "boot.img".to_owned(),
        size: Some(FILE),
        transfers: up,
        sha256: Some("9a11f0e4c1d04b7fb2a8d7f64a3c8e50b6f7e1a2c3d4e5f60718293a4b5c6d7e".to_owned()),
        compared_with: Reference::LocalCopy,
    }];
    let answers = offers.iter().chain(&acks).copied().collect();
    for (name, times) in
        [("offer", offers), ("ack", acks), ("answer", answers), ("dora", doras), ("boot", whole)]
    {
        report.latency.insert(name.to_owned(), quantiles(times));
    }
    report.timeline = time;
    report.generator = Generator {
        timed_actions: messages * 3,
        worst_delay: 11.2,
        p999_delay: 1.9,
        busy: 0.31,
        waited_for_cpu_seconds: 0.02,
        memory_mib: 84.0,
        ..Generator::default()
    };
    report
}

fn quantiles(mut times: Vec<f64>) -> Quantiles {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    Quantiles {
        count: times.len() as u64,
        min: at(0.0),
        mean: times.iter().sum::<f64>() / times.len().max(1) as f64,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
        ..Quantiles::default()
    }
}
