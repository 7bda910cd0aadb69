//! Option 43 between PXE clients and servers (PXE 2.1 sections 2.2.4 and 2.4.4).

use core::net::Ipv4Addr;

use super::super::data::{OptionData, SubOptions};
use super::super::options::END;
use crate::wire::{Full, Writer};

/// Codes of the sub-options (PXE 2.1 table 2-1).
pub mod sub_option {
    /// How to look for boot servers.
    pub const DISCOVERY_CONTROL: u8 = 6;
    /// Multicast address of boot servers.
    pub const DISCOVERY_MULTICAST: u8 = 7;
    /// Boot servers by type.
    pub const BOOT_SERVERS: u8 = 8;
    /// The entries of the menu.
    pub const BOOT_MENU: u8 = 9;
    /// The prompt before the menu, and how long it waits.
    pub const MENU_PROMPT: u8 = 10;
    /// What the client chose.
    pub const BOOT_ITEM: u8 = 71;
}

/// Bits of sub-option 6.
pub mod control {
    /// No discovery by broadcast.
    pub const NO_BROADCAST: u8 = 1;
    /// No discovery by multicast.
    pub const NO_MULTICAST: u8 = 2;
    /// Only the servers of sub-option 8.
    pub const LISTED_SERVERS_ONLY: u8 = 4;
    /// Load the boot file of this reply at once: no menu, no discovery.
    pub const BOOT_FILE_AT_ONCE: u8 = 8;
}

/// Boot servers of one type.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BootServer<'a> {
    /// The type, as the menu names it; 0 is "boot from local disk".
    pub kind: u16,
    /// Their addresses; at most 255.
    pub addresses: &'a [Ipv4Addr],
}

/// One entry of the menu.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MenuItem<'a> {
    /// The type of boot server it stands for.
    pub kind: u16,
    /// What is displayed; at most 255 bytes.
    pub text: &'a str,
}

/// The prompt before the menu.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Prompt<'a> {
    /// Seconds until the first entry is taken; 0 takes it at once, 255 waits for a key.
    pub timeout: u8,
    /// What is displayed.
    pub text: &'a str,
}

/// What a client chose from the menu (sub-option 71); the answer repeats it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BootItem {
    /// The type of boot server.
    pub kind: u16,
    /// The layer; its high bit asks for credentials.
    pub layer: u16,
}

/// What a server tells a PXE client. With nothing but `control` =
/// [`control::BOOT_FILE_AT_ONCE`] it is what every reply with vendor class `PXEClient` needs: without
/// option 43 EDK2 asks port 4011 of the next server and waits there, while BIOS ROMs boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovery<'a> {
    /// Bits of [`control`].
    pub control: Option<u8>,
    /// Where boot servers are asked by multicast.
    pub multicast: Option<Ipv4Addr>,
    /// Boot servers by type.
    pub servers: &'a [BootServer<'a>],
    /// The menu.
    pub menu: &'a [MenuItem<'a>],
    /// The prompt before it.
    pub prompt: Option<Prompt<'a>>,
    /// The client's choice, in the answer to it.
    pub item: Option<BootItem>,
}

impl Discovery<'_> {
    /// Writes the value of option 43, with its own END. Refuses a list that does not fit the 255
    /// bytes of its sub-option.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        if let Some(control) = self.control {
            writer.bytes(&[sub_option::DISCOVERY_CONTROL, 1, control])?;
        }
        if let Some(multicast) = self.multicast {
            writer.bytes(&[sub_option::DISCOVERY_MULTICAST, 4])?;
            writer.ipv4(multicast)?;
        }
        let len: usize = self.servers.iter().map(|server| 3 + 4 * server.addresses.len()).sum();
        if len > 0 {
            sub_option_header(writer, sub_option::BOOT_SERVERS, len)?;
        }
        for server in self.servers {
            writer.u16(server.kind)?;
            writer.u8(server.addresses.len() as u8)?; // less than the 255 of its sub-option
            for address in server.addresses {
                writer.ipv4(*address)?;
            }
        }
        let len: usize = self.menu.iter().map(|item| 3 + item.text.len()).sum();
        if len > 0 {
            sub_option_header(writer, sub_option::BOOT_MENU, len)?;
        }
        for item in self.menu {
            writer.u16(item.kind)?;
            writer.u8(item.text.len() as u8)?; // less than the 255 of its sub-option
            writer.bytes(item.text.as_bytes())?;
        }
        if let Some(prompt) = self.prompt {
            sub_option_header(writer, sub_option::MENU_PROMPT, 1 + prompt.text.len())?;
            writer.u8(prompt.timeout)?;
            writer.bytes(prompt.text.as_bytes())?;
        }
        if let Some(item) = self.item {
            writer.bytes(&[sub_option::BOOT_ITEM, 4])?;
            writer.u16(item.kind)?;
            writer.u16(item.layer)?;
        }
        writer.u8(END)
    }
}

fn sub_option_header(writer: &mut Writer<'_>, code: u8, len: usize) -> Result<(), Full> {
    let len = u8::try_from(len).map_err(|_| Full { needed: len, room: usize::from(u8::MAX) })?;
    writer.bytes(&[code, len])
}

impl BootItem {
    /// What a client's option 43 asks for.
    #[must_use]
    pub fn from_option(vendor_options: &OptionData<'_>) -> Option<Self> {
        let sub_options: SubOptions<'_> = vendor_options.encapsulated();
        let [a, b, c, d] = sub_options.find_code(sub_option::BOOT_ITEM)?.array()?;
        Some(Self { kind: u16::from_be_bytes([a, b]), layer: u16::from_be_bytes([c, d]) })
    }
}
