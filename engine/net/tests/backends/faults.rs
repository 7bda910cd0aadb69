//! System calls that fail, and how many are made: a thread answers for the kernel (seccomp's user
//! notification) whenever the tested thread makes one of some calls.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use bootstorm_net::{
    Backend, Limits, Mmsg, SharedBytes, SocketId, Target, Transmit, UdpSocketSpec, Uring,
};

use crate::bed::{Kernel, PATIENCE, Recorder};

/// The calls that are answered for.
const WATCHED: [libc::c_long; 3] =
    [libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_sendmmsg];

/// What the next calls meet, by number; those that are not named succeed.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The errno of each call to come; 0 lets it through.
    next: HashMap<libc::c_long, Vec<i32>>,
    made: HashMap<libc::c_long, usize>,
}

impl Faults {
    /// The next calls of this number fail so, one after the other.
    fn fail(&self, call: libc::c_long, errors: impl IntoIterator<Item = i32>) {
        let mut errors: Vec<i32> = errors.into_iter().collect();
        errors.reverse();
        self.0.lock().unwrap().next.insert(call, errors);
    }

    /// How many failures are yet to come.
    fn left(&self, call: libc::c_long) -> usize {
        self.0.lock().unwrap().next.get(&call).map_or(0, Vec::len)
    }

    /// Calls of this number so far.
    fn made(&self, call: libc::c_long) -> usize {
        self.0.lock().unwrap().made.get(&call).copied().unwrap_or_default()
    }

    /// What becomes of a call.
    fn answer(&self, call: libc::c_long) -> i32 {
        let mut state = self.0.lock().unwrap();
        *state.made.entry(call).or_default() += 1;
        state.next.get_mut(&call).and_then(Vec::pop).unwrap_or(0)
    }
}

/// Runs `test` in a thread whose system calls can be made to fail.
fn with_faults(test: impl FnOnce(&Faults) + Send + 'static) {
    let faults = Faults::default();
    let (hand, handed) = mpsc::channel::<OwnedFd>();
    let own = faults.clone();
    let supervisor = thread::spawn(move || handed.into_iter().for_each(|fd| supervise(&fd, &own)));
    let thread = thread::spawn(move || {
        match listen() {
            Ok(listener) => hand.send(listener).unwrap(),
            Err(error) => return eprintln!("SKIPPED: no seccomp notification: {error}"),
        }
        drop(hand);
        test(&faults);
    });
    let result = thread.join();
    supervisor.join().unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Hands this thread's calls of [`WATCHED`] to whoever has the descriptor.
fn listen() -> io::Result<OwnedFd> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (left, call) in (0..WATCHED.len() as u8).rev().zip(WATCHED) {
        let jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32);
        program.push(libc::sock_filter { jt: left + 1, ..jump });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives both calls, which change nothing but what this thread may do; a
    // result that is no error is a descriptor of ours.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        match i32::try_from(fd) {
            Ok(fd @ 0..) => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Answers until the thread has ended.
fn supervise(listener: &OwnedFd, faults: &Faults) {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: C structs of integers, for which all zero is a value.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: one pollfd; the kernel writes a notification of the size that it is told of by
        // the request's number.
        let received = unsafe {
            libc::poll(&mut poll, 1, -1);
            if poll.revents & libc::POLLIN == 0 {
                return;
            }
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked)
        };
        if received != 0 {
            continue;
        }
        let error = faults.answer(asked.data.nr.into());
        let flags = if error == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
        let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: -error, flags };
        // SAFETY: the kernel reads an answer. It refuses one to a thread that has ended.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
    }
}

fn turn(backend: &mut impl Backend, recorder: &mut Recorder) {
    let soon = bootstorm_net::now() + std::time::Duration::from_millis(1);
    backend.turn(Some(soon), recorder).unwrap();
}

/// A socket of the backend, and a client that is connected to it. Its address is this process's, so
/// that nobody takes the port when it is free.
fn open(backend: &mut Uring) -> (SocketId, UdpSocket) {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let bind = ([127, high, low, 8], 0).into();
    let socket = UdpSocketSpec { bind, ..Default::default() }.open().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (backend.add_socket(socket).unwrap(), client)
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = client.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

const WANT: [i32; 3] = [libc::ENOMEM, libc::EAGAIN, libc::EBUSY];

/// Each call to the ring fails once or twice before it succeeds.
#[test]
fn a_kernel_that_is_short_of_memory_now_and_then_loses_nothing() {
    with_faults(|faults| {
        let mut backend = Uring::new(&Limits::default()).unwrap();
        let (socket, client) = open(&mut backend);
        let target = Target::Udp { to: client.local_addr().unwrap(), from: None, ifindex: 0 };
        let mut recorder = Recorder { echo: true, ..Recorder::default() };
        let errors = WANT.iter().flat_map(|&error| [error, 0, error, error, 0]).cycle();
        faults.fail(libc::SYS_io_uring_enter, errors.take(300));
        for number in 0..100_u8 {
            client.send(&[number]).unwrap();
            let bytes = SharedBytes::from(vec![number, 1]);
            backend.tx().send_shared(socket, &target, bytes, 0, number.into()).unwrap();
            turn(&mut backend, &mut recorder);
        }
        let late = bootstorm_net::now() + PATIENCE;
        while recorder.received.len() < 100 || recorder.sent.len() < 100 {
            turn(&mut backend, &mut recorder);
            assert!(recorder.now < late);
        }
        turn(&mut backend, &mut recorder);
        let got: Vec<_> = (0..200).map(|_| receive(&client)).collect();
        for len in [1, 2] {
            let numbers = got.iter().filter(|bytes| bytes.len() == len).map(|bytes| bytes[0]);
            assert!(numbers.eq(0..100));
        }
        assert!(faults.left(libc::SYS_io_uring_enter) < 200);
        assert_eq!(backend.drops().send.total(), 0);
    });
}

/// It goes on for many turns, in which a socket is removed and others are added.
#[test]
fn a_kernel_that_has_no_memory_for_long_gets_everything_later() {
    with_faults(|faults| {
        let mut backend = Uring::new(&Limits::default()).unwrap();
        let (socket, client) = open(&mut backend);
        let (other, gone) = open(&mut backend);
        let mut recorder = Recorder::default();
        turn(&mut backend, &mut recorder);
        let to = client.local_addr().unwrap();
        let target = Target::Udp { to, from: None, ifindex: 0 };
        let number = |number: u8| move |slot: &mut [u8]| (slot[0] = number, 1).1;
        faults.fail(libc::SYS_io_uring_enter, WANT.iter().copied().cycle().take(100));
        for round in 0..10 {
            backend.tx().send(socket, &target, number(round)).unwrap();
            turn(&mut backend, &mut recorder);
        }
        backend.tx().send(other, &target, number(99)).unwrap();
        turn(&mut backend, &mut recorder);
        backend.remove_socket(other).unwrap();
        gone.send(b"nobody hears it").unwrap_or_default();
        let (_, young) = open(&mut backend);
        young.send(b"new").unwrap();
        assert!(faults.left(libc::SYS_io_uring_enter) > 0 && backend.drops().starved > 0);
        let late = bootstorm_net::now() + PATIENCE;
        while recorder.received.is_empty() {
            turn(&mut backend, &mut recorder);
            assert!(recorder.now < late, "{}", faults.left(libc::SYS_io_uring_enter));
        }
        turn(&mut backend, &mut recorder);
        let got: Vec<u8> = (0..10).map(|_| receive(&client)[0]).collect();
        assert!(got.iter().copied().eq(0..10), "{got:?}");
        assert_eq!(recorder.received.len(), 1);
        assert_eq!(recorder.received[0].payload, b"new");
        assert_eq!(backend.drops().send.total(), 0);
        // The removed socket is closed by now.
        let address = gone.peer_addr().unwrap();
        UdpSocketSpec { bind: address, ..Default::default() }.open().unwrap();
    });
}

#[test]
fn a_socket_whose_requests_cannot_be_cancelled_is_closed_when_they_can() {
    with_faults(|faults| {
        let mut backend = Uring::new(&Limits::default()).unwrap();
        let (socket, client) = open(&mut backend);
        let (_, other) = open(&mut backend);
        let mut recorder = Recorder::default();
        turn(&mut backend, &mut recorder);
        faults.fail(libc::SYS_io_uring_register, WANT.iter().copied().cycle().take(10));
        backend.remove_socket(socket).unwrap();
        assert!(backend.remove_socket(socket).is_err());
        client.send(b"to the removed one").unwrap();
        other.send(b"to the other").unwrap();
        let bind = client.peer_addr().unwrap();
        let spec = UdpSocketSpec { bind, ..Default::default() };
        assert!(spec.open().is_err(), "its requests hold it");
        let late = bootstorm_net::now() + PATIENCE;
        while faults.left(libc::SYS_io_uring_register) > 0 || recorder.received.is_empty() {
            turn(&mut backend, &mut recorder);
            assert!(recorder.now < late);
        }
        turn(&mut backend, &mut recorder);
        spec.open().unwrap();
        assert_eq!(recorder.received.len(), 1);
        assert_eq!(recorder.received[0].payload, b"to the other");
    });
}

/// The end comes while entries wait that the kernel has not taken: it never takes them.
#[test]
fn a_ring_that_ends_while_the_kernel_has_no_memory_leaves_nothing_behind() {
    with_faults(|faults| {
        let mut backend = Uring::new(&Limits::default()).unwrap();
        let (socket, client) = open(&mut backend);
        let mut recorder = Recorder::default();
        turn(&mut backend, &mut recorder);
        faults.fail(libc::SYS_io_uring_enter, WANT.iter().copied().cycle().take(50));
        let (_, other) = open(&mut backend);
        let target = Target::Udp { to: client.local_addr().unwrap(), from: None, ifindex: 0 };
        backend.tx().send(socket, &target, |_| 100).unwrap();
        turn(&mut backend, &mut recorder);
        assert!(backend.drops().starved > 0);
        faults.fail(libc::SYS_io_uring_enter, []);
        drop(backend);
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut [0; 200]).is_err(), "it was sent after the end");
        for bind in [client.peer_addr().unwrap(), other.peer_addr().unwrap()] {
            UdpSocketSpec { bind, ..Default::default() }.open().unwrap();
        }
    });
}

/// A window of blocks without segmentation, and what it costs in calls.
fn calls_for_a_window<B: Kernel>(faults: &Faults, call: libc::c_long) -> usize {
    let mut backend = B::make(&Limits { batch: 64, ..Limits::default() }).unwrap();
    let send_buffer = Some(4 << 20);
    let bind = "127.0.0.1:0".parse().unwrap();
    let spec = UdpSocketSpec { bind, send_buffer, ..Default::default() };
    let socket = backend.add_socket(spec.open().unwrap()).unwrap();
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = Target::Udp { to: sink.local_addr().unwrap(), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    turn(&mut backend, &mut recorder);
    for block in 0..64 {
        let bytes = SharedBytes::from(vec![block; 516]);
        backend.tx().send_shared(socket, &target, bytes, 0, 1).unwrap();
    }
    let before = faults.made(call);
    turn(&mut backend, &mut recorder);
    let calls = faults.made(call) - before;
    while recorder.sent.len() < 64 {
        turn(&mut backend, &mut recorder);
    }
    assert!((0..64).all(|block| receive(&sink)[0] == block));
    calls
}

#[test]
fn a_window_without_segmentation_is_one_call() {
    with_faults(|faults| {
        assert_eq!(calls_for_a_window::<Mmsg>(faults, libc::SYS_sendmmsg), 1);
        assert_eq!(calls_for_a_window::<Uring>(faults, libc::SYS_io_uring_enter), 1);
    });
}
