//! The programs that run one after the other on a machine, and what each says of itself.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{
    BROADCAST_FLAG, ETHERNET, Header, INFINITE, MIN_MESSAGE, MessageType, MessageWriter, options,
};

/// One program that asks for an address.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Program {
    /// The network ROM of a BIOS machine.
    Bios,
    /// The PXE client of UEFI firmware.
    Uefi,
    /// iPXE, loaded by either.
    Ipxe,
    /// An installer with a client identifier of its own (RFC 4361).
    Installer,
    /// The installed system: the only one that renews.
    System,
    /// A machine that knows BOOTP alone (RFC 951), and keeps its address for ever.
    Bootp,
}

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bios => "network ROM",
            Self::Uefi => "UEFI firmware",
            Self::Ipxe => "iPXE",
            Self::Installer => "installer",
            Self::System => "system",
            Self::Bootp => "BOOTP client",
        }
    }

    pub(crate) fn is_firmware(self) -> bool {
        matches!(self, Self::Bios | Self::Uefi | Self::Ipxe)
    }

    /// The boot file that the configuration gives it where no host entry says another.
    pub(crate) fn boot_file(self) -> &'static str {
        match self {
            Self::Bios => "boot.bios",
            Self::Uefi => "boot.uefi",
            Self::Ipxe => "script",
            Self::Installer | Self::System | Self::Bootp => "",
        }
    }
}

/// What tells a machine from others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) mac: [u8; 6],
    pub(crate) uuid: [u8; 16],
    /// Says less in the REQUEST that takes an offer than in its DISCOVER.
    pub(crate) terse: bool,
    /// Asks for rapid commit (RFC 4039).
    pub(crate) rapid: bool,
    /// Its system asks for a lease without end.
    pub(crate) endless: bool,
}

impl Identity {
    /// Whether a program asks for a lease without end.
    pub(crate) fn wishes_endless(&self, program: Program) -> bool {
        self.endless && program == Program::System
    }

    /// Option 61 of a program.
    pub(crate) fn client_id(&self, program: Program) -> Option<Vec<u8>> {
        match program {
            Program::Bios | Program::Bootp => None,
            Program::Uefi => Some([&[0], &self.uuid[..]].concat()),
            Program::Ipxe | Program::System => Some([&[1], &self.mac[..]].concat()),
            Program::Installer => Some([&[255, 0, 0, 0, 1, 0, 4], &self.uuid[..]].concat()),
        }
    }
}

/// A message to be written.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) kind: MessageType,
    pub(crate) identity: &'a Identity,
    pub(crate) program: Program,
    pub(crate) xid: u32,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    /// The relay agent that it passes.
    pub(crate) giaddr: Ipv4Addr,
    /// Circuit-id and remote-id, where the relay agent adds them.
    pub(crate) port: Option<(String, String)>,
}

impl Question<'_> {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut buf = [0; 800];
        // The room is enough for all that is written here.
        let len = self.write_to(&mut buf).expect("a message fits");
        buf[..len.max(MIN_MESSAGE)].to_vec()
    }

    fn write_to(&self, buf: &mut [u8]) -> Option<usize> {
        let Self { identity, program, .. } = self;
        let relayed = !self.giaddr.is_unspecified();
        let header = Header {
            hops: relayed.into(),
            flags: if *program == Program::Uefi { BROADCAST_FLAG } else { 0 },
            ciaddr: self.ciaddr,
            giaddr: self.giaddr,
            ..Header::request(ETHERNET, &identity.mac, self.xid)
        };
        let room = buf.len();
        let mut writer = MessageWriter::new(buf, room, &header).ok()?;
        if *program == Program::Bootp {
            self.write_port(&mut writer)?;
            return Some(writer.finish());
        }
        writer.option(options::MESSAGE_TYPE, &[self.kind.code()]).ok()?;
        if let Some(requested) = self.requested {
            writer.option(options::REQUESTED_ADDRESS, &requested.octets()).ok()?;
        }
        if let Some(server) = self.server {
            writer.option(options::SERVER_IDENTIFIER, &server.octets()).ok()?;
        }
        let asks = matches!(self.kind, MessageType::Discover | MessageType::Request);
        if asks && identity.wishes_endless(*program) {
            writer.option(options::LEASE_TIME, &INFINITE.to_be_bytes()).ok()?;
        }
        if let Some(id) = identity.client_id(*program) {
            writer.option(options::CLIENT_IDENTIFIER, &id).ok()?;
        }
        writer.option(options::PARAMETER_REQUEST_LIST, &[1, 3, 51, 54, 58, 59]).ok()?;
        let silent = identity.terse && self.kind == MessageType::Request && self.server.is_some();
        if program.is_firmware() && !silent {
            let (class, arch) = match program {
                Program::Bios => (&b"PXEClient:Arch:00000:UNDI:002001"[..], 0),
                _ => (&b"PXEClient:Arch:00007:UNDI:003016"[..], 7),
            };
            writer.option(options::VENDOR_CLASS_IDENTIFIER, class).ok()?;
            writer.option(options::PXE_SYSTEM_TYPE, &[0, arch]).ok()?;
            let uuid = [&[0], &identity.uuid[..]].concat();
            writer.option(options::PXE_CLIENT_ID, &uuid).ok()?;
        }
        if *program == Program::Ipxe && !silent {
            writer.option(options::USER_CLASS, b"iPXE").ok()?;
        }
        if *program == Program::Installer {
            writer.option(options::VENDOR_CLASS_IDENTIFIER, b"d-i").ok()?;
        }
        if identity.rapid && self.kind == MessageType::Discover {
            writer.option(options::RAPID_COMMIT, &[]).ok()?;
        }
        self.write_port(&mut writer)?;
        Some(writer.finish())
    }

    fn write_port(&self, writer: &mut MessageWriter<'_>) -> Option<()> {
        if let Some((circuit, remote)) = &self.port {
            // Their lengths are far below 256.
            let sub = |code, value: &str| [&[code, value.len() as u8], value.as_bytes()].concat();
            let both = [sub(1, circuit), sub(2, remote)].concat();
            writer.option(options::RELAY_AGENT_INFORMATION, &both).ok()?;
        }
        Some(())
    }
}
