//! Which quirks a machine has: what DHCP itself does about them, and what TFTP is told, by the
//! address that the machine is given.

use std::time::Duration;

use crate::config::Config;
use crate::dhcp::Action;
use crate::quirks::Notes;

/// Notes the quirks of a machine with the address that `action` gives it. They are noted with the
/// OFFER already: some firmware fetches files without a REQUEST. Returns how long the reply has to
/// wait for the sake of its scope and of the quirks.
pub(super) fn apply(
    notes: Option<&Notes>,
    config: &Config,
    chaddr: &[u8],
    action: &Action<'_>,
) -> Duration {
    let Some(reply) = action.reply() else { return Duration::ZERO };
    let Some(tftp) = &config.tftp else { return reply.delay };
    let quirks = &tftp.quirks;
    let set = quirks.of(chaddr, reply.vendor_class);
    // There is no address in a NAK, and none in the ACK to an INFORM, whose ciaddr anybody can
    // write.
    if let Some(notes) = notes.filter(|_| !reply.yiaddr.is_unspecified()) {
        notes.note(reply.yiaddr, quirks, set);
    }
    reply.delay.max(quirks.reply_delay(set))
}
