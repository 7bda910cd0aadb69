//! Which pool a `range` belongs to that stands in none.

use super::super::super::builder::PoolDraft;
use super::super::super::problem::{Fault, Problems};
use super::super::super::{GroupId, Permit};
use super::super::ast::Range;
use super::addresses;

/// The pools of a shared network, or of a subnet that stands in none, in dhcpd's order.
#[derive(Default)]
pub(super) struct NetworkPools(Vec<PoolDraft>);

impl NetworkPools {
    /// Adds a pool, and returns it. One that says nothing and permits the same clients as another
    /// becomes a part of that one.
    pub(super) fn add(&mut self, mut pool: PoolDraft) -> PoolDraft {
        let is_same = |other: &PoolDraft| {
            says_nothing(other) && (&other.allow, &other.deny) == (&pool.allow, &pool.deny)
        };
        match self.0.iter().find(|other| says_nothing(&pool) && is_same(other)) {
            Some(same) => pool.declared = same.declared,
            None => self.0.push(pool.clone()),
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
        match range.bootp {
            true => own.allow.push(Permit::All),
            false => own.deny.push(Permit::Bootp),
        }
        let same =
            self.0.iter().position(|pool| (&pool.allow, &pool.deny) == (&own.allow, &own.deny));
        let Some(same) = same else {
            self.0.push(own.clone());
            return own;
        };
        let taken = &self.0[same.saturating_sub(1)];
        if !says_nothing(taken) || (&taken.allow, &taken.deny) != (&own.allow, &own.deny) {
            let text = "this range is a part of another pool, as in dhcpd";
            let help = "it stands in no pool: dhcpd gives its clients what the one before says, and \
                        permits them only; write pool { range ...; }";
            let fault = Fault::new(text, help);
            problems.warn_of(range.place, fault, taken.place, "of this one");
        }
        PoolDraft { range: own.range, place: own.place, ..taken.clone() }
    }
}

fn says_nothing(pool: &PoolDraft) -> bool {
    pool.scope.0.is_empty()
}
