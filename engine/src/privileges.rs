//! Least privilege: once its sockets are open the server becomes a user of its own. The thread that
//! owns the server keeps what it needs to open sockets on an interface that comes later or is made
//! again, for binding ports 67 and 69, for the question who else serves DHCP there (and for binding
//! to an interface before Linux 5.7), and for large receive buffers. All other threads give it up.
//!
//! The kernel keeps users and capabilities per thread; a new thread takes over those of the thread
//! that starts it. So this happens before the first thread is started.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What can go wrong on the way to less privilege.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The configured user does not exist.
    #[error(
        "server.user {name:?}: no such user in /etc/passwd; create it with `useradd --system {name}`, or name another"
    )]
    NoUser {
        /// As configured.
        name: String,
    },
    /// The configured group does not exist.
    #[error(
        "server.group {name:?}: no such group in /etc/group; create it with `groupadd --system {name}`, or name another"
    )]
    NoGroup {
        /// As configured.
        name: String,
    },
    /// The user database cannot be read.
    #[error("{path}: {cause}")]
    Database {
        /// Which file.
        path: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The process has threads already, which would keep their privileges.
    #[error("privileges can only be dropped before threads are started, and {0} run already")]
    Threads(usize),
    /// A step that the kernel refused.
    #[error("cannot {step}: {cause}; start as root, or leave server.user out")]
    Refused {
        /// Which step.
        step: &'static str,
        /// The kernel's reason.
        cause: io::Error,
    },
    /// The state directory cannot be made or given to the user.
    #[error("state-dir {path}: {cause}", path = path.display())]
    StateDir {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// Groups the user is a member of besides its own.
    groups: Vec<u32>,
}

impl Account {
    /// Looks up a user by name, or by number, in /etc/passwd and /etc/group.
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        Self::parse(name, &read("/etc/passwd")?, &read("/etc/group")?)
            .ok_or_else(|| PrivilegeError::NoUser { name: name.to_owned() })
    }

    /// The same user with another group than its own, by name or by number.
    pub fn with_group(self, name: &str) -> Result<Self, PrivilegeError> {
        let gid = group_id(name, &read("/etc/group")?)
            .ok_or_else(|| PrivilegeError::NoGroup { name: name.to_owned() })?;
        Ok(Self { gid, ..self })
    }

    /// passwd(5): name:password:uid:gid:…; group(5): name:password:gid:member,member
    fn parse(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let (name, uid, gid) = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (user, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
            (user == name || uid == name).then_some((user, uid.parse().ok()?, gid.parse().ok()?))
        })?;
        let groups = group
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':').skip(2);
                let (gid, members) = (fields.next()?.parse().ok()?, fields.next()?);
                members.split(',').any(|member| member == name).then_some(gid)
            })
            .collect();
        Some(Self { uid, gid, groups })
    }
}

fn read(path: &'static str) -> Result<String, PrivilegeError> {
    fs::read_to_string(path).map_err(|cause| PrivilegeError::Database { path, cause })
}

/// group(5)
fn group_id(name: &str, group: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (group, gid) = (fields.next()?, fields.nth(1)?);
        (group == name || gid == name).then(|| gid.parse().ok())?
    })
}

/// What the server can need, by its name, and what it is for.
const NEEDED: [(CapabilitySet, &str, &str); 3] = [
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", "ports 67 and 69"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW", "replies to clients that have no address yet"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", "receive buffers above net.core.rmem_max"),
];

fn needed() -> CapabilitySet {
    NEEDED.iter().fold(CapabilitySet::empty(), |set, (capability, ..)| set | *capability)
}

/// What this thread lacks: the capability's name and what it would be for. Empty for root.
/// Where anybody may have receive buffers of `buffer` bytes no capability is missing for them.
pub fn missing(buffer: usize) -> Vec<(&'static str, &'static str)> {
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    let large = limit.trim().parse::<usize>().is_ok_and(|limit| limit >= buffer);

    let held = rustix::thread::capabilities(None)
        .map_or(CapabilitySet::empty(), |capabilities| capabilities.effective);
    NEEDED
        .iter()
        .filter(|(capability, ..)| !held.contains(*capability))
        .filter(|(capability, ..)| *capability != CapabilitySet::NET_ADMIN || !large)
        .map(|&(_, name, purpose)| (name, purpose))
        .collect()
}

/// Makes the state directory if it is not there (mode 0750). With an account, the directory and
/// `contents`, those of its entries that are the server's own, are given to it; what else lies
/// there is left alone, and no symbolic link is followed.
pub fn prepare_state_dir(
    directory: &Path,
    contents: &[&str],
    account: Option<&Account>,
) -> Result<(), PrivilegeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| PrivilegeError::StateDir { path, cause }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|error| match error.kind() {
            // Else the kernel says that the file exists.
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        })
        .map_err(failed(directory))?;
    let Some(account) = account else { return Ok(()) };
    give(directory, account).map_err(failed(directory))?;
    for name in contents {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            give_tree(&path, account).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn give(path: &Path, account: &Account) -> io::Result<()> {
    let owner = path.symlink_metadata()?;
    if (owner.uid(), owner.gid()) == (account.uid, account.gid) {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
}

fn give_tree(path: &Path, account: &Account) -> io::Result<()> {
    give(path, account)?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_tree(&entry?.path(), account)?;
        }
    }
    Ok(())
}

/// Root becomes the owner of `path` (a file or directory), so that what it writes beside it belongs
/// to that user, too; anybody else stays. For a subcommand, which ends soon and needs no way back.
pub fn become_owner_of(path: &Path) -> Result<(), PrivilegeError> {
    let failed = |cause| PrivilegeError::StateDir { path: path.to_owned(), cause };
    let owner = path.metadata().map_err(failed)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    drop_to(&Account { uid: owner.uid(), gid: owner.gid(), groups: Vec::new() })
}

/// Becomes `account` and keeps, of what it has, CAP_NET_BIND_SERVICE, CAP_NET_RAW and
/// CAP_NET_ADMIN, to open sockets on an interface that comes later. Call while the process has one
/// thread.
pub fn drop_to(account: &Account) -> Result<(), PrivilegeError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    allow_urgency();
    drop_thread(account)
}

/// Lets threads of this process go down to nice -10 later, when the right to do so is gone.
fn allow_urgency() {
    // 20 less the nice value: setrlimit(2).
    let nice = Rlimit { current: Some(30), maximum: Some(30) };
    // Where it may not be raised everything works as well, only slower beside a busy shard.
    let _ = setrlimit(Resource::Nice, nice);
}

fn drop_thread(account: &Account) -> Result<(), PrivilegeError> {
    let refused = |step| {
        move |cause: rustix::io::Errno| PrivilegeError::Refused { step, cause: cause.into() }
    };
    let held = rustix::thread::capabilities(None).map_err(refused("read capabilities"))?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    if rustix::process::geteuid() != uid {
        // Without this the kernel clears the permitted set as the user changes.
        rustix::thread::set_keep_capabilities(true).map_err(refused("keep capabilities"))?;
        rustix::thread::set_thread_groups(&groups).map_err(refused("set groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(refused("set the group"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(refused("set the user"))?;
        rustix::thread::set_keep_capabilities(false).map_err(refused("reset keep-caps"))?;
    }
    set_capabilities(held.permitted & needed()).map_err(refused("reduce capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(refused("set no_new_privs"))
}

/// Gives up every capability of the calling thread, and of those it will start. For every thread
/// but the one that opens sockets; one that cannot goes on, and says so.
pub fn renounce_or_warn() {
    keep_or_warn(CapabilitySet::empty());
}

/// Gives up the capabilities that are for sockets. For threads that read and write files: where
/// root serves as root, files of other users stay open to it.
pub fn renounce_network_or_warn() {
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |c| c.permitted);
    keep_or_warn(held - needed());
}

fn keep_or_warn(kept: CapabilitySet) {
    if let Err(error) = set_capabilities(kept) {
        let name = std::thread::current().name().unwrap_or("a").to_owned();
        tracing::warn!("thread {name} keeps its capabilities: {error}");
    }
}

fn set_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken line\n\
        bootstorm:x:990:991::/var/lib/bootstorm:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nbootstorm:x:991:\nadm:x:4:syslog,bootstorm\nstorm:x:7:boot\n";

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let expected = Account { uid: 990, gid: 991, groups: vec![4] };
        assert_eq!(Account::parse("bootstorm", PASSWD, GROUP), Some(expected.clone()));
        assert_eq!(Account::parse("990", PASSWD, GROUP), Some(expected));
        assert_eq!(Account::parse("nobody", PASSWD, GROUP), None);
        assert_eq!((group_id("storm", GROUP), group_id("4", GROUP)), (Some(7), Some(4)));
        assert_eq!(group_id("nogroup", GROUP), None);
    }

    #[test]
    fn a_user_that_does_not_exist_is_named_with_the_way_out() {
        let error = Account::find("no-such-user-here").unwrap_err().to_string();
        assert!(error.contains("no-such-user-here") && error.contains("useradd"), "{error}");
    }

    #[test]
    fn a_process_with_threads_does_not_drop() {
        let account = Account { uid: 65534, gid: 65534, groups: vec![] };
        // The test harness itself runs threads.
        assert!(matches!(drop_to(&account), Err(PrivilegeError::Threads(2..))));
    }

    /// Users and capabilities are per thread, so a thread can drop and the rest of the test process
    /// stays as it is.
    #[test]
    fn dropping_keeps_only_what_a_reload_needs() {
        let privileged = rustix::process::geteuid().is_root() && missing(usize::MAX).is_empty();
        let outcome = std::thread::spawn(|| {
            let account = Account { uid: 65534, gid: 65534, groups: vec![] };
            let dropped = drop_thread(&account);
            let after = rustix::thread::capabilities(None).unwrap();
            (dropped, rustix::process::geteuid().as_raw(), after, rustix::thread::no_new_privs())
        })
        .join()
        .unwrap();
        let (dropped, uid, after, no_new_privs) = outcome;
        if privileged {
            dropped.unwrap();
            assert_eq!(uid, 65534);
            assert_eq!(
                after.permitted,
                CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN
            );
            assert!(no_new_privs.unwrap());
        } else if uid != 65534 {
            let error = dropped.unwrap_err().to_string();
            assert!(error.contains("start as root"), "{error}");
        }
    }

    #[test]
    fn a_thread_that_renounces_lacks_everything() {
        let lacking = std::thread::spawn(|| {
            renounce_or_warn();
            missing(usize::MAX).len()
        });
        assert_eq!(lacking.join().unwrap(), NEEDED.len());
    }

    #[test]
    fn the_state_directory_is_made_and_strangers_in_it_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/state");
        prepare_state_dir(&directory, &[], None).unwrap();
        assert_eq!(directory.metadata().unwrap().mode() & 0o777, 0o750);
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = prepare_state_dir(&file, &[], None).unwrap_err().to_string();
        assert!(error.ends_with("file: not a directory"), "{error}");

        fs::create_dir(directory.join("leases")).unwrap();
        fs::write(directory.join("leases/journal"), b"").unwrap();
        fs::write(directory.join("stranger"), b"").unwrap();
        let before = directory.join("stranger").metadata().unwrap().uid();
        let account = Account { uid: 65534, gid: 65534, groups: vec![] };
        match prepare_state_dir(&directory, &["leases", "absent"], Some(&account)) {
            Ok(()) => {
                assert_eq!(directory.join("leases/journal").metadata().unwrap().uid(), 65534);
                assert_eq!(directory.join("stranger").metadata().unwrap().uid(), before);
            }
            // Only root can give files away.
            Err(error) => assert!(error.to_string().contains("state-dir"), "{error}"),
        }
    }
}
