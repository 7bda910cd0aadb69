//! What a configuration needs of the host: files that a pattern stands for, interfaces, boot files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use bootstorm_net::Interface;

use super::builder::{HostNeeds, WantedFile};
use super::problem::{Fault, Problems};
use super::source::{self, FileState, Place};
use super::{Hosts, Server, Tftp, schema};

/// The bytes of an ordinary file, and its state before they were read.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, FileState)> {
    let (mut file, state) = source::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, state))
}

/// The files that a path stands for, sorted. `*` and `?` stand for characters of one name, and not
/// for a dot at its beginning; a path without them stands for itself, there or not.
pub(super) fn expand(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().as_bytes();
        let wild = matches!(component, Component::Normal(_)) && name.iter().any(is_wildcard);
        if !wild {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut found = Vec::new();
        for path in paths {
            match entries(&path) {
                Ok(names) => {
                    let names = names.into_iter().filter(|entry| matches(name, entry.as_bytes()));
                    found.extend(names.map(|entry| path.join(entry)));
                }
                // A directory of a pattern need not be there, no more than files in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
            }
        }
        found.sort();
        paths = found;
    }
    Ok(paths)
}

fn is_wildcard(byte: &u8) -> bool {
    matches!(byte, b'*' | b'?')
}

fn entries(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Whether a name fits a pattern. After a mismatch only the last `*` has to be tried anew, so this
/// takes at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                p = after + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The interfaces of this host. When they cannot be listed, the value at `place` is not checked.
fn interfaces(place: Place, problems: &mut Problems) -> Option<Vec<Interface>> {
    let listed = bootstorm_net::interfaces();
    let failed = |error| {
        let text = format!("the interfaces of this host cannot be listed: {error}");
        problems.warn(place, Fault::plain(text));
    };
    listed.map_err(failed).ok()
}

/// Warns of addresses that this host should have and does not, and of those that it has and should
/// not.
pub(super) fn warn_of_addresses(needs: &HostNeeds, hosts: &Hosts, problems: &mut Problems) {
    let places = needs.identifiers.iter().map(|(_, place)| place);
    let Some(&first) = places.chain(&needs.hosts.ips).min() else { return };
    let Some(there) = interfaces(first, problems) else { return };
    let addresses = there.iter().flat_map(|each| &each.addresses);
    let own: HashSet<IpAddr> = addresses.map(|address| address.ip).collect();
    for &address in &own {
        let IpAddr::V4(reserved) = address else { continue };
        if let Some(place) = needs.hosts.of_ip(hosts, reserved) {
            let text = format!("{address} is an address of this host");
            problems.warn(place, Fault::new(text, "nobody gets it: give the host another"));
        }
    }
    for &(address, place) in &needs.identifiers {
        if !own.contains(&IpAddr::V4(address)) {
            let text = format!("server-identifier {address} is no address of this host now");
            let help = "machines renew their leases there: right if a load balancer or a virtual \
                        address leads here, else no renewal arrives";
            problems.warn(place, Fault::new(text, help));
        }
    }
}

/// Warns of interfaces that this host does not have.
pub(super) fn warn_of_interfaces(server: &Server, places: &[Place], problems: &mut Problems) {
    let (Some(wanted), Some(&first)) = (&server.interfaces, places.first()) else { return };
    let Some(there) = interfaces(first, problems) else { return };
    for (name, &place) in wanted.iter().zip(places) {
        if there.iter().any(|interface| interface.name == *name) {
            continue;
        }
        let names: Vec<&str> = there.iter().map(|interface| &*interface.name).collect();
        let help = match schema::nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        problems.warn(place, Fault::new(format!("there is no interface `{name}` now"), help));
    }
}

/// Warns of boot files that are not below the TFTP root. Where names are rewritten by rules or
/// compared without case, the name in the configuration does not say which file is meant.
pub(super) fn warn_of_missing_files(tftp: &Tftp, wanted: &[WantedFile], problems: &mut Problems) {
    if !tftp.map.is_empty() || tftp.case_insensitive {
        return;
    }
    // Many scopes name the same few files.
    let mut known: HashMap<&[u8], Option<String>> = HashMap::new();
    for WantedFile { file, place } in wanted {
        let lack = known.entry(file).or_insert_with(|| lack(&tftp.root, file));
        if let Some(lack) = lack {
            let help = "put it there, or correct the name";
            problems.warn(*place, Fault::new(lack.clone(), help));
        }
    }
}

/// Why a request for the file would fail.
fn lack(root: &Path, file: &[u8]) -> Option<String> {
    // An absolute name begins at the root, too.
    let slashes = file.iter().take_while(|&&byte| byte == b'/').count();
    let path = root.join(Path::new(OsStr::from_bytes(&file[slashes..])));
    // `..` inside the root is served.
    if path.components().any(|component| component == Component::ParentDir)
        && let (Ok(root), Ok(found)) = (root.canonicalize(), path.canonicalize())
        && !found.starts_with(root)
    {
        return Some(format!("{} leads out of the TFTP root", path.display()));
    }
    match path.metadata() {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some(format!("{} is no file", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("there is no file {}", path.display()))
        }
        Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
    }
}
