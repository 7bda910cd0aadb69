//! `compatibility = "dhcpd"`: what ISC dhcpd does otherwise.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::{Delivery, Silence};

/// The hall by dhcpd's rules, with its names of what the hall sets otherwise.
fn hall(settings: &str) -> Server {
    Server::new(&text(settings))
}

fn text(settings: &str) -> String {
    let more = format!(
        "[dhcp]\ncompatibility = \"dhcpd\"\nidentity = \"client-id-or-hardware\"\n{settings}"
    );
    HALL.replace("[dhcp]", &more)
}

fn codes(answer: &Answer) -> Vec<u8> {
    let mut codes: Vec<u8> = answer.origins.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    codes
}

#[test]
fn a_reply_has_what_the_configuration_says_and_nothing_else() {
    let mut server = hall("echo-client-id = false");
    let rom = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &rom.discover());
    assert_eq!(codes(&offer), [1, 3, 6, 51, 53, 54]);
    assert_eq!(offer.message().siaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(offer.message().file().starts_with(b"ipxe.efi\0"));
    // A client that asks for nothing gets everything.
    let plain = server.expect(MessageType::Offer, &Client::plain(mac(2)).discover());
    assert_eq!(codes(&plain), [1, 3, 6, 51, 53, 54]);
    let inform = server.expect(
        MessageType::Ack,
        &Client::plain(mac(3)).with(55, &[options::ROUTERS]).inform(ip("10.1.0.99")),
    );
    assert_eq!(codes(&inform), [3, 53, 54]);
}

#[test]
fn renewal_and_rebinding_time_are_sent_as_they_are_configured_and_fit() {
    let times = |renewal: u32, rebinding: u32| {
        let options = format!(
            "options = {{ dhcp-renewal-time = {renewal}, dhcp-rebinding-time = {rebinding} }}"
        );
        let mut server = hall(&options);
        let offer = server.expect(MessageType::Offer, &Client::dhclient(mac(1)).discover());
        let message = offer.message();
        let seconds = |code| message.option(code).and_then(|value| value.u32());
        (seconds(options::RENEWAL_TIME), seconds(options::REBINDING_TIME))
    };
    assert_eq!(times(100, 200), (Some(100), Some(200)));
    assert_eq!(times(300, 200), (None, Some(200)));
    assert_eq!(times(100, 3600), (Some(100), None));
    assert_eq!(times(3600, 3600), (None, None));
}

#[test]
fn lease_times_have_dhcpds_defaults_and_limits() {
    let lease = |settings: &str, wish: Option<u32>| {
        let base = text(settings);
        let base = base
            .replace("lease-time = \"1h\"\nmin-lease-time = \"10m\"\nmax-lease-time = \"1d\"", "");
        let mut server = Server::new(&base);
        let client = Client::dhclient(mac(1));
        let client = match wish {
            Some(wish) => client.with(options::LEASE_TIME, &wish.to_be_bytes()),
            None => client,
        };
        server.expect(MessageType::Offer, &client.discover()).message().lease_time().unwrap()
    };
    assert_eq!(lease("", None), 43_200);
    assert_eq!(lease("", Some(1)), 300);
    assert_eq!(lease("", Some(u32::MAX)), 86_400);
    assert_eq!(lease("max-lease-time = 60", None), 60);
    assert_eq!(lease("max-lease-time = 60", Some(1)), 60);
    assert_eq!(lease("max-lease-time = \"infinite\"", Some(u32::MAX)), u32::MAX);
}

#[test]
fn a_request_for_a_free_address_is_granted_and_for_a_taken_one_refused() {
    let mut server = Server::new(&modest(&text("")));
    let client = Client::dhclient(mac(1));
    server.expect(MessageType::Ack, &client.reboot(ip("10.1.4.3")));
    let other = Client::dhclient(mac(2));
    server.expect(MessageType::Nak, &other.reboot(ip("10.1.4.3")));
    // No pool has it: it may be another server's.
    assert_eq!(server.silence(&other.reboot(ip("10.1.9.9"))), Silence::NotAuthoritative);
    // On another network only who is authoritative knows better.
    assert_eq!(server.silence(&other.reboot(ip("10.2.0.10"))), Silence::NotAuthoritative);
    hall("").expect(MessageType::Nak, &other.reboot(ip("10.2.0.10")));
    // Another address is reserved for it.
    let reserved = Client::dhclient(mac(0x11));
    server.expect(MessageType::Nak, &reserved.reboot(ip("10.1.4.4")));
    assert_eq!(server.lease(&reserved), ip("10.1.0.17"));
    // Only an authority answers INFORM.
    assert_eq!(server.silence(&client.inform(ip("10.1.0.99"))), Silence::NotAuthoritative);
}

#[test]
fn a_client_keeps_its_address_when_it_begins_to_send_a_client_identifier() {
    let mut server = hall("");
    let (rom, system) = (Client::dhclient(mac(1)), Client::installer(mac(1)));
    let leased = server.lease(&rom);
    assert_eq!(server.lease(&system), leased);
    server.expect(MessageType::Ack, &system.renew(leased));
    // By now the address is that of the client identifier.
    let other = Client::udhcpc(mac(1));
    assert_ne!(server.lease(&other), leased);
    assert_ne!(server.lease(&rom), leased);
    assert_eq!(server.lease(&system), leased);
    server.restart();
    assert_eq!(server.lease(&system), leased);
    // By hardware address alone the three are one.
    let mut server = hall("ignore-client-uids = true");
    let leased = server.lease(&other);
    assert_eq!(server.lease(&system), leased);
    assert_eq!(server.lease(&rom), leased);
}

#[test]
fn an_entry_by_client_identifier_goes_before_one_by_hardware_address() {
    let hosts = r#"
[[dhcp.host]]
name = "by-id"
client-id = "hex:01:52:54:00:00:00:01"
ip = "10.1.0.21"
[[dhcp.host]]
name = "by-card"
hardware = "52:54:00:00:00:01"
ip = "10.1.0.22"
[[dhcp.host]]
name = "options"
hardware = "52:54:00:00:00:02"
options = { host-name = "named" }
[[dhcp.host]]
name = "elsewhere"
client-id = "hex:01:52:54:00:00:00:02"
ip = "10.2.0.200"
"#;
    let mut server = Server::new(&(text("") + hosts));
    assert_eq!(server.lease(&Client::udhcpc(mac(1))), ip("10.1.0.21"));
    server.receive(&Client::udhcpc(mac(1)).release(ip("10.1.0.21")));
    assert_eq!(server.lease(&Client::dhclient(mac(1))), ip("10.1.0.22"));
    // The entry that was found first decides about the address, not about the options.
    let offer = server.expect(MessageType::Offer, &Client::udhcpc(mac(2)).discover());
    assert_eq!(offer.yiaddr().octets()[..3], [10, 1, 4]);
    let name = offer.message().option(options::HOST_NAME).unwrap().as_slice().unwrap().to_vec();
    assert_eq!(name, b"named");
}

#[test]
fn what_a_pool_permits_holds_for_renewals_and_bootp_has_no_classes() {
    let class = "\n[[dhcp.class]]\nname = \"pxe\"\nvendor-class = \"PXEClient\"\n";
    let base = with_pool(&text(""), "allow = [\"class:pxe\"]") + class;
    let mut server = Server::new(&base);
    let leased = server.lease(&Client::bios(mac(1)));
    server.expect(MessageType::Nak, &Client::dhclient(mac(1)).renew(leased));
    let silence = server.silence(&Client::bios(mac(2)).bootp());
    assert_eq!(silence, Silence::BootpWithoutHost);
}

#[test]
fn an_inform_is_answered_whoever_sends_it() {
    let mut server = hall("boot-unknown-clients = false");
    let inform = Client::dhclient(mac(1)).inform(ip("10.1.0.77"));
    server.expect(MessageType::Ack, &inform);
}

#[test]
fn replies_go_where_dhcpd_sends_them() {
    let mut server = hall("");
    let client = Client::dhclient(mac(1)).broadcasting();
    let leased = server.lease(&client);
    // Who has an address and asks for a broadcast all the same gets one.
    let ack = server.expect(MessageType::Ack, &client.renew(leased));
    assert_eq!(ack.delivery, Delivery::Broadcast);
    let quiet = Client::dhclient(mac(2));
    let leased = server.lease(&quiet);
    let ack = server.expect(MessageType::Ack, &quiet.renew(leased));
    assert!(matches!(ack.delivery, Delivery::Unicast(to) if *to.ip() == leased));
    // A NAK is broadcast, wherever the client may be.
    let nak = server.expect(MessageType::Nak, &client.renew(leased));
    assert_eq!(nak.delivery, Delivery::Broadcast);
}

#[test]
fn a_bootp_client_is_told_of_the_server_that_has_its_address() {
    let mut server = hall("");
    let reply = server.reply(&Client::plain(mac(0x11)).bootp());
    assert_eq!(reply.message().siaddr(), ip("10.1.0.6"));
    let reply = server.reply(&Client::plain(mac(1)).bootp());
    assert_eq!(reply.message().siaddr(), Ipv4Addr::UNSPECIFIED);
}

#[test]
fn an_inform_is_answered_by_the_entry_with_its_address_or_by_one_without() {
    let hosts = r#"
[[dhcp.host]]
name = "here"
hardware = "52:54:00:00:00:01"
ip = "10.1.0.21"
options = { host-name = "here" }
[[dhcp.host]]
name = "anywhere"
hardware = "52:54:00:00:00:01"
options = { host-name = "anywhere" }
[[dhcp.host]]
name = "elsewhere"
hardware = "52:54:00:00:00:02"
ip = "10.1.0.22"
options = { host-name = "elsewhere" }
"#;
    let mut server = Server::new(&(text("") + hosts));
    let mut name = |number, address| {
        let inform = Client::dhclient(mac(number)).inform(ip(address));
        server.expect(MessageType::Ack, &inform).option(options::HOST_NAME)
    };
    assert_eq!(name(1, "10.1.0.21").unwrap(), b"here");
    assert_eq!(name(1, "10.1.0.77").unwrap(), b"anywhere");
    assert_eq!(name(2, "10.1.0.77"), None);
}

#[test]
fn unknown_clients_get_naks_and_who_is_known_elsewhere_is_unknown_here() {
    let host = r#"
[[dhcp.host]]
name = "elsewhere"
hardware = "52:54:00:00:00:01"
ip = "10.2.0.200"
"#;
    let mut server = Server::new(&(text("boot-unknown-clients = false") + host));
    for client in [Client::dhclient(mac(1)), Client::dhclient(mac(2))] {
        assert_eq!(server.silence(&client.discover()), Silence::UnknownClient);
        server.expect(MessageType::Nak, &client.reboot(ip("10.9.0.1")));
        assert_eq!(server.silence(&client.reboot(ip("10.1.4.3"))), Silence::UnknownClient);
    }
}

/// In dhcpd what says that an option is not sent says what it is.
#[test]
fn an_option_that_is_null_is_not_sent_for_another_reason() {
    let null = "{ expression = 'option nis-domain' }";
    let names = "[[dhcp.host]]\nname = \"n2\"\nhardware = \"52:54:00:00:00:02\"\n";
    let flags = "use-host-decl-names = true\nuse-lease-addr-for-default-route = true";
    let sent = |options: &str| {
        let text = format!("[dhcp]\ncompatibility = \"dhcpd\"\n{flags}\noptions = {{ {options} }}");
        let mut server = Server::new(&format!(
            "{text}\n[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.99\"]\n{names}"
        ));
        let client = Client::plain(mac(2)).with(options::PARAMETER_REQUEST_LIST, &[3, 12]);
        codes(&server.expect(MessageType::Offer, &client.discover()))
    };
    assert_eq!(sent(""), [1, 3, 12, 51, 53, 54]);
    for (code, name) in [(1, "subnet-mask"), (3, "routers"), (12, "host-name")] {
        let left = sent(&format!("{name} = {null}"));
        assert!(!left.contains(&code), "{name}: {left:?}");
    }
    let all = sent(&format!("dhcp-parameter-request-list = {null}, domain-name = \"d\""));
    assert!(all.contains(&15), "{all:?}");
}

/// dhcpd puts the name of the host, the mask and the router among the options before it works out
/// their values, and after it has worked out all else.
#[test]
fn values_of_options_see_what_is_sent_though_no_level_sets_it() {
    let flags = "use-host-decl-names = true\nuse-lease-addr-for-default-route = true";
    let sees = |name: &str| format!("{{ expression = 'config-option {name}' }}");
    let of = [sees("host-name"), sees("subnet-mask"), sees("routers")];
    let subnet = format!(
        "[[dhcp.subnet]]
subnet = \"10.1.0.0/16\"
pools = [\"10.1.4.0-10.1.4.99\"]
filename = {{ expression = 'pick-first-value(config-option host-name, \"none\")' }}
options = {{ root-path = {}, swap-server = {}, resource-location-servers = {} }}
",
        of[0], of[1], of[2]
    );
    let host = "[[dhcp.host]]\nname = \"n2\"\nhardware = \"52:54:00:00:00:02\"\n";
    let told = |flags: &str, number: u8| {
        let text = format!("[dhcp]\ncompatibility = \"dhcpd\"\n{flags}\n{subnet}{host}");
        let mut server = Server::new(&text);
        let client =
            Client::plain(mac(number)).with(options::PARAMETER_REQUEST_LIST, &[11, 12, 16, 17]);
        let offer = server.expect(MessageType::Offer, &client.discover());
        assert!(offer.message().file().starts_with(b"none\0"));
        let address = offer.yiaddr().octets().to_vec();
        ([17, 16, 11].map(|code| offer.option(code)), address)
    };
    let mask = Some(vec![255, 255, 0, 0]);
    let (seen, address) = told(flags, 2);
    assert_eq!(seen, [Some(b"n2".to_vec()), mask.clone(), Some(address)]);
    assert_eq!(told("", 2).0, [None, mask.clone(), None]);
    assert_eq!(told(flags, 1).0[0], None);
}

#[test]
fn a_nak_goes_by_the_subnet_and_the_pool_that_stand_first() {
    let identifier = |network: &str| {
        let text = format!("[dhcp]\ncompatibility = \"dhcpd\"\nauthoritative = true\n{network}");
        let mut server = Server::new(&text);
        let nak = server.expect(MessageType::Nak, &Client::dhclient(mac(1)).reboot(ip("10.9.0.1")));
        nak.message().server_identifier().unwrap()
    };
    let subnet = |net: u8, more: &str| {
        format!("[[dhcp.subnet]]\nsubnet = \"10.{net}.0.0/16\"\nshared-network = \"n\"\n{more}\n")
    };
    let says = |number: u8| format!("server-identifier = \"192.0.2.{number}\"");
    let pool = |range: &str, number: u8| {
        format!("[[dhcp.subnet.pools]]\nrange = \"{range}\"\n{}\n", says(number))
    };
    let pools = pool("10.1.4.50-10.1.4.99", 1) + &pool("10.1.4.0-10.1.4.9", 2);
    assert_eq!(identifier(&subnet(1, &pools)), ip("192.0.2.1"));
    let subnets = subnet(1, &says(1)) + &subnet(0, &says(2));
    assert_eq!(identifier(&subnets), ip("192.0.2.1"));
    let both = subnet(1, &says(1)) + &subnet(0, &pool("10.0.4.0-10.0.4.9", 2));
    assert_eq!(identifier(&both), ip("192.0.2.2"));
}

#[test]
fn the_renewal_of_a_reserved_address_comes_from_no_port() {
    let more = "
[[dhcp.host]]
name = \"reserved\"
hardware = \"52:54:00:00:00:02\"
ip = \"10.2.0.200\"
[[dhcp.class]]
name = \"portless\"
test = 'not exists agent.circuit-id'
options = { host-name = \"portless\" }
";
    let mut server = Server::new(&(text("") + more));
    for (number, portless) in [(1, false), (2, true)] {
        let information = [1, 4, b'p', b'o', b'r', b't'];
        let client = Client::dhclient(mac(number)).behind(ip("10.2.0.1"), &information);
        let offer = server.expect(MessageType::Offer, &client.discover());
        let ack = server.expect(MessageType::Ack, &client.select(&offer));
        assert_eq!(ack.option(options::HOST_NAME), None);
        let renewal = Client::dhclient(mac(number)).renew(ack.yiaddr());
        let ack = server.expect(MessageType::Ack, &renewal);
        assert_eq!(ack.option(options::HOST_NAME).is_some(), portless, "{}", ack.yiaddr());
    }
}
