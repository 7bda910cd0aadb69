//! Requests that come again because the first answer was lost, and when blocks are sent again.

use std::time::Duration;

use super::alone::Alone;
use crate::config::UploadMode;
use crate::tftp::shard::SILENCE;

const OACK: &[u8] = b"\0\x06blksize\x001468\0windowsize\x004\0";
const READ: &[u8] = b"\0\x01kernel\0octet\0blksize\x001468\0windowsize\x004\0";
const PLAIN: &[u8] = b"\0\x01kernel\0octet\0";
const WRITE: &[u8] = b"\0\x02upload\0octet\0blksize\x001468\0windowsize\x004\0";
const PLAIN_WRITE: &[u8] = b"\0\x02upload\0octet\0";

/// No timer comes so soon.
const SOON: Duration = Duration::from_millis(5);

#[test]
fn a_lost_oack_is_repeated_as_soon_as_the_request_is() {
    for request in [READ, WRITE] {
        let mut alone = Alone::new(|config| config.upload = UploadMode::Create);
        for _ in 0..20 {
            alone.request(4000, request);
            assert_eq!(alone.packets(), [OACK]);
            alone.tx.now = alone.tx.now + SOON;
        }
        if request == READ {
            alone.ack(4000, 0);
            alone.batch_end(true);
            let window = alone.taken();
            assert_eq!(window.len(), 1);
            // The client has got the OACK: this request was delayed on its way.
            alone.request(4000, READ);
            alone.sent(window[0], None);
            alone.batch_end(true);
            assert_eq!((alone.taken().len(), alone.packets().len()), (0, 0));
            assert_eq!(alone.metrics().retransmits.get(), 0);
        }
        assert_eq!(alone.server.active(), 1);
    }
}

#[test]
fn a_lost_first_block_is_repeated_as_soon_as_the_request_is() {
    let mut alone = Alone::new(|_| {});
    for _ in 0..20 {
        alone.request(4000, PLAIN);
        let sends = alone.taken();
        assert_eq!(sends.iter().map(|send| send.len).collect::<Vec<_>>(), [516]);
        alone.sent(sends[0], None);
        alone.tx.now = alone.tx.now + SOON;
    }
    alone.ack(4000, 1);
    alone.batch_end(true);
    let second = alone.taken();
    alone.sent(second[0], None);
    alone.request(4000, PLAIN);
    assert_eq!((second.len(), alone.taken().len()), (1, 0));
    assert_eq!(alone.server.active(), 1);
}

#[test]
fn a_lost_first_ack_is_repeated_as_soon_as_the_request_is() {
    let mut alone = Alone::new(|config| config.upload = UploadMode::Create);
    for _ in 0..20 {
        alone.request(4000, PLAIN_WRITE);
        assert_eq!(alone.packets(), [b"\0\x04\0\0"]);
        alone.tx.now = alone.tx.now + SOON;
    }
    alone.data(4000, 1, &[7; 512]);
    alone.batch_end(true);
    assert_eq!(alone.packets(), [b"\0\x04\0\x01"]);
    alone.request(4000, PLAIN_WRITE);
    assert_eq!(alone.packets(), [b""; 0]);
    assert_eq!(alone.server.active(), 1);
}

#[test]
fn a_client_that_asks_again_after_a_silence_begins_again() {
    let mut alone = Alone::new(|_| {});
    alone.request(4000, READ);
    assert_eq!(alone.packets(), [OACK]);
    // It answered the OACK, and was then switched off and on again.
    alone.ack(4000, 0);
    alone.batch_end(true);
    assert_eq!(alone.taken().len(), 1);
    alone.tx.now = alone.tx.now + SILENCE;
    alone.request(4000, READ);
    assert_eq!(alone.packets(), [OACK]);
    assert_eq!(alone.server.active(), 1);
}

/// How long a shard waits before it repeats a block to a client that answered ten times within a
/// millisecond, and then no more.
fn wait(alone: &mut Alone) -> Duration {
    let ms = Duration::from_millis(1);
    alone.request(4000, PLAIN);
    for block in 1..=11 {
        let sends = alone.taken();
        assert_eq!(sends.len(), 1);
        alone.sent(sends[0], None);
        if block <= 10 {
            alone.tx.now = alone.tx.now + ms;
            alone.ack(4000, block);
            alone.batch_end(true);
        }
    }
    let silent = alone.tx.now;
    while alone.metrics().retransmits.get() == 0 {
        alone.tx.now = alone.tx.now + ms;
        alone.batch_end(true);
    }
    alone.tx.now.since(silent)
}

#[test]
fn a_block_is_not_repeated_before_the_shortest_interval() {
    let ms = Duration::from_millis;
    let about = |least: Duration, waited| (least..least + ms(5)).contains(&waited);
    assert!(about(ms(200), wait(&mut Alone::new(|_| {}))));
    assert!(about(ms(50), wait(&mut Alone::new(|config| config.min_retry = ms(50)))));

    // A Raspberry Pi, by its DHCP messages, is given more time; less is not granted by a quirk.
    let (pi, class) = ([0xb8, 0x27, 0xeb, 1, 2, 3], b"PXEClient:Arch:00000:UNDI:002001");
    for (min_retry, expected) in [(200, 1000), (3000, 3000)] {
        let mut alone = Alone::new(|config| {
            config.min_retry = ms(min_retry);
            config.timeout = ms(3000);
        });
        let quirks = crate::quirks::Quirks::default();
        let set = quirks.of(&pi, class);
        alone.server.notes.note([10, 0, 0, 9].into(), &quirks, set);
        assert!(about(ms(expected), wait(&mut alone)));
    }
}

#[test]
fn the_last_ack_of_an_upload_is_repeated_for_as_long_as_the_client_asks() {
    let mut alone = Alone::new(|config| {
        config.upload = UploadMode::Create;
        config.max_transfers_per_client = 1;
    });
    alone.request(4000, PLAIN_WRITE);
    assert_eq!(alone.packets(), [b"\0\x04\0\0"]);
    alone.data(4000, 1, b"all");
    alone.batch_end(true);
    alone.woken();
    assert_eq!(alone.packets(), [b"\0\x04\0\x01"]);
    assert_eq!(alone.active(), 0, "it does not hold up a drain");
    let seconds = |alone: &mut Alone, count| {
        for second in 1..=count {
            alone.tx.now = alone.tx.now + Duration::from_secs(1);
            alone.batch_end(true);
            assert_eq!(alone.packets(), [b""; 0], "after {second} s");
        }
    };
    // Every ACK is lost; the client repeats its block now and then, for a minute.
    for pause in [1, 5, 9, 9, 9, 9, 9, 9] {
        seconds(&mut alone, pause);
        alone.data(4000, 1, b"all");
        alone.batch_end(true);
        assert_eq!(alone.packets(), [b"\0\x04\0\x01"]);
    }
    // Meanwhile it does not count: another transfer of the same address may begin.
    alone.request(4001, PLAIN);
    assert_eq!((alone.taken().len(), alone.packets()), (1, Vec::new()));
    // Ten seconds of silence end it.
    seconds(&mut alone, 12);
    alone.data(4000, 1, b"all");
    alone.batch_end(true);
    assert_eq!(alone.packets(), [b""; 0]);
    assert_eq!(alone.metrics().finished.get(), 1);
}
