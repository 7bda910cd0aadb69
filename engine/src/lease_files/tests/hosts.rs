//! Hosts that OMAPI made in dhcpd.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::{Report, Taken, take_hosts};
use crate::live_hosts::{By, LiveHosts, Origin};

#[test]
fn hosts_that_omapi_made_in_dhcpd_are_live_hosts() {
    let text = "[dhcp]\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/16\"\n[[dhcp.group]]\nname = \"racks\"\n\
                [[dhcp.host]]\nname = \"own\"\nhardware = \"52:54:00:00:00:09\"\nip = \"10.0.0.9\"\n";
    let config = crate::config::parse(Path::new("test.toml"), text.as_bytes()).unwrap();
    let card = |last| format!("hardware ethernet 52:54:00:00:00:{last:02x};");
    let leases = [
        format!(
            "host n1 {{ dynamic; {} fixed-address 10.0.0.1; supersede host-name = \"a\"; \
                 if known {{ supersede server.filename = \"b\"; }} }}",
            card(1)
        ),
        format!("host n2 {{ dynamic; {} uid 01:52; group \"racks\"; }}", card(2)),
        format!(
            "host n3 {{ dynamic; {} fixed-address 192.0.2.1, n3.example; group \"x\"; }}",
            card(3)
        ),
        "host gone { dynamic; } host gone { dynamic; deleted; } host own { deleted; }".to_owned(),
        format!("host n4 {{ dynamic; {} fixed-address 10.0.0.9; }}", card(4)),
        format!("host n5 {{ dynamic; {} }}", card(9)),
        "host back { deleted; }".to_owned(),
        format!("host back {{ dynamic; {} }}", card(5)),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dhcpd.leases");
    fs::write(&path, leases.join("\n")).unwrap();
    let mut taken = Taken::new(&config.dhcp);
    taken.read(&path).unwrap();
    let (hosts, deleted) = taken.take_hosts();
    let mut live = LiveHosts::default();
    let origin = Origin::new(jiff::Timestamp::UNIX_EPOCH, By::Import);
    let mut report = Report::default();
    let added = take_hosts(&hosts, &deleted, &config.dhcp, &mut live, &mut report, origin);
    let objects: Vec<_> = live.objects().map(Value::Object).collect();
    assert_eq!(
        objects,
        [
            json!({"name": "back", "hardware": "52:54:00:00:00:05"}),
            json!({"name": "n1", "hardware": "52:54:00:00:00:01", "ip": ["10.0.0.1"],
               "options": {"host-name": "a"}}),
            json!({"name": "n2", "hardware": "52:54:00:00:00:02", "client-id": "hex:0152",
               "group": "racks"}),
            json!({"name": "n3", "hardware": "52:54:00:00:00:03"}),
        ]
    );
    assert_eq!(added, 4);
    assert_eq!(live.origin("n1"), Some(origin));
    let lines = report.lines().join("\n");
    for part in [
        "changed: 1 × of hosts made by OMAPI: `if known { }` has no place in a host here (n1)",
        "changed: 1 × an address of a host made by OMAPI is in no subnet (192.0.2.1)",
        "changed: 1 × an address of a host made by OMAPI is a name (n3.example)",
        "changed: 1 × the configuration has no such group: its hosts lose what it said (x)",
        "changed: 1 × a host that OMAPI deleted stands in the configuration: delete it there (own)",
        "dropped: 1 × a host made by OMAPI has the address of one of the configuration (n4)",
        "dropped: 1 × a host made by OMAPI is the machine of one of the configuration (n5)",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    let again = take_hosts(&hosts, &deleted, &config.dhcp, &mut live, &mut report, origin);
    assert_eq!((again, live.len()), (0, 4));
}
