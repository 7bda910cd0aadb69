//! What a shard does with leases.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;

use super::changes::Pending;
use super::discovers::{Discovered, Discovers};
use super::queue::{Queued, SHARD_LIMIT};
use super::{Client, ClientKey, Lease, Leases};
use crate::config::{NetworkId, PoolId};

/// One shard's hold on the leases. Its methods take effect in memory at once. None allocates when
/// a client renews what it has or asks for it again; what allocates is growth: an address that is
/// used for the first time or changes hands, a client that says something new of itself.
pub struct ShardLeases {
    leases: Arc<Leases>,
    shard: usize,
    /// Tokens on their way.
    waiting: usize,
    /// Turns that ended since the first change that the queue may still hold back; `None` when
    /// there is none.
    turns: Option<u32>,
    discovers: Discovers,
}

/// Which addresses a client may have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Candidates<'a> {
    /// An address of one of these pools, tried in order.
    Pools(&'a [PoolId]),
    /// The address that the configuration reserves for it.
    Fixed {
        /// The address.
        ip: Ipv4Addr,
        /// Whether it is taken from another client that holds it: right when that client is the
        /// same machine by another identity. Otherwise a foreign lease on it ends first.
        replace: bool,
    },
}

/// An address held for a client.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The address.
    pub ip: Ipv4Addr,
    /// Whether the client has it or had it last.
    pub previous: bool,
}

/// Why a client does not get an address.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Every address of the candidates is taken.
    #[error("every address it may have is taken")]
    PoolFull,
    /// Another client holds the address.
    #[error("another client holds the address")]
    HeldByOther,
    /// The address is in quarantine: somebody was found to use it.
    #[error("the address is in quarantine")]
    Quarantined,
    /// The client does not hold the address.
    #[error("the client does not hold the address")]
    NotHeld,
}

/// What became of a REQUEST.
#[derive(Debug)]
#[must_use]
pub enum Bind {
    /// The client has the address as soon as the change is durable: submit it with the held ACK.
    Pending(Change),
    /// The same lease is being written already, and an ACK for it is held: answer nothing.
    AlreadyPending,
    /// It does not get the address.
    Refused(Refusal),
}

/// What became of a DECLINE.
#[derive(Debug)]
#[must_use]
pub enum Declined {
    /// Nobody gets the address until the time given: submit the change without a token.
    Quarantined(Change),
    /// The address is reserved for a host. A DECLINE is easily forged, so it does not poison the
    /// reservation; the client's lease on it has ended, and the change says so.
    Reserved(Change),
    /// The client does not hold the address: forged or late, nothing happened.
    NotHeld,
}

/// A lease that is to be made durable. It goes to [`ShardLeases::submit`], or back to
/// [`ShardLeases::abandon`].
#[derive(Debug)]
#[must_use = "a change that is neither submitted nor abandoned blocks its address"]
pub struct Change(Pending);

impl Change {
    /// The address whose lease changes.
    pub fn ip(&self) -> Ipv4Addr {
        self.0.ip()
    }
}

/// The lease could not be made durable: no ACK may leave, and the lease is what it was before.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the lease could not be written")]
pub struct NotDurable;

impl ShardLeases {
    /// Changes with a token that may wait to be durable at once.
    pub(crate) const MOST_WAITING: usize = SHARD_LIMIT;

    pub(super) fn new(leases: Arc<Leases>, shard: usize) -> Self {
        Self { leases, shard, waiting: 0, turns: None, discovers: Discovers::new() }
    }

    /// The lease of a client in a network: active, offered, or what it had last.
    pub fn find(&self, network: NetworkId, client: &ClientKey, now: Moment) -> Option<Lease> {
        self.leases.find(network, client, now)
    }

    /// What is known of an address.
    pub fn at(&self, ip: Ipv4Addr, now: Moment) -> Option<Lease> {
        self.leases.at(ip, now)
    }

    /// Remembers options of a DISCOVER, as (code, value), until its offer of an address ends: what
    /// they decided for the OFFER they decide for the ACK, too.
    pub fn remember_discover<'o>(
        &mut self,
        client: &ClientKey,
        offered: Ipv4Addr,
        xid: u32,
        until: Moment,
        options: impl Iterator<Item = (u8, &'o [u8])>,
    ) {
        self.discovers.remember((client, offered), xid, until, options);
    }

    /// What a client said in the DISCOVER of a transaction whose offer of an address is out.
    pub fn discovered(
        &self,
        client: &ClientKey,
        offered: Ipv4Addr,
        xid: u32,
        now: Moment,
    ) -> Option<Discovered<'_>> {
        self.discovers.find((client, offered), xid, now)
    }

    /// Holds an address for a client until `until`: the one it has or had, then `hint` if it is
    /// free and permitted, then one that nobody ever had, then the one that has been free longest.
    /// A client that has a lease keeps it as it is.
    ///
    /// # Errors
    /// [`Refusal::PoolFull`] when every address of the pools is taken; for a fixed address
    /// [`Refusal::HeldByOther`] or [`Refusal::Quarantined`].
    pub fn offer(
        &mut self,
        client: &Client<'_>,
        candidates: Candidates<'_>,
        hint: Option<Ipv4Addr>,
        now: Moment,
        until: Moment,
    ) -> Result<Offer, Refusal> {
        let pools = self.leases.lock_pools(self.shard);
        let held = super::changes::Hold { client, shard: self.owning_shard(), now, until };
        let (ip, previous) = match candidates {
            Candidates::Pools(ids) => self.leases.table.offer_from(&pools, &held, ids, hint)?,
            Candidates::Fixed { ip, replace } => {
                self.leases.table.offer_fixed(&pools, &held, ip, replace)?
            }
        };
        Ok(Offer { ip, previous })
    }

    /// Gives an address that the client holds (by an offer, or as a lease to renew) until
    /// `expires`; [`Moment::NEVER`] is for ever. The address stays the client's for as long as it
    /// was promised before, except that an infinite lease may become a finite one.
    pub fn bind(
        &mut self,
        client: &Client<'_>,
        ip: Ipv4Addr,
        now: Moment,
        expires: Moment,
    ) -> Bind {
        let pools = self.leases.lock_pools(self.shard);
        match self.leases.table.bind(&pools, self.owning_shard(), client, ip, now, expires) {
            Ok(Some(change)) => Bind::Pending(Change(change)),
            Ok(None) => Bind::AlreadyPending,
            Err(refusal) => Bind::Refused(refusal),
        }
    }

    /// The client gives its address back; submit the change without a token. `None` when there is
    /// nothing to write: it has no lease of the address, at most an offer, which has ended now.
    pub fn release(
        &mut self,
        network: NetworkId,
        client: &ClientKey,
        ip: Ipv4Addr,
        now: Moment,
    ) -> Option<Change> {
        let pools = self.leases.lock_pools(self.shard);
        let who = (network, client.clone());
        self.leases.table.release(&pools, Some(&who), ip, now).map(Change)
    }

    /// The client found its address in use: nobody gets it until `until`.
    pub fn decline(
        &mut self,
        network: NetworkId,
        client: &ClientKey,
        ip: Ipv4Addr,
        now: Moment,
        until: Moment,
    ) -> Declined {
        let pools = self.leases.lock_pools(self.shard);
        let table = &self.leases.table;
        let who = (network, client.clone());
        if pools.is_reserved(ip.to_bits()) {
            let held = table.at(ip, now).is_some_and(|lease| {
                lease.state.is_taken() && lease.network == Some(network) && lease.client == *client
            });
            if !held {
                return Declined::NotHeld;
            }
            let change = table.release(&pools, Some(&who), ip, now);
            return Declined::Reserved(Change(change.unwrap_or(Pending::nothing(ip.to_bits()))));
        }
        match table.quarantine(&pools, Some(&who), ip, until) {
            Some(change) => Declined::Quarantined(Change(change)),
            None => Declined::NotHeld,
        }
    }

    /// A probe found an address in use that was offered just now: nobody gets it until `until`.
    /// `None` when it is not offered any more, or reserved.
    pub fn quarantine(&mut self, ip: Ipv4Addr, until: Moment) -> Option<Change> {
        let pools = self.leases.lock_pools(self.shard);
        self.leases.table.quarantine(&pools, None, ip, until).map(Change)
    }

    /// The client took another server's offer: ours is free again. The address that was freed.
    pub fn forget_offer(
        &mut self,
        network: NetworkId,
        client: &ClientKey,
        now: Moment,
    ) -> Option<Ipv4Addr> {
        let pools = self.leases.lock_pools(self.shard);
        let table = &self.leases.table;
        let who = (network, client.clone());
        let ip = table.address_of(&who)?;
        table.drop_offer(&pools, &who, ip, now).then(|| Ipv4Addr::from_bits(ip))
    }

    /// Has a change made durable. `token` comes back through [`ShardLeases::completed`]; without
    /// one nobody waits for it.
    ///
    /// # Errors
    /// [`NotDurable`] when too much waits for the disk already: the change is undone, the token
    /// does not come back, and its ACK must be discarded.
    pub fn submit(
        &mut self,
        change: Change,
        token: Option<u64>,
        now: Moment,
    ) -> Result<(), NotDurable> {
        // At most as many shards as cores.
        let waiter = token.map(|token| (self.shard as u16, token));
        let queued = Queued { change: change.0, waiter };
        let full = token.is_some() && self.waiting >= SHARD_LIMIT;
        if full || self.leases.queue.submit(self.shard, queued).is_err() {
            self.abandon(change, now);
            return Err(NotDurable);
        }
        self.waiting += usize::from(token.is_some());
        self.turns.get_or_insert(0);
        Ok(())
    }

    /// Takes a change back that will not be submitted.
    pub fn abandon(&mut self, change: Change, now: Moment) {
        let pools = self.leases.lock_pools(self.shard);
        self.leases.table.abandon(&pools, change.0, now);
    }

    /// Tells which changes became durable since the last call, and which did not.
    pub fn completed(&mut self, mut each: impl FnMut(u64, Result<(), NotDurable>)) {
        while let Some((token, result)) = self.leases.queue.completed(self.shard) {
            self.waiting -= 1;
            each(token, result);
        }
    }

    /// Number of tokens that have not come back yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Called at the end of every turn; `dry` says that the sockets are empty. What was submitted
    /// is written when every shard is dry, or when enough waits. A shard that is never dry holds
    /// its changes back until the end of its next turn at most.
    ///
    /// Returns `true` when changes are held back for the next turn. That turn must come without a
    /// wait, because every client may be waiting for these leases.
    pub fn kick(&mut self, dry: bool) -> bool {
        let Some(turns) = &mut self.turns else { return false };
        *turns += 1;
        let release = dry || *turns >= 2;
        if release {
            self.turns = None;
            self.leases.queue.mark_dry(self.shard);
        }
        !release
    }

    fn owning_shard(&self) -> u16 {
        // At most as many shards as cores.
        self.shard as u16
    }
}
