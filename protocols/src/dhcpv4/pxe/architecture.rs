//! Client system architectures (RFC 4578 section 2.1 with its errata, IANA registry "Processor
//! Architecture Types").

use core::fmt;

use super::super::message::Message;
use super::super::options;
use super::arch_in_vendor_class;

/// The architecture a machine boots as.
///
/// RFC 4578 gave x86-64 UEFI the number 9 and EFI byte code the number 7; firmware sends 7 for
/// x86-64, and the registry now says so. Nothing boots EFI byte code, so both numbers are the same
/// architecture here.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Architecture(u16);

/// What x86-64 UEFI machines send.
const X86_64_EFI: u16 = 7;
/// What a few old ones send, by the letter of RFC 4578.
const X86_64_EFI_BY_RFC: u16 = 9;

/// Numbers, names, and whether the boot file comes by HTTP.
const ARCHITECTURES: &[(u16, &str, bool)] = &[
    (0, "x86-bios", false),
    (1, "nec-pc98", false),
    (2, "itanium", false),
    (3, "dec-alpha", false),
    (4, "arc-x86", false),
    (5, "intel-lean-client", false),
    (6, "ia32-efi", false),
    (7, "x86-64-efi", false),
    (8, "xscale-efi", false),
    (10, "arm32-efi", false),
    (11, "arm64-efi", false),
    (12, "powerpc-open-firmware", false),
    (13, "powerpc-epapr", false),
    (14, "power-opal", false),
    (15, "ia32-http", true),
    (16, "x86-64-http", true),
    (17, "ebc-http", true),
    (18, "arm32-http", true),
    (19, "arm64-http", true),
    (20, "x86-bios-http", true),
    (21, "arm32-uboot", false),
    (22, "arm64-uboot", false),
    (23, "arm32-uboot-http", true),
    (24, "arm64-uboot-http", true),
    (25, "riscv32-efi", false),
    (26, "riscv32-http", true),
    (27, "riscv64-efi", false),
    (28, "riscv64-http", true),
    (29, "riscv128-efi", false),
    (30, "riscv128-http", true),
    (31, "s390-basic", false),
    (32, "s390-extended", false),
    (33, "mips32-efi", false),
    (34, "mips64-efi", false),
    (35, "sunway32-efi", false),
    (36, "sunway64-efi", false),
    (37, "loongarch32-efi", false),
    (38, "loongarch32-http", true),
    (39, "loongarch64-efi", false),
    (40, "loongarch64-http", true),
    (41, "arm-rpiboot", false),
];

impl Architecture {
    /// The architecture of this number; 9 is taken as 7.
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        Self(if code == X86_64_EFI_BY_RFC { X86_64_EFI } else { code })
    }

    /// Its number in the registry.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The architecture of this name: `x86-bios`, `x86-64-efi`, `arm64-http`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        ARCHITECTURES.iter().find(|(_, known, _)| *known == name).map(|(code, ..)| Self(*code))
    }

    /// Its name; `None` for a number that is not in the registry.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|(_, name, _)| *name)
    }

    /// All names, for messages that say what there is.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ARCHITECTURES.iter().map(|(_, name, _)| *name)
    }

    /// True when the machine loads its boot file by HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        self.entry().is_some_and(|(_, _, http)| *http)
    }

    fn entry(self) -> Option<&'static (u16, &'static str, bool)> {
        ARCHITECTURES.iter().find(|(code, ..)| *code == self.0)
    }

    /// What a message says: the first of option 93, or else the number in the vendor class.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let listed = message.option(options::PXE_SYSTEM_TYPE).and_then(|list| list.slice(0, 2));
        let code = listed.and_then(|first| first.u16());
        code.or_else(|| arch_in_vendor_class(&message.vendor_class()?)).map(Self::from_code)
    }
}

/// The name, or the number where there is none.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}
