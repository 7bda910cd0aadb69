//! The steady path takes no memory: not to receive, not to answer, not to send shared bytes, not to
//! wake.

// A helper of a test may panic as the test itself may.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::net::UdpSocket;

use bootstorm_net::{
    Backend, Datagram, Handler, Limits, Mmsg, SharedBytes, Socket, Target, Transmit, UdpSocketSpec,
    Uring,
};
use bootstorm_protocols::time::Moment;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is that of System.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers half of what comes at once, the other half when it is woken, and sends shared bytes to
/// everybody.
struct Busy {
    held: Vec<bootstorm_net::Held>,
    image: SharedBytes,
    sent: usize,
    received: usize,
}

impl<T: Transmit> Handler<T> for Busy {
    fn datagram(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        self.received += 1;
        let target = Target::Udp { to: datagram.source, from: datagram.destination, ifindex: 0 };
        tx.send(datagram.socket, &target, |_| 300).unwrap();
        self.held.push(tx.hold(datagram.socket, &target, |_| 300).unwrap());
        tx.send_shared(datagram.socket, &target, self.image.clone(), 1000, 1).unwrap();
    }

    fn woken(&mut self, tx: &mut T) {
        self.held.drain(..).for_each(|held| tx.submit(held));
    }

    fn sent(&mut self, _: u64, result: io::Result<()>, _: &mut T) {
        result.unwrap();
        self.sent += 1;
    }

    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}

fn steady_state_allocates_nothing(mut backend: impl Backend<Socket = Socket>) {
    let spec = UdpSocketSpec { bind: "127.0.0.1:0".parse().unwrap(), ..Default::default() };
    let socket = spec.open().unwrap();
    let address = socket.local_addr().unwrap();
    backend.add_socket(socket).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let waker = backend.waker();
    let mut busy = Busy {
        held: Vec::with_capacity(1000),
        image: SharedBytes::from(vec![0; 3000]),
        sent: 0,
        received: 0,
    };
    let mut allocated = 0;
    for round in 0..100 {
        for _ in 0..40 {
            client.send_to(&[0; 300], address).unwrap();
        }
        waker.wake();
        let before = COUNT.get();
        for _ in 0..4 {
            backend.turn(Some(Moment::default()), &mut busy).unwrap();
        }
        // The first rounds find the size of things.
        if round >= 10 {
            allocated += COUNT.get() - before;
        }
    }
    assert!(busy.received > 3900 && busy.sent > 3800);
    assert_eq!(allocated, 0, "{}", backend.name());
}

#[test]
fn uring() {
    steady_state_allocates_nothing(Uring::new(&Limits::default()).unwrap());
}

#[test]
fn mmsg() {
    steady_state_allocates_nothing(Mmsg::new(&Limits::default()).unwrap());
}
