//! What is wrong with a configuration, where, and what to write instead.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode,
};

use super::source::{Excerpts, Files, Place};
use crate::terminal::escaped;

/// So many problems are printed; after them the number of the others.
const SHOWN: usize = 50;

/// So many errors are kept, and so many warnings, those that stand first; of the others there is
/// only the number. A mistake that is made in each host is made a million times.
const KEPT: usize = 1000;

/// Two places as near as this are in one excerpt.
const SHOWN_TOGETHER: usize = 500;

/// Help is broken into lines of this length, to stand beside its heading on a screen of 100
/// columns.
const WIDTH: usize = 90;

/// One thing that is wrong, or a warning.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    message: String,
    help: Option<String>,
    /// Where it is; `None` when no file is to blame.
    at: Option<At>,
}

/// Lines to be shown, and what is underlined in them.
#[derive(Clone, Debug)]
pub(super) struct At {
    source: Excerpts,
    labels: Vec<LabeledSpan>,
    line: usize,
    column: usize,
}

impl At {
    /// A place, underlined.
    pub(super) fn of(place: Place, files: &Files) -> Option<Self> {
        let file = files.get(place.file)?;
        let (line, column) = file.line_and_column(place.start as usize)?;
        let (part, span) = file.excerpt(place.range())?;
        let source = Excerpts { name: file.name.clone(), parts: vec![part] };
        let labels = vec![LabeledSpan::new_primary_with_span(None, span)];
        Some(Self { source, labels, line, column })
    }

    /// Another place in the same file, underlined, too.
    fn add(&mut self, first: Place, other: Place, says: String, files: &Files) {
        let Some(file) = files.get(other.file) else { return };
        let Some((part, span)) = file.excerpt(other.range()) else { return };
        self.labels.push(LabeledSpan::new_with_span(Some(says), span));
        // Lines that follow each other are shown as one piece.
        let both = first.min(other).range().start..first.max(other).range().end;
        let together = (both.len() <= SHOWN_TOGETHER).then(|| file.excerpt(both)).flatten();
        match together {
            Some((both, _)) => self.source.parts = vec![both],
            None => self.source.parts.push(part),
        }
    }
}

impl Problem {
    /// An error that is found only when the model is used.
    pub(super) fn new(message: String, at: Option<At>) -> Self {
        Self { severity: Severity::Error, message: escaped(&message).into_owned(), help: None, at }
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file, and line and column in it, both from 1.
    pub fn place(&self) -> Option<(&Path, usize, usize)> {
        self.at.as_ref().map(|at| (Path::new(&*at.source.name), at.line, at.column))
    }

    /// It in one line, for a log: where it is, what it is, and what to do.
    pub fn one_line(&self) -> impl fmt::Display + '_ {
        OneLine(self)
    }

    /// Whether the configuration can be used all the same.
    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// The problem with the line it is in, for a person to read; with ANSI colours or without.
    pub fn render(&self, colour: bool) -> String {
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_wrap_lines(false)
            .with_context_lines(1)
            .with_links(false);
        let mut text = String::new();
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A problem in one line, for a log: where it is, what it is, and what to do.
struct OneLine<'p>(&'p Problem);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(problem) = self;
        if let Some((path, line, column)) = problem.place() {
            write!(f, "{}:{line}:{column}: ", path.display())?;
        }
        f.write_str(&problem.message)?;
        let help = problem.help.iter().flat_map(|help| help.lines());
        help.enumerate().try_for_each(|(index, line)| {
            write!(f, "{} {line}", if index == 0 { ";" } else { "," })
        })
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(wrapped(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.at.as_ref().map(|at| &at.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.at
            .as_ref()
            .map(|at| Box::new(at.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

/// Lines of at most [`WIDTH`] characters, broken at blanks and never inside of a key.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut filled = String::new();
        for word in line.split(' ') {
            if !filled.is_empty() && filled.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut filled));
            }
            if !filled.is_empty() {
                filled.push(' ');
            }
            filled.push_str(word);
        }
        lines.push(filled);
    }
    lines.join("\n")
}

/// Everything that is wrong with a configuration, file by file and line by line. Never empty.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    problems: Vec<Problem>,
    /// How many more there are.
    more: usize,
}

impl ConfigError {
    /// The errors of a configuration that has some.
    pub(super) fn of(problems: Problems, path: &Path, files: &Files) -> Self {
        let errors = problems.finish(path, files).err();
        errors.unwrap_or_else(|| Self { path: path.to_owned(), problems: Vec::new(), more: 0 })
    }

    /// What is wrong, as far as it stands first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// All of it for a person to read; with ANSI colours or without.
    pub fn render(&self, colour: bool) -> String {
        let mut text: String =
            self.problems.iter().take(SHOWN).map(|problem| problem.render(colour)).collect();
        let more = self.problems.len().saturating_sub(SHOWN) + self.more;
        if more > 0 {
            text.push_str(&format!("... and {more} more\n"));
        }
        text
    }
}

impl fmt::Display for ConfigError {
    /// The number of errors and the first of them, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.problems.first() else {
            return write!(f, "{} cannot be used", self.path.display());
        };
        match first.place() {
            Some((path, line, column)) => {
                write!(f, "{}:{line}:{column}: {first}", path.display())?;
            }
            None => write!(f, "{}: {first}", self.path.display())?,
        }
        match self.problems.len() + self.more {
            0 | 1 => Ok(()),
            count => write!(f, " (the first of {count} errors)"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A problem with a value, before anybody says where the value stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }

    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// The same with words before the message.
    pub(super) fn after(self, words: &str) -> Self {
        Self { message: format!("{words} {}", self.message), ..self }
    }

    /// Somebody writes to a file while it is read.
    pub(super) fn changed(what: &str) -> Self {
        let help = "write a new file beside it and rename that to its name, then try again";
        Self::new(format!("{what} was changed while it was read"), help)
    }
}

/// Another place that belongs to a problem.
type Other = (Place, String);

#[derive(Debug)]
struct Note {
    severity: Severity,
    fault: Fault,
    place: Option<Place>,
    other: Option<Other>,
}

/// Problems as they are found; places become lines and columns at the end.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Notes,
    warnings: Notes,
    /// Where the text is no TOML, so that what the parser made of it means nothing.
    unreadable: HashSet<Place>,
}

/// Problems of one kind: those that stand first.
#[derive(Debug, Default)]
struct Notes {
    notes: Vec<Note>,
    /// How many there were beside them.
    more: usize,
}

impl Notes {
    fn push(&mut self, note: Note) {
        self.notes.push(note);
        if self.notes.len() >= 2 * KEPT {
            self.keep_first();
        }
    }

    fn keep_first(&mut self) {
        self.notes.sort_by_key(|note| note.place);
        self.more += self.notes.len().saturating_sub(KEPT);
        self.notes.truncate(KEPT);
    }

    fn absorb(&mut self, other: Self) {
        self.more += other.more;
        other.notes.into_iter().for_each(|note| self.push(note));
    }
}

impl Problems {
    /// The value at `place` is wrong.
    pub(super) fn error(&mut self, place: Place, fault: Fault) {
        self.push(Severity::Error, Some(place), fault, None);
    }

    /// The text at `place` is no TOML. Nothing else is said of it.
    pub(super) fn unreadable(&mut self, place: Place, fault: Fault) {
        self.error(place, fault);
        self.unreadable.insert(place);
    }

    /// The value at `place` is wrong because of another.
    pub(super) fn conflict(&mut self, place: Place, fault: Fault, other: Place, says: &str) {
        self.push(Severity::Error, Some(place), fault, Some((other, says.to_owned())));
    }

    /// The value at `place` is wrong, or only doubtful where the file is taken all the same.
    pub(super) fn error_or(&mut self, doubtful: bool, place: Place, fault: Fault) {
        let severity = if doubtful { Severity::Warning } else { Severity::Error };
        self.push(severity, Some(place), fault, None);
    }

    /// The same because of another value.
    pub(super) fn conflict_or(
        &mut self,
        doubtful: bool,
        place: Place,
        fault: Fault,
        (other, says): (Place, &str),
    ) {
        let severity = if doubtful { Severity::Warning } else { Severity::Error };
        self.push(severity, Some(place), fault, Some((other, says.to_owned())));
    }

    /// The value at `place` can be used, but is perhaps not what is meant.
    pub(super) fn warn(&mut self, place: Place, fault: Fault) {
        self.push(Severity::Warning, Some(place), fault, None);
    }

    /// The same, because of another value.
    pub(super) fn warn_of(&mut self, place: Place, fault: Fault, other: Place, says: &str) {
        self.push(Severity::Warning, Some(place), fault, Some((other, says.to_owned())));
    }

    /// No line is to blame.
    pub(super) fn general(&mut self, fault: Fault) {
        self.push(Severity::Error, None, fault, None);
    }

    /// Takes a value, or notes what is wrong with it.
    pub(super) fn keep<T>(&mut self, place: Place, value: Result<T, Fault>) -> Option<T> {
        value.map_err(|fault| self.error(place, fault)).ok()
    }

    /// Adds what was found elsewhere.
    pub(super) fn absorb(&mut self, other: Self) {
        self.errors.absorb(other.errors);
        self.warnings.absorb(other.warnings);
        self.unreadable.extend(other.unreadable);
    }

    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.notes.is_empty() && self.warnings.notes.is_empty()
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.notes.is_empty()
    }

    fn push(
        &mut self,
        severity: Severity,
        place: Option<Place>,
        fault: Fault,
        other: Option<Other>,
    ) {
        if place.is_some_and(|place| self.unreadable.contains(&place)) {
            return;
        }
        let notes = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning | Severity::Advice => &mut self.warnings,
        };
        notes.push(Note { severity, fault, place, other });
    }

    /// The warnings and how many more there are, or the errors if there are any.
    pub(super) fn finish(
        self,
        path: &Path,
        files: &Files,
    ) -> Result<(Vec<Problem>, usize), ConfigError> {
        let wrong = self.has_errors();
        let mut notes = if wrong { self.errors } else { self.warnings };
        notes.keep_first();
        let Notes { notes, more } = notes;
        let problems = notes.into_iter().map(|note| note.resolve(files)).collect();
        if wrong {
            Err(ConfigError { path: path.to_owned(), problems, more })
        } else {
            Ok((problems, more))
        }
    }
}

impl Note {
    fn resolve(self, files: &Files) -> Problem {
        let mut problem = Problem {
            severity: self.severity,
            message: escaped(&self.fault.message).into_owned(),
            help: self.fault.help.map(|help| escaped(&help).into_owned()),
            at: None,
        };
        let Some(place) = self.place else { return problem };
        match files.live_host(place) {
            Some(host) => problem.message = format!("{host}: {}", problem.message),
            None => problem.at = At::of(place, files),
        }
        match (self.other, &mut problem.at) {
            (Some((other, says)), Some(at)) if other.file == place.file => {
                at.add(place, other, says, files);
            }
            // A report shows one file, so a place in another is told in words.
            (Some((other, says)), _) => {
                let told = format!("{says}: {}", files.describe(other));
                problem.help = Some(match problem.help {
                    Some(help) => format!("{help}\n{told}"),
                    None => told,
                });
            }
            (None, _) => {}
        }
        problem
    }
}
