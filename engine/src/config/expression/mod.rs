//! dhcpd's expressions (dhcp-eval(5)): what they are, how they are read, what they yield.
//!
//! `tokens` takes a text apart, `parser` puts expressions together that have a type, with names
//! resolved and constants worked out, and `evaluate` says what one yields of a message. Behaviour
//! is that of dhcpd 4.4, where its manual says one thing and its code another that of the code.
//!
//! Every expression may yield null: an option that is not there, a substring of it, a sum with it.
//! What an operator makes of null is its own matter, and stands beside it in `evaluate`.
//!
//! Memory and time are bounded, whatever is written: an expression has at most [`LONGEST_TEXT`]
//! bytes and [`MOST_NODES`] parts, nested at most [`DEEPEST`] deep, a value that is put
//! together at most [`evaluate::LONGEST_VALUE`] bytes, and a pattern's table has a limit as well.

mod class_test;
mod evaluate;
mod fold;
mod index;
mod parser;
mod pattern;
mod place;
mod statements;
#[cfg(test)]
mod tests;
mod tokens;
mod words;

use std::ops::Range;

use bootstorm_protocols::dhcpv4::{options, rai};
pub use class_test::ClassTest;
#[cfg(test)]
pub(super) use evaluate::Nothing;
pub(crate) use evaluate::{Facts, Value, option};
pub(crate) use index::Candidate;
pub use index::ClassIndex;
pub(in crate::config) use parser::{
    Vocabulary, any, boolean, condition, data, data_or_numeric, means_nothing,
};
pub(crate) use pattern::Pattern;
pub(super) use place::within;
pub(in crate::config) use statements::{Grammar, statement};
pub(in crate::config) use tokens::{Token, Tokens};
pub(crate) use words::Names;
pub(in crate::config) use words::why;

use super::problem::Fault;
use super::statement::Key;
use super::{ClassId, VariableId};

/// Bytes of the longest expression.
const LONGEST_TEXT: usize = 16 << 10;
/// Operators, functions and values of one expression at most.
const MOST_NODES: usize = 1000;
/// How deep they may be nested. Each level takes less than 1 KiB of a stack.
const DEEPEST: usize = 50;

/// Something is wrong in these bytes of a text.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) part: Range<usize>,
    pub(super) fault: Fault,
}

impl Wrong {
    pub(super) fn new(part: Range<usize>, fault: Fault) -> Self {
        Self { part, fault }
    }
}

/// An option of a message.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct OptionPath {
    /// Its code, or that of the option that it travels in.
    pub code: u8,
    /// Its code in the option space of that option.
    pub inner: Option<u8>,
    /// It is a text: its NULs at the end do not count, and if it is empty it is not there.
    pub text: bool,
}

impl OptionPath {
    pub(crate) const CIRCUIT_ID: Self = Self::in_relay(rai::CIRCUIT_ID);
    pub(crate) const REMOTE_ID: Self = Self::in_relay(rai::REMOTE_ID);

    const fn in_relay(code: u8) -> Self {
        Self { code: options::RELAY_AGENT_INFORMATION, inner: Some(code), text: false }
    }
}

/// Bits of an integer that stands in a message.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Width {
    Eight,
    Sixteen,
    ThirtyTwo,
}

impl Width {
    const fn of_bits(bits: u64) -> Option<Self> {
        match bits {
            8 => Some(Self::Eight),
            16 => Some(Self::Sixteen),
            32 => Some(Self::ThirtyTwo),
            _ => None,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Sixteen => 2,
            Self::ThirtyTwo => 4,
        }
    }
}

/// An operator between two numbers.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
}

/// An expression that yields true, false or null.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Boolean {
    Constant(bool),
    Null,
    /// Two or more.
    And(Vec<Self>),
    /// Two or more.
    Or(Vec<Self>),
    Not(Box<Self>),
    DataEqual(Box<[Data; 2]>),
    NumbersEqual(Box<[Numeric; 2]>),
    Matches(Box<Data>, Box<Pattern>),
    Exists(OptionPath),
    /// It is a member of the class.
    Member(ClassId),
    /// It has a host entry.
    Known,
    /// Its address is that of its host entry.
    Static,
    /// The variable has a value.
    Defined(VariableId),
    /// The variable; null if its value is of another type.
    Variable(VariableId),
    /// Two variables have one value.
    VariablesEqual([VariableId; 2]),
}

/// An expression that yields bytes or null.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Data {
    Constant(Box<[u8]>),
    Null,
    Option(OptionPath),
    /// Type and address of the card.
    Hardware,
    /// The field `file`.
    File,
    /// The field `sname`.
    ServerName,
    /// Offset and length.
    Packet(Box<[Numeric; 2]>),
    /// Offset and length.
    Substring(Box<(Self, Numeric, Numeric)>),
    /// Length.
    Suffix(Box<(Self, Numeric)>),
    LowerCase(Box<Self>),
    UpperCase(Box<Self>),
    /// Two or more.
    Concat(Vec<Self>),
    /// One or more.
    PickFirst(Vec<Self>),
    /// Width in bytes.
    Reverse(Box<(Numeric, Self)>),
    /// Base, width in bits, separator, bytes.
    BinaryToAscii(Box<(Numeric, Numeric, Self, Self)>),
    EncodeInt(Box<Numeric>, Width),
    /// What is sent, as far as the statements that ran before say.
    Configured(Key),
    /// The address that it gets.
    LeasedAddress,
    /// The name of its host entry.
    HostDeclName,
    /// The variable; null if its value is of another type.
    Variable(VariableId),
}

/// An expression that yields a number of 64 bits or null. Operators wrap around.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Numeric {
    Constant(u64),
    Null,
    ExtractInt(Box<Data>, Width),
    Arithmetic(Arithmetic, Box<[Self; 2]>),
    /// Seconds until the lease ends.
    LeaseTime,
    /// The variable; null if its value is of another type.
    Variable(VariableId),
}
