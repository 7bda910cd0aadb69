//! What no honest peer sends.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{Message, MessageType, ParseError, options};

use super::common::{COOKIE, FILE, OPTIONS, SNAME, read_everything, request};

fn parse_error(bytes: &[u8]) -> ParseError {
    Message::parse(bytes).unwrap_err()
}

#[test]
fn too_short_for_the_fixed_fields() {
    assert_eq!(parse_error(&[]), ParseError::TooShort(0));
    assert_eq!(parse_error(&request(&[])[..235]), ParseError::TooShort(235));
}

#[test]
fn longer_than_any_datagram() {
    let mut bytes = request(&[255]);
    bytes.resize(65_536, 0);
    assert_eq!(parse_error(&bytes), ParseError::TooLong(65_536));
    assert!(Message::parse(&bytes[..65_535]).is_ok());
}

#[test]
fn an_op_that_is_neither_request_nor_reply() {
    for op in [0, 3, 255] {
        let mut bytes = request(&[255]);
        bytes[0] = op;
        assert_eq!(parse_error(&bytes), ParseError::Op(op));
    }
}

#[test]
fn a_hardware_address_of_no_bytes_and_of_too_many() {
    let mut bytes = request(&[53, 1, 1, 255]);
    bytes[2] = 0; // RFC 4390: InfiniBand sends none
    assert_eq!(Message::parse(&bytes).unwrap().chaddr(), []);
    bytes[2] = 16;
    assert_eq!(Message::parse(&bytes).unwrap().chaddr().len(), 16);
    bytes[2] = 17;
    assert_eq!(parse_error(&bytes), ParseError::HardwareLength(17));
    bytes[2] = 255;
    assert_eq!(parse_error(&bytes), ParseError::HardwareLength(255));
}

/// RFC 951: a vendor area without the cookie is the vendor's own; there may even be none.
#[test]
fn bootp_without_a_cookie_has_no_options() {
    let mut bytes = request(&[53, 1, 1, 255]);
    bytes[COOKIE] = 98;
    for len in [236, 237, 239, 240, bytes.len()] {
        let message = Message::parse(&bytes[..len]).unwrap();
        assert_eq!(message.message_type(), None);
        assert_eq!(message.options().count(), 0);
        assert_eq!(message.xid(), 0x3903_f326);
        read_everything(&message);
    }
}

#[test]
fn the_cookie_may_be_the_end() {
    let bytes = request(&[]);
    assert_eq!(Message::parse(&bytes).unwrap().options().count(), 0);
    assert_eq!(Message::parse(&bytes[..239]).unwrap().options().count(), 0);
}

#[test]
fn a_missing_end_is_at_the_end() {
    let bytes = request(&[53, 1, 1, 12, 1, b'a']);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.message_type(), Some(MessageType::Discover));
    assert!(message.option(options::HOST_NAME).unwrap() == b"a"[..]);
}

#[test]
fn nothing_behind_the_end_is_read() {
    let bytes = request(&[53, 1, 1, 255, 12, 1, b'a', 82, 255]);
    assert_eq!(Message::parse(&bytes).unwrap().options().count(), 1);
}

#[test]
fn an_option_that_runs_past_the_end() {
    let overrun = |at| ParseError::Overrun { code: 12, at };
    let start = OPTIONS as u16;
    assert_eq!(parse_error(&request(&[53, 1, 1, 12, 3, b'a', b'b'])), overrun(start + 3));
    assert_eq!(parse_error(&request(&[12, 255, 255])), overrun(start));
    assert_eq!(parse_error(&request(&[0, 0, 12])), overrun(start + 2)); // not even a length
}

#[test]
fn an_option_that_runs_past_the_end_of_an_overloaded_field() {
    let mut bytes = request(&[52, 1, 3, 255]);
    bytes[FILE..FILE + 3].copy_from_slice(&[12, 126, b'a']);
    assert!(Message::parse(&bytes).is_ok());
    bytes[FILE + 1] = 127;
    assert_eq!(parse_error(&bytes), ParseError::Overrun { code: 12, at: FILE as u16 });
    bytes[FILE] = 255;
    bytes[SNAME + 62..SNAME + 64].copy_from_slice(&[12, 1]); // file begins behind it
    assert_eq!(parse_error(&bytes), ParseError::Overrun { code: 12, at: SNAME as u16 + 62 });
}

#[test]
fn an_end_in_an_overloaded_field_ends_that_field() {
    let mut bytes = request(&[52, 1, 3, 255]);
    bytes[FILE..FILE + 5].copy_from_slice(&[255, 12, 1, b'a', 255]);
    bytes[SNAME..SNAME + 4].copy_from_slice(&[15, 1, b'b', 255]);
    let message = Message::parse(&bytes).unwrap();
    assert!(message.option(options::HOST_NAME).is_none());
    assert!(message.option(options::DOMAIN_NAME).unwrap() == b"b"[..]);
}

/// Option 52 inside of an overloaded field would lead around in a circle.
#[test]
fn overload_does_not_recur() {
    let mut bytes = request(&[52, 1, 1, 255]);
    bytes[FILE..FILE + 4].copy_from_slice(&[52, 1, 3, 255]);
    bytes[SNAME..SNAME + 4].copy_from_slice(&[12, 1, b'a', 255]);
    let message = Message::parse(&bytes).unwrap();
    assert!(message.option(options::HOST_NAME).is_none());
    read_everything(&message);
}

#[test]
fn an_overload_that_names_no_field() {
    for options in
        [&[52, 1, 0, 255][..], &[52, 1, 4], &[52, 0], &[52, 2, 1, 1], &[52, 1, 1, 52, 1, 2]]
    {
        assert_eq!(parse_error(&request(options)), ParseError::Overload { at: OPTIONS as u16 });
    }
}

#[test]
fn a_message_type_that_is_not_one_byte() {
    let wrong = |offset, len| ParseError::MessageType { at: OPTIONS as u16 + offset, len };
    assert_eq!(parse_error(&request(&[53, 0, 255])), wrong(0, 0));
    assert_eq!(parse_error(&request(&[80, 0, 53, 2, 1, 1, 255])), wrong(2, 2));
    assert_eq!(parse_error(&request(&[53, 1, 1, 53, 1, 3, 255])), wrong(0, 2));
    let unknown = request(&[53, 1, 99, 255]);
    let message = Message::parse(&unknown).unwrap();
    assert_eq!(message.message_type(), Some(MessageType::Unknown(99)));
}

/// Joined, two instances of a fixed-length option have the wrong length: the value is not guessed.
#[test]
fn a_duplicate_of_a_fixed_option_has_no_value() {
    let bytes = request(&[53, 1, 3, 50, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 2, 255]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.requested_address(), None);
    assert_eq!(message.option(options::REQUESTED_ADDRESS).unwrap().len(), 8);
}

#[test]
fn empty_options_are_there_and_say_nothing() {
    let bytes = request(&[
        53, 1, 1, 12, 0, 61, 0, 60, 0, 77, 0, 55, 0, 82, 0, 93, 0, 97, 0, 50, 0, 43, 0, 255,
    ]);
    let message = Message::parse(&bytes).unwrap();
    assert!(message.option(options::HOST_NAME).unwrap().is_empty());
    assert!(message.client_id().is_none(), "an empty identifier identifies nobody");
    assert_eq!(message.requested_address(), None);
    assert_eq!(message.parameter_request_list().count(), 0);
    assert_eq!(message.relay_agent_information().unwrap().sub_options().count(), 0);
    assert!(message.user_class().is_some());
    read_everything(&message);
}

#[test]
fn values_of_the_wrong_length_are_not_read() {
    let bytes = request(&[
        53, 1, 3, 50, 3, 10, 0, 0, 54, 5, 10, 0, 0, 1, 2, 51, 2, 0, 9, 57, 4, 0, 0, 5, 0, 118, 0,
        80, 1, 1, 93, 1, 7, 97, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255,
    ]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.requested_address(), message.server_identifier()), (None, None));
    assert_eq!((message.lease_time(), message.max_message_size()), (None, None));
    assert_eq!((message.subnet_selection(), message.rapid_commit()), (None, false));
    assert!(message.architecture().is_none() && message.machine_id().is_none());
    read_everything(&message);
}

/// Relay agent information: whole sub-options count, a cut one does not; the echo repeats all.
#[test]
fn a_cut_off_sub_option_hides_nothing_before_it() {
    let bytes = request(&[53, 1, 1, 82, 11, 1, 2, b'a', b'b', 5, 4, 10, 1, 0, 0, 2, 255]);
    let message = Message::parse(&bytes).unwrap();
    let agent = message.relay_agent_information().unwrap();
    assert!(agent.circuit_id().unwrap() == b"ab"[..]);
    assert_eq!(agent.link_selection(), Some(Ipv4Addr::new(10, 1, 0, 0)));
    assert!(agent.remote_id().is_none());
    assert!(!agent.sub_options().well_formed());
    assert_eq!(agent.data().len(), 11);
}

/// A circuit id may lie across two instances of option 82 (RFC 3396).
#[test]
fn a_sub_option_in_two_pieces_is_joined() {
    let bytes = request(&[
        53, 1, 1, 82, 5, 1, 4, b'e', b't', b'h', 12, 0, 82, 7, b'7', 11, 4, 10, 1, 0, 1, 255,
    ]);
    let message = Message::parse(&bytes).unwrap();
    let agent = message.relay_agent_information().unwrap();
    assert!(agent.circuit_id().unwrap() == b"eth7"[..]);
    assert_eq!(agent.circuit_id().unwrap().as_slice(), None);
    assert_eq!(agent.server_identifier_override(), Some(Ipv4Addr::new(10, 1, 0, 1)));
    assert!(agent.sub_options().well_formed());
}

/// In relay agent information 0 and 255 are codes like others; in vendor options they are not.
#[test]
fn padding_and_end_mean_something_in_encapsulated_options_only() {
    let value = [0, 0, 6, 1, 8, 255, 9, 9];
    let mut options = vec![43, 8];
    options.extend(value);
    options.extend([82, 8]);
    options.extend(value);
    let bytes = request(&options);
    let message = Message::parse(&bytes).unwrap();
    let vendor = message.option(options::VENDOR_ENCAPSULATED_OPTIONS).unwrap().encapsulated();
    let codes: Vec<u8> = vendor.clone().map(|sub_option| sub_option.code).collect();
    assert_eq!(codes, [6]);
    assert!(vendor.well_formed());
    let agent = message.relay_agent_information().unwrap().sub_options();
    let codes: Vec<u8> = agent.clone().map(|sub_option| sub_option.code).collect();
    assert_eq!(codes, [0, 6]);
    assert!(!agent.well_formed());
}

/// What a machine sends is shown without its control characters: names end up in terminals.
#[test]
fn what_is_shown_steers_no_terminal() {
    let bytes = request(&[
        53, 1, 1, 12, 7, 27, b'[', b'2', b'J', b'\n', 0x9b, 0, 60, 3, b'a', b'\\', 7, 255,
    ]);
    let message = Message::parse(&bytes).unwrap();
    let shown = |code| options::Rendered::new(code, message.option(code).unwrap()).to_string();
    assert_eq!(shown(12), r"\x1b[2J\x0a\x9b");
    assert_eq!(shown(60), r"a\\\x07");
}
