//! The files of a configuration, and places in them.

use std::path::PathBuf;
use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A stretch of text in one of the files, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// Index into [`Files`].
    pub(super) file: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Place {
    /// The whole of a line that begins at byte `start`, without its end.
    pub(super) fn of_line(file: u32, start: usize, line: &str) -> Self {
        let clip = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: clip(start), end: clip(start + line.trim_end().len()) }
    }

    /// The place without its file, clear of the end of the text.
    pub(super) fn span(self) -> SourceSpan {
        (self.start as usize, self.end.saturating_sub(self.start) as usize).into()
    }
}

/// One file, as it was read. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Where it was read from, as a person would write it.
    pub(super) name: Arc<str>,
    pub(super) text: Arc<String>,
}

/// Every file of a configuration, the first one the file that was asked for.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) files: Vec<SourceFile>,
    /// The same files, as paths.
    pub(super) paths: Vec<PathBuf>,
}

impl Files {
    /// Takes a file in, unless it is too large for its places to be counted in 32 bits or there
    /// are too many; then says so.
    pub(super) fn add(&mut self, path: PathBuf, text: String) -> Result<u32, String> {
        let name = path.display().to_string();
        if u32::try_from(text.len()).is_err() {
            return Err(format!("{name} is larger than 4 GiB"));
        }
        let id = u32::try_from(self.files.len()).map_err(|_| "too many files".to_owned())?;
        self.files.push(SourceFile { name: name.into(), text: Arc::new(text) });
        self.paths.push(path);
        Ok(id)
    }

    pub(super) fn get(&self, place: Place) -> Option<&SourceFile> {
        self.files.get(place.file as usize)
    }

    /// The text of a file.
    pub(super) fn text(&self, file: u32) -> Option<&str> {
        self.files.get(file as usize).map(|file| file.text.as_str())
    }

    /// `name:line:column` of a place.
    pub(super) fn describe(&self, place: Place) -> String {
        self.get(place).map_or_else(String::new, |file| {
            let (line, column) = file.line_and_column(place.start as usize);
            format!("{}:{line}:{column}", file.name)
        })
    }
}

impl SourceFile {
    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let lines = before.bytes().filter(|&byte| byte == b'\n').count();
        (lines + 1, before[line_start..].chars().count() + 1)
    }
}

impl SourceCode for SourceFile {
    /// The whole lines that a span stands in, or the span alone where no context is wanted. The
    /// stock implementation walks the whole file byte by byte for each problem, and files of two
    /// hundred thousand hosts have twenty megabytes.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_before: usize,
        context_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (start, end) = (span.offset(), span.offset() + span.len());
        let (Some(before), Some(inside), Some(after)) =
            (self.text.get(..start), self.text.get(start..end), self.text.get(end..))
        else {
            return Err(MietteError::OutOfBounds);
        };
        let (line, column) = self.line_and_column(start);
        let exact = context_before + context_after == 0;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = end + after.find('\n').unwrap_or(after.len());
        let (from, to, column) =
            if exact { (start, end, column - 1) } else { (line_start, line_end, 0) };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_string(),
            self.text[from..to].as_bytes(),
            (from, to - from).into(),
            line - 1,
            column,
            inside.matches('\n').count() + 1,
        )))
    }
}
