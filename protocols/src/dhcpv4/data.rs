//! The value of one option, which may stand in the message in several pieces (RFC 3396).

use core::fmt;
use core::net::Ipv4Addr;

use super::options::{END, PAD};
use super::walk::Walk;

/// The value of one option: the pieces of all its instances, in the order of RFC 3396 section 5,
/// read as one. Nearly always there is a single piece, which [`OptionData::as_slice`] gives.
#[derive(Copy, Clone)]
pub struct OptionData<'a> {
    first: &'a [u8],
    later: Walk<'a>,
    /// Values of a message, and of a configuration, are shorter than 4 GiB.
    len: u32,
    code: u8,
}

// Rules ask for a dozen of them.
const _: () = assert!(size_of::<Option<OptionData<'_>>>() <= 48);

impl<'a> OptionData<'a> {
    /// A value in one piece.
    #[inline]
    pub(super) fn whole(code: u8, value: &'a [u8]) -> Self {
        Self { code, first: value, later: Walk::empty(), len: value.len() as u32 }
    }

    /// The pieces of `code` that begin with `first` and go on in `later`.
    pub(super) fn in_pieces(code: u8, first: &'a [u8], later: Walk<'a>) -> Self {
        let mut data = Self { code, first, later, len: u32::MAX };
        data.len = data.pieces().map(<[u8]>::len).sum::<usize>() as u32;
        data
    }

    /// Bytes of all pieces together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True when the option stands there without a value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value where it lies in the message; `None` when it is in several pieces.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        self.first.get(..self.len())
    }

    /// The pieces in order.
    #[must_use]
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces { code: self.code, next: Some(self.first), later: self.later, left: self.len() }
    }

    /// The bytes in order.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Bytes<'a> {
        Bytes { piece: [].iter(), pieces: self.pieces() }
    }

    /// Copies the value to the start of `buf` and returns it there; `None` when it is longer.
    pub fn copy_to<'b>(&self, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        let target = buf.get_mut(..self.len())?;
        let mut rest = &mut *target;
        for piece in self.pieces() {
            // The pieces are `len` bytes together, so each fits what is left.
            let (slot, later) = rest.split_at_mut_checked(piece.len())?;
            slot.copy_from_slice(piece);
            rest = later;
        }
        Some(target)
    }

    /// The byte at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<u8> {
        match self.as_slice() {
            Some(slice) => slice.get(index).copied(),
            None => self.bytes().nth(index),
        }
    }

    /// `len` bytes from `start` on; `None` when there are fewer.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Option<Self> {
        if start.checked_add(len)? > self.len() {
            return None;
        }
        let mut pieces = self.pieces();
        let mut skip = start;
        let mut first: &[u8] = &[];
        for piece in pieces.by_ref() {
            // Behind the last byte is a place as well: an empty value may stand there.
            first = piece.get(skip..).unwrap_or_default();
            if !first.is_empty() {
                break;
            }
            skip = skip.saturating_sub(piece.len());
        }
        // No more than the whole.
        Some(Self { first, later: pieces.later, len: len as u32, code: self.code })
    }

    /// True when the value begins with `prefix`.
    #[inline]
    #[must_use]
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        match self.as_slice() {
            Some(slice) => slice.starts_with(prefix),
            None => self.slice(0, prefix.len()).is_some_and(|start| start == *prefix),
        }
    }

    /// The value when it is exactly one byte.
    #[inline]
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// The value when it is exactly two bytes.
    #[inline]
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The value when it is exactly four bytes.
    #[inline]
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The value when it is exactly one address.
    #[inline]
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    /// The value when it is exactly `N` bytes.
    #[inline]
    #[must_use]
    pub fn array<const N: usize>(&self) -> Option<[u8; N]> {
        match self.as_slice() {
            Some(slice) => slice.try_into().ok(),
            None => {
                let mut array = [0; N];
                (self.len() == N && self.copy_to(&mut array).is_some()).then_some(array)
            }
        }
    }

    /// The value as a sequence of (code, length, value), where every code is meant: relay agent
    /// information (RFC 3046 section 2.0).
    #[must_use]
    pub const fn sub_options(self) -> SubOptions<'a> {
        SubOptions { rest: self, dhcp_style: false, malformed: false }
    }

    /// The value as encapsulated options, where 0 is padding and 255 the end: vendor options
    /// (RFC 2132 section 8.4), iPXE's option 175.
    #[must_use]
    pub const fn encapsulated(self) -> SubOptions<'a> {
        SubOptions { rest: self, dhcp_style: true, malformed: false }
    }
}

/// A value that does not stand in a message.
impl<'a> From<&'a [u8]> for OptionData<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::whole(0, bytes)
    }
}

impl PartialEq for OptionData<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.bytes().eq(other.bytes())
    }
}

impl Eq for OptionData<'_> {}

impl PartialEq<[u8]> for OptionData<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        match self.as_slice() {
            Some(slice) => slice == other,
            None => self.len() == other.len() && self.bytes().eq(other.iter().copied()),
        }
    }
}

impl fmt::Debug for OptionData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pieces()).finish()
    }
}

/// The pieces of one option's value, in order.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    code: u8,
    next: Option<&'a [u8]>,
    later: Walk<'a>,
    /// Bytes still to come: less than there are in the message for a part of a value.
    left: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(first) = self.next.take() {
            return Some(self.limited(first));
        }
        if self.left == 0 {
            return None;
        }
        // The message was checked when it was parsed, so nothing here overruns.
        let mut later = self.later.by_ref().filter_map(Result::ok);
        let (_, _, piece) = later.find(|(code, ..)| *code == self.code)?;
        Some(self.limited(piece))
    }
}

impl<'a> Pieces<'a> {
    fn limited(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let piece = piece.get(..self.left).unwrap_or(piece);
        self.left -= piece.len();
        piece
    }
}

/// The bytes of one option's value, in order.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    piece: core::slice::Iter<'a, u8>,
    pieces: Pieces<'a>,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            if let Some(byte) = self.piece.next() {
                return Some(*byte);
            }
            self.piece = self.pieces.next()?.iter();
        }
    }
}

/// One sub-option of an encapsulating option.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SubOption<'a> {
    /// Code of the sub-option.
    pub code: u8,
    /// Its value, which may lie in several pieces when the option does.
    pub data: OptionData<'a>,
}

/// The sub-options of an encapsulating option; ends at the first that is cut off.
#[derive(Clone, Debug)]
pub struct SubOptions<'a> {
    rest: OptionData<'a>,
    dhcp_style: bool,
    malformed: bool,
}

impl<'a> SubOptions<'a> {
    /// The first sub-option of this code among those still to come.
    #[must_use]
    pub fn find_code(&self, code: u8) -> Option<OptionData<'a>> {
        let Some(mut bytes) = self.rest.as_slice() else {
            let mut rest = self.clone();
            return rest.find(|sub_option| sub_option.code == code).map(|found| found.data);
        };
        loop {
            match First::of(bytes, self.dhcp_style) {
                First::Whole { code: found, value, .. } if found == code => {
                    return Some(OptionData::whole(self.rest.code, value));
                }
                First::Whole { behind, .. } => bytes = behind,
                First::None | First::CutOff => return None,
            }
        }
    }

    /// True when every sub-option still to come is whole.
    #[must_use]
    pub fn well_formed(&self) -> bool {
        let mut rest = self.clone();
        rest.by_ref().for_each(drop);
        !rest.malformed
    }

    /// Takes `len` bytes from the front.
    fn take(&mut self, len: usize) -> Option<OptionData<'a>> {
        let taken = self.rest.slice(0, len)?;
        self.rest = self.rest.slice(len, self.rest.len() - len)?;
        Some(taken)
    }

    fn take_u8(&mut self) -> Option<u8> {
        self.take(1)?.get(0)
    }

    fn take_value(&mut self) -> Option<OptionData<'a>> {
        let len = self.take_u8()?;
        self.take(usize::from(len))
    }
}

impl<'a> SubOptions<'a> {
    /// The next of a value that lies in several pieces.
    fn next_of_pieces(&mut self) -> Option<SubOption<'a>> {
        let mut code = self.take_u8()?;
        while self.dhcp_style && code == PAD {
            code = self.take_u8()?;
        }
        let value = if self.dhcp_style && code == END { None } else { self.take_value() };
        if value.is_none() {
            self.malformed = !(self.dhcp_style && code == END);
            self.rest = OptionData::from(&[][..]);
        }
        value.map(|data| SubOption { code, data })
    }
}

impl<'a> Iterator for SubOptions<'a> {
    type Item = SubOption<'a>;

    fn next(&mut self) -> Option<SubOption<'a>> {
        let Some(bytes) = self.rest.as_slice() else { return self.next_of_pieces() };
        let option = self.rest.code;
        match First::of(bytes, self.dhcp_style) {
            First::Whole { code, value, behind } => {
                self.rest = OptionData::whole(option, behind);
                Some(SubOption { code, data: OptionData::whole(option, value) })
            }
            first => {
                self.malformed |= matches!(first, First::CutOff);
                self.rest = OptionData::whole(option, &[]);
                None
            }
        }
    }
}

/// What stands first in a value that lies in one piece, as nearly all do.
enum First<'a> {
    Whole { code: u8, value: &'a [u8], behind: &'a [u8] },
    CutOff,
    None,
}

impl<'a> First<'a> {
    #[inline]
    fn of(mut bytes: &'a [u8], dhcp_style: bool) -> Self {
        while dhcp_style && let [PAD, behind @ ..] = bytes {
            bytes = behind;
        }
        match bytes {
            [] => Self::None,
            [END, ..] if dhcp_style => Self::None,
            &[code, len, ref rest @ ..] => match rest.split_at_checked(len.into()) {
                Some((value, behind)) => Self::Whole { code, value, behind },
                None => Self::CutOff,
            },
            [_] => Self::CutOff,
        }
    }
}
