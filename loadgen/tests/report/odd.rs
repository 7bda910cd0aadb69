//! Whatever stands in a report, it can be shown.

use bootstorm_loadgen::report::compare::compare;
use bootstorm_loadgen::report::*;
use proptest::prelude::*;

use crate::fixture;
use crate::wellformed::elements;

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        0.0..1e4,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.0)
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..1000_u64, Just(0), Just(u64::MAX)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,90}",
        Just("giveups".to_owned()),
        Just("duplicate-address".to_owned())
    ]
}

fn list() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(number(), 0..9)
}

prop_compose! {
    fn timeline()(
        bucket_seconds in float(),
        lists in prop::collection::vec(list(), 12),
        latency_bounds in prop::collection::vec(float(), 0..6),
        latency in prop::collection::vec(list(), 0..8),
    ) -> Timeline {
        let mut lists = lists.into_iter();
        let mut next = || lists.next().unwrap_or_default();
        Timeline {
            bucket_seconds,
            phases: Phases {
                off: next(),
                discovering: next(),
                requesting: next(),
                loading: next(),
                up: next(),
                given_up: next(),
            },
            sent: next(),
            answered: next(),
            retransmissions: next(),
            bytes: next(),
            came_up: next(),
            gave_up: next(),
            latency_bounds,
            latency,
        }
    }
}

fn transfers(
    numbers: &mut impl Iterator<Item = u64>,
    floats: &mut impl Iterator<Item = f64>,
) -> Transfers {
    let mut number = || numbers.next().unwrap_or(0);
    let mut float = || floats.next().unwrap_or(0.0);
    Transfers {
        duplicate_blocks: number(),
        begun: number(),
        complete: number(),
        failed: number(),
        most_at_once: number(),
        bytes: number(),
        retransmissions: number(),
        seconds: float(),
        megabytes_per_second: float(),
    }
}

prop_compose! {
    fn report()(
        timeline in timeline(),
        numbers in prop::collection::vec(number(), 60),
        floats in prop::collection::vec(float(), 30),
        texts in prop::collection::vec(text(), 20),
        flags in any::<[bool; 8]>(),
        verdict in prop_oneof![Just(Verdict::Met), Just(Verdict::Missed), Just(Verdict::Invalid)],
        rows in 0..4_usize,
    ) -> Report {
        let mut numbers = numbers.into_iter().cycle();
        let mut floats = floats.into_iter().cycle();
        let mut texts = texts.into_iter().cycle();
        let mut report = fixture::empty();
        report.timeline = timeline;
        report.verdict = verdict;
        report.interrupted = flags[0];
        report.tftp = transfers(&mut numbers, &mut floats);
        report.http = transfers(&mut numbers, &mut floats);
        let mut number = || numbers.next().unwrap_or(0);
        let mut float = || floats.next().unwrap_or(0.0);
        let mut text = || texts.next().unwrap_or_default();
        report.run.seconds = float();
        report.run.seed = number();
        report.run.scenario = text();
        report.run.command = text();
        report.run.interface = flags[1].then(&mut text);
        report.capture = flags[2].then(&mut text);
        report.limit = flags[7].then(|| Limit {
            load: number() as u32,
            unit: text(),
            bound: Bound::Lower,
            confirmed: flags[0],
            bottleneck: flags[1].then(&mut text),
        });
        report.machines = Machines {
            total: number(),
            up: number(),
            given_up: number(),
            unfinished: number(),
            not_started: number(),
            boots: number(),
            retried_boots: number(),
            all_up_seconds: flags[3].then(&mut float),
        };
        report.dhcp = Dhcp {
            discovers: number(),
            offers: number(),
            requests: number(),
            acks: number(),
            exchanges: number(),
            late: number(),
            unanswered: number(),
            retransmissions: number(),
            exchanges_per_second: float(),
            attack_messages: number(),
            ..Dhcp::default()
        };
        report.generator = Generator {
            late_actions: number(),
            timed_actions: number(),
            worst_delay: float(),
            p999_delay: float(),
            busy: float(),
            waited_for_cpu_seconds: float(),
            kernel_drops: number(),
            send_errors: number(),
            strays: number(),
            late_fetches: number(),
            worst_fetch_wait: float(),
            own_latency: flags[5].then(|| OwnLatency {
                answers: number(),
                p50: float(),
                p99: float(),
                max: float(),
            }),
            memory_mib: float(),
        };
        for _ in 0..rows {
            report.notes.push(text());
            report.invalid_because.push(text());
            report.run.relays.push(text());
            report.slo.push(fixture::slo(&text(), &text(), &text(), flags[4]));
            report.giveups.push(fixture::give_up(&text(), number()));
            report.files.push(FileRow {
                name: text(),
                size: flags[5].then(&mut number),
                transfers: number(),
                sha256: flags[6].then(&mut text),
                compared_with: Reference::LocalCopy,
            });
            report.violations.push(ViolationRow {
                kind: text(),
                meaning: text(),
                count: number(),
                first: vec![Example {
                    at_seconds: float(),
                    machine: 7,
                    mac: text(),
                    detail: text(),
                }],
            });
            let key = if flags[7] { "boot".to_owned() } else { text() };
            report.latency.insert(key, Quantiles {
                count: number(),
                min: float(),
                mean: float(),
                p50: float(),
                p90: float(),
                p99: float(),
                p999: float(),
                max: float(),
                failed: number(),
                with_failures: flags[7].then(|| WithFailures {
                    p50: Some(float()),
                    max: Some(float()),
                    ..WithFailures::default()
                }),
            });
        }
        report
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn everything_can_be_shown(a in report(), b in report()) {
        for report in [&a, &b] {
            if let Err(error) = elements(&html::render(report)) {
                prop_assert!(false, "{}", error);
            }
            let text = text::render(report, false);
            prop_assert!(text.lines().all(|line| line.chars().count() <= 80), "{}", text);
            let mut written = Vec::new();
            prop_assert!(json::write_to(&mut written, report).is_ok());
            prop_assert!(json::read_from(written.as_slice(), "-".as_ref()).is_ok());
        }
        let both = compare(&a, &b).render(false);
        prop_assert!(both.lines().all(|line| line.chars().count() <= 80), "{}", both);
    }
}
