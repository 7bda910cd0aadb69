//! Options: their values, definitions and spaces.

use super::super::expression::{self, Token, Tokens};
use super::super::problem::Fault;
use super::super::source::Place;
use super::ast::{Body, Value, What};
use super::format::{Format, Part};
use super::grammar::{Parser, Told, Within};
use super::spaces::{Definition, SpaceNumber};

impl<'t> Parser<'t, '_, '_> {
    pub(super) fn option(&mut self, within: Within, body: &mut Body) -> Result<(), Told> {
        let start = self.cursor.place();
        self.take();
        if self.cursor.peek().is_word("space") {
            return self.space(within);
        }
        let (space, name, place) = self.option_name()?;
        if self.cursor.peek().is_word("code") {
            if within != Within::Root {
                let help = "define options outside of all braces, before they are used";
                return Err(self.wrong(Fault::new("this definition stands in a scope", help)));
            }
            self.take();
            return self.definition(space, &name);
        }
        let definition = match self.reader.spaces.option(space, &name) {
            Ok(definition) => definition,
            Err(fault) => return Err(self.wrong_at(place, fault)),
        };
        let value = if *self.cursor.peek() == Token::Symbol(';')
            && definition.format.parts != [Part::Nothing]
        {
            return Err(self.expected("a value"));
        } else {
            self.assigned(&definition.format)?
        };
        self.semicolon()?;
        let place = self.cursor.since(start);
        let what = What::Option { space, code: definition.code, value };
        self.push(body, place, what);
        Ok(())
    }

    /// `NAME` or `SPACE.NAME`, and its place.
    pub(super) fn option_name(&mut self) -> Result<(SpaceNumber, Box<str>, Place), Told> {
        let start = self.cursor.place();
        let Some(first) = self.cursor.word() else {
            return Err(self.expected("the name of an option"));
        };
        self.take();
        if !self.symbol('.') {
            return Ok((self.reader.dhcp, first.into(), start));
        }
        let space = match self.reader.spaces.named(first) {
            Ok(space) => space,
            Err(fault) => return Err(self.wrong_at(start, fault)),
        };
        let Some(name) = self.cursor.word() else {
            return Err(self.expected("the name of an option"));
        };
        self.take();
        Ok((space, name.into(), self.cursor.since(start)))
    }

    /// A value, or `=` and an expression.
    pub(super) fn assigned(&mut self, format: &Format) -> Result<Value, Told> {
        if !self.symbol('=') {
            return self.value(format);
        }
        let start = self.cursor.place();
        match self.expression(expression::data)? {
            expression::Data::Constant(bytes) => Ok(Value::Bytes(bytes.into_vec())),
            _ => {
                let place = self.cursor.since(start);
                let text = "values that depend on the message are not served yet";
                Err(self.wrong_at(place, Fault::plain(text)))
            }
        }
    }

    /// `option space NAME;`
    fn space(&mut self, within: Within) -> Result<(), Told> {
        if within != Within::Root {
            let help = "define spaces outside of all braces, before they are used";
            return Err(self.wrong(Fault::new("this definition stands in a scope", help)));
        }
        self.take();
        let Some(name) = self.cursor.word() else {
            return Err(self.expected("the name of an option space"));
        };
        self.take();
        let (mut code, mut length) = (1, 1);
        while *self.cursor.peek() != Token::Symbol(';') {
            let (word, most) = if self.word("code") {
                (&mut code, 4)
            } else if self.word("length") {
                (&mut length, 2)
            } else if self.word("hash") {
                if !self.word("size") {
                    return Err(self.expected("`size`"));
                }
                self.count("a number")?;
                continue;
            } else {
                return Err(self.expected("`code width`, `length width` or `;`"));
            };
            if !self.word("width") {
                return Err(self.expected("`width`"));
            }
            *word = match self.count("1, 2 or 4")? {
                width @ (1 | 2 | 4) if width <= most => u8::try_from(width).unwrap_or(1),
                _ => {
                    let text = "codes have 1, 2 or 4 bytes, and lengths 1 or 2";
                    return Err(self.wrong(Fault::plain(text)));
                }
            };
        }
        self.semicolon()?;
        self.reader.spaces.add(name, (code, length));
        Ok(())
    }

    /// What stands behind `option NAME code`.
    fn definition(&mut self, space: SpaceNumber, name: &str) -> Result<(), Told> {
        let place = self.cursor.place();
        let code = self.count("the code of the option, a number")?;
        let last = match self.reader.spaces.get(space).code_width {
            1 => 254,
            2 => u64::from(u16::MAX),
            _ => u64::from(u32::MAX),
        };
        let padding = space == self.reader.dhcp && code == 0;
        let Some(code) = u32::try_from(code).ok().filter(|_| code <= last && !padding) else {
            let text = format!("no option has the code {code}");
            let first = u8::from(space == self.reader.dhcp);
            let help = format!("codes of this space are numbers from {first} to {last}");
            return Err(self.wrong_at(place, Fault::new(text, help)));
        };
        if !self.symbol('=') {
            return Err(self.expected("a `=`"));
        }
        let read = |tokens: &mut Tokens<'t>, _: &mut _| Format::read(tokens, false);
        let format = match self.cursor.with_tokens(self.reader.problems, read) {
            Ok(format) => format,
            Err((range, fault)) => {
                let place = self.cursor.place_of(range);
                return Err(self.wrong_at(place, fault));
            }
        };
        if let Some(inner) = format.encapsulates()
            && let Err(fault) = self.reader.spaces.named(inner)
        {
            return Err(self.wrong(fault));
        }
        self.semicolon()?;
        self.reader.spaces.define(space, Definition { name: name.into(), code, format });
        Ok(())
    }
}
