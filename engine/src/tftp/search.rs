//! Finds a file whose name differs from the one asked for in the case of ASCII letters.
//!
//! Several directories may match a component, such as `Boot` and `boot`: all are searched, at each
//! level the exact name first, then the others in byte order, so that the result is always the
//! same. The work of a request is bounded, and so is the memory of the cached directory listings.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::fs::{Dir, OFlags, Stat, fstat};

use super::paths::{PathError, Root};

/// Files and directories that the search for one name opens at most.
const MAX_OPENS: u32 = 256;
/// Names in all cached listings together, and in one listing: about 20 MB. Of a larger directory
/// the rest is found by its exact name only.
const MAX_NAMES: usize = 200_000;
/// A listing is cached if its directory has not changed for this long. A younger one may change
/// again without a new modification time, which has the resolution of a kernel tick, or of a second
/// on some file systems.
const SETTLED: Duration = Duration::from_secs(3);

/// The names of a directory, sorted by [`key`], and equal keys by their bytes.
type Listing = Arc<[Box<[u8]>]>;

/// Which directory, and in which version.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Version {
    modified: (i64, u64),
    changed: (i64, u64),
}

/// The cached listings of one root, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    listings: HashMap<(u64, u64), (Version, Listing)>,
    /// Names in all of them.
    names: usize,
}

impl Listings {
    /// The names in an open directory.
    fn read(&self, directory: OwnedFd) -> Result<Listing, PathError> {
        let stat = fstat(&directory)?;
        let identity = (stat.st_dev, stat.st_ino);
        let version = Version {
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        };
        if let Some((known, listing)) = self.0.lock().listings.get(&identity)
            && *known == version
        {
            return Ok(Arc::clone(listing));
        }
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for entry in Dir::new(directory)?.take(MAX_NAMES) {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(Box::from(name));
            }
        }
        names.sort_unstable_by(|a, b| key(a).cmp(key(b)).then_with(|| a.cmp(b)));
        let listing = Listing::from(names);
        if is_settled(&stat) {
            self.0.lock().insert(identity, version, &listing);
        }
        Ok(listing)
    }

    #[cfg(test)]
    fn cached(&self) -> usize {
        self.0.lock().listings.len()
    }
}

impl Cache {
    fn insert(&mut self, identity: (u64, u64), version: Version, listing: &Listing) {
        if let Some((_, old)) = self.listings.remove(&identity) {
            self.names -= old.len();
        }
        if self.names + listing.len() > MAX_NAMES {
            self.listings.clear();
            self.names = 0;
        }
        self.names += listing.len();
        self.listings.insert(identity, (version, Arc::clone(listing)));
    }
}

fn is_settled(stat: &Stat) -> bool {
    let changed = stat.st_mtime.max(stat.st_ctime);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::from_secs(u64::try_from(changed).unwrap_or(0));
    now.checked_sub(changed).is_some_and(|age| age > SETTLED)
}

/// What names that differ in case only have in common.
fn key(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(u8::to_ascii_lowercase)
}

/// The names that equal `wanted` but for the case: the exact one first, then in byte order.
fn matches<'l>(listing: &'l Listing, wanted: &'l [u8]) -> impl Iterator<Item = &'l [u8]> {
    let first = listing.partition_point(|name| key(name).lt(key(wanted)));
    let equal = listing.get(first..).unwrap_or_default().iter().map(|name| &**name);
    let equal = equal.take_while(|name| name.eq_ignore_ascii_case(wanted));
    let others = equal.clone().filter(move |name| *name != wanted);
    equal.filter(move |name| *name == wanted).chain(others)
}

/// One search.
struct Search<'r> {
    root: &'r Root,
    listings: &'r Listings,
    opens_left: u32,
    /// What was wrong with the first file that matches and cannot be served.
    refused: Option<PathError>,
}

/// Opens the file whose name differs from `name` in case only. `name` is relative to the root.
/// Since all directories that match a component are as one, `..` just takes it away, as on Windows.
///
/// # Errors
/// Why the first file that matches cannot be served; [`PathError::NotFound`] if none matches.
pub(super) fn open(
    root: &Root,
    listings: &Listings,
    name: &[u8],
) -> Result<(File, Stat), PathError> {
    let mut components = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"." => {}
            b".." => _ = components.pop().ok_or(PathError::Outside)?,
            component => components.push(component),
        }
    }
    let mut search = Search { root, listings, opens_left: MAX_OPENS, refused: None };
    let found = search.descend(&mut Vec::new(), &components);
    found.ok_or_else(|| search.refused.unwrap_or(PathError::NotFound))
}

impl Search<'_> {
    /// Searches `directory`, which is empty for the root, for the rest of the name.
    fn descend(&mut self, directory: &mut Vec<u8>, rest: &[&[u8]]) -> Option<(File, Stat)> {
        let (&component, rest) = rest.split_first()?;
        let listing = self.list(directory)?;
        matches(&listing, component).find_map(|name| self.enter(directory, name, rest))
    }

    /// Goes on with one entry of `directory`: a directory, or the file itself.
    fn enter(
        &mut self,
        directory: &mut Vec<u8>,
        name: &[u8],
        rest: &[&[u8]],
    ) -> Option<(File, Stat)> {
        let len = directory.len();
        if len > 0 {
            directory.push(b'/');
        }
        directory.extend_from_slice(name);
        let found = match rest {
            [] => self.file(directory),
            rest => self.descend(directory, rest),
        };
        directory.truncate(len);
        found
    }

    fn list(&mut self, directory: &[u8]) -> Option<Listing> {
        let path = if directory.is_empty() { b"." } else { directory };
        self.spend()?;
        let listed = self.root.directory(path, OFlags::RDONLY);
        let listed = listed.and_then(|directory| self.listings.read(directory));
        listed.map_err(|error| self.note(error)).ok()
    }

    fn file(&mut self, path: &[u8]) -> Option<(File, Stat)> {
        self.spend()?;
        self.root.regular_file(path).map_err(|error| self.note(error)).ok()
    }

    /// Counts one open; `None` when there were too many.
    fn spend(&mut self) -> Option<()> {
        self.opens_left = self.opens_left.checked_sub(1)?;
        Some(())
    }

    fn note(&mut self, error: PathError) {
        if error != PathError::NotFound {
            self.refused.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn write(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    fn read(root: &Root, name: &str) -> Result<String, PathError> {
        let (mut file, _) = root.read(&super::super::paths::relative(name.as_bytes())?)?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn every_directory_that_matches_is_searched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Boot/BCD", "boot/boot.sdi", "BOOT/Fonts/x.ttf", "boot/fonts/y.ttf", "bOOT"] {
            write(dir.path(), name);
        }
        let root = Root::open(dir.path(), true).unwrap();
        for (name, found) in [
            ("Boot/BCD", "Boot/BCD"),
            ("boot/bcd", "Boot/BCD"),
            ("BOOT/BCD", "Boot/BCD"),
            ("Boot/boot.sdi", "boot/boot.sdi"),
            ("BooT/BOOT.SDI", "boot/boot.sdi"),
            ("boot/Fonts/X.TTF", "BOOT/Fonts/x.ttf"),
            ("Boot/Fonts/Y.TTF", "boot/fonts/y.ttf"),
            ("boot/../BOOT/bcd", "Boot/BCD"),
            (r"\BOOT\..\Boot\FONTS\..\BCD", "Boot/BCD"),
            ("Boot/Fonts/../../bOOt/bcd", "Boot/BCD"),
            ("none/../bOOt/bcd", "Boot/BCD"),
        ] {
            assert_eq!(read(&root, name).as_deref(), Ok(found), "{name}");
        }
        assert_eq!(read(&root, "boot/nothing"), Err(PathError::NotFound));
        assert_eq!(read(&root, "boot/bcd/x"), Err(PathError::NotFound));
        assert_eq!(read(&root, "BOOT/FONTS"), Err(PathError::NotAFile));
        assert_eq!(read(&root, "BOOT/../../boot/bcd"), Err(PathError::Outside));
        let exact = Root::open(dir.path(), false).unwrap();
        assert_eq!(read(&exact, "boot/bcd"), Err(PathError::NotFound));
    }

    #[test]
    fn the_exact_name_comes_first_then_the_order_of_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["d/NAME", "d/Name", "d/name", "D/name", "D/only"] {
            write(dir.path(), name);
        }
        let root = Root::open(dir.path(), true).unwrap();
        for (name, found) in [
            ("d/name", "d/name"),
            ("d/nAmE", "d/NAME"),
            ("D/NAME", "D/name"),
            ("D/nAmE", "D/name"),
            ("d/only", "D/only"),
        ] {
            for _ in 0..3 {
                assert_eq!(read(&root, name).as_deref(), Ok(found), "{name}");
            }
        }
    }

    #[test]
    fn links_lead_where_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        write(&path, "EFI/Loader");
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("EFI", path.join("Link")).unwrap();
        symlink("..", path.join("up")).unwrap();
        symlink("../secret", path.join("Leaving")).unwrap();
        let root = Root::open(&path, true).unwrap();
        assert_eq!(read(&root, "link/LOADER").as_deref(), Ok("EFI/Loader"));
        assert_eq!(read(&root, "UP/secret"), Err(PathError::Outside));
        assert_eq!(read(&root, "leaving"), Err(PathError::Outside));
        // A name that may be served goes before one that may not.
        write(&path, "LEAVING");
        assert_eq!(read(&root, "leaving").as_deref(), Ok("LEAVING"));
    }

    #[test]
    fn the_work_of_a_name_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        // Each level has two directories that match: 2 to the power of 12 paths.
        let mut level = dir.path().to_owned();
        for _ in 0..12 {
            for name in ["a", "A"] {
                fs::create_dir(level.join(name)).unwrap();
            }
            symlink("a/a", level.join("A/a")).unwrap();
            level.push("a");
        }
        let root = Root::open(dir.path(), true).unwrap();
        let listings = Listings::default();
        let components = vec![&b"a"[..]; 13];
        let mut search =
            Search { root: &root, listings: &listings, opens_left: MAX_OPENS, refused: None };
        assert!(search.descend(&mut Vec::new(), &components).is_none());
        for part in ["a/../", "../", "x/"] {
            let long = part.repeat(2000) + "a";
            assert!(read(&root, &long).is_err());
        }
    }

    #[test]
    fn a_listing_is_cached_until_its_directory_changes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "sub/First");
        let root = Root::open(dir.path(), true).unwrap();
        let listings = Listings::default();
        let find = |name: &str| open(&root, &listings, name.as_bytes()).map(drop);
        // A directory that has just changed may change again unseen.
        assert_eq!((find("SUB/first"), listings.cached()), (Ok(()), 0));
        let directory = || root.directory(b"sub", OFlags::RDONLY).unwrap();
        let stat = fstat(directory()).unwrap();
        let version = Version {
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        };
        let known = Listing::from(vec![Box::from(&b"First"[..])]);
        listings.0.lock().insert((stat.st_dev, stat.st_ino), version, &known);
        assert!(Arc::ptr_eq(&listings.read(directory()).unwrap(), &known));
        std::thread::sleep(Duration::from_millis(20));
        write(dir.path(), "sub/Second");
        assert_eq!(find("SUB/second"), Ok(()));
        assert_eq!(listings.read(directory()).unwrap().len(), 2);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Cache::default();
        let version = Version { modified: (0, 0), changed: (0, 0) };
        let large = Listing::from(vec![Box::from(&b"x"[..]); MAX_NAMES / 2]);
        for inode in 0..5 {
            cache.insert((1, inode), version, &large);
            cache.insert((1, inode), version, &large);
            assert!(cache.names <= MAX_NAMES && cache.listings.len() <= 2);
        }
        assert_eq!(cache.names, cache.listings.values().map(|(_, each)| each.len()).sum::<usize>());
    }
}
