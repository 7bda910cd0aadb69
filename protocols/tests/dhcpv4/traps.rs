//! The traps that other servers and firmware fell into, as far as they belong to the wire.

use bootstorm_protocols::dhcpv4::pxe::{Architecture, ClientStage, MachineId};
use bootstorm_protocols::dhcpv4::{
    BROADCAST_FLAG, Header, Message, MessageType, MessageWriter, OptionData, options,
};

use super::common::{request, written};

/// A request with these options.
fn message_with(parts: &[(u8, &[u8])]) -> Vec<u8> {
    let mut options = vec![53, 1, 1];
    for (code, value) in parts {
        options.extend([*code, value.len() as u8]);
        options.extend(*value);
    }
    options.push(255);
    request(&options)
}

const PXE_X64: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";

/// A loader that hands itself out for ever: iPXE says PXEClient and an architecture as well, so its
/// user class must be seen first, in every form it comes in.
#[test]
fn a_chain_loop_is_not_begun_because_ipxe_looks_like_firmware() {
    let firmware = message_with(&[(60, PXE_X64), (93, &[0, 7])]);
    assert_eq!(Message::parse(&firmware).unwrap().stage(), ClientStage::Firmware);
    let forms: [(u8, &[u8]); 5] = [
        (77, b"iPXE"),
        (77, b"\x04iPXE"),
        (77, b"\x03abc\x04iPXE"),
        (77, b"gPXE"),
        (175, &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e]),
    ];
    for form in forms {
        let ipxe = message_with(&[(60, PXE_X64), (93, &[0, 7]), form]);
        assert_eq!(Message::parse(&ipxe).unwrap().stage(), ClientStage::Ipxe, "{form:?}");
    }
    let other = message_with(&[(60, PXE_X64), (77, b"iPXE2")]);
    assert_eq!(Message::parse(&other).unwrap().stage(), ClientStage::Firmware);
    let installer = message_with(&[(60, b"d-i"), (77, b"\x09installer")]);
    assert_eq!(Message::parse(&installer).unwrap().stage(), ClientStage::Other);
}

/// The raw `iPXE` begins with a byte that could be a length: it must not be read as one, nor may a
/// counted class be taken for text.
#[test]
fn a_raw_user_class_is_told_from_a_counted_one() {
    let classes = |value: &[u8]| {
        let bytes = message_with(&[(77, value)]);
        let class = Message::parse(&bytes).unwrap().user_class().unwrap();
        class.classes().map(|class| class.bytes().collect()).collect::<Vec<Vec<u8>>>()
    };
    assert_eq!(classes(b"iPXE"), [b"iPXE"]);
    assert_eq!(classes(b"\x04iPXE\x02hi"), [&b"iPXE"[..], b"hi"]);
    assert_eq!(classes(b"\x04iPX"), [b"\x04iPX"]); // cut off: not counted
    assert_eq!(classes(b"\x00"), [b"\x00"]); // RFC 3004: no class is empty
}

/// RFC 4578 has 7 and 9 the wrong way round; firmware sends 7 for x64, a few the letter of the RFC.
#[test]
fn architectures_7_and_9_are_both_x64() {
    for (code, name) in [
        (0, "x86-bios"),
        (6, "ia32-efi"),
        (7, "x86-64-efi"),
        (9, "x86-64-efi"),
        (10, "arm32-efi"),
        (11, "arm64-efi"),
        (15, "ia32-http"),
        (16, "x86-64-http"),
        (19, "arm64-http"),
        (27, "riscv64-efi"),
    ] {
        let bytes = message_with(&[(93, &[0, code])]);
        let architecture = Message::parse(&bytes).unwrap().architecture().unwrap();
        assert_eq!(architecture.name(), Some(name));
        assert_eq!(Architecture::by_name(name), Some(architecture));
        assert_eq!(architecture.to_string(), name);
    }
    assert_eq!(Architecture::from_code(7), Architecture::from_code(9));
    assert_eq!(Architecture::from_code(999).name(), None);
    assert_eq!(Architecture::from_code(999).to_string(), "999");
    let names: Vec<&str> = Architecture::names().collect();
    assert!(names.iter().all(|name| Architecture::by_name(name).unwrap().name() == Some(*name)));
}

/// A client may list several; it boots as the first. Without option 93 its vendor class says it.
#[test]
fn the_architecture_is_the_first_listed_or_the_vendor_classs() {
    let architecture = |parts: &[(u8, &[u8])]| {
        let bytes = message_with(parts);
        Message::parse(&bytes).unwrap().architecture().map(Architecture::code)
    };
    assert_eq!(
        architecture(&[(93, &[0, 7, 0, 0]), (60, b"PXEClient:Arch:00011:UNDI:003016")]),
        Some(7)
    );
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:00011:UNDI:003016")]), Some(11));
    assert_eq!(architecture(&[(60, b"HTTPClient:Arch:00016:UNDI:003001")]), Some(16));
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:00009")]), Some(7));
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:65536")]), None);
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:000a7")]), None);
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:0")]), None);
    assert_eq!(architecture(&[(60, b"PXEClient")]), None);
    assert_eq!(architecture(&[(60, b"other:Arch:00007")]), None);
    // A Raspberry Pi says 0, as a PC does, so rules have to match its hardware address.
    assert_eq!(architecture(&[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])]), Some(0));
}

/// UEFI HTTP Boot is firmware too, whatever its vendor class.
#[test]
fn http_boot_is_firmware() {
    let bytes = message_with(&[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])]);
    assert_eq!(Message::parse(&bytes).unwrap().stage(), ClientStage::Firmware);
}

/// Relays drop replies that lack option 82, so it goes on every message type, NAK included, and
/// byte for byte, codes nobody knows included.
#[test]
fn option_82_is_echoed_whatever_the_reply() {
    let agent = [1, 3, b'1', b'/', b'7', 2, 2, 0xab, 0xcd, 77, 1, 9, 19, 0];
    let bytes = message_with(&[(82, &agent)]);
    let request = Message::parse(&bytes).unwrap();
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        let mut buf = [0xee; 548];
        let mut writer = MessageWriter::new(&mut buf, 548, &Header::reply_to(&request)).unwrap();
        writer.echo(&request.relay_agent_information().unwrap()).unwrap();
        writer.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
        let len = writer.finish();
        let reply = Message::parse(&buf[..len]).unwrap();
        assert_eq!(reply.message_type(), Some(kind));
        assert!(reply.option(82).unwrap() == agent[..]);
        assert!(reply.relay_agent_information().unwrap().relay_source_port());
        assert_eq!(reply.options().last().unwrap().0, 82);
    }
}

/// The broadcast flag is copied into every reply, for relays decide by it.
#[test]
fn the_broadcast_flag_is_copied() {
    for flags in [0, BROADCAST_FLAG] {
        let mut bytes = message_with(&[]);
        bytes[10..12].copy_from_slice(&flags.to_be_bytes());
        bytes[24..28].copy_from_slice(&[10, 9, 0, 1]);
        let request = Message::parse(&bytes).unwrap();
        assert_eq!(request.broadcast(), flags != 0);
        let reply = written(&Header::reply_to(&request), 548, &[(53, vec![2])]);
        let reply = Message::parse(&reply).unwrap();
        assert_eq!((reply.flags(), reply.giaddr()), (flags, request.giaddr()));
    }
}

fn machine_id(value: &[u8]) -> Option<MachineId> {
    let bytes = message_with(&[(97, value)]);
    Message::parse(&bytes).unwrap().machine_id()
}

/// NICs without a UUID send none, all zeros or all ones; makers leave placeholders.
#[test]
fn a_uuid_that_is_no_machines_own_is_none() {
    assert!(Message::parse(&message_with(&[])).unwrap().machine_id().is_none());
    let with_type = |kind: u8, uuid: [u8; 16]| machine_id(&[&[kind][..], &uuid].concat());
    assert!(with_type(0, [0; 16]).is_none());
    assert!(with_type(0, [0xff; 16]).is_none());
    let placeholder = [0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9];
    assert!(with_type(0, placeholder).is_none());
    assert!(MachineId::from_text("03000200-0400-0500-0006-000700080009").is_none());
    assert!(with_type(1, [7; 16]).is_none()); // not a UUID
    assert!(with_type(0, [7; 16]).is_some());
    assert!(machine_id(&[0; 16]).is_none());
    assert!(machine_id(&[7; 18]).is_none());
}

/// One program of a machine sends its UUID in the byte order of the text, the next with its first
/// fields byte-swapped.
#[test]
fn a_uuid_and_its_byte_swapped_form_are_one_machine() {
    let text = "564d3210-7654-ba98-0123-456789abcdef";
    let swapped = "10324d56-5476-98ba-0123-456789abcdef";
    let id = MachineId::from_text(text).unwrap();
    let other = MachineId::from_text(&swapped.replace('-', "").to_uppercase()).unwrap();
    assert_eq!((id.to_string().as_str(), other.to_string().as_str()), (text, swapped));
    assert_eq!((id, id.key()), (other, other.key()));
    assert_eq!(id.byte_swapped().as_bytes(), other.as_bytes());
    assert_ne!(id.as_bytes(), other.as_bytes());
    assert_ne!(id, MachineId::from_text("564d3210-7654-ba98-0123-456789abcdee").unwrap());
    for wrong in [
        "",
        "564d3210",
        "564d32107-654-ba98-0123-456789abcdef",
        "564d3210-7654-ba98-0123-456789abcdeg",
        "é64d3210-7654-ba98-0123-456789abcde",
    ] {
        assert!(MachineId::from_text(wrong).is_none(), "{wrong}");
    }
}

/// Firmware breaks on replies it did not ask to be long. Option 57 counts IP and UDP headers in, is
/// never below 576, and EDK2's REQUEST sends it with its bytes turned: 0xff00.
#[test]
fn a_reply_is_never_longer_than_the_client_takes() {
    let room = |parts: &[(u8, &[u8])], mtu| {
        let bytes = message_with(parts);
        Message::parse(&bytes).unwrap().reply_room(mtu)
    };
    assert_eq!(room(&[], 1500), 548);
    assert_eq!(room(&[(57, &[5, 0xc0])], 1500), 1444);
    assert_eq!(room(&[(57, &[0, 0])], 1500), 548);
    assert_eq!(room(&[(57, &[2, 0x3f])], 1500), 548);
    assert_eq!(room(&[(57, &[0xff, 0])], 1500), 1472);
    assert_eq!(room(&[(57, &[0xff, 0])], 68), 548);
    assert_eq!(room(&[(57, &[9])], 1500), 548);
    // A BOOTP client has its 300 bytes, or what it sent.
    let mut bootp = request(&[]);
    bootp.resize(300, 0);
    assert_eq!(Message::parse(&bootp).unwrap().reply_room(1500), 300);
    assert_eq!(Message::parse(&bootp[..236]).unwrap().reply_room(1500), 300);
    bootp.resize(1200, 0);
    assert_eq!(Message::parse(&bootp).unwrap().reply_room(1500), 548);
}

/// Some firmware reads only option 66 and 67, some only siaddr and file: both stand side by side.
#[test]
fn boot_file_and_server_stand_in_the_fields_and_in_the_options() {
    let bytes = message_with(&[]);
    let request = Message::parse(&bytes).unwrap();
    let next_server = [10, 1, 0, 6].into();
    let header = Header { file: b"ipxe.efi", siaddr: next_server, ..Header::reply_to(&request) };
    let options = [(66, b"10.1.0.6".to_vec()), (67, b"ipxe.efi".to_vec()), (43, vec![7; 300])];
    let reply = written(&header, 576, &options);
    let reply = Message::parse(&reply).unwrap();
    assert_eq!((reply.siaddr(), reply.boot_file()), (next_server, &b"ipxe.efi"[..]));
    assert!(reply.option(66).unwrap() == b"10.1.0.6"[..]);
    assert!(reply.option(67).unwrap() == b"ipxe.efi"[..]);
}

/// Some clients count a NUL into their host name; it is not part of the name that is shown.
#[test]
fn a_counted_nul_is_not_shown() {
    let shown = options::Rendered::new(12, OptionData::from(&b"node7\0"[..])).to_string();
    assert_eq!(shown, "node7");
}
