//! Reading the quirks of `[tftp]`: `quirks-on`, `quirks-off` and `[[tftp.quirk]]`.

use super::fields::Fields;
use super::problem::{Fault, Problems};
use super::source::Place;
use super::tree::{Node, Value};
use super::{schema, units};
use crate::quirks::{BUILT_IN, BuiltIn, MAX_NAME, MAX_QUIRKS, Quirk, Quirks, TftpOption};

/// The keys of a quirk that change something.
const CHANGES: &[&str] =
    &["max-blksize", "max-windowsize", "ignore-options", "min-retry", "reply-delay"];

/// The quirks in force: the built-in ones as they are switched, then those of the file.
pub(super) fn quirks(fields: &mut Fields, problems: &mut Problems) -> Quirks {
    let on = fields.list("quirks-on", problems, built_in);
    let off = fields.list("quirks-off", problems, built_in);
    for (quirk, place) in &off {
        if let Some((_, first)) = on.iter().find(|(other, _)| other.name == quirk.name) {
            let fault = Fault::new(
                format!("quirk `{}` is switched on and off", quirk.name),
                "leave one of the two out",
            );
            problems.conflict(*place, fault, *first, "it is switched on here");
        }
    }
    let named = |list: &[(&BuiltIn, Place)], quirk: &BuiltIn| {
        list.iter().any(|(other, _)| other.name == quirk.name)
    };
    let known =
        BUILT_IN.iter().filter(|quirk| (quirk.on || named(&on, quirk)) && !named(&off, quirk));
    let mut list: Vec<Quirk> = known.map(BuiltIn::quirk).collect();
    let mut places: Vec<(Box<str>, Place)> = Vec::new();
    for mut fields in fields.tables("quirk", &schema::QUIRK, problems) {
        let Some((quirk, place)) = quirk(&mut fields, problems) else { continue };
        if let Some((_, first)) = places.iter().find(|(name, _)| *name == quirk.name) {
            let fault = Fault::new(
                format!("there are two quirks with the name `{}`", quirk.name),
                "metrics and log tell quirks by their names: give one of them another",
            );
            problems.conflict(place, fault, *first, "the other is here");
        }
        places.push((quirk.name.clone(), place));
        list.push(quirk);
        if list.len() == MAX_QUIRKS + 1 {
            let text = format!("more than {MAX_QUIRKS} quirks are in force");
            let help = "join quirks that do the same: each takes lists of vendor classes and of \
                        hardware addresses";
            problems.error(place, Fault::new(text, help));
        }
    }
    Quirks::new(list)
}

/// A built-in quirk by its name.
fn built_in(node: &Node) -> Result<&'static BuiltIn, Fault> {
    let name = units::text(node)?;
    BUILT_IN.iter().find(|quirk| quirk.name == name).ok_or_else(|| {
        let names: Vec<&str> = BUILT_IN.iter().map(|quirk| quirk.name).collect();
        let near = schema::nearest(name, names.iter().copied());
        let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        Fault::new(
            format!("names a built-in quirk, and there is no `{name}`"),
            format!("{near}they are {}", names.join(", ")),
        )
    })
}

fn quirk(fields: &mut Fields, problems: &mut Problems) -> Option<(Quirk, Place)> {
    fn values<T>(placed: Vec<(T, Place)>) -> Vec<T> {
        placed.into_iter().map(|(value, _)| value).collect()
    }
    let name = fields.require("name", "\"old-blades\"", problems, name);
    let given = |fields: &Fields, keys: &[&str]| {
        let empty = |node: &Node| matches!(&node.value, Value::Array(nodes) if nodes.is_empty());
        keys.iter().any(|key| fields.peek(key).is_some_and(|node| !empty(node)))
    };
    if !given(fields, &["vendor-class", "mac-prefix"]) {
        let help = "say which machines have it: vendor-class = \"PXEClient:Arch:00000\", or \
                    mac-prefix = \"00:1a:64\"; for all machines there are the keys of [tftp]";
        problems.error(fields.place, Fault::new("this quirk is no machine's", help));
    }
    if !given(fields, CHANGES) {
        let help = format!("add one of {}", CHANGES.join(", "));
        problems.error(fields.place, Fault::new("this quirk changes nothing", help));
    }
    let vendor_class = values(fields.list("vendor-class", problems, units::octets));
    let mac_prefix = values(fields.list("mac-prefix", problems, units::hardware));
    // RFC 2348: 8 to 65464.
    let max_blksize = fields.get("max-blksize", problems, |node| units::integer(node, 8..=65464));
    let max_windowsize =
        fields.get("max-windowsize", problems, |node| units::integer(node, 1..=u16::MAX));
    let ignore_options = values(fields.list("ignore-options", problems, options)).concat();
    let min_retry = fields.get("min-retry", problems, units::retry_interval);
    let reply_delay = fields.get("reply-delay", problems, units::reply_delay);
    let (name, place) = name?;
    let quirk = Quirk {
        name,
        vendor_class,
        mac_prefix,
        max_blksize,
        max_windowsize,
        ignore_options,
        min_retry,
        reply_delay,
    };
    Some((quirk, place))
}

fn name(node: &Node) -> Result<Box<str>, Fault> {
    let name = units::text(node)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > MAX_NAME || !name.chars().all(plain) {
        let what = format!("a name of at most {MAX_NAME} letters, digits, `-`, `_` and `.`");
        return Err(units::must_be(&what, node, "write \"old-blades\""));
    }
    if BUILT_IN.iter().any(|quirk| quirk.name == name) {
        let help = format!("give it another; quirks-off = [\"{name}\"] switches the other off");
        return Err(units::must_be("a name that no built-in quirk has", node, &help));
    }
    Ok(name.into())
}

/// One option, or all of them.
fn options(node: &Node) -> Result<Vec<TftpOption>, Fault> {
    let all = [("all", None)];
    let each = TftpOption::ALL.map(|(name, option)| (name, Some(option)));
    let words: Vec<_> = each.into_iter().chain(all).collect();
    let every = || TftpOption::ALL.into_iter().map(|(_, option)| option).collect();
    Ok(units::word(node, &words)?.map_or_else(every, |option| vec![option]))
}
