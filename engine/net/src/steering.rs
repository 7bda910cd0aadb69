//! Which shard a datagram belongs to, decided in the kernel from its payload.
//!
//! A broadcast reaches every socket of a SO_REUSEPORT group, a unicast only one, chosen by the
//! sender's address. Two classic BPF programs that compute the same number choose one shard for
//! both: a filter on each socket keeps exactly one copy of a broadcast, and a program on the group
//! sends unicast to the same shard.
//!
//! The number is `key * 0x9E3779B1 >> 16 % shards` with the key read big-endian from the payload;
//! the multiplication spreads keys that differ in few bits, as the hardware addresses of one rack
//! do. A datagram too short to have a key belongs to shard 0.
//!
//! A shard may have two sockets ([`Split`]), so that datagrams of one kind fill a queue of their
//! own, and the kernel drops them without touching the others.

use libc::sock_filter;

/// 2^32 divided by the golden ratio, rounded to an odd number.
const MULTIPLIER: u32 = 0x9E37_79B1;
const UDP_HEADER_LEN: u32 = 8;

/// How datagrams are shared among the sockets of a SO_REUSEPORT group. The sockets must be opened
/// in the order of their [`Steering::number`]: the first brings the group's program, the kernel
/// numbers them as they are bound, and closing one moves the last one into its place. So a change
/// of the number of shards needs new sockets.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Steering {
    /// Where the four bytes of the key stand in the UDP payload. 30 for DHCPv4: the last four of an
    /// Ethernet chaddr.
    pub offset: u16,
    /// How many shards share the datagrams; at least 1.
    pub shards: u16,
    /// Which one this is, from 0.
    pub shard: u16,
    /// Each shard has two sockets, of which this is one.
    pub split: Option<Split>,
}

/// Two sockets for each shard: one for datagrams with certain bytes in a certain place, one for all
/// others.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// Where the four bytes stand in the UDP payload.
    pub offset: u16,
    /// What they are, read big-endian.
    pub value: u32,
    /// This socket is the one for datagrams that have them.
    pub matching: bool,
}

impl Steering {
    /// How many sockets the group has.
    pub fn sockets(&self) -> u16 {
        self.shards.max(1) * if self.split.is_some() { 2 } else { 1 }
    }

    /// Which one this is, from 0: of two for each shard those for all others come first.
    pub fn number(&self) -> u16 {
        let matching = self.split.is_some_and(|split| split.matching);
        self.shard + if matching { self.shards.max(1) } else { 0 }
    }

    /// The shard that the kernel chooses for `payload`.
    pub fn shard_of(&self, payload: &[u8]) -> u16 {
        let Some(key) = word(payload, self.offset) else { return 0 };
        let hash = key.wrapping_mul(MULTIPLIER) >> 16;
        // The remainder is less than a u16.
        (hash % u32::from(self.shards.max(1))) as u16
    }

    /// Whether the kernel chooses this socket for `payload`.
    pub fn takes(&self, payload: &[u8]) -> bool {
        let matches =
            |split: Split| (word(payload, split.offset) == Some(split.value)) == split.matching;
        self.shard_of(payload) == self.shard && self.split.is_none_or(matches)
    }

    /// For SO_ATTACH_FILTER: offset 0 is the UDP header. Keeps what belongs to this socket.
    pub(crate) fn filter(&self) -> Vec<sock_filter> {
        let mut program = self.hash(UDP_HEADER_LEN);
        // Leaves 1 in the accumulator for a datagram of this shard, else 0.
        program.extend([
            jump(libc::BPF_JEQ, self.shard.into(), 0, 2),
            statement(libc::BPF_LD | libc::BPF_IMM, 1),
            jump(libc::BPF_JA, 1, 0, 0),
            statement(libc::BPF_LD | libc::BPF_IMM, 0),
        ]);
        if let Some(split) = self.split {
            program.extend([
                jump(libc::BPF_JEQ, 0, 0, 1),
                statement(libc::BPF_RET | libc::BPF_K, DROP),
            ]);
            program.extend(split.matches(UDP_HEADER_LEN));
        }
        // With a split the accumulator says whether the datagram matches.
        let wanted = self.split.is_none_or(|split| split.matching);
        program.extend([
            jump(libc::BPF_JEQ, wanted.into(), 0, 1),
            statement(libc::BPF_RET | libc::BPF_K, KEEP),
            statement(libc::BPF_RET | libc::BPF_K, DROP),
        ]);
        program
    }

    /// For SO_ATTACH_REUSEPORT_CBPF: offset 0 is the payload. Returns the number of the socket.
    pub(crate) fn selector(&self) -> Vec<sock_filter> {
        let mut program = self.hash(0);
        if let Some(split) = self.split {
            program.push(statement(libc::BPF_ST, 0));
            program.extend(split.matches(0));
            program.extend([
                statement(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, self.shards.max(1).into()),
                statement(libc::BPF_LDX | libc::BPF_MEM, 0),
                statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0),
            ]);
        }
        program.push(statement(libc::BPF_RET | libc::BPF_A, 0));
        program
    }

    /// Leaves the shard in the accumulator.
    fn hash(&self, base: u32) -> Vec<sock_filter> {
        let offset = base + u32::from(self.offset);
        vec![
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
            // A load beyond the end would drop the datagram unseen.
            jump(libc::BPF_JGE, offset + 4, 2, 0),
            statement(libc::BPF_LD | libc::BPF_IMM, 0),
            jump(libc::BPF_JA, 4, 0, 0),
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset),
            statement(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, MULTIPLIER),
            statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16),
            statement(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, self.shards.max(1).into()),
        ]
    }
}

impl Split {
    /// Leaves 1 in the accumulator for a datagram that has the bytes, else 0.
    fn matches(&self, base: u32) -> [sock_filter; 7] {
        let offset = base + u32::from(self.offset);
        [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
            jump(libc::BPF_JGE, offset + 4, 0, 4),
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset),
            jump(libc::BPF_JEQ, self.value, 0, 2),
            statement(libc::BPF_LD | libc::BPF_IMM, 1),
            jump(libc::BPF_JA, 1, 0, 0),
            statement(libc::BPF_LD | libc::BPF_IMM, 0),
        ]
    }
}

/// What a filter returns: how many bytes of the datagram to keep.
const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// Four bytes, read big-endian.
fn word(payload: &[u8], offset: u16) -> Option<u32> {
    let offset = usize::from(offset);
    let bytes = payload.get(offset..offset + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn statement(code: u32, k: u32) -> sock_filter {
    // BPF codes are below 256.
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Skips `jt` statements when the comparison holds, `jf` when not.
fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { jt, jf, ..statement(libc::BPF_JMP | code | libc::BPF_K, k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_rack_are_spread() {
        // Four ports to a machine: addresses 4 apart, which a plain remainder would send to one
        // shard.
        let steering = Steering { offset: 30, shards: 4, shard: 0, split: None };
        let mut counts = [0; 4];
        for machine in 0..1000_u32 {
            let mut payload = [0; 240];
            payload[30..34].copy_from_slice(&(0x1234_0000 + 4 * machine).to_be_bytes());
            counts[usize::from(steering.shard_of(&payload))] += 1;
        }
        assert!(counts.iter().all(|&count| count > 150), "{counts:?}");
    }

    #[test]
    fn what_has_no_key_belongs_to_the_first_shard() {
        let steering = Steering { offset: 30, shards: 7, shard: 3, split: None };
        assert_eq!(steering.shard_of(&[]), 0);
        assert_eq!(steering.shard_of(&[0xff; 33]), 0);
        let any = (0..200_u8).map(|byte| steering.shard_of(&[byte; 34])).max();
        assert_eq!(any, Some(6));
    }

    #[test]
    fn every_datagram_belongs_to_exactly_one_socket() {
        let value = 0x6335_0101;
        let split = |matching| Some(Split { offset: 239, value, matching });
        let sockets: Vec<Steering> = (0..6)
            .map(|number| Steering {
                offset: 30,
                shards: 3,
                shard: number % 3,
                split: split(number >= 3),
            })
            .collect();
        assert!((0..6).zip(&sockets).all(|(number, socket)| socket.number() == number));
        assert_eq!(sockets[0].sockets(), 6);
        for len in [0, 33, 34, 242, 243, 300] {
            for matches in [false, true] {
                let mut payload = vec![7; 300];
                if matches {
                    payload[239..243].copy_from_slice(&u32::to_be_bytes(value));
                }
                payload.truncate(len);
                let takers = sockets.iter().filter(|socket| socket.takes(&payload));
                let takers: Vec<u16> = takers.map(Steering::number).collect();
                let expected =
                    sockets[0].shard_of(&payload) + if matches && len >= 243 { 3 } else { 0 };
                assert_eq!(takers, [expected], "{len} bytes");
            }
        }
    }
}
