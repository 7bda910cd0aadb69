//! Hosts, and the groups that they are in.

use std::collections::HashSet;
use std::rc::Rc;

use super::super::super::HostKey;
use super::super::ast::{self, Body, Child};
use super::super::{lower, standard};
use super::toml::{self, bytes, quoted};
use super::{Became, Entries, Writer};

impl Writer<'_> {
    /// Groups that have hosts, with them, or that hosts name.
    pub(super) fn groups(&mut self, body: &Body, path: &str) {
        for child in &body.children {
            let Child::Group(group) = child else { continue };
            if !self.has_hosts(&group.body) && self.name_of(group).is_none() {
                continue;
            }
            self.table(&format!("[[{path}]]"), group.body.line);
            if let Some(name) = self.name_of(group) {
                self.line(format!("name = {}", quoted(&name)));
            }
            self.scope(path, group.body.entries.iter().collect());
            self.count("groups");
            for child in &group.body.children {
                match child {
                    Child::Host(host) if host.group.is_none() => {
                        self.host(host, &format!("{path}.host"))
                    }
                    _ => {}
                }
            }
            self.groups(&group.body, &format!("{path}.group"));
        }
    }

    /// The name of a group, if hosts name it.
    fn name_of(&self, group: &ast::Group) -> Option<Rc<str>> {
        let (name, _) = group.name.as_ref()?;
        self.named_groups.contains(name).then(|| name.clone())
    }

    fn has_hosts(&self, body: &Body) -> bool {
        body.children.iter().any(|child| match child {
            Child::Host(host) => host.group.is_none(),
            Child::Group(group) => self.name_of(group).is_some() || self.has_hosts(&group.body),
            _ => false,
        })
    }

    /// Hosts that stand in no group, or name another one.
    pub(super) fn hosts(&mut self, body: &Body, path: &str, around: &Entries<'_>, in_group: bool) {
        for child in &body.children {
            let inside = match child {
                Child::Host(host) => {
                    if in_group && host.group.is_none() {
                        continue;
                    }
                    if let (false, Some(line), None) =
                        (around.is_empty(), host.body.line, &host.group)
                    {
                        let what = format!(
                            "host `{}` gets the values of the scope that it stands in only there",
                            host.name
                        );
                        self.note(line, Became::Changed, what);
                    }
                    self.host(host, path);
                    continue;
                }
                Child::Group(group) => {
                    self.hosts(&group.body, path, around, true);
                    continue;
                }
                Child::Network(network) => &network.body,
                Child::Subnet(subnet) => &subnet.body,
                Child::Pool(pool) => &pool.body,
                _ => continue,
            };
            let around = around.iter().copied().chain(&inside.entries).collect();
            self.hosts(inside, path, &around, false);
            self.groups(inside, "dhcp.group");
        }
    }

    fn host(&mut self, host: &ast::Host, path: &str) {
        let named = lower::client_identifier(&host.body.entries, self.reader.dhcp);
        let has_key = !host.keys.is_empty() || named.is_some();
        let line = host.body.line;
        if !has_key {
            if let Some(line) = line {
                let what = format!("host `{}`: nothing says which machine it is", host.name);
                self.note(line, Became::Dropped, what);
            }
            return;
        }
        self.table(&format!("[[{path}]]"), line);
        self.line(format!("name = {}", quoted(&host.name)));
        for (key, _) in &host.keys {
            match key {
                HostKey::Hardware(address) => {
                    let address = crate::hex::digits(address, ":");
                    self.line(format!("hardware = {}", quoted(&address)));
                }
                HostKey::ClientId(id) => self.line(format!("client-id = {}", toml::hex(id))),
                HostKey::Circuit { circuit_id: Some(id), .. } => {
                    self.line(format!("circuit-id = {}", bytes(id)));
                }
                HostKey::Circuit { remote_id: Some(id), .. } => {
                    self.line(format!("remote-id = {}", bytes(id)));
                }
                HostKey::Option { value, .. } => self.identifier(host, value),
                HostKey::Circuit { .. } | HostKey::Uuid(_) => {}
            }
        }
        let ips: Vec<String> =
            host.addresses.iter().map(|(address, _)| quoted(&address.to_string())).collect();
        match ips.as_slice() {
            [] => {}
            [ip] => self.line(format!("ip = {ip}")),
            _ => self.line(format!("ip = [{}]", ips.join(", "))),
        }
        if let Some(group) = &host.group {
            self.line(format!("group = {}", quoted(group)));
        }
        self.scope(path, host.body.entries.iter().collect());
        self.count("hosts");
    }
}

impl Writer<'_> {
    /// The option by which a host is found.
    fn identifier(&mut self, host: &ast::Host, value: &[u8]) {
        let Some((space, code)) = host.identifier else { return };
        let name = self.option_name(space, code);
        let of = self.reader.spaces.get(space).name.to_string();
        let Some(value) = self.option_bytes(space, code, value) else { return };
        let value = match &*of {
            standard::DHCP => format!("{{ {name} = {value} }}"),
            standard::AGENT => format!("{{ {of} = {{ {name} = {value} }} }}"),
            _ if self.reader.spaces.is_plain(space) => {
                format!("{{ {of} = {{ {name} = {value} }} }}")
            }
            _ => {
                let what = format!("host-identifier option {of}.{name}: TOML has no such spaces");
                if let Some(line) = host.body.line {
                    self.note(line, Became::Dropped, what);
                }
                return;
            }
        };
        self.line(format!("host-identifier = {value}"));
    }
}

/// The names of groups that hosts name.
pub(super) fn name_groups(body: &Body, names: &mut HashSet<Rc<str>>) {
    for child in &body.children {
        if let Child::Host(host) = child {
            names.extend(host.group.clone());
        }
        if let Some(inside) = child.body() {
            name_groups(inside, names);
        }
    }
}
