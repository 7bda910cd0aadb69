//! What does not depend on the message, worked out when it is loaded; and how deep expressions are.

use bumpalo::Bump;

use super::evaluate::Nothing;
use super::{Boolean, Data, Numeric};

fn highest(heights: impl Iterator<Item = usize>) -> usize {
    heights.max().unwrap_or_default()
}

impl Boolean {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_) | Self::Null)
    }

    /// How deep it is nested, 1 for a value.
    pub(super) fn height(&self) -> usize {
        1 + match self {
            Self::Constant(_)
            | Self::Null
            | Self::Exists(_)
            | Self::Member(_)
            | Self::Known
            | Self::Static
            | Self::Defined(_)
            | Self::Variable(_)
            | Self::VariablesEqual(_) => 0,
            Self::And(parts) | Self::Or(parts) => highest(parts.iter().map(Self::height)),
            Self::Not(part) => part.height(),
            Self::DataEqual(sides) => highest(sides.iter().map(Data::height)),
            Self::NumbersEqual(sides) => highest(sides.iter().map(Numeric::height)),
            Self::Matches(value, _) => value.height(),
        }
    }

    /// Its value, if its parts are values.
    pub(super) fn folded(self) -> Self {
        let constant = match &self {
            // Nothing behind the first part counts if that is false or null.
            Self::And(parts) => match parts.first() {
                Some(Self::Constant(false) | Self::Null) => return Self::Null,
                _ => parts.iter().all(Self::is_constant),
            },
            Self::Or(parts) => match parts.iter().any(|part| *part == Self::Constant(true)) {
                true => return Self::Constant(true),
                false => parts.iter().all(Self::is_constant),
            },
            Self::Not(part) => part.is_constant(),
            Self::DataEqual(sides) => sides.iter().all(Data::is_constant),
            Self::NumbersEqual(sides) => sides.iter().all(Numeric::is_constant),
            Self::Matches(value, _) => value.is_constant(),
            Self::Constant(_)
            | Self::Null
            | Self::Exists(_)
            | Self::Member(_)
            | Self::Known
            | Self::Static
            | Self::Defined(_)
            | Self::Variable(_)
            | Self::VariablesEqual(_) => false,
        };
        if !constant {
            return self;
        }
        self.evaluate(&Nothing, &Bump::new()).map_or(Self::Null, Self::Constant)
    }
}

impl Data {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_) | Self::Null)
    }

    pub(super) fn height(&self) -> usize {
        1 + match self {
            Self::Constant(_)
            | Self::Null
            | Self::Option(_)
            | Self::Hardware
            | Self::File
            | Self::ServerName
            | Self::Configured(_)
            | Self::LeasedAddress
            | Self::HostDeclName
            | Self::Variable(_) => 0,
            Self::Packet(part) => highest(part.iter().map(Numeric::height)),
            Self::Substring(arguments) => {
                let (value, offset, len) = &**arguments;
                value.height().max(offset.height()).max(len.height())
            }
            Self::Suffix(arguments) => arguments.0.height().max(arguments.1.height()),
            Self::LowerCase(value) | Self::UpperCase(value) => value.height(),
            Self::Concat(parts) | Self::PickFirst(parts) => highest(parts.iter().map(Self::height)),
            Self::Reverse(arguments) => arguments.0.height().max(arguments.1.height()),
            Self::BinaryToAscii(arguments) => {
                let (base, width, separator, value) = &**arguments;
                base.height().max(width.height()).max(separator.height()).max(value.height())
            }
            Self::EncodeInt(number, _) => number.height(),
        }
    }

    /// Its value, if its arguments are values.
    pub(super) fn folded(self) -> Self {
        let constant = match &self {
            Self::Constant(_)
            | Self::Null
            | Self::Option(_)
            | Self::Hardware
            | Self::File
            | Self::ServerName
            | Self::Configured(_)
            | Self::LeasedAddress
            | Self::HostDeclName
            | Self::Variable(_)
            | Self::Packet(_) => false,
            Self::Substring(arguments) => {
                let (value, offset, len) = &**arguments;
                value.is_constant() && offset.is_constant() && len.is_constant()
            }
            Self::Suffix(arguments) => arguments.0.is_constant() && arguments.1.is_constant(),
            Self::LowerCase(value) | Self::UpperCase(value) => value.is_constant(),
            Self::Concat(parts) | Self::PickFirst(parts) => parts.iter().all(Self::is_constant),
            Self::Reverse(arguments) => arguments.0.is_constant() && arguments.1.is_constant(),
            Self::BinaryToAscii(arguments) => {
                let (base, width, separator, value) = &**arguments;
                [base, width].into_iter().all(Numeric::is_constant)
                    && [separator, value].into_iter().all(Self::is_constant)
            }
            Self::EncodeInt(number, _) => number.is_constant(),
        };
        if !constant {
            return self;
        }
        let arena = Bump::new();
        let value = self.evaluate(&Nothing, &arena).map(Box::from);
        value.map_or(Self::Null, Self::Constant)
    }
}

impl Numeric {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_) | Self::Null)
    }

    pub(super) fn height(&self) -> usize {
        1 + match self {
            Self::Constant(_) | Self::Null | Self::LeaseTime | Self::Variable(_) => 0,
            Self::ExtractInt(value, _) => value.height(),
            Self::Arithmetic(_, sides) => highest(sides.iter().map(Self::height)),
        }
    }

    /// Its value, if its operands are values.
    pub(super) fn folded(self) -> Self {
        let constant = match &self {
            Self::Constant(_) | Self::Null | Self::LeaseTime | Self::Variable(_) => false,
            Self::ExtractInt(value, _) => value.is_constant(),
            Self::Arithmetic(_, sides) => sides.iter().all(Self::is_constant),
        };
        if !constant {
            return self;
        }
        self.evaluate(&Nothing, &Bump::new()).map_or(Self::Null, Self::Constant)
    }
}
