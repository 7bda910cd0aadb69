//! Which addresses a machine may have, and which of them it gets.

use std::net::{IpAddr, Ipv4Addr};

use bumpalo::collections::Vec as BumpVec;

use super::exchange::Exchange;
use super::holder::Holder;
use super::own::{GivenTo, Own, state_of};
use super::plan::{Chosen, Through};
use super::reservation::FoundBy;
use super::{Silence, identity};
use crate::config::{AddressPlace, ClassId, Identity, Permit, PoolId};
use crate::leases::{Admission, KeyKind, KnownAs, LeaseState, ShardLeases};

/// Why a pool does not permit a machine.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotPermitted {
    /// `deny` has this entry, which applies to the machine.
    Denied(Permit),
    /// No entry of `allow` applies to the machine.
    NotAllowed,
    /// It is for members of this class.
    NotMember(ClassId),
}

impl<'a> Exchange<'a> {
    /// Whether `address` is of a subnet of the client's link.
    pub(super) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        self.link.has(self.dhcp, self.place_of(address))
    }

    /// Where `address` is in the configuration. Most that is asked for is the client's own.
    pub(super) fn place_of(&self, address: Ipv4Addr) -> AddressPlace {
        let own = self.own.iter().find(|own| own.ip == address);
        own.map_or_else(|| self.dhcp.place_of(address), |own| own.place)
    }

    /// The client's leases and offers on its link.
    pub(super) fn own_here(&self) -> impl Iterator<Item = &'a Own> {
        self.own.iter().filter(|own| own.is_here)
    }

    /// The client's lease or offer of an address, whatever has become of it.
    pub(super) fn own_at(&self, address: Ipv4Addr) -> Option<&'a Own> {
        self.own.iter().find(|own| own.ip == address && own.state != LeaseState::Declined)
    }

    /// By which rule of the configuration the machine may have `address`, whoever has it now;
    /// `None` where it may not.
    pub(super) fn admission(&self, address: Ipv4Addr) -> Option<Admission<'a>> {
        let place = self.place_of(address);
        if !self.link.has(self.dhcp, place) || self.arrival.owns(address) {
            return None;
        }
        if self.reservation.address == Some(address) {
            return self.known_as().map(Admission::Host);
        }
        if self.dhcp.host_by_ip(address).is_some() || place.excluded.is_some() {
            return self.unproven(address);
        }
        let pool = place.pool.filter(|pool| self.permitted(*pool, false))?;
        Some(self.by_pool(pool))
    }

    fn by_pool(&self, pool: PoolId) -> Admission<'a> {
        let (low, high) = self.dhcp.pool(pool).range;
        let host = self.known_as().filter(|host| host.key.is_some());
        Admission::Pool { low: low.into(), high: high.into(), host, bill: self.bill }
    }

    /// The host entry that counts for the machine, as a lease remembers it.
    fn known_as(&self) -> Option<KnownAs<'a>> {
        let (host, FoundBy { kind: by, key, .. }) =
            self.reservation.host.zip(self.reservation.by)?;
        Some(KnownAs { name: self.dhcp.host(host).name(), by, key })
    }

    /// The admission of a valid lease of a reserved address where an earlier version of this
    /// program did not write down by which key its client was found to be the host. The client may
    /// be that host, or may have become another: so it keeps the address, and has nothing else of
    /// the host until a message of its own says the key.
    fn unproven(&self, address: Ipv4Addr) -> Option<Admission<'a>> {
        let own = self.own_at(address).filter(|own| own.is_active() && !own.refused)?;
        let GivenTo::Unproven(given_to) = own.given_to else { return None };
        let owner = self.dhcp.host_by_ip(address)?;
        let kinds = [KeyKind::Uuid, KeyKind::ClientId];
        let mut silent = kinds.into_iter().filter(|kind| self.machine.is_silent_about(*kind));
        let view = self.dhcp.host(owner);
        match given_to {
            Some((host, by)) => (host == owner && silent.any(|kind| kind == by))
                .then(|| Admission::Host(KnownAs { name: view.name(), by, key: None })),
            None => silent
                .any(|kind| view.keys().any(|key| FoundBy::kind_of(&key) == kind))
                .then_some(Admission::Unknown),
        }
    }

    /// Whether something else than a client of this server has `address`.
    pub(super) fn is_left_out(&self, address: Ipv4Addr) -> bool {
        self.place_of(address).excluded.is_some() || self.arrival.owns(address)
    }

    /// Whether the client can have the address of its own lease no more, in no stage of its boot:
    /// something else has it, it is of no pool, or reserved for a host that the lease was not given
    /// to.
    pub(super) fn is_lost(&self, own: &Own) -> bool {
        if self.is_left_out(own.ip) {
            return true;
        }
        match (self.dhcp.host_by_ip(own.ip), own.given_to) {
            (None, _) => own.place.pool.is_none(),
            (Some(_), _) if self.admission(own.ip).is_some() => false,
            (Some(owner), GivenTo::Host(host, _)) => owner != host,
            (Some(_), GivenTo::Anybody | GivenTo::Unproven(_)) => true,
        }
    }

    /// By which pool the client goes on with the address of its own lease or offer, whose REQUEST
    /// need not say again what made it a member of a class: what a system renews its firmware may
    /// have got. What the pool denies ends it. ISC dhcpd has no such rule.
    pub(super) fn goes_on(&self, address: Ipv4Addr) -> Option<Admission<'a>> {
        if self.is_as_dhcpd() {
            return None;
        }
        let own = self.own_at(address).filter(|own| own.is_held() && !own.refused)?;
        if self.dhcp.host_by_ip(address).is_some() || self.is_left_out(address) {
            return None;
        }
        let pool = own.place.pool?;
        let (low, high) = self.dhcp.pool(pool).range;
        let given = own.pool == Some((low, high)) && own.is_here;
        (given && self.permitted(pool, true)).then(|| self.by_pool(pool))
    }

    /// Who else has `address`: by a lease, an offer or a quarantine that has not ended, or whose
    /// end is not on disk yet. A reserved address follows the hardware address of its machine:
    /// firmware, iPXE and installer are three clients by `identity = "client-id"`, and one machine.
    pub(super) fn holder(&self, address: Ipv4Addr, leases: &ShardLeases) -> Option<Holder> {
        let lease = leases.at(address, self.now)?;
        let declined = state_of(&lease) == LeaseState::Declined;
        let taken = lease.state.is_taken() || lease.pending;
        let tells_apart = self.dhcp.identity == Identity::ClientIdOrHardware;
        let another = tells_apart && identity::is_of_another(&lease, self.machine.client_id);
        if !taken || (lease.client == self.key && !declined && !another) {
            return None;
        }
        let same_machine = self.reservation.address == Some(address)
            && !declined
            && self.hardware().is_same_machine(&lease.hardware);
        (!same_machine).then(|| Holder::of(&lease, address))
    }

    /// The reserved address that the machine is to move to from `address`: it is free for it.
    pub(super) fn must_move(&self, address: Ipv4Addr, leases: &ShardLeases) -> Option<Ipv4Addr> {
        let reserved = self.reservation.address.filter(|reserved| *reserved != address)?;
        self.holder(reserved, leases).is_none().then_some(reserved)
    }

    /// Which address a machine without one gets. Its reserved one; while somebody else has that, or
    /// without a reservation, one of the pools: as RFC 2131 section 4.3.1 orders, what it has, what
    /// it had, what it wishes, any other.
    ///
    /// Beside the choice it tells who has the reserved address.
    pub(super) fn choose(
        &self,
        wish: Option<Ipv4Addr>,
        leases: &ShardLeases,
    ) -> (Result<Chosen<'a>, Silence>, Option<Holder>) {
        let mut holder = None;
        if let Some(reserved) = self.reservation.address {
            holder = self.holder(reserved, leases);
            if holder.is_some_and(|holder| !holder.state.is_taken()) {
                // It is free in a moment: the client asks again.
                return (Err(Silence::CommitPending), holder);
            }
            if holder.is_none()
                && let Some(admission) = self.admission(reserved)
            {
                return (
                    Ok(Chosen { ip: reserved, admission, through: Through::Reservation }),
                    None,
                );
            }
        }
        (self.choose_of_pools(wish, leases, holder.is_some()), holder)
    }

    fn choose_of_pools(
        &self,
        wish: Option<Ipv4Addr>,
        leases: &ShardLeases,
        reserved_is_held: bool,
    ) -> Result<Chosen<'a>, Silence> {
        let own = self.own_here().filter(|own| own.state != LeaseState::Declined);
        let own = own.filter(|own| self.reservation.address != Some(own.ip));
        let own = own.filter_map(|own| Some((own, self.admission(own.ip)?)));
        if let Some((own, admission)) = own.max_by_key(|(own, _)| own.rank()) {
            let through = match own.state {
                // Else it may have given it back since, and another client may have it.
                LeaseState::Active if !own.may_be_outdated => Through::Lease,
                LeaseState::Offered => Through::Offer,
                _ => Through::Previous,
            };
            return Ok(Chosen { ip: own.ip, admission, through });
        }
        if self.is_over_limit() {
            return Err(Silence::LeaseLimit);
        }
        let pools = self.pools();
        if pools.is_empty() {
            return Err(match reserved_is_held {
                true => Silence::ReservedHeld,
                false => Silence::NoPoolPermitted,
            });
        }
        let found = leases.propose(self.dhcp, pools, wish.map(Into::into), self.now);
        let Ok(IpAddr::V4(ip)) = found else { return Err(Silence::PoolFull) };
        // The leases propose addresses of these pools only.
        let admission = self.admission(ip).ok_or(Silence::PoolFull)?;
        let through = if wish == Some(ip) { Through::Wish } else { Through::Free };
        Ok(Chosen { ip, admission, through })
    }

    /// The pools of the link that permit the machine, in the order of [`Exchange::pools_here`].
    fn pools(&self) -> &'a [PoolId] {
        let mut pools = BumpVec::new_in(self.arena);
        pools.extend(self.pools_here().filter(|pool| self.permitted(*pool, false)));
        pools.into_bump_slice()
    }

    /// The pools of the link, those of the subnet that named it first.
    pub(super) fn pools_here(&self) -> impl Iterator<Item = PoolId> {
        let own = self.link.subnet;
        let network = self.dhcp.network(self.link.network);
        let others = network.subnets.iter().copied().filter(move |&subnet| subnet != own);
        let subnets = std::iter::once(own).chain(others);
        subnets.flat_map(|subnet| self.dhcp.subnet(subnet).pools.iter().copied())
    }

    /// Whether a time, in seconds since 1970, is over.
    fn is_after(&self, time: u64) -> bool {
        self.wall.is_some_and(|wall| wall >= time)
    }

    /// Whether a pool permits the machine. `was_member`: it need not say again what made it a
    /// member of the classes that the pool is for.
    fn permitted(&self, pool: PoolId, was_member: bool) -> bool {
        self.not_permitted(pool, was_member).is_none()
    }

    /// Why a pool does not permit the machine; `None` if it does.
    #[inline]
    pub(super) fn not_permitted(&self, pool: PoolId, was_member: bool) -> Option<NotPermitted> {
        let pool = self.dhcp.pool(pool);
        let bootp = self.machine.bootp;
        // BOOTP clients keep what they get for ever, so a pool must name them. In ISC dhcpd a
        // permit is for them as for others, and renewals need one as well.
        let as_dhcpd = self.is_as_dhcpd();
        let counts = !bootp || as_dhcpd;
        let was_member = was_member && !as_dhcpd;
        let applies = |permit: &Permit| match *permit {
            Permit::All => counts,
            Permit::Known => self.reservation.known && counts,
            Permit::Unknown => !self.reservation.known && counts,
            Permit::Bootp => bootp,
            Permit::Member(class) => self.classes.contains(&class) && counts,
            Permit::After(time) => self.is_after(time) && counts,
        };
        let denies = |permit: &&Permit| match **permit {
            Permit::All => true,
            Permit::After(time) => self.is_after(time),
            _ => applies(permit),
        };
        let not_yet =
            |permit: &Permit| matches!(*permit, Permit::After(time) if !self.is_after(time));
        if pool.allow.iter().any(not_yet) {
            return Some(NotPermitted::NotAllowed);
        }
        if let Some(permit) = pool.deny.iter().find(denies) {
            return Some(NotPermitted::Denied(*permit));
        }
        let class = |permit: &Permit| was_member && matches!(permit, Permit::Member(_));
        let allows = |permit: &Permit| applies(permit) || class(permit);
        if !(pool.allow.iter().any(allows) || (pool.allow.is_empty() && counts)) {
            return Some(NotPermitted::NotAllowed);
        }
        let missing = |class: &ClassId| !was_member && !self.classes.contains(class);
        pool.class.filter(missing).map(NotPermitted::NotMember)
    }
}
