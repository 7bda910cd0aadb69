//! Executable statements.

use super::super::super::scope_draft::ScopeDraft;
use super::super::super::statement::{
    Action, Block, Events, Line, Mode, Operand, Statement, SwitchPart,
};
use super::super::statements::{Grammar, statement};
use super::*;
use crate::config::LogLevel;

/// Options are `data`, `text`, or numbers, with `= EXPRESSION` or a text; one setting, `filename`.
impl Grammar for Names {
    fn option_value(
        &self,
        mode: Mode,
        tokens: &mut Tokens<'_>,
        draft: &mut ScopeDraft,
        doubts: &mut Vec<Wrong>,
    ) -> Result<(), Wrong> {
        let (token, place) = tokens.next()?;
        let path = self.option(None, &token.describe().replace('`', ""));
        let path = path.map_err(|fault| Wrong { part: place.clone(), fault })?;
        let line = self.line(place.start);
        match tokens.next()?.0 {
            Token::Text(text) => draft.option(path.code, text.into_owned(), line),
            _ => {
                let value = parser::data(tokens, self, doubts)?;
                let action = Action::Assign(mode, Key::Option(path.code), value);
                draft.push(Statement { line, action });
            }
        }
        assert_eq!(tokens.next()?.0, Token::Symbol(';'));
        Ok(())
    }

    fn setting(
        &self,
        tokens: &mut Tokens<'_>,
        _draft: &mut ScopeDraft,
        _doubts: &mut Vec<Wrong>,
    ) -> Result<bool, Wrong> {
        if !tokens.peek()?.0.is_word("filename") {
            return Ok(false);
        }
        for _ in 0..3 {
            tokens.next()?;
        }
        Ok(true)
    }

    fn declared_class(&self, name: &str) -> Result<ClassId, Fault> {
        self.class(name)
    }

    /// The byte stands for the line.
    fn line(&self, at: usize) -> Line {
        Line { file: 0, line: u32::try_from(at).unwrap() }
    }
}

/// All statements of a text.
fn all(text: &str) -> Result<Box<[Statement]>, Wrong> {
    let mut tokens = Tokens::new(text);
    let mut draft = ScopeDraft::default();
    while statement(&mut tokens, &Names, &mut draft, &mut Vec::new())? {}
    let (token, part) = tokens.next()?;
    match token {
        Token::End => Ok(draft.block()),
        _ => Err(Wrong { part, fault: Fault::plain("more") }),
    }
}

/// What one statement does.
fn one(text: &str) -> Action {
    let statements = all(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
    let [Statement { action, .. }] = &*statements else { panic!("{text}: {statements:?}") };
    action.clone()
}

fn bytes(text: &str) -> Data {
    Data::Constant(text.as_bytes().into())
}

#[test]
fn conditions_have_branches() {
    let text = "if exists 1 { append data = \"a\"; } elsif (exists 2) { } ELSE IF exists 3 \
                { set bytes = 10; unset bytes; } else { default text = \"b\"; break; }";
    let Action::If(branches, last) = one(text) else { panic!("{text}") };
    let conditions: Vec<_> = branches.iter().map(|branch| branch.condition.clone()).collect();
    assert_eq!(conditions, ["exists 1", "exists 2", "exists 3"].map(read));
    let action = |statements: &[Statement]| -> Vec<Action> {
        statements.iter().map(|statement| statement.action.clone()).collect()
    };
    let first = Action::Assign(Mode::Append, Key::Option(60), bytes("a"));
    assert_eq!(action(&branches[0].statements), [first]);
    assert_eq!(action(&branches[1].statements), []);
    let set = Action::Set(VariableId(0), Operand::Data(bytes("\x10")));
    assert_eq!(action(&branches[2].statements), [set, Action::Unset(VariableId(0))]);
    let last_one = Action::Assign(Mode::Default, Key::Option(12), bytes("b"));
    assert_eq!(action(&last), [last_one, Action::Break]);
    // The line is that of the statement.
    assert_eq!(branches[2].statements[0].line.line as usize, text.find("set").unwrap());
    assert_eq!(all(text).unwrap()[0].line.line, 0);
}

#[test]
fn what_stands_in_a_block_keeps_its_order() {
    let text =
        "if exists 1 { option data \"a\"; option text \"b\"; if exists 2 {} option data \"c\"; }";
    let Action::If(branches, _) = one(text) else { panic!("{text}") };
    let kinds: Vec<bool> = branches[0]
        .statements
        .iter()
        .map(|statement| matches!(statement.action, Action::Fixed(..)))
        .collect();
    assert_eq!(kinds, [true, false, true]);
}

#[test]
fn cases_of_bytes_and_of_numbers() {
    let text = "switch (option data) { append text = \"x\"; case \"a\": case \"\\x10\": \
                unset bytes; break; \
                default: filename \"f\"; }";
    let Action::Switch(Operand::Data(operand), parts) = one(text) else { panic!("{text}") };
    assert_eq!(operand, Data::Option(DATA));
    let kinds: Vec<_> = parts
        .iter()
        .map(|part| match part {
            SwitchPart::Case(_, Operand::Data(Data::Constant(value))) => format!("{value:?}"),
            SwitchPart::Case(_, other) => panic!("{other:?}"),
            SwitchPart::Default(_) => "default".to_owned(),
            SwitchPart::Statement(_) => "statement".to_owned(),
        })
        .collect();
    assert_eq!(kinds, ["statement", "[97]", "[16]", "statement", "statement", "default"]);
    let numbers = one("switch (extract-int(hardware, 8)) { case 10: break; }");
    let Action::Switch(Operand::Numeric(_), parts) = numbers else { panic!("{numbers:?}") };
    let ten = Operand::Numeric(Numeric::Constant(10));
    assert!(matches!(&parts[0], SwitchPart::Case(_, label) if *label == ten));
    // A number by itself is one, and a variable is taken for one, as in dhcpd.
    assert!(matches!(one("switch (10) { }"), Action::Switch(Operand::Numeric(_), _)));
    assert!(matches!(one("switch (bytes) { }"), Action::Switch(Operand::Numeric(_), _)));
}

#[test]
fn variables_take_values_of_every_type() {
    for (text, value) in [
        ("set bytes = \"a\";", Operand::Data(bytes("a"))),
        ("set bytes = lease-time;", Operand::Numeric(Numeric::LeaseTime)),
        ("set bytes = exists 1;", Operand::Boolean(read("exists 1"))),
        ("set bytes = number;", Operand::Variable(VariableId(1))),
    ] {
        assert_eq!(one(text), Action::Set(VariableId(0), value), "{text}");
    }
}

fn block(text: &str) -> Block {
    Block::of(text, Box::default())
}

#[test]
fn logs_classes_programs_and_events() {
    for (text, action) in [
        ("log(\"a\");", Action::Log(LogLevel::Debug, bytes("a"))),
        ("log(info, \"a\");", Action::Log(LogLevel::Info, bytes("a"))),
        ("log(error, \"a\");", Action::Log(LogLevel::Error, bytes("a"))),
        ("log(fatal, \"a\");", Action::Log(LogLevel::Error, bytes("a"))),
        ("add \"second\";", Action::AddClass(ClassId(1))),
        (
            "execute(\"/bin/x\", \"a\", hardware);",
            Action::Execute(b"/bin/x".as_slice().into(), [bytes("a"), Data::Hardware].into()),
        ),
        (
            "on commit or expiry { }",
            Action::On(Events { commit: true, expiry: true, release: false }, block("{ }")),
        ),
        ("on release;", Action::On(Events { release: true, ..Events::default() }, block(";"))),
    ] {
        assert_eq!(one(text), action, "{text}");
    }
    // These do nothing.
    assert_eq!(*all("parse-vendor-option; eval lcase(\"A\");").unwrap(), []);
}

#[test]
fn errors_name_what_is_wrong() {
    for (text, part, message) in [
        ("if exists 1 option", "option", "there must be a `{`, not `option`"),
        ("if (exists 1) and (exists 2) { }", "and", "there must be a `{`, not `and`"),
        ("if exists 1 { host x { } }", "host", "`host` is no statement"),
        ("if exists 1 { break;", "", "the `}` of this block is missing"),
        ("if option data { }", "option data", "it yields bytes and must yield true or false"),
        ("case 1: break;", "case", "`case` stands outside of `switch`"),
        ("default: break;", "default", "`default` stands outside of `switch`"),
        (
            "switch (option data) { if exists 1 { case 1: } }",
            "case",
            "`case` stands outside of `switch`",
        ),
        (
            "switch (exists 1) { }",
            "exists 1",
            "it yields a condition and must yield bytes or a number",
        ),
        ("set 12 = 1;", "12", "this must be the name of a variable, not `12`"),
        ("set bytes \"a\";", "\"a\"", "there must be a `=`, not a text"),
        ("unset bytes", "", "there must be a `;`, not the end"),
        ("add first;", "first", "there must be a class behind `add`"),
        ("add \"third\";", "\"third\"", "there is no such class"),
        ("on boot { }", "boot", "this must be an event, not `boot`"),
        (
            "define f (x) { }",
            "define",
            "`define` belongs to functions, which cannot be defined here",
        ),
        ("log(info \"x\");", "\"x\"", "there must be a `,`, not a text"),
        ("execute(x);", "x", "this must be a program, not `x`"),
    ] {
        let Wrong { part: found, fault } = all(text).expect_err(text);
        assert_eq!((&text[found], &*fault.message), (part, message), "{text}");
        assert!(fault.help.is_some(), "no way out: {}", fault.message);
    }
}

#[test]
fn the_depth_is_bounded() {
    let deep = |depth: usize| format!("{}{}", "if exists 1 { ".repeat(depth), "} ".repeat(depth));
    all(&deep(32)).unwrap();
    assert!(all(&deep(33)).unwrap_err().fault.message.contains("nested more than"));
    assert!(all(&"if exists 1 { ".repeat(100_000)).is_err());
    // Branches one behind the other are not nested.
    all(&format!("if exists 1 {{ }} {}", "elsif exists 2 { } ".repeat(5_000))).unwrap();
}
