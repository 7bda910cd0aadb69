//! The way through the options of a message: the options field, then, when option 52 says so, file
//! and sname (RFC 3396 section 5 gives this order; RFC 2132 section 9.3 the overload).

use super::options::{END, PAD};
use super::{FILE, FILE_LEN, OPTIONS, SNAME, SNAME_LEN};
use crate::wire::Reader;

/// Value of option 52: `file` holds options.
pub(super) const FILE_OVERLOADED: u8 = 1;
/// Value of option 52: `sname` holds options.
pub(super) const SNAME_OVERLOADED: u8 = 2;

/// One option as it stands in the message: its code, the offset of its value, and the value.
pub(super) type Raw<'a> = (u8, usize, &'a [u8]);

/// An option runs past the end of the field it stands in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Overrun {
    pub(super) code: u8,
    pub(super) at: usize,
}

/// Walks the options one after another. A missing END is taken for one at the end of its field, as
/// BOOTP relays and old clients leave it out.
///
/// It is short, for there is one in each value of an option: offsets of a message fit 16 bits.
#[derive(Copy, Clone, Debug)]
pub(super) struct Walk<'a> {
    message: &'a [u8],
    /// Where the next option begins, and the field ends.
    at: u16,
    end: u16,
    /// Fields that are still to come, as in option 52.
    overload: u8,
}

impl<'a> Walk<'a> {
    /// From the first option of the options field on, without the overloaded fields.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self::within(message, OPTIONS, message.len(), 0)
    }

    /// No options at all.
    pub(super) const fn empty() -> Self {
        Self::empty_of(&[])
    }

    /// Through the overloaded fields only, which [`Walk::then_overloaded`] names.
    pub(super) const fn empty_of(message: &'a [u8]) -> Self {
        Self { message, at: 0, end: 0, overload: 0 }
    }

    /// The same way, and then through the fields that option 52 names.
    pub(super) fn then_overloaded(self, overload: u8) -> Self {
        Self { overload, ..self }
    }

    /// The way that begins behind the value that ends at `end`, which lies in the options field or
    /// in an overloaded one.
    pub(super) fn behind(message: &'a [u8], overload: u8, end: usize) -> Self {
        let (field_end, overload) = match end {
            OPTIONS.. => (message.len(), overload),
            FILE.. => (FILE + FILE_LEN, overload & SNAME_OVERLOADED),
            _ => (FILE, 0),
        };
        Self::within(message, end, field_end, overload)
    }

    fn within(message: &'a [u8], start: usize, end: usize, overload: u8) -> Self {
        // No message is longer than a datagram.
        Self { message, at: start as u16, end: end as u16, overload }
    }

    fn next_field(&mut self) -> bool {
        let (start, len, bit) = match self.overload {
            overload if overload & FILE_OVERLOADED != 0 => (FILE, FILE_LEN, FILE_OVERLOADED),
            overload if overload & SNAME_OVERLOADED != 0 => (SNAME, SNAME_LEN, SNAME_OVERLOADED),
            _ => return false,
        };
        *self = Self::within(self.message, start, start + len, self.overload & !bit);
        true
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Raw<'a>, Overrun>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = usize::from(self.at);
            let mut reader = Reader::window(self.message, at, usize::from(self.end));
            match reader.u8() {
                Ok(PAD) => self.at += 1,
                Ok(END) | Err(_) => {
                    if !self.next_field() {
                        self.at = self.end;
                        return None;
                    }
                }
                Ok(code) => {
                    let overrun = Overrun { code, at };
                    let value = reader.u8().and_then(|len| {
                        let offset = reader.position();
                        Ok((code, offset, reader.bytes(usize::from(len))?))
                    });
                    // Within the message.
                    self.at = reader.position() as u16;
                    return Some(value.map_err(|_| overrun));
                }
            }
        }
    }
}
