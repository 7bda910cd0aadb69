//! What is said of a datagram that is no DHCP message.

use bootstorm_protocols::dhcpv4::Message;

use super::*;
use crate::event::row::Row;

/// The event of a payload that does not parse, as `events` shows it.
fn row(payload: &[u8]) -> Row {
    let error = Message::parse(payload).unwrap_err();
    let event = crate::dhcp::malformed(payload, ip("10.1.4.3"), 2, error);
    Row::new(&event, String::new(), None)
}

#[test]
fn a_malformed_message_is_explained_with_the_place_of_the_option() {
    let mut payload = Client::dhclient(mac(1)).discover().payload;
    // Option 55 stands behind option 53.
    assert_eq!(payload[240..244], [53, 1, 1, 55]);
    payload[244] = 255;
    let row = row(&payload);
    assert_eq!((&*row.event, row.mac.as_deref()), ("malformed", Some("52:54:00:00:00:01")));
    assert_eq!(row.ip.as_deref(), Some("10.1.4.3"));
    assert_eq!(
        row.reason.as_deref(),
        Some("option 55 at offset 243 runs past the end of its field")
    );
}

#[test]
fn what_has_no_header_is_explained_without_its_sender() {
    let row = row(&[1; 17]);
    assert_eq!(row.mac, None);
    assert_eq!(row.reason.as_deref(), Some("17 bytes are fewer than the 236 of a BOOTP header"));
}
