//! What only a kernel can show: steering, full socket buffers, a host that denies io_uring.
//!
//! These tests make network namespaces of their own and so need root; without it they say that they
//! were skipped.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use bootstorm_net::{
    Backend, EngineChoice, EngineKind, KernelLoss, Limits, Mmsg, MtuDiscovery, PacketSocketSpec,
    Reason, Split, Steering, Target, Transmit, UdpSocketSpec, Uring, Waker, interfaces,
};
use bootstorm_protocols::time::Moment;

use crate::bed::{Kernel, PATIENCE, Recorder};

/// Runs `test` in a thread with a network namespace of its own, which goes away with it.
pub(crate) fn isolated(test: fn()) {
    let thread = thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNET;
        // SAFETY: only this thread changes its namespace; it shares no descriptor table or
        // filesystem state by it.
        if let Err(error) = unsafe { rustix::thread::unshare_unsafe(flags) } {
            eprintln!("SKIPPED: a network namespace needs root: {error}");
            return;
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A child of this thread, so in its namespace.
pub(crate) fn ip(args: &str) {
    run("ip", args);
}

fn run(program: &str, args: &str) {
    let output = Command::new(program).args(args.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {error}");
}

fn turn(backend: &mut impl Backend, recorder: &mut Recorder) {
    backend.turn(Some(Moment::default()), recorder).unwrap();
}

const CHADDR_TAIL: u16 = 30;

fn discover(machine: u32) -> Vec<u8> {
    let mut payload = vec![0; 300];
    payload[30..34].copy_from_slice(&machine.to_be_bytes());
    payload
}

/// What sends a datagram to the second socket of its shard.
const SPLIT: Split = Split { offset: 239, value: 0x6335_0101, matching: false };

/// A group of sockets on one port, all in this thread.
struct Group<B> {
    sockets: Vec<(Steering, B, Recorder)>,
    port: u16,
}

impl<B: Kernel> Group<B> {
    fn new(shards: u16, splits: bool) -> Group<B> {
        let mut group = Group { sockets: Vec::new(), port: 0 };
        for number in 0..shards * if splits { 2 } else { 1 } {
            let split = splits.then_some(Split { matching: number >= shards, ..SPLIT });
            let shard = number % shards;
            let steering = Steering { offset: CHADDR_TAIL, shards, shard, split };
            let mut backend = B::make(&Limits::default()).unwrap();
            let spec = UdpSocketSpec {
                bind: ([0, 0, 0, 0], group.port).into(),
                steering: Some(steering),
                ..Default::default()
            };
            let socket = spec.open().unwrap();
            group.port = socket.local_addr().unwrap().port();
            backend.add_socket(socket).unwrap();
            group.sockets.push((steering, backend, Recorder::default()));
        }
        group
    }

    /// Which sockets get each payload. Loopback delivers before send returns.
    fn deliver(&mut self, client: &UdpSocket, ip: [u8; 4], payloads: &[Vec<u8>]) -> Vec<Vec<u16>> {
        for payload in payloads {
            client.send_to(payload, (std::net::Ipv4Addr::from(ip), self.port)).unwrap();
        }
        let mut owners: BTreeMap<&[u8], Vec<u16>> = BTreeMap::new();
        for (number, (_, backend, recorder)) in (0..).zip(&mut self.sockets) {
            for _ in 0..8 {
                turn(backend, recorder);
            }
            for received in std::mem::take(&mut recorder.received) {
                let known = payloads.iter().find(|p| **p == received.payload).unwrap();
                owners.entry(known).or_default().push(number);
            }
        }
        payloads
            .iter()
            .map(|payload| owners.get(payload.as_slice()).cloned().unwrap_or_default())
            .collect()
    }

    /// Which sockets should.
    fn takers(&self, payload: &[u8]) -> Vec<u16> {
        let takers = self.sockets.iter().filter(|(steering, ..)| steering.takes(payload));
        takers.map(|(steering, ..)| steering.number()).collect()
    }
}

fn every_datagram_has_one_socket<B: Kernel>() {
    let loss = KernelLoss::new().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_broadcast(true).unwrap();
    for (shards, splits) in [1, 2, 4, 8].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let mut group = Group::<B>::new(shards, splits);
        let mut payloads: Vec<_> =
            (0..64).map(|machine| discover(0x5254_0000 + 4 * machine)).collect();
        for payload in payloads.iter_mut().skip(1).step_by(2) {
            payload[239..243].copy_from_slice(&SPLIT.value.to_be_bytes());
        }
        // Too short to have a key: the first shard's. Long enough for a key, not for the split.
        payloads.extend([vec![], vec![1; 10], vec![2; 33], vec![3; 34], vec![4; 242]]);
        let expected: Vec<_> = payloads.iter().map(|payload| group.takers(payload)).collect();
        assert!(expected.iter().all(|takers| takers.len() == 1));
        let broadcast = group.deliver(&client, [127, 255, 255, 255], &payloads);
        assert_eq!(broadcast, expected, "broadcast, {shards} shards, split {splits}");
        let unicast = group.deliver(&client, [127, 0, 0, 1], &payloads);
        assert_eq!(unicast, expected, "unicast, {shards} shards, split {splits}");
        // What steering refused is not lost, whatever the kernel's counter of the socket says.
        let drops: Vec<_> = group.sockets.iter().map(|(_, backend, _)| backend.drops()).collect();
        let refused: u64 = drops.iter().map(|drops| drops.steered).sum();
        assert_eq!(refused, 69 * (group.sockets.len() as u64 - 1));
        assert_eq!(loss.total(drops).unwrap(), 0);
    }
}

#[test]
fn steering_with_uring() {
    isolated(every_datagram_has_one_socket::<Uring>);
}

#[test]
fn steering_with_mmsg() {
    isolated(every_datagram_has_one_socket::<Mmsg>);
}

#[test]
fn a_full_receive_buffer_of_a_steered_socket_is_a_loss() {
    isolated(|| {
        let loss = KernelLoss::new().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut group = Group::<Mmsg>::new(2, false);
        let payload = discover(1);
        let to = (std::net::Ipv4Addr::LOCALHOST, group.port);
        for _ in 0..5000 {
            client.send_to(&payload, to).unwrap();
        }
        let mut received = 0;
        for (_, backend, recorder) in &mut group.sockets {
            for _ in 0..100 {
                turn(backend, recorder);
            }
            received += recorder.received.len() as u64;
        }
        assert!(received < 5000);
        let drops = group.sockets.iter().map(|(_, backend, _)| backend.drops());
        assert_eq!(loss.total(drops).unwrap(), 5000 - received);
    });
}

/// A machine of its own behind a link: collects what is sent to its port 9 until `count` datagrams
/// are there.
fn collector(count: usize) -> thread::JoinHandle<Vec<Vec<u8>>> {
    let (send, receive) = mpsc::channel();
    let (linked, wait_for_link) = mpsc::channel();
    let (ready, wait_until_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        // SAFETY: as in `isolated`.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        send.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
        wait_for_link.recv().unwrap();
        ip("addr add 10.0.0.2/24 dev right");
        ip("link set right up");
        let socket = UdpSocket::bind("10.0.0.2:9").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // Whatever this thread waits for, nothing is lost here.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 2048];
        let receive = |_| {
            let len = socket.recv(&mut buffer).ok()?;
            Some(buffer[..len].to_vec())
        };
        (0..count).map_while(receive).collect()
    });
    ip("link add name left type veth peer name right address 02:00:00:00:00:02");
    ip(&format!("link set right netns {}", receive.recv().unwrap()));
    ip("addr add 10.0.0.1/24 dev left");
    // No IPv6 of the kernel's own, from another core; and what waits for ARP could be overtaken.
    ip("link set left addrgenmode none");
    ip("link set left up");
    ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev left");
    linked.send(()).unwrap();
    wait_until_ready.recv().unwrap();
    thread
}

/// Everything of one socket arrives in the order in which it was queued: shared bytes of several
/// transfers, replies in between, and what was held until later.
fn a_full_send_buffer_delays_and_keeps_the_order<B: Kernel>() {
    let collector = collector(1000);
    // All of it on one core: the kernel itself lets datagrams on two cores overtake each other.
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let mut one = rustix::thread::CpuSet::new();
    one.set((0..).find(|&cpu| allowed.is_set(cpu)).unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    // 5 MB/s: what waits here fills the sockets' buffers, and leaves them at any time.
    run("tc", "qdisc add dev left root tbf rate 40mbit burst 4kb limit 4mb");
    let mut backend = B::make(&Limits::default()).unwrap();
    let target = Target::Udp { to: "10.0.0.2:9".parse().unwrap(), from: None, ifindex: 0 };
    let mut held = Vec::new();
    let sockets: Vec<_> = (0..2)
        .map(|_| {
            let spec = UdpSocketSpec { send_buffer: Some(20_000), ..Default::default() };
            backend.add_socket(spec.open().unwrap()).unwrap()
        })
        .collect();
    let name = |number: u16, socket: u8| [number.to_be_bytes()[0], number as u8, socket];
    let tx = backend.tx();
    for number in 0..200 {
        for (at, &socket) in (0..).zip(&sockets) {
            // Small ones fit where long ones do not.
            let mut bytes = vec![0; if number % 3 == 0 { 1200 } else { 40 }];
            bytes[..3].copy_from_slice(&name(2 * number, at));
            tx.send_shared(socket, &target, bytes.into(), 0, (number / 10).into()).unwrap();
            let reply = |slot: &mut [u8]| {
                slot[..3].copy_from_slice(&name(2 * number + 1, at));
                100
            };
            tx.send(socket, &target, reply).unwrap();
            if number < 100 {
                let last = |slot: &mut [u8]| {
                    slot[..3].copy_from_slice(&name(1000 + number, at));
                    300
                };
                held.push(tx.hold(socket, &target, last).unwrap());
            }
        }
    }
    held.into_iter().for_each(|held| tx.submit(held));
    let mut recorder = Recorder::default();
    let deadline = bootstorm_net::now() + PATIENCE;
    while !collector.is_finished() && recorder.now < deadline {
        let soon = bootstorm_net::now() + std::time::Duration::from_millis(5);
        backend.turn(Some(soon), &mut recorder).unwrap();
    }
    assert_eq!(recorder.sent.iter().filter(|(_, result)| result.is_ok()).count(), 400);
    let drops = backend.drops();
    assert!(drops.delayed > 0 && drops.send.total() == 0, "{drops:?}");
    let got = collector.join().unwrap();
    assert_eq!(got.len(), 1000);
    for socket in 0..2 {
        let of = got.iter().filter(|bytes| bytes[2] == socket);
        let numbers: Vec<u16> = of.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])).collect();
        let wrong = numbers.iter().copied().zip((0..400).chain(1000..1100)).find(|(a, b)| a != b);
        assert_eq!(wrong, None, "on socket {socket}");
    }
}

fn frames_received(device: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let row = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:")));
    row.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn full_send_buffers_with_uring() {
    isolated(a_full_send_buffer_delays_and_keeps_the_order::<Uring>);
}

#[test]
fn full_send_buffers_with_mmsg() {
    isolated(a_full_send_buffer_delays_and_keeps_the_order::<Mmsg>);
}

/// A client without an address gets a frame of ours at its own hardware address.
fn frames_reach_a_machine_without_an_address<B: Kernel>() {
    ip("link add name left type veth peer name right");
    ip("link set left up");
    ip("link set right up");
    let mut backend = B::make(&Limits::default()).unwrap();
    let socket = backend.add_socket(PacketSocketSpec::default().open().unwrap()).unwrap();
    let interfaces = interfaces().unwrap();
    let find = |name: &str| interfaces.iter().find(|interface| interface.name == name).unwrap();
    let (left, right) = (find("left"), find("right"));
    assert!(left.up && left.broadcast && !left.loopback && left.mtu == 1500);
    let mac = right.mac.unwrap();
    let before = frames_received("right");
    let target = Target::Link { ifindex: left.ifindex, mac };
    let frame = |slot: &mut [u8]| {
        slot[..6].copy_from_slice(&mac);
        slot[6..12].copy_from_slice(&left.mac.unwrap());
        slot[12..14].copy_from_slice(&[8, 0]);
        342
    };
    let mut recorder = Recorder::default();
    // A new link drops what is sent before it has settled.
    let deadline = bootstorm_net::now() + PATIENCE;
    while frames_received("right") < before + 20 {
        backend.tx().send(socket, &target, frame).unwrap();
        let soon = bootstorm_net::now() + std::time::Duration::from_millis(1);
        backend.turn(Some(soon), &mut recorder).unwrap();
        assert!(recorder.now < deadline, "no frame arrived");
    }
    assert_eq!(backend.drops().send.total(), 0);
    // It received none of them.
    turn(&mut backend, &mut recorder);
    assert!(recorder.received.is_empty());
}

#[test]
fn packet_sockets_with_uring() {
    isolated(frames_reach_a_machine_without_an_address::<Uring>);
}

#[test]
fn packet_sockets_with_mmsg() {
    isolated(frames_reach_a_machine_without_an_address::<Mmsg>);
}

/// Datagrams go uncut until one turns out to be too long; after that they go in fragments.
fn fragments_where_a_path_is_narrow<B: Kernel>() {
    ip("link set lo mtu 1300");
    let mut backend = B::make(&Limits::default()).unwrap();
    let mtu_discovery = MtuDiscovery::UntilTooLong;
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        let sink = UdpSocket::bind(loopback).unwrap();
        let bind = loopback.parse().unwrap();
        let spec = UdpSocketSpec { bind, mtu_discovery, ..Default::default() };
        let socket = backend.add_socket(spec.open().unwrap()).unwrap();
        let target = Target::Udp { to: sink.local_addr().unwrap(), from: None, ifindex: 0 };
        let refused = backend.drops().send.invalid;
        for (len, arrives) in [(1000, true), (1400, false), (1400, true), (1000, true)] {
            backend.tx().send(socket, &target, |_| len).unwrap();
            turn(&mut backend, &mut Recorder::default());
            if arrives {
                assert_eq!(sink.recv(&mut [0; 2000]).unwrap(), len);
            }
        }
        assert_eq!(backend.drops().send.invalid, refused + 1);
    }
}

#[test]
fn narrow_paths_with_uring() {
    isolated(fragments_where_a_path_is_narrow::<Uring>);
}

#[test]
fn narrow_paths_with_mmsg() {
    isolated(fragments_where_a_path_is_narrow::<Mmsg>);
}

/// Makes io_uring_setup fail in this thread, as the profile of a container does.
fn deny_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        // The number of the system call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_io_uring_setup as u32,
            )
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
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

#[test]
fn a_seccomp_filter_is_named_and_worked_around() {
    let (send, receive) = mpsc::channel::<Waker>();
    let denied = thread::spawn(move || {
        deny_io_uring();
        let (kind, denied) = EngineChoice::Auto.resolve().unwrap();
        assert_eq!(kind, EngineKind::Mmsg);
        assert!(matches!(denied.unwrap().reason, Reason::Seccomp { .. }));
        let refusal = EngineChoice::Uring.resolve().unwrap_err();
        assert!(refusal.to_string().contains("seccomp filter"), "{refusal}");
        assert!(EngineChoice::Mmsg.resolve().unwrap().1.is_none());
        // A thread that may not have a ring can wake one all the same.
        receive.recv().unwrap().wake();
    });
    let mut backend = Uring::new(&Limits::default()).unwrap();
    let mut recorder = Recorder::default();
    turn(&mut backend, &mut recorder);
    send.send(backend.waker()).unwrap();
    while recorder.woken == 0 {
        let late = bootstorm_net::now() + PATIENCE;
        backend.turn(Some(late), &mut recorder).unwrap();
        assert!(recorder.now < late, "nobody woke it");
    }
    denied.join().unwrap();
}

#[test]
fn this_host_allows_io_uring() {
    let (kind, denied) = EngineChoice::Auto.resolve().unwrap();
    match denied {
        None => assert_eq!(kind, EngineKind::Uring),
        Some(denied) => eprintln!("SKIPPED: {denied}"),
    }
}
