//! Expressions of any kind, printed and read again; and texts of any kind.

use proptest::prelude::*;

use super::super::{Arithmetic, Width};
use super::*;

/// An expression as a text that can be read again, with all parentheses.
fn boolean(expression: &Boolean) -> String {
    let list = |parts: &[Boolean], between: &str| {
        let parts: Vec<_> = parts.iter().map(boolean).collect();
        format!("({})", parts.join(between))
    };
    match expression {
        Boolean::Constant(true) => "(null = null)".to_owned(),
        Boolean::Constant(false) => "(null != null)".to_owned(),
        Boolean::Null => "(null ~= \"\")".to_owned(),
        Boolean::And(parts) => list(parts, " and "),
        Boolean::Or(parts) => list(parts, " or "),
        Boolean::Not(part) => format!("not {}", boolean(part)),
        Boolean::DataEqual(sides) => format!("({} = {})", data(&sides[0]), data(&sides[1])),
        Boolean::NumbersEqual(sides) => {
            format!("({} = {})", numeric(&sides[0]), numeric(&sides[1]))
        }
        Boolean::Matches(value, pattern) => {
            let (source, sign) = pattern.parts();
            let bytes: String = source.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("({} {sign} \"{bytes}\")", data(value))
        }
        Boolean::Exists(path) => format!("exists {}", option(*path)),
        Boolean::Member(ClassId(0)) => "check \"first\"".to_owned(),
        Boolean::Member(_) => "check \"second\"".to_owned(),
        Boolean::Known => "known".to_owned(),
        Boolean::Static => "static".to_owned(),
        Boolean::Defined(id) => format!("defined({})", variable(*id)),
        Boolean::Variable(id) => variable(*id).to_owned(),
        Boolean::VariablesEqual([left, right]) => {
            format!("({} = {})", variable(*left), variable(*right))
        }
    }
}

fn data(expression: &Data) -> String {
    let list = |parts: &[Data]| parts.iter().map(data).collect::<Vec<_>>().join(", ");
    match expression {
        Data::Constant(bytes) if bytes.is_empty() => "\"\"".to_owned(),
        Data::Constant(bytes) => {
            bytes.iter().map(|byte| format!("{byte:x}")).collect::<Vec<_>>().join(":")
        }
        Data::Null => "null".to_owned(),
        Data::Option(path) => format!("option {}", option(*path)),
        Data::Hardware => "hardware".to_owned(),
        Data::File => "filename".to_owned(),
        Data::ServerName => "server-name".to_owned(),
        Data::Packet(part) => format!("packet({}, {})", numeric(&part[0]), numeric(&part[1])),
        Data::Substring(arguments) => {
            let (value, offset, len) = &**arguments;
            format!("substring({}, {}, {})", data(value), numeric(offset), numeric(len))
        }
        Data::Suffix(arguments) => {
            format!("suffix({}, {})", data(&arguments.0), numeric(&arguments.1))
        }
        Data::LowerCase(value) => format!("lcase({})", data(value)),
        Data::UpperCase(value) => format!("ucase({})", data(value)),
        Data::Concat(parts) => format!("concat({})", list(parts)),
        Data::PickFirst(parts) => format!("pick-first-value({})", list(parts)),
        Data::Reverse(arguments) => {
            format!("reverse({}, {})", numeric(&arguments.0), data(&arguments.1))
        }
        Data::BinaryToAscii(arguments) => {
            let (base, width, separator, value) = &**arguments;
            let (base, width) = (numeric(base), numeric(width));
            format!("binary-to-ascii({base}, {width}, {}, {})", data(separator), data(value))
        }
        Data::EncodeInt(number, width) => {
            format!("encode-int({}, {})", numeric(number), bits(*width))
        }
        Data::Configured(Key::Option(12)) => "config-option text".to_owned(),
        Data::Configured(key) => panic!("no option of these tests: {key:?}"),
        Data::LeasedAddress => "leased-address".to_owned(),
        Data::HostDeclName => "host-decl-name".to_owned(),
        Data::Variable(id) => variable(*id).to_owned(),
    }
}

fn variable(id: VariableId) -> &'static str {
    ["bytes", "number", "truth", "unset"][id.index()]
}

fn numeric(expression: &Numeric) -> String {
    match expression {
        // A number is one in every place only behind a function.
        Numeric::Constant(number) => {
            let [high, low] = [number >> 32, number & 0xffff_ffff].map(|half| {
                let bytes = &half.to_be_bytes()[4..];
                format!("extract-int({}, 32)", data(&Data::Constant(bytes.into())))
            });
            format!("((({high} * 65536) * 65536) + {low})")
        }
        Numeric::Null => "extract-int(null, 8)".to_owned(),
        Numeric::ExtractInt(value, width) => {
            format!("extract-int({}, {})", data(value), bits(*width))
        }
        Numeric::LeaseTime => "lease-time".to_owned(),
        Numeric::Variable(id) => variable(*id).to_owned(),
        Numeric::Arithmetic(operator, sides) => {
            let sign = match operator {
                Arithmetic::Add => "+",
                Arithmetic::Subtract => "-",
                Arithmetic::Multiply => "*",
                Arithmetic::Divide => "/",
                Arithmetic::Remainder => "%",
                Arithmetic::And => "&",
                Arithmetic::Or => "|",
                Arithmetic::Xor => "^",
            };
            format!("({} {sign} {})", numeric(&sides[0]), numeric(&sides[1]))
        }
    }
}

fn bits(width: Width) -> usize {
    width.bytes() * 8
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
