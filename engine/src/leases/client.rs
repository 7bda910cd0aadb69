//! Who holds a lease: the identity of a machine, and what is remembered about it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bootstorm_protocols::dhcpv4::ETHERNET;
use xxhash_rust::xxh3::xxh3_128;

use super::LeaseScope;

/// Bytes of an identity that fit without the heap. A hardware address takes 7 (its type and six
/// bytes), a UUID 16, a client identifier of systemd or dhcpcd 15 to 23.
const INLINE: usize = 29;

/// What tells one machine from another: a kind and bytes.
///
/// Cloning never allocates. Making one allocates only above 29 bytes, which no hardware address,
/// UUID or common client identifier has.
#[derive(Clone)]
pub struct ClientKey(Repr);

#[derive(Clone)]
enum Repr {
    Inline { kind: KeyKind, len: u8, bytes: [u8; INLINE] },
    Shared { kind: KeyKind, bytes: Arc<[u8]> },
}

/// What a [`ClientKey`] is made of. The numbers are on disk and never change their meaning.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum KeyKind {
    /// `htype` and `chaddr`.
    Hardware = 1,
    /// Option 61, whole, with its type octet.
    ClientId = 2,
    /// Option 97 without its type octet.
    Uuid = 3,
    /// Option 82: circuit-id and remote-id.
    Circuit = 4,
    /// Any other option, or one that travels in another.
    Option = 5,
}

impl KeyKind {
    /// The kind of a number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Hardware, Self::ClientId, Self::Uuid, Self::Circuit, Self::Option]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// What people and programs are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::ClientId => "client-id",
            Self::Uuid => "uuid",
            Self::Circuit => "circuit",
            Self::Option => "host-identifier",
        }
    }
}

impl ClientKey {
    /// Bytes of the longest identity: one option.
    pub(super) const LONGEST: usize = 255;

    /// The identity of those bytes. Two kinds never compare equal, whatever their bytes. Of more
    /// than 255 bytes, which RFC 3396 allows and no known client sends, it is their hash (XXH3, 128
    /// bits), so that a record has room for any identity.
    pub fn new(kind: KeyKind, bytes: &[u8]) -> Self {
        if bytes.len() > Self::LONGEST {
            return Self::new(kind, &xxh3_128(bytes).to_be_bytes());
        }
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= INLINE => {
                let mut inline = [0; INLINE];
                inline[..bytes.len()].copy_from_slice(bytes);
                Self(Repr::Inline { kind, len, bytes: inline })
            }
            _ => Self(Repr::Shared { kind, bytes: bytes.into() }),
        }
    }

    /// A machine by its hardware address.
    pub fn hardware(hardware: &Hardware) -> Self {
        let mut bytes = [0; 17];
        bytes[0] = hardware.htype;
        let address = hardware.address();
        bytes[1..=address.len()].copy_from_slice(address);
        Self::new(KeyKind::Hardware, &bytes[..=address.len()])
    }

    /// A machine by its client identifier (option 61), type octet included.
    pub fn client_id(client_id: &[u8]) -> Self {
        Self::new(KeyKind::ClientId, client_id)
    }

    /// A machine by its UUID (option 97), in the byte order of its text.
    pub fn uuid(uuid: &[u8; 16]) -> Self {
        Self::new(KeyKind::Uuid, uuid)
    }

    /// What it is made of.
    pub fn kind(&self) -> KeyKind {
        match self.0 {
            Repr::Inline { kind, .. } | Repr::Shared { kind, .. } => kind,
        }
    }

    /// Its bytes, without the kind.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes, .. } => &bytes[..usize::from(*len)],
            Repr::Shared { bytes, .. } => bytes,
        }
    }
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.bytes() == other.bytes()
    }
}

impl Eq for ClientKey {}

impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.kind() as u8);
        state.write(self.bytes());
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:", self.kind())?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `htype` and `chaddr` of a machine (RFC 2131, section 2). `Display` gives the usual text,
/// `52:54:00:12:34:56`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Hardware {
    htype: u8,
    len: u8,
    address: [u8; 16],
}

impl Hardware {
    /// A hardware address of Ethernet as people write it: `52:54:00:12:34:56`, `52-54-00-12-34-56`,
    /// `5254.0012.3456` or bare digits; 1 to 16 bytes.
    ///
    /// # Errors
    /// It is none, and how one is written.
    pub fn of_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a hardware address; write it as 52:54:00:12:34:56");
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !matches!(byte, b':' | b'-' | b'.'))
            .map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8).ok_or_else(wrong))
            .collect::<Result<_, _>>()?;
        if digits.is_empty() || digits.len() % 2 == 1 || digits.len() > 32 {
            return Err(wrong());
        }
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        Ok(Self::new(ETHERNET, &bytes))
    }

    /// A hardware address; of more than 16 bytes only the first 16 count, as `chaddr` has no more.
    pub fn new(htype: u8, address: &[u8]) -> Self {
        let mut bytes = [0; 16];
        let len = address.len().min(16);
        bytes[..len].copy_from_slice(&address[..len]);
        // At most 16.
        Self { htype, len: len as u8, address: bytes }
    }

    /// An Ethernet address.
    pub fn ethernet(address: [u8; 6]) -> Self {
        Self::new(1, &address)
    }

    /// The kind of network, 1 for Ethernet (IANA hardware types).
    pub fn htype(&self) -> u8 {
        self.htype
    }

    /// The address, 0 to 16 bytes; none for a client that has `hlen` 0 (RFC 4390).
    pub fn address(&self) -> &[u8] {
        &self.address[..usize::from(self.len)]
    }

    /// Whether it tells one card from another: cards without an address of their own send zeros.
    pub(crate) fn names_a_card(&self) -> bool {
        self.address().iter().any(|&byte| byte != 0)
    }

    /// Whether both are the card of one machine.
    pub(crate) fn is_same_machine(&self, other: &Self) -> bool {
        self.names_a_card() && self == other
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.address().iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{self}", self.htype)
    }
}

/// What a message says about its sender, borrowed from it.
#[derive(Copy, Clone, Debug)]
pub struct Client<'a> {
    /// Its identity.
    pub key: &'a ClientKey,
    /// Its hardware address.
    pub hardware: Hardware,
    /// What else it or its relay agent said.
    pub notes: Said<'a>,
}

/// What a message says besides identity.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Said<'a> {
    /// Option 61.
    pub client_id: Option<&'a [u8]>,
    /// Who says no option 61 is another than who says one. Else what was said before holds on.
    pub tells_apart: bool,
    /// Option 12, not checked.
    pub hostname: Option<&'a [u8]>,
    /// Option 82, sub-option 1.
    pub circuit_id: Option<&'a [u8]>,
    /// Option 82, sub-option 2.
    pub remote_id: Option<&'a [u8]>,
    /// What it means if the relay agent's part is missing.
    pub relay: RelaySaid,
    /// What the configuration keeps on the lease of it; `None`: what it has kept.
    pub scope: Option<LeaseScope<'a>>,
}

/// Whether a message says all that there is to say about the way to its sender.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum RelaySaid {
    /// It came by the client's link or through a relay agent: what it does not say is not so any
    /// more.
    #[default]
    All,
    /// It came by unicast past every relay agent: what an earlier message said holds on.
    Kept,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_never_mix_and_length_counts() {
        let bytes = [1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
        let hardware = Hardware::ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(ClientKey::hardware(&hardware), ClientKey::new(KeyKind::Hardware, &bytes));
        assert_ne!(ClientKey::hardware(&hardware), ClientKey::client_id(&bytes));
        assert_ne!(ClientKey::client_id(&[1, 0]), ClientKey::client_id(&[1]));
        let long = [7; 200];
        assert_eq!(ClientKey::client_id(&long), ClientKey::client_id(&long).clone());
        assert_eq!(ClientKey::client_id(&long).bytes(), long);
        let longer = ClientKey::client_id(&[7; 256]);
        assert_eq!((longer.bytes().len(), longer.kind()), (16, KeyKind::ClientId));
        assert_eq!(longer, ClientKey::client_id(&[7; 256]));
        assert_ne!(longer, ClientKey::client_id(&[7; 257]));
        assert_eq!(ClientKey::client_id(&[7; 255]).bytes().len(), 255);
        assert_eq!(hardware.to_string(), "52:54:00:12:34:56");
        assert_eq!(size_of::<ClientKey>(), 32);
    }

    #[test]
    fn hardware_addresses_in_every_usual_spelling() {
        let mac = Hardware::ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for text in ["52:54:00:12:34:56", "52-54-00-12-34-56", "5254.0012.3456", "525400123456"] {
            assert_eq!(Hardware::of_text(text).unwrap(), mac);
        }
        for text in ["", "5", "52:54:0", "hello", "52:54:00:12:34:5g"] {
            assert!(Hardware::of_text(text).is_err(), "{text}");
        }
        assert!(Hardware::of_text(&"00".repeat(17)).is_err());
    }
}
