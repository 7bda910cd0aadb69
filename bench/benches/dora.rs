//! What one DORA costs a shard, without sockets and disk: from the bytes of a datagram to the bytes
//! of its reply, with rules, leases, metrics and events.
//!
//! `cargo bench -p bootstorm-bench --bench dora` tells the time. On a busy machine count
//! instructions: see the bench of that name.

mod lab;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lab::{BATCH, CONFIGURATIONS, Machines};

fn dora(criterion: &mut Criterion) {
    for (name, config) in CONFIGURATIONS {
        let mut machines = None;
        let mut group = criterion.benchmark_group(format!("dora/{name}"));
        group.throughput(Throughput::Elements(1));
        for (step, title) in ["discover", "request", "ack leaves"].into_iter().enumerate() {
            group.bench_function(title, |bencher| {
                let machines = machines.get_or_insert_with(|| Machines::new(&config()));
                bencher.iter_custom(|iterations| {
                    let batches = iterations.div_ceil(BATCH.into());
                    let took: Duration = (0..batches).map(|_| machines.boot()[step]).sum();
                    took.mul_f64(iterations as f64 / (batches * u64::from(BATCH)) as f64)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, dora);
criterion_main!(benches);
