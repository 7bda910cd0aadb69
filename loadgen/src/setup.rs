//! Sockets, routes and addresses of a run, opened before the first packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bootstorm_net::{
    Address, Backend, Interface, MtuDiscovery, PacketSocketSpec, Priority, ReceiveFrames, Socket,
    SocketId, UdpSocketSpec, interfaces,
};
use bootstorm_protocols::dhcpv4::{CLIENT_PORT, SERVER_PORT};

use crate::clients::{Access, ClientAddresses, Relay, Sockets, Sources};
use crate::guard;
use crate::http::MOST_CONNECTIONS;
use crate::job::{Job, RelaySpec, RunError};
use crate::memberships::Memberships;
use crate::routes::{Block, Routes};

/// Receive buffer of every socket: answers wait here while the generator is busy. A limit, not an
/// allocation.
const RECEIVE_BUFFER: usize = 128 << 20;
/// Ports for transfers when machines have addresses of their own.
const TRANSFER_PORTS: u16 = 16;
/// The first of them.
const FIRST_TRANSFER_PORT: u16 = 20_100;
/// Sockets at most when machines have a port each.
const MOST_PORTS: u32 = 20_000;
/// Addresses at most that are taken without being asked for: fewer than entries in the server's
/// neighbour table.
const MOST_BORROWED: u32 = 800;

/// Opens what a run needs.
pub(crate) struct Setup<'a, B> {
    backend: &'a mut B,
    job: &'a Job,
    routes: &'a mut Routes,
    notes: &'a mut Vec<String>,
}

impl<'a, B: Backend<Socket = Socket>> Setup<'a, B> {
    pub(crate) fn new(
        backend: &'a mut B,
        job: &'a Job,
        routes: &'a mut Routes,
        notes: &'a mut Vec<String>,
    ) -> Self {
        Setup { backend, job, routes, notes }
    }

    pub(crate) fn sockets(mut self) -> Result<Sockets, RunError> {
        // A socket for each relay agent, perhaps one for each machine, and connections.
        raise_descriptor_limit(u64::from(MOST_PORTS) + MOST_CONNECTIONS as u64 + 1024);
        let interface = self.job.interface.as_deref().map(find_interface).transpose()?;
        let access = if !self.job.scenario.asks_for_addresses() {
            Access::None
        } else if self.job.direct {
            self.direct(interface.as_ref())?
        } else {
            self.relayed(interface.as_ref())?
        };
        let client_addresses = match access {
            Access::None => self.client_addresses(interface.as_ref())?,
            Access::Relayed(_) | Access::Direct { .. } => None,
        };
        let sources = self.sources(&access, client_addresses, interface.as_ref())?;
        let client_addresses =
            client_addresses.filter(|_| matches!(sources, Sources::Addresses { .. }));
        let machines = self.job.scenario.machines;
        let groups = match self.job.multicast_port {
            Some(port) => Some(self.udp(SocketAddr::from(([0, 0, 0, 0], port)))?),
            None => None,
        };
        Ok(Sockets { server: self.job.server, access, sources, groups, client_addresses, machines })
    }

    fn direct(&mut self, interface: Option<&Interface>) -> Result<Access, RunError> {
        let interface = interface.ok_or(RunError::NoInterface)?;
        let receive = ReceiveFrames {
            ifindex: interface.ifindex,
            port: CLIENT_PORT,
            receive_buffer: Some(RECEIVE_BUFFER),
        };
        let spec = PacketSocketSpec { receive: Some(receive), ..PacketSocketSpec::default() };
        let socket = spec.open().map_err(RunError::Socket)?.with_priority(Priority::Urgent);
        let link = self.backend.add_socket(socket).map_err(RunError::Engine)?;
        let network = network_of(interface, self.job.server);
        if network.is_none() {
            self.notes.push(format!(
                "Whether addresses are in the machines' network is not checked: {} has no address \
                 in a subnet with the server.",
                interface.name
            ));
        }
        Ok(Access::Direct { link, ifindex: interface.ifindex, network })
    }

    fn relayed(&mut self, interface: Option<&Interface>) -> Result<Access, RunError> {
        let mut specs = self.job.relays.clone();
        if specs.is_empty() {
            let address = match interface {
                Some(interface) => first_ipv4(interface)
                    .ok_or_else(|| RunError::NoAddress(interface.name.clone()))?,
                None => source_towards(self.job.server)?,
            };
            specs.push(RelaySpec { giaddr: address, prefix: None, circuit: None });
        }
        let ours = interfaces().map_err(RunError::Engine)?;
        let mut relays = Vec::with_capacity(specs.len());
        for spec in specs {
            relays.push(self.relay(&spec, &ours)?);
        }
        Ok(Access::Relayed(relays))
    }

    fn relay(&mut self, spec: &RelaySpec, ours: &[Interface]) -> Result<Relay, RunError> {
        let mut addresses = ours.iter().flat_map(|interface| &interface.addresses);
        let own = addresses.clone().find(|address| address.ip == IpAddr::V4(spec.giaddr));
        let subnet = own.map(|address| address.prefix).filter(|prefix| is_subnet(*prefix));
        let network = spec.prefix.or(subnet).map(|prefix| Block::around(spec.giaddr, prefix));
        if network.is_none() {
            self.notes.push(format!(
                "Whether addresses are in the network of relay agent {0} is not checked: no \
                 interface here has a subnet of it; --relay {0}/PREFIX names it.",
                spec.giaddr
            ));
        }
        // A network that others live in as well cannot be this host's as a whole: its machines get
        // routes one by one.
        let shared = network.is_none_or(|network| {
            network.contains(self.job.server)
                || addresses.any(|a| matches!(a.ip, IpAddr::V4(ip) if network.contains(ip)))
        });
        let whole = network.filter(|_| !shared);
        match whole {
            Some(network) => self.routes.add(network).map_err(RunError::Route)?,
            None if own.is_none() && !spec.giaddr.is_loopback() => {
                let alone = Block { first: spec.giaddr, prefix: 32 };
                self.routes.add(alone).map_err(RunError::Route)?;
            }
            None => {}
        }
        let socket = self.udp(SocketAddr::from((spec.giaddr, SERVER_PORT)))?;
        let option = spec.circuit.as_ref().map_or_else(Vec::new, |circuit| {
            let circuit = &circuit[..circuit.len().min(253)];
            [&[1, circuit.len() as u8], circuit].concat()
        });
        Ok(Relay { giaddr: spec.giaddr, network, option, socket, routed: whole.is_some() })
    }

    /// Addresses for machines that ask for none: those that were set aside, on loopback any, else
    /// some at the end of the network that the server is on, if that is no network of this host's
    /// own.
    fn client_addresses(
        &mut self,
        interface: Option<&Interface>,
    ) -> Result<Option<ClientAddresses>, RunError> {
        let machines = self.job.scenario.machines;
        if self.job.ports {
            return Ok(None);
        }
        if let Some(block) = self.job.clients {
            self.routes.add(block).map_err(RunError::Route)?;
            // Neither the network's own address nor its broadcast, unless there is nothing else.
            let between = u32::from(block.last()) - u32::from(block.first);
            let (skipped, count) = if between > 1 { (1, between - 1) } else { (0, between + 1) };
            let first = Ipv4Addr::from(u32::from(block.first) + skipped);
            return Ok(Some(ClientAddresses { first, count: count.min(machines) }));
        }
        if self.job.server.is_loopback() {
            return Ok(Some(ClientAddresses {
                first: Ipv4Addr::new(127, 64, 0, 1),
                count: machines.min(1 << 22),
            }));
        }
        let network = match interface {
            Some(interface) => network_of(interface, self.job.server),
            None => {
                let all = interfaces().map_err(RunError::Engine)?;
                all.iter().find_map(|interface| network_of(interface, self.job.server))
            }
        };
        let Some(network) = network.filter(|_| guard::in_first_namespace().is_ok_and(|it| !it))
        else {
            return Ok(None);
        };
        Ok(self.borrow(network, machines))
    }

    /// Takes addresses at the end of a network, as long as nobody forbids it.
    fn borrow(&mut self, network: Block, machines: u32) -> Option<ClientAddresses> {
        let hosts = u32::from(network.last()) - u32::from(network.first);
        let count = machines.min(MOST_BORROWED).min(hosts / 4);
        let first = u32::from(network.last()) - count;
        if count == 0 || (first..=first + count).contains(&self.job.server.into()) {
            return None;
        }
        for address in first..first + count {
            if self.routes.add(Block { first: address.into(), prefix: 32 }).is_err() {
                return None;
            }
        }
        let first = Ipv4Addr::from(first);
        self.notes.push(format!(
            "Machines load from {count} addresses from {first} on, at the end of the server's \
             network; --client-net names others."
        ));
        Some(ClientAddresses { first, count })
    }

    /// What machines send from once they have an address.
    fn sources(
        &mut self,
        access: &Access,
        client_addresses: Option<ClientAddresses>,
        interface: Option<&Interface>,
    ) -> Result<Sources, RunError> {
        let scenario = &self.job.scenario;
        let asks = !matches!(access, Access::None);
        if scenario.uses_own_addresses()
            && !self.job.ports
            && (client_addresses.is_some() || (asks && self.may_route()?))
        {
            let client = if scenario.sends_unicast_dhcp() || matches!(access, Access::Direct { .. })
            {
                Some(self.udp(SocketAddr::from(([0, 0, 0, 0], CLIENT_PORT)))?)
            } else {
                None
            };
            let shares = client_addresses
                .map_or(1, |client_addresses| client_addresses.shares(scenario.machines));
            let ports = if scenario.loads() { u32::from(TRANSFER_PORTS) * shares } else { 0 };
            let mut tftp = Vec::new();
            for place in 0..ports.min(MOST_PORTS) {
                // At most 20,000, so it is a port.
                let port = FIRST_TRANSFER_PORT + place as u16;
                tftp.push(self.udp(SocketAddr::from(([0, 0, 0, 0], port)))?);
            }
            return Ok(Sources::Addresses { client, tftp });
        }
        let address = match interface.and_then(first_ipv4) {
            Some(address) => address,
            None => source_towards(self.job.server)?,
        };
        let count = if scenario.loads() { scenario.machines.min(MOST_PORTS) } else { 0 };
        if count > 0 {
            self.notes.push(format!(
                "Machines load from {address}, a port each, not from addresses of their own{}.",
                if count < scenario.machines {
                    format!("; {count} ports serve all")
                } else {
                    String::new()
                }
            ));
        }
        let mut sockets = Vec::with_capacity(count as usize);
        for _ in 0..count {
            sockets.push(self.udp(SocketAddr::from((address, 0)))?);
        }
        Ok(Sources::Ports { address, sockets })
    }

    /// Whether addresses can be made this host's. Tried with the address of this very host, which
    /// is local anyway: refused without the privilege, harmless with it.
    fn may_route(&mut self) -> Result<bool, RunError> {
        match self.routes.add(Block { first: Ipv4Addr::LOCALHOST, prefix: 32 }) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.notes.push(format!("{error}: without CAP_NET_ADMIN"));
                Ok(false)
            }
            Err(error) => Err(RunError::Route(error)),
        }
    }

    fn udp(&mut self, bind: SocketAddr) -> Result<SocketId, RunError> {
        let transfers = bind.port() != SERVER_PORT && bind.port() != CLIENT_PORT;
        let spec = UdpSocketSpec {
            bind,
            // Blocks of a window come together where the device or the peer's kernel has not cut
            // them apart.
            gro: self.job.gro && transfers,
            // What machines send in a transfer fits everywhere; what may not be cut needs no number
            // to be put together by, which the kernel would look up for each address.
            mtu_discovery: if transfers { MtuDiscovery::Probe } else { MtuDiscovery::System },
            receive_buffer: Some(RECEIVE_BUFFER),
            ..UdpSocketSpec::default()
        };
        // An answer for one machine does not wait for the blocks of thousands: they are machines of
        // their own, and what they do to each other here is no server's latency.
        let priority = if transfers { Priority::Bulk } else { Priority::Urgent };
        let socket = spec.open().map_err(RunError::Socket)?.with_priority(priority);
        self.backend.add_socket(socket).map_err(RunError::Engine)
    }
}

/// Memberships of multicast groups on the interface towards the server.
pub(crate) fn memberships(job: &Job) -> Result<Memberships, RunError> {
    let interface = job.interface.as_deref().map(find_interface).transpose()?;
    Ok(Memberships::on(match interface.as_ref().and_then(first_ipv4) {
        Some(address) => address,
        None => source_towards(job.server)?,
    }))
}

fn find_interface(name: &str) -> Result<Interface, RunError> {
    let all = interfaces().map_err(RunError::Engine)?;
    let there: Vec<&str> = all.iter().map(|interface| interface.name.as_str()).collect();
    let there = there.join(", ");
    all.into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| RunError::Interface { name: name.to_owned(), there })
}

/// Whether machines can live behind an address of this prefix. /32 is an address alone, /31 a link
/// between two routers (RFC 3021).
fn is_subnet(prefix: u8) -> bool {
    prefix < 31
}

/// The network of an interface that an address is in.
fn network_of(interface: &Interface, server: Ipv4Addr) -> Option<Block> {
    interface.addresses.iter().find_map(|&Address { ip, prefix }| match ip {
        IpAddr::V4(ip) if is_subnet(prefix) => {
            Some(Block::around(ip, prefix)).filter(|block| block.contains(server))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    })
}

fn first_ipv4(interface: &Interface) -> Option<Ipv4Addr> {
    interface.addresses.iter().find_map(|address| match address.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

/// The address that this host uses towards a server; nothing is sent.
fn source_towards(server: Ipv4Addr) -> Result<Ipv4Addr, RunError> {
    let find = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((server, SERVER_PORT))?;
        socket.local_addr()
    };
    match find() {
        Ok(SocketAddr::V4(address)) => Ok(*address.ip()),
        Ok(SocketAddr::V6(_)) => Ok(Ipv4Addr::UNSPECIFIED),
        Err(error) => Err(RunError::NoRoute { server, error }),
    }
}

/// Many sockets need many descriptors; what cannot be had shows when they are opened.
fn raise_descriptor_limit(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        let raised = Rlimit { current: Some(wanted), maximum };
        let fallback = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_err() {
            let _ = setrlimit(Resource::Nofile, fallback);
        }
    }
}
