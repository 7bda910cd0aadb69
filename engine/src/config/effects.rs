//! What statements do beside setting options and settings.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::expression::Value;
use super::statement::{Block, BlockKey, Events, Statement};
use super::{ClassId, LogLevel, VariableId};

/// What statements do beside setting options and settings.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Effects<'c> {
    /// What they do at once.
    pub(crate) now: Asked<'c>,
    /// What those of `on commit` do when the lease is durable.
    pub(crate) commit: Asked<'c>,
    /// What runs when the lease ends.
    pub(crate) ends: Ends,
}

impl Effects<'static> {
    /// What comes of no statements.
    pub(super) const NONE: &'static Self = &Self {
        now: Asked { logs: &[], programs: &[], variables: &[] },
        commit: Asked { logs: &[], programs: &[], variables: &[] },
        ends: Ends { release: None, expiry: None },
    };
}

/// Which blocks of statements run when a lease ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) release: Option<BlockKey>,
    pub(crate) expiry: Option<BlockKey>,
}

/// What some statements ask for.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Asked<'c> {
    /// What is written to the log.
    pub(crate) logs: &'c [(LogLevel, &'c [u8])],
    /// Programs that are run: the name of each, then its arguments.
    pub(crate) programs: &'c [&'c [&'c [u8]]],
    /// Variables that were set, the last value of each last; `None` for one that was taken away.
    pub(crate) variables: &'c [(VariableId, Option<Value<'c>>)],
}

/// The same while statements run.
pub(super) struct Collected<'c> {
    arena: &'c Bump,
    pub(super) logs: BumpVec<'c, (LogLevel, &'c [u8])>,
    pub(super) programs: BumpVec<'c, &'c [&'c [u8]]>,
    pub(super) variables: BumpVec<'c, (VariableId, Option<Value<'c>>)>,
    /// What runs at commit.
    pub(super) commit: Option<&'c [Statement]>,
    pub(super) ends: Ends,
    /// Classes that the client was made a member of.
    pub(super) added: BumpVec<'c, ClassId>,
}

/// How much was asked for before.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
pub(super) struct Before {
    logs: usize,
    programs: usize,
    variables: usize,
}

impl<'c> Collected<'c> {
    pub(super) fn new(arena: &'c Bump) -> Self {
        Self {
            arena,
            logs: BumpVec::new_in(arena),
            programs: BumpVec::new_in(arena),
            variables: BumpVec::new_in(arena),
            commit: None,
            ends: Ends::default(),
            added: BumpVec::new_in(arena),
        }
    }

    pub(super) fn here(&self) -> Before {
        let (logs, programs) = (self.logs.len(), self.programs.len());
        Before { logs, programs, variables: self.variables.len() }
    }

    /// What was asked for since.
    pub(super) fn since(&self, before: Before) -> Asked<'c> {
        if before == self.here() {
            return Asked::default();
        }
        let Before { logs, programs, variables } = before;
        Asked {
            logs: self.arena.alloc_slice_copy(&self.logs[logs..]),
            programs: self.arena.alloc_slice_copy(&self.programs[programs..]),
            variables: self.arena.alloc_slice_copy(&self.variables[variables..]),
        }
    }

    /// What runs when something happens; without statements nothing does.
    pub(super) fn on(&mut self, events: Events, block: &'c Block) {
        let any = !block.statements.is_empty();
        if events.commit {
            self.commit = any.then_some(&block.statements);
        }
        let key = any.then_some(block.key);
        if events.release {
            self.ends.release = key;
        }
        if events.expiry {
            self.ends.expiry = key;
        }
    }

    /// Has a program run. An argument ends with a NUL, as in dhcpd.
    pub(super) fn run(&mut self, program: &'c [u8], arguments: &[&'c [u8]]) {
        let all = std::iter::once(&program).chain(arguments);
        let ended = |text: &&'c [u8]| text.split(|&byte| byte == 0).next().unwrap_or_default();
        let all = BumpVec::from_iter_in(all.map(ended), self.arena);
        self.programs.push(all.into_bump_slice());
    }
}
