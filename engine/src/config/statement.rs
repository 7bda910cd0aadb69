//! Statements: what a scope says that depends on the message, in dhcpd's words (dhcp-eval(5)).
//!
//! The statements of a scope run in their order, after those of the scopes around it. Each sets
//! something, and what is set later stands. Options and settings keep the expression that they were
//! set with until all statements have run; conditions are worked out at once.

use bootstorm_protocols::dhcpv4::options;
use xxhash_rust::xxh3::xxh3_64;

use super::expression::{Boolean, Data, Numeric};
use super::{ClassId, LogLevel, Parameter, Scope, SpaceId, VariableId};

/// A line of a file of the configuration, to say where something comes from.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Line {
    /// The file, by its place in [`super::Config::sources`].
    pub file: u32,
    /// From 1.
    pub line: u32,
}

/// What a scope can set.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// An option of the message.
    Option(u8),
    /// An option that travels inside another.
    InSpace(SpaceId, u32),
    /// A setting with one value.
    Parameter(Parameter),
    /// The boot rule of that place among those of the scope.
    Boot(u32),
    /// `always-send`
    AlwaysSend,
}

/// One statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Statement {
    pub(crate) line: Line,
    pub(crate) action: Action,
}

impl Statement {
    /// What it sets to a value that does not depend on a message, or makes longer by one.
    pub(super) fn constant(&self) -> Option<(Key, &[u8])> {
        match &self.action {
            Action::Assign(_, key, Data::Constant(value)) => Some((*key, value)),
            _ => None,
        }
    }

    /// Whether these are routers.
    pub(super) fn names_routers(&self) -> bool {
        self.constant().is_some_and(|(key, _)| key == Key::Option(options::ROUTERS))
    }
}

/// What a statement does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// Sets what does not depend on the message, and the line of each. The scope has no statements.
    Fixed(Scope, Box<[(Key, Line)]>),
    /// Sets an option or a setting to what an expression yields. Null: it is not there, nor is the
    /// value of a wider scope.
    Assign(Mode, Key, Data),
    /// Runs the statements of the first branch whose condition is true, else the last ones.
    If(Box<[Branch]>, Box<[Statement]>),
    /// Goes on behind the first label that equals the operand, else behind `default`.
    Switch(Operand, Box<[SwitchPart]>),
    /// Ends the list of statements that it stands in.
    Break,
    /// Gives a variable a value.
    Set(VariableId, Operand),
    /// Takes the variable away.
    Unset(VariableId),
    /// Writes to the log.
    Log(LogLevel, Data),
    /// Makes the client a member of the class.
    AddClass(ClassId),
    /// Runs a program of the hook: its name, and what it is given.
    Execute(Box<[u8]>, Box<[Data]>),
    /// Runs the statements when something happens to the lease. Of several for one event the last
    /// that was met counts.
    On(Events, Block),
}

/// An `if` or `elsif`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Branch {
    pub(crate) line: Line,
    pub(crate) condition: Boolean,
    pub(crate) statements: Box<[Statement]>,
}

/// Statements that run later than the others.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Block {
    /// By which a lease finds them when it ends.
    pub(crate) key: BlockKey,
    pub(crate) statements: Box<[Statement]>,
}

impl Block {
    /// The statements that stand in a text.
    pub(super) fn of(text: &str, statements: Box<[Statement]>) -> Self {
        Self { key: BlockKey(xxh3_64(text.as_bytes())), statements }
    }
}

/// Which statements run when a lease ends: XXH3 (64 bits, without a seed) of their text. It is on
/// disk, so it never changes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockKey(pub(crate) u64);

/// Calls `found` with every statement, those inside others included. They are nested no deeper than
/// the front ends allow.
pub(in crate::config) fn each<'s>(
    statements: &'s [Statement],
    found: &mut impl FnMut(&'s Statement),
) {
    for statement in statements {
        found(statement);
        match &statement.action {
            Action::If(branches, otherwise) => {
                for branch in branches {
                    each(&branch.statements, found);
                }
                each(otherwise, found);
            }
            Action::Switch(_, parts) => {
                for part in parts {
                    if let SwitchPart::Statement(inside) = part {
                        each(std::slice::from_ref(inside), found);
                    }
                }
            }
            Action::On(_, block) => each(&block.statements, found),
            _ => {}
        }
    }
}

/// What becomes of a value that is there already.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mode {
    /// It is replaced: `option`, `supersede`, `send`.
    Supersede,
    /// It stays: `default`.
    Default,
    /// The new value is put behind it: `append`.
    Append,
    /// The new value is put before it: `prepend`.
    Prepend,
}

/// A value of one of the types of expressions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Operand {
    Data(Data),
    Numeric(Numeric),
    Boolean(Boolean),
    /// Of the type that the variable has then.
    Variable(VariableId),
}

/// A part of the body of a `switch`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SwitchPart {
    Case(Line, Operand),
    Default(Line),
    Statement(Statement),
}

/// What may happen to a lease.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Events {
    pub(crate) commit: bool,
    pub(crate) release: bool,
    pub(crate) expiry: bool,
}
