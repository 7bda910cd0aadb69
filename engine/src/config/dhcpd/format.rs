//! Types of options, as dhcpd's option definitions write them.

use std::fmt;
use std::ops::Range;

use super::super::expression::{Token, Tokens};
use super::super::problem::Fault;

/// So many parts a record has at most.
const MOST_PARTS: usize = 64;

/// One part of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// An IPv4 address, or a name that stands for some.
    Address,
    Address6,
    /// A number of so many bytes.
    Number(u8),
    /// Seconds in four bytes, or `infinite`.
    Time,
    /// Characters.
    Text,
    /// Characters in quotes, or hexadecimal bytes with colons between them.
    Bytes,
    /// One byte: 1 for true, 0 for false, 2 for ignore.
    Flag,
    /// A domain name as text.
    Name,
    /// Domain names as RFC 1035 writes them, with pointers (RFC 3397) or without.
    Names {
        compressed: bool,
    },
    /// No bytes at all.
    Nothing,
    /// The name of an option space.
    Space,
    /// One byte, written as one of these words.
    Word(Words),
    /// The options of another space; written as bytes where it is written at all.
    Encapsulate(Box<str>),
}

/// Words and what they stand for.
pub(super) type Words = &'static [(&'static str, u8)];

/// What comes again in an array.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    Nothing,
    /// The last part.
    Last,
    /// The whole record.
    All,
}

/// A type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pub(super) parts: Vec<Part>,
    pub(super) repeat: Repeat,
    /// The last part may be missing.
    pub(super) optional: bool,
}

const STATUS_CODES: Words = &[
    ("success", 0),
    ("UnspecFail", 1),
    ("NoAddrsAvail", 2),
    ("NoBinding", 3),
    ("NotOnLink", 4),
    ("UseMulticast", 5),
    ("NoPrefixAvail", 6),
    ("UnknownQueryType", 7),
    ("MalformedQuery", 8),
    ("NotConfigured", 9),
    ("NotAllowed", 10),
    ("QueryTerminated", 11),
];

const MESSAGES: Words = &[
    ("SOLICIT", 1),
    ("ADVERTISE", 2),
    ("REQUEST", 3),
    ("CONFIRM", 4),
    ("RENEW", 5),
    ("REBIND", 6),
    ("REPLY", 7),
    ("RELEASE", 8),
    ("DECLINE", 9),
    ("RECONFIGURE", 10),
    ("INFORMATION-REQUEST", 11),
    ("RELAY-FORW", 12),
    ("RELAY-REPL", 13),
    ("LEASEQUERY", 14),
    ("LEASEQUERY-REPLY", 15),
];

impl Format {
    /// One value.
    pub(super) fn one(part: Part) -> Self {
        Self { parts: vec![part], repeat: Repeat::Nothing, optional: false }
    }

    /// Any bytes: of an option that nobody defined.
    pub(super) fn bytes() -> Self {
        Self::one(Part::Bytes)
    }

    /// The space whose options this option carries.
    pub(super) fn encapsulates(&self) -> Option<&str> {
        match self.parts.last() {
            Some(Part::Encapsulate(space)) => Some(space),
            _ => None,
        }
    }

    /// Whether it is a text: its NULs at the end do not count.
    pub(super) fn is_text(&self) -> bool {
        self.parts == [Part::Text]
    }

    /// A type of a table of this program.
    pub(super) fn of_standard(text: &str) -> Option<Self> {
        let mut tokens = Tokens::new(text);
        Self::read(&mut tokens, true).ok()
    }

    /// Reads a type up to the token behind it. `more` allows the types that only dhcpd's own
    /// options have.
    ///
    /// # Errors
    /// What is wrong, and the bytes of the text where.
    pub(super) fn read(tokens: &mut Tokens<'_>, more: bool) -> Result<Self, (Range<usize>, Fault)> {
        Reader { tokens, more }.format()
    }
}

impl fmt::Display for Format {
    /// As option definitions write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, others)) = self.parts.split_last() else { return Ok(()) };
        if self.repeat == Repeat::All {
            f.write_str("array of ")?;
        }
        if others.is_empty() {
            return write!(f, "{last}");
        }
        f.write_str("{ ")?;
        others.iter().try_for_each(|part| write!(f, "{part}, "))?;
        if self.repeat == Repeat::Last {
            f.write_str("array of ")?;
        }
        write!(f, "{last} }}")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "ip-address",
            Self::Address6 => "ip6-address",
            Self::Number(1) => "uint8",
            Self::Number(2) => "uint16",
            Self::Number(_) | Self::Time => "uint32",
            Self::Text => "text",
            Self::Bytes | Self::Space | Self::Word(_) => "string",
            Self::Flag => "boolean",
            Self::Name => "text",
            Self::Names { compressed: true } => "domain-list compressed",
            Self::Names { compressed: false } => "domain-list",
            Self::Nothing => "flag",
            Self::Encapsulate(space) => return write!(f, "encapsulate {space}"),
        })
    }
}

struct Reader<'a, 't> {
    tokens: &'a mut Tokens<'t>,
    more: bool,
}

type Wrong = (Range<usize>, Fault);

const TYPES: &str = "types are boolean, integer 8, 16 or 32, unsigned integer 8, 16 or 32, \
                     ip-address, ip6-address, text, string, domain-name, domain-list, zerolen, \
                     `array of` one, { records } of several, and encapsulate SPACE";

impl<'t> Reader<'_, 't> {
    fn next(&mut self) -> Result<(Token<'t>, Range<usize>), Wrong> {
        self.tokens.next().map_err(|wrong| (wrong.part, wrong.fault))
    }

    fn format(&mut self) -> Result<Format, Wrong> {
        let (mut token, mut place) = self.next()?;
        let array = token.is_word("array");
        if array {
            self.of()?;
            (token, place) = self.next()?;
        }
        if token != Token::Symbol('{') {
            let part = self.part(&token, place.clone())?;
            if array && !can_repeat(&part) {
                return Err((place, no_array()));
            }
            let repeat = if array { Repeat::All } else { Repeat::Nothing };
            return Ok(Format { parts: vec![part], repeat, optional: false });
        }
        self.record(if array { Repeat::All } else { Repeat::Nothing })
    }

    /// What stands between braces.
    fn record(&mut self, mut repeat: Repeat) -> Result<Format, Wrong> {
        let mut parts = Vec::new();
        let mut optional = false;
        loop {
            let (mut token, mut place) = self.next()?;
            let mut array = false;
            if token.is_word("array") {
                if repeat != Repeat::Nothing {
                    return Err((place, Fault::plain("there are no arrays of arrays")));
                }
                self.of()?;
                array = true;
                (token, place) = self.next()?;
            } else if self.more && token.is_word("optional") {
                optional = true;
                (token, place) = self.next()?;
            }
            let part = self.part(&token, place.clone())?;
            if (array || repeat == Repeat::All) && !can_repeat(&part) {
                return Err((place, no_array()));
            }
            if array {
                repeat = Repeat::Last;
            }
            parts.push(part);
            let (token, place) = self.next()?;
            match token {
                Token::Symbol('}') => return Ok(Format { parts, repeat, optional }),
                Token::Symbol(',') if parts.last().is_some_and(has_no_end) || array => {
                    let help = "only the last part of a record may have any length";
                    return Err((place, Fault::new("this type must end its record", help)));
                }
                Token::Symbol(',') if parts.len() < MOST_PARTS => {}
                _ => {
                    let text = format!("there must be a `,` or a `}}`, not {}", token.describe());
                    return Err((place, Fault::plain(text)));
                }
            }
        }
    }

    fn of(&mut self) -> Result<(), Wrong> {
        let (token, place) = self.next()?;
        if token.is_word("of") {
            return Ok(());
        }
        let text = format!("there must be `of`, not {}", token.describe());
        Err((place, Fault::new(text, "write array of ip-address")))
    }

    fn part(&mut self, token: &Token<'t>, place: Range<usize>) -> Result<Part, Wrong> {
        let unknown = || {
            let text = format!("{} is no type of options", token.describe());
            (place.clone(), Fault::new(text, TYPES))
        };
        let word = token.word().ok_or_else(unknown)?.to_ascii_lowercase();
        Ok(match word.as_str() {
            "boolean" => Part::Flag,
            "integer" => self.width()?,
            "signed" | "unsigned" => {
                let (token, place) = self.next()?;
                if !token.is_word("integer") {
                    let text = format!("there must be `integer`, not {}", token.describe());
                    return Err((place, Fault::new(text, "write unsigned integer 16")));
                }
                self.width()?
            }
            "ip-address" => Part::Address,
            "ip6-address" => Part::Address6,
            "domain-name" => Part::Name,
            "domain-list" => {
                let (next, place) = self.next()?;
                let compressed = next.is_word("compressed");
                if !compressed {
                    self.tokens.back_to(place.start);
                }
                Part::Names { compressed }
            }
            "text" => Part::Text,
            "string" => Part::Bytes,
            "zerolen" => Part::Nothing,
            "encapsulate" => {
                let (token, place) = self.next()?;
                let space = token.word().ok_or_else(|| {
                    let text = format!("there must be an option space, not {}", token.describe());
                    (place, Fault::plain(text))
                })?;
                Part::Encapsulate(space.into())
            }
            "lease-time" if self.more => Part::Time,
            "status-code" if self.more => Part::Word(STATUS_CODES),
            "dhcpv6-message" if self.more => Part::Word(MESSAGES),
            _ => return Err(unknown()),
        })
    }

    fn width(&mut self) -> Result<Part, Wrong> {
        let (token, place) = self.next()?;
        match token {
            Token::Number("8") => Ok(Part::Number(1)),
            Token::Number("16") => Ok(Part::Number(2)),
            Token::Number("32") => Ok(Part::Number(4)),
            other => {
                let text = format!("integers have 8, 16 or 32 bits, not {}", other.describe());
                Err((place, Fault::plain(text)))
            }
        }
    }
}

fn no_array() -> Fault {
    Fault::new("there are no arrays of this type", "values in an array must tell their own length")
}

fn can_repeat(part: &Part) -> bool {
    !has_no_end(part) && !matches!(part, Part::Encapsulate(_))
}

/// Whether nothing says where it ends.
fn has_no_end(part: &Part) -> bool {
    matches!(part, Part::Text | Part::Bytes | Part::Name | Part::Names { .. } | Part::Nothing)
}
