//! RELEASE, DECLINE and INFORM: RFC 2131, sections 4.3.3 to 4.3.5.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{Delivery, Silence};
use crate::leases::LeaseState;

#[test]
fn a_release_is_not_answered_and_frees_the_address() {
    let mut server = Server::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.0-10.1.4.0"));
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    assert!(matches!(server.receive(&client.release(address)), Outcome::Recorded));
    assert_eq!(server.at(address).unwrap().state, LeaseState::Released);
    assert_eq!(server.lease(&Client::dhclient(mac(2))), address);
    assert_eq!(server.silence(&client.release(address)), Silence::NotHeld);
}

#[test]
fn nobody_releases_or_declines_the_address_of_another() {
    let mut server = Server::new(HALL);
    let address = server.lease(&Client::dhclient(mac(1)));
    let other = Client::dhclient(mac(2));
    assert_eq!(server.silence(&other.release(address)), Silence::NotHeld);
    assert_eq!(server.silence(&other.decline(address)), Silence::NotHeld);
    assert!(server.at(address).unwrap().is_active(server.now));
    let nothing = Client::dhclient(mac(1)).release(ip("0.0.0.0"));
    assert_eq!(server.silence(&nothing), Silence::NoAddressNamed);
}

#[test]
fn a_declined_address_is_left_alone_for_decline_time_and_not_offered_for_ever() {
    let mut server = Server::new(
        &HALL
            .replace("10.1.4.0-10.1.4.9", "10.1.4.0-10.1.4.1")
            .replace("[dhcp]", "[dhcp]\ndecline-time = \"10m\""),
    );
    let client = Client::edk2(mac(1));
    let first = server.lease(&client);
    assert!(matches!(server.receive(&client.decline(first)), Outcome::Recorded));
    let second = server.lease(&client);
    assert_ne!(second, first);
    assert!(matches!(server.receive(&client.decline(second)), Outcome::Recorded));
    assert_eq!(server.silence(&client.discover()), Silence::PoolFull);
    server.expect(MessageType::Nak, &client.reboot(first));
    server.restart();
    assert_eq!(server.silence(&client.discover()), Silence::PoolFull, "quarantine is durable");
    server.pass(Duration::from_secs(601));
    server.lease(&client);
}

#[test]
fn a_forged_decline_does_not_poison_a_reservation() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(0x11));
    let reserved = server.lease(&client);
    // Whoever writes the machine's hardware address into a DECLINE looks like the machine.
    server.receive(&Client::plain(mac(0x11)).decline(reserved));
    assert_eq!(server.lease(&client), reserved);
}

#[test]
fn declines_and_releases_for_another_server_are_its_own() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    let mut decline = client.decline(address);
    let mut release = client.release(address);
    for datagram in [&mut decline, &mut release] {
        let at = datagram.payload.windows(6).position(|w| w == [54, 4, 10, 1, 0, 6]).unwrap();
        datagram.payload[at + 5] = 7;
        assert_eq!(server.silence(datagram), Silence::OtherServer);
    }
    assert!(server.at(address).unwrap().is_active(server.now));
}

// RFC 2131 4.3.5: to ciaddr, without yiaddr and lease times, whether there is a lease or not.
#[test]
fn inform_is_answered_with_options_only() {
    let mut server = modest_hall();
    let client = Client::windows(mac(1));
    let address = ip("10.1.99.5");
    let ack = server.expect(MessageType::Ack, &client.inform(address));
    assert!(ack.yiaddr().is_unspecified());
    assert_eq!(ack.message().ciaddr(), address);
    assert_eq!(ack.delivery, Delivery::Unicast("10.1.99.5:68".parse().unwrap()));
    for code in [options::LEASE_TIME, options::RENEWAL_TIME, options::REBINDING_TIME] {
        assert_eq!(ack.option(code), None);
    }
    assert_eq!(ack.option(options::ROUTERS), Some(vec![10, 1, 0, 1]));
    assert!(!ack.durable);
    assert!(server.at(address).is_none());
}

#[test]
fn inform_through_a_relay_agent_goes_to_the_client_and_without_address_back_to_the_agent() {
    let mut server = modest_hall();
    let client = Client::windows(mac(1)).behind(ip("10.2.0.1"), b"");
    let ack = server.expect(MessageType::Ack, &client.inform(ip("10.2.0.77")));
    assert_eq!(ack.to(), "10.2.0.77:68".parse().unwrap());
    assert_eq!(server.silence(&client.inform(ip("0.0.0.0"))), Silence::NoAddressNamed);

    // Direct clients that leave ciaddr empty are answered where they wrote from.
    let direct = Client::windows(mac(1));
    let mut inform = direct.inform(ip("0.0.0.0"));
    inform.source = "10.1.99.5:68".parse().unwrap();
    assert_eq!(server.expect(MessageType::Ack, &inform).to(), "10.1.99.5:68".parse().unwrap());
}

#[test]
fn inform_from_an_address_of_another_network_is_not_answered() {
    let mut server = Server::new(HALL);
    let client = Client::windows(mac(1));
    assert_eq!(server.silence(&client.inform(ip("10.2.0.77"))), Silence::NoSubnetHere);
    assert_eq!(server.silence(&client.inform(ip("172.16.0.1"))), Silence::NoSubnetHere);
}
