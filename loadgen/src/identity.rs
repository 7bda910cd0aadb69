//! Identity of a simulated machine: hardware address, UUID, client identifiers, transaction ids.

use bootstorm_protocols::dhcpv4::ETHERNET;

use crate::firmware::ClientId;
use crate::seed::{Purpose, Seed};

/// So many machines can be told apart by a transaction id.
pub const MOST_MACHINES: u32 = 1 << 24;

/// First two bytes of the machines' hardware addresses: locally administered, and no maker's.
const MACHINE_PREFIX: [u8; 2] = [0x02, 0xb0];
/// First byte of an attacker's.
const ATTACKER_PREFIX: u8 = 0x06;
/// Makes a bijection of 32-bit numbers that spreads neighbours (odd, so it has an inverse).
const SPREAD: u32 = 0x9e37_79b1;
/// The inverse of [`SPREAD`] modulo 2^32.
const GATHER: u32 = inverse(SPREAD);

/// Newton's iteration: each step doubles the number of right bits.
const fn inverse(odd: u32) -> u32 {
    let mut found = odd;
    let mut step = 0;
    while step < 5 {
        found = found.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}

/// Tells machines apart, and finds the machine that an answer is for.
#[derive(Copy, Clone, Debug)]
pub struct Identities {
    seed: Seed,
    salt: u32,
    /// Numbers from here on are attackers.
    machines: u32,
    /// Third byte of hardware addresses.
    generation: u8,
}

impl Identities {
    /// For so many machines; attackers are numbered after them. Machines of another generation have
    /// other hardware addresses.
    pub fn new(seed: Seed, machines: u32, generation: u8) -> Identities {
        let salt = seed.draw(Purpose::Xid, 0, 0) as u32;
        Identities { seed, salt, machines, generation }
    }

    /// The hardware address. Those of machines count up, as in a real rack; those of attackers are
    /// drawn.
    pub fn mac(&self, machine: u32) -> [u8; 6] {
        // Machines are fewer than 2^24, so the first byte is 0.
        let [_, b, c, d] = machine.to_be_bytes();
        if machine < self.machines {
            let [x, y] = MACHINE_PREFIX;
            return [x, y, self.generation, b, c, d];
        }
        let [e, f, g, h, ..] = self.seed.draw(Purpose::Attacker, machine, 0).to_be_bytes();
        [ATTACKER_PREFIX, e, f, g, h, d ^ e]
    }

    /// The number that a hardware address has; attackers' have none.
    pub fn of_mac(&self, mac: &[u8]) -> Option<u32> {
        let [x, y, generation, b, c, d] = <[u8; 6]>::try_from(mac).ok()?;
        let machine = u32::from_be_bytes([0, b, c, d]);
        let ours = [x, y] == MACHINE_PREFIX && generation == self.generation;
        (ours && machine < self.machines).then_some(machine)
    }

    /// The transaction id of a machine's `round`th message exchange: unlike that of any other
    /// machine and of its last 255.
    pub fn xid(&self, machine: u32, round: u8) -> u32 {
        (machine << 8 | u32::from(round)).wrapping_mul(SPREAD) ^ self.salt
    }

    /// Machine and round of a transaction id; any number has some.
    pub fn of_xid(&self, xid: u32) -> (u32, u8) {
        let number = (xid ^ self.salt).wrapping_mul(GATHER);
        (number >> 8, number as u8)
    }

    /// The machine's UUID, as the text of RFC 9562 has it (version 4).
    pub fn uuid(&self, machine: u32) -> [u8; 16] {
        let mut uuid = [0; 16];
        let (high, low) = uuid.split_at_mut(8);
        high.copy_from_slice(&self.seed.draw(Purpose::Uuid, machine, 0).to_be_bytes());
        low.copy_from_slice(&self.seed.draw(Purpose::Uuid, machine, 1).to_be_bytes());
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// Writes the client identifier and returns its length; 0 is none.
    pub fn client_id(&self, machine: u32, kind: ClientId, to: &mut [u8; 32]) -> usize {
        if kind == ClientId::None {
            return 0;
        }
        let mac = self.mac(machine);
        let mut parts: [&[u8]; 4] = [&[], &[], &[], &[]];
        let uuid = self.uuid(machine);
        // DUID-LL (RFC 8415 section 11.4): type 3, hardware type 1, address; the IAID is the end of
        // the address.
        match kind {
            ClientId::None => {}
            ClientId::Hardware => parts = [&[ETHERNET], &mac, &[], &[]],
            ClientId::Uuid => parts = [&[0], &uuid, &[], &[]],
            ClientId::Duid => parts = [&[255], &mac[2..], &[0, 3, 0, ETHERNET], &mac],
        }
        let mut len = 0;
        for byte in parts.into_iter().flatten() {
            to[len] = *byte;
            len += 1;
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_transaction_id_leads_back(seed: u64, machine in 0..MOST_MACHINES, round: u8) {
            let ids = Identities::new(Seed(seed), 100, 0);
            prop_assert_eq!(ids.of_xid(ids.xid(machine, round)), (machine, round));
        }
    }

    #[test]
    fn machines_and_attackers_never_share_an_address() {
        let ids = Identities::new(Seed(3), 1000, 0);
        let macs: HashSet<[u8; 6]> = (0..50_000).map(|machine| ids.mac(machine)).collect();
        assert_eq!(macs.len(), 50_000);
        assert_eq!(ids.mac(258), [0x02, 0xb0, 0, 0, 1, 2]);
        assert_eq!(ids.of_mac(&ids.mac(258)), Some(258));
        assert_eq!(ids.of_mac(&ids.mac(1000)), None);
        assert_eq!(ids.of_mac(&[]), None);
        let later = Identities::new(Seed(3), 1000, 7);
        assert_eq!(later.mac(258), [0x02, 0xb0, 7, 0, 1, 2]);
        assert_eq!((later.of_mac(&later.mac(258)), ids.of_mac(&later.mac(258))), (Some(258), None));
    }

    #[test]
    fn one_machine_has_three_client_identifiers() {
        let ids = Identities::new(Seed(3), 10, 0);
        let mut buf = [0; 32];
        let mut id = |kind| {
            let len = ids.client_id(5, kind, &mut buf);
            buf[..len].to_vec()
        };
        assert!(id(ClientId::None).is_empty());
        assert_eq!(id(ClientId::Hardware), [1, 2, 0xb0, 0, 0, 0, 5]);
        assert_eq!(id(ClientId::Uuid).len(), 17);
        assert_eq!(id(ClientId::Duid), [255, 0, 0, 0, 5, 0, 3, 0, 1, 2, 0xb0, 0, 0, 0, 5]);
    }
}
