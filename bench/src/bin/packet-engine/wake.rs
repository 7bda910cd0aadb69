//! What it costs to wake a shard: posting the wake and taking it, in one thread, so that no sleep
//! and no other core has a part in it.

use std::time::Duration;

use bootstorm_net::{Backend, Engine};
use bootstorm_protocols::time::Moment;

use crate::{Error, Score, Sink, Subject, thread_cpu};

/// Wakes of each engine in a round.
const WAKES: u32 = 50_000;

/// The cost of a wake beyond that of a turn with nothing to do.
pub(crate) fn wake(subject: &Subject) -> Result<Score, Error> {
    let kind = subject.kind.ok_or("a plain loop has nothing to wake")?;
    let spent = match kind.open(&subject.limits)? {
        Engine::Uring(backend) => turns(backend)?,
        Engine::Mmsg(backend) => turns(backend)?,
    };
    let seconds = spent.as_secs_f64() / f64::from(WAKES);
    Ok(Score { rate: 1.0 / seconds, cost: seconds * 1e6 })
}

fn turns(mut backend: impl Backend) -> Result<Duration, Error> {
    let waker = backend.waker();
    let mut sink = Sink::default();
    let mut run = |wakes: bool| -> Result<Duration, Error> {
        let before = thread_cpu();
        for _ in 0..WAKES {
            if wakes {
                waker.wake();
            }
            backend.turn(Some(Moment::default()), &mut sink)?;
        }
        Ok(thread_cpu() - before)
    };
    let (idle, woken) = (run(false)?, run(true)?);
    Ok(woken.saturating_sub(idle))
}
