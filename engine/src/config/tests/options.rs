//! Options on the wire.

use super::super::OptionSet;
use super::good;

/// The options of a file that has this in `[dhcp]` and below it.
fn dhcp(text: &str) -> OptionSet {
    good(&format!("[dhcp]\n{text}\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n")).dhcp.global.options
}

fn option(value: &str, code: u8) -> Vec<u8> {
    dhcp(&format!("options = {{ {value} }}")).get(code).unwrap().to_vec()
}

#[test]
fn every_kind_of_value_has_its_bytes() {
    let cases: &[(&str, u8, &[u8])] = &[
        ("subnet-mask = '255.255.0.0'", 1, &[255, 255, 0, 0]),
        ("time-offset = -3600", 2, &[0xff, 0xff, 0xf1, 0xf0]),
        ("routers = '10.0.0.1'", 3, &[10, 0, 0, 1]),
        ("routers = ['10.0.0.1', '10.0.0.2']", 3, &[10, 0, 0, 1, 10, 0, 0, 2]),
        ("host-name = 'n1'", 12, b"n1"),
        ("boot-size = 513", 13, &[2, 1]),
        ("ip-forwarding = true", 19, &[1]),
        ("ip-forwarding = false", 19, &[0]),
        ("policy-filter = ['10.0.0.0', '255.0.0.0']", 21, &[10, 0, 0, 0, 255, 0, 0, 0]),
        (
            "static-routes = ['10.2.0.1 10.0.0.1', '10.3.0.1 10.0.0.1']",
            33,
            &[10, 2, 0, 1, 10, 0, 0, 1, 10, 3, 0, 1, 10, 0, 0, 1],
        ),
        (
            "static-routes = [['10.2.0.1', '10.0.0.1'], ['10.3.0.1', '10.0.0.1']]",
            33,
            &[10, 2, 0, 1, 10, 0, 0, 1, 10, 3, 0, 1, 10, 0, 0, 1],
        ),
        ("default-ip-ttl = 64", 23, &[64]),
        ("path-mtu-plateau-table = [68, 1500]", 25, &[0, 68, 5, 220]),
        ("dhcp-renewal-time = 1800", 58, &[0, 0, 7, 8]),
        ("vendor-encapsulated-options = 'hex:06 01 08 ff'", 43, &[6, 1, 8, 255]),
        ("slp-directory-agent = [true, ['10.0.0.1']]", 78, &[1, 10, 0, 0, 1]),
        ("domain-search = 'example.net'", 119, b"\x07example\x03net\x00"),
        // RFC 3397, section 3.
        (
            "domain-search = ['eng.apple.com.', 'marketing.apple.com']",
            119,
            b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04",
        ),
        ("sip-servers = ['10.0.0.1', '10.0.0.2']", 120, &[1, 10, 0, 0, 1, 10, 0, 0, 2]),
        ("sip-servers = 'sip.example.net'", 120, b"\x00\x03sip\x07example\x03net\x00"),
        // RFC 3442: only the bytes of the prefix that its length needs.
        (
            "classless-static-routes = ['default via 10.0.0.1', '10.17.0.0/16 via 10.0.0.2', '10.27.129.0/24 via 10.0.0.3', '10.198.122.47/32 via 10.0.0.4', '10.0.0.0/8 10.0.0.5']",
            121,
            &[
                0, 10, 0, 0, 1, 16, 10, 17, 10, 0, 0, 2, 24, 10, 27, 129, 10, 0, 0, 3, 32, 10, 198,
                122, 47, 10, 0, 0, 4, 8, 10, 10, 0, 0, 5,
            ],
        ),
        ("v4-access-domain = 'net.example'", 213, b"\x03net\x07example\x00"),
        ("tftp-server-address = ['10.0.0.6']", 150, &[10, 0, 0, 6]),
        ("loader-configfile = 'pxelinux.cfg/default'", 209, b"pxelinux.cfg/default"),
        // By number, a standard option has its own type, and another one is bytes.
        ("3 = '10.0.0.1'", 3, &[10, 0, 0, 1]),
        ("224 = 'hex:0A0b'", 224, &[0x0a, 0x0b]),
        ("224 = 'text'", 224, b"text"),
        ("224 = 'hex:'", 224, b""),
        ("boot-file-name = 'by-an-alias'", 67, b"by-an-alias"),
    ];
    for (value, code, bytes) in cases {
        assert_eq!(option(value, *code), *bytes, "{value}");
    }
}

#[test]
fn definitions_give_names_and_types() {
    let cases: &[(&str, &str, &[u8])] = &[
        ("flag", "true", &[]),
        ("boolean", "true", &[1]),
        ("uint8", "255", &[255]),
        ("unsigned integer 16", "258", &[1, 2]),
        ("integer 8", "-1", &[255]),
        ("signed integer 16", "-2", &[255, 254]),
        ("int32", "-2", &[255, 255, 255, 254]),
        ("ip-address", "'10.0.0.1'", &[10, 0, 0, 1]),
        ("ip6-address", "'::1'", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("text", "'a b'", b"a b"),
        ("string", "'hex:00ff'", &[0, 255]),
        ("domain-name", "'a.b'", b"\x01a\x01b\x00"),
        ("domain-list", "['a.b', 'c.b']", b"\x01a\x01b\x00\x01c\x01b\x00"),
        ("domain-list compressed", "['a.b', 'c.b']", b"\x01a\x01b\x00\x01c\xc0\x02"),
        ("array of uint16", "[1, 2]", &[0, 1, 0, 2]),
        ("{ uint8, ip-address }", "[1, '10.0.0.1']", &[1, 10, 0, 0, 1]),
        ("{ uint8, text }", "[1, 'boot']", b"\x01boot"),
        ("array of { uint8, uint8 }", "[[1, 2], [3, 4]]", &[1, 2, 3, 4]),
        (
            "array of { ip-address, uint8 }",
            "['10.0.0.1 2', '10.0.0.3, 4']",
            &[10, 0, 0, 1, 2, 10, 0, 0, 3, 4],
        ),
    ];
    for (kind, value, bytes) in cases {
        let set = dhcp(&format!(
            "options = {{ mine = {value} }}\n[[dhcp.option-definition]]\ncode = 224\nname = \"mine\"\ntype = \"{kind}\""
        ));
        assert_eq!(set.get(224), Some(*bytes), "{kind} {value}");
    }
}

#[test]
fn spaces_travel_in_the_option_that_carries_them() {
    // PXE 2.1 wants its list closed by 255.
    assert_eq!(
        option("PXE = { discovery-control = 8, 10 = 'hex:00' }", 43),
        [6, 1, 8, 10, 1, 0, 255]
    );
    assert_eq!(
        option("vendor-encapsulated-options = { discovery-control = 3 }", 43),
        [6, 1, 3, 255]
    );
    assert_eq!(option("ipxe = { no-pxedhcp = 1, priority = -2 }", 175), [1, 1, 254, 176, 1, 1]);
    // A vendor may read a text.
    assert_eq!(option("vendor-encapsulated-options = '5A1N;K4'", 43), b"5A1N;K4");
    let own =
        "[[dhcp.option-definition]]\ncode = 0\nname = \"zero\"\ntype = \"uint8\"\nspace = \"ACME\"";
    let set = dhcp(&format!("options = {{ ACME = {{ zero = 7, 1 = 'hex:08' }} }}\n{own}"));
    assert_eq!(set.get(43), Some(&[0, 1, 7, 1, 1, 8][..]));
    let set = dhcp(
        "[dhcp.option-space.PXE]\ndiscovery-control = 8\n[dhcp.option-space.ipxe]\nkeep-san = 1",
    );
    assert_eq!(set.get(43), Some(&[6, 1, 8, 255][..]));
    assert_eq!(set.get(175), Some(&[8, 1, 1][..]));
}

#[test]
fn of_several_spaces_for_option_43_the_chosen_one_is_sent() {
    let definition = "[[dhcp.option-definition]]\ncode = 2\nname = \"root\"\ntype = \"ip-address\"\nspace = \"SUNW\"\n";
    let values = "[dhcp.option-space.SUNW]\nroot = \"10.0.0.1\"\n[dhcp.option-space.PXE]\ndiscovery-control = 8\n";
    let file = format!(
        "[dhcp]\n{values}{definition}[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\nvendor-option-space = \"SUNW\"\n[[dhcp.class]]\nname = \"pxe\"\nvendor-class = \"PXEClient\"\nvendor-option-space = \"PXE\"\n"
    );
    let dhcp = good(&file).dhcp;
    assert_eq!(dhcp.global.options.get(43), None);
    assert_eq!(dhcp.subnets[0].scope.options.get(43), Some(&[2, 4, 10, 0, 0, 1][..]));
    assert_eq!(dhcp.classes[0].scope.options.get(43), Some(&[6, 1, 8, 255][..]));
}

#[test]
fn an_option_may_be_longer_than_one_piece_on_the_wire() {
    let long = "x".repeat(1000);
    assert_eq!(option(&format!("root-path = '{long}'"), 17), long.as_bytes());
}
