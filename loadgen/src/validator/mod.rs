//! The validator checks every answer. It knows what was asked and which machine holds which
//! address, and nothing of the server's inside.

mod answers;
mod files;
mod kind;
mod leases;
mod parameters;
mod recorder;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bootstorm_protocols::time::Moment;
use foldhash::HashMap;

pub use self::answers::{Answer, Asked, Delivery, Offered, boot_file};
pub use self::files::{BlockOutcome, FileId, Files, Flaw, HTTP, LocalCopies};
pub use self::kind::Kind;
use self::leases::Holders;
use self::parameters::References;
pub use self::recorder::Recorder;
use crate::firmware::Program;
use crate::report::{Example, ViolationRow};

/// So many violations of a kind are kept with their details.
const EXAMPLES: usize = 5;

/// What was wrong, and with whom.
#[derive(Debug, Default)]
struct Row {
    count: u64,
    first: Vec<Example>,
}

/// What a scenario says of right answers; nothing of it is asked for where it is silent.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The boot file, by the program that asks.
    pub boot_files: BTreeMap<Program, String>,
    /// The router of all machines.
    pub router: Option<Ipv4Addr>,
    /// The server of boot files (siaddr).
    pub next_server: Option<Ipv4Addr>,
    /// Option 43 of PXE clients.
    pub option_43: Option<Vec<u8>>,
    /// A machine keeps its address through all stages, whatever its programs call themselves.
    pub one_address: bool,
}

/// Checks every answer of a run.
#[derive(Debug)]
pub struct Validator {
    start: Moment,
    holders: Holders,
    /// Server identifiers by the address that answered.
    servers: HashMap<Ipv4Addr, Ipv4Addr>,
    expected: Expected,
    references: References,
    /// Addresses that no machine may get.
    reserved: Vec<Ipv4Addr>,
    rows: BTreeMap<Kind, Row>,
    /// Recent packets, and those that are kept for the capture file.
    pub recorder: Recorder,
}

impl Validator {
    /// A validator without any state. `reserved` are addresses that no machine may get.
    pub fn new(
        start: Moment,
        expected: Expected,
        reserved: Vec<Ipv4Addr>,
        recorder: Recorder,
    ) -> Validator {
        Validator {
            start,
            holders: Holders::default(),
            servers: HashMap::default(),
            expected,
            references: References::default(),
            reserved,
            rows: BTreeMap::new(),
            recorder,
        }
    }

    /// Notes something wrong.
    pub fn violation(
        &mut self,
        kind: Kind,
        machine: u32,
        mac: [u8; 6],
        now: Moment,
        detail: impl FnOnce() -> String,
    ) {
        let row = self.rows.entry(kind).or_default();
        row.count += 1;
        if row.first.len() < EXAMPLES {
            let detail = detail();
            self.recorder.keep(machine, kind.name(), &detail);
            row.first.push(Example {
                at_seconds: now.since(self.start).as_secs_f64(),
                machine,
                mac: Mac(mac).to_string(),
                detail,
            });
        }
    }

    /// How many violations there were.
    pub fn violations(&self) -> u64 {
        self.rows.values().map(|row| row.count).sum()
    }

    /// All violations, for the report.
    pub fn rows(&self) -> Vec<ViolationRow> {
        let row = |(kind, row): (&Kind, &Row)| ViolationRow {
            kind: kind.name().to_owned(),
            meaning: kind.meaning().to_owned(),
            count: row.count,
            first: row.first.clone(),
        };
        self.rows.iter().map(row).collect()
    }

    /// The machine has given its address back.
    pub fn released(&mut self, address: Ipv4Addr, machine: u32) {
        self.holders.release(address, machine);
    }

    /// The machine has found the address in use.
    pub fn declined(&mut self, address: Ipv4Addr, machine: u32, now: Moment) {
        self.holders.decline(address, machine, now);
    }

    /// Machines and the addresses that they hold.
    pub fn leases(&self) -> Vec<(u32, Ipv4Addr)> {
        self.holders.leases()
    }

    /// The machine that holds an address.
    pub fn holder(&self, address: Ipv4Addr) -> Option<u32> {
        self.holders.holder(address)
    }
}

/// A hardware address as people write it.
#[derive(Copy, Clone, Debug)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
