//! What a reader of a report is told.

mod fixture;
mod odd;
mod page;
mod wellformed;

use std::path::Path;

use bootstorm_loadgen::report::compare::{Change, compare};
use bootstorm_loadgen::report::*;

#[test]
fn a_run_that_went_well_says_so_in_a_sentence() {
    let mut report = fixture::good();
    report.machines.all_up_seconds = Some(73.2);
    assert_eq!(
        headline(&report),
        "All 10,000 machines came up within 74 s; no address was given twice, nobody gave up."
    );
    report.machines.all_up_seconds = Some(74.0);
    assert!(headline(&report).contains("within 74 s"));
    report.machines.all_up_seconds = Some(4.23);
    assert!(headline(&report).contains("within 4.3 s"));
    report.machines.retried_boots = 12;
    assert!(
        headline(&report)
            .ends_with("nobody gave up, but 12 boots failed at first and were begun again.")
    );
    report.machines.retried_boots = 0;
    report.dhcp.acks = 0;
    assert_eq!(headline(&report), "All 10,000 machines came up within 4.3 s; nobody gave up.");
    report.dhcp.acks = 9_990;
    report.machines.up = 9_990;
    report.machines.given_up = 10;
    assert_eq!(
        headline(&report),
        "9,990 of 10,000 machines came up; no address was given twice; 10 gave up, which the \
         limits allow."
    );
}

#[test]
fn a_miss_names_what_was_missed() {
    assert_eq!(
        headline(&fixture::bad()),
        "MISSED: 38 of 10,000 machines gave up (31 no OFFER, 7 TFTP silent: boot.img); 3 addresses \
         were given twice; \
         1 other violation (content); p99 was 7.1s (limit <= 500ms)."
    );
    let mut report = fixture::good();
    report.verdict = Verdict::Missed;
    assert_eq!(headline(&report), "MISSED: a limit did not hold.");
    report.slo[3] = fixture::slo("boot-p99", "<= 60s", "73.1s", false);
    report.interrupted = true;
    assert_eq!(
        headline(&report),
        "MISSED, and interrupted after 75 s: boot-p99 was 73.1s (limit <= 60s)."
    );
    report.slo.clear();
    report.machines.up = 9_000;
    report.machines.unfinished = 400;
    report.machines.not_started = 600;
    assert!(
        headline(&report).ends_with("1,000 of 10,000 machines had not come up when the run ended.")
    );
    report.machines.given_up = 15;
    report.giveups = ["a", "b", "c", "d", "e"].map(|reason| fixture::give_up(reason, 3)).into();
    assert!(headline(&report).contains("15 of 10,000 machines gave up (3 a, 3 b, 3 c and 2 more)"));
}

#[test]
fn an_invalid_run_says_nothing_about_the_server() {
    let mut report = fixture::invalid();
    assert_eq!(
        headline(&report),
        "INVALID: the generator lost 312 answers itself (and 1 more), so this says nothing about \
         the server."
    );
    report.invalid_because = vec!["the clock was set.".to_owned()];
    assert_eq!(
        headline(&report),
        "INVALID: the clock was set, so this says nothing about the server."
    );
    report.invalid_because.clear();
    assert!(headline(&report).starts_with("INVALID: the generator could not keep up, so"));
}

#[test]
fn what_was_cut_short_claims_no_more_than_it_saw() {
    let mut report = fixture::good();
    report.interrupted = true;
    report.machines.up = 3_000;
    report.run.seconds = 12.0;
    assert_eq!(
        headline(&report),
        "INTERRUPTED after 12 s: 3,000 of 10,000 machines up, and nothing was wrong until then."
    );
    assert_eq!(headline(&fixture::empty()), "No machine was played, so there is nothing to tell.");
}

#[test]
fn the_summary_fits_a_terminal_and_cannot_steer_it() {
    let reports = [
        fixture::good(),
        fixture::bad(),
        fixture::invalid(),
        fixture::empty(),
        fixture::tiny(),
        fixture::hostile(),
    ];
    for report in &reports {
        let text = text::render(report, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text}");
        let coloured = text::render(report, true);
        assert!(coloured.contains("\u{1b}["));
        assert!(text.ends_with('\n'));
        for other in &reports {
            let both = compare(report, other).render(false);
            assert!(both.lines().all(|line| line.chars().count() <= 80), "{both}");
            assert!(both.chars().all(|letter| letter == '\n' || !letter.is_control()), "{both}");
        }
    }
}

#[test]
fn the_summary_has_the_first_example_of_each_violation() {
    let text = text::render(&fixture::bad(), false);
    for words in [
        "3 duplicate-address",
        "machine 4711 (02:bb:00:00:12:67)",
        "1 content",
        "violations.pcapng",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(!text.contains("machine 4802"));
    assert!(text.contains("kept up"));
    let invalid = text::render(&fixture::invalid(), false);
    assert!(invalid.contains("312 datagrams dropped by the kernel"));
}

#[test]
fn every_report_says_which_loop_it_was_and_what_failed() {
    let mut report = fixture::good();
    let all = WithFailures { p50: Some(3.0), p90: Some(4.0), ..WithFailures::default() };
    let offers =
        Quantiles { count: 95, failed: 5, with_failures: Some(all), ..Quantiles::default() };
    report.latency.insert("offer".to_owned(), offers);
    for (load_loop, words) in [(Loop::Open, "open loop"), (Loop::Closed, "closed loop")] {
        report.run.load_loop = Some(load_loop);
        let text = text::render(&report, false);
        let line = text.lines().find(|line| line.starts_with("DISCOVER to OFFER")).unwrap();
        assert!(line.contains(" 95 ") && line.contains(" 5 ") && line.contains("4 ms"), "{line}");
        assert_eq!(line.matches("never").count(), 3, "{line}");
        let page = html::render(&report);
        let mut document = Vec::new();
        json::write_to(&mut document, &report).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert!(text.contains(words) && page.contains(words), "{words}");
        assert!(words.starts_with(value["run"]["loop"].as_str().unwrap()), "{words}");
        assert!(page.contains("<td>never</td>"));
        let offer = &value["latency"]["offer"];
        assert_eq!((&offer["failed"], &offer["with_failures"]["p99"]), (&5.into(), &().into()));
    }
}

#[test]
fn the_generators_own_latency_is_told() {
    let mut report = fixture::good();
    let own = OwnLatency { answers: 1000, p50: 0.0421, p99: 0.31, max: 2.5 };
    report.generator.own_latency = Some(own);
    for told in [text::render(&report, false), html::render(&report)] {
        assert!(told.contains("42.1 µs") && told.contains("310 µs"), "{told}");
        assert!(told.contains("2.5 ms") && told.contains("bare responder"), "{told}");
    }
    report.generator.own_latency = None;
    assert!(!text::render(&report, false).contains("bare responder"));
}

#[test]
fn a_report_without_loop_and_failures_is_still_read() {
    let mut document = Vec::new();
    json::write_to(&mut document, &fixture::good()).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&document).unwrap();
    value["run"].as_object_mut().unwrap().remove("loop");
    let offer = value["latency"]["offer"].as_object_mut().unwrap();
    offer.remove("failed");
    offer.remove("with_failures");
    let old = json::read_from(value.to_string().as_bytes(), Path::new("old.json")).unwrap();
    let offer = &old.latency["offer"];
    assert_eq!(offer.with_failures().p99, Some(offer.p99));
    assert_eq!(old.run.load_loop, None);
    assert!(!text::render(&old, false).contains("loop"));
}

#[test]
fn a_comparison_knows_which_way_is_better() {
    let (good, bad) = (fixture::good(), fixture::bad());
    let change = |of: &compare::Comparison, name: &str| {
        of.figures.iter().find(|figure| figure.name == name).map(|figure| figure.change)
    };
    let worse = compare(&good, &bad);
    assert_eq!(change(&worse, "machines up"), Some(Change::Worse));
    assert_eq!(change(&worse, "machines given up"), Some(Change::Worse));
    assert_eq!(change(&worse, "offer 99 %"), Some(Change::Worse));
    assert_eq!(change(&worse, "duplicate-address"), Some(Change::Worse));
    assert_eq!(change(&worse, "TFTP"), Some(Change::Same));
    assert_eq!(change(&worse, "all up after"), Some(Change::Unknown));
    let better = compare(&bad, &good);
    assert_eq!(change(&better, "machines up"), Some(Change::Better));
    assert_eq!(change(&better, "offer 99 %"), Some(Change::Better));
    assert_eq!(better.worse().count(), 0);
    let mut slow = good.clone();
    slow.tftp.megabytes_per_second /= 2.0;
    assert_eq!(change(&compare(&good, &slow), "TFTP"), Some(Change::Worse));
    assert_eq!(change(&compare(&slow, &good), "TFTP"), Some(Change::Better));
    let same = compare(&good, &good);
    assert!(same.warnings.is_empty());
    assert!(same.figures.iter().all(|figure| figure.change == Change::Same));
    assert!(same.render(false).contains("Nothing differs by more"));
}

#[test]
fn runs_that_are_no_pair_are_called_so() {
    let good = fixture::good();
    let mut other = fixture::invalid();
    other.run.scenario = "trickle".to_owned();
    other.run.seed = 43;
    other.run.schedule = "0".to_owned();
    other.run.engine = "mmsg".to_owned();
    other.machines.total = 5_000;
    other.interrupted = true;
    other.latency.remove("boot");
    other.files[0].sha256 = Some("00".to_owned());
    let warnings = compare(&good, &other).warnings;
    for words in [
        "B is invalid",
        "interrupted",
        "scenario",
        "seed",
        "schedule",
        "engine",
        "machines",
        "only A timed boot",
        "boot.img",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{words} in {warnings:?}");
    }
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.json");
    for report in [fixture::bad(), fixture::empty(), fixture::hostile()] {
        json::write(&path, &report).unwrap();
        let read = json::read(&path).unwrap();
        assert_eq!(html::render(&read), html::render(&report));
        assert_eq!(text::render(&read, false), text::render(&report, false));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn numbers_that_json_cannot_say_do_not_make_a_report_unreadable() {
    let mut report = fixture::good();
    report.run.seconds = f64::NAN;
    report.timeline.latency_bounds[0] = f64::INFINITY;
    let mut text = Vec::new();
    json::write_to(&mut text, &report).unwrap();
    let read = json::read_from(text.as_slice(), "-".as_ref()).unwrap();
    assert_eq!(read.run.seconds, 0.0);
    assert_eq!(read.notes, ["2 figures were no finite numbers and are written as 0"]);
}

#[test]
fn what_is_no_report_is_refused_with_name_cause_and_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.json");
    let good = serde_json::to_string(&fixture::empty()).unwrap();
    for (text, words) in [
        ("", &["no JSON", "line 1", "--json"] as &[&str]),
        (&good[..good.len() / 2], &["no JSON", "whole"]),
        ("{}", &["schema none", "bootstorm-load/1", "--json"]),
        ("[1]", &["schema none"]),
        ("{\"schema\":7}", &["no text"]),
        ("{\"schema\":\"other/1\"}", &["\"other/1\"", "bootstorm-load/1"]),
        ("{\"schema\":\"bootstorm-load/9\"}", &["bootstorm-load/9", "later"]),
        ("{\"schema\":\"bootstorm-load/0\"}", &["bootstorm-load/0", "again"]),
        ("{\"schema\":\"bootstorm-load/1\"}", &["no whole report", "missing field", "anew"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = json::read(&path).unwrap_err().to_string();
        for word in ["run.json", "; "].iter().chain(words) {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
    let nowhere = directory.path().join("no/such/run.json");
    for error in
        [json::read(&nowhere).unwrap_err(), json::write(&nowhere, &fixture::empty()).unwrap_err()]
    {
        let error = error.to_string();
        assert!(error.contains("no/such/run.json") && error.contains("; name a file"), "{error}");
    }
}

#[test]
fn a_report_with_fields_of_a_later_version_is_read() {
    let mut value = serde_json::to_value(fixture::good()).unwrap();
    value["impairment"] = "fine".into();
    value["dhcp"]["impairment"] = 3.into();
    let text = serde_json::to_vec(&value).unwrap();
    assert!(json::read_from(text.as_slice(), "-".as_ref()).is_ok());
}
