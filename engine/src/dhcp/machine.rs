//! What a machine says about itself, read once from its message.

use bootstorm_protocols::dhcpv4::pxe::{self, Architecture, ClientStage, MachineId};
use bootstorm_protocols::dhcpv4::{Message, OptionData, RelayAgentInformation, UserClass, options};
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use crate::config::{ClassId, ClientMatch, Dhcp};

/// The program that asks, as far as it decides what it can boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Firmware {
    /// A network ROM or UEFI firmware that boots by PXE (option 60 `PXEClient`).
    Pxe,
    /// UEFI HTTP Boot (option 60 `HTTPClient`).
    Http,
    /// iPXE, from flash or loaded a moment ago.
    Ipxe,
    /// An operating system, an installer, a boot loader without a name.
    Other,
}

impl Firmware {
    pub(super) fn of(message: &Message<'_>) -> Self {
        let http =
            || message.vendor_class().is_some_and(|class| class.starts_with(pxe::HTTP_CLIENT));
        match message.stage() {
            ClientStage::Ipxe => Self::Ipxe,
            _ if http() => Self::Http,
            ClientStage::Firmware => Self::Pxe,
            ClientStage::Other => Self::Other,
        }
    }

    /// The word for logs; empty where there is none.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pxe => "PXE",
            Self::Http => "HTTP boot",
            Self::Ipxe => "iPXE",
            Self::Other => "",
        }
    }
}

/// One client as it describes itself.
#[derive(Clone, Debug)]
pub(super) struct Machine<'a> {
    pub(super) chaddr: &'a [u8],
    /// Option 61, whole; `None` when it is empty.
    pub(super) client_id: Option<&'a [u8]>,
    /// Option 97; `None` when it is no machine's own.
    pub(super) uuid: Option<MachineId>,
    pub(super) firmware: Firmware,
    /// Option 93, all codes; if there is none, the one that option 60 names.
    pub(super) architectures: &'a [Architecture],
    /// Option 60; empty when absent.
    pub(super) vendor_class: &'a [u8],
    pub(super) user_class: Option<UserClass<'a>>,
    /// Option 82, sub-option 1; in unicast renewals what the lease was bound with.
    pub(super) circuit_id: Option<&'a [u8]>,
    /// Option 82, sub-option 2; likewise.
    pub(super) remote_id: Option<&'a [u8]>,
}

impl<'a> Machine<'a> {
    pub(super) fn read(
        message: &Message<'a>,
        relay: Option<&RelayAgentInformation<'a>>,
        arena: &'a Bump,
    ) -> Self {
        let slice = |data: Option<OptionData<'a>>| data.map(|data| joined(data, arena));
        let vendor_class = slice(message.vendor_class()).unwrap_or_default();
        let architectures: &[Architecture] = match slice(message.option(options::PXE_SYSTEM_TYPE)) {
            Some(list) if list.len() >= 2 => {
                let (codes, _) = list.as_chunks::<2>();
                let codes = codes.iter().map(|code| u16::from_be_bytes(*code));
                arena.alloc_slice_fill_iter(codes.map(Architecture::from_code))
            }
            _ => message.architecture().map_or(&[], |named| arena.alloc_slice_copy(&[named])),
        };
        Self {
            chaddr: message.chaddr(),
            client_id: slice(message.client_id()),
            uuid: message.machine_id(),
            firmware: Firmware::of(message),
            architectures,
            vendor_class,
            user_class: message.user_class(),
            circuit_id: slice(relay.and_then(RelayAgentInformation::circuit_id)),
            remote_id: slice(relay.and_then(RelayAgentInformation::remote_id)),
        }
    }

    /// The classes whose conditions the machine meets, in the order of the configuration.
    pub(super) fn classes(&self, dhcp: &Dhcp, arena: &'a Bump) -> &'a [ClassId] {
        let mut members = BumpVec::new_in(arena);
        members.extend(dhcp.class_ids().filter(|&id| {
            let class = dhcp.class(id);
            !class.matches.is_empty() && self.is(&class.matches, &[])
        }));
        members.into_bump_slice()
    }

    /// Whether all conditions hold of the machine, which is a member of `classes`.
    pub(super) fn is(&self, wanted: &ClientMatch, classes: &[ClassId]) -> bool {
        one_of(&wanted.user_class, |class| {
            self.user_class.as_ref().is_some_and(|user| user.contains(class))
        }) && one_of(&wanted.vendor_class, |start| self.vendor_class.starts_with(start))
            && one_of(&wanted.arch, |&code| {
                self.architectures.contains(&Architecture::from_code(code))
            })
            && one_of(&wanted.mac_prefix, |start| self.chaddr.starts_with(start))
            && one_of(&wanted.uuid, |uuid| {
                self.uuid.is_some_and(|own| MachineId::from_bytes(*uuid) == Some(own))
            })
            && one_of(&wanted.circuit_id, |id| self.circuit_id == Some(&**id))
            && one_of(&wanted.remote_id, |id| self.remote_id == Some(&**id))
            && one_of(&wanted.class, |class| classes.contains(class))
    }
}

/// Whether one of the entries fits, or there is none that would have to.
fn one_of<T>(entries: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    entries.is_empty() || entries.iter().any(fits)
}

/// An option's value as one slice: where it stands, or its pieces (RFC 3396) joined in the arena.
pub(super) fn joined<'a>(data: OptionData<'a>, arena: &'a Bump) -> &'a [u8] {
    data.as_slice().unwrap_or_else(|| {
        let joined = arena.alloc_slice_fill_copy(data.len(), 0);
        data.copy_to(joined);
        joined
    })
}
