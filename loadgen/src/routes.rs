//! Local routes: they make every address of a block an address of this host, so that one socket
//! answers for all machines of it. Added through rtnetlink (rtnetlink(7)), and taken back when the
//! guard is dropped.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;

use socket2::{Domain, Protocol, Socket, Type};

/// A block of addresses.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// Its first address.
    pub first: Ipv4Addr,
    /// Length of the prefix in bits, 0 to 32.
    pub prefix: u8,
}

impl Block {
    /// The block around an address.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Block {
        Block { first: (u32::from(address) & mask(prefix)).into(), prefix }
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.first)
    }

    /// Its last address.
    pub fn last(self) -> Ipv4Addr {
        (u32::from(self.first) | !mask(self.prefix)).into()
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// A block as people write it: `10.1.0.0/16`; bits behind the prefix may be set.
impl std::str::FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no block of addresses such as 10.100.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
        Ok(Block::around(address, prefix))
    }
}

/// The bits of a prefix.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// Routes of this host that a run has added.
#[derive(Debug, Default)]
pub struct Routes {
    added: Vec<Block>,
    whole: Vec<Block>,
    socket: Option<Socket>,
}

/// The loopback interface, in every namespace.
const LOOPBACK: u32 = 1;

/// From linux/netlink.h and linux/rtnetlink.h.
mod numbers {
    pub(super) const NETLINK_ROUTE: i32 = 0;
    pub(super) const AF_NETLINK: i32 = 16;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const RTM_NEWROUTE: u16 = 24;
    pub(super) const RTM_DELROUTE: u16 = 25;
    pub(super) const NLM_F_REQUEST: u16 = 1;
    pub(super) const NLM_F_ACK: u16 = 4;
    pub(super) const NLM_F_EXCL: u16 = 0x200;
    pub(super) const NLM_F_CREATE: u16 = 0x400;
    pub(super) const NLMSG_ERROR: u16 = 2;
    pub(super) const RT_TABLE_LOCAL: u8 = 255;
    pub(super) const RTPROT_STATIC: u8 = 4;
    pub(super) const RT_SCOPE_HOST: u8 = 254;
    pub(super) const RTN_LOCAL: u8 = 2;
    pub(super) const RTA_DST: u16 = 1;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const EEXIST: i32 = 17;
}
use numbers::*;

impl Routes {
    /// Makes all addresses of a block this host's.
    ///
    /// # Errors
    /// The kernel's; without CAP_NET_ADMIN, `PermissionDenied`.
    pub fn add(&mut self, block: Block) -> io::Result<()> {
        if block.prefix < 32 {
            self.whole.push(block);
        }
        match self.change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, block) {
            Ok(()) => self.added.push(block),
            // Somebody else's: it stays when we go.
            Err(error) if error.raw_os_error() == Some(EEXIST) => {}
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("route for {block}: {error}")));
            }
        }
        Ok(())
    }

    /// Whether a whole block that was added holds an address.
    pub fn cover(&self, address: Ipv4Addr) -> bool {
        self.whole.iter().any(|block| block.contains(address))
    }

    /// One request and its answer.
    fn change(&mut self, kind: u16, flags: u16, block: Block) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => {
                let protocol = Some(Protocol::from(NETLINK_ROUTE));
                none.insert(Socket::new(Domain::from(AF_NETLINK), Type::RAW, protocol)?)
            }
        };
        socket.write_all(&request(kind, flags, block))?;
        let mut answer = [0; 256];
        let len = socket.read(&mut answer)?;
        // nlmsghdr (length 4, type 2, flags 2, sequence 4, port 4), then nlmsgerr with the negative
        // error first.
        let malformed =
            || io::Error::new(io::ErrorKind::InvalidData, "unexpected answer of rtnetlink");
        let answer = answer.get(..len).ok_or_else(malformed)?;
        let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        let error = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
        match (kind, error) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(malformed()),
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        for block in std::mem::take(&mut self.added) {
            // Nobody is left to be told; the namespace's end takes what stays.
            let _ = self.change(RTM_DELROUTE, 0, block);
        }
    }
}

fn request(kind: u16, flags: u16, block: Block) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend([0; 4]); // the length, below
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one request, one answer
    // rtmsg: family, lengths of destination and source prefix, tos, table, protocol, scope, type,
    // flags
    message.extend([AF_INET, block.prefix, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST]);
    message.push(RTN_LOCAL);
    message.extend([0; 4]);
    for (attribute, value) in [(RTA_DST, block.first.octets()), (RTA_OIF, LOOPBACK.to_ne_bytes())] {
        message.extend(8_u16.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
    }
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_and_know_their_addresses() {
        let block: Block = "10.100.3.4/16".parse().unwrap();
        assert_eq!(block.to_string(), "10.100.0.0/16");
        assert!(block.contains([10, 100, 255, 255].into()));
        assert!(!block.contains([10, 101, 0, 0].into()));
        assert_eq!(block.last(), Ipv4Addr::new(10, 100, 255, 255));
        assert_eq!(Block::around([1, 2, 3, 4].into(), 0).last(), Ipv4Addr::BROADCAST);
        for wrong in ["10.0.0.1", "10.0.0.0/33", "ten/8"] {
            assert!(wrong.parse::<Block>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernel_understands_the_request() {
        // 127/8 is local already, and a host without privileges is refused: both are answers to a
        // well-formed request.
        let block: Block = "127.0.0.0/8".parse().unwrap();
        let mut routes = Routes::default();
        match routes.add(block) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
