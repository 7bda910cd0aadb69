//! The multicast groups that streams are sent to, shared by all shards.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use parking_lot::Mutex;

use crate::config::Multicast;

/// The most groups that are in use at one time.
const MAX_GROUPS: u32 = 4096;

/// Which groups are in use.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    used: HashSet<Ipv4Addr>,
    /// Where the next search begins. A group that was just released is taken last, because late
    /// blocks of its old stream may still arrive.
    next: u32,
}

impl Groups {
    /// A group that no stream uses; `None` when all are in use.
    pub(super) fn take(&self, config: &Multicast) -> Option<SocketAddrV4> {
        let mut state = self.0.lock();
        let first = config.groups.network().to_bits();
        let count = (config.groups.broadcast().to_bits() - first).saturating_add(1);
        for _ in 0..count.min(MAX_GROUPS) {
            let group = Ipv4Addr::from_bits(first + state.next % count);
            state.next = state.next.wrapping_add(1);
            if state.used.insert(group) {
                return Some(SocketAddrV4::new(group, config.port));
            }
        }
        None
    }

    /// The stream of a group has ended.
    pub(super) fn release(&self, group: SocketAddrV4) {
        self.0.lock().used.remove(group.ip());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Prefix;

    #[test]
    fn each_stream_has_a_group_of_its_own_and_a_free_one_comes_back_last() {
        let groups = Groups::default();
        let prefix = Prefix::containing(Ipv4Addr::new(239, 255, 1, 4), 30).unwrap();
        let config = Multicast { groups: prefix, port: 1758, ttl: 1 };
        let mut taken: Vec<_> = (0..4).map(|_| groups.take(&config).unwrap()).collect();
        assert_eq!(taken[0], "239.255.1.4:1758".parse().unwrap());
        taken.dedup();
        assert_eq!((taken.len(), groups.take(&config)), (4, None));
        groups.release(taken[2]);
        assert_eq!(groups.take(&config), Some(taken[2]));
        groups.release(taken[1]);
        groups.release(taken[3]);
        assert_eq!(groups.take(&config), Some(taken[3]));
    }
}
