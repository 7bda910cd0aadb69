//! What is fed, and with what.

mod dhcpd_conf;
mod expressions;
mod faults;
mod lease_files;
mod omapi;
mod packets;
mod toml;

use crate::random::Random;

/// Something that reads bytes of others.
pub(crate) trait Target {
    /// The bytes of one case.
    fn input(&self, random: &mut Random) -> Vec<u8>;
    /// Feeds it with them. It may refuse them; a panic is a fault.
    fn feed(&self, input: &[u8]);
}

/// Its name, and what makes it.
type Named = (&'static str, fn() -> Box<dyn Target>);

/// All that are run where none is named.
pub(crate) const ALL: [Named; 5] = [
    ("dhcpd-conf", || Box::new(dhcpd_conf::DhcpdConf::new())),
    ("toml", || Box::new(toml::Toml::new())),
    ("expressions", || Box::new(expressions::Expressions)),
    ("lease-files", || Box::new(lease_files::LeaseFiles::new())),
    ("omapi", || Box::new(omapi::Omapi::new())),
];

/// Faults that must be found, so that it is seen that faults are found.
const FAULTS: [Named; 4] = [
    ("fault-panic", || Box::new(faults::Fault::Panic)),
    ("fault-memory", || Box::new(faults::Fault::Memory)),
    ("fault-stack", || Box::new(faults::Fault::Stack)),
    ("fault-time", || Box::new(faults::Fault::Time)),
];

/// The target of a name.
pub(crate) fn named(name: &str) -> Option<Box<dyn Target>> {
    let found = ALL.iter().chain(&FAULTS).find(|(known, _)| *known == name);
    found.map(|(_, make)| make())
}
