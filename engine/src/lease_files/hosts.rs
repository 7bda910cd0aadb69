//! Hosts that OMAPI made in dhcpd, which its lease file has, as live hosts.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::{LiveHost, Report, host_statements};
use crate::config::{Dhcp, HostId};
use crate::hex;
use crate::live_hosts::{Change, HostObject, LiveHosts, Origin};

/// Adds hosts of dhcpd to the live ones. What a configuration has is neither changed nor
/// contradicted; the report says what was left out, and why. `dhcp` may know the live hosts, or
/// not. How many were added.
pub fn take_hosts(
    hosts: &[LiveHost],
    deleted: &BTreeSet<Box<str>>,
    dhcp: &Dhcp,
    live: &mut LiveHosts,
    report: &mut Report,
    origin: Origin,
) -> u64 {
    let mut added = 0;
    for host in hosts {
        if live.contains(&host.name) {
            continue;
        }
        if let Some(why) = contradicted(host, dhcp, live) {
            report.drop(why, &host.name);
            continue;
        }
        let object = object(host, dhcp, report);
        match live.change(Change::Add, object, Some(origin)) {
            Ok(()) => added += 1,
            Err(why) => report.drop(why, &host.name),
        }
    }
    for name in deleted {
        if !live.contains(name) && dhcp.host_by_name(name).is_some() {
            let what = "a host that OMAPI deleted stands in the configuration: delete it there";
            report.change(what, name);
        }
    }
    added
}

/// Why a host cannot stand beside those of the configuration.
fn contradicted(host: &LiveHost, dhcp: &Dhcp, live: &LiveHosts) -> Option<&'static str> {
    let of_configuration = |id: HostId| !live.contains(dhcp.host(id).name());
    if dhcp.host_by_name(&host.name).is_some_and(of_configuration) {
        return Some("a host made by OMAPI has the name of one of the configuration, which stays");
    }
    let ips = addresses(host).filter_map(Result::ok);
    if ips.filter_map(|ip| dhcp.host_by_ip(ip)).any(of_configuration) {
        return Some("a host made by OMAPI has the address of one of the configuration");
    }
    // dhcpd's rules take both.
    let card = host.hardware.map(|hardware| dhcp.hosts_by_hardware(hardware.address()));
    let id = host.client_id.as_deref().map(|id| dhcp.hosts_by_client_id(id));
    let mut same = [card, id].into_iter().flatten().flatten().copied();
    (!dhcp.is_as_dhcpd() && same.any(of_configuration))
        .then_some("a host made by OMAPI is the machine of one of the configuration")
}

/// Its addresses; names are errors.
fn addresses(host: &LiveHost) -> impl Iterator<Item = Result<Ipv4Addr, &str>> {
    host.addresses.iter().map(|address| address.parse().map_err(|_| &**address))
}

/// The host as one here. What has no place here is left out.
fn object(host: &LiveHost, dhcp: &Dhcp, report: &mut Report) -> HostObject {
    let mut object = HostObject::new();
    let unknown = host_statements::apply_known(host.statements.as_bytes(), &mut object);
    for what in unknown {
        report.change(format!("of hosts made by OMAPI: {what}"), &host.name);
    }
    let mut put = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
    put("name", Value::String(host.name.to_string()));
    if let Some(hardware) = host.hardware.filter(|hardware| !hardware.address().is_empty()) {
        put("hardware", Value::String(hex::digits(hardware.address(), ":")));
    }
    if let Some(id) = host.client_id.as_deref().filter(|id| !id.is_empty()) {
        put("client-id", Value::String(format!("hex:{}", hex::digits(id, ""))));
    }
    let mut ips = Vec::new();
    for address in addresses(host) {
        match address {
            Ok(ip) if dhcp.is_as_dhcpd() || dhcp.subnet_of(ip).is_some() => {
                ips.push(Value::String(ip.to_string()));
            }
            Ok(ip) => report.change("an address of a host made by OMAPI is in no subnet", ip),
            Err(name) => report.change("an address of a host made by OMAPI is a name", name),
        }
    }
    if !ips.is_empty() {
        put("ip", Value::Array(ips));
    }
    if let Some(group) = &host.group {
        if dhcp.groups.iter().any(|known| known.name.as_deref() == Some(group)) {
            put("group", Value::String(group.to_string()));
        } else {
            let what = "the configuration has no such group: its hosts lose what it said";
            report.change(what, group);
        }
    }
    object
}
