//! From the name in a request to an open file, never outside of the root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use bootstorm_protocols::tftp::ErrorCode;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;

/// The directory that no request leaves. The kernel enforces it (openat2, RESOLVE_BENEATH), so neither a symbolic link nor one that is
/// swapped in between leads out.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    case_insensitive: bool,
}

/// Declares the errors, each with its text and the code of the ERROR packet, in one table.
macro_rules! path_errors {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $code:ident;)*) => {
        /// Why a name gives no file. The texts go to clients and into the log.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub(super) enum PathError {
            $($(#[$doc])* $name,)*
        }

        impl PathError {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(super) const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            pub(super) const fn code(self) -> ErrorCode {
                match self {
                    $(Self::$name => ErrorCode::$code,)*
                }
            }
        }
    };
}

path_errors! {
    /// Empty, with a NUL, or with `..`.
    BadName: "bad file name", AccessViolation;
    /// No such file.
    NotFound: "file not found", FileNotFound;
    /// A symbolic link leads out of the root.
    Outside: "file is outside of the TFTP root", AccessViolation;
    /// The server has no permission.
    Denied: "permission denied", AccessViolation;
    /// A directory, a device, a pipe.
    NotAFile: "not a regular file", AccessViolation;
    /// The name of an upload is taken.
    Exists: "file exists", FileExists;
    /// Anything else: too many open files, a failing disk.
    Failed: "cannot open file", NotDefined;
}

impl From<Errno> for PathError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Self::NotFound,
            // What RESOLVE_BENEATH says; ELOOP is what RESOLVE_NO_MAGICLINKS says.
            Errno::XDEV | Errno::LOOP => Self::Outside,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Denied,
            Errno::ISDIR | Errno::NXIO => Self::NotAFile,
            Errno::EXIST => Self::Exists,
            _ => Self::Failed,
        }
    }
}

impl Root {
    /// Opens the root itself.
    pub(super) fn open(path: &Path, case_insensitive: bool) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { dir, case_insensitive })
    }

    /// Opens a regular file for reading. `name` is relative to the root, as [`relative`] makes it.
    pub(super) fn read(&self, name: &[u8]) -> Result<(File, Stat), PathError> {
        // Without O_NONBLOCK a pipe in the root would hold the thread until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match self.beneath(name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.case_insensitive => {
                self.beneath(&self.find(name)?, flags, Mode::empty())
            }
            opened => opened,
        };
        let file = opened?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PathError::NotAFile);
        }
        // With it a ring would say "would block" of a file on NFS or FUSE, instead of waiting for the disk.
        fcntl_setfl(&file, OFlags::empty())?;
        Ok((file.into(), stat))
    }

    /// The directory of an upload, and its last name.
    pub(super) fn parent<'n>(&self, name: &'n [u8]) -> Result<(OwnedFd, &'n [u8]), PathError> {
        let (directory, last) = match name.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (name.get(..slash), name.get(slash + 1..)),
            None => (Some(&b"."[..]), Some(name)),
        };
        let (Some(directory), Some(last)) = (directory, last) else {
            return Err(PathError::BadName);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((self.beneath(directory, flags, Mode::empty())?, last))
    }

    fn beneath(&self, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: the tree changed under the kernel's hands; it asks to be called again.
        let mut tries = 4;
        loop {
            tries -= 1;
            match openat2(&self.dir, name, flags, mode, resolve) {
                Err(Errno::AGAIN) if tries > 0 => {}
                opened => return opened,
            }
        }
    }

    /// The file whose name differs from `name` in the case of ASCII letters only, component by component. Of several
    /// the first in byte order, so that the answer is always the same.
    fn find(&self, name: &[u8]) -> Result<Vec<u8>, PathError> {
        let mut found: Vec<u8> = Vec::new();
        for component in name.split(|&byte| byte == b'/') {
            let directory = if found.is_empty() { b"." } else { found.as_slice() };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut best: Option<Vec<u8>> = None;
            for entry in Dir::new(self.beneath(directory, flags, Mode::empty())?)? {
                let entry = entry?;
                let entry = entry.file_name().to_bytes();
                if entry == component {
                    best = Some(entry.to_vec());
                    break;
                }
                if entry.eq_ignore_ascii_case(component)
                    && best.as_deref().is_none_or(|best| entry < best)
                {
                    best = Some(entry.to_vec());
                }
            }
            let best = best.ok_or(PathError::NotFound)?;
            if !found.is_empty() {
                found.push(b'/');
            }
            found.extend_from_slice(&best);
        }
        Ok(found)
    }
}

/// The path below the root that a request's name means: backslashes are slashes (Windows loaders and shim write them), an absolute name
/// begins at the root, empty components and `.` mean nothing.
///
/// # Errors
/// [`PathError::BadName`] for `..`, NUL, and names that name nothing.
pub(super) fn relative(name: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/' || byte == b'\\') {
        match component {
            b"" | b"." => {}
            b".." => return Err(PathError::BadName),
            component if component.contains(&0) => return Err(PathError::BadName),
            component => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    if path.is_empty() { Err(PathError::BadName) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("EFI/Boot")).unwrap();
        std::fs::write(root.join("EFI/Boot/BootX64.efi"), "loader").unwrap();
        let opened = Root::open(&root, false).unwrap();
        (dir, opened)
    }

    fn read(root: &Root, name: &str) -> Result<String, PathError> {
        let (mut file, _) = root.read(&relative(name.as_bytes())?)?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn names_of_all_kinds_of_loaders() {
        let (_dir, root) = tree();
        for name in [
            "EFI/Boot/BootX64.efi",
            "/EFI/Boot/BootX64.efi",
            r"\EFI\Boot\BootX64.efi",
            "//EFI/./Boot//BootX64.efi",
        ] {
            assert_eq!(read(&root, name).as_deref(), Ok("loader"), "{name}");
        }
        assert_eq!(read(&root, "efi/boot/bootx64.EFI"), Err(PathError::NotFound));
    }

    #[test]
    fn reading_a_file_waits_for_the_disk() {
        let (_dir, root) = tree();
        let (file, _) = root.read(b"EFI/Boot/BootX64.efi").unwrap();
        assert!(!rustix::fs::fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn case_may_be_told_not_to_matter() {
        let (dir, _) = tree();
        let path = dir.path().join("root");
        std::fs::write(path.join("EFI/Boot/bootx64.efi"), "lower").unwrap();
        let root = Root::open(&path, true).unwrap();
        assert_eq!(read(&root, "efi/boot/bootx64.efi").as_deref(), Ok("lower"));
        assert_eq!(read(&root, "efi/BOOT/BOOTX64.EFI").as_deref(), Ok("loader"), "B is before b");
        assert_eq!(read(&root, "efi/BOOT/other"), Err(PathError::NotFound));
        symlink("..", path.join("up")).unwrap();
        assert_eq!(read(&root, "UP/secret"), Err(PathError::Outside));
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let (dir, root) = tree();
        let path = dir.path().join("root");
        symlink("../secret", path.join("link")).unwrap();
        symlink(dir.path().join("secret"), path.join("absolute")).unwrap();
        symlink("..", path.join("up")).unwrap();
        symlink("EFI/Boot/BootX64.efi", path.join("inside")).unwrap();
        symlink("/proc/self/root", path.join("magic")).unwrap();
        for name in ["../secret", "EFI/../../secret", r"..\secret", "a\0b", "", "/", "."] {
            assert_eq!(read(&root, name), Err(PathError::BadName), "{name:?}");
        }
        for name in ["link", "absolute", "up/secret", "magic/etc/passwd"] {
            assert_eq!(read(&root, name), Err(PathError::Outside), "{name}");
        }
        assert_eq!(read(&root, "inside").as_deref(), Ok("loader"));
    }

    #[test]
    fn only_regular_files_are_served() {
        let (dir, root) = tree();
        let pipe = dir.path().join("root/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read(&root, "pipe"), Err(PathError::NotAFile));
        assert_eq!(read(&root, "EFI"), Err(PathError::NotAFile));
        assert_eq!(read(&root, "EFI/Boot/BootX64.efi/x"), Err(PathError::NotFound));
    }

    #[test]
    fn a_link_swapped_in_while_names_are_resolved_does_not_lead_out() {
        let (dir, root) = tree();
        let path = dir.path().join("root");
        std::fs::create_dir(path.join("real")).unwrap();
        std::fs::write(path.join("real/secret"), "harmless").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (here, new) = (path.join("door"), path.join("new"));
                while !stop.load(Ordering::Relaxed) {
                    for target in ["..", "real"] {
                        symlink(target, &new).unwrap();
                        std::fs::rename(&new, &here).unwrap();
                    }
                }
            });
            let mut seen = 0;
            for _ in 0..20_000 {
                match read(&root, "door/secret") {
                    Ok(text) => {
                        assert_eq!(text, "harmless");
                        seen += 1;
                    }
                    Err(error) => assert_ne!(error, PathError::Failed),
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(seen > 0, "the link never pointed inside");
        });
    }

    proptest! {
        #[test]
        fn relative_names_stay_relative(name in prop::collection::vec(prop::sample::select(b"ab./\\\0".to_vec()), 0..30)) {
            if let Ok(path) = relative(&name) {
                prop_assert!(!path.starts_with(b"/") && !path.contains(&0) && !path.contains(&b'\\'));
                prop_assert!(path.split(|&byte| byte == b'/').all(|part| part != b".." && part != b"." && !part.is_empty()));
            }
        }
    }
}
