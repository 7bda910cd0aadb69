//! Texts that are nearly right: pieces of good ones, damaged.

use std::path::Path;

use crate::random::Random;

/// The longest text that is made, in bytes.
const LONGEST: usize = 256 << 10;
/// So much of a good text is taken at most.
const WINDOW: usize = 16 << 10;

/// Values at which readers break.
const VALUES: [&str; 24] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "99999999999999999999999",
    "0.0.0.0",
    "255.255.255.255",
    "10.0.0.0/0",
    "10.0.0.0/33",
    "\"\"",
    "\"\\000\"",
    "ff:ff:ff:ff:ff:ff",
    "::",
    "{",
    "}",
    ";",
    "\"",
    "#",
];

/// Good texts, and the words in them.
#[derive(Debug)]
pub(crate) struct Good {
    texts: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Good {
    pub(crate) fn of(texts: Vec<Vec<u8>>) -> Self {
        let ends = |byte: &u8| matches!(byte, b' ' | b'\n' | b';' | b'=' | b',');
        let words = texts.iter().flat_map(|text| text.split_inclusive(ends));
        let mut words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
        words.sort_unstable();
        words.dedup();
        Self { texts, words }
    }

    /// Every file of this repository in a directory, with one of these endings.
    pub(crate) fn in_directory(directory: &str, endings: &[&str]) -> Vec<Vec<u8>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
        let mut paths: Vec<_> = std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
            .collect();
        paths.sort();
        paths.iter().flat_map(std::fs::read).collect()
    }

    /// A damaged text.
    pub(crate) fn damaged(&self, random: &mut Random) -> Vec<u8> {
        let mut text = self.piece(random);
        for _ in 0..random.below(3) {
            text.extend(self.piece(random));
        }
        for _ in 0..1 + random.below(8) {
            self.damage(&mut text, random);
            text.truncate(LONGEST);
        }
        text
    }

    /// A good text, or a part of a long one.
    fn piece(&self, random: &mut Random) -> Vec<u8> {
        let Some(text) = random.one(&self.texts) else { return Vec::new() };
        let from = if text.len() > WINDOW { random.below(text.len() - WINDOW) } else { 0 };
        text[from..text.len().min(from + WINDOW)].to_vec()
    }

    fn damage(&self, text: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(text.len() + 1);
        let end = (at + 1 + random.below(200)).min(text.len()).max(at);
        let part = text[at..end].to_vec();
        let insert =
            |text: &mut Vec<u8>, new: &[u8]| drop(text.splice(at..at, new.iter().copied()));
        match random.below(10) {
            0 => drop(text.drain(at..end)),
            1 => insert(text, &part),
            2 => {
                let some = random.one(&self.words).cloned().unwrap_or_default();
                insert(text, &some);
            }
            3 => {
                let value = random.one(&VALUES).copied().unwrap_or_default();
                insert(text, format!(" {value} ").as_bytes());
            }
            4 if at < text.len() => text[at] ^= 1 << random.below(8),
            5 => {
                let count = random.below(20);
                insert(text, &random.bytes(count));
            }
            6 => text.truncate(at),
            // Nested as deep as this, or as often in a row.
            7 => {
                let word = random.one(&self.words).cloned().unwrap_or_default();
                let count = 1 << random.below(13);
                insert(text, &word.repeat(count));
            }
            8 => {
                let count = 1 << random.below(10);
                insert(text, &part.repeat(count));
            }
            _ => {
                let other = random.below(text.len() + 1);
                drop(text.splice(other..other, part));
            }
        }
    }
}
