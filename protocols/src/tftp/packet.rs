//! The six packets of TFTP (RFC 1350 section 5, RFC 2347): a checked view and writers.

use thiserror::Error;

use crate::wire::{Full, Reader, Truncated, Writer};

use super::block::Rollover;

/// Bytes before the data of a DATA packet: opcode and block number.
pub const DATA_HEADER_LEN: usize = 4;
/// Length of an ACK packet.
const ACK_LEN: usize = 4;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Makes [`ErrorCode`] from a table of code, name and meaning.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:literal $name:ident;)*) => {
        /// Error codes of RFC 1350 (0 to 7) and RFC 2347 (8).
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code that no RFC defines.
            Unknown(u16),
        }

        impl ErrorCode {
            /// The code on the wire.
            #[must_use]
            pub fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown(code) => code,
                }
            }
        }

        impl From<u16> for ErrorCode {
            fn from(code: u16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }
        }
    };
}

error_codes! {
    /// See the message. Firmware that only asked for the size ends its transfer so.
    0 NotDefined;
    /// No such file.
    1 FileNotFound;
    /// The file exists, and the client may not read or write it.
    2 AccessViolation;
    /// No room for an upload.
    3 DiskFull;
    /// A packet that is not allowed here.
    4 IllegalOperation;
    /// No transfer uses this pair of ports.
    5 UnknownTransfer;
    /// The file of an upload exists already.
    6 FileExists;
    /// Only the `mail` mode of RFC 783 used it.
    7 NoSuchUser;
    /// The options are not acceptable (RFC 2347).
    8 OptionRefused;
}

/// How the bytes of the file travel.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// As they are.
    Octet,
    /// With line ends as CR LF and a bare CR as CR NUL (see [`super::netascii`]).
    Netascii,
}

impl Mode {
    /// The name in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Octet => "octet",
            Self::Netascii => "netascii",
        }
    }
}

/// Why bytes are not a TFTP packet.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
pub enum ParseError {
    /// Shorter than its kind can be.
    #[error("packet is too short")]
    Short,
    /// An opcode that no RFC defines.
    #[error("unknown opcode {0}")]
    Opcode(u16),
    /// A request whose file name or mode does not end with NUL, or an OACK that does not.
    #[error("request does not end with NUL")]
    Unterminated,
    /// A request with an empty file name.
    #[error("request names no file")]
    NoFileName,
    /// A mode other than octet and netascii; `mail` is obsolete since RFC 1350.
    #[error("unknown transfer mode")]
    Mode,
}

/// One packet, borrowed from the bytes that arrived.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// RRQ: the client wants to read.
    Read(Request<'a>),
    /// WRQ: the client wants to write.
    Write(Request<'a>),
    /// DATA with the block's number on the wire.
    Data {
        /// Block number as on the wire.
        block: u16,
        /// The block's bytes.
        data: &'a [u8],
    },
    /// ACK with the block's number on the wire.
    Ack {
        /// Block number as on the wire.
        block: u16,
    },
    /// ERROR: the transfer is over.
    Error {
        /// Why.
        code: ErrorCode,
        /// For people; not necessarily UTF-8, without the NUL at its end.
        message: &'a [u8],
    },
    /// OACK: the options that the other side accepted.
    OptionAck(Options<'a>),
}

/// RRQ or WRQ.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// As sent, not empty and without NUL; not necessarily UTF-8.
    pub filename: &'a [u8],
    /// How the bytes travel.
    pub mode: Mode,
    /// What the client asks for.
    pub options: Options<'a>,
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`ParseError`] names what is wrong; no input panics. Bytes behind an ACK are ignored, for
    /// some firmware pads it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        match reader.u16()? {
            RRQ => Request::parse(reader).map(Packet::Read),
            WRQ => Request::parse(reader).map(Packet::Write),
            DATA => Ok(Packet::Data { block: reader.u16()?, data: reader.rest() }),
            ACK => Ok(Packet::Ack { block: reader.u16()? }),
            ERROR => {
                let code = reader.u16()?.into();
                let all = reader.rest();
                // A message that lacks its NUL is still a message.
                let message = text(&mut reader).unwrap_or(all);
                Ok(Packet::Error { code, message })
            }
            OACK => Options::parse(reader.rest()).map(Packet::OptionAck),
            other => Err(ParseError::Opcode(other)),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(mut reader: Reader<'a>) -> Result<Self, ParseError> {
        let filename = text(&mut reader).ok_or(ParseError::Unterminated)?;
        let mode = text(&mut reader).ok_or(ParseError::Unterminated)?;
        if filename.is_empty() {
            return Err(ParseError::NoFileName);
        }
        let mode = [Mode::Octet, Mode::Netascii]
            .into_iter()
            .find(|known| known.name().as_bytes().eq_ignore_ascii_case(mode))
            .ok_or(ParseError::Mode)?;
        // Some firmware sends more than its last string: what follows the last NUL means nothing.
        let rest = reader.rest();
        let len = rest.iter().rposition(|&byte| byte == 0).map_or(0, |last| last + 1);
        let options = Options { bytes: rest.get(..len).unwrap_or_default() };
        Ok(Self { filename, mode, options })
    }
}

/// Names and values of a request or an OACK (RFC 2347 section 2).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Options<'a> {
    /// Empty, or NUL-terminated.
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        match bytes.last() {
            None | Some(0) => Ok(Self { bytes }),
            Some(_) => Err(ParseError::Unterminated),
        }
    }

    /// Names and values in their order. Pairs with an empty half, which are padding, and a last
    /// name without a value are left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.pairs().filter(|(name, value)| !name.is_empty() && !value.is_empty())
    }

    /// Whether the option `name` is there, be its value empty, as that of RFC 2090's request is.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.pairs().any(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || Some((text(&mut reader)?, text(&mut reader)?)))
    }

    /// The value of the option `name`, whose case does not matter. RFC 2347 allows an option
    /// once; where a client repeats it, the first counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Whether there is no option at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// The text up to the next NUL, which is read too.
fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = reader.rest().iter().position(|&byte| byte == 0)?;
    let text = reader.bytes(len).ok()?;
    reader.u8().ok().map(|_| text)
}

impl From<Truncated> for ParseError {
    fn from(_: Truncated) -> Self {
        Self::Short
    }
}

/// The four bytes before the data of the absolute block `block`.
#[must_use]
pub fn data_header(block: u64, rollover: Rollover) -> [u8; DATA_HEADER_LEN] {
    two(DATA, rollover.wire(block))
}

/// A whole ACK of the absolute block `block`.
#[must_use]
pub fn ack(block: u64, rollover: Rollover) -> [u8; ACK_LEN] {
    two(ACK, rollover.wire(block))
}

fn two(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
    [a, b, c, d]
}

/// Writes a whole ERROR and returns its length. The message is cut where the buffer ends.
///
/// # Errors
/// [`Full`] when not even an empty message fits (5 bytes).
pub fn write_error(buf: &mut [u8], code: ErrorCode, message: &str) -> Result<usize, Full> {
    let mut out = Writer::new(buf);
    out.u16(ERROR)?;
    out.u16(code.code())?;
    let all = message.as_bytes();
    // A NUL inside would end the message early.
    let text = text(&mut Reader::new(all)).unwrap_or(all);
    let room = out.room().saturating_sub(1);
    write_text(&mut out, text.get(..room).unwrap_or(text))?;
    Ok(out.position())
}

/// Starts RRQ (or WRQ) in `buf`; add options with the writer.
///
/// # Errors
/// [`Full`] when the buffer is too small for name and mode.
pub fn write_request<'b>(
    buf: &'b mut [u8],
    write: bool,
    filename: &[u8],
    mode: Mode,
) -> Result<OptionWriter<'b>, Full> {
    let mut out = Writer::new(buf);
    out.u16(if write { WRQ } else { RRQ })?;
    write_text(&mut out, filename)?;
    write_text(&mut out, mode.name().as_bytes())?;
    Ok(OptionWriter { out })
}

/// Appends options to a request or an OACK.
#[derive(Debug)]
pub struct OptionWriter<'b> {
    out: Writer<'b>,
}

impl<'b> OptionWriter<'b> {
    /// Starts an OACK in `buf`.
    ///
    /// # Errors
    /// [`Full`] when the buffer holds less than 2 bytes.
    pub fn option_ack(buf: &'b mut [u8]) -> Result<Self, Full> {
        let mut out = Writer::new(buf);
        out.u16(OACK)?;
        Ok(Self { out })
    }

    /// Adds one option with a decimal value.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn number(&mut self, name: &str, value: u64) -> Result<&mut Self, Full> {
        self.text(name, |out| write_decimal(out, value))?;
        Ok(self)
    }

    /// Adds one option whose value `write` writes, without its NUL.
    pub(super) fn text(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        write_text(&mut self.out, name.as_bytes())?;
        write(&mut self.out)?;
        self.out.u8(0)
    }

    /// The packet's length.
    #[must_use]
    pub fn finish(self) -> usize {
        self.out.position()
    }
}

/// Writes a number in decimal digits.
pub(super) fn write_decimal(out: &mut Writer<'_>, value: u64) -> Result<(), Full> {
    // A u64 has at most 20 decimal digits.
    let mut digits = [0u8; 20];
    let (mut at, mut left) = (digits.len(), value);
    loop {
        at -= 1;
        // A remainder of 10 fits one byte; 20 digits hold every u64, so `at` stays in range.
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.bytes(digits.get(at..).unwrap_or_default())
}

fn write_text(out: &mut Writer<'_>, text: &[u8]) -> Result<(), Full> {
    out.bytes(text)?;
    out.u8(0)
}

#[cfg(test)]
mod tests;
