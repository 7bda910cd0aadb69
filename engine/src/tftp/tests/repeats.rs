//! Requests that come again because the first answer was lost.

use std::time::Duration;

use super::alone::Alone;
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
        let mut alone = Alone::new(|config| config.upload = true);
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
    let mut alone = Alone::new(|config| config.upload = true);
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
