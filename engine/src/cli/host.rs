//! `bootstorm host`

use std::io::Write;
use std::path::PathBuf;

use bootstorm::control::client::Client;
use bootstorm::control::protocol::{Request, Response};
use bootstorm::live_hosts::{self, Change, HostObject};
use clap::Subcommand;
use serde_json::Value;

use super::{Answer, Failure, Outcome, ServerArg, print_json, unexpected};

/// Add, change, remove and list hosts while the server runs
///
/// They are kept in the state directory, beside the hosts of the configuration, and are in force
/// and durable when this ends with 0. All hosts of one call are changed, or none. A name or an
/// address that a host of the configuration has is refused, with both places.
#[derive(Debug, clap::Args)]
pub(crate) struct Host {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add hosts
    Add(Hosts),
    /// Add hosts, in the place of those of the same name
    Set(Hosts),
    /// Remove hosts by their names
    Remove {
        /// Names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        server: ServerArg,
    },
    /// List the hosts that were added so, one JSON object a line
    List {
        #[command(flatten)]
        server: ServerArg,
    },
}

#[derive(Debug, clap::Args)]
struct Hosts {
    /// The host's name, unless --file names many
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// CSV with the columns of a host-file, or JSON objects with the keys of [[dhcp.host]]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Hardware addresses
    #[arg(long, value_name = "MAC")]
    hardware: Vec<String>,
    /// UUID (option 97)
    #[arg(long)]
    uuid: Vec<String>,
    /// Client identifier (option 61): a text, or hex:01525400123456
    #[arg(long, value_name = "ID")]
    client_id: Vec<String>,
    /// Addresses, one for each network
    #[arg(long, value_name = "IP")]
    ip: Vec<String>,
    /// The group that it belongs to
    #[arg(long)]
    group: Option<String>,
    /// The rest of [[dhcp.host]] as JSON: '{"boot": {"file": "n7.efi"}, "lease-time": "1h"}'
    #[arg(long, value_name = "OBJECT")]
    json: Option<String>,
    #[command(flatten)]
    server: ServerArg,
}

impl Host {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        match self.what {
            What::Add(hosts) => change(Change::Add, &hosts.server, hosts.objects()?, out),
            What::Set(hosts) => change(Change::Set, &hosts.server, hosts.objects()?, out),
            What::Remove { names, server } => {
                let host = |name| HostObject::from_iter([("name".to_owned(), Value::String(name))]);
                let hosts = names.into_iter().map(host).collect();
                change(Change::Remove, &server, hosts, out)
            }
            What::List { server } => {
                let mut client = server.connect()?;
                client.ask(&Request::HostsList {})?;
                loop {
                    match client.response()? {
                        Response::Host(host) => print_json(out, &host)?,
                        Response::End(_) => return Ok(Answer::Yes),
                        other => return Err(unexpected(&other)),
                    }
                }
            }
        }
    }
}

impl Hosts {
    fn objects(&self) -> Result<Vec<HostObject>, Failure> {
        if let Some(file) = &self.file {
            let mut hosts = Vec::new();
            live_hosts::read(file, |host| hosts.push(host)).map_err(Failure::new)?;
            return Ok(hosts);
        }
        let mut host = match self.json.as_deref().map(serde_json::from_str) {
            None => HostObject::new(),
            Some(Ok(Value::Object(host))) => host,
            Some(Ok(other)) => return Err(Failure::of("--json", format!("{other} is no object"))),
            Some(Err(error)) => return Err(Failure::of("--json", error)),
        };
        let mut put = |key: &str, value| _ = host.insert(key.to_owned(), value);
        let lists = [
            ("hardware", &self.hardware),
            ("uuid", &self.uuid),
            ("client-id", &self.client_id),
            ("ip", &self.ip),
        ];
        for (key, values) in lists {
            match &values[..] {
                [] => {}
                [one] => put(key, Value::String(one.clone())),
                several => put(key, several.iter().cloned().collect()),
            }
        }
        for (key, value) in [("name", &self.name), ("group", &self.group)] {
            if let Some(value) = value {
                put(key, Value::String(value.clone()));
            }
        }
        Ok(vec![host])
    }
}

fn change(
    change: Change,
    server: &ServerArg,
    hosts: Vec<HostObject>,
    out: &mut dyn Write,
) -> Outcome {
    let mut client: Client = server.connect()?;
    match client.change_hosts(change, &hosts)? {
        Response::HostsChanged(line) => {
            writeln!(out, "{line}")?;
            Ok(Answer::Yes)
        }
        other => Err(unexpected(&other)),
    }
}
