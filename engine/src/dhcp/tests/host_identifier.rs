//! Hosts that are found by an option: `host-identifier`.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;

/// What dhcpd 4.4 makes of the same file is written beside each expectation.
const FILE: &str = r#"
authoritative;
ping-check false;
option rack code 224 = unsigned integer 16;
subnet 10.1.0.0 netmask 255.255.0.0 { range 10.1.4.0 10.1.4.9; }
host card { hardware ethernet 52:54:00:00:00:01; fixed-address 10.1.0.11; }
host name { host-identifier option host-name "n7"; fixed-address 10.1.0.12; }
host class { host-identifier option user-class "render"; fixed-address 10.1.0.13; }
host port { host-identifier option agent.circuit-id "p1"; fixed-address 10.1.0.14; }
host rack { host-identifier option rack 300; fixed-address 10.1.0.15; }
host other { host-identifier option host-name "n8"; fixed-address 10.1.0.16; }
host id { host-identifier option dhcp-client-identifier "me"; fixed-address 10.1.0.17; }
"#;

const HALL: &str = r#"
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.4.9"]
[[dhcp.option-definition]]
name = "rack"
code = 224
type = "uint16"
[[dhcp.host]]
name = "rack"
host-identifier = { rack = 300, host-name = "n7", agent = { link-selection = "10.1.0.9" } }
ip = "10.1.0.15"
"#;

fn says(number: u8, said: &[(u8, &[u8])]) -> Client {
    let client = Client::plain(mac(number));
    said.iter().fold(client, |client, (code, value)| client.with(*code, value))
}

fn offered(server: &mut Server, client: &Client) -> Ipv4Addr {
    server.expect(MessageType::Offer, &client.discover()).yiaddr()
}

const NAME: (u8, &[u8]) = (options::HOST_NAME, b"n7");
const CLASS: (u8, &[u8]) = (options::USER_CLASS, b"render");
const RACK: (u8, &[u8]) = (224, b"\x01\x2c");

#[test]
fn the_identifier_that_was_declared_last_decides_after_the_hardware_address() {
    let mut server = Server::new(FILE);
    for (client, host) in [
        (says(2, &[NAME]), 12),
        // A text is one without its NUL.
        (says(2, &[(options::HOST_NAME, b"n7\0")]), 12),
        (says(2, &[(options::HOST_NAME, b"n8")]), 16),
        (says(2, &[CLASS, NAME]), 13),
        (says(2, &[CLASS, NAME, RACK]), 15),
        (says(2, &[CLASS, (224, b"\0\x07")]), 13),
        (says(1, &[CLASS, NAME, RACK]), 11),
        (says(2, &[RACK, (options::CLIENT_IDENTIFIER, b"me")]), 17),
        (says(1, &[(options::CLIENT_IDENTIFIER, b"me")]), 11),
        (says(2, &[CLASS, (options::RELAY_AGENT_INFORMATION, b"\x01\x02p1")]), 14),
    ] {
        assert_eq!(offered(&mut server, &client), Ipv4Addr::new(10, 1, 0, host), "{client:?}");
    }
    let other = offered(&mut server, &says(2, &[(options::HOST_NAME, b"N7")]));
    assert_eq!(other.octets()[2], 4);
}

#[test]
fn a_machine_stays_the_host_while_it_says_nothing_of_the_option() {
    for restart in [false, true] {
        let mut server = Server::new(HALL);
        let client = says(2, &[RACK]);
        assert_eq!(server.lease(&client), ip("10.1.0.15"));
        if restart {
            server.restart();
        }
        let silent = Client::plain(mac(2));
        server.expect(MessageType::Ack, &silent.renew(ip("10.1.0.15")));
        assert_eq!(offered(&mut server, &silent), ip("10.1.0.15"));
        // Another value is another machine's.
        let other = says(2, &[(224, b"\0\x07")]);
        assert_ne!(offered(&mut server, &other), ip("10.1.0.15"));
        server.reload(&HALL.replace("300", "301"));
        server.expect(MessageType::Nak, &silent.renew(ip("10.1.0.15")));
    }
}

#[test]
fn any_one_of_the_options_is_enough() {
    for said in [NAME, RACK, (options::RELAY_AGENT_INFORMATION, b"\x05\x04\x0a\x01\0\x09")] {
        let mut server = Server::new(HALL);
        assert_eq!(offered(&mut server, &says(2, &[said])), ip("10.1.0.15"), "{said:?}");
    }
}

// The lease remembers which option it was, and not its value alone.
#[test]
fn the_value_of_one_option_is_none_of_another() {
    let text =
        HALL.replace("rack = 300, host-name = \"n7\"", "host-name = \"n7\", user-class = \"n7\"");
    for restart in [false, true] {
        let mut server = Server::new(&text);
        assert_eq!(server.lease(&says(2, &[NAME])), ip("10.1.0.15"));
        if restart {
            server.restart();
        }
        let other = says(2, &[(options::HOST_NAME, b"n8")]);
        assert_ne!(offered(&mut server, &other), ip("10.1.0.15"));
        let silent = says(2, &[(options::USER_CLASS, b"n8")]);
        assert_eq!(offered(&mut server, &silent), ip("10.1.0.15"));
        server.reload(&text.replace("host-name = \"n7\", ", ""));
        assert_ne!(offered(&mut server, &Client::plain(mac(2))), ip("10.1.0.15"));
    }
}

// The renewal does not say the port: in dhcpd the lease of a reserved address does not either.
#[test]
fn only_a_host_that_its_port_names_is_known_by_the_port_in_renewals() {
    let class = "class \"ports\" { match if exists agent.circuit-id; option domain-name \"a\"; }";
    let mut server = Server::new(&format!("{FILE}{class}"));
    for (said, port, host, keeps) in [
        (NAME, b"\x01\x02p9", 12, false),
        (CLASS, b"\x01\x02p9", 13, false),
        (RACK, b"\x01\x02p9", 15, false),
        ((options::HOST_NAME, b"x"), b"\x01\x02p1", 14, true),
    ] {
        let client =
            says(2, &[said]).with(options::PARAMETER_REQUEST_LIST, &[options::DOMAIN_NAME]);
        let leased = server.lease(&client.clone().behind(ip("10.1.0.1"), port));
        assert_eq!(leased, Ipv4Addr::new(10, 1, 0, host));
        let ack = server.expect(MessageType::Ack, &client.renew(leased));
        assert_eq!(ack.message().option(options::DOMAIN_NAME).is_some(), keeps, "{said:?}");
    }
}
