//! A configuration as the simulation changes it, and as the server reads it.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::program::Program;

/// The server's address on the link of its own.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// One link: its subnet is 10.N.0.0/24.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// The server's own.
    Direct,
    /// Behind a relay agent that adds option 82.
    RelayWithPorts,
    /// Behind a relay agent that adds nothing.
    Relay,
}

/// Every link, by number.
pub(crate) const LINKS: [Link; 3] = [Link::Direct, Link::RelayWithPorts, Link::Relay];

/// An address of a link.
pub(crate) fn address(link: usize, host: u8) -> Ipv4Addr {
    // There are three links.
    Ipv4Addr::new(10, link as u8, 0, host)
}

/// The link that an address is of.
pub(crate) fn link_of(address: Ipv4Addr) -> usize {
    usize::from(address.octets()[1])
}

/// The address of a link's relay agent.
pub(crate) fn relay(link: usize) -> Ipv4Addr {
    address(link, 254)
}

/// Who may use a pool.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Users {
    All,
    Firmware,
    System,
    Known,
    Unknown,
}

/// Some addresses of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pool {
    pub(crate) link: usize,
    pub(crate) low: u8,
    pub(crate) high: u8,
    pub(crate) users: Users,
}

impl Pool {
    pub(crate) fn contains(&self, ip: Ipv4Addr) -> bool {
        link_of(ip) == self.link && (self.low..=self.high).contains(&ip.octets()[3])
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let link = self.link;
        (self.low..=self.high).map(move |host| address(link, host))
    }
}

/// By what a host entry knows its machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HostKey {
    Hardware(Vec<[u8; 6]>),
    Uuid([u8; 16]),
    ClientId(Vec<u8>),
    Circuit { link: usize, port: u16 },
}

/// A `[[dhcp.host]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Host {
    /// Names the boot file as well: `host-NAME`.
    pub(crate) name: u16,
    pub(crate) key: HostKey,
    pub(crate) ip: Option<Ipv4Addr>,
    /// It was added while the server ran (`bootstorm host`), and stands in no configuration file.
    pub(crate) live: bool,
}

/// What tells machines apart.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum KnownBy {
    Hardware,
    ClientId,
    /// As ISC dhcpd: by client identifier, then by hardware address.
    Either,
}

/// What the configuration says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Site {
    pub(crate) pools: Vec<Pool>,
    pub(crate) hosts: Vec<Host>,
    /// Seconds; `None` is an infinite lease.
    pub(crate) lease: Option<u32>,
    pub(crate) known_by: KnownBy,
    /// The rules of ISC dhcpd hold where servers differ.
    pub(crate) as_dhcpd: bool,
    /// So many percent of a lease may be over without a renewal being written.
    pub(crate) cache_threshold: u8,
    /// How many addresses of pools the machines of a group may have together.
    pub(crate) limit: Option<u32>,
    /// There are four groups, each a value of a class that spawns them; else those of odd numbers
    /// are one.
    pub(crate) spawns: bool,
    /// Numbers of machines that are subclasses with a boot file of their own.
    pub(crate) subclasses: Vec<u16>,
    /// What programs boot stands in an `if`, and installers boot as well.
    pub(crate) ifs: bool,
    /// With its REQUEST a machine gives its other addresses back.
    pub(crate) one_lease: bool,
    /// Who asks for an address without end keeps it, whatever it is told.
    pub(crate) infinite_reserved: bool,
    pub(crate) authoritative: bool,
    pub(crate) rapid_commit: bool,
    pub(crate) reply_delay: bool,
    pub(crate) ping_check: bool,
    /// In which order subnets and hosts stand in the file.
    pub(crate) order: u64,
}

/// The group that may have one address more than the others.
const LARGER_GROUP: usize = 1;

/// How long an offer is held, and a declined address left alone, in seconds.
pub(crate) const OFFER_TIME: u64 = 12;
pub(crate) const DECLINE_TIME: u64 = 40;
/// How long the answer to a ping is waited for, with `ping-check` and without: then addresses are
/// pinged after damage only.
pub(crate) const PING_WAIT: Duration = Duration::from_millis(300);
const PING_WAIT_OF_DAMAGED: Duration = Duration::from_millis(500);

/// Ports from here on are behind another relay agent of their link, which adds nothing.
pub(crate) const BARE_PORTS: u16 = 1000;

/// The circuit-id of a port.
pub(crate) fn circuit(port: u16) -> String {
    format!("port{port}")
}

/// The remote-id of a link's relay agent.
pub(crate) fn remote(link: usize) -> String {
    format!("switch{link}")
}

/// The boot file of a subclass.
pub(crate) fn subclass_file(machine: u16) -> String {
    format!("sub-{machine}")
}

/// What installers boot where an `if` says so.
pub(crate) const INSTALLER_FILE: &str = "installer";

/// The boot file of a host entry.
pub(crate) fn host_file(name: u16) -> String {
    format!("host-{name}")
}

impl Site {
    /// As a configuration file.
    pub(crate) fn to_toml(&self, root: &Path) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, root);
        text
    }

    fn write(&self, out: &mut String, root: &Path) -> fmt::Result {
        writeln!(out, "[dhcp]")?;
        writeln!(out, "authoritative = {}", self.authoritative)?;
        writeln!(out, "offer-time = \"{OFFER_TIME}s\"\ndecline-time = \"{DECLINE_TIME}s\"")?;
        let lease = self.lease.map_or("infinite".to_owned(), |seconds| format!("{seconds}s"));
        writeln!(out, "lease-time = \"{lease}\"")?;
        if self.as_dhcpd {
            // Else its own limits hold.
            writeln!(out, "compatibility = \"dhcpd\"")?;
            writeln!(out, "min-lease-time = \"{lease}\"\nmax-lease-time = \"{lease}\"")?;
        }
        match self.known_by {
            KnownBy::Hardware => {}
            KnownBy::ClientId => writeln!(out, "identity = \"client-id\"")?,
            KnownBy::Either => writeln!(out, "identity = \"client-id-or-hardware\"")?,
        }
        if self.cache_threshold > 0 {
            writeln!(out, "dhcp-cache-threshold = {}", self.cache_threshold)?;
        }
        writeln!(out, "rapid-commit = {}", self.rapid_commit)?;
        if self.ping_check {
            writeln!(out, "ping-check = \"{}ms\"", PING_WAIT.as_millis())?;
        }
        if self.reply_delay {
            writeln!(out, "reply-delay = \"100ms\"")?;
        }
        writeln!(out, "one-lease-per-client = {}", self.one_lease)?;
        writeln!(out, "infinite-is-reserved = {}", self.infinite_reserved)?;
        self.write_boot(out)?;
        self.write_classes(out)?;
        for place in 0..LINKS.len() {
            let link = (place + self.order as usize) % LINKS.len();
            writeln!(out, "[[dhcp.subnet]]\nsubnet = \"10.{link}.0.0/24\"\npools = [")?;
            for pool in self.pools.iter().filter(|pool| pool.link == link) {
                let (low, high) = (address(link, pool.low), address(link, pool.high));
                let users = match pool.users {
                    Users::All => "",
                    Users::Firmware => ", class = \"firmware\"",
                    Users::System => ", deny = [\"class:firmware\"]",
                    Users::Known => ", allow = [\"known\"]",
                    Users::Unknown => ", allow = [\"unknown\"]",
                };
                writeln!(out, "  {{ range = \"{low}-{high}\"{users} }},")?;
            }
            writeln!(out, "]")?;
        }
        let (live, mut written): (Vec<&Host>, Vec<&Host>) =
            self.hosts.iter().partition(|host| host.live);
        let first = self.order as usize % written.len().max(1);
        written.rotate_left(first);
        for host in written.into_iter().chain(live) {
            writeln!(out, "[[dhcp.host]]\nname = \"h{}\"", host.name)?;
            match &host.key {
                HostKey::Hardware(cards) => {
                    let cards: Vec<_> =
                        cards.iter().map(|mac| format!("\"{}\"", mac_text(mac))).collect();
                    writeln!(out, "hardware = [{}]", cards.join(", "))?;
                }
                HostKey::Uuid(uuid) => writeln!(out, "uuid = \"{}\"", uuid_text(uuid))?,
                HostKey::ClientId(id) => writeln!(out, "client-id = \"hex:{}\"", hex(id))?,
                HostKey::Circuit { link, port } => {
                    let (circuit, remote) = (circuit(*port), remote(*link));
                    writeln!(out, "circuit-id = \"{circuit}\"\nremote-id = \"{remote}\"")?;
                }
            }
            if let Some(ip) = host.ip {
                writeln!(out, "ip = \"{ip}\"")?;
            }
            writeln!(out, "boot = [{{ file = \"{}\" }}]", host_file(host.name))?;
        }
        writeln!(out, "[tftp]\nroot = \"{}\"", root.display())
    }

    /// What the programs boot, by conditions or by statements.
    fn write_boot(&self, out: &mut String) -> fmt::Result {
        if !self.ifs {
            return writeln!(
                out,
                "boot = [{{ user-class = \"iPXE\", file = \"script\" }}, \
                 {{ arch = \"x86-64-efi\", file = \"boot.uefi\" }}, \
                 {{ arch = \"x86-bios\", file = \"boot.bios\" }}]"
            );
        }
        let vendor = "substring(option vendor-class-identifier, 0, 20)";
        writeln!(out, "[[dhcp.if]]\ntest = 'option user-class = \"iPXE\"'")?;
        writeln!(out, "boot = [{{ file = \"script\" }}]\nelsif = [")?;
        for (class, file) in [
            ("PXEClient:Arch:00007", "boot.uefi"),
            ("PXEClient:Arch:00000", "boot.bios"),
            ("d-i", INSTALLER_FILE),
        ] {
            writeln!(
                out,
                "{{ test = '{vendor} = \"{class}\"', boot = [{{ file = \"{file}\" }}] }},"
            )?;
        }
        writeln!(out, "]")
    }

    /// Hardware addresses end with the machine's number.
    fn write_classes(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "[[dhcp.class]]\nname = \"firmware\"\nvendor-class = \"PXEClient\"")?;
        let last = "substring(hardware, 6, 1)";
        match self.limit {
            None => {}
            Some(limit) if self.spawns => {
                let group = format!("suffix(binary-to-ascii(4, 8, \"\", {last}), 1)");
                writeln!(out, "[[dhcp.class]]\nname = \"groups\"\nmatch = '{group}'")?;
                writeln!(out, "spawn = true\nlease-limit = {limit}")?;
                writeln!(out, "[[dhcp.class.subclass]]\nvalue = \"{LARGER_GROUP}\"")?;
                writeln!(out, "lease-limit = {}", limit + 1)?;
            }
            Some(limit) => {
                let parity = format!("suffix(binary-to-ascii(2, 8, \"\", {last}), 1)");
                writeln!(out, "[[dhcp.class]]\nname = \"odd\"\ntest = '{parity} = \"1\"'")?;
                writeln!(out, "lease-limit = {limit}")?;
            }
        }
        if !self.subclasses.is_empty() {
            writeln!(out, "[[dhcp.class]]\nname = \"machines\"")?;
            writeln!(out, "match = 'substring(hardware, 5, 2)'")?;
        }
        for machine in &self.subclasses {
            writeln!(out, "[[dhcp.class.subclass]]\nvalue = \"hex:{machine:04x}\"")?;
            writeln!(out, "boot = [{{ file = \"{}\" }}]", subclass_file(*machine))?;
        }
        Ok(())
    }

    /// The group of a machine that a limit is for, and how many addresses of pools it may have.
    pub(crate) fn limit_of(&self, machine: usize) -> Option<(usize, u32)> {
        let limit = self.limit?;
        if !self.spawns {
            return (machine % 2 == 1).then_some((1, limit));
        }
        let group = machine % 4;
        Some((group, limit + u32::from(group == LARGER_GROUP)))
    }

    /// The boot file of a program's own, where neither host nor subclass says another.
    pub(crate) fn file_of(&self, program: Program) -> &'static str {
        match program {
            Program::Installer if self.ifs => INSTALLER_FILE,
            _ => program.boot_file(),
        }
    }

    /// Without the hosts that were added while the server runs: what stands in the file.
    pub(crate) fn file(&self) -> Self {
        let hosts = self.hosts.iter().filter(|host| !host.live).cloned().collect();
        Self { hosts, ..self.clone() }
    }

    /// How long the server waits for the answer to a ping.
    pub(crate) fn ping_wait(&self) -> Duration {
        if self.ping_check { PING_WAIT } else { PING_WAIT_OF_DAMAGED }
    }

    pub(crate) fn host_of(&self, ip: Ipv4Addr) -> Option<&Host> {
        self.hosts.iter().find(|host| host.ip == Some(ip))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", address(self.link, self.low), self.high)?;
        match self.users {
            Users::All => Ok(()),
            users => write!(f, " for {users:?}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.live { "live " } else { "" }, host_file(self.name))?;
        if let Some(ip) = self.ip {
            write!(f, " = {ip}")?;
        }
        // Machines' numbers are the ends of their identities.
        match &self.key {
            HostKey::Hardware(cards) => {
                let numbers: Vec<_> = cards.iter().map(|mac| mac[5].to_string()).collect();
                write!(f, " for the card of machine {}", numbers.join(" and "))
            }
            HostKey::Uuid(uuid) => write!(f, " for the UUID of machine {}", uuid[15]),
            HostKey::ClientId(id) => write!(f, " for client-id {}", hex(id)),
            HostKey::Circuit { link, port } => write!(f, " for link {link} port {port}"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lease {
            Some(seconds) => write!(f, "leases of {seconds} s, pools ")?,
            None => f.write_str("infinite leases, pools ")?,
        }
        if let Some(limit) = self.limit {
            let groups = if self.spawns { "each of four groups" } else { "odd machines" };
            write!(f, "({groups}: {limit} addresses) ")?;
        }
        for (place, pool) in self.pools.iter().enumerate() {
            write!(f, "{}{pool}", if place == 0 { "" } else { ", " })?;
        }
        for host in &self.hosts {
            write!(f, "; {host}")?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hardware address as people write it.
pub(crate) fn mac_text(mac: &[u8; 6]) -> String {
    let parts: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn uuid_text(uuid: &[u8; 16]) -> String {
    let text = hex(uuid);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
