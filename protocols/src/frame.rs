//! Ethernet, IPv4 and UDP headers around a payload, for replies to a client that has no address
//! yet and so cannot answer ARP.

use core::net::SocketAddrV4;

use crate::wire::{Full, Reader, Truncated, Writer};

/// Bytes before the payload: Ethernet 14, IPv4 20, UDP 8.
pub const HEADROOM: usize = 42;

const ETHERTYPE_IPV4: u16 = 0x0800;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Version 4, five 32-bit words of header.
const VERSION_AND_LENGTH: u8 = 0x45;
/// CS6, network control: what dhcpd and dnsmasq send as well, so a congested switch keeps replies.
const TOS: u8 = 0xc0;
const DONT_FRAGMENT: u16 = 0x4000;
const TTL: u8 = 64;
const PROTOCOL_UDP: u8 = 17;

/// The addresses of one UDP datagram that is sent as a whole Ethernet frame.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct UdpFrame {
    /// Hardware address of the sending interface.
    pub src_mac: [u8; 6],
    /// Hardware address of the receiver.
    pub dst_mac: [u8; 6],
    /// Source address and port.
    pub src: SocketAddrV4,
    /// Destination address and port.
    pub dst: SocketAddrV4,
}

/// Why a frame could not be made.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The buffer does not hold the headers and the payload.
    #[error(
        "the buffer of {buffer} bytes does not hold {HEADROOM} bytes of headers \
         and {payload} of payload"
    )]
    Buffer {
        /// Length of the buffer.
        buffer: usize,
        /// Length of the payload.
        payload: usize,
    },
    /// The payload does not fit one IPv4 packet.
    #[error("a payload of {0} bytes does not fit one UDP datagram of at most 65507")]
    Payload(usize),
}

impl UdpFrame {
    /// Fills `buf[..HEADROOM]` for the payload already at `buf[HEADROOM..HEADROOM + len]`, with
    /// both checksums (RFC 791, RFC 768), and returns the length of the frame. The interface pads
    /// frames shorter than the 60 bytes of Ethernet.
    ///
    /// # Errors
    /// [`FrameError`]: `buf` is too short, or the payload does not fit one datagram.
    pub fn seal(&self, buf: &mut [u8], len: usize) -> Result<usize, FrameError> {
        let too_small = FrameError::Buffer { buffer: buf.len(), payload: len };
        let udp_len = u16::try_from(len.saturating_add(UDP_HEADER));
        let udp_len = udp_len.map_err(|_| FrameError::Payload(len))?;
        let total = udp_len.checked_add(IP_HEADER as u16).ok_or(FrameError::Payload(len))?;
        let (headers, payload) = buf.split_at_mut_checked(HEADROOM).ok_or(too_small)?;
        let payload = payload.get(..len).ok_or(too_small)?;

        let ip_sum = !fold(sum(&self.ip_header(total, 0)));
        let mut udp_sum = u64::from(PROTOCOL_UDP) + u64::from(udp_len);
        udp_sum += sum(&self.src.ip().octets()) + sum(&self.dst.ip().octets());
        udp_sum += u64::from(self.src.port()) + u64::from(self.dst.port()) + u64::from(udp_len);
        udp_sum += sum(payload);
        // A computed zero is sent as all ones: zero means "no checksum" (RFC 768).
        let udp_sum = match !fold(udp_sum) {
            0 => 0xffff,
            other => other,
        };
        let written = self.write_headers(headers, total, ip_sum, udp_len, udp_sum);
        written.map_err(|_| too_small)?;
        Ok(HEADROOM + len)
    }

    /// Splits a frame into addresses and payload. `None` for what is not an IPv4 UDP datagram in
    /// one piece. Checksums are not verified: between virtual machines the sender often leaves them
    /// to hardware that does not exist.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<(Self, &[u8])> {
        Self::read(&mut Reader::new(frame)).ok().flatten()
    }

    fn read<'a>(reader: &mut Reader<'a>) -> Result<Option<(Self, &'a [u8])>, Truncated> {
        let (dst_mac, src_mac) = (reader.array()?, reader.array()?);
        if reader.u16()? != ETHERTYPE_IPV4 {
            return Ok(None);
        }
        let version_and_length = reader.u8()?;
        let (_tos, _total, _identification) = (reader.u8()?, reader.u16()?, reader.u16()?);
        let fragment = reader.u16()? & !DONT_FRAGMENT;
        let (_ttl, protocol, _checksum) = (reader.u8()?, reader.u8()?, reader.u16()?);
        let (src, dst) = (reader.ipv4()?, reader.ipv4()?);
        let header = usize::from(version_and_length & 0xf) * 4;
        let Some(options) = header.checked_sub(IP_HEADER) else { return Ok(None) };
        if version_and_length >> 4 != 4 || fragment != 0 || protocol != PROTOCOL_UDP {
            return Ok(None);
        }
        reader.bytes(options)?;
        let src = SocketAddrV4::new(src, reader.u16()?);
        let dst = SocketAddrV4::new(dst, reader.u16()?);
        let (len, _checksum) = (reader.u16()?, reader.u16()?);
        let Some(len) = usize::from(len).checked_sub(UDP_HEADER) else { return Ok(None) };
        Ok(Some((Self { src_mac, dst_mac, src, dst }, reader.bytes(len)?)))
    }

    fn write_headers(
        &self,
        headers: &mut [u8],
        total: u16,
        ip_sum: u16,
        udp_len: u16,
        udp_sum: u16,
    ) -> Result<(), Full> {
        let mut writer = Writer::new(headers);
        writer.bytes(&self.dst_mac)?;
        writer.bytes(&self.src_mac)?;
        writer.u16(ETHERTYPE_IPV4)?;
        writer.bytes(&self.ip_header(total, ip_sum))?;
        writer.u16(self.src.port())?;
        writer.u16(self.dst.port())?;
        writer.u16(udp_len)?;
        writer.u16(udp_sum)
    }

    /// The IPv4 header. Its identification is zero: a packet that may not be fragmented needs none
    /// (RFC 6864 section 4.1).
    fn ip_header(&self, total: u16, checksum: u16) -> [u8; IP_HEADER] {
        let [len_high, len_low] = total.to_be_bytes();
        let [flags_high, flags_low] = DONT_FRAGMENT.to_be_bytes();
        let [sum_high, sum_low] = checksum.to_be_bytes();
        let [s0, s1, s2, s3] = self.src.ip().octets();
        let [d0, d1, d2, d3] = self.dst.ip().octets();
        [
            VERSION_AND_LENGTH,
            TOS,
            len_high,
            len_low,
            0,
            0,
            flags_high,
            flags_low,
            TTL,
            PROTOCOL_UDP,
            sum_high,
            sum_low,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ]
    }
}

/// The sum of all 16-bit words, not yet folded (RFC 1071); an odd last byte is the high half of a
/// word. 64 bits cannot overflow for any packet.
fn sum(bytes: &[u8]) -> u64 {
    let (words, last) = bytes.as_chunks::<2>();
    let total: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    total + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// Adds the carries back in until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn frame(dst: Ipv4Addr) -> UdpFrame {
        UdpFrame {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            src: SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 6), 67),
            dst: SocketAddrV4::new(dst, 68),
        }
    }

    #[test]
    fn the_layout_byte_by_byte() {
        let mut buf = [0xee; HEADROOM + 5];
        buf[HEADROOM..].copy_from_slice(b"hello");
        assert_eq!(frame(Ipv4Addr::new(10, 1, 0, 17)).seal(&mut buf, 5), Ok(47));
        let expected: [&[u8]; 7] = [
            &[0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 8, 0],
            &[0x45, 0xc0, 0, 33, 0, 0, 0x40, 0, 64, 17, 0x25, 0xf4],
            &[10, 1, 0, 6],
            &[10, 1, 0, 17],
            &[0, 67, 0, 68, 0, 13],
            &[0xa7, 0x62],
            b"hello",
        ];
        assert_eq!(buf[..], expected.concat()[..]);
    }

    /// A receiver adds everything up, checksum included, and must get all ones (RFC 1071).
    #[test]
    fn both_checksums_verify_for_every_length() {
        for len in 0..600 {
            let mut buf = vec![0; HEADROOM + len];
            for (index, byte) in buf.iter_mut().enumerate() {
                *byte = (index * 7 + len) as u8;
            }
            let frame = frame(Ipv4Addr::BROADCAST);
            assert_eq!(frame.seal(&mut buf, len), Ok(HEADROOM + len));
            assert_eq!(fold(sum(&buf[14..34])), 0xffff);
            let pseudo = sum(&buf[26..34]) + 17 + (len + UDP_HEADER) as u64;
            assert_eq!(fold(pseudo + sum(&buf[34..])), 0xffff);
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_ones() {
        let mut buf = [0; HEADROOM + 2];
        let frame = frame(Ipv4Addr::new(10, 1, 0, 17));
        frame.seal(&mut buf, 2).unwrap();
        let sum = [buf[40], buf[41]];
        // The payload that adds what was missing to all ones makes the sum come out as zero.
        buf[HEADROOM..].copy_from_slice(&sum);
        frame.seal(&mut buf, 2).unwrap();
        assert_eq!(buf[40..42], [0xff, 0xff]);
    }

    #[test]
    fn what_was_sealed_is_taken_apart_and_what_is_cut_is_not() {
        let mut buf = [0; HEADROOM + 9];
        buf[HEADROOM..HEADROOM + 5].copy_from_slice(b"hello");
        let frame = frame(Ipv4Addr::BROADCAST);
        frame.seal(&mut buf, 5).unwrap();
        // Ethernet pads short frames: what is behind the datagram is not payload.
        assert_eq!(UdpFrame::parse(&buf), Some((frame, &b"hello"[..])));
        for len in 0..HEADROOM + 5 {
            assert_eq!(UdpFrame::parse(&buf[..len]), None);
        }
        for (at, wrong) in [(12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (23, 6), (39, 7)] {
            let mut other = buf;
            other[at] = wrong;
            assert_eq!(UdpFrame::parse(&other), None, "byte {at}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let frame = frame(Ipv4Addr::BROADCAST);
        let error = FrameError::Buffer { buffer: 50, payload: 9 };
        assert_eq!(frame.seal(&mut [0; 50], 9), Err(error));
        assert_eq!(frame.seal(&mut [0; 70_000], 65_508), Err(FrameError::Payload(65_508)));
        assert_eq!(frame.seal(&mut [0; 70_000], 65_507), Ok(65_549));
        assert_eq!(frame.seal(&mut [0; 10], usize::MAX), Err(FrameError::Payload(usize::MAX)));
    }
}
