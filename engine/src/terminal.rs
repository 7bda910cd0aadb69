//! Text of files, on its way to a terminal or a log.

use std::borrow::Cow;

/// Whether a terminal takes a character for a command, or shows the text around it in another
/// order. Tabs and ends of lines are neither.
pub fn is_command(character: char) -> bool {
    let reorders = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    reorders || (character.is_control() && !matches!(character, '\n' | '\t'))
}

/// A text with escapes for what a terminal would take for commands.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match is_command(character) {
            true => escaped.extend(character.escape_unicode()),
            false => escaped.push(character),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn commands_to_a_terminal_are_escaped() {
        assert_eq!(
            escaped("a\x1b[31m\r\u{9b}2J\u{202e}\x07"),
            "a\\u{1b}[31m\\u{d}\\u{9b}2J\\u{202e}\\u{7}"
        );
        assert_eq!(escaped("Stra\u{df}e\t1\n2"), "Stra\u{df}e\t1\n2");
    }
}
