//! docs/DHCPD.md is printed from the table of statements.
//!
//! `BOOTSTORM_WRITE_DOCUMENTS=1 cargo test -p bootstorm --lib dhcpd::tests::document` writes it.

use std::fmt::Write as _;
use std::path::Path;

use super::super::format::Part;
use super::super::table::{Kind, ROWS, Row, Status};

const HEAD: &str = "\
# dhcpd's configuration language

`bootstorm serve`, `check` and `reload` take a file of ISC dhcpd 4.4 (dhcpd.conf(5), dhcp-options(5),
dhcp-eval(5)) as `--config`. The language is told by what is written in the file, not by its name. The
behaviour of dhcpd's own parser is the reference: what `dhcpd -t` refuses is refused, and every mistake is
told with file, line and column.

dhcpd's defaults come with its language: clients are told apart by their client identifier first, leases last
43,200 seconds, 300 at least and 86,400 at most, new addresses are pinged for a second, declined addresses are
left alone for a day. `bootstorm check` names those that slow a storm, and how to set them.

Options of every type, option definitions and spaces, expressions and statements are read. Where an address
is wanted a name may stand: it is looked up when the file is read, and a name that nobody knows is a warning,
and what it would set is left out.

A file with `subnet6` is a dhcpd6.conf: it is read and checked whole, and not served.

What becomes of each statement:

- **served**: it does what dhcpd does, but for what the note says.
- **warned**: it is read and checked and does nothing; `check` and the log say so once for each statement.
- **refused**: a file that has it is not taken; the note says what to write instead.

## Programs

`execute(\"PROGRAM\", ARGUMENT, ...)` has a program run, in `on commit` when the lease is on disk, outside of
all blocks when the reply leaves (an OFFER after the ping of its address, with dhcpd before it), in
`on release` and `on expiry` when the lease ends. Where an argument is null it is not run. dhcpd waits for it
and answers nobody meanwhile; here it runs beside the server:

- It is started directly, with no shell, so nothing of an argument is interpreted. **Arguments come from the
  network**: a script has to quote them (`\"$1\"`) and to take nothing in them for granted.
- It runs as the user of the server (`user`, or that of the unit), in the directory `/`, with no environment
  but `PATH`, none of the server's files and capabilities, and no input and output. The sandbox of the
  packaged unit holds for it: it can write below the state directory and nowhere else, and not read home
  directories. `systemctl edit bootstorm` opens more (`ReadWritePaths=`). Where the server serves as root, a
  program is root, as with dhcpd. A path without a slash is looked for in
  `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`.
- What `on expiry` asks for of leases that ended while no server ran is run at the next start, in the order
  of their ends, and for each address before anything is run for its next lease. After a reboot the time
  without a server counts only where the clock is synchronised as the server starts. The file `ended` in the
  state directory has the leases for which it was done; it is made by the first start or reload with such a
  statement. After a kill or a power cut a program may be run once more for the same end.
- 16 run at once, those of one address one after the other in their order; one that runs for a minute is
  killed with all that it has started. Up to 4,096 wait; what is beyond is dropped. What cannot be started
  or fails is an event, `hook failed`; `bootstorm_hooks_total` counts.
- Of several `on` for one event the one that is met last counts, as in dhcpd. What runs at the end of a
  lease is what was said when it was given, for as long as the configuration has those statements word for
  word. It knows variables, `leased-address`, `hardware` and `host-decl-name`, and no message.

A variable that `set` gives stays with the lease: the client's later messages see it, also after a restart.
It is forgotten when the lease is given back or another client gets the address.
";

fn value(part: &Part) -> &'static str {
    match part {
        Part::Address => "address or name",
        Part::Address6 => "IPv6 address",
        Part::Number(1) => "number, 8 bits",
        Part::Number(2) => "number, 16 bits",
        Part::Number(_) => "number, 32 bits",
        Part::Time => "seconds or `infinite`",
        Part::Text => "text",
        Part::Flag => "`true` or `false`",
        Part::Name => "name",
        Part::Space => "option space",
        Part::Word(_) => "word",
        Part::Bytes | Part::Names { .. } | Part::Nothing | Part::Encapsulate(_) => "bytes",
    }
}

fn status(row: &Row) -> &'static str {
    match row.status {
        Status::Served => "served",
        Status::Warned => "warned",
        Status::Refused => "refused",
    }
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    let mut table = |heading: &str, columns: &str, wanted: fn(&Row) -> bool| {
        write!(text, "\n## {heading}\n\n{columns}\n").unwrap();
        let mut rows: Vec<&Row> = ROWS.iter().filter(|row| wanted(row)).collect();
        rows.sort_by_key(|row| row.name);
        for row in rows {
            let what = match &row.kind {
                Kind::Parameter(part) => format!(" {} |", value(part)),
                _ => String::new(),
            };
            writeln!(text, "| `{}` |{what} {} | {} |", row.name, status(row), row.note).unwrap();
        }
    };
    let plain = "| statement | | note |\n| --- | --- | --- |";
    table("Declarations", plain, |row| row.kind == Kind::Declaration);
    table("Parameters", "| parameter | value | | note |\n| --- | --- | --- | --- |", |row| {
        matches!(row.kind, Kind::Parameter(_))
    });
    table("What allow, deny and ignore say", plain, |row| matches!(row.kind, Kind::Permission(_)));
    table("Statements", plain, |row| row.kind == Kind::Statement);
    text
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/DHCPD.md");
    if std::env::var_os("BOOTSTORM_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == document(), "docs/DHCPD.md is not what the table says: write it anew");
}

#[test]
fn no_statement_stands_twice_in_the_table() {
    for (at, row) in ROWS.iter().enumerate() {
        let same = |other: &Row| {
            other.name == row.name
                && std::mem::discriminant(&other.kind) == std::mem::discriminant(&row.kind)
        };
        assert_eq!(ROWS.iter().position(same), Some(at), "{}", row.name);
        assert!(row.status == Status::Served || !row.note.is_empty(), "{}", row.name);
    }
}
