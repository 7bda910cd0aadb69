//! The files of a configuration, and places in them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::Line;
use crate::live_hosts;
use crate::terminal::{escaped, is_command};

/// A stretch of text in one of the files, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    /// Index into [`Files`].
    pub(super) file: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Place {
    /// Some bytes of a file. Files above 4 GiB are refused before they are read.
    pub(super) fn of(file: u32, range: Range<usize>) -> Self {
        let clip = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: clip(range.start), end: clip(range.end) }
    }

    /// The whole of a line that begins at byte `start`, without its end.
    pub(super) fn of_line(file: u32, start: usize, line: &str) -> Self {
        Self::of(file, start..start + line.trim_end().len())
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
    /// Where the text comes from when it is wanted and not in memory.
    origin: Option<(PathBuf, FileState)>,
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

/// Opens an ordinary file: a device could go on for ever, and to open a pipe waits.
pub(super) fn open(path: &Path) -> io::Result<(File, FileState)> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    let file = File::open(path)?;
    let state = FileState::of(&file)?;
    Ok((file, state))
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
    /// That of the live hosts. Nobody writes it by hand, and with its journal its text is in no
    /// file: places in it are told by their host.
    pub(super) live: Option<u32>,
}

impl Files {
    /// Takes a file in, unless it is too large for its places to be counted in 32 bits or there
    /// are too many; then says so. With the state that the file had before it was read, its text
    /// can be dropped.
    pub(super) fn add(
        &mut self,
        path: PathBuf,
        text: String,
        state: Option<FileState>,
    ) -> Result<u32, String> {
        let length = text.len() as u64;
        self.push(path, length, OnceCell::from(Some(text)), state)
    }

    /// The same for a file whose text is not kept, but read again if a place in it is to be told.
    pub(super) fn add_unread(&mut self, path: PathBuf, state: FileState) -> Result<u32, String> {
        self.push(path, state.length, OnceCell::new(), Some(state))
    }

    fn push(
        &mut self,
        path: PathBuf,
        length: u64,
        text: OnceCell<Option<String>>,
        state: Option<FileState>,
    ) -> Result<u32, String> {
        let name = escaped(&path.display().to_string()).into_owned();
        if u32::try_from(length).is_err() {
            return Err(format!("{name} is larger than 4 GiB"));
        }
        let id = u32::try_from(self.files.len()).map_err(|_| "too many files".to_owned())?;
        let origin = state.map(|state| (path.clone(), state));
        self.files.push(SourceFile { name: name.into(), text, origin, lines: OnceCell::new() });
        self.paths.push(path);
        Ok(id)
    }

    pub(super) fn get(&self, file: u32) -> Option<&SourceFile> {
        self.files.get(file as usize)
    }

    /// A path that is written at a place: unless it is absolute it begins beside that file.
    pub(super) fn beside(&self, place: Place, path: &Path) -> PathBuf {
        let directory = self.paths.get(place.file as usize).and_then(|file| file.parent());
        directory.unwrap_or(Path::new("")).join(path)
    }

    /// Drops the text of a file, if it can be read again.
    pub(super) fn drop_text(&mut self, file: u32) {
        if let Some(file) = self.files.get_mut(file as usize)
            && file.origin.is_some()
        {
            file.text = OnceCell::new();
        }
    }

    /// The line of a place, for the model. `None` where nobody knows any more.
    pub(super) fn line(&self, place: Place) -> Option<Line> {
        let (line, _) = self.get(place.file)?.line_and_column(place.start as usize)?;
        Some(Line { file: place.file, line: u32::try_from(line).ok()? })
    }

    /// The live host that a place belongs to, in words.
    pub(super) fn live_host(&self, place: Place) -> Option<String> {
        let file = self.live.filter(|live| *live == place.file)?;
        let name = live_hosts::name_at(self.get(file)?.text()?, place.start as usize)?;
        Some(format!("live host `{}`", escaped(&name)))
    }

    /// `name:line:column` of a place.
    pub(super) fn describe(&self, place: Place) -> String {
        if let Some(host) = self.live_host(place) {
            return host;
        }
        let Some(file) = self.get(place.file) else { return String::new() };
        match file.line_and_column(place.start as usize) {
            Some((line, column)) => format!("{}:{line}:{column}", file.name),
            None => file.name.to_string(),
        }
    }
}

impl SourceFile {
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.text.get_or_init(|| {
            let origin = Origin::of(self)?;
            let bytes = origin.read(0..usize::try_from(origin.state.length).ok()?)?;
            Some(as_text(bytes))
        });
        text.as_deref()
    }

    /// Its text, to be read some at a time unless it is in memory. `None` where the file has
    /// changed since it was read.
    pub(super) fn window(&self) -> Option<Window<'_>> {
        let (origin, text) = match self.text.get() {
            Some(text) => (None, text.as_deref()?),
            None => (Some(Origin::of(self)?), ""),
        };
        Some(Window { origin, start: 0, text: text.into(), read: 0 })
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
        let excerpt = Excerpt {
            text: shown_as(&text[start..shown]),
            start,
            line: line - 1,
            column: column - 1,
        };
        Some((excerpt, (from, to - from).into()))
    }
}

/// The bytes of a file as a text, with a `?` for each byte that is not UTF-8: places behind them
/// stay what they are.
pub(super) fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::with_capacity(error.as_bytes().len());
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        text
    })
}

/// A text with another character, as long in bytes, for each that a terminal would take for a
/// command: places in the text stay what they are.
fn shown_as(text: &str) -> Box<str> {
    let shown = |(at, character): (usize, char)| match (is_command(character), character) {
        (false, _) => character,
        // The end of a line in files of Windows.
        (_, '\r') if matches!(text.as_bytes().get(at + 1), None | Some(b'\n')) => character,
        _ => match character.len_utf8() {
            1 => '?',
            2 => '\u{bf}',
            _ => char::REPLACEMENT_CHARACTER,
        },
    };
    text.char_indices().map(shown).collect()
}

/// An open file that is what it was.
#[derive(Debug)]
struct Origin {
    file: File,
    state: FileState,
}

impl Origin {
    fn of(source: &SourceFile) -> Option<Self> {
        let (path, state) = source.origin.as_ref()?;
        let (file, now) = open(path).ok()?;
        (now == *state).then_some(Self { file, state: now })
    }

    fn read(&self, range: Range<usize>) -> Option<Vec<u8>> {
        let mut bytes = vec![0; range.len()];
        self.file.read_exact_at(&mut bytes, range.start as u64).ok()?;
        (FileState::of(&self.file).ok()? == self.state).then_some(bytes)
    }
}

/// Lines of a file that are in memory: all of them, or some at a time.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// `None` where all are.
    origin: Option<Origin>,
    /// Where the text begins in the file.
    start: usize,
    text: Cow<'a, str>,
    /// How many bytes were read for it.
    read: usize,
}

impl Window<'_> {
    /// The text from a byte on, as far as it is here, and whether that is to the end of the file.
    pub(super) fn from(&self, start: usize) -> (&str, bool) {
        let text = start.checked_sub(self.start).and_then(|skipped| self.text.get(skipped..));
        let Some(text) = text else { return ("", false) };
        let length = self.origin.as_ref().map(|origin| origin.state.length);
        let end = (start + text.len()) as u64;
        (text, length.is_none_or(|length| length == end))
    }

    /// Reads lines from the beginning of one on: `length` bytes and more each time, less the last
    /// line unless it is whole. `None` where the file has changed or has no more.
    pub(super) fn read(&mut self, start: usize, length: usize) -> Option<()> {
        let origin = self.origin.as_ref()?;
        let rest = usize::try_from(origin.state.length).ok()?.checked_sub(start)?;
        let before = if start == self.start { self.read } else { 0 };
        if before >= rest {
            return None;
        }
        let length = length.max(2 * before).min(rest);
        let mut bytes = origin.read(start..start + length)?;
        if length < rest {
            let newline = bytes.iter().rposition(|&byte| byte == b'\n');
            bytes.truncate(newline.map_or(0, |newline| newline + 1));
        }
        let text = String::from_utf8(bytes).ok()?;
        (self.start, self.text, self.read) = (start, text.into(), length);
        Some(())
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
