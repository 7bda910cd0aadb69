//! Whole transfers: every one byte-exact, and no more packets than the faults explain.

use std::time::Duration;

use bootstorm_protocols::tftp::{
    Acked, Arrived, Limits, Negotiated, Receiver, ReceiverSend, RetryPolicy, Rollover, Sender,
    SenderSend,
};
use bootstorm_protocols::time::Moment;
use proptest::prelude::*;

use crate::pair::{CLEAN, Channel, Pair, Random, Report};

fn file(len: usize) -> Vec<u8> {
    let mut random = Random(len as u64);
    (0..len).map(|_| random.next() as u8).collect()
}

fn options(blksize: Option<u16>, windowsize: Option<u16>) -> Negotiated {
    Negotiated { blksize, windowsize, ..Negotiated::default() }
}

/// Every packet beyond one for each block is explained by a fault or a timeout, and one of those
/// costs a window at most.
fn assert_exact_and_bounded(pair: &Pair, report: &Report) {
    assert!(report.received == pair.file, "seed {}: the file differs", pair.seed);
    let granted = &report.granted;
    let blocks = pair.file.len() as u64 / u64::from(granted.block_len()) + 1;
    let events = report.faults + report.timeouts;
    let most = blocks + events * u64::from(granted.window_len());
    assert!(
        report.data_packets <= most,
        "seed {}: {} packets for {blocks} blocks, {} faults, {} timeouts, {granted:?}",
        pair.seed,
        report.data_packets,
        report.faults,
        report.timeouts,
    );
}

#[test]
fn a_clean_network_carries_each_block_once_and_one_ack_a_window() {
    for blksize in [None, Some(8), Some(512), Some(1468), Some(65_464)] {
        for window in [None, Some(1), Some(2), Some(16), Some(65_535)] {
            for len in [0, 1, 511, 512, 513, 1468 * 4, 1468 * 64, 70_001] {
                let pair = Pair::new(file(len), options(blksize, window), CLEAN, 1);
                let report = pair.run();
                let granted = report.granted;
                let blocks = len as u64 / u64::from(granted.block_len()) + 1;
                assert!(report.received == pair.file);
                assert_eq!(report.data_packets, blocks, "{granted:?} {len}");
                let windows = blocks.div_ceil(granted.window_len().into());
                let opening = u64::from(granted.needs_option_ack());
                assert_eq!(report.ack_packets, windows + opening, "{granted:?} {len}");
                assert_eq!(report.timeouts, 0);
            }
        }
    }
}

#[test]
fn limits_of_the_server_hold() {
    let mut pair = Pair::new(file(50_000), options(Some(65_464), Some(65_535)), CLEAN, 1);
    pair.limits = Limits { max_blksize: 1468, max_windowsize: 8, multicast: false };
    let report = pair.run();
    assert!(report.received == pair.file);
    assert_eq!((report.granted.blksize, report.granted.windowsize), (Some(1468), Some(8)));
}

#[test]
fn block_numbers_wrap_in_lockstep_and_inside_windows() {
    for rollover in [None, Some(Rollover::ToZero), Some(Rollover::ToOne)] {
        for window in [None, Some(48)] {
            let asked = Negotiated { rollover, ..options(Some(8), window) };
            let channel = Channel { loss: 1, ..CLEAN };
            // Twice around, and the last block on a border.
            let pair = Pair::new(file(8 * 2 * 65_536), asked, channel, 7);
            assert_exact_and_bounded(&pair, &pair.run());
        }
    }
}

#[test]
fn when_every_packet_is_doubled_lockstep_sends_each_block_once() {
    let channel = Channel { duplication: 100, ..CLEAN };
    let pair = Pair::new(file(200_000), options(None, None), channel, 3);
    let report = pair.run();
    assert!(report.received == pair.file);
    assert_eq!(report.data_packets, 200_000 / 512 + 1, "the Sorcerer's Apprentice is here");
}

#[test]
fn when_every_packet_is_doubled_and_delayed_windows_do_not_multiply() {
    let channel = Channel { duplication: 100, reordering: 100, delay: 5_000, loss: 0 };
    for window in [2, 4, 16, 64] {
        let pair = Pair::new(file(2_000_000), options(Some(1024), Some(window)), channel, 3);
        let report = pair.run();
        assert_exact_and_bounded(&pair, &report);
    }
}

#[test]
fn a_slow_disk_costs_no_packets() {
    let mut pair = Pair::new(file(3_000_000), options(Some(1468), Some(32)), CLEAN, 5);
    pair.disk = Some(1);
    let report = pair.run();
    assert!(report.received == pair.file);
    assert!(report.data_packets <= 3_000_000 / 1468 + 1 + report.timeouts * 32);
    assert!(report.took >= Duration::from_secs(2), "the disk was not slow: {:?}", report.took);
}

/// What the shortest interval costs on a lossy path in lockstep. A block takes one more interval
/// for each time that it or its ACK is lost: with `loss` of each, 1 / (1 - loss)^2 - 1 intervals on
/// average, and a little more, because a second loss in a row waits for twice the interval.
#[test]
fn a_lossy_path_costs_its_share_of_the_shortest_interval() {
    for (loss, expected) in [(1, 0.020), (5, 0.108), (10, 0.235)] {
        for min in [50, 200, 1000] {
            let channel = Channel { loss, ..CLEAN };
            let mut pair = Pair::new(file(4000 * 512), options(None, None), channel, 4);
            let min = Duration::from_millis(min);
            pair.policy = RetryPolicy { min, ..pair.policy };
            let report = pair.run();
            assert_exact_and_bounded(&pair, &report);
            let share = report.took.as_secs_f64() / 4000.0 / min.as_secs_f64();
            println!(
                "loss {loss} %, at least {min:?}: {share:.3} of it a block, {:.1?} in all",
                report.took
            );
            assert!((0.7 * expected..1.5 * expected).contains(&share), "{share} at {loss} %");
        }
    }
}

#[test]
fn uploads_arrive_too() {
    for window in [None, Some(1), Some(7), Some(64)] {
        for loss in [0, 10] {
            let channel = Channel { loss, duplication: 2, reordering: 2, delay: 200 };
            let mut pair = Pair::new(file(300_000), options(Some(1024), window), channel, 11);
            pair.upload = true;
            assert_exact_and_bounded(&pair, &pair.run());
        }
    }
}

#[test]
fn the_agreed_timeout_is_the_interval_of_both_ends() {
    let asked = Negotiated { timeout: Some(7), ..Negotiated::default() };
    let start = Moment::from_nanos(5);
    let mut sender = Sender::new(&asked, &RetryPolicy::default(), start);
    assert_eq!(sender.pending(), Some(SenderSend::OptionAck));
    sender.sent_option_ack(start);
    assert_eq!(sender.deadline(), Some(start + Duration::from_secs(7)));
    sender.on_deadline(start + Duration::from_secs(7)).unwrap();
    let again = start + Duration::from_secs(8);
    sender.sent_option_ack(again);
    assert_eq!(sender.deadline(), Some(again + Duration::from_secs(7)));

    let mut receiver = Receiver::serving(&asked, &RetryPolicy::default(), start);
    receiver.sent(start);
    assert_eq!(receiver.deadline(), Some(start + Duration::from_secs(7)));
}

#[test]
fn a_repeated_request_repeats_the_first_packet_and_measures_no_round_trip() {
    let start = Moment::from_nanos(1);
    let ms = Duration::from_millis;
    let policy = RetryPolicy::default();
    let mut sender = Sender::new(&options(None, Some(4)), &policy, start);
    assert!(sender.on_request(start), "it is pending, and stays so");
    sender.sent_option_ack(start);
    assert_eq!(sender.pending(), None);
    assert!(sender.on_request(start + ms(900)));
    assert_eq!(sender.pending(), Some(SenderSend::OptionAck));
    sender.sent_option_ack(start + ms(900));
    assert_eq!(sender.deadline(), Some(start + ms(1900)));
    // An answer, to either of them.
    let now = start + ms(901);
    assert_eq!(sender.on_ack(0, now), Acked::Progress);
    assert!(!sender.on_request(now), "it has been answered");
    sender.content(4, Some(4));
    sender.sent(4, now);
    assert_eq!(sender.deadline(), Some(now + policy.initial));

    // A client that repeats its request is there, however often the OACK is lost.
    let mut sender = Sender::new(&options(None, Some(4)), &policy, start);
    for second in 0..100 {
        sender.on_request(start + ms(1000 * second));
        sender.sent_option_ack(start + ms(1000 * second));
        assert!(sender.on_deadline(start + ms(1000 * second + 999)).is_ok());
    }
}

#[test]
fn a_silent_client_is_given_up() {
    let start = Moment::default();
    let policy = RetryPolicy::default();
    let mut sender = Sender::new(&Negotiated::default(), &policy, start);
    sender.content(1, Some(1));
    let (mut sends, mut now) = (0, start);
    let gave_up = loop {
        let Some(SenderSend::Blocks { count, .. }) = sender.pending() else { panic!() };
        sender.sent(count, now);
        sends += 1;
        now = sender.deadline().expect("an unanswered block has a deadline");
        if let Err(gave_up) = sender.on_deadline(now) {
            break gave_up;
        }
    };
    assert_eq!((sends, gave_up.tries), (policy.tries + 1, policy.tries));
    assert!(now.since(start) <= policy.total);
    assert!(sender.sent_last());
}

#[test]
fn an_ack_inside_the_window_goes_on_from_there_and_strange_ones_are_ignored() {
    let now = Moment::from_nanos(1);
    let later = now + Duration::from_millis(1);
    let mut sender = Sender::new(&options(None, Some(8)), &RetryPolicy::default(), now);
    sender.content(100, Some(100));
    sender.sent_option_ack(now);
    assert_eq!(sender.on_ack(1, later), Acked::Ignored, "the OACK is answered by ACK 0 only");
    assert_eq!(sender.on_ack(0, later), Acked::Progress);
    assert_eq!(sender.pending(), Some(SenderSend::Blocks { first: 1, count: 8 }));
    sender.sent(8, later);
    assert_eq!(sender.on_ack(9, later), Acked::Ignored, "block 9 was never sent");
    assert_eq!(sender.on_ack(65_535, later), Acked::Ignored, "the far past");
    assert_eq!(sender.on_ack(3, later), Acked::Progress);
    assert_eq!(sender.pending(), Some(SenderSend::Blocks { first: 4, count: 8 }));
    assert_eq!(sender.on_ack(2, later), Acked::Ignored, "an old ACK");
    // What was sent before the gap became known still counts when its ACK comes late.
    assert_eq!(sender.on_ack(8, later), Acked::Progress);
    assert_eq!(sender.pending(), Some(SenderSend::Blocks { first: 9, count: 8 }));
}

#[test]
fn a_repeated_ack_repeats_a_window_once_and_never_at_once() {
    let now = Moment::from_nanos(1);
    let trip = Duration::from_millis(10);
    let mut sender = Sender::new(&options(None, Some(4)), &RetryPolicy::default(), now);
    sender.content(100, Some(100));
    sender.sent_option_ack(now);
    assert_eq!(sender.on_ack(0, now + trip), Acked::Progress);
    sender.sent(4, now + trip);
    assert_eq!(sender.on_ack(0, now + trip), Acked::Ignored, "an echo cannot be an answer yet");
    assert_eq!(sender.on_ack(0, now + trip * 2), Acked::Repeat, "block 1 was lost");
    sender.sent(4, now + trip * 2);
    assert_eq!(sender.on_ack(0, now + trip * 3), Acked::Ignored);
    assert_eq!(sender.on_ack(4, now + trip * 3), Acked::Progress);
    sender.sent(4, now + trip * 3);
    // The client answers the repeated window too: that is no loss.
    assert_eq!(sender.on_ack(4, now + trip * 4), Acked::Ignored);
}

#[test]
fn a_gap_is_reported_once_until_the_sender_has_gone_back() {
    let now = Moment::from_nanos(1);
    let mut receiver = Receiver::serving(&options(None, Some(8)), &RetryPolicy::default(), now);
    receiver.sent(now);
    assert_eq!(receiver.on_data(1, 512, now), Arrived::Take);
    assert_eq!(receiver.pending(), None, "the window is not complete");
    let mut acks = 0;
    for block in [3, 4, 5, 6, 7, 8] {
        assert_eq!(receiver.on_data(block, 512, now), Arrived::Ignored);
        if let Some(send) = receiver.pending() {
            assert_eq!(send, ReceiverSend::Ack(1));
            receiver.sent(now);
            acks += 1;
        }
    }
    assert_eq!(acks, 1);
    // The sender went back to block 2 and lost it again.
    assert_eq!(receiver.on_data(3, 512, now), Arrived::Ignored);
    assert_eq!(receiver.pending(), Some(ReceiverSend::Ack(1)));
    receiver.sent(now);
    assert_eq!(receiver.on_data(2, 100, now), Arrived::Complete);
    assert_eq!(receiver.pending(), Some(ReceiverSend::Ack(2)));
    receiver.sent(now);
    // Dallying: the last block again means that its ACK was lost.
    assert_eq!(receiver.on_data(2, 100, now), Arrived::Ignored);
    assert_eq!(receiver.pending(), Some(ReceiverSend::Ack(2)));
    receiver.sent(now);
    assert_eq!(receiver.deadline(), Some(now + Duration::from_secs(10)));
    receiver.on_deadline(now + Duration::from_secs(10)).unwrap();
    assert!(receiver.is_over());
}

#[test]
fn a_block_longer_than_agreed_is_noticed() {
    let now = Moment::from_nanos(1);
    let mut receiver = Receiver::serving(&Negotiated::default(), &RetryPolicy::default(), now);
    assert_eq!(receiver.on_data(1, 513, now), Arrived::TooLong);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_transfer_completes(
        seed: u64,
        len in 0usize..60_000,
        blksize in prop::option::of(prop_oneof![8u16..2000, 8u16..=65_464]),
        windowsize in prop::option::of(prop_oneof![1u16..100, 1u16..]),
        timeout in prop::option::weighted(0.2, 1u8..4),
        tsize in prop::option::of(Just(0u64)),
        rollover in prop::option::weighted(0.3, prop_oneof![
            Just(Rollover::ToZero), Just(Rollover::ToOne)
        ]),
        loss in 0u64..=20,
        duplication in 0u64..=20,
        reordering in 0u64..=20,
        delay in 10u64..20_000,
        disk in prop::option::weighted(0.2, 1u64..100),
        upload: bool,
    ) {
        let asked = Negotiated { blksize, windowsize, timeout, tsize, rollover, multicast: None };
        let channel = Channel { loss, duplication, reordering, delay };
        let pair = Pair { disk, upload, ..Pair::new(file(len), asked, channel, seed) };
        let report = pair.run();
        assert_exact_and_bounded(&pair, &report);
    }

    #[test]
    fn no_packets_confuse_the_ends(
        acks in prop::collection::vec((any::<u16>(), 0u64..100), 0..200),
        blocks in prop::collection::vec((0u16..20, 0usize..600), 0..200),
        window in 1u16..,
    ) {
        let mut now = Moment::from_nanos(1);
        let asked = options(None, Some(window));
        let mut sender = Sender::new(&asked, &RetryPolicy::default(), now);
        sender.content(1000, Some(1000));
        for (block, millis) in acks {
            now = now + Duration::from_millis(millis);
            match sender.pending() {
                Some(SenderSend::OptionAck) => sender.sent_option_ack(now),
                Some(SenderSend::Blocks { first, count }) => {
                    prop_assert!(first + count <= 1001);
                    prop_assert!(count <= u64::from(window));
                    sender.sent(count, now);
                }
                None => {}
            }
            let _ = sender.on_ack(block, now);
            prop_assert!(sender.acked() <= 1000);
        }
        let mut receiver = Receiver::asking(&asked, &RetryPolicy::default(), now);
        for (block, len) in blocks {
            let before = receiver.blocks();
            let _ = receiver.on_data(block, len, now);
            prop_assert!(receiver.blocks() - before <= 1);
        }
    }
}
