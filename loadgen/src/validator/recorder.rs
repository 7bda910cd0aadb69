//! Keeps recent packets in a ring and writes those around a violation to a pcapng file
//! (draft-ietf-opsawg-pcapng). Frames are built around the payloads: addresses and ports are those
//! of the datagrams, hardware addresses are not.

use std::io;
use std::net::SocketAddrV4;
use std::path::Path;

use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
use bootstorm_protocols::time::Moment;

/// Packets that are remembered.
const DEPTH: usize = 1024;
/// Bytes of a payload that are remembered: a whole DHCP message, the beginning of a block.
const SNAP: usize = 600;
/// Packets of a machine that are kept after a violation.
const AFTER: u8 = 8;
/// Packets in the file at most.
const MOST_KEPT: usize = 2000;

#[derive(Clone, Debug)]
struct Packet {
    at: Moment,
    machine: u32,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    len: usize,
    bytes: Vec<u8>,
    comment: Option<String>,
}

/// Remembers packets.
#[derive(Debug)]
pub struct Recorder {
    on: bool,
    /// A ring; once it is full, the next packet takes the place of the oldest.
    recent: Vec<Packet>,
    oldest: usize,
    kept: Vec<Packet>,
    /// Machines whose next packets are kept as well.
    following: Vec<(u32, u8)>,
}

impl Recorder {
    /// A recorder that remembers, or one that does not.
    pub fn new(on: bool) -> Recorder {
        Recorder {
            on,
            recent: Vec::with_capacity(if on { DEPTH } else { 0 }),
            oldest: 0,
            kept: Vec::new(),
            following: Vec::new(),
        }
    }

    /// Remembers a packet.
    pub fn record(
        &mut self,
        at: Moment,
        machine: u32,
        [source, destination]: [SocketAddrV4; 2],
        payload: &[u8],
    ) {
        if !self.on {
            return;
        }
        let place = if self.recent.len() < DEPTH {
            let bytes = Vec::with_capacity(SNAP);
            let len = 0;
            self.recent.push(Packet {
                at,
                machine,
                source,
                destination,
                len,
                bytes,
                comment: None,
            });
            self.recent.len() - 1
        } else {
            let oldest = self.oldest;
            self.oldest = (oldest + 1) % DEPTH;
            oldest
        };
        let packet = &mut self.recent[place];
        (packet.at, packet.machine) = (at, machine);
        (packet.source, packet.destination, packet.len) = (source, destination, payload.len());
        packet.bytes.clear();
        packet.bytes.extend_from_slice(&payload[..payload.len().min(SNAP)]);
        if !self.following.is_empty() {
            self.follow(place);
        }
    }

    /// Keeps what is remembered of a machine, and what comes next. The last packet is the one that
    /// is wrong.
    pub fn keep(&mut self, machine: u32, kind: &str, detail: &str) {
        if !self.on || self.kept.len() >= MOST_KEPT {
            return;
        }
        let (newer, older) = self.recent.split_at(self.oldest);
        let in_order = older.iter().chain(newer);
        let mut packets: Vec<Packet> =
            in_order.filter(|packet| packet.machine == machine).cloned().collect();
        if let Some(wrong) = packets.last_mut() {
            wrong.comment = Some(format!("{kind}: {detail}"));
        }
        self.kept.append(&mut packets);
        self.following.retain(|(followed, _)| *followed != machine);
        self.following.push((machine, AFTER));
    }

    fn follow(&mut self, place: usize) {
        let packet = &self.recent[place];
        let Some(followed) = self.following.iter_mut().find(|(m, _)| *m == packet.machine) else {
            return;
        };
        followed.1 -= 1;
        self.kept.push(packet.clone());
        self.following.retain(|(_, left)| *left > 0);
    }

    /// Whether a violation has left packets.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Writes what was kept. `wall` is the time since 1970 that belongs to `Moment::default()`, in
    /// nanoseconds.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, path: &Path, wall: u64) -> io::Result<()> {
        // A packet may have been kept for two violations: the one with a comment counts.
        self.kept.sort_by(|a, b| {
            (a.at, a.machine, a.comment.is_none()).cmp(&(b.at, b.machine, b.comment.is_none()))
        });
        self.kept.dedup_by(|b, a| {
            (a.at, a.machine, a.source, a.len) == (b.at, b.machine, b.source, b.len)
                && a.bytes == b.bytes
                && b.comment.is_none()
        });
        let mut file = header();
        for packet in &self.kept {
            packet.write(&mut file, wall);
        }
        std::fs::write(path, file)
    }
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const OPTION_COMMENT: u16 = 1;
const OPTION_RESOLUTION: u16 = 9;
const ETHERNET: u16 = 1;

fn header() -> Vec<u8> {
    let mut file = Vec::new();
    // Byte order magic, version 1.0, section of unknown length.
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend([1, 0, 0, 0]);
    body.extend(u64::MAX.to_le_bytes());
    block(&mut file, SECTION, &body);
    let mut body = Vec::new();
    body.extend(ETHERNET.to_le_bytes());
    body.extend([0; 2]);
    body.extend(0_u32.to_le_bytes()); // no limit of length
    option(&mut body, OPTION_RESOLUTION, &[9]); // nanoseconds
    body.extend([0; 4]);
    block(&mut file, INTERFACE, &body);
    file
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = (12 + body.len().next_multiple_of(4)) as u32;
    file.extend(kind.to_le_bytes());
    file.extend(len.to_le_bytes());
    padded(file, body);
    file.extend(len.to_le_bytes());
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn padded(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(bytes);
    to.resize(to.len() + (bytes.len().next_multiple_of(4) - bytes.len()), 0);
}

impl Packet {
    fn write(&self, file: &mut Vec<u8>, wall: u64) {
        let [a, b, c, d] = self.machine.to_be_bytes();
        let mac = [0x02, 0xb0, a, b, c, d];
        let frame =
            UdpFrame { src_mac: mac, dst_mac: mac, src: self.source, dst: self.destination };
        let mut bytes = vec![0; HEADROOM + self.bytes.len()];
        bytes[HEADROOM..].copy_from_slice(&self.bytes);
        // 600 bytes fit any datagram.
        let Ok(_) = frame.seal(&mut bytes, self.bytes.len()) else { return };
        let time = wall.saturating_add(self.at.as_nanos());
        let mut body = Vec::new();
        body.extend(0_u32.to_le_bytes()); // interface
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(((HEADROOM + self.len) as u32).to_le_bytes());
        padded(&mut body, &bytes);
        if let Some(comment) = &self.comment {
            option(&mut body, OPTION_COMMENT, comment.as_bytes());
            body.extend([0; 4]);
        }
        block(file, ENHANCED_PACKET, &body);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn see(recorder: &mut Recorder, time: u64, machine: u32) {
        let ends = ["10.0.0.1:67".parse().unwrap(), "10.0.0.2:67".parse().unwrap()];
        recorder.record(at(time), machine, ends, &[machine as u8; 300]);
    }

    #[test]
    fn what_stands_around_a_violation_is_kept_and_no_more() {
        let mut recorder = Recorder::new(true);
        for time in 0..3000 {
            see(&mut recorder, time, (time % 100) as u32);
        }
        let remembered = recorder.recent.iter().filter(|packet| packet.machine == 7).count();
        recorder.keep(7, "xid", "wrong");
        assert_eq!(recorder.kept.len(), remembered);
        assert!(remembered >= DEPTH / 100);
        assert!(recorder.kept.last().unwrap().comment.is_some());
        for time in 3000..4500 {
            see(&mut recorder, time, 7);
        }
        assert_eq!(recorder.kept.len(), remembered + usize::from(AFTER));
        assert_eq!(recorder.recent.len(), DEPTH);
    }

    #[test]
    fn the_file_is_made_of_whole_blocks() {
        let mut recorder = Recorder::new(true);
        see(&mut recorder, 1, 1);
        recorder.keep(1, "xid", "one");
        recorder.keep(1, "giaddr", "two");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        recorder.write(&path, 0).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let mut kinds = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let len = word(at + 4) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(at + len - 4) as usize, len);
            kinds.push(word(at));
            at += len;
        }
        assert_eq!(kinds, [SECTION, INTERFACE, ENHANCED_PACKET, ENHANCED_PACKET]);
    }

    #[test]
    fn one_that_is_off_remembers_nothing() {
        let mut recorder = Recorder::new(false);
        see(&mut recorder, 1, 1);
        recorder.keep(1, "xid", "one");
        assert!(!recorder.has_kept() && recorder.recent.is_empty());
    }
}
