//! Signals: SIGTERM and SIGINT drain and stop, SIGHUP reloads.

use std::io;
use std::thread;

use crossbeam::channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::control::Command;
use crate::privileges;

/// Signals that are caught and wait to be forwarded.
#[derive(Debug)]
pub struct Signals(signal_hook::iterator::Signals);

impl Signals {
    /// Catches the signals from here on; nothing is lost until [`Signals::forward`]. Starts no
    /// thread.
    pub fn catch() -> io::Result<Self> {
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// Forwards them as commands, from a thread of its own. While a stop is under way a second
    /// SIGINT ends the process at once with 130, a second SIGTERM with 143.
    pub fn forward(mut self, commands: Sender<Command>) -> io::Result<()> {
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            privileges::renounce_or_warn();
            let mut stopping = false;
            for signal in self.0.forever() {
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
}
