//! Descriptors that the service manager passed to this process: sockets that it opened, or that it
//! kept while the process was started again (sd_listen_fds(3)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io};

use rustix::io::{FdFlags, fcntl_setfd};
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
            // SAFETY: it is used for this call only, which fails where the descriptor is not open.
            let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
            fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
            // SAFETY: it is open. By the protocol it is this process's from its start, and this
            // function, which runs once, is the only one to take it.
            Some((name, unsafe { OwnedFd::from_raw_fd(raw) }))
        })
        .collect()
}

impl UdpSocketSpec {
    /// Takes a socket that somebody else opened, or this program before it was started again. What
    /// waits in it is received. A group is taken as a whole, in the order its sockets were bound.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where it is not bound as [`UdpSocketSpec::open`] would bind
    /// it; else the kernel's, with the option that it refused.
    pub fn adopt(&self, fd: OwnedFd) -> io::Result<Socket> {
        if !self.describes(&fd) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is bound otherwise");
            return Err(self.error("inherited socket", error));
        }
        let socket = socket2::Socket::from(fd);
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
