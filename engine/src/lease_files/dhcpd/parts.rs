//! Statements of dhcpd's language by their parts, for others than lease files.

use super::tokens::{End, Kind, Statements};

/// How a statement ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum StatementEnd {
    /// With `;`.
    Statement,
    /// With `{`.
    Open,
    /// With `}`: nothing stands before it.
    Close,
    /// With the text.
    File,
}

/// A part of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StatementPart {
    /// A name, a number, an address, bytes.
    Word(String),
    /// What stood in quotes.
    Text(Vec<u8>),
    /// `,` or `=`.
    Mark(u8),
}

impl StatementPart {
    /// The word; empty for what is none.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Text(_) | Self::Mark(_) => "",
        }
    }

    /// The part for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) => format!("\"{}\"", text.escape_ascii()),
            Self::Mark(mark) => char::from(*mark).to_string(),
        }
    }
}

/// Hands over each statement of a text.
///
/// # Errors
/// What is no statement, and what `each` says.
pub(crate) fn statements(
    text: &[u8],
    mut each: impl FnMut(&[StatementPart], StatementEnd) -> Result<(), String>,
) -> Result<(), String> {
    let mut statements = Statements::new(text);
    loop {
        let end = statements.next().map_err(|wrong| wrong.what)?;
        let now = &statements.now;
        let parts: Vec<StatementPart> = now
            .parts()
            .map(|(kind, bytes)| match kind {
                Kind::Word => StatementPart::Word(String::from_utf8_lossy(bytes).into_owned()),
                Kind::Text => StatementPart::Text(bytes.to_vec()),
                Kind::Mark => StatementPart::Mark(bytes.first().copied().unwrap_or_default()),
            })
            .collect();
        let ended = match end {
            End::Statement => StatementEnd::Statement,
            End::Open => StatementEnd::Open,
            End::Close => StatementEnd::Close,
            End::File => StatementEnd::File,
        };
        if end == End::File && !now.began() {
            return Ok(());
        }
        each(&parts, ended)?;
        if end == End::File {
            return Ok(());
        }
    }
}
