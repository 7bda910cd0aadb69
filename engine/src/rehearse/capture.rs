//! Frames from a file that tcpdump or Wireshark wrote: pcap or pcapng, of Ethernet.

use std::fs::File;
use std::io;
use std::path::Path;

use bootstorm_protocols::frame::UdpFrame;
use bootstorm_protocols::time::Moment;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::Seen;

/// Bytes of the longest block of a file.
const LONGEST: usize = 1 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file system's.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is neither pcap nor pcapng, or damaged.
    #[error("neither pcap nor pcapng, or damaged: {0}")]
    Format(String),
    /// Not of Ethernet.
    #[error(
        "it has frames of link type {0}, not of Ethernet: capture on one interface, not on `any`"
    )]
    LinkType(i32),
}

/// The datagrams of a capture, in its order.
pub struct Frames {
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Clock>,
    /// Nanoseconds of a unit of the fraction, of the classic format.
    unit: u64,
}

/// How an interface of a pcapng file writes times down.
#[derive(Copy, Clone)]
struct Clock {
    offset: u64,
    resolution: u64,
}

impl Frames {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path)?;
        let reader = create_reader(LONGEST, file).map_err(|error| format_error(&error))?;
        Ok(Self { reader, interfaces: Vec::new(), unit: 1000 })
    }

    /// Hands over every UDP datagram in one piece.
    ///
    /// # Errors
    /// The file is damaged; what stands before was handed over.
    pub fn each(mut self, mut take: impl FnMut(&Seen<'_>)) -> Result<(), CaptureError> {
        loop {
            let used = match self.reader.next() {
                Ok((used, block)) => {
                    Self::block(block, &mut self.interfaces, &mut self.unit, &mut take)?;
                    used
                }
                // The last frame may be cut off where the capture ended.
                Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(()),
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.reader_exhausted() {
                        return Ok(());
                    }
                    self.reader.refill().map_err(|error| format_error(&error))?;
                    continue;
                }
                Err(error) => return Err(format_error(&error)),
            };
            self.reader.consume(used);
        }
    }

    fn block(
        block: PcapBlockOwned<'_>,
        interfaces: &mut Vec<Clock>,
        unit: &mut u64,
        take: &mut impl FnMut(&Seen<'_>),
    ) -> Result<(), CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                ethernet(header.network)?;
                *unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
            }
            PcapBlockOwned::Legacy(packet) => {
                let fraction = u64::from(packet.ts_usec).saturating_mul(*unit);
                frame(moment(packet.ts_sec, fraction), packet.data, take);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                ethernet(description.linktype)?;
                interfaces.push(Clock {
                    offset: u64::try_from(description.ts_offset()).unwrap_or(0),
                    resolution: description.ts_resolution().unwrap_or(1_000_000).max(1),
                });
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let clock = interfaces.get(packet.if_id as usize).copied();
                let clock = clock.unwrap_or(Clock { offset: 0, resolution: 1_000_000 });
                let (seconds, fraction) = packet.decode_ts(clock.offset, clock.resolution);
                let nanos = u128::from(fraction) * 1_000_000_000 / u128::from(clock.resolution);
                let nanos = u64::try_from(nanos).unwrap_or(0);
                let captured = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
                frame(moment(seconds, nanos), captured, take);
            }
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }
}

fn frame(at: Moment, bytes: &[u8], take: &mut impl FnMut(&Seen<'_>)) {
    if let Some((headers, payload)) = UdpFrame::parse(bytes) {
        take(&Seen { at, source: headers.src, destination: headers.dst, payload });
    }
}

fn moment(seconds: u32, nanos: u64) -> Moment {
    Moment::from_nanos((u64::from(seconds) * 1_000_000_000).saturating_add(nanos))
}

fn ethernet(link: Linktype) -> Result<(), CaptureError> {
    match link {
        Linktype::ETHERNET => Ok(()),
        other => Err(CaptureError::LinkType(other.0)),
    }
}

fn format_error<I: std::fmt::Debug>(error: &PcapError<I>) -> CaptureError {
    CaptureError::Format(format!("{error:?}"))
}
