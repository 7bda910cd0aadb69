//! The clocks of production, read together.

use std::io;

use crate::leases::{BootId, Clock};

/// Which boot of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The time on all clocks at once.
///
/// # Errors
/// `/proc` is not mounted, or reads differently than expected.
pub fn read() -> io::Result<Clock> {
    let text = std::fs::read_to_string(BOOT_ID)?;
    let boot = boot_id(&text)
        .ok_or_else(|| io::Error::other(format!("{BOOT_ID}: {text:?} is not a boot id")))?;
    let wall = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let synchronised = bootstorm_net::clock_is_synchronised();
    Ok(Clock { now: bootstorm_net::now(), wall, boot, synchronised })
}

/// 32 hexadecimal digits, with or without the hyphens of a UUID.
fn boot_id(text: &str) -> Option<BootId> {
    let digits: String = text.trim().split('-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then(|| BootId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_a_uuid() {
        let boot = boot_id("01020304-0506-0708-090a-0b0c0d0e0f10\n").unwrap();
        assert_eq!(boot.0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        for wrong in ["", "01020304", "not-a-boot-id-of-thirty-two-digit"] {
            assert_eq!(boot_id(wrong), None);
        }
    }

    #[test]
    fn one_boot_keeps_its_id() {
        let (first, second) = (read().unwrap(), read().unwrap());
        assert_eq!(first.boot, second.boot);
        assert!(second.now >= first.now && first.wall > 1_500_000_000);
    }
}
