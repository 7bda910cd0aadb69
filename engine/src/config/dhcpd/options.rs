//! Options: their values, definitions and spaces.

use super::super::expression::{self, Data, Token, Tokens};
use super::super::problem::Fault;
use super::super::source::Place;
use super::ast::{Body, Value, What};
use super::format::{Format, Part};
use super::grammar::{Mistake, Parser, Within};
use super::spaces::{Definition, SpaceNumber};
use super::table::{self, Kind, Status};

impl<'t> Parser<'t, '_, '_> {
    pub(super) fn option(&mut self, within: Within, body: &mut Body) -> Result<(), Mistake> {
        let start = self.cursor.place();
        self.take();
        if self.cursor.peek().is_word("space") {
            return self.space(within);
        }
        let name_at = self.cursor.offset();
        if self.cursor.peek().is_word("server") {
            let what = self.assignment()?;
            let place = self.cursor.since(start);
            self.push(body, place, what);
            return Ok(());
        }
        let (space, name, _) = self.option_name()?;
        if self.cursor.peek().is_word("code") {
            if within != Within::Root {
                let help = "define options outside of all braces, before they are used";
                return Err(self.wrong(Fault::new("this definition stands in a scope", help)));
            }
            self.take();
            return self.definition(space, &name);
        }
        self.cursor.back_to(name_at, self.reader.problems);
        let what = self.assignment()?;
        let place = self.cursor.since(start);
        self.push(body, place, what);
        Ok(())
    }

    /// The name of an option and its value, with the `;` behind it.
    pub(super) fn assignment(&mut self) -> Result<What, Mistake> {
        let start = self.cursor.place();
        if self.cursor.peek().is_word("server") {
            let at = self.cursor.offset();
            self.take();
            if self.symbol('.')
                && let Some(what) = self.setting()?
            {
                return Ok(what);
            }
            self.cursor.back_to(at, self.reader.problems);
        }
        let (space, name, place) = self.option_name()?;
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
        self.reader.warn_of_option(space, definition.code, place);
        Ok(What::Option { space, code: definition.code, value })
    }

    /// A parameter of the server and its value, or what `allow`, `deny` and `ignore` say, with the
    /// `;` behind it. `None`, and nothing is read, if something else stands there.
    pub(super) fn setting(&mut self) -> Result<Option<What>, Mistake> {
        let start = self.cursor.place();
        let Some(word) = self.cursor.word() else { return Ok(None) };
        if ["allow", "deny", "ignore"].iter().any(|other| word.eq_ignore_ascii_case(other)) {
            return self.permission().map(Some);
        }
        let Some(row) = table::parameter(word) else { return Ok(None) };
        let Kind::Parameter(part) = &row.kind else { return Ok(None) };
        self.take();
        let value = self.assigned(&Format::one(part.clone()))?;
        // To be told not to do what is not done is fine.
        let off = *part == Part::Flag && value == Value::Bytes(vec![0]);
        if row.status != Status::Refused || !off {
            let place = self.cursor.since(start);
            self.status(row, place)?;
        }
        self.semicolon()?;
        Ok(Some(What::Parameter { row, value }))
    }

    /// `allow`, `deny` or `ignore` outside of pools.
    fn permission(&mut self) -> Result<What, Mistake> {
        let start = self.cursor.place();
        let value = match self.cursor.word() {
            Some(word) if word.eq_ignore_ascii_case("allow") => 1,
            Some(word) if word.eq_ignore_ascii_case("deny") => 0,
            _ => 2,
        };
        self.take();
        let word = self.cursor.word().unwrap_or_default();
        let found = table::permission(word);
        let Some((key, row)) = found.and_then(|key| match key.kind {
            Kind::Permission(name) => Some((key, table::parameter(name)?)),
            _ => None,
        }) else {
            let keys = table::ROWS.iter().filter(|row| matches!(row.kind, Kind::Permission(_)));
            let keys: Vec<&str> = keys.map(|row| row.name).collect();
            let within_pool = ["members", "known", "known-clients", "unknown", "all", "dynamic"];
            if within_pool.iter().any(|other| word.eq_ignore_ascii_case(other)) {
                let help = "permits of clients stand in a pool: pool { range ...; allow ...; }";
                return Err(self.wrong(Fault::new("this is a permit of a pool", help)));
            }
            return Err(self.expected(&format!("one of {}", keys.join(", "))));
        };
        self.status(key, start)?;
        self.take();
        self.semicolon()?;
        Ok(What::Parameter { row, value: Value::Bytes(vec![value]) })
    }

    /// `NAME` or `SPACE.NAME`, and its place.
    pub(super) fn option_name(&mut self) -> Result<(SpaceNumber, Box<str>, Place), Mistake> {
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
    pub(super) fn assigned(&mut self, format: &Format) -> Result<Value, Mistake> {
        if !self.symbol('=') {
            return self.value(format);
        }
        Ok(match self.expression(false, expression::data)? {
            Data::Constant(bytes) => Value::Bytes(bytes.into_vec()),
            data => Value::Expression(data),
        })
    }

    /// `option space NAME;`
    fn space(&mut self, within: Within) -> Result<(), Mistake> {
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
    fn definition(&mut self, space: SpaceNumber, name: &str) -> Result<(), Mistake> {
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
        let definition = Definition { name: name.into(), code, format };
        let line = self.cursor.line(place);
        self.reader.defines.insert((space, code));
        self.reader.defined.push((space, definition.clone(), line));
        self.reader.spaces.define(space, definition);
        Ok(())
    }
}
