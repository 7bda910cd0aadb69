//! A small reader of XML, as strict as is needed to trust a page: every element closed in its
//! order, every attribute quoted and given once, no bare `<`, `&` or control character.

/// The names of all elements in the order in which they open.
pub(crate) fn elements(page: &str) -> Result<Vec<String>, String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    let (mut open, mut seen) = (Vec::<String>::new(), Vec::new());
    if let Some(letter) = page.chars().find(|letter| letter.is_control() && *letter != '\n') {
        return Err(format!("control character {letter:?}"));
    }
    while let Some(start) = rest.find('<') {
        text(&rest[..start])?;
        let here: String = rest[start..].chars().take(60).collect();
        let (tag, after) =
            rest[start + 1..].split_once('>').ok_or_else(|| format!("no end of {here}"))?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("{here} closes something else"));
            }
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let letters = name.chars().all(|letter| letter.is_ascii_alphanumeric());
        if !letters || !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return Err(format!("{here} is no element"));
        }
        self::attributes(attributes).map_err(|error| format!("{here}: {error}"))?;
        seen.push(name.to_owned());
        if !empty {
            open.push(name.to_owned());
        }
    }
    text(rest)?;
    if open.is_empty() { Ok(seen) } else { Err(format!("left open: {open:?}")) }
}

fn attributes(mut rest: &str) -> Result<(), String> {
    let mut names = Vec::new();
    while !rest.trim_start().is_empty() {
        let (name, after) =
            rest.trim_start().split_once("=\"").ok_or_else(|| format!("odd attribute {rest}"))?;
        let (value, after) = after.split_once('"').ok_or("open attribute")?;
        if names.contains(&name)
            || !name.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '-')
        {
            return Err(format!("attribute {name}"));
        }
        if value.contains('<') {
            return Err(format!("markup in {name}"));
        }
        text(value)?;
        names.push(name);
        rest = after;
    }
    Ok(())
}

fn text(text: &str) -> Result<(), String> {
    for part in text.split('&').skip(1) {
        if !["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| part.starts_with(known)) {
            return Err(format!("bare & before {}", part.chars().take(20).collect::<String>()));
        }
    }
    Ok(())
}

#[test]
fn the_checker_finds_faults() {
    assert!(elements("<!DOCTYPE html><a><b c=\"1\"/>x &lt;</a>").is_ok());
    for wrong in [
        "<a><b></a></b>",
        "<a>",
        "<a b=c></a>",
        "<a b=\"1\" b=\"2\"/>",
        "a & b",
        "<1/>",
        "<a b=\"<\"/>",
    ] {
        assert!(elements(&format!("<!DOCTYPE html>{wrong}")).is_err(), "{wrong}");
    }
}
