//! What stands between operators: values, functions, conditions that are no comparison.

use std::ops::Range;

use super::super::super::problem::Fault;
use super::super::super::schema;
use super::super::tokens::Token;
use super::super::{Boolean, Data, Numeric, OptionPath, Width, Wrong};
use super::{Any, MAKES_BYTES, MAKES_NUMBERS, Parser, Type};

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
            Token::Number(digits) if context == Type::Numeric => {
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
            "known" | "static" => {
                self.doubts.push(Wrong::new(place, undecided(&lower)));
                return Ok(Any::Boolean(Boolean::Constant(false)));
            }
            "extract-int" => return self.extract_int().map(Any::Numeric),
            "option" => Data::Option(self.option_name()?),
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
            _ => return Err(Wrong::new(place, self.unknown(word))),
        };
        Ok(Any::Data(data.folded()))
    }

    fn unknown(&self, word: &str) -> Fault {
        match self.names.option(None, word) {
            Ok(_) => {
                let help = format!("write `option {word}`");
                Fault::new(format!("`{word}` is an option, and stands here without `option`"), help)
            }
            Err(_) => means_nothing(word),
        }
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
            Some(name) => self.names.option(Some(first), name),
            None => self.names.option(None, first),
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
            (other, place) => Err(wanted("bytes", &other, place, MAKES_BYTES)),
        }
    }

    fn number(&mut self) -> Result<Numeric, Wrong> {
        match self.argument(Type::Numeric)? {
            (Any::Numeric(number), _) => Ok(number),
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

/// dhcpd decides classes before it looks for the machine's host entry, so both are false there.
fn undecided(word: &str) -> Fault {
    let help = "pools take known machines by allow = [\"known\"]; options for one machine stand in \
                its [[dhcp.host]]";
    Fault::new(format!("`{word}` is false in the test of a class, as in dhcpd"), help)
}

/// Words that dhcpd has and a class test cannot use, with what to do instead.
const ELSEWHERE: [(&str, &str); 9] = [
    ("leased-address", "it has no lease yet: pools can be told apart by their range"),
    ("lease-time", "it has no lease yet"),
    ("host-decl-name", "it has no host entry yet: options for one machine stand in [[dhcp.host]]"),
    ("config-option", "what it is sent is decided by its classes: use the value itself"),
    ("client-state", "it is a word of dhclient"),
    ("gethostname", "write the name"),
    ("gethostbyname", "write the address"),
    ("encapsulate", "options of a space are read as option SPACE.NAME"),
    ("defined", "there are no variables here: make a class, and ask for it by check \"NAME\""),
];

const WORDS: [&str; 23] = [
    "and",
    "or",
    "not",
    "exists",
    "check",
    "known",
    "static",
    "option",
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
];

fn means_nothing(word: &str) -> Fault {
    if let Some((word, help)) = ELSEWHERE.iter().find(|(own, _)| own.eq_ignore_ascii_case(word)) {
        let text = format!("`{word}` is not known when classes are decided");
        return Fault::new(text, *help);
    }
    let help = match schema::nearest(word, WORDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "texts stand in quotes, options behind the word `option`; there are no variables \
                 here"
            .to_owned(),
    };
    Fault::new(format!("`{word}` means nothing here"), help)
}
