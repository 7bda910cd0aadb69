//! Which backend a host gets, and what denied it a better one.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::{Limits, Mmsg, Uring};

/// What the configuration asks for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum EngineChoice {
    /// io_uring, and where it is denied recvmmsg.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl EngineChoice {
    /// Finds out what this host allows, once, before the shards start. With `Auto` and io_uring
    /// denied the answer is `Mmsg` and the reason, for one warning.
    ///
    /// # Errors
    /// io_uring was demanded and is denied.
    pub fn resolve(self) -> Result<(EngineKind, Option<Denied>), Denied> {
        match self {
            EngineChoice::Mmsg => Ok((EngineKind::Mmsg, None)),
            EngineChoice::Uring => probe().map(|()| (EngineKind::Uring, None)),
            EngineChoice::Auto => Ok(match probe() {
                Ok(()) => (EngineKind::Uring, None),
                Err(denied) => (EngineKind::Mmsg, Some(denied)),
            }),
        }
    }
}

/// What a host can do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EngineKind {
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl EngineKind {
    /// Makes a backend of this kind, in the thread that will use it.
    ///
    /// # Errors
    /// Memory or descriptors are used up.
    pub fn open(self, limits: &Limits) -> io::Result<Engine> {
        match self {
            EngineKind::Uring => Uring::new(limits).map(Engine::Uring),
            EngineKind::Mmsg => Mmsg::new(limits).map(Engine::Mmsg),
        }
    }
}

/// A backend of the host. Match on it and run a generic loop with the backend.
// There is one in each thread and it is moved once, so its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Engine {
    /// io_uring.
    Uring(Uring),
    /// recvmmsg and sendmmsg.
    Mmsg(Mmsg),
}

/// io_uring cannot be used, what denied it, and what would allow it.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is denied: {reason}")]
pub struct Denied {
    /// What stands in the way.
    pub reason: Reason,
}

/// What stands in the way of io_uring.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The sysctl.
    #[error(
        "the sysctl kernel.io_uring_disabled is {value} ({}); \
         `sysctl kernel.io_uring_disabled=0` allows it{}",
        if *value == 1 { "privileged processes only" } else { "switched off for everybody" },
        match value {
            1 => ", and so does membership in the group of kernel.io_uring_group",
            _ => "",
        }
    )]
    Sysctl {
        /// 1 or 2.
        value: u8,
    },
    /// A system call filter of a container or a service manager.
    #[error(
        "a seccomp filter of this process refuses io_uring_setup ({error}); \
         allow it in the container's seccomp profile or the unit's SystemCallFilter="
    )]
    Seccomp {
        /// What the filter answers.
        error: io::Error,
    },
    /// The kernel lacks what we need.
    #[error("Linux {release} has no {missing}; it came with Linux {since}")]
    TooOld {
        /// The running kernel.
        release: String,
        /// What it lacks.
        missing: &'static str,
        /// Which kernel has it.
        since: &'static str,
    },
    /// The kernel was built without it.
    #[error("Linux {release} was built without CONFIG_IO_URING")]
    NotBuilt {
        /// The running kernel.
        release: String,
    },
    /// No memory for the ring and its buffers.
    #[error(
        "no memory for the ring ({error}); \
         the limit of locked memory is {limit}: `ulimit -l` or LimitMEMLOCK= raise it"
    )]
    Memory {
        /// From the kernel.
        error: io::Error,
        /// RLIMIT_MEMLOCK in bytes, or "unlimited".
        limit: String,
    },
    /// Anything else, such as a security module.
    #[error("io_uring_setup: {0}")]
    Other(io::Error),
}

/// Tries what a shard will do: a ring with its flags, buffers and operations.
fn probe() -> Result<(), Denied> {
    let limits = Limits { buffers: 8, slots: 1, shared: 1, ..Limits::default() };
    let reason = match Uring::new(&limits) {
        Ok(_) => return probe_operations().map_err(|reason| Denied { reason }),
        Err(error) => explain(error, &Host::read()),
    };
    Err(Denied { reason })
}

fn probe_operations() -> Result<(), Reason> {
    let mut probe = Probe::new();
    let ring = IoUring::new(1).map_err(Reason::Other)?;
    ring.submitter().register_probe(&mut probe).map_err(Reason::Other)?;
    let needed = [
        (opcode::RecvMsgMulti::CODE, "recvmsg in io_uring"),
        (opcode::SendMsg::CODE, "sendmsg in io_uring"),
        (opcode::PollAdd::CODE, "poll in io_uring"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some(&(_, missing)) => {
            Err(Reason::TooOld { release: Host::read().release, missing, since: "5.3" })
        }
    }
}

/// What the system says of itself.
struct Host {
    release: String,
    /// kernel.io_uring_disabled; `None` before Linux 6.6.
    disabled: Option<u8>,
    /// A seccomp filter is on this thread.
    seccomp: bool,
    memlock: String,
}

impl Host {
    fn read() -> Host {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/thread-self/status");
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        Host {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            seccomp: seccomp.is_some_and(|mode| mode.trim() == "2"),
            memlock: memlock.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes")),
        }
    }
}

/// Finds the cause of a failed io_uring_setup.
fn explain(error: io::Error, host: &Host) -> Reason {
    let release = host.release.clone();
    match (error.raw_os_error(), host.disabled) {
        (Some(libc::EPERM), Some(value @ 1..)) => Reason::Sysctl { value },
        // Profiles answer EPERM (Docker) or ENOSYS (Podman).
        (Some(libc::EPERM | libc::ENOSYS | libc::EACCES), _) if host.seccomp => {
            Reason::Seccomp { error }
        }
        (Some(libc::ENOSYS), _) => Reason::NotBuilt { release },
        (Some(libc::EINVAL), _) => {
            Reason::TooOld { release, missing: "IORING_SETUP_DEFER_TASKRUN", since: "6.1" }
        }
        (Some(libc::ENOMEM), _) => Reason::Memory { error, limit: host.memlock.clone() },
        _ => Reason::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errno: i32, disabled: Option<u8>, seccomp: bool) -> String {
        let host = Host {
            release: "5.14.0".to_owned(),
            disabled,
            seccomp,
            memlock: "65536 bytes".to_owned(),
        };
        let reason = explain(io::Error::from_raw_os_error(errno), &host);
        Denied { reason }.to_string()
    }

    #[test]
    fn every_cause_is_named_with_the_way_out() {
        let text = told(libc::EPERM, Some(2), true);
        assert!(
            text.contains("kernel.io_uring_disabled is 2 (switched off for everybody)"),
            "{text}"
        );
        let text = told(libc::EPERM, Some(1), false);
        assert!(text.contains("is 1 (privileged") && text.contains("io_uring_group"), "{text}");
        let text = told(libc::EPERM, Some(0), true);
        assert!(text.contains("seccomp filter") && text.contains("SystemCallFilter="), "{text}");
        let text = told(libc::ENOSYS, None, true);
        assert!(text.contains("seccomp filter"), "{text}");
        let text = told(libc::ENOSYS, None, false);
        assert!(text.contains("5.14.0 was built without CONFIG_IO_URING"), "{text}");
        let text = told(libc::EINVAL, None, false);
        assert!(text.contains("5.14.0 has no IORING_SETUP_DEFER_TASKRUN"), "{text}");
        let text = told(libc::ENOMEM, Some(0), false);
        assert!(text.contains("65536 bytes") && text.contains("LimitMEMLOCK="), "{text}");
    }
}
