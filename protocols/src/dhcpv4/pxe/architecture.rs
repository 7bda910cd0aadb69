//! Client system architectures (RFC 4578 section 2.1 with its errata, IANA registry "Processor
//! Architecture Types").

use core::fmt;

use super::super::data::OptionData;
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

/// Numbers and names.
const ARCHITECTURES: &[(u16, &str)] = &[
    (0, "x86-bios"),
    (1, "nec-pc98"),
    (2, "itanium"),
    (3, "dec-alpha"),
    (4, "arc-x86"),
    (5, "intel-lean-client"),
    (6, "ia32-efi"),
    (7, "x86-64-efi"),
    (8, "xscale-efi"),
    (10, "arm32-efi"),
    (11, "arm64-efi"),
    (12, "powerpc-open-firmware"),
    (13, "powerpc-epapr"),
    (14, "power-opal"),
    (15, "ia32-http"),
    (16, "x86-64-http"),
    (17, "ebc-http"),
    (18, "arm32-http"),
    (19, "arm64-http"),
    (20, "x86-bios-http"),
    (21, "arm32-uboot"),
    (22, "arm64-uboot"),
    (23, "arm32-uboot-http"),
    (24, "arm64-uboot-http"),
    (25, "riscv32-efi"),
    (26, "riscv32-http"),
    (27, "riscv64-efi"),
    (28, "riscv64-http"),
    (29, "riscv128-efi"),
    (30, "riscv128-http"),
    (31, "s390-basic"),
    (32, "s390-extended"),
    (33, "mips32-efi"),
    (34, "mips64-efi"),
    (35, "sunway32-efi"),
    (36, "sunway64-efi"),
    (37, "loongarch32-efi"),
    (38, "loongarch32-http"),
    (39, "loongarch64-efi"),
    (40, "loongarch64-http"),
    (41, "arm-rpiboot"),
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
        ARCHITECTURES.iter().find(|(_, known)| *known == name).map(|(code, _)| Self(*code))
    }

    /// Its name; `None` for a number that is not in the registry.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        ARCHITECTURES.iter().find(|(code, _)| *code == self.0).map(|(_, name)| *name)
    }

    /// All names, for messages that say what there is.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ARCHITECTURES.iter().map(|(_, name)| *name)
    }

    /// What a message says: the first of option 93, or else the number in the vendor class.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let listed = message.option(options::PXE_SYSTEM_TYPE).and_then(|list| list.slice(0, 2));
        let listed = listed.and_then(|first| first.u16()).map(Self::from_code);
        listed.or_else(|| Self::from_vendor_class(&message.vendor_class()?))
    }

    /// The number in a vendor class `PXEClient:Arch:00007:UNDI:003016`.
    #[must_use]
    pub fn from_vendor_class(class: &OptionData<'_>) -> Option<Self> {
        arch_in_vendor_class(class).map(Self::from_code)
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
