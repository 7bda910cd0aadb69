//! Signals: SIGTERM and SIGINT drain and stop, SIGHUP reloads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::control::Command;
use crate::privileges;

/// Signals that are caught and wait to be forwarded.
#[derive(Debug)]
pub struct Signals {
    caught: signal_hook::iterator::Signals,
    /// Nobody forwards yet.
    starting: Arc<AtomicBool>,
}

impl Signals {
    /// Catches the signals from here on. Until [`Signals::forward`] SIGTERM and SIGINT end the
    /// process at once with 0, as nothing was begun that has to end, and SIGHUP waits. Starts no
    /// thread.
    pub fn catch() -> io::Result<Self> {
        let starting = Arc::new(AtomicBool::new(true));
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_shutdown(signal, 0, Arc::clone(&starting))?;
        }
        let caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        Ok(Self { caught, starting })
    }

    /// Forwards them as commands, from a thread of its own. While a stop is under way a second
    /// SIGINT ends the process at once with 130, a second SIGTERM with 143.
    pub fn forward(mut self, commands: Sender<Command>) -> io::Result<()> {
        self.starting.store(false, Ordering::SeqCst);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            privileges::renounce_or_warn();
            let mut stopping = false;
            for signal in self.caught.forever() {
                let command = match signal {
                    SIGHUP => Command::Reload { reply: None },
                    _ if stopping => std::process::exit(128 + signal),
                    _ => {
                        stopping = true;
                        Command::Stop
                    }
                };
                if commands.send(command).is_err() {
                    // Nobody listens any more: the server is about to end.
                    return;
                }
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// Handlers are process-wide: one test for all of it.
    #[test]
    fn signals_become_commands() {
        let signals = Signals::catch().unwrap();
        // Caught before anybody forwards: not lost.
        kill_process(getpid(), Signal::HUP).unwrap();
        let (sender, commands) = crossbeam::channel::unbounded();
        signals.forward(sender).unwrap();
        assert!(matches!(commands.recv().unwrap(), Command::Reload { reply: None }));
        kill_process(getpid(), Signal::TERM).unwrap();
        assert!(matches!(commands.recv().unwrap(), Command::Stop));
    }

    #[test]
    #[ignore = "it is the inner half of a_start_ends_at_once"]
    fn a_start_that_waits() {
        let _signals = Signals::catch().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        // Another thread may take the signal.
        thread::sleep(Duration::from_secs(60));
        std::process::exit(3);
    }

    #[test]
    fn a_start_ends_at_once() {
        let inner = ["--exact", "signals::tests::a_start_that_waits", "--ignored"];
        let own = std::env::current_exe().unwrap();
        let output = std::process::Command::new(own).args(inner).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("running 1 test") && !text.contains("test result"), "{text}");
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
}
