//! BOOTP clients, which keep what they get.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::MessageType;
use bootstorm_protocols::time::Moment;

use super::holding::{UUID_TEXT, hall_with};
use super::*;
use crate::dhcp::Silence;
use crate::leases::LeaseState;

/// Two cards of one host entry.
fn two_cards(address: &str) -> String {
    let cards = "hardware = [\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]";
    hall_with("twins", cards, address)
}

fn bootp(server: &mut Server, client: &Client) -> Ipv4Addr {
    let reply = server.reply(&client.bootp());
    assert!(reply.durable);
    reply.yiaddr()
}

#[test]
fn a_reserved_address_that_one_card_has_by_bootp_is_no_other_cards() {
    let mut server = Server::new(&two_cards("10.1.0.99"));
    let (first, second) = (Client::plain(mac(1)), Client::dhclient(mac(2)));
    assert_eq!(bootp(&mut server, &first), ip("10.1.0.99"));
    for _ in 0..2 {
        assert_eq!(server.at(ip("10.1.0.99")).unwrap().expires, Moment::NEVER);
        assert_ne!(server.lease(&second), ip("10.1.0.99"));
        let holder = server.holder.is_none().then(|| {
            server.expect(MessageType::Offer, &second.discover());
            server.holder.unwrap()
        });
        assert_eq!(holder.unwrap().hardware.address(), mac(1));
        server.pass(Duration::from_secs(1_000_000));
        server.restart();
        assert_eq!(bootp(&mut server, &first), ip("10.1.0.99"), "it asks at every boot");
    }
    // Nor the other way round.
    let mut server = Server::new(&two_cards("10.1.0.99"));
    assert_eq!(server.lease(&second), ip("10.1.0.99"));
    assert_eq!(server.silence(&first.bootp()), Silence::ReservedHeld);
    server.receive(&second.release(ip("10.1.0.99")));
    assert_eq!(bootp(&mut server, &first), ip("10.1.0.99"));
}

// A network ROM of old, and the system that it boots.
#[test]
fn a_machine_has_its_address_by_bootp_and_by_dhcp() {
    for identity in ["", "identity = \"client-id\""] {
        let text = two_cards("10.1.0.99").replace("[dhcp]", &format!("[dhcp]\n{identity}"));
        let mut server = Server::new(&text);
        let (rom, system) = (Client::plain(mac(1)), Client::installer(mac(1)));
        for _ in 0..2 {
            assert_eq!(bootp(&mut server, &rom), ip("10.1.0.99"), "{identity}");
            assert_eq!(server.lease(&system), ip("10.1.0.99"), "{identity}");
            server.pass(Duration::from_secs(1800));
            server.expect(MessageType::Ack, &system.renew(ip("10.1.0.99")));
            assert_ne!(server.at(ip("10.1.0.99")).unwrap().expires, Moment::NEVER, "{identity}");
        }
        // When the system is done with it another card has it.
        server.pass(Duration::from_secs(3601));
        assert_eq!(server.lease(&Client::dhclient(mac(2))), ip("10.1.0.99"), "{identity}");
    }
}

// It never renews, so it never hears a NAK.
#[test]
fn a_bootp_client_whose_address_is_moved_leaves_the_old_one_behind() {
    let mut server = Server::new(&two_cards("10.1.0.99"));
    let client = Client::plain(mac(1));
    assert_eq!(bootp(&mut server, &client), ip("10.1.0.99"));
    let other = "[[dhcp.host]]\nname = \"m\"\nhardware = \"52:54:00:00:00:03\"\nip = \"10.1.0.99\"";
    server.reload(&format!("{}\n{other}", two_cards("10.1.0.98")));
    let waits = Client::dhclient(mac(3));
    assert_eq!(bootp(&mut server, &client.anew()), ip("10.1.0.98"));
    assert_ne!(server.lease(&waits), ip("10.1.0.99"), "its reply may be lost");
    assert_eq!(bootp(&mut server, &client.anew().anew()), ip("10.1.0.98"));
    assert_eq!(server.at(ip("10.1.0.99")).unwrap().state, LeaseState::Released);
    assert_eq!(server.lease(&waits), ip("10.1.0.99"));
}

// It would have the address without end.
#[test]
fn what_a_message_says_besides_the_hardware_address_makes_no_bootp_client_a_host() {
    let stranger = Client::edk2(mac(0x66)).behind(ip("10.1.0.1"), b"\x01\x05port7");
    let id = UUID_TEXT.replace('-', "");
    let keys = [
        format!("uuid = \"{UUID_TEXT}\""),
        format!("client-id = \"hex:00{id}\""),
        "circuit-id = \"port7\"".to_owned(),
    ];
    for key in keys {
        for identity in ["", "identity = \"client-id\""] {
            let text = hall_with("h", &key, "10.1.0.99");
            let text = text.replace("[dhcp]", &format!("[dhcp]\n{identity}"));
            let mut server = Server::new(&text);
            let reserved = ip("10.1.0.99");
            assert_eq!(server.silence(&stranger.bootp()), Silence::BootpWithoutHost, "{key}");
            assert!(server.at(reserved).is_none());
            // Nor does a lease by DHCP, which ends, become one without end.
            assert_eq!(server.lease(&stranger), reserved, "{key} {identity}");
            assert_eq!(server.silence(&stranger.bootp()), Silence::BootpWithoutHost, "{key}");
            assert_ne!(server.at(reserved).unwrap().expires, Moment::NEVER);
        }
    }
}
