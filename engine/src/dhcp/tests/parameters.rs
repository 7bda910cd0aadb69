//! What ISC dhcpd calls parameters: settings of scopes that decide whether and how a client is
//! answered.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{BROADCAST_FLAG, MessageType, options};
use bootstorm_protocols::time::Moment;

use super::*;
use crate::dhcp::{Delivery, Silence};
use crate::leases::LeaseState;

/// The hall with more in `[dhcp]`.
fn hall(settings: &str) -> Server {
    Server::new(&HALL.replace("[dhcp]", &format!("[dhcp]\n{settings}")))
}

/// A message whose client has tried for so long.
fn after_seconds(mut datagram: Datagram, secs: u16) -> Datagram {
    datagram.payload[8..10].copy_from_slice(&secs.to_be_bytes());
    datagram
}

fn flags(answer: &Answer) -> u16 {
    u16::from_be_bytes([answer.payload[10], answer.payload[11]])
}

#[test]
fn who_is_denied_hears_nothing() {
    let known = Client::edk2(mac(0x11));
    let stranger = Client::edk2(mac(1));
    for (setting, silence) in [
        ("boot-unknown-clients = false", Silence::UnknownClient),
        ("booting = false", Silence::BootingDenied),
    ] {
        let mut server = hall(setting);
        for message in [
            stranger.discover(),
            stranger.reboot(ip("10.1.4.1")),
            stranger.renew(ip("10.1.4.1")),
            stranger.bootp(),
        ] {
            assert_eq!(server.silence(&message), silence, "{setting}");
        }
    }
    assert_eq!(hall("boot-unknown-clients = false").lease(&known), ip("10.1.0.17"));
    let mut server = hall("bootp = false");
    assert_eq!(server.silence(&known.bootp()), Silence::BootpDenied);
    assert_eq!(server.lease(&known), ip("10.1.0.17"));
}

#[test]
fn the_narrowest_scope_says_who_is_answered() {
    let text = with_pool(HALL, "booting = false");
    let mut server = Server::new(&text);
    assert_eq!(server.silence(&Client::edk2(mac(1)).discover()), Silence::BootingDenied);
    assert_eq!(server.lease(&Client::edk2(mac(0x11))), ip("10.1.0.17"));
    let text = text.replace("ip = \"10.1.0.17\"", "booting = true");
    let mut server = Server::new(&text);
    assert_eq!(server.lease(&Client::edk2(mac(0x11))).octets()[..3], [10, 1, 4]);
    // Another stage of the machine had been answered before a reload.
    let mut server = Server::new(&HALL.replace("ip = \"10.1.0.17\"", ""));
    let leased = server.lease(&Client::edk2(mac(1)));
    server.reload(&text);
    assert_eq!(server.silence(&Client::edk2(mac(1)).renew(leased)), Silence::BootingDenied);
}

#[test]
fn a_client_that_has_not_tried_for_long_is_left_to_others() {
    let mut server = hall("min-secs = 4");
    let client = Client::dhclient(mac(1));
    assert_eq!(server.silence(&after_seconds(client.discover(), 3)), Silence::TooEarly);
    let offer = server.expect(MessageType::Offer, &after_seconds(client.discover(), 4));
    server.expect(MessageType::Ack, &client.select(&offer));
    server.expect(MessageType::Ack, &client.renew(offer.yiaddr()));
}

#[test]
fn replies_are_broadcast_to_clients_that_do_not_ask_for_it() {
    let mut server = hall("always-broadcast = true");
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!((flags(&offer), offer.delivery), (BROADCAST_FLAG, Delivery::Broadcast));
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!((flags(&ack), ack.delivery), (BROADCAST_FLAG, Delivery::Broadcast));
    // A relay agent goes by the flag.
    let client = Client::dhclient(mac(2)).behind(ip("10.2.0.1"), &[]);
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(flags(&offer), BROADCAST_FLAG);
    assert!(matches!(offer.delivery, Delivery::Relay(_)));
    let offer = Server::new(HALL).reply(&Client::dhclient(mac(1)).discover());
    assert!(flags(&offer) == 0 && matches!(offer.delivery, Delivery::Link { .. }));
}

#[test]
fn the_client_identifier_is_sent_back_unless_it_is_not_to_be() {
    for (setting, echoed) in [("", true), ("echo-client-id = false", false)] {
        let mut server = hall(setting);
        let client = Client::installer(mac(1));
        for message in [client.discover(), client.reboot(ip("10.9.9.9"))] {
            let answer = server.reply(&message);
            let echo = answer.message().option(options::CLIENT_IDENTIFIER);
            assert_eq!(echo.is_some(), echoed, "{setting}");
        }
    }
}

#[test]
fn a_client_without_routers_is_told_its_own_address() {
    let text = HALL.replace("[dhcp]", "[dhcp]\nuse-lease-addr-for-default-route = true");
    let mut server = Server::new(&text);
    let router = |answer: &Answer| {
        let data = answer.message().option(options::ROUTERS).map(|data| data.as_slice().unwrap());
        data.map(|data| Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()))
    };
    let answer = server.reply(&Client::dhclient(mac(1)).discover());
    assert_eq!(router(&answer), Some(ip("10.1.0.1")));
    let relay = ip("10.2.0.1");
    let mut told = Vec::new();
    for number in 2..4 {
        let asks = Client::dhclient(mac(number)).behind(relay, &[]);
        let silent = asks.clone().without(options::PARAMETER_REQUEST_LIST);
        for client in [asks, silent] {
            let answer = server.reply(&client.discover());
            assert_eq!(router(&answer), Some(answer.yiaddr()));
            told.push(answer.yiaddr());
        }
    }
    assert_ne!(told[0], told[2]);
}

#[test]
fn declines_are_believed_unless_they_are_denied() {
    let mut server = hall("declines = false");
    let client = Client::dhclient(mac(1));
    let leased = server.lease(&client);
    assert_eq!(server.silence(&client.decline(leased)), Silence::DeclinesDenied);
    server.expect(MessageType::Ack, &client.renew(leased));
}

#[test]
fn each_network_has_an_authority_of_its_own() {
    let text = modest(HALL)
        .replace("subnet = \"10.2.0.0/24\"", "subnet = \"10.2.0.0/24\"\nauthoritative = true");
    let mut server = Server::new(&text);
    let client = Client::dhclient(mac(1));
    assert_eq!(server.silence(&client.reboot(ip("10.9.9.9"))), Silence::NotAuthoritative);
    let relayed = client.behind(ip("10.2.0.1"), &[]);
    server.expect(MessageType::Nak, &relayed.reboot(ip("10.9.9.9")));
}

#[test]
fn a_lease_that_is_new_is_not_renewed_and_its_client_told_what_is_left() {
    let mut server = hall("dhcp-cache-threshold = 25");
    let client = Client::dhclient(mac(1));
    let leased = server.lease(&client);
    let told = |answer: &Answer| (answer.durable, answer.message().lease_time().unwrap());
    server.pass(Duration::from_secs(900));
    assert_eq!(told(&server.expect(MessageType::Ack, &client.renew(leased))), (false, 2700));
    server.pass(Duration::from_secs(1));
    assert_eq!(told(&server.expect(MessageType::Ack, &client.renew(leased))), (true, 3600));
    // Another stage of the machine sends another client identifier: that is written down.
    let other = Client::installer(mac(1));
    assert!(told(&server.expect(MessageType::Ack, &other.renew(leased))).0);
    // What is reserved is renewed each time.
    let reserved = Client::dhclient(mac(0x11));
    let leased = server.lease(&reserved);
    assert_eq!(told(&server.expect(MessageType::Ack, &reserved.renew(leased))), (true, 3600));
    let mut server = Server::new(HALL);
    let leased = server.lease(&client);
    assert!(told(&server.expect(MessageType::Ack, &client.renew(leased))).0);
}

// Else its renewals, which do not say the port, would go by the old one.
#[test]
fn a_new_lease_is_renewed_when_its_client_is_on_another_port() {
    let mut server = hall("dhcp-cache-threshold = 25");
    let relay = ip("10.2.0.1");
    let on = |port: &[u8]| Client::dhclient(mac(1)).behind(relay, port);
    let leased = server.lease(&on(b"\x01\x02p1"));
    for (port, written) in
        [(&b"\x01\x02p1"[..], false), (b"\x01\x02p2", true), (b"", true), (b"", false)]
    {
        let ack = server.expect(MessageType::Ack, &on(port).reboot(leased));
        assert_eq!(ack.durable, written, "{port:?}");
    }
    assert!(!server.expect(MessageType::Ack, &on(b"").renew(leased)).durable);
}

#[test]
fn nobody_is_told_more_than_is_durable() {
    let short = "dhcp-cache-threshold = 100\noffer-time = \"20m\"";
    let mut server = hall(short);
    let client = Client::dhclient(mac(1));
    let leased = server.lease(&client);
    server.pass(Duration::from_secs(3000));
    // Its lease goes on until the offer ends, which is in no store.
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert!(server.expect(MessageType::Ack, &client.select(&offer)).durable);
    assert!(!server.expect(MessageType::Ack, &client.renew(leased)).durable);
    // By the clocks of another boot it may end earlier.
    server.restart();
    assert!(server.expect(MessageType::Ack, &client.renew(leased)).durable);
    assert!(!server.expect(MessageType::Ack, &client.renew(leased)).durable);
}

#[test]
fn nobody_is_told_that_nothing_of_a_lease_is_left() {
    let mut server = hall("dhcp-cache-threshold = 100");
    let client = Client::dhclient(mac(1));
    let leased = server.lease(&client);
    server.pass(Duration::from_millis(3_599_500));
    let ack = server.expect(MessageType::Ack, &client.renew(leased));
    assert_eq!(ack.message().lease_time(), Some(3600));
}

#[test]
fn a_client_gives_all_its_other_leases_back_with_its_request() {
    for (setting, left) in
        [("", LeaseState::Active), ("one-lease-per-client = true", LeaseState::Released)]
    {
        let mut server = hall(setting);
        let client = Client::dhclient(mac(1));
        let first = server.lease(&client);
        let moved = client.behind(ip("10.2.0.1"), &[]);
        let second = server.lease(&moved);
        assert_ne!(first, second);
        assert_eq!(server.at(first).unwrap().state, left, "{setting}");
        assert_eq!(server.at(second).unwrap().state, LeaseState::Active);
    }
}

#[test]
fn an_address_that_is_wished_for_ever_stays_the_clients() {
    let mut server = hall("infinite-is-reserved = true");
    let client = Client::dhclient(mac(1)).with(options::LEASE_TIME, &u32::MAX.to_be_bytes());
    let offer = server.expect(MessageType::Offer, &client.discover());
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!(ack.message().lease_time(), Some(86_400));
    assert_eq!(server.at(ack.yiaddr()).unwrap().expires, Moment::NEVER);
}

#[test]
fn a_bootp_client_with_an_address_of_a_pool_has_it_for_as_long_as_is_said() {
    let text = with_pool(HALL, "allow = [\"bootp\"]");
    let text = text.replace("[dhcp]", "[dhcp]\ndynamic-bootp-lease-length = \"1d\"");
    let mut server = Server::new(&text);
    let reply = server.reply(&Client::plain(mac(1)).bootp());
    let day = Duration::from_secs(86_400);
    assert_eq!(server.at(reply.yiaddr()).unwrap().expires, server.now + day);
    assert_eq!(reply.message().lease_time(), None);
    let reply = server.reply(&Client::plain(mac(0x11)).bootp());
    assert_eq!(server.at(reply.yiaddr()).unwrap().expires, Moment::NEVER);
}

#[test]
fn what_a_relay_agent_said_is_remembered_unless_it_is_not_to_be() {
    let information = [1, 4, b'p', b'o', b'r', b't'];
    for (setting, noted) in [("", true), ("stash-agent-options = false", false)] {
        let mut server = hall(setting);
        let client = Client::dhclient(mac(1)).behind(ip("10.2.0.1"), &information);
        let leased = server.lease(&client);
        let lease = server.at(leased).unwrap();
        assert_eq!(lease.notes.circuit_id().is_some(), noted, "{setting}");
    }
}

/// How long the address is pinged before the client is offered it.
fn ping(server: &mut Server, client: &Client) -> Option<Duration> {
    match server.receive(&client.discover()) {
        Outcome::Probe(offer) | Outcome::Reply(offer) => offer.ping,
        other => panic!("no offer but {other:?}"),
    }
}

#[test]
fn an_address_is_pinged_as_the_narrowest_scope_says() {
    let millis = |millis| Some(Duration::from_millis(millis));
    let pool = |settings| with_pool(HALL, settings);
    for (text, wait) in [
        (pool("ping-check = true"), millis(500)),
        (pool("ping-check = \"20ms\""), millis(20)),
        (pool("ping-check = true, ping-timeout = 2"), millis(2000)),
        (pool("ping-timeout = 2"), None),
        (pool("ping-check = false").replace("[dhcp]", "[dhcp]\nping-check = true"), None),
        (
            pool("ping-timeout = \"1ms\"").replace("[dhcp]", "[dhcp]\nping-check = \"1s\""),
            millis(1),
        ),
    ] {
        assert_eq!(ping(&mut Server::new(&text), &Client::edk2(mac(1))), wait, "{text}");
    }
}

// In dhcpd an address is pinged unless its client had it a moment ago, by `ping-cltt-secs`.
#[test]
fn an_address_that_its_client_had_is_pinged_after_a_time() {
    let second = Some(Duration::from_secs(1));
    let settings = "compatibility = \"dhcpd\"\nping-check = true\nping-cltt-secs = 60";
    for (settings, again) in [(settings, second), ("ping-check = \"1s\"", None)] {
        let mut server = hall(settings);
        let client = Client::dhclient(mac(1));
        assert_eq!(ping(&mut server, &client), second);
        server.pass(Duration::from_secs(5));
        // Its offer was pinged, which only the first goes by.
        assert_eq!(ping(&mut server, &client), second.filter(|_| again.is_none()));
        let offer = match server.receive(&client.discover()) {
            Outcome::Probe(offer) | Outcome::Reply(offer) => offer,
            other => panic!("{other:?}"),
        };
        let ack = server.expect(MessageType::Ack, &client.select(&offer));
        // Its lease is never pinged: the machine itself would answer.
        server.pass(Duration::from_secs(100));
        assert_eq!(ping(&mut server, &client), None);
        assert!(matches!(server.receive(&client.release(ack.yiaddr())), Outcome::Recorded));
        assert_eq!(ping(&mut server, &client), again);
        // What is reserved is not pinged.
        assert_eq!(ping(&mut server, &Client::edk2(mac(0x11))), None);
    }
}
