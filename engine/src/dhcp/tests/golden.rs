//! The messages of real firmware, boot loaders and clients, as they were captured.

use std::fs;
use std::path::PathBuf;

use bootstorm_protocols::dhcpv4::{Message, MessageType};

use super::*;

/// Both networks of the laboratory that the captures come from.
const LABORATORY: &str = r#"
[dhcp]
authoritative = true
[[dhcp.subnet]]
subnet = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.200"]
boot = [
    { user-class = "iPXE", file = "boot.ipxe" },
    { arch = "x86-64-efi", file = "ipxe.efi" },
    { file = "pxelinux.0" },
]
[[dhcp.subnet]]
subnet = "10.99.0.0/24"
pools = ["10.99.0.100-10.99.0.200"]
"#;

fn captures() -> Vec<(String, Datagram)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../protocols/tests/golden");
    let mut captures = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        let payload: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        let giaddr = Message::parse(&payload).unwrap().giaddr();
        let to = if giaddr.is_unspecified() { Ipv4Addr::BROADCAST } else { ip("10.77.0.1") };
        let source = std::net::SocketAddrV4::new(giaddr, 68);
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        captures.push((name, Datagram { payload, source, to }));
    }
    assert!(captures.len() > 20, "where are the captures?");
    captures
}

fn laboratory() -> Server {
    let mut server = Server::new(LABORATORY);
    server.interface = vec![ip("10.77.0.1")];
    server
}

#[test]
fn every_captured_discover_is_offered_an_address_and_its_stages_boot_file() {
    let mut seen = 0;
    for (name, datagram) in captures().iter().filter(|(name, _)| name.ends_with("-discover")) {
        let mut server = laboratory();
        let offer = server.expect(MessageType::Offer, datagram);
        let file = match name.split("-discover").next().unwrap() {
            "edk2-pxe" => "ipxe.efi",
            "ipxe-efi" | "qemu-ipxe-rom" => "boot.ipxe",
            relayed if relayed.starts_with("relayed-") => "",
            _ => "pxelinux.0",
        };
        assert_eq!(offer.file(), file, "{name}");
        let network = if name.starts_with("relayed-") { 99 } else { 77 };
        assert_eq!(offer.yiaddr().octets()[1], network, "{name}");
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn whatever_was_captured_is_answered_or_dropped_for_a_reason() {
    for (name, datagram) in captures() {
        let from_client = Message::parse(&datagram.payload).unwrap().op() == 1;
        match laboratory().receive(&datagram) {
            Outcome::Silence(crate::dhcp::Silence::NotARequest) => assert!(!from_client, "{name}"),
            _ => assert!(from_client, "{name}"),
        }
    }
}
