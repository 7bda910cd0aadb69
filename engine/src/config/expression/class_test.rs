//! The `test` of a `[[dhcp.class]]`.

use bumpalo::Bump;

use super::{Boolean, Facts};

/// A condition in dhcpd's language.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassTest {
    pub(super) condition: Boolean,
}

impl ClassTest {
    /// A test.
    pub(in crate::config) fn new(condition: Boolean) -> Self {
        Self { condition }
    }

    /// Whether it is true; null is not.
    pub(crate) fn holds<'a>(&'a self, facts: &impl Facts<'a>, arena: &'a Bump) -> bool {
        self.condition.evaluate(facts, arena) == Some(true)
    }
}
