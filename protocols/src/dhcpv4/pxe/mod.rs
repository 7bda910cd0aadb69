//! Network boot: the machine's architecture and UUID (RFC 4578), the program that asks, and the
//! codes of the PXE specification 2.1 for option 43.

mod architecture;
mod machine_id;

pub use architecture::Architecture;
pub use machine_id::MachineId;

use super::data::OptionData;
use super::message::Message;
use super::options;
use super::user_class::UserClass;

/// How the vendor class of a PXE client begins, and all of a PXE server's (PXE 2.1 section 2.2.3).
pub const PXE_CLIENT: &[u8] = b"PXEClient";
/// The same for UEFI HTTP Boot (UEFI 2.10 section 24.7).
pub const HTTP_CLIENT: &[u8] = b"HTTPClient";
/// Sub-option of option 43 that says how to look for boot servers (PXE 2.1 table 2-1).
pub const DISCOVERY_CONTROL: u8 = 6;
/// Bit of [`DISCOVERY_CONTROL`]: load the boot file of this reply at once, without menu and
/// discovery.
pub const BOOT_FILE_AT_ONCE: u8 = 8;
/// Sub-option of option 175 (iPXE's `dhcp.h`): 1 tells iPXE not to wait for a ProxyDHCP.
pub const NO_PXEDHCP: u8 = 176;
/// The user class of iPXE.
const IPXE: &[u8] = b"iPXE";
/// The user class of gPXE, which became iPXE.
const GPXE: &[u8] = b"gPXE";

/// Which program of a boot sent a message. The same machine is all of them, one after another.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClientStage {
    /// The machine's own network ROM: it wants a first boot file.
    Firmware,
    /// iPXE, whether loaded by the firmware or burnt in as the ROM: it must not be told to load
    /// iPXE.
    Ipxe,
    /// An installer, an operating system, a device.
    Other,
}

impl ClientStage {
    /// Looks for iPXE first, as it calls itself PXEClient as well: by user class (raw, as it sends
    /// it, or in the form of RFC 3004) or by its option 175.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Self {
        let has_ipxe_options = message.option(options::IPXE).is_some();
        Self::new(message.vendor_class(), message.user_class(), has_ipxe_options)
    }

    /// The same from options 60 and 77, and whether there is an option 175.
    #[must_use]
    pub fn new(
        vendor_class: Option<OptionData<'_>>,
        user_class: Option<UserClass<'_>>,
        has_ipxe_options: bool,
    ) -> Self {
        let of_ipxe = |class: UserClass<'_>| class.contains(IPXE) || class.contains(GPXE);
        if user_class.is_some_and(of_ipxe) || has_ipxe_options {
            return Self::Ipxe;
        }
        let boots =
            |class: OptionData<'_>| class.starts_with(PXE_CLIENT) || class.starts_with(HTTP_CLIENT);
        if vendor_class.is_some_and(boots) { Self::Firmware } else { Self::Other }
    }
}

/// The number behind `Arch:` in a vendor class `PXEClient:Arch:00007:UNDI:003016`.
fn arch_in_vendor_class(class: &OptionData<'_>) -> Option<u16> {
    const DIGITS: usize = 5;
    let prefix = [PXE_CLIENT, HTTP_CLIENT].into_iter().find(|prefix| class.starts_with(prefix))?;
    let arch = class.slice(prefix.len(), b":Arch:".len() + DIGITS)?;
    if !arch.starts_with(b":Arch:") {
        return None;
    }
    arch.bytes().skip(b":Arch:".len()).try_fold(0u16, |number, digit| {
        let digit = char::from(digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit as u16)
    })
}
