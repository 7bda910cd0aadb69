//! Looks for other DHCP servers on the networks of this server, before it answers there.

use std::io;
use std::net::IpAddr;
use std::thread;

use bootstorm_net::Interface;

use super::ServeError;
use crate::config::{Config, OtherServers};
use crate::interfaces::Interfaces;
use crate::probe::{self, Answers, NotAlone, START_WAIT};

/// Before the first lease: a foreign OFFER ends the start, unless the configuration allows it.
/// Takes a second at most.
pub(super) fn first_start(config: &Config, interfaces: &Interfaces) -> Result<(), ServeError> {
    if config.server.allow_other_servers == OtherServers::All {
        return Ok(());
    }
    let answers = ask(config, interfaces).map_err(super::system("look for other DHCP servers"))?;
    report_unasked(&answers);
    let foreign = probe::not_allowed(&answers.servers, &config.server.allow_other_servers);
    if foreign.is_empty() { Ok(()) } else { Err(ServeError::NotAlone(NotAlone(foreign))) }
}

/// On every later start, and on interfaces that come later, the server answers at once; a foreign
/// server is a line in the log. `names` are the interfaces to ask on, of those that are served.
pub(super) fn ask_later(
    config: &Config,
    interfaces: &Interfaces,
    names: &[String],
) -> Result<(), ServeError> {
    if config.server.allow_other_servers == OtherServers::All {
        return Ok(());
    }
    let mut asked =
        asked_interfaces(config, interfaces).map_err(super::system("list interfaces"))?;
    asked.retain(|interface| names.contains(&interface.name));
    if asked.is_empty() {
        return Ok(());
    }
    let own = interfaces.addresses().to_vec();
    let allow = config.server.allow_other_servers.clone();
    let ask = move || {
        let asked: Vec<&Interface> = asked.iter().collect();
        match probe::other_servers(&asked, START_WAIT, &own) {
            Ok(answers) => {
                report_unasked(&answers);
                for server in probe::not_allowed(&answers.servers, &allow) {
                    tracing::warn!("another DHCP server is on this network: {server}");
                }
            }
            Err(error) => tracing::warn!("cannot look for other DHCP servers: {error}"),
        }
    };
    let thread = thread::Builder::new().name("neighbours".to_owned());
    thread.spawn(ask).map(drop).map_err(super::system("start a thread"))
}

fn ask(config: &Config, interfaces: &Interfaces) -> io::Result<Answers> {
    let asked = asked_interfaces(config, interfaces)?;
    probe::other_servers(&asked.iter().collect::<Vec<_>>(), START_WAIT, interfaces.addresses())
}

fn report_unasked(answers: &Answers) {
    for (name, error) in &answers.unasked {
        tracing::warn!("cannot look for other DHCP servers on {name}: {error}");
    }
}

/// Interfaces whose direct clients this server would answer: served, an Ethernet that is up, and in
/// a subnet.
fn asked_interfaces(config: &Config, interfaces: &Interfaces) -> io::Result<Vec<Interface>> {
    let in_subnet = |interface: &Interface| {
        interface.addresses.iter().any(|address| match address.ip {
            IpAddr::V4(ip) => config.dhcp.subnet_of(ip).is_some(),
            IpAddr::V6(_) => false,
        })
    };
    let mut all = bootstorm_net::interfaces()?;
    all.retain(|interface| {
        let served = interfaces.get(interface.ifindex).is_some_and(|known| known.served);
        served && interface.up && interface.broadcast && !interface.loopback && in_subnet(interface)
    });
    Ok(all)
}
