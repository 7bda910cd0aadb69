//! What is decided can be seen before it is done, with what decided it.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{Action, Silence, Through};
use crate::leases::{Admission, KeyKind, LeaseState};

const POOLS: &str = r#"
[dhcp]
authoritative = true
[[dhcp.class]]
name = "pxe"
vendor-class = "PXEClient"
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = [
    { range = "10.1.1.0-10.1.1.9", class = "pxe" },
    { range = "10.1.2.0-10.1.2.9", deny = ["class:pxe"] },
]
[[dhcp.host]]
name = "n"
uuid = "564d3210-aabb-ccdd-0102-030405060708"
ip = "10.1.2.5"
"#;

fn pool(low: &str, high: &str) -> Admission<'static> {
    Admission::Pool { low: ip(low).into(), high: ip(high).into(), host: None, bill: None }
}

#[test]
fn a_plan_names_class_pool_and_why_this_address() {
    let mut server = Server::new(POOLS);
    let firmware = Client::plain(mac(1)).with(options::VENDOR_CLASS_IDENTIFIER, b"PXEClient");
    let system = Client::dhclient(mac(1));
    let (first, second) = (pool("10.1.1.0", "10.1.1.9"), pool("10.1.2.0", "10.1.2.9"));
    let mut chosen = |client: &Client, datagram: &Datagram, through, admission, classes| {
        server.plan(datagram, |plan| {
            let reasons = plan.reasons().unwrap();
            let chosen = reasons.chosen.unwrap();
            assert_eq!((chosen.through, chosen.admission), (through, admission), "{client:?}");
            assert_eq!(reasons.classes.len(), classes);
            assert_eq!((reasons.host, reasons.reserved, reasons.known), (None, None, false));
            chosen.ip
        });
        server.lease(client)
    };
    let address = chosen(&firmware, &firmware.discover(), Through::Free, first, 1);
    let wish = system.discover_again(ip("10.1.2.7"));
    let other = chosen(&system, &wish, Through::Wish, second, 0);
    assert_eq!(chosen(&firmware, &firmware.discover(), Through::Lease, first, 1), address);
    assert_eq!(chosen(&system, &system.renew(other), Through::Lease, second, 0), other);
    server.receive(&system.release(other));
    let again = |server: &Server| {
        server.plan(&system.discover(), |plan| {
            let chosen = plan.reasons().unwrap().chosen.unwrap();
            (chosen.ip, chosen.through)
        })
    };
    assert_eq!(again(&server), (other, Through::Previous));
    server.expect(MessageType::Offer, &system.discover());
    assert_eq!(again(&server), (other, Through::Offer));
}

#[test]
fn a_plan_names_host_key_and_holder() {
    let mut server = Server::new(POOLS);
    let reserved = ip("10.1.2.5");
    let (machine, later) = (Client::edk2(mac(1)), Client::installer(mac(1)));
    let host = |server: &Server, datagram: &Datagram| {
        server.plan(datagram, |plan| {
            let reasons = plan.reasons().unwrap();
            let name = reasons.host.map(|(id, by)| (server.config.dhcp.host(id).name(), by));
            assert_eq!(name.map(|(name, _)| &**name), Some("n"));
            assert_eq!(reasons.reserved, Some(reserved));
            (name.unwrap().1, reasons.holder, reasons.chosen.map(|chosen| chosen.through))
        })
    };
    let reservation = Some(Through::Reservation);
    assert_eq!(host(&server, &machine.discover()), (KeyKind::Uuid, None, reservation));
    assert_eq!(server.lease(&machine), reserved);
    // By its lease.
    assert_eq!(host(&server, &later.renew(reserved)), (KeyKind::Uuid, None, reservation));
    // Another card of the same machine.
    let card = Client::edk2(mac(2));
    let (by, holder, through) = host(&server, &card.discover());
    assert_eq!((by, through), (KeyKind::Uuid, Some(Through::Free)));
    let holder = holder.unwrap();
    assert_eq!((holder.ip, holder.state), (reserved, LeaseState::Active));
    assert_eq!(holder.hardware.address(), mac(1));
}

#[test]
fn making_a_plan_changes_nothing() {
    let mut server = Server::new(POOLS);
    let leased = server.lease(&Client::dhclient(mac(1)));
    let all = || (0..=255).flat_map(|last| [1, 2].map(|pool| Ipv4Addr::new(10, 1, pool, last)));
    let seen = |server: &Server| all().map(|address| server.at(address)).collect::<Vec<_>>();
    let before = seen(&server);
    let client = Client::dhclient(mac(1));
    for (datagram, steps) in [
        (client.discover(), 1),
        (client.renew(leased), 1),
        (client.release(leased), 1),
        (client.decline(leased), 1),
        (client.inform(leased), 0),
        (Client::dhclient(mac(2)).discover(), 1),
        (Client::dhclient(mac(2)).select_from(ip("10.1.0.6"), ip("10.1.2.9")), 2),
    ] {
        for _ in 0..2 {
            assert_eq!(server.plan(&datagram, |plan| plan.steps.len()), steps);
            assert_eq!(seen(&server), before);
        }
    }
    // What has no sender has no reasons.
    let mut reply = client.discover();
    reply.payload[0] = 2;
    server.plan(&reply, |plan| {
        assert!(matches!(plan.action, Action::Silence(Silence::NotARequest)));
        assert_eq!(plan.reasons(), None);
    });
}
