//! The live view of a run: redrawn on a terminal, a line every few seconds elsewhere. It has a
//! thread of its own.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Progress, Snapshot};
use crate::slo::Milliseconds;

/// How often a terminal is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(5);

/// Shows a run until it is dropped.
pub struct Live {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to show the progress on standard error.
    pub fn begin(progress: Arc<Progress>) -> Live {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let thread = thread::Builder::new().name("live".to_owned()).spawn(move || {
            if stderr().is_terminal() { draw(&progress, &ended) } else { log(&progress, &ended) }
        });
        // Without a thread there is no view, and the run goes on.
        Live { over, thread: thread.ok() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn draw(progress: &Progress, over: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is ours, and it is right.
    if let Ok(style) = ProgressStyle::with_template("{msg}\n[{wide_bar:.green}] {pos} of {len} up")
    {
        bar.set_style(style.progress_chars("━╸ "));
    }
    let mut rates = Rates::default();
    while !over.load(Ordering::Relaxed) {
        let now = progress.look();
        bar.set_length(now.total);
        bar.set_position(now.up);
        let [exchanges, megabytes] = rates.of(&now);
        bar.set_message(format!(
            "{}\n{}",
            states(&now),
            format_args!(
                "{exchanges:.0} exchanges/s, {megabytes:.1} MB/s | OFFER {} p99 {} | ACK {} p99 \
                 {}{}",
                Milliseconds(now.quantiles[0]),
                Milliseconds(now.quantiles[1]),
                Milliseconds(now.quantiles[2]),
                Milliseconds(now.quantiles[3]),
                wrongs(&now),
            )
        ));
        thread::sleep(FRAME);
    }
    bar.finish_and_clear();
}

fn log(progress: &Progress, over: &AtomicBool) {
    let mut rates = Rates::default();
    let mut next = Instant::now() + LINE;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(FRAME.min(Duration::from_millis(50)));
        if Instant::now() < next {
            continue;
        }
        next += LINE;
        let now = progress.look();
        let [exchanges, megabytes] = rates.of(&now);
        // A closed standard error does not end the run.
        let _ = writeln!(
            stderr(),
            "{}; {exchanges:.0} exchanges/s, {megabytes:.1} MB/s{}",
            states(&now),
            wrongs(&now)
        );
    }
}

fn states(now: &Snapshot) -> String {
    format!(
        "{:5.1} s: {} off, {} booting, {} offered, {} loading, {} up, {} given up",
        now.seconds, now.off, now.discovering, now.requesting, now.loading, now.up, now.given_up
    )
}

fn wrongs(now: &Snapshot) -> String {
    if now.violations == 0 { String::new() } else { format!(" | {} VIOLATIONS", now.violations) }
}

/// Differences from one look to the next.
#[derive(Debug, Default)]
struct Rates {
    last: Snapshot,
}

impl Rates {
    /// Exchanges and million bytes a second.
    fn of(&mut self, now: &Snapshot) -> [f64; 2] {
        let seconds = (now.seconds - self.last.seconds).max(0.001);
        let exchanges = now.exchanges.saturating_sub(self.last.exchanges) as f64 / seconds;
        let bytes = now.bytes.saturating_sub(self.last.bytes) as f64 / 1e6 / seconds;
        self.last = now.clone();
        [exchanges, bytes]
    }
}
