//! What `explain` says of a machine that somebody describes.

use bootstorm_protocols::dhcpv4::MessageType;

use super::*;
use crate::explain::Asked;

fn machine(number: u8) -> Asked {
    Asked { mac: format!("5254.0000.00{number:02x}"), ..Asked::default() }
}

fn with_message(message: &str, number: u8) -> Asked {
    Asked { message: message.to_owned(), ..machine(number) }
}

#[test]
fn messages_of_a_machine_that_has_an_address() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let renew = Asked { renew: true, ..machine(1) };
    assert!(server.asked(&renew).unwrap_err().contains("--ciaddr"));
    let leased = server.lease(&client);
    let explained = server.asked(&renew).unwrap();
    let answer = |explained: &crate::explain::Explanation| explained.answer.kind.clone();
    assert_eq!((answer(&explained), explained.request.ciaddr), ("ack".to_owned(), Some(leased)));
    // Another one's address.
    let wrong = Asked { ciaddr: Some(leased), ..with_message("request", 2) };
    assert_eq!(answer(&server.asked(&wrong).unwrap()), "nak");
    let inform = Asked { ciaddr: Some(ip("10.1.0.99")), ..with_message("inform", 2) };
    assert_eq!(answer(&server.asked(&inform).unwrap()), "ack");
    assert!(server.asked(&with_message("inform", 2)).unwrap_err().contains("--ciaddr"));
    for message in ["release", "decline"] {
        assert_eq!(answer(&server.asked(&with_message(message, 1)).unwrap()), "none", "{message}");
    }
    assert_eq!(answer(&server.asked(&with_message("bootp", 0x11)).unwrap()), "boot-reply");
    assert!(server.asked(&with_message("offer", 1)).unwrap_err().contains("there are discover"));
    // Nothing has changed.
    server.expect(MessageType::Ack, &client.renew(leased));
}

#[test]
fn the_part_of_a_test_that_is_not_true_is_named_with_what_it_finds() {
    let class = r#"
[[dhcp.class]]
name = "ours"
test = 'exists host-name and (substring(option vendor-class-identifier, 0, 4) = "Cisc" or option agent.circuit-id = "eth0")'

[[dhcp.class]]
name = "racks"
match = 'option host-name'
"#;
    let server = Server::new(&(HALL.to_owned() + class));
    let why = |asked: Asked| {
        let classes = server.asked(&asked).unwrap().classes;
        classes.into_iter().map(|class| class.why).collect::<Vec<_>>()
    };
    let known = Asked { vendor_class: Some("PXEClient".to_owned()), ..machine(0x11) };
    let [ours, racks] = why(known.clone()).try_into().unwrap();
    assert_eq!(ours, "its test is not true: exists host-name is false");
    assert_eq!(racks, "its `match` is null for the client");
    let named = Asked { options: vec!["host-name=n01".to_owned()], ..known };
    let [ours, racks] = why(named).try_into().unwrap();
    assert!(
        ours.contains(
            "(substring(option vendor-class-identifier, 0, 4) = \"Cisc\") finds \"PXEC\"; "
        ),
        "{ours}"
    );
    assert!(ours.ends_with("(option agent.circuit-id = \"eth0\") finds null"), "{ours}");
    assert_eq!(racks, "it has no subclass for \"n01\"");
}

#[test]
fn a_lease_time_is_of_the_setting_that_decided() {
    let decided = |settings: &str, wish: Option<u32>| {
        let as_dhcpd = format!("[dhcp]\ncompatibility = \"dhcpd\"\n{settings}\n[[dhcp.subnet]]");
        let from = HALL.find("[dhcp]").unwrap()..HALL.find("[[dhcp.subnet]]").unwrap() + 15;
        let mut text = HALL.to_owned();
        text.replace_range(from, &as_dhcpd);
        let text = text.replacen(
            "subnet = \"10.1.0.0/16\"",
            "subnet = \"10.1.0.0/16\"\nmin-lease-time = \"2m\"",
            1,
        );
        let options = wish.map(|wish| format!("51={wish}")).into_iter().collect();
        let asked = Asked { options, ..machine(1) };
        let lease = Server::new(&text).asked(&asked).unwrap().lease_time.unwrap();
        (lease.seconds, lease.key, lease.source.name, lease.hides.len())
    };
    let is = |seconds, key: &str, source: &str, hides| {
        (seconds, key.to_owned(), source.to_owned(), hides)
    };
    assert_eq!(decided("", None), is(43_200, "lease-time", "default", 0));
    assert_eq!(decided("", Some(u32::MAX)), is(86_400, "max-lease-time", "default", 0));
    assert_eq!(
        decided("max-lease-time = 60", None),
        is(120, "min-lease-time", "subnet 10.1.0.0/16", 0)
    );
    assert_eq!(
        decided("min-lease-time = 60", Some(1)),
        is(120, "min-lease-time", "subnet 10.1.0.0/16", 1)
    );
    assert_eq!(decided("max-lease-time = 600", None), is(600, "max-lease-time", "[dhcp]", 0));
    assert_eq!(decided("", Some(4000)), is(4000, "option 51", "client", 0));
}

// Two settings of one value are told apart by what decided, not by what they say.
#[test]
fn a_lease_time_is_of_what_decided_where_a_setting_has_the_same_value() {
    let explained = |server: &Server, asked: &Asked| {
        let lease = server.asked(asked).unwrap().lease_time.unwrap();
        (lease.seconds, lease.key, lease.source.name)
    };
    let is = |seconds, key: &str, source: &str| (seconds, key.to_owned(), source.to_owned());
    let hall = |pool: &str, settings: &str| {
        let settings = format!("min-lease-time = \"1m\"\n{settings}");
        Server::new(&with_pool(HALL, pool).replace("min-lease-time = \"10m\"", &settings))
    };
    let pool = "pool 10.1.4.0-10.1.4.9";
    // The clock shows 2023-11-14T22:13:20Z.
    let until = hall("deny = [\"after 2023-11-14T22:14:20Z\"]", "");
    assert_eq!(explained(&until, &machine(1)), is(60, "after", pool));
    let key = "adaptive-lease-time-threshold";
    let mut full = hall("", &format!("{key} = 10"));
    full.lease(&Client::plain(mac(2)));
    assert_eq!(explained(&full, &machine(1)), is(60, key, "[dhcp]"));
    let bootp = with_message("bootp", 1);
    let length = "dynamic-bootp-lease-length = 100";
    let cutoff = format!("{length}\ndynamic-bootp-lease-cutoff = \"2023-11-14T22:15:00Z\"");
    let pool = "allow = [\"bootp\"]";
    let key = "dynamic-bootp-lease-cutoff";
    assert_eq!(explained(&hall(pool, &cutoff), &bootp), is(100, key, "[dhcp]"));
    let key = "dynamic-bootp-lease-length";
    assert_eq!(explained(&hall(pool, length), &bootp), is(100, key, "[dhcp]"));
    assert_eq!(explained(&hall(pool, ""), &bootp), is(u32::MAX, "bootp", "server"));
    let mut renewed = hall("", "dhcp-cache-threshold = 25");
    let client = Client::plain(mac(1));
    renewed.lease(&client);
    let renew = Asked { renew: true, ..machine(1) };
    assert_eq!(explained(&renewed, &renew), is(3600, "lease", "server"));
}
