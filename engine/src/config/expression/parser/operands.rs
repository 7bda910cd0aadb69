//! What stands between operators: values, functions, conditions that are no comparison.

use std::ops::Range;

use super::super::super::problem::Fault;
use super::super::super::schema;
use super::super::tokens::Token;
use super::super::{Boolean, Data, Numeric, OptionPath, Width, Wrong};
use super::{Any, MAKES_BYTES, MAKES_NUMBERS, Parser, Type, Vocabulary};
use crate::config::VariableId;

impl<'t> Parser<'_, 't> {
    /// What stands between operators.
    pub(super) fn operand(&mut self, context: Type) -> Result<Any, Wrong> {
        self.count()?;
        match &self.token {
            Token::Symbol('(') => {
                self.take()?;
                let value = self.apart(context)?;
                self.take_symbol(')', "each `(` has its `)`")?;
                Ok(value)
            }
            Token::Text(text) => {
                let text = text.clone();
                self.take()?;
                Ok(Any::Data(Data::Constant(text.into_owned().into())))
            }
            Token::Number(digits) if matches!(context, Type::Numeric | Type::DataOrNumeric) => {
                let help = "numbers are whole, from -2147483648 to 2147483647";
                let number: i32 = digits
                    .parse()
                    .map_err(|_| self.wrong(Fault::new("this number is too large", help)))?;
                self.take()?;
                // Negative numbers wrap around, as in dhcpd.
                Ok(Any::Numeric(Numeric::Constant(i64::from(number) as u64)))
            }
            Token::Number(_) | Token::NumberOrName(_) => self.bytes().map(Any::Data),
            Token::Name(_) => self.named(),
            other => {
                let text = format!("a value must stand here, not {}", other.describe());
                let help = "values are options (option user-class), texts in \"quotes\", bytes \
                            (52:54:00), numbers and functions (substring, hardware, ...)";
                Err(self.wrong(Fault::new(text, help)))
            }
        }
    }

    /// Bytes in hexadecimal with colons between them.
    fn bytes(&mut self) -> Result<Data, Wrong> {
        let mut bytes = Vec::new();
        loop {
            let byte = match &self.token {
                Token::Number(digits) | Token::NumberOrName(digits) => {
                    u8::from_str_radix(digits, 16).ok()
                }
                _ => None,
            };
            bytes.push(byte.ok_or_else(|| {
                let text = format!("this must be a byte, not {}", self.token.describe());
                let help = "bytes are one or two hexadecimal digits with colons between them: \
                            1:52:54:00; numbers stand beside numbers only: extract-int(..., 8) = 10";
                self.wrong(Fault::new(text, help))
            })?);
            self.take()?;
            if self.token != Token::Symbol(':') {
                return Ok(Data::Constant(bytes.into()));
            }
            self.take()?;
        }
    }

    /// What begins with a word.
    fn named(&mut self) -> Result<Any, Wrong> {
        let place = self.place.clone();
        let token = self.take()?;
        let word = token.word().unwrap_or_default();
        let lower = word.to_ascii_lowercase();
        let data = match lower.as_str() {
            "not" => return self.not().map(Any::Boolean),
            "exists" => return Ok(Any::Boolean(Boolean::Exists(self.option_name()?))),
            "check" => return self.check().map(Any::Boolean),
            "known" | "static" if self.names.decides_classes() => {
                self.doubts.push(Wrong::new(place, undecided(&lower, "false")));
                return Ok(Any::Boolean(Boolean::Constant(false)));
            }
            "known" => return Ok(Any::Boolean(Boolean::Known)),
            "static" => return Ok(Any::Boolean(Boolean::Static)),
            "defined" => {
                self.open()?;
                let variable = self.variable()?;
                self.close()?;
                return Ok(Any::Boolean(Boolean::Defined(variable)));
            }
            "extract-int" => return self.extract_int().map(Any::Numeric),
            "lease-time" if self.names.decides_classes() => {
                self.doubts.push(Wrong::new(place, undecided(&lower, "null")));
                return Ok(Any::Numeric(Numeric::Null));
            }
            "lease-time" => return Ok(Any::Numeric(Numeric::LeaseTime)),
            // That of a client, as dhclient has it; a server has none.
            "client-state" => return Ok(Any::Numeric(Numeric::Null)),
            "option" => Data::Option(self.option_name()?),
            "config-option" => {
                let find = |names: &dyn Vocabulary, space: Option<&str>, name: &str| {
                    names.configured(space, name)
                };
                let key = self.name_in_space(find)?;
                self.if_decided(&lower, place, Data::Configured(key))
            }
            "leased-address" => self.if_decided(&lower, place, Data::LeasedAddress),
            "host-decl-name" => self.if_decided(&lower, place, Data::HostDeclName),
            "gethostname" => {
                self.open()?;
                self.close()?;
                self.names.own_host_name().map_or(Data::Null, Data::Constant)
            }
            "gethostbyname" => {
                self.open()?;
                let addresses = self.host_name()?;
                self.close()?;
                addresses
            }
            "hardware" => Data::Hardware,
            "filename" => Data::File,
            "server-name" => Data::ServerName,
            "null" => Data::Null,
            "packet" => {
                self.open()?;
                let offset = self.number()?;
                self.comma()?;
                let len = self.number()?;
                self.close()?;
                Data::Packet(Box::new([offset, len]))
            }
            "substring" => {
                self.open()?;
                let value = self.data()?;
                self.comma()?;
                let offset = self.number()?;
                self.comma()?;
                let len = self.number()?;
                self.close()?;
                Data::Substring(Box::new((value, offset, len)))
            }
            "suffix" => {
                self.open()?;
                let value = self.data()?;
                self.comma()?;
                let len = self.number()?;
                self.close()?;
                Data::Suffix(Box::new((value, len)))
            }
            "lcase" => Data::LowerCase(Box::new(self.one_value()?)),
            "ucase" => Data::UpperCase(Box::new(self.one_value()?)),
            "concat" => {
                let place = self.place.clone();
                match self.values()? {
                    values if values.len() > 1 => Data::Concat(values),
                    _ => {
                        let help = "leave concat out";
                        return Err(Wrong::new(place, Fault::new("one value is no list", help)));
                    }
                }
            }
            "pick" | "pick-first-value" => Data::PickFirst(self.values()?),
            "reverse" => {
                self.open()?;
                let width = self.number()?;
                self.comma()?;
                let value = self.data()?;
                self.close()?;
                Data::Reverse(Box::new((width, value)))
            }
            "binary-to-ascii" => {
                self.open()?;
                let base = self.number()?;
                self.comma()?;
                let width = self.number()?;
                self.comma()?;
                let separator = self.data()?;
                self.comma()?;
                let value = self.data()?;
                self.close()?;
                Data::BinaryToAscii(Box::new((base, width, separator, value)))
            }
            "encode-int" => {
                self.open()?;
                let number = self.number()?;
                let width = self.width()?;
                Data::EncodeInt(Box::new(number), width)
            }
            _ if self.token == Token::Symbol('(') => {
                return Err(Wrong::new(place, no_function(word)));
            }
            _ => {
                let variable =
                    self.names.variable(word).map_err(|fault| Wrong::new(place, fault))?;
                return Ok(Any::Variable(variable));
            }
        };
        Ok(Any::Data(data.folded()))
    }

    /// What is known only once classes are decided.
    fn if_decided(&mut self, word: &str, place: Range<usize>, data: Data) -> Data {
        if !self.names.decides_classes() {
            return data;
        }
        self.doubts.push(Wrong::new(place, undecided(word, "null")));
        Data::Null
    }

    /// The name of a variable.
    fn variable(&mut self) -> Result<VariableId, Wrong> {
        let Some(word) = self.token.word() else {
            let text = format!("this must be a variable, not {}", self.token.describe());
            return Err(self.wrong(Fault::new(text, "write its name: defined(rack)")));
        };
        let variable = self.names.variable(word).map_err(|fault| self.wrong(fault))?;
        self.take()?;
        Ok(variable)
    }

    /// The name of a host, in quotes.
    fn host_name(&mut self) -> Result<Data, Wrong> {
        let Token::Text(name) = &self.token else {
            let help = "write it in quotes: gethostbyname(\"ns1.example.org\")";
            return Err(self.wrong(Fault::new("there must be the name of a host", help)));
        };
        let name = String::from_utf8_lossy(name);
        let addresses = self.names.host_name(&name).map_err(|fault| self.wrong(fault))?;
        self.take()?;
        Ok(addresses)
    }

    fn not(&mut self) -> Result<Boolean, Wrong> {
        let start = self.place.clone();
        match self.nested(|parser| parser.operand(Type::Boolean))? {
            Any::Boolean(value) => Ok(Boolean::Not(Box::new(value)).folded()),
            _ => {
                let help = "`not` takes what follows it only: not (option x = \"y\"), or !=";
                let fault = Fault::new("there must be a condition behind `not`", help);
                Err(Wrong::new(start.start..self.end, fault))
            }
        }
    }

    fn check(&mut self) -> Result<Boolean, Wrong> {
        let Token::Text(name) = &self.token else {
            let help = "write its name in quotes: check \"gpu\"";
            return Err(self.wrong(Fault::new("there must be a class behind `check`", help)));
        };
        let name = String::from_utf8_lossy(name);
        let class = self.names.class(&name).map_err(|fault| self.wrong(fault))?;
        self.take()?;
        Ok(Boolean::Member(class))
    }

    fn extract_int(&mut self) -> Result<Numeric, Wrong> {
        self.open()?;
        let value = self.data()?;
        let width = self.width()?;
        Ok(Numeric::ExtractInt(Box::new(value), width).folded())
    }

    /// The name of an option, perhaps with its space.
    fn option_name(&mut self) -> Result<OptionPath, Wrong> {
        self.name_in_space(|names, space, name| names.option(space, name))
    }

    /// A name, perhaps with a space and a dot before it.
    fn name_in_space<T>(
        &mut self,
        find: impl FnOnce(&dyn Vocabulary, Option<&str>, &str) -> Result<T, Fault>,
    ) -> Result<T, Wrong> {
        let start = self.place.start;
        let first = self.identifier()?;
        let second = match self.token {
            Token::Symbol('.') => {
                self.take()?;
                Some(self.identifier()?)
            }
            _ => None,
        };
        let found = match second {
            Some(name) => find(self.names, Some(first), name),
            None => find(self.names, None, first),
        };
        found.map_err(|fault| Wrong::new(start..self.end, fault))
    }

    fn identifier(&mut self) -> Result<&'t str, Wrong> {
        match self.token {
            Token::Name(name) | Token::NumberOrName(name) | Token::Number(name) => {
                self.take()?;
                Ok(name)
            }
            _ => {
                let text = format!("this must be an option, not {}", self.token.describe());
                let help = "write its name or number: option vendor-class-identifier, option 60, \
                            option agent.circuit-id";
                Err(self.wrong(Fault::new(text, help)))
            }
        }
    }

    fn open(&mut self) -> Result<(), Wrong> {
        self.take_symbol('(', "functions have their arguments in parentheses")
    }

    fn comma(&mut self) -> Result<(), Wrong> {
        self.take_symbol(',', "another argument is wanted")
    }

    fn close(&mut self) -> Result<(), Wrong> {
        self.take_symbol(')', "that is all this function takes")
    }

    /// One argument in parentheses.
    fn one_value(&mut self) -> Result<Data, Wrong> {
        self.open()?;
        let value = self.data()?;
        self.close()?;
        Ok(value)
    }

    /// Arguments in parentheses.
    fn values(&mut self) -> Result<Vec<Data>, Wrong> {
        self.open()?;
        let mut values = vec![self.data()?];
        while self.token == Token::Symbol(',') {
            self.take()?;
            values.push(self.data()?);
        }
        self.close()?;
        Ok(values)
    }

    /// The last argument of a function that makes bytes of a number or the reverse.
    fn width(&mut self) -> Result<Width, Wrong> {
        self.comma()?;
        let bits = match self.token {
            Token::Number(digits) => digits.parse().ok().and_then(Width::of_bits),
            _ => None,
        };
        let Some(width) = bits else {
            let text = format!("this must be 8, 16 or 32, not {}", self.token.describe());
            return Err(self.wrong(Fault::new(text, "it is the number of bits")));
        };
        self.take()?;
        self.close()?;
        Ok(width)
    }

    fn data(&mut self) -> Result<Data, Wrong> {
        match self.argument(Type::Data)? {
            (Any::Data(data), _) => Ok(data),
            (Any::Variable(variable), _) => Ok(Data::Variable(variable)),
            (other, place) => Err(wanted("bytes", &other, place, MAKES_BYTES)),
        }
    }

    fn number(&mut self) -> Result<Numeric, Wrong> {
        match self.argument(Type::Numeric)? {
            (Any::Numeric(number), _) => Ok(number),
            (Any::Variable(variable), _) => Ok(Numeric::Variable(variable)),
            (other, place) => Err(wanted("a number", &other, place, MAKES_NUMBERS)),
        }
    }

    fn argument(&mut self, context: Type) -> Result<(Any, Range<usize>), Wrong> {
        let start = self.place.start;
        let value = self.apart(context)?;
        Ok((value, start..self.end))
    }

    /// An expression in parentheses or an argument: its operators do not mix with those around it.
    fn apart(&mut self, context: Type) -> Result<Any, Wrong> {
        let outside = std::mem::take(&mut self.mixed);
        let value = self.nested(|parser| parser.expression(context, None))?;
        self.mixed = outside;
        Ok(value)
    }
}

fn wanted(what: &str, other: &Any, place: Range<usize>, help: &str) -> Wrong {
    let text = format!("this argument must be {what}, not {}", other.kind().name());
    Wrong::new(place, Fault::new(text, help))
}

/// dhcpd decides classes before it looks for the machine's host entry and for an address.
fn undecided(word: &str, yields: &str) -> Fault {
    let help = match word {
        "known" | "static" | "host-decl-name" => {
            "what is for known machines stands in pools that are for them, or in their host entry"
        }
        _ => "what depends on the lease stands in a scope, not in the test of a class",
    };
    Fault::new(format!("`{word}` is {yields} in the test of a class, as in dhcpd"), help)
}

fn no_function(word: &str) -> Fault {
    let help = match schema::nearest(word, WORDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the functions are those of dhcp-eval(5); own ones cannot be defined".to_owned(),
    };
    Fault::new(format!("there is no function `{word}`"), help)
}

const WORDS: [&str; 32] = [
    "and",
    "or",
    "not",
    "exists",
    "check",
    "known",
    "static",
    "defined",
    "option",
    "config-option",
    "hardware",
    "filename",
    "server-name",
    "null",
    "packet",
    "substring",
    "suffix",
    "lcase",
    "ucase",
    "concat",
    "pick-first-value",
    "reverse",
    "binary-to-ascii",
    "encode-int",
    "extract-int",
    "leased-address",
    "lease-time",
    "host-decl-name",
    "client-state",
    "gethostname",
    "gethostbyname",
    "pick",
];

/// A word stands where no variable can be.
pub(in crate::config) fn means_nothing(word: &str, is_option: bool) -> Fault {
    if is_option {
        let text = format!("`{word}` is an option, and stands here without `option`");
        return Fault::new(text, format!("write `option {word}`"));
    }
    let help = match schema::nearest(word, WORDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "texts stand in quotes, options behind the word `option`; there are no variables \
                 here"
            .to_owned(),
    };
    Fault::new(format!("`{word}` means nothing here"), help)
}
