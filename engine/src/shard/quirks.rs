//! Passes from DHCP to TFTP which quirks a machine has, by the address that it is given.

use bootstorm_protocols::dhcpv4::{Message, MessageType};

use crate::config::Config;
use crate::dhcp::Action;
use crate::quirks::Notes;

/// Notes the quirks of the sender of `message` with the address that `action` gives it. It is noted
/// with the OFFER already: some firmware fetches files without a REQUEST.
pub(super) fn note(notes: &Notes, config: &Config, message: &Message<'_>, action: &Action<'_>) {
    let (Action::Reply(reply)
    | Action::ProbeThenOffer(reply)
    | Action::AckWhenDurable { reply, .. }) = action
    else {
        return;
    };
    // None in a NAK, and none in the ACK to an INFORM, whose ciaddr anybody can write.
    if reply.yiaddr.is_unspecified() {
        return;
    }
    // A REQUEST of SELECTING may say less than its DISCOVER, which was noted with the OFFER.
    if message.message_type() == Some(MessageType::Request)
        && message.server_identifier().is_some()
        && message.vendor_class().is_none()
    {
        return;
    }
    if let Some(tftp) = &config.tftp {
        notes.note(reply.yiaddr, &tftp.quirks, tftp.quirks.of(message));
    }
}
