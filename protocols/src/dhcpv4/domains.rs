//! Domain names in options: labels (RFC 1035 section 3.1), and lists of names that share suffixes
//! by pointers (RFC 3397).

use core::fmt;

use super::data::OptionData;
use crate::wire::{Full, Writer};

/// The longest label.
const LABEL: usize = 63;
/// The longest name, with the length bytes of its labels and the root.
const NAME: usize = 255;
/// The two high bits of a length byte that is a pointer.
const POINTER: u8 = 0xc0;

/// Why a name cannot be written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// Two dots in a row, a dot at the start, or nothing at all.
    #[error("a domain name needs something between its dots")]
    EmptyLabel,
    /// A label is longer than 63 bytes.
    #[error("a label of {0} bytes in a domain name: at most 63")]
    LabelTooLong(usize),
    /// The whole name is too long.
    #[error("a domain name is longer than 255 bytes")]
    NameTooLong,
    /// Only letters, digits, hyphen and underscore are written; others belong in their IDNA form.
    #[error("a domain name holds letters, digits, hyphens and underscores; not {0:?}")]
    Character(char),
    /// The buffer is full.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Why a name cannot be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The option ends within the name.
    #[error("a domain name is cut off")]
    CutOff,
    /// A pointer that does not point backwards would lead around in a circle.
    #[error("a pointer in a domain name does not point backwards")]
    Pointer,
    /// A length byte that is neither length nor pointer.
    #[error("{0:#04x} is no length of a label")]
    Length(u8),
    /// The whole name is too long.
    #[error("a domain name is longer than 255 bytes")]
    NameTooLong,
}

/// Writes `names` one behind the other, uncompressed (RFC 1035 section 3.1). A dot at the end of a
/// name is allowed and means nothing.
///
/// # Errors
/// [`EncodeError`]: a name has no valid form on the wire, or there is no room.
pub fn encode<'n>(
    names: impl IntoIterator<Item = &'n str>,
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    for name in names {
        for label in labels(name)? {
            write_label(label, writer)?;
        }
        writer.u8(0)?;
    }
    Ok(())
}

/// Writes `names`; a suffix that was written before becomes a pointer to it (RFC 3397 section 2).
/// Pointers count from the current position of `writer`.
///
/// # Errors
/// [`EncodeError`]: a name has no valid form on the wire, or there is no room.
pub fn encode_compressed<'n>(
    names: impl IntoIterator<Item = &'n str>,
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    let start = writer.position();
    for name in names {
        let mut rest = labels(name)?;
        let pointer = loop {
            let written = writer.written().get(start..).unwrap_or_default();
            if let Some(place) = find_suffix(written, rest.clone()) {
                break Some(place);
            }
            match rest.next() {
                Some(label) => write_label(label, writer)?,
                None => break None,
            }
        };
        match pointer {
            Some(place) => writer.u16(u16::from(POINTER) << 8 | place)?,
            None => writer.u8(0)?,
        }
    }
    Ok(())
}

/// The labels of a name in text, checked.
fn labels(name: &str) -> Result<impl Iterator<Item = &str> + Clone, EncodeError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(EncodeError::Character(other));
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err(EncodeError::EmptyLabel),
            1..=LABEL => {}
            longer => return Err(EncodeError::LabelTooLong(longer)),
        }
    }
    // Every dot becomes a length byte; one more begins the name, and the root ends it.
    if name.len() + 2 > NAME {
        return Err(EncodeError::NameTooLong);
    }
    Ok(name.split('.'))
}

fn write_label(label: &str, writer: &mut Writer<'_>) -> Result<(), Full> {
    writer.u8(label.len() as u8)?; // at most 63: `labels` checked
    writer.bytes(label.as_bytes())
}

/// Where in `written` the labels stand as the end of a name, if a pointer can reach it. No label at
/// all is found nowhere: the root is shorter than a pointer.
fn find_suffix<'n>(written: &[u8], labels: impl Iterator<Item = &'n str> + Clone) -> Option<u16> {
    labels.clone().next()?;
    let data = OptionData::from(written);
    let mut name_start = 0;
    while name_start < written.len() {
        let mut place = name_start;
        loop {
            let name = Name { data, start: place };
            let same = name.labels().map(Result::ok).eq_by_label(labels.clone());
            if same && place < usize::from(POINTER_REACH) {
                return Some(place as u16);
            }
            match written.get(place) {
                Some(&len @ 1..=63) => place += 1 + usize::from(len),
                Some(&len) if len & POINTER == POINTER => {
                    name_start = place + 2;
                    break;
                }
                _ => {
                    name_start = place + 1;
                    break;
                }
            }
        }
    }
    None
}

/// Offsets a pointer can hold: 14 bits.
const POINTER_REACH: u16 = 1 << 14;

/// Compares decoded labels with labels in text, without regard to case.
trait EqByLabel {
    fn eq_by_label<'n>(self, labels: impl Iterator<Item = &'n str>) -> bool;
}

impl<'a, I: Iterator<Item = Option<OptionData<'a>>>> EqByLabel for I {
    fn eq_by_label<'n>(mut self, mut labels: impl Iterator<Item = &'n str>) -> bool {
        loop {
            match (self.next(), labels.next()) {
                (None, None) => return true,
                (Some(Some(label)), Some(text)) => {
                    let lower = label.bytes().map(|byte| byte.to_ascii_lowercase());
                    if !lower.eq(text.bytes().map(|byte| byte.to_ascii_lowercase())) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }
}

/// One name inside of an option; [`fmt::Display`] writes it with dots and without the last.
#[derive(Copy, Clone, Debug)]
pub struct Name<'a> {
    data: OptionData<'a>,
    start: usize,
}

impl<'a> Name<'a> {
    /// The labels from the first on; ends after an error.
    pub fn labels(&self) -> impl Iterator<Item = Result<OptionData<'a>, DecodeError>> + use<'a> {
        Labels { data: self.data, at: self.start, lowest: self.start, len: 1, end: None }
    }
}

/// Labels separated by dots; bytes other than letters, digits, hyphen and underscore are written
/// as `\DDD` (RFC 4343 section 2.1).
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = self.labels().map_while(Result::ok).peekable();
        if labels.peek().is_none() {
            return f.write_str(".");
        }
        write_labels(f, labels)
    }
}

/// A name that no root label ends (RFC 4702 section 2.3), for display.
pub(super) struct Partial<'a>(pub(super) OptionData<'a>);

impl fmt::Display for Partial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, Name { data: self.0, start: 0 }.labels().map_while(Result::ok))
    }
}

fn write_labels<'a>(
    f: &mut fmt::Formatter<'_>,
    labels: impl Iterator<Item = OptionData<'a>>,
) -> fmt::Result {
    for (index, label) in labels.enumerate() {
        if index > 0 {
            f.write_str(".")?;
        }
        for byte in label.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "\\{byte:03}")?;
            }
        }
    }
    Ok(())
}

struct Labels<'a> {
    data: OptionData<'a>,
    at: usize,
    /// A pointer must lead below all that was read: so every chain of pointers ends.
    lowest: usize,
    /// Length of the name so far, with its root.
    len: usize,
    /// Offset behind the name where it stands: behind the root or the first pointer.
    end: Option<usize>,
}

impl<'a> Labels<'a> {
    fn read(&mut self) -> Result<Option<OptionData<'a>>, DecodeError> {
        loop {
            let len = self.data.get(self.at).ok_or(DecodeError::CutOff)?;
            match len {
                0 => {
                    self.end.get_or_insert(self.at + 1);
                    return Ok(None);
                }
                1..=63 => {
                    let len = usize::from(len);
                    let label = self.data.slice(self.at + 1, len).ok_or(DecodeError::CutOff)?;
                    self.at += 1 + len;
                    self.len += 1 + len;
                    let whole = self.len <= NAME;
                    return if whole { Ok(Some(label)) } else { Err(DecodeError::NameTooLong) };
                }
                POINTER.. => {
                    let low = self.data.get(self.at + 1).ok_or(DecodeError::CutOff)?;
                    let target = usize::from(u16::from_be_bytes([len & !POINTER, low]));
                    if target >= self.lowest {
                        return Err(DecodeError::Pointer);
                    }
                    self.end.get_or_insert(self.at + 2);
                    self.lowest = target;
                    self.at = target;
                }
                other => return Err(DecodeError::Length(other)),
            }
        }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = Result<OptionData<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.len == usize::MAX {
            return None;
        }
        let label = self.read().transpose();
        if !matches!(label, Some(Ok(_))) {
            self.len = usize::MAX; // the end, or an error: nothing follows
        }
        label
    }
}

/// The names of an option one after another; ends after an error.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    data: OptionData<'a>,
    at: usize,
}

impl<'a> Names<'a> {
    /// All names of the value.
    #[must_use]
    pub const fn new(data: OptionData<'a>) -> Self {
        Self { data, at: 0 }
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<Name<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.data.len() {
            return None;
        }
        let start = self.at;
        let mut labels = Labels { data: self.data, at: start, lowest: start, len: 1, end: None };
        let error = labels.by_ref().find_map(Result::err);
        self.at = labels.end.filter(|_| error.is_none()).unwrap_or(self.data.len());
        Some(error.map_or(Ok(Name { data: self.data, start }), Err))
    }
}
