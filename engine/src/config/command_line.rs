//! What the command line says beside a configuration in ISC dhcpd's language, which has no words
//! for it: where leases live, which interfaces are served, from where boot files are sent.

use std::net::IpAddr;
use std::path::PathBuf;

use bootstorm_net::Address;

use super::problem::{Fault, Problems};
use super::source::Place;
use super::{Dhcp, Server};

/// What the command line says of a server whose configuration is dhcpd's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLine {
    /// Where leases and the control socket live; `None` is the usual place.
    pub state_dir: Option<PathBuf>,
    /// The interfaces to serve; none are those with an address in a subnet of the configuration.
    pub interfaces: Vec<String>,
    /// Where boot files are; `None` serves no TFTP.
    pub tftp_root: Option<PathBuf>,
}

impl CommandLine {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A configuration of TOML says all of this itself.
    pub(super) fn refuse(&self, problems: &mut Problems) {
        let flags = [
            ("--state-dir", self.state_dir.is_some(), "[server] state-dir"),
            ("--interface", !self.interfaces.is_empty(), "[server] interfaces"),
            ("--tftp-root", self.tftp_root.is_some(), "[tftp] root"),
        ];
        for (flag, _, key) in flags.into_iter().filter(|(_, given, _)| *given) {
            let text = format!("{flag} is for configurations of ISC dhcpd, and this is none");
            problems.general(Fault::new(text, format!("write it into the file: {key}")));
        }
    }

    /// The server, but for the interfaces where none is named.
    pub(super) fn server(&self) -> Server {
        let usual = Server::default();
        let interfaces = (!self.interfaces.is_empty()).then(|| self.interfaces.clone());
        let state_dir = self.state_dir.clone().unwrap_or(usual.state_dir);
        Server { state_dir, interfaces, ..usual }
    }

    /// The interfaces to serve. Without `--interface` they are those of this host that have an
    /// address in a subnet, as in ISC dhcpd. `start` is the start of the configuration, where it is
    /// warned that there is none: it may be looked at on another host than the one that serves it.
    /// Without `start` that is an error.
    pub(super) fn served(
        &self,
        dhcp: &Dhcp,
        start: Option<Place>,
        problems: &mut Problems,
    ) -> Option<Vec<String>> {
        if !self.interfaces.is_empty() {
            return Some(self.interfaces.clone());
        }
        let there = match bootstorm_net::interfaces() {
            Ok(there) => there,
            Err(error) => {
                let text = format!("the interfaces of this host cannot be listed: {error}");
                problems.general(Fault::new(text, "name those to serve by --interface"));
                return None;
            }
        };
        let is_in_subnet = |address: &Address| match address.ip {
            IpAddr::V4(ip) => dhcp.subnet_of(ip).is_some(),
            IpAddr::V6(_) => false,
        };
        let served = there.iter().filter(|interface| interface.addresses.iter().any(is_in_subnet));
        let mut names: Vec<String> = served.map(|interface| interface.name.clone()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            let text = "no interface of this host has an address in a subnet of this configuration";
            let help = "declare the subnet of an interface, as `subnet 10.1.0.0 netmask \
                        255.255.0.0 { }`, or name the interfaces to serve by --interface, for \
                        relay agents";
            let fault = Fault::new(text, help);
            match start {
                Some(start) => problems.warn(start, fault),
                None => problems.general(fault),
            }
            return None;
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::super::{Config, ConfigError, check, load_on_host};
    use super::*;

    fn read(text: &str, given: &CommandLine) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load_on_host(file.path(), given)
    }

    fn told(text: &str, given: &CommandLine) -> String {
        read(text, given).unwrap_err().render(false)
    }

    #[test]
    fn the_command_line_says_what_dhcpds_language_has_no_words_for() {
        let given = CommandLine {
            state_dir: Some("/state".into()),
            interfaces: vec!["eth7".to_owned()],
            tftp_root: Some("/files".into()),
        };
        let config = read("subnet 192.0.2.0 netmask 255.255.255.0 { }", &given).unwrap();
        assert_eq!(config.server.state_dir, Path::new("/state"));
        assert_eq!(config.server.interfaces.as_deref(), Some(&["eth7".to_owned()][..]));
        assert_eq!(config.tftp.unwrap().root, Path::new("/files"));
    }

    #[test]
    fn without_interfaces_those_with_a_subnet_are_served() {
        let none = CommandLine::default();
        let config = read("subnet 127.0.0.0 netmask 255.0.0.0 { }", &none).unwrap();
        assert_eq!(config.server.interfaces.as_deref(), Some(&["lo".to_owned()][..]));
        assert!(config.tftp.is_none());
        let text = told("subnet 198.51.100.0 netmask 255.255.255.0 { }", &none);
        assert!(
            text.contains("no interface of this host") && text.contains("--interface"),
            "{text}"
        );
    }

    #[test]
    fn a_file_can_be_checked_on_another_host_than_the_one_that_serves_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"subnet 198.51.100.0 netmask 255.255.255.0 { }\n").unwrap();
        let config = check(file.path(), &CommandLine::default()).unwrap();
        let mut warnings = config.warnings.iter();
        assert!(warnings.any(|problem| problem.message().contains("no interface of this host")));
    }

    #[test]
    fn toml_says_it_itself() {
        let given = CommandLine { tftp_root: Some("/files".into()), ..CommandLine::default() };
        let text = told("[tftp]\nroot = \"/srv/tftp\"\n", &given);
        assert!(text.contains("--tftp-root") && text.contains("[tftp] root"), "{text}");
        assert!(!text.contains("--state-dir"), "{text}");
    }
}
