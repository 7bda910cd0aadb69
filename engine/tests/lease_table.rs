//! How much memory a lease takes, and how long a look-up, a renewal and a new lease take. It
//! measures, so it is not run with the other tests:
//!
//! ```text
//! cargo test --release -p bootstorm --test lease_table -- --ignored --nocapture
//! ```

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bootstorm::leases::{
    Admission, BatchId, Client, ClientKey, Clock, Committer, Finished, Hardware, LeaseStore,
    Leases, Loaded, Recovered, RelaySaid, Said, ShardLeases, Step, StoreError, Write,
};
use bootstorm_protocols::time::Moment;

const CONFIG: &str = r#"
[dhcp]
[[dhcp.subnet]]
subnet = "10.0.0.0/8"
pools = ["10.0.1.0-10.255.255.250"]
"#;

/// A store that keeps nothing, so that only the table is measured.
#[derive(Default)]
struct Nowhere(Mutex<VecDeque<BatchId>>);

impl LeaseStore for Nowhere {
    fn begin(&self, id: BatchId, _: &[Write], _: &Clock) -> Result<(), StoreError> {
        self.0.lock().unwrap().push_back(id);
        Ok(())
    }

    fn finish(&self) -> Option<Finished> {
        let id = self.0.lock().unwrap().pop_front()?;
        Some(Finished { id, result: Ok(Vec::new()) })
    }

    fn load(&self, _: &Clock, _: &mut dyn FnMut(Loaded)) -> Result<Recovered, StoreError> {
        Ok(Recovered::default())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

struct Bed {
    config: bootstorm::config::Config,
    shard: ShardLeases,
    committer: Committer,
}

impl Bed {
    /// A machine of a rack behind a relay agent.
    fn as_machine<R>(number: u32, with: impl FnOnce(&Client<'_>) -> R) -> R {
        let [a, b, c, d] = number.to_be_bytes();
        let hardware = Hardware::ethernet([2, 0, a, b, c, d]);
        let key = ClientKey::hardware(&hardware);
        let id = [1, 2, 0, a, b, c, d];
        let hostname = format!("r{:03}-n{:03}", number / 1000, number % 1000);
        let notes = Said {
            client_id: Some(&id),
            tells_apart: false,
            hostname: Some(hostname.as_bytes()),
            circuit_id: Some(b"port7"),
            remote_id: Some(b"switch1"),
            relay: RelaySaid::All,
            scope: None,
        };
        with(&Client { key: &key, hardware, notes })
    }

    fn bind(&mut self, client: &Client<'_>, ip: IpAddr, now: Moment) {
        let admission = Admission::Pool {
            low: Ipv4Addr::new(10, 0, 1, 0).into(),
            high: Ipv4Addr::new(10, 255, 255, 250).into(),
            host: None,
            bill: None,
        };
        let bind =
            Step::Bind { ip, admission, expires: now + Duration::from_secs(3600), heard: false };
        let change = self.shard.apply(client, &bind, now).unwrap().unwrap();
        self.shard.submit(change, Some(1), now).unwrap();
    }

    fn commit(&mut self, now: Moment) {
        while self.committer.run_once(now) > 0 {}
        self.shard.completed(|_, result| result.unwrap());
    }

    fn new_lease(&mut self, client: &Client<'_>, now: Moment) {
        let dhcp = &self.config.dhcp;
        let pools = &dhcp.subnets[0].pools;
        let ip = self.shard.propose(dhcp, pools, None, now).unwrap();
        let until = now + Duration::from_secs(60);
        let offer = Step::Offer { ip, admission: Admission::Unknown, until };
        self.shard.apply(client, &offer, now).unwrap();
        self.bind(client, ip, now);
    }
}

/// Nanoseconds that each of `count` takes.
fn each(count: u32, mut what: impl FnMut(u32)) -> u128 {
    let start = Instant::now();
    (0..count).for_each(&mut what);
    start.elapsed().as_nanos() / u128::from(count)
}

#[test]
#[ignore = "it measures"]
fn a_million_leases() {
    const LEASES: u32 = 1_000_000;
    let config = bootstorm::config::parse(Path::new("a.toml"), CONFIG.as_bytes()).unwrap();
    let now = Moment::from_nanos(1_000_000_000);
    let clock = Clock { now, wall: 0, boot: Default::default(), synchronised: true };
    let leases = Leases::open(Arc::new(Nowhere::default()), &config.dhcp, 1, clock).unwrap();
    let committer = leases.committer();
    let shard = leases.shard(0, || ());
    let mut bed = Bed { config, shard, committer };
    let before = resident();
    let made = each(LEASES, |number| {
        Bed::as_machine(number, |client| bed.new_lease(client, now));
        if number % 128 == 0 {
            bed.commit(now);
        }
    });
    bed.commit(now);
    println!("resident bytes per lease: {}", (resident() - before) / u64::from(LEASES));
    println!("ns for a new lease: {made}");
    // In an order that no cache knows.
    let somebody = |number: u32| number.wrapping_mul(2_654_435_761) % LEASES;
    let found = each(LEASES, |number| {
        Bed::as_machine(somebody(number), |client| {
            bed.shard.of_client(client.key, now, |lease| {
                black_box(lease);
            });
        });
    });
    let nobody = each(LEASES, |number| {
        Bed::as_machine(somebody(number), |client| {
            black_box(client);
        });
    });
    println!("ns to find the leases of a client: {}", found.saturating_sub(nobody));
    let later = now + Duration::from_secs(1);
    let renewed = each(LEASES, |number| {
        Bed::as_machine(somebody(number), |client| {
            let mut ip = None;
            bed.shard.of_client(client.key, later, |lease| ip = Some((lease.ip, lease.pending)));
            // It may have come a moment ago.
            if let Some((ip, false)) = ip {
                bed.bind(client, ip, later);
            }
        });
        if number % 128 == 0 {
            bed.commit(later);
        }
    });
    bed.commit(later);
    println!("ns for a renewal, look-up and commit included: {}", renewed.saturating_sub(nobody));
    println!(
        "resident bytes per lease after renewals: {}",
        (resident() - before) / u64::from(LEASES)
    );
}
