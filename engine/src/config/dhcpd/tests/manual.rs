//! Each statement and option of the manual pages is known: served, warned of or refused, and
//! nothing is ignored in silence.

use std::process::Command;

use super::super::spaces::Spaces;
use super::super::{standard, table};

/// Where Debian has them. Who tests elsewhere goes by the names that are kept.
const PAGES: [&str; 2] = ["dhcpd.conf", "dhcp-options"];

/// Options that the pages define for themselves, and slips of theirs: dhcp6. is missing.
const EXAMPLES: [&str; 4] = ["my-option", "SUNW.root-path", "nis-domain-name", "nisp-domain-name"];

/// `statement NAME`, `permission NAME` and `option NAME`, one a line.
const KEPT: &str = include_str!("manual.txt");

fn kept() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEPT.lines().filter_map(|line| line.split_once(' '))
}

/// A page without its formatting, as (section, line).
fn page(name: &str) -> Option<Vec<(String, String)>> {
    let path = format!("/usr/share/man/man5/{name}.5.gz");
    let output =
        Command::new("zcat").arg(path).output().ok().filter(|done| done.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix(".SH ") {
            section = heading.to_owned();
        }
        let example = line.strip_prefix(".B ").or_else(|| line.strip_prefix(' '));
        if let Some(line) = example.filter(|line| line.contains(';')) {
            let mut plain = line.replace("\\-", "-").replace(';', " ;");
            while let Some(at) = plain.find("\\f") {
                plain.replace_range(at..(at + 3).min(plain.len()), "");
            }
            lines.push((section.clone(), plain));
        }
    }
    Some(lines)
}

/// What a page shows.
fn shown(name: &str) -> Option<Vec<(&'static str, String)>> {
    let mut names = Vec::new();
    for (section, line) in page(name)? {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let reference = section.starts_with("REFERENCE: ") || section.starts_with("ALLOW DENY");
        let is_name = first.len() > 1
            && first
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        match first {
            "option" => names.push(("option", second.to_owned())),
            "allow" | "deny" | "ignore" if reference => {
                names.push(("permission", second.to_owned()))
            }
            "not" => {}
            _ if reference && is_name => names.push(("statement", first.to_owned())),
            _ => {}
        }
    }
    Some(names)
}

#[test]
fn every_name_of_the_manual_is_known() {
    let spaces = Spaces::standard();
    let mut count = 0;
    for (kind, name) in kept() {
        count += 1;
        let known = match kind {
            "statement" => table::statement(name).or_else(|| table::parameter(name)).is_some(),
            "permission" => table::permission(name).is_some(),
            "option" => {
                let (space, option) = name.split_once('.').unwrap_or((standard::DHCP, name));
                spaces.named(space).is_ok_and(|space| spaces.option(space, option).is_ok())
            }
            other => panic!("{other}"),
        };
        assert!(known, "{kind} {name}");
    }
    assert!(count > 200, "{count}");
}

#[test]
fn the_names_that_are_kept_are_those_of_the_manual() {
    for name in PAGES {
        let Some(shown) = shown(name) else { continue };
        assert!(shown.len() > 50, "{name}: {}", shown.len());
        for (kind, name) in shown {
            let is_known = kept().any(|kept| kept == (kind, &*name)) || EXAMPLES.contains(&&*name);
            assert!(is_known, "the manual has {kind} {name}: add it to manual.txt");
        }
    }
}
