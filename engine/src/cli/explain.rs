//! `bootstorm explain`

use std::borrow::Cow;
use std::io::Write;
use std::net::Ipv4Addr;

use bootstorm::control::client::{Client, ClientError};
use bootstorm::control::lease_row::Clocks;
use bootstorm::control::protocol::{Request, Response};
use bootstorm::explain::{self, Asked, Explanation, LeasesFrom, Subject};
use bootstorm::interfaces::Interfaces;
use bootstorm::leases::StatePlace;
use bootstorm::privileges;

use super::{Answer, Failure, Outcome, ServerArg, mac, print_json, unexpected};

const EXAMPLES: &str = "\
Examples:
  bootstorm explain --last --mac 52:54:00:12:34:56
      Why did this machine get what it got, or nothing?
  bootstorm explain --mac 52:54:00:12:34:56 --arch x86-64-efi
      What would UEFI firmware be answered?
  bootstorm explain --mac 52:54:00:12:34:56 --arch x86-64-efi --user-class iPXE
      And then iPXE, which it loads?
  bootstorm explain --mac 5254.0012.3456 --renew
      Would it keep its address? A MAC may be written as switches do it.
  bootstorm explain --mac 52:54:00:12:34:56 --relay 10.2.0.1 --circuit-id eth0/7 --option 55=1,3,67
      The same machine behind a relay agent, asking for three options.
  bootstorm explain --mac 52:54:00:12:34:56 --interface 10.1.0.6 --config new.toml --state-dir /none
      What would another configuration say, on a host that has this address?

Exit status:
  0  it gets an address or parameters, or its message wants no answer
  1  it gets no answer, or a NAK
  2  could not run: wrong usage, no permission, no message known of the machine
  78 the configuration is wrong";

/// Why does a machine get the answer that it gets?
///
/// Plans the answer to a message as the server does, and prints what decided: subnet, classes, host
/// entry, pool, options with the level that each comes from and what it hides, boot file, lease
/// time; or why there is no answer, and what to do about it. Nothing is sent and nothing changes.
/// The running server plans with its configuration and its leases. If none runs, the configuration
/// file counts, with the leases of the state directory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Explain {
    /// Hardware address of the machine
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac: String,
    /// Explain the last message that the running server received from the machine
    #[arg(long, conflicts_with_all = ["message", "renew", "ciaddr", "address", "arch", "relay",
        "uuid", "user_class", "vendor_class", "circuit_id", "remote_id", "client_id", "option",
        "interface"])]
    last: bool,
    /// The message that it sends [default: discover]; a REQUEST without --address and --ciaddr
    /// takes what it would be offered
    #[arg(long, value_parser = ["discover", "request", "inform", "release", "decline", "bootp"])]
    message: Option<String>,
    /// It renews the lease that it has
    #[arg(long, conflicts_with_all = ["message", "ciaddr", "address"])]
    renew: bool,
    /// The address that it has (ciaddr); a REQUEST renews it. Without, RELEASE is of its lease
    #[arg(long, value_name = "IP")]
    ciaddr: Option<Ipv4Addr>,
    /// The address that it asks for (option 50), or that it declines
    #[arg(long, value_name = "IP")]
    address: Option<Ipv4Addr>,
    /// Its architecture (option 93), as x86-64-efi or 7; it then calls itself PXEClient or
    /// HTTPClient, unless --vendor-class says otherwise
    #[arg(long, value_name = "NAME|NUMBER")]
    arch: Option<String>,
    /// Address of the relay agent (giaddr)
    #[arg(long, value_name = "IP")]
    relay: Option<Ipv4Addr>,
    /// Its UUID (option 97)
    #[arg(long)]
    uuid: Option<String>,
    /// Its user class (option 77); iPXE says iPXE
    #[arg(long, value_name = "TEXT")]
    user_class: Option<String>,
    /// Its vendor class (option 60)
    #[arg(long, value_name = "TEXT")]
    vendor_class: Option<String>,
    /// The port that the relay agent or switch names (option 82, sub-option 1)
    #[arg(long, value_name = "BYTES")]
    circuit_id: Option<String>,
    /// The switch that the relay agent names (option 82, sub-option 2)
    #[arg(long, value_name = "BYTES")]
    remote_id: Option<String>,
    /// Its client identifier (option 61), whole: hex:01525400123456
    #[arg(long, value_name = "BYTES")]
    client_id: Option<String>,
    /// Another option, by number or name: 55=1,3,67, host-name=n01, 93=hex:0007; several times
    #[arg(long, value_name = "N=VALUE")]
    option: Vec<String>,
    /// The interface that its message comes in on, by name, or an address that it has; only
    /// needed where several are served
    #[arg(long, value_name = "IF|IP")]
    interface: Option<String>,
    #[command(flatten)]
    server: ServerArg,
    /// One JSON object; docs/OPERATIONS.md has its fields
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let asked = self.asked();
        if !asked.last {
            // What is wrong with it is wrong with every server.
            asked.message(None).map_err(Failure::new)?;
        }
        let explanation = self.explanation(&asked)?;
        match self.json {
            true => print_json(out, &explanation)?,
            false => write!(out, "{explanation}")?,
        }
        match &*explanation.answer.kind {
            "silence" | "nak" => Ok(Answer::No),
            _ => Ok(Answer::Yes),
        }
    }

    fn asked(&self) -> Asked {
        Asked {
            mac: self.mac.clone(),
            last: self.last,
            message: self.message.clone().unwrap_or_default(),
            renew: self.renew,
            ciaddr: self.ciaddr,
            address: self.address,
            arch: self.arch.clone(),
            relay: self.relay,
            uuid: self.uuid.clone(),
            user_class: self.user_class.clone(),
            vendor_class: self.vendor_class.clone(),
            circuit_id: self.circuit_id.clone(),
            remote_id: self.remote_id.clone(),
            client_id: self.client_id.clone(),
            options: self.option.clone(),
            interface: self.interface.clone(),
        }
    }

    fn explanation(&self, asked: &Asked) -> Result<Explanation, Failure> {
        let mut client = match Client::connect(&self.server.state_dir()?) {
            Ok(client) => client,
            Err(ClientError::NotRunning { .. }) if !asked.last => return self.stored(asked),
            Err(error) => return Err(error.into()),
        };
        client.ask(&Request::Explain(Box::new(asked.clone())))?;
        match client.response()? {
            Response::Explained(explanation) => Ok(*explanation),
            other => Err(unexpected(&other)),
        }
    }

    /// No server runs: the file, this host's interfaces, and the leases as they lie there.
    fn stored(&self, asked: &Asked) -> Result<Explanation, Failure> {
        let config = self.server.config.load()?;
        let state_dir = self.server.state_dir.as_ref().unwrap_or(&config.server.state_dir);
        if let Some(present) = StatePlace::new(state_dir).present() {
            privileges::become_owner_of(&present).map_err(Failure::new)?;
        }
        let interfaces = Interfaces::read(config.server.interfaces.as_deref())
            .map_err(|error| Failure::of("interfaces", error))?;
        let clock = bootstorm::clock::read().map_err(|error| Failure::of("clock", error))?;
        let (leases, from): (_, LeasesFrom) =
            explain::stored(state_dir, &config.dhcp, clock).map_err(Failure::new)?;
        leases.reconfigure(interfaces.addresses(), &config.dhcp);
        let clocks = Clocks::read();
        let mut subject = Subject {
            config: self.server.config.config.display().to_string(),
            dhcp: &config.dhcp,
            files: &config.sources,
            interfaces: Cow::Borrowed(&interfaces),
            state_dir,
            leases: leases.view(0),
            from,
            now: clocks.now,
            time: &|moment| clocks.text(moment),
        };
        subject.asked(asked).map_err(Failure::new)
    }
}
