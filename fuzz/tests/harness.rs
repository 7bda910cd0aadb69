//! The harness finds faults, and a bounded run of every target finds none.

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fuzz")).args(arguments).output().expect("it runs")
}

#[test]
fn a_bounded_run_finds_no_fault() {
    for target in ["dhcpd-conf", "toml", "expressions", "lease-files", "omapi"] {
        let Output { status, stdout, stderr } = fuzz(&[target, "--cases", "150"]);
        let [out, errors] =
            [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(status.success() && out.contains("0 to 149: no fault"), "{out}{errors}");
    }
}

#[test]
fn faults_are_found_and_named_by_their_case() {
    for (target, longest, how) in [
        ("fault-panic", "600", "signal 6"),
        ("fault-memory", "600", "signal 6"),
        ("fault-stack", "600", "signal 6"),
        ("fault-time", "1", "takes more than 1 s"),
    ] {
        let Output { status, stdout, .. } = fuzz(&[target, "--longest", longest]);
        let out = String::from_utf8_lossy(&stdout).into_owned();
        assert_eq!(status.code(), Some(1), "{out}");
        assert!(out.contains(how) && out.contains("--case "), "{target}: {out}");
        let case = out.split("case ").nth(1).unwrap().split(' ').next().unwrap();
        let again = fuzz(&[target, "--longest", longest, "--case", case, "--cases", "1"]);
        assert_eq!(again.status.code(), Some(1), "{target}: the same case again");
    }
}
