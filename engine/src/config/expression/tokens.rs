//! The tokens of dhcpd's configuration language (conflex.c of ISC dhcpd 4.4).

use std::borrow::Cow;
use std::ops::Range;

use super::super::problem::Fault;
use super::Wrong;

/// One token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) enum Token<'t> {
    /// A text in quotes, without its escapes.
    Text(Cow<'t, [u8]>),
    /// Decimal digits, perhaps with a minus before them.
    Number(&'t str),
    /// Hexadecimal digits: a number, one byte of several, or a name.
    NumberOrName(&'t str),
    /// A name or a word of the language. Words are the same in upper and lower case.
    Name(&'t str),
    /// Any other character.
    Symbol(char),
    /// There is no more.
    End,
}

impl Token<'_> {
    /// Whether it is this word.
    pub(in crate::config) fn is_word(&self, word: &str) -> bool {
        self.word().is_some_and(|own| own.eq_ignore_ascii_case(word))
    }

    /// Its letters, if it may be a word.
    pub(in crate::config) fn word(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::NumberOrName(name) => Some(name),
            _ => None,
        }
    }

    /// What a person would call it.
    pub(in crate::config) fn describe(&self) -> String {
        match self {
            Self::Text(_) => "a text".to_owned(),
            Self::Number(word) | Self::NumberOrName(word) | Self::Name(word) => {
                format!("`{word}`")
            }
            Self::Symbol(symbol) => format!("`{}`", symbol.escape_debug()),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Takes a text apart: an expression, or a whole file.
#[derive(Clone, Debug)]
pub(in crate::config) struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(in crate::config) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The bytes of the text up to the end of the token that was read last.
    pub(in crate::config) fn offset(&self) -> usize {
        self.at
    }

    /// The text from a byte on up to the end of the token that was read last.
    pub(in crate::config) fn text_from(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Goes back to where a token began.
    pub(in crate::config) fn back_to(&mut self, start: usize) {
        self.at = start;
    }

    /// The next token and its bytes, which stays the next one.
    pub(in crate::config) fn peek(&self) -> Result<(Token<'t>, Range<usize>), Wrong> {
        self.clone().next()
    }

    /// The next token and its bytes in the text.
    pub(in crate::config) fn next(&mut self) -> Result<(Token<'t>, Range<usize>), Wrong> {
        self.skip_blanks();
        let start = self.at;
        let mut rest = self.text[start..].chars();
        let token = match rest.next() {
            None => Token::End,
            Some('"') => self.quoted()?,
            Some(first) if first.is_ascii_digit() || first == '-' => self.number(),
            Some(first) if first.is_ascii_alphabetic() => {
                let word = self.word();
                let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_hex { Token::NumberOrName(word) } else { Token::Name(word) }
            }
            Some(symbol) => {
                self.at += symbol.len_utf8();
                Token::Symbol(symbol)
            }
        };
        Ok((token, start..self.at))
    }

    /// Passes over blanks and comments, which go from `#` to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let words = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            self.at += rest.len() - words.len();
            if !words.starts_with('#') {
                return;
            }
            self.at += words.find('\n').unwrap_or(words.len());
        }
    }

    /// Letters, digits, `-` and `_`.
    fn word(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// What begins with a digit or a minus: a number; with letters up to `f` perhaps bytes; with
    /// others a name. `0x` and digits are bytes. A minus alone is an operator.
    fn number(&mut self) -> Token<'t> {
        let word = self.word();
        let digits = word.strip_prefix('-').unwrap_or(word);
        let (_, prefixed) = word
            .split_at_checked(2)
            .filter(|(start, _)| start.eq_ignore_ascii_case("0x"))
            .unwrap_or_default();
        let is_hex =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if word == "-" {
            Token::Symbol('-')
        } else if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Token::Number(word)
        } else if is_hex(digits) || is_hex(prefixed) {
            Token::NumberOrName(word)
        } else {
            Token::Name(word)
        }
    }

    /// A text in quotes. Escapes are `\t`, `\r`, `\n`, `\b`, `\x` with two hexadecimal digits, and
    /// three octal digits up to `\377`; before any other character a backslash means nothing.
    fn quoted(&mut self) -> Result<Token<'t>, Wrong> {
        let open = self.at;
        self.at += 1;
        let rest = &self.text[self.at..];
        let len = rest.find(['"', '\\']).unwrap_or(rest.len());
        if rest[len..].starts_with('"') {
            self.at += len + 1;
            return Ok(Token::Text(rest.as_bytes()[..len].into()));
        }
        let mut bytes = Vec::new();
        loop {
            let start = self.at;
            match self.byte() {
                None => {
                    let help = "put a `\"` behind it";
                    return Err(Wrong::new(open..start, Fault::new("this text has no end", help)));
                }
                Some(b'"') => return Ok(Token::Text(bytes.into())),
                Some(b'\\') => bytes.push(self.escaped(start)?),
                Some(byte) => bytes.push(byte),
            }
        }
    }

    /// The next byte, if there is one. Only bytes below 128 end a text or an escape.
    fn byte(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// The byte of an escape whose backslash has been read.
    fn escaped(&mut self, start: usize) -> Result<u8, Wrong> {
        let (digits, radix) = match self.byte() {
            Some(b't') => return Ok(b'\t'),
            Some(b'r') => return Ok(b'\r'),
            Some(b'n') => return Ok(b'\n'),
            Some(b'b') => return Ok(8),
            Some(b'x') => (self.at..self.at + 2, 16),
            Some(b'0'..=b'3') => (self.at - 1..self.at + 2, 8),
            Some(other) => return Ok(other),
            // The text has no end, which its reader says.
            None => return Ok(b'\\'),
        };
        // No end inside of a character.
        self.at = self.text.floor_char_boundary(digits.end);
        let digits = self.text.as_bytes().get(digits).unwrap_or_default();
        let good = digits.iter().all(|&digit| char::from(digit).is_digit(radix));
        let text = std::str::from_utf8(digits).unwrap_or_default();
        match u8::from_str_radix(text, radix) {
            Ok(byte) if good => Ok(byte),
            _ => {
                let help = "write \\x and two hexadecimal digits, or a backslash and three octal \
                            digits";
                Err(Wrong::new(start..self.at, Fault::new("this escape is not complete", help)))
            }
        }
    }
}
