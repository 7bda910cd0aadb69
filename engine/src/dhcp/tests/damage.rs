//! After damage of the lease store: somebody may have a lease of an address that seems free.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::client::Client;
use super::server::{Outcome, Server};
use super::{HALL, ip, mac, modest};

#[test]
fn an_address_that_is_to_be_probed_is_given_by_no_rapid_commit() {
    let asking = Client::dhclient(mac(1)).with(options::RAPID_COMMIT, &[]);
    let rapid = HALL.replace("[dhcp]", "[dhcp]\nrapid-commit = true");
    let mut damaged = Server::new(&rapid);
    damaged.lose_leases();
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
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    server.restart();
    server.lose_leases();
    server.expect(MessageType::Nak, &client.select(&offer));
    assert!(matches!(server.receive(&client.discover()), Outcome::Probe(_)));
}
