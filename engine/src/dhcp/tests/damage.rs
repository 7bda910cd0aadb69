//! After damage of the lease store: somebody may have a lease of an address that seems free.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::client::Client;
use super::holding::{domain, hall_with};
use super::server::{Outcome, Server};
use super::{HALL, ip, mac, modest, with_pool};
use crate::dhcp::Silence;

#[test]
fn an_address_that_is_to_be_probed_is_given_by_no_rapid_commit() {
    let asking = Client::dhclient(mac(1)).with(options::RAPID_COMMIT, &[]);
    let rapid = HALL.replace("[dhcp]", "[dhcp]\nrapid-commit = true");
    let mut damaged = Server::new(&rapid);
    damaged.lose_leases();
    damaged.pass(Duration::from_secs(1));
    let pings = Server::new(&rapid.replace("[dhcp]", "[dhcp]\nping-check = true"));
    for mut server in [damaged, pings] {
        let Outcome::Probe(offer) = server.receive(&asking.discover()) else {
            panic!("not probed");
        };
        assert_eq!(offer.option(options::RAPID_COMMIT), None);
        server.expect(MessageType::Ack, &asking.select(&offer));
        // Its own lease is probed by nobody.
        assert!(server.expect(MessageType::Ack, &asking.discover()).durable);
    }
}

#[test]
fn a_renewal_of_a_lost_lease_is_granted() {
    for text in [HALL.to_owned(), modest(HALL)] {
        let mut server = Server::new(&text);
        let (first, second) = (Client::dhclient(mac(1)), Client::dhclient(mac(2)));
        server.lose_leases();
        let (renewed, rebound) = (ip("10.1.4.3"), ip("10.1.4.4"));
        assert_eq!(server.expect(MessageType::Ack, &first.renew(renewed)).yiaddr(), renewed);
        assert_eq!(server.expect(MessageType::Ack, &second.rebind(rebound)).yiaddr(), rebound);
        // What somebody has is not given on the word of another.
        let third = Client::dhclient(mac(3));
        server.expect(MessageType::Nak, &third.rebind(renewed));
        // A client that has no lease any more says the same at its start.
        let free = ip("10.1.4.5");
        assert!(!matches!(server.receive(&third.reboot(free)),
            Outcome::Reply(answer) if answer.yiaddr() == free));
    }
}

#[test]
fn nobody_takes_an_offer_that_the_store_has_lost_without_a_probe() {
    for had_it in [false, true] {
        let mut server = Server::new(HALL);
        let client = Client::dhclient(mac(1));
        if had_it {
            let address = server.lease(&client);
            server.receive(&client.release(address));
        }
        let offer = server.expect(MessageType::Offer, &client.discover());
        server.damage();
        server.expect(MessageType::Nak, &client.select(&offer));
        assert!(matches!(server.receive(&client.discover()), Outcome::Probe(_)));
    }
}

// It gets no OFFER that could wait for a probe.
#[test]
fn a_bootp_client_is_given_only_what_it_has() {
    let text = hall_with("m", "hardware = \"52:54:00:00:00:01\"", "10.1.0.99");
    let mut server = Server::new(&with_pool(&text, "allow = [\"bootp\", \"all\"]"));
    let (reserved, other) = (Client::plain(mac(1)), Client::plain(mac(2)));
    assert_eq!(server.reply(&reserved.bootp()).yiaddr(), ip("10.1.0.99"));
    server.lose_leases();
    for client in [&reserved, &other] {
        assert_eq!(server.silence(&client.bootp()), Silence::NotProbed);
    }
    // Its system still uses the address, and says so.
    server.expect(MessageType::Ack, &Client::dhclient(mac(1)).renew(ip("10.1.0.99")));
    assert_eq!(server.reply(&reserved.bootp()).yiaddr(), ip("10.1.0.99"));
    server.pass(Duration::from_secs(86_401));
    server.reply(&other.bootp());
}

// A later lease of another client may be what was lost.
#[test]
fn who_only_remembers_an_address_is_not_believed() {
    let mut server = Server::new(HALL);
    let (client, reserved) = (Client::dhclient(mac(1)), Client::dhclient(mac(0x11)));
    let (address, own) = (server.lease(&client), ip("10.1.0.17"));
    server.receive(&client.release(address));
    server.damage();
    // Without an address of its own it cannot know that it has this one.
    let nowhere = Ipv4Addr::UNSPECIFIED;
    for request in [
        client.reboot(address),
        client.renew(address).from(nowhere),
        client.rebind(address).from(nowhere),
        reserved.reboot(own),
    ] {
        server.expect(MessageType::Nak, &request);
    }
    server.expect(MessageType::Ack, &client.renew(address));
    server.expect(MessageType::Ack, &reserved.rebind(own));
    for (client, address) in [(&client, address), (&reserved, own)] {
        server.expect(MessageType::Ack, &client.reboot(address));
    }
    // Nor is the probe of an offer over because its client asks for the address.
    let third = Client::dhclient(mac(3));
    let Outcome::Probe(offer) = server.receive(&third.discover()) else { panic!("not probed") };
    server.expect(MessageType::Nak, &third.reboot(offer.yiaddr()));
    server.expect(MessageType::Ack, &third.select(&offer));
}

// A later record may have been lost, in which the machine was plugged in elsewhere.
#[test]
fn the_port_of_an_outdated_lease_makes_nobody_a_host() {
    let host = "[[dhcp.host]]\nname = \"n\"\ncircuit-id = \"port7\"\n\
                options = { domain-name = \"n.example\" }";
    let ports = [
        format!("{HALL}\n{host}"),
        hall_with("n", "circuit-id = \"port7\"", "10.1.0.99"),
        format!("{HALL}\n{}", host.replace("host", "class")),
        format!(
            "{HALL}\n{}",
            host.replace("host", "class")
                .replace("circuit-id = \"port7\"", "test = 'option agent.circuit-id = \"port7\"'",)
        ),
    ];
    for text in &ports {
        let mut server = Server::new(text);
        let client = Client::dhclient(mac(1)).behind(ip("10.1.0.1"), b"\x01\x05port7");
        let address = server.lease(&client);
        server.pass(Duration::from_secs(1));
        server.damage();
        server.pass(Duration::from_secs(1));
        assert_eq!(server.silence(&client.renew(address)), Silence::PortUnknown);
        // Nobody waits for an address with an INFORM.
        let mut inform = Client::dhclient(mac(1)).inform(address);
        inform.to = ip("10.1.0.6");
        let informed = server.expect(MessageType::Ack, &inform);
        assert_eq!(domain(&informed), None);
        // The relay agent tells the port, and it is known for the next time.
        for request in [client.rebind(address), client.renew(address)] {
            let ack = server.expect(MessageType::Ack, &request);
            assert_eq!(domain(&ack).as_deref(), Some("n.example"));
        }
        // What was lost whole may have been given to a port.
        server.lose_leases();
        assert_eq!(server.silence(&client.renew(address)), Silence::PortUnknown);
        server.expect(MessageType::Ack, &client.rebind(address));
        // Who gives its address back is heard.
        assert!(matches!(server.receive(&client.release(address)), Outcome::Recorded));
    }
}

#[test]
fn a_reload_that_shortens_leases_does_not_shorten_the_probing() {
    let mut server = Server::new(HALL);
    server.reload(&HALL.replace("max-lease-time = \"1d\"", "max-lease-time = \"2h\""));
    server.damage();
    for (passes, probed) in [(0, true), (86_399, true), (1, false)] {
        server.pass(Duration::from_secs(passes));
        let outcome = server.receive(&Client::dhclient(mac(1)).discover());
        assert_eq!(matches!(outcome, Outcome::Probe(_)), probed, "{passes}: {outcome:?}");
    }
}

// It may have given it back since, and another client may have it by a lease that is lost.
#[test]
fn who_begins_anew_with_an_outdated_lease_gets_the_address_if_nobody_answers_there() {
    let reserved = hall_with("m", "hardware = \"52:54:00:00:00:01\"", "10.1.0.99");
    for text in [HALL.to_owned(), reserved] {
        for answered in [false, true] {
            let mut server = Server::new(&text);
            let client = Client::dhclient(mac(1));
            let address = server.lease(&client);
            server.pass(Duration::from_secs(1));
            server.damage();
            server.pass(Duration::from_secs(1));
            let Outcome::Probe(offer) = server.receive(&client.discover()) else {
                panic!("not probed");
            };
            assert_eq!(offer.yiaddr(), address);
            if answered {
                server.probe_answered(address);
                let Outcome::Probe(other) = server.receive(&client.discover()) else {
                    panic!("not probed");
                };
                assert_ne!(other.yiaddr(), address);
                continue;
            }
            server.expect(MessageType::Ack, &client.select(&offer));
            // Now it is certain.
            server.expect(MessageType::Offer, &client.discover());
        }
    }
}
