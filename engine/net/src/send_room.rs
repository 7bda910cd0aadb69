//! The room in a socket's send buffer, for a backend that queues several sends before it learns
//! what became of the first.
//!
//! The kernel takes a send while less than the whole buffer is in use. How much is free it tells
//! when it is asked (SO_MEMINFO); from then on each send is counted with the most that it can take,
//! and what the kernel frees meanwhile is left out. So the count never says more than is free.

/// What is known of the room in the send buffer of a socket.
#[derive(Debug, Default)]
pub(crate) struct SendRoom {
    /// Bytes that it certainly takes.
    certain: usize,
    /// Its size.
    size: usize,
    /// The last flight with a send of the socket.
    flight: u32,
    /// That flight takes no more of its sends.
    closed: bool,
}

impl SendRoom {
    /// Whether a send that takes at most `most` bytes may go in `flight`. `ask` tells the free
    /// bytes and all bytes of the buffer now.
    pub(crate) fn admit(
        &mut self,
        flight: u32,
        most: usize,
        ask: impl FnOnce() -> (usize, usize),
    ) -> bool {
        let first = self.flight != flight;
        if first {
            (self.flight, self.closed) = (flight, false);
            // Between flights nothing is on its way to the buffer, so the answer holds. With half
            // of it left a flight is seldom cut short.
            if self.certain < most.max(self.size / 2) {
                (self.certain, self.size) = ask();
            }
        }
        if self.closed {
            return false;
        }
        match self.certain.checked_sub(most) {
            Some(left) => self.certain = left,
            None => {
                // It may find no room, so none of its socket goes beside it.
                self.closed = true;
                self.certain = 0;
                return first;
            }
        }
        true
    }
}

/// What the kernel takes at most of a send buffer for `len` bytes in segments of `segment` (0: one
/// datagram, of which a narrow path may make fragments): for each piece the bytes and headers,
/// rounded up to a power of two, and its own description. For paths of an MTU of 576 and more.
pub(crate) fn most_taken(len: usize, segment: u16) -> usize {
    const FRAGMENT: usize = 512;
    const OVERHEAD: usize = 1280;
    let piece = if segment == 0 { FRAGMENT } else { usize::from(segment) };
    2 * len + len.div_ceil(piece).max(1) * OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_send_of_a_socket_in_a_flight_may_find_no_room() {
        let mut room = SendRoom::default();
        let full = || panic!("nothing can be learned within a flight");
        assert!(room.admit(1, 40, || (100, 100)));
        assert!(room.admit(1, 40, full));
        // The rest of the buffer, 20, is not certain to be enough for either of these.
        assert!(!room.admit(1, 40, full));
        assert!(!room.admit(1, 10, full));
        // One goes into a buffer that is said to be full: it may have room by then.
        assert!(room.admit(2, 40, || (0, 100)));
        assert!(!room.admit(2, 1, full));
        // With less than half of the buffer certain it is asked again, else not.
        assert!(room.admit(3, 40, || (100, 100)));
        assert!(room.admit(4, 20, full));
        assert!(room.admit(5, 70, || (80, 100)));
    }

    #[test]
    fn a_datagram_takes_no_more_of_the_buffer_than_is_reckoned() {
        let spec = crate::UdpSocketSpec {
            bind: "127.0.0.1:0".parse().unwrap(),
            send_buffer: Some(4 << 20),
            ..Default::default()
        };
        let sender = spec.open().unwrap();
        // The loopback interface moves a datagram to the receive buffer, where it takes as much.
        const SK_MEMINFO_RMEM_ALLOC: usize = 0;
        let receiver = spec.open().unwrap();
        for len in [0, 1, 300, 700, 1472, 1800, 4000, 20_000, 65_507] {
            let bytes = vec![0; len];
            let to = receiver.local_addr().unwrap();
            rustix::net::sendto(&sender, &bytes, rustix::net::SendFlags::empty(), &to).unwrap();
            let held = receiver.memory()[SK_MEMINFO_RMEM_ALLOC] as usize;
            assert!((1..=most_taken(len, 0)).contains(&held), "{len} bytes took {held}");
            let flags = rustix::net::RecvFlags::TRUNC;
            rustix::net::recv(&receiver, &mut [0_u8; 1], flags).unwrap();
        }
    }
}
