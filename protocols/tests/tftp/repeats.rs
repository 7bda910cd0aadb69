//! What a sender makes of a client that repeats its ACK: never a packet at once, but the end of its
//! back-off, unless the ACK only answers a repeated block.

use std::collections::VecDeque;
use std::time::Duration;

use bootstorm_protocols::tftp::{Acked, Negotiated, RetryPolicy, Sender, SenderSend};
use bootstorm_protocols::time::Moment;

const START: Moment = Moment::from_nanos(1_000_000_000);
const MIN: Duration = Duration::from_millis(200);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A transfer in lockstep whose first ten blocks were answered within a millisecond each.
fn fast(blocks: u64) -> (Sender, Moment) {
    let mut sender = Sender::new(&Negotiated::default(), &RetryPolicy::default(), START);
    sender.content(blocks, Some(blocks));
    let mut now = START;
    for block in 1..=10 {
        sender.sent(1, now);
        now = now + ms(1);
        assert_eq!(sender.on_ack(block, now), Acked::Progress);
    }
    (sender, now)
}

/// The next deadline passes, and the block is sent again.
fn expire(sender: &mut Sender) -> Moment {
    let now = sender.deadline().expect("a block is unanswered");
    sender.on_deadline(now).expect("tries are left");
    assert_eq!(sender.pending(), Some(SenderSend::Blocks { first: 11, count: 1 }));
    sender.sent(1, now);
    now
}

#[test]
fn a_client_that_repeats_itself_need_not_wait_for_the_back_off() {
    let (mut sender, now) = fast(100);
    sender.sent(1, now);
    for _ in 0..4 {
        expire(&mut sender);
    }
    let latest = expire(&mut sender);
    assert_eq!(sender.deadline(), Some(latest + ms(5000)), "backed off");
    assert_eq!(sender.on_ack(10, latest + ms(50)), Acked::Ignored);
    assert_eq!(sender.pending(), None, "no packet at once");
    assert_eq!(sender.deadline(), Some(latest + MIN));
    // Nor does it come sooner for another one, and a late one does not put it off.
    assert_eq!(sender.on_ack(10, latest + ms(60)), Acked::Ignored);
    assert_eq!(sender.deadline(), Some(latest + MIN));
    let latest = expire(&mut sender);
    let late = latest + ms(300);
    assert_eq!(sender.on_ack(10, late), Acked::Ignored);
    assert_eq!(sender.deadline(), Some(late));
}

#[test]
fn an_ack_that_answers_a_repeated_block_means_nothing() {
    let (mut sender, now) = fast(100);
    sender.sent(1, now);
    let latest = expire(&mut sender);
    assert_eq!(sender.on_ack(11, latest + ms(900)), Acked::Progress);
    let sent = latest + ms(900);
    sender.sent(1, sent);
    let deadline = sender.deadline();
    // Block 11 was sent twice, so it may be answered twice.
    assert_eq!(sender.on_ack(11, sent + ms(300)), Acked::Ignored);
    assert_eq!(sender.deadline(), deadline);
    assert_eq!(sender.on_ack(11, sent + ms(350)), Acked::Ignored);
    assert_eq!(sender.deadline(), Some(sent + ms(350)), "this one is the client's own");
}

#[test]
fn a_slow_client_does_not_get_every_block_twice() {
    let blocks = 60;
    let (mut sender, mut now) = fast(blocks);
    // It takes a second for each packet, and answers every copy.
    let mut received: VecDeque<(Moment, u16)> = VecDeque::new();
    let (mut idle_at, mut sends) = (now, 0);
    loop {
        if let Some(SenderSend::Blocks { first, .. }) = sender.pending() {
            sender.sent(1, now);
            sends += 1;
            idle_at = idle_at.max(now) + ms(1000);
            received.push_back((idle_at, first as u16));
        }
        let ack = received.front().map(|(at, _)| *at);
        let next = [ack, sender.deadline()].into_iter().flatten().min().expect("it goes on");
        now = now.max(next);
        if ack == Some(now) {
            let (_, block) = received.pop_front().expect("it is there");
            if sender.on_ack(block, now) == Acked::Finished {
                break;
            }
        } else {
            sender.on_deadline(now).expect("tries are left");
        }
    }
    assert!(sends <= blocks, "{sends} packets for {} blocks", blocks - 10);
}

#[test]
fn a_client_that_only_repeats_itself_is_given_up_in_the_end() {
    let (mut sender, mut now) = fast(100);
    let began = now;
    sender.sent(1, now);
    loop {
        now = sender.deadline().expect("a block is unanswered");
        if sender.on_deadline(now).is_err() {
            break;
        }
        sender.sent(1, now);
        sender.on_ack(10, now + ms(100));
    }
    let total = RetryPolicy::default().total;
    assert!((total..total + ms(5000)).contains(&now.since(began)), "{:?}", now.since(began));
}
