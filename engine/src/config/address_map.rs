//! Which subnet and which pool an address is of, and whether something else has it.

use std::net::Ipv4Addr;

use super::{Dhcp, PoolId, SubnetId, Use};

/// The place of every address, found with one search in a list of a few kilobytes: the rules ask
/// for all of it, and a subnet or a pool is long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressMap {
    /// The first address of each range, rising. The ranges leave no address out.
    starts: Box<[u32]>,
    /// What holds in each range.
    places: Box<[AddressPlace]>,
}

/// Where an address is in the configuration.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPlace {
    /// The subnet that holds it.
    pub subnet: Option<SubnetId>,
    /// The pool that holds it.
    pub pool: Option<PoolId>,
    /// What it is used for, if that keeps pools from giving it away.
    pub excluded: Option<Use>,
}

impl AddressMap {
    /// That of a model without one.
    pub(super) fn new(dhcp: &Dhcp) -> Self {
        let prefixes = dhcp.subnets.iter().map(|subnet| subnet.prefix);
        let subnets = prefixes.map(|prefix| (prefix.network(), prefix.broadcast()));
        let pools = dhcp.pools.iter().map(|pool| pool.range);
        let single = dhcp.excluded.iter().map(|&(address, _)| (address, address));
        let ranges = subnets.chain(pools).chain(single);
        let bounds =
            ranges.flat_map(|(first, last)| [Some(first.to_bits()), last.to_bits().checked_add(1)]);
        let mut starts: Vec<u32> = bounds.flatten().chain([0]).collect();
        starts.sort_unstable();
        starts.dedup();
        let place = |&start: &u32| {
            let address = Ipv4Addr::from_bits(start);
            AddressPlace {
                subnet: dhcp.search_subnet(address),
                pool: dhcp.search_pool(address),
                excluded: dhcp.search_excluded(address),
            }
        };
        let places = starts.iter().map(place).collect();
        Self { starts: starts.into(), places }
    }

    pub(super) fn get(&self, address: Ipv4Addr) -> AddressPlace {
        let behind = self.starts.partition_point(|&start| start <= address.to_bits());
        // The first range begins with the first address.
        self.places[behind - 1]
    }
}

impl Default for AddressMap {
    /// Without subnets.
    fn default() -> Self {
        Self { starts: [0].into(), places: [AddressPlace::default()].into() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    #[test]
    fn every_address_has_its_subnet_its_pool_and_its_use_or_none() {
        let text = r#"
            [[dhcp.subnet]]
            subnet = "0.0.0.0/30"
            [[dhcp.subnet]]
            subnet = "10.0.0.0/24"
            pools = ["10.0.0.10-10.0.0.20", "10.0.0.21-10.0.0.21", "10.0.0.30-10.0.0.254"]
            [[dhcp.subnet]]
            subnet = "10.0.1.0/24"
            pools = ["10.0.1.1-10.0.1.254"]
            options = { routers = ["10.0.1.7"] }
            [[dhcp.subnet]]
            subnet = "223.255.255.0/24"
        "#;
        let dhcp = parse(Path::new("a.toml"), text.as_bytes()).unwrap().dhcp;
        let subnets = dhcp.subnets.iter().map(|own| (own.prefix.network(), own.prefix.broadcast()));
        let subnets: Vec<_> = subnets.collect();
        let pools: Vec<_> = dhcp.pools.iter().map(|pool| pool.range).collect();
        assert_eq!((subnets.len(), pools.len()), (4, 4));
        let router = Ipv4Addr::new(10, 0, 1, 7);
        let edges = subnets.iter().chain(&pools).flat_map(|&(first, last)| [first, last]);
        let edges = edges.chain([router]);
        let edges = edges.map(Ipv4Addr::to_bits);
        let near = edges.flat_map(|edge| [edge.wrapping_sub(1), edge, edge.wrapping_add(1)]);
        for address in near.map(Ipv4Addr::from_bits) {
            let of = |ranges: &[(Ipv4Addr, Ipv4Addr)]| {
                ranges.iter().position(|&(first, last)| (first..=last).contains(&address))
            };
            let found = dhcp.place_of(address);
            assert_eq!(found.subnet.map(SubnetId::index), of(&subnets), "{address}");
            assert_eq!(found.pool.map(PoolId::index), of(&pools), "{address}");
            let used = (address == router).then_some(Use::Router);
            assert_eq!(found.excluded, used, "{address}");
        }
    }
}
