//! One machine is one client, whatever its programs call themselves.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::client::UUID;
use super::server::Outcome;
use super::*;
use crate::dhcp::Silence;

#[test]
fn rom_ipxe_and_installer_with_three_client_identifiers_get_one_address() {
    let mut server = Server::new(HALL);
    for number in 1..=10 {
        // With ten addresses for ten machines, a second address for any would fail the last.
        let stages = [Client::edk2, Client::ipxe, Client::installer, Client::udhcpc];
        let addresses = stages.map(|stage| server.lease(&stage(mac(number))));
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    }
}

#[test]
fn by_client_identifier_each_stage_is_a_client_if_the_configuration_says_so() {
    let mut server = Server::new(&HALL.replace("[dhcp]", "[dhcp]\nidentity = \"client-id\""));
    let stages = [Client::edk2, Client::ipxe, Client::installer, Client::bios];
    let mut addresses = stages.map(|stage| server.lease(&stage(mac(1)))).to_vec();
    assert_eq!(server.lease(&Client::installer(mac(2))), addresses[2], "RFC 2131 section 4.2");
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4);
}

// A lease of a hardware address may be of a client with a client identifier; an offer is of the
// client that it is made to.
#[test]
fn a_client_without_identifier_takes_the_offer_of_what_another_of_its_machine_had() {
    let one = HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.3");
    let one = one.replace("[dhcp]", "[dhcp]\nidentity = \"client-id-or-hardware\"");
    let mut server = Server::new(&one);
    let (rom, system) = (Client::bios(mac(1)), Client::udhcpc(mac(1)));
    for _ in 0..2 {
        assert_eq!(server.lease(&rom), ip("10.1.4.3"));
        assert_eq!(server.lease(&system), ip("10.1.4.3"));
        // The system has it, until it ends.
        assert_eq!(server.silence(&rom.discover()), Silence::PoolFull);
        server.pass(Duration::from_secs(3601));
    }
    let host = "[[dhcp.host]]\nname = \"n\"\nhardware = \"52:54:00:00:00:01\"\nip = \"10.1.0.99\"";
    let mut server = Server::new(&format!("{one}\n{host}\n"));
    assert_eq!(server.lease(&rom), ip("10.1.0.99"));
    assert_eq!(server.lease(&system), ip("10.1.0.99"));
    server.damage();
    let Outcome::Probe(offer) = server.receive(&rom.discover()) else { panic!("not probed") };
    server.expect(MessageType::Ack, &rom.select(&offer));
}

// RFC 4390 section 2.1: InfiniBand has no room for its hardware address in chaddr.
#[test]
fn without_hardware_address_the_client_identifier_is_the_identity() {
    let mut server = Server::new(HALL);
    let client = |id: u8| {
        let mut client = Client::plain(mac(1))
            .with(options::CLIENT_IDENTIFIER, &[255, 0, 0, 0, id])
            .broadcasting();
        client.htype = 32;
        client.chaddr.clear();
        client
    };
    let first = server.lease(&client(1));
    assert_ne!(server.lease(&client(2)), first);
    assert_eq!(server.lease(&client(1)), first);
    let nobody = client(1).without(options::CLIENT_IDENTIFIER);
    assert_eq!(server.silence(&nobody.discover()), Silence::NoIdentity);
    // A UUID is better than nothing; that of the factory is nothing.
    let by_uuid = nobody.clone().with(options::PXE_CLIENT_ID, &[&[0], &UUID[..]].concat());
    server.lease(&by_uuid);
    for filler in [0xff, 0] {
        let blank =
            nobody.clone().with(options::PXE_CLIENT_ID, &[&[0], &[filler; 16][..]].concat());
        assert_eq!(server.silence(&blank.discover()), Silence::NoIdentity);
    }
}

#[test]
fn cards_that_send_zeros_are_not_all_one_machine() {
    let mut server = Server::new(HALL);
    let first = Client::plain([0; 6]).with(options::CLIENT_IDENTIFIER, &[0, 1]);
    let second = Client::plain([0; 6]).with(options::CLIENT_IDENTIFIER, &[0, 2]);
    assert_ne!(server.lease(&first), server.lease(&second));
    assert_eq!(server.silence(&Client::plain([0; 6]).discover()), Silence::NoIdentity);
}

#[test]
fn one_machine_may_stand_in_two_networks() {
    let mut server = Server::new(HALL);
    let here = Client::edk2(mac(1));
    let there = here.clone().behind(ip("10.2.0.1"), b"");
    let (first, second) = (server.lease(&here), server.lease(&there));
    assert_eq!((first.octets()[1], second.octets()[1]), (1, 2));
    server.expect(MessageType::Ack, &here.renew(first));
    server.expect(MessageType::Ack, &there.renew(second));
    assert_eq!(server.lease(&here), first);
}

/// A host known by what `key` says.
fn hall_with_host(key: &str) -> Server {
    Server::new(&with_host(key))
}

fn with_host(key: &str) -> String {
    format!("{HALL}\n[[dhcp.host]]\nname = \"n\"\n{key}\nip = \"10.1.0.99\"\n")
}

#[test]
fn a_host_is_found_by_its_uuid_in_either_byte_order() {
    for text in ["564d3210-aabb-ccdd-0102-030405060708", "10324D56-BBAA-DDCC-0102-030405060708"] {
        let mut server = hall_with_host(&format!("uuid = \"{text}\""));
        assert_eq!(server.lease(&Client::edk2(mac(1))), ip("10.1.0.99"), "{text}");
    }
}

#[test]
fn blank_uuids_match_no_host() {
    let mut server = hall_with_host("uuid = \"564d3210-aabb-ccdd-0102-030405060708\"");
    for blank in [[0xff; 16], [0; 16]] {
        let client =
            Client::bios(mac(1)).with(options::PXE_CLIENT_ID, &[&[0], &blank[..]].concat());
        assert_ne!(server.lease(&client), ip("10.1.0.99"));
    }
    let absent = Client::bios(mac(2)).without(options::PXE_CLIENT_ID);
    assert_ne!(server.lease(&absent), ip("10.1.0.99"));
}

#[test]
fn a_host_known_by_uuid_keeps_its_address_when_the_installer_sends_none() {
    let mut server = hall_with_host("uuid = \"564d3210-aabb-ccdd-0102-030405060708\"");
    assert_eq!(server.lease(&Client::edk2(mac(1))), ip("10.1.0.99"));
    let installer = Client::installer(mac(1));
    assert_eq!(server.lease(&installer), ip("10.1.0.99"));
    server.expect(MessageType::Ack, &installer.renew(ip("10.1.0.99")));
    server.expect(MessageType::Ack, &installer.reboot(ip("10.1.0.99")));
    // Only the machine that has it; another client without a UUID gets nothing of it.
    server.expect(MessageType::Nak, &Client::installer(mac(2)).renew(ip("10.1.0.99")));
}

// They may be up at the same time, so they are two clients, in a pool and out of all pools alike.
#[test]
fn the_second_network_card_of_a_host_gets_its_address_when_the_first_has_left_it() {
    for key in [
        "hardware = [\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]",
        "uuid = \"564d3210-aabb-ccdd-0102-030405060708\"",
    ] {
        for reserved in ["10.1.0.99", "10.1.4.3"] {
            let mut server = Server::new(&with_host(key).replace("10.1.0.99", reserved));
            let (first, second) = (Client::edk2(mac(1)), Client::edk2(mac(2)));
            assert_eq!(server.lease(&first), ip(reserved), "{key}");
            server.expect(MessageType::Offer, &second.discover());
            assert_eq!(server.holder.unwrap().hardware.address(), mac(1));
            let meanwhile = server.lease(&second);
            assert_ne!(meanwhile, ip(reserved), "{key}");
            assert_eq!(meanwhile.octets()[2], 4, "one of the pool");
            server.expect(MessageType::Ack, &first.renew(ip(reserved)));
            server.expect(MessageType::Ack, &second.renew(meanwhile));
            server.receive(&first.release(ip(reserved)));
            server.expect(MessageType::Nak, &second.renew(meanwhile));
            assert_eq!(server.lease(&second), ip(reserved), "{key}");
        }
    }
}

#[test]
fn a_host_is_found_by_client_identifier_and_keeps_its_address_through_the_stages() {
    let mut server = hall_with_host("client-id = \"hex:01525400000005\"");
    assert_eq!(server.lease(&Client::ipxe(mac(5))), ip("10.1.0.99"));
    assert_eq!(server.lease(&Client::installer(mac(5))), ip("10.1.0.99"));
}

#[test]
fn a_host_is_found_by_the_port_it_is_plugged_into_and_renews_by_unicast() {
    let config = format!(
        "{HALL}\n[[dhcp.host]]\nname = \"port\"\ncircuit-id = \"port7\"\nip = \"10.2.0.7\"\n"
    );
    let mut server = Server::new(&config);
    let at = |number, port: &str| {
        let information = [&[1, u8::try_from(port.len()).unwrap()], port.as_bytes()].concat();
        Client::dhclient(mac(number)).behind(ip("10.2.0.1"), &information)
    };
    assert_eq!(server.lease(&at(1, "port7")), ip("10.2.0.7"));
    assert_ne!(server.lease(&at(2, "port8")), ip("10.2.0.7"));
    // The renewal passes no relay agent and carries no option 82.
    server.expect(MessageType::Ack, &at(1, "port7").renew(ip("10.2.0.7")));
    // Another machine is put into the same port: it has another address until that is free.
    let meanwhile = server.lease(&at(3, "port7"));
    assert_ne!(meanwhile, ip("10.2.0.7"));
    server.pass(Duration::from_secs(3601));
    server.expect(MessageType::Nak, &at(3, "port7").renew(meanwhile));
    assert_eq!(server.lease(&at(3, "port7")), ip("10.2.0.7"));
}

#[test]
fn of_several_addresses_the_one_of_the_network_counts() {
    let config = HALL.replace("ip = \"10.1.0.17\"", "ip = [\"10.1.0.17\", \"10.2.0.17\"]");
    let mut server = Server::new(&config);
    let client = Client::edk2(mac(0x11));
    assert_eq!(server.lease(&client), ip("10.1.0.17"));
    assert_eq!(server.lease(&client.clone().behind(ip("10.2.0.1"), b"")), ip("10.2.0.17"));
    // Where it has none it is known, and its entry's options do not follow it.
    let third = client.behind(ip("10.3.0.1"), b"");
    let offer = server.expect(MessageType::Offer, &third.discover());
    assert_eq!(offer.yiaddr().octets()[1], 3);
    assert_eq!(offer.option(options::HOST_NAME), None);
}
