//! What scopes say for some messages only, from the configuration to the reply.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::super::Silence;
use super::*;

fn text(answer: &Answer, code: u8) -> Option<String> {
    answer.option(code).map(|value| String::from_utf8(value).unwrap())
}

const SUBNET: &str = r#"
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.4.99"]
"#;

/// Replies of one kind are copied, and so are those that differ by what statements set.
#[test]
fn what_statements_set_is_sent_and_copied() {
    let mut server = Server::new(&format!(
        "{SUBNET}
options = {{ domain-name = {{ expression = 'concat(\"d-\", option host-name)' }} }}
[[dhcp.subnet.if]]
test = 'option vendor-class-identifier = \"a\"'
filename = \"a.bin\"
lease-time = \"2h\"
[[dhcp.subnet.if]]
test = 'option vendor-class-identifier = \"b\"'
filename = {{ expression = 'concat(\"b/\", binary-to-ascii(10, 8, \".\", leased-address))' }}
options = {{ domain-name = {{ expression = 'option nis-domain' }} }}
"
    ));
    let asks = |number: u8, class: &str, name: &str| {
        Client::plain(mac(number))
            .with(options::PARAMETER_REQUEST_LIST, &[15, 51])
            .with(options::VENDOR_CLASS_IDENTIFIER, class.as_bytes())
            .with(options::HOST_NAME, name.as_bytes())
    };
    for _ in 0..2 {
        for (number, class, name, domain, file, hours) in [
            (1, "a", "n1", Some("d-n1"), "a.bin", 2),
            (2, "a", "n2", Some("d-n2"), "a.bin", 2),
            (3, "b", "n3", None, "b/10.1.4.", 1),
            (4, "c", "n4", Some("d-n4"), "", 1),
            (5, "a", "n1", Some("d-n1"), "a.bin", 2),
        ] {
            let client = asks(number, class, name);
            let offer = server.expect(MessageType::Offer, &client.discover());
            let ack = server.expect(MessageType::Ack, &client.select(&offer));
            for answer in [&offer, &ack] {
                assert_eq!(text(answer, options::DOMAIN_NAME).as_deref(), domain, "{name}");
                assert!(answer.file().starts_with(file), "{name}: {}", answer.file());
                let lease = answer.option(options::LEASE_TIME).unwrap();
                assert_eq!(lease, (hours * 3600_u32).to_be_bytes(), "{name}");
            }
            if class == "b" {
                assert_eq!(ack.file(), format!("b/{}", ack.yiaddr()));
            }
        }
    }
}

#[test]
fn members_of_a_subclass_get_what_it_sets_and_what_its_class_sets() {
    let mut server = Server::new(&format!(
        "{SUBNET}
[[dhcp.class]]
name = \"ports\"
match = 'option agent.circuit-id'
options = {{ domain-name = \"class\", root-path = \"class\" }}
[[dhcp.class.subclass]]
value = \"p1\"
options = {{ domain-name = \"p1\" }}
[[dhcp.class.subclass]]
value = \"p2\"
[[dhcp.class]]
name = \"each\"
match = 'option host-name'
spawn = true
options = {{ nis-domain = \"each\" }}
"
    ));
    assert!(server.config.dhcp.goes_by_ports);
    let asks = |number: u8, port: &str| {
        let plain = Client::plain(mac(number)).with(options::PARAMETER_REQUEST_LIST, &[15, 17, 40]);
        let port = [&[1, port.len() as u8], port.as_bytes()].concat();
        plain.behind(ip("10.1.0.1"), &port)
    };
    let mut told = |client: &Client| {
        let offer = server.expect(MessageType::Offer, &client.discover());
        [15, 17, 40].map(|code| text(&offer, code).unwrap_or_default())
    };
    assert_eq!(told(&asks(1, "p1")), ["p1", "class", ""]);
    assert_eq!(told(&asks(2, "p2")), ["class", "class", ""]);
    assert_eq!(told(&asks(3, "p3")), ["", "", ""]);
    assert_eq!(told(&asks(4, "p3").with(options::HOST_NAME, b"x")), ["", "", "each"]);
    // Again, for copies.
    assert_eq!(told(&asks(5, "p1")), ["p1", "class", ""]);
    assert_eq!(told(&asks(6, "p2")), ["class", "class", ""]);
}

#[test]
fn classes_limit_the_leases_of_their_members() {
    let mut server = Server::new(&format!(
        "{SUBNET}
[[dhcp.host]]
name = \"reserved\"
hardware = \"02:00:00:00:00:09\"
ip = \"10.1.0.9\"
[[dhcp.class]]
name = \"each\"
match = 'option host-name'
spawn = true
lease-limit = 1
[[dhcp.class.subclass]]
value = \"two\"
lease-limit = 2
[[dhcp.class]]
name = \"all\"
test = 'option vendor-class-identifier = \"v\"'
lease-limit = 1
"
    ));
    let named = |number: u8, name: &str| {
        Client::plain([2, 0, 0, 0, 0, number]).with(options::HOST_NAME, name.as_bytes())
    };
    let first = named(1, "x");
    let address = server.lease(&first);
    let limited = Silence::LeaseLimit;
    assert_eq!(server.silence(&named(2, "x").discover()), limited);
    server.lease(&named(3, "y"));
    // Whoever has a lease keeps it, also after a restart, and a reserved address is not billed.
    server.expect(MessageType::Ack, &first.renew(address));
    server.expect(MessageType::Offer, &first.discover());
    server.lease(&named(9, "x"));
    server.restart();
    assert_eq!(server.silence(&named(2, "x").discover()), limited);
    assert_eq!(server.silence(&named(2, "x").reboot(address)), limited);
    // An offer counts while it lasts.
    server.expect(MessageType::Offer, &named(4, "two").discover());
    server.expect(MessageType::Offer, &named(5, "two").discover());
    assert_eq!(server.silence(&named(6, "two").discover()), limited);
    server.pass(Duration::from_secs(120));
    server.expect(MessageType::Offer, &named(6, "two").discover());
    // The second class has room where the first has none, and then that is full, too.
    let vendor = |number| named(number, "x").with(options::VENDOR_CLASS_IDENTIFIER, b"v");
    server.lease(&vendor(7));
    assert_eq!(server.silence(&vendor(8).discover()), limited);
    // A lease that is given back, or ends, makes room.
    let _ = server.receive(&first.release(address));
    server.lease(&named(2, "x"));
    server.pass(Duration::from_secs(3601));
    server.lease(&vendor(8));
    // So does one that somebody else was found to use.
    let address = server.lease(&named(10, "z"));
    assert_eq!(server.silence(&named(11, "z").discover()), limited);
    let _ = server.receive(&named(10, "z").decline(address));
    assert_ne!(server.lease(&named(11, "z")), address);
}

#[test]
fn a_host_whose_address_is_taken_counts_as_others_do() {
    let class = "
[[dhcp.class]]
name = \"all\"
test = 'exists host-name'
lease-limit = 1
";
    let host = "
[[dhcp.host]]
name = \"reserved\"
hardware = \"02:00:00:00:00:02\"
ip = \"10.1.4.3\"
";
    let named = |number: u8| Client::plain([2, 0, 0, 0, 0, number]).with(options::HOST_NAME, b"x");
    let mut server = Server::new(&format!("{SUBNET}{class}"));
    let offer = server.expect(MessageType::Offer, &named(1).discover_again(ip("10.1.4.3")));
    server.expect(MessageType::Ack, &named(1).select(&offer));
    server.reload(&format!("{SUBNET}{class}{host}"));
    let taken = offer.yiaddr();
    assert_eq!(taken, ip("10.1.4.3"));
    assert_eq!(server.silence(&named(2).discover()), Silence::LeaseLimit);
    let server_id = offer.message().server_identifier().unwrap();
    let select = named(2).select_from(server_id, ip("10.1.4.4"));
    assert_eq!(server.silence(&select), Silence::LeaseLimit);
    let _ = server.receive(&named(1).release(taken));
    assert_eq!(server.lease(&named(2)), taken);
}
