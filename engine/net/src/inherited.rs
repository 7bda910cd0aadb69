//! Descriptors that the service manager passed to this process: sockets that it opened, or that it
//! kept while the process was started again (sd_listen_fds(3)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::Protocol;

use crate::{Socket, UdpSocketSpec};

/// The first of them.
const FIRST: RawFd = 3;

/// The descriptors with their names, in the order they were passed; empty where the environment
/// says that they are for another process, and at every call but the first.
#[must_use]
pub fn inherited() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let text = |name| env::var(name).unwrap_or_default();
    let own = text("LISTEN_PID").parse() == Ok(std::process::id());
    if !own || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let names = text("LISTEN_FDNAMES");
    let mut names = names.split(':');
    let count = text("LISTEN_FDS").parse::<u16>().unwrap_or(0);
    (FIRST..FIRST + RawFd::from(count))
        .filter_map(|raw| {
            let name = names.next().unwrap_or_default().to_owned();
            // SAFETY: it was passed if it is not this process's own, which `passed` sees. By the
            // protocol it is this process's from its start, and this function, which runs once, is
            // the only one to take it.
            Some((name, unsafe { passed(raw) }?))
        })
        .collect()
}

/// A descriptor that this process was started with; `None` where it is not open, or is one that
/// this process has opened: those have FD_CLOEXEC, and none that has it survives exec. Without this
/// a number in LISTEN_FDS that is too large would take descriptors away from their owners.
///
/// # Safety
/// Nobody else owns it if it was passed.
unsafe fn passed(raw: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is used for these calls only, which fail where the descriptor is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    if fcntl_getfd(borrowed).ok()?.contains(FdFlags::CLOEXEC) {
        return None;
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, and the caller promises the rest.
    Some(unsafe { OwnedFd::from_raw_fd(raw) })
}

impl UdpSocketSpec {
    /// Takes a socket that somebody else opened, or this program before it was started again. What
    /// waits in it is received. A group is taken as a whole, in the order its sockets were bound.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where it is not bound as [`UdpSocketSpec::open`] would bind
    /// it, or the others of its group could not be bound beside it; else the kernel's, with the
    /// option that it refused.
    pub fn adopt(&self, fd: OwnedFd) -> io::Result<Socket> {
        if !self.describes(&fd) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is bound otherwise");
            return Err(self.error("inherited socket", error));
        }
        let socket = socket2::Socket::from(fd);
        let shared = self.reuseport || self.steering.is_some();
        if shared && !socket.reuse_port().map_err(|e| self.error("SO_REUSEPORT", e))? {
            let why = "not set; its socket unit lacks ReusePort=yes";
            let error = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(self.error("inherited socket: SO_REUSEPORT", error));
        }
        socket.set_nonblocking(false).map_err(|e| self.error("O_NONBLOCK", e))?;
        self.configure(&socket)?;
        let mut socket = self.bound(socket.into());
        socket.forget_drops();
        Ok(socket)
    }

    /// Whether a socket is a UDP socket that is bound to the address and interface of this
    /// specification.
    #[must_use]
    pub fn describes(&self, fd: &OwnedFd) -> bool {
        let socket = socket2::SockRef::from(fd);
        let index = ifindex(fd);
        socket.protocol().is_ok_and(|protocol| protocol == Some(Protocol::UDP))
            && socket.local_addr().is_ok_and(|bound| bound.as_socket() == Some(self.bind))
            && index.is_ok_and(|index| index == self.ifindex.unwrap_or(0))
    }
}

/// The interface that a socket is bound to; 0 is none.
fn ifindex(socket: &OwnedFd) -> io::Result<u32> {
    let mut value = 0_u32;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: value is writable for len bytes, and both outlive the call.
    let result = unsafe {
        let out = (&raw mut value).cast();
        let (level, option) = (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX);
        libc::getsockopt(socket.as_raw_fd(), level, option, out, &mut len)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, IntoRawFd};

    use super::*;

    #[test]
    fn a_socket_that_lets_no_other_beside_it_is_refused_by_its_name() {
        let bind = ([127, 0, 0, 1], 0).into();
        let alone = UdpSocketSpec { bind, ..Default::default() }.open().unwrap();
        let bind = alone.local_addr().unwrap();
        let spec = UdpSocketSpec { bind, reuseport: true, ..Default::default() };
        let error = spec.adopt(alone.as_fd().try_clone_to_owned().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("ReusePort=yes"), "{error}");
    }

    #[test]
    fn what_this_process_has_opened_itself_is_not_taken() {
        let own = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: it is `own`'s, so it must not be taken.
        assert!(unsafe { passed(own.as_raw_fd()) }.is_none());
        // As it would come through exec.
        let raw = rustix::io::dup(&own).unwrap().into_raw_fd();
        // SAFETY: nobody owns it.
        let taken = unsafe { passed(raw) }.expect("it was passed");
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        // SAFETY: no process has a descriptor of this number.
        assert!(unsafe { passed(RawFd::MAX) }.is_none());
    }
}
