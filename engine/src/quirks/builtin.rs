//! The quirks that this server knows. A new one needs evidence that others can read, and is on by
//! itself only if no healthy machine that it matches becomes much slower.

use std::time::Duration;

use super::Quirk;

/// One row of the table.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its name, for `quirks-on` and `quirks-off`.
    pub name: &'static str,
    /// Whether it is in force unless the configuration says otherwise.
    pub on: bool,
    vendor_class: &'static [&'static [u8]],
    mac_prefix: &'static [&'static [u8]],
    max_blksize: Option<u16>,
    max_windowsize: Option<u16>,
    min_retry: Option<Duration>,
    reply_delay: Option<Duration>,
}

/// What an unfragmented packet carries on Ethernet: 1500 bytes less the headers of IPv4, UDP and
/// TFTP.
const ETHERNET_BLKSIZE: u16 = 1468;

/// Option 60 of UEFI firmware that boots by PXE, by the architectures of RFC 4578 and IANA's
/// registry: IA32, x86-64 (7, and 9 as many write it), and 32-bit and 64-bit ARM.
const UEFI: &[&[u8]] = &[
    b"PXEClient:Arch:00006",
    b"PXEClient:Arch:00007",
    b"PXEClient:Arch:00009",
    b"PXEClient:Arch:00010",
    b"PXEClient:Arch:00011",
];

/// The beginnings of hardware addresses that IEEE's registry gives to Raspberry Pi.
const RASPBERRY_PI: &[&[u8]] = &[
    &[0x28, 0xcd, 0xc1],
    &[0x2c, 0xcf, 0x67],
    &[0x88, 0xa2, 0x9e],
    &[0xb8, 0x27, 0xeb],
    &[0xd8, 0x3a, 0xdd],
    &[0xdc, 0xa6, 0x32],
    &[0xe4, 0x5f, 0x01],
];

/// All of them, in the order in which they are applied.
pub const BUILT_IN: &[BuiltIn] = &[
    // The PXE base code of BIOS ROMs drops fragments of TFTP packets without a word, until PXE-E32
    // after minutes: VMware's knowledge base, article 313265, and the manual of CA Client
    // Automation on PXE-E32. On: with `clamp-to-mtu` on Ethernet it changes nothing, ROMs, pxelinux
    // and iPXE ask for no more anyway; it matters where the server's MTU is larger than the
    // machine's, or the clamp is off.
    BuiltIn {
        name: "bios-fragments",
        on: true,
        vendor_class: &[b"PXEClient:Arch:00000"],
        mac_prefix: &[],
        max_blksize: Some(ETHERNET_BLKSIZE),
        max_windowsize: None,
        min_retry: None,
        reply_delay: None,
    },
    // EDK2 loses blocks of 65,464 bytes, which come in 45 fragments, now and then and gives up:
    // tianocore/edk2 issue 7632 (was bug 1324). Off: Windows' boot manager asks for large blocks on
    // purpose where the clamp is off, and many machines manage.
    BuiltIn {
        name: "uefi-fragments",
        on: false,
        vendor_class: UEFI,
        mac_prefix: &[],
        max_blksize: Some(ETHERNET_BLKSIZE),
        max_windowsize: None,
        min_retry: None,
        reply_delay: None,
    },
    // EDK2 asks for windows of four since tianocore/edk2 issue 7264, and answers each block behind
    // a gap with an ACK of its own, so that a lost or overtaken block multiplies the traffic;
    // EDK2's mailing list, "TFTP download of 1.7 MB file generates 20GB Traffic". Off: most
    // networks lose nothing, and windows are what makes EDK2 fast.
    BuiltIn {
        name: "edk2-windowsize",
        on: false,
        vendor_class: UEFI,
        mac_prefix: &[],
        max_blksize: None,
        max_windowsize: Some(1),
        min_retry: None,
        reply_delay: None,
    },
    // OVMF of 2017 on QEMU failed with the usual block size and booted with 1024:
    // crowbar/crowbar-core pull request 1078. Off: OVMF of 2022 manages 1468, see docs/FIRMWARE.md.
    BuiltIn {
        name: "ovmf-blksize",
        on: false,
        vendor_class: UEFI,
        // QEMU's own addresses.
        mac_prefix: &[&[0x52, 0x54, 0x00]],
        max_blksize: Some(1024),
        max_windowsize: None,
        min_retry: None,
        reply_delay: None,
    },
    // The loaders of Raspberry Pis that have taken a block, but whose ACK is late, count the same
    // block once more as the next one, acknowledge a block that was never sent, and hang:
    // raspberrypi/firmware issue 1631. They are busy for more than 0.1 s now and then. On: a longer
    // wait costs time only where packets are lost.
    BuiltIn {
        name: "raspberry-pi-retry",
        on: true,
        vendor_class: &[b"PXEClient:Arch:00000"],
        mac_prefix: RASPBERRY_PI,
        max_blksize: None,
        max_windowsize: None,
        min_retry: Some(Duration::from_secs(1)),
        reply_delay: None,
    },
    // The boot ROM of a Raspberry Pi 3 does not hear an OFFER that comes at once, and stops for
    // good after some tries: raspberrypi/firmware issues 859 and 894, and the commit of dnsmasq
    // that brought dhcp-reply-delay. On: a healthy Pi boots a second later, another not at all.
    BuiltIn {
        name: "raspberry-pi-3-offer",
        on: true,
        vendor_class: &[b"PXEClient:Arch:00000"],
        mac_prefix: &[&[0xb8, 0x27, 0xeb]],
        max_blksize: None,
        max_windowsize: None,
        min_retry: None,
        reply_delay: Some(Duration::from_secs(1)),
    },
];

impl BuiltIn {
    /// The quirk of this row.
    pub fn quirk(&self) -> Quirk {
        let owned = |starts: &[&[u8]]| starts.iter().map(|&start| start.into()).collect();
        Quirk {
            name: self.name.into(),
            vendor_class: owned(self.vendor_class),
            mac_prefix: owned(self.mac_prefix),
            max_blksize: self.max_blksize,
            max_windowsize: self.max_windowsize,
            ignore_options: Vec::new(),
            min_retry: self.min_retry,
            reply_delay: self.reply_delay,
        }
    }
}
