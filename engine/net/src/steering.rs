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

use libc::sock_filter;

/// 2^32 divided by the golden ratio, rounded to an odd number.
const MULTIPLIER: u32 = 0x9E37_79B1;
const UDP_HEADER_LEN: u32 = 8;

/// How datagrams are shared among the sockets of a SO_REUSEPORT group. The sockets must be opened
/// in the order of `shard`: the first brings the group's program, the kernel numbers them as they
/// are bound, and closing one moves the last one into its place. So a change of the number of
/// shards needs new sockets.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Steering {
    /// Where the four bytes of the key stand in the UDP payload. 30 for DHCPv4: the last four of an
    /// Ethernet chaddr.
    pub offset: u16,
    /// How many sockets share the datagrams; at least 1.
    pub shards: u16,
    /// Which one this is, from 0.
    pub shard: u16,
}

impl Steering {
    /// The shard that the kernel chooses for `payload`.
    pub fn shard_of(&self, payload: &[u8]) -> u16 {
        let offset = usize::from(self.offset);
        let key = payload.get(offset..offset + 4).and_then(|key| key.try_into().ok());
        let Some(key) = key.map(u32::from_be_bytes) else { return 0 };
        let hash = key.wrapping_mul(MULTIPLIER) >> 16;
        // The remainder is less than a u16.
        (hash % u32::from(self.shards.max(1))) as u16
    }

    /// For SO_ATTACH_FILTER: offset 0 is the UDP header. Keeps what belongs to this shard.
    pub(crate) fn filter(&self) -> [sock_filter; 10] {
        const KEEP: u32 = u32::MAX;
        let [load_len, long_enough, load, multiply, shift, modulo] = self.hash(UDP_HEADER_LEN, 7);
        let short = if self.shard == 0 { KEEP } else { 0 };
        [
            load_len,
            long_enough,
            load,
            multiply,
            shift,
            modulo,
            jump(libc::BPF_JEQ, u32::from(self.shard), 0, 1),
            statement(libc::BPF_RET | libc::BPF_K, KEEP),
            statement(libc::BPF_RET | libc::BPF_K, 0),
            // Where a datagram that is too short jumps to.
            statement(libc::BPF_RET | libc::BPF_K, short),
        ]
    }

    /// For SO_ATTACH_REUSEPORT_CBPF: offset 0 is the payload. Returns the index of the socket.
    pub(crate) fn selector(&self) -> [sock_filter; 8] {
        let [load_len, long_enough, load, multiply, shift, modulo] = self.hash(0, 5);
        [
            load_len,
            long_enough,
            load,
            multiply,
            shift,
            modulo,
            statement(libc::BPF_RET | libc::BPF_A, 0),
            statement(libc::BPF_RET | libc::BPF_K, 0),
        ]
    }

    /// Leaves the shard in the accumulator. A datagram that is too short jumps over `skip`
    /// statements after the jump: a load beyond its end would drop it unseen.
    fn hash(&self, base: u32, skip: u8) -> [sock_filter; 6] {
        let offset = base + u32::from(self.offset);
        [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
            jump(libc::BPF_JGE, offset + 4, 0, skip),
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset),
            statement(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, MULTIPLIER),
            statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16),
            statement(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, u32::from(self.shards.max(1))),
        ]
    }
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
        let steering = Steering { offset: 30, shards: 4, shard: 0 };
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
        let steering = Steering { offset: 30, shards: 7, shard: 3 };
        assert_eq!(steering.shard_of(&[]), 0);
        assert_eq!(steering.shard_of(&[0xff; 33]), 0);
        let any = (0..200_u8).map(|byte| steering.shard_of(&[byte; 34])).max();
        assert_eq!(any, Some(6));
    }
}
