//! `bootstorm rehearse`

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootstorm::config::Config;
use bootstorm::interfaces::Interfaces;
use bootstorm::leases::{Clock, Loaded, StatePlace, Write as LeaseWrite};
use bootstorm::privileges;
use bootstorm::rehearse::{Differing, Frames, Rehearsal, Seen, Summary};
use bootstorm::terminal::escaped;
use bootstorm_net::LinkSocket;
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, SERVER_PORT};
use bootstorm_protocols::frame::UdpFrame;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Answer, ConfigArg, Failure, Outcome, complain, print_json};

/// Compare what this server would answer with what another one answers
///
/// Listens beside a running DHCP server, as ISC dhcpd, and sends nothing. Each answer of it is
/// compared with the one that this server would give in its place, with the configuration of
/// --config. What differs is shown once for each client, then whether it is safe to switch. What
/// the other server acknowledges is leased here in memory; leases in the state directory, as
/// `bootstorm migrate --leases` puts them there, are known from the start.
///
/// It ends with SIGINT or after --seconds. Exit status: 0 nothing differs, 1 something does, 2
/// could not run, or no answer was heard.
#[derive(Debug, clap::Args)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    config: ConfigArg,
    /// Where the leases are, instead of the directory that the configuration names
    #[arg(long, value_name = "DIR", conflicts_with = "pcap")]
    state_dir: Option<PathBuf>,
    /// Listen on this interface, on the host of the other server or on a port that mirrors its
    #[arg(
        short,
        long,
        value_name = "IF",
        required_unless_present = "pcap",
        conflicts_with = "pcap"
    )]
    interface: Option<String>,
    /// Read a capture instead: pcap or pcapng of Ethernet, as of tcpdump -w
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", conflicts_with = "pcap")]
    seconds: Option<u64>,
    /// One JSON object a line: {"differing": ...} for each client, at last {"summary": ...}
    #[arg(long)]
    json: bool,
}

impl Rehearse {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let config = self.config.load()?;
        let (found, summary) = match &self.pcap {
            Some(path) => self.read(path, &config, out)?,
            None => self.listen(&config, out)?,
        };
        found.iter().try_for_each(|each| self.show(each, out))?;
        if self.json {
            print_json(out, &json!({ "summary": summary }))?;
        } else {
            summarise(&summary, out)?;
        }
        match summary {
            Summary { compared: 0, .. } => Err(Failure::of(
                "nothing to compare",
                "no answer of another DHCP server was heard; listen on its host, or on a port that \
                 mirrors its port",
            )),
            Summary { safe: true, .. } => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }

    fn read(
        &self,
        path: &Path,
        config: &Config,
        out: &mut dyn Write,
    ) -> Result<(Vec<Differing>, Summary), Failure> {
        let failed = |error| Failure::of(path.display(), error);
        let mut rehearsal =
            Rehearsal::new(config, Clock::default(), &[], &[]).map_err(Failure::new)?;
        let mut shown = Ok(());
        Frames::open(path)
            .map_err(failed)?
            .each(|seen| {
                for each in rehearsal.see(seen) {
                    if shown.is_ok() {
                        shown = self.show(&each, out);
                    }
                }
            })
            .map_err(failed)?;
        shown?;
        Ok(rehearsal.finish())
    }

    fn listen(
        &self,
        config: &Config,
        out: &mut dyn Write,
    ) -> Result<(Vec<Differing>, Summary), Failure> {
        let name = self.interface.as_deref().unwrap_or_default();
        let interfaces =
            Interfaces::read(None).map_err(|error| Failure::of("interfaces", error))?;
        let interface =
            interfaces.named(name).ok_or_else(|| Failure::of(name, "no such interface"))?;
        let socket = LinkSocket::listen(interface.index, [SERVER_PORT, CLIENT_PORT])
            .map_err(|error| Failure::of("packet socket", format!("{error}; run it as root")))?;
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, ending.clone())
                .map_err(|error| Failure::of("signals", error))?;
        }
        let clock = bootstorm::clock::read().map_err(|error| Failure::of("clock", error))?;
        let state_dir = self.state_dir.as_ref().unwrap_or(&config.server.state_dir);
        let leases = stored(state_dir, &clock)?;
        let servers: [Ipv4Addr; 0] = [];
        let mut rehearsal =
            Rehearsal::new(config, clock, &leases, &servers).map_err(Failure::new)?;
        complain(&format!("listening on {name}, sending nothing; Ctrl-C ends and sums up"));
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut frame = [0; 65536];
        while !ending.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
            let received = socket
                .receive(&mut frame, Duration::from_millis(200))
                .map_err(|error| Failure::of(name, error))?;
            let Some(len) = received else { continue };
            let Some((headers, payload)) = UdpFrame::parse(&frame[..len]) else { continue };
            let at = bootstorm_net::now();
            let seen = Seen { at, source: headers.src, destination: headers.dst, payload };
            for each in rehearsal.see(&seen) {
                self.show(&each, out)?;
                out.flush()?;
            }
        }
        Ok(rehearsal.finish())
    }

    fn show(&self, each: &Differing, out: &mut dyn Write) -> Result<(), Failure> {
        if self.json {
            return print_json(out, &json!({ "differing": each }));
        }
        writeln!(out, "{} {}", each.mac, each.message)?;
        let or_none = |text: &str| match text {
            "" => "none".to_owned(),
            text => escaped(text).into_owned(),
        };
        for difference in &each.differences {
            let from = match &*difference.from {
                "" => String::new(),
                from => format!("; {from}"),
            };
            writeln!(
                out,
                "  {}: there {}, here {}{}",
                difference.what,
                or_none(&difference.theirs),
                or_none(&difference.ours),
                escaped(&from)
            )?;
        }
        Ok(())
    }
}

/// The leases in the state directory, if there are any.
fn stored(state_dir: &Path, clock: &Clock) -> Result<Vec<LeaseWrite>, Failure> {
    let place = StatePlace::new(state_dir);
    let Some(present) = place.present() else { return Ok(Vec::new()) };
    privileges::become_owner_of(&present).map_err(Failure::new)?;
    let mut leases = Vec::new();
    let read = place.read(clock, &mut |loaded| {
        if let Loaded::Lease(lease, version) = loaded {
            leases.push(LeaseWrite { ip: lease.ip, version, known: 0, lease: Some(lease) });
        }
    });
    read.map_err(Failure::new)?;
    Ok(leases)
}

fn summarise(summary: &Summary, out: &mut dyn Write) -> Result<(), Failure> {
    let Summary { clients, clients_differing, compared, differing, by_difference, safe } = summary;
    writeln!(
        out,
        "{compared} answers to {clients} clients compared: {} the same, {differing} differ",
        compared - differing
    )?;
    for (what, count) in by_difference {
        writeln!(out, "  {what}: {count} clients")?;
    }
    match (safe, compared) {
        (true, _) => writeln!(out, "safe to switch: every answer would be the same")?,
        (false, 0) => {}
        (false, _) => writeln!(
            out,
            "not safe to switch: {clients_differing} of {clients} clients would be answered \
             otherwise"
        )?,
    }
    Ok(())
}
