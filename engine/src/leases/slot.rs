//! One address of the table, packed.

use bootstorm_protocols::time::Moment;
use slab::Slab;

use super::address::Address;
use super::state::{Base, Kind, Record, State, Whose};
use super::{ClientKey, Lease, LeaseState, Notes};

/// No entry of the slab of a stripe.
const NOWHERE: u32 = u32::MAX;

/// Who a lease is of, and what is remembered of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Identity {
    pub(super) client: ClientKey,
    pub(super) notes: Notes,
}

/// What a slot needs only while the store has something else than it.
#[derive(Debug)]
pub(super) struct Side {
    base: Base,
    /// Of [`State::Binding`] and [`State::Releasing`].
    offer_until: Option<Moment>,
    /// The client of [`Base::Other`].
    other: Option<Identity>,
}

/// Which state the fields of a slot are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Tag {
    Offered,
    Settled,
    /// Settled, and [`Record::extended`].
    Extended,
    Binding,
    Refusing,
    Releasing,
    Declining,
    Unwritten,
}

/// One address. The state is in pieces, and what most addresses do not need is in the slab of the
/// stripe: a million of them fit a small server.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) address: Address,
    pub(super) identity: Identity,
    starts: Moment,
    /// Of an infinite lease whose client was told of an end: that end.
    expires: Moment,
    version: u64,
    /// When the sweep looks at it; [`Moment::NEVER`] is never. It may be too early, and is never
    /// too late.
    pub(super) timer: Moment,
    side: u32,
    /// The pool that counts it, by its number; 0 is none.
    pub(super) pool: u32,
    /// The shard whose extent of the pool it is in, and whose timers it is in.
    pub(super) shard: u16,
    tag: Tag,
    pub(super) kind: Kind,
    refused: bool,
    /// The lease is infinite, and its client was told of an end.
    told: bool,
    /// As what the pool counts it.
    pub(super) listed: LeaseState,
    /// Its pool still has the address among those that may be unused.
    pub(super) in_free_range: bool,
}

impl Slot {
    /// A slot of a state that needs no entry in the slab. Nothing counts it yet.
    pub(super) fn new(address: Address, identity: Identity, state: State, shard: u16) -> Self {
        let mut slot = Self {
            address,
            identity,
            starts: Moment::default(),
            expires: Moment::default(),
            version: 0,
            timer: Moment::NEVER,
            side: NOWHERE,
            pool: 0,
            shard,
            tag: Tag::Offered,
            kind: Kind::Released,
            refused: false,
            told: false,
            listed: LeaseState::Offered,
            in_free_range: false,
        };
        slot.pack(state);
        slot
    }

    /// The state.
    pub(super) fn state(&self, sides: &Slab<Side>) -> State {
        let record = self.record();
        let side = sides.get(self.side as usize);
        let base = side.map_or(Base::Nothing, |side| side.base);
        let offer_until = side.and_then(|side| side.offer_until);
        match self.tag {
            Tag::Offered => State::Offered { since: self.starts, until: self.expires, base },
            Tag::Settled => State::Settled(record),
            Tag::Extended => State::Settled(Record { extended: true, ..record }),
            Tag::Binding => {
                State::Binding { record, offer_until: offer_until.unwrap_or_default(), base }
            }
            Tag::Refusing => State::Refusing { record, base: base.record().unwrap_or(record) },
            Tag::Releasing => State::Releasing { record, offer_until, base },
            Tag::Declining => State::Declining { record, unwritten: false, base },
            Tag::Unwritten => State::Declining { record, unwritten: true, base },
        }
    }

    /// Gives it another state. `whose` says what happens to the identities; `sender` is the new
    /// one's. The identity that the slot had is returned if it is another now.
    pub(super) fn set(
        &mut self,
        sides: &mut Slab<Side>,
        state: State,
        whose: Whose,
        sender: Option<Identity>,
    ) -> Option<Identity> {
        let (base, offer_until) = self.pack(state);
        let mut other = None;
        if let Some(old) = sides.try_remove(self.side as usize) {
            other = old.other;
        }
        let mut before = None;
        match whose {
            Whose::Kept => {}
            Whose::Senders => {
                if let Some(sender) = sender {
                    before = Some(std::mem::replace(&mut self.identity, sender));
                }
                if matches!(base, Base::Other(_)) && other.is_none() {
                    other.clone_from(&before);
                }
            }
            Whose::Bases => {
                if let Some(other) = other.take() {
                    before = Some(std::mem::replace(&mut self.identity, other));
                }
            }
        }
        if !matches!(base, Base::Other(_)) {
            other = None;
        }
        let needed = base != Base::Nothing || offer_until.is_some();
        self.side = NOWHERE;
        if needed {
            // As many as there are slots, at most.
            self.side = sides.insert(Side { base, offer_until, other }) as u32;
        }
        before
    }

    /// Writes the state into the fields; what goes into the slab is returned.
    fn pack(&mut self, state: State) -> (Base, Option<Moment>) {
        let (tag, record, offer_until, base) = match state {
            State::Offered { since, until, base } => {
                self.tag = Tag::Offered;
                (self.starts, self.expires) = (since, until);
                return (base, None);
            }
            State::Settled(record) => {
                let tag = if record.extended { Tag::Extended } else { Tag::Settled };
                (tag, record, None, Base::Nothing)
            }
            State::Binding { record, offer_until, base } => {
                (Tag::Binding, record, Some(offer_until), base)
            }
            State::Refusing { record, base } => (Tag::Refusing, record, None, Base::Own(base)),
            State::Releasing { record, offer_until, base } => {
                (Tag::Releasing, record, offer_until, base)
            }
            State::Declining { record, unwritten, base } => {
                let tag = if unwritten { Tag::Unwritten } else { Tag::Declining };
                (tag, record, None, base)
            }
        };
        self.tag = tag;
        let Record { kind, starts, expires, told, refused, version, extended: _ } = record;
        debug_assert!(told.is_none() || expires == Moment::NEVER, "only infinite leases are told");
        (self.kind, self.starts, self.expires) = (kind, starts, told.unwrap_or(expires));
        (self.refused, self.told, self.version) = (refused, told.is_some(), version);
        (base, offer_until)
    }

    fn record(&self) -> Record {
        Record {
            kind: self.kind,
            starts: self.starts,
            expires: if self.told { Moment::NEVER } else { self.expires },
            told: self.told.then_some(self.expires),
            refused: self.refused,
            extended: false,
            version: self.version,
        }
    }

    /// Forgets what the slab has for it, before it goes.
    pub(super) fn clear(&mut self, sides: &mut Slab<Side>) {
        sides.try_remove(self.side as usize);
        self.side = NOWHERE;
    }

    /// The client that the lease in the store is of.
    pub(super) fn base_identity<'s>(&'s self, sides: &'s Slab<Side>) -> &'s Identity {
        let side = sides.get(self.side as usize);
        side.and_then(|side| side.other.as_ref()).unwrap_or(&self.identity)
    }

    /// A lease for others to see, of `identity`.
    pub(super) fn lease(&self, identity: &Identity, state: &State, now: Moment) -> Lease {
        let (shown, starts, expires) = state.view(now);
        let record = record(state);
        Lease {
            ip: self.address.into(),
            client: identity.client.clone(),
            hardware: identity.notes.hardware(&identity.client),
            state: shown,
            starts,
            expires,
            refused: record.is_some_and(|record| record.refused),
            told: record.and_then(|record| record.told),
            pending: state.pending().is_some(),
            notes: identity.notes.clone(),
        }
    }
}

/// What is written of a state, or is to be.
pub(super) fn record(state: &State) -> Option<&Record> {
    match state {
        State::Offered { .. } => None,
        State::Settled(record)
        | State::Binding { record, .. }
        | State::Refusing { record, .. }
        | State::Releasing { record, .. }
        | State::Declining { record, .. } => Some(record),
    }
}

/// A record as a lease that the store writes.
pub(super) fn stored(address: Address, identity: &Identity, record: &Record) -> Lease {
    let state = match record.kind {
        Kind::Leased => LeaseState::Active,
        Kind::Released => LeaseState::Released,
        Kind::Declined => LeaseState::Declined,
    };
    Lease {
        ip: address.into(),
        client: identity.client.clone(),
        hardware: identity.notes.hardware(&identity.client),
        state,
        starts: record.starts,
        expires: record.expires,
        refused: record.refused,
        told: record.told,
        pending: false,
        notes: identity.notes.clone(),
    }
}
