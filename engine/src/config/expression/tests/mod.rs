//! Expressions: what is read, what is refused and where, what they yield.

mod patterns;
mod printed;
mod statements;
mod values;

use bumpalo::Bump;

use super::super::problem::Fault;
use super::parser::{self, Vocabulary};
use super::tokens::{Token, Tokens};
use super::{Boolean, Data, Facts, Numeric, OptionPath, Value, Wrong, place};
use crate::config::statement::Key;
use crate::config::{ClassId, VariableId};

/// Options `text` (12) and `data` (60), `space.one`, every number; classes `first` and `second`.
struct Names;

/// The same, for the test of a class.
struct ClassNames;

const TEXT: OptionPath = OptionPath { code: 12, inner: None, text: true };
const DATA: OptionPath = OptionPath { code: 60, inner: None, text: false };
const ONE: OptionPath = OptionPath { code: 43, inner: Some(1), text: false };

impl Vocabulary for Names {
    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        match (space, name, name.parse()) {
            (None, "text", _) => Ok(TEXT),
            (None, "data", _) => Ok(DATA),
            (Some("space"), "one", _) => Ok(ONE),
            (None, _, Ok(code)) => Ok(OptionPath { code, inner: None, text: false }),
            _ => Err(Fault::new("there is no such option", "write its number")),
        }
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        match name {
            "first" => Ok(ClassId(0)),
            "second" => Ok(ClassId(1)),
            _ => Err(Fault::new("there is no such class", "define it")),
        }
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        let known = ["bytes", "number", "truth", "unset"].into_iter().zip(0..);
        match known.into_iter().find(|(known, _)| *known == name) {
            Some((_, id)) => Ok(VariableId(id)),
            None => Err(parser::means_nothing(name, self.option(None, name).is_ok())),
        }
    }

    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        self.option(space, name).map(|path| Key::Option(path.code))
    }

    fn host_name(&self, name: &str) -> Result<Data, Fault> {
        match name {
            "ns1.example.org" => Ok(Data::Constant([10, 1, 0, 1, 10, 1, 0, 2].into())),
            _ => Err(Fault::new("this is no name", "write one")),
        }
    }

    fn own_host_name(&self) -> Option<Box<[u8]>> {
        Some(b"boot".as_slice().into())
    }
}

impl Vocabulary for ClassNames {
    fn decides_classes(&self) -> bool {
        true
    }

    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        Names.option(space, name)
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        Names.class(name)
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        Names.variable(name)
    }

    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        Names.configured(space, name)
    }

    fn host_name(&self, name: &str) -> Result<Data, Fault> {
        Names.host_name(name)
    }

    fn own_host_name(&self) -> Option<Box<[u8]>> {
        Names.own_host_name()
    }
}

/// A machine with some options, member of the first class.
#[derive(Default)]
struct Machine<'a> {
    options: Vec<(OptionPath, &'a [u8])>,
    message: &'a [u8],
}

impl<'a> Facts<'a> for Machine<'a> {
    fn option(&self, path: OptionPath) -> Option<&'a [u8]> {
        self.options.iter().find(|(own, _)| *own == path).map(|(_, value)| *value)
    }

    fn hardware(&self) -> Option<&'a [u8]> {
        Some(b"\x01\x52\x54\x00\x00\x00\x07")
    }

    fn message(&self) -> &'a [u8] {
        self.message
    }

    fn file(&self) -> &'a [u8] {
        b"pxelinux.0\0\0garbage"
    }

    fn server_name(&self) -> &'a [u8] {
        &[0; 64]
    }

    fn is_member(&self, class: ClassId) -> bool {
        class == ClassId(0)
    }

    fn is_known(&self) -> bool {
        true
    }

    fn configured(&self, key: Key) -> Option<&'a [u8]> {
        (key == Key::Option(60)).then_some(b"sent")
    }

    fn leased_address(&self) -> Option<&'a [u8]> {
        Some(&[10, 1, 0, 77])
    }

    fn host_decl_name(&self) -> Option<&'a [u8]> {
        Some(b"n07")
    }

    fn lease_time(&self) -> Option<u64> {
        Some(3600)
    }

    fn variable(&self, variable: VariableId) -> Option<Value<'a>> {
        match variable.0 {
            0 => Some(Value::Data(b"v")),
            1 => Some(Value::Numeric(5)),
            2 => Some(Value::Boolean(true)),
            _ => None,
        }
    }
}

fn read(text: &str) -> Boolean {
    parser::condition(text, &Names, &mut Vec::new())
        .unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"))
}

/// What is wrong, and the part of the text that it is about.
fn refused(text: &str) -> (&str, String) {
    let Wrong { part, fault } = parser::condition(text, &Names, &mut Vec::new()).expect_err(text);
    assert!(fault.help.is_some(), "no way out: {}", fault.message);
    (&text[part], fault.message)
}

fn yields(text: &str, machine: &Machine<'_>) -> Option<bool> {
    read(text).evaluate(machine, &Bump::new())
}

#[test]
fn operators_bind_as_in_dhcpd() {
    for (text, same) in [
        // `and` and `or` go from left to right ...
        ("exists 1 or exists 2 and exists 3", "(exists 1 or exists 2) and exists 3"),
        // ... but a comparison takes all that follows.
        ("exists 1 and option data = 2 or exists 3", "exists 1 and (option data = 2 or exists 3)"),
        (
            "option 1 = 1 and option 2 = 2 or option 3 = 3",
            "option 1 = 1 and (option 2 = 2 or option 3 = 3)",
        ),
        ("not exists 1 and exists 2", "(not exists 1) and exists 2"),
        // Sums are weaker than comparisons, and products weaker than sums.
        ("(extract-int(hardware, 8) + 2 * 3) = 9", "((extract-int(hardware, 8) + 2) * 3) = 9"),
        ("extract-int(hardware, 8) & 1 = 1", "(extract-int(hardware, 8) & 1) = 1"),
        ("OPTION data = 1 And NOT Exists 1", "option data = 01 and not exists 1"),
    ] {
        assert_eq!(read(text), read(same), "{text}");
    }
}

#[test]
fn what_begins_with_a_digit_is_a_number_only_beside_numbers() {
    assert_eq!(read("option data = 10"), read("option data = \"\\x10\""));
    assert_eq!(read("option data = 1:a:ff"), read("option data = \"\\001\\n\\377\""));
    assert_eq!(read("option data = de"), read("option data = \"\\xde\""));
    assert_eq!(
        read("extract-int(hardware, 8) = 10"),
        read("extract-int(hardware, 8) = extract-int(a, 8)")
    );
    assert_eq!(
        read("substring(option data, 10, 10) = 10"),
        read("substring(option data,10,10)=10")
    );
}

#[test]
fn what_does_not_depend_on_the_message_is_worked_out() {
    for (text, value) in [
        ("\"a\" = \"b\"", Boolean::Constant(false)),
        ("1 = 1", Boolean::Constant(true)),
        ("substring(\"PXEClient\", 0, 3) ~= \"^PXE$\"", Boolean::Constant(true)),
        ("not (1 = 2) and null = null", Boolean::Constant(true)),
        ("null = 1 and exists 1", Boolean::Null),
        ("exists 1 or 1 = 1", Boolean::Constant(true)),
        ("binary-to-ascii(16, 8, \":\", 1:a:ff) = \"1:a:ff\"", Boolean::Constant(true)),
        ("null ~= \"a\"", Boolean::Null),
    ] {
        assert_eq!(read(text), value, "{text}");
    }
    assert_eq!(read("concat(\"a\", 62) = option data"), read("\"ab\" = option data"));
}

#[test]
fn errors_name_the_part_that_is_wrong() {
    for (text, part, message) in [
        ("", "", "a value must stand here, not the end"),
        ("option data", "option data", "it yields bytes and must yield true or false"),
        ("option nothing = 1", "nothing", "there is no such option"),
        ("exists space.two", "space.two", "there is no such option"),
        ("check \"third\"", "\"third\"", "there is no such class"),
        ("option data = \"a", "\"a", "this text has no end"),
        ("option data = \"\\x4\"", "\\x4\"", "this escape is not complete"),
        ("option data = 100", "100", "this must be a byte, not `100`"),
        ("option data = 1:", "", "this must be a byte, not the end"),
        ("(exists 1", "", "there must be a `)`, not the end"),
        ("exists 1;", ";", "`;` does not belong here"),
        ("exists 1 exists 2", "exists", "`exists` does not belong here"),
        ("subtring(option data, 0, 1) = 1", "subtring", "there is no function `subtring`"),
        ("data = 1", "data", "`data` is an option, and stands here without `option`"),
        ("bytez = 1", "bytez", "`bytez` means nothing here"),
        ("site(1) = 1", "site", "there is no function `site`"),
        ("defined(\"bytes\")", "\"bytes\"", "this must be a variable, not a text"),
        ("gethostbyname(ns1) = 1", "ns1", "there must be the name of a host"),
        ("(number + 1) = 6", "number + 1", "a variable and bytes stand here together"),
        (
            "exists 1 = number",
            "exists 1 = number",
            "a condition and a variable stand here together",
        ),
        ("option data ~= option text", "option text", "the pattern depends on the message"),
        (
            "substring(1, option data, 1) = 1",
            "option data",
            "this argument must be a number, not bytes",
        ),
        ("encode-int(1, 9) = 1", "9", "this must be 8, 16 or 32, not `9`"),
        ("not option data = 1", "option data", "there must be a condition behind `not`"),
        ("exists 1 ! 2", "2", "this is no operator"),
        ("extract-int(hardware, 8) = 99999999999", "99999999999", "this number is too large"),
        (
            "exists 1 and (option data)",
            "exists 1 and (option data)",
            "a condition and bytes stand here together",
        ),
    ] {
        assert_eq!(refused(text), (part, message.to_owned()), "{text}");
    }
}

#[test]
fn and_beside_or_is_told_unless_parentheses_tell_them_apart() {
    let doubts = |text: &str| {
        let mut doubts = Vec::new();
        parser::condition(text, &Names, &mut doubts).unwrap();
        doubts.into_iter().map(|doubt| doubt.fault.message).collect::<Vec<_>>().join("\n")
    };
    assert!(doubts("exists 1 and exists 2 or exists 3").contains("side by side"));
    assert!(doubts("option 1 = 1 or (exists 2) and exists 3").contains("side by side"));
    assert_eq!(doubts("(exists 1 and exists 2) or exists 3 or (exists 4 and exists 5)"), "");
}

/// dhcpd decides classes before it looks for a host entry and an address.
#[test]
fn the_test_of_a_class_knows_nothing_of_hosts_and_leases() {
    for (text, word, value) in [
        ("known", "known", Boolean::Constant(false)),
        ("not static", "static", Boolean::Constant(true)),
        ("known and exists 1", "known", Boolean::Null),
        ("leased-address = null", "leased-address", Boolean::Constant(true)),
        ("host-decl-name = \"n07\"", "host-decl-name", Boolean::Constant(false)),
        ("config-option data = null", "config-option", Boolean::Constant(true)),
        ("lease-time = 3600", "lease-time", Boolean::Constant(false)),
    ] {
        let mut doubts = Vec::new();
        let condition = parser::condition(text, &ClassNames, &mut doubts).unwrap();
        assert_eq!(condition, value, "{text}");
        let [Wrong { part, fault }] = &*doubts else { panic!("{text}: {doubts:?}") };
        assert_eq!(&text[part.clone()], word, "{text}");
        assert!(fault.message.contains("in the test of a class"), "{}", fault.message);
        let mut doubts = Vec::new();
        parser::condition(text, &Names, &mut doubts).unwrap();
        assert_eq!(doubts, [], "{text}");
    }
}

#[test]
fn hostile_texts_end_in_an_error_and_not_in_the_stack() {
    let many = |text: &str, times| text.repeat(times);
    for text in [
        many("(", 16_000),
        many("not ", 4_000),
        many("lcase(", 2_500),
        format!("exists 1{}", many(" and exists 1", 1_100)),
        format!("exists 1{}", many(" and exists 1 or exists 1", 450)),
        format!("(extract-int(hardware, 8){}) = 1", many(" + 1", 400)),
        format!("1 = 1{}", many(" and option 1 = 1", 100)),
        many("a", 20_000),
        many("option data ~= \"a\" and ", 700),
        format!("option data ~= \"{}\"", many("(", 900)),
        format!("option data ~= \"{}\"", many("(a{1,255})", 100)),
        "option data ~= \"((((a{255}){255}){255}){255})\"".to_owned(),
        "option data ~= \"(a|b)*a(a|b){60}\"".to_owned(),
    ] {
        let shown = &text[..text.len().min(60)];
        assert!(parser::condition(&text, &Names, &mut Vec::new()).is_err(), "{shown}");
    }
    // What is long and flat can be used.
    read(&format!("exists 1{}", many(" or exists 1", 450)));
}

#[test]
fn places_in_toml_texts() {
    for (raw, value, part, wanted) in [
        ("'a bc d'", "a bc d", "bc", 3..5),
        ("\"a bc d\"", "a bc d", "bc", 3..5),
        (r#""\"x\" bc""#, "\"x\" bc", "bc", 7..9),
        (r#""\u00e9 bc""#, "\u{e9} bc", "bc", 8..10),
        ("\"\"\"\na\nbc\"\"\"", "a\nbc", "bc", 6..8),
        ("\"\"\"a\\\n   bc\"\"\"", "abc", "bc", 9..11),
        ("'''\r\nbc'''", "bc", "bc", 5..7),
    ] {
        let start = value.find(part).unwrap();
        assert_eq!(place::in_string(raw, start..start + part.len()), Some(wanted), "{raw}");
    }
    assert_eq!(place::in_string("'ab'", 2..2), Some(3..3));
    assert_eq!(place::in_string("17", 0..1), None);
}

/// As in a whole file: what follows an expression stays, whatever it is.
#[test]
fn an_expression_ends_where_something_else_begins() {
    let text = "# first\n option data = 1:2 { lcase(\"A\"), 10 - 3; option text ~= \"x\") }";
    let mut tokens = Tokens::new(text);
    let mut doubts = Vec::new();
    let condition = parser::boolean(&mut tokens, &Names, &mut doubts).unwrap();
    assert_eq!(condition, read("option data = 1:2"));
    assert_eq!(tokens.next().unwrap().0, Token::Symbol('{'));
    let bytes = parser::data(&mut tokens, &Names, &mut doubts).unwrap();
    assert_eq!(bytes, Data::Constant(b"a".as_slice().into()));
    assert_eq!(tokens.next().unwrap().0, Token::Symbol(','));
    let number = parser::numeric(&mut tokens, &Names, &mut doubts).unwrap();
    assert_eq!(number, Numeric::Constant(7));
    assert_eq!(tokens.offset(), text.find(';').unwrap());
    assert_eq!(tokens.next().unwrap().0, Token::Symbol(';'));
    // A place is one of the whole text.
    let wrong = parser::data(&mut tokens, &Names, &mut doubts).unwrap_err();
    assert_eq!(&text[wrong.part], "option text ~= \"x\"");
    assert!(wrong.fault.message.contains("must yield bytes"), "{:?}", wrong.fault);
    assert_eq!(tokens.next().unwrap().0, Token::Symbol(')'));
}
