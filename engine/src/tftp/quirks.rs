//! Applies the quirks that DHCP noted for a client's address. The rules are in `crate::quirks`.

use std::net::IpAddr;

use crate::event::QuirkNames;
use crate::quirks::{MAX_NAME, Notes, Terms};

use super::service::Service;
use super::shard::TftpShard;

impl TftpShard {
    /// The quirks noted for the addresses of clients.
    pub fn notes(&self) -> &Notes {
        &self.server.notes
    }

    /// Applies the client's quirks to the terms of its transfer, counts those that changed
    /// something, and returns their names.
    pub(super) fn apply_quirks(
        &self,
        service: &Service,
        client: IpAddr,
        terms: &mut Terms,
    ) -> QuirkNames {
        // Quirks are noted by DHCPv4 only.
        let IpAddr::V4(address) = client else { return QuirkNames::default() };
        let set = self.server.notes.of(address, &service.quirks);
        let (mut text, mut len) = ([0; MAX_NAME], 0);
        service.quirks.apply(set, terms, |quirk| {
            self.metrics.quirks.count(&quirk.name);
            let comma: &[u8] = if len > 0 { b"," } else { b"" };
            for (to, from) in text[len..].iter_mut().zip(comma.iter().chain(quirk.name.as_bytes()))
            {
                *to = *from;
                len += 1;
            }
        });
        QuirkNames::new(&text[..len])
    }
}
