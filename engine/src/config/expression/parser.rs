//! From a text to an expression with a type.
//!
//! The grammar is that of dhcpd (parse.c of ISC dhcpd 4.4), with two rules that surprise:
//!
//! - Operators bind by [`Operator::strength`]: bit operators closest, then comparisons, then `and`
//!   and `or` alike, then `+` and `-`, then `*`, `/` and `%`. So sums in comparisons need
//!   parentheses.
//! - Where a closer operator follows, all that stands behind it up to the next parenthesis is its
//!   side's: `a = 1 and b = 2 or c = 3` is `a = 1 and (b = 2 or c = 3)`. Else operators go from
//!   left to right.
//!
//! What begins with a digit is a number where a number is wanted, and hexadecimal bytes elsewhere:
//! `option x = 10` compares with the byte 16.

mod operands;

pub(in crate::config) use operands::means_nothing;

use std::ops::Range;

use super::super::problem::Fault;
use super::tokens::{Token, Tokens};
use super::{
    Arithmetic, Boolean, DEEPEST, Data, LONGEST_TEXT, MOST_NODES, Numeric, OptionPath, Pattern,
    Wrong,
};
use crate::config::statement::{Key, Operand};
use crate::config::{ClassId, VariableId};

/// What makes bytes of a number.
const MAKES_BYTES: &str = "encode-int makes bytes of a number";
/// What makes a number of bytes.
const MAKES_NUMBERS: &str = "extract-int makes a number of bytes";

/// What the names in an expression stand for.
pub(in crate::config) trait Vocabulary {
    /// Whether the test of a class is read: nothing is known of host entries and leases then.
    fn decides_classes(&self) -> bool {
        false
    }
    /// An option by its name or number; `space` stands before the dot if there is one.
    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault>;
    /// A class that is decided before the one whose test is read.
    fn class(&self, name: &str) -> Result<ClassId, Fault>;
    /// A variable that a statement may set.
    fn variable(&self, name: &str) -> Result<VariableId, Fault>;
    /// What `config-option` names: what a scope can set.
    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault>;
    /// The addresses of a host, four bytes each, or null.
    fn host_name(&self, name: &str) -> Result<Data, Fault>;
    /// The name of this host.
    fn own_host_name(&self) -> Option<Box<[u8]>> {
        Some(rustix::system::uname().nodename().to_bytes().into())
    }
}

/// Reads a condition from the next token on. What follows it stays to be read.
pub(in crate::config) fn boolean(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Boolean, Wrong> {
    let help = "compare it: option vendor-class-identifier = \"...\"";
    match read(tokens, names, doubts, Type::Boolean)? {
        (Any::Boolean(expression), _) => Ok(expression),
        (Any::Variable(variable), _) => Ok(Boolean::Variable(variable)),
        (other, place) => Err(must_yield("true or false", &other, place, help)),
    }
}

/// Reads an expression that yields bytes, likewise.
pub(in crate::config) fn data(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Data, Wrong> {
    match read(tokens, names, doubts, Type::Data)? {
        (Any::Data(expression), _) => Ok(expression),
        (Any::Variable(variable), _) => Ok(Data::Variable(variable)),
        (other, place) => Err(must_yield("bytes", &other, place, MAKES_BYTES)),
    }
}

/// Reads an expression that yields a number, likewise.
pub(super) fn numeric(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Numeric, Wrong> {
    match read(tokens, names, doubts, Type::Numeric)? {
        (Any::Numeric(expression), _) => Ok(expression),
        (Any::Variable(variable), _) => Ok(Numeric::Variable(variable)),
        (other, place) => Err(must_yield("a number", &other, place, MAKES_NUMBERS)),
    }
}

/// Reads an expression that yields bytes or a number, likewise. A variable is a number.
pub(in crate::config) fn data_or_numeric(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Operand, Wrong> {
    match read(tokens, names, doubts, Type::DataOrNumeric)? {
        (Any::Data(expression), _) => Ok(Operand::Data(expression)),
        (Any::Numeric(expression), _) => Ok(Operand::Numeric(expression)),
        (Any::Variable(variable), _) => Ok(Operand::Numeric(Numeric::Variable(variable))),
        (other, place) => {
            Err(must_yield("bytes or a number", &other, place, "write `if` for a condition"))
        }
    }
}

/// Reads an expression of any type, likewise. Digits are bytes.
pub(in crate::config) fn any(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Operand, Wrong> {
    Ok(match read(tokens, names, doubts, Type::Any)?.0 {
        Any::Boolean(expression) => Operand::Boolean(expression),
        Any::Data(expression) => Operand::Data(expression),
        Any::Numeric(expression) => Operand::Numeric(expression),
        Any::Variable(variable) => Operand::Variable(variable),
    })
}

/// Reads an expression and says which bytes it has.
fn read(
    tokens: &mut Tokens<'_>,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
    context: Type,
) -> Result<(Any, Range<usize>), Wrong> {
    let (token, place) = tokens.next()?;
    let start = place.start;
    let mut parser = Parser {
        tokens,
        token,
        place,
        start,
        end: start,
        names,
        nodes: 0,
        depth: 0,
        mixed: [false; 2],
        doubts,
    };
    let any = parser.expression(context, None)?;
    let (end, next) = (parser.end, parser.place.start);
    let whole = start..end;
    tokens.back_to(next);
    // Left sides may be deeper than the nesting that the parser counted.
    if any.height() > DEEPEST {
        return Err(Wrong::new(whole, too_deep()));
    }
    Ok((any, whole))
}

/// Reads a text that is one condition.
pub(in crate::config) fn condition(
    text: &str,
    names: &dyn Vocabulary,
    doubts: &mut Vec<Wrong>,
) -> Result<Boolean, Wrong> {
    let mut tokens = Tokens::new(text);
    let condition = boolean(&mut tokens, names, doubts)?;
    let (token, place) = tokens.next()?;
    if token == Token::End {
        return Ok(condition);
    }
    let help = match token {
        Token::Symbol(';') => "leave it out: the condition ends with the text",
        Token::Symbol('<' | '>') => "numbers can be compared by = and != only",
        _ => "write an operator before it: and, or, =, !=, ~=, ~~; a minus needs blanks",
    };
    let text = format!("{} does not belong here", token.describe());
    Err(Wrong::new(place, Fault::new(text, help)))
}

fn must_yield(what: &str, other: &Any, place: Range<usize>, help: &str) -> Wrong {
    let text = format!("it yields {} and must yield {what}", other.kind().name());
    Wrong::new(place, Fault::new(text, help))
}

/// The type of an expression.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Type {
    Boolean,
    Data,
    Numeric,
    /// A variable may have any. A number is bytes then.
    Any,
    /// No variable's: what a `switch` compares.
    DataOrNumeric,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "a condition",
            Self::Data => "bytes",
            Self::Numeric => "a number",
            Self::Any | Self::DataOrNumeric => "a variable",
        }
    }
}

#[derive(Debug)]
enum Any {
    Boolean(Boolean),
    Data(Data),
    Numeric(Numeric),
    Variable(VariableId),
}

impl Any {
    fn kind(&self) -> Type {
        match self {
            Self::Boolean(_) => Type::Boolean,
            Self::Data(_) => Type::Data,
            Self::Numeric(_) => Type::Numeric,
            Self::Variable(_) => Type::Any,
        }
    }

    /// With this type, if it is a variable.
    fn with(self, kind: Type) -> Self {
        match (self, kind) {
            (Self::Variable(variable), Type::Boolean) => Self::Boolean(Boolean::Variable(variable)),
            (Self::Variable(variable), Type::Data) => Self::Data(Data::Variable(variable)),
            (Self::Variable(variable), Type::Numeric) => Self::Numeric(Numeric::Variable(variable)),
            (other, _) => other,
        }
    }

    fn height(&self) -> usize {
        match self {
            Self::Boolean(boolean) => boolean.height(),
            Self::Data(data) => data.height(),
            Self::Numeric(number) => number.height(),
            Self::Variable(_) => 1,
        }
    }
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Operator {
    And,
    Or,
    Equal,
    NotEqual,
    Matches { ignore_case: bool },
    Arithmetic(Arithmetic),
}

impl Operator {
    /// Which of two operators has the operand between them: the stronger one, else the left one.
    fn strength(self) -> u8 {
        match self {
            Self::Arithmetic(Arithmetic::And | Arithmetic::Or | Arithmetic::Xor) => 5,
            Self::Equal | Self::NotEqual | Self::Matches { .. } => 4,
            Self::And | Self::Or => 3,
            Self::Arithmetic(Arithmetic::Add | Arithmetic::Subtract) => 2,
            Self::Arithmetic(_) => 1,
        }
    }

    /// What a number on the right side of a stronger operator is.
    fn operands(self) -> Type {
        match self {
            Self::And | Self::Or => Type::Boolean,
            Self::Equal | Self::NotEqual | Self::Matches { .. } => Type::Data,
            Self::Arithmetic(_) => Type::Numeric,
        }
    }
}

/// What stands left of an operator, with its place, and the operator.
type Left = (Any, Range<usize>, Operator);

struct Parser<'n, 't> {
    tokens: &'n mut Tokens<'t>,
    /// The next token.
    token: Token<'t>,
    place: Range<usize>,
    /// Where the expression begins.
    start: usize,
    /// Where the last token ended.
    end: usize,
    names: &'n dyn Vocabulary,
    nodes: usize,
    depth: usize,
    /// Whether `and`, and whether `or` was met since the last parenthesis.
    mixed: [bool; 2],
    /// What can be used, and is perhaps not what is meant.
    doubts: &'n mut Vec<Wrong>,
}

impl<'t> Parser<'_, 't> {
    fn wrong(&self, fault: Fault) -> Wrong {
        Wrong::new(self.place.clone(), fault)
    }

    /// Takes the next token.
    fn take(&mut self) -> Result<Token<'t>, Wrong> {
        let (token, place) = self.tokens.next()?;
        if self.place.end - self.start > LONGEST_TEXT {
            let text = format!("this expression has more than {LONGEST_TEXT} bytes");
            let whole = self.start..self.place.end;
            return Err(Wrong::new(whole, Fault::new(text, "make several of it")));
        }
        self.end = std::mem::replace(&mut self.place, place).end;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn take_symbol(&mut self, symbol: char, why: &str) -> Result<(), Wrong> {
        if self.token != Token::Symbol(symbol) {
            let text = format!("there must be a `{symbol}`, not {}", self.token.describe());
            return Err(self.wrong(Fault::new(text, why)));
        }
        self.take().map(drop)
    }

    /// Counts one part of the expression.
    fn count(&mut self) -> Result<(), Wrong> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let text = format!("it has more than {MOST_NODES} parts");
            return Err(self.wrong(Fault::new(text, "make several classes of it")));
        }
        Ok(())
    }

    /// Goes one level deeper. Nobody goes on after an error, so only what succeeds comes back up.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Wrong>) -> Result<T, Wrong> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(too_deep()));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Operands and the operators between them, as many as there are.
    fn expression(&mut self, mut context: Type, mut left: Option<Left>) -> Result<Any, Wrong> {
        loop {
            let start = self.place.clone();
            let mut right = self.operand(context)?;
            let mut place = start.start..self.end;
            let mut next = self.operator()?;
            context = if next.is_some() { right.kind() } else { context };
            let Some((value, from, operator)) = left else {
                match next {
                    None => return Ok(right),
                    Some(next) => left = Some((right, place, next)),
                }
                continue;
            };
            if let Some(stronger) = next.filter(|next| next.strength() > operator.strength()) {
                let start = place.start;
                let all = Some((right, place, stronger));
                right = self.nested(|parser| parser.expression(stronger.operands(), all))?;
                place = start..self.end;
                next = None;
            }
            let both = from.start..place.end;
            let value = self.combine((value, from), operator, (right, place))?;
            match next {
                None => return Ok(value),
                Some(next) => left = Some((value, both, next)),
            }
        }
    }

    /// The operator that comes next, if it is one.
    fn operator(&mut self) -> Result<Option<Operator>, Wrong> {
        let arithmetic = |operator| Some(Operator::Arithmetic(operator));
        let operator = match &self.token {
            Token::Symbol('=') => Some(Operator::Equal),
            Token::Symbol('!' | '~') => return self.two_signs().map(Some),
            Token::Symbol('+') => arithmetic(Arithmetic::Add),
            Token::Symbol('-') => arithmetic(Arithmetic::Subtract),
            Token::Symbol('*') => arithmetic(Arithmetic::Multiply),
            Token::Symbol('/') => arithmetic(Arithmetic::Divide),
            Token::Symbol('%') => arithmetic(Arithmetic::Remainder),
            Token::Symbol('&') => arithmetic(Arithmetic::And),
            Token::Symbol('|') => arithmetic(Arithmetic::Or),
            Token::Symbol('^') => arithmetic(Arithmetic::Xor),
            word if word.is_word("and") => Some(Operator::And),
            word if word.is_word("or") => Some(Operator::Or),
            _ => None,
        };
        if let Some(operator @ (Operator::And | Operator::Or)) = operator {
            let was = self.mixed;
            self.mixed[usize::from(operator == Operator::Or)] = true;
            if self.mixed == [true; 2] && was != self.mixed {
                let help = "write parentheses: (a and b) or c";
                let text = "`and` and `or` side by side are not grouped as one would think: they \
                            bind alike, and a comparison between them takes all that follows";
                self.doubts.push(self.wrong(Fault::new(text, help)));
            }
        }
        if operator.is_some() {
            self.take()?;
        }
        Ok(operator)
    }

    /// `!=`, `~=` or `~~`.
    fn two_signs(&mut self) -> Result<Operator, Wrong> {
        let first = self.take()?;
        let operator = match (first, &self.token) {
            (Token::Symbol('!'), Token::Symbol('=')) => Operator::NotEqual,
            (Token::Symbol('~'), Token::Symbol('=')) => Operator::Matches { ignore_case: false },
            (Token::Symbol('~'), Token::Symbol('~')) => Operator::Matches { ignore_case: true },
            _ => {
                let help = "operators are =, !=, ~= (matches a pattern), ~~ (the same, whatever \
                            the case), and, or, not";
                return Err(self.wrong(Fault::new("this is no operator", help)));
            }
        };
        self.take()?;
        Ok(operator)
    }

    fn combine(
        &mut self,
        (left, left_place): (Any, Range<usize>),
        operator: Operator,
        (right, right_place): (Any, Range<usize>),
    ) -> Result<Any, Wrong> {
        self.count()?;
        let kinds = (left.kind(), right.kind());
        let (left, right) = typed(left, operator, right);
        let mismatch = |help: &str| {
            let text = if kinds.0 == kinds.1 {
                format!("this operator does not take {}", kinds.0.name())
            } else {
                format!("{} and {} stand here together", kinds.0.name(), kinds.1.name())
            };
            Wrong::new(left_place.start..right_place.end, Fault::new(text, help))
        };
        let boolean = match (operator, left, right) {
            (Operator::And, Any::Boolean(left), Any::Boolean(right)) => {
                Boolean::And(joined(left, right, |boolean| match boolean {
                    Boolean::And(parts) => Ok(parts),
                    other => Err(other),
                }))
            }
            (Operator::Or, Any::Boolean(left), Any::Boolean(right)) => {
                Boolean::Or(joined(left, right, |boolean| match boolean {
                    Boolean::Or(parts) => Ok(parts),
                    other => Err(other),
                }))
            }
            (Operator::Equal | Operator::NotEqual, Any::Data(left), Any::Data(right)) => {
                Boolean::DataEqual(Box::new([left, right]))
            }
            (Operator::Equal | Operator::NotEqual, Any::Numeric(left), Any::Numeric(right)) => {
                Boolean::NumbersEqual(Box::new([left, right]))
            }
            (Operator::Equal | Operator::NotEqual, Any::Variable(left), Any::Variable(right)) => {
                Boolean::VariablesEqual([left, right])
            }
            (Operator::Matches { ignore_case }, Any::Data(value), Any::Data(pattern)) => {
                let Data::Constant(pattern) = pattern else {
                    let text = "the pattern depends on the message";
                    let help = "a pattern is a text: option user-class ~= \"^iPXE\"";
                    return Err(Wrong::new(right_place, Fault::new(text, help)));
                };
                let pattern = Pattern::new(&pattern, ignore_case)
                    .map_err(|fault| Wrong::new(right_place, fault))?;
                Boolean::Matches(Box::new(value), Box::new(pattern))
            }
            (Operator::Arithmetic(operator), Any::Numeric(left), Any::Numeric(right)) => {
                let number = Numeric::Arithmetic(operator, Box::new([left, right]));
                return Ok(Any::Numeric(number.folded()));
            }
            (Operator::And | Operator::Or, ..) => {
                return Err(mismatch("and, or and not stand between comparisons"));
            }
            (Operator::Arithmetic(_), ..) => {
                return Err(mismatch(
                    "it takes numbers; sums stand in parentheses: (a + b) = c; bytes become a \
                     number by extract-int(..., 8)",
                ));
            }
            _ => {
                return Err(mismatch(
                    "bytes are compared with bytes, numbers with numbers (extract-int, \
                     encode-int); the number that stands first is an extract-int, and sums stand \
                     in parentheses: (extract-int(hardware, 8) + 1) = 2",
                ));
            }
        };
        let boolean = boolean.folded();
        Ok(Any::Boolean(match operator {
            Operator::NotEqual => Boolean::Not(Box::new(boolean)).folded(),
            _ => boolean,
        }))
    }
}

/// Gives a variable the type that the operator wants, or that the other side of a comparison has.
fn typed(left: Any, operator: Operator, right: Any) -> (Any, Any) {
    let wanted = match operator {
        Operator::And | Operator::Or => Type::Boolean,
        Operator::Matches { .. } => Type::Data,
        Operator::Arithmetic(_) => Type::Numeric,
        Operator::Equal | Operator::NotEqual => match (left.kind(), right.kind()) {
            (Type::Any, other) | (other, _) => other,
        },
    };
    (left.with(wanted), right.with(wanted))
}

fn too_deep() -> Fault {
    let help = "make a class of a part of it, and ask for that: check \"NAME\"";
    Fault::new(format!("it is nested more than {DEEPEST} deep"), help)
}

/// Both sides in one list; what is a list of this kind already is taken apart. Grouping makes no
/// difference to `and` and `or`.
fn joined(
    left: Boolean,
    right: Boolean,
    parts: impl Fn(Boolean) -> Result<Vec<Boolean>, Boolean>,
) -> Vec<Boolean> {
    let side = |boolean| parts(boolean).unwrap_or_else(|other| vec![other]);
    let mut all = side(left);
    all.extend(side(right));
    all
}
