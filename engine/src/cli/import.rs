//! `bootstorm leases import`, and the part of `bootstorm migrate` that is the same.

use std::io::Write;
use std::path::{Path, PathBuf};

use bootstorm::config::{self, Config, LIVE_HOSTS, Server};
use bootstorm::lease_files::{self, Existing, ImportError, Store, Taken};
use bootstorm::leases::{Clock, ENTRIES};
use bootstorm::live_hosts::{self, By, LiveHosts, Origin};
use bootstorm::privileges::{self, Account, PrivilegeError};
use jiff::Timestamp;

use super::leases::store_failure;
use super::{Answer, Failure, Outcome, ServerArg, complain, rendered};

/// Takes over leases of other servers' files
///
/// Each file is a dhcpd.leases of ISC dhcpd, a memfile of Kea's DHCPv4 server, or CSV as `leases
/// export --format csv` writes it; which one is told by its first line. In a file the last record
/// of an address counts. Two files are those of a failover pair: of two leases of an address the
/// one whose client was heard of last counts. What was taken, changed and dropped is printed, and
/// why.
///
/// The server must be down. If this is broken off, the server does not start before it was done
/// again. Doing it twice changes nothing.
///
/// Hosts that OMAPI made in dhcpd become live hosts, as `bootstorm host list` shows them.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Files of leases
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub(super) struct How {
    #[command(flatten)]
    server: ServerArg,
    /// Put the leases of the files together with those that the server has: of two leases of an
    /// address the later one counts
    #[arg(long)]
    merge: bool,
    /// Say what would be taken, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        import(&self.files, &self.how, out)
    }
}

/// Writes the leases of files into the lease store.
pub(super) fn import(files: &[PathBuf], how: &How, out: &mut dyn Write) -> Outcome {
    let Config { server, dhcp, .. } = how.server.config.load()?;
    let state_dir = how.server.state_dir.clone().unwrap_or_else(|| server.state_dir.clone());
    let clock = bootstorm::clock::read().map_err(|error| Failure::of("clock", error))?;
    let mut taken = Taken::new(&dhcp);
    for file in files {
        taken.read(file).map_err(Failure::new)?;
    }
    let store = if how.dry_run { None } else { Some(open(&state_dir, &server, &clock)?) };
    let path = state_dir.join(LIVE_HOSTS);
    let mut live = LiveHosts::read(&path).map_err(Failure::new)?;
    let (hosts, deleted) = taken.take_hosts();
    let (leases, mut report) = taken.finish(&clock);
    let origin = Origin::new(Timestamp::now(), By::Import);
    report.hosts = lease_files::take_hosts(&hosts, &deleted, &dhcp, &mut live, &mut report, origin);
    for line in report.lines() {
        writeln!(out, "{line}")?;
    }
    let Some(store) = store else {
        writeln!(out, "nothing is written (--dry-run)")?;
        return Ok(Answer::Yes);
    };
    let existing = if how.merge { Existing::Merge } else { Existing::Refuse };
    let plan = store.plan(leases, existing).map_err(failure)?;
    if report.hosts > 0 {
        write_hosts(&mut live, &path, how)?;
    }
    let done = plan.write().map_err(failure)?;
    writeln!(
        out,
        "written: {} leases to {}; {} were there already, {} are there with a later lease",
        done.written,
        state_dir.display(),
        done.same,
        done.older
    )?;
    if !clock.synchronised {
        complain(
            "the clock of this host is not synchronised: the leases of the files end at times of \
             day, so set it before clients renew",
        );
    }
    Ok(Answer::Yes)
}

/// Opens the lease store: while it is open no server has the state directory.
fn open(state_dir: &Path, server: &Server, clock: &Clock) -> Result<Store, Failure> {
    let account = account(server).map_err(Failure::new)?;
    privileges::prepare_state_dir(state_dir, &ENTRIES, account.as_ref()).map_err(Failure::new)?;
    // What was read may be root's alone.
    privileges::become_owner_of(state_dir).map_err(Failure::new)?;
    Store::open(state_dir, clock).map_err(failure)
}

/// Puts the live hosts into their file, if the configuration is right with them.
fn write_hosts(live: &mut LiveHosts, path: &Path, how: &How) -> Result<(), Failure> {
    live_hosts::fold(path).map_err(Failure::new)?;
    let new = path.with_added_extension("new");
    live.write(&new).map_err(Failure::new)?;
    if let Err(error) = config::load_beside(&how.server.config.path(), &new) {
        live_hosts::remove(&new);
        return Err(rendered(error));
    }
    live.replace(&new, path).map_err(Failure::new)
}

fn account(server: &Server) -> Result<Option<Account>, PrivilegeError> {
    let Some(user) = &server.user else { return Ok(None) };
    let account = Account::find(user)?;
    Ok(Some(match &server.group {
        Some(group) => account.with_group(group)?,
        None => account,
    }))
}

fn failure(error: ImportError) -> Failure {
    match error {
        ImportError::Store(error) => store_failure(error),
        other => Failure::new(other),
    }
}
