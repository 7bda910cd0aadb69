//! What was lost and why: counted by reason, and what the kernel dropped before anybody read it.

use std::io;

use crate::Socket;

/// Datagrams lost by one backend since it was made, by reason.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Drops {
    /// Received longer than the buffer; handed on cut, and marked.
    pub truncated: u64,
    /// Times the receive buffers ran out. The datagrams stay in the socket's queue, so this alone
    /// loses nothing; it says that [`crate::Limits::buffers`] is small for the bursts that come.
    pub no_buffers: u64,
    /// Replies refused because every slot was in use ([`crate::Refused::Full`]).
    pub slots_full: u64,
    /// Replies refused because as many were held back as may be ([`crate::Limits::held`]).
    pub held_full: u64,
    /// Replies that found the socket buffer full and went out later. Delayed, not lost.
    pub delayed: u64,
    /// Turns of a ring that ended before the kernel, short of memory, had taken everything. What is
    /// left goes with the next turn.
    pub starved: u64,
    /// Failed sends by error, of replies and of shared bytes (without `WouldBlock`, which the
    /// sender repeats).
    pub send: SendErrors,
    /// Failed receives, other than empty and out of buffers.
    pub receive: u64,
    /// Dropped by the kernel because the receive buffer of a socket without steering was full:
    /// exact.
    pub kernel: u64,
    /// The kernel's drop counters of steered sockets. Mostly the copies of broadcasts that belong
    /// to another shard and were refused on purpose, so this is not a loss: see [`KernelLoss`].
    pub steered: u64,
}

impl Drops {
    /// Adds what the kernel dropped at `socket`.
    pub(crate) fn count_kernel(&mut self, socket: &Socket) {
        let counter = if socket.is_steered() { &mut self.steered } else { &mut self.kernel };
        *counter += socket.kernel_drops();
    }
}

/// Send errors by kind.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SendErrors {
    /// EPERM, EACCES: a firewall, or a broadcast on a socket without permission.
    pub denied: u64,
    /// ENETUNREACH, EHOSTUNREACH, ENETDOWN, ENODEV, ENXIO, EADDRNOTAVAIL: no way to the
    /// destination.
    pub unreachable: u64,
    /// EMSGSIZE, EINVAL: too long for the way, or a wrong address.
    pub invalid: u64,
    /// ENOBUFS, ENOMEM: the kernel had no memory, or the device queue was full.
    pub no_memory: u64,
    /// Anything else.
    pub other: u64,
}

impl SendErrors {
    /// Counts one error.
    pub(crate) fn count(&mut self, errno: i32) {
        let counter = match errno {
            libc::EPERM | libc::EACCES => &mut self.denied,
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::ENODEV
            | libc::ENXIO
            | libc::EADDRNOTAVAIL => &mut self.unreachable,
            libc::EMSGSIZE | libc::EINVAL => &mut self.invalid,
            libc::ENOBUFS | libc::ENOMEM => &mut self.no_memory,
            _ => &mut self.other,
        };
        *counter += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.denied + self.unreachable + self.invalid + self.no_memory + self.other
    }
}

/// What the kernel dropped before anybody read it, for all shards of a process together.
///
/// The kernel's counter of a steered socket rises for every broadcast copy that the steering filter
/// refuses, so it cannot tell loss from order. `RcvbufErrors` in `/proc/net/snmp` counts only full
/// receive buffers, but for the whole network namespace. The smaller of the two bounds the loss
/// from above, and is 0 as long as no UDP receive buffer of the namespace overflows; sockets
/// without steering are counted exactly and added.
#[derive(Debug)]
pub struct KernelLoss {
    baseline: u64,
}

impl KernelLoss {
    /// Begins to count now; errors of the namespace before this are not ours.
    ///
    /// # Errors
    /// `/proc` is not mounted or reads differently than expected.
    pub fn new() -> io::Result<KernelLoss> {
        Ok(KernelLoss { baseline: receive_buffer_errors()? })
    }

    /// The loss since [`KernelLoss::new`], from the drops of every shard.
    ///
    /// # Errors
    /// As [`KernelLoss::new`].
    pub fn total(&self, shards: impl IntoIterator<Item = Drops>) -> io::Result<u64> {
        let (mut kernel, mut steered) = (0, 0);
        for drops in shards {
            kernel += drops.kernel;
            steered += drops.steered;
        }
        let namespace = receive_buffer_errors()?.saturating_sub(self.baseline);
        Ok(kernel + steered.min(namespace.saturating_sub(kernel)))
    }
}

/// UDP receive buffer errors of this thread's network namespace, IPv4 and IPv6.
fn receive_buffer_errors() -> io::Result<u64> {
    let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    // Absent when IPv6 is compiled out.
    let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    let v4 = parse_snmp(&v4).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "/proc/thread-self/net/snmp: no Udp RcvbufErrors in it; is /proc that of Linux?",
        )
    })?;
    Ok(v4 + parse_snmp6(&v6))
}

/// `Udp:` stands on two lines: names, then values.
fn parse_snmp(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(column)?.parse().ok()
}

/// One name and value a line.
fn parse_snmp6(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix("Udp6RcvbufErrors"))
        .find_map(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_column_by_name() {
        let text = "Ip: Forwarding\nIp: 1\n\
                    Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n\
                    Udp: 5 6 7 8 9 10\nUdpLite: InDatagrams\nUdpLite: 3\n";
        assert_eq!(parse_snmp(text), Some(9));
        assert_eq!(parse_snmp("Udp: InDatagrams\nUdp: 1\n"), None);
        assert_eq!(parse_snmp("Udp: RcvbufErrors\nUdp: x\n"), None);
        assert_eq!(parse_snmp6("Udp6InErrors  \t3\nUdp6RcvbufErrors                \t12\n"), 12);
    }

    #[test]
    fn refusals_are_not_a_loss() {
        let mut loss = KernelLoss::new().unwrap();
        loss.baseline = u64::MAX;
        let drops = Drops { steered: 240, ..Drops::default() };
        assert_eq!(loss.total([drops, drops]).unwrap(), 0);
    }
}
