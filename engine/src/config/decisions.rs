//! Which branches of the statements of a chain one message takes, and why, for people who wonder.

use super::expression::{Facts, Names, why};
use super::run::Run;
use super::statement::{Branch, Operand, Statement, SwitchPart};
use super::{Line, ScopeId};

/// What became of one branch of an `if` or `switch`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    /// The level whose statement it is; `None` for one that runs when the lease is durable.
    pub(crate) level: Option<ScopeId>,
    pub(crate) line: Line,
    /// `if`, `elsif`, `else`, `case` or `default`.
    pub(crate) branch: &'static str,
    pub(crate) is_taken: bool,
    /// The part of the condition that decided, and what it finds.
    pub(crate) why: String,
}

/// The decisions of a run that is watched.
pub(super) struct Watched<'r> {
    names: &'r dyn Names,
    /// What is to run when the lease is durable runs now.
    pub(super) at_commit: bool,
    pub(super) decisions: Vec<Decision>,
}

impl<'r> Watched<'r> {
    pub(super) fn new(names: &'r dyn Names) -> Self {
        Self { names, at_commit: false, decisions: Vec::new() }
    }
}

const EARLIER: &str = "a branch before it is taken";

impl<'r, 'c, F: Facts<'c>> Run<'r, 'c, F> {
    /// Notes the branches of an `if`, of which `taken` is taken, else the last one.
    pub(super) fn note_if(
        &mut self,
        branches: &'c [Branch],
        otherwise: &'c [Statement],
        taken: Option<usize>,
    ) {
        let Some(names) = self.names() else { return };
        let look_ups = self.look_ups.get();
        self.note_branches(branches, otherwise, taken, names);
        self.look_ups.set(look_ups);
    }

    fn note_branches(
        &mut self,
        branches: &'c [Branch],
        otherwise: &'c [Statement],
        taken: Option<usize>,
        names: &dyn Names,
    ) {
        for (place, branch) in branches.iter().enumerate() {
            let is_taken = taken == Some(place);
            let why = match taken {
                Some(taken) if place > taken => EARLIER.to_owned(),
                _ => why(&branch.condition, !is_taken, &*self, names, self.arena),
            };
            let word = if place == 0 { "if" } else { "elsif" };
            self.note(branch.line, word, is_taken, why);
        }
        let Some(first) = otherwise.first() else { return };
        match taken {
            Some(_) => self.note(first.line, "else", false, EARLIER.to_owned()),
            None => self.note(first.line, "else", true, "no condition before it is true".into()),
        }
    }

    /// Notes the labels of a `switch`, of which that at `taken` is taken.
    pub(super) fn note_switch(
        &mut self,
        operand: &'c Operand,
        parts: &'c [SwitchPart],
        taken: Option<usize>,
    ) {
        let Some(names) = self.names() else { return };
        let look_ups = self.look_ups.get();
        let value = operand.text(names);
        let found = self.found(operand, names);
        for (place, part) in parts.iter().enumerate() {
            let is_taken = taken == Some(place);
            let (line, word, why) = match part {
                SwitchPart::Case(line, label) => {
                    let label = self.found(label, names);
                    (*line, "case", format!("{label}: {value} finds {found}"))
                }
                SwitchPart::Default(line) if is_taken => {
                    (*line, "default", format!("{value} finds {found}, no label"))
                }
                SwitchPart::Default(line) => {
                    (*line, "default", format!("{value} finds {found}, a label"))
                }
                SwitchPart::Statement(_) => continue,
            };
            self.note(line, word, is_taken, why);
        }
        self.look_ups.set(look_ups);
    }

    fn names(&self) -> Option<&'r dyn Names> {
        self.watched.as_ref().map(|watched| watched.names)
    }

    /// What an operand yields, as text.
    fn found(&self, operand: &'c Operand, names: &dyn Names) -> String {
        self.operand(operand).map_or_else(|| "null".to_owned(), |value| value.text(names))
    }

    fn note(&mut self, line: Line, branch: &'static str, is_taken: bool, why: String) {
        let level = self.levels.get(self.level).map(|level| level.id);
        if let Some(watched) = &mut self.watched {
            let level = level.filter(|_| !watched.at_commit);
            watched.decisions.push(Decision { level, line, branch, is_taken, why });
        }
    }
}
