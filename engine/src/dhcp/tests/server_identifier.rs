//! Option 54: what stands there, and which values mean this server.

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::dhcp::Silence;

/// The hall's link is reached at a virtual address, its pool for UEFI machines at another.
fn balanced_hall() -> Server {
    let pools = r#"
server-identifier = "192.0.2.80"
pools = [
    "10.1.4.0-10.1.4.9",
    { range = "10.1.5.0", class = "uefi", server-identifier = "192.0.2.81" },
]
"#;
    let class = r#"
[[dhcp.class]]
name = "uefi"
arch = "x86-64-efi"
server-identifier = "192.0.2.82"
"#;
    Server::new(&(HALL.replace("pools = [\"10.1.4.0-10.1.4.9\"]", pools) + class))
}

#[test]
fn the_configured_identifier_stands_in_every_reply_and_requests_that_name_it_are_ours() {
    let mut server = balanced_hall();
    let client = Client::dhclient(mac(1));
    let identifier = |answer: &Answer| answer.message().server_identifier().unwrap();
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(identifier(&offer), ip("192.0.2.80"));
    // The packet still leaves from an address that this host has.
    assert_eq!(offer.source, ip("10.1.0.6"));
    let ack = server.expect(MessageType::Ack, &client.select(&offer));
    assert_eq!(identifier(&ack), ip("192.0.2.80"));
    for request in [client.renew(ack.yiaddr()), client.inform(ack.yiaddr())] {
        assert_eq!(identifier(&server.expect(MessageType::Ack, &request)), ip("192.0.2.80"));
    }
    let nak = server.expect(MessageType::Nak, &client.reboot(ip("10.1.200.1")));
    assert_eq!(identifier(&nak), ip("192.0.2.80"));
    let mut release = client.release(ack.yiaddr());
    let named = |payload: &mut Vec<u8>, address: Ipv4Addr| {
        let at = payload.windows(2).position(|code| code == [options::SERVER_IDENTIFIER, 4]);
        let at = at.unwrap() + 2;
        payload[at..at + 4].copy_from_slice(&address.octets());
    };
    named(&mut release.payload, ip("192.0.2.99"));
    assert_eq!(server.silence(&release), Silence::OtherServer);
    named(&mut release.payload, ip("192.0.2.80"));
    assert!(matches!(server.receive(&release), Outcome::Recorded));
}

// iPXE leaves out what the firmware said, so another scope may hold for its REQUEST.
#[test]
fn identifiers_of_all_scopes_and_addresses_of_this_host_mean_this_server() {
    let mut server = balanced_hall();
    let client = Client::edk2(mac(1));
    let offer = server.expect(MessageType::Offer, &client.discover());
    assert_eq!(offer.message().server_identifier(), Some(ip("192.0.2.82")));
    let silent = client.without(options::PXE_SYSTEM_TYPE).without(60);
    for own in ["192.0.2.80", "192.0.2.81", "192.0.2.82", "10.1.0.6", "192.0.2.6"] {
        server.expect(MessageType::Ack, &silent.select_from(ip(own), offer.yiaddr()));
    }
    let other = silent.select_from(ip("192.0.2.83"), offer.yiaddr());
    assert_eq!(server.silence(&other), Silence::OtherServer);
}

// Where clients reach this server for DHCP they reach it for TFTP as well.
#[test]
fn the_next_server_is_the_configured_identifier_unless_a_scope_names_one() {
    let mut server = balanced_hall();
    let offer = server.expect(MessageType::Offer, &Client::bios(mac(1)).discover());
    assert_eq!(offer.message().siaddr(), ip("192.0.2.80"));
    assert_eq!(offer.option(options::TFTP_SERVER_NAME).unwrap(), b"192.0.2.80");
    // What the relay agent wants in option 54 is no TFTP server.
    let information = [&[11, 4, 10, 1, 0, 1][..]].concat();
    let relayed = Client::bios(mac(2)).behind(ip("10.1.0.1"), &information);
    let offer = server.expect(MessageType::Offer, &relayed.discover());
    assert_eq!(offer.message().server_identifier(), Some(ip("10.1.0.1")));
    assert_eq!(offer.message().siaddr(), ip("192.0.2.80"));
    let named = Client::bios(mac(3)).behind(ip("10.2.0.1"), b"");
    let offer = server.expect(MessageType::Offer, &named.discover());
    assert_eq!(offer.message().siaddr(), ip("10.2.0.5"));
}
