//! Who holds what, and for how long, by what the clients were told.

use super::faulty::{Fault, FaultyStore};
use super::*;

fn server(pools: &[(&str, &str)]) -> (Server, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (Server::start(Site::new(pools, &[]), store.clone(), 1, clock(0)), store)
}

const HOST: Admission<'static> =
    Admission::Host(KnownAs { name: "n01", by: KeyKind::Uuid, key: None });

fn offer(address: Ipv4Addr, admission: Admission<'_>, until: u64) -> Step<'_> {
    Step::Offer { ip: address.into(), admission, until: at(until) }
}

#[test]
fn a_lease_goes_to_nobody_else_whoever_the_address_is_reserved_for() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")]);
    let address = server.lease(1, 0, 100);
    let reserved = offer(address, HOST, 60);
    assert!(matches!(server.step(0, 2, reserved, 1), Err(Refusal::HeldByOther)));
    assert!(matches!(server.bind(0, 2, address, 1, HOUR), Err(Refusal::HeldByOther)));
    assert_eq!(server.leases.at(address, at(1)).unwrap().client, machine(1).1);
    assert!(server.step(0, 2, reserved, 100).is_ok(), "it has ended");
    server.check();
}

#[test]
fn the_same_machine_under_another_identity_has_its_reserved_address() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")]);
    let address = server.lease(1, 0, HOUR);
    let (hardware, first) = machine(1);
    let second = ClientKey::client_id(b"the installer");
    let client = Client { key: &second, hardware, notes: Said::default() };
    let pool = offer(address, Admission::Unknown, 60);
    let refused = server.shards[0].apply(&client, &pool, at(1));
    assert!(matches!(refused, Err(Conflict(Refusal::HeldByOther))), "it is not reserved");
    let stranger = Client { hardware: machine(2).0, ..client };
    assert!(server.shards[0].apply(&stranger, &offer(address, HOST, 60), at(1)).is_err());
    assert!(server.shards[0].apply(&client, &offer(address, HOST, 60), at(1)).is_ok());
    server.check();
    // Not requested: it is the first one's again.
    server.leases.sweep(&clock(61), 10);
    let lease = server.leases.at(address, at(61)).unwrap();
    assert_eq!((lease.client, lease.state), (first, LeaseState::Active));
    server.check();
}

#[test]
fn an_offer_takes_no_lease_away_and_stages_keep_an_address_in_each_pool() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.4"), ("10.0.1.1", "10.0.1.4")]);
    let (firmware, system) = (1, 2);
    let installed = server.offer_from(0, 1, None, 0, system).unwrap().ip;
    assert!(server.request(0, 1, installed, 0, 600));
    server.committer.run_once(at(0));
    for boot in 1..20 {
        let offered = server.offer_from(0, 1, None, boot, firmware).unwrap().ip;
        assert_eq!(offered, ip("10.0.0.1"), "the same each time");
        assert!(server.leases.at(installed, at(boot)).unwrap().is_active(at(boot)));
        assert!(server.request(0, 1, installed, boot, 600), "a renewal of the other");
        server.committer.run_once(at(boot));
    }
    let used: Vec<_> = [0, 1]
        .map(|pool| server.leases.pool_counts(PoolId::from_index(pool)).unwrap())
        .map(|counts| counts.size - counts.unused)
        .to_vec();
    assert_eq!(used, [1, 1]);
    let mut own = Vec::new();
    server.shards[0].of_client(&machine(1).1, at(20), |lease| own.push(lease.ipv4()));
    own.sort_unstable();
    assert_eq!(own, [Some(ip("10.0.0.1")), Some(installed)]);
    server.check();
}

#[test]
fn an_address_that_it_cannot_have_costs_a_client_nothing() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")]);
    let taken = server.lease(1, 0, HOUR);
    let own = server.offer(0, 2, None, 1).unwrap().ip;
    let wish = offer(taken, Admission::Unknown, 61);
    assert!(matches!(server.step(0, 2, wish, 2), Err(Refusal::HeldByOther)));
    assert_eq!(server.state(own, 2), Some(LeaseState::Offered));
    assert!(server.request(0, 2, own, 3, HOUR));
}

#[test]
fn a_shorter_end_than_infinite_counts_when_its_client_has_heard_of_it() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.1")]);
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    let ask = |server: &mut Server, now, expires, heard| {
        let change = server.step(0, 1, bound(address, expires, heard), now).unwrap().unwrap();
        server.shards[0].submit(change, Some(1), at(now)).unwrap();
        server.committer.run_once(at(now));
        assert_eq!(server.completed(0), [(1, true)]);
        server.leases.at(address, at(now)).unwrap()
    };
    ask(&mut server, 0, Moment::NEVER, false);
    // A reload makes leases short; this ACK is lost. RFC 2131 3.2 lets the client go on.
    let lease = ask(&mut server, 1, at(6), false);
    assert_eq!((lease.expires, lease.told), (Moment::NEVER, Some(at(6))));
    assert_eq!(server.offer(0, 2, None, 8), Err(Refusal::PoolFull));
    // Nor does a restart forget either promise.
    let mut after = Server::start(server.site, store, 1, clock(9));
    assert_eq!(after.leases.at(address, at(9)).unwrap().told, Some(at(6)));
    assert_eq!(after.offer(0, 2, None, 9), Err(Refusal::PoolFull));
    let lease = ask(&mut after, 10, at(15), true);
    assert_eq!((lease.expires, lease.told), (at(15), None));
    assert_eq!(after.offer(0, 2, None, 15).unwrap().ip, address);
}

#[test]
fn a_refused_lease_ends_when_its_client_starts_anew() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.1")]);
    let address = server.lease(1, 0, HOUR);
    let (refuse, end) = (Step::Refuse { ip: address.into() }, Step::End { ip: address.into() });
    assert_eq!(server.step_and_submit(0, 1, end, 1), Err(Refusal::NotHeld), "it is not refused");
    assert_eq!(server.step_and_submit(0, 2, refuse, 1), Err(Refusal::NotHeld));
    assert_eq!(server.step_and_submit(0, 1, refuse, 1), Ok(true));
    server.committer.run_once(at(1));
    assert_eq!(server.step_and_submit(0, 1, refuse, 1), Ok(false), "once is enough");
    // The NAK may be lost: the lease stands, over a restart, too.
    let mut server = Server::start(server.site, store, 1, clock(2));
    let lease = server.leases.at(address, at(2)).unwrap();
    assert!(lease.refused && lease.is_active(at(2)));
    assert_eq!(server.offer(0, 2, None, 2), Err(Refusal::PoolFull));
    assert_eq!(server.step_and_submit(0, 1, end, 3), Ok(true));
    assert_eq!(server.offer(0, 2, None, 3), Err(Refusal::PoolFull), "not before it is durable");
    server.committer.run_once(at(3));
    assert_eq!(server.offer(0, 2, None, 4).unwrap().ip, address);
    server.check();
}

#[test]
fn a_lease_that_is_given_again_is_not_refused_any_more() {
    let (mut server, _) = server(&[("10.0.0.1", "10.0.0.9")]);
    let address = server.lease(1, 0, HOUR);
    assert_eq!(server.step_and_submit(0, 1, Step::Refuse { ip: address.into() }, 1), Ok(true));
    assert!(server.request(0, 1, address, 2, HOUR));
    server.committer.run_once(at(2));
    assert!(!server.leases.at(address, at(2)).unwrap().refused);
}

/// A store that lets something happen while a batch is under way.
struct Meanwhile {
    store: MemoryStore,
    happens: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl LeaseStore for Meanwhile {
    fn begin(&self, id: BatchId, batch: &[Write], clock: &Clock) -> Result<(), StoreError> {
        if let Some(happens) = self.happens.lock().take() {
            happens();
        }
        self.store.begin(id, batch, clock)
    }

    fn finish(&self) -> Option<Finished> {
        self.store.finish()
    }

    fn load(&self, clock: &Clock, each: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        self.store.load(clock, each)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.store.reopen()
    }
}

/// A server with one address, and its bind by machine 1 that the next batch writes.
fn bind_to_be_written() -> (Arc<Meanwhile>, Server, Ipv4Addr) {
    let store = Arc::new(Meanwhile { store: MemoryStore::default(), happens: Mutex::new(None) });
    let site = Site::new(&[("10.0.0.1", "10.0.0.1")], &[]);
    let mut server = Server::start(site, store.clone(), 1, clock(0));
    let address = server.offer(0, 1, None, 0).unwrap().ip;
    assert!(server.request(0, 1, address, 0, HOUR));
    (store, server, address)
}

#[test]
fn no_ack_leaves_for_what_is_given_up_while_it_is_written() {
    let (store, mut server, address) = bind_to_be_written();
    // A person releases it, and that is withdrawn: so only the bind is in the store.
    let leases = Arc::clone(&server.leases);
    *store.happens.lock() = Some(Box::new(move || {
        let pools = leases.pools();
        let change = leases.table.release(&pools, address.into(), at(0)).unwrap();
        assert!(leases.table.roll_back(&pools, change, at(0)));
    }));
    server.committer.run_once(at(0));
    assert_eq!(server.completed(0), [(1, false)]);
    assert_eq!(server.state(address, 0), None);
    server.check();
    // The next batch takes it out of the store.
    let other = Site::new(&[("10.0.0.1", "10.0.0.9")], &[]);
    server.leases.reconfigure(&[], &other.dhcp);
    server.site = other;
    let next = server.offer(0, 2, Some("10.0.0.2"), 1).unwrap().ip;
    assert!(server.request(0, 2, next, 1, HOUR));
    server.committer.run_once(at(1));
    let after = Server::start(server.site, store, 1, clock(2));
    assert_eq!((after.state(address, 2), after.state(next, 2)), (None, Some(LeaseState::Active)));
}

#[test]
fn a_release_while_the_bind_is_written_is_not_durable_by_that() {
    let (store, mut server, address) = bind_to_be_written();
    let leases = Arc::clone(&server.leases);
    *store.happens.lock() = Some(Box::new(move || {
        let released = leases.table.release(&leases.pools(), address.into(), at(0));
        let change = released.unwrap();
        leases.queue.submit(queue::Queued { change, from: 0, token: None }).unwrap();
    }));
    server.committer.run_once(at(0));
    let mut completed = Vec::new();
    server.shards[0].completed(|token, result| completed.push((token, result)));
    assert_eq!(completed, [(1, Err(NotDurable::GivenUp))], "no ACK leaves, and no disk failed");
    // The store has the lease: nobody else gets the address before it has the release.
    let lease = server.leases.at(address, at(0)).unwrap();
    assert!(lease.pending && lease.state == LeaseState::Released);
    assert_eq!(server.offer(0, 2, None, 0), Err(Refusal::PoolFull));
    assert_eq!(server.committer.run_once(at(1)), 1);
    assert_eq!(server.offer(0, 2, None, 1).unwrap().ip, address);
    server.check();
}

#[test]
fn a_token_comes_back_once_for_all_its_changes() {
    let store = Arc::new(FaultyStore::default());
    let site = Site::new(&[("10.0.0.1", "10.0.0.9")], &[]);
    let mut server = Server::start(site, store.clone(), 1, clock(0));
    for (fault, written) in [(Fault::None, true), (Fault::Refuse, false), (Fault::Nothing, false)] {
        let changes: Vec<_> = (1..4)
            .map(|number| {
                let address = server.offer(0, number, None, 0).unwrap().ip;
                server.bind(0, number, address, 0, HOUR).unwrap().unwrap()
            })
            .collect();
        server.shards[0].submit(changes, Some(7), at(0)).unwrap();
        assert_eq!(server.shards[0].waiting(), 1);
        store.fail(fault);
        server.committer.run_once(at(0));
        assert_eq!(server.completed(0), [(7, written)], "{fault:?}");
        assert_eq!(server.shards[0].waiting(), 0);
        server.check();
    }
}

#[test]
fn how_a_lease_was_admitted_is_known_after_a_restart() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.9")]);
    let address = ip("10.0.0.4");
    server.step(0, 1, offer(address, HOST, 60), 0).unwrap();
    let expires = at(HOUR);
    let bind = Step::Bind { ip: address.into(), admission: HOST, expires, heard: false };
    assert_eq!(server.step_and_submit(0, 1, bind, 0), Ok(true));
    server.committer.run_once(at(0));
    let after = Server::start(server.site, store, 1, clock(1));
    assert_eq!(after.leases.at(address, at(1)).unwrap().admission(), HOST);
}

#[test]
fn an_ipv6_address_is_leased_as_any_other() {
    let (mut server, store) = server(&[("10.0.0.1", "10.0.0.9")]);
    let address: IpAddr = "2001:db8::17".parse().unwrap();
    let admission = Admission::Pool { low: address, high: address, host: None, bill: None };
    let offer = Step::Offer { ip: address, admission, until: at(60) };
    assert_eq!(server.step_and_submit(0, 1, offer, 0), Ok(false));
    let bind = Step::Bind { ip: address, admission, expires: at(HOUR), heard: false };
    assert_eq!(server.step_and_submit(0, 1, bind, 0), Ok(true));
    let beside = server.lease(1, 0, HOUR);
    let after = Server::start(server.site, store, 1, clock(1));
    let lease = after.leases.at(address, at(1)).unwrap();
    assert!(lease.is_active(at(1)) && lease.admission() == admission);
    let all = after.leases.page(ip("0.0.0.0"), 9, at(1));
    let all: Vec<_> = all.into_iter().map(|lease| lease.ip).collect();
    assert_eq!(all, [IpAddr::V4(beside), address]);
}
