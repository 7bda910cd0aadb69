//! Files that are wrong, or look so, and what is said of each, to the letter. `broken.txt` and
//! `warned.txt` have a title, a file, and the rendered problems for each case.

use std::path::Path;

use super::super::{Problem, parse};

fn told(file: &str) -> String {
    match parse(Path::new("bootstorm.toml"), file.as_bytes()) {
        Ok(config) => config.warnings.iter().map(|warning| warning.render(false)).collect(),
        Err(error) => error.render(false),
    }
}

fn compare(cases: &str) {
    let mut now = String::new();
    for case in cases.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (file, _) = rest.split_once("---\n").unwrap();
        now.push_str(&format!("=== {title}\n{file}---\n{}", told(file)));
    }
    // The whole is printed, so that it can be read, and taken over if it is right.
    assert!(now == cases, "what is said now:\n{now}");
}

const BROKEN: &str = include_str!("broken.txt");
const WARNED: &str = include_str!("warned.txt");

/// The file of each case.
pub(super) fn files() -> impl Iterator<Item = &'static str> {
    let cases = [BROKEN, WARNED].into_iter().flat_map(|cases| cases.split("=== ").skip(1));
    cases.map(|case| case.split_once('\n').unwrap().1.split_once("---\n").unwrap().0)
}

#[test]
fn every_error_shows_its_line_and_the_way_out() {
    compare(BROKEN);
}

#[test]
fn what_looks_like_a_slip_is_a_warning() {
    compare(WARNED);
}

#[test]
fn problems_say_where_they_are() {
    let text = "[dhcp]\nauthoritativ = true\n[tftp]\n";
    let error = parse(Path::new("/etc/b.toml"), text.as_bytes()).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(Problem::place).collect();
    let file = Path::new("/etc/b.toml");
    assert_eq!(places, [Some((file, 2, 1)), Some((file, 3, 1))]);
    assert!(error.problems().iter().all(|problem| !problem.is_warning()));
    assert_eq!(
        error.to_string(),
        "/etc/b.toml:2:1: [dhcp] has no key `authoritativ` (the first of 2 errors)"
    );
}

#[test]
fn columns_count_characters_and_places_follow_windows_line_ends() {
    let error = parse(Path::new("b.toml"), "[log]\r\n\"ä\" = 1\r\nlevel = 'ü' \r\n".as_bytes());
    let error = error.unwrap_err();
    let places: Vec<_> =
        error.problems().iter().filter_map(Problem::place).map(|(_, l, c)| (l, c)).collect();
    assert_eq!(places, [(2, 1), (3, 9)]);
    assert!(error.render(false).contains("level = 'ü'"), "{}", error.render(false));
}

#[test]
fn colour_only_where_it_is_wanted() {
    let error = parse(Path::new("b.toml"), b"").unwrap_err();
    assert!(!error.render(false).contains('\u{1b}'));
    assert!(error.render(true).contains('\u{1b}'));
}

#[test]
fn what_is_no_text_is_told_so() {
    let error = parse(Path::new("b.toml"), b"[log]\nlevel = \"\xff\"\n").unwrap_err();
    assert_eq!(error.to_string(), "b.toml:2:10: this is not UTF-8");
}

#[test]
fn what_a_terminal_takes_for_a_command_is_not_shown() {
    for text in [
        &b"\x7fELF\x1b[2J\x1b]0;title\x07 \xc2\x9b2J\xe2\x80\xae\rx \xff"[..],
        b"[log]\n\"\\u001b[2J\\u0007\\u009b2J\" = 1\nlevel = \"\\u001b[2J\"\n",
        b"[dhcp]\n\x1b[2J\n",
        b"include = \"\\u001b[2J.toml\"\n",
    ] {
        let error = parse(Path::new("b.toml"), text).unwrap_err();
        for shown in [error.render(false), error.to_string()] {
            let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
            assert!(shown.chars().all(is_plain), "{shown:?}");
        }
    }
    // Places in a line stay what they are.
    let error = parse(Path::new("b.toml"), b"\x1b \xc2\x9b = 1\n").unwrap_err();
    assert!(error.render(false).contains("? \u{bf} = 1"), "{}", error.render(false));
}

#[test]
fn a_thousand_errors_are_counted_and_not_all_shown() {
    let text = format!("[dhcp]\n{}", (0..1000).map(|n| format!("k{n} = 1\n")).collect::<String>());
    let error = parse(Path::new("b.toml"), text.as_bytes()).unwrap_err();
    assert_eq!(error.problems().len(), 1000);
    assert!(error.render(false).ends_with("... and 950 more\n"));
}
