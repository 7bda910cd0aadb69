//! What was found out on the way to a plan, for people who wonder about it. Worked out when it is
//! asked for, by the functions that decide.

use std::net::{IpAddr, Ipv4Addr};

use bootstorm_protocols::dhcpv4::{MessageType, UserClass};
use bootstorm_protocols::time::Moment;

use super::addresses::NotPermitted;
use super::arrival::LinkBy;
use super::boot::{self, PassedOver};
use super::evaluate::Known;
use super::exchange::{Exchange, own_that_say_who};
use super::machine::{Condition, NotMember, joined};
use super::own::Own;
use super::reply::Reply;
use super::reservation::Reservation;
use crate::config::{
    BootRule, Boots, ClassId, Decision, HostId, Names, OptionPath, PoolId, ScopeChain, ScopeId,
    SubclassId,
};
use crate::leases::{Bill, Change, Client, ClientKey, Conflict, KeyKind, ShardLeases, Step};

/// What was found out about the sender of a message.
#[derive(Copy, Clone)]
pub(crate) struct Findings<'a>(pub(super) &'a Exchange<'a>);

/// What a host entry is to a machine that is known by it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum EntryUse {
    /// It is the entry that counts here.
    Counts,
    /// It has addresses, and none in the client's network.
    Elsewhere,
    /// Another one counts, which comes first or has an address in the client's network.
    After,
}

/// A host entry that a machine is known by.
pub(crate) struct EntryFound {
    pub(crate) id: HostId,
    pub(crate) by: KeyKind,
    /// The option of a `host-identifier`.
    pub(crate) option: Option<OptionPath>,
    pub(crate) what: EntryUse,
}

/// How a client is a member of a class.
pub(crate) struct MemberFound {
    pub(crate) subclass: Option<SubclassId>,
    /// The limit of its members' leases.
    pub(crate) limit: Option<LimitFound>,
}

/// What a class limits its members' leases to.
pub(crate) struct LimitFound {
    /// How many there are.
    pub(crate) used: usize,
    pub(crate) most: u32,
    /// The client gets none for it.
    pub(crate) is_full: bool,
}

/// What a pool of the client's network is to the client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum PoolState {
    /// It does not permit the client.
    NotPermitted(NotPermitted),
    /// It permits the client, and has no free address.
    Full,
    /// It permits the client and has a free address.
    Free,
}

/// What a client boots, and why not something else.
pub(crate) struct BootFound<'a> {
    /// Rules that come first, with their levels.
    pub(crate) passed: Vec<(ScopeId, &'a BootRule, PassedOver)>,
    /// What decided, if anything did, with its level.
    pub(crate) found: Option<(Boots<'a>, ScopeId)>,
}

impl<'a> Findings<'a> {
    /// What named the client's link.
    pub(crate) fn link_by(&self) -> LinkBy {
        self.0.link_by
    }

    /// What the client is told apart by.
    pub(crate) fn key(&self) -> &'a ClientKey {
        &self.0.key
    }

    /// Every class in the order of the configuration, and why the client is no member of it.
    /// Nothing about a client that is not classified.
    pub(crate) fn classes(
        &self,
        leases: &ShardLeases,
    ) -> impl Iterator<Item = (ClassId, Result<MemberFound, NotMember>)> {
        let Exchange { dhcp, machine, now, own, classes, .. } = self.0;
        let ids = dhcp.class_ids().filter(|_| machine.is_classified(dhcp));
        let is_own = |ip| own.iter().any(|own| IpAddr::V4(own.ip) == ip);
        let limit = move |bill: Bill| LimitFound {
            used: leases.billed(bill, *now),
            most: bill.limit(),
            is_full: !leases.has_room(bill, is_own, *now),
        };
        ids.map(move |id| {
            let member = machine.membership(dhcp, id, false, self.known(id));
            let is_beyond = classes.len() >= dhcp.most_classes() && !classes.contains(&id);
            let member = if is_beyond { member.and(Err(NotMember::TooMany)) } else { member };
            let found = member.map(|member| MemberFound {
                subclass: member.subclass,
                limit: member.bill(id, dhcp).map(limit),
            });
            (id, found)
        })
    }

    /// Which branches the statements take by which the client is answered, or by which it is not.
    pub(crate) fn decisions(&self, reply: Option<&Reply<'a>>, names: &dyn Names) -> Vec<Decision> {
        let (chain, address) = self.0.decided_by(reply);
        chain.decisions(&self.0.facts(address), names, self.0.arena)
    }

    /// Which part of the test of a class is not true, and what it finds; empty where it has none.
    pub(crate) fn why_not(&self, class: ClassId, names: &dyn Names) -> String {
        let test = self.0.dhcp.class(class).test.as_ref();
        test.map_or_else(String::new, |test| test.why_not(&self.known(class), names, self.0.arena))
    }

    /// The value by which the subclasses of a class are told apart; `None` for null.
    pub(crate) fn subclass_value(&self, class: ClassId) -> Option<&'a [u8]> {
        let submatch = self.0.dhcp.class(class).submatch.as_ref()?;
        submatch.expression.evaluate(&self.known(class), self.0.arena)
    }

    /// What the test of a class goes by.
    fn known(&self, class: ClassId) -> Known<'_, 'a> {
        let Exchange { message, before, arena, machine, classes, .. } = self.0;
        let members = &classes[..classes.partition_point(|member| *member < class)];
        Known { message, before: *before, machine, members, arena }
    }

    /// Every host entry that the client is known by, and by which key first.
    pub(crate) fn entries(&self) -> Vec<EntryFound> {
        let Exchange { message, before, dhcp, machine, link, own, reservation, arena, .. } = self.0;
        let known = Known { message, before: *before, machine, members: &[], arena };
        let saying = own_that_say_who(own, message, dhcp, link.network);
        let mut entries: Vec<EntryFound> = Vec::new();
        for &(id, by) in Reservation::entries(dhcp, &known, link.network, saying, arena) {
            if entries.iter().any(|known| known.id == id) {
                continue;
            }
            let here = dhcp.host_address(id, link.network).is_some();
            let what = match reservation.host {
                Some(host) if host == id => EntryUse::Counts,
                _ if !here && !dhcp.host(id).ips().is_empty() => EntryUse::Elsewhere,
                _ => EntryUse::After,
            };
            entries.push(EntryFound { id, by: by.kind, option: by.option, what });
        }
        entries
    }

    /// The pools of the client's network in the order in which they are tried.
    pub(crate) fn pools(&self, leases: &ShardLeases) -> Vec<(PoolId, PoolState)> {
        let Exchange { dhcp, now, .. } = self.0;
        let state = |pool| match self.0.not_permitted(pool, false) {
            Some(why) => PoolState::NotPermitted(why),
            None => match leases.propose(dhcp, &[pool], None, *now) {
                Ok(_) => PoolState::Free,
                Err(_) => PoolState::Full,
            },
        };
        self.0.pools_here().map(|pool| (pool, state(pool))).collect()
    }

    /// What the client boots by the levels in `chain`, and the boot rules that are passed over
    /// before that.
    pub(crate) fn boot<'c>(&self, chain: &ScopeChain<'c>) -> BootFound<'c> {
        let Exchange { machine, classes, .. } = self.0;
        let mut passed = Vec::new();
        let as_dhcpd = self.0.is_as_dhcpd();
        let found = chain.boot(|rule| match boot::passed_over(rule, machine, classes, as_dhcpd) {
            None => true,
            Some(why) => {
                passed.push((rule, why));
                false
            }
        });
        let level_of = |rule: &BootRule| {
            chain.find(|id, scope| {
                scope.settings().boot.iter().any(|own| std::ptr::eq(own, rule)).then_some(id)
            })
        };
        let passed =
            passed.into_iter().filter_map(|(rule, why)| Some((level_of(rule)?, rule, why)));
        BootFound { passed: passed.collect(), found }
    }

    /// The word for the firmware that asks; empty for an operating system.
    pub(crate) fn firmware(&self) -> &'static str {
        self.0.machine.firmware.name()
    }

    /// What the client says of the matter of a condition, as text; empty for nothing.
    pub(crate) fn said(&self, condition: Condition) -> String {
        let Exchange { machine, .. } = self.0;
        let text = |bytes: Option<&[u8]>| {
            bytes.map_or_else(String::new, |bytes| format!("\"{}\"", bytes.escape_ascii()))
        };
        match condition {
            Condition::UserClass => {
                let classes = machine.user_class.iter().flat_map(UserClass::classes);
                let texts = classes.map(|class| text(Some(joined(class, self.0.arena))));
                texts.collect::<Vec<_>>().join(" or ")
            }
            Condition::VendorClass => {
                text(Some(machine.vendor_class).filter(|class| !class.is_empty()))
            }
            Condition::Arch => {
                let names = machine.architectures.iter().map(ToString::to_string);
                names.collect::<Vec<_>>().join(" or ")
            }
            Condition::MacPrefix => self.0.hardware().to_string(),
            Condition::Uuid => machine.uuid.map_or_else(String::new, |id| id.to_string()),
            Condition::CircuitId => text(machine.circuit_id),
            Condition::RemoteId => text(machine.remote_id),
            Condition::Class => String::new(),
        }
    }

    /// Whether the client could have been given an address: some rule gives it, and nobody else has
    /// it.
    pub(crate) fn could_get(&self, address: Ipv4Addr, leases: &ShardLeases) -> bool {
        self.0.admission(address).is_some() && self.0.holder(address, leases).is_none()
    }

    /// The reply of a kind that gives an address; `None` is a BOOTREPLY.
    pub(crate) fn reply_of(&self, kind: Option<MessageType>, address: Ipv4Addr) -> &'a Reply<'a> {
        match kind {
            Some(MessageType::Offer) => self.0.offer(address, None),
            Some(_) => self.0.ack(address, None),
            None => self.0.boot_reply(address),
        }
    }

    /// Another server gave the client an address: it is leased in memory as this server would have
    /// leased it.
    ///
    /// # Errors
    /// [`Conflict`]: somebody else has it here.
    pub(crate) fn learn(
        &self,
        leases: &mut ShardLeases,
        address: Ipv4Addr,
        expires: Moment,
    ) -> Result<Vec<Change>, Conflict> {
        let Exchange { key, now, dhcp, .. } = self.0;
        let client = Client { key, hardware: self.0.hardware(), notes: self.0.said() };
        let admission = self.0.admission(address).or_else(|| self.0.goes_on(address));
        let (ip, admission) = (address.into(), admission.unwrap_or_default());
        let held = self.0.own_at(address).is_some_and(Own::is_held);
        let offer = Step::Offer { ip, admission, until: *now + dhcp.offer_time };
        let bind = Step::Bind { ip, admission, expires, heard: false };
        let mut changes = Vec::new();
        for step in (!held).then_some(offer).into_iter().chain([bind]) {
            changes.extend(leases.apply(&client, &step, *now)?);
        }
        Ok(changes)
    }
}
