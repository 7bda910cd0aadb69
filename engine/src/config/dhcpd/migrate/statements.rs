//! What a statement of a scope says: read again from its text, for TOML wants the text of its
//! expressions.

use super::super::super::expression::{self, Token, Tokens};
use super::super::super::statement::{Mode, Operand};
use super::super::super::{Line, expression::Numeric};
use super::super::ast::{Entry, What};
use super::super::cursor::{Counted, Cursor};
use super::super::grammar::{Mistake, Parser};
use super::toml::{bytes, expressed, literal, quoted};
use super::{Writer, one_line};
use crate::config::expression::Data;

/// What a statement says.
pub(super) enum Said {
    /// A value, and what becomes of one that is there.
    Value(Mode, Entry),
    /// A variable and its expression.
    Set(String, String),
    /// The name of a class.
    Add(String),
    If(Vec<Branch>),
    Switch(Switch),
    On(On),
    /// TOML has no words for it; its first word.
    Other(String),
}

/// A branch of an `if`: its condition, which the last may lack, and what it says.
pub(super) type Branch = (Option<String>, Vec<Entry>);

/// A `switch`.
pub(super) struct Switch {
    pub(super) value: String,
    pub(super) cases: Vec<Case>,
}

/// A part of a `switch` behind one or several labels.
#[derive(Default)]
pub(super) struct Case {
    /// As TOML writes them.
    pub(super) labels: Vec<String>,
    pub(super) is_default: bool,
    pub(super) entries: Vec<Entry>,
    /// It ends with `break`.
    pub(super) ends: bool,
}

/// An `on`.
pub(super) struct On {
    pub(super) events: Vec<&'static str>,
    pub(super) done: Vec<(Line, Done)>,
}

/// What an `on` has done.
pub(super) enum Done {
    Set(String, String),
    /// What is logged, as TOML writes it.
    Log(String),
    /// A program and its arguments, likewise.
    Execute(Vec<String>),
    /// TOML has no words for it; its first word.
    Other(String),
}

impl Writer<'_> {
    /// What a statement says. Mistakes were told when it was read first.
    pub(super) fn said(&mut self, entry: &Entry) -> Option<Said> {
        let file = entry.place.file;
        let text = self.text(file)?;
        let from = Counted { at: entry.place.start as usize, line: entry.line.line };
        let cursor = Cursor::at(&text, file, from, self.reader.problems);
        let parser = Parser { cursor, reader: &mut self.reader };
        Statement { parser, text: &text }.read().ok()
    }
}

/// One statement while it is read.
struct Statement<'t, 'x, 'r> {
    parser: Parser<'t, 'x, 'r>,
    text: &'t str,
}

impl Statement<'_, '_, '_> {
    fn read(&mut self) -> Result<Said, Mistake> {
        let word = self.peeked();
        let mode = match &*word {
            "option" | "supersede" | "send" => Some(Mode::Supersede),
            "default" => Some(Mode::Default),
            "append" => Some(Mode::Append),
            "prepend" => Some(Mode::Prepend),
            _ => None,
        };
        let start = self.parser.cursor.place();
        let line = self.parser.cursor.line(start);
        let entry = |parser: &Parser<'_, '_, '_>, what| Entry {
            place: parser.cursor.since(start),
            line,
            what,
        };
        if let Some(mode) = mode {
            self.parser.take();
            let what = self.parser.assignment()?;
            return Ok(Said::Value(mode, entry(&self.parser, what)));
        }
        Ok(match &*word {
            "if" => Said::If(self.branches()),
            "switch" => self.switch()?.map_or(Said::Other(word), Said::Switch),
            "on" => Said::On(self.on()?),
            "set" => {
                let (name, value) = self.variable();
                Said::Set(name, value)
            }
            "unset" => {
                self.parser.take();
                Said::Set(self.peeked(), "null".to_owned())
            }
            "add" => {
                self.parser.take();
                match self.parser.cursor.peek() {
                    Token::Text(name) => Said::Add(String::from_utf8_lossy(name).into_owned()),
                    _ => Said::Other(word),
                }
            }
            _ => match self.parser.setting()? {
                Some(what) => Said::Value(Mode::Supersede, entry(&self.parser, what)),
                None => Said::Other(word),
            },
        })
    }

    /// The next token as a word in lower case; empty if it is none.
    fn peeked(&self) -> String {
        self.parser.cursor.word().unwrap_or_default().to_ascii_lowercase()
    }

    /// The text up to one of the symbols that stands in no parentheses, which is next then.
    fn text_to(&mut self, ends: &[char]) -> String {
        let start = self.parser.cursor.offset();
        let mut depth = 0_usize;
        loop {
            match self.parser.cursor.peek() {
                Token::End => break,
                Token::Symbol(symbol) if depth == 0 && ends.contains(symbol) => break,
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.parser.take();
        }
        one_line(self.text.get(start..self.parser.cursor.offset()).unwrap_or_default())
    }

    /// `set NAME = EXPRESSION;`
    fn variable(&mut self) -> (String, String) {
        self.parser.take();
        let name = self.peeked();
        self.parser.take();
        self.parser.symbol('=');
        let value = self.text_to(&[';']);
        self.parser.symbol(';');
        (name, value)
    }

    /// The branches of an `if`, from that word on.
    fn branches(&mut self) -> Vec<Branch> {
        let mut branches: Vec<Branch> = Vec::new();
        loop {
            let last = self.parser.cursor.peek().is_word("else");
            if !branches.is_empty() && !last && !self.parser.cursor.peek().is_word("elsif") {
                return branches;
            }
            self.parser.take();
            let test = (!last || self.parser.word("if")).then(|| self.text_to(&['{']));
            let is_last = test.is_none();
            self.parser.symbol('{');
            branches.push((test, self.body()));
            if is_last {
                return branches;
            }
        }
    }

    /// The statements of a block up to its `}`, which is taken. What stands behind a `break` never
    /// runs.
    fn body(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut ended = false;
        while !self.parser.symbol('}') && *self.parser.cursor.peek() != Token::End {
            ended |= self.parser.cursor.peek().is_word("break");
            let entry = self.skipped();
            if !ended {
                entries.push(entry);
            }
        }
        entries
    }

    /// One statement, which is passed over.
    fn skipped(&mut self) -> Entry {
        let start = self.parser.cursor.place();
        let line = self.parser.cursor.line(start);
        let is_if = self.parser.cursor.peek().is_word("if");
        self.parser.skip();
        while is_if && ["else", "elsif"].iter().any(|word| self.parser.cursor.peek().is_word(word))
        {
            self.parser.skip();
        }
        let place = self.parser.cursor.since(start);
        Entry { place, line, what: What::Statements(Box::default()) }
    }

    /// `None` where a label is no constant.
    fn switch(&mut self) -> Result<Option<Switch>, Mistake> {
        self.parser.take();
        self.parser.symbol('(');
        let start = self.parser.cursor.offset();
        let operand = self.parser.expression(false, expression::data_or_numeric)?;
        let value = self.text.get(start..self.parser.cursor.offset()).unwrap_or_default();
        let value = one_line(value);
        self.parser.symbol(')');
        self.parser.symbol('{');
        let mut cases: Vec<Case> = Vec::new();
        while !self.parser.symbol('}') && *self.parser.cursor.peek() != Token::End {
            let from = self.parser.cursor.offset();
            let is_default = self.parser.word("default") && self.parser.symbol(':');
            if is_default || self.parser.word("case") {
                let label = match is_default {
                    true => None,
                    false => match self.label(&operand)? {
                        Some(label) => Some(label),
                        None => return Ok(None),
                    },
                };
                let plain = |case: &Case| case.entries.is_empty() && !case.ends && !case.is_default;
                match cases.last_mut().filter(|case| plain(case) && !is_default) {
                    Some(case) => case.labels.extend(label),
                    None => cases.push(Case {
                        labels: label.into_iter().collect(),
                        is_default,
                        ..Case::default()
                    }),
                }
                continue;
            }
            self.parser.cursor.back_to(from, self.parser.reader.problems);
            let ends = self.parser.cursor.peek().is_word("break");
            let entry = self.skipped();
            // Nothing runs before the first label, nor behind a `break`.
            let Some(case) = cases.last_mut().filter(|case| !case.ends) else { continue };
            match ends {
                true => case.ends = true,
                false => case.entries.push(entry),
            }
        }
        Ok(Some(Switch { value, cases }))
    }

    /// A label and its `:`.
    fn label(&mut self, operand: &Operand) -> Result<Option<String>, Mistake> {
        let label = match operand {
            Operand::Data(_) => Operand::Data(self.parser.expression(false, expression::data)?),
            _ => self.parser.expression(false, expression::data_or_numeric)?,
        };
        self.parser.symbol(':');
        Ok(match label {
            Operand::Data(Data::Constant(value)) => Some(bytes(&value)),
            Operand::Numeric(Numeric::Constant(number)) => Some(number.to_string()),
            _ => None,
        })
    }

    fn on(&mut self) -> Result<On, Mistake> {
        self.parser.take();
        let mut on = On { events: Vec::new(), done: Vec::new() };
        while !matches!(self.parser.cursor.peek(), Token::Symbol('{' | ';') | Token::End) {
            let word = self.peeked();
            on.events.extend(EVENTS.into_iter().find(|event| *event == word));
            self.parser.take();
        }
        if !self.parser.symbol('{') {
            return Ok(on);
        }
        while !self.parser.symbol('}') && *self.parser.cursor.peek() != Token::End {
            let start = self.parser.cursor.place();
            let line = self.parser.cursor.line(start);
            let word = self.peeked();
            let done = match &*word {
                "set" => {
                    let (name, value) = self.variable();
                    Done::Set(name, value)
                }
                "unset" => {
                    self.parser.take();
                    let name = self.peeked();
                    self.parser.skip();
                    Done::Set(name, "null".to_owned())
                }
                "log" => Done::Log(self.log()),
                "execute" => Done::Execute(self.arguments()),
                "break" => {
                    self.body();
                    break;
                }
                _ => {
                    self.skipped();
                    Done::Other(word)
                }
            };
            on.done.push((line, done));
        }
        Ok(on)
    }

    /// What a `log` says: what stands last in its parentheses.
    fn log(&mut self) -> String {
        let level_or_text = self.arguments();
        level_or_text.last().cloned().unwrap_or_default()
    }

    /// The arguments behind a word.
    fn arguments(&mut self) -> Vec<String> {
        self.parser.take();
        self.parser.symbol('(');
        let mut arguments = Vec::new();
        loop {
            let text = self.text_to(&[',', ')']);
            arguments.push(argument(&text));
            if !self.parser.symbol(',') {
                break;
            }
        }
        self.parser.symbol(')');
        self.parser.symbol(';');
        arguments
    }
}

/// The events of `on`.
const EVENTS: [&str; 3] = ["commit", "release", "expiry"];

/// An argument as TOML writes it: a text if it is nothing else.
fn argument(expression: &str) -> String {
    let mut tokens = Tokens::new(expression);
    if let Ok((Token::Text(text), _)) = tokens.next()
        && let (Ok((Token::End, _)), Ok(text)) = (tokens.next(), std::str::from_utf8(&text))
    {
        return quoted(text);
    }
    expressed(expression)
}

/// A table of TOML for what an `on` has done.
#[derive(Default)]
struct Table<'o> {
    sets: Vec<(&'o str, &'o str)>,
    log: Option<&'o str>,
    execute: Option<&'o [String]>,
}

impl On {
    /// Tables of TOML, each with its keys. Each does first what it sets, then what it logs, then
    /// what it executes, and they run one after the other.
    pub(super) fn tables(&self) -> Vec<Vec<String>> {
        let mut tables: Vec<Table<'_>> = Vec::new();
        for (_, done) in &self.done {
            let fits = |table: &&mut Table<'_>| match done {
                Done::Set(name, _) => {
                    table.log.is_none()
                        && table.execute.is_none()
                        && table.sets.iter().all(|(other, _)| other != name)
                }
                Done::Log(_) => table.log.is_none() && table.execute.is_none(),
                Done::Execute(_) => table.execute.is_none(),
                Done::Other(_) => true,
            };
            let mut fresh = Table::default();
            let fitting = tables.last_mut().filter(fits);
            let is_fresh = fitting.is_none();
            let table = fitting.unwrap_or(&mut fresh);
            match done {
                Done::Set(name, value) => table.sets.push((name, value)),
                Done::Log(text) => table.log = Some(text),
                Done::Execute(words) => table.execute = Some(words),
                Done::Other(_) => continue,
            }
            if is_fresh {
                tables.push(fresh);
            }
        }
        let lines = tables.into_iter().map(|Table { sets, log, execute }| {
            let sets: Vec<String> =
                sets.iter().map(|(name, value)| format!("{name} = {}", literal(value))).collect();
            let set = (!sets.is_empty()).then(|| format!("set = {{ {} }}", sets.join(", ")));
            let log = log.map(|text| format!("log = {text}"));
            let execute = execute.map(|words| format!("execute = [{}]", words.join(", ")));
            set.into_iter().chain(log).chain(execute).collect()
        });
        lines.collect()
    }
}
