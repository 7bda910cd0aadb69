//! Captures of real peers: `tests/golden/*.hex`. The name of a file says what is in it.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::pxe::{self, ClientStage};
use bootstorm_protocols::dhcpv4::{
    BOOTREPLY, BOOTREQUEST, ETHERNET, Header, Message, MessageType, MessageWriter,
    RelayAgentInformation, options,
};

use super::common::{assert_same, bytes_of, header_of, option_values};

/// Name and bytes of every capture.
fn captures() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut captures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            captures.push((name, from_hex(&std::fs::read_to_string(&path).unwrap())));
        }
    }
    assert!(captures.len() >= 40, "the captures are missing: {}", captures.len());
    captures.sort();
    captures
}

fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u8> = lines.flat_map(|line| line.trim().bytes()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn message_type(name: &str) -> MessageType {
    let types = [
        ("discover", MessageType::Discover),
        ("offer", MessageType::Offer),
        ("request", MessageType::Request),
        ("decline", MessageType::Decline),
        ("ack", MessageType::Ack),
        ("nak", MessageType::Nak),
        ("release", MessageType::Release),
        ("inform", MessageType::Inform),
    ];
    let said = types.iter().find(|(word, _)| name.split('-').any(|part| part == *word));
    said.unwrap_or_else(|| panic!("{name} does not say its message type")).1
}

#[test]
fn every_capture_says_what_its_name_says() {
    for (name, bytes) in captures() {
        let message = Message::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.message_type(), Some(message_type(&name)), "{name}");
        assert_eq!((message.htype(), message.hlen()), (ETHERNET, 6), "{name}");
        assert_eq!(message.chaddr()[..3], [0x52, 0x54, 0], "{name}");
        if name.contains("-to-") {
            assert_eq!(message.op(), BOOTREPLY, "{name}");
            assert_eq!(message.server_identifier(), Some(Ipv4Addr::new(10, 77, 0, 1)), "{name}");
            assert!(!message.yiaddr().is_unspecified(), "{name}");
            assert_eq!(message.lease_time(), Some(3600), "{name}");
        } else {
            assert_eq!(message.op(), BOOTREQUEST, "{name}");
            client_facts(&name, &message);
        }
        if name.contains("relayed") {
            assert_eq!(message.giaddr(), Ipv4Addr::new(10, 99, 0, 1), "{name}");
            let agent = message.relay_agent_information().unwrap();
            assert!(agent.circuit_id().unwrap() == b"down0"[..], "{name}");
        } else {
            assert!(message.giaddr().is_unspecified(), "{name}");
            assert!(message.relay_agent_information().is_none(), "{name}");
        }
    }
}

fn client_facts(name: &str, message: &Message<'_>) {
    let renews = name.contains("renewing") || name.contains("release");
    assert_eq!(message.ciaddr().is_unspecified(), !renews, "{name}");
    let architecture = message.architecture().and_then(|architecture| architecture.name());
    let (stage, expected) = match name {
        _ if name.contains("edk2") => (ClientStage::Firmware, Some("x86-64-efi")),
        _ if name.contains("ipxe-efi") => (ClientStage::Ipxe, Some("x86-64-efi")),
        _ if name.contains("ipxe-rom") => (ClientStage::Ipxe, Some("x86-bios")),
        _ => (ClientStage::Other, None),
    };
    assert_eq!((message.stage(), architecture), (stage, expected), "{name}");
    if name.contains("dhclient") && !name.contains("release") {
        let asked: Vec<u8> = message.parameter_request_list().collect();
        assert_eq!(asked, [1, 28, 3, 15, 6, 12, 42, 26], "{name}");
    }
    if name.contains("udhcpc") {
        let id = [&[1], message.chaddr()].concat();
        assert!(message.client_id().unwrap() == id[..], "{name}");
        assert!(message.vendor_class().is_none_or(|class| class == b"udhcp 1.35.0"[..]), "{name}");
    }
}

/// dhcpd was told what EDK2 needs; dnsmasq was not and left `file` empty for option 67.
#[test]
fn the_replies_to_firmware_carry_their_boot_files() {
    for (name, bytes) in captures() {
        let message = Message::parse(&bytes).unwrap();
        if name.starts_with("dhcpd-") && name.contains("edk2") {
            assert_eq!(message.boot_file(), b"pxelinux.0", "{name}");
            assert_eq!(bytes_of(message.option(options::BOOTFILE_NAME)), b"pxelinux.0", "{name}");
            assert_eq!(message.siaddr(), Ipv4Addr::new(10, 77, 0, 6), "{name}");
            assert!(message.vendor_class().unwrap() == b"PXEClient"[..], "{name}");
            let vendor = message.option(options::VENDOR_ENCAPSULATED_OPTIONS).unwrap();
            let control = vendor.encapsulated().find_code(pxe::DISCOVERY_CONTROL);
            assert_eq!(control.unwrap().u8(), Some(pxe::BOOT_FILE_AT_ONCE), "{name}");
        }
        if name.starts_with("dnsmasq-") && name.contains("edk2") {
            assert_eq!(message.boot_file(), b"", "{name}");
            assert_eq!(bytes_of(message.option(options::BOOTFILE_NAME)), b"ipxe.efi\0", "{name}");
        }
    }
}

#[test]
fn every_capture_written_anew_reads_the_same() {
    for (name, bytes) in captures() {
        let message = Message::parse(&bytes).unwrap();
        let mut buf = [0xee; 1500];
        let header = Header { ..header_of(&message) };
        let mut writer = MessageWriter::new(&mut buf, 548, &header).unwrap();
        for (code, value) in option_values(&message) {
            writer.option(code, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let len = writer.finish();
        assert_same(&Message::parse(&buf[..len]).unwrap(), &message);
    }
}

/// dhcpd's own replies to relayed clients are the model: what it echoes, in the same place.
#[test]
fn option_82_is_echoed_as_dhcpd_echoes_it() {
    let captures = captures();
    let named = |name: &str| captures.iter().find(|(known, _)| known == name).unwrap().1.clone();
    for client in ["dhclient", "udhcpc"] {
        let request = named(&format!("relayed-{client}-discover"));
        let reply = named(&format!("dhcpd-offer-to-relayed-{client}"));
        let (request, reply) = (Message::parse(&request).unwrap(), Message::parse(&reply).unwrap());
        let agent: RelayAgentInformation<'_> = request.relay_agent_information().unwrap();
        let mut header = Header::reply_to(&request);
        (header.hops, header.yiaddr) = (reply.hops(), reply.yiaddr());
        let mut buf = [0xee; 548];
        let mut writer = MessageWriter::new(&mut buf, 548, &header).unwrap();
        writer.echo(&agent).unwrap();
        for (code, value) in option_values(&reply) {
            if code != options::RELAY_AGENT_INFORMATION {
                writer.option(code, &value).unwrap();
            }
        }
        let len = writer.finish();
        assert_eq!(buf[..len], *reply.as_bytes(), "{client}");
    }
}
