//! Compares ways to make the leases of a shard durable, on one core: how many exchanges a second,
//! and how much time of the core each takes.
//!
//! ```text
//! taskset -c 0 durable_writes DIRECTORY thread|ring|shard [SECONDS [WORK_MICROSECONDS]]
//! ```
//! A shard serves 256 clients in a closed loop. Each exchange costs it some work, and its client
//! comes again when its lease is durable. A batch closes with 96 leases or when no client is left.
//! `thread`: a committer writes it with pwritev2. `ring`: a committer writes it through an io_uring
//! of its own and encodes the next meanwhile. `shard`: the shard writes it through a ring of its
//! own, one write at a time.
//!
//! The core's time is all that /proc/stat does not call idle: a write through a ring to a device
//! without FUA is completed by a worker of the kernel, which the process is not charged for.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bootstorm_net::file::{BLOCK, Blocks, Directory as _, HostDirectory};
use io_uring::{IoUring, opcode, types};

const CLIENTS: usize = 256;
const FULL: usize = 96;
const LEASE: usize = 140;
const SEGMENT: u64 = 512;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, way, rest @ ..] = &arguments[..] else {
        return Err("durable_writes DIRECTORY thread|ring|shard [SECONDS [WORK]]".into());
    };
    let number = |at: usize, default: f64| -> Result<f64> {
        Ok(rest.get(at).map_or(Ok(default), |text| text.parse())?)
    };
    let end = Duration::from_secs_f64(number(0, 4.0)?);
    let work = Duration::from_secs_f64(number(1, 15.0)? / 1e6);
    let (idle, start) = (busy_ticks()?, Instant::now());
    let (exchanges, batches) = match way.as_str() {
        "thread" => committer(directory, false, end, work)?,
        "ring" => committer(directory, true, end, work)?,
        "shard" => shard(directory, end, work)?,
        other => return Err(format!("{other}: no such way").into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    let busy = (busy_ticks()? - idle) as f64 / 100.0;
    println!(
        "{way}: {:.0} exchanges/s, {:.1} us of the core each ({:.1} besides the work), {:.0} a batch",
        exchanges as f64 / seconds,
        busy * 1e6 / exchanges as f64,
        busy * 1e6 / exchanges as f64 - work.as_secs_f64() * 1e6,
        exchanges as f64 / batches as f64,
    );
    Ok(())
}

/// Ticks of 10 ms that CPU 0 was not idle.
fn busy_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().find(|line| line.starts_with("cpu0 ")).ok_or("no cpu0")?;
    let ticks = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<std::result::Result<Vec<u64>, _>>()?;
    // All but idle and iowait.
    Ok(ticks.iter().take(8).sum::<u64>() - ticks[3] - ticks[4])
}

fn work_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(start);
    }
}

/// Blocks of so many leases; encoding costs about what it does in the server.
fn encode(blocks: &mut Blocks, leases: usize) {
    blocks.clear();
    blocks.resize((leases * LEASE).div_ceil(BLOCK - 64).max(1));
    for (at, byte) in blocks.bytes_mut().iter_mut().enumerate() {
        *byte = black_box(at as u8);
    }
}

/// What the shard and the committer share.
#[derive(Default)]
struct Shared {
    waiting: Mutex<(usize, bool)>,
    durable: Mutex<usize>,
    stop: AtomicBool,
}

fn committer(directory: &str, ring: bool, end: Duration, work: Duration) -> Result<(u64, u64)> {
    let mut file = Probe::open(Path::new(directory))?;
    if ring {
        file.ring = Some(IoUring::new(2)?);
    }
    let shared = Arc::new(Shared::default());
    let shard = thread::current();
    let committer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || commit(&shared, file, &shard, ring))
    };
    let start = Instant::now();
    let (mut ready, mut exchanges) = (CLIENTS, 0);
    while start.elapsed() < end {
        let mut closed = 0;
        while ready > 0 && closed < FULL {
            work_for(work);
            (ready, closed) = (ready - 1, closed + 1);
            exchanges += 1;
        }
        if closed > 0 {
            let mut waiting = shared.waiting.lock().map_err(|_| "committer")?;
            *waiting = (waiting.0 + closed, true);
            drop(waiting);
            committer.thread().unpark();
        }
        ready += std::mem::take(&mut *shared.durable.lock().map_err(|_| "committer")?);
        if ready == 0 {
            thread::park_timeout(Duration::from_millis(20));
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    committer.thread().unpark();
    let batches = committer.join().map_err(|_| "committer")??;
    Ok((exchanges, batches))
}

fn commit(shared: &Shared, mut file: Probe, shard: &Thread, ahead: bool) -> io::Result<u64> {
    let (mut at, mut batches) = (0, 0);
    let (mut blocks, mut spare) = (Blocks::default(), Blocks::default());
    let mut prepared = 0;
    let take = || shared.waiting.lock().map_or(0, |mut waiting| std::mem::take(&mut waiting.0));
    while !shared.stop.load(Ordering::Relaxed) {
        let leases = if prepared > 0 { prepared } else { take() };
        if leases == 0 {
            thread::park_timeout(Duration::from_millis(20));
            continue;
        }
        if prepared == 0 {
            encode(&mut blocks, leases);
        }
        prepared = 0;
        let count = blocks.len() as u64;
        if at + count > SEGMENT {
            at = 0;
        }
        file.begin(at, std::mem::take(&mut blocks))?;
        at += count;
        if ahead {
            prepared = take();
            if prepared > 0 {
                encode(&mut spare, prepared);
            }
        }
        let used = file.finish()?;
        (blocks, spare) = (std::mem::take(&mut spare), used);
        if prepared == 0 {
            std::mem::swap(&mut blocks, &mut spare);
        }
        batches += 1;
        if let Ok(mut durable) = shared.durable.lock() {
            *durable += leases;
        }
        shard.unpark();
    }
    Ok(batches)
}

/// A file whose blocks were written before, and one write to it.
struct Probe {
    file: File,
    /// `None` is pwritev2.
    ring: Option<IoUring>,
    /// The ring reads from them.
    under_way: Option<Blocks>,
}

impl Probe {
    fn open(directory: &Path) -> io::Result<Self> {
        let name = "probe";
        let host = HostDirectory::open(directory)?;
        _ = host.remove(name);
        let file = host.open(name, true)?;
        let mut blocks = Blocks::default();
        blocks.resize(SEGMENT as usize);
        blocks.bytes_mut().fill(1);
        file.write_at(0, &blocks)?;
        file.sync()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let file = file.open(directory.join(name))?;
        Ok(Self { file, ring: None, under_way: None })
    }

    /// Begins to write blocks at a block. With pwritev2 it is done when this returns.
    fn begin(&mut self, at: u64, blocks: Blocks) -> io::Result<()> {
        let (offset, bytes) = (at * BLOCK as u64, blocks.bytes());
        let Some(ring) = &mut self.ring else {
            let slices = [io::IoSlice::new(bytes)];
            let flags = rustix::io::ReadWriteFlags::DSYNC;
            if rustix::io::pwritev2(&self.file, &slices, offset, flags)? != bytes.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.under_way = Some(blocks);
            return Ok(());
        };
        let descriptor = types::Fd(self.file.as_raw_fd());
        let entry = opcode::Write::new(descriptor, bytes.as_ptr(), bytes.len() as u32)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        self.under_way = Some(blocks);
        // SAFETY: the bytes are those of `under_way`, which is taken when the write is complete, or
        // after an error, which ends the program; the file is open as long as the ring.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        ring.submit().map(drop)
    }

    /// Whether the write is complete; waits for it if that is asked for.
    fn poll(&mut self, wait: bool) -> io::Result<Option<Blocks>> {
        let Some(blocks) = &self.under_way else { return Ok(None) };
        if let Some(ring) = &mut self.ring {
            ring.submit_and_wait(wait.into())?;
            let Some(entry) = ring.completion().next() else { return Ok(None) };
            if usize::try_from(entry.result()) != Ok(blocks.bytes().len()) {
                return Err(io::Error::from_raw_os_error(-entry.result()));
            }
        }
        Ok(self.under_way.take())
    }

    fn finish(&mut self) -> io::Result<Blocks> {
        loop {
            if let Some(blocks) = self.poll(true)? {
                return Ok(blocks);
            }
        }
    }
}

fn shard(directory: &str, end: Duration, work: Duration) -> Result<(u64, u64)> {
    let mut file = Probe::open(Path::new(directory))?;
    file.ring = Some(IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?);
    let mut blocks = Blocks::default();
    let (mut at, mut batches, mut exchanges) = (0, 0, 0);
    let (mut ready, mut waiting, mut flying) = (CLIENTS, 0, 0);
    let start = Instant::now();
    while start.elapsed() < end {
        let mut done = 0;
        while ready > 0 && done < FULL {
            work_for(work);
            (ready, done) = (ready - 1, done + 1);
            exchanges += 1;
        }
        waiting += done;
        if flying == 0 && waiting > 0 && (waiting >= FULL || ready == 0) {
            encode(&mut blocks, waiting);
            let count = blocks.len() as u64;
            if at + count > SEGMENT {
                at = 0;
            }
            file.begin(at, std::mem::take(&mut blocks))?;
            at += count;
            (flying, waiting) = (waiting, 0);
        }
        if let Some(used) = file.poll(ready == 0)? {
            blocks = used;
            ready += std::mem::take(&mut flying);
            batches += 1;
        }
    }
    if flying > 0 {
        file.finish()?;
    }
    Ok((exchanges, batches))
}
