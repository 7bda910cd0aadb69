//! The machine's UUID, option 97 (RFC 4578 section 2.3).

use core::fmt;

use super::super::data::OptionData;

/// Type byte of option 97 before a UUID.
const UUID_TYPE: u8 = 0;
/// UUIDs that stand in the firmware of many machines, as their makers left them there.
const PLACEHOLDERS: [[u8; 16]; 3] =
    [[0x00; 16], [0xff; 16], [3, 0, 2, 0, 4, 0, 5, 0, 0, 6, 0, 7, 0, 8, 0, 9]];

/// The UUID of a machine.
///
/// SMBIOS stores the first three fields in little-endian order, and the programs of one machine
/// disagree whether to convert them before sending. So a UUID and the same UUID with those fields
/// byte-swapped are one machine: equal, and with the same [`MachineId::key`].
#[derive(Copy, Clone, Debug)]
pub struct MachineId([u8; 16]);

impl MachineId {
    /// The UUID as it stands; `None` for a placeholder that says nothing of the machine.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = Self(bytes);
        let placeholder =
            PLACEHOLDERS.iter().any(|known| bytes == *known || id.byte_swapped().0 == *known);
        (!placeholder).then_some(id)
    }

    /// From the value of option 97; `None` when it is no UUID or a placeholder.
    #[must_use]
    pub fn from_option(data: &OptionData<'_>) -> Option<Self> {
        let [kind, bytes @ ..] = data.array::<17>()?;
        if kind == UUID_TYPE { Self::from_bytes(bytes) } else { None }
    }

    /// From text, as [`fmt::Display`] writes it, in either case, with or without hyphens.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let hyphens_fit = match text.len() {
            32 => text.bytes().all(|byte| byte != b'-'),
            36 => [8, 13, 18, 23].iter().all(|place| text.as_bytes()[*place] == b'-'),
            _ => false,
        };
        let mut bytes = [0; 16];
        let mut digits = text.chars().filter(|c| *c != '-');
        for byte in &mut bytes {
            let high = digits.next()?.to_digit(16)?;
            let low = digits.next()?.to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        (hyphens_fit && digits.next().is_none()).then(|| Self::from_bytes(bytes))?
    }

    /// The bytes in the order of the text (RFC 9562 section 4).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The UUID that another program of the same machine may send: the first three fields
    /// byte-swapped.
    #[must_use]
    pub const fn byte_swapped(&self) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// The same bytes for a UUID and its byte-swapped form: what to store and to look up.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        self.0.min(self.byte_swapped().0)
    }
}

impl PartialEq for MachineId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for MachineId {}

impl core::hash::Hash for MachineId {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// The text of RFC 9562, as the bytes stand: `564d3210-…`.
impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
