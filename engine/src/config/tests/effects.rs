//! `set`, `add-class`, `switch` and `on`, as TOML has them.

use std::path::Path;

use bumpalo::Bump;

use super::super::*;
use super::{Client, good};

const TEXT: &str = r#"
[dhcp]
set = { Kind = 'substring(option host-name, 0, 2)', number = 3 }

[[dhcp.class]]
name = "late"
test = 'option host-name = "nobody"'
options = { nis-domain = "late" }

[[dhcp.subnet]]
subnet = "10.0.0.0/8"

[[dhcp.subnet.switch]]
value = 'kind'
case = [
  { is = "ab", options = { domain-name = "ab" }, fall-through = true },
  { is = ["cd", "hex:6566"], options = { root-path = "cd" }, add-class = "late" },
  { is = "gh", options = { root-path = "gh" } },
]
default = { options = { root-path = "none" } }

[[dhcp.subnet.switch]]
value = 'number'
case = [{ is = 3, options = { merit-dump = "three" } }]

[[dhcp.subnet.on]]
event = ["commit", "expiry"]
set = { done = '"yes"' }
execute = ["/bin/x", "given", { expression = 'kind' }, { expression = 'done' }]
[[dhcp.subnet.on]]
event = "commit"
log = { expression = 'concat("k ", kind)' }
execute = ["/bin/y"]
"#;

/// Options domain-name, root-path, merit-dump and nis-domain, and what a commit runs.
fn told(dhcp: &Dhcp, name: &'static [u8]) -> ([String; 4], Vec<String>) {
    let (arena, subnet) = (Bump::new(), Some(SubnetId(0)));
    let client = Client { name, hardware: &[], known: false };
    let chain = ScopeChain::new(dhcp, subnet, None, (&[], &[]), None, &arena);
    let chain = chain.run(&client, &arena);
    let option = |code| chain.option(code).map_or(&b"-"[..], |(value, _)| value);
    let options = [15, 17, 14, 40].map(|code| option(code).escape_ascii().to_string());
    let Asked { programs, logs, .. } = chain.effects().commit;
    let programs = programs.iter().map(|words| words.join(&b' ').escape_ascii().to_string());
    let logs = logs.iter().map(|(_, text)| text.escape_ascii().to_string());
    (options, programs.chain(logs).collect())
}

#[test]
fn a_case_ends_at_its_end_unless_it_falls_through() {
    let config = good(TEXT);
    let options = |name| told(&config.dhcp, name).0;
    assert_eq!(options(b"abx"), ["ab", "cd", "three", "late"]);
    assert_eq!(options(b"cd"), ["-", "cd", "three", "late"]);
    assert_eq!(options(b"ef"), ["-", "cd", "three", "late"]);
    assert_eq!(options(b"gh"), ["-", "gh", "three", "-"]);
    assert_eq!(options(b"zz"), ["-", "none", "three", "-"]);
}

#[test]
fn what_several_say_of_one_event_adds_up() {
    let config = good(TEXT);
    let (_, commit) = told(&config.dhcp, b"gh");
    assert_eq!(commit, ["/bin/x given gh yes", "/bin/y", "k gh"]);
    assert_eq!(config.dhcp.blocks.len(), 1);
    // The place in the file does not matter to leases, and what is said does.
    let key = |text: &str| good(text).dhcp.blocks[0].0;
    assert_eq!(key(TEXT), key(&format!("# more\n{TEXT}")));
    assert_ne!(key(TEXT), key(&TEXT.replace("\"given\"", "\"taken\"")));
}

#[test]
fn mistakes_are_told_where_they_stand() {
    for (from, to, expected) in [
        ("value = 'kind'", "value = 'kimd'", "`kimd` means nothing here, and is no variable"),
        ("value = 'kind'", "", "a `switch` needs the key `value`"),
        ("{ is = \"gh\",", "{", "a `case` needs the key `is`"),
        ("value = 'kind'", "value = 'extract-int(kind, 8)'", "`is` must be a number"),
        ("value = 'kind'", "value = 'known'", "`value` must yield bytes or a number"),
        ("event = \"commit\"", "event = \"boot\"", "`event` must be commit, release or expiry"),
        ("event = \"commit\"", "", "an `on` needs the key `event`"),
        ("execute = [\"/bin/y\"]", "execute = [7]", "`execute` must be a text"),
        ("Kind = ", "host-name = ", "`host-name` cannot be the name of a variable"),
        ("Kind = ", "known = ", "`known` cannot be the name of a variable"),
        ("number = 3", "number = '3 +'", "`number`"),
        ("set = { Kind", "set = 7 #", "`set` must be a table"),
        ("add-class = \"late\"", "add-class = \"lade\"", "there is no class `lade`"),
        ("test = 'option host-name = \"nobody\"'", "test = 'kind = \"x\"'", "means nothing here"),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let text = TEXT.replacen(from, to, 1);
        let text = match parse(Path::new("bootstorm.toml"), text.as_bytes()) {
            Ok(_) => panic!("{to} is taken"),
            Err(error) => error.render(false),
        };
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
