//! What a machine says about itself, read once from its message.

use bootstorm_protocols::dhcpv4::pxe::{self, Architecture, ClientStage, MachineId};
use bootstorm_protocols::dhcpv4::{Message, OptionData, RelayAgentInformation, UserClass, options};
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::evaluate::Known;
use crate::config::{Candidate, ClassId, ClientMatch, Dhcp, SubclassId};
use crate::leases::{Bill, Discovered, KeyKind};

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
        Self::at(message.stage(), message.vendor_class())
    }

    fn at(stage: ClientStage, vendor_class: Option<OptionData<'_>>) -> Self {
        let http = || vendor_class.is_some_and(|class| class.starts_with(pxe::HTTP_CLIENT));
        match stage {
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
    /// It speaks BOOTP: its message has no type.
    pub(super) bootp: bool,
    /// Option 61, whole; `None` when it is empty. Nothing of BOOTP, as option 97.
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

/// The options that classes and boot rules go by, and what kind of firmware it is. Option 175 says
/// by its presence that it is iPXE.
const TELLING: [u8; 5] = [
    options::VENDOR_CLASS_IDENTIFIER,
    options::PXE_SYSTEM_TYPE,
    options::USER_CLASS,
    options::PXE_CLIENT_ID,
    options::IPXE,
];

/// What a DISCOVER says of its sender, to be remembered for its REQUEST.
pub(super) fn telling<'a>(
    message: &Message<'a>,
    arena: &'a Bump,
) -> impl Iterator<Item = (u8, &'a [u8])> {
    TELLING.into_iter().filter_map(move |code| {
        let value = joined(message.option(code)?, arena);
        Some((code, if code == options::IPXE { &[] } else { value }))
    })
}

/// Whether a message leaves out what its sender said before.
pub(super) fn says_less(message: &Message<'_>, before: Discovered<'_>) -> bool {
    before.options().any(|(code, _)| message.option(code).is_none())
}

impl<'a> Machine<'a> {
    /// What the message says; where it is silent, what its sender said in its DISCOVER.
    pub(super) fn read(
        message: &Message<'a>,
        before: Option<Discovered<'a>>,
        relay: Option<&RelayAgentInformation<'a>>,
        arena: &'a Bump,
    ) -> Self {
        let slice = |data: Option<OptionData<'a>>| data.map(|data| joined(data, arena));
        let option = |code| message.option(code).or_else(|| before?.option(code).map(Into::into));
        let vendor_class: Option<OptionData<'a>> = option(options::VENDOR_CLASS_IDENTIFIER);
        let user_class = option(options::USER_CLASS).map(UserClass::new);
        let stage = ClientStage::new(vendor_class, user_class, option(options::IPXE).is_some());
        let named = || vendor_class.and_then(|class| Architecture::from_vendor_class(&class));
        let architectures: &[Architecture] = match slice(option(options::PXE_SYSTEM_TYPE)) {
            Some(list) if list.len() >= 2 => {
                let (codes, _) = list.as_chunks::<2>();
                let codes = codes.iter().map(|code| u16::from_be_bytes(*code));
                arena.alloc_slice_fill_iter(codes.map(Architecture::from_code))
            }
            _ => named().map_or(&[], |named| arena.alloc_slice_copy(&[named])),
        };
        let bootp = message.message_type().is_none();
        let uuid = option(options::PXE_CLIENT_ID).filter(|_| !bootp);
        Self {
            chaddr: message.chaddr(),
            bootp,
            client_id: slice(message.client_id().filter(|_| !bootp)),
            uuid: uuid.and_then(|uuid| MachineId::from_option(&uuid)),
            firmware: Firmware::at(stage, vendor_class),
            architectures,
            vendor_class: slice(vendor_class).unwrap_or_default(),
            user_class,
            circuit_id: slice(relay.and_then(RelayAgentInformation::circuit_id)),
            remote_id: slice(relay.and_then(RelayAgentInformation::remote_id)),
        }
    }

    /// Whether its message leaves open if it has a key of this kind that it had before. A client
    /// identifier is another in each stage of a boot, so another one says nothing.
    pub(super) fn is_silent_about(&self, kind: KeyKind) -> bool {
        match kind {
            KeyKind::Uuid => self.uuid.is_none(),
            KeyKind::ClientId => true,
            KeyKind::Hardware | KeyKind::Circuit | KeyKind::Option => false,
        }
    }

    /// Whether it may be a member of classes: dhcpd classifies messages of DHCP only.
    pub(super) fn is_classified(&self, dhcp: &Dhcp) -> bool {
        !(self.bootp && dhcp.is_as_dhcpd())
    }

    /// The classes whose conditions and test the machine meets, and the subclasses of these that
    /// its values name, in the order of the configuration; the first ones, if there may be no more.
    /// `before` is what it said in its DISCOVER, if `message` says less.
    pub(super) fn classes(
        &self,
        message: &Message<'a>,
        before: Option<Discovered<'a>>,
        dhcp: &'a Dhcp,
        arena: &'a Bump,
    ) -> Membership<'a> {
        if dhcp.classes.is_empty() || !self.is_classified(dhcp) {
            return Membership { classes: &[], subclasses: &[], bills: &[] };
        }
        let mut members = BumpVec::with_capacity_in(USUAL_CLASSES, arena);
        let mut subclasses = BumpVec::with_capacity_in(USUAL_CLASSES, arena);
        let mut bills = BumpVec::new_in(arena);
        let known = Known { message, before, machine: self, members: &[], arena };
        let most = dhcp.most_classes();
        let mut look_at = |id, passed| {
            if members.len() >= most {
                return;
            }
            let known = Known { members: &members, ..known };
            if let Ok(member) = self.membership(dhcp, id, passed, known) {
                members.push(id);
                subclasses.extend(member.subclass);
                bills.extend(member.bill(id, dhcp));
            }
        };
        match dhcp.class_index.candidates(&known, arena) {
            None => dhcp.class_ids().for_each(|id| look_at(id, false)),
            Some(candidates) => {
                for Candidate { class, passed } in candidates {
                    look_at(class, passed);
                }
            }
        }
        Membership {
            classes: members.into_bump_slice(),
            subclasses: subclasses.into_bump_slice(),
            bills: bills.into_bump_slice(),
        }
    }

    /// Whether it meets all that a class asks for, and the subclass that it is a member of then;
    /// else what it does not meet. Of a class that asks for nothing nobody is a member. `passed`:
    /// the test is known to hold.
    #[inline]
    pub(super) fn membership(
        &self,
        dhcp: &'a Dhcp,
        id: ClassId,
        passed: bool,
        known: Known<'_, 'a>,
    ) -> Result<Member<'a>, NotMember> {
        let class = dhcp.class(id);
        let asks = !class.matches.is_empty();
        if asks && let Some(condition) = self.fails(&class.matches, &[]) {
            return Err(NotMember::Condition(condition));
        }
        if let Some(submatch) = &class.submatch
            && let Some(value) = submatch.expression.evaluate(&known, known.arena)
            && !value.is_empty()
        {
            let subclass = dhcp.subclasses.find(id, value);
            let member = Member { subclass, value: Some(value) };
            let is_member = subclass.is_some() || submatch.spawn;
            return if is_member { Ok(member) } else { Err(NotMember::Subclass) };
        }
        if class.test.is_none() && !asks {
            return Err(NotMember::AsksNothing);
        }
        let test = || class.test.as_ref().is_none_or(|test| test.holds(&known, known.arena));
        let plain = Member { subclass: None, value: None };
        if passed || test() { Ok(plain) } else { Err(NotMember::Test) }
    }

    /// The first condition that does not hold of the machine, which is a member of `classes`;
    /// `None` if all do.
    #[inline]
    pub(super) fn fails(&self, wanted: &ClientMatch, classes: &[ClassId]) -> Option<Condition> {
        let user = self.user_class.as_ref();
        let arch = |&code: &u16| self.architectures.contains(&Architecture::from_code(code));
        let uuid = |uuid: &[u8; 16]| {
            self.uuid.is_some_and(|own| MachineId::from_bytes(*uuid) == Some(own))
        };
        if !one_of(&wanted.user_class, |class| user.is_some_and(|user| user.contains(class))) {
            return Some(Condition::UserClass);
        }
        if !one_of(&wanted.vendor_class, |start| self.vendor_class.starts_with(start)) {
            return Some(Condition::VendorClass);
        }
        if !one_of(&wanted.arch, arch) {
            return Some(Condition::Arch);
        }
        if !one_of(&wanted.mac_prefix, |start| self.chaddr.starts_with(start)) {
            return Some(Condition::MacPrefix);
        }
        if !one_of(&wanted.uuid, uuid) {
            return Some(Condition::Uuid);
        }
        if !one_of(&wanted.circuit_id, |id| self.circuit_id == Some(&**id)) {
            return Some(Condition::CircuitId);
        }
        if !one_of(&wanted.remote_id, |id| self.remote_id == Some(&**id)) {
            return Some(Condition::RemoteId);
        }
        (!one_of(&wanted.class, |class| classes.contains(class))).then_some(Condition::Class)
    }
}

/// A condition of a class or a boot rule, by the key of the configuration.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// `user-class`
    UserClass,
    /// `vendor-class`
    VendorClass,
    /// `arch`
    Arch,
    /// `mac-prefix`
    MacPrefix,
    /// `uuid`
    Uuid,
    /// `circuit-id`
    CircuitId,
    /// `remote-id`
    RemoteId,
    /// `class`
    Class,
}

/// Why a machine is no member of a class.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotMember {
    /// The class has neither conditions nor a test.
    AsksNothing,
    /// This condition does not hold.
    Condition(Condition),
    /// Its test is false, or null.
    Test,
    /// It has no subclass for the value that the message has.
    Subclass,
    /// The machine is a member of as many classes as it may be, which stand before this one.
    TooMany,
}

/// Few machines are members of more classes.
const USUAL_CLASSES: usize = 8;

/// The classes of a machine.
#[derive(Copy, Clone)]
pub(super) struct Membership<'a> {
    /// In the order of the configuration.
    pub(super) classes: &'a [ClassId],
    /// The subclasses of these, likewise.
    pub(super) subclasses: &'a [SubclassId],
    /// What leases of the machine may be billed to, of those that limit them.
    pub(super) bills: &'a [Bill],
}

/// How a machine is a member of a class.
pub(super) struct Member<'a> {
    pub(super) subclass: Option<SubclassId>,
    /// The value that names its subclass, whether the configuration has that or not.
    value: Option<&'a [u8]>,
}

impl Member<'_> {
    /// What a lease is billed to, if the class or its subclass limits leases.
    pub(super) fn bill(&self, id: ClassId, dhcp: &Dhcp) -> Option<Bill> {
        let class = dhcp.class(id);
        let own = self.subclass.and_then(|id| dhcp.subclass(id).lease_limit);
        let limit = own.or(class.lease_limit)?;
        Some(Bill::new(&class.name, self.value, limit))
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
