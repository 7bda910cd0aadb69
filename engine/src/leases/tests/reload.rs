//! Reloads: what they touch, and what they leave.

use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn a_swap_of_pools_touches_no_slot() {
    let store = Arc::new(MemoryStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.64.0")], &[]);
    let mut server = Server::start(site, store, 2, clock(0));
    for number in 0..3_000 {
        server.offer(number as usize % 2, number, None, 0).unwrap();
    }
    let next = Site::new(&[("10.0.2.1", "10.0.80.0")], &["10.0.3.1"]);
    let leases = Arc::clone(&server.leases);
    let locked = || leases.table.locked.load(Relaxed);
    server.site = next;
    let pools = leases.prepare(&[], &server.site.dhcp);
    let before = locked();
    pools.swap();
    assert_eq!(locked(), before, "slots were touched while everybody waits");
    // A client that asks before what is used is counted gets what nobody has.
    server.offer(0, 4_000, None, 1).unwrap();
    pools.count();
    server.check();
    let counts = leases.pool_counts(PoolId::from_index(0)).unwrap();
    // 10.0.0.1 to 10.0.2.0 are in no pool any more, 10.0.3.1 is a host's.
    assert_eq!(counts.offered, 3_000 - 512 - 1 + 1);
    // Pools that stay as they are are not looked at.
    let before = locked();
    leases.reconfigure(&[], &server.site.dhcp);
    assert_eq!(locked(), before);
}

/// Shards go on while pools move under them: nothing is given twice, and the books are right.
#[test]
fn shards_go_on_during_reloads() {
    let layouts = [
        Site::new(&[("10.0.0.1", "10.0.4.0")], &[]),
        Site::new(&[("10.0.1.1", "10.0.5.0")], &["10.0.2.7"]),
        Site::new(&[("10.0.0.1", "10.0.2.0"), ("10.0.3.1", "10.0.4.0")], &[]),
    ];
    let store = Arc::new(MemoryStore::default());
    let leases = Leases::open(store, &layouts[0].dhcp, 2, clock(0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = [0_u32, 1]
            .map(|shard| {
                let (leases, layouts) = (&leases, &layouts);
                scope.spawn(move || {
                    let mut mine = leases.shard(shard as usize, || ());
                    for round in 0..6_000_u32 {
                        let (hardware, key) = machine(1 + shard + 2 * (round % 400));
                        let client = Client { key: &key, hardware, notes: Said::default() };
                        // The configuration may be one that is not in force any more.
                        let dhcp = &layouts[round as usize % 3].dhcp;
                        let pools: Vec<_> =
                            (0..).map(PoolId::from_index).take(dhcp.pools.len()).collect();
                        let Ok(ip) = mine.propose(dhcp, &pools, None, at(1)) else { continue };
                        let admission = Admission::Unknown;
                        let offer = Step::Offer { ip, admission, until: at(60) };
                        if mine.apply(&client, &offer, at(1)).is_ok() && round % 3 == 0 {
                            let withdraw = Step::Withdraw { ip };
                            assert!(mine.apply(&client, &withdraw, at(1)).is_ok());
                        }
                    }
                })
            })
            .into_iter()
            .collect();
        let done = &done;
        let (leases, layouts) = (&leases, &layouts);
        let reloads = scope.spawn(move || {
            for round in 1.. {
                leases.reconfigure(&[], &layouts[round % 3].dhcp);
                if done.load(Relaxed) {
                    break;
                }
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Relaxed);
        reloads.join().unwrap();
    });
    leases.reconfigure(&[], &layouts[1].dhcp);
    check_books(&leases);
}
