//! Writes a message into a caller's buffer, never longer than its receiver takes.

use core::net::Ipv4Addr;

use super::data::OptionData;
use super::message::Message;
use super::options::{END, OPTION_OVERLOAD, RELAY_AGENT_INFORMATION};
use super::rai::RelayAgentInformation;
use super::walk::{FILE_OVERLOADED, SNAME_OVERLOADED};
use super::{
    BOOTREPLY, BOOTREQUEST, COOKIE, FILE, FILE_LEN, MIN_MESSAGE, OPTIONS, SNAME, SNAME_LEN,
};
use crate::wire::{Full, Writer};

/// The longest value of one instance of an option; longer ones are split (RFC 3396 section 4).
const PIECE: usize = 255;
/// Code and length before each piece.
const PIECE_HEADER: usize = 2;
/// Option 52 with its one byte.
const OVERLOAD_LEN: usize = 3;
/// The END behind the options of a field.
const END_LEN: usize = 1;

/// Length of the fixed fields before `sname` and `file`, in bytes.
pub const FIXED_FIELDS: usize = SNAME;

/// The fixed fields of a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// 1 request, 2 reply.
    pub op: u8,
    /// Type of the hardware address.
    pub htype: u8,
    /// Length of the hardware address, at most 16.
    pub hlen: u8,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The flags; only [`super::BROADCAST_FLAG`] is defined.
    pub flags: u16,
    /// The address the client has.
    pub ciaddr: Ipv4Addr,
    /// The address given to the client.
    pub yiaddr: Ipv4Addr,
    /// The next server of the boot.
    pub siaddr: Ipv4Addr,
    /// The relay agent.
    pub giaddr: Ipv4Addr,
    /// The hardware address, zero behind hlen.
    pub chaddr: [u8; 16],
    /// The server's name, at most 63 bytes without NUL; a NUL and what is behind it may follow.
    pub sname: &'a [u8],
    /// The boot file, at most 127 bytes without NUL; a NUL and what is behind it may follow.
    pub file: &'a [u8],
}

impl Header<'_> {
    /// A request of a client with this hardware address, of at most 16 bytes: what is longer is cut
    /// off. All that is not given is zero.
    #[must_use]
    pub fn request(htype: u8, hardware: &[u8], xid: u32) -> Self {
        let mut chaddr = [0; 16];
        let slots = chaddr.iter_mut().zip(hardware);
        let hlen = slots.map(|(slot, byte)| *slot = *byte).fold(0, |len, ()| len + 1);
        Self {
            op: BOOTREQUEST,
            htype,
            hlen,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: &[],
            file: &[],
        }
    }

    /// What every reply takes from its request (RFC 2131 section 4.3.1, table 3): the transaction,
    /// the flags, the relay and the client's hardware. The rest is zero.
    #[must_use]
    pub fn reply_to(request: &Message<'_>) -> Self {
        let mut chaddr = [0; 16];
        for (slot, byte) in chaddr.iter_mut().zip(request.chaddr()) {
            *slot = *byte;
        }
        Self {
            op: BOOTREPLY,
            htype: request.htype(),
            hlen: request.hlen(),
            hops: 0,
            xid: request.xid(),
            secs: 0,
            flags: request.flags(),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: request.giaddr(),
            chaddr,
            sname: &[],
            file: &[],
        }
    }

    /// Writes what stands before `sname` and `file`, as [`MessageWriter::new`] does: to give a copy
    /// of a message that was written before to another client, or in another transaction.
    pub fn write_fixed(&self, fields: &mut [u8; FIXED_FIELDS]) {
        // Cannot fail: the fields are as long as what is written.
        let _ = write_fixed(&mut Writer::new(fields), self);
    }
}

/// Why a message could not be begun.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// The buffer does not hold the shortest message.
    #[error("a buffer of {0} bytes does not hold the {MIN_MESSAGE} of the shortest message")]
    Buffer(usize),
    /// The hardware address is longer than its field.
    #[error("a hardware address of {0} bytes does not fit the 16 of chaddr")]
    HardwareLength(u8),
    /// The server's name leaves no room for its NUL.
    #[error("a server name of {0} bytes does not fit sname: at most 63 and a NUL")]
    ServerName(usize),
    /// The boot file's name leaves no room for its NUL.
    #[error("a boot file name of {0} bytes does not fit file: at most 127 and a NUL")]
    BootFile(usize),
}

/// The option does not fit; the message is as it was without it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no room for option {code} with its {len} bytes")]
pub struct NoRoom {
    /// Code of the option.
    pub code: u8,
    /// Length of its value.
    pub len: usize,
}

/// A message that is being written. The fixed fields are written at once, options one after
/// another; [`MessageWriter::finish`] closes it.
///
/// When the options field is full, options go to `file` and `sname`, where those are empty
/// (option 52, RFC 2132 section 9.3). An option is split (RFC 3396) if it is longer than 255 bytes
/// or than the room of every field. Every code may be written once.
#[derive(Debug)]
pub struct MessageWriter<'b> {
    sname: Writer<'b>,
    file: Writer<'b>,
    options: Writer<'b>,
    /// Fields that may take options: bits as in option 52.
    free: u8,
    /// Fields that did.
    overload: u8,
    /// What [`MessageWriter::finish`] appends.
    echo: Option<OptionData<'b>>,
}

impl<'b> MessageWriter<'b> {
    /// Begins a message of at most `max_len` bytes (at least [`MIN_MESSAGE`], which everyone takes)
    /// in `buf`; [`Message::reply_room`] says how many a client takes.
    ///
    /// # Errors
    /// [`WriteError`]: `buf` is too short, or a field of `header` is too long.
    pub fn new(buf: &'b mut [u8], max_len: usize, header: &Header<'_>) -> Result<Self, WriteError> {
        let buf_len = buf.len();
        if buf_len < MIN_MESSAGE {
            return Err(WriteError::Buffer(buf_len));
        }
        if header.hlen > 16 {
            return Err(WriteError::HardwareLength(header.hlen));
        }
        let sname = until_nul(header.sname);
        let file = until_nul(header.file);
        if sname.len() >= SNAME_LEN {
            return Err(WriteError::ServerName(sname.len()));
        }
        if file.len() >= FILE_LEN {
            return Err(WriteError::BootFile(file.len()));
        }
        let buf = &mut buf[..buf_len.min(max_len.max(MIN_MESSAGE))];
        Self::begin(buf, header, sname, file).map_err(|_| WriteError::Buffer(buf_len))
    }

    fn begin(
        buf: &'b mut [u8],
        header: &Header<'_>,
        sname: &[u8],
        file: &[u8],
    ) -> Result<Self, Full> {
        // Cannot fail: the buffer holds MIN_MESSAGE bytes, and both names fit their fields.
        let short = Full { needed: MIN_MESSAGE, room: buf.len() };
        let (fixed, rest) = buf.split_at_mut_checked(SNAME).ok_or(short)?;
        let (sname_field, rest) = rest.split_at_mut_checked(FILE - SNAME).ok_or(short)?;
        let (file_field, options) = rest.split_at_mut_checked(FILE_LEN).ok_or(short)?;
        write_fixed(&mut Writer::new(fixed), header)?;
        let mut options = Writer::new(options);
        options.bytes(&COOKIE)?;
        let mut free = 0;
        for (field, name, bit) in [
            (&mut *sname_field, sname, SNAME_OVERLOADED),
            (&mut *file_field, file, FILE_OVERLOADED),
        ] {
            let mut writer = Writer::new(field);
            writer.bytes(name)?;
            writer.zeros(writer.room())?;
            if name.is_empty() {
                free |= bit;
            }
        }
        let (sname, file) = (Writer::new(sname_field), Writer::new(file_field));
        Ok(Self { sname, file, options, free, overload: 0, echo: None })
    }

    /// Keeps options out of `file` and `sname`: a BOOTP client does not know option 52.
    pub fn forbid_overload(&mut self) {
        self.free = self.overload;
    }

    /// Appends an option.
    ///
    /// # Errors
    /// [`NoRoom`]: the option does not fit; nothing is written.
    #[inline]
    pub fn option(&mut self, code: u8, value: &[u8]) -> Result<(), NoRoom> {
        match u8::try_from(value.len()) {
            // Nearly every option: whole, and in the options field.
            Ok(len) if encoded_len(value.len()) <= self.options_room() => {
                let header = self.options.bytes(&[code, len]);
                let written = header.and_then(|()| self.options.bytes(value));
                written.map_err(|_| NoRoom { code, len: value.len() })
            }
            _ => self.option_pieces(code, core::iter::once(value)),
        }
    }

    /// Appends an option whose value is given in pieces.
    ///
    /// # Errors
    /// [`NoRoom`]: the option does not fit; nothing is written.
    pub fn option_pieces<'p>(
        &mut self,
        code: u8,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<(), NoRoom> {
        let len: usize = pieces.clone().map(<[u8]>::len).sum();
        let no_room = NoRoom { code, len };
        let mut feed = Feed { pieces, current: &[] };
        if encoded_len(len) <= self.options_room() {
            return feed.write(&mut self.options, code, len).map_err(|_| no_room);
        }
        if code == RELAY_AGENT_INFORMATION {
            return Err(no_room); // RFC 3046 section 2.2: never in file or sname
        }
        for bit in [FILE_OVERLOADED, SNAME_OVERLOADED] {
            if encoded_len(len) <= self.field_room(bit) {
                return self.write_overloaded(bit, &mut feed, code, len).map_err(|_| no_room);
            }
        }
        let mut rooms = [0, FILE_OVERLOADED, SNAME_OVERLOADED].map(|bit| (bit, self.room_of(bit)));
        for (_, room) in &mut rooms {
            *room = value_room(*room);
        }
        let room: usize = rooms.iter().map(|(_, room)| room).sum();
        if room < len || len == 0 {
            return Err(no_room);
        }
        let mut left = len;
        for (bit, room) in rooms {
            let part = left.min(room);
            if part > 0 {
                self.write_overloaded(bit, &mut feed, code, part).map_err(|_| no_room)?;
                left -= part;
            }
        }
        Ok(())
    }

    /// Reserves room for the relay agent's information; [`MessageWriter::finish`] appends it
    /// unchanged. RFC 3046 section 2.2: in every reply, as the last option, and never in `file` or
    /// `sname`.
    ///
    /// # Errors
    /// [`NoRoom`]: the information does not fit; the message is written without it.
    pub fn echo(&mut self, information: &RelayAgentInformation<'b>) -> Result<(), NoRoom> {
        let data = information.data();
        if encoded_len(data.len()) > self.options_room() {
            return Err(NoRoom { code: RELAY_AGENT_INFORMATION, len: data.len() });
        }
        self.echo = Some(data);
        Ok(())
    }

    /// Ends the message, pads it to [`MIN_MESSAGE`] and returns its length.
    #[must_use]
    pub fn finish(mut self) -> usize {
        // Cannot fail: the room for all of it was set aside all along.
        let _ = self.close();
        let len = OPTIONS - COOKIE.len() + self.options.position();
        debug_assert!(len >= MIN_MESSAGE);
        len
    }

    fn close(&mut self) -> Result<(), Full> {
        for (bit, field) in [(SNAME_OVERLOADED, &mut self.sname), (FILE_OVERLOADED, &mut self.file)]
        {
            if self.overload & bit != 0 {
                field.u8(END)?;
            }
        }
        if self.overload != 0 {
            self.options.bytes(&[OPTION_OVERLOAD, 1, self.overload])?;
        }
        if let Some(echo) = self.echo.take() {
            let mut feed = Feed { pieces: echo.pieces(), current: &[] };
            feed.write(&mut self.options, RELAY_AGENT_INFORMATION, echo.len())?;
        }
        self.options.u8(END)?;
        let len = OPTIONS - COOKIE.len() + self.options.position();
        self.options.zeros(MIN_MESSAGE.saturating_sub(len))
    }

    /// Room for options in the options field, beside what the end of the message needs.
    fn options_room(&self) -> usize {
        let overload = if self.free == 0 { 0 } else { OVERLOAD_LEN };
        let echo = self.echo.map_or(0, |data| encoded_len(data.len()));
        self.options.room().saturating_sub(END_LEN + overload + echo)
    }

    /// Room for options in `file` or `sname`.
    fn field_room(&self, bit: u8) -> usize {
        let field = if bit == FILE_OVERLOADED { &self.file } else { &self.sname };
        if self.free & bit == 0 { 0 } else { field.room().saturating_sub(END_LEN) }
    }

    /// Room of the field of this bit; 0 stands for the options field.
    fn room_of(&self, bit: u8) -> usize {
        if bit == 0 { self.options_room() } else { self.field_room(bit) }
    }

    fn write_overloaded<'p, I: Iterator<Item = &'p [u8]>>(
        &mut self,
        bit: u8,
        feed: &mut Feed<'p, I>,
        code: u8,
        len: usize,
    ) -> Result<(), Full> {
        self.overload |= bit;
        let field = match bit {
            FILE_OVERLOADED => &mut self.file,
            SNAME_OVERLOADED => &mut self.sname,
            _ => &mut self.options,
        };
        feed.write(field, code, len)
    }
}

/// A value that is written piece by piece.
struct Feed<'p, I> {
    pieces: I,
    current: &'p [u8],
}

impl<'p, I: Iterator<Item = &'p [u8]>> Feed<'p, I> {
    /// Writes the next `len` bytes of the value, as instances of at most 255.
    fn write(&mut self, writer: &mut Writer<'_>, code: u8, len: usize) -> Result<(), Full> {
        let mut left = len;
        loop {
            let piece = left.min(PIECE);
            writer.bytes(&[code, piece as u8])?;
            self.copy(writer, piece)?;
            left -= piece;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn copy(&mut self, writer: &mut Writer<'_>, mut len: usize) -> Result<(), Full> {
        while len > 0 {
            if self.current.is_empty() {
                let Some(next) = self.pieces.next() else { return Ok(()) };
                self.current = next;
            }
            let (now, later) = self.current.split_at(len.min(self.current.len()));
            writer.bytes(now)?;
            len -= now.len();
            self.current = later;
        }
        Ok(())
    }
}

/// Bytes an option with a value of `len` takes, split where it must be.
const fn encoded_len(len: usize) -> usize {
    let pieces = if len == 0 { 1 } else { len.div_ceil(PIECE) };
    len + pieces * PIECE_HEADER
}

/// The longest value that fits `room` bytes.
const fn value_room(room: usize) -> usize {
    let whole = room / (PIECE + PIECE_HEADER);
    let rest = room % (PIECE + PIECE_HEADER);
    whole * PIECE + rest.saturating_sub(PIECE_HEADER)
}

fn write_fixed(writer: &mut Writer<'_>, header: &Header<'_>) -> Result<(), Full> {
    writer.bytes(&[header.op, header.htype, header.hlen, header.hops])?;
    writer.u32(header.xid)?;
    writer.u16(header.secs)?;
    writer.u16(header.flags)?;
    for address in [header.ciaddr, header.yiaddr, header.siaddr, header.giaddr] {
        writer.ipv4(address)?;
    }
    writer.bytes(&header.chaddr)
}

/// Up to the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}
