//! Expressions as texts in dhcpd's language, and which part of a condition is not true.

use bumpalo::Bump;

use super::evaluate::{Facts, Value};
use super::{Arithmetic, Boolean, ClassTest, Data, Numeric, OptionPath, Width};
use crate::config::statement::{Key, Operand};
use crate::config::{ClassId, VariableId};

/// Alternatives of an `or` that are named.
const ALTERNATIVES: usize = 4;

/// Names of what expressions name.
pub(crate) trait Names {
    /// An option of a message, without the word `option`.
    fn option(&self, path: OptionPath) -> String;
    /// A class.
    fn class(&self, class: ClassId) -> String;
    /// A variable.
    fn variable(&self, variable: VariableId) -> String;
    /// What is sent, without the word `config-option`.
    fn configured(&self, key: Key) -> String;

    /// Bytes: as a text if they are one.
    fn bytes(&self, bytes: &[u8]) -> String {
        let is_text = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        match is_text {
            true => format!("\"{}\"", bytes.escape_ascii()),
            false => crate::hex::digits(bytes, ":"),
        }
    }

    /// A number that stands alone.
    fn number(&self, number: u64) -> String {
        number.to_string()
    }

    /// What depends on nothing; `None` for null.
    fn truth(&self, truth: Option<bool>) -> String {
        truth.map_or_else(|| "null".to_owned(), |truth| truth.to_string())
    }

    /// A pattern, in its quotes.
    fn pattern(&self, source: &[u8]) -> String {
        format!("\"{}\"", source.escape_ascii())
    }
}

impl ClassTest {
    /// Which part of it is not true, and what that finds.
    pub(crate) fn why_not<'a>(
        &'a self,
        facts: &impl Facts<'a>,
        names: &dyn Names,
        arena: &'a Bump,
    ) -> String {
        why(&self.condition, true, facts, names, arena)
    }
}

/// Which part of a condition is why it is not as it is `wanted`, and what that finds.
pub(in crate::config) fn why<'a>(
    condition: &'a Boolean,
    wanted: bool,
    facts: &impl Facts<'a>,
    names: &dyn Names,
    arena: &'a Bump,
) -> String {
    Why { facts, names, arena }.is_not(condition, wanted)
}

impl Operand {
    /// As a text in dhcpd's language.
    pub(in crate::config) fn text(&self, names: &dyn Names) -> String {
        match self {
            Self::Data(value) => data(value, names),
            Self::Numeric(number) => numeric(number, names),
            Self::Boolean(condition) => boolean(condition, names),
            Self::Variable(id) => names.variable(*id),
        }
    }
}

impl Value<'_> {
    /// As a text in dhcpd's language.
    pub(in crate::config) fn text(&self, names: &dyn Names) -> String {
        match self {
            Self::Data(bytes) => names.bytes(bytes),
            Self::Numeric(number) => number.to_string(),
            Self::Boolean(truth) => truth.to_string(),
        }
    }
}

/// One message, and the names for what is said of it.
struct Why<'w, 'a, F> {
    facts: &'w F,
    names: &'w dyn Names,
    arena: &'a Bump,
}

impl<'a, F: Facts<'a>> Why<'_, 'a, F> {
    /// Why a condition is not as it is wanted.
    fn is_not(&self, condition: &'a Boolean, wanted: bool) -> String {
        let holds = |part: &&'a Boolean| part.evaluate(self.facts, self.arena) == Some(true);
        match condition {
            Boolean::Not(part) => self.is_not(part, !wanted),
            Boolean::And(parts) if wanted => match parts.iter().find(|part| !holds(part)) {
                Some(part) => self.is_not(part, wanted),
                None => self.finds(condition),
            },
            Boolean::Or(parts) if !wanted => match parts.iter().find(holds) {
                Some(part) => self.is_not(part, wanted),
                None => self.finds(condition),
            },
            Boolean::Or(parts) => {
                let some = parts.iter().take(ALTERNATIVES);
                let mut texts: Vec<String> = some.map(|part| self.is_not(part, wanted)).collect();
                if parts.len() > ALTERNATIVES {
                    texts.push(format!("nor any of {} more", parts.len() - ALTERNATIVES));
                }
                texts.join("; ")
            }
            _ => self.finds(condition),
        }
    }

    /// A condition that does not consist of others, and what it compares.
    fn finds(&self, condition: &'a Boolean) -> String {
        let text = boolean(condition, self.names);
        let (facts, arena) = (self.facts, self.arena);
        let bytes = |value: &'a Data| match value.evaluate(facts, arena) {
            Some(found) => self.names.bytes(found),
            None => "null".to_owned(),
        };
        let found = match condition {
            Boolean::DataEqual(sides) => match &**sides {
                [Data::Constant(_), value] | [value, Data::Constant(_)] => bytes(value),
                [left, right] => format!("{} and {}", bytes(left), bytes(right)),
            },
            Boolean::NumbersEqual(sides) => {
                let number = |side: &'a Numeric| match side.evaluate(facts, arena) {
                    Some(number) => number.to_string(),
                    None => "null".to_owned(),
                };
                match &**sides {
                    [Numeric::Constant(_), value] | [value, Numeric::Constant(_)] => number(value),
                    [left, right] => format!("{} and {}", number(left), number(right)),
                }
            }
            Boolean::Matches(value, _) => bytes(value),
            _ => {
                return match condition.evaluate(facts, arena) {
                    Some(true) => format!("{text} is true"),
                    Some(false) => format!("{text} is false"),
                    None => format!("{text} is null"),
                };
            }
        };
        format!("{text} finds {found}")
    }
}

/// A condition, with all parentheses.
pub(super) fn boolean(expression: &Boolean, names: &dyn Names) -> String {
    let boolean = |part: &Boolean| boolean(part, names);
    let data = |part: &Data| data(part, names);
    let list = |parts: &[Boolean], between: &str| {
        let parts: Vec<_> = parts.iter().map(boolean).collect();
        format!("({})", parts.join(between))
    };
    match expression {
        Boolean::Constant(truth) => names.truth(Some(*truth)),
        Boolean::Null => names.truth(None),
        Boolean::And(parts) => list(parts, " and "),
        Boolean::Or(parts) => list(parts, " or "),
        Boolean::Not(part) => format!("not {}", boolean(part)),
        Boolean::DataEqual(sides) => format!("({} = {})", data(&sides[0]), data(&sides[1])),
        Boolean::NumbersEqual(sides) => {
            format!("({} = {})", numeric(&sides[0], names), numeric(&sides[1], names))
        }
        Boolean::Matches(value, pattern) => {
            let (source, sign) = pattern.parts();
            format!("({} {sign} {})", data(value), names.pattern(source))
        }
        Boolean::Exists(path) => format!("exists {}", names.option(*path)),
        Boolean::Member(class) => format!("check \"{}\"", names.class(*class)),
        Boolean::Known => "known".to_owned(),
        Boolean::Static => "static".to_owned(),
        Boolean::Defined(id) => format!("defined({})", names.variable(*id)),
        Boolean::Variable(id) => names.variable(*id),
        Boolean::VariablesEqual([left, right]) => {
            format!("({} = {})", names.variable(*left), names.variable(*right))
        }
    }
}

/// An expression that yields bytes.
pub(super) fn data(expression: &Data, names: &dyn Names) -> String {
    let data = |part: &Data| data(part, names);
    let numeric = |part: &Numeric| numeric(part, names);
    let list = |parts: &[Data]| parts.iter().map(data).collect::<Vec<_>>().join(", ");
    match expression {
        Data::Constant(bytes) => names.bytes(bytes),
        Data::Null => "null".to_owned(),
        Data::Option(path) => format!("option {}", names.option(*path)),
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
        Data::Configured(key) => format!("config-option {}", names.configured(*key)),
        Data::LeasedAddress => "leased-address".to_owned(),
        Data::HostDeclName => "host-decl-name".to_owned(),
        Data::Variable(id) => names.variable(*id),
    }
}

/// An expression that yields a number.
pub(super) fn numeric(expression: &Numeric, names: &dyn Names) -> String {
    match expression {
        Numeric::Constant(number) => names.number(*number),
        Numeric::Null => "extract-int(null, 8)".to_owned(),
        Numeric::ExtractInt(value, width) => {
            format!("extract-int({}, {})", data(value, names), bits(*width))
        }
        Numeric::LeaseTime => "lease-time".to_owned(),
        Numeric::Variable(id) => names.variable(*id),
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
            format!("({} {sign} {})", numeric(&sides[0], names), numeric(&sides[1], names))
        }
    }
}

fn bits(width: Width) -> usize {
    width.bytes() * 8
}
