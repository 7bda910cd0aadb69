//! Classes with a test: who is a member, by which message.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::explain::Asked;

/// A network and these classes: name, and the keys of its table.
fn with_classes(classes: &[(&str, &str)]) -> Server {
    let mut text =
        "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.99\"]\n".to_owned();
    for (name, keys) in classes {
        text.push_str(&format!("[[dhcp.class]]\nname = \"{name}\"\n{keys}\n"));
    }
    Server::new(&text)
}

/// The classes that the sender of a message is a member of.
fn members(server: &Server, datagram: &Datagram) -> String {
    server.plan(datagram, |plan| {
        let classes = plan.reasons().unwrap().classes.iter();
        let names = classes.map(|&id| &*server.config.dhcp.class(id).name);
        names.collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn a_class_with_a_test_has_the_members_that_meet_it() {
    let server = with_classes(&[
        ("pxe", "test = 'substring(option vendor-class-identifier, 0, 9) = \"PXEClient\"'"),
        ("card", "test = 'substring(hardware, 1, 3) = 52:54:00'"),
        ("long", "test = 'suffix(option root-path, 2) = \"yz\"'"),
        ("port", "test = 'option agent.circuit-id = \"port7\" and exists agent.remote-id'"),
        ("ipxe", "test = 'option ipxe.177 = 1:80:86:10:e'"),
        ("discover", "test = 'option dhcp-message-type = 1'"),
        ("none", "test = 'option host-name ~= \"x\"'"),
    ]);
    let plain = Client::plain(mac(1));
    assert_eq!(members(&server, &plain.discover()), "card discover");
    assert_eq!(members(&server, &Client::edk2(mac(1)).discover()), "pxe card discover");
    assert_eq!(members(&server, &Client::ipxe(mac(1)).discover()), "pxe card ipxe discover");
    // In two pieces (RFC 3396).
    let long = [vec![b'x'; 255], b"yz".to_vec()];
    let mut client = plain.clone();
    client.options.extend(long.map(|piece| (options::ROOT_PATH, piece)));
    assert_eq!(members(&server, &client.discover()), "card long discover");
    let relayed = plain.behind(ip("10.1.0.1"), b"\x01\x05port7\x02\x07switch1");
    assert_eq!(members(&server, &relayed.discover()), "card port discover");
}

#[test]
fn all_that_a_class_asks_for_must_hold() {
    let efi = "arch = \"x86-64-efi\"";
    let pxe = "test = 'option vendor-class-identifier ~= \"^PXE\"'";
    let server = with_classes(&[
        ("efi", efi),
        ("pxe", pxe),
        ("both", &format!("{efi}\n{pxe}")),
        ("neither", ""),
    ]);
    assert_eq!(members(&server, &Client::edk2(mac(1)).discover()), "efi pxe both");
    assert_eq!(members(&server, &Client::bios(mac(1)).discover()), "pxe");
    assert_eq!(members(&server, &Client::plain(mac(1)).discover()), "");
}

#[test]
fn a_test_may_ask_for_classes_before_it() {
    let server = with_classes(&[
        ("efi", "arch = \"x86-64-efi\""),
        ("pxe", "test = 'option vendor-class-identifier ~= \"^PXE\"'"),
        ("rest", "test = 'check \"pxe\" and not check \"efi\"'"),
    ]);
    assert_eq!(members(&server, &Client::edk2(mac(1)).discover()), "efi pxe");
    assert_eq!(members(&server, &Client::bios(mac(1)).discover()), "pxe rest");
}

/// Classes that compare one expression with constants are found by its value. They have the same
/// members, in the same order, as with tests that cannot be found by a value.
#[test]
fn classes_that_compare_the_same_are_as_those_that_do_not() {
    let expression = "substring(option vendor-class-identifier, 0, 5)";
    let condition = |number: usize, sign: &str| match number % 5 {
        0 => format!("{expression} = \"v{number:04}\""),
        1 => format!("\"v{:04}\" = {expression} and exists vendor-class-identifier", number - 1),
        2 => format!("exists host-name and {expression} {sign} \"v{:04}\"", number - 2),
        3 => format!("check \"c{}\" and {expression} = \"v{:04}\"", number - 3, number - 3),
        _ => "exists vendor-class-identifier".to_owned(),
    };
    let server = |hidden: bool| {
        let keys = (0..50).map(|number| {
            let condition = condition(number, "=");
            // `or` hides what a test needs.
            let condition = if hidden { format!("({condition}) or exists 250") } else { condition };
            (format!("c{number}"), format!("test = '{condition}'"))
        });
        let keys: Vec<_> = keys.collect();
        let keys: Vec<_> = keys.iter().map(|(name, keys)| (&**name, &**keys)).collect();
        with_classes(&keys)
    };
    let (indexed, plain) = (server(false), server(true));
    for class in ["", "v00", "v0000", "v0015:more", "v0045", "v0016"] {
        for host in [None, Some("n01")] {
            let mut client = Client::plain(mac(1));
            if !class.is_empty() {
                client = client.with(options::VENDOR_CLASS_IDENTIFIER, class.as_bytes());
            }
            if let Some(host) = host {
                client = client.with(options::HOST_NAME, host.as_bytes());
            }
            let found = members(&indexed, &client.discover());
            assert_eq!(found, members(&plain, &client.discover()), "{class} {host:?}");
            let own = class
                .get(1..5)
                .is_some_and(|own| own.parse().is_ok_and(|n: u32| n.is_multiple_of(5)));
            assert_eq!(found.split(' ').count() > 11, own, "{class}: {found}");
        }
    }
}

/// Some firmware says less in its REQUEST. What the OFFER went by counts for the ACK, as far as it
/// is one of the options that are remembered.
#[test]
fn a_test_sees_what_the_discover_said() {
    let classes = [
        ("pxe", "test = 'option vendor-class-identifier ~= \"^PXE\"'\nlease-time = \"2h\""),
        ("named", "test = 'option host-name = \"n01\"'"),
    ];
    let mut server = with_classes(&classes);
    let firmware = Client::edk2(mac(1)).with(options::HOST_NAME, b"n01");
    let offer = server.expect(MessageType::Offer, &firmware.discover());
    let short = firmware
        .without(options::VENDOR_CLASS_IDENTIFIER)
        .without(options::PXE_SYSTEM_TYPE)
        .without(options::HOST_NAME);
    assert_eq!(members(&server, &short.select(&offer)), "pxe");
    let ack = server.expect(MessageType::Ack, &short.select(&offer));
    assert_eq!(ack.option(options::LEASE_TIME), Some(7200_u32.to_be_bytes().to_vec()));
    // A message that belongs to no DISCOVER counts for itself.
    assert_eq!(members(&server, &short.renew(ack.yiaddr())), "");
}

/// A renewal passes no relay agent: the machine is where its lease says.
#[test]
fn a_renewal_is_on_the_port_of_its_lease() {
    let test = "test = 'option agent.circuit-id = \"port7\" and option agent.remote-id = \"s1\"'";
    let mut server = with_classes(&[("port", test), ("any", "test = 'exists agent.circuit-id'")]);
    assert!(server.config.dhcp.goes_by_ports);
    assert!(!with_classes(&[("card", "test = 'hardware = 1'")]).config.dhcp.goes_by_ports);
    let client = Client::dhclient(mac(1));
    let relayed = client.clone().behind(ip("10.1.0.1"), b"\x01\x05port7\x02\x02s1");
    let address = server.lease(&relayed);
    assert_eq!(members(&server, &client.renew(address)), "port any");
    assert_eq!(members(&server, &client.discover()), "");
}

/// dhcpd knows five classes of a message; those beyond them it ignores, and `add` of one.
#[test]
fn by_dhcpds_rules_a_machine_is_a_member_of_five_classes_at_most() {
    let class = |number: u8| {
        format!(
            "[[dhcp.class]]\nname = \"c{number}\"\ntest = 'option host-name ~= \"[a{number}]\"'\n\
             options = {{ 24{number} = \"hex:00\" }}\n"
        )
    };
    let classes: String = (1..8).map(class).collect();
    let text = format!(
        "{classes}
[[dhcp.subnet]]
subnet = \"10.1.0.0/16\"
add-class = [\"c6\", \"c7\"]
pools = [
    {{ range = \"10.1.4.0-10.1.4.9\", class = \"c6\" }},
    {{ range = \"10.1.5.0-10.1.5.9\" }},
]
"
    );
    let named = |name: &str| Client::plain(mac(1)).with(options::HOST_NAME, name.as_bytes());
    let (all, four) = (named("a").discover(), named("1235").discover());
    assert_eq!(members(&Server::new(&text), &all), "c1 c2 c3 c4 c5 c6 c7");
    let mut server = Server::new(&format!("[dhcp]\ncompatibility = \"dhcpd\"\n{text}"));
    let mut told = |datagram: &Datagram| {
        let offer = server.expect(MessageType::Offer, datagram);
        assert_eq!(offer.yiaddr().octets()[..3], [10, 1, 5]);
        let codes = offer.origins.iter().map(|&(code, _)| code);
        let mut codes: Vec<u8> = codes.filter(|code| *code > 240).collect();
        codes.sort_unstable();
        (members(&server, datagram), codes)
    };
    assert_eq!(told(&all), ("c1 c2 c3 c4 c5".to_owned(), vec![241, 242, 243, 244, 245]));
    assert_eq!(told(&four), ("c1 c2 c3 c5".to_owned(), vec![241, 242, 243, 245, 246]));
    let mac = "52:54:00:00:00:01".to_owned();
    let asked = Asked { mac, options: vec!["host-name=a".to_owned()], ..Asked::default() };
    let classes = server.asked(&asked).unwrap().classes;
    let why: Vec<&str> = classes.iter().map(|class| &*class.why).collect();
    assert_eq!(why[4], "its test is true");
    assert!(why[5].starts_with("the client is a member of five classes"), "{}", why[5]);
}
