//! When a client has left an address that it can have no more, and when it goes on with one.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::holding::{domain, hall_with};
use super::*;

fn reserved(name: &str, machine: u8, address: &str) -> String {
    let hardware = format!("hardware = \"52:54:00:00:00:{machine:02x}\"");
    format!("[[dhcp.host]]\nname = \"{name}\"\n{hardware}\nip = \"{address}\"\n")
}

/// Whether a machine's lease is still its own.
fn has(server: &Server, address: Ipv4Addr) -> bool {
    server.at(address).unwrap().is_active(server.now)
}

// It was on its way when the NAK was not sent yet.
#[test]
fn a_discover_of_an_earlier_transaction_ends_no_refused_lease() {
    for rapid in [false, true] {
        let text = HALL.replace("[dhcp]", &format!("[dhcp]\nrapid-commit = {rapid}"));
        let mut server = Server::new(&text);
        let client = Client::plain(mac(1)).with(options::RAPID_COMMIT, &[]);
        let address = match rapid {
            true => server.expect(MessageType::Ack, &client.discover()).yiaddr(),
            false => server.lease(&client),
        };
        server.reload(&format!("{text}{}", reserved("b", 0x77, &address.to_string())));
        server.expect(MessageType::Nak, &client.renew(address));
        // The NAK is lost, and the machine goes on.
        server.receive(&client.discover());
        assert!(has(&server, address), "rapid: {rapid}");
        server.expect(MessageType::Nak, &client.renew(address));
        server.receive(&client.anew().discover());
        assert!(!has(&server, address), "rapid: {rapid}");
    }
}

// Some network ROMs make their transaction id of the hardware address.
#[test]
fn a_client_with_one_transaction_id_leaves_when_nothing_can_be_late_any_more() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let address = server.lease(&client);
    server.reload(&format!("{HALL}{}", reserved("b", 0x77, &address.to_string())));
    server.expect(MessageType::Nak, &client.renew(address));
    server.expect(MessageType::Offer, &client.discover());
    assert!(has(&server, address));
    server.pass(server.config.dhcp.offer_time);
    server.expect(MessageType::Offer, &client.discover());
    assert!(!has(&server, address));
}

// Firmware never renews: it asks for any address at each boot.
#[test]
fn reservations_that_swap_settle_though_nobody_renews() {
    let swap = |pools: &str, a: &str, b: &str| {
        let text = HALL.replace("pools = [\"10.1.4.0-10.1.4.9\"]", pools);
        let text = text.replace("lease-time = \"1h\"\n", "lease-time = \"infinite\"\n");
        let text = text.replace("min-lease-time = \"10m\"\nmax-lease-time = \"1d\"\n", "");
        format!("{text}{}{}", reserved("a", 1, a), reserved("b", 2, b))
    };
    let [one, two] = ["10.1.4.1", "10.1.4.2"];
    for pools in ["", "pools = [\"10.1.4.0-10.1.4.9\"]"] {
        let mut server = Server::new(&swap(pools, one, two));
        let mut machines = [Client::bios(mac(1)), Client::bios(mac(2))];
        assert_eq!(machines.each_ref().map(|m| server.lease(m)), [one, two].map(ip));
        server.reload(&swap(pools, two, one));
        let mut has = [one, two].map(ip);
        for boot in 0..3 {
            for (machine, has) in machines.iter_mut().zip(&mut has) {
                *machine = machine.anew();
                if let Outcome::Reply(offer) = server.receive(&machine.discover()) {
                    let ack = server.expect(MessageType::Ack, &machine.select(&offer));
                    *has = ack.yiaddr();
                }
            }
            if boot == 0 {
                assert_ne!(has, [two, one].map(ip), "nobody is displaced by one DISCOVER");
            }
        }
        assert_eq!(has, [two, one].map(ip), "pools: {pools}");
    }
}

// The DISCOVER may be another stage's, and the mark is no end.
#[test]
fn what_a_client_may_have_in_another_stage_is_not_ended_by_its_discovers() {
    let text = r#"
        [[dhcp.class]]
        name = "firmware"
        vendor-class = "PXEClient"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = [
            { range = "10.1.1.0-10.1.1.9", class = "firmware" },
            { range = "10.1.2.0-10.1.2.9", deny = ["class:firmware"] },
        ]
    "#;
    let mut server = Server::new(text);
    let (mut firmware, system) = (Client::bios(mac(1)), Client::dhclient(mac(1)));
    let address = server.lease(&system);
    for _ in 0..4 {
        firmware = firmware.anew();
        server.lease(&firmware);
        let lease = server.at(address).unwrap();
        assert!(lease.is_active(server.now) && !lease.refused);
    }
    server.expect(MessageType::Ack, &system.renew(address));
}

// dhcpd and Kea go by what the renewal says, and send a NAK here.
#[test]
fn a_renewal_that_does_not_say_the_class_of_its_pool_goes_on() {
    let pools = |first: &str| {
        format!(
            r#"
            [dhcp]
            authoritative = true
            [[dhcp.class]]
            name = "firmware"
            vendor-class = "PXEClient"
            [[dhcp.subnet]]
            subnet = "10.1.0.0/16"
            pools = [{first} "10.1.2.0-10.1.2.9"]
            "#
        )
    };
    let by_class = [
        "{ range = \"10.1.1.0-10.1.1.9\", class = \"firmware\" },",
        "{ range = \"10.1.1.0-10.1.1.9\", allow = [\"class:firmware\"] },",
    ];
    for pool in by_class {
        let mut server = Server::new(&pools(pool));
        let (firmware, system) = (Client::bios(mac(1)), Client::dhclient(mac(1)));
        let offer = server.expect(MessageType::Offer, &firmware.discover());
        let address = offer.yiaddr();
        assert!(address < ip("10.1.2.0"));
        // Nor need the REQUEST say it, whichever shard it comes to.
        let takes = Client { xid: 7, ..Client::plain(mac(1)) };
        server.expect(MessageType::Ack, &takes.select(&offer));
        for ask in [Client::renew, Client::rebind, Client::reboot] {
            server.expect(MessageType::Ack, &ask(&system, address));
        }
        server.restart();
        server.expect(MessageType::Ack, &system.renew(address));
        // It is no right to ask for any address of the pool, or for another one.
        assert!(server.lease(&system) >= ip("10.1.2.0"));
        server.expect(
            MessageType::Nak,
            &Client::dhclient(mac(2)).select_from(ip("10.1.0.6"), address),
        );
        // What the pool denies by name ends it, and so does its end.
        server.reload(&pools(
            "{ range = \"10.1.1.0-10.1.1.9\", class = \"firmware\", deny = [\"unknown\"] },",
        ));
        server.expect(MessageType::Nak, &system.renew(address));
        server.reload(&pools(""));
        server.expect(MessageType::Nak, &system.renew(address));
    }
}

// Of 255 bytes, as switches make them.
#[test]
fn a_port_with_a_long_name_is_known_when_the_machine_renews() {
    let (port, switch) = ([b'p'; 150], [b's'; 80]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = format!("circuit-id = \"hex:{}\"\nremote-id = \"hex:{}\"", hex(&port), hex(&switch));
    let mut server = Server::new(&hall_with("n", &key, "10.1.0.99"));
    let option = [&[1, 150][..], &port, &[2, 80], &switch].concat();
    let client = Client::dhclient(mac(1)).behind(ip("10.1.0.1"), &option);
    assert_eq!(server.lease(&client), ip("10.1.0.99"));
    for _ in 0..2 {
        let ack = server.expect(MessageType::Ack, &client.renew(ip("10.1.0.99")));
        assert_eq!(domain(&ack).as_deref(), Some("n.example"));
        server.restart();
    }
}

// Its OFFER and ACK are long out, and another DISCOVER has said since that the machine begins anew.
#[test]
fn a_copy_of_the_discover_that_a_lease_came_from_ends_no_lease_that_is_marked() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let address = server.lease(&client);
    server.reload(&format!("{HALL}{}", reserved("b", 0x77, &address.to_string())));
    let second = client.anew();
    server.receive(&second.discover());
    assert!(server.at(address).unwrap().refused);
    for late in [&client, &second, &client] {
        server.receive(&late.discover());
        assert!(has(&server, address));
    }
    server.receive(&second.anew().discover());
    assert!(!has(&server, address));
}

// The mark is on disk, and the transaction that it came from is not.
#[test]
fn a_copy_of_the_discover_that_marked_a_lease_ends_it_after_a_restart_no_more_than_before() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let address = server.lease(&client);
    server.pass(Duration::from_secs(61));
    server.reload(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9"));
    let second = client.anew();
    server.receive(&second.discover());
    assert!(server.at(address).unwrap().refused);
    server.restart();
    for _ in 0..2 {
        server.receive(&second.discover());
        assert!(has(&server, address));
    }
    server.receive(&second.anew().discover());
    assert!(!has(&server, address));
}

#[test]
fn a_lease_that_was_marked_long_before_a_restart_ends_with_the_first_discover_long_after() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let address = server.lease(&client);
    server.reload(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9"));
    server.expect(MessageType::Nak, &client.renew(address));
    server.restart();
    server.pass(server.config.dhcp.offer_time);
    server.receive(&client.anew().discover());
    assert!(!has(&server, address));
}
