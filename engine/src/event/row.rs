//! An event as people and programs read it: the fields of a log line and of a line of `bootstorm
//! events --json`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::pxe::Architecture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BootEvent, Detail, Kind, Unsent};

/// One event with its fields by name. Absent fields are left out of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// When the log thread took the event: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// What happened, see [`super::Kind::name`].
    pub event: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Address offered, asked for or held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Interface the datagram came in on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Relay agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Architecture of the machine (option 93), by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Stage of the boot the machine is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Boot file or TFTP file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Lease time in seconds; 4294967295 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// Bytes of file data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long a finished transfer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// TFTP block size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blksize: Option<u16>,
    /// TFTP window in blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windowsize: Option<u16>,
    /// TFTP blocks sent more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// Quirks of the machine's firmware that changed what TFTP agreed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quirk: Option<String>,
    /// Why a request was refused or not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a `log` statement of the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Row {
    /// The row of `event`, taken at `time`; `interface` is the name behind its `ifindex`.
    pub fn new(event: &BootEvent, time: String, interface: Option<String>) -> Self {
        let mut row = Self {
            time,
            event: event.kind.name().to_owned(),
            mac: (!event.hardware.address().is_empty()).then(|| event.hardware.to_string()),
            ip: (!event.address.is_unspecified()).then(|| event.address.to_string()),
            relay: (!event.relay.is_unspecified()).then(|| event.relay.to_string()),
            interface,
            ..Self::default()
        };
        match event.detail {
            Detail::None => {}
            Detail::Client { architecture, stage } => {
                row.arch = architecture.map(|code| Architecture::from_code(code).to_string());
                row.stage = given(stage);
            }
            Detail::Answer { file, lease_seconds, reason } => {
                row.file = (!file.is_empty()).then(|| format!("{file:?}"));
                row.lease_seconds = (lease_seconds > 0).then_some(lease_seconds);
                row.reason = given(reason);
            }
            Detail::Reason(reason) => row.reason = given(reason),
            Detail::Text(text) => row.text = Some(format!("{text:?}")),
            Detail::Holder { hardware, quarantine, left } => {
                let holder = match quarantine {
                    true => "in quarantine".to_owned(),
                    false => format!("held by {hardware}"),
                };
                let ip = event.address;
                row.reason = Some(format!(
                    "reserved for this machine and {holder} {}; to end that: bootstorm leases \
                     release {ip}",
                    end(&row.time, left)
                ));
            }
            Detail::NotPinged { why, offered, others } => {
                row.reason = Some(not_pinged(event.address, why, offered, others));
            }
            Detail::Malformed(error) => row.reason = Some(error.to_string()),
            Detail::Transfer {
                ipv6,
                file,
                bytes,
                took,
                blksize,
                windowsize,
                retransmits,
                quirks,
                reason,
            } => {
                row.ip = ipv6.map(|ip| ip.to_string()).or(row.ip);
                row.file = (!file.is_empty()).then(|| format!("{file:?}"));
                row.bytes = (bytes > 0).then_some(bytes);
                // Half a transfer has no rate worth comparing.
                let whole = event.kind == Kind::TransferFinished && !took.is_zero();
                row.seconds = whole.then_some(took.as_secs_f64());
                row.blksize = (blksize > 0).then_some(blksize);
                row.windowsize = (windowsize > 0).then_some(windowsize);
                row.retransmits = (retransmits > 0).then_some(retransmits);
                row.quirk = (!quirks.is_empty()).then(|| format!("{quirks:?}"));
                row.reason = given(reason);
            }
        }
        row
    }

    /// Megabytes a second of a finished transfer, as text.
    pub fn rate(&self) -> Option<String> {
        let (bytes, seconds) = (self.bytes?, self.seconds?);
        Some(format!("{:.1} MB/s", bytes as f64 / seconds / 1e6))
    }
}

/// When something ends that lasts so long from `time` on, in words.
fn end(time: &str, left: Option<Duration>) -> String {
    let Some(left) = left else { return "for ever".to_owned() };
    match time.parse::<Timestamp>().ok().and_then(|time| time.checked_add(left).ok()) {
        Some(end) => format!("until {end:.0}"),
        None => format!("for {} s", left.as_secs()),
    }
}

/// Why an address was not pinged, what became of it, and what would help.
fn not_pinged(ip: Ipv4Addr, why: Unsent, offered: bool, others: u32) -> String {
    let became = match offered {
        true => "offered without a ping",
        false => "not offered, because the lease store is damaged and it could not be pinged",
    };
    let why = match why {
        Unsent::TooMany => "so many pings are under way that another has no room".to_owned(),
        Unsent::NoRoom => "no room for another datagram (bootstorm_drops_total)".to_owned(),
        Unsent::Errno(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; a firewall of this host must let ICMP echo requests out and their replies in"
                        .to_owned()
                }
                // A route of the kind `blackhole` gives EINVAL.
                io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::InvalidInput => {
                    format!("; this host needs a route to it: ip route get {ip}")
                }
                _ => String::new(),
            };
            format!("{error}{help}")
        }
    };
    let others = match others {
        0 => String::new(),
        others => format!("; {others} others since the last warning"),
    };
    format!("{became}: {why}{others}")
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A line for people: time, event, hardware address and address first, the rest as key=value.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:<9}", self.time, self.event)?;
        for value in [&self.mac, &self.ip].into_iter().flatten() {
            write!(f, " {value}")?;
        }
        let texts = [
            ("via", &self.interface),
            ("relay", &self.relay),
            ("arch", &self.arch),
            ("stage", &self.stage),
            ("file", &self.file),
            ("quirk", &self.quirk),
            ("reason", &self.reason),
            ("text", &self.text),
        ];
        for (key, value) in texts {
            let Some(value) = value else { continue };
            if value.contains([' ', '"']) {
                write!(f, " {key}={value:?}")?;
            } else {
                write!(f, " {key}={value}")?;
            }
        }
        let numbers = [
            ("lease", self.lease_seconds.map(u64::from)),
            ("bytes", self.bytes),
            ("blksize", self.blksize.map(u64::from)),
            ("windowsize", self.windowsize.map(u64::from)),
            ("retransmits", self.retransmits.map(u64::from)),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                write!(f, " {key}={value}")?;
            }
        }
        if let Some(rate) = self.rate() {
            write!(f, " ({rate})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::io::Errno;

    use super::super::{FileName, QuirkNames};
    use super::*;
    use crate::leases::Hardware;

    #[test]
    fn absent_fields_stay_out_of_the_json() {
        let event = BootEvent::new(
            Kind::Release,
            Hardware::ethernet([2, 0, 0, 0, 0, 1]),
            Ipv4Addr::new(10, 1, 4, 7),
        );
        let row = Row::new(&event, "2026-01-02T03:04:05.678Z".to_owned(), None);
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"time":"2026-01-02T03:04:05.678Z","event":"RELEASE","mac":"02:00:00:00:00:01","ip":"10.1.4.7"}"#
        );
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
    }

    #[test]
    fn an_address_that_is_held_tells_by_whom_until_when_and_what_to_do() {
        let reason = |quarantine, left| {
            let event = BootEvent {
                detail: Detail::Holder {
                    hardware: Hardware::ethernet([2, 0, 0, 0, 0, 9]),
                    quarantine,
                    left,
                },
                ..BootEvent::new(
                    Kind::ReservedHeld,
                    Hardware::ethernet([2, 0, 0, 0, 0, 1]),
                    Ipv4Addr::new(10, 1, 4, 7),
                )
            };
            Row::new(&event, "2026-01-02T03:04:05.678Z".to_owned(), None).reason.unwrap()
        };
        let way_out = "; to end that: bootstorm leases release 10.1.4.7";
        assert_eq!(
            reason(false, Some(Duration::from_secs(60))),
            format!(
                "reserved for this machine and held by 02:00:00:00:00:09 until \
                 2026-01-02T03:05:05Z{way_out}"
            )
        );
        assert!(reason(false, None).ends_with(&format!("09 for ever{way_out}")));
        assert!(reason(true, None).contains("and in quarantine for ever"));
    }

    #[test]
    fn an_address_that_was_not_pinged_tells_why_and_what_would_help() {
        let reason = |why, offered, others| {
            let event = BootEvent {
                detail: Detail::NotPinged { why, offered, others },
                ..BootEvent::new(
                    Kind::NotPinged,
                    Hardware::ethernet([2, 0, 0, 0, 0, 1]),
                    Ipv4Addr::new(10, 1, 4, 7),
                )
            };
            Row::new(&event, "T".to_owned(), None).reason.unwrap()
        };
        let denied = reason(Unsent::Errno(Errno::PERM.raw_os_error()), true, 0);
        assert!(denied.starts_with("offered without a ping: Operation not permitted"), "{denied}");
        assert!(
            denied.contains("; a firewall of this host must let ICMP echo requests"),
            "{denied}"
        );
        let lost = reason(Unsent::Errno(Errno::NETUNREACH.raw_os_error()), false, 7);
        assert!(lost.starts_with("not offered, because the lease store is damaged"), "{lost}");
        assert!(lost.ends_with("ip route get 10.1.4.7; 7 others since the last warning"), "{lost}");
    }

    #[test]
    fn a_whole_transfer_tells_its_rate() {
        let event = |kind| BootEvent {
            detail: Detail::Transfer {
                ipv6: None,
                file: FileName::new(b"ipxe.efi"),
                bytes: 3_000_000,
                took: Duration::from_millis(500),
                blksize: 1468,
                windowsize: 16,
                retransmits: 2,
                quirks: QuirkNames::new(b"old-blades"),
                reason: "",
            },
            ..BootEvent::new(kind, Hardware::default(), Ipv4Addr::new(10, 1, 4, 7))
        };
        let row = |kind| Row::new(&event(kind), "T".to_owned(), Some("eth1".to_owned()));
        assert_eq!(row(Kind::TransferFailed).rate(), None);
        let row = row(Kind::TransferFinished);
        assert_eq!(
            row.to_string(),
            "T TFTP done 10.1.4.7 via=eth1 file=ipxe.efi quirk=old-blades bytes=3000000 blksize=1468 windowsize=16 \
             retransmits=2 (6.0 MB/s)"
        );
    }
}
