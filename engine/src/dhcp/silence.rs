//! Why a request got no answer.

macro_rules! silences {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request was not answered, and should not be. Counted by [`Silence::index`].
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Silence { $($(#[$doc])* $name,)* }

        impl Silence {
            /// Every reason, in the order of [`Silence::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// A few words for logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

silences! {
    /// `op` is not BOOTREQUEST: a server or relay agent talks to its clients.
    NotARequest = "not a request",
    /// A message type that only servers send, or one this server has no rule for.
    MessageType = "message type not for servers",
    /// Neither hardware address nor client identifier nor UUID.
    NoIdentity = "client without any identity",
    /// A direct client on an interface whose addresses are in no configured subnet.
    NoSubnetHere = "no subnet for this interface",
    /// A relay agent (giaddr) in no configured subnet, or a giaddr that no machine can have.
    NoSubnetForRelay = "no subnet for this relay agent",
    /// A link or subnet was selected (RFC 3527, RFC 3011) that is not configured.
    NoSubnetSelected = "selected subnet is not configured",
    /// `boot-unknown-clients = false`, and no host entry matches.
    UnknownClient = "unknown client ignored",
    /// `booting = false` in a scope of the client.
    BootingDenied = "booting denied",
    /// `bootp = false` in a scope of a BOOTP client.
    BootpDenied = "bootp denied",
    /// The client has not tried for `min-secs` yet.
    TooEarly = "secs below min-secs",
    /// `declines = false` in a scope of the address.
    DeclinesDenied = "declines denied",
    /// The message names another server (option 54).
    OtherServer = "another server was chosen",
    /// The client is unknown here and this server is not authoritative (RFC 2131, section 4.3.2).
    NotAuthoritative = "client unknown, not authoritative",
    /// The message needs an address (option 50 or ciaddr) and has none.
    NoAddressNamed = "no address named",
    /// RELEASE or DECLINE of an address that the client does not hold.
    NotHeld = "address not held by this client",
    /// Every address the client may have is taken.
    PoolFull = "pool full",
    /// The classes of the client that limit leases have as many as they may.
    LeaseLimit = "lease limit of a class reached",
    /// Another client has the address that is reserved for this one, and no pool permits it.
    ReservedHeld = "reserved address held by another",
    /// The leases changed each time between plan and execution; the client will ask again.
    Contended = "leases changed meanwhile",
    /// No pool of the network permits this client.
    NoPoolPermitted = "no pool permits this client",
    /// The client's lease is being written, and the ACK to its first REQUEST follows. Or another
    /// client has given back the address that is reserved for this one, and that is being written.
    CommitPending = "lease is being written",
    /// A BOOTP client without a reserved address.
    BootpWithoutHost = "BOOTP client without a reserved address",
    /// The lease store was damaged, so somebody may have a lease of the address that it has lost,
    /// and the address cannot be probed: for a BOOTP client, or because the ping could not be sent,
    /// or because too many are under way.
    NotProbed = "lease store damaged, and address not probed",
    /// The lease store was damaged, so what it remembers of the client's port may be outdated, the
    /// configuration goes by ports, and a renewal does not say the port.
    PortUnknown = "lease store damaged, and port not said",
}

impl Silence {
    /// Its place in [`Silence::ALL`], for counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

// One counter each in the metrics of a shard.
const _: () = assert!(Silence::ALL.len() <= crate::metrics::REASONS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_at_its_own_place() {
        for (place, reason) in Silence::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
    }
}
