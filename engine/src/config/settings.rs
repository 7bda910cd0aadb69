//! What every scope may set beside options: each setting once, with what an expression may give it.
//!
//! dhcpd calls them the options of the space `server`. A setting has a value that was read when the
//! configuration was loaded, or one that an expression yields for a packet; the bytes of the second
//! are those of dhcpd's option.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::time::Duration;

use bumpalo::Bump;

use super::{BootRule, Flag, Flags, LeaseTime};

/// A value that an expression can give a setting.
trait Value<'c>: Sized {
    /// The value of these bytes, of which there are none for null; `None` where they are no value.
    fn read(bytes: &'c [u8]) -> Option<Self>;
    /// The bytes of the value.
    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8];
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident / $parameter:ident: $kind:ty,)*) => {
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

        impl Settings<'_> {
            /// Nothing is set.
            pub(crate) const NONE: Self = Self {
                always_send: Vec::new(),
                boot: Vec::new(),
                flags: Flags::NONE,
                $($field: None,)*
            };

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
    lease_time / LeaseTime: LeaseTime,
    /// A client's wish (option 51) is raised to this.
    min_lease_time / MinLeaseTime: LeaseTime,
    /// A client's wish (option 51) is cut to this.
    max_lease_time / MaxLeaseTime: LeaseTime,
    /// The TFTP server of the next stage (`siaddr`, option 66); default is this server.
    next_server / NextServer: Ipv4Addr,
    /// The boot file of a machine that no boot rule of the level is for. It is sent as it stands
    /// here, whatever the machine is.
    filename / Filename: Cow<'c, [u8]>,
    /// The option space whose options travel in option 43.
    vendor_option_space / VendorOptionSpace: Cow<'c, [u8]>,
    /// The address at which clients reach this server (option 54); default is the one that the
    /// request came to.
    server_identifier / ServerIdentifier: Ipv4Addr,
    /// The text for `sname`, at most 63 bytes.
    server_name / ServerName: Cow<'c, [u8]>,
    /// The least time between a request and its reply; default is none.
    reply_delay / ReplyDelay: Duration,
    /// A client gets no offer before it has tried for so many seconds (`secs`).
    min_secs / MinSecs: u8,
    /// A lease of which so many percent are over, or less, is not renewed: its client is told what
    /// is left. 0 renews every time.
    cache_threshold / CacheThreshold: u8,
    /// The lease of a BOOTP client with an address of a pool; default is without end.
    bootp_lease_time / BootpLeaseTime: LeaseTime,
}

impl Value<'_> for LeaseTime {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_seconds(u32::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(self.seconds().to_be_bytes())
    }
}

impl Value<'_> for Ipv4Addr {
    /// Of several addresses the first.
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<4>().map(|octets| Self::from(*octets))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(self.octets())
    }
}

impl<'c> Value<'c> for Cow<'c, [u8]> {
    fn read(bytes: &'c [u8]) -> Option<Self> {
        Some(Cow::Borrowed(bytes))
    }

    fn write<'a>(&'a self, _arena: &'a Bump) -> &'a [u8] {
        self
    }
}

impl Value<'_> for u8 {
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first().copied()
    }

    fn write<'a>(&'a self, _arena: &'a Bump) -> &'a [u8] {
        std::slice::from_ref(self)
    }
}

impl Value<'_> for Duration {
    /// Whole seconds.
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_secs(u32::from_be_bytes(bytes.try_into().ok()?).into()))
    }

    fn write<'a>(&'a self, arena: &'a Bump) -> &'a [u8] {
        arena.alloc(u32::try_from(self.as_secs()).unwrap_or(u32::MAX).to_be_bytes())
    }
}
