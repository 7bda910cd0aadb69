//! Programs that run in the course of one boot, and how each behaves: when it repeats a message,
//! when it gives up, which options it asks for.
//!
//! Where each figure comes from, a capture or a specification, stands in docs/FIRMWARE.md.

use std::time::Duration;

use bootstorm_protocols::tftp::{ErrorCode, Negotiated, RetryPolicy};
use serde::{Deserialize, Serialize};

/// A program that asks for addresses and files.
#[derive(
    Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize, Serialize, Default,
)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The network ROM of a BIOS machine, after the PXE specification 2.1.
    PxeBios,
    /// The PXE client of EDK2, which most UEFI firmware is made from.
    Edk2,
    /// iPXE, loaded by UEFI firmware.
    Ipxe,
    /// iPXE, loaded by a BIOS machine's ROM. `ipxe` in a scenario means the one that the machine
    /// can load.
    IpxeBios,
    /// An installer's DHCP client, with a client identifier of its own (RFC 4361).
    Installer,
    /// No firmware at all: one DISCOVER, one REQUEST, a second of patience for each, nothing
    /// repeated. For counting exchanges.
    #[default]
    Plain,
}

/// How a program identifies itself in option 61.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ClientId {
    /// It does not.
    None,
    /// Hardware type and address (RFC 2132 section 9.14).
    Hardware,
    /// Type 0 and the machine's UUID.
    Uuid,
    /// Type 255, IAID and a DUID (RFC 4361 section 6.1).
    Duid,
}

/// What a program does when it asks for an address.
#[derive(Copy, Clone, Debug)]
pub struct DhcpBehaviour {
    /// How long it waits after the first DISCOVER, the second and so on; after the last it has
    /// given up.
    pub discover_waits: &'static [Duration],
    /// The same for a REQUEST; after the last it begins again with a DISCOVER, as often as `rounds`
    /// allows.
    pub request_waits: &'static [Duration],
    /// Times it goes through all of this.
    pub rounds: u8,
    /// Largest deviation of a wait from the above.
    pub jitter: Duration,
    /// It collects offers until so many of the waits after its DISCOVERs are over; with 0 it takes
    /// the first at once.
    pub collect: u8,
    /// That is a wait for a ProxyDHCP: the offer of a PXE server ends it, and one that says that
    /// there is none (option 175, sub-option 176).
    pub proxy_wait: bool,
    /// From its start to its first DISCOVER, shortest and longest.
    pub begins: [Duration; 2],
    /// From the ACK to what comes next.
    pub settle: Duration,
    /// Asks for answers by broadcast.
    pub broadcast: bool,
    /// Option 61.
    pub client_id: ClientId,
    /// Option 60.
    pub vendor_class: Option<&'static [u8]>,
    /// Option 77, raw.
    pub user_class: Option<&'static [u8]>,
    /// Option 93; option 97 goes with it.
    pub architecture: Option<u16>,
    /// Option 94: type and version of the network interface's driver.
    pub interface: [u8; 3],
    /// Option 175.
    pub ipxe_features: &'static [u8],
    /// Option 55.
    pub parameters: &'static [u8],
    /// Option 57.
    pub max_message: Option<u16>,
}

/// What a program does when it asks for a file.
#[derive(Copy, Clone, Debug)]
pub struct TftpBehaviour {
    /// The options of its request.
    pub asked: Negotiated,
    /// Asks for the size first, in a request that it ends with an ERROR of this code.
    pub size_probe: Option<ErrorCode>,
    /// When it repeats, and when it gives up.
    pub patience: RetryPolicy,
    /// Times it asks for one file before the boot has failed.
    pub attempts: u8,
}

impl Program {
    /// The name in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Program::PxeBios => "pxe-bios",
            Program::Edk2 => "edk2",
            Program::Ipxe => "ipxe",
            Program::IpxeBios => "ipxe-bios",
            Program::Installer => "installer",
            Program::Plain => "plain",
        }
    }

    /// What scenarios call it.
    pub const fn as_scenarios_say(self) -> Program {
        match self {
            Program::IpxeBios => Program::Ipxe,
            other => other,
        }
    }

    /// The iPXE that this firmware can load.
    pub const fn its_ipxe(self) -> Program {
        match self {
            Program::PxeBios => Program::IpxeBios,
            _ => Program::Ipxe,
        }
    }

    /// How it asks for an address.
    pub const fn dhcp(self) -> &'static DhcpBehaviour {
        match self {
            Program::PxeBios => &PXE_BIOS,
            Program::Edk2 => &EDK2,
            Program::Ipxe => &IPXE,
            Program::IpxeBios => &IPXE_BIOS,
            Program::Installer => &INSTALLER,
            Program::Plain => &PLAIN,
        }
    }

    /// How it asks for a file.
    pub const fn tftp(self) -> &'static TftpBehaviour {
        match self {
            Program::PxeBios => &PXE_BIOS_TFTP,
            Program::Edk2 => &EDK2_TFTP,
            Program::Ipxe | Program::IpxeBios => &IPXE_TFTP,
            // Installers load by HTTP; one that is told to use TFTP takes what the RFCs say.
            Program::Installer | Program::Plain => &PLAIN_TFTP,
        }
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An interval that stays the same: `repeats` of it, then the transfer has failed.
const fn steady(interval: Duration, repeats: u32) -> RetryPolicy {
    let total = Duration::from_secs(3600);
    let (initial, min, max, tries) = (interval, interval, interval, repeats);
    RetryPolicy { initial, min, max, tries, total, repeats_first: true }
}

const fn asks(blksize: u16, windowsize: Option<u16>, tsize: bool) -> Negotiated {
    Negotiated {
        blksize: Some(blksize),
        windowsize,
        timeout: None,
        tsize: if tsize { Some(0) } else { None },
        rollover: None,
        multicast: None,
    }
}

/// After PXE 2.1: DISCOVERs at 0, 4, 12, 28 s, given up at 60.
const PXE_WAITS: &[Duration] = &[s(4), s(8), s(16), s(32)];
const PXE_PARAMETERS: &[u8] = &[
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66,
    67, 97, 128, 129, 130, 131, 132, 133, 134, 135,
];
const IPXE_PARAMETERS: &[u8] = &[
    1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175,
    203,
];
/// The card's PCI identity, the version, and a flag for each thing it can do.
const IPXE_FEATURES: &[u8] = &[
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x17, 1, 1, 0x24, 1, 1, 0x13, 1, 1, 0x11, 1,
    1, 0x27, 1, 1, 0x29, 1, 1, 0x15, 1, 1, 0x1b, 1, 1, 0x12, 1, 1,
];

/// What all begin from.
const NOTHING: DhcpBehaviour = DhcpBehaviour {
    discover_waits: &[s(1)],
    request_waits: &[s(1)],
    rounds: 1,
    jitter: ms(0),
    collect: 0,
    proxy_wait: false,
    begins: [ms(0), ms(0)],
    settle: ms(0),
    broadcast: false,
    client_id: ClientId::None,
    vendor_class: None,
    user_class: None,
    architecture: None,
    interface: [0; 3],
    ipxe_features: &[],
    parameters: &[],
    max_message: None,
};

const PXE_BIOS: DhcpBehaviour = DhcpBehaviour {
    discover_waits: PXE_WAITS,
    request_waits: &[s(1), s(2), s(3), s(4)],
    settle: ms(30),
    broadcast: true,
    client_id: ClientId::Uuid,
    vendor_class: Some(b"PXEClient:Arch:00000:UNDI:002001"),
    architecture: Some(0),
    interface: [1, 2, 1],
    parameters: PXE_PARAMETERS,
    max_message: Some(1260),
    ..NOTHING
};

const EDK2: DhcpBehaviour = DhcpBehaviour {
    discover_waits: PXE_WAITS,
    request_waits: PXE_WAITS,
    collect: 1,
    settle: ms(30),
    broadcast: true,
    vendor_class: Some(b"PXEClient:Arch:00007:UNDI:003000"),
    architecture: Some(7),
    interface: [1, 3, 0],
    parameters: PXE_PARAMETERS,
    max_message: Some(1472),
    ..NOTHING
};

const IPXE: DhcpBehaviour = DhcpBehaviour {
    discover_waits: &[s(1), s(2), s(4), s(8)],
    request_waits: &[ms(250), ms(500), s(1), s(2), s(4), s(8)],
    collect: 2,
    proxy_wait: true,
    begins: [s(2), s(2)],
    settle: ms(100),
    client_id: ClientId::Hardware,
    vendor_class: Some(b"PXEClient:Arch:00007:UNDI:003010"),
    user_class: Some(b"iPXE"),
    architecture: Some(7),
    interface: [1, 3, 10],
    ipxe_features: IPXE_FEATURES,
    parameters: IPXE_PARAMETERS,
    max_message: Some(1472),
    ..NOTHING
};

const IPXE_BIOS: DhcpBehaviour = DhcpBehaviour {
    begins: [s(3), s(3)],
    broadcast: true,
    vendor_class: Some(b"PXEClient:Arch:00000:UNDI:002001"),
    architecture: Some(0),
    interface: [1, 2, 1],
    ..IPXE
};

const INSTALLER: DhcpBehaviour = DhcpBehaviour {
    discover_waits: &[s(4), s(8), s(16), s(32), s(64)],
    request_waits: &[s(4), s(8), s(16), s(32), s(64)],
    jitter: s(1),
    begins: [ms(0), s(1)],
    client_id: ClientId::Duid,
    parameters: &[1, 121, 3, 6, 12, 15, 26, 28, 33, 51, 54, 58, 59, 119],
    max_message: Some(1472),
    ..NOTHING
};

const PLAIN: DhcpBehaviour = DhcpBehaviour { parameters: &[1, 3, 6, 51, 54], ..NOTHING };

const PXE_BIOS_TFTP: TftpBehaviour = TftpBehaviour {
    asked: asks(1456, None, true),
    size_probe: Some(ErrorCode::NotDefined),
    patience: steady(s(4), 5),
    attempts: 1,
};

const EDK2_TFTP: TftpBehaviour = TftpBehaviour {
    asked: asks(1468, Some(4), false),
    size_probe: Some(ErrorCode::OptionRefused),
    patience: steady(s(4), 5),
    attempts: 1,
};

/// Doubles from a quarter of a second, and has failed when it would pass 10 s.
const IPXE_TFTP: TftpBehaviour = TftpBehaviour {
    asked: asks(1432, None, true),
    size_probe: None,
    patience: RetryPolicy {
        initial: ms(250),
        min: ms(250),
        max: s(8),
        tries: 5,
        total: s(3600),
        repeats_first: true,
    },
    attempts: 1,
};

const PLAIN_TFTP: TftpBehaviour = TftpBehaviour {
    asked: asks(1468, Some(16), true),
    size_probe: None,
    patience: RetryPolicy {
        initial: s(1),
        min: ms(500),
        max: s(8),
        tries: 8,
        total: s(60),
        repeats_first: true,
    },
    attempts: 1,
};
