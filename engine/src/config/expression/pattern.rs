//! Patterns of `~=` and `~~`: POSIX extended regular expressions, as dhcpd has them from the C
//! library.
//!
//! A pattern becomes a table of states when it is loaded. A match then takes one look-up for each
//! byte and no memory. A pattern whose table is too large is refused.

use std::hash::{Hash, Hasher};

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};

use super::super::problem::Fault;

/// Bytes of the longest pattern.
const LONGEST: usize = 1024;
/// Bytes of a pattern's table at most, and of what is needed to make it.
const TABLE: usize = 1 << 20;

/// A pattern that has been compiled.
#[derive(Clone)]
pub(crate) struct Pattern {
    source: Box<[u8]>,
    ignore_case: bool,
    table: DFA<Vec<u32>>,
}

impl Pattern {
    pub(super) fn new(source: &[u8], ignore_case: bool) -> Result<Self, Fault> {
        if source.len() > LONGEST {
            let text = format!("this pattern has {} bytes", source.len());
            return Err(Fault::new(text, format!("a pattern has {LONGEST} at most: split it")));
        }
        let pattern = translate(source)?;
        let syntax = syntax::Config::new()
            .case_insensitive(ignore_case)
            .unicode(false)
            .utf8(false)
            .dot_matches_new_line(true)
            .nest_limit(50);
        let states = thompson::Config::new().utf8(false).nfa_size_limit(Some(TABLE));
        let table = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(TABLE))
            .determinize_size_limit(Some(TABLE));
        let table = dense::Builder::new()
            .syntax(syntax)
            .thompson(states)
            .configure(table)
            .build(&pattern)
            .map_err(|error| {
                let mut why: &dyn std::error::Error = &error;
                while let Some(source) = why.source() {
                    why = source;
                }
                // The parser draws the place on lines of its own; the last one says what is wrong.
                let why = why.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let help = "it is a POSIX extended regular expression; shorter repetitions make a \
                            smaller one";
                Fault::new(format!("this pattern cannot be used: {why}"), help)
            })?;
        Ok(Self { source: source.into(), ignore_case, table })
    }

    /// As it was written, and the operator that it stands behind.
    pub(super) fn parts(&self) -> (&[u8], &'static str) {
        (&self.source, if self.ignore_case { "~~" } else { "~=" })
    }

    /// Whether it is found in `value`, which ends at its first NUL as in dhcpd.
    pub(super) fn is_in(&self, value: &[u8]) -> bool {
        let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
        let input = Input::new(&value[..end]).earliest(true);
        // It fails only where the table was made to give up at some bytes.
        matches!(self.table.try_search_fwd(&input), Ok(Some(_)))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.ignore_case == other.ignore_case
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.source, self.ignore_case).hash(state);
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({})", self.source.escape_ascii())
    }
}

/// A POSIX extended regular expression in the syntax of the regex crate. They differ in brackets,
/// where a backslash is a character, in escapes, and in a repetition of a repetition.
struct Translation<'p> {
    source: &'p [u8],
    at: usize,
    out: String,
    /// Where in `out` each open group began.
    groups: Vec<usize>,
    /// Where in `out` what a repetition repeats began; `None` where there is nothing to repeat.
    atom: Option<usize>,
    /// What came last is a repetition.
    repeated: bool,
}

fn translate(source: &[u8]) -> Result<String, Fault> {
    // dhcpd gives the pattern to the C library, where a NUL ends it.
    let end = source.iter().position(|&byte| byte == 0).unwrap_or(source.len());
    let out = String::new();
    let source = &source[..end];
    let mut translation =
        Translation { source, at: 0, out, groups: Vec::new(), atom: None, repeated: false };
    while let Some(byte) = translation.next() {
        translation.item(byte)?;
    }
    if !translation.groups.is_empty() {
        return Err(Fault::new("this pattern has a `(` without its `)`", "write \\( for the sign"));
    }
    Ok(translation.out)
}

impl Translation<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.source.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn item(&mut self, byte: u8) -> Result<(), Fault> {
        let start = self.out.len();
        match byte {
            b'*' | b'+' | b'?' => return self.repetition(&char::from(byte).to_string()),
            b'{' => {
                let interval = self.interval()?;
                return self.repetition(&interval);
            }
            b'(' => {
                self.groups.push(start);
                self.out.push_str("(?:");
                self.begin();
                return Ok(());
            }
            b')' => {
                let Some(start) = self.groups.pop() else {
                    let help = "write \\) for the sign";
                    return Err(Fault::new("this pattern has a `)` without its `(`", help));
                };
                self.out.push(')');
                self.end(start);
                return Ok(());
            }
            b'|' => {
                self.out.push('|');
                self.begin();
                return Ok(());
            }
            b'^' => {
                self.out.push('^');
                self.begin();
                return Ok(());
            }
            b'$' | b'.' => self.out.push(char::from(byte)),
            b'[' => self.bracket()?,
            b'\\' => self.escape()?,
            byte => literal(byte, &mut self.out),
        }
        self.end(start);
        Ok(())
    }

    /// There is nothing to repeat here.
    fn begin(&mut self) {
        (self.atom, self.repeated) = (None, false);
    }

    /// What began at `start` of `out` may be repeated.
    fn end(&mut self, start: usize) {
        (self.atom, self.repeated) = (Some(start), false);
    }

    fn repetition(&mut self, sign: &str) -> Result<(), Fault> {
        let Some(start) = self.atom else {
            let text = format!("this pattern has nothing before `{sign}` that it could repeat");
            return Err(Fault::new(text, "put a backslash before it for the sign itself"));
        };
        if self.repeated {
            self.out.insert_str(start, "(?:");
            self.out.push(')');
        }
        self.out.push_str(sign);
        self.repeated = true;
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,5}` or `{,5}`, whose brace has been read.
    fn interval(&mut self) -> Result<String, Fault> {
        let wrong = || {
            let help = "write {2}, {2,} or {2,5} for repetitions up to 255, \\{ for the sign";
            Fault::new("this pattern has a `{` that begins no repetition", help)
        };
        let rest = &self.source[self.at..];
        let len = rest.iter().position(|&byte| byte == b'}').ok_or_else(wrong)?;
        self.at += len + 1;
        let text = std::str::from_utf8(&rest[..len]).map_err(|_| wrong())?;
        let number = |text: &str| text.parse::<u8>().map_err(|_| wrong());
        let (least, most) = match text.split_once(',') {
            None => (number(text)?, Some(number(text)?)),
            Some((least, "")) => (number(least)?, None),
            Some(("", most)) => (0, Some(number(most)?)),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        match most {
            None => Ok(format!("{{{least},}}")),
            Some(most) if least <= most => Ok(format!("{{{least},{most}}}")),
            Some(_) => Err(wrong()),
        }
    }

    /// What a backslash makes of the byte behind it: GNU's `\w`, `\W`, `\s`, `\S`, `\b`, `\B`,
    /// `\<`, `\>`, `` \` `` and `\'`, else the byte itself.
    fn escape(&mut self) -> Result<(), Fault> {
        match self.next() {
            None => {
                let help = "write two for the sign";
                return Err(Fault::new("this pattern ends with a backslash", help));
            }
            Some(byte @ b'1'..=b'9') => {
                let text = format!("this pattern refers back to a group: \\{}", char::from(byte));
                return Err(Fault::new(text, "write out what the group may be"));
            }
            Some(byte @ (b'w' | b'W' | b's' | b'S' | b'b' | b'B')) => {
                self.out.push('\\');
                self.out.push(char::from(byte));
            }
            Some(b'<') => self.out.push_str(r"\b{start}"),
            Some(b'>') => self.out.push_str(r"\b{end}"),
            Some(b'`') => self.out.push_str(r"\A"),
            Some(b'\'') => self.out.push_str(r"\z"),
            Some(byte) => literal(byte, &mut self.out),
        }
        Ok(())
    }

    /// A bracket expression, whose `[` has been read.
    fn bracket(&mut self) -> Result<(), Fault> {
        let wrong = |text: &str| {
            let help = "write it as [abc], [a-z], [^abc] or [[:alpha:]]; \\[ is the sign itself";
            Fault::new(format!("this pattern has a `[` {text}"), help)
        };
        self.out.push('[');
        if self.peek() == Some(b'^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let byte = self.next().ok_or_else(|| wrong("without its `]`"))?;
            match (byte, self.peek()) {
                (b']', _) if !first => break,
                (b'[', Some(b':')) => {
                    let rest = &self.source[self.at..];
                    let len = rest.windows(2).position(|two| two == b":]");
                    let name = len.filter(|&len| len > 0).and_then(|len| rest.get(1..len));
                    let name = name.and_then(|name| std::str::from_utf8(name).ok());
                    let name = name.filter(|name| CLASSES.contains(name));
                    let name = name.ok_or_else(|| wrong("with a class that does not exist"))?;
                    self.out.push_str(&format!("[:{name}:]"));
                    self.at += name.len() + 3;
                }
                (b'[', Some(b'.' | b'=')) => {
                    return Err(wrong("with a collating element, which is not understood"));
                }
                (byte, Some(b'-')) if self.source.get(self.at + 1).is_some_and(|&b| b != b']') => {
                    let last = self.source[self.at + 1];
                    if last < byte || last == b'[' {
                        return Err(wrong("with a range that goes backwards"));
                    }
                    self.at += 2;
                    self.out.push_str(&format!("\\x{byte:02X}-\\x{last:02X}"));
                }
                (byte, _) => self.out.push_str(&format!("\\x{byte:02X}")),
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }
}

/// The character classes of POSIX.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit",
];

/// A byte that stands for itself.
fn literal(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("\\x{byte:02X}"));
    }
}
