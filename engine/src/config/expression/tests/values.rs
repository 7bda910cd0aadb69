//! What expressions yield, null above all.

use super::*;

/// A message with `text` = "rack", `data` = "PXEClient:Arch" and `space.one` = 0:7.
fn machine() -> Machine<'static> {
    let options = vec![
        (TEXT, b"rack".as_slice()),
        (DATA, b"PXEClient:Arch".as_slice()),
        (ONE, b"\x00\x07".as_slice()),
    ];
    Machine { options, message: b"\x01\x01\x06\x00abcd" }
}

#[test]
fn values() {
    let machine = machine();
    for text in [
        "option data = \"PXEClient:Arch\"",
        "option data != \"PXEClient\"",
        "exists data and exists space.one and not exists 99",
        "substring(option data, 0, 9) = \"PXEClient\"",
        "substring(option data, 10, 99) = \"Arch\"",
        "substring(option data, 99, 1) = \"\"",
        "substring(option data, -1, 1) = \"\"",
        "suffix(option data, 4) = \"Arch\"",
        "suffix(option text, 99) = \"rack\"",
        "lcase(option data) = \"pxeclient:arch\"",
        "ucase(option text) = \"RACK\"",
        "concat(option text, 0, option space.one) = concat(\"rack\", 0:0:7)",
        "pick-first-value(option 99, option text, option data) = \"rack\"",
        "pick(null) = null",
        "reverse(1, option text) = \"kcar\"",
        "reverse(2, option text) = \"ckra\"",
        "hardware = 1:52:54:0:0:0:7",
        "binary-to-ascii(16, 8, \":\", substring(hardware, 1, 6)) = \"52:54:0:0:0:7\"",
        "binary-to-ascii(10, 16, \".\", option space.one) = \"7\"",
        "binary-to-ascii(2, 8, \"\", option space.one) = \"0111\"",
        "binary-to-ascii(10, 32, \".\", c0:a8:0:1:0:0:0:7) = \"03232235521.7\"",
        "binary-to-ascii(10, 32, \".\", 54:b:e3:ff:54:b:e4:0) = \"1410065407.01410065408\"",
        "binary-to-ascii(12, 32, \".\", 40:0:0:0) = \"025b716454\"",
        "binary-to-ascii(5, 32, \".\", ff:ff:ff:ff) = \"032244002423140\"",
        "binary-to-ascii(2, 32, \".\", 80:0:0:0) = \"10000000000000000000000000000000\"",
        "encode-int(258, 16) = 1:2",
        "encode-int(258, 8) = 2",
        "encode-int(-1, 32) = ff:ff:ff:ff",
        "extract-int(option space.one, 16) = 7",
        "extract-int(option space.one, 8) = 0",
        "(extract-int(hardware, 8) - 2) = -1",
        "(extract-int(hardware, 32) / 65536) = 338",
        "(extract-int(hardware, 32) % 65536) = 21504",
        "(extract-int(hardware, 16) ^ 1 & 255 | 256) = 339",
        "packet(0, 3) = 1:1:6",
        "packet(6, 99) = \"cd\"",
        "filename = \"pxelinux.0\"",
        "check \"first\" and not check \"second\"",
        "option data ~= \"^pxe\" or option data ~~ \"^pxe\"",
        "known and not static",
        "config-option data = \"sent\" and config-option text = null",
        "leased-address = a:1:0:4d",
        "binary-to-ascii(10, 8, \".\", leased-address) = \"10.1.0.77\"",
        "host-decl-name = \"n07\"",
        "lease-time = 3600",
        "(lease-time / 2) = 1800",
        "encode-int(client-state, 8) = null",
        "gethostname() = \"boot\"",
        "gethostbyname(\"ns1.example.org\") = a:1:0:1:a:1:0:2",
        "truth",
        "truth and bytes = \"v\"",
        "\"v\" = bytes",
        "concat(bytes, bytes) = \"vv\"",
        "(lease-time + number) = 3605",
        "encode-int(number, 8) = 5",
        "defined(bytes) and not defined(unset)",
        "unset = null",
        "bytes != unset and bytes = bytes and bytes != number",
    ] {
        assert_eq!(yields(text, &machine), Some(true), "{text}");
    }
}

/// Null in each operator and function: true, false, or null.
#[test]
fn null() {
    const NULL: Option<bool> = None;
    let machine = machine();
    let (yes, no) = (Some(true), Some(false));
    for (text, value) in [
        // Null equals null only.
        ("option 99 = option 98", yes),
        ("option 99 = \"\"", no),
        ("option 99 != option data", yes),
        ("null = server-name", yes),
        ("extract-int(option 99, 8) = extract-int(option 98, 8)", yes),
        ("extract-int(option 99, 8) != 0", yes),
        // A pattern, `not`.
        ("option 99 ~= \"\"", NULL),
        ("option 99 ~~ \".\"", NULL),
        ("not (option 99 ~= \".\")", NULL),
        // What stands behind false or null is not looked at, and all is null.
        ("exists 99 and exists data", NULL),
        ("option 99 ~= \".\" and exists data", NULL),
        ("exists data and exists 99", no),
        ("exists data and option 99 ~= \".\"", NULL),
        ("not (exists 99 and exists data)", NULL),
        // Null beside false is false.
        ("option 99 ~= \".\" or exists 99", no),
        ("exists 99 or option 99 ~= \".\"", no),
        ("option 99 ~= \".\" or exists data", yes),
        ("option 99 ~= \".\" or option 98 ~= \".\"", NULL),
        ("exists 99", no),
        // Functions of null, and those that cannot be carried out.
        ("substring(option 99, 0, 1) = null", yes),
        ("substring(option data, extract-int(option 99, 8), 1) = null", yes),
        ("substring(option data, 0, extract-int(option 99, 8)) = null", yes),
        ("suffix(option 99, 1) = null", yes),
        ("suffix(option data, extract-int(option 99, 8)) = null", yes),
        ("lcase(option 99) = null", yes),
        ("ucase(option 99) = null", yes),
        ("concat(option 99, option data) = null", yes),
        ("concat(option data, option 99) = null", yes),
        ("pick(option 99, option 98) = null", yes),
        ("pick(option 99, \"\", option data) = \"\"", yes),
        ("reverse(1, option 99) = null", yes),
        ("reverse(extract-int(option 99, 8), option data) = null", yes),
        ("reverse(3, option data) = null", yes),
        ("reverse(0, option data) = null", yes),
        ("binary-to-ascii(10, 8, \".\", option 99) = null", yes),
        ("binary-to-ascii(10, 8, option 99, option data) = null", yes),
        ("binary-to-ascii(extract-int(option 99, 8), 8, \".\", option data) = null", yes),
        ("binary-to-ascii(10, extract-int(option 99, 8), \".\", option data) = null", yes),
        ("binary-to-ascii(10, 12, \".\", option data) = null", yes),
        ("binary-to-ascii(10, 32, \".\", option data) = null", yes),
        ("binary-to-ascii(1, 8, \".\", option data) = null", yes),
        ("encode-int(extract-int(option 99, 8), 8) = null", yes),
        ("encode-int(extract-int(option space.one, 32), 8) = null", yes),
        ("encode-int((extract-int(option 99, 8) + 1), 8) = null", yes),
        ("encode-int((extract-int(hardware, 8) - extract-int(option 99, 8)), 8) = null", yes),
        ("encode-int((extract-int(hardware, 8) / 0), 8) = null", yes),
        ("encode-int((extract-int(hardware, 8) % 0), 8) = null", yes),
        ("packet(8, 1) = null", yes),
        ("packet(extract-int(option 99, 8), 1) = null", yes),
        ("packet(0, 0) = \"\"", yes),
        ("server-name = null", yes),
        // A variable of another type.
        ("concat(number, \"x\") = null", yes),
        ("encode-int(bytes, 8) = null", yes),
        ("unset", NULL),
        ("number and exists data", NULL),
        ("bytes = extract-int(option data, 8)", no),
    ] {
        assert_eq!(yields(text, &machine), value, "{text}");
    }
}

#[test]
fn texts_end_before_their_nuls_and_data_does_not() {
    let with = |path, value| Machine { options: vec![(path, value)], message: &[] };
    for (value, wanted) in [
        (&b"rack\0\0"[..], "option text = \"rack\""),
        (b"\0", "exists text and option text = \"\""),
        (b"a\0b", "option text = 61:0:62"),
        (b"", "not exists text and option text = null"),
    ] {
        assert_eq!(yields(wanted, &with(TEXT, value)), Some(true), "{wanted}");
    }
    for (value, wanted) in
        [(&b"a\0"[..], "option data = 61:0"), (b"", "exists data and option data = \"\"")]
    {
        assert_eq!(yields(wanted, &with(DATA, value)), Some(true), "{wanted}");
    }
}

#[test]
fn values_that_are_put_together_have_a_longest_length() {
    let long = vec![b'a'; 6_000];
    let machine = Machine { options: vec![(DATA, &long)], message: &[] };
    let twice = "concat(option data, option data) = null";
    assert_eq!(yields(twice, &machine), Some(true));
    let digits = "binary-to-ascii(2, 8, \"\", option data) = null";
    assert_eq!(yields(digits, &machine), Some(true));
    assert_eq!(yields("lcase(option data) = option data", &machine), Some(true));
}
