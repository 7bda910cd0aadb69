//! `bootstorm leases`

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use bootstorm::control::client::{Client, ClientError};
use bootstorm::control::lease_row::{Clocks, LeaseFilter, LeaseRow};
use bootstorm::control::protocol::{Request, Response};
use bootstorm::leases::{LeaseState, LeaseStore, Loaded, StatePlace, StoreError, Write};
use bootstorm::privileges;
use clap::Subcommand;

use super::{Answer, Failure, Outcome, ServerArg, complain, print_json, unexpected};

/// List, show, release, export and import leases
///
/// Asks the running server, or reads its store when it is down.
#[derive(Debug, clap::Args)]
pub(crate) struct Leases {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Every lease, by rising address
    List {
        #[command(flatten)]
        common: Common,
    },
    /// The leases of one address or one machine (exit 1 when there is none)
    Show {
        /// IPv4 address, or hardware address
        #[arg(value_name = "IP|MAC", value_parser = of)]
        of: String,
        #[command(flatten)]
        common: Common,
    },
    /// Write every lease as a file of another DHCP server, or as CSV
    Export(super::export::Export),
    /// Take over the leases of other servers' files; this server must be down
    Import(super::import::Import),
    /// Give an address back to its pool, whoever holds it (exit 1 when nobody does)
    ///
    /// The machine is not told: make sure that it is off, or it goes on using the address.
    Release {
        /// IPv4 address
        ip: Ipv4Addr,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    server: ServerArg,
    /// One JSON object a line: {"ip", "hardware", "state", "expires", ...}
    #[arg(long)]
    json: bool,
}

/// Checked before anybody is asked, kept as it was written.
fn of(text: &str) -> Result<String, String> {
    LeaseFilter::parse(text).map(|_| text.to_owned())
}

impl Leases {
    pub(crate) fn run(self, out: &mut dyn io::Write) -> Outcome {
        match self.what {
            What::List { common } => {
                let mut table = Table { json: common.json, headed: false, out };
                each(&common.server, &Request::LeasesList {}, |row| table.row(row))?;
                Ok(Answer::Yes)
            }
            What::Show { of, common } => {
                let mut shown = Answer::No;
                each(&common.server, &Request::LeasesShow { of: of.clone() }, |row| {
                    shown = Answer::Yes;
                    if common.json { print_json(out, row) } else { details(row, out) }
                })?;
                if shown == Answer::No {
                    complain(&format!("{of}: no lease"));
                }
                Ok(shown)
            }
            What::Export(export) => export.run(out),
            What::Import(import) => import.run(out),
            What::Release { ip, common } => {
                let mut released = Answer::No;
                each(&common.server, &Request::LeasesRelease { ip }, |row| {
                    released = Answer::Yes;
                    if common.json {
                        return print_json(out, row);
                    }
                    Ok(writeln!(out, "{}: released; it was held by {}", row.ip, row.hardware)?)
                })?;
                if released == Answer::No {
                    complain(&format!("{ip}: no lease to release"));
                }
                Ok(released)
            }
        }
    }
}

/// Hands over the leases that the request brings: from the server, or when it is down from its
/// store.
pub(super) fn each(
    server: &ServerArg,
    request: &Request,
    mut take: impl FnMut(&LeaseRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let state_dir = server.state_dir()?;
    let mut client = match Client::connect(&state_dir) {
        Ok(client) => client,
        Err(error @ ClientError::NotRunning { .. }) => {
            let place = StatePlace::new(&state_dir);
            let Some(present) = place.present() else { return Err(error.into()) };
            return stored(&place, &present, request, take);
        }
        Err(error) => return Err(error.into()),
    };
    client.ask(request)?;
    loop {
        match client.response()? {
            Response::Lease(row) => take(&row)?,
            Response::End(_) => return Ok(()),
            other => return Err(unexpected(&other)),
        }
    }
}

/// The same from the store of a server that is down; only a release changes anything there. Root
/// does it as the owner of the store, so that the server can still open what this leaves behind.
fn stored(
    place: &StatePlace,
    present: &Path,
    request: &Request,
    mut take: impl FnMut(&LeaseRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    privileges::become_owner_of(present).map_err(Failure::new)?;
    let clock = bootstorm::clock::read().map_err(|error| Failure::of("clock", error))?;
    let wanted = match request {
        Request::LeasesShow { of } => LeaseFilter::parse(of).map_err(Failure::new)?,
        Request::LeasesRelease { ip } => LeaseFilter::of_address(*ip),
        _ => LeaseFilter::all(),
    };
    // By rising address, as the keys are.
    let mut found = Vec::new();
    let mut each = |loaded: Loaded| match loaded {
        Loaded::Lease(lease, version) if wanted.admits(&lease) => found.push((lease, version)),
        Loaded::Lease(..) | Loaded::Erased(..) => {}
        Loaded::Corrupt(error) => complain(&error.to_string()),
    };
    let damage = if let Request::LeasesRelease { .. } = request {
        let store = place.open(&clock).map_err(store_failure)?;
        let recovered = store.load(&clock, &mut each).map_err(store_failure)?;
        found
            .retain(|(lease, _)| lease.is_active(clock.now) || lease.state == LeaseState::Declined);
        let mut writes = Vec::new();
        for (version, (lease, known)) in (recovered.version + 1..).zip(&mut found) {
            lease.state = LeaseState::Released;
            lease.expires = clock.now;
            let lease = lease.clone();
            writes.push(Write { ip: lease.ip, version, known: *known, lease: Some(lease) });
        }
        store.commit(&writes, &clock).map_err(store_failure)?;
        store.damage()
    } else {
        place.read(&clock, &mut each).map_err(store_failure)?
    };
    if let Some(damage) = damage {
        let place = present.display();
        complain(&format!("{place} is damaged: {damage}; leases that clients hold may be missing"));
    }
    let clocks = Clocks::read();
    found.iter().try_for_each(|(lease, _)| take(&LeaseRow::new(lease, &clocks)))
}

pub(super) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::InUse(_) => Failure::of(
            error,
            "try again when that is over; a server that has it open and does not listen on \
             its control socket is still starting, or stuck",
        ),
        other => Failure::new(other),
    }
}

/// Lines under a heading, or JSON.
struct Table<'o> {
    json: bool,
    headed: bool,
    out: &'o mut dyn io::Write,
}

impl Table<'_> {
    fn row(&mut self, row: &LeaseRow) -> Result<(), Failure> {
        if self.json {
            return print_json(self.out, row);
        }
        if !std::mem::replace(&mut self.headed, true) {
            self.line(["ADDRESS", "HARDWARE", "STATE", "EXPIRES", "HOSTNAME"])?;
        }
        let hostname = row.hostname.as_deref().unwrap_or_default();
        self.line([&row.ip, &row.hardware, &row.state, &row.expires, hostname])
    }

    fn line(&mut self, [ip, hardware, state, expires, hostname]: [&str; 5]) -> Result<(), Failure> {
        let line = format!("{ip:<15} {hardware:<17} {state:<8} {expires:<20} {hostname}");
        Ok(writeln!(self.out, "{}", line.trim_end())?)
    }
}

fn details(row: &LeaseRow, out: &mut dyn io::Write) -> Result<(), Failure> {
    let fields = [
        ("address", Some(&row.ip)),
        ("hardware", Some(&row.hardware)),
        ("state", Some(&row.state)),
        ("starts", Some(&row.starts)),
        ("expires", Some(&row.expires)),
        ("identity", Some(&row.identity)),
        ("hostname", row.hostname.as_ref()),
        ("client-id", row.client_id.as_ref()),
        ("circuit-id", row.circuit_id.as_ref()),
        ("remote-id", row.remote_id.as_ref()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            writeln!(out, "{:<12} {value}", format!("{name}:"))?;
        }
    }
    Ok(())
}
