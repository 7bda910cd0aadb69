//! Option spaces: what the encapsulating options hold.

use super::{Definition, Kind};

/// Options that stand inside of another option.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// Its name, as configurations spell it: the `PXE` of `PXE.discovery-control`.
    pub name: &'static str,
    /// The option that holds it.
    pub code: u8,
    /// Its options, by code.
    pub definitions: &'static [Definition],
}

impl Space {
    /// The space's option of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&'static Definition> {
        self.definitions.iter().find(|definition| definition.is_named(name))
    }

    /// The space's option of this code.
    #[must_use]
    pub fn by_code(&self, code: u8) -> Option<&'static Definition> {
        self.definitions.iter().find(|definition| definition.code == code)
    }
}

/// The space of this name; [`Kind::Encapsulated`] says which one an option holds.
#[must_use]
pub fn space(name: &str) -> Option<&'static Space> {
    SPACES.iter().find(|space| space.name == name)
}

/// The space whose options an option holds.
#[must_use]
pub fn space_within(code: u8) -> Option<&'static Space> {
    SPACES.iter().find(|space| space.code == code)
}

static SPACES: &[Space] = &[
    Space { name: "PXE", code: super::VENDOR_ENCAPSULATED_OPTIONS, definitions: PXE },
    Space { name: "agent", code: super::RELAY_AGENT_INFORMATION, definitions: AGENT },
    Space { name: "ipxe", code: super::IPXE, definitions: IPXE },
    Space { name: "nwip", code: super::NWIP_SUBOPTIONS, definitions: NWIP },
];

const fn define(code: u8, name: &'static str, kind: Kind) -> Definition {
    Definition { code, name, aliases: &[], kind }
}

/// PXE 2.1 section 2.4.4, table 2-1; names as dhcpd's users define them.
const PXE: &[Definition] = &[
    define(1, "mtftp-ip", Kind::Ipv4),
    define(2, "mtftp-cport", Kind::U16),
    define(3, "mtftp-sport", Kind::U16),
    define(4, "mtftp-tmout", Kind::U8),
    define(5, "mtftp-delay", Kind::U8),
    define(6, "discovery-control", Kind::U8),
    define(7, "discovery-mcast-addr", Kind::Ipv4),
    define(8, "boot-servers", Kind::Bytes),
    define(9, "boot-menu", Kind::Bytes),
    define(10, "menu-prompt", Kind::Record(&[Kind::U8, Kind::Text])),
    define(12, "credential-types", Kind::Bytes),
    define(71, "boot-item", Kind::Record(&[Kind::U16, Kind::U16])),
];

/// Relay agent information: dhcpd's names, then the registry's.
const AGENT: &[Definition] = &[
    define(1, "circuit-id", Kind::Bytes),
    define(2, "remote-id", Kind::Bytes),
    define(3, "agent-id", Kind::Ipv4),
    define(4, "DOCSIS-device-class", Kind::U32),
    define(5, "link-selection", Kind::Ipv4),
    define(6, "subscriber-id", Kind::Text),
    define(7, "radius-attributes", Kind::Bytes),
    define(8, "authentication", Kind::Bytes),
    define(9, "vendor-specific", Kind::Bytes),
    define(10, "flags", Kind::U8),
    define(11, "server-id-override", Kind::Ipv4),
    define(12, "relay-id", Kind::Bytes),
    define(13, "access-technology-type", Kind::Bytes),
    define(14, "access-network-name", Kind::Text),
    define(15, "access-point-name", Kind::Text),
    define(16, "access-point-bssid", Kind::Bytes),
    define(17, "operator-id", Kind::Bytes),
    define(18, "operator-realm", Kind::Text),
    define(19, "relay-port", Kind::Empty),
    define(151, "virtual-subnet-selection", Kind::Bytes),
    define(152, "virtual-subnet-selection-control", Kind::Empty),
];

/// What iPXE reads and says in option 175 (iPXE's `dhcp.h` and its dhcpd guide).
const IPXE: &[Definition] = &[
    define(1, "priority", Kind::I8),
    define(8, "keep-san", Kind::U8),
    define(9, "skip-san-boot", Kind::U8),
    define(16, "pxeext", Kind::U8),
    define(17, "iscsi", Kind::U8),
    define(18, "aoe", Kind::U8),
    define(19, "http", Kind::U8),
    define(20, "https", Kind::U8),
    define(21, "tftp", Kind::U8),
    define(22, "ftp", Kind::U8),
    define(23, "dns", Kind::U8),
    define(24, "bzimage", Kind::U8),
    define(25, "multiboot", Kind::U8),
    define(26, "slam", Kind::U8),
    define(27, "srp", Kind::U8),
    define(32, "nbi", Kind::U8),
    define(33, "pxe", Kind::U8),
    define(34, "elf", Kind::U8),
    define(35, "comboot", Kind::U8),
    define(36, "efi", Kind::U8),
    define(37, "fcoe", Kind::U8),
    define(38, "vlan", Kind::U8),
    define(39, "menu", Kind::U8),
    define(40, "sdi", Kind::U8),
    define(41, "nfs", Kind::U8),
    define(85, "syslogs", Kind::Text),
    define(91, "cert", Kind::Bytes),
    define(92, "privkey", Kind::Bytes),
    define(93, "crosscert", Kind::Text),
    define(176, "no-pxedhcp", Kind::U8),
    define(177, "bus-id", Kind::Bytes),
    define(188, "san-filename", Kind::Text),
    define(189, "bios-drive", Kind::U8),
    define(190, "username", Kind::Text),
    define(191, "password", Kind::Text),
    define(192, "reverse-username", Kind::Text),
    define(193, "reverse-password", Kind::Text),
    define(235, "version", Kind::Bytes),
];

/// NetWare/IP (RFC 2242).
const NWIP: &[Definition] = &[
    define(5, "nsq-broadcast", Kind::Flag),
    define(6, "preferred-dss", Kind::Ipv4List),
    define(7, "nearest-nwip-server", Kind::Ipv4List),
    define(8, "autoretries", Kind::U8),
    define(9, "autoretry-secs", Kind::U8),
    define(10, "nwip-1-1", Kind::Flag),
    define(11, "primary-dss", Kind::Ipv4),
];
