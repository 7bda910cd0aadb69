//! Which pool a `range` belongs to that stands in none.

use std::collections::HashMap;

use super::super::super::builder::PoolDraft;
use super::super::super::problem::{Fault, Problems};
use super::super::super::{GroupId, Permit};
use super::super::ast::{Permission, Range, Who};
use super::addresses;

/// The pools of a shared network, or of a subnet that stands in none, in dhcpd's order.
#[derive(Default)]
pub(super) struct NetworkPools {
    pools: Vec<PoolDraft>,
    /// The first pool of each list of permits.
    first: HashMap<Box<[Permission]>, usize>,
    /// The first of those that say nothing else.
    plain: HashMap<Box<[Permission]>, usize>,
}

impl NetworkPools {
    /// Adds a pool, and returns it. One that says nothing and permits the same clients as another
    /// becomes a part of that one.
    pub(super) fn add(&mut self, mut pool: PoolDraft, permits: &[Permission]) -> PoolDraft {
        let says_nothing = pool.scope.0.is_empty();
        let (allowed, denied) = permits.iter().partition::<Vec<_>, _>(|permit| permit.allow);
        let permits = &[allowed, denied].concat()[..];
        match self.plain.get(permits).filter(|_| says_nothing) {
            Some(&same) => pool.declared = self.pools[same].declared,
            None => {
                let place = self.pools.len();
                if says_nothing {
                    self.plain.insert(permits.into(), place);
                }
                self.first.entry(permits.into()).or_insert(place);
                self.pools.push(pool.clone());
            }
        }
        pool
    }

    /// The pool of a range. dhcpd makes one for the first, which permits all clients, or all but
    /// those of BOOTP. Where a pool with the same permits is there, declared or not, it takes the
    /// one that stands before that pool; the first, if that is the first.
    pub(super) fn range(
        &mut self,
        range: &Range,
        groups: &[GroupId],
        problems: &mut Problems,
    ) -> PoolDraft {
        let mut own = PoolDraft::plain(addresses(range), range.place);
        own.groups = groups.to_vec();
        let who = if range.bootp { Who::All } else { Who::Bootp };
        let permits = [Permission { allow: range.bootp, who }];
        match range.bootp {
            true => own.allow.push(Permit::All),
            false => own.deny.push(Permit::Bootp),
        }
        let Some(same) = self.first.get(&permits[..]) else { return self.add(own, &permits) };
        let place = same.saturating_sub(1);
        let taken = &self.pools[place];
        if self.plain.get(&permits[..]) != Some(&place) {
            let text = "this range is a part of another pool, as in dhcpd";
            let help = "it stands in no pool: dhcpd gives its clients what the one before says, and \
                        permits them only; write pool { range ...; }";
            let fault = Fault::new(text, help);
            problems.warn_of(range.place, fault, taken.place, "of this one");
        }
        PoolDraft { range: own.range, place: own.place, ..taken.clone() }
    }
}
