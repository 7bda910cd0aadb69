//! Notices of the kernel that interfaces or their addresses have changed (rtnetlink(7)).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// What is subscribed to: links, IPv4 addresses, IPv6 addresses.
const GROUPS: u32 =
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;

/// Tells that something about the interfaces of this thread's network namespace has changed, but
/// not what: read [`super::interfaces`] again. So a message that is lost because the socket's
/// buffer was full (ENOBUFS) is a notice as any other, and loses nothing.
#[derive(Debug)]
pub struct InterfaceWatch(OwnedFd);

impl InterfaceWatch {
    /// Subscribes. Changes from here on are noticed. Needs no privilege.
    ///
    /// # Errors
    /// The kernel's, as where a filter of system calls allows no netlink socket.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // Port 0: the kernel chooses.
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits until something has changed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> io::Result<()> {
        self.receive(RecvFlags::empty()).map(drop)
    }

    /// Forgets the notices that have come so far; call it before reading the interfaces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain(&self) -> io::Result<()> {
        while self.receive(RecvFlags::DONTWAIT)? {}
        Ok(())
    }

    /// Takes one notice; false when there is none.
    fn receive(&self, flags: RecvFlags) -> io::Result<bool> {
        // The content does not matter, and what does not fit is cut off.
        let mut content = [0_u8; 64];
        loop {
            match recv(&self.0, &mut content, flags) {
                Ok(_) | Err(Errno::NOBUFS) => return Ok(true),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::net::sockopt::set_socket_recv_buffer_size;

    use super::*;

    /// Runs `test` in a thread with a network namespace of its own; not at all where that is
    /// denied.
    fn in_namespace(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            // SAFETY: unshare takes no pointer; only this thread leaves the namespace.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
                test();
            }
        });
        thread.join().unwrap();
    }

    fn ip(arguments: &str) {
        let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    #[test]
    fn links_and_addresses_of_both_families_are_noticed() {
        in_namespace(|| {
            let watch = InterfaceWatch::new().unwrap();
            assert!(!watch.receive(RecvFlags::DONTWAIT).unwrap());
            for change in [
                "link add v0 type veth peer name v1",
                "address add 192.0.2.1/24 dev v0",
                "address add 2001:db8::1/64 dev v0 nodad",
                "link set v0 mtu 1400",
                "link set v0 name v2",
                "link set v2 up",
                "link set v2 down",
                "link del v2",
            ] {
                ip(change);
                watch.wait().unwrap();
                watch.drain().unwrap();
            }
        });
    }

    #[test]
    fn lost_messages_are_a_notice() {
        in_namespace(|| {
            let watch = InterfaceWatch::new().unwrap();
            set_socket_recv_buffer_size(&watch.0, 1).unwrap();
            ip("link add v0 type veth peer name v1");
            for mtu in 1300..1320 {
                ip(&format!("link set v0 mtu {mtu}"));
            }
            // ENOBUFS comes among the messages that did find room.
            watch.drain().unwrap();
            ip("link del v0");
            watch.wait().unwrap();
        });
    }
}
