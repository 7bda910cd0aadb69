//! Which address a client is offered, and that it gets it.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::Silence;
use crate::event::Kind;
use crate::leases::LeaseState;

#[test]
fn an_offer_becomes_a_lease_before_its_ack_leaves() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert!(!offer.durable);
    assert_eq!(offer.event.kind, Kind::Offer);
    assert_eq!(server.at(offer.yiaddr()).unwrap().state, LeaseState::Offered);

    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert!(ack.durable);
    assert_eq!(ack.yiaddr(), offer.yiaddr());
    assert_eq!(ack.event.kind, Kind::Ack);
    assert_eq!(ack.event.address, offer.yiaddr());
    assert!(server.at(ack.yiaddr()).unwrap().is_active(server.now));
}

// RFC 2131 4.3.1: the client's current address, then its previous one, then the one it asks for,
// then another.
#[test]
fn the_same_machine_gets_the_same_address_back() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    assert_eq!(server.lease(&client), address, "current");
    server.receive(&client.release(address));
    assert_eq!(server.lease(&client), address, "released");
    server.pass(Duration::from_secs(2 * 3600));
    assert_eq!(server.lease(&client), address, "expired");
    server.restart();
    assert_eq!(server.lease(&client), address, "after a restart");
}

#[test]
fn an_address_that_is_asked_for_is_offered_if_it_is_free() {
    let mut server = Server::new(HALL);
    let first = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &first.discover_again(ip("10.1.4.7")));
    assert_eq!(offer.yiaddr(), ip("10.1.4.7"));
    let second = Client::dhclient(mac(2));
    let offer = server.expect(MessageType::Offer, &second.discover_again(ip("10.1.4.7")));
    assert_ne!(offer.yiaddr(), ip("10.1.4.7"), "held for the first");
    let elsewhere = server.expect(MessageType::Offer, &second.discover_again(ip("10.9.9.9")));
    assert_eq!(elsewhere.yiaddr(), offer.yiaddr());
}

#[test]
fn simultaneous_boots_are_offered_different_addresses() {
    let mut server = Server::new(HALL);
    let machines: Vec<_> = (1..=10).map(|number| Client::edk2(mac(number))).collect();
    let offers: Vec<_> = machines
        .iter()
        .map(|client| server.expect(MessageType::Offer, &client.discover()))
        .collect();
    let mut addresses: Vec<_> = offers.iter().map(Answer::yiaddr).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 10);
    for (client, offer) in machines.iter().zip(&offers) {
        server.expect(MessageType::Ack, &client.select(offer));
    }
}

#[test]
fn a_full_pool_is_silence_that_says_so_and_offers_run_out() {
    let mut server = Server::new(HALL);
    for number in 1..=10 {
        server.expect(MessageType::Offer, &Client::edk2(mac(number)).discover());
    }
    let late = Client::edk2(mac(99));
    assert_eq!(server.silence(&late.discover()), Silence::PoolFull);
    server.pass(server.config.dhcp.offer_time + Duration::from_secs(1));
    server.expect(MessageType::Offer, &late.discover());
}

#[test]
fn a_reserved_address_is_for_its_host_alone() {
    let mut server = Server::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.0.16-10.1.0.18"));
    for number in 1..=2 {
        assert_ne!(server.lease(&Client::dhclient(mac(number))), ip("10.1.0.17"));
    }
    let stranger = Client::dhclient(mac(3));
    assert_eq!(server.silence(&stranger.discover()), Silence::PoolFull);
    server.expect(MessageType::Nak, &stranger.select_from(ip("10.1.0.6"), ip("10.1.0.17")));
    server.expect(MessageType::Nak, &stranger.reboot(ip("10.1.0.17")));
    assert_eq!(server.lease(&Client::dhclient(mac(0x11))), ip("10.1.0.17"));
}

#[test]
fn a_new_reservation_waits_until_the_stranger_on_its_address_has_gone() {
    let without = HALL.replace("ip = \"10.1.0.17\"", "ip = \"10.1.0.18\"");
    let reserved = HALL.replace("ip = \"10.1.0.17\"", "ip = \"10.1.4.0\"");
    let mut server = Server::new(&without);
    let stranger = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &stranger.discover_again(ip("10.1.4.0")));
    server.expect(MessageType::Ack, &stranger.select(&offer));
    server.reload(&reserved);
    let owner = Client::dhclient(mac(0x11));
    let meanwhile = server.lease(&owner);
    assert_ne!(meanwhile, ip("10.1.4.0"));
    server.expect(MessageType::Ack, &owner.renew(meanwhile));
    // The stranger is not told to extend what belongs to another.
    server.expect(MessageType::Nak, &stranger.renew(ip("10.1.4.0")));
    server.pass(Duration::from_secs(3601));
    server.expect(MessageType::Nak, &owner.reboot(meanwhile));
    assert_eq!(server.lease(&owner), ip("10.1.4.0"));
}

#[test]
fn unknown_clients_are_ignored_where_the_configuration_says_so() {
    let mut server = Server::new(&HALL.replace("[dhcp]", "[dhcp]\nunknown-clients = \"ignore\""));
    let stranger = Client::edk2(mac(1));
    assert_eq!(server.silence(&stranger.discover()), Silence::UnknownClient);
    assert_eq!(server.silence(&stranger.reboot(ip("10.1.4.1"))), Silence::UnknownClient);
    assert_eq!(server.silence(&stranger.inform(ip("10.1.4.1"))), Silence::UnknownClient);
    assert_eq!(server.silence(&stranger.bootp()), Silence::UnknownClient);
    assert_eq!(server.lease(&Client::edk2(mac(0x11))), ip("10.1.0.17"));
}

#[test]
fn pools_permit_and_refuse_by_known_unknown_and_class() {
    let mut server = Server::new(
        r#"
        [[dhcp.class]]
        name = "pi"
        mac-prefix = "b8:27:eb"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = [
            { range = "10.1.1.0-10.1.1.9", allow = ["known"] },
            { range = "10.1.2.0-10.1.2.9", deny = ["known"], class = "pi" },
            { range = "10.1.3.0-10.1.3.0", allow = ["unknown"] },
        ]
        [[dhcp.host]]
        name = "a"
        hardware = "52:54:00:00:00:11"
        "#,
    );
    assert_eq!(server.lease(&Client::edk2(mac(0x11))).octets()[2], 1);
    assert_eq!(server.lease(&Client::raspberry_pi(1)).octets()[2], 2);
    assert_eq!(server.lease(&Client::edk2(mac(1))).octets()[2], 3);
    assert_eq!(server.silence(&Client::edk2(mac(2)).discover()), Silence::PoolFull);
    // What a client holds in a pool that no longer permits it is not extended.
    server.expect(MessageType::Nak, &Client::edk2(mac(1)).reboot(ip("10.1.1.3")));
}

#[test]
fn no_permitted_pool_is_another_silence_than_a_full_one() {
    let mut server = Server::new(
        r#"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = [{ range = "10.1.1.0-10.1.1.9", allow = ["known"] }]
        "#,
    );
    assert_eq!(server.silence(&Client::edk2(mac(1)).discover()), Silence::NoPoolPermitted);
}

#[test]
fn a_shared_network_goes_on_in_its_next_subnet() {
    let mut server = Server::new(HALL);
    let relay = ip("10.3.0.1");
    let addresses: Vec<_> =
        (1..=3).map(|number| server.lease(&Client::edk2(mac(number)).behind(relay, b""))).collect();
    assert_eq!(addresses[0], ip("10.3.0.10"), "the relay agent's own subnet comes first");
    assert!(addresses[1..].iter().all(|address| address.octets()[2] == 1));
    // The mask is that of the subnet the address lies in.
    let other = Client::edk2(mac(9)).behind(relay, b"");
    let offer = server.expect(MessageType::Offer, &other.discover());
    assert_eq!(offer.option(options::SUBNET_MASK), Some(vec![255, 255, 255, 0]));
}

// Ping before offer: the decision asks for the probe, and what answers is not offered again.
#[test]
fn an_address_is_probed_before_it_is_offered_for_the_first_time() {
    let mut server = Server::new(&HALL.replace("[dhcp]", "[dhcp]\nping-check = \"500ms\""));
    let client = Client::edk2(mac(1));
    let Outcome::Probe(first) = server.receive(&client.discover()) else {
        panic!("not probed");
    };
    // The client asks again while the probe is under way.
    let Outcome::Probe(again) = server.receive(&client.discover()) else {
        panic!("the retransmission overtook the probe");
    };
    assert_eq!(again.yiaddr(), first.yiaddr());
    server.probe_answered(first.yiaddr());
    let Outcome::Probe(next) = server.receive(&client.discover()) else {
        panic!("not probed");
    };
    assert_ne!(next.yiaddr(), first.yiaddr());
    server.expect(MessageType::Ack, &client.select(&next));
    // Its own lease is not probed: the machine itself would answer.
    server.expect(MessageType::Offer, &client.discover());
    // Nor is a reserved address.
    server.expect(MessageType::Offer, &Client::edk2(mac(0x11)).discover());
}

// Who answered may be there still. The client that the address was offered to, or that declined it,
// has no more to do with it than others.
#[test]
fn an_address_is_probed_again_after_its_quarantine() {
    let one = HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.0-10.1.4.0");
    for declined in [false, true] {
        let mut server = Server::new(&one.replace("[dhcp]", "[dhcp]\nping-check = \"500ms\""));
        let client = Client::edk2(mac(1));
        let Outcome::Probe(offer) = server.receive(&client.discover()) else {
            panic!("not probed");
        };
        let address = offer.yiaddr();
        if declined {
            server.expect(MessageType::Ack, &client.select(&offer));
            assert!(matches!(server.receive(&client.decline(address)), Outcome::Recorded));
        } else {
            server.probe_answered(address);
        }
        assert_eq!(server.silence(&client.discover()), Silence::PoolFull);
        server.pass(server.config.dhcp.decline_time);
        let asks_for_it = client.reboot(address);
        assert!(!matches!(server.receive(&asks_for_it), Outcome::Reply(ack) if ack.durable));
        assert!(matches!(server.receive(&client.discover()), Outcome::Probe(_)), "{declined}");
    }
}

// RFC 4039 section 3.
#[test]
fn rapid_commit_leases_at_once_where_both_sides_want_it() {
    let asking = Client::dhclient(mac(1)).with(options::RAPID_COMMIT, &[]);
    let mut server = Server::new(HALL);
    let offer = server.expect(MessageType::Offer, &asking.discover());
    assert_eq!(offer.option(options::RAPID_COMMIT), None);

    let mut server = Server::new(&HALL.replace("[dhcp]", "[dhcp]\nrapid-commit = true"));
    let ack = server.expect(MessageType::Ack, &asking.discover());
    assert!(ack.durable);
    assert_eq!(ack.option(options::RAPID_COMMIT), Some(vec![]));
    assert!(server.at(ack.yiaddr()).unwrap().is_active(server.now));
    server.expect(MessageType::Offer, &Client::dhclient(mac(2)).discover());
}

#[test]
fn bootp_clients_get_reserved_addresses_and_pools_that_name_them() {
    let mut server = Server::new(HALL);
    let known = Client::plain(mac(0x11)).broadcasting();
    let reply = server.reply(&known.bootp());
    assert_eq!(reply.yiaddr(), ip("10.1.0.17"));
    assert_eq!(reply.message().message_type(), None);
    assert_eq!(reply.payload.len(), 300);
    // RFC 1534 section 2: nothing that only DHCP knows.
    for code in [50, 51, 53, 54, 55, 56, 57, 58, 59, 61, 52] {
        assert_eq!(reply.option(code), None, "option {code}");
    }
    assert_eq!(reply.option(options::ROUTERS), Some(vec![10, 1, 0, 1]));
    assert_eq!(reply.file(), "pxelinux.0");
    let unknown = Client::plain(mac(1));
    assert_eq!(server.silence(&unknown.bootp()), Silence::BootpWithoutHost);

    let mut server = Server::new(
        r#"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = [{ range = "10.1.1.0-10.1.1.9", allow = ["bootp"] }]
        "#,
    );
    let reply = server.reply(&unknown.bootp());
    assert!(reply.durable);
    let lease = server.at(reply.yiaddr()).unwrap();
    assert_eq!(lease.expires, bootstorm_protocols::time::Moment::NEVER);
    assert_eq!(server.silence(&Client::plain(mac(2)).discover()), Silence::NoPoolPermitted);
}

#[test]
fn what_only_servers_send_is_not_answered() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let mut discover = client.discover();
    let offer = server.expect(MessageType::Offer, &discover);
    let echoed = Datagram { payload: offer.payload, ..discover.clone() };
    assert_eq!(server.silence(&echoed), Silence::NotARequest);
    let kind = discover.payload.windows(3).position(|option| option == [53, 1, 1]).unwrap();
    for code in [2, 5, 6, 9, 10, 13, 200] {
        discover.payload[kind + 2] = code;
        assert_eq!(server.silence(&discover), Silence::MessageType, "type {code}");
    }
}
