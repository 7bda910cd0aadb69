//! Scopes inside one another, and the order in which they count.

use bumpalo::Bump;

use super::super::*;
use super::good;

fn ids(chain: &ScopeChain<'_>) -> Vec<ScopeId> {
    let mut ids = Vec::new();
    chain.for_each(|id, _| ids.push(id));
    ids
}

/// Two subnets of one network, each with a pool, three groups, a class and a host.
fn nested() -> Config {
    let mut config = good(
        r#"
        [[dhcp.shared-network]]
        name = "hall"
        options = { tftp-server-name = "network" }
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        shared-network = "hall"
        pools = [{ range = "10.1.0.10-10.1.0.20", options = { tftp-server-name = "pool" } }]
        options = { tftp-server-name = "subnet" }
        [[dhcp.subnet]]
        subnet = "10.2.0.0/16"
        shared-network = "hall"
        options = { tftp-server-name = "other" }
        [[dhcp.class]]
        name = "c"
        arch = 7
        options = { tftp-server-name = "class" }
        [[dhcp.group]]
        name = "outer"
        options = { tftp-server-name = "outer" }
        [[dhcp.group]]
        name = "inner"
        options = { tftp-server-name = "inner" }
        [[dhcp.host]]
        name = "h"
        hardware = "02:00:00:00:00:01"
        group = "inner"
        options = { tftp-server-name = "host" }
        "#,
    );
    let (outer, inner) = (GroupId(0), GroupId(1));
    let first = config.dhcp.subnet_of("10.1.0.0".parse().unwrap()).unwrap();
    config.dhcp.networks[0].groups = [outer].into();
    config.dhcp.classes[0].within = [ScopeId::Group(inner), ScopeId::Subnet(first)].into();
    config.dhcp.groups[inner.index()].within =
        [ScopeId::Subnet(first), ScopeId::Network(NetworkId(0)), ScopeId::Group(outer)].into();
    config
}

#[test]
fn the_scopes_around_a_class_and_a_host_hold_for_clients_elsewhere_and_come_once() {
    let config = nested();
    let dhcp = &config.dhcp;
    let arena = Bump::new();
    let classes: Vec<ClassId> = dhcp.class_ids().collect();
    let host = dhcp.host_by_name("h");
    let at = |address: &str| {
        let address = address.parse().unwrap();
        let (subnet, pool) = (dhcp.subnet_of(address), dhcp.pool_of(address));
        ScopeChain::new(dhcp, subnet, pool, (&classes, &[]), host, &arena)
    };
    let [outer, inner] = [0, 1].map(|index| ScopeId::Group(GroupId(index)));
    let [here, there] = [0, 1].map(|index| ScopeId::Subnet(SubnetId(index)));
    let network = ScopeId::Network(NetworkId(0));
    let (class, host) = (ScopeId::Class(classes[0]), ScopeId::Host(host.unwrap()));
    let pool = ScopeId::Pool(PoolId(0));
    assert_eq!(
        ids(&at("10.1.0.10")),
        [host, inner, class, inner, pool, here, network, outer],
        "the subnet of the host is the client's own"
    );
    assert_eq!(
        ids(&at("10.2.0.10")),
        [host, inner, here, class, inner, here, there, network, outer],
        "the scopes around the host hold as well, but for those of the place"
    );
}

#[test]
fn as_dhcpd_the_subnet_of_a_host_counts_again_beside_a_declared_network_only() {
    let mut config = nested();
    config.dhcp.compatibility = Compatibility::Dhcpd;
    let arena = Bump::new();
    let around = |dhcp: &Dhcp| {
        let address = "10.1.0.10".parse().unwrap();
        let (subnet, pool) = (dhcp.subnet_of(address), dhcp.pool_of(address));
        let chain = ScopeChain::new(dhcp, subnet, pool, (&[], &[]), dhcp.host_by_name("h"), &arena);
        let subnet = ScopeId::Subnet(subnet.unwrap());
        ids(&chain).into_iter().filter(|id| *id == subnet).count()
    };
    assert_eq!(around(&config.dhcp), 2);
    config.dhcp.networks[0].name = None;
    assert_eq!(around(&config.dhcp), 1);
}
