//! Expressions and executable statements: read by `expression`, which asks here what names stand
//! for and has options and parameters read.

use std::cell::{Cell, RefCell};

use super::super::expression::{self, Data, Grammar, OptionPath, Tokens, Vocabulary, Wrong};
use super::super::problem::{Fault, Problems};
use super::super::scope_draft::ScopeDraft;
use super::super::source::Place;
use super::super::statement::Mode;
use super::super::{ClassId, Key, Line, VariableId};
use super::ast::{Body, What};
use super::cursor::{Counted, Cursor};
use super::grammar::{Mistake, Parser};
use super::lower;
use super::reader::Reader;

/// Reads an expression of some type.
type Read<T> = fn(&mut Tokens<'_>, &dyn Vocabulary, &mut Vec<Wrong>) -> Result<T, Wrong>;

impl<'t> Parser<'t, '_, '_> {
    /// Has an expression read. `decides`: it decides whether a client is a member of a class.
    pub(super) fn expression<T>(&mut self, decides: bool, read: Read<T>) -> Result<T, Mistake> {
        self.spoken(decides, |tokens, speaker, doubts| read(tokens, speaker, doubts))
    }

    /// Has one statement read that is carried out for each message.
    pub(super) fn executable(&mut self, start: Place, body: &mut Body) -> Result<(), Mistake> {
        let from = self.cursor.offset();
        let mut draft = ScopeDraft::default();
        let read = self.spoken(false, |tokens, speaker, doubts| {
            expression::statement(tokens, speaker, &mut draft, doubts)
        });
        match read {
            Ok(true) => {
                let place = self.cursor.since(start);
                self.push(body, place, What::Statements(draft.block()));
                Ok(())
            }
            Ok(false) => Err(self.expected("a statement")),
            Err(mistake) => {
                // The whole of it is passed over, so that what stands in it is not read as if it
                // stood outside.
                self.tell(mistake);
                self.cursor.back_to(from, self.reader.problems);
                self.skip();
                while self.cursor.peek().is_word("else") || self.cursor.peek().is_word("elsif") {
                    self.skip();
                }
                Ok(())
            }
        }
    }

    fn spoken<T>(
        &mut self,
        decides: bool,
        read: impl FnOnce(&mut Tokens<'t>, &Speaker<'t, '_, '_>, &mut Vec<Wrong>) -> Result<T, Wrong>,
    ) -> Result<T, Mistake> {
        let start = self.cursor.place();
        let mut doubts = Vec::new();
        let mut unread = Problems::default();
        let speaker = Speaker {
            text: self.cursor.text(),
            file: self.cursor.file(),
            counted: Cell::new(self.cursor.counted()),
            decides,
            reader: RefCell::new(&mut *self.reader),
        };
        let value =
            self.cursor.with_tokens(&mut unread, |tokens, _| read(tokens, &speaker, &mut doubts));
        let problems = &mut *self.reader.problems;
        problems.absorb(unread);
        for Wrong { part, fault } in doubts {
            problems.warn(self.cursor.place_of(part), fault);
        }
        let whole = self.cursor.since(start);
        for fault in std::mem::take(&mut self.reader.unresolved) {
            self.reader.problems.warn(whole, fault);
        }
        value.map_err(|Wrong { part, fault }| Mistake { place: self.cursor.place_of(part), fault })
    }
}

/// What an expression or a statement may ask.
struct Speaker<'t, 'x, 'r> {
    text: &'t str,
    file: u32,
    counted: Cell<Counted>,
    decides: bool,
    reader: RefCell<&'x mut Reader<'r>>,
}

impl Speaker<'_, '_, '_> {
    /// A byte with its line.
    fn counted(&self, at: usize) -> Counted {
        let mut counted = self.counted.get();
        counted.go_to(at, self.text);
        self.counted.set(counted);
        counted
    }

    /// Has a part of a statement read from the next token on.
    fn part<T>(
        &self,
        tokens: &mut Tokens<'_>,
        read: impl FnOnce(&mut Parser<'_, '_, '_>) -> Result<T, Mistake>,
    ) -> Result<T, Wrong> {
        let mut reader = self.reader.borrow_mut();
        let from = self.counted(tokens.offset());
        let cursor = Cursor::at(self.text, self.file, from, reader.problems);
        let mut parser = Parser { cursor, reader: &mut reader };
        let value = read(&mut parser);
        tokens.back_to(parser.cursor.offset());
        value.map_err(|Mistake { place, fault }| Wrong { part: place.range(), fault })
    }
}

impl Vocabulary for Speaker<'_, '_, '_> {
    fn decides_classes(&self) -> bool {
        self.decides
    }

    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        self.reader.borrow_mut().option_path(space, name)
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        self.reader.borrow().class(name)
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        Ok(self.reader.borrow_mut().variable(name))
    }

    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        self.reader.borrow_mut().configured(space, name)
    }

    fn host_name(&self, name: &str) -> Result<Data, Fault> {
        let addresses = self.reader.borrow_mut().lookup(name);
        if addresses.is_empty() {
            return Ok(Data::Null);
        }
        let bytes: Vec<u8> = addresses.iter().flat_map(|address| address.octets()).collect();
        Ok(Data::Constant(bytes.into()))
    }
}

impl Grammar for Speaker<'_, '_, '_> {
    fn option_value(
        &self,
        mode: Mode,
        tokens: &mut Tokens<'_>,
        draft: &mut ScopeDraft,
        _doubts: &mut Vec<Wrong>,
    ) -> Result<(), Wrong> {
        let line = self.line(tokens.offset());
        let what = self.part(tokens, |parser| parser.assignment())?;
        let reader = self.reader.borrow();
        lower::assign(draft, &reader.spaces, &what, (mode, line));
        Ok(())
    }

    fn setting(
        &self,
        tokens: &mut Tokens<'_>,
        draft: &mut ScopeDraft,
        _doubts: &mut Vec<Wrong>,
    ) -> Result<bool, Wrong> {
        let line = self.line(tokens.offset());
        let Some(what) = self.part(tokens, |parser| parser.setting())? else { return Ok(false) };
        let reader = self.reader.borrow();
        lower::assign(draft, &reader.spaces, &what, (Mode::Supersede, line));
        Ok(true)
    }

    fn declared_class(&self, name: &str) -> Result<ClassId, Fault> {
        self.reader.borrow().class(name)
    }

    fn line(&self, at: usize) -> Line {
        Line { file: self.file, line: self.counted(at).line }
    }
}
