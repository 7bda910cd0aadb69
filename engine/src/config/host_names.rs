//! Names of hosts that stand in a configuration in the place of addresses.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

/// A name that was looked up while the configuration was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostName {
    /// The name.
    pub name: String,
    /// Its IPv4 addresses; none where it could not be resolved.
    pub addresses: Vec<Ipv4Addr>,
}

/// Asks the host's resolver for the IPv4 addresses of a name, each of them once. It may take long.
///
/// # Errors
/// Why there is none.
pub(crate) fn look_up(name: &str) -> Result<Vec<Ipv4Addr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for address in found {
        if let IpAddr::V4(address) = address.ip()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err("it has no IPv4 address".to_owned());
    }
    Ok(addresses)
}
