//! Hosts that are read some at a time are what they are when the file is read at once.

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::super::loader::{load, parse, parse_whole};
use super::super::problem::Problems;
use super::super::source::Files;
use super::super::tree::Value;
use super::super::{Config, ConfigError, Problem, disk, rows};
use super::broken;

/// Everything that a configuration says, or what is wrong with it.
#[derive(PartialEq, Debug)]
enum Read {
    Good {
        hosts: Vec<String>,
        others: Vec<String>,
        warnings: Vec<String>,
    },
    /// What is no TOML; then the parser drops more or less of what follows, and what is said of the
    /// rest differs.
    NoToml(Vec<String>),
    Wrong(Vec<String>),
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| problem.render(false)).collect()
}

fn read(read: Result<Config, ConfigError>) -> Read {
    match read {
        Ok(config) => {
            let dhcp = &config.dhcp;
            let hosts = dhcp.hosts.iter().map(|host| {
                let keys: Vec<_> = host.keys().collect();
                let group = host.group().map(|id| &dhcp.group(id).name);
                format!("{} {keys:?} {:?} {group:?} {:?}", host.name(), host.ips(), host.scope())
            });
            let others = vec![
                format!("{:?}", (&dhcp.global, &dhcp.networks, &dhcp.subnets, &dhcp.pools)),
                format!("{:?}", (&dhcp.classes, &dhcp.groups, &dhcp.excluded)),
                format!("{:?}", (&config.server, &config.tftp, &config.log)),
            ];
            Read::Good { hosts: hosts.collect(), others, warnings: told(&config.warnings) }
        }
        Err(error) => {
            let all = error.problems().iter();
            let no_toml = all.filter(|problem| problem.message().starts_with("this is not TOML"));
            match told(&no_toml.cloned().collect::<Vec<_>>()) {
                no_toml if no_toml.is_empty() => Read::Wrong(told(error.problems())),
                no_toml => Read::NoToml(no_toml),
            }
        }
    }
}

fn compare(text: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path();
    let whole = read(parse_whole(path, text.as_bytes()));
    let rows = read(parse(path, text.as_bytes()));
    // Of a file the text is read twice, the second time some at a time.
    let loaded = read(load(path));
    assert!(loaded == rows, "{text}\nfrom a file:\n{loaded:#?}\nfrom memory:\n{rows:#?}");
    if let (Read::NoToml(whole), Read::NoToml(rows)) = (&whole, &rows) {
        // Behind its first error the parser passes over more or less of what it reads, and what it
        // reads at once differs. What is wrong with a table that stands away from its row is not
        // seen before the row is read.
        let is_told = rows.first().is_some_and(|first| whole.contains(first));
        assert!(is_told, "{text}\nin rows:\n{rows:#?}\nas a whole:\n{whole:#?}");
        return;
    }
    assert!(rows == whole, "{text}\nin rows:\n{rows:#?}\nas a whole:\n{whole:#?}");
}

/// Pieces of files, good and wrong; what stands for `@` differs from piece to piece.
const PIECES: &[&str] = &[
    "[[dhcp.host]]\nname = \"h@\"\nhardware = \"02:00:00:00:00:@\"\nip = \"10.0.0.1@\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nhardware = \"02:00:00:00:00:@\"\n",
    "  [[ dhcp . host ]]  # comment\nname = \"h@\"\nuuid = \"4c4c4544-0042-3510-8051-b2c04f4b35@\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nclient-id = \"c@\"\n[dhcp.host.options]\nhost-name = \"x\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nhardware = [\n\"02:00:00:00:01:@\",\n\"02:00:00:00:02:@\"]\n[[dhcp.host.boot]]\nfile = \"a\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nhardware = \"02:00:00:00:00:@\"\nip = [\n[\"10.0.0.9\"]\n]\n",
    "[[dhcp.host]]\nname = \"\"\"h@\n[[dhcp.host]]\n\"\"\"\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.group]]\nname = \"g@\"\nlease-time = \"2h\"\n",
    "[[dhcp.group.host]]\nname = \"i@\"\nhardware = \"06:00:00:00:00:@\"\n",
    "[[dhcp.group.host]]\nname = \"i@\"\ncircuit-id = \"p@\"\nremote-id = \"s\"\n[dhcp.group.host.options]\nhost-name = \"x\"\n",
    "[dhcp]\nlease-time = \"1h\"\n",
    "[[dhcp.subnet]]\nsubnet = \"10.@.0.0/16\"\n",
    "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/16\"\npools = [\n\"10.0.4.0-10.0.5.0\",\n]\n",
    "[tftp]\nroot = '''\n[[dhcp.host]]\nname = \"no@\"\n[x]\n'''\n",
    "[log]\nlevel = \"info\"\n",
    "# [[dhcp.host]]\n\n",
    "[dhcp.host.options]\nhost-name = \"y\"\n",
    "[[dhcp.\"host\"]]\nname = \"q@\"\nhardware = \"0a:00:00:00:00:@\"\n",
    "[dhcp.options]\ndomain-name = \"a\"\n",
    "[dhcp.host]\nname = \"h@\"\n",
    "[dhcp.group]\nname = \"g@\"\n",
    // What people get wrong.
    "[[dhcp.host]]\nname = \"h@\"\nhardwar = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]]\nhardware = \"02:00:00:00:00:@\"\nip = \"10.0.0\"\n",
    "[[dhcp.host]]\nname = \"h1\"\nhardware = \"02:00:00:00:00:01\"\nip = \"10.0.0.11\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nhardware = 02:00:00:00:00:@\n",
    "[[dhcp.host]]\nname = \"h@\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nhardware = [\"02:00:00:00:00:@\"\n",
    "[[dhcp.host]]\nname = \"h@\"\noptions = { host-name = \"x\"\n",
    "[[dhcp.host]]\nname \"h@\"\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]]\nname = \"h@\"\nname = \"h@\"\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]]\nname = \"\"\"h@\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]\nname = \"h@\"\nhardware = \"02:00:00:00:00:@\"\n",
    "[[dhcp.host]] x\nname = \"h@\"\n",
    "[[dhcp.host]]\r\nname = \"h@\"\r\nhardware = \"02:00:00:00:00:@\"\r\n",
    "[dhcp]\nhost = 1\n",
    "dhcp = 1\n",
    "[server]\nuser \"x\"\n",
    "pools = [\n",
    "]\n",
    "'''\n",
];

#[test]
fn every_two_pieces_read_in_rows_as_they_do_at_once() {
    let numbered = |piece: &str, number: usize| piece.replace('@', &format!("{number:02}"));
    let rest = "[[dhcp.host]]\nname = \"z\"\nhardware = \"02:00:00:00:00:77\"\n";
    for (a, first) in PIECES.iter().enumerate() {
        for (b, second) in PIECES.iter().enumerate() {
            let pieces = [numbered(first, a), numbered(second, 50 + b), rest.to_owned()];
            compare(&pieces.concat());
        }
    }
}

#[test]
fn of_two_mistakes_that_are_no_toml_one_is_told() {
    let pieces = [PIECES[3], PIECES[7], PIECES[16], PIECES[19]];
    compare(&pieces.concat().replace('@', "10"));
}

#[test]
fn the_files_of_the_other_tests_read_in_rows_as_they_do_at_once() {
    broken::files().chain([super::model::FULL]).for_each(compare);
}

#[test]
fn a_file_that_changes_while_its_hosts_are_read_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for host in 0..20 {
        write!(file, "[[dhcp.host]]\nname = \"h{host}\"\nuuid = \"{host}\"\n").unwrap();
    }
    let (mut files, mut problems) = (Files::default(), Problems::default());
    let (bytes, state) = disk::read(file.path()).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let id = files.add(file.path().to_owned(), text, Some(state)).unwrap();
    let tree = rows::parse(files.get(id).unwrap(), id, &mut problems).unwrap();
    let Value::Table(dhcp) = &tree.entries[0].node.value else { panic!("{tree:?}") };
    let Value::Array(hosts) = &dhcp.entries[0].node.value else { panic!("{dhcp:?}") };
    let Value::Row(row) = &hosts[0].value else { panic!("{hosts:?}") };
    files.drop_text(id);
    let mut read = 0;
    let each = |_, _: &mut Problems| {
        read += 1;
        file.write_all(b"\n").unwrap();
    };
    row.read(files.get(id).unwrap(), &mut problems, each).unwrap();
    assert!((1..20).contains(&read), "{read}");
    let error = problems.finish(Path::new("main.toml"), &files).unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_pieces_read_in_rows_as_they_do_at_once(
        pieces in prop::collection::vec((0..PIECES.len(), 10_usize..99), 0..25),
        // Most files have one mistake or none.
        good in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let limit = if good { 13 } else { PIECES.len() };
        let pieces = pieces.iter().map(|&(piece, number)| {
            PIECES[piece % limit].replace('@', &number.to_string())
        });
        let mut text = pieces.collect::<String>();
        compare(&text);
        // And with one character less.
        if let Some(at) = (!text.is_empty()).then(|| cut.index(text.len()))
            && text.is_char_boundary(at)
        {
            text.remove(at);
            compare(&text);
        }
    }
}
