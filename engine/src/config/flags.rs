//! Settings of scopes that are on or off, as one bit each.

/// A setting of a scope that is on or off. Its key has the name of ISC dhcpd's parameter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Flag {
    /// Say NAK to clients of this network whose address is wrong here, even if nothing is known of
    /// them. Counts in networks, subnets and for everybody.
    Authoritative,
    /// Set the broadcast flag of replies (RFC 2131, section 4.1).
    AlwaysBroadcast,
    /// Answer clients that no `[[dhcp.host]]` knows.
    BootUnknownClients,
    /// Answer at all.
    Booting,
    /// Answer BOOTP clients.
    Bootp,
    /// Believe clients that find their address in use (DECLINE).
    Declines,
    /// Send the client identifier back (RFC 6842).
    EchoClientId,
    /// Tell clients apart by their hardware addresses, whatever client identifiers they send.
    IgnoreClientUids,
    /// An address that is asked for without end stays its client's for ever, whatever lease the
    /// client is told.
    InfiniteIsReserved,
    /// With its REQUEST a client gives all its other leases back.
    OneLeasePerClient,
    /// Remember what the relay agent said of the client, for renewals that pass it.
    StashAgentOptions,
    /// A host gets the name of its entry as option 12 where no level has one.
    UseHostDeclNames,
    /// A client without routers gets its own address as router.
    UseLeaseAddrForDefaultRoute,
}

impl Flag {
    /// Every flag, in the order of its number.
    pub const ALL: [Self; 13] = [
        Self::Authoritative,
        Self::AlwaysBroadcast,
        Self::BootUnknownClients,
        Self::Booting,
        Self::Bootp,
        Self::Declines,
        Self::EchoClientId,
        Self::IgnoreClientUids,
        Self::InfiniteIsReserved,
        Self::OneLeasePerClient,
        Self::StashAgentOptions,
        Self::UseHostDeclNames,
        Self::UseLeaseAddrForDefaultRoute,
    ];

    /// Its key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authoritative => "authoritative",
            Self::AlwaysBroadcast => "always-broadcast",
            Self::BootUnknownClients => "boot-unknown-clients",
            Self::Booting => "booting",
            Self::Bootp => "bootp",
            Self::Declines => "declines",
            Self::EchoClientId => "echo-client-id",
            Self::IgnoreClientUids => "ignore-client-uids",
            Self::InfiniteIsReserved => "infinite-is-reserved",
            Self::OneLeasePerClient => "one-lease-per-client",
            Self::StashAgentOptions => "stash-agent-options",
            Self::UseHostDeclNames => "use-host-decl-names",
            Self::UseLeaseAddrForDefaultRoute => "use-lease-addr-for-default-route",
        }
    }

    /// The flag of a key.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.name() == name)
    }

    /// What holds where no scope sets it.
    pub const fn by_default(self) -> bool {
        match self {
            Self::BootUnknownClients
            | Self::Booting
            | Self::Bootp
            | Self::Declines
            | Self::EchoClientId
            | Self::StashAgentOptions => true,
            Self::Authoritative
            | Self::AlwaysBroadcast
            | Self::IgnoreClientUids
            | Self::InfiniteIsReserved
            | Self::OneLeasePerClient
            | Self::UseHostDeclNames
            | Self::UseLeaseAddrForDefaultRoute => false,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The flags that a scope sets, and how.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags {
    set: u32,
    /// Only bits of `set`.
    on: u32,
}

impl Flags {
    /// None is set.
    pub const NONE: Self = Self { set: 0, on: 0 };

    /// What the scope says of a flag; `None` if nothing.
    pub const fn get(self, flag: Flag) -> Option<bool> {
        if self.set & flag.bit() == 0 { None } else { Some(self.on & flag.bit() != 0) }
    }

    /// Sets a flag.
    pub fn set(&mut self, flag: Flag, on: bool) {
        self.set |= flag.bit();
        self.on = self.on & !flag.bit() | if on { flag.bit() } else { 0 };
    }

    /// Has every flag count as set that either of them sets.
    pub(super) fn join(&mut self, other: Self) {
        self.set |= other.set;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_on_off_or_not_set_and_changes_no_other() {
        let mut flags = Flags::NONE;
        for (number, flag) in Flag::ALL.into_iter().enumerate() {
            assert_eq!((flag as usize, Flag::by_name(flag.name())), (number, Some(flag)));
            assert_eq!(flags.get(flag), None);
            flags.set(flag, true);
            assert_eq!(flags.get(flag), Some(true));
            flags.set(flag, number % 2 == 0);
        }
        for (number, flag) in Flag::ALL.into_iter().enumerate() {
            assert_eq!(flags.get(flag), Some(number % 2 == 0));
        }
    }
}
