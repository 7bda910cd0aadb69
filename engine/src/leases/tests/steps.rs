//! One step after another, by hand.

use super::*;

fn server(pools: &[(&str, &str)], shards: usize) -> (Server, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (Server::start(Site::new(pools, &[]), store.clone(), shards, clock(0)), store)
}

#[test]
fn the_order_of_choice() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.4")], 1);
    let first = server.lease(1, 0, HOUR);
    let second = server.lease(2, 0, HOUR);
    assert_ne!(first, second);
    // Its own, though others are free and it asks for another.
    let again = server.offer(0, 1, Some("10.0.0.4"), 1).unwrap();
    assert_eq!(again, Offer { ip: first, previous: true });
    // The hint if it is free.
    let third = server.offer(0, 3, Some("10.0.0.4"), 1).unwrap();
    assert_eq!(third, Offer { ip: ip("10.0.0.4"), previous: false });
    // Not the hint if it is taken, or of no pool.
    for hint in ["10.0.0.4", "10.0.9.9", "192.0.2.1"] {
        let fourth = server.offer(0, 4, Some(hint), 1).unwrap();
        assert_eq!(fourth.ip, ip("10.0.0.3"));
    }
    assert_eq!(server.offer(0, 5, None, 1), Err(Refusal::PoolFull));
    server.check();
    // The one that has been free longest: 2 released before 1 did.
    assert!(server.release(0, 2, second, 10));
    assert!(server.release(0, 1, first, 20));
    server.committer.run_once(at(20));
    server.check();
    assert_eq!(server.offer(0, 5, None, 21).unwrap().ip, second);
    assert_eq!(server.offer(0, 1, None, 21).unwrap(), Offer { ip: first, previous: true });
    server.check();
}

#[test]
fn an_address_is_unused_again_when_its_offer_came_to_nothing() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.1")], 1);
    server.offer(0, 1, None, 0).unwrap();
    assert_eq!(server.offer(0, 2, None, 59), Err(Refusal::PoolFull));
    assert_eq!(server.offer(0, 2, None, 60).unwrap().ip, ip("10.0.0.1"));
    server.check();
    let withdraw = Step::Withdraw { ip: ip("10.0.0.1").into() };
    assert_eq!(server.step_and_submit(0, 2, withdraw, 61), Ok(false));
    assert_eq!(server.state(ip("10.0.0.1"), 61), None);
    server.check();
    assert_eq!(server.leases.pool_counts(PoolId::from_index(0)).unwrap().unused, 1);
}

#[test]
fn an_offer_of_a_used_address_that_comes_to_nothing_leaves_it_to_its_client() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.1")], 1);
    let address = server.lease(1, 0, 100);
    assert_eq!(server.offer(0, 2, None, 100).unwrap(), Offer { ip: address, previous: false });
    assert_eq!(server.found(1, 101), None);
    assert_eq!(server.leases.sweep(&clock(161), 100), 1);
    server.check();
    let lease = server.found(1, 162).unwrap();
    assert_eq!((lease.ipv4(), lease.state), (Some(address), LeaseState::Expired));
    assert_eq!(server.found(2, 162), None);
    assert_eq!(server.offer(0, 1, None, 162).unwrap(), Offer { ip: address, previous: true });
}

#[test]
fn a_retransmitted_request_is_not_written_twice() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")], 2);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    assert!(server.request(0, 1, address, 0, HOUR));
    assert!(matches!(server.bind(0, 1, address, 1, HOUR), Ok(None)));
    assert!(matches!(server.bind(1, 1, address, 1, HOUR), Ok(None)));
    assert_eq!(server.completed(0), []);
    assert_eq!(server.committer.run_once(at(1)), 1);
    assert_eq!(server.completed(0), [(1, true)]);
    // A renewal later is another matter.
    assert!(server.request(0, 1, address, 2, HOUR));
}

#[test]
fn a_bind_is_void_when_its_client_releases_it_meanwhile() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.1")], 2);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    let change = server.bind(0, 1, address, 0, HOUR).unwrap().unwrap();
    // The release is submitted, even committed, before the bind is.
    assert!(server.release(1, 1, address, 1));
    assert_eq!(server.offer(1, 2, None, 1), Err(Refusal::PoolFull));
    server.committer.run_once(at(1));
    server.shards[0].submit(change, Some(7), at(1)).unwrap();
    server.committer.run_once(at(1));
    assert_eq!(server.completed(0), [(7, false)], "no ACK leaves");
    assert_eq!(server.state(address, 1), Some(LeaseState::Released));
    server.check();
    let after = Server::start(server.site, store, 1, clock(2));
    assert_eq!(after.state(address, 2), Some(LeaseState::Released));
}

#[test]
fn an_ack_that_waits_is_void_when_another_client_came() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.1")], 2);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    let change = server.bind(0, 1, address, 0, HOUR).unwrap().unwrap();
    assert!(server.release(1, 1, address, 1));
    server.committer.run_once(at(1));
    assert_eq!(server.offer(1, 2, None, 2).unwrap().ip, address);
    assert!(server.request(1, 2, address, 2, HOUR));
    server.shards[0].submit(change, Some(7), at(2)).unwrap();
    server.committer.run_once(at(2));
    assert_eq!(server.completed(0), [(7, false)]);
    assert_eq!(server.completed(1), [(2, true)]);
    server.check();
}

#[test]
fn declined_addresses_rest() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.2")], 1);
    let address = server.lease(1, 0, HOUR);
    let decline = Step::Decline { ip: address.into(), until: at(901) };
    assert_eq!(server.step_and_submit(0, 9, decline, 1), Err(Refusal::NotHeld), "forged");
    assert_eq!(server.step_and_submit(0, 1, decline, 1), Ok(true));
    server.committer.run_once(at(1));
    server.check();
    // Another one for its client, nothing for a third.
    let other = server.offer(0, 1, Some(&address.to_string()), 2).unwrap().ip;
    assert_ne!(other, address);
    assert_eq!(server.offer(0, 3, Some(&address.to_string()), 2), Err(Refusal::PoolFull));
    assert!(matches!(server.bind(0, 1, address, 2, HOUR), Err(Refusal::Quarantined)));
    // A restart does not end it, time does.
    let mut after = Server::start(server.site, store, 1, clock(3));
    assert_eq!(after.state(address, 900), Some(LeaseState::Declined));
    assert_eq!(after.offer(0, 3, Some(&address.to_string()), 901).unwrap().ip, address);
    after.check();
}

#[test]
fn reserved_addresses_are_given_to_nobody_else() {
    let site = Site::new(&[("10.0.0.1", "10.0.0.9")], &["10.0.0.1", "10.0.0.5", "10.0.0.9"]);
    let mut server = Server::start(site, Arc::new(MemoryStore::default()), 4, clock(0));
    let mut given = Vec::new();
    for number in 0..6 {
        given.push(server.offer(number % 4, number as u32, Some("10.0.0.5"), 0).unwrap().ip);
    }
    assert!(["10.0.0.1", "10.0.0.5", "10.0.0.9"].iter().all(|kept| !given.contains(&ip(kept))));
    assert_eq!(server.offer(0, 6, None, 0), Err(Refusal::PoolFull));
    server.check();
    server.hold(0, 10, ip("10.0.0.5"), 0).unwrap();
    assert!(server.request(0, 10, ip("10.0.0.5"), 0, HOUR));
    server.committer.run_once(at(0));
    assert_eq!(server.hold(1, 11, ip("10.0.0.5"), 1), Err(Refusal::HeldByOther));
    server.check();
}

#[test]
fn a_full_disk_withholds_every_ack_and_undoes_every_lease() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.9")], 1);
    let old = server.lease(1, 0, 100);
    store.set_failing(true);
    let new = server.offer(0, 2, None, 10).unwrap().ip;
    assert!(server.request(0, 2, new, 10, HOUR));
    assert!(server.request(0, 1, old, 10, HOUR));
    server.committer.run_once(at(10));
    let mut answers = server.completed(0);
    answers.sort_unstable();
    assert_eq!(answers, [(1, false), (2, false)]);
    server.check();
    // The renewal did not happen; the offer is still good.
    assert_eq!(server.leases.at(old, at(11)).unwrap().expires, at(100));
    assert_eq!(server.state(new, 11), Some(LeaseState::Offered));
    assert_eq!(server.state(old, 101), Some(LeaseState::Expired));
    let failure = server.leases.write_failure();
    assert_eq!(failure.map(|failure| failure.since), Some(at(10)));
    // While it lasts, every request fails, and nothing else stops.
    for second in 12..20 {
        assert!(server.request(0, 2, new, second, HOUR));
        server.committer.run_once(at(second));
        assert_eq!(server.completed(0), [(2, false)]);
    }
    store.set_failing(false);
    assert!(server.request(0, 2, new, 30, HOUR));
    server.committer.run_once(at(30));
    assert_eq!(server.completed(0), [(2, true)]);
    assert_eq!(server.leases.write_failure(), None);
    server.check();
    let after = Server::start(server.site, store, 1, clock(31));
    assert_eq!(after.state(new, 31), Some(LeaseState::Active));
    assert_eq!(after.leases.at(old, at(31)).unwrap().expires, at(100));
}

#[test]
fn a_quarantine_holds_even_if_it_cannot_be_written() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.1")], 1);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    store.set_failing(true);
    let (hardware, _) = machine(1);
    let change = server.shards[0].quarantine(address, hardware, at(0), at(0), at(900)).unwrap();
    server.shards[0].submit(change, None, at(0)).unwrap();
    server.committer.run_once(at(0));
    assert_eq!(server.offer(0, 2, None, 1), Err(Refusal::PoolFull));
    server.check();
    assert_eq!(server.offer(0, 2, None, 900).unwrap().ip, address);
    server.check();
}

#[test]
fn what_cannot_be_read_is_in_quarantine() {
    let store = Arc::new(MemoryStore::default());
    store.put_raw(ip("10.0.0.1").into(), &[99, 1, 2, 3]);
    let site = Site::new(&[("10.0.0.1", "10.0.0.1")], &[]);
    let mut server = Server::start(site, store, 1, clock(0));
    let damage = Damage { unreadable: 1, ..Damage::default() };
    assert_eq!(server.leases.damage(at(0)), Some(damage));
    assert_eq!(server.offer(0, 1, None, HOUR - 1), Err(Refusal::PoolFull));
    assert_eq!(server.offer(0, 1, None, HOUR).unwrap().ip, ip("10.0.0.1"));
    server.check();
}

#[test]
fn a_reload_keeps_every_lease() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.9")], 3);
    let kept = server.lease(1, 0, HOUR);
    let offered = server.offer(1, 2, None, 0).unwrap().ip;
    // The pool moves.
    let next = Site::new(&[("10.0.1.1", "10.0.1.9")], &[]);
    server.leases.reconfigure(&[], &next.dhcp);
    server.site = next;
    server.check();
    assert_eq!(server.found(1, 1).unwrap().ipv4(), Some(kept));
    assert!(matches!(server.bind(2, 2, offered, 1, HOUR), Ok(Some(_))));
    // Outside the pools now, so the next offer is inside.
    assert!(server.offer(0, 1, None, 2).unwrap().ip >= ip("10.0.1.1"));
    // And back; what is used stays used.
    let back = Site::new(&[("10.0.0.1", "10.0.0.9")], &[]);
    server.leases.reconfigure(&[], &back.dhcp);
    server.site = back;
    server.check();
    let mut given: Vec<_> =
        (10..17).map(|number| server.offer(0, number, None, 3).unwrap().ip).collect();
    given.extend([kept, offered]);
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 9);
    assert_eq!(server.offer(0, 20, None, 3), Err(Refusal::PoolFull));
    // No subnet at all: kept.
    server.leases.reconfigure(&[], &Dhcp::default());
    assert_eq!(server.leases.at(kept, at(4)).unwrap().state, LeaseState::Active);
    drop(store);
}

#[test]
fn a_pool_smaller_than_the_number_of_shards_is_given_whole() {
    for shards in [1, 2, 3, 8] {
        let (mut server, store) = server(&[("10.0.0.1", "10.0.0.5")], shards);
        let mut given: Vec<_> = (0..5)
            .map(|number| server.offer((number as usize * 5) % shards, number, None, 0).unwrap().ip)
            .collect();
        for (number, address) in (0..).zip(given.clone()) {
            assert!(server.request(0, number, address, 0, HOUR));
        }
        server.committer.run_once(at(0));
        server.check();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 5);
        assert_eq!(server.offer(0, 9, None, 1), Err(Refusal::PoolFull));
        // Again with another number of shards: all leases are there, and one that is released on
        // one shard is given by another.
        let mut after = Server::start(server.site, store, shards + 3, clock(2));
        after.check();
        assert_eq!(after.offer(0, 9, None, 2), Err(Refusal::PoolFull));
        let given = after.found(3, 2).unwrap().ipv4().unwrap();
        assert!(after.release(0, 3, given, 3));
        after.committer.run_once(at(3));
        assert_eq!(after.offer(shards + 2, 9, None, 3).unwrap().ip, given);
        after.check();
    }
}

#[test]
fn a_shard_gives_what_others_have_taken_and_not_used() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.200")], 3);
    // Two shards take a piece of the pool and use one address each; one of them is free again.
    server.offer(0, 1, None, 0).unwrap();
    let free = server.offer(1, 2, None, 0).unwrap().ip;
    assert_eq!(server.step_and_submit(1, 2, Step::Withdraw { ip: free.into() }, 0), Ok(false));
    for number in 10..209 {
        server.offer(2, number, None, 0).unwrap();
    }
    assert_eq!(server.offer(2, 9, None, 0), Err(Refusal::PoolFull));
    server.check();
}

#[test]
fn infinite_leases_never_end() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.1")], 1);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    let forever = bound(address, Moment::NEVER, false);
    let change = server.step(0, 1, forever, 0).unwrap().unwrap();
    server.shards[0].submit(change, Some(1), at(0)).unwrap();
    server.committer.run_once(at(0));
    let years = 100 * 365 * 24 * HOUR;
    server.leases.sweep(&clock(years), 100);
    assert_eq!(server.offer(0, 2, None, years), Err(Refusal::PoolFull));
    let boot = BootId([2; 16]);
    let after = Clock { now: at(5), wall: 1_800_000_000 + years, boot, synchronised: true };
    let mut after = Server::start(server.site, store, 1, after);
    assert_eq!(after.offer(0, 2, None, 6), Err(Refusal::PoolFull));
    assert_eq!(after.offer(0, 1, None, 6).unwrap(), Offer { ip: address, previous: true });
}

#[test]
fn a_lone_lease_is_written_though_its_shard_is_never_dry() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")], 2);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    assert!(server.request(0, 1, address, 0, HOUR));
    assert!(!server.leases.queue.is_closed());
    server.shards[1].kick(true);
    assert!(!server.leases.queue.is_closed());
    assert!(server.shards[0].kick(false), "the next turn must come without a wait");
    assert!(!server.leases.queue.is_closed());
    assert!(!server.shards[0].kick(false), "and then nothing is held back");
    assert!(server.leases.queue.is_closed());
    assert!(!server.leases.queue.is_dry(), "soon after another batch it waits for more");
    server.committer.run_once(at(0));
    assert!(!server.leases.queue.is_closed());
    assert!(!server.shards[0].kick(true));
    // And at once when it is dry.
    let address = server.offer(1, 2, None, 0).unwrap().ip;
    assert!(server.request(1, 2, address, 0, HOUR));
    server.shards[1].kick(true);
    assert!(server.leases.queue.is_closed() && server.leases.queue.is_dry());
}

#[test]
fn a_full_queue_undoes_the_change() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.255.1")], 1);
    let mut refused = 0;
    for number in 0..20_000 {
        let address = server.offer(0, number, None, 0).unwrap().ip;
        let change = server.bind(0, number, address, 0, HOUR).unwrap().unwrap();
        if server.shards[0].submit(change, Some(number.into()), at(0)).is_err() {
            assert_eq!(server.state(address, 0), Some(LeaseState::Offered));
            refused += 1;
        }
    }
    assert_eq!(refused, 20_000 - queue::SHARD_LIMIT);
    server.check();
    while server.committer.run_once(at(0)) > 0 {}
    assert!(server.completed(0).iter().all(|(_, written)| *written));
    server.check();
}

#[test]
fn every_change_on_its_way_counts_however_many_a_plan_has() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.255.1")], 2);
    let bind = |server: &mut Server, shard, number| {
        let address = server.offer(shard, number, None, 0).unwrap().ip;
        server.bind(shard, number, address, 0, HOUR).unwrap().unwrap()
    };
    let most = queue::SHARD_LIMIT as u32;
    let mut submitted = 0;
    for number in 0..most {
        let changes = [bind(&mut server, 0, 2 * number), bind(&mut server, 0, 2 * number + 1)];
        match server.shards[0].submit(changes, Some(number.into()), at(0)) {
            Ok(()) => submitted += 1,
            Err(_) => break,
        }
    }
    assert_eq!(submitted, most / 2);
    // What one shard has on its way takes no room from another, nor does what nobody waits for.
    for number in 0..most {
        let change = bind(&mut server, 1, 4 * most + number);
        server.shards[1].submit(change, None, at(0)).unwrap();
    }
    let change = bind(&mut server, 1, 5 * most);
    server.shards[1].submit(change, None, at(0)).unwrap_err();
    while server.committer.run_once(at(0)) > 0 {}
    // Every token comes back, though the shard took none until now.
    let mut tokens = server.completed(0);
    tokens.sort_unstable();
    let all: Vec<_> = (0..u64::from(submitted)).map(|token| (token, true)).collect();
    assert_eq!(tokens, all);
    assert_eq!(server.completed(1), []);
    for shard in 0..2 {
        let change = bind(&mut server, shard, 6 * most + shard as u32);
        server.shards[shard].submit(change, Some(0), at(0)).unwrap();
    }
    server.check();
}

#[test]
fn a_page_of_leases_comes_by_address() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")], 1);
    let given: Vec<_> = (0..5).map(|number| server.lease(number, 0, HOUR)).collect();
    let page = |from: &str, limit| {
        let page = server.leases.page(ip(from), limit, at(1));
        page.into_iter().filter_map(|lease| lease.ipv4()).collect::<Vec<_>>()
    };
    assert_eq!(page("0.0.0.0", 2), given[..2]);
    assert_eq!(page("10.0.0.3", 10), given[2..]);
    assert!(page("10.0.0.9", 10).is_empty());
}

#[test]
fn a_person_may_end_a_lease() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.9")], 1);
    let address = server.lease(1, 0, HOUR);
    let Server { leases, committer, site, .. } = server;
    let thread = committer.spawn(|| at(1)).unwrap();
    assert_eq!(leases.release(ip("10.0.0.9"), at(1)), Ok(None));
    let lease = leases.release(address, at(1)).unwrap().unwrap();
    assert_eq!(lease.state, LeaseState::Released);
    store.set_failing(true);
    assert_eq!(leases.release(address, at(1)), Ok(None));
    drop(thread);
    let after = Server::start(site, store.clone(), 1, clock(2));
    assert_eq!(after.state(address, 2), Some(LeaseState::Released));
}

#[test]
fn an_address_that_was_offered_a_moment_ago_is_not_looked_at_for_the_next_client() {
    let site = Site::new(&[("10.0.0.1", "10.0.4.0")], &[]);
    let mut server = Server::start(site, Arc::new(MemoryStore::default()), 1, clock(0));
    let locked = |server: &Server| server.leases.table.locked.load(Relaxed);
    for number in 0..100 {
        let before = locked(&server);
        server.offer(0, number, None, 0).unwrap();
        // Once to see that it is free, once to take it.
        assert_eq!(locked(&server) - before, 2, "{number}");
    }
    server.check();
}
