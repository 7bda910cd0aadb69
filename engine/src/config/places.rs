//! Where everything in the model stands in its files.

use super::{Dhcp, HostId, Key, Line, ScopeId};

/// Lines of the parts of a model.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where scopes begin, by rising id.
    scopes: Vec<(ScopeId, Line)>,
    /// Where values stand, by rising scope and key.
    values: Vec<((ScopeId, Key), Line)>,
    /// One for each host, or none at all; 0 where nobody knows.
    hosts: Vec<Line>,
}

impl Places {
    /// Adds where a scope begins and where its values stand.
    pub(super) fn add(
        &mut self,
        id: ScopeId,
        line: Option<Line>,
        values: impl IntoIterator<Item = (Key, Line)>,
    ) {
        self.scopes.extend(line.map(|line| (id, line)));
        self.values.extend(values.into_iter().map(|(key, line)| ((id, key), line)));
    }

    /// Adds the line of a host. Without any, nothing is kept.
    pub(super) fn add_host(&mut self, id: HostId, line: Option<Line>) {
        if let Some(line) = line {
            self.hosts.resize(id.index(), Line { file: 0, line: 0 });
            self.hosts.push(line);
        }
    }

    /// Prepares look-ups.
    pub(super) fn finish(&mut self) {
        self.scopes.sort_unstable();
        self.values.sort_unstable();
        self.scopes.shrink_to_fit();
        self.values.shrink_to_fit();
        self.hosts.shrink_to_fit();
    }
}

impl Dhcp {
    /// Where a scope begins: the line of its name, or of what else it is known by.
    pub fn line_of_scope(&self, id: ScopeId) -> Option<Line> {
        if let ScopeId::Host(host) = id {
            return self.places.hosts.get(host.index()).copied().filter(|line| line.line > 0);
        }
        let scopes = &self.places.scopes;
        let place = scopes.binary_search_by_key(&id, |&(own, _)| own).ok()?;
        Some(scopes[place].1)
    }

    /// Where a scope sets something, unless one of its statements does; of a host, where it begins.
    pub fn line_of(&self, id: ScopeId, key: Key) -> Option<Line> {
        if let ScopeId::Host(_) = id {
            return self.line_of_scope(id);
        }
        let values = &self.places.values;
        let place = values.binary_search_by_key(&(id, key), |&(own, _)| own).ok()?;
        Some(values[place].1)
    }
}
