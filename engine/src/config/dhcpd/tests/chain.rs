//! What a client gets of a file, where dhcpd's code differs from what its manual says. The
//! expectations are what dhcpd 4.4 sends.

use std::path::Path;

use bumpalo::Bump;

use super::super::super::expression::Nothing;
use super::super::super::*;

/// Options 15 and 67 of a member of all classes, known as the first host if there is one, with an
/// address of the pool.
fn options(text: &str) -> [Option<String>; 2] {
    let config = parse(Path::new("dhcpd.conf"), text.as_bytes());
    let config = config.unwrap_or_else(|error| panic!("{}", error.render(false)));
    let (dhcp, arena) = (&config.dhcp, Bump::new());
    let classes: Vec<ClassId> = dhcp.class_ids().collect();
    let host = (!dhcp.hosts.is_empty()).then(|| HostId::from_index(0));
    let (subnet, pool) = (Some(SubnetId::from_index(0)), Some(PoolId::from_index(0)));
    let chain = ScopeChain::new(dhcp, subnet, pool, (&classes, &[]), host, &arena);
    let chain = chain.run(&Nothing, &arena);
    [15, 67].map(|code| Some(String::from_utf8_lossy(chain.option(code)?.0).into_owned()))
}

#[test]
fn what_stands_in_a_subnet_brings_it_along_for_an_address_of_a_pool_in_a_shared_network() {
    let class = "class \"c\" { match if exists host-name; option domain-name \"class\"; }";
    let subnet = "subnet 10.1.0.0 netmask 255.255.255.0 {
          option domain-name \"subnet\"; option bootfile-name \"subnet\";
          pool { range 10.1.0.10 10.1.0.99; option bootfile-name \"pool\"; } HOST }";
    let host = "host h { hardware ethernet 2:0:0:0:0:1; option host-name \"h\"; }";
    let inside = subnet.replace("HOST", host);
    let again = options(&format!("{class} shared-network n {{ {inside} }}"));
    assert_eq!(again, ["subnet", "subnet"].map(|text| Some(text.to_owned())));
    // Elsewhere a class stands before the subnet, and a pool as well. A subnet without
    // `shared-network` is its network.
    let outside = format!("{class} shared-network n {{ {} }}", subnet.replace("HOST", ""));
    for text in [outside, format!("{class} {inside}")] {
        assert_eq!(options(&text), ["class", "pool"].map(|text| Some(text.to_owned())));
    }
}

#[test]
fn an_empty_value_is_not_sent_and_hides_wider_ones() {
    let text = "option domain-name \"all\"; option bootfile-name \"all\";
        subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.10 10.1.0.99;
          option domain-name \"\"; option bootfile-name = \"\"; }";
    assert_eq!(options(text), [None, None]);
}

#[test]
fn the_value_of_an_option_knows_variables_of_the_top_level_only() {
    let text = "set top = \"top\"; option domain-name = top;
        subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.10 10.1.0.99;
          set own = \"own\"; option bootfile-name = own; if own = \"own\" { filename = own; } }";
    assert_eq!(options(text), [Some("top".to_owned()), None]);
}

#[test]
fn what_a_class_says_runs_again_for_a_member_that_is_made_one_again() {
    let class = "option domain-name \"d\";
        class \"c\" { match if exists host-name; prepend domain-name = \"c-\"; }";
    let subnet = "subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.10 10.1.0.99; ADD }";
    let domain =
        |text: &str| options(&format!("{class} {}", subnet.replace("ADD", text)))[0].clone();
    assert_eq!(domain("").as_deref(), Some("c-d"));
    assert_eq!(domain("add \"c\";").as_deref(), Some("c-c-d"));
    assert_eq!(domain("add \"c\"; add \"c\";").as_deref(), Some("c-c-c-d"));
}

#[test]
fn a_range_outside_of_pools_may_be_a_part_of_one() {
    let says = |text: &str| {
        let subnet = format!("subnet 10.1.0.0 netmask 255.255.255.0 {{ {text} }}");
        let text = format!("ping-check off; shared-network n {{ {subnet} }}");
        let config = parse(Path::new("dhcpd.conf"), text.as_bytes()).unwrap();
        let address = std::net::Ipv4Addr::new(10, 1, 0, 200);
        let pool = config.dhcp.pools.iter().find(|pool| pool.range.0 == address).unwrap();
        let name =
            pool.scope.options.get(15).map(|name| String::from_utf8_lossy(name).into_owned());
        (name, pool.allow.clone(), pool.deny.clone(), config.warnings.len())
    };
    let pool = |number: u8, text: &str| {
        format!("pool {{ range 10.1.0.{number}; option domain-name \"{number}\"; {text} }}")
    };
    let (all, bootp) = ("allow all clients;", "deny dynamic bootp clients;");
    let no_bootp = (None, vec![], vec![Permit::Bootp], 0);
    // A pool of its own.
    assert_eq!(says(&format!("{} range 10.1.0.200;", pool(1, all))), no_bootp);
    // The pool before the one with the same permits, or the first.
    let own =
        says(&format!("{} {} range 10.1.0.200;", pool(1, "allow known-clients;"), pool(2, bootp)));
    assert_eq!(own, (Some("1".to_owned()), vec![Permit::Known], vec![], 1));
    let own = says(&format!("{} range dynamic-bootp 10.1.0.200;", pool(1, all)));
    assert_eq!(own, (Some("1".to_owned()), vec![Permit::All], vec![], 1));
    // Nobody is authenticated, but the permits are other ones.
    let other = pool(1, &format!("{bootp} deny authenticated clients;"));
    assert_eq!(says(&format!("{other} range 10.1.0.200;")).0, None);
    // The pool of another such range is one as well.
    assert_eq!(says("range 10.1.0.9; range 10.1.0.200;"), no_bootp);
    let own = says(&format!("{} range 10.1.0.9; range 10.1.0.200;", pool(1, "")));
    assert_eq!(own, (Some("1".to_owned()), vec![], vec![], 1));
}
