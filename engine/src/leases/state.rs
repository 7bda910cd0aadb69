//! What an address is, and what becomes of it: one pure function, [`transition`].
//!
//! An address without a slot is vacant: nobody has it, and the store knows nothing of it. `base` is
//! what the store has beneath something that it does not have yet.
//!
//! | state | what it means | is it another's to take |
//! | --- | --- | --- |
//! | Offered | held for a client that has not requested it; never written | when the offer ends |
//! | Settled | the store has it: a lease, an ended lease, a quarantine | when it has ended |
//! | Binding | a bind is being written | no |
//! | Refusing | its client may not go on with the lease, and that is being written | no |
//! | Releasing | given back, being written; perhaps offered to its client again | no |
//! | Declining | a quarantine that is being written, or could not be | when it ends, if unwritten |
//!
//! What an event makes of it. "own" is the client of the address. `=` keeps the state, `✗` is a
//! refusal: the state stays, and the step is not taken. A lease that has ended is "ended", whatever
//! a sweep has seen of it.
//!
//! ```text
//! event          vacant   Offered   valid      ended    Binding   Refusing  Releasing  Declining
//! offer, own     Offered  = longer  =          Offered  =         =         =, offer   ✗
//! offer, machine Offered  Offered   Offered    Offered  ✗         ✗         ✗          ✗
//! offer, other   Offered  ✗         ✗          Offered  ✗         ✗         ✗          ✗
//! bind, own      ✗        Binding   Binding    Binding  =         Binding   Binding    ✗
//! release, own   ✗        base      Releasing  ✗        Releasing Releasing =, no off. ✗
//! release, oper. ✗        ✗         Releasing  ✗        Releasing Releasing ✗          Releasing
//! decline, own   ✗        Declining Declining  Declin.  Declining Declining Declining  ✗
//! probe          ✗        Declining Dec. if b. ✗        Dec. if n. ✗        ✗          ✗
//! refuse, own    ✗        ✗         Refusing   ✗        =         =         ✗          ✗
//! end, own       ✗        ✗         Rel. if r. ✗        ✗         Releasing ✗          ✗
//! withdraw, own  ✗        base      ✗          ✗        ✗         ✗         =, no off. ✗
//! written        ✗        ✗         ✗          ✗        Settled   Settled   Settl., O. Settled
//! failed         ✗        ✗         ✗          ✗        base, O.  base      base, O.   Declining
//! time                    base                                              =, no off. base
//! ```
//! "valid" and "ended" are Settled. "machine" is the same machine under another identity, for an
//! address that is reserved for it. "O." is Offered again while the offer is good, "Rel. if r."
//! Releasing if it was refused, "Dec. if b." Declining if it was given before the probe was wanted
//! (after damage it may be outdated), "Dec. if n." Declining if the client whose offer was probed
//! takes it and has no lease of it yet, "=, no off." the same without the offer. An offer to the
//! holder of a valid lease lets it end no earlier than the offer. Time ends what is over, and a
//! quarantine in Declining only if it could not be written.
//!
//! All events of another client but offers are refused. A quarantine is nobody's: in Settled it
//! refuses all but an operator's release while it is valid, and is another's lease that has ended
//! when it is over.
//! Each transition that is to be written gives the record a new version. A change that was handed
//! out with an older version is void: no ACK leaves for it.

use bootstorm_protocols::time::Moment;

use super::{LeaseState, Refusal};

/// What the store has of an address, or is to have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// When it was given, or renewed last.
    pub(super) starts: Moment,
    /// When it ends, or ended; [`Moment::NEVER`] is an infinite lease.
    pub(super) expires: Moment,
    /// See [`Lease::told`](super::Lease::told).
    pub(super) told: Option<Moment>,
    /// See [`Lease::refused`](super::Lease::refused).
    pub(super) refused: bool,
    /// The store does not know its end for sure: an offer has put it off, or it was read from there
    /// and may be of another boot.
    pub(super) extended: bool,
    /// Rises with each change that is to be written.
    pub(super) version: u64,
}

/// What a record says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Leased,
    Released,
    Declined,
}

/// What the store has beneath something that it does not have yet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Base {
    /// Nothing.
    Nothing,
    /// A record of the same client.
    Own(Record),
    /// A record of another client. It has ended, unless that client is the same machine.
    Other(Record),
}

/// The state of an address that is not vacant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    Offered {
        since: Moment,
        until: Moment,
        base: Base,
    },
    Settled(Record),
    Binding {
        record: Record,
        /// When the offer ends that it came from: the client may try again until then.
        offer_until: Moment,
        base: Base,
    },
    Refusing {
        record: Record,
        base: Record,
    },
    Releasing {
        record: Record,
        /// Its client has been offered it again, until then.
        offer_until: Option<Moment>,
        base: Base,
    },
    Declining {
        record: Record,
        /// It could not be written, and holds all the same.
        unwritten: bool,
        base: Base,
    },
}

/// Who an event comes from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// The client of the address.
    Own,
    /// The same machine under another identity, for which the address is reserved.
    SameMachine,
    /// Another client.
    Other,
    /// A person.
    Operator,
}

/// What happens to an address. Those with a version are written if they change anything. A probe
/// was wanted at `since`, for an offer to the client it is from: who has bound the address after
/// that may have answered, once its ACK has left.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Offer { from: From, until: Moment },
    Bind { from: From, expires: Moment, heard: bool, version: u64 },
    Release { from: From, version: u64 },
    Decline { from: From, until: Moment, version: u64 },
    Probe { from: From, since: Moment, until: Moment, version: u64 },
    Refuse { from: From, version: u64 },
    End { from: From, version: u64 },
    Withdraw { from: From },
    Written,
    Failed,
}

/// Whose the address is after an event.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// As before.
    Kept,
    /// The client's that the event came from.
    Senders,
    /// The client's that the base is of.
    Bases,
}

/// What became of an event.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// `None` is vacant.
    pub(super) state: Option<State>,
    pub(super) whose: Whose,
    /// The new state is to be written.
    pub(super) writes: bool,
}

impl Outcome {
    pub(super) fn kept(state: State) -> Self {
        Self { state: Some(state), whose: Whose::Kept, writes: false }
    }

    fn written(state: State) -> Self {
        Self { state: Some(state), whose: Whose::Kept, writes: true }
    }

    fn senders(state: State) -> Self {
        Self { state: Some(state), whose: Whose::Senders, writes: false }
    }

    fn base(base: Base) -> Self {
        let (state, whose) = match base {
            Base::Nothing => (None, Whose::Kept),
            Base::Own(record) => (Some(State::Settled(record)), Whose::Kept),
            Base::Other(record) => (Some(State::Settled(record)), Whose::Bases),
        };
        Self { state, whose, writes: false }
    }
}

impl Record {
    fn new(kind: Kind, starts: Moment, expires: Moment, version: u64) -> Self {
        Self { kind, starts, expires, told: None, refused: false, extended: false, version }
    }

    /// Whether it keeps the address from others at `now`.
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        self.kind != Kind::Released && now < self.expires
    }

    fn is_lease(&self, now: Moment) -> bool {
        self.kind == Kind::Leased && now < self.expires
    }

    fn released(&self, now: Moment, version: u64) -> Self {
        Self::new(Kind::Released, self.starts, now, version)
    }

    /// The lease after an ACK that tells of `expires`. The ACK may be lost, and then the client
    /// goes by what it was told before: so a lease does not end before the one that it renews. An
    /// infinite one becomes finite when the client has shown that it heard of an end: nobody renews
    /// an infinite lease.
    fn renewed(&self, expires: Moment, heard: bool, now: Moment, version: u64) -> Self {
        let (expires, told) = if !self.is_lease(now) {
            (expires, None)
        } else if self.expires != Moment::NEVER || expires == Moment::NEVER {
            (self.expires.max(expires), None)
        } else {
            let latest = self.told.map_or(expires, |told| told.max(expires));
            match self.told {
                Some(_) if heard => (latest, None),
                _ => (Moment::NEVER, Some(latest)),
            }
        };
        Self { told, ..Self::new(Kind::Leased, now, expires, version) }
    }
}

impl Base {
    pub(super) fn record(self) -> Option<Record> {
        match self {
            Self::Nothing => None,
            Self::Own(record) | Self::Other(record) => Some(record),
        }
    }

    /// The same when another client comes on top of it.
    fn of_other(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Own(record) | Self::Other(record) => Self::Other(record),
        }
    }

    /// The client's own valid lease.
    fn own_lease(self, now: Moment) -> Option<Record> {
        match self {
            Self::Own(record) if record.is_lease(now) => Some(record),
            _ => None,
        }
    }

    /// The valid lease of the client, or of the same machine under another identity: what that
    /// machine was told holds for it. Nobody else's is beneath an offer.
    fn machines_lease(self, now: Moment) -> Option<Record> {
        self.record().filter(|record| record.is_lease(now))
    }
}

impl State {
    /// What is being written.
    pub(super) fn pending(&self) -> Option<Record> {
        match *self {
            Self::Binding { record, .. }
            | Self::Refusing { record, .. }
            | Self::Releasing { record, .. }
            | Self::Declining { record, unwritten: false, .. } => Some(record),
            Self::Offered { .. } | Self::Settled(_) | Self::Declining { .. } => None,
        }
    }

    /// What the store has.
    pub(super) fn base(&self) -> Base {
        match *self {
            Self::Settled(record) | Self::Refusing { base: record, .. } => Base::Own(record),
            Self::Offered { base, .. }
            | Self::Binding { base, .. }
            | Self::Releasing { base, .. }
            | Self::Declining { base, .. } => base,
        }
    }

    /// The same with another version of what the store has.
    pub(super) fn with_stored(mut self, version: u64) -> Self {
        match &mut self {
            Self::Settled(record) | Self::Refusing { base: record, .. } => record.version = version,
            Self::Offered { base, .. }
            | Self::Binding { base, .. }
            | Self::Releasing { base, .. }
            | Self::Declining { base, .. } => match base {
                Base::Nothing => {}
                Base::Own(record) | Base::Other(record) => record.version = version,
            },
        }
        self
    }

    /// Whether it is a quarantine, be it over or not.
    pub(super) fn is_quarantine(&self) -> bool {
        let (Self::Settled(record) | Self::Declining { record, .. }) = self else { return false };
        record.kind == Kind::Declined
    }

    /// As others see it at `now`; see [`super::Lease`] for the times.
    pub(super) fn view(&self, now: Moment) -> (LeaseState, Moment, Moment) {
        let shown = |record: &Record| {
            let state = match record.kind {
                Kind::Released => LeaseState::Released,
                Kind::Leased | Kind::Declined if now >= record.expires => LeaseState::Expired,
                Kind::Leased => LeaseState::Active,
                Kind::Declined => LeaseState::Declined,
            };
            (state, record.starts, record.expires)
        };
        match self {
            Self::Offered { since, until, .. } => (LeaseState::Offered, *since, *until),
            Self::Releasing { record, offer_until: Some(until), .. } => {
                (LeaseState::Offered, record.expires, *until)
            }
            Self::Settled(record)
            | Self::Binding { record, .. }
            | Self::Refusing { record, .. }
            | Self::Releasing { record, .. }
            | Self::Declining { record, .. } => shown(record),
        }
    }

    /// When time changes it, at the earliest.
    pub(super) fn next_end(&self, now: Moment) -> Option<Moment> {
        match *self {
            Self::Offered { until, .. } => Some(until),
            Self::Releasing { offer_until, .. } => offer_until,
            Self::Settled(record) => record.is_valid(now).then_some(record.expires),
            Self::Declining { record, unwritten: true, .. } => Some(record.expires),
            // The next is what comes of the write.
            Self::Binding { .. } | Self::Refusing { .. } | Self::Declining { .. } => None,
        }
    }

    /// What time has made of it.
    pub(super) fn at(self, now: Moment) -> Outcome {
        match self {
            Self::Offered { until, base, .. } if now >= until => Outcome::base(base),
            Self::Releasing { record, offer_until: Some(until), base } if now >= until => {
                Outcome::kept(Self::Releasing { record, offer_until: None, base })
            }
            Self::Declining { record, unwritten: true, base } if now >= record.expires => {
                Outcome::base(base)
            }
            other => Outcome::kept(other),
        }
    }
}

/// What an event makes of an address. The caller has brought the state up to `now` with
/// [`State::at`], which may have given the address back to another client.
pub(super) fn transition(
    state: Option<State>,
    event: Event,
    now: Moment,
) -> Result<Outcome, Refusal> {
    debug_assert!(state.is_none_or(|state| state.at(now) == Outcome::kept(state)));
    match event {
        Event::Offer { from, until } => offer(state, from, until, now),
        Event::Bind { from, expires, heard, version } => {
            let lease = |before: Option<Record>| {
                let none = Record::new(Kind::Released, now, now, version);
                before.unwrap_or(none).renewed(expires, heard, now, version)
            };
            bind(state, from, lease, now)
        }
        Event::Release { from, version } => release(state, from, now, version),
        Event::Decline { from, until, version } => decline(state, from, now, until, version),
        Event::Probe { from, since, until, version } => match state {
            Some(State::Offered { base, .. }) => Ok(declining(base, now, until, version)),
            // Nobody was acknowledged it, so the client is not who answered.
            Some(State::Binding { base, .. })
                if from == From::Own && base.machines_lease(now).is_none() =>
            {
                Ok(declining(base, now, until, version))
            }
            Some(State::Settled(record)) if record.is_lease(now) && record.starts < since => {
                Ok(declining(Base::Own(record), now, until, version))
            }
            _ => Err(Refusal::NotHeld),
        },
        Event::Refuse { from: From::Own, version } => refuse(state, now, version),
        Event::End { from: From::Own, version } => match state {
            Some(State::Settled(record)) if record.is_lease(now) && record.refused => {
                Ok(releasing(record, Base::Own(record), now, version))
            }
            Some(State::Refusing { record, base }) => {
                Ok(releasing(record, Base::Own(base), now, version))
            }
            _ => Err(Refusal::NotHeld),
        },
        Event::Withdraw { from: From::Own } => withdraw(state),
        Event::Refuse { .. } | Event::End { .. } | Event::Withdraw { .. } => Err(Refusal::NotHeld),
        Event::Written => written(state, now),
        Event::Failed => failed(state, now),
    }
}

fn offer(state: Option<State>, from: From, until: Moment, now: Moment) -> Result<Outcome, Refusal> {
    let offered = |base| State::Offered { since: now, until, base };
    let Some(state) = state else { return Ok(Outcome::senders(offered(Base::Nothing))) };
    match state {
        State::Settled(record) if record.kind == Kind::Declined && record.is_valid(now) => {
            Err(Refusal::Quarantined)
        }
        State::Settled(mut record) if record.is_lease(now) => match from {
            From::Own => {
                // It must not end before the client can ask for more.
                if record.expires < until {
                    (record.expires, record.extended) = (until, true);
                }
                Ok(Outcome::kept(State::Settled(record)))
            }
            From::SameMachine => Ok(Outcome::senders(offered(Base::Other(record)))),
            From::Other | From::Operator => Err(Refusal::HeldByOther),
        },
        State::Settled(record) => match from {
            From::Own if record.kind != Kind::Declined => {
                Ok(Outcome::kept(offered(Base::Own(record))))
            }
            _ => Ok(Outcome::senders(offered(Base::Other(record)))),
        },
        State::Offered { since, until: before, base } => match from {
            From::Own => {
                let until = until.max(before);
                Ok(Outcome::kept(State::Offered { since, until, base }))
            }
            From::SameMachine => Ok(Outcome::senders(offered(base.of_other()))),
            From::Other | From::Operator => Err(Refusal::HeldByOther),
        },
        State::Declining { .. } => Err(Refusal::Quarantined),
        _ if from != From::Own => Err(Refusal::HeldByOther),
        State::Binding { record, offer_until, base } => {
            let offer_until = until.max(offer_until);
            Ok(Outcome::kept(State::Binding { record, offer_until, base }))
        }
        State::Releasing { record, offer_until, base } => {
            let offer_until = Some(offer_until.map_or(until, |before| before.max(until)));
            Ok(Outcome::kept(State::Releasing { record, offer_until, base }))
        }
        State::Refusing { .. } => Ok(Outcome::kept(state)),
    }
}

fn bind(
    state: Option<State>,
    from: From,
    lease: impl Fn(Option<Record>) -> Record,
    now: Moment,
) -> Result<Outcome, Refusal> {
    let state = state.ok_or(Refusal::NotHeld)?;
    let binding = |before, offer_until, base| {
        Ok(Outcome::written(State::Binding { record: lease(before), offer_until, base }))
    };
    match state {
        State::Declining { .. } => Err(Refusal::Quarantined),
        State::Settled(record) if record.kind == Kind::Declined => {
            let valid = record.is_valid(now);
            Err(if valid { Refusal::Quarantined } else { Refusal::NotHeld })
        }
        State::Settled(record) if from != From::Own => {
            let valid = record.is_valid(now);
            Err(if valid { Refusal::HeldByOther } else { Refusal::NotHeld })
        }
        _ if from != From::Own => Err(Refusal::HeldByOther),
        State::Settled(record) => binding(Some(record), now, Base::Own(record)),
        State::Offered { until, base, .. } => binding(base.machines_lease(now), until, base),
        State::Binding { .. } => Ok(Outcome::kept(state)),
        State::Refusing { record, base } => binding(Some(record), now, Base::Own(base)),
        State::Releasing { offer_until, base, .. } => {
            binding(None, offer_until.unwrap_or(now), base)
        }
    }
}

fn releasing(record: Record, base: Base, now: Moment, version: u64) -> Outcome {
    let record = record.released(now, version);
    Outcome::written(State::Releasing { record, offer_until: None, base })
}

fn release(
    state: Option<State>,
    from: From,
    now: Moment,
    version: u64,
) -> Result<Outcome, Refusal> {
    if matches!(from, From::Other | From::SameMachine) {
        return Err(Refusal::NotHeld);
    }
    match state {
        Some(State::Settled(record)) if record.is_lease(now) => {
            Ok(releasing(record, Base::Own(record), now, version))
        }
        Some(State::Settled(record)) if record.is_valid(now) && from == From::Operator => {
            Ok(releasing(record, Base::Own(record), now, version))
        }
        Some(State::Binding { record, base, .. }) => Ok(releasing(record, base, now, version)),
        Some(State::Refusing { record, base }) => {
            Ok(releasing(record, Base::Own(base), now, version))
        }
        Some(State::Declining { record, base, .. }) if from == From::Operator => {
            Ok(releasing(record, base, now, version))
        }
        _ if from == From::Own => withdraw(state),
        _ => Err(Refusal::NotHeld),
    }
}

fn withdraw(state: Option<State>) -> Result<Outcome, Refusal> {
    match state {
        Some(State::Offered { base, .. }) => Ok(Outcome::base(base)),
        Some(State::Releasing { record, offer_until: Some(_), base }) => {
            Ok(Outcome::kept(State::Releasing { record, offer_until: None, base }))
        }
        _ => Err(Refusal::NotHeld),
    }
}

fn declining(base: Base, now: Moment, until: Moment, version: u64) -> Outcome {
    let record = Record::new(Kind::Declined, now, until, version);
    Outcome::written(State::Declining { record, unwritten: false, base })
}

fn decline(
    state: Option<State>,
    from: From,
    now: Moment,
    until: Moment,
    version: u64,
) -> Result<Outcome, Refusal> {
    match state {
        Some(State::Declining { .. }) | None => Err(Refusal::NotHeld),
        Some(State::Settled(record)) if record.kind == Kind::Declined => Err(Refusal::NotHeld),
        Some(state) if from == From::Own => Ok(declining(state.base(), now, until, version)),
        Some(_) => Err(Refusal::NotHeld),
    }
}

fn refuse(state: Option<State>, now: Moment, version: u64) -> Result<Outcome, Refusal> {
    match state {
        Some(State::Settled(record)) if record.is_lease(now) && !record.refused => {
            let refused = Record { refused: true, extended: false, version, ..record };
            Ok(Outcome::written(State::Refusing { record: refused, base: record }))
        }
        Some(state @ State::Settled(record)) if record.is_lease(now) => Ok(Outcome::kept(state)),
        Some(state @ (State::Binding { .. } | State::Refusing { .. })) => Ok(Outcome::kept(state)),
        _ => Err(Refusal::NotHeld),
    }
}

fn written(state: Option<State>, now: Moment) -> Result<Outcome, Refusal> {
    let state = state.ok_or(Refusal::NotHeld)?;
    let record = state.pending().ok_or(Refusal::NotHeld)?;
    Ok(Outcome::kept(match state {
        State::Releasing { offer_until: Some(until), .. } => {
            State::Offered { since: now, until, base: Base::Own(record) }
        }
        _ => State::Settled(record),
    }))
}

/// What is being written will not become durable: back to what the store has. A quarantine stays,
/// on disk or not; an offer that is still good is an offer again, so that the client may ask once
/// more.
fn failed(state: Option<State>, now: Moment) -> Result<Outcome, Refusal> {
    let state = state.ok_or(Refusal::NotHeld)?;
    state.pending().ok_or(Refusal::NotHeld)?;
    let (offer_until, since, base) = match state {
        State::Binding { record, offer_until, base } => (Some(offer_until), record.starts, base),
        State::Releasing { record, offer_until, base } => (offer_until, record.expires, base),
        State::Declining { record, base, .. } => {
            return Ok(Outcome::kept(State::Declining { record, unwritten: true, base }));
        }
        State::Refusing { .. } | State::Offered { .. } | State::Settled(_) => {
            return Ok(Outcome::base(state.base()));
        }
    };
    let offer = offer_until.filter(|until| now < *until && base.own_lease(now).is_none());
    Ok(offer.map_or_else(
        || Outcome::base(base),
        |until| Outcome::kept(State::Offered { since, until, base }),
    ))
}
