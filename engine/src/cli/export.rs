//! `bootstorm leases export`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use bootstorm::config::Config;
use bootstorm::control::protocol::Request;
use bootstorm::lease_files::{Billings, Binding, Format, Writer};
use clap::ValueEnum;

use super::leases::each;
use super::{Answer, Failure, Outcome, ServerArg, complain};

/// Write every lease as a file of another DHCP server, or as CSV
///
/// From the running server, or from its store when it is down. Stop it before another server
/// starts with the file: what it gives away afterwards is not in it. Offers are left out. Kea's
/// subnets are numbered by rising address, from 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// How the file looks
    #[arg(long, value_enum)]
    format: FormatArg,
    /// Write to this file, which is replaced when it is whole, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// dhcpd.leases of ISC dhcpd
    Dhcpd,
    /// The memfile of Kea's DHCPv4 server
    Kea,
    /// CSV, which `leases import` reads
    Csv,
}

impl Export {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let Some(path) = &self.output else {
            self.write(out)?;
            return Ok(Answer::Yes);
        };
        let failed = |cause: io::Error| Failure::of(path.display(), cause);
        let unfinished = path.with_added_extension("new");
        let mut file = BufWriter::new(File::create(&unfinished).map_err(failed)?);
        let count = self.write(&mut file)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&unfinished, path).map_err(failed)?;
        writeln!(out, "{}: {count} leases", path.display())?;
        Ok(Answer::Yes)
    }

    fn write(&self, out: &mut dyn Write) -> Result<u64, Failure> {
        let (format, config) = match self.format {
            FormatArg::Dhcpd => (Format::Dhcpd, None),
            FormatArg::Kea => (Format::Kea, Some(self.server.config.load()?)),
            FormatArg::Csv => (Format::Csv, None),
        };
        let subnet = |ip| {
            let Config { dhcp, .. } = config.as_ref()?;
            Some(u32::try_from(dhcp.subnet_of(ip)?.index()).ok()? + 1)
        };
        let (mut count, mut outside, mut spawned) = (0, 0, 0);
        let mut billings = None;
        let mut writer = Writer::new(format, out)?;
        each(&self.server, &Request::LeasesList {}, |row| {
            let wrong = |what| Failure::of("the server answered in another language", what);
            let Some(mut entry) = row.entry().map_err(wrong)? else { return Ok(()) };
            if let (Format::Dhcpd, Binding::Active, Some(key)) =
                (format, entry.binding, &row.billed_to)
            {
                let key = u64::from_str_radix(key, 16).map_err(|_| wrong(key.clone()))?;
                let billings = match &mut billings {
                    Some(billings) => billings,
                    none => none.insert(Billings::of(&self.server.config.load()?.dhcp)),
                };
                spawned += u64::from(!billings.put(key, &mut entry));
            }
            let number = subnet(entry.ip);
            if config.is_some() && number.is_none() {
                outside += 1;
                return Ok(());
            }
            count += 1;
            Ok(writer.lease(&entry, number.unwrap_or(0))?)
        })?;
        if spawned > 0 {
            complain(&format!(
                "{spawned} leases do not say which class they count for: only a hash of what \
                 spawned their subclass is known, and dhcpd counts them when they renew"
            ));
        }
        if outside > 0 {
            complain(&format!("{outside} leases are left out: their addresses are in no subnet"));
        }
        Ok(count)
    }
}
