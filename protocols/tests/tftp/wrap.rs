//! Block numbers around every wrap of their 16 bits, at the largest window that is negotiated, with
//! ACKs that are delayed, repeated and reordered.

use std::collections::BTreeMap;
use std::time::Duration;

use bootstorm_protocols::tftp::{
    Acked, Arrived, Direction, Limits, MAX_WINDOWSIZE, Negotiated, Packet, Receiver, ReceiverSend,
    RetryPolicy, Rollover, Sender, SenderSend, accept, negotiate,
};
use bootstorm_protocols::time::Moment;
use proptest::prelude::*;

use crate::pair::Random;

const BLKSIZE: u16 = 8;
/// The time that a block takes on the path.
const STEP: Duration = Duration::from_micros(1);

/// A transfer without its bytes. Data arrives in order, or is lost; ACKs are delayed by up to the
/// time that a window takes, so they overtake each other.
struct Walk {
    random: Random,
    now: Moment,
    sender: Sender,
    receiver: Receiver,
    rollover: Rollover,
    window: u64,
    last: u64,
    /// ACKs under way, by arrival: the block number on the wire.
    acks: BTreeMap<(Moment, u64), u16>,
    acks_sent: u64,
    faults: Faults,
}

/// One packet in so many is lost or repeated; 0 for none.
#[derive(Copy, Clone, Debug)]
struct Faults {
    lost_data: u64,
    lost_acks: u64,
    repeated_acks: u64,
}

/// Both ends' view of the options that a client asks for, with a server that has no limits.
fn agree(windowsize: u16, rollover: Option<Rollover>) -> Negotiated {
    let blksize = Some(BLKSIZE);
    let asked =
        Negotiated { blksize, windowsize: Some(windowsize), rollover, ..Negotiated::default() };
    let limits = Limits { max_blksize: u16::MAX, max_windowsize: u16::MAX, multicast: false };
    let mut buf = [0; 128];
    let len = asked.write_option_ack(&mut buf).expect("it fits");
    let Ok(Packet::OptionAck(question)) = Packet::parse(&buf[..len]) else { panic!() };
    let granted =
        negotiate(&question, &limits, Direction::Read { size: None }).expect("it is granted");
    let len = granted.write_option_ack(&mut buf).expect("it fits");
    let Ok(Packet::OptionAck(answer)) = Packet::parse(&buf[..len]) else { panic!() };
    assert_eq!(accept(&asked, &answer), Ok(granted));
    granted
}

impl Walk {
    fn new(granted: Negotiated, last: u64, faults: Faults, seed: u64) -> Self {
        let now = Moment::from_nanos(1_000_000);
        let policy =
            RetryPolicy { tries: 60, total: Duration::from_secs(36_000), ..RetryPolicy::default() };
        let mut receiver = Receiver::serving(&granted, &policy, now);
        receiver.sent(now);
        let mut sender = Sender::uploading(&granted, &policy, now);
        sender.content(last, Some(last));
        let (rollover, window) = (granted.rollover(), u64::from(granted.window_len()));
        let (acks, random) = (BTreeMap::new(), Random(seed));
        let (acks_sent, last) = (0, last);
        Self { random, now, sender, receiver, rollover, window, last, acks, acks_sent, faults }
    }

    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.random.next().is_multiple_of(count)
    }

    /// Runs to the end; every block that the receiver takes must be the one that was sent.
    fn run(mut self) {
        while !self.receiver.is_complete() {
            match self.sender.pending() {
                Some(SenderSend::Blocks { first, .. }) => {
                    self.sender.sent(1, self.now);
                    self.now = self.now + STEP;
                    if !self.one_in(self.faults.lost_data) {
                        self.data(first);
                    }
                }
                Some(SenderSend::OptionAck) => panic!("an upload begins with block 1"),
                None => self.wait(),
            }
            self.acks_arrive();
        }
        assert_eq!(self.receiver.blocks(), self.last);
    }

    fn data(&mut self, block: u64) {
        let len = if block == self.last { 0 } else { BLKSIZE.into() };
        let arrived = self.receiver.on_data(self.rollover.wire(block), len, self.now);
        if matches!(arrived, Arrived::Take | Arrived::Complete) {
            assert_eq!(self.receiver.blocks(), block, "a block was taken for another one");
        }
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        let Some(ReceiverSend::Ack(block)) = self.receiver.pending() else { return };
        self.receiver.sent(self.now);
        if self.one_in(self.faults.lost_acks) {
            return;
        }
        let copies = if self.one_in(self.faults.repeated_acks) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = STEP * (self.random.next() % (self.window + 1)) as u32;
            self.acks_sent += 1;
            self.acks.insert((self.now + delay, self.acks_sent), self.rollover.wire(block));
        }
    }

    fn acks_arrive(&mut self) {
        while let Some(entry) = self.acks.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let block = entry.remove();
            let received = self.receiver.blocks();
            let acked = self.sender.on_ack(block, self.now);
            assert!(self.sender.acked() <= received, "an old ACK was taken for a new one");
            assert!(acked != Acked::Finished || received == self.last);
        }
    }

    /// Nothing is to be sent: until the next ACK or deadline.
    fn wait(&mut self) {
        let ack = self.acks.first_key_value().map(|((at, _), _)| *at);
        let deadlines = [self.sender.deadline(), self.receiver.deadline()];
        let next = deadlines.into_iter().chain([ack]).flatten().min().expect("somebody waits");
        self.now = self.now.max(next);
        if self.receiver.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.receiver.on_deadline(self.now).expect("tries are left");
            self.acknowledge();
        }
        if self.sender.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.sender.on_deadline(self.now).expect("tries are left");
        }
    }
}

#[test]
fn a_window_is_at_most_half_of_the_block_numbers() {
    for asked in [32_767, 32_768, 65_534, 65_535] {
        assert_eq!(agree(asked, None).windowsize, Some(MAX_WINDOWSIZE), "{asked}");
    }
    assert_eq!(agree(32_766, None).windowsize, Some(32_766));
    // Nor does a client take more from a server that grants what it asked for.
    let asked = Negotiated { windowsize: Some(65_535), ..Negotiated::default() };
    let mut buf = [0; 128];
    let len = asked.write_option_ack(&mut buf).expect("it fits");
    let Ok(Packet::OptionAck(answer)) = Packet::parse(&buf[..len]) else { panic!() };
    assert!(accept(&asked, &answer).is_err());
}

#[test]
fn an_ack_of_the_window_before_is_not_taken_for_one_of_this_window() {
    for rollover in [Rollover::ToZero, Rollover::ToOne] {
        let granted = agree(u16::MAX, Some(rollover));
        let window = u64::from(granted.window_len());
        let mut walk =
            Walk::new(granted, 1 << 20, Faults { lost_data: 0, lost_acks: 0, repeated_acks: 0 }, 1);
        walk.sender.sent(window, walk.now);
        assert_eq!(walk.sender.on_ack(rollover.wire(window), walk.now), Acked::Progress);
        for first in [window, window + 1] {
            // The next window is under way, and old ACKs come again: of any block up to the last.
            walk.sender.sent(first - window, walk.now);
            for old in 0..window {
                assert_eq!(walk.sender.on_ack(rollover.wire(old), walk.now), Acked::Ignored);
                assert_eq!(walk.sender.acked(), window);
            }
            walk.sender.resend();
            walk.sender.sent(window, walk.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_delayed_ack_moves_a_transfer_to_the_wrong_block(
        seed: u64,
        wraps in 1u64..=4,
        // The file's end before, on and behind the last wrap.
        end in -3i64..=3,
        windowsize in prop_oneof![
            Just(u16::MAX), Just(32_768u16), Just(32_767), Just(32_766), 16_000u16.., 1u16..100,
        ],
        rollover in prop_oneof![
            Just(None), Just(Some(Rollover::ToZero)), Just(Some(Rollover::ToOne)),
        ],
        lost_data in prop_oneof![Just(0u64), 5_000u64..100_000],
        lost_acks in prop_oneof![Just(0u64), 4u64..50],
        repeated_acks in 1u64..4,
    ) {
        let granted = agree(windowsize, rollover);
        let numbers = if rollover == Some(Rollover::ToOne) { 65_535 } else { 65_536 };
        let last = (numbers * wraps).saturating_add_signed(end);
        let faults = Faults { lost_data, lost_acks, repeated_acks };
        Walk::new(granted, last, faults, seed).run();
    }
}
