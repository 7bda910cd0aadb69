//! Rewriting of file names, with the rules of tftpd-hpa's map file.
//!
//! The operations and escapes are those of tftpd(8), "FILENAME REMAPPING" (tftp-hpa 5.3): `r`
//! replace, `g` until nothing matches, `gg` once over the whole name, `i` ignore case, `e` end
//! after this rule, `E` end if the result can be opened, else undo the replacement, `s` start over,
//! `a` refuse, `j` jump to the label in the replacement, `~` when the pattern does not match, `G`
//! and `P` for reads and writes only, `4` and `6` for one address family only; an operation `:name`
//! is a label. In the replacement `\0` is the match and `\1` to `\9` its groups, `\i` and `\x` the
//! client's address as text and as hexadecimal digits, `\U`, `\L` and `\E` upper case, lower case
//! and neither.
//!
//! Patterns are those of the regex crate. They differ from POSIX extended expressions in two ways:
//! of alternatives the first that matches is taken, not the longest, and a pattern has no back
//! references.

use std::net::IpAddr;

use regex::bytes::{Captures, Regex, RegexBuilder};
use thiserror::Error;

use crate::config::MapRule;

/// Rules applied to one name at most, as in tftpd-hpa: `s` and `j` could go on for ever.
const MAX_STEPS: usize = 4096;
/// The longest result in bytes: PATH_MAX.
const MAX_NAME: usize = 4096;
/// Bytes of a compiled pattern at most.
const PATTERN_SIZE: usize = 1 << 20;

/// An invalid rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("map rule {}: {problem}", .index + 1)]
pub struct MapError {
    /// Which rule, counting from 0.
    pub index: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Why the rules give no name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// A rule `a` matched.
    Denied,
    /// The rules do not end, or the name grows too long.
    Endless,
}

/// The client of a request, and whether it wants to write.
#[derive(Copy, Clone, Debug)]
pub(super) struct Requester {
    pub(super) address: IpAddr,
    pub(super) writes: bool,
}

/// Compiled rules.
#[derive(Clone, Debug, Default)]
pub struct Map {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Regex,
    replacement: Vec<Part>,
    inverse: bool,
    action: Action,
    then: Then,
    /// `G` and `P`.
    reads_only: bool,
    writes_only: bool,
    /// `4` and `6`.
    ipv4_only: bool,
    ipv6_only: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Action {
    Nothing,
    Refuse,
    Replace(Extent),
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Extent {
    Once,
    UntilNone,
    Everywhere,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Then {
    GoOn,
    End,
    EndIfFound,
    StartOver,
    /// Index of the rule behind the label.
    Jump(usize),
}

/// A piece of a replacement.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
    Address,
    HexAddress,
    Case(Case),
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Case {
    AsIs,
    Upper,
    Lower,
}

impl Map {
    /// Compiles the rules of a configuration.
    ///
    /// # Errors
    /// [`MapError`] with the first rule that is wrong.
    pub fn new(rules: &[MapRule]) -> Result<Self, MapError> {
        let mut labels = Vec::new();
        let mut index = 0;
        for rule in rules {
            match rule.operation.strip_prefix(':') {
                Some(label) => labels.push((label, index)),
                None => index += 1,
            }
        }
        let compiled =
            rules.iter().enumerate().filter(|(_, rule)| !rule.operation.starts_with(':')).map(
                |(index, rule)| {
                    Rule::new(rule, &labels).map_err(|problem| MapError { index, problem })
                },
            );
        Ok(Self { rules: compiled.collect::<Result<_, _>>()? })
    }

    /// Applies the rules to `name`. For rules `E`, `found` returns whether a name can be opened.
    pub(super) fn apply(
        &self,
        name: &[u8],
        requester: Requester,
        mut found: impl FnMut(&[u8]) -> bool,
    ) -> Result<Vec<u8>, Refusal> {
        let mut name = name.to_vec();
        let mut at = 0;
        for _ in 0..MAX_STEPS {
            let Some(rule) = self.rules.get(at) else { return Ok(name) };
            at += 1;
            if !rule.concerns(requester) || rule.pattern.is_match(&name) == rule.inverse {
                continue;
            }
            let before = match rule.action {
                Action::Nothing => None,
                Action::Refuse => return Err(Refusal::Denied),
                Action::Replace(extent) => {
                    let new = rule.replace(&name, extent, requester)?;
                    Some(std::mem::replace(&mut name, new))
                }
            };
            match rule.then {
                Then::GoOn => {}
                Then::End => return Ok(name),
                Then::EndIfFound if found(&name) => return Ok(name),
                Then::EndIfFound => name = before.unwrap_or(name),
                Then::StartOver => at = 0,
                Then::Jump(to) => at = to,
            }
        }
        Err(Refusal::Endless)
    }
}

impl Rule {
    fn new(rule: &MapRule, labels: &[(&str, usize)]) -> Result<Self, String> {
        let operation = rule.operation.as_str();
        let unknown = |letter: &char| !"rgieEsajGP46~".contains(*letter);
        if let Some(letter) = operation.chars().find(unknown) {
            return Err(format!(
                "operation {operation:?} has the letter {letter:?}; known are \
                 r g i e E s a j G P 4 6 ~"
            ));
        }
        for pair in ["r~", "ra", "rj", "aj", "as", "ej", "ea", "es", "eE", "Ej", "Ea", "Es", "sj"] {
            if pair.chars().all(|letter| operation.contains(letter)) {
                return Err(format!(
                    "operation {operation:?} has both letters of {pair:?}: take one of them away"
                ));
            }
        }
        let has = |letter: char| operation.contains(letter);
        let pattern = expression(&rule.pattern);
        let pattern = RegexBuilder::new(&pattern)
            .case_insensitive(has('i'))
            .unicode(false)
            .size_limit(PATTERN_SIZE)
            .build()
            .map_err(|error| format!("pattern {pattern:?}: {error}"))?;
        let action = match operation.matches('g').count() {
            _ if has('a') => Action::Refuse,
            _ if !has('r') => Action::Nothing,
            0 => Action::Replace(Extent::Once),
            1 => Action::Replace(Extent::UntilNone),
            _ => Action::Replace(Extent::Everywhere),
        };
        let then = if has('j') {
            let wanted = &rule.replacement;
            let label = labels.iter().find(|(label, _)| label.as_bytes() == wanted);
            let (_, to) = label.ok_or_else(|| {
                let wanted = wanted.escape_ascii();
                format!("no label \"{wanted}\"; add a rule with the operation \":{wanted}\"")
            })?;
            Then::Jump(*to)
        } else if has('s') {
            Then::StartOver
        } else if has('E') {
            Then::EndIfFound
        } else if has('e') {
            Then::End
        } else {
            Then::GoOn
        };
        Ok(Self {
            pattern,
            replacement: parts(&rule.replacement),
            inverse: has('~'),
            action,
            then,
            reads_only: has('G'),
            writes_only: has('P'),
            ipv4_only: has('4'),
            ipv6_only: has('6'),
        })
    }

    fn concerns(&self, requester: Requester) -> bool {
        !(self.reads_only && requester.writes
            || self.writes_only && !requester.writes
            || self.ipv4_only && !requester.address.is_ipv4()
            || self.ipv6_only && !requester.address.is_ipv6())
    }

    fn replace(
        &self,
        name: &[u8],
        extent: Extent,
        requester: Requester,
    ) -> Result<Vec<u8>, Refusal> {
        let all = |name: &[u8], limit: usize| {
            let with = |found: &Captures<'_>| self.expand(found, requester);
            self.pattern.replacen(name, limit, with).into_owned()
        };
        let mut new = match extent {
            Extent::Once | Extent::UntilNone => all(name, 1),
            Extent::Everywhere => all(name, 0),
        };
        if extent == Extent::UntilNone {
            let mut steps = 1;
            while self.pattern.is_match(&new) {
                steps += 1;
                if steps > MAX_STEPS || new.len() > MAX_NAME {
                    return Err(Refusal::Endless);
                }
                new = all(&new, 1);
            }
        }
        if new.len() > MAX_NAME { Err(Refusal::Endless) } else { Ok(new) }
    }

    fn expand(&self, found: &Captures<'_>, requester: Requester) -> Vec<u8> {
        let mut out = Vec::new();
        let mut case = Case::AsIs;
        for part in &self.replacement {
            let text = match part {
                Part::Text(text) => text.clone(),
                Part::Group(group) => {
                    found.get(*group).map_or_else(Vec::new, |m| m.as_bytes().to_vec())
                }
                Part::Address => requester.address.to_string().into_bytes(),
                Part::HexAddress => hexadecimal(requester.address).into_bytes(),
                Part::Case(new) => {
                    case = *new;
                    continue;
                }
            };
            out.extend(text.iter().map(|byte| match case {
                Case::AsIs => *byte,
                Case::Upper => byte.to_ascii_uppercase(),
                Case::Lower => byte.to_ascii_lowercase(),
            }));
        }
        out
    }
}

fn hexadecimal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", u32::from(address)),
        IpAddr::V6(address) => format!("{:032X}", u128::from(address)),
    }
}

/// A pattern as the regex crate reads it, which takes UTF-8 only: other bytes as `\xNN`.
fn expression(pattern: &[u8]) -> String {
    let mut text = String::new();
    for chunk in pattern.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // A backslash before such a byte means the byte.
            if text.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1 {
                text.pop();
            }
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

/// Parses a replacement. A backslash before a character without a meaning gives that character.
fn parts(text: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut plain = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let part = match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(digit @ b'0'..=b'9')) => Part::Group(usize::from(digit - b'0')),
            (b'\\', Some(b'i')) => Part::Address,
            (b'\\', Some(b'x')) => Part::HexAddress,
            (b'\\', Some(b'U')) => Part::Case(Case::Upper),
            (b'\\', Some(b'L')) => Part::Case(Case::Lower),
            (b'\\', Some(b'E')) => Part::Case(Case::AsIs),
            (byte, escaped) => {
                plain.push(escaped.unwrap_or(byte));
                continue;
            }
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(part);
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const READER: Requester =
        Requester { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 169)), writes: false };

    fn rule(line: &str) -> MapRule {
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        MapRule::new(next(), next(), next())
    }

    fn map(lines: &[&str]) -> Map {
        Map::new(&lines.iter().map(|line| rule(line)).collect::<Vec<_>>()).unwrap()
    }

    fn apply(lines: &[&str], name: &str) -> Result<String, Refusal> {
        let found = |name: &[u8]| name.starts_with(b"here/");
        let new = map(lines).apply(name.as_bytes(), READER, found)?;
        Ok(String::from_utf8(new).unwrap())
    }

    #[test]
    fn the_examples_of_the_manual() {
        // Backslashes to slashes, a drive letter off, everything below one directory.
        let lines = [r"gg \\ /", "ri ^[a-z]:", "rg ^/", "r ^[^/] boot/\\0"];
        assert_eq!(apply(&lines[1..], "C:/x").unwrap(), "boot/x");
        assert_eq!(apply(&[r"rgg \\ /"], r"\EFI\Boot\x").unwrap(), "/EFI/Boot/x");
        assert_eq!(apply(&["rg ^/"], "///x").unwrap(), "x");
    }

    #[test]
    fn escapes_of_the_replacement() {
        assert_eq!(apply(&[r"r ^(.*)/(.*)$ \2-\1"], "a/b").unwrap(), "b-a");
        assert_eq!(apply(&[r"r ^ \i/"], "f").unwrap(), "192.0.2.169/f");
        assert_eq!(apply(&[r"r ^ \x/"], "f").unwrap(), "C00002A9/f");
        assert_eq!(apply(&[r"r ^.*$ \U\0\E.\L\0X"], "aB").unwrap(), "AB.abx");
        assert_eq!(apply(&[r"r b \\\#\9"], "abc").unwrap(), r"a\#c");
        assert_eq!(hexadecimal("2001:db8::1".parse().unwrap()), "20010DB8000000000000000000000001");
    }

    #[test]
    fn rules_end_start_over_refuse_and_jump() {
        assert_eq!(apply(&["re a b", "r b c"], "a").unwrap(), "b");
        assert_eq!(apply(&["r a b", "r b c"], "a").unwrap(), "c");
        assert_eq!(apply(&["r c d", "rs a c"], "a").unwrap(), "d");
        assert_eq!(apply(&["a ^secret"], "secret/x"), Err(Refusal::Denied));
        assert_eq!(apply(&["a~ ^public"], "public/x").unwrap(), "public/x");
        assert_eq!(apply(&["a~ ^public"], "secret"), Err(Refusal::Denied));
        assert_eq!(apply(&["j ^x end", "r ^ y", ":end", "r $ z"], "x").unwrap(), "xz");
        assert_eq!(apply(&["j ^x end", "r ^ y", ":end", "r $ z"], "w").unwrap(), "ywz");
    }

    #[test]
    fn a_guess_is_undone_when_no_file_is_there() {
        let lines = ["rE ^ here/", "r ^ other/"];
        assert_eq!(apply(&lines, "a").unwrap(), "here/a");
        assert_eq!(apply(&["rE ^ there/", "r ^ other/"], "a").unwrap(), "other/a");
    }

    #[test]
    fn names_and_rules_are_bytes() {
        let rule = |operation: &str, pattern: &[u8], replacement: &[u8]| {
            MapRule::new(operation.to_owned(), pattern, replacement)
        };
        let apply = |rule: MapRule, name: &[u8]| {
            Map::new(&[rule]).unwrap().apply(name, READER, |_| false).unwrap()
        };
        assert_eq!(
            apply(rule("r", b"\xe9t\xe9", b"\xfc-\\0"), b"l'\xe9t\xe9"),
            b"l'\xfc-\xe9t\xe9"
        );
        assert_eq!(apply(rule("rgg", b"[\xe8\xe9]", b"e"), b"\xe8\xe9\xea"), b"ee\xea");
        assert_eq!(apply(rule("r", b"\\\xe9", b"e"), b"\xe9\xe9"), b"e\xe9");
        assert_eq!(apply(rule("r", br"\\x", b"/"), br"a\x"), b"a/");
        assert_eq!(apply(rule("r", b"\\\\\xe9", b"/"), b"\\\xe9"), b"/");
        assert_eq!(apply(rule("r", "\u{e9}".as_bytes(), b"e"), "\u{e9}".as_bytes()), b"e");
    }

    #[test]
    fn rules_for_reads_writes_and_families() {
        let lines = ["rG ^ g", "rP ^ p", "r4 ^ 4", "r6 ^ 6"];
        assert_eq!(apply(&lines, "-").unwrap(), "4g-");
        let writer = Requester { address: "::1".parse().unwrap(), writes: true };
        assert_eq!(map(&lines).apply(b"-", writer, |_| false).unwrap(), b"6p-");
    }

    #[test]
    fn rules_that_go_round_are_stopped() {
        assert_eq!(apply(&["s ^"], "a"), Err(Refusal::Endless));
        assert_eq!(apply(&["rg a aa"], "a"), Err(Refusal::Endless));
        assert_eq!(apply(&[":x", "j ^ x"], "a"), Err(Refusal::Endless));
    }

    #[test]
    fn wrong_rules_are_named() {
        let error = |line: &str| Map::new(&[rule("r a b"), rule(line)]).unwrap_err().to_string();
        assert!(error("rq a").contains("rule 2") && error("rq a").contains("'q'"));
        assert!(error("r~ a").contains("\"r~\""));
        assert!(error("r [").contains("pattern"));
        assert!(error("j a nowhere").contains(":nowhere"));
    }

    proptest! {
        #[test]
        fn nothing_panics(
            rules in prop::collection::vec(
                ("[rgieEsaGP46~]{0,4}", "[a-c.*()|^$]{0,6}", r"[ab\\0-9ULEix]{0,8}"),
                0..4,
            ),
            name in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let rules = rules.into_iter().map(|(operation, pattern, replacement)| {
                MapRule::new(operation, pattern, replacement)
            });
            let rules: Vec<MapRule> = rules.collect();
            if let Ok(map) = Map::new(&rules)
                && let Ok(new) = map.apply(&name, READER, |_| false)
            {
                prop_assert!(new.len() <= MAX_NAME.max(name.len()));
            }
        }
    }
}
