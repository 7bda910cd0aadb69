//! ICMP echo (RFC 792), for asking whether an address is in use before it is offered.

use core::net::Ipv4Addr;

/// Bytes of an echo request: header, identifier, sequence number, no data.
pub const ECHO_LEN: usize = 8;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const PROTOCOL: u8 = 1;

/// An ICMP echo request, checksum included.
#[must_use]
pub fn echo_request(identifier: u16, sequence: u16) -> [u8; ECHO_LEN] {
    let [id_high, id_low] = identifier.to_be_bytes();
    let [seq_high, seq_low] = sequence.to_be_bytes();
    // Ones' complement sum of the message with a zero checksum (RFC 1071). Three words cannot
    // overflow 32 bits.
    let sum = (u32::from(ECHO_REQUEST) << 8) + u32::from(identifier) + u32::from(sequence);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [sum_high, sum_low] = (!(folded as u16)).to_be_bytes();
    [ECHO_REQUEST, 0, sum_high, sum_low, id_high, id_low, seq_high, seq_low]
}

/// The sender of an echo reply with `identifier`, else `None`. `packet` begins with its IPv4
/// header, as a raw socket delivers it.
#[must_use]
pub fn echo_reply_from(packet: &[u8], identifier: u16) -> Option<Ipv4Addr> {
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 || *packet.get(9)? != PROTOCOL {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let message = packet.get(header..header + ECHO_LEN)?;
    let ours = message[0] == ECHO_REPLY && message[4..6] == identifier.to_be_bytes();
    ours.then(|| Ipv4Addr::from(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_all_ones() {
        for (identifier, sequence) in [(0, 0), (0x1234, 7), (0xffff, 0xffff)] {
            let message = echo_request(identifier, sequence);
            let sum: u32 =
                message.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            assert_eq!((folded & 0xffff) + (folded >> 16), 0xffff);
        }
    }

    #[test]
    fn a_reply_names_its_sender_and_other_packets_are_ignored() {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[9] = PROTOCOL;
        packet[12..16].copy_from_slice(&[10, 0, 0, 7]);
        packet[24..26].copy_from_slice(&0x4242_u16.to_be_bytes());
        assert_eq!(echo_reply_from(&packet, 0x4242), Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(echo_reply_from(&packet, 0x4243), None);
        packet[20] = ECHO_REQUEST;
        assert_eq!(echo_reply_from(&packet, 0x4242), None);
        for len in 0..28 {
            assert_eq!(echo_reply_from(&packet[..len], 0x4242), None);
        }
    }
}
