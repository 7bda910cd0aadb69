//! Who follows the events: `bootstorm events --follow` and, later, a dashboard.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::BootEvent;
use super::row::Row;
use crate::leases::Hardware;

/// Events that may wait for one follower before it loses some.
const BACKLOG: usize = 4096;
/// Addresses of its machine that a filtered follower remembers, to recognise the machine's TFTP
/// transfers.
const ADDRESSES: usize = 64;

/// Hands every event to every follower. The log thread publishes; a slow follower loses events, and
/// is told how many.
#[derive(Clone, Debug, Default)]
pub struct EventBus(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Length of `list`, readable by a shard without the lock.
    count: AtomicUsize,
    list: Mutex<Vec<Follower>>,
}

#[derive(Debug)]
struct Follower {
    filter: Option<Filter>,
    queue: mpsc::Sender<Arc<Row>>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Filter {
    hardware: Hardware,
    addresses: HashSet<Ipv4Addr>,
}

impl Filter {
    /// TFTP knows no hardware address, so the machine's addresses are learnt from its DHCP events.
    fn admits(&mut self, event: &BootEvent) -> bool {
        if event.hardware.address().is_empty() {
            return self.addresses.contains(&event.address);
        }
        if event.hardware.address() != self.hardware.address() {
            self.addresses.remove(&event.address);
            return false;
        }
        if !event.address.is_unspecified() && self.addresses.len() < ADDRESSES {
            self.addresses.insert(event.address);
        }
        true
    }
}

/// The follower's end.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Arc<Row>>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// The next event. `None` when the server is going down.
    pub async fn next(&mut self) -> Option<Arc<Row>> {
        self.queue.recv().await
    }

    /// How many events were lost since the last call, because this follower was too slow.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }
}

impl EventBus {
    /// Follows all events, or those of one machine.
    pub fn subscribe(&self, only: Option<Hardware>) -> Subscription {
        let (sender, queue) = mpsc::channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let filter = only.map(|hardware| Filter { hardware, addresses: HashSet::new() });
        let mut list = self.0.list.lock();
        list.push(Follower { filter, queue: sender, lost: lost.clone() });
        self.0.count.store(list.len(), Relaxed);
        Subscription { queue, lost }
    }

    /// True while anybody follows.
    pub fn is_followed(&self) -> bool {
        self.0.count.load(Relaxed) > 0
    }

    /// Gives an event to those who want it; `row` is made once, and only if somebody does. Forgets
    /// who has gone.
    pub fn publish(&self, event: &BootEvent, row: impl FnOnce() -> Arc<Row>) {
        if !self.is_followed() {
            return;
        }
        let mut list = self.0.list.lock();
        let mut made = None;
        let mut row = Some(row);
        list.retain_mut(|follower| {
            if follower.queue.is_closed() {
                return false;
            }
            if follower.filter.as_mut().is_some_and(|filter| !filter.admits(event)) {
                return true;
            }
            if made.is_none() {
                made = row.take().map(|make| make());
            }
            let Some(row) = &made else { return true };
            match follower.queue.try_send(row.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    follower.lost.fetch_add(1, Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
        self.0.count.store(list.len(), Relaxed);
    }

    /// Ends every subscription: the server is going down.
    pub fn close(&self) {
        self.0.list.lock().clear();
        self.0.count.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn mine() -> Hardware {
        Hardware::ethernet([2, 0, 0, 0, 0, 1])
    }

    fn other() -> Hardware {
        Hardware::ethernet([2, 0, 0, 0, 0, 2])
    }

    fn nobody() -> Hardware {
        Hardware::default()
    }

    fn publish(bus: &EventBus, kind: Kind, hardware: Hardware, host: u8) {
        let event = BootEvent::new(kind, hardware, Ipv4Addr::new(10, 1, 4, host));
        bus.publish(&event, || Arc::new(Row::new(&event, String::new(), None)));
    }

    fn drain(subscription: &mut Subscription) -> Vec<String> {
        let mut events = Vec::new();
        while let Ok(row) = subscription.queue.try_recv() {
            events.push(row.event.clone());
        }
        events
    }

    #[test]
    fn a_filtered_follower_sees_its_machine_and_the_transfers_of_its_address() {
        let bus = EventBus::default();
        let mut all = bus.subscribe(None);
        let mut follower = bus.subscribe(Some(mine()));
        publish(&bus, Kind::TransferStarted, nobody(), 7);
        publish(&bus, Kind::Ack, mine(), 7);
        publish(&bus, Kind::Ack, other(), 8);
        publish(&bus, Kind::TransferFinished, nobody(), 7);
        publish(&bus, Kind::TransferFailed, nobody(), 8);
        assert_eq!(drain(&mut follower), ["ACK", "TFTP done"]);
        assert_eq!(drain(&mut all).len(), 5);
    }

    #[test]
    fn an_address_that_went_to_another_machine_is_no_longer_followed() {
        let bus = EventBus::default();
        let mut follower = bus.subscribe(Some(mine()));
        publish(&bus, Kind::Ack, mine(), 7);
        publish(&bus, Kind::Ack, other(), 7);
        publish(&bus, Kind::TransferFinished, nobody(), 7);
        assert_eq!(drain(&mut follower), ["ACK"]);
    }

    #[test]
    fn a_slow_follower_loses_events_and_is_told() {
        let bus = EventBus::default();
        let mut slow = bus.subscribe(None);
        for _ in 0..BACKLOG + 5 {
            publish(&bus, Kind::Offer, mine(), 7);
        }
        assert_eq!(drain(&mut slow).len(), BACKLOG);
        assert_eq!((slow.take_lost(), slow.take_lost()), (5, 0));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let bus = EventBus::default();
        drop(bus.subscribe(None));
        assert!(bus.is_followed());
        publish(&bus, Kind::Offer, mine(), 7);
        assert!(!bus.is_followed());
    }
}
