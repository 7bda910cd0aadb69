//! Files as sites have them. What dhcpd says to them is asked by the end-to-end tests.

use std::path::{Path, PathBuf};

use crate::config::{load, migrate, parse};

/// All of them.
fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dhcpd");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    files.sort();
    assert!(files.len() >= 80);
    files
}

fn is_wrong(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wrong-"))
}

/// Those that are taken.
pub(crate) fn right() -> impl Iterator<Item = PathBuf> {
    files().into_iter().filter(|path| !is_wrong(path))
}

#[test]
fn files_of_sites_are_taken() {
    let mut refused = Vec::new();
    for path in right() {
        if let Err(error) = load(&path) {
            refused.push(error.render(false));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn wrong_files_are_refused_where_the_mistake_is() {
    for path in files().into_iter().filter(|path| is_wrong(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let wrong = text.lines().position(|line| line.ends_with("# WRONG")).unwrap() + 1;
        let error = load(&path).expect_err(&path.display().to_string());
        let lines: Vec<usize> =
            error.problems().iter().map(|problem| problem.place().unwrap().1).collect();
        assert_eq!(lines, [wrong], "{}", error.render(false));
    }
}

#[test]
fn the_toml_of_each_file_is_read_and_keeps_its_comments() {
    for path in right() {
        let text = std::fs::read_to_string(&path).unwrap();
        let migration = migrate(&path).unwrap_or_else(|error| panic!("{}", error.render(false)));
        // Of subnets for IPv6 alone TOML is no configuration.
        if !text.contains("subnet6 ")
            && let Err(error) = parse(Path::new("bootstorm.toml"), migration.toml.as_bytes())
        {
            panic!("{}\n{}", path.display(), error.render(false));
        }
        for comment in text.lines().filter(|line| line.starts_with('#')) {
            assert!(migration.toml.contains(comment.trim_end()), "{}: {comment}", path.display());
        }
    }
}
