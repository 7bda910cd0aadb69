//! From the name in a request to an open file, never outside of the root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use bootstorm_protocols::tftp::ErrorCode;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;

use super::search::{self, Listings};

/// The directory that no request leaves. The kernel enforces it (openat2, RESOLVE_BENEATH): neither
/// `..` nor a symbolic link leads out, not even one that is replaced while a name is resolved.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    /// For names that differ in case; `None` where only exact names are found.
    listings: Option<Listings>,
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
    /// With a NUL, or of an upload to a directory.
    BadName: "bad file name", AccessViolation;
    /// No such file.
    NotFound: "file not found", FileNotFound;
    /// `..` or a symbolic link leads out of the root.
    Outside: "file is outside of the TFTP root", AccessViolation;
    /// The server has no permission.
    Denied: "permission denied", AccessViolation;
    /// A directory, a device, a pipe. No such file, by its code: a client that tries several names,
    /// as shim does, goes on after code 1 only.
    NotAFile: "not a regular file", FileNotFound;
    /// The name of an upload is taken.
    Exists: "file exists", FileExists;
    /// Anything else: too many open files, a failing disk.
    Failed: "cannot open file", NotDefined;
}

impl From<Errno> for PathError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Self::NotFound,
            // EXDEV is what RESOLVE_BENEATH says, ELOOP what RESOLVE_NO_MAGICLINKS says.
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
        Ok(Self { dir, listings: case_insensitive.then(Listings::default) })
    }

    /// Opens a regular file for reading. `name` is relative to the root, as [`relative`] makes it.
    pub(super) fn read(&self, name: &[u8]) -> Result<(File, Stat), PathError> {
        match (self.regular_file(name), &self.listings) {
            (Err(PathError::NotFound | PathError::NotAFile), Some(listings)) => {
                search::open(self, listings, name)
            }
            (opened, _) => opened,
        }
    }

    /// Opens the regular file of exactly this name for reading.
    pub(super) fn regular_file(&self, name: &[u8]) -> Result<(File, Stat), PathError> {
        // Without O_NONBLOCK a pipe in the root would hold the thread until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.beneath(name, flags)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PathError::NotAFile);
        }
        // With it a read through a ring fails with EAGAIN on NFS or FUSE instead of waiting.
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
        if matches!(last, b"." | b"..") {
            return Err(PathError::BadName);
        }
        Ok((self.directory(directory, OFlags::PATH)?, last))
    }

    /// Opens a directory.
    pub(super) fn directory(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, PathError> {
        Ok(self.beneath(name, flags | OFlags::DIRECTORY | OFlags::CLOEXEC)?)
    }

    fn beneath(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a directory was moved meanwhile, so the kernel cannot tell and wants a retry.
        let mut tries = 4;
        loop {
            tries -= 1;
            match openat2(&self.dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries > 0 => {}
                opened => return opened,
            }
        }
    }
}

/// Turns the name in a request into a path relative to the root. Backslashes are slashes, since
/// Windows loaders and shim write them; an absolute name begins at the root; empty components and
/// `.` are left out. `..` stays: the kernel resolves it, as it does symbolic links.
///
/// # Errors
/// [`PathError::BadName`] for a NUL.
pub(super) fn relative(name: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/' || byte == b'\\') {
        match component {
            b"" | b"." => {}
            component if component.contains(&0) => return Err(PathError::BadName),
            component => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    if path.is_empty() {
        path.push(b'.');
    }
    Ok(path)
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
    fn dots_are_resolved_inside_the_root() {
        let (dir, root) = tree();
        let path = dir.path().join("root");
        symlink("EFI/Boot", path.join("short")).unwrap();
        for name in [
            "EFI/../EFI/Boot/BootX64.efi",
            "/EFI/Boot/../Boot/BootX64.efi",
            r"\EFI\Boot\..\..\EFI\Boot\BootX64.efi",
            // The parent of where the link leads, as in a shell's `ls`.
            "short/../Boot/BootX64.efi",
        ] {
            assert_eq!(read(&root, name).as_deref(), Ok("loader"), "{name}");
        }
        assert_eq!(read(&root, "none/../EFI/Boot/BootX64.efi"), Err(PathError::NotFound));
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
        assert_eq!(read(&root, "a\0b"), Err(PathError::BadName));
        for name in [
            "../secret",
            "..",
            "EFI/../../secret",
            r"..\secret",
            "/../secret",
            "EFI/Boot/../../../root/EFI/Boot/BootX64.efi",
            "link",
            "absolute",
            "up/secret",
            "EFI/../up/secret",
            "magic/etc/passwd",
        ] {
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
        for name in ["EFI", "EFI/", "EFI/..", "", "/", r"\", "."] {
            assert_eq!(read(&root, name), Err(PathError::NotAFile), "{name:?}");
        }
        assert_eq!(PathError::NotAFile.code(), ErrorCode::FileNotFound);
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
                let (here, new) = (path.join("link"), path.join("new"));
                while !stop.load(Ordering::Relaxed) {
                    for target in ["..", "real"] {
                        symlink(target, &new).unwrap();
                        std::fs::rename(&new, &here).unwrap();
                    }
                }
            });
            let mut seen = 0;
            for _ in 0..20_000 {
                match read(&root, "link/secret") {
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
        fn relative_names_stay_relative(
            name in prop::collection::vec(prop::sample::select(b"ab./\\\0".to_vec()), 0..30)
        ) {
            if let Ok(path) = relative(&name) {
                prop_assert!(!path.contains(&0) && !path.contains(&b'\\'));
                let mut parts = path.split(|&byte| byte == b'/');
                prop_assert!(path == b"." || parts.all(|part| part != b"." && !part.is_empty()));
            }
        }
    }
}
