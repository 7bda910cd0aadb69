//! Taking a table apart, key by key.

use super::problem::{Fault, Problems};
use super::schema::{self, Schema};
use super::source::Place;
use super::tree::{Entry, Node, Table, Value};

/// The keys of one table that have not been read yet.
#[derive(Debug)]
pub(super) struct Fields {
    schema: &'static Schema,
    /// Where the table stands: its header, or its braces.
    pub(super) place: Place,
    entries: Vec<Entry>,
}

impl Fields {
    /// Opens a table; keys that it may not have are noted at once.
    pub(super) fn open(
        node: Node,
        schema: &'static Schema,
        problems: &mut Problems,
    ) -> Option<Self> {
        let place = node.place;
        match node.value {
            Value::Table(table) => Some(Self::of(table, place, schema, problems)),
            _ => {
                let text = format!("{} must be a table, not {}", schema.name, node.value.kind());
                problems.error(place, Fault::new(text, keys_of(schema)));
                None
            }
        }
    }

    /// The same for a table that needs no node, the top level.
    pub(super) fn of(
        table: Table,
        place: Place,
        schema: &'static Schema,
        problems: &mut Problems,
    ) -> Self {
        for entry in table.entries.iter().filter(|entry| !schema.has(&entry.key)) {
            problems.error(entry.place, unknown_key(&entry.key, schema));
        }
        Self { schema, place, entries: table.entries }
    }

    /// The value of a key and the place of the key, to be read by other means.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        debug_assert!(
            self.schema.has(key),
            "{key} is missing in the schema of {}",
            self.schema.name
        );
        let index = self.entries.iter().position(|entry| *entry.key == *key)?;
        Some(self.entries.swap_remove(index))
    }

    /// Whether the table may have a key.
    pub(super) fn may_have(&self, key: &str) -> bool {
        self.schema.has(key)
    }

    /// The value of a key, if it is there and has not been taken.
    pub(super) fn peek(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.node)
    }

    /// The place of the value of a key.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.peek(key).map(|node| node.place)
    }

    /// The value of a key as `read` understands it. `read` says what the value must be; the key's
    /// name is put before it.
    pub(super) fn get<T>(
        &mut self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> Option<T> {
        let entry = self.take(key)?;
        problems.keep(entry.node.place, named(key, read(&entry.node)))
    }

    /// The same with the place of the value.
    pub(super) fn get_placed<T>(
        &mut self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> Option<(T, Place)> {
        let place = self.place_of(key)?;
        self.get(key, problems, read).map(|value| (value, place))
    }

    /// The value of a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &str,
        example: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> Option<(T, Place)> {
        if self.place_of(key).is_none() {
            let text = format!("{} needs the key `{key}`", self.schema.name);
            problems.error(self.place, Fault::new(text, format!("add {key} = {example}")));
            return None;
        }
        self.get_placed(key, problems, read)
    }

    /// The values of a key that takes one value or a list of them, each with its place; those that
    /// are wrong are noted and left out.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        problems: &mut Problems,
        read: impl Fn(&Node) -> Result<T, Fault>,
    ) -> Vec<(T, Place)> {
        self.nodes(key)
            .into_iter()
            .filter_map(|node| {
                let value = problems.keep(node.place, named(key, read(&node)))?;
                Some((value, node.place))
            })
            .collect()
    }

    /// The nodes of a key that takes one or a list of them.
    pub(super) fn nodes(&mut self, key: &str) -> Vec<Node> {
        match self.take(key).map(|entry| entry.node) {
            None => Vec::new(),
            Some(Node { value: Value::Array(nodes), .. }) => nodes,
            Some(node) => vec![node],
        }
    }

    /// The tables under a key, such as every `[[dhcp.host]]`.
    pub(super) fn tables(
        &mut self,
        key: &str,
        schema: &'static Schema,
        problems: &mut Problems,
    ) -> Vec<Self> {
        self.nodes(key).into_iter().filter_map(|node| Self::open(node, schema, problems)).collect()
    }
}

fn named<T>(key: &str, value: Result<T, Fault>) -> Result<T, Fault> {
    value.map_err(|fault| fault.after(&format!("`{key}`")))
}

fn keys_of(schema: &Schema) -> String {
    let keys: Vec<&str> = schema.all_keys().collect();
    format!("its keys are {}", keys.join(", "))
}

/// A key that its table does not have.
pub(super) fn unknown_key(key: &str, schema: &'static Schema) -> Fault {
    let text = format!("{} has no key `{key}`", schema.name);
    // A key of another table is no slip of the pen.
    let help = match schema::ALL.iter().find(|other| other.has(key)) {
        Some(table) => format!("`{key}` stands in {}", table.name),
        None => match schema.nearest(key) {
            Some(near) => format!("did you mean `{near}`?"),
            None => keys_of(schema),
        },
    };
    Fault::new(text, help)
}
