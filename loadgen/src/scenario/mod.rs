//! Scenarios: who boots when, by which firmware, what it fetches, and what may go wrong on the way.
//! TOML, checked.

mod library;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

pub use self::library::{Built, LIBRARY};
use crate::firmware::Program;
use crate::report::Loop;
use crate::units::{Share, Size, Span};
use crate::validator::Expected;

/// A storm as it is written down. `deny_unknown_fields` everywhere: a misspelt key must not be a
/// silent default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it plays, in a sentence.
    pub summary: String,
    /// How many machines there are.
    pub machines: u32,
    /// When the run ends, whoever is still at it.
    pub limit: Span,
    /// What is asked of the server; `--slo` adds to it.
    #[serde(default)]
    pub slo: String,
    /// When machines are powered on.
    #[serde(default)]
    pub arrival: Arrival,
    /// Firmware of the machines, by weight.
    #[serde(default)]
    pub firmware: BTreeMap<Program, u32>,
    /// What a machine does after its power-on self test, one after the other.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// Boots that a machine tries before it gives up.
    #[serde(default = "one")]
    pub boot_attempts: u8,
    /// Pause between a boot that failed and the next.
    #[serde(default)]
    pub boot_pause: Span,
    /// Files that the server must have, and their sizes: `bootstorm-load files` makes them.
    #[serde(default)]
    pub files: BTreeMap<String, Size>,
    /// The boot file that the server must name, by the program that asks.
    #[serde(default)]
    pub expect_boot_file: BTreeMap<Program, String>,
    /// The router that all machines must be told.
    #[serde(default)]
    pub expect_router: Option<Ipv4Addr>,
    /// The server of boot files (siaddr) that all machines must be told.
    #[serde(default)]
    pub expect_next_server: Option<Ipv4Addr>,
    /// Option 43 that PXE clients must be told, in hexadecimal.
    #[serde(default)]
    pub expect_option_43: Option<String>,
    /// A machine must get one address in all of its stages, though its programs identify themselves
    /// in different ways; without it, as long as they do it in the same way.
    #[serde(default)]
    pub one_address: bool,
    /// Machines that are up renew their leases.
    #[serde(default)]
    pub renew: bool,
    /// The lease time that clients ask for (option 51).
    #[serde(default)]
    pub lease_time: Option<Span>,
    /// Racks that lose power.
    #[serde(default)]
    pub power_cuts: Option<PowerCuts>,
    /// Somebody who asks in many names.
    #[serde(default)]
    pub attack: Option<Attack>,
    /// Machines that find their address in use.
    #[serde(default)]
    pub decline: Option<Decline>,
    /// The network between machines and server.
    #[serde(default)]
    pub network: Network,
}

fn one() -> u8 {
    1
}

/// When machines are powered on. Without `rate` and `in-flight`: by racks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Arrival {
    /// Machines that are powered on together; 0 is all.
    pub rack: u32,
    /// From one rack to the next, as staggering PDUs do.
    pub every: Span,
    /// Shortest and longest power-on self test.
    pub post: [Span; 2],
    /// Machines a second instead, evenly.
    pub rate: Option<f64>,
    /// A machine begins when another has finished, so that so many are at it at any time.
    pub in_flight: Option<u32>,
    /// Machines take turns for so long, each beginning anew when its turn comes again.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
}

/// One thing that a machine does on its way.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Gets a lease.
    Dhcp(Requester),
    /// Sends a DISCOVER and waits for the OFFER, nothing else.
    Discover(Requester),
    /// Asks whether the address of its last lease is still its own (INIT-REBOOT), as an installed
    /// system does when it starts.
    Reboot(Requester),
    /// Asks for parameters with the address that it has (INFORM).
    Inform(Requester),
    /// Gives its address back (RELEASE).
    Release(Requester),
    /// Fetches files by TFTP; [`BOOT_FILE`] is the one that the server named.
    Tftp(Vec<String>),
    /// Fetches paths by HTTP.
    Http(Vec<String>),
}

/// Stands for the boot file that the server named.
pub const BOOT_FILE: &str = "@boot-file";

/// Which program asks for a lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requester {
    /// The machine's own, by the weights of `firmware`.
    Firmware,
    /// iPXE.
    Ipxe,
    /// The installer.
    Installer,
    /// A bare exchange.
    Plain,
}

/// Racks lose power and get it back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PowerCuts {
    /// How often each rack does.
    pub times: u32,
    /// Time from power-on to the cut, shortest and longest.
    pub after: [Span; 2],
    /// How long it is off.
    pub off: Span,
}

/// Somebody draws random hardware addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attack {
    /// Made-up clients a second.
    pub rate: f64,
    /// For how long; the whole run when it is not said.
    #[serde(default)]
    pub lasts: Option<Span>,
    /// They take the addresses that they are offered.
    #[serde(default = "yes")]
    pub take: bool,
}

fn yes() -> bool {
    true
}

/// Machines find the address that they were given in use, and decline it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Decline {
    /// How many of the machines.
    pub share: Share,
    /// How often each.
    pub times: u8,
}

/// What the network does to datagrams, each way.
#[derive(Copy, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Network {
    /// Lost.
    pub loss: Share,
    /// Delivered twice.
    pub duplicate: Share,
    /// Held back so long that later ones overtake it.
    pub reorder: Share,
    /// How long every datagram takes.
    pub delay: Span,
    /// Up to so much longer, drawn for each.
    pub jitter: Span,
}

impl Network {
    /// Whether it does anything.
    pub fn is_perfect(&self) -> bool {
        *self == Network::default()
    }
}

/// A scenario that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// No such name and no such file.
    #[error(
        "no scenario is called `{0}`, and no file either; `bootstorm-load scenarios` lists the \
         built-in ones"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Its path.
        path: String,
        /// From the system.
        error: std::io::Error,
    },
    /// Not TOML, or not a scenario.
    #[error("{name}: {error}")]
    Syntax {
        /// The scenario or file.
        name: String,
        /// With line and column.
        error: Box<toml::de::Error>,
    },
    /// `--set` with something that is no key.
    #[error("--set {0}: write KEY=VALUE, such as arrival.every=500ms or machines=200")]
    Override(String),
    /// Well written, but makes no sense.
    #[error("{name}: {why}")]
    Invalid {
        /// The scenario or file.
        name: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl Scenario {
    /// Finds a built-in scenario by its name, or reads the file of that path, and applies
    /// `KEY=VALUE` overrides.
    ///
    /// # Errors
    /// [`ScenarioError`] says what is wrong and where.
    pub fn load(name: &str, overrides: &[String]) -> Result<Scenario, ScenarioError> {
        let text = match LIBRARY.iter().find(|built| built.name == name) {
            Some(built) => built.text.to_owned(),
            None if Path::new(name).exists() => std::fs::read_to_string(name)
                .map_err(|error| ScenarioError::Unreadable { path: name.to_owned(), error })?,
            None => return Err(ScenarioError::Unknown(name.to_owned())),
        };
        Scenario::parse(name, &text, overrides)
    }

    /// Reads a scenario from its text.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Scenario, ScenarioError> {
        let syntax =
            |error| ScenarioError::Syntax { name: name.to_owned(), error: Box::new(error) };
        let scenario: Scenario = if overrides.is_empty() {
            toml::from_str(text).map_err(syntax)?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(syntax)?;
            for each in overrides {
                set(&mut table, each).ok_or_else(|| ScenarioError::Override(each.clone()))?;
            }
            table.try_into().map_err(syntax)?
        };
        match scenario.problem() {
            Some(why) => Err(ScenarioError::Invalid { name: name.to_owned(), why }),
            None => Ok(scenario),
        }
    }

    /// What makes no sense in it.
    fn problem(&self) -> Option<String> {
        let most = crate::identity::MOST_MACHINES;
        if self.machines == 0 || self.machines > most {
            return Some(format!("machines = {}: 1 to {most} can be played", self.machines));
        }
        if self.stages.is_empty() {
            return Some("no [[stage]]: a machine must do something".to_owned());
        }
        if self.boot_attempts == 0 {
            return Some("boot-attempts = 0: a machine boots at least once".to_owned());
        }
        if self.limit.0.is_zero() {
            return Some("limit = 0: the run must last".to_owned());
        }
        let [shortest, longest] = self.arrival.post;
        if shortest > longest {
            return Some("arrival.post: the shortest time comes first".to_owned());
        }
        if let Some(rate) = self.arrival.rate
            && !is_rate(rate)
        {
            return Some(format!("arrival.rate = {rate}: 0.001 to 10,000,000"));
        }
        if self.arrival.in_flight == Some(0) {
            return Some("arrival.in-flight = 0: at least one machine must be at it".to_owned());
        }
        if self.arrival.rate.is_some() && self.arrival.in_flight.is_some() {
            return Some("arrival: either rate or in-flight, not both".to_owned());
        }
        let by_firmware = |stage: &Stage| stage.requester() == Some(Requester::Firmware);
        if self.stages.iter().any(by_firmware) && self.firmware.values().sum::<u32>() == 0 {
            return Some(
                "[firmware] is empty: say which the machines have, such as edk2 = 1".into(),
            );
        }
        let boot_file = |files: &Vec<String>| files.iter().any(|file| file == BOOT_FILE);
        let named = |stage: &Stage| matches!(stage, Stage::Tftp(files) if boot_file(files));
        if self.stages.iter().position(named).is_some_and(|at| {
            !self.stages[..at].iter().any(|stage| matches!(stage, Stage::Dhcp(_)))
        }) {
            return Some(format!("`{BOOT_FILE}` before any dhcp stage: nobody has named it yet"));
        }
        let leased = |stage: &Stage| {
            matches!(stage, Stage::Reboot(_) | Stage::Inform(_) | Stage::Release(_))
        };
        if self.stages.iter().position(leased).is_some_and(|at| {
            !self.stages[..at].iter().any(|stage| matches!(stage, Stage::Dhcp(_)))
        }) {
            return Some(
                "reboot, inform or release before any dhcp stage: the machine has no address yet"
                    .to_owned(),
            );
        }
        if let Some(attack) = &self.attack
            && !is_rate(attack.rate)
        {
            return Some(format!("attack.rate = {}: 0.001 to 10,000,000", attack.rate));
        }
        if let Some(text) = self.expect_option_43.as_deref()
            && from_hex(text).is_none()
        {
            return Some(format!(
                "expect-option-43 = \"{text}\": write bytes in hexadecimal, such as \"060108ff\""
            ));
        }
        if let Some(cuts) = &self.power_cuts
            && cuts.times > 200
        {
            return Some(format!("power-cuts.times = {}: at most 200", cuts.times));
        }
        None
    }

    /// What right answers look like.
    pub fn expected(&self) -> Expected {
        Expected {
            boot_files: self.expect_boot_file.clone(),
            router: self.expect_router,
            next_server: self.expect_next_server,
            option_43: self.expect_option_43.as_deref().and_then(from_hex),
            one_address: self.one_address,
        }
    }

    /// Whether playing it harms a network: it needs `--attack`.
    pub fn is_attack(&self) -> bool {
        self.attack.is_some() || self.decline.is_some()
    }

    /// Whether anybody asks for an address.
    pub fn asks_for_addresses(&self) -> bool {
        self.stages.iter().any(|stage| stage.requester().is_some()) || self.attack.is_some()
    }

    /// What decides when machines begin.
    pub fn load_loop(&self) -> Loop {
        if self.arrival.in_flight.is_some() { Loop::Closed } else { Loop::Open }
    }

    /// Whether anybody loads by TFTP.
    pub fn loads(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Tftp(_)))
    }

    /// Whether machines have anything to say from their own addresses.
    pub fn uses_own_addresses(&self) -> bool {
        self.loads() || self.fetches() || self.sends_unicast_dhcp()
    }

    /// Whether machines send DHCP messages straight to the server.
    pub fn sends_unicast_dhcp(&self) -> bool {
        let unicast = |stage: &Stage| matches!(stage, Stage::Inform(_) | Stage::Release(_));
        self.renew || self.stages.iter().any(unicast)
    }

    /// Whether anybody fetches by HTTP.
    pub fn fetches(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Http(_)))
    }
}

/// Bytes from their hexadecimal digits; colons may stand between them.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Whether so many things a second can be played.
pub fn is_rate(rate: f64) -> bool {
    (0.001..=1e7).contains(&rate)
}

impl Stage {
    /// Who asks, where it is a matter of DHCP.
    pub fn requester(&self) -> Option<Requester> {
        match *self {
            Stage::Dhcp(requester)
            | Stage::Discover(requester)
            | Stage::Reboot(requester)
            | Stage::Inform(requester)
            | Stage::Release(requester) => Some(requester),
            Stage::Tftp(_) | Stage::Http(_) => None,
        }
    }
}

impl Requester {
    /// The program that asks on a machine of this firmware.
    pub fn of(self, firmware: Program) -> Program {
        match self {
            Requester::Firmware => firmware,
            Requester::Ipxe => firmware.its_ipxe(),
            Requester::Installer => Program::Installer,
            Requester::Plain => Program::Plain,
        }
    }
}

/// Puts `a.b=value` into a table; a name with a dot in it stands in quotes, as in TOML. A value
/// that is no TOML of its own is a text.
fn set(table: &mut toml::Table, assignment: &str) -> Option<()> {
    let (key, text) = assignment.split_once('=')?;
    let read = |value: &str| toml::from_str::<toml::Table>(&format!("{key} = {value}")).ok();
    let quoted = toml::Value::String(text.trim().to_owned()).to_string();
    merge(table, read(text.trim()).or_else(|| read(&quoted))?);
    Some(())
}

/// Puts what is in `from` into `table`, tables into tables.
fn merge(table: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SMALL: &str = r#"
name = "small"
summary = "Two machines."
machines = 2
limit = "10s"
[firmware]
edk2 = 1
[[stage]]
dhcp = "firmware"
[[stage]]
tftp = ["@boot-file", "initrd"]
"#;

    fn fault(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Scenario::parse("small", text, &overrides).unwrap_err().to_string()
    }

    #[test]
    fn every_number_can_be_overridden() {
        let size = "files.\"boot.img\"=4MiB";
        let overrides =
            ["machines=7", "arrival.every=250ms", "network.loss=5%", "renew=true", size];
        let overrides = overrides.map(str::to_owned);
        let scenario = Scenario::parse("small", SMALL, &overrides).unwrap();
        assert_eq!(scenario.files["boot.img"], Size(4 << 20));
        assert_eq!(scenario.machines, 7);
        assert_eq!(scenario.arrival.every.0, Duration::from_millis(250));
        assert_eq!(scenario.network.loss, Share(0.05));
        assert!(scenario.renew);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let typo = SMALL.replace("machines = 2", "machnes = 2");
        let text = fault(&typo, &[]);
        assert!(text.contains("machnes") && text.contains("line 4"), "{text}");
        assert!(fault(SMALL, &["machines"]).contains("KEY=VALUE"));
        assert!(fault(SMALL, &["machines=0"]).contains("1 to"));
        assert!(fault(SMALL, &["limit=soon"]).contains("not a time such as"));
        assert!(fault(SMALL, &["arrival.rate=-1"]).contains("0.001 to"));
        assert!(fault(SMALL, &["firmware.edk2=0"]).contains("[firmware] is empty"));
        assert!(fault(SMALL, &["expect-option-43=06010"]).contains("hexadecimal"));
        assert!(fault(SMALL, &["arrival.speed=3"]).contains("speed"));
        let unasked = SMALL.replace("dhcp = \"firmware\"", "http = [\"/\"]");
        assert!(fault(&unasked, &[]).contains("nobody has named it"));
    }

    #[test]
    fn an_unknown_name_says_where_the_known_ones_are() {
        let error = Scenario::load("hall-of-fame", &[]).unwrap_err().to_string();
        assert!(error.contains("`hall-of-fame`") && error.contains("bootstorm-load scenarios"));
    }

    #[test]
    fn the_library_makes_sense() {
        for built in LIBRARY {
            let scenario = Scenario::load(built.name, &[]).unwrap();
            assert_eq!(scenario.name, built.name);
            assert!(!scenario.summary.is_empty());
            scenario.slo.parse::<crate::slo::Slo>().unwrap();
        }
    }
}
