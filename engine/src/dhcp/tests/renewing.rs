//! REQUEST in its four states: RFC 2131, section 4.3.2.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{Delivery, Silence};
use crate::event::{Detail, Kind};

// RFC 2131 3.1 (4): servers that are not selected take the REQUEST as notice that their offer was
// declined.
#[test]
fn a_request_that_names_another_server_frees_the_offer() {
    let mut server = Server::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.0-10.1.4.0"));
    let first = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &first.discover());
    let elsewhere = first.select_from(ip("10.1.0.7"), ip("10.1.200.1"));
    assert_eq!(server.silence(&elsewhere), Silence::OtherServer);
    let second = Client::edk2(mac(2));
    assert_eq!(server.lease(&second), offer.yiaddr());
}

#[test]
fn a_request_that_names_another_server_ends_no_lease() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    let address = server.lease(&client);
    let elsewhere = client.select_from(ip("10.1.0.7"), ip("10.1.200.1"));
    assert_eq!(server.silence(&elsewhere), Silence::OtherServer);
    assert!(server.at(address).unwrap().is_active(server.now));
}

#[test]
fn any_address_of_this_host_is_this_server() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::SERVER_IDENTIFIER), Some(vec![10, 1, 0, 6]));
    server.expect(MessageType::Ack, &client.select_from(ip("192.0.2.6"), offer.yiaddr()));
}

#[test]
fn selecting_is_answered_whether_the_offer_is_remembered_or_not() {
    let mut server = modest_hall();
    let client = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    server.restart(); // offers are not on disk
    server.expect(MessageType::Ack, &client.select(&offer));
    // But not with an address that went to another meanwhile, or that was never ours to give.
    let late = Client::edk2(mac(2));
    server.expect(MessageType::Nak, &late.select(&offer));
    server.expect(MessageType::Nak, &late.select_from(ip("10.1.0.6"), ip("10.1.77.1")));
    server.expect(MessageType::Nak, &late.select_from(ip("10.1.0.6"), ip("10.2.0.10")));
}

// RFC 2131 4.3.2 wants ciaddr empty; NetworkManager leaves an old address in it.
#[test]
fn selecting_and_init_reboot_mean_option_50_and_not_an_old_ciaddr() {
    for mut server in [Server::new(HALL), modest_hall()] {
        let client = Client::dhclient(mac(1));
        for old in [ip("10.1.4.9"), ip("10.9.9.9")] {
            let offer = server.expect(MessageType::Offer, &client.discover().with_ciaddr(old));
            let ack = server.expect(MessageType::Ack, &client.select(&offer).with_ciaddr(old));
            assert_eq!(ack.yiaddr(), offer.yiaddr());
            let reboot = client.reboot(ack.yiaddr()).with_ciaddr(old);
            assert_eq!(server.expect(MessageType::Ack, &reboot).yiaddr(), offer.yiaddr());
        }
    }
}

// Renewing clients must send neither option 50 nor 54; the address that they have counts.
#[test]
fn a_renewal_with_options_50_and_54_means_the_address_that_it_comes_from() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    let odd = client.select_from(ip("10.1.0.6"), ip("10.1.4.9"));
    let ack = server.expect(MessageType::Ack, &odd.with_ciaddr(address).from(address));
    assert_eq!(ack.yiaddr(), address);
}

#[test]
fn init_reboot_is_confirmed_for_the_leased_address_and_refused_for_others() {
    for mut server in [Server::new(HALL), modest_hall()] {
        let client = Client::dhclient(mac(1));
        let address = server.lease(&client);
        let ack = server.expect(MessageType::Ack, &client.reboot(address));
        assert!(ack.durable);
        // RFC 2131 4.3.2: wrong address, or wrong network, of a client that is known.
        server.expect(MessageType::Nak, &client.reboot(ip("10.1.4.9")));
        server.expect(MessageType::Nak, &client.reboot(ip("172.16.0.9")));
    }
}

// RFC 2131 4.3.2: "If the DHCP server has no record of this client, then it MUST remain silent",
// unless it is the authority for the network.
#[test]
fn unknown_clients_hear_nothing_unless_the_server_is_authoritative() {
    let client = Client::dhclient(mac(1));
    for request in [
        client.reboot(ip("10.1.4.3")),
        client.reboot(ip("172.16.0.9")),
        client.renew(ip("10.1.4.3")),
        client.rebind(ip("10.1.4.3")),
        client.rebind(ip("172.16.0.9")),
    ] {
        assert_eq!(modest_hall().silence(&request), Silence::NotAuthoritative);
        let nak = Server::new(HALL).expect(MessageType::Nak, &request);
        assert_eq!(nak.event.kind, Kind::Nak);
        assert!(matches!(nak.event.detail, Detail::Reason(why) if !why.is_empty()));
    }
}

#[test]
fn a_machine_that_moved_to_another_network_is_refused_even_without_authority() {
    let mut server = modest_hall();
    let client = Client::dhclient(mac(1));
    let relayed = client.clone().behind(ip("10.2.0.1"), b"");
    let address = server.lease(&relayed);
    let nak = server.expect(MessageType::Nak, &client.reboot(address));
    assert_eq!(nak.delivery, Delivery::Broadcast);
}

#[test]
fn a_renewal_extends_the_lease_and_goes_straight_to_the_client() {
    let mut server = modest_hall();
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    let end = server.at(address).unwrap().expires;
    for request in [client.renew(address), client.rebind(address)] {
        server.pass(Duration::from_secs(1800));
        let ack = server.expect(MessageType::Ack, &request);
        assert!(ack.durable);
        assert_eq!(ack.yiaddr(), address);
        assert_eq!(ack.message().ciaddr(), address);
        assert_eq!(ack.to(), "10.1.4.0:68".parse().unwrap());
    }
    assert_eq!(server.at(address).unwrap().expires, end + Duration::from_secs(3600));
}

#[test]
fn an_expired_lease_is_renewed_while_nobody_else_has_it() {
    let mut server = Server::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.0-10.1.4.0"));
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    server.pass(Duration::from_secs(4000));
    server.expect(MessageType::Ack, &client.renew(address));
    server.pass(Duration::from_secs(4000));
    assert_eq!(server.lease(&Client::dhclient(mac(2))), address);
    server.expect(MessageType::Nak, &client.renew(address));
}

/// A hall whose machine has a lease of 10.1.4.0.
fn leased_hall() -> (Server, Client) {
    let mut server = modest_hall();
    let client = Client::dhclient(mac(1));
    assert_eq!(server.lease(&client), ip("10.1.4.0"));
    (server, client)
}

/// INIT-REBOOT, RENEWING and REBINDING.
fn asks_for(client: &Client, address: Ipv4Addr) -> [Datagram; 3] {
    [client.reboot(address), client.renew(address), client.rebind(address)]
}

fn nak_reason(answer: &Answer) -> &'static str {
    match answer.event.detail {
        Detail::Reason(text) => text,
        other => panic!("{other:?} of no NAK"),
    }
}

// Two machines would use the address, in whichever state the second one asks.
#[test]
fn two_machines_never_go_on_with_one_address_for_want_of_authority() {
    let (mut server, _) = leased_hall();
    for request in asks_for(&Client::dhclient(mac(2)), ip("10.1.4.0")) {
        let nak = server.expect(MessageType::Nak, &request);
        assert_eq!(nak_reason(&nak), "address belongs to another client");
    }
    // Until that lease ends.
    server.pass(Duration::from_secs(3601));
    for request in asks_for(&Client::dhclient(mac(2)), ip("10.1.4.0")) {
        assert_eq!(server.silence(&request), Silence::NotAuthoritative);
    }
}

// What another server gave stays its client's: the records of this one are of the past, or of an
// offer that was not taken.
#[test]
fn a_lease_of_another_server_is_not_refused_for_an_old_record_here() {
    let elsewhere = [ip("10.1.200.1"), ip("10.1.4.7"), ip("172.16.0.9")];
    let (mut released, client) = leased_hall();
    assert!(matches!(released.receive(&client.release(ip("10.1.4.0"))), Outcome::Recorded));
    let (mut expired, _) = leased_hall();
    expired.pass(Duration::from_secs(3601));
    let mut offered = modest_hall();
    offered.expect(MessageType::Offer, &client.discover());
    let mut declined = leased_hall().0;
    assert!(matches!(declined.receive(&client.decline(ip("10.1.4.0"))), Outcome::Recorded));
    for server in [&mut released, &mut expired, &mut offered, &mut declined] {
        for request in elsewhere.iter().flat_map(|&address| asks_for(&client, address)) {
            assert_eq!(server.silence(&request), Silence::NotAuthoritative);
        }
    }
}

// The same records on another link than the one where the client asks now.
#[test]
fn an_ended_lease_on_another_link_is_no_reason_for_a_nak() {
    let mut server = modest_hall();
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client.clone().behind(ip("10.2.0.1"), b""));
    server.expect(MessageType::Nak, &client.reboot(address));
    server.pass(Duration::from_secs(3601));
    assert_eq!(server.silence(&client.reboot(address)), Silence::NotAuthoritative);
}

#[test]
fn a_valid_lease_or_a_reservation_of_the_client_is_a_reason_for_a_nak() {
    let (mut server, client) = leased_hall();
    for request in asks_for(&client, ip("10.1.200.1")) {
        let nak = server.expect(MessageType::Nak, &request);
        assert_eq!(nak_reason(&nak), "address is not the one leased to you");
    }
    let reserved = Client::dhclient(mac(0x11));
    for request in asks_for(&reserved, ip("10.1.200.1")) {
        let nak = modest_hall().expect(MessageType::Nak, &request);
        assert_eq!(nak_reason(&nak), "another address is reserved for you");
    }
    // Its own lease, which the configuration no longer gives it.
    server.reload(&modest(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9")));
    for request in asks_for(&client, ip("10.1.4.0")) {
        let nak = server.expect(MessageType::Nak, &request);
        assert_eq!(nak_reason(&nak), "address is not available to you");
    }
}

// Its machine gets another address meanwhile, and that may be another server's.
#[test]
fn a_reservation_that_somebody_else_holds_is_no_reason_for_a_nak() {
    let (mut server, _) = leased_hall();
    server.reload(&modest(&HALL.replace("10.1.0.17", "10.1.4.0")));
    let reserved = Client::dhclient(mac(0x11));
    for request in asks_for(&reserved, ip("10.1.200.1")) {
        assert_eq!(server.silence(&request), Silence::NotAuthoritative);
    }
}

// Beside another server, the network that this one does not know may be that one's.
#[test]
fn only_authority_refuses_a_wrong_network() {
    for address in [ip("172.16.0.9"), ip("10.2.0.77")] {
        for request in asks_for(&Client::dhclient(mac(1)), address) {
            // A unicast names its link by ciaddr.
            let silence = modest_hall().receive(&request);
            assert!(matches!(silence, Outcome::Silence(Silence::NotAuthoritative)), "{silence:?}");
            let nak = Server::new(HALL).expect(MessageType::Nak, &request);
            assert!(
                ["address is not on this network", "no lease known for you"]
                    .contains(&nak_reason(&nak))
            );
        }
    }
}

// RFC 2131 4.3.2: a client that selects this server waits for nobody else.
#[test]
fn a_client_that_selects_this_server_always_hears_why_not() {
    let (mut server, _) = leased_hall();
    let late = Client::dhclient(mac(2));
    for (address, why) in [
        ("10.1.4.0", "address belongs to another client"),
        ("10.1.77.1", "address is not available to you"),
        ("172.16.0.9", "address is not on this network"),
    ] {
        let request = late.select_from(ip("10.1.0.6"), ip(address));
        assert_eq!(nak_reason(&server.expect(MessageType::Nak, &request)), why);
    }
}

#[test]
fn a_renewing_client_that_names_this_server_renews() {
    let mut server = modest_hall();
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    let chatty = client
        .clone()
        .with(options::SERVER_IDENTIFIER, &[10, 1, 0, 6])
        .with(options::REQUESTED_ADDRESS, &address.octets());
    server.expect(MessageType::Ack, &chatty.renew(address));
    let wrong = client.with(options::SERVER_IDENTIFIER, &[10, 1, 0, 99]);
    assert_eq!(server.silence(&wrong.renew(address)), Silence::OtherServer);
}

#[test]
fn a_request_without_any_address_is_dropped() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    assert_eq!(server.silence(&client.rebind(ip("0.0.0.0"))), Silence::NoAddressNamed);
    let selecting = client.with(options::SERVER_IDENTIFIER, &[10, 1, 0, 6]);
    assert_eq!(server.silence(&selecting.rebind(ip("0.0.0.0"))), Silence::NoAddressNamed);
}

// RFC 2131 table 3 and section 4.3.2.
#[test]
fn a_nak_carries_message_and_identifiers_and_nothing_else() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    let nak = server.expect(MessageType::Nak, &client.reboot(ip("10.1.200.200")));
    assert_eq!(nak.codes(), [53, 54, 61, 56]);
    assert!(nak.yiaddr().is_unspecified());
    assert!(nak.message().siaddr().is_unspecified());
    assert!(nak.message().ciaddr().is_unspecified());
    assert_eq!(nak.file(), "");
}

// RFC 2131 4.3.2: a relay agent broadcasts a NAK to its client, whose address is not its own.
#[test]
fn a_nak_is_broadcast_and_through_a_relay_agent_its_broadcast_bit_is_set() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let direct = server.expect(MessageType::Nak, &client.reboot(ip("10.1.200.200")));
    assert_eq!(direct.delivery, Delivery::Broadcast);
    assert!(!direct.message().broadcast());
    // Even when it renews by unicast from this link (section 4.1).
    for address in ["10.1.200.200", "172.16.0.9"] {
        let renewing = server.expect(MessageType::Nak, &client.renew(ip(address)));
        assert_eq!(renewing.delivery, Delivery::Broadcast, "{address}");
    }

    let relayed = client.clone().behind(ip("10.2.0.1"), b"");
    let nak = server.expect(MessageType::Nak, &relayed.reboot(ip("10.2.0.200")));
    assert_eq!(nak.delivery, Delivery::Relay("10.2.0.1:67".parse().unwrap()));
    assert!(nak.message().broadcast());

    // A broadcast here would never reach a renewing client behind a router.
    let routed = server.expect(MessageType::Nak, &client.renew(ip("10.2.0.200")));
    assert_eq!(routed.delivery, Delivery::Unicast("10.2.0.200:68".parse().unwrap()));
}

#[test]
fn the_first_request_answers_a_retransmission_whose_lease_is_being_written() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    let change = server.begin(&client.select(&offer));
    assert_eq!(server.silence(&client.select(&offer)), Silence::CommitPending);
    server.record(change);
    server.expect(MessageType::Ack, &client.select(&offer));
}
