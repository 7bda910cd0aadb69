//! As which host a client is known: a message that says nothing goes by the lease, the lease by the
//! key that it was given by, and the ACK by the OFFER.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::holding::{UUID_TEXT, domain, hall_with, reason};
use super::*;
use crate::dhcp::NakReason;
use crate::leases::{Admission, KeyKind, KnownAs};

const OTHER_UUID: &str = "0d9f9cd4-3df1-4ab9-8c9d-2f6a6f2b1c55";

fn by_uuid(uuid: &str, ip: &str) -> String {
    hall_with("n", &format!("uuid = {uuid}"), ip)
}

fn quoted(uuid: &str) -> String {
    format!("\"{uuid}\"")
}

// In a reinstall it would be given the boot file that wipes the disk of the new one.
#[test]
fn a_machine_is_the_host_no_more_when_a_reload_gives_the_entry_another_key() {
    let relay = |client: Client| client.behind(ip("10.1.0.1"), b"\x01\x05port7");
    let uuid = |uuid: &str| format!("uuid = \"{uuid}\"");
    let text = |key: &str| key.to_owned();
    for (old, new, first, later) in [
        (uuid(UUID_TEXT), uuid(OTHER_UUID), Client::edk2(mac(1)), Client::installer(mac(1))),
        (
            text("client-id = \"hex:01525400000005\""),
            text("client-id = \"hex:01525400000006\""),
            Client::ipxe(mac(5)),
            Client::installer(mac(5)),
        ),
        (
            text("hardware = \"52:54:00:00:00:01\""),
            text("hardware = \"52:54:00:00:00:02\""),
            Client::edk2(mac(1)),
            Client::installer(mac(1)),
        ),
        (
            text("circuit-id = \"port7\""),
            text("circuit-id = \"port8\""),
            relay(Client::edk2(mac(1))),
            relay(Client::installer(mac(1))),
        ),
    ] {
        for restart in [false, true] {
            let mut server = Server::new(&hall_with("n", &old, "10.1.0.99"));
            assert_eq!(server.lease(&first), ip("10.1.0.99"), "{old}");
            let ack = server.expect(MessageType::Ack, &later.renew(ip("10.1.0.99")));
            assert_eq!(domain(&ack).as_deref(), Some("n.example"), "{old}");
            server.reload(&hall_with("n", &new, "10.1.0.99"));
            if restart {
                server.restart();
            }
            let nak = server.expect(MessageType::Nak, &later.renew(ip("10.1.0.99")));
            assert_eq!(reason(&nak), NakReason::NotAvailable.text(), "{new}");
            let offer = server.expect(MessageType::Offer, &later.discover());
            assert_ne!(offer.yiaddr(), ip("10.1.0.99"), "{new}");
            assert_eq!(domain(&offer), None, "{new}");
            let ack = server.expect(MessageType::Ack, &later.select(&offer));
            assert_eq!(domain(&ack), None, "{new}");
        }
    }
}

#[test]
fn a_machine_stays_the_host_while_the_entry_has_its_key_among_others() {
    let mut server = Server::new(&by_uuid(&quoted(UUID_TEXT), "10.1.0.99"));
    let installer = Client::installer(mac(1));
    assert_eq!(server.lease(&Client::edk2(mac(1))), ip("10.1.0.99"));
    // Of its mainboards one is a spare part.
    let both = format!("[{}, {}]", quoted(OTHER_UUID), quoted(UUID_TEXT));
    server.reload(&by_uuid(&both, "10.1.0.99"));
    let ack = server.expect(MessageType::Ack, &installer.renew(ip("10.1.0.99")));
    assert_eq!(domain(&ack).as_deref(), Some("n.example"));
    server.reload(&by_uuid(&quoted(OTHER_UUID), "10.1.0.99"));
    server.expect(MessageType::Nak, &installer.renew(ip("10.1.0.99")));
}

// An upgrade takes no address from anybody, and makes nobody a host that it may not be.
#[test]
fn a_lease_of_an_earlier_version_is_kept_and_counts_as_a_hosts_when_the_key_is_said() {
    let unproven = KnownAs { name: "n", by: KeyKind::Uuid, key: None };
    for admission in [Admission::Host(unproven), Admission::Unknown] {
        let mut server = Server::new(&by_uuid(&quoted(UUID_TEXT), "10.1.0.99"));
        let (firmware, installer) = (Client::edk2(mac(1)), Client::installer(mac(1)));
        let address = server.lease(&firmware);
        server.make_old(&firmware, address, admission);
        for _ in 0..2 {
            for ask in [Client::renew, Client::rebind, Client::reboot] {
                let ack = server.expect(MessageType::Ack, &ask(&installer, address));
                assert_eq!(domain(&ack), None);
            }
            let offer = server.expect(MessageType::Offer, &installer.discover());
            assert_eq!((offer.yiaddr(), domain(&offer)), (address, None));
            let ack = server.expect(MessageType::Ack, &installer.select(&offer));
            assert_eq!(domain(&ack), None);
            server.pass(Duration::from_secs(1800));
            server.restart();
        }
        // The next boot through its firmware says the key.
        assert_eq!(server.lease(&firmware), address);
        let ack = server.expect(MessageType::Ack, &installer.renew(address));
        assert_eq!(domain(&ack).as_deref(), Some("n.example"));
    }
}

#[test]
fn a_lease_of_an_earlier_version_is_not_kept_against_what_is_known() {
    let unproven = KnownAs { name: "n", by: KeyKind::Uuid, key: None };
    let installer = Client::installer(mac(1));
    let other = Client::edk2(mac(1))
        .with(options::PXE_CLIENT_ID, &[&[0], &[9; 16][..]].concat())
        .without(options::CLIENT_IDENTIFIER);
    let by_hardware = hall_with("n", "hardware = \"52:54:00:00:00:77\"", "10.1.0.99");
    let renamed = hall_with("m", &format!("uuid = \"{UUID_TEXT}\""), "10.1.0.99");
    for (admission, text, client) in [
        // It says another UUID.
        (Admission::Host(unproven), None, &other),
        (Admission::Unknown, None, &other),
        // The address is another host's by now.
        (Admission::Host(unproven), Some(&renamed), &installer),
        // A hardware address is in every message.
        (Admission::Unknown, Some(&by_hardware), &installer),
    ] {
        let mut server = Server::new(&by_uuid(&quoted(UUID_TEXT), "10.1.0.99"));
        let address = server.lease(&Client::edk2(mac(1)));
        server.make_old(&Client::edk2(mac(1)), address, admission);
        if let Some(text) = text {
            server.reload(text);
        }
        server.expect(MessageType::Nak, &client.renew(address));
        assert_ne!(server.lease(client), address);
    }
}

// What the lease of an earlier version remembers of its client is a proof as well.
#[test]
fn an_earlier_lease_by_client_id_that_remembers_the_client_id_is_the_hosts() {
    let unproven = KnownAs { name: "n", by: KeyKind::ClientId, key: None };
    let text =
        |id: u8| hall_with("n", &format!("client-id = \"hex:0152540000000{id}\""), "10.1.0.99");
    let (ipxe, later) = (Client::ipxe(mac(5)), Client::dhclient(mac(5)));
    for (edited, expected) in [(5, Some("n.example")), (6, None)] {
        let mut server = Server::new(&text(5));
        let address = server.lease(&ipxe);
        server.make_old(&ipxe, address, Admission::Host(unproven));
        server.reload(&text(edited));
        let ack = server.expect(MessageType::Ack, &later.renew(address));
        assert_eq!(domain(&ack).as_deref(), expected, "client-id of {edited}");
    }
}

// The address of the host has moved to one that somebody holds, and its lease was refused.
#[test]
fn the_ack_goes_by_the_offer_when_the_lease_that_told_of_the_host_has_ended() {
    let uuid = quoted(UUID_TEXT);
    let mut server = Server::new(&by_uuid(&uuid, "10.1.0.99"));
    let (firmware, installer) = (Client::edk2(mac(1)), Client::installer(mac(1)));
    let holder = Client::dhclient(mac(2));
    let held = server.lease(&holder);
    assert_eq!(server.lease(&firmware), ip("10.1.0.99"));
    server.reload(&by_uuid(&uuid, &held.to_string()));
    server.expect(MessageType::Nak, &installer.reboot(ip("10.1.0.99")));
    let installer = installer.anew();
    let mut offer = server.expect(MessageType::Offer, &installer.discover());
    let meanwhile = offer.yiaddr();
    assert_eq!(domain(&offer).as_deref(), Some("n.example"));
    assert!(!server.at(ip("10.1.0.99")).unwrap().is_active(server.now));
    // The OFFER is lost: the next one is the same.
    for _ in 0..2 {
        offer = server.expect(MessageType::Offer, &installer.discover());
        assert_eq!((offer.yiaddr(), domain(&offer).as_deref()), (meanwhile, Some("n.example")));
    }
    for ask in [installer.select(&offer), installer.renew(meanwhile), installer.reboot(meanwhile)] {
        let ack = server.expect(MessageType::Ack, &ask);
        assert_eq!((ack.yiaddr(), domain(&ack).as_deref()), (meanwhile, Some("n.example")));
    }
    let offer = server.expect(MessageType::Offer, &installer.discover());
    assert_eq!((offer.yiaddr(), domain(&offer).as_deref()), (meanwhile, Some("n.example")));
    // And it moves when the other has left.
    server.receive(&holder.release(held));
    let nak = server.expect(MessageType::Nak, &installer.renew(meanwhile));
    assert_eq!(reason(&nak), NakReason::OtherReservation.text());
    assert_eq!(server.lease(&installer), held);
}

#[test]
fn an_address_that_a_client_had_is_offered_by_what_admits_it_now() {
    let mut server = Server::new(HALL);
    let (silent, firmware) = (Client::dhclient(mac(1)), Client::bios(mac(1)));
    let address = server.lease(&silent);
    server.reload(&by_uuid(&quoted(UUID_TEXT), &address.to_string()));
    let ends = [Duration::ZERO, Duration::from_secs(3601)];
    for end in ends {
        server.pass(end);
        let offer = server.expect(MessageType::Offer, &firmware.discover());
        assert_eq!((offer.yiaddr(), domain(&offer).as_deref()), (address, Some("n.example")));
        // It says nothing of itself when it takes the offer, and is not known by its transaction.
        let takes = Client { xid: firmware.xid + 1, ..Client::plain(mac(1)) };
        let ack = server.expect(MessageType::Ack, &takes.select(&offer));
        assert_eq!(domain(&ack).as_deref(), Some("n.example"));
    }
}

// Pools of their own for the known and the unknown: see `holding`. Here the host has no address.
#[test]
fn a_lease_from_a_pool_remembers_the_host_for_who_renews_it_and_not_for_who_begins_anew() {
    let known = format!(
        "{HALL}[[dhcp.host]]\nname = \"n\"\nuuid = \"{UUID_TEXT}\"\n\
                         options = {{ domain-name = \"n.example\" }}\n"
    );
    let mut server = Server::new(&known);
    let (firmware, system) = (Client::edk2(mac(1)), Client::dhclient(mac(1)));
    let address = server.lease(&firmware);
    for ask in [system.renew(address), system.reboot(address)] {
        let ack = server.expect(MessageType::Ack, &ask);
        assert_eq!(domain(&ack).as_deref(), Some("n.example"));
    }
    let offer = server.expect(MessageType::Offer, &system.discover());
    assert_eq!((offer.yiaddr(), domain(&offer)), (address, None));
    let ack = server.expect(MessageType::Ack, &system.select(&offer));
    assert_eq!(domain(&ack), None);
}
