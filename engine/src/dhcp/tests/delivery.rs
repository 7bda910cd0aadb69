//! Where replies go: RFC 2131, section 4.1.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{Delivery, Silence};

#[test]
fn a_client_without_address_is_answered_by_a_frame_to_its_hardware_address() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    let link = Delivery::Link { ip: offer.yiaddr(), mac: mac(1) };
    assert_eq!(offer.delivery, link);
    assert_eq!(server.expect(MessageType::Ack, &client.select(&offer)).delivery, link);
    assert_eq!(offer.source, ip("10.1.0.6"));
}

#[test]
fn the_broadcast_flag_is_obeyed_and_copied() {
    let mut server = Server::new(HALL);
    let client = Client::windows(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.delivery, Delivery::Broadcast);
    assert!(offer.message().broadcast());
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!(ack.delivery, Delivery::Broadcast);
    assert!(ack.message().broadcast());
}

#[test]
fn a_reply_goes_to_the_relay_agent_even_with_the_broadcast_flag() {
    let mut server = Server::new(HALL);
    for client in [Client::dhclient(mac(1)), Client::windows(mac(2))] {
        let client = client.behind(ip("10.2.0.1"), b"");
        let offer = server.expect(MessageType::Offer, &client.discover());
        assert_eq!(offer.delivery, Delivery::Relay("10.2.0.1:67".parse().unwrap()));
        assert_eq!(offer.message().giaddr(), ip("10.2.0.1"));
        assert_eq!(offer.message().broadcast(), client.broadcast);
        let ack = server.expect(MessageType::Ack, &client.select(&offer));
        assert_eq!(ack.delivery, Delivery::Relay("10.2.0.1:67".parse().unwrap()));
        // A REBINDING client behind a relay agent, too, though ciaddr is set.
        let rebound = server.expect(MessageType::Ack, &client.rebind(ack.yiaddr()));
        assert_eq!(rebound.delivery, Delivery::Relay("10.2.0.1:67".parse().unwrap()));
    }
}

// RFC 2131 section 4.1, and what clients make of ciaddr. In every case the client holds 10.1.4.0
// on this link, or is offered it.
#[test]
fn every_way_of_a_reply_by_giaddr_ciaddr_source_and_flag() {
    let held = ip("10.1.4.0");
    let zero = Ipv4Addr::UNSPECIFIED;
    let old = ip("10.9.9.9");
    let frame = Delivery::Link { ip: held, mac: mac(1) };
    let to = |address: &str| Delivery::Unicast(format!("{address}:68").parse().unwrap());
    #[rustfmt::skip]
    let cases = [
        // ciaddr, source, broadcast flag: OFFER and ACK of SELECTING, ACK of RENEWING
        (zero, zero,             false, frame,               None),
        (zero, zero,             true,  Delivery::Broadcast, None),
        // NetworkManager: an old address in ciaddr. VPCS: the offered one.
        (old,  zero,             false, frame,               None),
        (old,  zero,             true,  Delivery::Broadcast, None),
        (held, zero,             false, frame,               Some(frame)),
        (held, zero,             true,  Delivery::Broadcast, Some(Delivery::Broadcast)),
        // A client that has its address; the flag does not count then.
        (held, held,             false, to("10.1.4.0"),      Some(to("10.1.4.0"))),
        (held, held,             true,  to("10.1.4.0"),      Some(to("10.1.4.0"))),
        // From another unicast address of its own, or through NAT.
        (held, ip("10.1.7.7"),   false, to("10.1.4.0"),      Some(to("10.1.4.0"))),
        // No address of a machine.
        (held, ip("224.0.0.1"),  false, frame,               Some(frame)),
        (held, Ipv4Addr::BROADCAST, false, frame,            Some(frame)),
        // ciaddr is no address of a machine: a broadcast, all hosts, the subnet's broadcast.
        (Ipv4Addr::BROADCAST, ip("10.1.7.7"), false, frame,  None),
        (ip("224.0.0.1"),     ip("10.1.7.7"), false, frame,  None),
        (ip("10.1.255.255"),  ip("10.1.7.7"), false, frame,  None),
        // An address, but ciaddr is empty.
        (zero, ip("10.1.7.7"),   false, frame,               None),
    ];
    for (ciaddr, source, flag, selecting, renewing) in cases {
        let case = format!("ciaddr {ciaddr} from {source}, broadcast {flag}");
        let mut server = Server::new(HALL);
        let mut client = Client::dhclient(mac(1));
        client.broadcast = flag;
        let alter = |datagram: Datagram| datagram.with_ciaddr(ciaddr).from(source);
        let offer = server.expect(MessageType::Offer, &alter(client.discover()));
        assert_eq!((offer.yiaddr(), offer.delivery), (held, selecting), "{case}: OFFER");
        let ack = server.expect(MessageType::Ack, &alter(client.select(&offer)));
        assert_eq!((ack.yiaddr(), ack.delivery), (held, selecting), "{case}: ACK");
        if let Some(renewing) = renewing {
            let ack = server.expect(MessageType::Ack, &alter(client.rebind(held)));
            assert_eq!((ack.yiaddr(), ack.delivery), (held, renewing), "{case}: renewal");
        }
    }
}

// RFC 2131 section 4.3.5.
#[test]
fn the_ack_to_an_inform_goes_to_the_address_it_came_from_or_to_the_hardware_address() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let own = ip("10.1.99.5");
    let ack = server.expect(MessageType::Ack, &client.inform(own));
    assert_eq!(ack.to(), "10.1.99.5:68".parse().unwrap());
    let raw = client.inform(own).from(Ipv4Addr::UNSPECIFIED);
    let ack = server.expect(MessageType::Ack, &raw);
    assert_eq!(ack.delivery, Delivery::Link { ip: own, mac: mac(1) });
    let raw = client.broadcasting().inform(own).from(Ipv4Addr::UNSPECIFIED);
    assert_eq!(server.expect(MessageType::Ack, &raw).delivery, Delivery::Broadcast);
}

// One datagram from afar would be a broadcast here.
#[test]
fn nobody_has_this_server_send_to_many() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    for many in [ip("10.1.255.255"), ip("224.0.0.1"), Ipv4Addr::BROADCAST] {
        let inform = client.inform(many).from(ip("10.1.99.5"));
        let ack = server.expect(MessageType::Ack, &inform);
        assert_eq!(ack.to(), "10.1.99.5:68".parse().unwrap());
        // Option 118 names a subnet that is served.
        let selected = client.clone().with(options::SUBNET_SELECTION, &[10, 2, 0, 0]);
        let relayed = selected.behind(many, b"").discover();
        assert_eq!(server.silence(&relayed), Silence::NoSubnetForRelay);
    }
}

// RFC 8357 section 5: only an agent that says so is answered at its source port.
#[test]
fn a_relay_agent_with_a_port_of_its_own_is_answered_there() {
    let mut server = Server::new(HALL);
    let mut client = Client::dhclient(mac(1)).behind(ip("10.2.0.1"), &[19, 0]);
    client.relay.as_mut().unwrap().port = 1067;
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.to(), "10.2.0.1:1067".parse().unwrap());
    client.relay.as_mut().unwrap().information = vec![1, 1, 7];
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.to(), "10.2.0.1:67".parse().unwrap());
}

// RFC 4390 section 2.1.
#[test]
fn hardware_that_is_not_ethernet_is_answered_by_broadcast() {
    let mut server = Server::new(HALL);
    let mut infiniband = Client::plain(mac(1))
        .with(options::CLIENT_IDENTIFIER, &[255, 1, 2, 3, 4, 5, 6, 7, 8])
        .broadcasting();
    infiniband.htype = 32;
    infiniband.chaddr.clear();
    let offer = server.expect(MessageType::Offer, &infiniband.discover());
    assert_eq!(offer.delivery, Delivery::Broadcast);
    infiniband.broadcast = false;
    let offer = server.expect(MessageType::Offer, &infiniband.discover());
    assert_eq!(offer.delivery, Delivery::Broadcast);
    let mut long = Client::plain(mac(2));
    long.chaddr = vec![2; 8];
    let offer = server.expect(MessageType::Offer, &long.discover());
    assert_eq!(offer.delivery, Delivery::Broadcast);
}

// RFC 2131 table 3.
#[test]
fn the_header_of_a_reply_is_what_table_3_says() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).behind(ip("10.2.0.1"), b"");
    let mut discover = client.discover();
    discover.payload[3] = 4; // hops
    discover.payload[9] = 9; // secs
    let offer = server.expect(MessageType::Offer, &discover);
    let message = offer.message();
    assert_eq!((message.op(), message.htype(), message.hlen()), (2, 1, 6));
    assert_eq!((message.hops(), message.secs()), (0, 0));
    assert_eq!(message.xid(), client.xid);
    assert_eq!(message.chaddr(), mac(1));
    assert!(message.ciaddr().is_unspecified());
    assert!(offer.payload.len() >= 300);
}
