//! The type of a message.

use core::fmt;

/// From one line a type: its doc, variant, code and name. Enum, both conversions and the display
/// come from the same line.
macro_rules! message_types {
    ($($(#[$doc:meta])* $code:literal $variant:ident $name:literal;)*) => {
        /// Type of a DHCP message, option 53 (RFC 2132 section 9.6; IANA registry).
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum MessageType {
            $($(#[$doc])* $variant,)*
            /// Any other code.
            Unknown(u8),
        }

        impl MessageType {
            /// From the value of option 53.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The value of option 53.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(other) => other,
                }
            }
        }

        /// The name as people know it: DISCOVER, OFFER, REQUEST.
        impl fmt::Display for MessageType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.pad($name),)*
                    Self::Unknown(code) => write!(f, "message type {code}"),
                }
            }
        }
    };
}

message_types! {
    /// A client looks for servers.
    1 Discover "DISCOVER";
    /// A server offers an address.
    2 Offer "OFFER";
    /// A client takes an offer, verifies or extends a lease.
    3 Request "REQUEST";
    /// A client found the address in use.
    4 Decline "DECLINE";
    /// The server grants.
    5 Ack "ACK";
    /// The server refuses.
    6 Nak "NAK";
    /// The client gives the address back.
    7 Release "RELEASE";
    /// The client has an address and asks for options only.
    8 Inform "INFORM";
    /// The server asks the client to renew (RFC 3203).
    9 ForceRenew "FORCERENEW";
    /// An access concentrator asks for a lease (RFC 4388).
    10 LeaseQuery "LEASEQUERY";
    /// No client holds it (RFC 4388).
    11 LeaseUnassigned "LEASEUNASSIGNED";
    /// Not known here (RFC 4388).
    12 LeaseUnknown "LEASEUNKNOWN";
    /// A client holds it (RFC 4388).
    13 LeaseActive "LEASEACTIVE";
    /// Bulk leasequery (RFC 6926).
    14 BulkLeaseQuery "BULKLEASEQUERY";
    /// End of a bulk leasequery (RFC 6926).
    15 LeaseQueryDone "LEASEQUERYDONE";
    /// Active leasequery (RFC 7724).
    16 ActiveLeaseQuery "ACTIVELEASEQUERY";
    /// Status of an active leasequery (RFC 7724).
    17 LeaseQueryStatus "LEASEQUERYSTATUS";
    /// Leasequery over TLS (RFC 7724).
    18 Tls "TLS";
}
