//! The log: how lines look and where they go. The boot events of the shards come through
//! [`events`].

mod events;

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel};

pub use events::{EventLog, EventSink, LogCounts};

/// Sends all log lines of the process to standard error. Only the first call has an effect.
pub fn init(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // The journal puts its own time before each line.
    let lines = lines(io::stderr, format, level, colours, !is_journal(io::stderr()));
    // A second call finds the log set up already, and leaves it. Libraries that use the `log` crate
    // are heard, too.
    let _already = lines.try_init();
}

/// Whether `stream` leads to the journal. The variable alone does not tell: children inherit it,
/// and their output may go elsewhere (systemd.exec(5), JOURNAL_STREAM).
fn is_journal(stream: impl AsFd) -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(stream)
        .is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn lines<W>(
    writer: W,
    format: LogFormat,
    level: LevelFilter,
    colours: bool,
    timed: bool,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Of libraries only what goes wrong, unless everything is wanted.
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    // A failing disk is said once, by the committer; the store would say it at every try.
    let store = if level >= LevelFilter::DEBUG { others } else { LevelFilter::OFF };
    let filter = format!("{others},fjall={store},lsm_tree={store},bootstorm={level}");
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(EnvFilter::new(filter))
        .with_target(false)
        .with_ansi(colours);
    match format {
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_timer(Utc).finish()),
        LogFormat::Human if timed => Box::new(lines.with_timer(Local).finish()),
        LogFormat::Human => Box::new(lines.without_time().finish()),
    }
}

struct Local;

impl FormatTime for Local {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S%.3f"))
    }
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&utc_now())
    }
}

fn utc_now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::event::row::Row;
    use crate::event::{BootEvent, Detail, FileName, Kind};
    use crate::leases::Hardware;

    #[derive(Clone, Default)]
    struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `say` runs.
    fn written(format: LogFormat, level: LevelFilter, say: impl FnOnce()) -> String {
        let kept = Lines::default();
        let writer = kept.clone();
        let lines = lines(move || writer.clone(), format, level, false, false);
        tracing::subscriber::with_default(lines, say);
        let text = kept.0.lock().clone();
        String::from_utf8(text).unwrap()
    }

    /// The log line of an ACK.
    fn logged(format: LogFormat) -> String {
        let hardware = Hardware::ethernet([2, 0, 0, 0, 0, 1]);
        let ack = BootEvent::new(Kind::Ack, hardware, Ipv4Addr::new(10, 1, 0, 7));
        let detail =
            Detail::Answer { file: FileName::new(b"ipxe.efi"), lease_seconds: 3600, reason: "" };
        let row = Row::new(&BootEvent { detail, ..ack }, String::new(), Some("eth1".to_owned()));
        written(format, LevelFilter::INFO, || events::line(tracing::Level::INFO, &row))
    }

    #[test]
    fn of_libraries_only_what_goes_wrong_is_heard() {
        let text = written(LogFormat::Human, LevelFilter::DEBUG, || {
            tracing::info!(target: "fjall", "compacted");
            tracing::warn!(target: "fjall", "slow");
            tracing::debug!(target: "bootstorm_net", "detail");
        });
        assert_eq!(text, " WARN slow\nDEBUG detail\n");
    }

    #[test]
    fn the_store_is_not_heard_beside_the_committer() {
        let text = written(LogFormat::Human, LevelFilter::INFO, || {
            tracing::error!(target: "fjall::journal", "cannot flush");
            tracing::error!(target: "lsm_tree", "cannot write");
            tracing::error!(target: "hyper", "broken");
        });
        assert_eq!(text, "ERROR broken\n");
    }

    #[test]
    fn one_line_says_who_got_what() {
        assert_eq!(
            logged(LogFormat::Human),
            " INFO ACK mac=02:00:00:00:00:01 ip=10.1.0.7 via=eth1 file=ipxe.efi lease=3600\n"
        );
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&json["message"], &json["mac"]), (&"ACK".into(), &"02:00:00:00:00:01".into()));
        assert_eq!((&json["lease"], &json["level"]), (&3600.into(), &"INFO".into()));
        assert!(json["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{json}");
    }
}
