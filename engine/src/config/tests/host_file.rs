//! Hosts in CSV files.

use std::io::Write;
use std::path::Path;

use super::super::host_file;
use super::super::problem::Problems;
use super::super::source::{Files, Place};
use super::super::{Config, load, parse};
use super::files::Directory;

const MAIN: &str = "[dhcp]\nhost-file = \"hosts.csv\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n\
                    [[dhcp.group]]\nname = \"rack1\"\n";

/// What is known of each host, in one line.
fn hosts(config: &Config) -> Vec<String> {
    let dhcp = &config.dhcp;
    let one = |host: super::super::HostView<'_>| {
        let group = host.group().map(|id| dhcp.group(id).name.as_deref().unwrap_or_default());
        let keys: Vec<_> = host.keys().collect();
        format!("{} {keys:?} {:?} {group:?} {:?}", host.name(), host.ips(), host.scope())
    };
    dhcp.hosts.iter().map(one).collect()
}

#[test]
fn a_row_is_what_the_same_table_is() {
    let tables = r#"
[[dhcp.host]]
name = "a"
hardware = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
ip = "10.0.0.1"
group = "rack1"
options = { host-name = "one" }
boot = [{ file = "pxelinux.0", next-server = "10.0.0.9" }]
[[dhcp.host]]
name = "b"
uuid = "4c4c4544-0042-3510-8051-b2c04f4b3532"
client-id = "two, or \"2\""
lease-time = 3600
next-server = "10.0.0.9"
server-name = "files"
[[dhcp.host]]
name = "c"
circuit-id = "ge-0/0/1"
remote-id = "hex:0a0b"
ip = ["10.0.0.2", "10.1.0.2"]
lease-time = "infinite"
"#;
    let expected = tables.replace(", next-server = \"10.0.0.9\" }", " }");
    let expected = format!("{MAIN}{expected}").replace("host-file = \"hosts.csv\"\n", "");
    let expected = parse(Path::new("all.toml"), expected.as_bytes()).unwrap();
    let csv = "\u{feff}name,hardware,uuid,client-id,circuit-id,remote-id,ip,group,host-name,\
               boot-file,next-server,server-name,lease-time\r\n\
               # a comment, with a comma\r\n\
               a,02:00:00:00:00:01  02:00:00:00:00:02,,,,,10.0.0.1,rack1,one,pxelinux.0,,,\r\n\
               \r\n\
               b , ,4c4c4544-0042-3510-8051-b2c04f4b3532,\"two, or \"\"2\"\"\",,,,,,,10.0.0.9,files,3600\n\
               c,,,,ge-0/0/1,hex:0a0b,\"10.0.0.2\n10.1.0.2\",,,,,,infinite";
    let csv = csv.replace("10.0.0.2\n", "10.0.0.2 ");
    let directory = Directory::with(&[("main.toml", MAIN), ("hosts.csv", &csv)]);
    let config = load(&directory.path("main.toml")).unwrap();
    assert_eq!(hosts(&config), hosts(&expected));
    assert_eq!(config.sources, [directory.path("main.toml"), directory.path("hosts.csv")]);
}

#[test]
fn several_files_and_tables_are_one_set() {
    let main = format!(
        "{}[[dhcp.host]]\nname = \"a\"\nhardware = \"02:00:00:00:00:01\"\nip = \"10.0.0.1\"\n",
        MAIN.replace("\"hosts.csv\"", "[\"sub/x.csv\", \"y.csv\"]")
    );
    let x = "name,hardware,ip\nb,02:00:00:00:00:02,10.0.0.2\na,02:00:00:00:00:03,10.0.0.3\n";
    let y = "ip,name,hardware\n10.0.0.2,c,02:00:00:00:00:04\n10.0.0.5,d,02:00:00:00:00:01\n";
    let directory = Directory::with(&[("main.toml", &main), ("sub/x.csv", x), ("y.csv", y)]);
    assert_eq!(
        directory.errors(),
        r#"  × host `a` is defined twice
   ╭─[DIR/sub/x.csv:3:1]
 3 │ a,02:00:00:00:00:03,10.0.0.3
   · ─
   ╰────
  help: give one of them another name
        first defined here: DIR/main.toml:8:8
  × two hosts have the address 10.0.0.2
   ╭─[DIR/y.csv:2:1]
 2 │ 10.0.0.2,c,02:00:00:00:00:04
   · ────────
   ╰────
  help: give one of them another
        the other is here: DIR/sub/x.csv:2:21
  × two hosts are the same machine in one network
   ╭─[DIR/y.csv:3:12]
 3 │ 10.0.0.5,d,02:00:00:00:00:01
   ·            ─────────────────
   ╰────
  help: join them: a host may have several hardware addresses, and one ip in each network
        the other is here: DIR/main.toml:9:12
"#
    );
}

#[test]
fn every_error_of_a_row_shows_its_cell() {
    let csv = "name,hardware,ip,client-id,group\n\
               a,02:00:00:00:00:0x,10.0.0.1,,\n\
               ü,02:00:00:00:00:02,10.0.0,,\n\
               c,02:00:00:00:00:03,10.0.0.3\n\
               ,02:00:00:00:00:04,10.0.0.4,,\n\
               e,,10.0.0.5,\"a, \"\"b\"\"\",rack2\n\
               f,02:00:00:00:00:06,10.0.0.3 11.0.0.6,,\n\
               g,,,,\n";
    let directory = Directory::with(&[("main.toml", MAIN), ("hosts.csv", csv)]);
    assert_eq!(
        directory.errors(),
        r#"  × `hardware` must be a hardware address, not `02:00:00:00:00:0x`
   ╭─[DIR/hosts.csv:2:3]
 2 │ a,02:00:00:00:00:0x,10.0.0.1,,
   ·   ─────────────────
   ╰────
  help: write "52:54:00:12:34:56"
  × `ip` must be an IPv4 address, not `10.0.0`
   ╭─[DIR/hosts.csv:3:21]
 3 │ ü,02:00:00:00:00:02,10.0.0,,
   ·                     ──────
   ╰────
  help: write four numbers: "10.1.0.6"
  × this row has 3 cells, and the first line 5
   ╭─[DIR/hosts.csv:4:1]
 4 │ c,02:00:00:00:00:03,10.0.0.3
   · ────────────────────────────
   ╰────
  help: an empty cell has its comma, too, and a text with commas stands in quotes
  × [[dhcp.host]] needs the key `name`
   ╭─[DIR/hosts.csv:5:1]
 5 │ ,02:00:00:00:00:04,10.0.0.4,,
   · ─────────────────────────────
   ╰────
  help: add name = "rack1-n01"
  × `group` names a group, and there is no group `rack2`
   ╭─[DIR/hosts.csv:6:24]
 6 │ e,,10.0.0.5,"a, ""b""",rack2
   ·                        ─────
   ╰────
  help: did you mean `rack1`?
  × 11.0.0.6 is in no subnet
   ╭─[DIR/hosts.csv:7:21]
 7 │ f,02:00:00:00:00:06,10.0.0.3 11.0.0.6,,
   ·                     ─────────────────
   ╰────
  help: add [[dhcp.subnet]] with the subnet of 11.0.0.6, or correct the address
  × nothing says which machine this host is
   ╭─[DIR/hosts.csv:8:1]
 8 │ g,,,,
   · ─────
   ╰────
  help: add hardware = "52:54:00:12:34:56", or uuid, client-id, circuit-id, remote-id,
        host-identifier
"#
    );
}

#[test]
fn a_first_line_that_names_no_keys_is_told() {
    let told = |csv: &[u8]| {
        let directory = Directory::with(&[("main.toml", MAIN)]);
        std::fs::write(directory.path("hosts.csv"), csv).unwrap();
        directory.errors()
    };
    for (csv, message, help) in [
        (&b""[..], "this host file is empty", "name,hardware,ip"),
        (b"name,hardwar,ip\n", "a host file has no key `hardwar`", "did you mean `hardware`?"),
        (b"name;hardware\n", "stand between commas", "save it with commas"),
        (b"name,ip,name\n", "two columns are named `name`", "keep one"),
        (b"hardware,ip\n", "needs the column `name`", "add it"),
        (b"name,uuid\na,\"1\n", "must be a UUID", ""),
        (b"name,client-id\na,\xff\n", "this is not UTF-8", "hex:"),
    ] {
        let told = told(csv);
        assert!(told.contains(message) && told.contains(help), "{told}");
    }
    let unclosed = format!("name,client-id\na,\"{}", "x\n".repeat(100_000));
    assert!(told(unclosed.as_bytes()).contains("this row does not end"));
    let directory = Directory::with(&[("main.toml", MAIN)]);
    assert!(directory.errors().contains("hosts.csv cannot be read: No such file"));
}

#[test]
fn bytes_that_are_no_text_do_not_move_the_places_behind_them() {
    let directory = Directory::with(&[("main.toml", MAIN)]);
    let csv = b"name,client-id\na,\xff\xff\xff\xff\xff\xff\nb,\xff\n";
    std::fs::write(directory.path("hosts.csv"), csv).unwrap();
    let told = directory.errors();
    assert!(told.contains("hosts.csv:2:3]") && told.contains("hosts.csv:3:3]"), "{told}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let directory = Directory::with(&[("hosts.csv", "name,hardware\na,02:00:00:00:00:01\n")]);
    let path = directory.path("hosts.csv");
    let (mut files, mut problems) = (Files::default(), Problems::default());
    let main = files.add(directory.path("main.toml"), "\"hosts.csv\"".to_owned(), None).unwrap();
    let named = Place { file: main, start: 0, end: 11 };
    let mut rows = 0;
    host_file::read(path.clone(), named, &mut files, &mut problems, |_, _| {
        rows += 1;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"\n").unwrap();
    });
    assert_eq!(rows, 1);
    let error = problems.finish(Path::new("main.toml"), &files).unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
}

#[test]
fn a_mistake_in_every_row_takes_a_bounded_answer() {
    let rows = (0..5000).map(|n| format!("h{n},02:00:00:00:00\n"));
    let csv = format!("name,hardware,ip\n{}", rows.collect::<String>());
    let directory = Directory::with(&[("main.toml", MAIN), ("hosts.csv", &csv)]);
    let error = load(&directory.path("main.toml")).unwrap_err();
    assert_eq!(error.problems().len(), 1000);
    assert!(error.to_string().ends_with("(the first of 5000 errors)"), "{error}");
    assert!(error.render(false).ends_with("... and 4950 more\n"));
    assert_eq!(error.problems()[999].place().map(|(_, line, _)| line), Some(1001));
}

// It may be all that a program wrote, megabytes of it.
#[test]
fn a_long_line_is_shown_around_the_mistake() {
    let long = "x".repeat(50_000);
    let csv = format!("name,hardware,client-id\na,02:00:00:00:00:01,hex:{long}\n");
    let directory = Directory::with(&[("main.toml", MAIN), ("hosts.csv", &csv)]);
    let told = directory.errors();
    assert!(told.contains("`client-id` must be bytes") && told.contains("hosts.csv:2:21]"));
    assert!(told.len() < 20_000, "{}", told.len());
}
