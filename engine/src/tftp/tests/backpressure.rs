//! What a shard does while sends are in flight, and which transfer sends next.

use std::time::Duration;

use super::alone::{Alone, Send};
use crate::tftp::turns::RETRY;

fn shapes(sends: &[Send]) -> Vec<(usize, u16)> {
    sends.iter().map(|send| (send.len, send.segment)).collect()
}

#[test]
fn a_window_goes_in_two_sends_and_each_waits_until_the_one_before_is_accepted() {
    let mut alone = Alone::new(|_| {});
    alone.ask(4000, 64);
    alone.ack(4000, 0);
    let next = alone.batch_end(true);
    assert_eq!(next, Some(alone.tx.now), "what is left may go as soon as this is accepted");
    // One send holds 65,507 bytes, so 44 blocks of 1472 bytes; a turn is one send.
    let first = alone.taken();
    assert_eq!(shapes(&first), [(44 * 1472, 1472)]);
    alone.batch_end(true);
    assert_eq!(alone.taken(), [], "the first is not accepted yet, and must not be overtaken");
    alone.sent(first[0], None);
    alone.batch_end(true);
    assert_eq!(shapes(&alone.taken()), [(20 * 1472, 1472)]);

    // An ACK inside the window: the blocks behind it are due again, once the send has completed.
    alone.ack(4000, 40);
    alone.batch_end(true);
    assert_eq!(alone.taken(), []);
    alone.sent(first[0], None);
    alone.batch_end(true);
    assert_eq!(shapes(&alone.taken()), [(44 * 1472, 1472)]);

    // The engine is full: the rest is sent by a timer as soon as there is room.
    alone.tx.room = 0;
    alone.sent(first[0], None);
    let retry = alone.batch_end(true).expect("the shard wants to be called again");
    assert!(retry <= alone.tx.now + RETRY);
    alone.tx.room = usize::MAX;
    alone.batch_end(true);
    assert_eq!(shapes(&alone.taken()), [(20 * 1472, 1472)]);

    // A path without segmentation gets one datagram a send.
    alone.sent(first[0], Some(5));
    alone.batch_end(true);
    let single = alone.taken();
    assert_eq!(shapes(&single), [(1472, 0); 44]);
    for send in single {
        alone.sent(send, None);
    }
    alone.batch_end(true);
    assert_eq!(shapes(&alone.taken()), [(1472, 0); 20]);
}

#[test]
fn everybody_sends_once_before_anybody_sends_twice() {
    let mut alone = Alone::new(|_| {});
    (1..=30).for_each(|client| alone.ask(client, if client % 3 == 0 { 1 } else { 64 }));
    (1..=30).for_each(|client| alone.ack(client, 0));
    let mut order = Vec::new();
    while order.len() < 50 {
        let before = order.len();
        alone.batch_end(true);
        let sends = alone.taken();
        let bytes: usize = sends.iter().map(|send| send.len).sum();
        assert!(bytes <= (1 << 20) + 65_536, "{bytes} in one turn");
        for send in sends {
            alone.sent(send, None);
            order.push(send.to);
        }
        assert!(order.len() > before);
    }
    // Then the transfers whose window needs a second send; the others wait for their ACK.
    let windowed: Vec<u16> = (1..=30).filter(|client| client % 3 != 0).collect();
    assert_eq!(order, [(1..=30).collect(), windowed].concat());
}

#[test]
fn after_a_stall_answers_are_read_before_clocks() {
    let mut alone = Alone::new(|_| {});
    (1..=200).for_each(|client| alone.ask(client, 1));
    (1..=200).for_each(|client| alone.ack(client, 0));
    while alone.metrics().bytes.get() < 200 * 1468 {
        alone.batch_end(true);
        for send in alone.taken() {
            alone.sent(send, None);
        }
    }
    // The process stood still for three seconds; all ACKs wait in the socket.
    alone.tx.now = alone.tx.now + Duration::from_secs(3);
    for clients in [1..=100, 101..=200] {
        assert_eq!(alone.metrics().retransmits.get(), 0);
        clients.for_each(|client| alone.ack(client, 1));
        alone.batch_end(false);
    }
    while alone.metrics().bytes.get() < 2 * 200 * 1468 {
        alone.batch_end(true);
        for send in alone.taken() {
            alone.sent(send, None);
        }
    }
    assert_eq!(alone.metrics().retransmits.get(), 0);
    // Blocks for clients that are silent are repeated even if the sockets are never empty.
    for _ in 0..100 {
        alone.tx.now = alone.tx.now + Duration::from_millis(100);
        alone.batch_end(false);
        for send in alone.taken() {
            alone.sent(send, None);
        }
    }
    assert!(alone.metrics().retransmits.get() >= 200);
}

#[test]
fn an_interface_sends_no_more_than_it_may_and_everybody_gets_a_share() {
    let mut alone = Alone::new(|_| {});
    // 125 MB/s.
    alone.server.set_rates([(1, 125_000_000)]);
    (1..=20).for_each(|client| alone.ask(client, 64));
    (1..=20).for_each(|client| alone.ack(client, 0));
    let start = alone.tx.now;
    let (mut bytes, mut order) = (0, Vec::new());
    for _ in 0..10_000 {
        let Some(next) = alone.batch_end(true) else { break };
        for send in alone.taken() {
            alone.sent(send, None);
            bytes += send.len as u64 + 46 * (send.len as u64).div_ceil(1472);
            order.push(send.to);
        }
        if order.len() >= 40 {
            break;
        }
        alone.tx.now = alone.tx.now.max(next);
    }
    assert_eq!(order[..20], (1..=20).collect::<Vec<u16>>());
    assert_eq!(order[20..], (1..=20).collect::<Vec<u16>>());
    let allowed = alone.tx.now.since(start).as_secs_f64() * 125e6 + 2.0 * 125e3 + 65_536.0;
    assert!(bytes as f64 <= allowed, "{bytes} of {allowed}");
}

#[test]
fn a_client_gets_the_rate_it_is_granted() {
    // 1468 bytes take 146.8 us.
    let mut alone = Alone::new(|config| config.client_rate = Some(10_000_000));
    alone.ask(4000, 64);
    alone.ack(4000, 0);
    let (start, mut blocks) = (alone.tx.now, 0);
    loop {
        let next = alone.batch_end(true).expect("more is due");
        for send in alone.taken() {
            alone.sent(send, None);
            blocks += send.len / 1472;
        }
        if blocks == 64 {
            break;
        }
        alone.tx.now = alone.tx.now.max(next);
    }
    let took = alone.tx.now.since(start).as_micros();
    assert!((8900..9500).contains(&took), "{took} us for a window of 9395");
}
