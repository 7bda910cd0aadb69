//! What depends on the date and on how full a pool is. The clock shows 2023-11-14T22:13:20Z.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{CLIENT_PORT, MessageType, options};

use super::*;
use crate::dhcp::{Delivery, Silence};

/// The hall with more in its first pool, and in `[dhcp]`.
fn hall(pool: &str, settings: &str) -> Server {
    Server::new(&with_pool(HALL, pool).replace("[dhcp]", &format!("[dhcp]\n{settings}")))
}

fn seconds(answer: &Answer) -> u32 {
    answer.message().lease_time().unwrap()
}

#[test]
fn a_pool_is_used_from_a_date_on() {
    let mut server = hall("allow = [\"after 2023-11-14T22:13:30Z\", \"known\"]", "");
    let client = Client::dhclient(mac(1));
    assert_eq!(server.silence(&client.discover()), Silence::NoPoolPermitted);
    server.pass(Duration::from_secs(9));
    assert_eq!(server.silence(&client.discover()), Silence::NoPoolPermitted);
    server.pass(Duration::from_secs(1));
    server.lease(&client);
}

#[test]
fn a_pool_is_used_up_to_a_date_and_so_are_its_leases() {
    let mut server = hall("deny = [\"after 2023-11-14T22:14:20Z\"]", "");
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(seconds(&offer), 60);
    server.pass(Duration::from_secs(20));
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!(seconds(&ack), 40);
    server.pass(Duration::from_secs(40));
    server.expect(MessageType::Nak, &client.renew(offer.yiaddr()));
    assert_eq!(server.silence(&client.anew().discover()), Silence::NoPoolPermitted);
}

#[test]
fn in_a_full_pool_new_leases_are_short_and_old_ones_go_on() {
    let mut server = hall("", "adaptive-lease-time-threshold = 20");
    let long = Client::dhclient(mac(1));
    let leased = server.lease(&long);
    assert_eq!(seconds(&server.reply(&Client::dhclient(mac(2)).discover())), 3600);
    server.lease(&Client::dhclient(mac(2)));
    let client = Client::dhclient(mac(3));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(seconds(&offer), 600);
    assert_eq!(seconds(&server.expect(MessageType::Ack, &client.select(&offer))), 600);
    server.pass(Duration::from_secs(100));
    assert_eq!(seconds(&server.expect(MessageType::Ack, &long.renew(leased))), 3500);
    // Below the threshold it is as it was.
    assert!(matches!(server.receive(&long.release(leased)), Outcome::Recorded));
    assert!(matches!(server.receive(&client.release(offer.yiaddr())), Outcome::Recorded));
    assert_eq!(seconds(&server.reply(&Client::dhclient(mac(4)).discover())), 3600);
    let mut never = hall("", "adaptive-lease-time-threshold = 100");
    for number in 1..=9 {
        never.lease(&Client::dhclient(mac(number)));
    }
    assert_eq!(seconds(&never.reply(&Client::dhclient(mac(10)).discover())), 3600);
}

/// How long the lease is that the next client is offered, where three clients have one each: the
/// first range is full by then.
fn fourth(pools: &str) -> u32 {
    let pools = format!("min-lease-time = \"10m\"\n{pools}\nadaptive-lease-time-threshold = 40");
    let mut server = Server::new(&HALL.replace("pools = [\"10.1.4.0-10.1.4.9\"]", &pools));
    for number in 1..=3 {
        server.lease(&Client::dhclient(mac(number)));
    }
    seconds(&server.expect(MessageType::Offer, &Client::dhclient(mac(4)).discover()))
}

#[test]
fn all_ranges_of_a_pool_are_filled_together() {
    let ranges = ["\"10.1.4.0-10.1.4.3\"", "\"10.1.5.0-10.1.5.3\""];
    // Three of eight, and three of four.
    assert_eq!(fourth(&format!("pools = [{{ range = [{}, {}] }}]", ranges[0], ranges[1])), 3600);
    assert_eq!(fourth(&format!("pools = [{}, {}]", ranges[0], ranges[1])), 600);
}

#[test]
fn a_bootp_client_has_an_address_of_a_pool_up_to_a_date() {
    let end = "dynamic-bootp-lease-cutoff = \"2023-11-14T22:23:20Z\"\n\
               dynamic-bootp-lease-length = \"1h\"";
    let mut server = hall("allow = [\"bootp\"]", end);
    server.pass(Duration::from_secs(100));
    let address = server.reply(&Client::plain(mac(1)).bootp()).yiaddr();
    let lease = server.at(address).unwrap();
    assert_eq!(lease.expires.since(server.now), Duration::from_secs(500));
}

// In dhcpd a machine whose message has no options gets none with a reserved address (RFC 951).
#[test]
fn a_bootp_client_without_options_gets_none() {
    for (setting, options) in [("", false), ("always-reply-rfc1048 = true", true)] {
        let server = hall("allow = [\"bootp\"]", &format!("compatibility = \"dhcpd\"\n{setting}"));
        let without = |client: &Client| {
            let mut datagram = client.bootp();
            datagram.payload[236..].fill(0);
            datagram
        };
        let written = |datagram: &Datagram| {
            server.plan(datagram, |plan| {
                let mut buf = [1; 1500];
                let len = plan.action.reply().unwrap().render(&mut buf);
                assert!(len >= 300);
                buf[236..len].iter().any(|&byte| byte != 0)
            })
        };
        let reserved = Client::plain(mac(0x11));
        assert_eq!(written(&without(&reserved)), options, "{setting}");
        assert!(written(&reserved.bootp()), "{setting}");
        assert!(written(&without(&Client::plain(mac(1)))), "{setting}");
    }
}

#[test]
fn clients_may_listen_on_another_port() {
    for (settings, port) in [("", CLIENT_PORT), ("remote-port = 1068", 1068)] {
        let mut server = hall("", settings);
        let client = Client::dhclient(mac(1));
        let leased = server.lease(&client);
        let ack = server.expect(MessageType::Ack, &client.renew(leased));
        let Delivery::Unicast(to) = ack.delivery else { panic!("{:?}", ack.delivery) };
        assert_eq!(to.port(), port);
        // Relay agents do not.
        let relayed = Client::dhclient(mac(2)).behind(ip("10.2.0.1"), &[]);
        let offer = server.expect(MessageType::Offer, &relayed.discover());
        let Delivery::Relay(to) = offer.delivery else { panic!("{:?}", offer.delivery) };
        assert_eq!(to.port(), 67);
        assert!(offer.message().option(options::SUBNET_MASK).is_some());
    }
}
