//! What every scope may set beside options: each setting once, with what an expression may give it.
//!
//! dhcpd calls them the options of the space `server`. A setting has a value that was read when the
//! configuration was loaded, or one that an expression yields for a packet; the bytes of the second
//! are those of dhcpd's option.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::time::Duration;

use bumpalo::Bump;

use super::{BootRule, LeaseTime};

/// A value that an expression can give a setting.
trait Value<'c>: Sized {
    /// The value of these bytes; `None` where they are none.
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
        }

        impl Settings<'_> {
            /// Nothing is set.
            pub(crate) const NONE: Self = Self {
                always_send: Vec::new(),
                boot: Vec::new(),
                $($field: None,)*
            };
        }

        impl Parameter {
            /// The settings that have just this one, of these bytes; `None` where they are no value
            /// of it.
            pub(crate) fn read<'c>(self, bytes: &'c [u8]) -> Option<Settings<'c>> {
                match self {
                    $(Self::$parameter => {
                        let value = <$kind as Value<'c>>::read(bytes)?;
                        Some(Settings { $field: Some(value), ..Settings::NONE })
                    })*
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
    /// The address at which clients reach this server (option 54); default is the one that the
    /// request came to.
    server_identifier / ServerIdentifier: Ipv4Addr,
    /// The text for `sname`, at most 63 bytes.
    server_name / ServerName: Cow<'c, [u8]>,
    /// Whether a host gets the name of its entry as option 12 where no level has one.
    use_host_decl_names / UseHostDeclNames: bool,
    /// The least time between a request and its reply; default is none.
    reply_delay / ReplyDelay: Duration,
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

impl Value<'_> for bool {
    /// dhcpd has 0 for no, 1 for yes, and 2 for "as if it were not asked", which is no.
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first().map(|&byte| !matches!(byte, 0 | 2))
    }

    fn write<'a>(&'a self, _arena: &'a Bump) -> &'a [u8] {
        if *self { &[1] } else { &[0] }
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
