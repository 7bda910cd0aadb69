//! The granted window depends on the losses of the client's last transfers. RFC 7440 section 3 lets
//! the server grant a smaller window than the client asks for.

use std::net::IpAddr;

use bootstorm_protocols::tftp::Negotiated;

use super::service::Service;
use super::shard::TftpShard;
use super::transfers::{Transfer, Work};

/// No limit beside what is asked and configured.
const UNLIMITED: u16 = u16::MAX;
/// Blocks sent again, in percent of the file's blocks; above this the window is halved. A loss
/// makes half a window go out again on average, so windows of 64 reach this where one packet in 130
/// is lost. Fewer losses cost a long path less than small windows would. A receiver whose buffers
/// hold less than a window goes far beyond it.
const LOSSY: u64 = 25;
/// Up to this many percent the window is doubled; at twice the window the losses stay below
/// [`LOSSY`].
const CLEAN: u64 = 5;

/// The limit for a client's next transfer. The last one was granted a window of `granted` blocks
/// while the limit was `limit`; it sent `sent` blocks, and `resent` of them again.
fn next_limit(limit: u16, granted: u16, sent: u64, resent: u64) -> u16 {
    if resent.saturating_mul(100) > sent.saturating_mul(LOSSY) {
        // In lockstep a loss costs one block, and says nothing of windows.
        return if granted > 1 { granted / 2 } else { limit };
    }
    let clean = resent.saturating_mul(100) <= sent.saturating_mul(CLEAN);
    // A file shorter than a window, or a window smaller than the limit, proves nothing.
    if clean && granted >= limit && sent >= u64::from(granted) {
        return limit.saturating_mul(2);
    }
    limit
}

/// The limits of clients, by address. Clients whose addresses hash alike replace each other.
#[derive(Debug)]
pub(super) struct Windows(Box<[Option<(IpAddr, u16)>]>);

impl Windows {
    pub(super) fn new(buckets: usize) -> Self {
        Self(vec![None; buckets].into_boxed_slice())
    }

    fn limit(&self, bucket: usize, client: IpAddr) -> u16 {
        match self.0.get(bucket) {
            Some(Some((known, limit))) if *known == client => *limit,
            _ => UNLIMITED,
        }
    }

    fn set(&mut self, bucket: usize, client: IpAddr, limit: u16) {
        if limit == self.limit(bucket, client) {
            return;
        }
        if let Some(slot) = self.0.get_mut(bucket) {
            *slot = (limit != UNLIMITED).then_some((client, limit));
        }
    }
}

impl TftpShard {
    /// Limits the window of a client whose last transfers lost much.
    pub(super) fn narrow_window(
        &self,
        service: &Service,
        client: IpAddr,
        negotiated: &mut Negotiated,
    ) {
        if !service.adaptive_windowsize {
            return;
        }
        let limit = self.windows.limit(self.bucket(&client), client);
        if let Some(granted) = negotiated.windowsize.filter(|granted| *granted > limit) {
            negotiated.windowsize = Some(granted.min(limit));
            self.metrics().windows_narrowed.increment();
        }
    }

    /// Adapts a client's limit to a transfer that has ended.
    pub(super) fn learn_window(&mut self, transfer: &Transfer) {
        let Work::Sending { sender, .. } = &transfer.work else { return };
        let client = transfer.client.ip();
        let bucket = self.bucket(&client);
        let limit = self.windows.limit(bucket, client);
        let granted = transfer.negotiated.window_len();
        let next = next_limit(limit, granted, sender.sent_until(), transfer.resent.into());
        self.windows.set(bucket, client, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loss_halves_down_to_one() {
        let mut limit = UNLIMITED;
        let mut seen = Vec::new();
        for _ in 0..6 {
            let granted = limit.min(16);
            limit = next_limit(limit, granted, 1000, 251);
            seen.push(limit);
        }
        assert_eq!(seen, [8, 4, 2, 1, 1, 1]);
    }

    #[test]
    fn clean_transfers_double_until_nothing_is_remembered() {
        let mut limit = 1;
        let mut transfers = 0;
        while limit != UNLIMITED {
            limit = next_limit(limit, limit, u64::from(limit), 0);
            transfers += 1;
        }
        assert_eq!(transfers, 16);
        assert_eq!(next_limit(UNLIMITED, 64, 1000, 0), UNLIMITED);
    }

    #[test]
    fn what_proves_nothing_changes_nothing() {
        // A late block of a file of one; losses between the limits; a smaller window than allowed;
        // a file shorter than a window; a request for the size only.
        assert_eq!(next_limit(UNLIMITED, 1, 1, 1), UNLIMITED);
        assert_eq!(next_limit(8, 8, 1000, 250), 8);
        assert_eq!(next_limit(8, 8, 1000, 51), 8);
        assert_eq!(next_limit(8, 1, 1000, 0), 8);
        assert_eq!(next_limit(8, 8, 7, 0), 8);
        assert_eq!(next_limit(8, 8, 0, 0), 8);
    }

    #[test]
    fn clients_that_share_a_bucket_replace_each_other() {
        let mut windows = Windows::new(1);
        let [a, b] = [2, 3].map(|host| IpAddr::from([10, 0, 0, host]));
        windows.set(0, a, 4);
        assert_eq!((windows.limit(0, a), windows.limit(0, b)), (4, UNLIMITED));
        windows.set(0, b, UNLIMITED);
        assert_eq!(windows.limit(0, a), 4, "a clean transfer of another client changes nothing");
        windows.set(0, b, 2);
        assert_eq!((windows.limit(0, a), windows.limit(0, b)), (UNLIMITED, 2));
        windows.set(0, b, UNLIMITED);
        assert_eq!(windows.limit(0, b), UNLIMITED);
    }

    proptest! {
        #[test]
        fn a_limit_is_never_zero_and_at_most_doubles(
            limit in 1u16.., granted in 1u16.., sent: u64, resent: u32,
        ) {
            let next = next_limit(limit, granted, sent, resent.into());
            prop_assert!(next >= 1);
            prop_assert!(next <= limit.saturating_mul(2).max(granted));
        }
    }
}
