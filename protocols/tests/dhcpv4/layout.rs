//! Byte layouts by hand, from the RFCs' figures and examples.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{
    BROADCAST_FLAG, Header, Message, MessageType, MessageWriter, NoRoom, RelayAgentInformation,
    WriteError, options,
};

use super::common::{COOKIE, FILE, OPTIONS, SNAME, empty_reply, request, written};

/// RFC 2131 figure 1: every field at its offset.
#[test]
fn a_message_byte_by_byte() {
    let header = Header {
        op: 1,
        htype: 6,
        hlen: 6,
        hops: 3,
        xid: 0x0102_0304,
        secs: 0x0506,
        flags: BROADCAST_FLAG,
        ciaddr: Ipv4Addr::new(10, 0, 0, 1),
        yiaddr: Ipv4Addr::new(10, 0, 0, 2),
        siaddr: Ipv4Addr::new(10, 0, 0, 3),
        giaddr: Ipv4Addr::new(10, 0, 0, 4),
        sname: b"server",
        file: b"pxelinux.0",
        ..empty_reply()
    };
    let bytes = written(&header, 548, &[(53, vec![1]), (50, vec![10, 0, 0, 9])]);
    let mut expected = vec![1, 6, 6, 3, 1, 2, 3, 4, 5, 6, 0x80, 0];
    expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4]);
    expected.extend([0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(b"server");
    expected.resize(FILE, 0);
    expected.extend(b"pxelinux.0");
    expected.resize(COOKIE, 0);
    expected.extend([99, 130, 83, 99, 53, 1, 1, 50, 4, 10, 0, 0, 9, 255]);
    expected.resize(300, 0);
    assert_eq!(bytes, expected);

    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.op(), message.htype(), message.hlen(), message.hops()), (1, 6, 6, 3));
    assert_eq!((message.xid(), message.secs()), (0x0102_0304, 0x0506));
    assert!(message.broadcast());
    assert_eq!(message.ciaddr(), header.ciaddr);
    assert_eq!(message.yiaddr(), header.yiaddr);
    assert_eq!(message.siaddr(), header.siaddr);
    assert_eq!(message.giaddr(), header.giaddr);
    assert_eq!(message.chaddr(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert_eq!((message.server_name(), message.boot_file()), (&b"server"[..], &b"pxelinux.0"[..]));
    assert_eq!((message.sname().len(), message.file().len()), (64, 128));
    assert_eq!(message.message_type(), Some(MessageType::Discover));
    assert_eq!(message.requested_address(), Some(Ipv4Addr::new(10, 0, 0, 9)));
}

/// RFC 2131 section 4.3.1 table 3: what a reply takes from its request.
#[test]
fn a_reply_repeats_transaction_flags_relay_and_hardware() {
    let mut bytes = request(&[53, 1, 1, 255]);
    bytes[3] = 2; // hops
    bytes[8..12].copy_from_slice(&[0, 9, 0x80, 0]); // secs, flags
    bytes[12..28].copy_from_slice(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]);
    let header = Header::reply_to(&Message::parse(&bytes).unwrap());
    let expected =
        Header { flags: BROADCAST_FLAG, giaddr: Ipv4Addr::new(4, 4, 4, 4), ..empty_reply() };
    assert_eq!(header, expected);
}

/// RFC 3396 section 5's figures: the pieces of one option are joined, whatever stands between.
#[test]
fn a_split_option_is_joined() {
    let bytes = request(&[
        53, 1, 1, 67, 4, b'/', b'd', b'i', b's', 12, 1, b'a', 67, 3, b'k', b'l', b'e', 255,
    ]);
    let message = Message::parse(&bytes).unwrap();
    let file = message.option(options::BOOTFILE_NAME).unwrap();
    assert_eq!(file.len(), 7);
    assert!(file == b"/diskle"[..]);
    assert_eq!(file.as_slice(), None);
    assert_eq!(file.pieces().collect::<Vec<_>>(), [&b"/dis"[..], b"kle"]);
    assert_eq!(file.copy_to(&mut [0; 6]), None);
    assert_eq!(file.copy_to(&mut [0; 8]), Some(&b"/diskle"[..]));
    assert_eq!((file.get(3), file.get(4), file.get(7)), (Some(b's'), Some(b'k'), None));
    let part = file.slice(3, 3).unwrap();
    assert!(part == b"skl"[..]);
    assert_eq!(file.slice(4, 3).unwrap().as_slice(), Some(&b"kle"[..]));
    assert!(file.slice(7, 0).unwrap().is_empty());
    assert!(file.slice(5, 3).is_none());
    assert!(file.starts_with(b"/disk") && !file.starts_with(b"/diskless"));
}

/// RFC 3396 section 5: first the options field, then file, then sname, whatever their place.
#[test]
fn overloaded_fields_are_read_file_first() {
    let mut bytes = request(&[53, 1, 1, 52, 1, 3, 67, 2, b'a', b'b', 255]);
    bytes[FILE..FILE + 7].copy_from_slice(&[67, 2, b'c', b'd', 12, 0, 255]);
    bytes[SNAME..SNAME + 4].copy_from_slice(&[67, 2, b'e', b'f']); // no END: the field ends it
    let message = Message::parse(&bytes).unwrap();
    assert!(message.option(options::BOOTFILE_NAME).unwrap() == b"abcdef"[..]);
    assert!(message.option(options::HOST_NAME).unwrap().is_empty());
    assert_eq!((message.boot_file(), message.server_name()), (&[][..], &[][..]));
    let codes: Vec<u8> = message.options().map(|(code, _)| code).collect();
    assert_eq!(codes, [53, 52, 67, 67, 12, 67]);
}

/// RFC 2132 section 9.3: value 1 is file, value 2 is sname.
#[test]
fn only_the_field_that_option_52_names_holds_options() {
    for (overload, expected) in [(1, &b"file"[..]), (2, b"sname")] {
        let mut bytes = request(&[52, 1, overload, 255]);
        bytes[FILE..FILE + 7].copy_from_slice(&[12, 4, b'f', b'i', b'l', b'e', 255]);
        bytes[SNAME..SNAME + 8].copy_from_slice(&[12, 5, b's', b'n', b'a', b'm', b'e', 255]);
        let message = Message::parse(&bytes).unwrap();
        assert!(message.option(options::HOST_NAME).unwrap() == *expected);
        assert_eq!(message.boot_file().is_empty(), overload == 1);
        assert_eq!(message.server_name().is_empty(), overload == 2);
    }
}

#[test]
fn what_does_not_fit_the_options_goes_to_file_then_sname() {
    let header = Header { ..empty_reply() };
    let mut buf = [0xee; 600];
    // 300 bytes leave 60 for options: END, option 52 and 56 bytes.
    let mut writer = MessageWriter::new(&mut buf, 300, &header).unwrap();
    writer.option(53, &[5]).unwrap();
    writer.option(12, &[b'a'; 51]).unwrap();
    writer.option(15, &[b'b'; 100]).unwrap();
    writer.option(17, &[b'c'; 50]).unwrap();
    writer.option(40, &[b'd'; 20]).unwrap();
    assert_eq!(writer.finish(), 300);
    assert_eq!(buf[OPTIONS + 56..300], [52, 1, 3, 255]);
    assert_eq!(buf[FILE..FILE + 2], [15, 100]);
    assert_eq!(buf[FILE + 102..FILE + 125], [&[40, 20][..], &[b'd'; 20], &[255]].concat()[..]);
    assert_eq!(buf[FILE + 125..COOKIE], [0; 3]);
    assert_eq!(buf[SNAME..SNAME + 2], [17, 50]);
    assert_eq!(buf[SNAME + 52], 255);
    let message = Message::parse(&buf[..300]).unwrap();
    for (code, len) in [(53, 1), (12, 51), (15, 100), (17, 50), (40, 20)] {
        assert_eq!(message.option(code).unwrap().len(), len);
    }
}

#[test]
fn a_field_with_a_name_in_it_holds_no_options() {
    let header = Header { file: b"pxelinux.0", sname: b"server", ..empty_reply() };
    let mut buf = [0xee; 300];
    let mut writer = MessageWriter::new(&mut buf, 300, &header).unwrap();
    // Nothing can be overloaded, so nothing is set aside for option 52.
    assert_eq!(writer.option(12, &[b'a'; 58]), Err(NoRoom { code: 12, len: 58 }));
    writer.option(12, &[b'a'; 57]).unwrap();
    assert_eq!(writer.option(80, &[]), Err(NoRoom { code: 80, len: 0 }));
    assert_eq!(writer.finish(), 300);
    let message = Message::parse(&buf).unwrap();
    assert_eq!(message.boot_file(), b"pxelinux.0");
    assert_eq!(message.options().count(), 1);
}

#[test]
fn a_bootp_client_gets_no_overloaded_fields() {
    let mut buf = [0xee; 300];
    let mut writer = MessageWriter::new(&mut buf, 300, &empty_reply()).unwrap();
    writer.forbid_overload();
    writer.option(12, &[b'a'; 50]).unwrap();
    assert_eq!(writer.option(15, &[b'b'; 20]), Err(NoRoom { code: 15, len: 20 }));
    assert_eq!(writer.finish(), 300);
    assert!(Message::parse(&buf).unwrap().option(options::OPTION_OVERLOAD).is_none());
}

/// RFC 3396 section 4: more than 255 bytes take several instances.
#[test]
fn a_long_option_is_split() {
    let value: Vec<u8> = (0..=255).cycle().take(600).collect();
    let bytes = written(&empty_reply(), 1472, &[(43, value.clone())]);
    assert_eq!(bytes.len(), OPTIONS + 600 + 3 * 2 + 1);
    assert_eq!(bytes[OPTIONS..OPTIONS + 2], [43, 255]);
    assert_eq!(bytes[OPTIONS + 257..OPTIONS + 259], [43, 255]);
    assert_eq!(bytes[OPTIONS + 514..OPTIONS + 516], [43, 90]);
    let message = Message::parse(&bytes).unwrap();
    assert!(message.option(43).unwrap() == value[..]);
}

/// A value that no field can hold whole goes on in the next, as RFC 3396 section 5 orders them.
#[test]
fn an_option_that_fits_no_field_is_split_over_them() {
    let value: Vec<u8> = (0..200).collect();
    let bytes = written(&empty_reply(), 300, &[(43, value.clone())]);
    assert_eq!(bytes.len(), 300);
    let message = Message::parse(&bytes).unwrap();
    let pieces: Vec<usize> = message.option(43).unwrap().pieces().map(<[u8]>::len).collect();
    assert_eq!(pieces, [54, 125, 21]);
    assert!(message.option(43).unwrap() == value[..]);
}

#[test]
fn an_option_without_room_leaves_the_message_as_it_was() {
    let mut with = [0xee; 300];
    let mut writer = MessageWriter::new(&mut with, 300, &empty_reply()).unwrap();
    writer.option(53, &[5]).unwrap();
    assert_eq!(writer.option(43, &[1; 400]), Err(NoRoom { code: 43, len: 400 }));
    writer.option(1, &[255, 255, 0, 0]).unwrap();
    assert_eq!(writer.finish(), 300);
    let without = written(&empty_reply(), 300, &[(53, vec![5]), (1, vec![255, 255, 0, 0])]);
    assert_eq!(with[..], without[..]);
}

/// RFC 3046 section 2.2.
#[test]
fn the_echo_is_the_last_option_and_never_overloaded() {
    let agent: Vec<u8> = [&[1, 40][..], &[b'p'; 40]].concat();
    let agent = RelayAgentInformation::new((&agent[..]).into());
    let mut buf = [0xee; 300];
    let mut writer = MessageWriter::new(&mut buf, 300, &empty_reply()).unwrap();
    writer.echo(&agent).unwrap();
    writer.option(53, &[2]).unwrap();
    writer.option(15, &[b'b'; 30]).unwrap(); // no room beside the echo: goes to file
    assert_eq!(writer.option(82, &[0; 20]), Err(NoRoom { code: 82, len: 20 }));
    assert_eq!(writer.finish(), 300);
    assert_eq!(buf[FILE..FILE + 2], [15, 30]);
    assert_eq!(buf[OPTIONS..OPTIONS + 10], [53, 1, 2, 52, 1, 1, 82, 42, 1, 40]);
    assert_eq!(buf[OPTIONS + 50], 255);
}

#[test]
fn an_echo_without_room_is_refused() {
    let agent = [0; 55];
    let agent = RelayAgentInformation::new((&agent[..]).into());
    let mut buf = [0xee; 300];
    let mut writer = MessageWriter::new(&mut buf, 300, &empty_reply()).unwrap();
    assert_eq!(writer.echo(&agent), Err(NoRoom { code: 82, len: 55 }));
    writer.forbid_overload();
    writer.echo(&agent).unwrap();
    assert_eq!(writer.finish(), 300);
}

#[test]
fn what_cannot_be_a_message_is_not_begun() {
    let begin = |len: usize, header: &Header<'_>| {
        MessageWriter::new(&mut vec![0; len], 1500, header).map(MessageWriter::finish)
    };
    assert_eq!(begin(299, &empty_reply()), Err(WriteError::Buffer(299)));
    assert_eq!(begin(300, &empty_reply()), Ok(300));
    let wide = Header { hlen: 17, ..empty_reply() };
    assert_eq!(begin(300, &wide), Err(WriteError::HardwareLength(17)));
    let name = [b'n'; 128];
    let file = |len: usize| Header { file: &name[..len], ..empty_reply() };
    assert_eq!(begin(300, &file(128)), Err(WriteError::BootFile(128)));
    assert_eq!(begin(300, &file(127)), Ok(300));
    let sname = |len: usize| Header { sname: &name[..len], ..empty_reply() };
    assert_eq!(begin(300, &sname(64)), Err(WriteError::ServerName(64)));
    assert_eq!(begin(300, &sname(63)), Ok(300));
}
