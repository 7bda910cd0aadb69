//! Which quirks a machine has: what DHCP itself does about them, and what TFTP is told, by the
//! address that the machine is given.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{Message, MessageType};

use crate::config::Config;
use crate::dhcp::Action;
use crate::quirks::Notes;

/// Notes the quirks of the sender of `message` with the address that `action` gives it. It is noted
/// with the OFFER already: some firmware fetches files without a REQUEST. Returns how long the
/// reply has to wait for the sake of its scope and of the quirks.
pub(super) fn apply(
    notes: Option<&Notes>,
    config: &Config,
    message: &Message<'_>,
    action: &Action<'_>,
) -> Duration {
    let Some(reply) = action.reply() else { return Duration::ZERO };
    let Some(tftp) = &config.tftp else { return reply.delay };
    let quirks = &tftp.quirks;
    // There is no address in a NAK, and none in the ACK to an INFORM, whose ciaddr anybody can
    // write.
    let notes = notes.filter(|_| !reply.yiaddr.is_unspecified());
    // A REQUEST of SELECTING may say less than its DISCOVER, which was noted with the OFFER.
    let says_less = message.message_type() == Some(MessageType::Request)
        && message.server_identifier().is_some()
        && message.vendor_class().is_none();
    let set = match notes {
        Some(notes) if says_less => notes.of(reply.yiaddr, quirks),
        _ => quirks.of(message),
    };
    if let Some(notes) = notes.filter(|_| !says_less) {
        notes.note(reply.yiaddr, quirks, set);
    }
    reply.delay.max(quirks.reply_delay(set))
}
