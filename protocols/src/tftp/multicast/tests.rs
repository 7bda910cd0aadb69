use super::*;
use crate::tftp::packet::Packet;
use proptest::prelude::*;

const LEN: usize = 8;
const NOW: Moment = Moment::from_nanos(1_000_000);

fn listener(window: u16, master: bool) -> Listener {
    Listener::new(LEN as u16, window, None, master, &RetryPolicy::default(), NOW)
}

/// What it says after these blocks, each full.
fn after(listener: &mut Listener, blocks: &[u16]) -> Vec<Option<ListenerSend>> {
    let hear = |&block| {
        listener.on_data(block, LEN, NOW);
        let said = listener.pending();
        if said.is_some() {
            listener.sent(NOW);
        }
        said
    };
    blocks.iter().map(hear).collect()
}

const fn ack(block: u64) -> Option<ListenerSend> {
    Some(ListenerSend::Ack(block))
}

#[test]
fn the_value_of_an_oack() {
    let group = Some("239.255.0.7:1758".parse().unwrap());
    assert_eq!(Multicast::parse(b"239.255.0.7,1758,1"), Ok(Multicast { group, master: true }));
    assert_eq!(Multicast::parse(b"239.255.0.7, 1758, 0"), Ok(Multicast { group, master: false }));
    assert_eq!(Multicast::parse(b",,1"), Ok(Multicast { group: None, master: true }));
    for wrong in [
        "",
        "1",
        "239.255.0.7,1758",
        "239.255.0.7,1758,2",
        "239.255.0.7,1758,1,",
        "239.255.0.7,,1",
        "239.255.0.7,0,1",
        "239.255.0.7,65536,1",
        "10.0.0.1,1758,1",
        "ff02::1,1758,1",
        ",1758,0",
    ] {
        assert_eq!(
            Multicast::parse(wrong.as_bytes()),
            Err(Refused { option: "multicast" }),
            "{wrong}"
        );
    }
    assert!(Multicast::parse(b"\xff,\xff,1").is_err());
}

#[test]
fn a_master_acknowledges_windows_and_the_others_listen() {
    let mut master = listener(4, true);
    assert_eq!(master.pending(), ack(0));
    master.sent(NOW);
    assert_eq!(after(&mut master, &[1, 2, 3, 4, 5]), [None, None, None, ack(4), None]);
    let mut other = listener(4, false);
    assert_eq!(other.pending(), None);
    assert_eq!(after(&mut other, &[1, 2, 3, 4, 9]), [None; 5]);
}

#[test]
fn a_new_master_asks_for_what_it_lacks_and_leaves_out_what_it_has() {
    let mut listener = listener(2, false);
    assert_eq!(after(&mut listener, &[3, 4, 5, 6, 7, 10, 11, 12]), [None; 8]);
    listener.appoint(true, NOW);
    assert_eq!(listener.pending(), ack(0));
    listener.sent(NOW);
    // Behind block 2 the next that is missing is 8.
    assert_eq!(after(&mut listener, &[1, 2]), [None, ack(7)]);
    assert_eq!(after(&mut listener, &[8, 9]), [None, ack(12)]);
    assert_eq!(listener.on_data(13, 0, NOW), Arrived::Complete);
    assert_eq!(listener.pending(), ack(13));
}

#[test]
fn a_gap_is_reported_once_and_a_lost_ack_repeated() {
    let mut master = listener(4, true);
    master.sent(NOW);
    assert_eq!(after(&mut master, &[1, 3, 4]), [None, ack(1), None]);
    // The server goes back: what was behind the gap is here already.
    assert_eq!(after(&mut master, &[2, 3, 4, 5]), [None, None, None, ack(5)]);
    assert_eq!(after(&mut master, &[2, 3, 4, 5]), [None, None, None, ack(5)]);
}

#[test]
fn a_lost_report_of_a_gap_that_closed_is_repeated_when_its_window_comes_again() {
    let mut listener = listener(4, true);
    after(&mut listener, &[1, 2, 3, 4]);
    // Block 6 is late: the gap is reported, the report is lost, and then the gap is closed.
    assert_eq!(after(&mut listener, &[5, 7, 8, 6]), [None, ack(5), None, None]);
    // The server goes on behind block 4. It is told once what is here.
    assert_eq!(after(&mut listener, &[5, 6, 7, 8]), [ack(8), None, None, None]);
    // A packet that the network duplicates asks for nothing.
    assert_eq!(after(&mut listener, &[9, 10, 10, 11]), [None; 4]);
}

#[test]
fn who_has_everything_says_so_without_being_master() {
    let mut other = listener(4, false);
    after(&mut other, &[2, 1]);
    assert_eq!(other.on_data(3, 5, NOW), Arrived::Complete);
    assert_eq!(other.pending(), ack(3));
    assert!(other.is_complete());
    // Told to be master nevertheless: the ACK was lost.
    other.sent(NOW);
    other.appoint(true, NOW);
    assert_eq!(other.pending(), ack(3));
}

#[test]
fn silence_makes_a_listener_ask_again_and_a_master_repeat_itself() {
    for (master, says) in [(true, ListenerSend::Ack(1)), (false, ListenerSend::Request)] {
        let mut listener = listener(1, master);
        listener.sent(NOW);
        after(&mut listener, &[1]);
        let mut asked = 0;
        while let Some(deadline) = listener.deadline() {
            if listener.on_deadline(deadline).is_err() {
                break;
            }
            assert_eq!(listener.pending(), Some(says));
            listener.sent(deadline);
            asked += 1;
        }
        assert_eq!(asked, RetryPolicy::default().tries);
    }
}

#[test]
fn a_short_block_that_comes_early_completes_nothing() {
    let mut one = listener(4, false);
    after(&mut one, &[1, 2, 6, 7]);
    // As many blocks as its number says are here, but 3 and 4 are missing, and 7 is behind it.
    assert_eq!(one.on_data(5, LEN - 1, NOW), Arrived::Ignored);
    assert!(!one.is_complete());
    after(&mut one, &[3, 4, 5]);
    assert_eq!(one.on_data(8, LEN - 1, NOW), Arrived::Complete);

    // The true last block may come first: the file is complete when all before it are here.
    let mut other = listener(4, false);
    assert_eq!(other.on_data(3, 0, NOW), Arrived::Take);
    assert_eq!(other.on_data(9, LEN, NOW), Arrived::Ignored);
    assert_eq!(other.on_data(1, LEN, NOW), Arrived::Take);
    assert_eq!(other.on_data(2, LEN, NOW), Arrived::Complete);
}

#[test]
fn a_block_that_is_too_long_ends_it() {
    assert_eq!(listener(1, true).on_data(1, LEN + 1, NOW), Arrived::TooLong);
}

proptest! {
    #[test]
    fn whatever_comes_each_block_is_taken_once(
        blocks in prop::collection::vec((any::<u16>(), 0usize..=LEN), 0..300),
        value in prop::collection::vec(any::<u8>(), 0..40),
        window: u16,
        master: bool,
    ) {
        let mut listener = listener(window, master);
        let mut taken = std::collections::HashSet::new();
        for (block, len) in blocks {
            if listener.on_data(block % 40, len, NOW) != Arrived::Ignored {
                prop_assert!(taken.insert(block % 40));
            }
            let until = taken.iter().filter(|&&block| u64::from(block) < listener.missing).count();
            prop_assert_eq!(until as u64, listener.missing - 1);
        }
        let mut packet = b"\0\x06multicast\0".to_vec();
        packet.extend(value.iter().filter(|&&byte| byte != 0));
        packet.push(0);
        if let Ok(Packet::OptionAck(options)) = Packet::parse(&packet) {
            let _ = listener.on_option_ack(&options, NOW);
        }
    }
}
