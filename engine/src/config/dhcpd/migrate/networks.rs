//! Shared networks, subnets and pools.

use super::super::super::Line;
use super::super::ast::{self, Body, Child, Who};
use super::toml::quoted;
use super::{Became, Entries, Writer};

impl Writer<'_> {
    /// Subnets and shared networks, wherever they stand.
    pub(super) fn networks(&mut self, body: &Body, around: &Entries<'_>) {
        for child in &body.children {
            match child {
                Child::Group(group) => {
                    let inside = around.iter().copied().chain(&group.body.entries).collect();
                    self.networks(&group.body, &inside);
                }
                Child::Network(network) => {
                    self.table("[[dhcp.shared-network]]", network.body.line);
                    self.line(format!("name = {}", quoted(&network.name)));
                    self.merged(around, network.body.line);
                    let entries = around.iter().copied().chain(&network.body.entries).collect();
                    self.scope("dhcp.shared-network", entries);
                    self.count("shared networks");
                    let mut pools = Vec::new();
                    outer_pools(&network.body, &mut pools);
                    self.subnets(&network.body, &Vec::new(), Some(&network.name), &pools);
                }
                Child::Subnet(subnet) => self.subnet(subnet, around, None, &[]),
                _ => {}
            }
        }
    }

    /// The subnets of a shared network.
    fn subnets(
        &mut self,
        body: &Body,
        around: &Entries<'_>,
        network: Option<&str>,
        pools: &[&ast::Pool],
    ) {
        for child in &body.children {
            match child {
                Child::Group(group) => {
                    let inside = around.iter().copied().chain(&group.body.entries).collect();
                    self.subnets(&group.body, &inside, network, pools);
                }
                Child::Subnet(subnet) => self.subnet(subnet, around, network, pools),
                _ => {}
            }
        }
    }

    /// The values of groups around something that is no host.
    fn merged(&mut self, around: &Entries<'_>, line: Option<Line>) {
        if let (false, Some(line)) = (around.is_empty(), line) {
            let what = "the values of the groups around it are its own";
            self.note(line, Became::Changed, what);
        }
    }

    fn subnet(
        &mut self,
        subnet: &ast::Subnet,
        around: &Entries<'_>,
        network: Option<&str>,
        pools: &[&ast::Pool],
    ) {
        self.table("[[dhcp.subnet]]", subnet.body.line);
        self.line(format!("subnet = {}", quoted(&subnet.prefix.to_string())));
        if let Some(network) = network {
            self.line(format!("shared-network = {}", quoted(network)));
        }
        self.merged(around, subnet.body.line);
        let entries = around.iter().copied().chain(&subnet.body.entries).collect();
        self.scope("dhcp.subnet", entries);
        self.count("subnets");
        self.pools(&subnet.body);
        for pool in pools {
            let own = |range: &&ast::Range| subnet.prefix.contains(range.first);
            let ranges: Vec<&ast::Range> = pool.ranges.iter().filter(own).collect();
            if !ranges.is_empty() {
                self.pool(pool, &ranges);
            }
        }
    }

    fn pools(&mut self, body: &Body) {
        for child in &body.children {
            match child {
                Child::Group(group) => self.pools(&group.body),
                Child::Pool(pool) => self.pool(pool, &pool.ranges.iter().collect::<Vec<_>>()),
                Child::Range(range) => {
                    self.table("[[dhcp.subnet.pools]]", None);
                    self.line(format!("range = {}", quoted(&span(range))));
                    if !range.bootp {
                        self.line("deny = [\"bootp\"]");
                    }
                    self.count("ranges");
                }
                _ => {}
            }
        }
    }

    fn pool(&mut self, pool: &ast::Pool, ranges: &[&ast::Range]) {
        self.table("[[dhcp.subnet.pools]]", pool.body.line);
        let ranges: Vec<String> = ranges.iter().map(|range| quoted(&span(range))).collect();
        self.line(format!("range = [{}]", ranges.join(", ")));
        let mut denied = Vec::new();
        for allow in [true, false] {
            let mut words = Vec::new();
            for permission in pool.permits.iter().filter(|permission| permission.allow == allow) {
                match permission.who {
                    Who::All | Who::Unauthenticated => words.push(quoted("all")),
                    Who::Known => words.push(quoted("known")),
                    Who::Unknown => words.push(quoted("unknown")),
                    Who::Bootp => words.push(quoted("bootp")),
                    Who::Member(class) => {
                        let name = &self.reader.classes[class.0 as usize].name;
                        words.push(quoted(&format!("class:{name}")));
                    }
                    Who::After(time) => {
                        // `never` is none.
                        let time = jiff::Timestamp::from_second(time).ok();
                        words.extend(time.map(|time| quoted(&format!("after {time}"))));
                    }
                    Who::Authenticated => {
                        let line = pool.body.line.unwrap_or(Line { file: 0, line: 1 });
                        let what = "a permit of clients that authenticate: there are none";
                        self.note(line, Became::Dropped, what);
                    }
                }
            }
            let has_any = pool.permits.iter().any(|permission| permission.allow);
            if allow && words.is_empty() && has_any {
                // An empty list would allow everybody.
                denied.push(quoted("all"));
            }
            if !allow {
                words.append(&mut denied);
            }
            if !words.is_empty() {
                let key = if allow { "allow" } else { "deny" };
                self.line(format!("{key} = [{}]", words.join(", ")));
            }
        }
        self.scope("dhcp.subnet.pools", pool.body.entries.iter().collect());
        self.count("pools");
    }
}

fn span(range: &ast::Range) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    }
}

/// Pools that stand in a shared network beside its subnets.
fn outer_pools<'a>(body: &'a Body, pools: &mut Vec<&'a ast::Pool>) {
    for child in &body.children {
        match child {
            Child::Pool(pool) => pools.push(pool),
            Child::Group(group) => outer_pools(&group.body, pools),
            _ => {}
        }
    }
}
