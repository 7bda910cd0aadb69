//! The user class of a client.

use super::data::OptionData;

/// The user class, option 77.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum UserClass<'a> {
    /// Counted classes (RFC 3004 section 4).
    Classes(OptionData<'a>),
    /// Plain text, as iPXE and older clients send it.
    Raw(OptionData<'a>),
}

impl<'a> UserClass<'a> {
    /// Tells the two forms apart: counted classes fill the option exactly and none is empty.
    #[must_use]
    pub fn new(data: OptionData<'a>) -> Self {
        let mut bytes = data.bytes();
        while let Some(len) = bytes.next() {
            let Some(last) = usize::from(len).checked_sub(1) else { return Self::Raw(data) };
            if bytes.nth(last).is_none() {
                return Self::Raw(data);
            }
        }
        if data.is_empty() { Self::Raw(data) } else { Self::Classes(data) }
    }

    /// The classes in order; a raw one is one class.
    pub fn classes(&self) -> impl Iterator<Item = OptionData<'a>> + use<'a> {
        let (raw, mut rest) = match *self {
            Self::Raw(data) => (Some(data), OptionData::from(&[][..])),
            Self::Classes(data) => (None, data),
        };
        let counted = core::iter::from_fn(move || {
            let len = usize::from(rest.get(0)?);
            let class = rest.slice(1, len)?;
            rest = rest.slice(1 + len, rest.len() - 1 - len)?;
            Some(class)
        });
        raw.into_iter().chain(counted)
    }

    /// True when one of the classes is `name`.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.classes().any(|class| class == *name)
    }
}
