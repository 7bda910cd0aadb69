//! What every scope may set beside options: each setting once, with what an expression may give it.
//!
//! dhcpd calls them the options of the space `server`. A setting has a value that was read when the
//! configuration was loaded, or one that an expression yields for a packet; the bytes of the second
//! are those of dhcpd's option.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::time::Duration;

use bumpalo::Bump;

use super::option_types::OptionType;
use super::{BootRule, Flag, Flags, LeaseTime};

/// A value that an expression can give a setting.
trait Value<'c>: Sized {
    /// The same with bytes of its own.
    type Static;
    /// What TOML writes in its place as an expression.
    const KIND: OptionType;
    /// The value of these bytes, of which there are none for null; `None` where they are no value.
    fn read(bytes: &'c [u8]) -> Option<Self>;
    fn into_owned(self) -> Self::Static;
    /// The bytes of the value.
    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8];
}

/// Each row: its field, its parameter, its key in TOML, its name in dhcpd's language (`""` where
/// it has none), its type.
macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident / $parameter:ident, $key:literal / $name:literal: $kind:ty;)*)
        => {
        /// What every level may set beside options.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub struct Settings<'c> {
            /// Codes to send whether the client asks or not; the levels add up.
            pub always_send: Vec<u8>,
            /// Which boot file a machine gets; the first rule that matches decides.
            pub boot: Vec<BootRule>,
            /// What is on or off.
            pub flags: Flags,
            $($(#[$doc])* pub $field: Option<$kind>,)*
        }

        impl Default for Settings<'_> {
            fn default() -> Self {
                Self::NONE
            }
        }

        /// A setting that has one value.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Parameter {
            $(#[doc = concat!("[`Settings::", stringify!($field), "`]")] $parameter,)*
            /// One of [`Settings::flags`].
            Flag(Flag),
        }

        impl<'c> Settings<'c> {
            /// Nothing is set.
            pub(crate) const NONE: Self = Self {
                always_send: Vec::new(),
                boot: Vec::new(),
                flags: Flags::NONE,
                $($field: None,)*
            };

            /// What an expression for a setting yields.
            pub(super) fn kind(parameter: Parameter) -> OptionType {
                match parameter {
                    $(Parameter::$parameter => <$kind as Value<'c>>::KIND,)*
                    Parameter::Flag(_) => OptionType::Boolean,
                }
            }

            /// Sets what `other` sets of settings with one value, and flags.
            fn set_all(&mut self, other: Self) {
                self.flags.set_all(other.flags);
                $(self.$field = other.$field.or(self.$field.take());)*
            }

            /// The same with bytes of its own.
            fn into_owned(self) -> Settings<'static> {
                Settings {
                    always_send: self.always_send,
                    boot: self.boot,
                    flags: self.flags,
                    $($field: self.$field.map(Value::into_owned),)*
                }
            }

            /// Which settings with one value are set, as [`super::Used::parameters`]; no flags.
            pub(super) fn parameters(&self) -> u64 {
                0 $(| if self.$field.is_some() { Parameter::$parameter.bit() } else { 0 })*
            }
        }

        /// The places of settings with one value.
        #[derive(Copy, Clone)]
        #[repr(u8)]
        enum Place { $($parameter,)* }

        impl Parameter {
            /// All of them, flags last.
            pub(super) fn all() -> impl Iterator<Item = Self> {
                [$(Self::$parameter,)*].into_iter().chain(Flag::ALL.map(Self::Flag))
            }

            /// Its key in TOML.
            pub(crate) const fn key(self) -> &'static str {
                match self {
                    $(Self::$parameter => $key,)*
                    Self::Flag(flag) => flag.name(),
                }
            }

            /// Its name in dhcpd's language; empty where it has none.
            pub(super) const fn dhcpd_name(self) -> &'static str {
                match self {
                    $(Self::$parameter => $name,)*
                    Self::Flag(flag) => flag.dhcpd_name(),
                }
            }

            /// Its bit in [`super::Used::parameters`]; flags have none there.
            pub(crate) const fn bit(self) -> u64 {
                match self {
                    $(Self::$parameter => 1 << Place::$parameter as u8,)*
                    Self::Flag(_) => 0,
                }
            }

            /// The settings that have just this one, of these bytes; `None` where they are no value
            /// of it.
            pub(crate) fn read<'c>(self, bytes: &'c [u8]) -> Option<Settings<'c>> {
                match self {
                    $(Self::$parameter => {
                        let value = <$kind as Value<'c>>::read(bytes)?;
                        Some(Settings { $field: Some(value), ..Settings::NONE })
                    })*
                    Self::Flag(flag) => {
                        let mut settings = Settings::NONE;
                        // dhcpd has 0 for no, 1 for yes, and 2 for "as if it were not asked".
                        settings.flags.set(flag, !matches!(bytes.first(), None | Some(0 | 2)));
                        Some(settings)
                    }
                }
            }

            /// The bytes of its value in `settings`, if it is set there.
            pub(crate) fn write<'a>(
                self,
                settings: &'a Settings<'_>,
                arena: &'a Bump,
            ) -> Option<&'a [u8]> {
                match self {
                    $(Self::$parameter => Some(settings.$field.as_ref()?.write(arena)),)*
                    Self::Flag(flag) => Some(if settings.flags.get(flag)? { &[1] } else { &[0] }),
                }
            }
        }
    };
}

settings! {
    /// The lease a client gets that names no wish of its own.
    lease_time / LeaseTime, "lease-time" / "default-lease-time": LeaseTime;
    /// A client's wish (option 51) is raised to this.
    min_lease_time / MinLeaseTime, "min-lease-time" / "min-lease-time": LeaseTime;
    /// A client's wish (option 51) is cut to this.
    max_lease_time / MaxLeaseTime, "max-lease-time" / "max-lease-time": LeaseTime;
    /// The TFTP server of the next stage (`siaddr`, option 66); default is this server.
    next_server / NextServer, "next-server" / "next-server": Ipv4Addr;
    /// The boot file of a machine that no boot rule of the level is for. It is sent as it stands
    /// here, whatever the machine is.
    filename / Filename, "filename" / "filename": Cow<'c, [u8]>;
    /// The option space whose options travel in option 43.
    vendor_option_space / VendorOptionSpace, "vendor-option-space" / "vendor-option-space":
        Cow<'c, [u8]>;
    /// The address at which clients reach this server (option 54); default is the one that the
    /// request came to.
    server_identifier / ServerIdentifier, "server-identifier" / "server-identifier": Ipv4Addr;
    /// The text for `sname`, at most 63 bytes.
    server_name / ServerName, "server-name" / "server-name": Cow<'c, [u8]>;
    /// The least time between a request and its reply; default is none.
    reply_delay / ReplyDelay, "reply-delay" / "": Duration;
    /// A client gets no offer before it has tried for so many seconds (`secs`).
    min_secs / MinSecs, "min-secs" / "min-secs": u8;
    /// A lease of which so many percent are over, or less, is not renewed: its client is told what
    /// is left. 0 renews every time.
    cache_threshold / CacheThreshold, "dhcp-cache-threshold" / "dhcp-cache-threshold": u8;
    /// The lease of a BOOTP client with an address of a pool; default is without end.
    bootp_lease_time / BootpLeaseTime, "dynamic-bootp-lease-length" / "dynamic-bootp-lease-length":
        LeaseTime;
    /// How long an address is pinged before it is offered. What is set in milliseconds goes before
    /// it, whatever the levels.
    ping_timeout / PingTimeout, "ping-timeout" / "ping-timeout": Duration;
    /// The same in milliseconds, of which 0 count as none.
    ping_timeout_ms / PingTimeoutMs, "ping-timeout" / "ping-timeout-ms": Milliseconds;
    /// An address that the client had is pinged when it has not been heard of for so long; default
    /// is never.
    ping_cltt / PingCltt, "ping-cltt-secs" / "ping-cltt-secs": Duration;
    /// In a pool of which so many percent are used, or more, new leases are as short as may be; 0
    /// and what is above 99 count as never.
    adaptive_threshold / AdaptiveThreshold,
        "adaptive-lease-time-threshold" / "adaptive-lease-time-threshold": u8;
    /// When the lease of a BOOTP client with an address of a pool ends. It goes before the length
    /// of that lease.
    bootp_lease_cutoff / BootpLeaseCutoff,
        "dynamic-bootp-lease-cutoff" / "dynamic-bootp-lease-cutoff": Date;
}

/// Seconds since 1970.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Date(pub u32);

/// A time that dhcpd counts in milliseconds.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Milliseconds(pub(super) u32);

impl Milliseconds {
    pub(super) fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// What a type says that has no bytes to own.
macro_rules! plain {
    ($kind:expr) => {
        type Static = Self;
        const KIND: OptionType = $kind;

        fn into_owned(self) -> Self {
            self
        }
    };
}

impl Value<'_> for LeaseTime {
    plain!(OptionType::Unsigned(4));

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_seconds(u32::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(self.seconds().to_be_bytes())
    }
}

impl Value<'_> for Ipv4Addr {
    plain!(OptionType::Address);

    /// Of several addresses the first.
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<4>().map(|octets| Self::from(*octets))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(self.octets())
    }
}

impl<'c> Value<'c> for Cow<'c, [u8]> {
    type Static = Cow<'static, [u8]>;
    const KIND: OptionType = OptionType::Text;

    fn into_owned(self) -> Self::Static {
        Cow::Owned(self.into_owned())
    }

    fn read(bytes: &'c [u8]) -> Option<Self> {
        Some(Cow::Borrowed(bytes))
    }

    fn write<'a>(&'a self, _arena: &'a Bump) -> &'a [u8] {
        self
    }
}

impl Value<'_> for u8 {
    plain!(OptionType::Unsigned(1));

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first().copied()
    }

    fn write<'a>(&'a self, _arena: &'a Bump) -> &'a [u8] {
        std::slice::from_ref(self)
    }
}

impl Value<'_> for Duration {
    plain!(OptionType::Unsigned(4));

    /// Whole seconds.
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_secs(u32::from_be_bytes(bytes.try_into().ok()?).into()))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(u32::try_from(self.as_secs()).unwrap_or(u32::MAX).to_be_bytes())
    }
}

/// Types that hold a number of 32 bits and nothing else.
macro_rules! numbers {
    ($($name:ident,)*) => {$(
        impl Value<'_> for $name {
            plain!(OptionType::Unsigned(4));

            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self(u32::from_be_bytes(bytes.try_into().ok()?)))
            }

            fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
                arena.alloc(self.0.to_be_bytes())
            }
        }
    )*};
}

numbers! { Date, Milliseconds, }

impl Parameter {
    /// The parameter of a name in dhcpd's language.
    pub(super) fn by_dhcpd_name(name: &str) -> Option<Self> {
        Self::all().find(|parameter| parameter.dhcpd_name() == name)
    }
}

impl Settings<'static> {
    /// Gives a setting the value of these bytes, if they are one.
    pub(super) fn set(&mut self, parameter: Parameter, bytes: &[u8]) {
        if let Some(set) = parameter.read(bytes) {
            self.set_all(set.into_owned());
        }
    }
}
