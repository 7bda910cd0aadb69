//! The tokens of one file, the next one always known.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::super::Line;
use super::super::expression::{Token, Tokens};
use super::super::problem::{Fault, Problems};
use super::super::source::Place;

pub(super) struct Cursor<'t> {
    text: &'t str,
    tokens: Tokens<'t>,
    token: Token<'t>,
    range: Range<usize>,
    /// Where the last token that was taken ended.
    end: usize,
    file: u32,
    counted: Counted,
}

/// A byte of a text of which the line is known.
#[derive(Copy, Clone)]
pub(super) struct Counted {
    pub(super) at: usize,
    /// From 1.
    pub(super) line: u32,
}

impl Counted {
    const START: Self = Self { at: 0, line: 1 };

    /// Counts on to another byte, or back.
    pub(super) fn go_to(&mut self, at: usize, text: &str) {
        let between = self.at.min(at)..self.at.max(at);
        let between = text.as_bytes().get(between).unwrap_or_default();
        let lines = between.iter().filter(|&&byte| byte == b'\n').count();
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        self.line = match at < self.at {
            true => self.line.saturating_sub(lines),
            false => self.line.saturating_add(lines),
        };
        self.at = at;
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str, file: u32, problems: &mut Problems) -> Self {
        Self::at(text, file, Counted::START, problems)
    }

    /// The tokens from a byte on.
    pub(super) fn at(text: &'t str, file: u32, counted: Counted, problems: &mut Problems) -> Self {
        let mut tokens = Tokens::new(text);
        tokens.back_to(counted.at);
        let mut cursor =
            Self { text, tokens, token: Token::End, range: 0..0, end: 0, file, counted };
        cursor.advance(problems);
        cursor
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    pub(super) fn file(&self) -> u32 {
        self.file
    }

    /// Where the next token begins.
    pub(super) fn offset(&self) -> usize {
        self.range.start
    }

    /// Goes back to a token, or forward.
    pub(super) fn back_to(&mut self, start: usize, problems: &mut Problems) {
        self.tokens.back_to(start);
        self.end = start;
        self.advance(problems);
    }

    /// The next token.
    pub(super) fn peek(&self) -> &Token<'t> {
        &self.token
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.place_of(self.range.clone())
    }

    /// The place of some bytes of the file.
    pub(super) fn place_of(&self, range: Range<usize>) -> Place {
        Place::of(self.file, range)
    }

    /// The line of a place.
    pub(super) fn line(&mut self, place: Place) -> Line {
        // Places come one shortly behind the other, or before it.
        self.counted.go_to(place.start as usize, self.text);
        Line { file: self.file, line: self.counted.line }
    }

    /// The last byte that was counted to.
    pub(super) fn counted(&self) -> Counted {
        self.counted
    }

    /// From a place to the end of the last token that was taken.
    pub(super) fn since(&self, start: Place) -> Place {
        Place { end: u32::try_from(self.end).unwrap_or(u32::MAX).max(start.end), ..start }
    }

    /// Takes the next token.
    pub(super) fn take(&mut self, problems: &mut Problems) -> Token<'t> {
        self.end = self.range.end;
        let token = std::mem::replace(&mut self.token, Token::End);
        self.advance(problems);
        token
    }

    /// Takes the next token if it is this word.
    pub(super) fn take_word(&mut self, word: &str, problems: &mut Problems) -> bool {
        let is = self.token.is_word(word);
        if is {
            self.take(problems);
        }
        is
    }

    /// Takes the next token if it is this character.
    pub(super) fn take_symbol(&mut self, symbol: char, problems: &mut Problems) -> bool {
        let is = self.token == Token::Symbol(symbol);
        if is {
            self.take(problems);
        }
        is
    }

    /// The letters of the next token, if dhcpd would take it for an identifier.
    pub(super) fn word(&self) -> Option<&'t str> {
        match self.token {
            Token::Name(word) | Token::NumberOrName(word) => Some(word),
            _ => None,
        }
    }

    /// Has somebody else read from the next token on.
    pub(super) fn with_tokens<T>(
        &mut self,
        problems: &mut Problems,
        read: impl FnOnce(&mut Tokens<'t>, &mut Problems) -> T,
    ) -> T {
        self.tokens.back_to(self.range.start);
        let value = read(&mut self.tokens, problems);
        self.end = self.range.start;
        self.advance(problems);
        // What was read ends at the last character before the next token that is no blank.
        let before = self.text.get(self.end..self.range.start).unwrap_or_default();
        self.end += before.trim_end().len();
        value
    }

    /// Names with dots between them, as one text.
    pub(super) fn host_name(&mut self, problems: &mut Problems) -> Option<String> {
        let mut name = String::new();
        while let Token::Name(part) | Token::NumberOrName(part) | Token::Number(part) = self.token {
            name.push_str(part);
            self.take(problems);
            if !self.take_symbol('.', problems) {
                break;
            }
            name.push('.');
        }
        // A dot at the end means that the name is whole.
        let name = name.strip_suffix('.').unwrap_or(&name);
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// An IPv6 address.
    pub(super) fn address6(&mut self, problems: &mut Problems) -> Option<Ipv6Addr> {
        let rest = &self.text[self.range.start..];
        let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
        let text = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let address = text.parse().ok()?;
        let end = self.range.start + text.len();
        self.tokens.back_to(end);
        self.advance(problems);
        self.end = end;
        Some(address)
    }

    fn advance(&mut self, problems: &mut Problems) {
        loop {
            match self.tokens.next() {
                Ok((token, range)) => {
                    (self.token, self.range) = (token, range);
                    return;
                }
                Err(wrong) => problems.error(self.place_of(wrong.part), wrong.fault),
            }
        }
    }

    /// Passes over the rest of a statement: to the next `;`, over whatever stands in braces; a `}`
    /// that closes what is around it stays.
    pub(super) fn skip_statement(&mut self, problems: &mut Problems) {
        let mut depth = 0_usize;
        loop {
            match self.token {
                Token::End => return,
                Token::Symbol('}') if depth == 0 => return,
                Token::Symbol('}') => {
                    depth -= 1;
                    self.take(problems);
                    if depth == 0 {
                        return;
                    }
                }
                Token::Symbol('{') => {
                    depth += 1;
                    self.take(problems);
                }
                Token::Symbol(';') if depth == 0 => {
                    self.take(problems);
                    return;
                }
                _ => {
                    self.take(problems);
                }
            }
        }
    }

    /// The `;` that ends a statement; if it is missing it says so and passes over the rest.
    pub(super) fn semicolon(&mut self, problems: &mut Problems) {
        if self.take_symbol(';', problems) {
            return;
        }
        let text = format!("there must be a `;`, not {}", self.token.describe());
        let fault = Fault::new(text, "a statement ends with a semicolon");
        let between = self.text.get(self.end..self.range.start).unwrap_or_default();
        if between.contains('\n') {
            // What stands on the next line is the next statement.
            problems.error(self.place_of(self.end.saturating_sub(1)..self.end), fault);
        } else {
            problems.error(self.place(), fault);
            self.skip_statement(problems);
        }
    }
}
