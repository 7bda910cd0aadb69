//! Options that travel inside other options: put together code by code from all levels of a chain.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use bootstorm_protocols::dhcpv4::options;

use super::{Carrier, Space};

/// One option of a space.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Carried<'c> {
    pub(super) code: u32,
    /// `None` where it is not sent, whatever wider levels say.
    pub(super) value: Option<&'c [u8]>,
    /// The place of its level in the chain.
    pub(super) level: usize,
}

/// Options of one space while levels add theirs, the narrowest first.
pub(super) struct Collected<'c> {
    list: BumpVec<'c, Carried<'c>>,
}

impl<'c> Collected<'c> {
    pub(super) fn new(arena: &'c Bump) -> Self {
        Self { list: BumpVec::new_in(arena) }
    }

    /// Adds an option unless a narrower level has one of its code.
    pub(super) fn add(&mut self, carried: Carried<'c>) {
        if !self.has(carried.code) {
            self.list.push(carried);
        }
    }

    pub(super) fn has(&self, code: u32) -> bool {
        self.list.iter().any(|other| other.code == code)
    }

    /// The narrowest level that has an option.
    pub(super) fn level(&self) -> Option<usize> {
        self.list
            .iter()
            .filter(|carried| carried.value.is_some())
            .map(|carried| carried.level)
            .min()
    }

    /// Adds the options to the value of what they travel in, by rising code.
    pub(super) fn write(mut self, space: &Space, to: &mut BumpVec<'c, u8>) {
        self.list.sort_unstable();
        let enterprise = match space.carrier {
            Carrier::Enterprise(number) => Some(number),
            Carrier::Option(_) | Carrier::Vendor => None,
        };
        if let Some(number) = enterprise {
            // RFC 3925, section 4: the number, the length of what follows in one byte, its options.
            to.extend_from_slice(&number.to_be_bytes());
            to.push(0);
        }
        let start = to.len();
        for Carried { code, value, .. } in self.list {
            let Some(value) = value else { continue };
            let before = to.len();
            if !(fitting(code, space.code_width, to)
                && (space.length_width == 0 || fitting(value.len() as u32, space.length_width, to)))
            {
                to.truncate(before);
                continue;
            }
            to.extend_from_slice(value);
        }
        if enterprise.is_some() {
            match u8::try_from(to.len() - start) {
                Ok(length) => to[start - 1] = length,
                Err(_) => to.truncate(start - 5),
            }
        }
    }
}

/// Adds a number of so many bytes; says whether it fits.
fn fitting(number: u32, width: u8, to: &mut BumpVec<'_, u8>) -> bool {
    let bytes = number.to_be_bytes();
    let (cut, rest) = bytes.split_at(bytes.len().saturating_sub(width.into()));
    to.extend_from_slice(rest);
    cut.iter().all(|&byte| byte == 0)
}

impl Carrier {
    /// The option.
    pub(super) fn option(self) -> u8 {
        match self {
            Self::Option(code) => code,
            Self::Vendor => options::VENDOR_ENCAPSULATED_OPTIONS,
            Self::Enterprise(_) => options::VENDOR_OPTIONS,
        }
    }
}
