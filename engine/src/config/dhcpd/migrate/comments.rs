//! Comments, and the statements that they belong to.

use std::collections::{BTreeMap, HashMap};

use super::super::super::Line;
use super::super::super::expression::{Token, Tokens};
use super::super::super::source::{Files, Place};
use super::super::ast::{Body, Child, Class};

#[derive(Debug, Default)]
pub(super) struct Comments {
    /// By their lines; and whether something stands before them in the line.
    unassigned: BTreeMap<Line, (String, bool)>,
    /// By the line of the statement.
    assigned: HashMap<Line, Vec<String>>,
}

impl Comments {
    /// Those of all files.
    pub(super) fn of(files: &Files) -> Self {
        let mut unassigned = BTreeMap::new();
        for (number, file) in files.files.iter().enumerate() {
            let Some(text) = file.text() else { continue };
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            each(text, |start, end| {
                let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
                let beside = !text[line_start..start].trim().is_empty();
                let Some(line) = files.line(Place::of(number, start..end)) else { return };
                unassigned.insert(line, (text[start..end].trim_end().to_owned(), beside));
            });
        }
        Self { unassigned, assigned: HashMap::new() }
    }

    /// Gives each to the statement beside it, or the next.
    pub(super) fn assign(&mut self, root: &Body, classes: &[Class]) {
        let mut lines = Vec::new();
        collect(root, &mut lines);
        classes.iter().for_each(|class| {
            lines.extend(class.body.line);
            collect(&class.body, &mut lines);
        });
        lines.sort_unstable();
        for (line, (text, beside)) in std::mem::take(&mut self.unassigned) {
            let behind = lines.partition_point(|other| *other <= line);
            let next = lines.get(behind).filter(|next| next.file == line.file);
            let last = behind.checked_sub(1).map(|at| lines[at]);
            let last = last.filter(|last| last.file == line.file && beside);
            match last.or(next.copied()) {
                Some(owner) => self.assigned.entry(owner).or_default().push(text),
                None => drop(self.unassigned.insert(line, (text, beside))),
            }
        }
    }

    /// Those of the statement in a line.
    pub(super) fn take(&mut self, line: Line) -> Vec<String> {
        self.assigned.remove(&line).unwrap_or_default()
    }

    /// Those that nobody took.
    pub(super) fn rest(&mut self) -> Vec<String> {
        let mut rest: Vec<(Line, Vec<String>)> = self.assigned.drain().collect();
        rest.sort_unstable();
        let unassigned = std::mem::take(&mut self.unassigned).into_values().map(|(text, _)| text);
        rest.into_iter().flat_map(|(_, texts)| texts).chain(unassigned).collect()
    }
}

fn collect(body: &Body, lines: &mut Vec<Line>) {
    lines.extend(body.entries.iter().map(|entry| entry.line));
    for inside in body.children.iter().filter_map(Child::body) {
        lines.extend(inside.line);
        collect(inside, lines);
    }
}

/// A text without its comments.
pub(super) fn without(text: &str) -> String {
    let mut kept = String::new();
    let mut from = 0;
    each(text, |start, end| {
        kept.push_str(&text[from..start]);
        from = end;
    });
    kept.push_str(&text[from..]);
    kept
}

/// Calls `found` with the bytes of each comment, without the end of its line.
fn each(text: &str, mut found: impl FnMut(usize, usize)) {
    let mut tokens = Tokens::new(text);
    let mut before = 0;
    loop {
        let (end, range) = match tokens.next() {
            Ok((token, range)) => (token == Token::End, range),
            Err(wrong) => (false, wrong.part),
        };
        // Between two tokens there are blanks and comments.
        let mut at = before;
        while let Some(hash) = text.get(at..range.start).and_then(|gap| gap.find('#')) {
            let start = at + hash;
            at = text[start..].find('\n').map_or(text.len(), |length| start + length);
            found(start, at);
        }
        before = range.end;
        if end {
            return;
        }
    }
}
