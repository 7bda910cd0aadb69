//! What statements keep on a lease, with dhcpd.conf. The expectations are what dhcpd 4.4 keeps.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;
use crate::leases::MOST_VARIABLES;

const SUBNET: &str = r#"
ping-check false;
set everywhere = "yes";
subnet 10.1.0.0 netmask 255.255.0.0 {
  range 10.1.4.0 10.1.4.9;
  dhcp-cache-threshold 0;
  if option vendor-class-identifier = "firmware" { set Stage = "firmware"; }
  if option vendor-class-identifier = "forget" { unset stage; }
  set ip = binary-to-ascii(10, 8, ".", leased-address);
  filename = concat("boot-", pick-first-value(stage, "none"));
}
"#;

fn asks(number: u8, class: &str) -> Client {
    Client::plain(mac(number))
        .with(options::PARAMETER_REQUEST_LIST, &[67])
        .with(options::VENDOR_CLASS_IDENTIFIER, class.as_bytes())
}

fn kept(server: &Server, address: Ipv4Addr) -> String {
    format!("{:?}", server.at(address).unwrap().notes.scope().variables)
}

const FIRMWARE: &str = r#"{"everywhere": Data([121, 101, 115]), "stage": Data([102, 105, 114, 109, 119, 97, 114, 101]), "ip": Data([49, 48, 46, 49, 46, 52, 46, 48])}"#;

#[test]
fn a_later_message_of_the_client_sees_what_was_set() {
    let mut server = Server::new(SUBNET);
    let address = server.lease(&asks(1, "firmware"));
    assert_eq!(kept(&server, address), FIRMWARE);
    let renewed = |server: &mut Server, class| {
        server.expect(MessageType::Ack, &asks(1, class).renew(address)).file()
    };
    assert_eq!(renewed(&mut server, "system"), "boot-firmware");
    // It is durable.
    server.restart();
    assert_eq!(kept(&server, address), FIRMWARE);
    assert_eq!(renewed(&mut server, "system"), "boot-firmware");
    assert_eq!(renewed(&mut server, "forget"), "boot-none");
    assert_eq!(renewed(&mut server, "system"), "boot-none");
    server.restart();
    assert!(!kept(&server, address).contains("stage"));
}

#[test]
fn an_offer_keeps_what_it_set_in_memory() {
    let mut server = Server::new(SUBNET);
    let offer = server.expect(MessageType::Offer, &asks(1, "firmware").discover());
    let ack = server.expect(MessageType::Ack, &asks(1, "system").select(&offer));
    assert_eq!(ack.file(), "boot-firmware");
}

#[test]
fn variables_last_past_the_end_of_a_lease_and_not_past_a_release() {
    let mut server = Server::new(SUBNET);
    let (first, second) = (asks(1, "firmware"), asks(2, "system"));
    let address = server.lease(&first);
    server.pass(Duration::from_secs(50_000));
    assert_eq!(kept(&server, address), FIRMWARE);
    let _ = server.lease(&asks(1, "system"));
    assert_eq!(kept(&server, address), FIRMWARE);
    let _ = server.receive(&first.release(address));
    assert_eq!(kept(&server, address), "{}");
    server.restart();
    assert_eq!(kept(&server, address), "{}");
    // Another client has its own.
    let address = server.lease(&first);
    server.pass(Duration::from_secs(50_000));
    let offer = server.expect(MessageType::Offer, &second.discover_again(address));
    assert_eq!((offer.yiaddr(), offer.file()), (address, "boot-none".to_owned()));
}

#[test]
fn what_a_lease_has_no_room_for_is_dropped_and_counted() {
    let sets: String = (0..20).map(|number| format!("set v{number} = \"x\";\n")).collect();
    let text = SUBNET.replace("  dhcp-cache", &format!("  {sets}dhcp-cache"));
    let mut server = Server::new(&text);
    let address = server.lease(&asks(1, "system"));
    assert_eq!(server.variables_lost, 20 + 2 - MOST_VARIABLES as u32);
    assert_eq!(kept(&server, address).matches("\"v").count(), MOST_VARIABLES - 1);
}

#[test]
fn without_statements_nothing_is_kept() {
    let mut server = Server::new(HALL);
    let address = server.lease(&asks(1, "firmware"));
    assert_eq!(server.at(address).unwrap().notes.scope(), Default::default());
}
