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
    /// Answer a BOOTP client with options (RFC 1048) whose message has none. Where dhcpd's rules
    /// hold it gets none with a reserved address.
    AlwaysReplyRfc1048,
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
    /// Ping an address before it is offered, unless its client had it a moment ago.
    PingCheck,
    /// Remember what the relay agent said of the client, for renewals that pass it.
    StashAgentOptions,
    /// A host gets the name of its entry as option 12 where no level has one.
    UseHostDeclNames,
    /// A client without routers gets its own address as router.
    UseLeaseAddrForDefaultRoute,
}

impl Flag {
    /// Every flag, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Authoritative,
        Self::AlwaysBroadcast,
        Self::AlwaysReplyRfc1048,
        Self::BootUnknownClients,
        Self::Booting,
        Self::Bootp,
        Self::Declines,
        Self::EchoClientId,
        Self::IgnoreClientUids,
        Self::InfiniteIsReserved,
        Self::OneLeasePerClient,
        Self::PingCheck,
        Self::StashAgentOptions,
        Self::UseHostDeclNames,
        Self::UseLeaseAddrForDefaultRoute,
    ];

    /// Its key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authoritative => "authoritative",
            Self::AlwaysBroadcast => "always-broadcast",
            Self::AlwaysReplyRfc1048 => "always-reply-rfc1048",
            Self::BootUnknownClients => "boot-unknown-clients",
            Self::Booting => "booting",
            Self::Bootp => "bootp",
            Self::Declines => "declines",
            Self::EchoClientId => "echo-client-id",
            Self::IgnoreClientUids => "ignore-client-uids",
            Self::InfiniteIsReserved => "infinite-is-reserved",
            Self::OneLeasePerClient => "one-lease-per-client",
            Self::PingCheck => "ping-check",
            Self::StashAgentOptions => "stash-agent-options",
            Self::UseHostDeclNames => "use-host-decl-names",
            Self::UseLeaseAddrForDefaultRoute => "use-lease-addr-for-default-route",
        }
    }

    /// Its name in dhcpd's language.
    pub(super) const fn dhcpd_name(self) -> &'static str {
        match self {
            Self::Booting => "allow-booting",
            Self::Bootp => "allow-bootp",
            flag => flag.name(),
        }
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
            | Self::AlwaysReplyRfc1048
            | Self::IgnoreClientUids
            | Self::InfiniteIsReserved
            | Self::OneLeasePerClient
            | Self::PingCheck
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

    /// Sets what `other` sets.
    pub(super) fn set_all(&mut self, other: Self) {
        self.on = self.on & !other.set | other.on;
        self.set |= other.set;
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
            assert_eq!(flag as usize, number);
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
