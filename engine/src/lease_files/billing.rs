//! The classes that leases count for, by what the lease store knows of them.

use std::collections::HashMap;

use super::Entry;
use super::entry::Billing;
use crate::config::Dhcp;
use crate::leases::Bill;

/// The classes and subclasses of a configuration that limit leases, by what is billed to them.
pub struct Billings(HashMap<u64, Billing>);

impl Billings {
    /// Those of a configuration. Subclasses that `spawn with` makes are not among them: nobody
    /// knows their values.
    pub fn of(dhcp: &Dhcp) -> Self {
        let classes = dhcp.class_ids().map(|id| (&*dhcp.class(id).name, None));
        let subclasses = dhcp
            .subclasses
            .iter()
            .map(|subclass| (&*dhcp.class(subclass.class).name, Some(&*subclass.value)));
        // The limit is no part of the key.
        let key = |(name, value)| Bill::new(name, value, 0).key();
        let billing = |(name, value): (&str, Option<&[u8]>)| (name.into(), value.map(Box::from));
        let all = classes.chain(subclasses);
        Self(all.map(|known| (key(known), billing(known))).collect())
    }

    /// Says in an entry what it is billed to; whether it is known.
    pub fn put(&self, key: u64, entry: &mut Entry) -> bool {
        let found = self.0.get(&key).cloned();
        let known = found.is_some();
        entry.billing.extend(found);
        known
    }
}
