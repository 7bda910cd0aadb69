//! The configuration as people write it: what it means, and what is said when it is wrong.

use std::path::Path;

use super::*;

fn good(text: &str) -> Config {
    parse(Path::new("bootstorm.toml"), text.as_bytes())
        .unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn the_usual_file_is_understood() {
    let config = good(
        r#"
        [server]
        interfaces = ["eth1"]
        [dhcp]
        lease-time = "1h"
        options = { domain-name-servers = ["10.1.0.2"] }
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.255.250"]
        next-server = "10.1.0.6"
        [tftp]
        root = "/srv/tftp"
        "#,
    );
    assert_eq!(config.server.interfaces.as_deref(), Some(&["eth1".to_owned()][..]));
    assert_eq!(config.dhcp.global.lease_time, Some(LeaseTime::from_seconds(3600)));
    assert_eq!(config.dhcp.global.options.get(6), Some(&[10, 1, 0, 2][..]));
    assert_eq!(config.dhcp.pools.len(), 1);
}
