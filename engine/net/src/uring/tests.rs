use std::fs;
use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::backend::{Target, Transmit};
use crate::{SharedBytes, UdpSocketSpec};

/// Counts what it is told.
#[derive(Default)]
struct Counter {
    received: usize,
    failed: Vec<u64>,
    sent: usize,
}

impl<T: Transmit> Handler<T> for Counter {
    fn datagram(&mut self, _: Datagram<'_>, _: &mut T) {
        self.received += 1;
    }

    fn woken(&mut self, _: &mut T) {}

    fn sent(&mut self, token: u64, result: io::Result<()>, _: &mut T) {
        self.sent += 1;
        if result.is_err() {
            self.failed.push(token);
        }
    }

    fn batch_end(&mut self, _: bool, _: &mut T) -> Option<Moment> {
        None
    }
}

fn open(address: &str) -> Socket {
    UdpSocketSpec { bind: address.parse().unwrap(), ..Default::default() }.open().unwrap()
}

fn turn(backend: &mut Uring, counter: &mut Counter) {
    backend.turn(Some(Moment::default()), counter).unwrap();
}

/// Requests that wait in the kernel for something to happen.
fn armed(ring: &Ring) -> usize {
    let path = format!("/proc/self/fdinfo/{}", ring.io_uring().as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    let polls = text.lines().skip_while(|line| *line != "PollList:");
    polls.filter(|line| line.trim_start().starts_with("op=")).count()
}

#[test]
fn a_request_of_a_removed_socket_does_not_arm_its_successor() {
    let mut backend = Uring::new(&Limits::default()).unwrap();
    let mut counter = Counter::default();
    for _ in 0..3 {
        let id = backend.add_socket(open("127.0.0.1:0")).unwrap();
        assert_eq!(id.index(), 0);
        backend.remove_socket(id).unwrap();
    }
    let id = backend.add_socket(open("127.0.0.1:0")).unwrap();
    turn(&mut backend, &mut counter);
    // Its receive, and the poll of the waker's event.
    assert_eq!(armed(&backend.ring), 2);
    backend.remove_socket(id).unwrap();
    assert_eq!(armed(&backend.ring), 1);
}

/// The completion queue is full of other things when sends fail.
#[test]
fn a_failure_that_finds_no_room_in_the_queue_is_blamed_on_its_own_send() {
    let limits = Limits { buffers: 4, urgent: 0, ..Limits::default() };
    let mut backend = Uring::with_queues(&limits, 4, 0).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut counter = Counter::default();
    let addresses: Vec<_> = (0..900)
        .map(|_| {
            let socket = open("127.0.0.1:0");
            let address = socket.local_addr().unwrap();
            backend.add_socket(socket).unwrap();
            address
        })
        .collect();
    let sender = backend.add_socket(open("0.0.0.0:0")).unwrap();
    let to = client.local_addr().unwrap();
    let good = Target::Udp { to, from: None, ifindex: 0 };
    // No address of ours.
    let bad = Target::Udp { to, from: Some([192, 0, 2, 99].into()), ifindex: 0 };
    while !backend.requests.is_empty() {
        turn(&mut backend, &mut counter);
    }
    for round in 0..10 {
        // All but four end for want of a buffer, more in each call than the queue has room for.
        addresses.iter().for_each(|to| assert_eq!(client.send_to(&[1], to).unwrap(), 1));
        for token in 0..100 {
            let target = if token % 3 == round % 3 { &bad } else { &good };
            let bytes = SharedBytes::from(vec![2]);
            backend.tx().send_shared(sender, target, bytes, 0, token).unwrap();
        }
        while counter.sent < 100 || counter.received < 900 {
            turn(&mut backend, &mut counter);
        }
        let failed = std::mem::take(&mut counter.failed);
        let expected = (0..100).filter(|token| token % 3 == round % 3);
        assert!(failed.iter().copied().eq(expected), "{round}: {failed:?}");
        (counter.sent, counter.received) = (0, 0);
    }
}

#[test]
fn a_completion_of_another_flight_changes_nothing() {
    let mut backend = Uring::new(&Limits::default()).unwrap();
    let sender = backend.add_socket(open("127.0.0.1:0")).unwrap();
    let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = Target::Udp { to, from: None, ifindex: 0 };
    let mut counter = Counter::default();
    backend.tx().send_shared(sender, &target, vec![1].into(), 0, 7).unwrap();
    turn(&mut backend, &mut counter);
    backend.tx().send_shared(sender, &target, vec![1].into(), 0, 8).unwrap();
    // SAFETY: the first flight is over; the turn below submits and settles this one.
    unsafe { backend.flight.fill(&mut backend.tx, &mut backend.ring.submission()) };
    assert!(!backend.flight.completed(1, 0, -libc::EPERM));
    turn(&mut backend, &mut counter);
    turn(&mut backend, &mut counter);
    assert_eq!((counter.sent, counter.failed.len()), (2, 0));
}

#[test]
fn at_its_end_no_request_is_left_and_every_port_is_free() {
    let mut backend = Uring::new(&Limits::default()).unwrap();
    let mut counter = Counter::default();
    // Ports that the kernel gives to nobody else meanwhile, at an address of this process.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let addresses: Vec<_> =
        (20_000..20_300).map(|port| SocketAddr::from(([127, high, low, 9], port))).collect();
    for address in &addresses {
        backend.add_socket(open(&address.to_string())).unwrap();
    }
    while !backend.requests.is_empty() {
        turn(&mut backend, &mut counter);
    }
    assert_eq!(armed(&backend.ring), 301);
    // Some have something to do at this moment.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    addresses.iter().step_by(2).for_each(|to| assert_eq!(client.send_to(&[1], to).unwrap(), 1));
    let waker = backend.waker();
    waker.wake();
    assert!(backend.end_requests());
    assert_eq!(armed(&backend.ring), 0);
    // The waker does not keep the ring.
    drop(backend);
    for address in addresses {
        UdpSocketSpec { bind: address, ..Default::default() }.open().unwrap();
    }
    waker.wake();
}

/// Makes io_uring_register fail in this thread from now on.
fn deny_register() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump =
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_register as u32);
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..jump },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives both calls, which change nothing but what this thread may do.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(result, 0);
}

/// Whether a page of this process is mapped at an address.
fn is_mapped(address: usize) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).unwrap();
        let [from, to] = [range.0, range.1].map(|at| usize::from_str_radix(at, 16).unwrap());
        (from..to).contains(&address)
    })
}

#[test]
fn the_memory_of_requests_that_cannot_be_cancelled_stays_mapped() {
    let thread = std::thread::spawn(|| {
        let mut backend = Uring::new(&Limits::default()).unwrap();
        backend.add_socket(open("127.0.0.1:0")).unwrap();
        turn(&mut backend, &mut Counter::default());
        let memory = backend.memory.buffers.address();
        assert!(is_mapped(memory));
        deny_register();
        assert!(!backend.end_requests());
        drop(backend);
        assert!(is_mapped(memory));
    });
    thread.join().unwrap();
}
