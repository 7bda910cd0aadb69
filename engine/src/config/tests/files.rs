//! Files on disk: includes, map files, what `check` looks at, the manual; and bytes of any kind.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::{
    CommandLine, Config, MapRule, Problem, check, load, load_on_host, parse, schema, state_dir,
};
use super::model::FULL;

pub(super) struct Directory(tempfile::TempDir);

impl Directory {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = directory.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The rendered errors, with `DIR` for the directory.
    pub(super) fn errors(&self) -> String {
        let error = load(&self.path("main.toml")).unwrap_err();
        error.render(false).replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

#[test]
fn where_the_state_is_depends_on_nothing_else() {
    let directory = Directory::with(&[
        ("main.toml", "include = \"server.toml\"\n[dhcp]\nnonsense = 1\n[[dhcp.host]]\nname = 5\n"),
        ("server.toml", "[server]\nstate-dir = \"state\"\n"),
        ("none.toml", "[dhcp]\n"),
        ("bad.toml", "[server]\nstate-dir = 5\n"),
        ("dhcpd.conf", "subnet 10.0.0.0 netmask 255.0.0.0 { nonsense; }\n"),
    ]);
    let of = |name| state_dir(&directory.path(name)).map_err(|error| error.render(false));
    assert_eq!(of("main.toml"), Ok(directory.path("state")));
    assert_eq!(of("none.toml"), Ok(PathBuf::from("/var/lib/bootstorm")));
    assert_eq!(of("dhcpd.conf"), Ok(PathBuf::from("/var/lib/bootstorm")));
    assert!(of("bad.toml").unwrap_err().contains("state-dir"));
    assert!(of("missing.toml").unwrap_err().contains("missing.toml"));
}

#[test]
fn included_files_add_up_in_order_of_their_names() {
    let directory = Directory::with(&[
        (
            "main.toml",
            "include = [\"conf.d/*.toml\", \"extra.toml\"]\n[dhcp.options]\nhost-name = \"a\"\n",
        ),
        ("conf.d/20-b.toml", "[[dhcp.host]]\nname = \"b\"\nhardware = \"02:00:00:00:00:02\"\n"),
        ("conf.d/10-a.toml", "[[dhcp.host]]\nname = \"a\"\nhardware = \"02:00:00:00:00:01\"\n"),
        ("conf.d/.hidden.toml", "nonsense"),
        ("conf.d/notes.txt", "nonsense"),
        ("extra.toml", "include = \"more/?.toml\"\n[dhcp.options]\ndomain-name = \"b\"\n"),
        ("more/1.toml", "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n[tftp]\nroot = \"boot\"\n"),
        ("more/10.toml", "nonsense"),
    ]);
    let config = load(&directory.path("main.toml")).unwrap();
    let names: Vec<&str> = config.dhcp.hosts.iter().map(|host| &**host.name()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.dhcp.global.options.get(12), Some(&b"a"[..]));
    assert_eq!(config.dhcp.global.options.get(15), Some(&b"b"[..]));
    // A path begins where the file stands that says it.
    assert_eq!(config.tftp.unwrap().root, directory.path("more/boot"));
    let files: Vec<PathBuf> =
        ["main.toml", "conf.d/10-a.toml", "conf.d/20-b.toml", "extra.toml", "more/1.toml"]
            .iter()
            .map(|name| directory.path(name))
            .collect();
    assert_eq!(config.sources, files);
}

#[test]
fn what_two_files_say_differently_is_told_with_both_places() {
    let directory = Directory::with(&[
        (
            "main.toml",
            "include = \"b.toml\"\n[dhcp]\nlease-time = \"1h\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n[[dhcp.host]]\nname = \"a\"\nhardware = \"02:00:00:00:00:01\"\nip = \"10.0.0.1\"\n",
        ),
        (
            "b.toml",
            "[dhcp]\nlease-time = \"2h\"\n[[dhcp.host]]\nname = \"b\"\nhardware = \"02:00:00:00:00:02\"\nip = \"10.0.0.1\"\n",
        ),
    ]);
    assert_eq!(
        directory.errors(),
        r#"  × `lease-time` is set in two files
   ╭─[DIR/b.toml:2:1]
 2 │ lease-time = "2h"
   · ──────────
   ╰────
  help: an included file adds to the others and overrides nothing: keep one of them
        first set here: DIR/main.toml:3:1
  × two hosts have the address 10.0.0.1
   ╭─[DIR/b.toml:6:6]
 6 │ ip = "10.0.0.1"
   ·      ──────────
   ╰────
  help: give one of them another
        the other is here: DIR/main.toml:9:6
"#
    );
}

#[test]
fn circles_and_missing_files_are_refused() {
    let directory = Directory::with(&[
        ("main.toml", "include = [\"b.toml\", \"none.toml\", \".\"]\n"),
        ("b.toml", "include = \"main.toml\"\n[tftp]\nroot = \"/\"\n"),
    ]);
    assert_eq!(
        directory.errors(),
        r#"  × DIR/none.toml cannot be read: No such file or directory (os error 2)
   ╭─[DIR/main.toml:1:22]
 1 │ include = ["b.toml", "none.toml", "."]
   ·                      ───────────
   ╰────
  × DIR cannot be read: it is no ordinary file
   ╭─[DIR/main.toml:1:35]
 1 │ include = ["b.toml", "none.toml", "."]
   ·                                   ───
   ╰────
  × DIR/main.toml is read already
   ╭─[DIR/b.toml:1:11]
 1 │ include = "main.toml"
   ·           ───────────
   ╰────
  help: a file is included once, and never by itself or what it includes
"#
    );
    let error = load(&directory.path("absent.toml")).unwrap_err().to_string();
    assert!(error.ends_with("absent.toml cannot be read: No such file or directory (os error 2)"));
}

#[test]
fn a_pattern_that_finds_nothing_is_no_error() {
    let directory =
        Directory::with(&[("main.toml", "include = \"no/*/*.toml\"\n[tftp]\nroot = \"/\"\n")]);
    assert_eq!(load(&directory.path("main.toml")).unwrap().sources.len(), 1);
}

#[test]
fn map_files_are_read_and_their_rules_know_their_lines() {
    let directory = Directory::with(&[
        ("main.toml", "[tftp]\nroot = \"/\"\nmap-file = \"tftp.map\"\n"),
        ("tftp.map", ""),
    ]);
    // Names are bytes: a comment in Latin-1, and a name.
    let text = b"# f\xfcr the old server\nrg \\\\ / # Windows\n\n  a secret\nr ^\xe9\xe8 \xe8\n";
    std::fs::write(directory.path("tftp.map"), text).unwrap();
    let tftp = load(&directory.path("main.toml")).unwrap().tftp.unwrap();
    let rule = |operation: &str, pattern: &[u8], replacement: &[u8]| {
        MapRule::new(operation.to_owned(), pattern, replacement)
    };
    let expected =
        [rule("rg", br"\\", b"/"), rule("a", b"secret", b""), rule("r", b"^\xe9\xe8", b"\xe8")];
    assert_eq!(tftp.map, expected);
    let problem = tftp.map[1].problem("this is only a test".to_owned());
    assert_eq!(problem.place(), Some((&*directory.path("tftp.map"), 4, 1)));

    std::fs::write(directory.path("tftp.map"), "r a b c\n").unwrap();
    assert!(directory.errors().contains("a map rule has at most three words"));
}

#[test]
fn check_warns_of_what_the_host_lacks() {
    let directory = Directory::with(&[
        ("boot/pxelinux.0", ""),
        ("boot/efi/shim.efi", ""),
        ("outside.efi", ""),
        (
            "main.toml",
            r#"[server]
interfaces = ["lo", "eth999"]
[[dhcp.subnet]]
subnet = "10.0.0.0/8"
boot = [
  { arch = 0, file = "/pxelinux.0" },
  { arch = 7, file = "efi/shim.efi" },
  { arch = 11, file = "arm.efi" },
  { arch = 6, file = "../outside.efi" },
  { arch = 9, file = "efi/../pxelinux.0" },
  { arch = 15, url = "http://10.0.0.1/other.efi" },
  { arch = 2, file = "elsewhere.efi", next-server = "10.0.0.2" },
  { file = "efi" },
]
[[dhcp.class]]
name = "c"
arch = 10
next-server = "10.0.0.2"
boot = { file = "elsewhere.efi" }
[tftp]
root = "boot"
"#,
        ),
    ]);
    let told = |config: &Config| {
        let directory = directory.0.path().to_str().unwrap();
        let lines = config.warnings.iter().map(Problem::to_string);
        lines.map(|line| line.replace(directory, "DIR")).collect::<Vec<_>>()
    };
    assert_eq!(told(&load(&directory.path("main.toml")).unwrap()), Vec::<String>::new());
    assert_eq!(
        told(&check(&directory.path("main.toml"), &CommandLine::default()).unwrap()),
        [
            "there is no interface `eth999` now",
            "there is no file DIR/boot/arm.efi",
            "DIR/boot/../outside.efi leads out of the TFTP root",
            "DIR/boot/efi is no file",
        ]
    );
}

#[test]
fn a_reservation_of_an_address_of_this_host_is_named_with_its_place() {
    let text = "[[dhcp.subnet]]\nsubnet = \"127.0.0.0/8\"\n[[dhcp.host]]\nname = \"a\"\n\
                hardware = \"02:00:00:00:00:01\"\nip = \"127.0.0.1\"\n";
    let directory = Directory::with(&[("main.toml", text)]);
    let config = load_on_host(&directory.path("main.toml"), &CommandLine::default()).unwrap();
    let told: Vec<_> =
        config.warnings.iter().map(|warning| warning.one_line().to_string()).collect();
    assert_eq!(told.len(), 1);
    let expected = "main.toml:6:6: 127.0.0.1 is an address of this host; nobody gets it: give the host another";
    assert!(told[0].ends_with(expected), "{told:?}");
}

// A load balancer's or a virtual address is right, so it is no error.
#[test]
fn a_server_identifier_that_this_host_does_not_have_is_named_with_its_place() {
    let text = "[dhcp]\nserver-identifier = \"127.0.0.1\"\n[[dhcp.subnet]]\n\
                subnet = \"10.0.0.0/8\"\nserver-identifier = \"203.0.113.9\"\n";
    let directory = Directory::with(&[("main.toml", text)]);
    let path = directory.path("main.toml");
    let told = |config: Config| {
        let lines = config.warnings.iter().map(|warning| warning.one_line().to_string());
        lines.map(|line| line.replace(path.to_str().unwrap(), "main.toml")).collect::<Vec<_>>()
    };
    let expected = "main.toml:5:21: server-identifier 203.0.113.9 is no address of this host now; \
                    machines renew their leases there: right if a load balancer or a virtual \
                    address leads here, else no renewal arrives";
    for read in [check, load_on_host] {
        assert_eq!(told(read(&path, &CommandLine::default()).unwrap()), [expected]);
    }
    assert!(load(&path).unwrap().warnings.is_empty());
}

/// Blocks between ```toml and ``` of the manual.
fn examples(manual: &str) -> impl Iterator<Item = &str> {
    manual.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0)
}

#[test]
fn the_manual_names_every_key_in_its_section_and_its_examples_are_good() {
    let manual = include_str!("../../../../docs/CONFIGURATION.md");
    let hosts = include_str!("../../../../docs/HOSTS.md");
    let sections: Vec<&str> =
        [manual, hosts].into_iter().flat_map(|document| document.split("\n## ")).collect();
    // What many tables share has one section for all of them.
    let shared =
        [("Scopes", schema::scope_keys().collect()), ("Conditions", schema::MATCH.to_vec())];
    let own = schema::ALL.iter().chain([&&schema::HOST_FILE]);
    let own = own.map(|table| (table.name, table.keys.to_vec()));
    for (heading, keys) in own.chain(shared) {
        let begins = |section: &&&str| section.to_lowercase().starts_with(&heading.to_lowercase());
        let section = sections.iter().find(begins);
        let section = section.unwrap_or_else(|| panic!("the manual has no section {heading}"));
        for key in keys {
            let row = format!("\n| `{key}` |");
            assert!(section.contains(&row), "section {heading} has no row for {key}");
        }
    }
    for example in examples(manual).chain(examples(hosts)) {
        if let Err(error) = parse(Path::new("CONFIGURATION.md"), example.as_bytes()) {
            panic!("{example}\n{}", error.render(false));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_end_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse(Path::new("any.toml"), &bytes) {
            prop_assert!(!error.render(false).is_empty());
        }
    }

    /// Closer to the truth than random bytes: a good file with a piece replaced by another of its
    /// own or by something else.
    #[test]
    fn no_broken_file_ends_the_loader(
        cut in any::<prop::sample::Index>(),
        length in 0_usize..60,
        from in any::<prop::sample::Index>(),
        piece in prop_oneof![
            Just(None),
            "[\\[\\]{}=\"'\\n.0-9a-z-]{0,12}".prop_map(Some),
            prop::sample::select(vec![
                "0", "-1", "4294967295", "true", "\"\"", "\"hex:\"", "[]", "{}", "[[]]", "1.5",
                "\"0.0.0.0/0\"", "\"255.255.255.255\"", "\"0.0.0.0-255.255.255.255\"", "\"infinite\"",
                "\"\\u0000\"", "\"none\"", "2026-01-01",
            ]).prop_map(|value| Some(value.to_owned())),
        ],
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        let start = cut.index(bytes.len());
        let end = (start + length).min(bytes.len());
        let other = from.index(bytes.len());
        let own = bytes[other..(other + length).min(bytes.len())].to_vec();
        bytes.splice(start..end, piece.map_or(own, String::into_bytes));
        match parse(Path::new("any.toml"), &bytes) {
            Ok(config) => prop_assert!(config.warnings.iter().all(Problem::is_warning)),
            Err(error) => prop_assert!(!error.problems().is_empty() && !error.render(true).is_empty()),
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_more() {
    for text in [
        format!("[dhcp]\na = {}", "[".repeat(10_000)),
        format!("[dhcp]\na = {}1{}", "[".repeat(70), "]".repeat(70)),
        format!("{}a = 1", "a.".repeat(10_000)),
        format!("[dhcp.{}a]\na = 1", "a.".repeat(70)),
        (0..60).fold("1".to_owned(), |inner, _| format!("{{ {} = {inner} }}", ["a"; 70].join("."))),
    ] {
        let text = if text.starts_with('{') { format!("dhcp = {text}") } else { text };
        assert!(parse(Path::new("deep.toml"), text.as_bytes()).is_err());
    }
}
