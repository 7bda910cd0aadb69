//! Two machines: network namespaces joined by a veth pair.

use std::os::fd::AsFd;
use std::process::Command;
use std::thread::{self, JoinHandle};

use crate::Error;

/// Two network namespaces joined by a veth pair.
pub(crate) struct Pair {
    names: [String; 2],
}

impl Pair {
    pub(crate) fn new() -> Result<Pair, Error> {
        let id = std::process::id();
        let pair = Pair { names: [format!("bs-net-{id}-s"), format!("bs-net-{id}-c")] };
        let [server, client] = &pair.names;
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", client])?;
        let veth = ["link", "add", "veth0", "netns", server, "type", "veth", "peer", "veth0"];
        ip(&[&veth[..], &["netns", client]].concat())?;
        for (name, address) in [(server, "10.99.7.1/24"), (client, "10.99.7.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "veth0"])?;
            ip(&["-n", name, "link", "set", "veth0", "up"])?;
        }
        Ok(pair)
    }

    pub(crate) fn path(&self, side: usize) -> String {
        format!("/run/netns/{}", self.names[side])
    }

    /// Runs `work` in one of the two namespaces, on a core of its own.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        side: usize,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> JoinHandle<Result<T, Error>> {
        let path = self.path(side);
        thread::spawn(move || {
            enter(&path)?;
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(side);
            rustix::thread::sched_setaffinity(None, &cpus)?;
            work()
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Moves this thread into a network namespace.
pub(crate) fn enter(path: &str) -> Result<(), Error> {
    let namespace = std::fs::File::open(path)?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

fn ip(args: &[&str]) -> Result<(), Error> {
    let output = Command::new("ip").args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)).into())
}
