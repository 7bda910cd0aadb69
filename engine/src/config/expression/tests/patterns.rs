//! Patterns as POSIX has them.

use regex::bytes::RegexBuilder;

use super::super::pattern::Pattern;

fn found(pattern: &str, value: &[u8]) -> bool {
    let pattern = Pattern::new(pattern.as_bytes(), false);
    pattern.unwrap_or_else(|fault| panic!("{}", fault.message)).is_in(value)
}

#[test]
fn extended_regular_expressions_of_posix() {
    for (pattern, value, wanted) in [
        ("", "", true),
        ("^$", "", true),
        ("^$", "a", false),
        ("b", "abc", true),
        ("^b", "abc", false),
        ("c$", "abc", true),
        ("a.c", "a\nc", true),
        ("^(iPXE|PXEClient)$", "PXEClient", true),
        ("^a{2}$", "aa", true),
        ("^a{2,}$", "a", false),
        ("^a{,2}$", "", true),
        // A repetition of a repetition.
        ("^(ab)+*$", "", true),
        ("^a+?$", "", true),
        // In brackets a backslash is a character, and `]` if it comes first.
        ("^[\\d]$", "\\", true),
        ("^[\\d]$", "7", false),
        ("^[]x]+$", "x]", true),
        ("^[^]x]$", "]", false),
        ("^[a-]$", "-", true),
        ("^[[:digit:][:upper:]]+$", "A7", true),
        ("^[a&&b~~]+$", "&~", true),
        ("^[+--]$", ",", true),
        ("^\\.\\[\\\\$", ".[\\", true),
        // Letters that mean nothing behind a backslash.
        ("^\\d$", "d", true),
        ("^\\w+\\s\\W$", "a7 -", true),
        ("\\<Arch\\>", "PXE:Arch:7", true),
        ("\\<rch", "Arch", false),
        // A value ends at its NUL.
        ("^a$", "a\0b", true),
        ("b", "a\0b", false),
    ] {
        assert_eq!(found(pattern, value.as_bytes()), wanted, "{pattern} in {value:?}");
    }
    assert!(found("^\u{e9}$", "\u{e9}".as_bytes()), "bytes that are no ASCII");
    assert!(found("^.$", &[0xe9]), "a byte is a character");
    let any_case = Pattern::new(b"^pxe[a-c]$", true).unwrap();
    assert!(any_case.is_in(b"PxEB"));
}

#[test]
fn patterns_that_are_none() {
    for (pattern, part) in [
        ("(", "without its `)`"),
        (")", "without its `(`"),
        ("*a", "nothing before `*`"),
        ("a|+", "nothing before `+`"),
        ("(?i)a", "nothing before `?`"),
        ("a{", "begins no repetition"),
        ("a{3,1}", "begins no repetition"),
        ("a{256}", "begins no repetition"),
        ("[a", "without its `]`"),
        ("[z-a]", "backwards"),
        ("[[:nope:]]", "a class that does not exist"),
        ("[[.a.]]", "collating"),
        ("a\\", "ends with a backslash"),
        ("(a)\\1", "refers back"),
    ] {
        let fault = Pattern::new(pattern.as_bytes(), false).unwrap_err();
        assert!(fault.message.contains(part) && fault.help.is_some(), "{pattern}: {fault:?}");
    }
}

proptest::proptest! {
    /// Where POSIX and the regex crate agree on what a pattern means, they agree on what it finds.
    #[test]
    fn they_find_what_the_regex_crate_finds(
        pattern in "[abc.^$|]{0,6}(\\([ab|]{0,3}\\)[*+?]?)?[abc]{0,2}",
        value in "[abcd]{0,8}",
    ) {
        let regex = RegexBuilder::new(&pattern).unicode(false).dot_matches_new_line(true).build();
        if let (Ok(regex), Ok(pattern)) = (regex, Pattern::new(pattern.as_bytes(), false)) {
            proptest::prop_assert_eq!(pattern.is_in(value.as_bytes()), regex.is_match(value.as_bytes()));
        }
    }

    #[test]
    fn no_pattern_and_no_value_panics(
        pattern in proptest::collection::vec(
            proptest::prop_oneof![proptest::sample::select(&b"[](){}|*+?^$.\\-:a1,"[..]), 0..=255_u8],
            0..24,
        ),
        value in proptest::collection::vec(0..=255_u8, 0..64),
        ignore_case in proptest::bool::ANY,
    ) {
        if let Ok(pattern) = Pattern::new(&pattern, ignore_case) {
            pattern.is_in(&value);
        }
    }
}
