//! Telling dhcpd's language from TOML, by what is written.

use super::super::expression::{Token, Tokens};
use super::table;

/// Whether a text is in dhcpd's language. It is if it begins with one of its statements, or with
/// words that end in `;` or `{` as its statements do. In TOML a key has a `=` behind it.
pub(in crate::config) fn is_dhcpd(text: &str) -> bool {
    let mut tokens = Tokens::new(text.trim_start_matches('\u{feff}'));
    let mut next = || tokens.next().ok().map(|(token, _)| token);
    let Some(first) = next() else { return false };
    let Some(word) = first.word() else { return false };
    let Some(second) = next() else { return false };
    match second {
        // No parameter of dhcpd is a key of the top level.
        Token::Symbol('=') => return table::parameter(word).is_some(),
        Token::Symbol('.') | Token::End => return false,
        _ => {}
    }
    if table::statement(word).or_else(|| table::parameter(word)).is_some() || first.is_word("not") {
        return true;
    }
    // A mistake in the first word is not told as one of TOML.
    let mut token = Some(second);
    for _ in 0..16 {
        match token {
            Some(Token::Symbol(';' | '{')) => return true,
            Some(Token::Symbol('=')) | Some(Token::End) | None => return false,
            _ => token = next(),
        }
    }
    false
}
