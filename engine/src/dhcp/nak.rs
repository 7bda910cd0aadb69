//! NAK: which requests get one, and why (RFC 2131, section 4.3.2).
//!
//! A NAK makes a machine give up its address, and some firmware (Dell's PXE) its boot. Beside
//! another server a needless one takes a good lease away. So a NAK needs a reason that holds now:
//! an expired or released lease, or an offer, is none.
//!
//! A client asks for an address that it cannot have. The first row that applies decides.
//!
//! | state | what holds | decision |
//! | --- | --- | --- |
//! | any | the ACK of the address for this client waits for the disk | silence: the ACK comes |
//! | SELECTING, names this server | | NAK: nobody else answers the client |
//! | any other | another client has a valid lease of the address | NAK: two would use it |
//! | | the client has a valid lease of another address on this link, which it may have | NAK |
//! | | the address is its valid lease on another link, or one that it may no longer have | NAK |
//! | | another address is reserved for it on this link, and free for it | NAK |
//! | | this server is authoritative: the address is of another network, or unknown here | NAK |
//! | | none of these, whatever old records there are | silence |
//!
//! RFC 2131 wants silence in INIT-REBOOT where the server has no record of the client, for the sake
//! of other servers. The second row differs on purpose, as dhcpd does: with a valid lease of
//! another client there is no other server whose lease could be right. A wrong network is a reason
//! with authority only: another server may serve that network on this link.
//!
//! By the rules of ISC dhcpd (`compatibility = "dhcpd"`) it is reason enough that a pool of the
//! link has the address, or that another address is reserved for the client. A wrong network is one
//! for an authority.
//!
//! A NAK may be lost, and then the client goes on with its address. So it ends no lease: it marks a
//! valid lease of the address on this link as refused, and the client's next DISCOVER ends that,
//! unless its transaction says that it was sent before (see `Exchange::leave`).

use std::net::Ipv4Addr;

use super::exchange::Exchange;
use super::holder::Holder;
use super::plan::Draft;
use super::{Action, Silence};
use crate::config::{Flag, ScopeId, SubnetId};
use crate::leases::{LeaseState, ShardLeases, Step};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $text:literal;)*) => {
        /// Why a client gets a NAK. Counted by [`NakReason::index`].
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum NakReason { $($(#[$doc])* $name,)* }

        impl NakReason {
            /// Every reason, in the order of [`NakReason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The label of its metric.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The text of option 56, and of the log.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The address is of no subnet of the client's link.
    WrongNetwork = "wrong-network", "address is not on this network";
    /// Another client has a valid lease or an offer of the address.
    HeldByOther = "held-by-other", "address belongs to another client";
    /// The client has a valid lease of another address on this link.
    OtherLease = "other-lease", "address is not the one leased to you";
    /// Another address is reserved for the client.
    OtherReservation = "other-reservation", "another address is reserved for you";
    /// No pool or reservation gives the client this address, or it is in quarantine.
    NotAvailable = "not-available", "address is not available to you";
    /// Nothing is known of the client, and this server is authoritative.
    UnknownClient = "unknown-client", "no lease known for you";
}

impl NakReason {
    /// Its place in [`NakReason::ALL`], for counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

// One counter each in the metrics of a shard.
const _: () = assert!(NakReason::ALL.len() <= crate::metrics::NAK_REASONS);

impl<'a> Exchange<'a> {
    /// Whether this server is the authority for the client's link.
    pub(super) fn is_authoritative(&self) -> bool {
        self.is(Flag::Authoritative, None)
    }

    /// Refuses an address that the client cannot have: a NAK where one is warranted. `selected`
    /// says that the client took this server's offer. A lease that it is refused here is marked:
    /// the client's next DISCOVER of another transaction ends it.
    pub(super) fn refuse(
        &self,
        address: Ipv4Addr,
        selected: bool,
        leases: &ShardLeases,
    ) -> Draft<'a> {
        let holder = self.holder(address, leases);
        let of_other = holder.is_some_and(|holder| holder.state == LeaseState::Active);
        let own = self.own_at(address).filter(|own| own.is_active());
        if own.is_some_and(|own| own.is_awaited) {
            // The ACK to an earlier REQUEST is on its way. The NAK comes at the next renewal.
            return Draft::silence(Silence::CommitPending, self.arena);
        }
        let of_client = own.is_some();
        if self.is_as_dhcpd() {
            return self.refuse_as_dhcpd(address, of_client, holder);
        }
        let elsewhere = self
            .own_here()
            .any(|own| own.is_active() && own.ip != address && self.admission(own.ip).is_some());
        let moves = self.must_move(address, leases).is_some();
        let certain = of_other || of_client || elsewhere || moves;
        if !certain && !selected && !self.is_authoritative() {
            return Draft::silence(Silence::NotAuthoritative, self.arena);
        }
        let offered = holder.is_some_and(|holder| holder.state == LeaseState::Offered);
        let on_link = self.is_on_link(address);
        let reason = if !on_link {
            NakReason::WrongNetwork
        } else if of_other || offered {
            NakReason::HeldByOther
        } else if elsewhere && !of_client {
            NakReason::OtherLease
        } else if moves {
            NakReason::OtherReservation
        } else if of_client || selected {
            NakReason::NotAvailable
        } else {
            NakReason::UnknownClient
        };
        self.nak_draft(reason, address, of_client && on_link)
    }
}

impl<'a> Exchange<'a> {
    /// Whether this server is the authority for the client's link in ISC dhcpd: by the shared
    /// network and what stands around it, and by the `subnet` where that counts.
    pub(super) fn is_authoritative_as_dhcpd(&self, subnet: Option<SubnetId>) -> bool {
        let network = self.dhcp.network(self.link.network);
        let inner = subnet.into_iter().flat_map(|id| {
            let groups = self.dhcp.subnet(id).groups.iter().copied().map(ScopeId::Group);
            std::iter::once(ScopeId::Subnet(id)).chain(groups)
        });
        let groups = network.groups.iter().copied().map(ScopeId::Group);
        let around = std::iter::once(ScopeId::Network(self.link.network)).chain(groups);
        let mut scopes = inner.chain(around).chain(std::iter::once(ScopeId::Global));
        let says = |scope| self.dhcp.scope(scope).settings().flags.get(Flag::Authoritative);
        scopes.find_map(says).unwrap_or_default()
    }

    /// Refuses an address by the rules of ISC dhcpd: one that is wrong on the link if this server
    /// is authoritative, and one of the link if a pool has it or another one is reserved for the
    /// client. Other addresses of the link are another server's.
    fn refuse_as_dhcpd(
        &self,
        address: Ipv4Addr,
        of_client: bool,
        holder: Option<Holder>,
    ) -> Draft<'a> {
        let silence = |silence| Draft::silence(silence, self.arena);
        let on_link = self.is_on_link(address);
        let reason = if !on_link {
            // A subnet without `shared-network` is its network.
            let is_declared = self.dhcp.network(self.link.network).name.is_some();
            if !self.is_authoritative_as_dhcpd((!is_declared).then_some(self.link.subnet)) {
                return silence(Silence::NotAuthoritative);
            }
            NakReason::WrongNetwork
        } else if self.reservation.address.is_some_and(|reserved| reserved != address) {
            NakReason::OtherReservation
        } else if self.dhcp.pool_of(address).is_none() {
            return silence(Silence::NotAuthoritative);
        } else {
            match holder.map(|holder| holder.state) {
                None => NakReason::NotAvailable,
                Some(LeaseState::Active | LeaseState::Offered) => NakReason::HeldByOther,
                Some(_) => return silence(Silence::NotAuthoritative),
            }
        };
        self.nak_draft(reason, address, of_client && on_link)
    }

    /// A NAK about an address; `marked`: the client has a lease of it, which is marked as refused.
    fn nak_draft(&self, reason: NakReason, address: Ipv4Addr, marked: bool) -> Draft<'a> {
        let mut draft = Draft::of(Action::Reply(self.nak(reason)), self.arena);
        if marked {
            draft.steps.push(Step::Refuse { ip: address.into() });
        }
        draft
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_at_its_own_place() {
        for (place, reason) in NakReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
    }
}
