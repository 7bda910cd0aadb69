//! What each socket of a shard is for.

use std::net::IpAddr;

use bootstorm_net::{Priority, SocketId, Split, Steering};

use crate::tftp::TftpPorts;

/// What a socket is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// UDP 67.
    Dhcp,
    /// UDP 67, DISCOVERs only, which have a short queue of their own: beyond its rate the server
    /// goes on with what it has begun. Without such a socket they come to [`Role::Dhcp`].
    Discovers,
    /// Frames to clients without an address; send-only.
    Link,
    /// ICMP, for the ping before an offer.
    Icmp,
    /// UDP 69, of the family of this unspecified address.
    TftpRequests(IpAddr),
    /// Source of TFTP transfers, bound to this address; an unspecified one stands for all of its
    /// family.
    TftpData(IpAddr),
}

impl Role {
    /// A request for an address does not wait behind the ACKs of thousands of transfers, and a
    /// REQUEST not behind DISCOVERs.
    #[must_use]
    pub fn priority(self) -> Priority {
        match self {
            Role::Dhcp | Role::Icmp => Priority::Urgent,
            Role::Discovers => Priority::Middle,
            Role::Link | Role::TftpRequests(_) | Role::TftpData(_) => Priority::Bulk,
        }
    }
}

/// Where the last four bytes of an Ethernet chaddr stand in a DHCP message: what tells shards
/// apart.
const CHADDR_TAIL: u16 = 30;
/// What tells most DISCOVERs apart, and where it stands: the last byte of the magic cookie and,
/// right behind it, option 53 of length 1 that says DISCOVER (RFC 2131 section 3, RFC 2132 section
/// 9.6). Where a client puts option 53 elsewhere its DISCOVER is treated as any other message.
const DISCOVER: (u16, u32) = (239, 0x6335_0101);

/// How a shard's socket for all DHCP messages gets its share.
#[must_use]
pub fn dhcp_steering(shards: u16, shard: u16) -> Steering {
    Steering { offset: CHADDR_TAIL, shards, shard, split: None }
}

/// The same for two sockets of a shard, of which one is for DISCOVERs.
#[must_use]
pub fn split_discovers(steering: Steering) -> [(Role, Steering); 2] {
    let (offset, value) = DISCOVER;
    [(Role::Dhcp, false), (Role::Discovers, true)].map(|(role, matching)| {
        (role, Steering { split: Some(Split { offset, value, matching }), ..steering })
    })
}

/// What a socket depends on: it is closed when this goes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Binding {
    /// Nothing: open as long as the shard.
    Host,
    /// The interface with this index.
    Interface(u32),
    /// An address of this host.
    Address(IpAddr),
}

#[derive(Clone, Debug)]
struct Entry {
    id: SocketId,
    role: Role,
    binding: Binding,
}

/// The sockets of one shard, by [`SocketId::index`].
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    entries: Vec<Option<Entry>>,
}

impl Sockets {
    /// Records a socket that the backend has taken.
    pub fn add(&mut self, id: SocketId, role: Role, binding: Binding) {
        if self.entries.len() <= id.index() {
            self.entries.resize(id.index() + 1, None);
        }
        self.entries[id.index()] = Some(Entry { id, role, binding });
    }

    /// Forgets the sockets that depend on one of `bindings`; they are to be removed from the
    /// backend.
    pub fn take(&mut self, bindings: &[Binding]) -> Vec<SocketId> {
        self.entries
            .iter_mut()
            .filter_map(|entry| entry.take_if(|entry| bindings.contains(&entry.binding)))
            .map(|entry| entry.id)
            .collect()
    }

    /// What the socket is for; `None` for one that was removed.
    pub fn role(&self, id: SocketId) -> Option<Role> {
        let entry = self.entries.get(id.index())?.as_ref();
        entry.filter(|entry| entry.id == id).map(|entry| entry.role)
    }

    /// The sockets of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = SocketId> + '_ {
        self.entries.iter().flatten().filter(move |entry| entry.role == role).map(|entry| entry.id)
    }

    /// Those that receive nothing but requests: with a single port for TFTP, only DHCP's.
    pub fn of_requests(&self) -> Vec<SocketId> {
        let entries = || self.entries.iter().flatten();
        let has_data = entries().any(|entry| matches!(entry.role, Role::TftpData(_)));
        entries()
            .filter(|entry| match entry.role {
                Role::Dhcp | Role::Discovers => true,
                Role::TftpRequests(_) => has_data,
                _ => false,
            })
            .map(|entry| entry.id)
            .collect()
    }

    /// Every socket of port 69, and the data sockets that they share.
    pub fn tftp_ports(&self) -> Vec<TftpPorts> {
        let entries = || self.entries.iter().flatten();
        let ports = |listen, family: IpAddr| {
            let data = entries().filter_map(|entry| match entry.role {
                Role::TftpData(address) => Some((address, entry.id)),
                _ => None,
            });
            let of_family = data.filter(|(address, _)| address.is_ipv4() == family.is_ipv4());
            let (any, bound) = of_family.partition(|(address, _)| address.is_unspecified());
            let any: Vec<_> = any;
            TftpPorts { listen, data: any.into_iter().map(|(_, id)| id).collect(), bound }
        };
        entries()
            .filter_map(|entry| match entry.role {
                Role::TftpRequests(family) => Some(ports(entry.id, family)),
                _ => None,
            })
            .collect()
    }
}
