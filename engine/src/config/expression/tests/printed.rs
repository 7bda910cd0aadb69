//! Expressions of any kind, printed and read again; and texts of any kind.

use proptest::prelude::*;

use super::super::words::{self, Names as Naming};
use super::*;

/// The names of these tests. What is printed by them can be read again.
struct Known;

impl Naming for Known {
    fn option(&self, path: OptionPath) -> String {
        option(path)
    }

    fn class(&self, class: ClassId) -> String {
        if class == ClassId(0) { "first" } else { "second" }.to_owned()
    }

    fn variable(&self, variable: VariableId) -> String {
        ["bytes", "number", "truth", "unset"][variable.index()].to_owned()
    }

    fn configured(&self, key: Key) -> String {
        assert_eq!(key, Key::Option(12));
        "text".to_owned()
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:x}")).collect();
        if bytes.is_empty() { "\"\"".to_owned() } else { bytes.join(":") }
    }

    /// A number is one in every place only behind a function.
    fn number(&self, number: u64) -> String {
        let [high, low] = [number >> 32, number & 0xffff_ffff].map(|half| {
            let bytes = &half.to_be_bytes()[4..];
            format!("extract-int({}, 32)", self.bytes(bytes))
        });
        format!("((({high} * 65536) * 65536) + {low})")
    }

    fn truth(&self, truth: Option<bool>) -> String {
        match truth {
            Some(true) => "(null = null)",
            Some(false) => "(null != null)",
            None => "(null ~= \"\")",
        }
        .to_owned()
    }

    fn pattern(&self, source: &[u8]) -> String {
        let bytes: String = source.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"")
    }
}

fn boolean(expression: &Boolean) -> String {
    words::boolean(expression, &Known)
}

fn data(expression: &Data) -> String {
    words::data(expression, &Known)
}

fn option(path: OptionPath) -> String {
    match path {
        TEXT => "text".to_owned(),
        DATA => "data".to_owned(),
        ONE => "space.one".to_owned(),
        OptionPath { code, .. } => code.to_string(),
    }
}

/// Texts of conditions of any kind.
fn conditions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("option text".to_owned()),
        Just("option data".to_owned()),
        Just("option space.one".to_owned()),
        Just("hardware".to_owned()),
        Just("filename".to_owned()),
        Just("server-name".to_owned()),
        Just("null".to_owned()),
        Just("config-option text".to_owned()),
        Just("leased-address".to_owned()),
        Just("host-decl-name".to_owned()),
        Just("gethostname()".to_owned()),
        Just("gethostbyname(\"ns1.example.org\")".to_owned()),
        "bytes|number|unset",
        (1..200_u8).prop_map(|code| format!("option {code}")),
        proptest::collection::vec(0..=255_u8, 0..4)
            .prop_map(|bytes| data(&Data::Constant(bytes.into()))),
    ];
    let datum = leaf.prop_recursive(3, 12, 3, |inner| {
        let number = prop_oneof![
            (-3..40_i32).prop_map(|number| number.to_string()),
            "lease-time|client-state|number|bytes",
            (inner.clone(), proptest::sample::select(vec![8, 16, 32]))
                .prop_map(|(value, width)| format!("extract-int({value}, {width})")),
            (inner.clone(), "[-+*/%&|^]", 0..9_u8).prop_map(|(value, sign, other)| format!(
                "(extract-int({value}, 8) {sign} {other})"
            )),
        ];
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (inner.clone(), number.clone(), number.clone())
                .prop_map(|(value, offset, len)| format!("substring({value}, {offset}, {len})")),
            (inner.clone(), number.clone())
                .prop_map(|(value, len)| format!("suffix({value}, {len})")),
            (inner.clone(), number.clone())
                .prop_map(|(value, len)| format!("reverse({len}, {value})")),
            inner.clone().prop_map(|value| format!("lcase({value})")),
            inner.clone().prop_map(|value| format!("ucase({value})")),
            two.clone().prop_map(|(left, right)| format!("concat({left}, {right})")),
            two.clone().prop_map(|(left, right)| format!("pick({left}, {right})")),
            (number.clone(), number.clone(), two).prop_map(|(base, width, (separator, value))| {
                format!("binary-to-ascii({base}, {width}, {separator}, {value})")
            }),
            number.clone().prop_map(|number| format!("encode-int({number}, 16)")),
            (number.clone(), number).prop_map(|(offset, len)| format!("packet({offset}, {len})")),
        ]
    });
    let comparison = prop_oneof![
        (datum.clone(), datum.clone(), "!?=").prop_map(|(l, r, sign)| format!("{l} {sign} {r}")),
        (datum.clone(), "[a-c]{0,3}", "~[=~]")
            .prop_map(|(l, r, sign)| format!("{l} {sign} \"{r}\"")),
        (datum.clone(), datum, "!?=").prop_map(|(l, r, sign)| {
            format!("(extract-int({l}, 8) {sign} extract-int({r}, 16))")
        }),
        Just("exists data".to_owned()),
        Just("check \"first\"".to_owned()),
        "known|static|truth and exists data|exists data or unset",
        "defined\\((bytes|unset)\\)",
    ];
    comparison.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), "and|or")
                .prop_map(|(l, r, word)| format!("{l} {word} {r}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

/// What the language is made of, in any order.
fn words() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "and",
        "or",
        "not",
        "exists",
        "check",
        "\"first\"",
        "known",
        "truth",
        "number",
        "defined",
        "config-option",
        "gethostname",
        "option",
        "data",
        "text",
        "space",
        ".",
        "one",
        "substring",
        "(",
        ")",
        ",",
        "=",
        "!",
        "~",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&",
        "|",
        "^",
        "1",
        "8",
        "ff",
        ":",
        "\"a\"",
        "extract-int",
        "encode-int",
        "reverse",
        "pick",
        "concat",
        "lcase",
        "binary-to-ascii",
        "packet",
        "null",
        "hardware",
        "#",
        "\n",
        "\\",
        "\"",
        "\u{e9}",
    ]);
    proptest::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

/// Reads it, and asks it of a message if it can be read.
fn survive(text: &str, value: &[u8]) {
    let machine =
        Machine { options: vec![(TEXT, value), (DATA, value), (ONE, value)], message: value };
    match parser::condition(text, &Names, &mut Vec::new()) {
        Ok(condition) => {
            condition.evaluate(&machine, &Bump::new());
        }
        Err(Wrong { part, fault }) => {
            // The part can be shown, and the way out is named.
            assert!(text.get(part).is_some() && fault.help.is_some(), "{fault:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(text in conditions()) {
        let expression = read(&text);
        let printed = boolean(&expression);
        // Printed numbers are longer, and what is too long is refused.
        if let Ok(again) = parser::condition(&printed, &Names, &mut Vec::new()) {
            prop_assert_eq!(again, expression, "{}", printed);
        }
    }

    #[test]
    fn no_condition_panics(text in conditions(), value in proptest::collection::vec(0..=255_u8, 0..40)) {
        survive(&text, &value);
    }

    #[test]
    fn no_words_panic(text in words(), value in proptest::collection::vec(0..=255_u8, 0..40)) {
        survive(&text, &value);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", value in proptest::collection::vec(0..=255_u8, 0..9)) {
        survive(&text, &value);
    }
}
