//! What only a kernel's sockets receive: several datagrams at once, and whole frames.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use bootstorm_net::{
    Limits, Mmsg, PacketSocketSpec, Priority, ReceiveFrames, SharedBytes, SocketId, Target,
    Transmit, UdpSocketSpec, Uring, interfaces,
};
use bootstorm_protocols::frame::{HEADROOM, UdpFrame};

use crate::bed::{Kernel, PATIENCE, Recorder};
use crate::system::{ip, isolated};

/// Instantiates every test for both backends of the kernel.
macro_rules! both {
    ($($test:ident),*) => {
        mod uring {
            $(#[test]
            fn $test() {
                super::$test::<super::Uring>();
            })*
        }
        mod mmsg {
            $(#[test]
            fn $test() {
                super::$test::<super::Mmsg>();
            })*
        }
    };
}

both! {
    a_blast_arrives_together_and_in_order,
    what_comes_alone_is_one_datagram,
    a_blast_longer_than_the_buffer_is_marked,
    what_is_urgent_overtakes_a_queue_that_fills_every_buffer,
    whatever_is_more_urgent_nothing_waits_for_good,
    a_stopped_socket_leaves_the_rest_to_whoever_else_has_it,
    frames_for_hardware_that_no_interface_has_are_received,
    a_missing_interface_is_named
}

/// A buffer for everything that the kernel may hand over at once.
fn wide() -> Limits {
    Limits { payload_len: 65_535, ..Limits::default() }
}

fn a_stopped_socket_leaves_the_rest_to_whoever_else_has_it<B: Kernel>() {
    const SENT: u8 = 200;
    let limits = Limits { buffers: 16, batch: 8, ..Limits::default() };
    let mut backend = B::make(&limits).unwrap();
    let spec = UdpSocketSpec { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() };
    let socket = spec.open().unwrap();
    let address = socket.local_addr().unwrap();
    let other = UdpSocket::from(socket.as_fd().try_clone_to_owned().unwrap());
    let id = backend.add_socket(socket).unwrap();
    let client = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let mut recorder = Recorder::default();
    turn(&mut backend, &mut recorder);
    for number in 0..SENT {
        client.send_to(&[number], address).unwrap();
    }
    turn(&mut backend, &mut recorder);
    assert!(!recorder.received.is_empty());
    backend.stop_receiving(id).unwrap();
    for _ in 0..100 {
        turn(&mut backend, &mut recorder);
    }
    let before = recorder.received.len();
    client.send_to(&[SENT], address).unwrap();
    turn(&mut backend, &mut recorder);
    assert_eq!(recorder.received.len(), before);
    let mut got: Vec<u8> = recorder.received.iter().map(|each| each.payload[0]).collect();
    other.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8];
    while let Ok(len) = other.recv(&mut buffer) {
        got.extend(&buffer[..len]);
    }
    assert!(got.iter().copied().eq(0..=SENT), "{got:?}");
    assert_eq!(backend.drops(), Default::default());
}

/// Receive buffers for each priority, and batches, that a short queue fills.
fn small() -> Limits {
    Limits { buffers: 16, urgent: 16, middle: 16, batch: 8, ..Limits::default() }
}

fn what_is_urgent_overtakes_a_queue_that_fills_every_buffer<B: Kernel>() {
    overtakes::<B>(Priority::Urgent, Priority::Middle);
    overtakes::<B>(Priority::Urgent, Priority::Bulk);
    overtakes::<B>(Priority::Middle, Priority::Bulk);
}

fn overtakes<B: Kernel>(first: Priority, last: Priority) {
    let mut backend = B::make(&small()).unwrap();
    let slow = open_with(&mut backend, last);
    let quick = open_with(&mut backend, first);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut recorder = Recorder::default();
    turn(&mut backend, &mut recorder);
    for _ in 0..200 {
        client.send_to(b"slow", slow).unwrap();
    }
    let mut waited = 0;
    for number in 0..3 {
        for _ in 0..3 {
            turn(&mut backend, &mut recorder);
        }
        client.send_to(&[number], quick).unwrap();
        let before = recorder.received.len();
        while recorder.received.iter().all(|received| received.payload != [number]) {
            turn(&mut backend, &mut recorder);
        }
        waited = waited.max(recorder.received.len() - before);
    }
    // What was in hand when it came goes first, a batch at most, and the batch that brings it.
    assert!(waited <= 2 * 8, "{waited} datagrams of {last:?} before one of {first:?}");
    let slow = recorder.received.iter().filter(|received| received.payload == b"slow").count();
    assert!(slow < 150, "nothing waited any more");
    while recorder.received.len() < 203 {
        turn(&mut backend, &mut recorder);
    }
}

fn whatever_is_more_urgent_nothing_waits_for_good<B: Kernel>() {
    let mut backend = B::make(&small()).unwrap();
    let priorities = [Priority::Urgent, Priority::Middle, Priority::Bulk];
    let sockets = priorities.map(|priority| open_with(&mut backend, priority));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut recorder = Recorder::default();
    turn(&mut backend, &mut recorder);
    for number in 0..200_u8 {
        for socket in sockets {
            client.send_to(&[number], socket).unwrap();
        }
    }
    // Until the most urgent ones are done.
    let count = |recorder: &Recorder, number| {
        recorder.received.iter().filter(|received| received.payload == [number]).count()
    };
    while count(&recorder, 99) == 0 {
        turn(&mut backend, &mut recorder);
    }
    // Others got a quarter each, but for the last batches in hand.
    assert_eq!(count(&recorder, 20), 3);
    while recorder.received.len() < 600 {
        turn(&mut backend, &mut recorder);
    }
}

fn open_with<B: Kernel>(backend: &mut B, priority: Priority) -> SocketAddr {
    let spec = UdpSocketSpec { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() };
    let socket = spec.open().unwrap().with_priority(priority);
    let address = socket.local_addr().unwrap();
    backend.add_socket(socket).unwrap();
    address
}

fn open<B: Kernel>(backend: &mut B, ip: IpAddr, gro: bool) -> (SocketId, SocketAddr) {
    let spec = UdpSocketSpec { bind: (ip, 0).into(), gro, ..Default::default() };
    let socket = spec.open().unwrap();
    let address = socket.local_addr().unwrap();
    (backend.add_socket(socket).unwrap(), address)
}

/// Turns until `count` datagrams are there, and a moment longer to see that there are no more.
fn receive<B: Kernel>(backend: &mut B, count: usize) -> Recorder {
    let mut recorder = Recorder::default();
    let late = bootstorm_net::now() + PATIENCE;
    while recorder.received.len() < count {
        turn(backend, &mut recorder);
        let got = recorder.received.len();
        assert!(recorder.now < late, "{got} of {count} came: {:?}", backend.drops());
    }
    for _ in 0..3 {
        turn(backend, &mut recorder);
    }
    assert_eq!(recorder.received.len(), count);
    recorder
}

fn turn<B: Kernel>(backend: &mut B, recorder: &mut Recorder) {
    let soon = bootstorm_net::now() + Duration::from_millis(1);
    backend.turn(Some(soon), recorder).unwrap();
}

fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// The loopback interface hands on whole what was sent with UDP_SEGMENT.
fn a_blast_arrives_together_and_in_order<B: Kernel>() {
    for ip in ["127.0.0.1", "::1"] {
        let ip = ip.parse().unwrap();
        let mut backend = B::make(&wide()).unwrap();
        let (together, at_once) = open(&mut backend, ip, true);
        let (apart, one_by_one) = open(&mut backend, ip, false);
        let (sender, source) = open(&mut backend, ip, false);
        // The shortest and the longest that there are, and a last datagram of full and of less
        // length.
        let blasts = [(1, 2), (1200, 12_000), (1200, 12_700), (1468, 44 * 1468), (8, 64 * 8)];
        for (token, (segment, len)) in (0..).zip(blasts) {
            let bytes = SharedBytes::from(counted(len));
            for to in [at_once, one_by_one] {
                let target = Target::Udp { to, from: None, ifindex: 0 };
                let tx = backend.tx();
                tx.send_shared(sender, &target, bytes.clone(), segment, token).unwrap();
            }
        }
        let single = |&(segment, len): &(u16, usize)| len.div_ceil(usize::from(segment));
        let singles: usize = blasts.iter().map(single).sum();
        let recorder = receive(&mut backend, blasts.len() + singles);
        let of = |socket| recorder.received.iter().filter(move |r| r.socket == socket);
        for (received, (segment, len)) in of(together).zip(blasts) {
            assert_eq!((received.source, received.destination), (source, Some(ip)));
            assert_eq!((received.segment, received.truncated), (segment, false));
            assert!(received.payload == counted(len));
            assert_eq!(received.segments.concat(), received.payload);
            let (last, full) = received.segments.split_last().unwrap();
            assert!(full.iter().all(|part| part.len() == usize::from(segment)));
            assert_eq!(last.len(), (len - 1) % usize::from(segment) + 1);
        }
        let expected = blasts.iter().flat_map(|&(segment, len)| {
            counted(len).chunks(segment.into()).map(<[u8]>::to_vec).collect::<Vec<_>>()
        });
        assert!(of(apart).all(|received| received.segment == 0));
        assert!(of(apart).map(|received| received.payload.clone()).eq(expected));
        assert_eq!(backend.drops(), Default::default());
    }
}

fn what_comes_alone_is_one_datagram<B: Kernel>() {
    let mut backend = B::make(&wide()).unwrap();
    let (_, address) = open(&mut backend, [127, 0, 0, 1].into(), true);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lengths = [300, 0, 300, 1, 1472, 65_507];
    for len in lengths {
        client.send_to(&counted(len), address).unwrap();
    }
    let recorder = receive(&mut backend, lengths.len());
    for (received, len) in recorder.received.iter().zip(lengths) {
        assert_eq!((received.segment, received.truncated), (0, false));
        assert!(received.payload == counted(len));
        assert_eq!(received.segments, [received.payload.as_slice()]);
        assert_eq!(received.source, client.local_addr().unwrap());
        assert_eq!(received.destination, Some([127, 0, 0, 1].into()));
    }
}

fn a_blast_longer_than_the_buffer_is_marked<B: Kernel>() {
    let mut backend = B::make(&Limits::default()).unwrap();
    let (_, to) = open(&mut backend, [127, 0, 0, 1].into(), true);
    let (sender, _) = open(&mut backend, [127, 0, 0, 1].into(), false);
    let target = Target::Udp { to, from: None, ifindex: 0 };
    let bytes = SharedBytes::from(counted(12_000));
    backend.tx().send_shared(sender, &target, bytes, 1200, 0).unwrap();
    let recorder = receive(&mut backend, 1);
    let [received] = &recorder.received[..] else { panic!("one was sent") };
    assert!(received.truncated && received.segment == 1200);
    assert!(received.payload.len() >= 2048 && counted(12_000).starts_with(&received.payload));
    assert_eq!(received.segments.concat(), received.payload);
    assert_eq!(backend.drops().truncated, 1);
}

/// Nobody's hardware address.
const ABSENT: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

fn frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADROOM + payload.len()];
    frame[HEADROOM..].copy_from_slice(payload);
    let headers = UdpFrame {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: ABSENT,
        src: "10.9.0.1:67".parse().unwrap(),
        dst: SocketAddr::from(([10, 9, 0, 99], port)).to_string().parse().unwrap(),
    };
    headers.seal(&mut frame, payload.len()).unwrap();
    frame
}

fn queue<B: Kernel>(backend: &mut B, socket: SocketId, ifindex: u32, frame: &[u8]) {
    let target = Target::Link { ifindex, mac: ABSENT };
    let write = |slot: &mut [u8]| {
        slot[..frame.len()].copy_from_slice(frame);
        frame.len()
    };
    backend.tx().send(socket, &target, write).unwrap();
}

fn promiscuity(device: &str) -> String {
    let output = Command::new("ip").args(["-d", "link", "show", device]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').skip_while(|word| *word != "promiscuity").nth(1).unwrap().to_owned()
}

fn frames_for_hardware_that_no_interface_has_are_received<B: Kernel>() {
    isolated(|| {
        ip("link add name left type veth peer name right");
        ip("link set left up");
        ip("link set right up");
        let interfaces = interfaces().unwrap();
        let index = |name: &str| interfaces.iter().find(|i| i.name == name).unwrap().ifindex;
        let (left, right) = (index("left"), index("right"));
        let mut backend = B::make(&Limits::default()).unwrap();
        let mut add = |ifindex| {
            let receive = Some(ReceiveFrames { ifindex, port: 68, receive_buffer: Some(1 << 20) });
            let spec = PacketSocketSpec { receive, ..Default::default() };
            backend.add_socket(spec.open().unwrap()).unwrap()
        };
        let (on_left, on_right) = (add(left), add(right));
        assert_eq!(promiscuity("right"), "1");

        // A new link drops what is sent before it has settled.
        let mut settling = Recorder::default();
        let late = bootstorm_net::now() + PATIENCE;
        while settling.received.is_empty() {
            queue(&mut backend, on_left, left, &frame(68, b"ready?"));
            turn(&mut backend, &mut settling);
            assert!(settling.now < late, "no frame arrived");
        }
        for _ in 0..5 {
            turn(&mut backend, &mut settling);
        }
        assert!(settling.received.iter().all(|received| received.socket == on_right));

        // There and back, and what the filter keeps out in between.
        let (there, back) = (frame(68, &counted(1472)), frame(68, b""));
        let mut fragment = frame(68, b"a fragment");
        fragment[20..22].copy_from_slice(&1_u16.to_be_bytes());
        for frame in [&there, &frame(69, b"another port"), &fragment, &there] {
            queue(&mut backend, on_left, left, frame);
        }
        queue(&mut backend, on_right, right, &back);
        let recorder = receive(&mut backend, 3);
        let of = |socket| recorder.received.iter().filter(move |r| r.socket == socket);
        assert!(of(on_right).map(|received| &received.payload).eq([&there, &there]));
        assert!(of(on_right).all(|received| received.ifindex == right));
        assert!(of(on_left).map(|received| &received.payload).eq([&back]));
        assert!(of(on_left).all(|received| received.ifindex == left));
        for received in &recorder.received {
            assert_eq!(received.source, "0.0.0.0:0".parse().unwrap());
            assert_eq!((received.destination, received.segment), (None, 0));
            assert!(!received.truncated);
        }
        assert_eq!(backend.drops(), Default::default());

        backend.remove_socket(on_right).unwrap();
        assert_eq!(promiscuity("right"), "0");
    });
}

fn a_missing_interface_is_named<B: Kernel>() {
    isolated(|| {
        let receive = ReceiveFrames { ifindex: 4000, port: 68, receive_buffer: None };
        let spec = PacketSocketSpec { receive: Some(receive), ..Default::default() };
        let error = spec.open().unwrap_err().to_string();
        assert!(error.contains("PACKET_ADD_MEMBERSHIP on interface 4000"), "{error}");
    });
}
