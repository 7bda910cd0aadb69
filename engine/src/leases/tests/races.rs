//! What a failed batch leaves behind, and shards that race, with real threads.

use std::collections::HashMap;

use super::faulty::{Fault, FaultyStore};
use super::model::layout;
use super::*;

/// What a failed batch left on the disk is put right by the next one that works.
#[test]
fn doubts_are_settled() {
    for fault in [Fault::Nothing, Fault::Half, Fault::All] {
        let store = Arc::new(FaultyStore::default());
        let mut server = Server::start(layout(0), store.clone(), 1, clock(0));
        let old = server.lease(1, 0, 100);
        let held: Vec<_> =
            (2..4).map(|number| server.offer(0, number, None, 10).unwrap().ip).collect();
        assert!(server.request(0, 2, held[0], 10, HOUR));
        assert!(server.request(0, 3, held[1], 10, HOUR));
        assert!(server.release(0, 1, old, 10));
        store.fail(fault);
        server.committer.run_once(at(10));
        assert!(server.completed(0).iter().all(|(_, written)| !written));
        // Another client's lease is the next that is written, once the store is opened again.
        let other = server.offer(0, 4, None, 20).unwrap().ip;
        assert!(server.request(0, 4, other, 20, HOUR));
        server.committer.run_once(at(20));
        assert_eq!(server.completed(0), [(4, true)], "{fault:?}");
        let after = Server::start(layout(0), store, 1, clock(21));
        assert_eq!(after.state(old, 21), Some(LeaseState::Active), "{fault:?}");
        assert_eq!(after.state(held[0], 21), None, "{fault:?}");
        assert_eq!(after.state(held[1], 21), None, "{fault:?}");
        assert_eq!(after.state(other, 21), Some(LeaseState::Active), "{fault:?}");
    }
}

/// What the store loses while the server runs is written anew, some with each batch.
#[test]
fn what_the_store_has_lost_is_written_anew() {
    let site = || Site::new(&[("10.0.0.1", "10.0.250.1")], &[]);
    let store = Arc::new(FaultyStore::default());
    let mut server = Server::start(site(), store.clone(), 1, clock(0));
    let given: Vec<_> = (0..2_000).map(|number| server.lease(number, 0, HOUR)).collect();
    // What waits meanwhile counts as what it was before.
    let offered = server.offer(0, 9_000, None, 1).unwrap().ip;
    assert!(server.release(0, 7, given[7], 1));
    store.lose();
    store.fail(Fault::Nothing);
    server.committer.run_once(at(1));
    server.completed(0);
    for number in 3_000..3_004 {
        server.lease(number, 2, HOUR);
    }
    server.check();
    let after = Server::start(site(), store, 1, clock(3));
    for ip in given {
        assert_eq!(after.state(ip, 3), Some(LeaseState::Active), "{ip}");
    }
    assert_eq!(after.state(offered, 3), None);
}

/// The same without any change that waits: nobody may ask for an address before the next restart.
#[test]
fn what_the_store_has_lost_is_written_anew_by_an_idle_server() {
    let site = || Site::new(&[("10.0.0.1", "10.0.250.1")], &[]);
    let store = Arc::new(FaultyStore::default());
    let mut server = Server::start(site(), store.clone(), 1, clock(0));
    let given: Vec<_> = (0..2_000).map(|number| server.lease(number, 0, HOUR)).collect();
    let kept = || {
        let after = Server::start(site(), store.clone(), 1, clock(3));
        given.iter().filter(|ip| after.state(**ip, 3) == Some(LeaseState::Active)).count()
    };
    store.lose();
    store.fail(Fault::Nothing);
    let mut after = |second| {
        (0..9).for_each(|_| _ = server.committer.run_once(at(second)));
        kept()
    };
    // A try that failed, after which it is too early for another at first.
    assert_eq!((after(1), after(2)), (0, given.len()));
    server.check();
    store.lose();
    let committer = server.leases.committer().spawn(|| at(3)).unwrap();
    while kept() < given.len() {
        std::thread::yield_now();
    }
    assert!(committer.stop());
}

/// Real threads, a real committer: shards race for few addresses and for the same clients.
#[test]
fn shards_race() {
    const SHARDS: usize = 4;
    const MACHINES_EACH: u32 = 6;
    let store = Arc::new(MemoryStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.0.8")], &[]);
    let leases = Leases::open(store.clone(), &site.dhcp, SHARDS, clock(0)).unwrap();
    // Who believes to hold an address: number of the machine, 0 for nobody.
    let owners: Vec<_> = (0..9).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    let committer = leases.committer().spawn(|| at(1)).unwrap();
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (leases, owners, site) = (&leases, &owners, &site);
            scope.spawn(move || {
                let thread = std::thread::current();
                let mut mine = leases.shard(shard, move || thread.unpark());
                let pools = site.pools();
                let mut random = shard as u32 + 1;
                let mut waiting = HashMap::new();
                for round in 0..4_000_u64 {
                    random ^= random << 13;
                    random ^= random >> 17;
                    random ^= random << 5;
                    // A machine belongs to one shard, but its DISCOVER may reach any.
                    let foreign = machine(1 + random % (MACHINES_EACH * SHARDS as u32)).1;
                    let number = 1 + shard as u32 * MACHINES_EACH + random % MACHINES_EACH;
                    let (hardware, key) = machine(number);
                    let of_foreign = Client { key: &foreign, hardware, notes: Said::default() };
                    let _ = offer(&mut mine, &site.dhcp, &pools, &of_foreign, 1);
                    let client = Client { key: &key, hardware, notes: Said::default() };
                    if waiting.values().any(|(other, _)| *other == number) {
                        // It waits for its ACK.
                    } else if let Ok(ip) = offer(&mut mine, &site.dhcp, &pools, &client, 2)
                        && let Ok(Some(change)) =
                            mine.apply(&client, &bound(ip, at(HOUR), false), at(1))
                    {
                        mine.submit(change, Some(round), at(1)).unwrap();
                        waiting.insert(round, (number, ip));
                    }
                    mine.kick(random.is_multiple_of(3));
                    let mut acknowledged = Vec::new();
                    mine.completed(|token, written| {
                        let (number, address) = waiting.remove(&token).unwrap();
                        if written.is_ok() {
                            acknowledged.push((number, address));
                        }
                    });
                    for (number, address) in acknowledged {
                        let owner = &owners[address.octets()[3] as usize];
                        let before = owner.swap(number, Relaxed);
                        assert!(before == 0 || before == number, "{before} and {number}");
                        if random.is_multiple_of(2) {
                            owner.store(0, Relaxed);
                            let (hardware, key) = machine(number);
                            let client = Client { key: &key, hardware, notes: Said::default() };
                            let release = Step::Release { ip: address.into() };
                            let change = mine.apply(&client, &release, at(1)).unwrap();
                            mine.submit(change.unwrap(), None, at(1)).unwrap();
                        }
                    }
                }
                while mine.waiting() > 0 {
                    mine.kick(true);
                    mine.completed(|token, _| {
                        waiting.remove(&token);
                    });
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                mine.kick(true);
            });
        }
    });
    drop(committer);
    check_books(&leases);
}

/// Offers as the rules do: an address that the client has, or one that is proposed.
fn offer(
    leases: &mut ShardLeases,
    dhcp: &Dhcp,
    pools: &[PoolId],
    client: &Client<'_>,
    until: u64,
) -> Result<Ipv4Addr, Refusal> {
    let mut own = None;
    leases.of_client(client.key, at(1), |lease| own = own.or(lease.ipv4()));
    let ip = match own {
        Some(own) => own,
        None => match leases.propose(dhcp, pools, None, at(1))? {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => return Err(Refusal::PoolFull),
        },
    };
    let admission = Admission::Unknown;
    let offer = Step::Offer { ip: ip.into(), admission, until: at(until) };
    let offered = leases.apply(client, &offer, at(1));
    offered.map(|_| ip).map_err(|Conflict(refusal)| refusal)
}
