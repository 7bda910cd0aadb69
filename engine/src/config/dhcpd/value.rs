//! Values as their types want them: the bytes of the wire.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::domains;
use bootstorm_protocols::wire::Writer;

use super::super::expression::Token;
use super::super::problem::Fault;
use super::ast::Value;
use super::format::{Format, Part, Repeat, Words};
use super::grammar::{Mistake, Parser};

/// Bytes of the longest value: what one DHCP message holds at most, and no more.
const LONGEST: usize = 64 << 10;

impl Parser<'_, '_, '_> {
    /// A value of a type, without the `;` behind it.
    pub(super) fn value(&mut self, format: &Format) -> Result<Value, Mistake> {
        let mut bytes = Vec::new();
        let mut missing = false;
        loop {
            let last = format.parts.len().saturating_sub(1);
            for (at, part) in format.parts.iter().enumerate() {
                if at == last && format.optional && *self.cursor.peek() == Token::Symbol(';') {
                    break;
                }
                let uniform = at == last
                    && (format.repeat == Repeat::Last
                        || format.repeat == Repeat::All && format.parts.len() == 1);
                self.part(part, uniform, &mut bytes, &mut missing)?;
                while at == last && format.repeat == Repeat::Last && self.symbol(',') {
                    self.part(part, uniform, &mut bytes, &mut missing)?;
                }
                if bytes.len() > LONGEST {
                    let text = format!("this value has more than {LONGEST} bytes");
                    return Err(self.wrong(Fault::plain(text)));
                }
            }
            if format.repeat != Repeat::All || !self.symbol(',') {
                break;
            }
        }
        Ok(if missing { Value::Missing } else { Value::Bytes(bytes) })
    }

    /// One part of a value. `uniform`: a name may stand for several addresses.
    fn part(
        &mut self,
        part: &Part,
        uniform: bool,
        bytes: &mut Vec<u8>,
        missing: &mut bool,
    ) -> Result<(), Mistake> {
        match part {
            Part::Address => {
                let mut addresses = self.addresses()?;
                if !uniform {
                    addresses.truncate(1);
                }
                *missing |= addresses.is_empty();
                bytes.extend(addresses.iter().flat_map(|address| address.octets()));
            }
            Part::Address6 => {
                let address = self.cursor.address6(self.reader.problems);
                let address = address.ok_or_else(|| self.expected("an IPv6 address"))?;
                bytes.extend(address.octets());
            }
            Part::Number(width) => self.number(*width, bytes)?,
            Part::Time if self.word("infinite") => bytes.extend(u32::MAX.to_be_bytes()),
            Part::Time => self.number(4, bytes)?,
            Part::Text => bytes.extend(self.text("a text in quotes")?),
            Part::Bytes | Part::Encapsulate(_) => bytes.extend(self.bytes()?),
            Part::Flag => bytes.push(self.flag()?),
            Part::Name => {
                let name = self.host_name();
                let name = name.ok_or_else(|| self.expected("a domain name"))?;
                bytes.extend(name.into_bytes());
            }
            Part::Names { compressed } => self.domains(*compressed, bytes)?,
            Part::Nothing => {}
            Part::Space => {
                let name = self.cursor.word();
                let name = name.ok_or_else(|| self.expected("the name of an option space"))?;
                bytes.extend(name.as_bytes());
                self.take();
            }
            Part::Word(words) => bytes.push(self.one_of(words)?),
        }
        Ok(())
    }

    /// A number of so many bytes: decimal, with `0x` hexadecimal, with `0` octal, as in C.
    fn number(&mut self, width: u8, bytes: &mut Vec<u8>) -> Result<(), Mistake> {
        let (Token::Number(text) | Token::NumberOrName(text)) = *self.cursor.peek() else {
            return Err(self.expected("a number"));
        };
        let value = self.integer(text, width)?;
        self.take();
        let all = value.to_be_bytes();
        bytes.extend(&all[all.len() - usize::from(width)..]);
        Ok(())
    }

    fn integer(&mut self, text: &str, width: u8) -> Result<u64, Mistake> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (radix, digits) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
            [b'0', _, ..] => (8, &digits[1..]),
            _ => (10, digits),
        };
        let Ok(value) = u64::from_str_radix(digits, radix) else {
            let text = format!("`{text}` is no number");
            let help = match radix {
                8 => "a number that begins with 0 is octal: leave the 0 out",
                _ => "write decimal digits, or 0x and hexadecimal ones",
            };
            return Err(self.wrong(Fault::new(text, help)));
        };
        let most = u64::MAX >> (64 - 8 * u32::from(width));
        let most = if negative { most / 2 + 1 } else { most };
        // dhcpd counts in 32 bits, and 4294967296 is 0 there; nobody means that.
        if value > most {
            let text = format!("{text} is more than this value holds");
            let help = format!("it has {} bits: {most} at most", 8 * u32::from(width));
            return Err(self.wrong(Fault::new(text, help)));
        }
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    /// A number from 0 on, for what is no option.
    pub(super) fn count(&mut self, what: &str) -> Result<u64, Mistake> {
        let Token::Number(text) = *self.cursor.peek() else { return Err(self.expected(what)) };
        let Ok(value) = text.parse() else { return Err(self.expected(what)) };
        self.take();
        Ok(value)
    }

    /// A text in quotes or a single word.
    pub(super) fn text(&mut self, what: &str) -> Result<Vec<u8>, Mistake> {
        match self.cursor.peek() {
            Token::Text(text) => {
                let text = text.to_vec();
                self.take();
                Ok(text)
            }
            Token::Name(word) | Token::NumberOrName(word) => {
                let word = word.as_bytes().to_vec();
                self.take();
                Ok(word)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A text in quotes, or hexadecimal bytes with colons between them.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Mistake> {
        match self.cursor.peek() {
            Token::Text(text) => {
                let text = text.to_vec();
                self.take();
                Ok(text)
            }
            Token::Number(_) | Token::NumberOrName(_) => self.hex_list(),
            _ => Err(self.expected("a text in quotes, or hexadecimal bytes as in 0a:0b:0c")),
        }
    }

    /// Hexadecimal bytes with colons between them.
    pub(super) fn hex_list(&mut self) -> Result<Vec<u8>, Mistake> {
        let mut bytes = Vec::new();
        loop {
            let (Token::Number(text) | Token::NumberOrName(text)) = *self.cursor.peek() else {
                return Err(self.expected("a hexadecimal byte"));
            };
            let digits = text.strip_prefix("0x").unwrap_or(text);
            match u8::from_str_radix(digits, 16) {
                Ok(byte) if !digits.starts_with('+') => bytes.push(byte),
                _ => {
                    let text = format!("`{text}` is no hexadecimal byte");
                    let help = "write bytes of one or two digits, with colons between them";
                    return Err(self.wrong(Fault::new(text, help)));
                }
            }
            self.take();
            if bytes.len() > LONGEST {
                return Err(self.wrong(Fault::plain("this value is too long")));
            }
            if !self.symbol(':') {
                return Ok(bytes);
            }
        }
    }

    /// A flag: 1, 0, or 2 for `ignore`.
    fn flag(&mut self) -> Result<u8, Mistake> {
        let words: Words = &[("true", 1), ("on", 1), ("false", 0), ("off", 0), ("ignore", 2)];
        let value = self.cursor.word().and_then(|word| {
            words.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, value)| value)
        });
        let value = value.ok_or_else(|| self.expected("true or false"))?;
        self.take();
        Ok(value)
    }

    fn one_of(&mut self, words: Words) -> Result<u8, Mistake> {
        let word = self.cursor.word();
        let found = word.and_then(|word| {
            words.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, value)| value)
        });
        let Some(value) = found else {
            let names: Vec<&str> = words.iter().map(|&(name, _)| name).collect();
            return Err(self.expected(&format!("one of {}", names.join(", "))));
        };
        self.take();
        Ok(value)
    }

    /// An IPv4 address, or what a name stands for: nothing if nobody knows it.
    pub(super) fn addresses(&mut self) -> Result<Vec<Ipv4Addr>, Mistake> {
        match self.cursor.peek() {
            Token::Number(_) => Ok(vec![self.address()?]),
            Token::Name(_) | Token::NumberOrName(_) => {
                let place = self.cursor.place();
                let name = self.host_name();
                let name = name.ok_or_else(|| self.expected("an IPv4 address or a name"))?;
                let place = self.cursor.since(place);
                Ok(self.reader.resolve(&name, place))
            }
            _ => Err(self.expected("an IPv4 address or a name")),
        }
    }

    /// An IPv4 address.
    pub(super) fn address(&mut self) -> Result<Ipv4Addr, Mistake> {
        let mut octets = [0; 4];
        let place = self.cursor.place();
        for (at, octet) in octets.iter_mut().enumerate() {
            if at > 0 && !self.symbol('.') {
                return Err(self.no_address(place));
            }
            let Token::Number(text) = *self.cursor.peek() else {
                return Err(self.no_address(place));
            };
            let Ok(number) = text.parse() else {
                self.take();
                return Err(self.no_address(place));
            };
            *octet = number;
            self.take();
        }
        Ok(octets.into())
    }

    fn no_address(&mut self, start: super::super::source::Place) -> Mistake {
        let place = self.cursor.since(start);
        let help = "write four numbers from 0 to 255 with dots between them: 10.1.0.6";
        self.wrong_at(place, Fault::new("this is no IPv4 address", help))
    }

    /// Domain names in quotes with commas between them.
    fn domains(&mut self, compressed: bool, bytes: &mut Vec<u8>) -> Result<(), Mistake> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let Token::Text(text) = self.cursor.peek() else {
                return Err(self.expected("a domain name in quotes"));
            };
            let name = String::from_utf8_lossy(text).into_owned();
            let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
            let mut buffer = [0; 256];
            if let Err(why) = domains::encode([name.as_str()], &mut Writer::new(&mut buffer)) {
                let text = format!("`{name}` is no domain name: {why}");
                return Err(self.wrong(Fault::plain(text)));
            }
            names.push(name);
            self.take();
            if names.len() > 256 {
                return Err(self.wrong(Fault::plain("a list has 256 domain names at most")));
            }
            if !self.symbol(',') {
                break;
            }
        }
        let mut buffer = vec![0; names.iter().map(|name| name.len() + 2).sum()];
        let mut writer = Writer::new(&mut buffer);
        let names = names.iter().map(String::as_str);
        let encoded = match compressed {
            true => domains::encode_compressed(names, &mut writer),
            false => domains::encode(names, &mut writer),
        };
        if let Err(why) = encoded {
            let text = format!("these domain names cannot be sent: {why}");
            return Err(self.wrong(Fault::plain(text)));
        }
        bytes.extend_from_slice(writer.written());
        Ok(())
    }
}
