//! Whoever holds an address keeps it, whatever is reserved and for whom by now; and a machine is
//! the host whose address it was given, not the one whose address it happens to have.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{NakReason, Silence};
use crate::event::Detail;
use crate::leases::LeaseState;

pub(super) const UUID_TEXT: &str = "564d3210-aabb-ccdd-0102-030405060708";

/// The hall with a host more, whose boot file is its own.
pub(super) fn hall_with(name: &str, key: &str, ip: &str) -> String {
    let host = format!("[[dhcp.host]]\nname = \"{name}\"\n{key}\nip = \"{ip}\"\n");
    format!("{HALL}\n{host}options = {{ domain-name = \"{name}.example\" }}\n")
}

pub(super) fn domain(answer: &Answer) -> Option<String> {
    answer.option(options::DOMAIN_NAME).map(|name| String::from_utf8(name).unwrap())
}

pub(super) fn reason(nak: &Answer) -> &'static str {
    match nak.event.detail {
        Detail::Reason(reason) => reason,
        other => panic!("{other:?} of no NAK"),
    }
}

// Its messages say neither UUID nor client identifier, as a stage of the host's boot may not
// either.
#[test]
fn a_stranger_is_not_the_host_that_gets_its_address_by_a_reload() {
    for key in [&*format!("uuid = \"{UUID_TEXT}\""), "client-id = \"hex:01525400000005\""] {
        let mut server = Server::new(HALL);
        let stranger = Client::dhclient(mac(1));
        let address = server.lease(&stranger);
        server.reload(&hall_with("other", key, &address.to_string()));
        for request in [stranger.renew(address), stranger.reboot(address)] {
            let nak = server.expect(MessageType::Nak, &request);
            assert_eq!(domain(&nak), None);
        }
        let offer = server.expect(MessageType::Offer, &stranger.discover());
        assert_ne!(offer.yiaddr(), address, "{key}");
        assert_eq!(domain(&offer), None, "{key}");
    }
}

#[test]
fn a_later_stage_is_the_host_by_which_its_lease_was_given_through_reloads_and_restarts() {
    let uuid = format!("uuid = \"{UUID_TEXT}\"");
    let mut server = Server::new(&hall_with("n", &uuid, "10.1.0.99"));
    let (firmware, installer) = (Client::edk2(mac(1)), Client::installer(mac(1)));
    assert_eq!(server.lease(&firmware), ip("10.1.0.99"));
    server.restart();
    let ack = server.expect(MessageType::Ack, &installer.renew(ip("10.1.0.99")));
    assert_eq!(domain(&ack).as_deref(), Some("n.example"));
    server.restart();
    server.expect(MessageType::Ack, &installer.reboot(ip("10.1.0.99")));
    // The host gets another address: the installer follows, UUID or not.
    server.reload(&hall_with("n", &uuid, "10.1.0.98"));
    let nak = server.expect(MessageType::Nak, &installer.renew(ip("10.1.0.99")));
    assert_eq!(reason(&nak), NakReason::OtherReservation.text());
    assert_eq!(server.lease(&installer), ip("10.1.0.98"));
    // Another host has that name's key and address by now: the machine is nobody that is known.
    server.reload(&hall_with("renamed", &uuid, "10.1.0.98"));
    server.expect(MessageType::Nak, &installer.renew(ip("10.1.0.98")));
    assert_ne!(server.lease(&installer), ip("10.1.0.98"));
    // Its firmware says who it is, and that host's address is held by nobody else.
    assert_eq!(server.lease(&firmware), ip("10.1.0.98"));
}

// Firmware says its UUID and is known; the system does not, and its pool is for the unknown.
#[test]
fn a_machine_has_an_address_in_the_pool_of_each_stage_and_boots_for_ever() {
    let mut server = Server::new(&format!(
        r#"
        [dhcp]
        authoritative = true
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = [
            {{ range = "10.1.1.0-10.1.1.1", allow = ["known"] }},
            {{ range = "10.1.2.0-10.1.2.1", deny = ["known"] }},
        ]
        [[dhcp.host]]
        name = "n"
        uuid = "{UUID_TEXT}"
        "#
    ));
    let stages = [Client::edk2(mac(1)), Client::dhclient(mac(1))];
    for boot in 0..5 {
        let addresses = stages.each_ref().map(|stage| server.lease(stage));
        assert_eq!(addresses, [ip("10.1.1.0"), ip("10.1.2.0")], "boot {boot}");
        server.pass(Duration::from_secs(600));
        for (stage, address) in stages.iter().zip(addresses) {
            server.expect(MessageType::Ack, &stage.renew(address));
        }
    }
    assert_eq!(server.lease(&Client::dhclient(mac(2))), ip("10.1.2.1"));
}

// RFC 2131 4.3.1: the current address before the previous one.
#[test]
fn of_several_addresses_in_one_pool_the_valid_one_is_offered_then_the_last() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let first = server.lease(&client);
    server.reload(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.1-10.1.4.9"));
    server.expect(MessageType::Nak, &client.renew(first));
    let second = server.lease(&client.anew());
    assert_ne!(second, first);
    assert_eq!(server.at(first).unwrap().state, LeaseState::Released, "refused, and asked anew");
    // Both are in a pool again.
    server.reload(HALL);
    assert_eq!(server.lease(&client), second, "it is valid");
    server.pass(Duration::from_secs(4000));
    assert_eq!(server.lease(&client), second, "it had that last");
    server.restart();
    assert_eq!(server.lease(&client), second, "after a restart");
}

#[test]
fn a_lease_that_a_reload_takes_while_it_is_written_is_refused_afterwards() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    let (address, request) = (offer.yiaddr(), client.select(&offer));
    let changes = server.begin(&request);
    server.reload(&hall_with("b", "hardware = \"52:54:00:00:00:77\"", &address.to_string()));
    // Repeated while the ACK waits: a NAK now would be forgotten when the ACK leaves.
    assert_eq!(server.silence(&request), Silence::CommitPending);
    assert!(server.record(changes));
    server.expect(MessageType::Nak, &client.renew(address));
    assert!(server.at(address).unwrap().refused);
    server.expect(MessageType::Offer, &client.anew().discover());
    assert_eq!(server.at(address).unwrap().state, LeaseState::Released);
}

#[test]
fn nobody_takes_a_whole_pool_by_naming_its_addresses() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    let own = offer.message().server_identifier().unwrap();
    let mut granted = Vec::new();
    for last in 0..10 {
        let address = Ipv4Addr::new(10, 1, 4, last);
        let answer = server.reply(&client.select_from(own, address));
        if answer.message().message_type() == Some(MessageType::Ack) {
            granted.push(address);
        }
    }
    assert_eq!(granted.len(), 8);
    // It may go on with what it has, and others find an address.
    server.expect(MessageType::Ack, &client.renew(granted[0]));
    server.expect(MessageType::Offer, &Client::dhclient(mac(2)).discover());
}

#[test]
fn an_address_that_was_asked_for_in_vain_costs_no_offer() {
    let mut server = Server::new(&HALL.replace(
        "pools = [\"10.1.4.0-10.1.4.9\"]",
        "pools = [\"10.1.4.0-10.1.4.9\", \"10.1.5.0-10.1.5.9\"]",
    ));
    let taken = Client::dhclient(mac(9));
    let offer = server.expect(MessageType::Offer, &taken.discover_again(ip("10.1.5.3")));
    server.expect(MessageType::Ack, &taken.select(&offer));
    let client = Client::dhclient(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    for wrong in ["10.1.5.3", "10.1.0.17", "10.2.0.10"] {
        let request = client.select_from(ip("10.1.0.6"), ip(wrong));
        server.expect(MessageType::Nak, &request);
        let offered = server.at(offer.yiaddr()).unwrap();
        assert_eq!(offered.state, LeaseState::Offered, "after {wrong}");
    }
    assert!(server.at(ip("10.1.5.0")).is_none(), "and takes none that nobody asked for");
    server.expect(MessageType::Ack, &client.select(&offer));
}

#[test]
fn a_release_or_decline_while_the_lease_is_written_makes_the_ack_void() {
    let gives_back = [Client::release, Client::decline];
    for give_back in gives_back {
        let mut server = Server::new(HALL);
        let client = Client::dhclient(mac(1));
        let offer = server.expect(MessageType::Offer, &client.discover());
        let changes = server.begin(&client.select(&offer));
        assert!(matches!(server.receive(&give_back(&client, offer.yiaddr())), Outcome::Recorded));
        assert!(!server.record(changes), "an ACK would leave");
        assert!(!server.at(offer.yiaddr()).unwrap().is_active(server.now));
        server.restart();
        assert!(server.at(offer.yiaddr()).is_none_or(|lease| !lease.is_active(server.now)));
    }
}

#[test]
fn without_a_pool_a_machine_whose_address_is_held_hears_nothing_until_it_is_free() {
    let text = HALL.replace("pools = [\"10.1.4.0-10.1.4.9\"]", "");
    let old = hall_with("n", "hardware = \"52:54:00:00:00:01\"", "10.1.0.99");
    let mut server = Server::new(&old);
    let (holder, waits) = (Client::dhclient(mac(1)), Client::dhclient(mac(2)));
    assert_eq!(server.lease(&holder), ip("10.1.0.99"));
    let host =
        "[[dhcp.host]]\nname = \"m\"\nhardware = \"52:54:00:00:00:02\"\nip = \"10.1.0.99\"\n";
    server.reload(&format!("{text}{host}"));
    for _ in 0..2 {
        assert_eq!(server.silence(&waits.discover()), Silence::ReservedHeld);
        let told = server.holder.unwrap();
        assert_eq!((told.ip, told.hardware.address()), (ip("10.1.0.99"), &mac(1)[..]));
        assert_eq!(told.ends, server.at(ip("10.1.0.99")).unwrap().expires);
    }
    // Nor does its request for the address help it, or BOOTP.
    let request = waits.select_from(ip("10.1.0.6"), ip("10.1.0.99"));
    let nak = server.expect(MessageType::Nak, &request);
    assert_eq!(reason(&nak), NakReason::HeldByOther.text());
    assert_eq!(server.silence(&waits.bootp()), Silence::ReservedHeld);
    server.pass(Duration::from_secs(3601));
    assert_eq!(server.lease(&waits), ip("10.1.0.99"));
    assert_eq!(server.holder, None);
}

// The NAK itself may be lost: until the holder begins anew, the address is its own.
#[test]
fn a_refused_lease_ends_by_its_holders_discover_and_not_before() {
    let without = HALL.replace("ip = \"10.1.0.17\"", "ip = \"10.1.0.18\"");
    let mut server = Server::new(&without);
    let (holder, owner) = (Client::dhclient(mac(1)), Client::dhclient(mac(0x11)));
    let address = server.lease(&holder);
    server.reload(&HALL.replace("10.1.0.17", &address.to_string()));
    for _ in 0..2 {
        server.expect(MessageType::Nak, &holder.renew(address));
        assert_ne!(server.expect(MessageType::Offer, &owner.discover()).yiaddr(), address);
        server.restart();
    }
    assert!(server.at(address).unwrap().is_active(server.now));
    assert!(server.at(address).unwrap().refused, "also after a restart");
    server.pass(server.config.dhcp.offer_time);
    let other = server.lease(&holder);
    assert_ne!(other, address);
    server.restart();
    assert!(!server.at(address).unwrap().is_active(server.now), "ended, on disk as well");
    assert_eq!(server.lease(&owner), address);
    server.expect(MessageType::Ack, &holder.renew(other));
}

// It was refused by a configuration that is not in force any more.
#[test]
fn a_refused_lease_that_its_holder_may_have_again_goes_on() {
    let mut server = Server::new(HALL);
    let holder = Client::dhclient(mac(1));
    let address = server.lease(&holder);
    server.reload(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9"));
    server.expect(MessageType::Nak, &holder.renew(address));
    server.reload(HALL);
    server.expect(MessageType::Ack, &holder.renew(address));
    assert!(!server.at(address).unwrap().refused);
    server.reload(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9"));
    server.expect(MessageType::Nak, &holder.renew(address));
    server.reload(HALL);
    assert_eq!(server.lease(&holder), address, "by DISCOVER, too");
}

#[test]
fn reservations_that_swap_settle_whoever_comes_first() {
    let swap = |a: u8, b: u8| {
        let host = |name: &str, machine: u8, last: u8| {
            format!(
                "[[dhcp.host]]\nname = \"{name}\"\nhardware = \"52:54:00:00:00:0{machine}\"\n\
                 ip = \"10.1.4.{last}\"\n"
            )
        };
        format!("{HALL}{}{}", host("a", 1, a), host("b", 2, b))
    };
    for endless in [false, true] {
        let times = if endless { "lease-time = \"infinite\"" } else { "lease-time = \"1h\"" };
        let text = |a, b| {
            let limits = "min-lease-time = \"10m\"\nmax-lease-time = \"1d\"\n";
            swap(a, b).replace("lease-time = \"1h\"\n", &format!("{times}\n")).replace(limits, "")
        };
        let mut server = Server::new(&text(1, 2));
        let mut machines = [Client::dhclient(mac(1)), Client::dhclient(mac(2))];
        assert_eq!(machines.each_ref().map(|m| server.lease(m)), [ip("10.1.4.1"), ip("10.1.4.2")]);
        server.reload(&text(2, 1));
        let mut has = [ip("10.1.4.1"), ip("10.1.4.2")];
        // Each renews, and begins anew where it is refused. Nobody is without an address for long.
        for _ in 0..2 {
            for (machine, has) in machines.iter_mut().zip(&mut has) {
                *machine = machine.anew();
                let answer = server.reply(&machine.reboot(*has));
                if answer.message().message_type() == Some(MessageType::Nak) {
                    *has = server.lease(machine);
                }
            }
            assert_ne!(has[0], has[1]);
        }
        assert_eq!(has, [ip("10.1.4.2"), ip("10.1.4.1")], "endless: {endless}");
    }
}

// By client identifier firmware, iPXE and installer are three clients; the address reserved for
// their hardware address goes from one to the next, and to no other machine.
#[test]
fn a_reserved_address_follows_the_hardware_address_through_the_identities_of_a_boot() {
    let text = hall_with("n", "hardware = \"52:54:00:00:00:01\"", "10.1.0.99");
    let mut server = Server::new(&text.replace("[dhcp]", "[dhcp]\nidentity = \"client-id\""));
    for stage in [Client::edk2, Client::ipxe, Client::installer, Client::bios, Client::edk2] {
        assert_eq!(server.lease(&stage(mac(1))), ip("10.1.0.99"));
    }
    // A client identifier that another machine sends, too, makes it no other's.
    let thief = Client::installer(mac(2));
    server.expect(MessageType::Nak, &thief.select_from(ip("10.1.0.6"), ip("10.1.0.99")));
}

// What a relay agent said belongs to the lease that it was said for.
#[test]
fn the_port_of_a_lease_is_forgotten_when_the_client_asks_from_elsewhere() {
    let text = format!(
        "{HALL}\n[[dhcp.class]]\nname = \"port7\"\ncircuit-id = \"port7\"\n\
         options = {{ domain-name = \"port7.example\" }}"
    );
    let on_port = Client::dhclient(mac(1)).behind(ip("10.2.0.1"), b"\x01\x05port7");
    let moved = Client::dhclient(mac(1)).behind(ip("10.2.0.1"), b"");
    let asks = [
        Client::select_from as fn(&Client, Ipv4Addr, Ipv4Addr) -> _,
        |c, _, a| c.reboot(a),
        |c, _, a| c.rebind(a),
    ];
    for ask in asks {
        let mut server = Server::new(&text);
        let address = server.lease(&on_port);
        let renewed = server.expect(MessageType::Ack, &on_port.renew(address));
        assert_eq!(domain(&renewed).as_deref(), Some("port7.example"));
        let ack = server.expect(MessageType::Ack, &ask(&moved, ip("10.1.0.6"), address));
        assert_eq!(domain(&ack), None);
        let renewed = server.expect(MessageType::Ack, &moved.renew(address));
        assert_eq!(domain(&renewed), None);
    }
}

// Names are remembered, not positions.
#[test]
fn a_reload_that_puts_everything_in_another_order_shifts_nothing() {
    let section = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let subnets = [
        section(
            "1",
            "subnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\", \"10.1.6.0-10.1.6.9\"]",
        ),
        section("2", "subnet = \"10.2.0.0/24\"\npools = [\"10.2.0.10-10.2.0.99\"]"),
        section(
            "3",
            "subnet = \"10.3.0.0/24\"\nshared-network = \"hall3\"\npools = [\"10.3.0.10\"]",
        ),
        section(
            "4",
            "subnet = \"10.3.1.0/24\"\nshared-network = \"hall3\"\npools = [\"10.3.1.10-10.3.1.99\"]",
        ),
    ];
    let hosts = [
        section("a", &format!("uuid = \"{UUID_TEXT}\"\nip = \"10.1.0.20\"")),
        section("b", "client-id = \"hex:01525400000005\"\nip = \"10.1.0.21\""),
        section("c", "circuit-id = \"port7\"\nip = \"10.2.0.7\""),
    ];
    let text = |turn: usize| {
        let mut text = "[dhcp]\nauthoritative = true\n".to_owned();
        let turned = |list: &[(String, String)]| {
            let mut list = list.to_vec();
            let len = list.len();
            list.rotate_left(turn % len);
            list
        };
        for (_, subnet) in turned(&subnets) {
            text += &format!("[[dhcp.subnet]]\n{subnet}\n");
        }
        for (name, host) in turned(&hosts) {
            text += &format!(
                "[[dhcp.host]]\nname = \"{name}\"\n{host}\n\
                              options = {{ domain-name = \"{name}.example\" }}\n"
            );
        }
        text
    };
    let relayed = |client: Client, relay: &str| client.behind(ip(relay), b"");
    // How each gets its lease, and how a later stage of its boot asks.
    let machines = [
        (Client::edk2(mac(1)), Client::installer(mac(1))),
        (Client::ipxe(mac(5)), Client::installer(mac(5))),
        (
            Client::dhclient(mac(6)).behind(ip("10.2.0.1"), b"\x01\x05port7"),
            Client::dhclient(mac(6)),
        ),
        (Client::dhclient(mac(7)), Client::dhclient(mac(7))),
        (relayed(Client::udhcpc(mac(8)), "10.2.0.1"), Client::udhcpc(mac(8))),
        (relayed(Client::udhcpc(mac(9)), "10.3.0.1"), Client::udhcpc(mac(9))),
        (relayed(Client::udhcpc(mac(7)), "10.3.0.1"), Client::udhcpc(mac(7))),
    ];
    let mut server = Server::new(&text(0));
    let leased: Vec<_> = machines.iter().map(|(first, _)| server.lease(first)).collect();
    let mut first = None;
    for turn in 1..5 {
        let states: Vec<_> = machines
            .iter()
            .zip(&leased)
            .map(|((_, later), &address)| {
                let ack = server.expect(MessageType::Ack, &later.renew(address));
                (ack.yiaddr(), domain(&ack))
            })
            .collect();
        assert_eq!(*first.get_or_insert_with(|| states.clone()), states, "turn {turn}");
        server.reload(&text(turn));
        if turn == 3 {
            server.restart();
        }
        for ((first, _), address) in machines.iter().zip(&leased) {
            assert_eq!(server.lease(first), *address, "turn {turn}");
        }
    }
}
