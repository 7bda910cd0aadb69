//! Whether a start would forget what another server has given away.

use std::io;
use std::path::{Path, PathBuf};

use super::Options;
use crate::config::Server;
use crate::lease_files;

/// There are leases that were not imported: a server without them would give addresses away that
/// machines have.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    /// dhcpd has left some, and this server has none.
    #[error(
        "{file} holds leases of dhcpd, and {state_dir} holds none: stop dhcpd and run `{import}` \
         first, or start with --no-import to give addresses away that machines may have",
        file = file.display(),
        state_dir = state_dir.display()
    )]
    Dhcpd {
        /// dhcpd's leases.
        file: PathBuf,
        /// Where this server's would be.
        state_dir: PathBuf,
        /// The command that takes them over.
        import: String,
    },
    /// Whether dhcpd has left some cannot be told.
    #[error(
        "{file} may hold leases of dhcpd and cannot be read: {cause}; start with --no-import if it \
         holds none",
        file = file.display()
    )]
    Unreadable {
        /// dhcpd's leases.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// An import was broken off.
    #[error(
        "an import of leases was broken off, or is under way: do it again, or remove {mark} to \
         start with those that were written",
        mark = mark.display()
    )]
    BrokenOff {
        /// What tells of it.
        mark: PathBuf,
    },
}

/// Refuses a start that would forget leases. `first`: the state directory has no lease store yet.
pub(super) fn check(server: &Server, first: bool, options: &Options) -> Result<(), NotImported> {
    if let Some(mark) = lease_files::broken_off(&server.state_dir) {
        return Err(NotImported::BrokenOff { mark });
    }
    let Some(file) = server.lease_file.clone().filter(|_| first && !options.no_import) else {
        return Ok(());
    };
    match lease_files::has_leases(&file) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let (state_dir, import) = (server.state_dir.clone(), import(options, &file));
            Err(NotImported::Dhcpd { file, state_dir, import })
        }
        Err(cause) => Err(NotImported::Unreadable { file, cause }),
    }
}

/// The command that takes the leases of a file over, for this configuration.
fn import(options: &Options, file: &Path) -> String {
    let mut command = format!("bootstorm migrate --config {}", options.config_path.display());
    if let Some(state_dir) = &options.command_line.state_dir {
        command.push_str(&format!(" --state-dir {}", state_dir.display()));
    }
    command + &format!(" --leases {}", file.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn leases_are_not_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dhcpd.leases");
        let state_dir = directory.path().join("state");
        fs::create_dir(&state_dir).unwrap();
        let server = Server { lease_file: Some(file.clone()), state_dir, ..Server::default() };
        let options = |no_import| Options {
            config_path: PathBuf::from("/etc/dhcp/dhcpd.conf"),
            command_line: crate::config::CommandLine {
                state_dir: Some(PathBuf::from("/srv/state")),
                ..crate::config::CommandLine::default()
            },
            dry_run: false,
            no_import,
        };
        let check = |first, no_import| check(&server, first, &options(no_import));
        // None, and none in a file.
        assert!(check(true, false).is_ok());
        fs::write(&file, "# written by dhcpd\nserver-duid \"\\001\";\n").unwrap();
        assert!(check(true, false).is_ok());

        fs::write(&file, "# written by dhcpd\nlease 10.0.0.1 {\n}\n").unwrap();
        let error = check(true, false).unwrap_err().to_string();
        let command = format!(
            "`bootstorm migrate --config /etc/dhcp/dhcpd.conf --state-dir /srv/state --leases {}`",
            file.display()
        );
        assert!(error.contains(&command) && error.contains("--no-import"), "{error}");
        assert!(check(false, false).is_ok() && check(true, true).is_ok());

        fs::write(server.state_dir.join("lease-import"), "").unwrap();
        for (first, no_import) in [(true, true), (false, false)] {
            let error = check(first, no_import).unwrap_err().to_string();
            assert!(error.contains("was broken off"), "{error}");
        }
    }
}
