//! What a shard does with leases.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bootstorm_protocols::time::Moment;

use super::{Client, ClientKey, Lease, LeaseState, Leases, Notes};
use crate::config::{NetworkId, PoolId};

/// One shard's hold on the leases. All methods take effect in memory at once.
pub struct ShardLeases {
    leases: Arc<Leases>,
    shard: usize,
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
    /// The address is reserved for a host: it is not poisoned, the client's lease on it has ended.
    Reserved(Change),
    /// The client does not hold the address: forged or late, nothing happened.
    NotHeld,
}

/// A lease that is to be made durable. It goes to [`ShardLeases::submit`], or back to
/// [`ShardLeases::abandon`].
#[derive(Debug)]
#[must_use = "a change that is neither submitted nor abandoned blocks its address"]
pub struct Change {
    ip: Ipv4Addr,
}

impl Change {
    /// The address whose lease changes.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}

/// The lease could not be made durable: no ACK may leave, and the lease is what it was before.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the lease could not be written")]
pub struct NotDurable;

impl ShardLeases {
    pub(super) fn new(leases: Arc<Leases>, shard: usize) -> Self {
        Self { leases, shard }
    }

    /// The lease of a client in a network: active, offered, or what it had last.
    pub fn find(&self, network: NetworkId, client: &ClientKey, now: Moment) -> Option<Lease> {
        let _ = now;
        self.leases.find(network, client)
    }

    /// What is known of an address.
    pub fn at(&self, ip: Ipv4Addr, now: Moment) -> Option<Lease> {
        let _ = now;
        self.leases.at(ip)
    }

    /// Holds an address for a client until `until`: the one it has or had, then `hint` if it is
    /// free and permitted, then one that nobody ever had, then the one that has been free longest.
    pub fn offer(
        &mut self,
        client: &Client<'_>,
        candidates: Candidates<'_>,
        hint: Option<Ipv4Addr>,
        now: Moment,
        until: Moment,
    ) -> Result<Offer, Refusal> {
        let _ = now;
        let own = self.leases.find(client.network, client.key);
        let mut state = self.leases.state.lock();
        let ip = match candidates {
            Candidates::Fixed { ip, .. } => Some(ip),
            Candidates::Pools(pools) => {
                let ranges: Vec<_> = pools.iter().map(|pool| state.pools[pool.index()]).collect();
                let fits = |ip: &Ipv4Addr| ranges.iter().any(|(low, high)| low <= ip && ip <= high);
                let free =
                    |ip: &Ipv4Addr| !state.leases.contains_key(ip) && !state.reserved.contains(ip);
                own.as_ref().map(|own| own.ip).filter(fits).or_else(|| {
                    hint.filter(fits).filter(free).or_else(|| {
                        ranges
                            .iter()
                            .flat_map(|(low, high)| low.to_bits()..=high.to_bits())
                            .map(Ipv4Addr::from_bits)
                            .find(free)
                    })
                })
            }
        };
        let ip = ip.ok_or(Refusal::PoolFull)?;
        let previous = own.as_ref().is_some_and(|own| own.ip == ip);
        if !own.is_some_and(|own| own.ip == ip && own.is_active(now)) {
            let lease = Lease {
                ip,
                network: Some(client.network),
                client: client.key.clone(),
                hardware: client.hardware,
                state: LeaseState::Offered,
                starts: now,
                expires: until,
                notes: Notes::updated(None, &client.notes),
            };
            state.leases.insert(ip, lease);
        }
        Ok(Offer { ip, previous })
    }

    /// Gives an address that the client holds (by an offer, or as a lease to renew) until
    /// `expires`; [`Moment::NEVER`] is for ever.
    pub fn bind(
        &mut self,
        client: &Client<'_>,
        ip: Ipv4Addr,
        now: Moment,
        expires: Moment,
    ) -> Bind {
        let mut state = self.leases.state.lock();
        match state.leases.get_mut(&ip) {
            Some(lease) if lease.client == *client.key && lease.network == Some(client.network) => {
                lease.state = LeaseState::Active;
                lease.starts = now;
                lease.expires = expires;
                Bind::Pending(Change { ip })
            }
            Some(_) => Bind::Refused(Refusal::HeldByOther),
            None => Bind::Refused(Refusal::NotHeld),
        }
    }

    /// The client gives its address back. `None` when it does not have it.
    pub fn release(
        &mut self,
        network: NetworkId,
        client: &ClientKey,
        ip: Ipv4Addr,
        now: Moment,
    ) -> Option<Change> {
        let mut state = self.leases.state.lock();
        let lease = state.leases.get_mut(&ip).filter(|lease| {
            lease.client == *client && lease.network == Some(network) && lease.is_active(now)
        })?;
        lease.state = LeaseState::Released;
        lease.expires = now;
        Some(Change { ip })
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
        let _ = now;
        let mut state = self.leases.state.lock();
        let reserved = state.reserved.contains(&ip);
        let Some(lease) = state
            .leases
            .get_mut(&ip)
            .filter(|lease| lease.client == *client && lease.network == Some(network))
        else {
            return Declined::NotHeld;
        };
        if reserved {
            lease.state = LeaseState::Released;
            return Declined::Reserved(Change { ip });
        }
        lease.state = LeaseState::Declined;
        lease.expires = until;
        Declined::Quarantined(Change { ip })
    }

    /// A probe found an address in use that was about to be offered: nobody gets it until `until`.
    /// `None` when a client has it as a lease, or it is reserved.
    pub fn quarantine(&mut self, ip: Ipv4Addr, now: Moment, until: Moment) -> Option<Change> {
        let lease = self.leases.at(ip).filter(|lease| !lease.is_active(now))?;
        match self.decline(lease.network?, &lease.client, ip, now, until) {
            Declined::Quarantined(change) => Some(change),
            Declined::Reserved(_) | Declined::NotHeld => None,
        }
    }

    /// The client took another server's offer: ours is free again. The address that was freed.
    pub fn forget_offer(
        &mut self,
        network: NetworkId,
        client: &ClientKey,
        now: Moment,
    ) -> Option<Ipv4Addr> {
        let lease = self.find(network, client, now)?;
        if lease.state != LeaseState::Offered {
            return None;
        }
        self.leases.state.lock().leases.remove(&lease.ip);
        Some(lease.ip)
    }

    /// Has a change made durable. `token` comes back through [`ShardLeases::completed`]; without
    /// one nobody waits for it.
    pub fn submit(&mut self, change: Change, token: Option<u64>) {
        self.leases.state.lock().queue.push((self.shard, token, change));
    }

    /// Takes a change back that will not be submitted.
    pub fn abandon(&mut self, change: Change) {
        self.submit(change, None);
    }

    /// Tells which changes became durable since the last call, and which did not.
    pub fn completed(&mut self, mut each: impl FnMut(u64, Result<(), NotDurable>)) {
        let done = std::mem::take(&mut self.leases.state.lock().done[self.shard]);
        done.into_iter().for_each(|token| each(token, Ok(())));
    }

    /// At the end of every batch of datagrams: whether nothing more waits in the sockets.
    pub fn kick(&mut self, dry: bool) {
        let _ = dry;
        self.leases.commit_once();
    }
}
