//! Addresses that something else has: they are never offered, and never confirmed.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::MessageType;

use super::*;
use crate::dhcp::Silence;

/// A pool of a whole subnet of 14 addresses, in which the server and five others have theirs.
const SMALL: &str = r#"
[dhcp]
authoritative = true
[[dhcp.subnet]]
subnet = "10.1.0.0/28"
pools = ["10.1.0.0/28"]
next-server = "10.1.0.2"
server-identifier = "10.1.0.3"
options = { routers = ["10.1.0.1"], broadcast-address = "10.1.0.14" }
boot = [{ arch = 7, file = "ipxe.efi", next-server = "10.1.0.4" }, { file = "pxelinux.0" }]
[[dhcp.class]]
name = "elsewhere"
arch = 11
options = { routers = ["10.1.0.5"] }
"#;

/// Of 10.1.0.1 to 10.1.0.14 these are left: the server has 10.1.0.6.
const FREE: [u8; 7] = [7, 8, 9, 10, 11, 12, 13];

fn last(address: Ipv4Addr) -> u8 {
    address.octets()[3]
}

#[test]
fn a_pool_gives_away_no_address_that_something_else_has() {
    let mut server = Server::new(SMALL);
    let leased: Vec<_> = (0..7).map(|n| last(server.lease(&Client::dhclient(mac(n))))).collect();
    assert_eq!(leased, FREE);
    assert_eq!(server.silence(&Client::dhclient(mac(99)).discover()), Silence::PoolFull);
}

#[test]
fn a_client_that_asks_for_one_does_not_get_it() {
    for number in (1..=6).chain([14, 0, 15]) {
        let mut server = Server::new(SMALL);
        let client = Client::dhclient(mac(1));
        let address = Ipv4Addr::new(10, 1, 0, number);
        // As a wish in a DISCOVER.
        let offer = server.expect(MessageType::Offer, &client.discover_again(address));
        assert!(FREE.contains(&last(offer.yiaddr())), "{number}");
        // As the address of an offer, and as one that it had.
        for request in [client.select_from(ip("10.1.0.6"), address), client.reboot(address)] {
            server.expect(MessageType::Nak, &request);
        }
        server.expect(MessageType::Nak, &client.rebind(address));
    }
}

// It was given before the router got it: its machine leaves it at its next renewal.
#[test]
fn a_lease_of_an_address_that_is_a_routers_by_now_is_not_renewed() {
    let mut server = Server::new(SMALL);
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    server.reload(&SMALL.replace("routers = [\"10.1.0.1\"]", "routers = [\"10.1.0.7\"]"));
    assert_eq!(last(address), 7);
    server.expect(MessageType::Nak, &client.renew(address));
    // The old router's address is free again.
    let mut leased: Vec<_> =
        (1..8).map(|n| last(server.lease(&Client::dhclient(mac(n))))).collect();
    leased.sort_unstable();
    assert_eq!(leased, [1, 8, 9, 10, 11, 12, 13]);
}

#[test]
fn an_address_that_this_host_gets_is_not_given_away_from_then_on() {
    let mut server = Server::new(SMALL);
    let client = Client::dhclient(mac(1));
    assert_eq!(last(server.lease(&client)), 7);
    server.set_own_addresses(&[ip("10.1.0.6"), ip("10.1.0.7"), ip("10.1.0.8")]);
    server.expect(MessageType::Nak, &client.renew(ip("10.1.0.7")));
    let leased: Vec<_> = (1..6).map(|n| last(server.lease(&Client::dhclient(mac(n))))).collect();
    assert_eq!(leased, FREE[2..]);
    assert_eq!(server.silence(&Client::dhclient(mac(99)).discover()), Silence::PoolFull);
    // And given away again when the host has lost it.
    server.set_own_addresses(&[ip("10.1.0.6"), ip("10.1.0.8")]);
    server.pass(Duration::from_secs(3601));
    server.expect(MessageType::Offer, &Client::dhclient(mac(99)).discover());
}

// The machine that is the boot server may get its own address here; nobody else does.
#[test]
fn a_reservation_holds_for_a_router_or_a_boot_server_but_not_for_an_address_of_this_host() {
    let host = |name: &str, mac: u8, ip: &str| {
        format!(
            "[[dhcp.host]]\nname = \"{name}\"\nhardware = \"52:54:00:00:00:{mac:02x}\"\nip = \"{ip}\"\n"
        )
    };
    let hosts = host("boot", 0x21, "10.1.0.2") + &host("mine", 0x22, "10.1.0.6");
    let mut server = Server::new(&(SMALL.to_owned() + &hosts));
    assert_eq!(last(server.lease(&Client::dhclient(mac(0x21)))), 2);
    let unlucky = Client::dhclient(mac(0x22));
    assert!(FREE.contains(&last(server.lease(&unlucky))));
    server.expect(MessageType::Nak, &unlucky.reboot(ip("10.1.0.6")));
}

// What an option is made longer by is an address of another machine as well.
#[test]
fn an_address_that_a_statement_adds_is_given_to_nobody() {
    let toml = r#"
[[dhcp.subnet]]
subnet = "10.1.0.0/29"
pools = ["10.1.0.1-10.1.0.6"]
options = { routers = { append = ["10.1.0.1"] }, broadcast-address = { default = "10.1.0.2" } }
next-server = { expression = '0a:01:00:03' }
[[dhcp.class]]
name = "elsewhere"
arch = 11
options = { routers = { prepend = ["10.1.0.5"] } }
"#;
    // The same rule, as for plain values: dhcpd itself would give these away.
    let dhcpd = r#"
ping-check false;
class "elsewhere" { match if option pxe-system-type = 00:0b; prepend routers 10.1.0.5; }
subnet 10.1.0.0 netmask 255.255.255.248 {
  range 10.1.0.1 10.1.0.6;
  append routers 10.1.0.1;
  default broadcast-address 10.1.0.2;
  if exists user-class { append routers 10.1.0.3; }
}
"#;
    for text in [toml, dhcpd] {
        let mut server = Server::new(text);
        assert_eq!(last(server.lease(&Client::dhclient(mac(1)))), 4, "{text}");
        let silence = server.silence(&Client::dhclient(mac(2)).discover());
        assert_eq!(silence, Silence::PoolFull, "{text}");
    }
}
