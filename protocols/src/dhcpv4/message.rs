//! A view of a received message.

use core::fmt;
use core::net::Ipv4Addr;

use super::data::{Bytes, OptionData};
use super::message_type::MessageType;
use super::options;
use super::pxe::{Architecture, ClientStage, MachineId};
use super::rai::RelayAgentInformation;
use super::user_class::UserClass;
use super::walk::{Overrun, Walk};
use super::{
    BOOTREPLY, BOOTREQUEST, BROADCAST_FLAG, COOKIE, FILE, FILE_LEN, FIXED, MIN_MESSAGE, OPTIONS,
    SNAME, SNAME_LEN,
};
use crate::wire::field;

/// What every client accepts: an IP datagram of 576 bytes (RFC 2131 section 2), less the headers of
/// IPv4 and UDP, which option 57 counts in.
const MIN_DATAGRAM: u16 = 576;
const IP_AND_UDP: u16 = 28;

/// From one entry a kind of error: its doc, its message, its variant and its word for counters.
macro_rules! parse_errors {
    ($(
        $(#[$attribute:meta])*
        $variant:ident $({ $($fields:tt)* })? $(( $($values:tt)* ))? = $word:literal;
    )*) => {
        /// Why bytes are not a DHCP message.
        #[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
        pub enum ParseError {
            $($(#[$attribute])* $variant $({ $($fields)* })? $(( $($values)* ))?,)*
        }

        impl ParseError {
            /// A word for each kind, for counters; [`ParseError::index`] is the place in it.
            pub const NAMES: &'static [&'static str] = &[$($word),*];

            /// The place of its kind in [`ParseError::NAMES`].
            #[must_use]
            pub const fn index(&self) -> usize {
                enum Place { $($variant),* }
                match self { $(Self::$variant { .. } => Place::$variant as usize),* }
            }
        }
    };
}

parse_errors! {
    /// Shorter than the fixed fields.
    #[error("{0} bytes are fewer than the {FIXED} of a BOOTP header")]
    TooShort(usize) = "too-short";
    /// Longer than any UDP datagram.
    #[error("{0} bytes are more than a UDP datagram holds")]
    TooLong(usize) = "too-long";
    /// `op` is neither request nor reply.
    #[error("op {0} is neither a request (1) nor a reply (2)")]
    Op(u8) = "op";
    /// The hardware address is longer than its field.
    #[error("a hardware address of {0} bytes does not fit the 16 of chaddr")]
    HardwareLength(u8) = "hardware-length";
    /// An option runs past the end of its field.
    #[error("option {code} at offset {at} runs past the end of its field")]
    Overrun {
        /// Code of the option.
        code: u8,
        /// Its offset from the start of the message, in bytes.
        at: u16,
    } = "overrun";
    /// Option 52 is not one byte from 1 to 3, so it is unknown what sname and file hold.
    #[error("option 52 (overload) at offset {at} is not one byte from 1 to 3")]
    Overload {
        /// Its offset from the start of the message, in bytes.
        at: u16,
    } = "overload";
    /// Option 53 is not exactly one byte.
    #[error("option 53 (message type) at offset {at} has {len} bytes instead of one")]
    MessageType {
        /// Its offset from the start of the message, in bytes.
        at: u16,
        /// Length of its value, in bytes.
        len: u16,
    } = "message-type";
}

/// Where the options of a message stand, so that finding one costs one look.
#[derive(Clone)]
struct Index {
    /// Offset of the first value of every code; zero when there is none, as no option begins there.
    first: [u16; 256],
    /// A bit for every code that has more than one instance.
    repeated: [u64; 4],
}

impl Index {
    fn record(&mut self, code: u8, offset: u16) {
        let first = &mut self.first[usize::from(code)];
        if *first == 0 {
            *first = offset;
        } else {
            self.repeated[usize::from(code >> 6)] |= 1 << (code & 63);
        }
    }

    /// Offset of the first instance of an option that is there: of its code, which stands before
    /// the length and the value.
    fn start(&self, code: u8) -> u16 {
        self.first[usize::from(code)].saturating_sub(2)
    }

    fn is_repeated(&self, code: u8) -> bool {
        self.repeated[usize::from(code >> 6)] & (1 << (code & 63)) != 0
    }
}

/// A received message: a view of bytes that were checked once, so no accessor fails or panics.
#[derive(Clone)]
pub struct Message<'a> {
    bytes: &'a [u8],
    fixed: &'a [u8; FIXED],
    index: Index,
    /// Option 52, or zero.
    overload: u8,
    /// Option 53, which every decision asks for several times.
    message_type: Option<MessageType>,
}

impl<'a> Message<'a> {
    /// Checks the fixed fields and every option, in one pass. A message without the magic cookie is
    /// BOOTP with a vendor area of its own: accepted, without options. Option 52 counts in the
    /// options field only; in `file` and `sname` it is an option like any other.
    ///
    /// # Errors
    /// [`ParseError`]: the bytes are not a DHCP message, and where they fail.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let fixed = bytes.first_chunk::<FIXED>().ok_or(ParseError::TooShort(bytes.len()))?;
        if bytes.len() > usize::from(u16::MAX) {
            return Err(ParseError::TooLong(bytes.len()));
        }
        let index = Index { first: [0; 256], repeated: [0; 4] };
        let mut message = Self { bytes, fixed, index, overload: 0, message_type: None };
        if !matches!(message.op(), BOOTREQUEST | BOOTREPLY) {
            return Err(ParseError::Op(message.op()));
        }
        if message.hlen() > 16 {
            return Err(ParseError::HardwareLength(message.hlen()));
        }
        if message.has_cookie() {
            message.read_options()?;
        }
        Ok(message)
    }

    /// `htype` and the hardware address of bytes that [`Message::parse`] refused; `None` when they
    /// are too short, or the address is too long.
    #[must_use]
    pub fn hardware_of(bytes: &[u8]) -> Option<(u8, &[u8])> {
        let fixed = bytes.first_chunk::<FIXED>()?;
        let len = usize::from(fixed[2]);
        (len <= 16).then(|| (fixed[1], &fixed[28..28 + len]))
    }

    /// Whether its vendor area has options (RFC 1497): it begins with the magic cookie.
    #[must_use]
    pub fn has_cookie(&self) -> bool {
        self.bytes.get(FIXED..OPTIONS) == Some(&COOKIE)
    }

    fn read_options(&mut self) -> Result<(), ParseError> {
        self.record(Walk::new(self.bytes))?;
        if let Some(overload) = self.option(options::OPTION_OVERLOAD) {
            let value = overload.u8().filter(|value| matches!(value, 1..=3));
            let at = self.index.start(options::OPTION_OVERLOAD);
            self.overload = value.ok_or(ParseError::Overload { at })?;
            self.record(Walk::empty_of(self.bytes).then_overloaded(self.overload))?;
        }
        if let Some(data) = self.option(options::MESSAGE_TYPE) {
            let at = self.index.start(options::MESSAGE_TYPE);
            // Fits 16 bits: the length of the whole message does.
            let error = ParseError::MessageType { at, len: data.len() as u16 };
            self.message_type = Some(MessageType::from_code(data.u8().ok_or(error)?));
        }
        Ok(())
    }

    fn record(&mut self, walk: Walk<'a>) -> Result<(), ParseError> {
        for option in walk {
            // Offsets fit 16 bits: the length of the whole message does.
            let (code, offset, _) = option
                .map_err(|Overrun { code, at }| ParseError::Overrun { code, at: at as u16 })?;
            self.index.record(code, offset as u16);
        }
        Ok(())
    }

    /// The message as it was received.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// 1 request, 2 reply.
    #[must_use]
    pub fn op(&self) -> u8 {
        self.fixed[0]
    }

    /// Type of the hardware address (IANA ARP parameters).
    #[must_use]
    pub fn htype(&self) -> u8 {
        self.fixed[1]
    }

    /// Length of the hardware address, 0 to 16.
    #[must_use]
    pub fn hlen(&self) -> u8 {
        self.fixed[2]
    }

    /// Relay agents passed.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.fixed[3]
    }

    /// Transaction id.
    #[must_use]
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(field::<4, 4, FIXED>(self.fixed))
    }

    /// Seconds since the client began, as it says; some send it in the wrong byte order.
    #[must_use]
    pub fn secs(&self) -> u16 {
        u16::from_be_bytes(field::<8, 2, FIXED>(self.fixed))
    }

    /// The flags; only [`BROADCAST_FLAG`] is defined.
    #[must_use]
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(field::<10, 2, FIXED>(self.fixed))
    }

    /// True when the client asks for replies by broadcast.
    #[must_use]
    pub fn broadcast(&self) -> bool {
        self.flags() & BROADCAST_FLAG != 0
    }

    /// The address the client has and answers ARP for, or 0.0.0.0.
    #[must_use]
    pub fn ciaddr(&self) -> Ipv4Addr {
        field::<12, 4, FIXED>(self.fixed).into()
    }

    /// The address given to the client.
    #[must_use]
    pub fn yiaddr(&self) -> Ipv4Addr {
        field::<16, 4, FIXED>(self.fixed).into()
    }

    /// The next server of the boot.
    #[must_use]
    pub fn siaddr(&self) -> Ipv4Addr {
        field::<20, 4, FIXED>(self.fixed).into()
    }

    /// The relay agent's address, or 0.0.0.0 for a direct client.
    #[must_use]
    pub fn giaddr(&self) -> Ipv4Addr {
        field::<24, 4, FIXED>(self.fixed).into()
    }

    /// The hardware address: hlen bytes, 0 to 16.
    #[must_use]
    pub fn chaddr(&self) -> &'a [u8] {
        self.fixed.get(28..28 + usize::from(self.hlen())).unwrap_or_default()
    }

    /// The 64 bytes of `sname` as they are; they may hold options.
    #[must_use]
    pub fn sname(&self) -> &'a [u8] {
        self.fixed.get(SNAME..SNAME + SNAME_LEN).unwrap_or_default()
    }

    /// The 128 bytes of `file` as they are; they may hold options.
    #[must_use]
    pub fn file(&self) -> &'a [u8] {
        self.fixed.get(FILE..FILE + FILE_LEN).unwrap_or_default()
    }

    /// The server's name in `sname`, up to its NUL; empty when options overload the field.
    #[must_use]
    pub fn server_name(&self) -> &'a [u8] {
        if self.overload & super::walk::SNAME_OVERLOADED == 0 { text(self.sname()) } else { &[] }
    }

    /// The boot file in `file`, up to its NUL; empty when options overload the field.
    #[must_use]
    pub fn boot_file(&self) -> &'a [u8] {
        if self.overload & super::walk::FILE_OVERLOADED == 0 { text(self.file()) } else { &[] }
    }

    /// The value of an option; all instances of it joined (RFC 3396).
    #[must_use]
    #[inline]
    pub fn option(&self, code: u8) -> Option<OptionData<'a>> {
        let value = self.first_piece(code)?;
        if self.index.is_repeated(code) {
            return Some(self.joined(code, value));
        }
        Some(OptionData::whole(code, value))
    }

    /// The value of the first instance of an option.
    #[inline]
    fn first_piece(&self, code: u8) -> Option<&'a [u8]> {
        let offset = match self.index.first[usize::from(code)] {
            0 => return None,
            offset => usize::from(offset),
        };
        let len = usize::from(*self.bytes.get(offset - 1)?);
        self.bytes.get(offset..offset + len)
    }

    /// The value of an option that has several instances.
    #[cold]
    fn joined(&self, code: u8, first: &'a [u8]) -> OptionData<'a> {
        let end = usize::from(self.index.first[usize::from(code)]) + first.len();
        let later = Walk::behind(self.bytes, self.overload, end);
        OptionData::in_pieces(code, first, later)
    }

    /// Offset of the value of an option from the start of the message, in bytes; `None` when it is
    /// absent or in several pieces.
    #[must_use]
    pub fn value_offset(&self, code: u8) -> Option<usize> {
        let offset = usize::from(self.index.first[usize::from(code)]);
        (offset > 0 && !self.index.is_repeated(code)).then_some(offset)
    }

    /// Every option as it stands in the message, pieces of one option one by one.
    pub fn options(&self) -> impl Iterator<Item = (u8, &'a [u8])> + Clone + use<'a> {
        let has_options = self.has_cookie();
        let walk = if has_options { Walk::new(self.bytes) } else { Walk::empty() };
        let walk = walk.then_overloaded(self.overload);
        walk.filter_map(Result::ok).map(|(code, _, value)| (code, value))
    }

    /// Type of the message; `None` for BOOTP.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        self.message_type
    }

    /// The client identifier, option 61 (RFC 2132 section 9.14, RFC 4361). One that is empty
    /// identifies nobody and counts as absent.
    #[must_use]
    pub fn client_id(&self) -> Option<OptionData<'a>> {
        self.option(options::CLIENT_IDENTIFIER).filter(|id| !id.is_empty())
    }

    /// The address the client wishes for, option 50.
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.option(options::REQUESTED_ADDRESS)?.ipv4()
    }

    /// The server the message is meant for or comes from, option 54.
    #[must_use]
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        self.option(options::SERVER_IDENTIFIER)?.ipv4()
    }

    /// The lease time in seconds, option 51; [`super::INFINITE`] never ends.
    #[must_use]
    pub fn lease_time(&self) -> Option<u32> {
        self.option(options::LEASE_TIME)?.u32()
    }

    /// The codes the client asks for, in its order, option 55; none when it has no such option.
    #[must_use]
    pub fn parameter_request_list(&self) -> Bytes<'a> {
        let list = self.option(options::PARAMETER_REQUEST_LIST);
        list.unwrap_or(OptionData::from(&[][..])).bytes()
    }

    /// True when the client asks for this code.
    #[must_use]
    pub fn requests(&self, code: u8) -> bool {
        self.parameter_request_list().any(|requested| requested == code)
    }

    /// The longest IP datagram the client takes, option 57.
    #[must_use]
    pub fn max_message_size(&self) -> Option<u16> {
        self.option(options::MAX_MESSAGE_SIZE)?.u16()
    }

    /// How long a reply may be, in bytes of UDP payload: what option 57 allows, at least 548
    /// (RFC 2131 section 2), at most what `mtu` (of the path to the client, in bytes of IP
    /// datagram) leaves. A BOOTP client gets 300 bytes, or as many as it sent (RFC 951, RFC 1542
    /// section 2.1).
    #[must_use]
    pub fn reply_room(&self, mtu: u16) -> usize {
        if self.message_type().is_none() {
            return self.bytes.len().clamp(MIN_MESSAGE, usize::from(MIN_DATAGRAM - IP_AND_UDP));
        }
        let accepted = self.max_message_size().unwrap_or(MIN_DATAGRAM).max(MIN_DATAGRAM);
        usize::from(accepted.min(mtu.max(MIN_DATAGRAM)) - IP_AND_UDP)
    }

    /// The vendor class identifier, option 60.
    #[must_use]
    pub fn vendor_class(&self) -> Option<OptionData<'a>> {
        self.option(options::VENDOR_CLASS_IDENTIFIER)
    }

    /// The user class, option 77.
    #[must_use]
    pub fn user_class(&self) -> Option<UserClass<'a>> {
        self.option(options::USER_CLASS).map(UserClass::new)
    }

    /// What the relay agent says, option 82.
    #[must_use]
    pub fn relay_agent_information(&self) -> Option<RelayAgentInformation<'a>> {
        self.option(options::RELAY_AGENT_INFORMATION).map(RelayAgentInformation::new)
    }

    /// The subnet to allocate from in place of giaddr's, option 118 (RFC 3011).
    #[must_use]
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        self.option(options::SUBNET_SELECTION)?.ipv4()
    }

    /// True when the client takes an ACK to its DISCOVER, option 80 (RFC 4039).
    #[must_use]
    pub fn rapid_commit(&self) -> bool {
        self.option(options::RAPID_COMMIT).is_some_and(|data| data.is_empty())
    }

    /// The machine's architecture: the first of option 93, or what the vendor class says.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        Architecture::of(self)
    }

    /// The machine's UUID, option 97; `None` when it is absent or no machine's own.
    #[must_use]
    pub fn machine_id(&self) -> Option<MachineId> {
        MachineId::from_option(&self.option(options::PXE_CLIENT_ID)?)
    }

    /// Which program of the boot sent the message.
    #[must_use]
    pub fn stage(&self) -> ClientStage {
        ClientStage::of(self)
    }
}

/// One line with what tells messages apart.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("op", &self.op())
            .field("type", &self.message_type())
            .field("xid", &self.xid())
            .field("chaddr", &self.chaddr())
            .field("ciaddr", &self.ciaddr())
            .field("yiaddr", &self.yiaddr())
            .field("giaddr", &self.giaddr())
            .field("options", &Options(self))
            .finish_non_exhaustive()
    }
}

struct Options<'a>(&'a Message<'a>);

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.options()).finish()
    }
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
