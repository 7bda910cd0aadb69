//! Which options a reply carries.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;

fn offer(server: &mut Server, client: &Client) -> Answer {
    server.expect(MessageType::Offer, &client.discover())
}

// RFC 2131 table 3 and section 4.4.5.
#[test]
fn a_lease_comes_with_its_times() {
    let mut server = Server::new(HALL);
    let client = Client::dhclient(mac(1));
    let offer = offer(&mut server, &client);
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    for reply in [offer, ack] {
        assert_eq!(reply.message().lease_time(), Some(3600));
        assert_eq!(reply.option(options::RENEWAL_TIME), Some(1800_u32.to_be_bytes().to_vec()));
        assert_eq!(reply.option(options::REBINDING_TIME), Some(3150_u32.to_be_bytes().to_vec()));
        assert_eq!(reply.codes()[..5], [53, 54, 51, 58, 59]);
    }
}

// RFC 2131 4.3.1: the server may grant the time that the client asks for, within local policy.
#[test]
fn a_wish_for_a_lease_time_is_met_within_the_bounds() {
    let mut server = Server::new(HALL);
    let wishes = [(60, 600), (600, 600), (7200, 7200), (86_400, 86_400), (u32::MAX, 86_400)];
    for (wish, granted) in wishes {
        let client = Client::dhclient(mac(1)).with(options::LEASE_TIME, &u32::to_be_bytes(wish));
        let offer = offer(&mut server, &client);
        let ack = server.expect(MessageType::Ack, &client.select(&offer));
        assert_eq!(offer.message().lease_time(), Some(granted));
        assert_eq!(ack.message().lease_time(), Some(granted));
    }
}

// RFC 2131 section 3.3.
#[test]
fn an_infinite_lease_has_no_renewal_times() {
    let mut server = Server::new(
        "[dhcp]\nlease-time = \"infinite\"\n[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\n\
         pools = [\"10.1.4.0-10.1.4.9\"]\n",
    );
    let client = Client::dhclient(mac(1));
    let address = server.lease(&client);
    let ack = server.expect(MessageType::Ack, &client.renew(address));
    assert_eq!(ack.message().lease_time(), Some(u32::MAX));
    assert_eq!(ack.option(options::RENEWAL_TIME), None);
    server.pass(std::time::Duration::from_secs(1 << 30));
    assert!(server.at(address).unwrap().is_active(server.now));
}

// RFC 2131 section 4.4.5: T1 is earlier than T2, and T2 than the end.
#[test]
fn renewal_times_of_the_configuration_stand_unless_they_come_too_late() {
    for (configured, times) in [
        ([900, 9000], [900, 3150]),
        ([900, 1000], [900, 1000]),
        ([3500, 3550], [3500, 3550]),
        ([3500, 3000], [1800, 3000]),
        ([3500, 1000], [1000, 1000]),
    ] {
        let mut server = Server::new(&HALL.replace(
            "domain-name-servers = [\"10.1.0.2\"]",
            &format!(
                "dhcp-renewal-time = {}, dhcp-rebinding-time = {}",
                configured[0], configured[1]
            ),
        ));
        let offer = offer(&mut server, &Client::dhclient(mac(1)));
        let sent = [options::RENEWAL_TIME, options::REBINDING_TIME]
            .map(|code| u32::from_be_bytes(offer.option(code).unwrap().try_into().unwrap()));
        assert_eq!(sent, times, "{configured:?}");
    }
}

// RFC 2132 section 9.8: in the order of the client; section 3.3: the mask before the routers.
#[test]
fn what_is_asked_for_comes_in_the_order_it_was_asked_for_and_nothing_else() {
    let mut server = Server::new(&HALL.replace(
        "routers = [\"10.1.0.1\"],",
        "routers = [\"10.1.0.1\"], domain-name = \"hall\", ntp-servers = [\"10.1.0.3\"],",
    ));
    let client = Client::plain(mac(1))
        .with(options::PARAMETER_REQUEST_LIST, &[15, 6, 3, 1, 42, 15, 51, 53, 82, 255, 0, 61, 99]);
    let codes = offer(&mut server, &client).codes();
    assert_eq!(codes, [53, 54, 51, 58, 59, 1, 15, 6, 3, 42]);
    let modest = client.with(options::PARAMETER_REQUEST_LIST, &[6]);
    assert_eq!(offer(&mut server, &modest).codes(), [53, 54, 51, 58, 59, 1, 6]);
    let silent = Client::plain(mac(1));
    let codes = offer(&mut server, &silent).codes();
    assert!([1, 3, 6, 15, 42].iter().all(|code| codes.contains(code)), "{codes:?}");
}

#[test]
fn always_send_adds_up_over_the_scopes() {
    let config = HALL
        .replace("[dhcp]", "[dhcp]\nalways-send = [\"domain-name-servers\"]")
        .replacen("pools", "always-send = [224]\npools", 1)
        .replace("domain-name-servers = [", "224 = \"hex:0a0b\", domain-name-servers = [");
    let mut server = Server::new(&config);
    let client = Client::plain(mac(1)).with(options::PARAMETER_REQUEST_LIST, &[1]);
    let offer = offer(&mut server, &client);
    assert_eq!(offer.option(224), Some(vec![10, 11]));
    assert_eq!(offer.option(options::DOMAIN_NAME_SERVERS), Some(vec![10, 1, 0, 2]));
    assert_eq!(offer.option(options::ROUTERS), None);
}

// RFC 6842 section 3.
#[test]
fn the_client_identifier_comes_back_in_every_reply() {
    let mut server = Server::new(HALL);
    let client = Client::installer(mac(1));
    let id = client.options.iter().find(|(code, _)| *code == 61).unwrap().1.clone();
    let offer = offer(&mut server, &client);
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    let nak = server.expect(MessageType::Nak, &client.reboot(ip("10.1.200.200")));
    for reply in [offer, ack, nak] {
        assert_eq!(reply.option(options::CLIENT_IDENTIFIER).as_ref(), Some(&id));
    }
    let without = server.expect(MessageType::Offer, &Client::dhclient(mac(2)).discover());
    assert_eq!(without.option(options::CLIENT_IDENTIFIER), None);
}

/// A hall whose subnet sends `count` domain name servers and more.
fn wordy_hall(count: usize) -> Server {
    let servers: Vec<_> = (0..count).map(|n| format!("\"10.9.{}.{}\"", n / 250, n % 250)).collect();
    Server::new(&HALL.replace("[\"10.1.0.2\"]", &format!("[{}]", servers.join(", "))))
}

// RFC 2132 sections 9.3 and 9.10; RFC 2131 section 4.1.
#[test]
fn a_reply_is_as_long_as_the_client_takes_and_overloads_sname_before_it_gives_up() {
    let mut server = wordy_hall(75);
    let client = Client::plain(mac(1)).with(options::PARAMETER_REQUEST_LIST, &[1, 3, 6]);
    let tight = offer(&mut server, &client);
    assert!(tight.payload.len() <= 548);
    assert_eq!(tight.option(options::DOMAIN_NAME_SERVERS).unwrap().len(), 300);
    assert_eq!(tight.option(options::OPTION_OVERLOAD), Some(vec![2]), "sname");
    assert_eq!(tight.file(), "pxelinux.0");

    let roomy = client.with(options::MAX_MESSAGE_SIZE, &1500_u16.to_be_bytes());
    let roomy = offer(&mut server, &roomy);
    assert_eq!(roomy.option(options::DOMAIN_NAME_SERVERS).unwrap().len(), 300);
    assert_eq!(roomy.option(options::OPTION_OVERLOAD), None);
}

#[test]
fn option_57_is_bounded_by_the_mtu_and_by_what_every_client_takes() {
    let mut server = wordy_hall(300);
    let asking = |size: u16| {
        Client::plain(mac(1))
            .with(options::PARAMETER_REQUEST_LIST, &[1, 3, 6])
            .with(options::MAX_MESSAGE_SIZE, &size.to_be_bytes())
    };
    let jumbo = offer(&mut server, &asking(u16::MAX));
    assert_eq!(jumbo.option(options::DOMAIN_NAME_SERVERS).unwrap().len(), 1200);
    assert!(jumbo.payload.len() <= 1500 - 28);
    server.mtu = 1200;
    assert!(offer(&mut server, &asking(u16::MAX)).payload.len() <= 1200 - 28);
    let absurd = offer(&mut server, &asking(20));
    assert_eq!(absurd.option(options::DOMAIN_NAME_SERVERS), None);
    assert_eq!(absurd.option(options::ROUTERS), Some(vec![10, 1, 0, 1]));
}

// RFC 3396: long options in both directions.
#[test]
fn long_options_are_split_and_joined() {
    let mut server = wordy_hall(100);
    let client = Client::plain(mac(1))
        .with(options::MAX_MESSAGE_SIZE, &1500_u16.to_be_bytes())
        .with(options::CLIENT_IDENTIFIER, &[7; 300]);
    let offer = offer(&mut server, &client);
    assert_eq!(offer.option(options::DOMAIN_NAME_SERVERS).unwrap().len(), 400);
    assert_eq!(offer.option(options::CLIENT_IDENTIFIER), Some(vec![7; 300]));
}

#[test]
fn narrower_scopes_win_option_by_option() {
    let mut server = Server::new(
        r#"
        [dhcp]
        options = { domain-name = "global", ntp-servers = ["10.0.0.1"], time-offset = 1 }
        [[dhcp.class]]
        name = "pi"
        mac-prefix = "b8:27:eb"
        options = { domain-name = "class" }
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        options = { domain-name = "subnet", time-offset = 2 }
        pools = [{ range = "10.1.4.0-10.1.4.9", options = { domain-name = "pool" } }]
        [[dhcp.host]]
        name = "a"
        hardware = "52:54:00:00:00:11"
        ip = "10.1.0.17"
        options = { ntp-servers = ["10.0.0.2"] }
        "#,
    );
    let value = |server: &mut Server, client: Client, code| {
        let list = [options::DOMAIN_NAME, options::NTP_SERVERS, options::TIME_OFFSET];
        offer(server, &client.with(options::PARAMETER_REQUEST_LIST, &list)).option(code).unwrap()
    };
    let name = options::DOMAIN_NAME;
    assert_eq!(value(&mut server, Client::plain(mac(1)), name), b"pool");
    assert_eq!(value(&mut server, Client::raspberry_pi(1), name), b"class");
    assert_eq!(value(&mut server, Client::plain(mac(0x11)), name), b"subnet");
    let ntp = options::NTP_SERVERS;
    assert_eq!(value(&mut server, Client::plain(mac(0x11)), ntp), [10, 0, 0, 2]);
    assert_eq!(value(&mut server, Client::plain(mac(1)), ntp), [10, 0, 0, 1]);
    assert_eq!(value(&mut server, Client::plain(mac(1)), options::TIME_OFFSET), [0, 0, 0, 2]);
}

// As ISC dhcpd: only for those that ask, and only where no level has a name.
#[test]
fn a_host_is_told_the_name_of_its_entry_where_that_is_wanted() {
    let config = |global: &str, subnet: &str, group: &str, host: &str| {
        format!(
            "[dhcp]\n{global}\n[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\n\
             pools = [\"10.1.4.0-10.1.4.9\"]\n{subnet}\n[[dhcp.group]]\nname = \"rack\"\n{group}\n\
             [[dhcp.host]]\nname = \"rack1-n01\"\nhardware = \"52:54:00:00:00:11\"\n\
             group = \"rack\"\n{host}\n"
        )
    };
    let (on, off) = ("use-host-decl-names = true", "use-host-decl-names = false");
    let named = |name: &'static str| Some(name.as_bytes().to_vec());
    let asks = Client::plain(mac(0x11)).with(options::PARAMETER_REQUEST_LIST, &[1, 12]);
    let without_list = Client::plain(mac(0x11));
    let other = "options = { host-name = \"other\" }";
    for (config, name) in [
        (config("", "", "", ""), None),
        (config(on, "", "", ""), named("rack1-n01")),
        (config("", on, "", ""), named("rack1-n01")),
        (config("", "", on, ""), named("rack1-n01")),
        (config("", "", "", on), named("rack1-n01")),
        (config(on, "", off, ""), None),
        (config(&format!("{on}\n{other}"), "", "", ""), named("other")),
        (config(on, "", "", other), named("other")),
    ] {
        let mut server = Server::new(&config);
        for client in [&asks, &without_list] {
            assert_eq!(offer(&mut server, client).option(options::HOST_NAME), name, "{config}");
        }
        let silent = asks.clone().with(options::PARAMETER_REQUEST_LIST, &[1]);
        assert_eq!(offer(&mut server, &silent).option(options::HOST_NAME), None);
        // A machine without an entry has no name.
        let unknown = offer(&mut server, &Client::plain(mac(1)).with(55, &[1, 12]));
        assert_ne!(unknown.option(options::HOST_NAME), named("rack1-n01"));
    }
    let always = config(&format!("{on}\nalways-send = [\"host-name\"]"), "", "", "");
    let silent = asks.with(options::PARAMETER_REQUEST_LIST, &[1]);
    let offer = offer(&mut Server::new(&always), &silent);
    assert_eq!(offer.option(options::HOST_NAME), named("rack1-n01"));
}

// Vendors read what they like in option 43 (RFC 2132 section 8.4): a text, or a sub-option 0.
#[test]
fn option_43_is_sent_as_it_is_configured() {
    for (value, sent) in [
        (
            "vendor-encapsulated-options = \"5A1N;B2;K4;I10.1.0.6;J80\"",
            &b"5A1N;B2;K4;I10.1.0.6;J80"[..],
        ),
        ("43 = \"hex:0001aa\"", &[0, 1, 0xaa]),
        ("ACME = { 0 = \"hex:aa\", 2 = \"b\" }", &[0, 1, 0xaa, 2, 1, b'b']),
    ] {
        let mut server = Server::new(&format!(
            "[dhcp]\noptions = {{ {value} }}\n[[dhcp.option-definition]]\ncode = 9\n\
             name = \"x\"\ntype = \"text\"\nspace = \"ACME\"\n[[dhcp.subnet]]\n\
             subnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\"]\n"
        ));
        let client = Client::dhclient(mac(1)).with(options::PARAMETER_REQUEST_LIST, &[1, 43]);
        let offer = offer(&mut server, &client);
        assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS).as_deref(), Some(sent));
    }
}
