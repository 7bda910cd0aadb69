//! The files of a configuration, and places in them.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A stretch of text in one of the files, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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

    /// The place without its file.
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end.max(self.start) as usize
    }
}

/// So many bytes of a file are counted at once when the line of a place is looked for.
const BLOCK: usize = 4096;

/// So much of a place is shown at most, and of its line before and behind it.
const SHOWN: usize = 1000;

/// One file, as it was read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Where it was read from, as a person would write it.
    pub(super) name: Arc<str>,
    /// `None` where the file has changed since it was read.
    text: OnceCell<Option<String>>,
    /// Where the text comes from when a place in it is told.
    unread: Option<(File, FileState)>,
    /// How many lines end before each block; counted when the first place is looked for.
    lines: OnceCell<Vec<usize>>,
}

/// What differs once a file is written to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct FileState {
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    pub(super) fn length(self) -> u64 {
        self.length
    }
}

/// A piece of a file that a problem shows: whole lines, unless they are long. It owns its text:
/// warnings stay as long as their configuration, and files of many hosts are large.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    text: Box<str>,
    /// Where it begins in the file: the byte, and line and column from 0.
    start: usize,
    line: usize,
    column: usize,
}

/// What a problem shows of its file.
#[derive(Clone, Debug)]
pub(super) struct Excerpts {
    /// The file.
    pub(super) name: Arc<str>,
    pub(super) parts: Vec<Excerpt>,
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
        let length = text.len() as u64;
        self.push(path, length, OnceCell::from(Some(text)), None)
    }

    /// The same for a file whose text is not kept, but read again if a place in it is to be told.
    pub(super) fn add_unread(
        &mut self,
        path: PathBuf,
        file: File,
        state: FileState,
    ) -> Result<u32, String> {
        self.push(path, state.length, OnceCell::new(), Some((file, state)))
    }

    fn push(
        &mut self,
        path: PathBuf,
        length: u64,
        text: OnceCell<Option<String>>,
        unread: Option<(File, FileState)>,
    ) -> Result<u32, String> {
        let name = path.display().to_string();
        if u32::try_from(length).is_err() {
            return Err(format!("{name} is larger than 4 GiB"));
        }
        let id = u32::try_from(self.files.len()).map_err(|_| "too many files".to_owned())?;
        self.files.push(SourceFile { name: name.into(), text, unread, lines: OnceCell::new() });
        self.paths.push(path);
        Ok(id)
    }

    pub(super) fn get(&self, place: Place) -> Option<&SourceFile> {
        self.files.get(place.file as usize)
    }

    /// A path that is written at a place: unless it is absolute it begins beside that file.
    pub(super) fn beside(&self, place: Place, path: &Path) -> PathBuf {
        let directory = self.paths.get(place.file as usize).and_then(|file| file.parent());
        directory.unwrap_or(Path::new("")).join(path)
    }

    /// The text of a file.
    pub(super) fn text(&self, file: u32) -> Option<&str> {
        self.files.get(file as usize)?.text()
    }

    /// `name:line:column` of a place.
    pub(super) fn describe(&self, place: Place) -> String {
        let Some(file) = self.get(place) else { return String::new() };
        match file.line_and_column(place.start as usize) {
            Some((line, column)) => format!("{}:{line}:{column}", file.name),
            None => file.name.to_string(),
        }
    }
}

impl SourceFile {
    fn text(&self) -> Option<&str> {
        let text = self.text.get_or_init(|| {
            let (file, state) = self.unread.as_ref()?;
            let mut bytes = vec![0; usize::try_from(state.length).ok()?];
            file.read_exact_at(&mut bytes, 0).ok()?;
            let same = FileState::of(file).ok()? == *state;
            same.then(|| String::from_utf8_lossy(&bytes).into_owned())
        });
        text.as_deref()
    }

    /// Line and column of a byte, both from 1; the column counts characters. `None` where nobody
    /// knows any more.
    pub(super) fn line_and_column(&self, offset: usize) -> Option<(usize, usize)> {
        let text = self.text()?;
        let offset = text.floor_char_boundary(offset);
        let count = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
        let blocks = self.lines.get_or_init(|| {
            let blocks = text.as_bytes().chunks(BLOCK);
            let before = blocks.scan(0, |before, block| {
                let own = *before;
                *before += count(block);
                Some(own)
            });
            before.collect()
        });
        let line = line_start(text, offset);
        let block = line / BLOCK;
        let before = blocks.get(block).copied().unwrap_or_default();
        let lines = before + count(&text.as_bytes()[(block * BLOCK).min(line)..line]);
        Some((lines + 1, text[line..offset].chars().count() + 1))
    }

    /// The lines of a stretch of text, and how much of it is shown.
    pub(super) fn excerpt(&self, span: Range<usize>) -> Option<(Excerpt, SourceSpan)> {
        let text = self.text()?;
        let boundary = |from: usize| text.ceil_char_boundary(from.min(text.len()));
        let from = boundary(span.start);
        let to = boundary(span.end.min(from + SHOWN)).max(from);
        let start = boundary(line_start(text, from).max(from.saturating_sub(SHOWN)));
        let line_end = to + text[to..].find('\n').unwrap_or(text.len() - to);
        let shown = boundary(line_end.min(to + SHOWN));
        let (line, column) = self.line_and_column(start)?;
        let excerpt =
            Excerpt { text: text[start..shown].into(), start, line: line - 1, column: column - 1 };
        Some((excerpt, (from, to - from).into()))
    }
}

/// Where the line of a place begins.
fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

impl SourceCode for Excerpts {
    /// The excerpt that a span stands in, or the span alone where no context is wanted.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_before: usize,
        context_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.parts.iter().find_map(|part| {
            let start = span.offset().checked_sub(part.start)?;
            Some((part, part.text.get(..start)?, part.text.get(start..start + span.len())?))
        });
        let Some((part, before, inside)) = found else { return Err(MietteError::OutOfBounds) };
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let exact = context_before + context_after == 0;
        let (from, to, column) = if exact {
            let column = before[line_start..].chars().count();
            let column = if line_start == 0 { part.column + column } else { column };
            (before.len(), before.len() + inside.len(), column)
        } else {
            let end = before.len() + inside.len();
            let rest = part.text[end..].find('\n').unwrap_or(part.text.len() - end);
            (line_start, end + rest, 0)
        };
        let text = &part.text[from..to];
        let start = part.start + from;
        let line = part.line + before.matches('\n').count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_string(),
            text.as_bytes(),
            (start, text.len()).into(),
            line,
            column,
            inside.matches('\n').count() + 1,
        )))
    }
}
