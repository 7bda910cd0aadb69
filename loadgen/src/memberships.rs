//! Multicast groups that this host listens to for its machines (IGMP).

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

/// The groups joined so far, until it is dropped.
#[derive(Debug, Default)]
pub struct Memberships {
    /// The address of the interface that groups are joined on.
    on: Option<Ipv4Addr>,
    /// Membership is per host: this socket joins, others receive.
    socket: Option<UdpSocket>,
    joined: HashSet<Ipv4Addr>,
}

impl Memberships {
    /// None yet; they will be joined on the interface with this address.
    pub fn on(address: Ipv4Addr) -> Memberships {
        Memberships { on: Some(address), ..Memberships::default() }
    }

    /// Joins a group, if this host is no member yet.
    ///
    /// # Errors
    /// The kernel's, with the group.
    pub fn join(&mut self, group: Ipv4Addr) -> io::Result<()> {
        if self.joined.contains(&group) {
            return Ok(());
        }
        self.join_anew(group).map_err(|error| {
            io::Error::new(error.kind(), format!("joining the multicast group {group}: {error}"))
        })?;
        self.joined.insert(group);
        Ok(())
    }

    fn join_anew(&mut self, group: Ipv4Addr) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        };
        let on = self.on.unwrap_or(Ipv4Addr::UNSPECIFIED);
        self.socket.insert(socket).join_multicast_v4(&group, &on)
    }
}
