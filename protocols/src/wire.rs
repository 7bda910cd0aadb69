//! Cursors over `&[u8]` and `&mut [u8]`, big endian: the only place that does offset arithmetic.
//! Nothing here panics on any input; what does not fit is an error.

use core::net::Ipv4Addr;

/// The bytes ended before the value did.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("needed {needed} more bytes at offset {at}, found {found}")]
pub struct Truncated {
    /// Offset of the value from the start of the bytes.
    pub at: usize,
    /// Bytes the value needs.
    pub needed: usize,
    /// Bytes that were there.
    pub found: usize,
}

/// The buffer has no room for the value; nothing of it was written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no room for {needed} more bytes, {room} are left")]
pub struct Full {
    /// Bytes the value needs.
    pub needed: usize,
    /// Bytes that were left.
    pub room: usize,
}

/// Reads values one after another.
#[derive(Copy, Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads `bytes[start..end]` and counts positions from the start of `bytes`; what lies outside
    /// of `bytes` is empty.
    #[must_use]
    pub fn window(bytes: &'a [u8], start: usize, end: usize) -> Self {
        let bytes = bytes.get(..end).unwrap_or(bytes);
        Self { bytes, at: start.min(bytes.len()) }
    }

    /// Offset of the next value from the start of the bytes.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at // at <= len: only `take` moves it
    }

    /// True when all has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// All that has not been read yet, without reading it.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes, big endian.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes, big endian.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next four bytes as an address.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn ipv4(&mut self) -> Result<Ipv4Addr, Truncated> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    /// The next `N` bytes, copied.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        match self.rest().first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Truncated`]: fewer bytes are left; the position stays.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        match self.rest().get(..len) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.truncated(len)),
        }
    }

    fn truncated(&self, needed: usize) -> Truncated {
        Truncated { at: self.at, needed, found: self.remaining() }
    }
}

/// Writes values one after another.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the first byte on, at most to the end of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes that still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.bytes.len() - self.at // at <= len: only `bytes` moves it
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.at).unwrap_or_default()
    }

    /// Appends a byte.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn u8(&mut self, value: u8) -> Result<(), Full> {
        self.bytes(&[value])
    }

    /// Appends two bytes, big endian.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn u16(&mut self, value: u16) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes, big endian.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends an address.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn ipv4(&mut self, value: Ipv4Addr) -> Result<(), Full> {
        self.bytes(&value.octets())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), Full> {
        let full = Full { needed: value.len(), room: self.room() };
        let slot = self.bytes.get_mut(self.at..).and_then(|rest| rest.get_mut(..value.len()));
        slot.ok_or(full)?.copy_from_slice(value);
        self.at += value.len();
        Ok(())
    }

    /// Appends `len` zero bytes.
    ///
    /// # Errors
    /// [`Full`]: there is no room; nothing is written.
    #[inline]
    pub fn zeros(&mut self, len: usize) -> Result<(), Full> {
        let full = Full { needed: len, room: self.room() };
        let slot = self.bytes.get_mut(self.at..).and_then(|rest| rest.get_mut(..len));
        slot.ok_or(full)?.fill(0);
        self.at += len;
        Ok(())
    }
}

/// The `N` bytes at `AT` of a header of known length; a field outside of it does not compile.
#[inline]
#[must_use]
pub fn field<const AT: usize, const N: usize, const LEN: usize>(header: &[u8; LEN]) -> [u8; N] {
    const { assert!(AT + N <= LEN, "the field lies outside of the header") };
    core::array::from_fn(|index| header[AT + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written() {
        let mut buffer = [0xee; 16];
        let mut writer = Writer::new(&mut buffer);
        writer.u8(1).unwrap();
        writer.u16(0x0203).unwrap();
        writer.u32(0x0405_0607).unwrap();
        writer.ipv4(Ipv4Addr::new(10, 1, 0, 6)).unwrap();
        writer.bytes(b"ab").unwrap();
        writer.zeros(2).unwrap();
        assert_eq!((writer.position(), writer.room()), (15, 1));
        assert_eq!(writer.u16(9), Err(Full { needed: 2, room: 1 }));
        assert_eq!(writer.zeros(2), Err(Full { needed: 2, room: 1 }));
        assert_eq!(writer.written(), [1, 2, 3, 4, 5, 6, 7, 10, 1, 0, 6, b'a', b'b', 0, 0]);

        let mut reader = Reader::new(&buffer);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.ipv4(), Ok(Ipv4Addr::new(10, 1, 0, 6)));
        assert_eq!(reader.bytes(2), Ok(&b"ab"[..]));
        assert_eq!(reader.rest(), [0, 0, 0xee]);
        assert_eq!(reader.u32(), Err(Truncated { at: 13, needed: 4, found: 3 }));
        assert_eq!(reader.bytes(3), Ok(&[0, 0, 0xee][..]));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_window_keeps_the_positions_of_the_whole() {
        let mut reader = Reader::window(&[0, 1, 2, 3, 4], 2, 4);
        assert_eq!((reader.position(), reader.remaining()), (2, 2));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u8(), Err(Truncated { at: 4, needed: 1, found: 0 }));
        assert!(Reader::window(&[0, 1], 7, 9).is_empty());
    }

    #[test]
    fn a_field_is_found_by_its_offset() {
        assert_eq!(field::<1, 2, 4>(&[0, 1, 2, 3]), [1, 2]);
    }
}
