//! What each stage of a boot is told to load.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::config::ScopeId;
use crate::dhcp::Origin;

fn offer(server: &mut Server, client: &Client) -> Answer {
    server.expect(MessageType::Offer, &client.discover())
}

/// A ROM that asks for no boot options.
fn modest_rom() -> Client {
    Client::bios(mac(1)).with(options::PARAMETER_REQUEST_LIST, &[1, 3, 43, 54, 60])
}

#[test]
fn firmware_gets_its_file_in_the_field_and_as_an_option_where_it_asks_for_that() {
    let mut server = Server::new(HALL);
    for (client, file) in [
        (Client::bios(mac(1)), "pxelinux.0"),
        (Client::edk2(mac(2)), "ipxe.efi"),
        (Client::ipxe(mac(3)), "boot.ipxe"),
    ] {
        let offer = offer(&mut server, &client);
        let ack = server.expect(MessageType::Ack, &client.select(&offer));
        for reply in [offer, ack] {
            assert_eq!(reply.file(), file);
            // Old ROMs read it as a C string; option 66 would follow.
            let option = reply.option(options::BOOTFILE_NAME).unwrap();
            assert_eq!(option, [file.as_bytes(), b"\0"].concat());
            // siaddr as well as option 66: firmware that knows only one of them knows siaddr.
            assert_eq!(reply.message().siaddr(), ip("10.1.0.6"));
            assert_eq!(reply.option(options::TFTP_SERVER_NAME).as_deref(), Some(&b"10.1.0.6"[..]));
        }
    }
    let offer = offer(&mut server, &modest_rom());
    assert_eq!(offer.file(), "pxelinux.0");
    assert_eq!(offer.message().siaddr(), ip("10.1.0.6"));
    assert_eq!(offer.option(options::BOOTFILE_NAME), None);
    assert_eq!(offer.option(options::TFTP_SERVER_NAME), None);
}

#[test]
fn a_configured_option_67_is_sent_unasked_and_with_its_nul() {
    let without = "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\"]\n\
                   options = { bootfile-name = \"by-option\", tftp-server-name = \"tftp\" }\n";
    let with_rule = format!("{without}boot = [{{ file = \"pxelinux.0\" }}]\n");
    for (config, name) in [(&*with_rule, "pxelinux.0"), (without, "by-option")] {
        let mut server = Server::new(config);
        let offered = offer(&mut server, &modest_rom());
        let option = offered.option(options::BOOTFILE_NAME).unwrap();
        assert_eq!(option, [name.as_bytes(), b"\0"].concat());
        assert_eq!(offered.option(options::TFTP_SERVER_NAME), None);
        // What is no firmware gets it where it asks, as it is configured.
        let system = Client::dhclient(mac(2)).with(options::PARAMETER_REQUEST_LIST, &[1, 66, 67]);
        let offered = offer(&mut server, &system);
        assert_eq!(offered.option(options::BOOTFILE_NAME).as_deref(), Some(name.as_bytes()));
        assert_eq!(offered.option(options::TFTP_SERVER_NAME).as_deref(), Some(&b"tftp"[..]));
    }
}

#[test]
fn always_send_has_a_rom_told_in_options_67_and_66_what_it_does_not_ask_for() {
    let always = "[dhcp]\nalways-send = [\"bootfile-name\", \"tftp-server-name\"]";
    let mut server = Server::new(&HALL.replacen("[dhcp]", always, 1));
    let offer = offer(&mut server, &modest_rom());
    assert_eq!(offer.option(options::BOOTFILE_NAME).as_deref(), Some(&b"pxelinux.0\0"[..]));
    assert_eq!(offer.option(options::TFTP_SERVER_NAME).as_deref(), Some(&b"10.1.0.6"[..]));
}

#[test]
fn architectures_7_and_9_are_both_x86_64() {
    let mut server = Server::new(HALL);
    for code in [7, 9] {
        let client = Client::edk2(mac(1)).with(options::PXE_SYSTEM_TYPE, &[0, code]);
        assert_eq!(offer(&mut server, &client).file(), "ipxe.efi", "code {code}");
    }
    let by_class = Client::edk2(mac(1)).without(options::PXE_SYSTEM_TYPE);
    assert_eq!(offer(&mut server, &by_class).file(), "ipxe.efi");
    let several = Client::edk2(mac(1)).with(options::PXE_SYSTEM_TYPE, &[0, 6, 0, 7]);
    assert_eq!(offer(&mut server, &several).file(), "ipxe.efi");
}

#[test]
fn a_raspberry_pi_says_it_is_a_bios_and_is_told_by_its_hardware_address() {
    let rule = "boot = [\n    { mac-prefix = \"b8:27:eb\", file = \"bootcode.bin\" },";
    let mut server = Server::new(&HALL.replacen("boot = [", rule, 1));
    assert_eq!(offer(&mut server, &Client::raspberry_pi(1)).file(), "bootcode.bin");
    assert_eq!(offer(&mut server, &Client::bios(mac(1))).file(), "pxelinux.0");
}

// PXE 2.1 sections 2.2.4 and 2.4.4: with option 60 and without bit 3 of the discovery control
// EDK2 asks the next server at port 4011 and hangs.
#[test]
fn pxe_firmware_is_told_to_load_the_file_at_once() {
    let mut server = Server::new(HALL);
    for client in [Client::edk2(mac(1)), Client::bios(mac(2))] {
        let offer = offer(&mut server, &client);
        assert_eq!(
            offer.option(options::VENDOR_CLASS_IDENTIFIER).as_deref(),
            Some(&b"PXEClient"[..])
        );
        assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS), Some(vec![6, 1, 8, 255]));
        // RFC 4578 section 2.3: the UUID stands in the server's packets, too.
        assert_eq!(
            offer.option(options::PXE_CLIENT_ID),
            client.options.iter().find(|(code, _)| *code == 97).map(|(_, id)| id.clone())
        );
    }
}

#[test]
fn options_60_and_43_stay_away_from_those_they_are_not_for() {
    let mut server = Server::new(HALL);
    for client in [Client::ipxe(mac(1)), Client::dhclient(mac(2)), Client::windows(mac(3))] {
        let offer = offer(&mut server, &client);
        assert_eq!(offer.option(options::VENDOR_CLASS_IDENTIFIER), None);
        assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS), None);
    }
}

#[test]
fn firmware_with_nothing_to_boot_is_not_sent_to_look_for_boot_servers() {
    let mut server = Server::new(HALL);
    let client = Client::edk2(mac(1)).behind(ip("10.3.0.1"), b"");
    let offer = offer(&mut server, &client);
    assert_eq!(offer.option(options::VENDOR_CLASS_IDENTIFIER), None);
    assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS), None);
    assert_eq!(offer.file(), "");
    assert_eq!(offer.boot_reason(), "no boot rule matches");
    assert!(offer.message().siaddr().is_unspecified());
}

// Option 60 without option 43 sends firmware to port 4011, where nobody answers.
#[test]
fn firmware_is_never_told_of_boot_servers_that_do_not_exist() {
    let mut server = Server::new(
        "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\"]\n\
         options = { vendor-class-identifier = \"PXEClient\", bootfile-name = \"a\" }\n",
    );
    for client in [Client::edk2(mac(1)), Client::bios(mac(2)), modest_rom()] {
        let offer = offer(&mut server, &client);
        assert!(offer.option(options::VENDOR_CLASS_IDENTIFIER).is_some());
        assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS), Some(vec![6, 1, 8, 255]));
    }
}

// iPXE waits three seconds for a ProxyDHCP unless sub-option 176 of option 175 is 1.
#[test]
fn ipxe_is_told_that_there_is_no_proxy_and_no_other_client_is() {
    let mut server = Server::new(HALL);
    let client = Client::ipxe(mac(1));
    let offered = offer(&mut server, &client);
    let ack = server.expect(MessageType::Ack, &client.select(&offered));
    for reply in [offered, ack] {
        assert_eq!(reply.option(options::IPXE), Some(vec![176, 1, 1]));
    }
    // Where no rule names a file as well.
    let elsewhere = client.behind(ip("10.3.0.1"), b"");
    assert_eq!(offer(&mut server, &elsewhere).option(options::IPXE), Some(vec![176, 1, 1]));
    for client in [Client::edk2(mac(2)), Client::bios(mac(3)), Client::installer(mac(4))] {
        assert_eq!(offer(&mut server, &client).option(options::IPXE), None);
    }
}

#[test]
fn option_175_of_the_configuration_is_kept_and_may_say_that_there_is_a_proxy() {
    for (configured, sent) in [
        ("keep-san = 1", vec![(176, vec![1]), (8, vec![1])]),
        ("no-pxedhcp = 0, keep-san = 1", vec![(8, vec![1]), (176, vec![0])]),
    ] {
        let options = format!("options = {{ ipxe = {{ {configured} }},");
        let mut server = Server::new(&HALL.replacen("options = {", &options, 1));
        let offer = offer(&mut server, &Client::ipxe(mac(1)).with(55, &[1, 175]));
        let message = offer.message();
        let list = message.option(options::IPXE).unwrap().encapsulated();
        let list: Vec<(u8, Vec<u8>)> =
            list.map(|option| (option.code, option.data.bytes().collect())).collect();
        assert_eq!(list, sent);
    }
}

#[test]
fn option_43_of_the_configuration_replaces_our_own() {
    let mut server = Server::new(
        r#"
        [dhcp.option-space.PXE]
        discovery-control = 8
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.4.9"]
        boot = [{ file = "pxelinux.0" }]
        options = { 43 = "hex:060108090c000011526173706265727279ff" }
        "#,
    );
    let offer = offer(&mut server, &Client::raspberry_pi(1));
    let value = offer.option(options::VENDOR_ENCAPSULATED_OPTIONS).unwrap();
    assert_eq!(value[..5], [6, 1, 8, 9, 12]);
}

#[test]
fn a_boot_menu_for_the_firmware_does_not_reach_ipxe() {
    let mut server = Server::new(&HALL.replacen(
        "options = {",
        "options = { vendor-class-identifier = \"PXEClient\", 43 = \"hex:0901000aff\",",
        1,
    ));
    let firmware = offer(&mut server, &Client::edk2(mac(1)));
    assert!(firmware.option(options::VENDOR_CLASS_IDENTIFIER).is_some());
    let ipxe = offer(&mut server, &Client::ipxe(mac(1)));
    assert_eq!(ipxe.option(options::VENDOR_CLASS_IDENTIFIER), None);
    assert_eq!(ipxe.file(), "boot.ipxe");
}

// UEFI 2.10 section 24.7.
#[test]
fn http_boot_gets_a_url_and_its_vendor_class_back() {
    let mut server = Server::new(HALL);
    let offer = offer(&mut server, &Client::http_boot(mac(1)));
    let url = "http://10.1.0.6/ipxe.efi";
    assert_eq!(offer.option(options::BOOTFILE_NAME).unwrap(), [url.as_bytes(), b"\0"].concat());
    assert_eq!(offer.file(), url);
    assert_eq!(offer.option(options::VENDOR_CLASS_IDENTIFIER).as_deref(), Some(&b"HTTPClient"[..]));
    assert_eq!(offer.option(options::VENDOR_ENCAPSULATED_OPTIONS), None);
}

#[test]
fn a_reservation_decides_about_http_boot_before_a_class_does() {
    let mut server = Server::new(
        r#"
        [[dhcp.class]]
        name = "http"
        vendor-class = "HTTPClient"
        boot = [{ url = "http://10.1.0.6/class.efi" }]
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.4.9"]
        [[dhcp.host]]
        name = "a"
        hardware = "52:54:00:00:00:11"
        boot = [{ url = "https://10.1.0.6/host.efi" }]
        "#,
    );
    let known = offer(&mut server, &Client::http_boot(mac(0x11)));
    assert_eq!(known.file(), "https://10.1.0.6/host.efi");
    let other = offer(&mut server, &Client::http_boot(mac(1)));
    assert_eq!(other.file(), "http://10.1.0.6/class.efi");
}

#[test]
fn a_rule_that_the_stage_cannot_use_is_passed_over() {
    let mut server = Server::new(
        r#"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.4.9"]
        boot = [{ url = "http://10.1.0.6/loader.efi" }, { file = "loader.efi" }]
        "#,
    );
    assert_eq!(offer(&mut server, &Client::http_boot(mac(1))).file(), "http://10.1.0.6/loader.efi");
    assert_eq!(offer(&mut server, &Client::edk2(mac(2))).file(), "loader.efi");
    assert_eq!(offer(&mut server, &Client::ipxe(mac(3))).file(), "http://10.1.0.6/loader.efi");
}

// The loader that the firmware gets by architecture asks again with the same architecture.
#[test]
fn ipxe_is_never_handed_the_ipxe_that_its_firmware_stage_got() {
    for rules in [
        r#"{ arch = "x86-64-efi", file = "ipxe.efi" }, { file = "pxelinux.0" }"#,
        r#"{ vendor-class = "PXEClient", file = "snponly.efi" }, { file = "pxelinux.0" }"#,
        r#"{ file = "boot/undionly.kpxe" }"#,
    ] {
        let mut server = Server::new(&format!(
            "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\"]\n\
             boot = [{rules}]\n"
        ));
        let firmware = offer(&mut server, &Client::edk2(mac(1))).file();
        let ipxe = offer(&mut server, &Client::ipxe(mac(1)));
        assert!(ipxe.boot_reason().contains("iPXE would load itself"), "{rules}");
        assert!(ipxe.file().is_empty() || ipxe.file() == "pxelinux.0", "{rules}: {}", ipxe.file());
        assert_ne!(ipxe.file(), firmware);
    }
    let rule = "boot = [{ url = \"http://10.1.0.6/ipxe-x86_64.efi\" },";
    let mut server = Server::new(&HALL.replacen("boot = [", rule, 1));
    let firmware = offer(&mut server, &Client::http_boot(mac(1)));
    assert_eq!(firmware.file(), "http://10.1.0.6/ipxe-x86_64.efi");
    assert_eq!(offer(&mut server, &Client::ipxe(mac(1))).file(), "boot.ipxe");
}

#[test]
fn a_network_rom_that_is_ipxe_boots_what_every_bios_boots() {
    let mut server = Server::new(
        "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\npools = [\"10.1.4.0-10.1.4.9\"]\n\
         boot = [{ file = \"pxelinux.0\" }]\n",
    );
    let rom = Client::ipxe(mac(1)).with(options::PXE_SYSTEM_TYPE, &[0, 0]);
    let offer = offer(&mut server, &rom);
    assert_eq!(offer.file(), "pxelinux.0");
    assert_eq!(offer.boot_reason(), "");
}

#[test]
fn user_class_matches_raw_and_counted() {
    let mut server = Server::new(HALL);
    let counted = Client::ipxe(mac(1)).with(options::USER_CLASS, b"\x03foo\x04iPXE");
    assert_eq!(offer(&mut server, &counted).file(), "boot.ipxe");
}

#[test]
fn the_narrowest_scope_with_a_matching_rule_decides() {
    let config = r#"
        [dhcp]
        boot = [{ arch = "arm64-efi", file = "global-arm" }, { file = "global" }]
        [[dhcp.class]]
        name = "pi"
        mac-prefix = "b8:27:eb"
        boot = [{ file = "class" }]
        [[dhcp.group]]
        name = "rack"
        boot = [{ arch = "x86-64-efi", file = "group" }]
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        boot = [{ arch = "x86-64-efi", file = "subnet" }]
        pools = [
            { range = "10.1.4.0-10.1.4.9", boot = [
                { uuid = "564d3210-aabb-ccdd-0102-030405060708", arch = "x86-64-efi", file = "pool" },
            ] },
        ]
        [[dhcp.host]]
        name = "a"
        hardware = "52:54:00:00:00:11"
        group = "rack"
        [[dhcp.host]]
        name = "b"
        hardware = "52:54:00:00:00:12"
        group = "rack"
        boot = [{ file = "none" }]
    "#;
    let mut server = Server::new(config);
    let bios = Client::bios(mac(1));
    assert_eq!(offer(&mut server, &bios).file(), "global");
    let without_uuid = Client::edk2(mac(2)).without(options::PXE_CLIENT_ID);
    assert_eq!(offer(&mut server, &without_uuid).file(), "subnet");
    assert_eq!(offer(&mut server, &Client::edk2(mac(3))).file(), "pool");
    assert_eq!(offer(&mut server, &Client::raspberry_pi(1)).file(), "class");
    assert_eq!(offer(&mut server, &Client::edk2(mac(0x11))).file(), "group");
    assert_eq!(offer(&mut server, &Client::bios(mac(0x11))).file(), "global");
    let none = offer(&mut server, &Client::edk2(mac(0x12)));
    assert_eq!(none.file(), "");
    assert_eq!(none.option(options::BOOTFILE_NAME), None);
    assert_eq!(none.boot_reason(), "the boot rule says none");
    assert!(none.message().siaddr().is_unspecified());
}

#[test]
fn rules_go_by_port_and_switch() {
    let rules = "boot = [\n    { circuit-id = \"port7\", file = \"port\" },\n    \
                 { remote-id = \"switch1\", file = \"switch\" },";
    let mut server = Server::new(&HALL.replacen("boot = [", rules, 1));
    let relay = ip("10.1.0.1");
    let port = Client::bios(mac(1)).behind(relay, b"\x01\x05port7");
    assert_eq!(offer(&mut server, &port).file(), "port");
    let switch = Client::bios(mac(2)).behind(relay, b"\x01\x05port8\x02\x07switch1");
    assert_eq!(offer(&mut server, &switch).file(), "switch");
    assert_eq!(offer(&mut server, &Client::bios(mac(3))).file(), "pxelinux.0");
}

#[test]
fn the_next_server_is_the_rules_then_the_scopes_then_this_one() {
    let mut server = Server::new(
        r#"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        next-server = "10.1.0.7"
        pools = ["10.1.4.0-10.1.4.9"]
        boot = [{ arch = "x86-64-efi", file = "a", next-server = "10.1.0.8" }, { file = "b" }]
        "#,
    );
    let by_rule = offer(&mut server, &Client::edk2(mac(1)));
    assert_eq!(by_rule.message().siaddr(), ip("10.1.0.8"));
    assert_eq!(by_rule.option(options::TFTP_SERVER_NAME).as_deref(), Some(&b"10.1.0.8"[..]));
    let by_scope = offer(&mut server, &Client::bios(mac(2)));
    assert_eq!(by_scope.message().siaddr(), ip("10.1.0.7"));
}

#[test]
fn a_long_file_name_goes_to_option_67_alone() {
    let long = "d/".repeat(80) + "x.efi";
    let mut server = Server::new(&HALL.replace("ipxe.efi\" },", &format!("{long}\" }},")));
    for client in [Client::edk2(mac(1)), Client::edk2(mac(2)).with(55, &[1, 3, 60])] {
        let offer = offer(&mut server, &client);
        let option = offer.option(options::BOOTFILE_NAME).unwrap();
        assert_eq!(option, [long.as_bytes(), b"\0"].concat());
        assert_eq!(offer.file(), "");
    }
}

#[test]
fn a_reply_says_which_scope_gave_what() {
    let mut server = Server::new(HALL);
    let offer = offer(&mut server, &Client::edk2(mac(0x11)));
    let origin = |code| offer.origins.iter().find(|(known, _)| *known == code).map(|(_, o)| *o);
    assert!(matches!(origin(options::ROUTERS), Some(Origin::Scope(ScopeId::Subnet(_)))));
    assert!(matches!(origin(options::HOST_NAME), Some(Origin::Scope(ScopeId::Host(_)))));
    assert!(matches!(origin(options::BOOTFILE_NAME), Some(Origin::Scope(ScopeId::Subnet(_)))));
    assert_eq!(origin(options::LEASE_TIME), Some(Origin::Protocol));
    assert_eq!(origin(options::CLIENT_IDENTIFIER), Some(Origin::Echo));
}

/// A hall where options 60, 77, 93 and 97 decide about boot file, pool and options.
const TELLING: &str = r#"
[[dhcp.class]]
name = "uefi"
vendor-class = "PXEClient:Arch:00007"
options = { domain-name = "uefi" }
[[dhcp.class]]
name = "ipxe"
user-class = "iPXE"
options = { domain-name = "ipxe" }
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = [
    { range = "10.1.4.0-10.1.4.9", class = "uefi" },
    { range = "10.1.5.0-10.1.5.9", deny = ["class:uefi"] },
]
boot = [
    { class = "ipxe", file = "boot.ipxe" },
    { uuid = "564d3210-aabb-ccdd-0102-030405060708", arch = "x86-64-efi", file = "own.efi" },
    { arch = "x86-64-efi", file = "ipxe.efi" },
    { file = "pxelinux.0" },
]
"#;

// RFC 2131 section 3.1: the ACK agrees with the OFFER, though some firmware says less in its
// REQUEST.
#[test]
fn what_decided_for_the_offer_decides_for_the_ack() {
    let mut server = Server::new(TELLING);
    let all = [options::VENDOR_CLASS_IDENTIFIER, options::PXE_SYSTEM_TYPE, options::USER_CLASS];
    let more = [options::PXE_CLIENT_ID, options::IPXE];
    for client in [
        Client::bios(mac(1)),
        Client::edk2(mac(2)),
        Client::edk2(mac(3)).with(options::PXE_CLIENT_ID, &[&[0; 1][..], &[9; 16]].concat()),
        Client::http_boot(mac(4)),
        Client::ipxe(mac(5)),
        Client::ipxe(mac(6)).without(options::USER_CLASS),
    ] {
        let offer = offer(&mut server, &client);
        // Each option alone, and all of them.
        let without: Vec<Vec<u8>> = all.iter().chain(&more).map(|&code| vec![code]).collect();
        for codes in without.into_iter().chain([[&all[..], &more].concat()]) {
            let silent = codes.iter().fold(client.clone(), |client, &code| client.without(code));
            let ack = server.expect(MessageType::Ack, &silent.select(&offer));
            assert_eq!(ack.yiaddr(), offer.yiaddr(), "{codes:?}");
            assert_eq!(ack.file(), offer.file(), "{codes:?}");
            for code in [15, 43, 60, 66, 67, 175] {
                assert_eq!(ack.option(code), offer.option(code), "option {code} {codes:?}");
            }
        }
    }
}

#[test]
fn what_was_said_before_counts_in_the_same_transaction_only() {
    let mut server = Server::new(HALL);
    let firmware = Client::edk2(mac(1));
    let address = server.lease(&firmware);
    // A system that gets its address without a DISCOVER, and one with a DISCOVER of its own.
    let system = Client::dhclient(mac(1));
    let ack = server.expect(MessageType::Ack, &system.reboot(address));
    assert_eq!(ack.file(), "pxelinux.0");
    let mut other = Client::plain(mac(1));
    other.xid += 1;
    let offer = offer(&mut server, &other);
    let ack = server.expect(MessageType::Ack, &other.select(&offer));
    assert_eq!((offer.file(), ack.file()), ("pxelinux.0".to_owned(), "pxelinux.0".to_owned()));
}

// A reload may number networks and pools anew, as here, where a subnet comes first that was not
// there.
#[test]
fn what_was_said_before_counts_after_a_reload() {
    let mut server = Server::new(TELLING);
    let client = Client::edk2(mac(1));
    let offer = offer(&mut server, &client);
    server.reload(&format!("{TELLING}\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\n"));
    let silent = client.without(options::VENDOR_CLASS_IDENTIFIER).without(options::PXE_SYSTEM_TYPE);
    let ack = server.expect(MessageType::Ack, &silent.select(&offer));
    assert_eq!((ack.yiaddr(), ack.file()), (offer.yiaddr(), offer.file()));
}

// Whoever can guess a transaction id (of some ROMs it is part of the hardware address) speaks for a
// machine on its own link at most.
#[test]
fn what_was_said_on_another_link_does_not_count() {
    let mut server = Server::new(HALL);
    let mut client = Client::plain(mac(1));
    let offer = offer(&mut server, &client);
    let claimed = Client::edk2(mac(1)).behind(ip("10.2.0.1"), b"");
    client.xid = claimed.xid;
    server.expect(MessageType::Offer, &claimed.discover());
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!(ack.file(), offer.file());
}
