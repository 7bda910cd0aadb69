//! What the tests of classes go by: one message, and what is known of its sender.

use bootstorm_protocols::dhcpv4::rai::{CIRCUIT_ID, REMOTE_ID};
use bootstorm_protocols::dhcpv4::{Message, OptionData, options};
use bumpalo::Bump;

use super::machine::{Machine, joined};
use crate::config::{ClassId, Facts, OptionPath};
use crate::leases::Discovered;

/// One message, and what is known of its sender.
#[derive(Copy, Clone)]
pub(super) struct Known<'m, 'a> {
    pub(super) message: &'m Message<'a>,
    /// What the sender said in its DISCOVER, where the message says less.
    pub(super) before: Option<Discovered<'a>>,
    pub(super) machine: &'m Machine<'a>,
    /// The classes that it is a member of, of those that stand before the one that is tested.
    pub(super) members: &'m [ClassId],
    pub(super) arena: &'a Bump,
}

impl<'a> Facts<'a> for Known<'_, 'a> {
    fn option(&self, path: OptionPath) -> Option<&'a [u8]> {
        let relay = path.code == options::RELAY_AGENT_INFORMATION;
        match path.inner {
            // In unicast renewals they are what the lease was bound with.
            Some(CIRCUIT_ID) if relay => return self.machine.circuit_id,
            Some(REMOTE_ID) if relay => return self.machine.remote_id,
            _ => {}
        }
        let own = self.message.option(path.code);
        let data: OptionData<'a> =
            own.or_else(|| self.before?.option(path.code).map(Into::into))?;
        let data = match path.inner {
            None => data,
            Some(code) if relay => data.sub_options().find_code(code)?,
            Some(code) => data.encapsulated().find_code(code)?,
        };
        Some(joined(data, self.arena))
    }

    fn hardware(&self) -> Option<&'a [u8]> {
        let kind = std::iter::once(self.message.htype());
        let bytes = kind.chain(self.machine.chaddr.iter().copied());
        let hardware = self.arena.alloc_slice_fill_copy(1 + self.machine.chaddr.len(), 0);
        hardware.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Some(hardware)
    }

    fn message(&self) -> &'a [u8] {
        self.message.as_bytes()
    }

    fn file(&self) -> &'a [u8] {
        self.message.file()
    }

    fn server_name(&self) -> &'a [u8] {
        self.message.sname()
    }

    fn is_member(&self, class: ClassId) -> bool {
        // In the order of the configuration, so they rise.
        self.members.binary_search(&class).is_ok()
    }
}
