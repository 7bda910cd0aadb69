//! Which options hold for a transfer (RFC 2090, 2347 to 2349, 7440), decided here for both ends.

use std::time::Duration;

use thiserror::Error;

use crate::wire::Full;

use super::block::Rollover;
use super::multicast::{MULTICAST, Multicast};
use super::packet::{OptionWriter, Options};

/// Bytes of a block without the blksize option (RFC 1350).
const DEFAULT_BLKSIZE: u16 = 512;
/// Smallest blksize (RFC 2348).
pub const MIN_BLKSIZE: u16 = 8;
/// Largest blksize (RFC 2348).
pub const MAX_BLKSIZE: u16 = 65_464;
/// Largest windowsize. RFC 7440 section 3 allows 65,535, but the window in flight and the one
/// before must have different block numbers: with more, a delayed ACK of a block of the window
/// before would be taken for one of a block far ahead, and the blocks between would be missing.
pub const MAX_WINDOWSIZE: u16 = 32_767;

const BLKSIZE: &str = "blksize";
const TSIZE: &str = "tsize";
const TIMEOUT: &str = "timeout";
const WINDOWSIZE: &str = "windowsize";
const ROLLOVER: &str = "rollover";

/// The largest block that a packet of `mtu` bytes carries beside IP, UDP and TFTP headers, which
/// together take 32 bytes (IPv6: 52). Never less than [`MIN_BLKSIZE`].
#[must_use]
pub fn blksize_for_mtu(mtu: u32, is_ipv6: bool) -> u16 {
    let headers = if is_ipv6 { 40 } else { 20 } + 8 + 4;
    let room = u16::try_from(mtu.saturating_sub(headers)).unwrap_or(MAX_BLKSIZE);
    room.clamp(MIN_BLKSIZE, MAX_BLKSIZE)
}

/// What this end allows at most.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest blksize granted, in bytes; a client that asks for more gets this.
    pub max_blksize: u16,
    /// Largest windowsize granted, in blocks; a client that asks for more gets this.
    pub max_windowsize: u16,
    /// Whether a client that asks for it may share a stream with others.
    pub multicast: bool,
}

/// Which way the file goes, seen from the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Direction {
    /// RRQ: to the client. The size is in bytes as sent; `None` where it is not known before the
    /// transfer (netascii), then tsize stays unanswered.
    Read {
        /// Bytes that will be sent in all.
        size: Option<u64>,
    },
    /// WRQ: from the client, whose tsize announces the length.
    Write,
}

/// An option whose value cannot be granted in any form; the transfer ends with ERROR 8.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
#[error("option {option} has an unusable value")]
pub struct Refused {
    /// The option's name.
    pub option: &'static str,
}

/// The outcome: `Some` is what both sides agreed on and what an OACK says, `None` is the default
/// of RFC 1350.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Negotiated {
    /// Bytes of a full block.
    pub blksize: Option<u16>,
    /// Blocks that may be sent before an ACK is due.
    pub windowsize: Option<u16>,
    /// Seconds to wait before sending again, 1 to 255.
    pub timeout: Option<u8>,
    /// Bytes of the whole file.
    pub tsize: Option<u64>,
    /// What follows block 65535.
    pub rollover: Option<Rollover>,
    /// Membership in a stream that several clients share. [`negotiate`] only notes that the client
    /// asks for it; the server fills in group and master when it has opened the file.
    pub multicast: Option<Multicast>,
}

impl Negotiated {
    /// Bytes of a full block; a shorter one is the last.
    #[must_use]
    pub fn block_len(&self) -> u16 {
        self.blksize.unwrap_or(DEFAULT_BLKSIZE)
    }

    /// Blocks that may be sent before an ACK is due.
    #[must_use]
    pub fn window_len(&self) -> u16 {
        self.windowsize.unwrap_or(1)
    }

    /// What follows block 65535.
    #[must_use]
    pub fn rollover(&self) -> Rollover {
        self.rollover.unwrap_or_default()
    }

    /// The interval that both sides agreed on for sending again.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether an option was granted, so that an OACK is due (RFC 2347: none without options).
    #[must_use]
    pub fn needs_option_ack(&self) -> bool {
        *self != Self::default()
    }

    /// Writes the whole OACK and returns its length.
    ///
    /// # Errors
    /// [`Full`] when the buffer is too small; 128 bytes always hold it.
    pub fn write_option_ack(&self, buf: &mut [u8]) -> Result<usize, Full> {
        let mut writer = OptionWriter::option_ack(buf)?;
        self.write_options(&mut writer)?;
        Ok(writer.finish())
    }

    /// Writes the options that are set: for an OACK what was granted, for a request what is asked.
    ///
    /// # Errors
    /// [`Full`] when the buffer is too small.
    pub fn write_options(&self, writer: &mut OptionWriter<'_>) -> Result<(), Full> {
        let rollover = self.rollover.map(|rollover| match rollover {
            Rollover::ToZero => 0,
            Rollover::ToOne => 1,
        });
        let options = [
            (TSIZE, self.tsize),
            (BLKSIZE, self.blksize.map(u64::from)),
            (TIMEOUT, self.timeout.map(u64::from)),
            (WINDOWSIZE, self.windowsize.map(u64::from)),
            (ROLLOVER, rollover),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                writer.number(name, value)?;
            }
        }
        self.multicast.map_or(Ok(()), |multicast| multicast.write(writer))
    }
}

/// The server's answer to the options of a request. Unknown options are left out of the answer
/// (RFC 2347 section 3). Values above what is allowed or possible are lowered where the RFC lets
/// the server lower them (blksize, windowsize).
///
/// # Errors
/// [`Refused`] for a value that is no number or below what its RFC allows.
pub fn negotiate(
    options: &Options<'_>,
    limits: &Limits,
    direction: Direction,
) -> Result<Negotiated, Refused> {
    let blksize = number(options, BLKSIZE)?
        .map(|asked| at_least(MIN_BLKSIZE, asked, BLKSIZE))
        .transpose()?
        .map(|asked| asked.min(limits.max_blksize.clamp(MIN_BLKSIZE, MAX_BLKSIZE)));
    let windowsize = number(options, WINDOWSIZE)?
        .map(|asked| at_least(1, asked, WINDOWSIZE))
        .transpose()?
        .map(|asked| asked.min(limits.max_windowsize.clamp(1, MAX_WINDOWSIZE)));
    let multicast = match direction {
        Direction::Read { .. } if limits.multicast && options.names(MULTICAST) => {
            Some(Multicast::default())
        }
        Direction::Read { .. } | Direction::Write => None,
    };
    let tsize = match direction {
        // The value of the request is 0 by RFC 2349 and says nothing.
        Direction::Read { size } => options.get(TSIZE).and(size),
        Direction::Write => number(options, TSIZE)?,
    };
    Ok(Negotiated {
        blksize,
        windowsize,
        timeout: timeout(options)?,
        tsize,
        rollover: rollover(options)?,
        multicast,
    })
}

/// The client's check of an OACK against what it had `asked` for.
///
/// # Errors
/// [`Refused`] for an option that was not asked for, or whose value the server may not answer
/// with: a larger blksize or windowsize, a windowsize above [`MAX_WINDOWSIZE`], another timeout,
/// no multicast group.
pub fn accept(asked: &Negotiated, options: &Options<'_>) -> Result<Negotiated, Refused> {
    let granted = |option: &'static str, asked: Option<u64>, least: u64| {
        let Some(value) = number(options, option)? else { return Ok(None) };
        match asked {
            Some(most) if (least..=most).contains(&value) => Ok(Some(value)),
            _ => Err(Refused { option }),
        }
    };
    let narrow = |option: &'static str, asked: Option<u16>, least: u16, most: u16| {
        let value = granted(option, asked.map(|asked| asked.min(most).into()), least.into())?;
        // Not above what was asked, which is 16 bits.
        Ok(value.and_then(|value| u16::try_from(value).ok()))
    };
    let timeout = timeout(options)?;
    if timeout.is_some() && timeout != asked.timeout {
        return Err(Refused { option: TIMEOUT });
    }
    let rollover = rollover(options)?;
    if rollover.is_some() && asked.rollover.is_none() {
        return Err(Refused { option: ROLLOVER });
    }
    let multicast = options.get(MULTICAST).map(Multicast::parse).transpose()?;
    if multicast.is_some_and(|granted| asked.multicast.is_none() || granted.group.is_none()) {
        return Err(Refused { option: MULTICAST });
    }
    Ok(Negotiated {
        blksize: narrow(BLKSIZE, asked.blksize, MIN_BLKSIZE, MAX_BLKSIZE)?,
        windowsize: narrow(WINDOWSIZE, asked.windowsize, 1, MAX_WINDOWSIZE)?,
        timeout,
        tsize: granted(TSIZE, asked.tsize.map(|_| u64::MAX), 0)?,
        rollover,
        multicast,
    })
}

fn timeout(options: &Options<'_>) -> Result<Option<u8>, Refused> {
    let refused = Refused { option: TIMEOUT };
    match number(options, TIMEOUT)?.map(u8::try_from) {
        None => Ok(None),
        Some(Ok(0) | Err(_)) => Err(refused),
        Some(Ok(seconds)) => Ok(Some(seconds)),
    }
}

fn rollover(options: &Options<'_>) -> Result<Option<Rollover>, Refused> {
    match number(options, ROLLOVER)? {
        None => Ok(None),
        Some(0) => Ok(Some(Rollover::ToZero)),
        Some(1) => Ok(Some(Rollover::ToOne)),
        Some(_) => Err(Refused { option: ROLLOVER }),
    }
}

fn at_least(least: u16, value: u64, option: &'static str) -> Result<u16, Refused> {
    if value < u64::from(least) {
        return Err(Refused { option });
    }
    Ok(u16::try_from(value).unwrap_or(u16::MAX))
}

/// A decimal number; one beyond 64 bits counts as the largest.
fn number(options: &Options<'_>, option: &'static str) -> Result<Option<u64>, Refused> {
    let Some(text) = options.get(option) else { return Ok(None) };
    let mut value = 0u64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(Refused { option });
        }
        value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::packet::Packet;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_blksize: 1468, max_windowsize: 64, multicast: false };

    fn options(pairs: &str) -> Vec<u8> {
        let text = pairs.split_whitespace().flat_map(|word| word.bytes().chain([0]));
        b"\0\x06".iter().copied().chain(text).collect()
    }

    fn server(pairs: &str, direction: Direction) -> Result<Negotiated, Refused> {
        let bytes = options(pairs);
        let Ok(Packet::OptionAck(options)) = Packet::parse(&bytes) else { panic!("{pairs}") };
        negotiate(&options, &LIMITS, direction)
    }

    fn read(pairs: &str) -> Result<Negotiated, Refused> {
        server(pairs, Direction::Read { size: Some(12_345) })
    }

    #[test]
    fn nothing_asked_means_rfc_1350() {
        let negotiated = read("").unwrap();
        assert!(!negotiated.needs_option_ack());
        assert_eq!((negotiated.block_len(), negotiated.window_len()), (512, 1));
        assert!(!read("multicast 1 blksize2 1024").unwrap().needs_option_ack());
    }

    #[test]
    fn sizes_are_lowered_to_the_limits() {
        let negotiated = read("blksize 65464 windowsize 65535 tsize 0 timeout 3").unwrap();
        assert_eq!(negotiated.blksize, Some(1468));
        assert_eq!(negotiated.windowsize, Some(64));
        assert_eq!(negotiated.tsize, Some(12_345));
        assert_eq!(negotiated.timeout(), Some(Duration::from_secs(3)));
        assert_eq!(read("blksize 1024 windowsize 4").unwrap().block_len(), 1024);
        // Beyond 16 and 64 bits too.
        assert_eq!(read("blksize 99999999999999999999999").unwrap().blksize, Some(1468));
    }

    #[test]
    fn useless_values_are_refused_by_name() {
        for (pairs, option) in [
            ("blksize 7", "blksize"),
            ("blksize many", "blksize"),
            ("blksize -1", "blksize"),
            ("windowsize 0", "windowsize"),
            ("timeout 0", "timeout"),
            ("timeout 256", "timeout"),
            ("rollover 2", "rollover"),
        ] {
            assert_eq!(read(pairs), Err(Refused { option }), "{pairs}");
        }
    }

    #[test]
    fn tsize_is_left_out_where_the_size_is_unknown() {
        let negotiated = server("tsize 0", Direction::Read { size: None }).unwrap();
        assert!(!negotiated.needs_option_ack());
        assert_eq!(server("tsize 77", Direction::Write).unwrap().tsize, Some(77));
        assert_eq!(server("tsize x", Direction::Write), Err(Refused { option: "tsize" }));
        // Firmware is known to put nonsense where RFC 2349 wants 0.
        assert_eq!(read("tsize x").unwrap().tsize, Some(12_345));
    }

    #[test]
    fn a_packet_of_the_path_holds_a_block() {
        assert_eq!(blksize_for_mtu(1500, false), 1468);
        assert_eq!(blksize_for_mtu(1500, true), 1448);
        assert_eq!(blksize_for_mtu(0, false), MIN_BLKSIZE);
        assert_eq!(blksize_for_mtu(u32::MAX, false), MAX_BLKSIZE);
    }

    #[test]
    fn a_client_takes_no_more_than_it_asked() {
        let asked = Negotiated {
            blksize: Some(1468),
            windowsize: Some(16),
            timeout: Some(2),
            tsize: Some(0),
            rollover: None,
            multicast: None,
        };
        let check = |pairs: &str| {
            let bytes = options(pairs);
            let Ok(Packet::OptionAck(options)) = Packet::parse(&bytes) else { panic!("{pairs}") };
            accept(&asked, &options)
        };
        let granted = check("blksize 1024 windowsize 8 tsize 99 timeout 2").unwrap();
        assert_eq!((granted.blksize, granted.windowsize), (Some(1024), Some(8)));
        assert_eq!(granted.tsize, Some(99));
        for pairs in ["blksize 1469", "windowsize 17", "timeout 3", "rollover 0", "blksize 0"] {
            assert!(check(pairs).is_err(), "{pairs}");
        }
        let bytes = options("windowsize 4");
        let Ok(Packet::OptionAck(unasked)) = Packet::parse(&bytes) else { panic!() };
        assert!(accept(&Negotiated::default(), &unasked).is_err());
    }

    proptest! {
        #[test]
        fn a_client_accepts_every_answer_to_its_own_question(
            blksize in prop::option::of(8u16..=65_464),
            windowsize in prop::option::of(1u16..),
            timeout in prop::option::of(1u8..),
            tsize in prop::option::of(Just(0u64)),
            to_one in prop::option::of(any::<bool>()),
            max_blksize: u16,
            max_windowsize: u16,
            size: u64,
            multicast: bool,
        ) {
            let rollover = to_one.map(|one| if one { Rollover::ToOne } else { Rollover::ToZero });
            let multicast = multicast.then(Multicast::default);
            let asked = Negotiated { blksize, windowsize, timeout, tsize, rollover, multicast };
            let mut buf = [0; 128];
            let len = asked.write_option_ack(&mut buf).unwrap();
            let Ok(Packet::OptionAck(question)) = Packet::parse(&buf[..len]) else { panic!() };
            let limits = Limits { max_blksize, max_windowsize, multicast: true };
            let answer = negotiate(&question, &limits, Direction::Read { size: Some(size) });
            let mut answer = answer.unwrap();
            prop_assert_eq!(answer.multicast, multicast);
            let group = Some("239.255.1.2:1758".parse().unwrap());
            answer.multicast = multicast.map(|_| Multicast { group, master: size % 2 == 0 });
            let mut buf = [0; 128];
            let len = answer.write_option_ack(&mut buf).unwrap();
            let Ok(Packet::OptionAck(reply)) = Packet::parse(&buf[..len]) else { panic!() };
            prop_assert_eq!(accept(&asked, &reply), Ok(answer));
            prop_assert!((MIN_BLKSIZE..=MAX_BLKSIZE).contains(&answer.block_len()));
            prop_assert!(answer.window_len() >= 1);
        }
    }
}
