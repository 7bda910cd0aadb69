//! Names, types and texts of options.

use std::collections::HashSet;

use bootstorm_protocols::dhcpv4::options::{
    self, DEFINITIONS, Kind, Rendered, by_code, by_name, space,
};
use bootstorm_protocols::dhcpv4::{OptionData, domains};
use bootstorm_protocols::wire::Writer;
use proptest::prelude::*;

use super::common::{cases, encoded_names, name, value_of};

fn shown(code: u8, value: &[u8]) -> String {
    Rendered::new(code, OptionData::from(value)).to_string()
}

#[test]
fn names_and_codes_are_unique() {
    let mut names = HashSet::new();
    let mut last = 0;
    for definition in DEFINITIONS {
        assert!(definition.code > last, "{} is out of order", definition.name);
        last = definition.code;
        assert_eq!(by_code(definition.code), Some(definition));
        for name in std::iter::once(&definition.name).chain(definition.aliases) {
            assert!(names.insert(*name), "{name} stands twice");
            assert_eq!(by_name(name), Some(definition));
        }
        if let Kind::Encapsulated(inner) = definition.kind {
            assert_eq!(space(inner).unwrap().code, definition.code);
        }
    }
    assert!(by_code(0).is_none() && by_code(255).is_none() && by_code(254).is_none());
    assert!(by_name("no-such-option").is_none());
}

/// dhcpd 4.4.3's own table, in its letters: I address, 6 IPv6 address, L and l 32 bits without and
/// with sign, S 16, B 8, t text, f flag, d name, D names, c compressed, X bytes, A and a repeat, E
/// encapsulates.
#[test]
fn the_names_and_types_are_those_of_dhcpd() {
    let table = include_str!("dhcpd-options.txt");
    let mut seen = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let [code, name, format] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?} is not code, name and format");
        };
        let definition = by_name(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(definition.code.to_string(), code, "{name}");
        assert_eq!(definition.name, name, "an alias only");
        // dhcpd lets a vendor class be any bytes; in the field it is text, and is written as such.
        let format = if name == "vendor-class-identifier" { "t" } else { format };
        assert_eq!(in_dhcpds_letters(definition.kind), format, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 119);
}

fn in_dhcpds_letters(kind: Kind) -> String {
    match kind {
        Kind::Flag => "f".into(),
        Kind::U8 => "B".into(),
        Kind::U8List => "BA".into(),
        Kind::U16 => "S".into(),
        Kind::U16List => "SA".into(),
        Kind::U32 => "L".into(),
        Kind::I32 => "l".into(),
        Kind::Ipv4 => "I".into(),
        Kind::Ipv4List => "IA".into(),
        Kind::Ipv4PairList => "IIA".into(),
        Kind::Ipv6 => "6".into(),
        Kind::Text | Kind::UserClass => "t".into(),
        Kind::Bytes => "X".into(),
        Kind::Domain => "d".into(),
        Kind::DomainList { compressed: true } => "Dc".into(),
        Kind::DomainList { compressed: false } => "D".into(),
        Kind::Encapsulated(_) | Kind::ClientFqdn | Kind::VendorClasses | Kind::VendorOptions => {
            "E".into()
        }
        Kind::Record(fields) => fields.iter().map(|field| in_dhcpds_letters(*field)).collect(),
        other => panic!("dhcpd has no letter for {other:?}"),
    }
}

#[test]
fn the_names_of_others_are_known_too() {
    for (name, code) in [
        ("name-servers", 5),
        ("boot-file-name", 67),
        ("client-system", 93),
        ("client-ndi", 94),
        ("uuid-guid", 97),
        ("dhcp-agent-options", 82),
        ("vivco-suboptions", 124),
        ("vivso-suboptions", 125),
        ("classless-static-routes", 121),
        ("rfc3442-classless-static-routes", 121),
        ("rapid-commit", 80),
        ("tftp-server-name", 66),
    ] {
        assert_eq!(by_name(name).map(|definition| definition.code), Some(code), "{name}");
    }
}

#[test]
fn what_belongs_to_the_protocol_is_not_configured() {
    for code in [
        options::MESSAGE_TYPE,
        options::REQUESTED_ADDRESS,
        options::RELAY_AGENT_INFORMATION,
        0,
        255,
    ] {
        assert!(options::is_protocol(code), "{code}");
    }
    for code in [
        options::ROUTERS,
        options::LEASE_TIME,
        options::SERVER_IDENTIFIER,
        options::VENDOR_CLASS_IDENTIFIER,
        224,
    ] {
        assert!(!options::is_protocol(code), "{code}");
    }
}

#[test]
fn values_as_text() {
    assert_eq!(shown(1, &[255, 255, 0, 0]), "255.255.0.0");
    assert_eq!(shown(2, &[0xff, 0xff, 0xf1, 0xf0]), "-3600");
    assert_eq!(shown(3, &[10, 1, 0, 1, 10, 1, 0, 2]), "10.1.0.1, 10.1.0.2");
    assert_eq!(shown(19, &[1]), "true");
    assert_eq!(shown(19, &[0]), "false");
    assert_eq!(shown(21, &[10, 0, 0, 0, 255, 0, 0, 0]), "10.0.0.0 255.0.0.0");
    assert_eq!(shown(25, &[0, 68, 5, 220]), "68, 1500");
    assert_eq!(shown(51, &[0, 0, 14, 16]), "3600");
    assert_eq!(shown(55, &[1, 3, 6]), "1, 3, 6");
    assert_eq!(shown(61, &[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]), "01:52:54:00:12:34:56");
    assert_eq!(shown(43, &[6, 1, 8, 255]), "discovery-control=8");
    assert_eq!(shown(77, b"iPXE"), "iPXE");
    assert_eq!(shown(77, b"\x02ab\x01c"), "ab, c");
    assert_eq!(shown(78, &[1, 10, 0, 0, 1]), "true, 10.0.0.1");
    assert_eq!(shown(80, &[]), "");
    assert_eq!(shown(81, b"\x04\0\0\x02n1\x04rack\0"), "n1.rack");
    assert_eq!(shown(81, b"\x04\0\0\x02n1"), "n1"); // partial: no root
    assert_eq!(shown(81, b"\0\0\0n1.rack"), "n1.rack");
    assert_eq!(
        shown(82, b"\x01\x05port7\x05\x04\x0a\x01\0\0\x13\0\xc8\x01\xff"),
        "circuit-id=\"port7\", link-selection=10.1.0.0, relay-port, 200=ff"
    );
    assert_eq!(shown(93, &[0, 7]), "7");
    assert_eq!(shown(94, &[1, 3, 16]), "1, 3, 16");
    assert_eq!(shown(120, &[1, 10, 0, 0, 1]), "10.0.0.1");
    assert_eq!(shown(120, b"\0\x03sip\x04rack\0"), "sip.rack");
    assert_eq!(shown(124, &[0, 0, 1, 0x37, 3, 2, b'a', 0xff]), "311 02:61:ff");
    assert_eq!(
        shown(146, b"\x01\x0a\0\0\x01\x0a\0\0\x02\x01a\0\x01b\0"),
        "1, 10.0.0.1, 10.0.0.2, a, b"
    );
    assert_eq!(
        shown(212, &[&[14, 64][..], &[0x20, 1, 0x0d, 0xb8], &[0; 12], &[10, 0, 0, 1]].concat()),
        "14, 64, 2001:db8::, 10.0.0.1"
    );
    assert_eq!(shown(224, b"abc"), "\"abc\"");
    assert_eq!(shown(224, &[]), "");
}

/// RFC 3442: only the significant bytes of a destination are sent.
#[test]
fn classless_routes_as_text() {
    let value = [
        0, 10, 1, 0, 1, 8, 10, 10, 1, 0, 2, 25, 10, 229, 0, 128, 10, 229, 0, 1, 32, 1, 2, 3, 4, 0,
        0, 0, 0,
    ];
    let text =
        "0.0.0.0/0 10.1.0.1, 10.0.0.0/8 10.1.0.2, 10.229.0.128/25 10.229.0.1, 1.2.3.4/32 0.0.0.0";
    assert_eq!(shown(121, &value), text);
    assert_eq!(shown(249, &value), text);
    assert_eq!(shown(121, &[33, 10, 1, 0, 1]), "21:0a:01:00:01");
    assert_eq!(shown(121, &[24, 10, 1, 0, 10, 1, 0]), "18:0a:01:00:0a:01:00");
}

/// A value that is not of its type is shown as bytes, so that nobody is told half of it.
#[test]
fn what_does_not_fit_its_type_is_shown_as_bytes() {
    assert_eq!(shown(1, &[255, 255, 0]), "ff:ff:00");
    assert_eq!(shown(3, &[10, 1, 0, 1, 10]), "0a:01:00:01:0a");
    assert_eq!(shown(19, &[2]), "02");
    assert_eq!(shown(51, &[]), "");
    assert_eq!(shown(82, &[1, 9, 0]), "01:09:00");
    assert_eq!(shown(94, &[1, 3]), "01:03");
    assert_eq!(shown(119, &[0xc0, 0]), "c0:00");
    assert_eq!(shown(120, &[2, 1]), "02:01");
}

/// RFC 3397 section 3's example.
#[test]
fn a_search_list_is_compressed_as_the_rfc_shows() {
    let names = ["eng.apple.com.".to_owned(), "marketing.apple.com.".to_owned()];
    let mut expected = b"\x03eng\x05apple\x03com\0\x09marketing".to_vec();
    expected.extend([0xc0, 4]);
    assert_eq!(encoded_names(&names, true), expected);
    assert_eq!(shown(119, &expected), "eng.apple.com, marketing.apple.com");
}

#[test]
fn names_that_cannot_be_written_say_why() {
    let error = |name: &str| {
        domains::encode([name], &mut Writer::new(&mut [0; 300])).unwrap_err().to_string()
    };
    assert_eq!(error("a..b"), "a domain name needs something between its dots");
    assert_eq!(error(""), "a domain name needs something between its dots");
    assert_eq!(error("."), "a domain name needs something between its dots");
    assert_eq!(error(&"a".repeat(64)), "a label of 64 bytes in a domain name: at most 63");
    assert_eq!(error(&["a"; 128].join(".")), "a domain name is longer than 255 bytes");
    assert_eq!(
        error("rück.example"),
        "a domain name holds letters, digits, hyphens and underscores; not 'ü'"
    );
    let full = domains::encode(["abc.example"], &mut Writer::new(&mut [0; 8])).unwrap_err();
    assert_eq!(full.to_string(), "no room for 7 more bytes, 3 are left");
    domains::encode([["a"; 127].join(".").as_str()], &mut Writer::new(&mut [0; 255])).unwrap();
}

/// Pointers that lead forwards, to themselves, around in a circle, or into nothing.
#[test]
fn hostile_names_end() {
    let error = |value: &[u8]| domains::Names::new(OptionData::from(value)).find_map(Result::err);
    use domains::DecodeError::{CutOff, Length, NameTooLong, Pointer};
    assert_eq!(error(&[0xc0, 0]), Some(Pointer));
    assert_eq!(error(&[1, b'a', 0xc0, 0]), Some(Pointer));
    assert_eq!(error(&[1, b'a', 0, 1, b'b', 0xc0, 5, 0]), Some(Pointer));
    assert_eq!(error(&[1, b'a', 0, 1, b'b', 0xc0, 3]), Some(Pointer)); // its own start
    assert_eq!(error(&[0xc0]), Some(CutOff));
    assert_eq!(error(&[3, b'a', b'b']), Some(CutOff));
    assert_eq!(error(&[1, b'a']), Some(CutOff));
    assert_eq!(error(&[0x40, 0]), Some(Length(0x40)));
    assert_eq!(error(&[&[2, b'a', b'b'].repeat(85)[..], &[0]].concat()), Some(NameTooLong));
    assert_eq!(error(&[1, b'a', 0, 0xc0, 0]), None);
    // Every name points to the one before: still each ends, and the reading of all ends.
    let mut chain = vec![1, b'a', 0];
    for place in 0..120 {
        let target = if place == 0 { 0 } else { 3 + (place - 1) * 4 };
        chain.extend([1, b'b', 0xc0, target as u8]);
    }
    assert!(domains::Names::new(OptionData::from(&chain[..])).count() <= 121);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn names_are_read_as_they_were_written(
        names in proptest::collection::vec(name(), 1..8),
        compressed in any::<bool>(),
    ) {
        let value = encoded_names(&names, compressed);
        let read: Vec<String> = domains::Names::new(OptionData::from(&value[..]))
            .map(|name| name.unwrap().to_string())
            .collect();
        prop_assert_eq!(read.len(), names.len());
        for (read, name) in read.iter().zip(&names) {
            prop_assert!(read.eq_ignore_ascii_case(name), "{} for {}", read, name);
        }
        prop_assert!(value.len() <= encoded_names(&names, false).len());
    }

    #[test]
    fn no_bytes_make_the_renderer_panic(
        code in any::<u8>(),
        value in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let text = shown(code, &value);
        prop_assert!(!text.contains(|c: char| c.is_control()));
    }

    #[test]
    fn a_value_of_its_type_is_not_shown_as_bytes(
        (definition, value) in proptest::sample::select(DEFINITIONS)
            .prop_filter("bytes are shown as bytes", |d| d.kind != Kind::Bytes)
            .prop_flat_map(|definition| (Just(definition), value_of(definition.kind)))
    ) {
        let hex: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let data = OptionData::from(&value[..]);
        let text = definition.render(data).to_string();
        prop_assert!(value.is_empty() || text != hex.join(":"), "{}", text);
    }
}
