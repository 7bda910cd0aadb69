//! The tests that every backend passes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bootstorm_net::{Backend, Limits, Priority, Refused, SharedBytes, SocketId, Target, Transmit};
use bootstorm_protocols::time::Moment;

use crate::bed::{Bed, PATIENCE, Recorder};

fn echoing() -> Recorder {
    Recorder { echo: true, ..Recorder::default() }
}

fn fill(byte: u8) -> impl FnOnce(&mut [u8]) -> usize {
    move |slot| {
        slot[..3].fill(byte);
        3
    }
}

/// Turns until everything that was queued has been reported or sent.
fn drain<B: Bed>(bed: &mut B, recorder: &mut Recorder) -> Vec<Vec<u8>> {
    for _ in 0..3 {
        bed.turn(recorder);
    }
    std::iter::from_fn(|| bed.client_receives()).collect()
}

pub(crate) fn echoes_every_datagram_and_knows_where_it_came_from<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (socket, address) = bed.open("0.0.0.0".parse().unwrap(), 0).unwrap();
    let to = (bed.ip(false), address.port()).into();
    let client = bed.client(false);
    let mut recorder = echoing();
    for number in 0..100_u32 {
        bed.client_sends(to, &number.to_be_bytes().repeat(75));
    }
    bed.turn_until(&mut recorder, |r| r.received.len() == 100);
    let replies = drain(&mut bed, &mut recorder);
    let sent = (0..100_u32).map(|number| number.to_be_bytes().repeat(75));
    assert!(replies.into_iter().eq(sent));
    for received in &recorder.received {
        assert_eq!((received.socket, received.source), (socket, client));
        assert_eq!(received.destination, Some(bed.ip(false)));
        assert!(!received.truncated && received.segment == 0);
        assert_eq!(received.segments, [received.payload.as_slice()]);
    }
    assert_eq!(bed.backend().drops(), Default::default());
}

/// More than the backend has buffers for wait, others pass, and no turn spins meanwhile.
pub(crate) fn what_the_handler_does_not_take_waits<B: Bed>() {
    let mut bed = B::new(Limits { middle: 4, batch: 8, ..Limits::default() });
    let (refused, to_refused) = bed.open_with(Priority::Middle).unwrap();
    let (_, to_other) = bed.open_with(Priority::Bulk).unwrap();
    let mut recorder = Recorder { refuses: Some(Priority::Middle), ..Recorder::default() };
    bed.turn(&mut recorder);
    for number in 0..40 {
        bed.client_sends(to_refused, &[number]);
    }
    bed.client_sends(to_other, b"other");
    bed.turn_until(&mut recorder, |r| r.received.len() == 1);
    for _ in 0..20 {
        bed.turn(&mut recorder);
    }
    assert!(recorder.dry && recorder.received.iter().all(|received| received.socket != refused));
    recorder.refuses = None;
    bed.turn_until(&mut recorder, |r| r.received.len() == 41);
    let numbers = recorder.received[1..].iter().map(|received| received.payload[0]);
    assert!(numbers.eq(0..40));
    // And again, after what waited was taken.
    recorder.refuses = Some(Priority::Middle);
    bed.turn(&mut recorder);
    bed.client_sends(to_refused, b"last");
    for _ in 0..5 {
        bed.turn(&mut recorder);
    }
    assert_eq!(recorder.received.len(), 41);
    recorder.refuses = None;
    bed.turn_until(&mut recorder, |r| r.received.len() == 42);
}

pub(crate) fn speaks_ipv6<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (_, address) = bed.open("::".parse().unwrap(), 0).unwrap();
    let client = bed.client(true);
    let mut recorder = echoing();
    bed.client_sends((bed.ip(true), address.port()).into(), b"six");
    bed.turn_until(&mut recorder, |r| r.received.len() == 1);
    assert_eq!(recorder.received[0].source, client);
    assert_eq!(recorder.received[0].destination, Some(bed.ip(true)));
    assert_eq!(drain(&mut bed, &mut recorder), [b"six"]);
}

pub(crate) fn carries_empty_datagrams<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (_, address) = bed.open_v4();
    bed.client(false);
    let mut recorder = echoing();
    bed.client_sends(address, b"");
    bed.client_sends(address, b"x");
    bed.turn_until(&mut recorder, |r| r.received.len() == 2);
    assert!(recorder.received[0].payload.is_empty() && !recorder.received[0].truncated);
    assert_eq!(drain(&mut bed, &mut recorder), [b"".to_vec(), b"x".to_vec()]);
}

pub(crate) fn marks_truncated_datagrams<B: Bed>() {
    let mut bed = B::new(Limits { payload_len: 300, ..Limits::default() });
    let (_, address) = bed.open_v4();
    let payload: Vec<u8> = (0..1400).map(|at| at as u8).collect();
    let mut recorder = Recorder::default();
    bed.client_sends(address, &payload);
    bed.client_sends(address, &payload[..300]);
    bed.turn_until(&mut recorder, |r| r.received.len() == 2);
    let [cut, whole] = &recorder.received[..] else { panic!("two were sent") };
    assert!(cut.truncated && (300..500).contains(&cut.payload.len()));
    assert!(payload.starts_with(&cut.payload));
    assert!(!whole.truncated && whole.payload == payload[..300]);
    assert_eq!(bed.backend().drops().truncated, 1);
}

pub(crate) fn holds_until_submitted<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    let tx = bed.backend().tx();
    let first = tx.hold(socket, &target, fill(1)).unwrap();
    let second = tx.hold(socket, &target, fill(2)).unwrap();
    tx.send(socket, &target, fill(3)).unwrap();
    assert_eq!(drain(&mut bed, &mut recorder), [[3; 3]]);
    let tx = bed.backend().tx();
    tx.submit(second);
    tx.submit(first);
    tx.submit(first);
    assert_eq!(drain(&mut bed, &mut recorder), [[2; 3], [1; 3]]);
}

pub(crate) fn forgets_what_is_discarded<B: Bed>() {
    let mut bed = B::new(Limits { slots: 1, held: 1, ..Limits::default() });
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let tx = bed.backend().tx();
    let stale = tx.hold(socket, &target, fill(1)).unwrap();
    tx.discard(stale);
    let held = tx.hold(socket, &target, fill(2)).unwrap();
    assert_ne!(held, stale);
    tx.submit(stale);
    tx.discard(stale);
    let mut recorder = Recorder::default();
    assert!(drain(&mut bed, &mut recorder).is_empty());
    bed.backend().tx().submit(held);
    assert_eq!(drain(&mut bed, &mut recorder), [[2; 3]]);
}

pub(crate) fn refuses_when_slots_are_used_up<B: Bed>() {
    let mut bed = B::new(Limits { slots: 4, shared: 2, ..Limits::default() });
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    let tx = bed.backend().tx();
    let held = tx.hold(socket, &target, fill(0)).unwrap();
    for byte in 1..4 {
        tx.send(socket, &target, fill(byte)).unwrap();
    }
    assert_eq!(tx.send(socket, &target, fill(9)), Err(Refused::Full));
    assert_eq!(tx.hold(socket, &target, fill(9)), Err(Refused::Full));
    // Shared bytes have slots of their own: a blast cannot starve the replies.
    let bytes = SharedBytes::from(vec![7; 3]);
    tx.send_shared(socket, &target, bytes.clone(), 0, 1).unwrap();
    tx.send_shared(socket, &target, bytes.clone(), 0, 2).unwrap();
    assert_eq!(tx.send_shared(socket, &target, bytes, 0, 3), Err(Refused::Full));
    assert_eq!(drain(&mut bed, &mut recorder), [[1; 3], [2; 3], [3; 3], [7; 3], [7; 3]]);
    assert_eq!(bed.backend().drops().slots_full, 3);
    // All but the held one are free again.
    let tx = bed.backend().tx();
    for byte in 1..4 {
        tx.send(socket, &target, fill(byte)).unwrap();
    }
    assert_eq!(tx.send(socket, &target, fill(9)), Err(Refused::Full));
    tx.discard(held);
    assert_eq!(tx.send(socket, &target, fill(4)), Ok(()));
    assert_eq!(drain(&mut bed, &mut recorder).len(), 4);
}

/// A disk that stalls: what waits for it does not take the slots of what need not wait.
pub(crate) fn what_is_held_leaves_slots_for_the_rest<B: Bed>() {
    let mut bed = B::new(Limits { slots: 10, held: 6, ..Limits::default() });
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    let tx = bed.backend().tx();
    let held: Vec<_> = (0..6).map(|byte| tx.hold(socket, &target, fill(byte)).unwrap()).collect();
    for round in 1..=20 {
        let tx = bed.backend().tx();
        assert_eq!(tx.hold(socket, &target, fill(9)), Err(Refused::Full));
        for byte in 10..14 {
            assert_eq!(tx.send(socket, &target, fill(byte)), Ok(()));
        }
        assert_eq!(drain(&mut bed, &mut recorder), [[10; 3], [11; 3], [12; 3], [13; 3]]);
        let drops = bed.backend().drops();
        assert_eq!((drops.held_full, drops.slots_full), (round, 0));
    }
    // What is submitted or discarded makes room for others.
    let tx = bed.backend().tx();
    tx.submit(held[0]);
    tx.submit(held[0]);
    tx.discard(held[1]);
    tx.discard(held[1]);
    for byte in [20, 21] {
        tx.hold(socket, &target, fill(byte)).unwrap();
    }
    assert_eq!(tx.hold(socket, &target, fill(9)), Err(Refused::Full));
    assert_eq!(drain(&mut bed, &mut recorder), [[0; 3]]);
}

pub(crate) fn refuses_unknown_sockets<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    bed.backend().remove_socket(socket).unwrap();
    assert!(bed.backend().remove_socket(socket).is_err());
    let tx = bed.backend().tx();
    assert_eq!(tx.send(socket, &target, fill(1)), Err(Refused::NoSocket));
    let bytes = SharedBytes::from(vec![1]);
    assert_eq!(tx.send_shared(socket, &target, bytes, 0, 1), Err(Refused::NoSocket));
}

pub(crate) fn cuts_shared_bytes_into_segments_in_order<B: Bed>() {
    const BLOCK: usize = 1200;
    let mut bed = B::new(Limits::default());
    let (socket, _) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let image: Vec<u8> = (0..44_u8).flat_map(|block| [block; BLOCK]).chain([99; 17]).collect();
    let image = Arc::new(image);
    let mut recorder = Recorder::default();
    let tx = bed.backend().tx();
    for (token, range) in [(5, 0..44 * BLOCK + 17), (6, 0..BLOCK), (7, 44 * BLOCK..44 * BLOCK + 17)]
    {
        let bytes = SharedBytes::new(image.clone(), range).unwrap();
        tx.send_shared(socket, &target, bytes, BLOCK as u16, token).unwrap();
    }
    bed.turn_until(&mut recorder, |r| r.sent.len() == 3);
    assert_eq!(recorder.sent, [(5, Ok(())), (6, Ok(())), (7, Ok(()))]);
    let got = drain(&mut bed, &mut recorder);
    let blocks = image.chunks(BLOCK).chain([&image[..BLOCK], &image[44 * BLOCK..]]);
    assert!(got.iter().map(Vec::as_slice).eq(blocks));
    // Nobody keeps the bytes when it is over.
    assert_eq!(Arc::strong_count(&image), 1);
}

/// Whatever way they were queued: shared bytes of two transfers, replies, and what was held.
pub(crate) fn keeps_the_order_of_one_socket<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let sockets = [bed.open_v4().0, bed.open_v4().0];
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    let one =
        |socket, number| move |slot: &mut [u8]| (slot[..2].copy_from_slice(&[socket, number]), 2).1;
    for (at, socket) in (0..).zip(sockets) {
        let tx = bed.backend().tx();
        let held = tx.hold(socket, &target, one(at, 90)).unwrap();
        for number in 0..30 {
            let (bytes, token) = (SharedBytes::from(vec![at, 3 * number]), (number % 2).into());
            tx.send_shared(socket, &target, bytes.clone(), 0, token).unwrap();
            tx.send(socket, &target, one(at, 3 * number + 1)).unwrap();
            let bytes = SharedBytes::from(vec![at, 3 * number + 2]);
            tx.send_shared(socket, &target, bytes, 0, token).unwrap();
        }
        tx.submit(held);
    }
    bed.turn_until(&mut recorder, |r| r.sent.len() == 120);
    let got = drain(&mut bed, &mut recorder);
    for socket in 0..2 {
        let numbers = got.iter().filter(|bytes| bytes[0] == socket).map(|bytes| bytes[1]);
        assert!(numbers.eq(0..91));
    }
    assert!(recorder.sent.iter().all(|(_, result)| result.is_ok()));
}

pub(crate) fn is_woken_by_another_thread<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let count = Arc::new(AtomicUsize::new(0));
    let mut recorder = Recorder::default();
    for round in 1..=20 {
        let (waker, shared) = (bed.backend().waker(), count.clone());
        let thread = std::thread::spawn(move || {
            shared.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        });
        bed.turn_until(&mut recorder, |r| r.woken == round);
        // What the thread did before it woke us is visible.
        assert_eq!(count.load(Ordering::Relaxed), round);
        thread.join().unwrap();
    }
}

pub(crate) fn makes_many_wakes_one<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let waker = bed.backend().waker();
    for _ in 0..1000 {
        waker.wake();
    }
    let mut recorder = Recorder::default();
    bed.turn_until(&mut recorder, |r| r.woken > 0);
    bed.turn(&mut recorder);
    bed.turn(&mut recorder);
    assert_eq!(recorder.woken, 1);
    waker.wake();
    bed.turn_until(&mut recorder, |r| r.woken == 2);
    // A waker may outlive its backend.
    drop(bed);
    waker.wake();
    waker.clone().wake();
}

pub(crate) fn returns_when_the_deadline_is_over<B: Bed>() {
    let mut bed = B::new(Limits::default());
    bed.open_v4();
    let deadline = bed.now() + Duration::from_millis(20);
    let mut recorder = Recorder { deadline: Some(deadline), ..Recorder::default() };
    let began = Instant::now();
    while recorder.now < deadline && began.elapsed() < PATIENCE {
        assert_eq!(bed.turn(&mut recorder), Some(deadline));
    }
    assert!(recorder.now >= deadline);
}

pub(crate) fn does_not_wait_for_a_past_deadline<B: Bed>() {
    let mut bed = B::new(Limits::default());
    bed.open_v4();
    let mut recorder = Recorder::default();
    for _ in 0..3 {
        bed.backend().turn(Some(Moment::default()), &mut recorder).unwrap();
    }
    assert_eq!(recorder.ends, 3);
}

pub(crate) fn survives_send_errors<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let (socket, address) = bed.open("0.0.0.0".parse().unwrap(), 0).unwrap();
    let to = bed.client(false);
    // No address of ours.
    let bad = Target::Udp { to, from: Some("192.0.2.99".parse().unwrap()), ifindex: 0 };
    let good = Target::Udp { to, from: None, ifindex: 0 };
    let bytes = SharedBytes::from(vec![5; 3]);
    let mut recorder = echoing();
    let tx = bed.backend().tx();
    tx.send(socket, &good, fill(1)).unwrap();
    tx.send(socket, &bad, fill(2)).unwrap();
    tx.send(socket, &good, fill(3)).unwrap();
    tx.send_shared(socket, &bad, bytes.clone(), 0, 8).unwrap();
    tx.send_shared(socket, &good, bytes, 0, 9).unwrap();
    tx.send_reported(socket, &bad, 10, fill(6)).unwrap();
    tx.send_reported(socket, &good, 11, fill(7)).unwrap();
    bed.turn_until(&mut recorder, |r| r.sent.len() == 4);
    let sent = recorder.sent.iter().map(|(token, result)| (*token, result.is_ok()));
    assert_eq!(sent.collect::<Vec<_>>(), [(8, false), (9, true), (10, false), (11, true)]);
    assert_eq!(drain(&mut bed, &mut recorder), [[1; 3], [3; 3], [5; 3], [7; 3]]);
    // A slot that was used again says nothing for who does not ask.
    bed.backend().tx().send(socket, &good, fill(8)).unwrap();
    assert_eq!(drain(&mut bed, &mut recorder), [[8; 3]]);
    assert_eq!(recorder.sent.len(), 4);
    let errors = bed.backend().drops().send;
    assert_eq!(errors.total(), 3, "{errors:?}");
    // And it still serves.
    bed.client_sends((bed.ip(false), address.port()).into(), b"hello");
    bed.turn_until(&mut recorder, |r| r.received.len() == 1);
    assert_eq!(drain(&mut bed, &mut recorder), [b"hello"]);
}

pub(crate) fn recovers_from_running_out_of_buffers<B: Bed>() {
    let mut bed = B::new(Limits { buffers: 4, batch: 3, ..Limits::default() });
    let (_, address) = bed.open_v4();
    bed.client(false);
    let mut recorder = echoing();
    for round in 1..=3 {
        for number in 0..50_u8 {
            bed.client_sends(address, &[number]);
        }
        bed.turn_until(&mut recorder, |r| r.received.len() == 50 * round);
    }
    let order: Vec<u8> = recorder.received.iter().map(|r| r.payload[0]).collect();
    assert!(order.iter().copied().eq((0..50).chain(0..50).chain(0..50)));
    assert_eq!(drain(&mut bed, &mut recorder).len(), 150);
    let drops = bed.backend().drops();
    if B::RECEIVES_INTO_A_RING {
        assert!(drops.no_buffers > 0);
    }
    assert_eq!((drops.kernel, drops.receive), (0, 0));
}

pub(crate) fn forgets_a_removed_socket<B: Bed>() {
    let mut bed = B::new(Limits::default());
    let ip = bed.ip(false);
    let (first, address) = bed.open_v4();
    let (second, other) = bed.open_v4();
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let mut recorder = Recorder::default();
    bed.turn(&mut recorder);
    // Armed, with datagrams waiting and sends of all kinds under way.
    for byte in 0..10 {
        bed.client_sends(address, &[byte]);
    }
    let tx = bed.backend().tx();
    let held = tx.hold(first, &target, fill(1)).unwrap();
    tx.send(first, &target, fill(2)).unwrap();
    tx.send_shared(first, &target, SharedBytes::from(vec![3; 3]), 0, 4).unwrap();
    bed.arrive();
    bed.backend().remove_socket(first).unwrap();
    // Its port is free at once, and its id.
    let (again, _) = bed.open(ip, address.port()).unwrap();
    assert_eq!(again.index(), first.index());
    bed.backend().tx().submit(held);
    assert_eq!(bed.backend().tx().send(first, &target, fill(5)), Err(Refused::NoSocket));
    bed.turn_until(&mut recorder, |r| r.sent.len() == 1);
    assert!(recorder.sent[0].1.is_err());
    assert!(drain(&mut bed, &mut recorder).is_empty());
    assert!(recorder.received.is_empty());
    bed.client_sends(address, b"new");
    bed.client_sends(other, b"old");
    bed.turn_until(&mut recorder, |r| r.received.len() == 2);
    let sockets: HashSet<SocketId> = recorder.received.iter().map(|r| r.socket).collect();
    assert_eq!(sockets, HashSet::from([again, second]));
}

pub(crate) fn serves_many_sockets<B: Bed>() {
    let mut bed = B::new(Limits { batch: 4, ..Limits::default() });
    bed.client(false);
    let sockets: Vec<_> = (0..40).map(|_| bed.open_v4()).collect();
    let mut recorder = echoing();
    for (socket, address) in &sockets {
        bed.client_sends(*address, &[socket.index() as u8]);
        bed.client_sends(*address, &[socket.index() as u8]);
    }
    bed.turn_until(&mut recorder, |r| r.received.len() == 80);
    for received in &recorder.received {
        assert_eq!(received.payload, [received.socket.index() as u8]);
    }
    assert_eq!(drain(&mut bed, &mut recorder).len(), 80);
}

/// More than a completion queue is sized for, all with something to do at once.
pub(crate) fn serves_more_sockets_than_completions_fit<B: Bed>() {
    // Descriptors for four tests like this at once.
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let mut bed = B::new(Limits { buffers: 16, ..Limits::default() });
    let target = Target::Udp { to: bed.client(false), from: None, ifindex: 0 };
    let nowhere =
        Target::Udp { to: bed.client(false), from: Some([192, 0, 2, 99].into()), ifindex: 0 };
    let mut sockets: Vec<_> = (0..700).map(|_| bed.open_v4()).collect();
    let mut recorder = Recorder::default();
    for _ in 0..5 {
        bed.turn(&mut recorder);
    }
    for round in 0..2_u8 {
        for (at, &(socket, address)) in (0_u64..).zip(&sockets) {
            bed.client_sends(address, &[round]);
            // The client's buffer has room for some only.
            let target = match at % 7 {
                0 => &nowhere,
                1 => &target,
                _ => continue,
            };
            bed.backend().tx().send_shared(socket, target, vec![2].into(), 0, at).unwrap();
        }
        bed.turn_until(&mut recorder, |r| r.received.len() == 700 && r.sent.len() == 200);
        assert!(recorder.sent.iter().all(|(at, result)| result.is_err() == (at % 7 == 0)));
        let received: HashSet<SocketId> = recorder.received.iter().map(|r| r.socket).collect();
        assert_eq!(received, sockets.iter().map(|(socket, _)| *socket).collect());
        assert_eq!(drain(&mut bed, &mut recorder).len(), 100);
        recorder.sent.clear();
        recorder.received.clear();
        // Others take the place of a third of them.
        for (_, address) in sockets.iter().step_by(3) {
            bed.client_sends(*address, b"for the one before");
        }
        bed.arrive();
        for replaced in sockets.iter_mut().step_by(3) {
            bed.backend().remove_socket(replaced.0).unwrap();
            *replaced = bed.open_v4();
        }
    }
    assert_eq!(bed.backend().drops().send.total(), 200);
}

/// An empty datagram ends a multishot receive: what is behind it is not forgotten, and when nothing
/// is, the sockets are dry at once.
pub(crate) fn empty_datagrams_hide_nothing<B: Bed>() {
    for last in [b"".as_slice(), b"x"] {
        let mut bed = B::new(Limits::default());
        let (_, address) = bed.open_v4();
        let mut recorder = Recorder::default();
        bed.turn(&mut recorder);
        bed.turn(&mut recorder);
        for payload in [b"", b"a".as_slice(), b"", b"", b"b", last] {
            bed.client_sends(address, payload);
        }
        let mut turns = 0;
        while recorder.received.len() < 6 {
            bed.turn(&mut recorder);
            turns += 1;
        }
        assert!(recorder.dry && turns <= 8, "{turns} turns");
        let got: Vec<_> = recorder.received.iter().map(|r| r.payload.as_slice()).collect();
        assert_eq!(got, [b"", b"a".as_slice(), b"", b"", b"b", last]);
    }
}

pub(crate) fn says_when_the_sockets_are_dry<B: Bed>() {
    // With more buffers than come at once, and with fewer.
    for buffers in [64, 8] {
        let mut bed = B::new(Limits { batch: 8, buffers, ..Limits::default() });
        let (_, address) = bed.open_v4();
        let mut recorder = Recorder::default();
        bed.turn(&mut recorder);
        bed.turn(&mut recorder);
        assert!(recorder.dry);
        for byte in 0..20 {
            bed.client_sends(address, &[byte]);
        }
        bed.turn_until(&mut recorder, |r| !r.received.is_empty());
        while recorder.received.len() < 20 {
            assert!(!recorder.dry);
            bed.turn(&mut recorder);
        }
        bed.turn_until(&mut recorder, |r| r.dry);
    }
}
