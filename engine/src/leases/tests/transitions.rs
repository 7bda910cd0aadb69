//! Every state of an address times every event.

use super::super::state::{Base, Event, From, Kind, Outcome, Record, State, Whose, transition};
use super::*;

const NOW: u64 = 100;
const VERSION: u64 = 9;

fn record(kind: Kind, expires: Moment) -> Record {
    let (told, refused, extended) = (None, false, false);
    Record { kind, starts: at(1), expires, told, refused, extended, version: 3 }
}

/// A lease that goes on.
fn valid() -> Record {
    record(Kind::Leased, at(200))
}

/// A lease that has ended.
fn ended() -> Record {
    record(Kind::Leased, at(50))
}

fn offered(base: Base) -> State {
    State::Offered { since: at(90), until: at(150), base }
}

fn states() -> Vec<(&'static str, Option<State>)> {
    let pending = |kind| Record { version: 4, ..record(kind, at(300)) };
    let binding =
        |base| State::Binding { record: pending(Kind::Leased), offer_until: at(150), base };
    let releasing = |offer_until| State::Releasing {
        record: Record { expires: at(95), ..pending(Kind::Released) },
        offer_until,
        base: Base::Own(valid()),
    };
    let declining = |unwritten| State::Declining {
        record: pending(Kind::Declined),
        unwritten,
        base: Base::Own(valid()),
    };
    let refused = Record { refused: true, ..valid() };
    let released = record(Kind::Released, at(50));
    let declined = record(Kind::Declined, at(200));
    vec![
        ("vacant", None),
        ("offered", Some(offered(Base::Nothing))),
        ("offered-own", Some(offered(Base::Own(ended())))),
        ("offered-other", Some(offered(Base::Other(ended())))),
        ("leased", Some(State::Settled(valid()))),
        ("refused", Some(State::Settled(refused))),
        ("expired", Some(State::Settled(ended()))),
        ("released", Some(State::Settled(released))),
        ("declined", Some(State::Settled(declined))),
        ("was-declined", Some(State::Settled(Record { expires: at(99), ..declined }))),
        ("binding", Some(binding(Base::Nothing))),
        ("renewing", Some(binding(Base::Own(valid())))),
        ("refusing", Some(State::Refusing { record: refused, base: valid() })),
        ("releasing", Some(releasing(None))),
        ("reoffered", Some(releasing(Some(at(150))))),
        ("declining", Some(declining(false))),
        ("unwritten", Some(declining(true))),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (until, expires, version) = (at(160), at(400), VERSION);
    let bind = |from| Event::Bind { from, expires, heard: false, version };
    let offer = |from| Event::Offer { from, until };
    vec![
        ("offer", offer(From::Own)),
        ("offer-same", offer(From::SameMachine)),
        ("offer-other", offer(From::Other)),
        ("bind", bind(From::Own)),
        ("bind-other", bind(From::Other)),
        ("release", Event::Release { from: From::Own, version }),
        ("release-op", Event::Release { from: From::Operator, version }),
        ("release-other", Event::Release { from: From::Other, version }),
        ("decline", Event::Decline { from: From::Own, until, version }),
        ("decline-other", Event::Decline { from: From::Other, until, version }),
        ("probe", Event::Probe { from: From::Own, since: at(0), until, version }),
        ("probe-other", Event::Probe { from: From::Other, since: at(0), until, version }),
        ("refuse", Event::Refuse { from: From::Own, version }),
        ("refuse-other", Event::Refuse { from: From::Other, version }),
        ("end", Event::End { from: From::Own, version }),
        ("end-other", Event::End { from: From::Other, version }),
        ("withdraw", Event::Withdraw { from: From::Own }),
        ("withdraw-other", Event::Withdraw { from: From::Other }),
        ("written", Event::Written),
        ("failed", Event::Failed),
    ]
}

/// What becomes of it: `x` refused, `=` as it was, `+` the same state with something longer, else
/// the first letters of the new state; `*` is to be written, `>` goes to the sender, `<` back to
/// the client of the base.
fn shown(before: Option<State>, result: Result<Outcome, Refusal>) -> String {
    let Ok(Outcome { state, whose, writes }) = result else { return "x".to_owned() };
    let name = match state {
        None => "vac",
        Some(State::Offered { .. }) => "off",
        Some(State::Settled(_)) => "set",
        Some(State::Binding { .. }) => "bin",
        Some(State::Refusing { .. }) => "ref",
        Some(State::Releasing { .. }) => "rel",
        Some(State::Declining { .. }) => "dec",
    };
    let same =
        |one: State, other: State| std::mem::discriminant(&one) == std::mem::discriminant(&other);
    let name = match (before, state) {
        (Some(before), Some(state)) if before == state => "=",
        (Some(before), Some(state)) if same(before, state) && !writes && whose == Whose::Kept => {
            "+"
        }
        _ => name,
    };
    let whose = match whose {
        Whose::Kept => "",
        Whose::Senders => ">",
        Whose::Bases => "<",
    };
    format!("{name}{whose}{}", if writes { "*" } else { "" })
}

const TABLE: &str = "
               offer offer-same offer-other bind bind-other release release-op release-other decline decline-other probe probe-other refuse refuse-other end end-other withdraw withdraw-other written failed
vacant         off>  off>       off>        x    x          x       x          x             x       x             x     x           x      x            x   x         x        x              x       x
offered        +     off>       x           bin* x          vac     x          x             dec*    x             dec*  dec*        x      x            x   x         vac      x              x       x
offered-own    +     off>       x           bin* x          set     x          x             dec*    x             dec*  dec*        x      x            x   x         set      x              x       x
offered-other  +     off>       x           bin* x          set<    x          x             dec*    x             dec*  dec*        x      x            x   x         set<     x              x       x
leased         =     off>       x           bin* x          rel*    rel*       x             dec*    x             x     x           ref*   x            x   x         x        x              x       x
refused        =     off>       x           bin* x          rel*    rel*       x             dec*    x             x     x           =      x            rel* x        x        x              x       x
expired        off   off>       off>        bin* x          x       x          x             dec*    x             x     x           x      x            x   x         x        x              x       x
released       off   off>       off>        bin* x          x       x          x             dec*    x             x     x           x      x            x   x         x        x              x       x
declined       x     x          x           x    x          x       rel*       x             x       x             x     x           x      x            x   x         x        x              x       x
was-declined   off>  off>       off>        x    x          x       x          x             x       x             x     x           x      x            x   x         x        x              x       x
binding        +     x          x           =    x          rel*    rel*       x             dec*    x             dec*  x           =      x            x   x         x        x              set     off
renewing       +     x          x           =    x          rel*    rel*       x             dec*    x             x     x           =      x            x   x         x        x              set     set
refusing       =     x          x           bin* x          rel*    rel*       x             dec*    x             x     x           =      x            rel* x        x        x              set     set
releasing      +     x          x           bin* x          x       x          x             dec*    x             x     x           x      x            x   x         x        x              set     set
reoffered      +     x          x           bin* x          +       x          x             dec*    x             x     x           x      x            x   x         +        x              off     set
declining      x     x          x           x    x          x       rel*       x             x       x             x     x           x      x            x   x         x        x              set     +
unwritten      x     x          x           x    x          x       rel*       x             x       x             x     x           x      x            x   x         x        x              x       x
";

#[test]
fn every_event_in_every_state() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let heads: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let rows: Vec<Vec<_>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(heads, events().iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(rows.len(), states().len());
    let mut wrong = Vec::new();
    for ((name, state), row) in states().into_iter().zip(&rows) {
        assert_eq!((name, row.len()), (row[0], heads.len() + 1));
        for ((event_name, event), expected) in events().into_iter().zip(&row[1..]) {
            let result = transition(state, event, at(NOW));
            let shown = shown(state, result);
            if shown != **expected {
                wrong.push(format!("{name} {event_name}: {shown}, not {expected}"));
            }
            let Ok(outcome) = result else { continue };
            // What is to be written has the version of the event, and only that.
            let pending = outcome.state.and_then(|state| state.pending());
            if outcome.writes {
                assert_eq!(
                    pending.map(|record| record.version),
                    Some(VERSION),
                    "{name} {event_name}"
                );
            }
            // What the store has is forgotten by no event but that of the store.
            let base = |state: Option<State>| state.and_then(|state| state.base().record());
            let version = |state| base(state).map(|record| record.version);
            if event != Event::Written && outcome.state.is_some() {
                assert_eq!(version(outcome.state), version(state), "{name} {event_name}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The lease after a bind of `record`.
fn renewed(record: Record, expires: Moment, heard: bool) -> Record {
    let event = Event::Bind { from: From::Own, expires, heard, version: VERSION };
    let outcome = transition(Some(State::Settled(record)), event, at(NOW)).unwrap();
    outcome.state.unwrap().pending().unwrap()
}

#[test]
fn promises_only_grow() {
    let finite = renewed(valid(), at(150), true);
    assert_eq!((finite.expires, finite.told), (at(200), None), "never shorter");
    assert_eq!(renewed(valid(), at(300), false).expires, at(300));
    assert_eq!(renewed(valid(), Moment::NEVER, false).expires, Moment::NEVER);
    assert_eq!(renewed(ended(), at(120), false).expires, at(120));
    // An infinite lease becomes finite when its client has heard of an end, and not before.
    let infinite = record(Kind::Leased, Moment::NEVER);
    let told = renewed(infinite, at(300), true);
    assert_eq!((told.expires, told.told), (Moment::NEVER, Some(at(300))), "it was never told");
    let again = renewed(told, at(150), false);
    assert_eq!((again.expires, again.told), (Moment::NEVER, Some(at(300))), "the latest end");
    let heard = renewed(again, at(150), true);
    assert_eq!((heard.expires, heard.told), (at(300), None));
    let endless = renewed(told, Moment::NEVER, true);
    assert_eq!((endless.expires, endless.told), (Moment::NEVER, None), "it is infinite anew");
}

#[test]
fn time_ends_what_is_over_and_nothing_else() {
    for (name, state) in states() {
        let Some(state) = state else { continue };
        let later = state.at(at(1000));
        match name {
            "offered" => assert_eq!(later.state, None),
            "offered-own" => assert_eq!(later.state, Some(State::Settled(ended()))),
            "offered-other" => assert_eq!((later.whose, later.writes), (Whose::Bases, false)),
            "unwritten" => assert_eq!(later.state, Some(State::Settled(valid()))),
            "reoffered" => {
                assert!(matches!(later.state, Some(State::Releasing { offer_until: None, .. })))
            }
            _ => assert_eq!((later.state, later.whose), (Some(state), Whose::Kept), "{name}"),
        }
        // It is looked at no later than it changes.
        if later.state != Some(state) {
            assert!(state.next_end(at(NOW)).is_some_and(|end| end <= at(1000)), "{name}");
        }
        assert!(state.next_end(at(NOW)).is_none_or(|end| end > at(NOW)), "{name}");
    }
}

#[test]
fn a_failed_takeover_of_a_reserved_address_gives_it_back() {
    // The machine has it under another identity, and the first bind under the new one fails.
    let offer = Event::Offer { from: From::SameMachine, until: at(160) };
    let outcome = transition(Some(State::Settled(valid())), offer, at(NOW)).unwrap();
    let bind = Event::Bind { from: From::Own, expires: at(400), heard: false, version: VERSION };
    let binding = transition(outcome.state, bind, at(NOW)).unwrap().state.unwrap();
    assert_eq!(binding.base(), Base::Other(valid()));
    let failed = transition(Some(binding), Event::Failed, at(170)).unwrap();
    assert_eq!((failed.state, failed.whose), (Some(State::Settled(valid())), Whose::Bases));
}

/// The machine was told of it, whatever it calls itself, and the ACK that says less may be lost.
#[test]
fn who_takes_over_as_the_same_machine_has_the_lease_for_no_shorter_time() {
    for (had, told) in [(at(200), None), (Moment::NEVER, Some(at(120)))] {
        let lease = State::Settled(record(Kind::Leased, had));
        let offer = Event::Offer { from: From::SameMachine, until: at(160) };
        let offered = transition(Some(lease), offer, at(NOW)).unwrap().state;
        let bind =
            Event::Bind { from: From::Own, expires: at(120), heard: false, version: VERSION };
        let binding = transition(offered, bind, at(NOW)).unwrap().state.unwrap();
        let pending = binding.pending().unwrap();
        assert_eq!((pending.expires, pending.told), (had, told));
    }
}

// After damage its record may be outdated, and another client have the address.
#[test]
fn a_lease_is_no_more_if_a_probe_that_was_wanted_after_it_is_answered() {
    let (from, until, version) = (From::Own, at(160), VERSION);
    let probe = |since| Event::Probe { from, since: at(since), until, version };
    let lease = State::Settled(valid());
    assert_eq!(transition(Some(lease), probe(1), at(NOW)), Err(Refusal::NotHeld));
    let outcome = transition(Some(lease), probe(2), at(NOW)).unwrap();
    let Some(State::Declining { record, base, .. }) = outcome.state else { panic!("{outcome:?}") };
    assert_eq!((record.expires, base, outcome.writes), (at(160), Base::Own(valid()), true));
}
