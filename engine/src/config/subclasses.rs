//! Subclasses, found by the value that makes a client a member of one.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{ClassId, Subclass, SubclassId};

/// Every subclass of every class.
#[derive(Clone, Debug, Default)]
pub struct Subclasses {
    list: Vec<Subclass>,
    /// Seeded anew for each model.
    hasher: RandomState,
    by_value: HashTable<SubclassId>,
}

impl Subclasses {
    /// Adds a subclass, unless its class has one of that value: then that one's id.
    pub(super) fn add(&mut self, subclass: Subclass) -> SubclassId {
        if let Some(known) = self.find(subclass.class, &subclass.value) {
            return known;
        }
        let id = SubclassId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(subclass);
        let (list, hasher) = (&self.list, &self.hasher);
        let hash = |id: &SubclassId| {
            let Subclass { class, value, .. } = &list[id.index()];
            hasher.hash_one((class, &**value))
        };
        self.by_value.insert_unique(hash(&id), id, hash);
        id
    }

    /// The subclass of a class for a value.
    pub(crate) fn find(&self, class: ClassId, value: &[u8]) -> Option<SubclassId> {
        let hash = self.hasher.hash_one((&class, value));
        let same = |id: &SubclassId| {
            let subclass = self.get(*id);
            subclass.class == class && *subclass.value == *value
        };
        self.by_value.find(hash, same).copied()
    }

    /// The subclass of an id; panics if there is none.
    pub(super) fn get(&self, id: SubclassId) -> &Subclass {
        &self.list[id.index()]
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Subclass> {
        self.list.iter()
    }
}
