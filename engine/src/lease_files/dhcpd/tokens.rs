//! The statements of a lease file, one at a time.
//!
//! Only the statement at hand is in memory, and it has a limit, so a file of any size and content
//! is read with a few kilobytes.

use std::io::{self, BufRead};

use super::super::read::Wrong;

/// The most bytes of one statement.
const LONGEST: usize = 64 << 10;

/// What stands in a statement.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A name, a number, an address, a date: all up to a blank or a mark.
    Word,
    /// What stood in quotes, without its escapes.
    Text,
    /// `,` or `=`.
    Mark,
}

/// How a statement ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// With `;`.
    Statement,
    /// With `{`, behind which others stand.
    Open,
    /// With `}`: nothing stands before it.
    Close,
    /// With the file.
    File,
}

/// One statement: what stands before its end.
#[derive(Debug, Default)]
pub(super) struct Statement {
    bytes: Vec<u8>,
    /// Kind, and where its bytes end.
    parts: Vec<(Kind, usize)>,
    /// The file ends in a text.
    open_text: bool,
    /// Where it begins.
    pub(super) line: u64,
}

impl Statement {
    /// The bytes of its parts, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let starts = std::iter::once(0).chain(self.parts.iter().map(|(_, end)| *end));
        starts.zip(&self.parts).map(|(start, (kind, end))| (*kind, &self.bytes[start..*end]))
    }

    /// A part by its place; an empty word where there is none.
    pub(super) fn part(&self, place: usize) -> (Kind, &[u8]) {
        self.parts().nth(place).unwrap_or((Kind::Word, &[]))
    }

    /// The word at a place; empty for what is no word.
    pub(super) fn word(&self, place: usize) -> &str {
        match self.part(place) {
            (Kind::Word, bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            _ => "",
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether anything of it was there, if only a quote.
    pub(super) fn began(&self) -> bool {
        !self.parts.is_empty() || self.open_text
    }

    fn clear(&mut self) {
        self.open_text = false;
        self.bytes.clear();
        self.parts.clear();
    }
}

/// The statements of a file.
pub(super) struct Statements<R> {
    input: R,
    /// Of the next byte, from 1.
    line: u64,
    pub(super) now: Statement,
}

impl<R: BufRead> Statements<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 1, now: Statement::default() }
    }

    /// Reads the next statement into [`Statements::now`]. Comments are left out.
    pub(super) fn next(&mut self) -> Result<End, Wrong> {
        self.now.clear();
        self.now.line = self.line;
        loop {
            let Some(byte) = self.peek()? else { return Ok(End::File) };
            if self.now.is_empty() {
                self.now.line = self.line;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.skip(),
                b'#' => {
                    while self.peek()?.is_some_and(|byte| byte != b'\n') {
                        self.skip();
                    }
                }
                b';' => {
                    self.skip();
                    return Ok(End::Statement);
                }
                b'{' => {
                    self.skip();
                    return Ok(End::Open);
                }
                b'}' if self.now.is_empty() => {
                    self.skip();
                    return Ok(End::Close);
                }
                b'}' => return Err(Wrong::at(self.line, "a `;` is missing before this `}`")),
                b',' | b'=' => {
                    self.skip();
                    self.push(byte)?;
                    self.end_part(Kind::Mark)?;
                }
                b'"' => {
                    self.skip();
                    if !self.text()? {
                        self.now.open_text = true;
                        return Ok(End::File);
                    }
                }
                // A file system fills what was not written before a power cut with zeros.
                0 => return self.zeros(),
                0x21..=0x7e => self.word()?,
                other => {
                    let what = format!("the byte {other:#04x} stands outside of quotes");
                    return Err(Wrong::at(self.line, what));
                }
            }
        }
    }

    /// Skips what stands behind an [`End::Open`], to its `}`. Whether that was there.
    pub(super) fn skip_block(&mut self) -> Result<bool, Wrong> {
        let mut depth = 1_u64;
        while depth > 0 {
            match self.next()? {
                End::Statement => {}
                End::Open => depth += 1,
                End::Close => depth -= 1,
                End::File => return Ok(false),
            }
        }
        Ok(true)
    }

    fn peek(&mut self) -> Result<Option<u8>, Wrong> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the byte that [`Statements::peek`] showed.
    fn skip(&mut self) {
        let newline = self.input.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&b'\n'));
        self.line += u64::from(newline);
        self.input.consume(1);
    }

    fn push(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.now.bytes.len() == LONGEST {
            let what = format!("the statement is longer than {LONGEST} bytes");
            return Err(Wrong::at(self.now.line, what));
        }
        self.now.bytes.push(byte);
        Ok(())
    }

    fn end_part(&mut self, kind: Kind) -> Result<(), Wrong> {
        if self.now.parts.len() == LONGEST {
            let what = format!("the statement has more than {LONGEST} parts");
            return Err(Wrong::at(self.now.line, what));
        }
        self.now.parts.push((kind, self.now.bytes.len()));
        Ok(())
    }

    fn word(&mut self) -> Result<(), Wrong> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, 0x21..=0x7e) || b";{},=\"#".contains(&byte) {
                break;
            }
            self.skip();
            self.push(byte)?;
        }
        self.end_part(Kind::Word)
    }

    /// A text behind its quote, with the escapes that dhcpd reads: octal, hexadecimal, and letters.
    /// Whether its end was there.
    fn text(&mut self) -> Result<bool, Wrong> {
        while let Some(byte) = self.peek()? {
            self.skip();
            match byte {
                b'"' => {
                    self.end_part(Kind::Text)?;
                    return Ok(true);
                }
                b'\\' => {
                    let Some(escaped) = self.escape()? else { return Ok(false) };
                    self.push(escaped)?;
                }
                other => self.push(other)?,
            }
        }
        Ok(false)
    }

    fn escape(&mut self) -> Result<Option<u8>, Wrong> {
        let Some(byte) = self.peek()? else { return Ok(None) };
        self.skip();
        Ok(Some(match byte {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'b' => 8,
            b'0'..=b'7' => self.digits(8, 2, u32::from(byte - b'0'))?,
            b'x' => self.digits(16, 2, 0)?,
            other => other,
        }))
    }

    /// Up to `most` more digits of a number.
    fn digits(&mut self, radix: u32, most: usize, first: u32) -> Result<u8, Wrong> {
        let mut number = first;
        for _ in 0..most {
            let digit = self.peek()?.and_then(|byte| char::from(byte).to_digit(radix));
            let Some(digit) = digit else { break };
            self.skip();
            number = number * radix + digit;
        }
        // As dhcpd, which keeps the lower eight bits.
        Ok((number & 0xff) as u8)
    }

    /// Zeros up to the end of the file are an end; others are not.
    fn zeros(&mut self) -> Result<End, Wrong> {
        let line = self.line;
        while self.peek()? == Some(0) {
            self.skip();
        }
        match self.peek()? {
            None => Ok(End::File),
            Some(_) => Err(Wrong::at(line, "zero bytes stand in the middle of the file")),
        }
    }
}
