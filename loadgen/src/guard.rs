//! Decides where a run may send to: on an office network a load generator is an attack.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;

/// What the command line allows.
#[derive(Copy, Clone, Debug, Default)]
pub struct Permission {
    /// `--i-own-this-network`.
    pub owns_network: bool,
    /// `--attack`.
    pub attack: bool,
}

/// Why nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// This host's own network.
    #[error(
        "refused: {server} is reached through this host's own network, where a storm of DHCP \
         requests takes addresses from real machines. \
         Run it in a network namespace (`ip netns exec NAME bootstorm-load …`), against 127.0.0.1, \
         or say --i-own-this-network"
    )]
    OwnNetwork {
        /// The server asked for.
        server: Ipv4Addr,
    },
    /// The namespace could not be told.
    #[error(
        "refused: cannot tell whether this is the host's own network ({0}); if it is a test \
         network, say --i-own-this-network"
    )]
    Unknown(String),
    /// The scenario harms on purpose.
    #[error(
        "refused: scenario `{0}` takes or spoils addresses on purpose, so that other machines find \
         none. On a network made for tests, say --attack"
    )]
    Attack(String),
}

/// Checks before anything is sent. `direct` clients broadcast, so loopback is no excuse for them.
///
/// # Errors
/// [`Refusal`] says why, and what would be allowed.
pub fn check(
    server: Ipv4Addr,
    direct: bool,
    attack: Option<&str>,
    permission: Permission,
) -> Result<(), Refusal> {
    if let Some(scenario) = attack
        && !permission.attack
    {
        return Err(Refusal::Attack(scenario.to_owned()));
    }
    if permission.owns_network || (server.is_loopback() && !direct) {
        return Ok(());
    }
    match in_first_namespace() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Refusal::OwnNetwork { server }),
        Err(error) => Err(Refusal::Unknown(error.to_string())),
    }
}

/// Whether this thread is in the network namespace of process 1: the host's, or a container's only
/// one. Where process 1 cannot be looked at, a namespace that has a name (`ip netns add`) is
/// another one.
pub(crate) fn in_first_namespace() -> io::Result<bool> {
    let ours = fs::metadata("/proc/thread-self/ns/net")?;
    let same = |other: fs::Metadata| (ours.dev(), ours.ino()) == (other.dev(), other.ino());
    match fs::metadata("/proc/1/ns/net") {
        Ok(first) => Ok(same(first)),
        Err(_) if is_named(same) => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("/proc/1/ns/net: {error}"))),
    }
}

/// Whether one of the named namespaces is the `same`.
fn is_named(same: impl Fn(fs::Metadata) -> bool) -> bool {
    let Ok(names) = fs::read_dir("/run/netns") else { return false };
    names.flatten().any(|name| fs::metadata(name.path()).is_ok_and(&same))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn the_hosts_own_network_is_refused_without_a_word_for_it() {
        // Tests run in the namespace of process 1, or cannot see it.
        let refusal = check(ELSEWHERE, false, None, Permission::default()).unwrap_err();
        assert!(refusal.to_string().contains("--i-own-this-network"), "{refusal}");
        let owner = Permission { owns_network: true, attack: false };
        assert_eq!(check(ELSEWHERE, false, None, owner), Ok(()));
    }

    #[test]
    fn loopback_is_allowed_but_not_for_broadcasts() {
        assert_eq!(check(Ipv4Addr::LOCALHOST, false, None, Permission::default()), Ok(()));
        assert!(check(Ipv4Addr::LOCALHOST, true, None, Permission::default()).is_err());
    }

    #[test]
    fn harm_wants_a_word_of_its_own() {
        let owner = Permission { owns_network: true, attack: false };
        let refusal = check(Ipv4Addr::LOCALHOST, false, Some("decline"), owner).unwrap_err();
        assert!(
            refusal.to_string().contains("`decline`") && refusal.to_string().contains("--attack")
        );
        let attacker = Permission { owns_network: false, attack: true };
        assert_eq!(check(Ipv4Addr::LOCALHOST, false, Some("decline"), attacker), Ok(()));
        assert!(check(ELSEWHERE, false, Some("decline"), attacker).is_err());
    }
}
