use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Request<'_> {
    match Packet::parse(bytes) {
        Ok(Packet::Read(request)) => request,
        other => panic!("not a read request: {other:?}"),
    }
}

#[test]
fn a_request_as_edk2_sends_it() {
    let request =
        read(b"\0\x01efi/snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
    assert_eq!(request.filename, b"efi/snponly.efi");
    assert_eq!(request.mode, Mode::Octet);
    assert_eq!(request.options.get("tsize"), Some(&b"0"[..]));
    assert_eq!(request.options.get("blksize"), Some(&b"1468"[..]));
    assert_eq!(request.options.get("windowsize"), Some(&b"4"[..]));
    assert_eq!(request.options.get("timeout"), None);
}

#[test]
fn names_of_options_and_modes_know_no_case() {
    let request = read(b"\0\x01a\0OcTeT\0BLKSIZE\x00512\0");
    assert_eq!(request.mode, Mode::Octet);
    assert_eq!(request.options.get("blksize"), Some(&b"512"[..]));
    assert_eq!(read(b"\0\x01a\0NETASCII\0").mode, Mode::Netascii);
}

#[test]
fn the_first_of_a_repeated_option_counts() {
    let request = read(b"\0\x01a\0octet\0blksize\x001024\0blksize\x0065464\0");
    assert_eq!(request.options.get("blksize"), Some(&b"1024"[..]));
}

#[test]
fn padding_and_a_name_without_value_are_no_options() {
    assert!(read(b"\0\x01a\0octet\0\0\0\0").options.is_empty());
    assert!(read(b"\0\x01a\0octet\0blksize\0").options.is_empty());
    let padded = read(b"\0\x01a\0octet\0tsize\x000\0\0\0");
    assert_eq!(padded.options.iter().count(), 1);
}

#[test]
fn what_follows_the_last_nul_of_a_request_is_ignored() {
    let request = read(b"\0\x01name\0octet\0blksize\x001468\0junk");
    assert_eq!(request.options.iter().collect::<Vec<_>>(), [(&b"blksize"[..], &b"1468"[..])]);
    assert_eq!(request, read(b"\0\x01name\0octet\0blksize\x001468\0"));
    let request = read(b"\0\x01name\0octet\0blksize\x001468\0tsize\x000");
    assert_eq!(request.options.get("blksize"), Some(&b"1468"[..]));
    assert_eq!(request.options.get("tsize"), None);
    assert!(read(b"\0\x01name\0octet\0\xff\xff").options.is_empty());
    assert_eq!(Packet::parse(b"\0\x06blksize\x001468"), Err(ParseError::Unterminated));
}

#[test]
fn broken_requests_are_refused_by_name() {
    let refused = |bytes| Packet::parse(bytes).expect_err("must not parse");
    assert_eq!(refused(b""), ParseError::Short);
    assert_eq!(refused(b"\0"), ParseError::Short);
    assert_eq!(refused(b"\0\x03\0"), ParseError::Short);
    assert_eq!(refused(b"\0\x07\0\0"), ParseError::Opcode(7));
    assert_eq!(refused(b"\0\x01name"), ParseError::Unterminated);
    assert_eq!(refused(b"\0\x01name\0octet"), ParseError::Unterminated);
    assert_eq!(refused(b"\0\x01\0octet\0"), ParseError::NoFileName);
    assert_eq!(refused(b"\0\x01a\0mail\0"), ParseError::Mode);
}

#[test]
fn an_error_needs_no_nul_and_an_ack_may_be_padded() {
    let packet = Packet::parse(b"\0\x05\0\x08stop").unwrap();
    assert_eq!(packet, Packet::Error { code: ErrorCode::OptionRefused, message: b"stop" });
    assert_eq!(Packet::parse(b"\0\x04\x01\x02\0\0").unwrap(), Packet::Ack { block: 0x102 });
}

#[test]
fn writers_and_parser_agree() {
    let mut buf = [0; 128];
    let mut writer = write_request(&mut buf, true, b"up/load", Mode::Netascii).unwrap();
    writer.number("tsize", u64::MAX).unwrap().number("blksize", 0).unwrap();
    let len = writer.finish();
    let Packet::Write(request) = Packet::parse(&buf[..len]).unwrap() else { panic!() };
    assert_eq!(request.filename, b"up/load");
    assert_eq!(request.options.get("tsize"), Some(&b"18446744073709551615"[..]));
    assert_eq!(request.options.get("blksize"), Some(&b"0"[..]));

    assert_eq!(ack(65_537, Rollover::ToZero), [0, 4, 0, 1]);
    assert_eq!(data_header(65_536, Rollover::ToOne), [0, 3, 0, 1]);

    let len = write_error(&mut buf[..12], ErrorCode::FileNotFound, "a long message").unwrap();
    assert_eq!(&buf[..len], b"\0\x05\0\x01a long \0");
    assert!(write_error(&mut buf[..4], ErrorCode::FileNotFound, "").is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Packet::Read(request) | Packet::Write(request)) = Packet::parse(&bytes) {
            prop_assert!(!request.filename.contains(&0));
            for (name, value) in request.options.iter() {
                prop_assert!(!name.contains(&0) && !value.contains(&0));
            }
        }
    }

    #[test]
    fn mutilated_requests_do_not_panic(at in 0usize..40, byte: u8, cut in 0usize..40) {
        let mut bytes = *b"\0\x01pxelinux.0\0octet\0blksize\x001468\0tsize\x000\0";
        bytes[at.min(bytes.len() - 1)] = byte;
        let cut = cut.min(bytes.len());
        if let Ok(Packet::Read(request)) = Packet::parse(&bytes[..cut]) {
            let _ = request.options.iter().count();
        }
    }

    #[test]
    fn every_number_reads_back(value: u64) {
        let mut buf = [0; 64];
        let mut writer = OptionWriter::option_ack(&mut buf).unwrap();
        writer.number("tsize", value).unwrap();
        let len = writer.finish();
        let Packet::OptionAck(options) = Packet::parse(&buf[..len]).unwrap() else { panic!() };
        let text = std::str::from_utf8(options.get("tsize").unwrap()).unwrap();
        prop_assert_eq!(text.parse::<u64>().unwrap(), value);
    }
}
