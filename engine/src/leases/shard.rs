//! What a shard does with leases.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use slab::Slab;

use super::address::Address;
use super::changes::{Pending, Source};
use super::discovers::{Discovered, Discovers, Transaction};
use super::queue::{Queued, SHARD_LIMIT};
use super::table::Handle;
use super::{
    Bill, Client, ClientKey, Conflict, Hardware, Lease, Leases, PoolCounts, Refusal, Step,
};
use crate::config::{Dhcp, PoolId};

/// One shard's hold on the leases. Its methods take effect in memory at once. None allocates when
/// a client renews what it has or asks for it again; what allocates is growth: an address that is
/// used for the first time or changes hands, a client that says something new of itself.
pub struct ShardLeases {
    leases: Arc<Leases>,
    shard: u16,
    /// Its lock on the pools.
    lock: usize,
    /// Tokens on their way.
    waiting: Slab<Waiting>,
    /// Turns that ended since the first change after the sockets were empty last; `None` when there
    /// is none.
    turns: Option<u32>,
    discovers: Discovers,
    /// The last lease that was told of, and where its slot was: the next step is most often of it.
    seen: Cell<Option<(Address, Handle)>>,
}

/// Changes that have one token.
struct Waiting {
    /// `None` when it was told already that they are not durable.
    token: Option<u64>,
    /// How many have not come back.
    left: usize,
    failed: Option<NotDurable>,
}

/// A lease that is to be made durable. It goes to [`ShardLeases::submit`], or back to
/// [`ShardLeases::abandon`].
#[derive(Debug)]
#[must_use = "a change that is neither submitted nor abandoned blocks its address"]
pub struct Change(Pending);

impl Change {
    /// The address whose lease changes.
    pub fn ip(&self) -> IpAddr {
        self.0.ip.into()
    }
}

impl IntoIterator for Change {
    type Item = Self;
    type IntoIter = std::iter::Once<Self>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self)
    }
}

/// Why no ACK may leave.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum NotDurable {
    /// The lease was given up before it was durable, by a RELEASE for one.
    #[error("the lease was given up before it was written")]
    GivenUp,
    /// The disk did not take the lease, or too many wait for the disk.
    #[error("the lease could not be written")]
    NotWritten,
}

impl ShardLeases {
    /// Changes with a token that may wait to be durable at once.
    pub(crate) const MOST_WAITING: usize = SHARD_LIMIT;

    pub(super) fn new(leases: Arc<Leases>, shard: usize, lock: usize) -> Self {
        let discovers = Discovers::new(leases.table.hasher.clone());
        Self {
            leases,
            // At most as many shards as cores.
            shard: shard as u16,
            lock,
            waiting: Slab::new(),
            turns: None,
            discovers,
            seen: Cell::new(None),
        }
    }

    /// What is known of an address: its lease, its offer, or what its last client left.
    ///
    /// Reading allocates nothing.
    pub fn at(&self, ip: impl Into<IpAddr>, now: Moment) -> Option<Lease> {
        self.leases.table.at(ip.into(), now)
    }

    /// Whether the store is sure to have a lease of the address that ends no earlier than `until`:
    /// an offer may have put the end off.
    pub fn is_stored(&self, ip: impl Into<IpAddr>, until: Moment) -> bool {
        self.leases.table.is_stored(ip.into(), until)
    }

    /// What a client holds at an address, or held there last.
    pub fn held(&self, client: &ClientKey, ip: impl Into<IpAddr>, now: Moment) -> Option<Lease> {
        self.leases.table.held(client, ip.into(), now)
    }

    /// Tells of every address that a client has, is offered, or had last and nobody took since.
    pub fn of_client(&self, client: &ClientKey, now: Moment, mut each: impl FnMut(&Lease)) {
        self.leases.table.of_client(client, now, &mut |handle, lease| {
            self.seen.set(Some((lease.ip.into(), handle)));
            each(lease);
        });
    }

    /// The address of the pools, tried in order, that a client without one there would get now:
    /// `wish` if it is free, else one that nobody ever had, else the one that has been free
    /// longest. Takes nothing. `dhcp` is the configuration that the ids are of: after a reload
    /// only those of its pools count that are there still.
    ///
    /// # Errors
    /// [`Refusal::PoolFull`] when every address of the pools is taken.
    pub fn propose(
        &self,
        dhcp: &Dhcp,
        pools: &[PoolId],
        wish: Option<IpAddr>,
        now: Moment,
    ) -> Result<IpAddr, Refusal> {
        let known = self.leases.lock_pools(self.lock);
        let candidates = pools.iter().filter_map(|pool| {
            let (low, high) = dhcp.pool(*pool).range;
            known.with_range((low.into(), high.into()))
        });
        let wish = wish.map(Into::into);
        self.leases.table.propose(&known, candidates, wish, self.shard, now).map(IpAddr::from)
    }

    /// How many leases were given back, or ended by somebody, so far: where this has not changed,
    /// no lease has ended but by its time.
    pub fn endings(&self) -> u64 {
        self.leases.table.endings.load(Ordering::Relaxed)
    }

    /// Whether another lease can be billed; leases of the addresses of `own` do not count.
    pub fn has_room(&self, bill: Bill, own: impl Fn(IpAddr) -> bool, now: Moment) -> bool {
        self.leases.bills.has_room(bill, own, &self.leases.table, now)
    }

    /// How many leases are billed to it.
    pub(crate) fn billed(&self, bill: Bill, now: Moment) -> usize {
        self.leases.bills.billed(bill, &self.leases.table, now)
    }

    /// The wall clock at a moment, in seconds since 1970.
    pub(crate) fn wall_at(&self, moment: Moment) -> u64 {
        self.leases.wall_at(moment)
    }

    /// See [`Leases::pool_counts`].
    pub(crate) fn pool_counts(&self, pool: PoolId) -> Option<PoolCounts> {
        self.leases.pool_counts(pool)
    }

    /// Whether clients may hold leases that the store has lost; see [`Leases::is_damaged`].
    pub fn is_damaged(&self, now: Moment) -> bool {
        self.leases.is_damaged(now)
    }

    /// Whether the store may have lost a later record of the address; see
    /// [`Leases::may_be_outdated`].
    pub fn may_be_outdated(&self, lease: &Lease, now: Moment) -> bool {
        self.leases.may_be_outdated(lease, now)
    }

    /// Takes one step for a client. `Ok(Some)` is to be made durable, `Ok(None)` needs no writing;
    /// of a bind it means that the same is being written already, and an ACK for it is held.
    ///
    /// # Errors
    /// [`Conflict`] when the leases do not allow it: they changed since the step was planned.
    pub fn apply(
        &mut self,
        client: &Client<'_>,
        step: &Step<'_>,
        now: Moment,
    ) -> Result<Option<Change>, Conflict> {
        let pools = self.leases.lock_pools(self.lock);
        let source = Source { client, shard: self.shard, seen: self.seen.get() };
        let Leases { table, bills, .. } = &*self.leases;
        let apply = || table.apply(&pools, source, step, now);
        let change = match step.bill() {
            None => apply(),
            Some(bill) => {
                bills.bill(bill, step.ip(), table, now, apply).unwrap_or(Err(Refusal::LimitReached))
            }
        };
        change.map(|change| change.map(Change)).map_err(Conflict)
    }

    /// Remembers options of a DISCOVER, as (code, value), until its offer of an address ends: what
    /// they decided for the OFFER they decide for the ACK, too.
    pub fn remember_discover<'o>(
        &mut self,
        client: &ClientKey,
        offered: impl Into<IpAddr>,
        xid: u32,
        until: Moment,
        options: impl Iterator<Item = (u8, &'o [u8])>,
    ) {
        self.discovers.remember((client, offered.into()), xid, until, options);
    }

    /// What a client said in the DISCOVER of a transaction whose offer of an address is out.
    pub fn discovered(
        &self,
        client: &ClientKey,
        offered: impl Into<IpAddr>,
        xid: u32,
        now: Moment,
    ) -> Option<Discovered<'_>> {
        self.discovers.find((client, offered.into()), xid, now)
    }

    /// Whether a message of this transaction was sent before what was decided last about an address
    /// of the client. `offer_time` is how long a DISCOVER is remembered.
    pub fn transaction(
        &self,
        client: &ClientKey,
        ip: impl Into<IpAddr>,
        xid: u32,
        offer_time: Duration,
        now: Moment,
    ) -> Transaction {
        match self.discovers.knows((client, ip.into()), xid, now) {
            Some(true) => Transaction::Before,
            // Before the start it may have been remembered.
            None if now < self.leases.opened + offer_time => Transaction::Forgotten,
            Some(false) | None => Transaction::After,
        }
    }

    /// A probe found an address in use that the machine with `hardware` asked for at `since`:
    /// nobody gets it until `until`, nor does an ACK leave that waits for the disk. `None` when it
    /// is not offered any more, or was acknowledged after that.
    pub fn quarantine(
        &mut self,
        ip: impl Into<IpAddr>,
        hardware: Hardware,
        since: Moment,
        now: Moment,
        until: Moment,
    ) -> Option<Change> {
        let pools = self.leases.lock_pools(self.lock);
        self.leases.table.quarantine(&pools, (ip.into(), hardware), since, now, until).map(Change)
    }

    /// Has changes made durable. `token`, which wants one change at least, comes back once through
    /// [`ShardLeases::completed`], when all of them are durable, or one is not; without a token
    /// nobody waits for them.
    ///
    /// # Errors
    /// [`NotDurable`] when too much waits for the disk already: what was not submitted is undone,
    /// the token does not come back, and its ACK must be discarded.
    pub fn submit(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        token: Option<u64>,
        now: Moment,
    ) -> Result<(), NotDurable> {
        let waiter = token.map(|token| {
            self.waiting.insert(Waiting { token: Some(token), left: 0, failed: None })
        });
        let mut result = Ok(());
        let mut any = false;
        for change in changes {
            if result.is_ok() {
                let token = waiter.map(|waiter| waiter as u64);
                let queued = Queued { change: change.0, from: self.shard, token };
                result = self.leases.queue.submit(queued);
            }
            any |= result.is_ok();
            match (result, waiter) {
                (Err(_), _) => self.abandon(change, now),
                (Ok(()), Some(waiter)) => self.waiting[waiter].left += 1,
                (Ok(()), None) => {}
            }
        }
        debug_assert!(any || waiter.is_none() || result.is_err(), "a token without a change");
        if let Some(waiter) = waiter
            && result.is_err()
        {
            // What was submitted before comes back, and nobody waits for it.
            self.waiting[waiter].token = None;
            if self.waiting[waiter].left == 0 {
                self.waiting.remove(waiter);
            }
        }
        if any {
            self.turns.get_or_insert(0);
        }
        result
    }

    /// Takes a change back that will not be submitted.
    pub fn abandon(&mut self, change: Change, now: Moment) {
        let pools = self.leases.lock_pools(self.lock);
        self.leases.table.roll_back(&pools, change.0, now);
    }

    /// Tells which changes became durable since the last call, and which did not.
    pub fn completed(&mut self, mut each: impl FnMut(u64, Result<(), NotDurable>)) {
        while let Some((waiter, result)) = self.leases.queue.completed(self.shard.into()) {
            let Some(place) = waiter else { continue };
            // What the queue was given.
            let place = place as usize;
            let Some(waiting) = self.waiting.get_mut(place) else { continue };
            waiting.left -= 1;
            waiting.failed = waiting.failed.max(result.err());
            if waiting.left == 0 {
                let Waiting { token, failed, .. } = self.waiting.remove(place);
                if let Some(token) = token {
                    each(token, failed.map_or(Ok(()), Err));
                }
            }
        }
    }

    /// Number of tokens that have not come back yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Called at the end of every turn; `dry` says that the sockets are empty. What was submitted
    /// is written when every shard is dry, or when enough waits. A shard that is never dry holds
    /// a lease back until the end of its next turn at most, unless others are being written.
    ///
    /// Returns `true` when changes are held back for the next turn. That turn must come without a
    /// wait, because every client may be waiting for these leases.
    pub fn kick(&mut self, dry: bool) -> bool {
        let Some(turns) = &mut self.turns else { return false };
        *turns += 1;
        let given = dry || *turns >= 2;
        if given {
            self.leases.queue.hand_over(self.shard.into(), dry);
        }
        // Else the queue is still to be told when it is dry.
        if dry {
            self.turns = None;
        }
        !given
    }
}
