//! Executable statements (dhcpd.conf(5), dhcp-eval(5)): what a scope says beside plain values.
//!
//! Options and settings, whose values have types, are read by the front end ([`Grammar`]); all that
//! decides whether and when they hold is read here.

use std::ops::Range;

use super::super::problem::Fault;
use super::super::scope_draft::ScopeDraft;
use super::super::statement::{
    self, Action, Block, Branch, Events, Line, Mode, Operand, Statement, SwitchPart,
};
use super::parser::{self, Vocabulary};
use super::tokens::{Token, Tokens};
use super::{Boolean, Wrong};
use crate::config::{ClassId, LogLevel, VariableId};

/// How deep statements may be nested. Each level takes about 1 KiB of a stack.
const DEEPEST: usize = 32;

/// What a front end reads itself.
pub(in crate::config) trait Grammar: Vocabulary {
    /// Reads the name, the value and the `;` of an option, behind a word that says what becomes of
    /// a value that is there.
    fn option_value(
        &self,
        mode: Mode,
        tokens: &mut Tokens<'_>,
        draft: &mut ScopeDraft,
        doubts: &mut Vec<Wrong>,
    ) -> Result<(), Wrong>;

    /// Reads a setting (`filename "pxelinux.0";`, `allow bootp;`). Nothing is read, and the answer
    /// is false, if something else stands there.
    fn setting(
        &self,
        tokens: &mut Tokens<'_>,
        draft: &mut ScopeDraft,
        doubts: &mut Vec<Wrong>,
    ) -> Result<bool, Wrong>;

    /// A class that is declared before.
    fn declared_class(&self, name: &str) -> Result<ClassId, Fault>;

    /// The line of a byte of the text.
    fn line(&self, at: usize) -> Line;
}

/// Reads a statement from the next token on into a scope. Nothing is read, and the answer is false,
/// if something else stands there.
pub(in crate::config) fn statement(
    tokens: &mut Tokens<'_>,
    names: &dyn Grammar,
    draft: &mut ScopeDraft,
    doubts: &mut Vec<Wrong>,
) -> Result<bool, Wrong> {
    Reader { tokens, names, doubts, depth: 0 }.statement(draft)
}

struct Reader<'n, 't> {
    tokens: &'n mut Tokens<'t>,
    names: &'n dyn Grammar,
    doubts: &'n mut Vec<Wrong>,
    depth: usize,
}

impl Reader<'_, '_> {
    fn statement(&mut self, draft: &mut ScopeDraft) -> Result<bool, Wrong> {
        let (token, place) = self.tokens.peek()?;
        let Some(word) = token.word() else { return Ok(false) };
        let word = word.to_ascii_lowercase();
        let mode = match word.as_str() {
            "option" | "supersede" | "send" => Some(Mode::Supersede),
            "default" => Some(Mode::Default),
            "append" => Some(Mode::Append),
            "prepend" => Some(Mode::Prepend),
            _ => None,
        };
        if let Some(mode) = mode {
            self.tokens.next()?;
            if mode == Mode::Default && self.is_next(':')? {
                return Err(label_outside(&word, place));
            }
            self.names.option_value(mode, self.tokens, draft, self.doubts)?;
            return Ok(true);
        }
        let read: fn(&mut Self) -> Result<Option<Action>, Wrong> = match word.as_str() {
            "if" => Self::condition,
            "switch" => Self::switch,
            "set" => Self::set,
            "unset" => Self::unset,
            "log" => Self::log,
            "add" => Self::add,
            "on" => Self::on,
            "execute" => Self::execute,
            "eval" => Self::eval,
            "break" => Self::end_of_list,
            // Options of the spaces of vendors are found in option 43 without it.
            "parse-vendor-option" => Self::nothing,
            "case" => return Err(label_outside(&word, place)),
            "define" | "return" => {
                let help =
                    "write the expression where it is wanted, or keep its value: set x = ...;";
                let text = format!("`{word}` belongs to functions, which cannot be defined here");
                return Err(Wrong::new(place, Fault::new(text, help)));
            }
            _ => return self.names.setting(self.tokens, draft, self.doubts),
        };
        self.tokens.next()?;
        let line = self.names.line(place.start);
        self.depth += 1;
        if self.depth > DEEPEST {
            let text = format!("statements are nested more than {DEEPEST} deep here");
            return Err(Wrong::new(place, Fault::new(text, "make classes of the conditions")));
        }
        if let Some(action) = read(self)? {
            draft.push(Statement { line, action });
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Statements up to the `}` that ends them. Its `{` has been read.
    fn block(&mut self) -> Result<Box<[Statement]>, Wrong> {
        let mut draft = ScopeDraft::default();
        while self.statement(&mut draft)? {}
        self.end_of_block()?;
        Ok(draft.block())
    }

    fn end_of_block(&mut self) -> Result<(), Wrong> {
        let (token, place) = self.tokens.next()?;
        let (text, help) = match &token {
            Token::Symbol('}') => return Ok(()),
            Token::End => ("the `}` of this block is missing".to_owned(), "add it"),
            _ => (
                format!("{} is no statement", token.describe()),
                "options, settings, if, switch, set, unset, log, add, on, execute and break can \
                 stand here; declarations (host, pool, subnet, ...) cannot",
            ),
        };
        Err(Wrong::new(place, Fault::new(text, help)))
    }

    /// Takes the symbol that must come next.
    fn take(&mut self, symbol: char, why: &str) -> Result<(), Wrong> {
        let (token, place) = self.tokens.next()?;
        if token == Token::Symbol(symbol) {
            return Ok(());
        }
        let text = format!("there must be a `{symbol}`, not {}", token.describe());
        Err(Wrong::new(place, Fault::new(text, why)))
    }

    fn is_next(&self, symbol: char) -> Result<bool, Wrong> {
        Ok(self.tokens.peek()?.0 == Token::Symbol(symbol))
    }

    fn semicolon(&mut self) -> Result<(), Wrong> {
        self.take(';', "each statement ends with one")
    }

    fn boolean(&mut self) -> Result<Boolean, Wrong> {
        parser::boolean(self.tokens, self.names, self.doubts)
    }

    /// The condition and the statements of an `if` or `elsif`, and all branches behind it.
    fn condition(&mut self) -> Result<Option<Action>, Wrong> {
        let mut branches = Vec::new();
        loop {
            let line = self.names.line(self.tokens.peek()?.1.start);
            // dhcpd takes parentheses off first, and nothing may follow them.
            let apart = self.is_next('(')?;
            if apart {
                self.tokens.next()?;
            }
            let condition = self.boolean()?;
            if apart {
                self.take(')', "each `(` has its `)`")?;
            }
            let why = if apart {
                "what stands behind `if (` ends with its `)`: write if ((a) and (b)) { ... }"
            } else {
                "the statements of a condition stand in { }"
            };
            self.take('{', why)?;
            branches.push(Branch { line, condition, statements: self.block()? });
            if self.is_word("elsif")? {
                self.tokens.next()?;
                continue;
            }
            if !self.is_word("else")? {
                return Ok(Some(Action::If(branches.into(), Box::default())));
            }
            self.tokens.next()?;
            if self.is_word("if")? {
                self.tokens.next()?;
                continue;
            }
            self.take('{', "behind `else` stands `if` or { ... }")?;
            let last = self.block()?;
            return Ok(Some(Action::If(branches.into(), last)));
        }
    }

    fn is_word(&self, word: &str) -> Result<bool, Wrong> {
        Ok(self.tokens.peek()?.0.is_word(word))
    }

    fn switch(&mut self) -> Result<Option<Action>, Wrong> {
        self.take('(', "what is compared stands in parentheses")?;
        let operand = parser::data_or_numeric(self.tokens, self.names, self.doubts)?;
        self.take(')', "each `(` has its `)`")?;
        self.take('{', "the cases of `switch` stand in { }")?;
        let mut parts = Vec::new();
        let mut draft = ScopeDraft::default();
        loop {
            let label = self.label(&operand)?;
            if label.is_none() && self.statement(&mut draft)? {
                continue;
            }
            let statements = std::mem::take(&mut draft).block();
            parts.extend(statements.into_iter().map(SwitchPart::Statement));
            match label {
                Some(label) => parts.push(label),
                None => break,
            }
        }
        self.end_of_block()?;
        Ok(Some(Action::Switch(operand, parts.into())))
    }

    /// `case VALUE:` or `default:`, if one of them comes next.
    fn label(&mut self, operand: &Operand) -> Result<Option<SwitchPart>, Wrong> {
        let mut ahead = self.tokens.clone();
        let (word, place) = ahead.next()?;
        let line = self.names.line(place.start);
        let label = if word.is_word("default") && ahead.peek()?.0 == Token::Symbol(':') {
            *self.tokens = ahead;
            SwitchPart::Default(line)
        } else if word.is_word("case") {
            *self.tokens = ahead;
            let label = match operand {
                Operand::Data(_) => {
                    Operand::Data(parser::data(self.tokens, self.names, self.doubts)?)
                }
                _ => Operand::Numeric(parser::numeric(self.tokens, self.names, self.doubts)?),
            };
            SwitchPart::Case(line, label)
        } else {
            return Ok(None);
        };
        self.take(':', "the label of a case ends with one")?;
        Ok(Some(label))
    }

    fn variable(&mut self) -> Result<VariableId, Wrong> {
        let (token, place) = self.tokens.next()?;
        let Some(word) = token.word() else {
            let text = format!("this must be the name of a variable, not {}", token.describe());
            let help = "names begin with a letter, and have letters, digits, `-` and `_`";
            return Err(Wrong::new(place, Fault::new(text, help)));
        };
        self.names.variable(word).map_err(|fault| Wrong::new(place, fault))
    }

    fn set(&mut self) -> Result<Option<Action>, Wrong> {
        let variable = self.variable()?;
        self.take('=', "write set NAME = VALUE;")?;
        let value = parser::any(self.tokens, self.names, self.doubts)?;
        self.semicolon()?;
        Ok(Some(Action::Set(variable, value)))
    }

    fn unset(&mut self) -> Result<Option<Action>, Wrong> {
        let variable = self.variable()?;
        self.semicolon()?;
        Ok(Some(Action::Unset(variable)))
    }

    fn log(&mut self) -> Result<Option<Action>, Wrong> {
        self.take('(', "write log(info, \"...\");")?;
        let (word, place) = self.tokens.peek()?;
        let level = match word.word().map(str::to_ascii_lowercase).as_deref() {
            Some("fatal") => {
                let help = "write `error`, which says the same";
                let text = "`fatal` ends dhcpd; here it is logged as an error, and service goes on";
                self.doubts.push(Wrong::new(place, Fault::new(text, help)));
                Some(LogLevel::Error)
            }
            Some("error") => Some(LogLevel::Error),
            Some("info") => Some(LogLevel::Info),
            Some("debug") => Some(LogLevel::Debug),
            _ => None,
        };
        if level.is_some() {
            self.tokens.next()?;
            self.take(',', "behind the level stands what is logged: log(info, \"...\");")?;
        }
        let text = parser::data(self.tokens, self.names, self.doubts)?;
        self.take(')', "each `(` has its `)`")?;
        self.semicolon()?;
        Ok(Some(Action::Log(level.unwrap_or(LogLevel::Debug), text)))
    }

    fn add(&mut self) -> Result<Option<Action>, Wrong> {
        let (token, place) = self.tokens.next()?;
        let Token::Text(name) = &token else {
            let help = "write its name in quotes: add \"gpu\";";
            return Err(Wrong::new(place, Fault::new("there must be a class behind `add`", help)));
        };
        let class = self.names.declared_class(&String::from_utf8_lossy(name));
        let class = class.map_err(|fault| Wrong::new(place, fault))?;
        self.semicolon()?;
        Ok(Some(Action::AddClass(class)))
    }

    fn on(&mut self) -> Result<Option<Action>, Wrong> {
        let mut events = Events::default();
        let event = self.tokens.peek()?.1;
        loop {
            let (token, place) = self.tokens.next()?;
            match token.word().map(str::to_ascii_lowercase).as_deref() {
                Some("commit") => events.commit = true,
                Some("release") => events.release = true,
                Some("expiry") => events.expiry = true,
                Some("transmission") => {
                    let text = "`transmission` never comes to pass, as in dhcpd";
                    let help = "the events are commit, release and expiry";
                    self.doubts.push(Wrong::new(place, Fault::new(text, help)));
                }
                _ => {
                    let text = format!("this must be an event, not {}", token.describe());
                    let help = "write on commit { ... }, on release or on expiry, or several with \
                                `or` between them";
                    return Err(Wrong::new(place, Fault::new(text, help)));
                }
            }
            if !self.is_word("or")? {
                break;
            }
            self.tokens.next()?;
        }
        let start = self.tokens.offset();
        let statements = if self.is_next(';')? {
            self.tokens.next()?;
            Box::default()
        } else {
            self.take('{', "what is done stands in { }")?;
            self.block()?
        };
        let mut sets = false;
        statement::each(&statements, &mut |statement| {
            sets |= matches!(statement.action, Action::Fixed(..) | Action::Assign(..));
        });
        if sets {
            let text = "options and settings that are set when this happens are not sent";
            let help = "set them outside of the `on`";
            self.doubts.push(Wrong::new(event, Fault::new(text, help)));
        }
        let block = Block::of(self.tokens.text_from(start).trim(), statements);
        Ok(Some(Action::On(events, block)))
    }

    fn execute(&mut self) -> Result<Option<Action>, Wrong> {
        self.take('(', "write execute(\"PROGRAM\", ARGUMENT, ...);")?;
        let (token, place) = self.tokens.next()?;
        let Token::Text(program) = token else {
            let text = format!("this must be a program, not {}", token.describe());
            return Err(Wrong::new(place, Fault::new(text, "write its path in quotes")));
        };
        let mut arguments = Vec::new();
        while self.is_next(',')? {
            self.tokens.next()?;
            arguments.push(parser::data(self.tokens, self.names, self.doubts)?);
        }
        self.take(')', "arguments have `,` between them, and end with `)`")?;
        self.semicolon()?;
        Ok(Some(Action::Execute(program.into_owned().into(), arguments.into())))
    }

    /// To work out a value and drop it does nothing.
    fn eval(&mut self) -> Result<Option<Action>, Wrong> {
        parser::any(self.tokens, self.names, self.doubts)?;
        self.nothing()
    }

    fn nothing(&mut self) -> Result<Option<Action>, Wrong> {
        self.semicolon()?;
        Ok(None)
    }

    fn end_of_list(&mut self) -> Result<Option<Action>, Wrong> {
        self.semicolon()?;
        Ok(Some(Action::Break))
    }
}

/// A label of `switch` stands elsewhere.
fn label_outside(word: &str, place: Range<usize>) -> Wrong {
    let text = format!("`{word}` stands outside of `switch`");
    let help =
        "labels stand in switch (VALUE) { case ...: default: }, and not inside an `if` there";
    Wrong::new(place, Fault::new(text, help))
}
