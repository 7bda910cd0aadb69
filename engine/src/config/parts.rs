//! Values that statements put together of parts.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::expression::Data;

#[derive(Copy, Clone)]
pub(super) enum Part<'c> {
    Bytes(&'c [u8]),
    Expression(&'c Data),
}

/// One part, and the value that it was added to. So what `append` and `prepend` make of a value
/// takes as much memory as what they add.
#[derive(Copy, Clone)]
pub(super) struct Parts<'c> {
    part: Part<'c>,
    to: Option<(End, &'c Parts<'c>)>,
}

/// The end of a value that a part was added to.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

impl<'c> Parts<'c> {
    /// A part, added to a value if there is one.
    pub(super) fn new(part: Part<'c>, to: Option<(End, &'c Self)>) -> Self {
        Self { part, to }
    }

    /// The part of a value that has one only.
    pub(super) fn single(&self) -> Option<Part<'c>> {
        self.to.is_none().then_some(self.part)
    }

    /// All parts, the first of the value first.
    pub(super) fn in_order(&self, arena: &'c Bump) -> BumpVec<'c, Part<'c>> {
        // What was added last comes first in one, and last in the other.
        let (mut front, mut back) = (BumpVec::new_in(arena), BumpVec::new_in(arena));
        let mut parts = self;
        while let Some((end, to)) = parts.to {
            match end {
                End::Front => front.push(parts.part),
                End::Back => back.push(parts.part),
            }
            parts = to;
        }
        front.push(parts.part);
        front.extend(back.into_iter().rev());
        front
    }
}
