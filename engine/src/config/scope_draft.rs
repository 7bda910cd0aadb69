//! A scope, or the body of a condition, while a front end reads it.

use std::collections::BTreeMap;

use super::settings::{Parameter, Settings};
use super::statement::{Action, Key, Line, Statement};
use super::{OptionSet, Scope, SpaceId};

/// What a scope says, in the order in which it is read.
///
/// What does not depend on a message is worked out here; of two values for one key the later
/// stands. What stands behind a statement that does depend on it stays behind that statement.
#[derive(Debug, Default)]
pub(super) struct ScopeDraft {
    /// What stands before the first statement.
    fixed: Fixed,
    statements: Vec<Statement>,
    /// What stands behind the last statement.
    behind: Fixed,
}

/// Values that do not depend on a message.
#[derive(Debug, Default)]
struct Fixed {
    options: BTreeMap<u8, Vec<u8>>,
    spaces: BTreeMap<(SpaceId, u32), Box<[u8]>>,
    settings: Settings<'static>,
    lines: BTreeMap<Key, Line>,
}

impl Fixed {
    fn finish(self, statements: Vec<Statement>) -> (Scope, Lines) {
        let values: Vec<_> = self.spaces.into_iter().collect();
        let spaces = values.chunk_by(|((one, _), _), ((other, _), _)| one == other).map(|values| {
            let options = values.iter().map(|((_, code), value)| (*code, value.clone()));
            (values[0].0.0, options.collect())
        });
        let spaces = spaces.collect();
        let options = OptionSet::new(self.options);
        let scope = Scope::new(options, self.settings, spaces, statements.into());
        (scope, self.lines.into_iter().collect())
    }
}

/// Where the values of a scope stand, by rising key.
pub(super) type Lines = Box<[(Key, Line)]>;

impl ScopeDraft {
    /// Sets an option to the bytes of the wire.
    pub(super) fn option(&mut self, code: u8, value: impl Into<Vec<u8>>, line: Line) {
        let fixed = self.here();
        fixed.options.insert(code, value.into());
        fixed.lines.insert(Key::Option(code), line);
    }

    /// Sets an option of a space to the bytes of the wire.
    pub(super) fn in_space(
        &mut self,
        space: SpaceId,
        code: u32,
        value: impl Into<Box<[u8]>>,
        line: Line,
    ) {
        let fixed = self.here();
        fixed.spaces.insert((space, code), value.into());
        fixed.lines.insert(Key::InSpace(space, code), line);
    }

    /// Sets a setting: `set` is to change that one and no other.
    pub(super) fn set(
        &mut self,
        parameter: Parameter,
        set: impl FnOnce(&mut Settings<'static>),
        line: Line,
    ) {
        let fixed = self.here();
        set(&mut fixed.settings);
        fixed.lines.insert(Key::Parameter(parameter), line);
    }

    /// Adds a statement.
    pub(super) fn push(&mut self, statement: Statement) {
        self.close();
        self.statements.push(statement);
    }

    /// The scope, and where the values that no statement sets stand in it.
    pub(super) fn finish(mut self) -> (Scope, Lines) {
        self.close();
        self.fixed.finish(self.statements)
    }

    /// The statements of a body.
    pub(super) fn block(mut self) -> Box<[Statement]> {
        self.close();
        let first = self.fixed.into_statement();
        first.into_iter().chain(self.statements).collect()
    }

    /// Where a value goes that stands here.
    fn here(&mut self) -> &mut Fixed {
        if self.statements.is_empty() { &mut self.fixed } else { &mut self.behind }
    }

    /// Makes a statement of the values behind the last one.
    fn close(&mut self) {
        self.statements.extend(std::mem::take(&mut self.behind).into_statement());
    }
}

impl Fixed {
    /// The statement that sets them, if there are any.
    fn into_statement(self) -> Option<Statement> {
        let line = self.lines.values().min().copied()?;
        let (scope, lines) = self.finish(Vec::new());
        Some(Statement { line, action: Action::Fixed(scope, lines) })
    }
}
