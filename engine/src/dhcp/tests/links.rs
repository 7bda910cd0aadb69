//! Which link a client is on, and what relay agents say about it.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::Silence;

#[test]
fn direct_clients_are_answered_only_where_a_subnet_matches_the_interface() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    server.interface = vec![ip("192.0.2.6")];
    assert_eq!(server.silence(&client.discover()), Silence::NoSubnetHere);
    // Relayed and unicast requests anywhere.
    let relayed = client.clone().behind(ip("10.2.0.1"), b"");
    let address = server.lease(&relayed);
    server.expect(MessageType::Ack, &relayed.renew(address));
    server.interface = vec![ip("192.0.2.6"), ip("10.1.0.6")];
    assert_eq!(server.lease(&client).octets()[1], 1);
}

#[test]
fn the_relay_agents_address_says_the_subnet() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    assert_eq!(server.lease(&client.clone().behind(ip("10.2.0.1"), b"")).octets()[1], 2);
    let lost = client.behind(ip("172.16.0.1"), b"");
    assert_eq!(server.silence(&lost.discover()), Silence::NoSubnetForRelay);
}

// From 0.0.0.0 ciaddr is an old address: it says neither where the machine is nor what port it is
// plugged into.
#[test]
fn an_address_that_a_client_no_longer_has_says_nothing_of_its_link() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let mut discover = client.discover().with_ciaddr(ip("10.2.0.77"));
    discover.to = ip("10.1.0.6");
    let offer = server.expect(MessageType::Offer, &discover);
    assert_eq!(offer.yiaddr().octets()[1], 1);
    // The port of a lease counts for its renewal only.
    let mut server = Server::new(&format!(
        "{HALL}\n[[dhcp.class]]\nname = \"port7\"\ncircuit-id = \"hex:07\"\n\
         options = {{ domain-name = \"port7\" }}"
    ));
    let plugged = client.clone().with(options::RELAY_AGENT_INFORMATION, &[1, 1, 7]);
    let address = server.lease(&plugged);
    let named = |answer: &Answer| answer.option(options::DOMAIN_NAME).is_some();
    assert!(named(&server.expect(MessageType::Ack, &client.renew(address))));
    let elsewhere = client.discover().with_ciaddr(address);
    assert!(!named(&server.expect(MessageType::Offer, &elsewhere)));
}

// RFC 3527 section 3.
#[test]
fn link_selection_says_the_subnet_and_giaddr_where_the_reply_goes() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).behind(ip("172.16.0.1"), &[5, 4, 10, 2, 0, 0]);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.yiaddr().octets()[1], 2);
    assert_eq!(offer.to(), "172.16.0.1:67".parse().unwrap());
    server.expect(MessageType::Ack, &client.select(&offer));
    let elsewhere = Client::edk2(mac(1)).behind(ip("10.2.0.1"), &[5, 4, 172, 16, 0, 0]);
    assert_eq!(server.silence(&elsewhere.discover()), Silence::NoSubnetSelected);
}

#[test]
fn a_direct_client_selects_no_link_with_an_option_of_relay_agents() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).with(options::RELAY_AGENT_INFORMATION, &[5, 4, 10, 2, 0, 0]);
    assert_eq!(server.lease(&client).octets()[1], 1);
}

// RFC 3011 section 2: allocate there, and send an identical copy back.
#[test]
fn subnet_selection_is_obeyed_and_sent_back() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).with(options::SUBNET_SELECTION, &[10, 2, 0, 0]);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.yiaddr().octets()[1], 2);
    assert_eq!(offer.option(options::SUBNET_SELECTION), Some(vec![10, 2, 0, 0]));
    // The relay agent knows the link better than its client.
    let relayed = client.clone().behind(ip("10.1.0.1"), &[5, 4, 10, 3, 1, 0]);
    let offer = server.expect(MessageType::Offer, &relayed.discover());
    assert_eq!(offer.yiaddr().octets()[1], 3);
    assert_eq!(offer.option(options::SUBNET_SELECTION), Some(vec![10, 2, 0, 0]));
    let nowhere = client.with(options::SUBNET_SELECTION, &[172, 16, 0, 0]);
    assert_eq!(server.silence(&nowhere.discover()), Silence::NoSubnetSelected);
}

// RFC 3046 section 2.2.
#[test]
fn option_82_comes_back_whole_and_last_in_every_reply() {
    let mut server = Server::new(HALL);
    let information = [&[1, 4, 0, 0, 0, 7, 2, 6][..], &mac(0xee)].concat();
    let client = Client::edk2(mac(1)).behind(ip("10.2.0.1"), &information);
    let offer = server.expect(MessageType::Offer, &client.discover());
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    let nak = server.expect(MessageType::Nak, &client.reboot(ip("10.2.0.200")));
    let inform = server.expect(MessageType::Ack, &client.inform(ip("10.2.0.50")));
    for reply in [offer, ack, nak, inform] {
        assert_eq!(reply.option(options::RELAY_AGENT_INFORMATION).as_ref(), Some(&information));
        assert_eq!(reply.codes().last(), Some(&options::RELAY_AGENT_INFORMATION));
    }
}

#[test]
fn option_82_of_a_snooping_switch_comes_back_though_there_is_no_relay_agent() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).with(options::RELAY_AGENT_INFORMATION, &[1, 2, 0, 7]);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::RELAY_AGENT_INFORMATION), Some(vec![1, 2, 0, 7]));
    assert_eq!(offer.yiaddr().octets()[1], 1);
}

#[test]
fn option_82_has_room_whatever_the_configuration_sends() {
    let names: Vec<_> = (0..60).map(|n| format!("\"10.2.0.{n}\"")).collect();
    let config = HALL.replace(
        "next-server = \"10.2.0.5\"",
        &format!(
            "next-server = \"10.2.0.5\"\nboot = [ {{ file = \"pxelinux.0\" }} ]\n\
             server-name = \"boot\"\noptions = {{ domain-name-servers = [{}] }}",
            names.join(", ")
        ),
    );
    let mut server = Server::new(&config);
    let information = [&[1, 200][..], &[7; 200]].concat();
    let client = Client::udhcpc(mac(1)).behind(ip("10.2.0.1"), &information);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::RELAY_AGENT_INFORMATION), Some(information));
    assert_eq!(offer.option(options::DOMAIN_NAME_SERVERS), None, "no room in 548 bytes");
    assert!(offer.payload.len() <= 548);
}

// RFC 5107 section 4: the agent's address stands in option 54, and requests naming it are ours.
#[test]
fn the_server_identifier_is_the_relay_agents_if_it_wants_so() {
    let mut server = Server::new(HALL);
    let information = [&[11, 4, 10, 2, 0, 1][..]].concat();
    let client = Client::edk2(mac(1)).behind(ip("10.2.0.1"), &information);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::SERVER_IDENTIFIER), Some(vec![10, 2, 0, 1]));
    assert_eq!(offer.source, ip("10.1.0.6"));
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    // Its renewals come through the agent.
    server.expect(MessageType::Ack, &client.rebind(ack.yiaddr()));
    let other = client.select_from(ip("10.2.0.99"), ack.yiaddr());
    assert_eq!(server.silence(&other), Silence::OtherServer);
}

#[test]
fn the_identifier_of_a_relayed_reply_is_the_address_that_was_written_to() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).behind(ip("10.2.0.1"), b"");
    let mut discover = client.discover();
    discover.to = ip("192.0.2.6");
    let offer = server.expect(MessageType::Offer, &discover);
    assert_eq!(offer.option(options::SERVER_IDENTIFIER), Some(vec![192, 0, 2, 6]));
    assert_eq!(offer.source, ip("192.0.2.6"));
}
