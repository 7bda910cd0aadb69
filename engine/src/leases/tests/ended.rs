//! Leases that ended while there was no server.

use super::*;
use crate::config::BlockKey;

const HOUR: u64 = 3600;

/// Machines 1 and 2 have a lease of an hour, at whose end something is done; 2 declines its one
/// for a minute.
fn before() -> (Site, Arc<MemoryStore>, Ipv4Addr) {
    let store = Arc::new(MemoryStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.0.9")], &[]);
    let mut server = Server::start(site, Arc::<MemoryStore>::clone(&store) as _, 1, clock(0));
    let mut addresses = Vec::new();
    for number in [1, 2] {
        let ip = server.offer(0, number, None, 0).unwrap().ip;
        let scope = LeaseScope { expiry: Some(BlockKey(7)), ..LeaseScope::default() };
        let (hardware, key) = machine(number);
        let notes = Said { scope: Some(scope), ..Said::default() };
        let bind = bound(ip, at(HOUR), false);
        let change = server.shards[0].apply(&Client { key: &key, hardware, notes }, &bind, at(0));
        server.shards[0].submit(change.unwrap(), None, at(0)).unwrap();
        addresses.push(ip);
    }
    server.committer.run_once(at(0));
    let decline = Step::Decline { ip: addresses[1].into(), until: at(60) };
    assert_eq!(server.step_and_submit(0, 2, decline, 0), Ok(true));
    server.committer.run_once(at(0));
    (server.site, store, addresses[0])
}

fn expired(clock: Clock) -> Vec<IpAddr> {
    let (site, store, first) = before();
    let server = Server::start(site, store, 1, clock);
    let expired = server.leases.expired(clock.now);
    let version = |ended: &Ended| server.leases.version(ended.lease.ip) == Some(ended.version);
    assert!(expired.iter().all(version));
    assert!(expired.iter().all(|ended| ended.how == Ending::Expiry && ended.lease.ip == first));
    expired.iter().map(|ended| ended.lease.ip).collect()
}

#[test]
fn a_quarantine_that_is_over_is_no_lease_that_has_ended() {
    assert_eq!(expired(clock(61)), [] as [IpAddr; 0]);
    assert_eq!(expired(clock(HOUR)).len(), 1);
}

#[test]
fn after_a_reboot_a_lease_has_ended_where_the_clock_is_synchronised() {
    let years = 100 * 365 * 24 * HOUR;
    let reboot = |synchronised| Clock { boot: BootId([2; 16]), synchronised, ..clock(years) };
    assert_eq!(expired(reboot(false)), [] as [IpAddr; 0]);
    assert_eq!(expired(reboot(true)).len(), 1);
}
