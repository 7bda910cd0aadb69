//! An in-memory network with a virtual clock and seeded faults: the same seed and the same calls
//! give the same run.
//!
//! ```text
//!   let network = SimNetwork::new(seed, Faults::default());
//!   let link = network.attach(SimInterface { .. });
//!   let mut server = network.backend(&Limits::default());
//!   server.add_socket(SimSocket::udp(link, "0.0.0.0:67"))?;
//!   while network.advance().is_some() {      // leaps to the next thing that happens
//!       server.turn(None, &mut handler)?;    // never blocks: hands over what has arrived by now
//!       client.turn(None, &mut other)?;
//!   }
//! ```
//! A simulation that plays the clients itself uses [`SimNetwork::play_outside`] instead of a second
//! backend.
//!
//! Interfaces of one segment hear each other's broadcasts; unicast reaches any segment, as if
//! routed. A backend may have sockets on several interfaces, and several backends (the shards of a
//! server) sockets on one.

mod backend;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bootstorm_protocols::time::Moment;
use parking_lot::Mutex;

pub use self::backend::Sim;

/// The [`crate::Transmit`] of a [`Sim`], whose sockets the network keeps.
pub type Outbox = crate::Outbox<()>;
use self::state::State;
use crate::{Address, Limits, Priority, Steering};

/// What goes wrong, each with a probability from 0 to 1, decided for every datagram by itself.
#[derive(Clone, Debug)]
pub struct Faults {
    /// It never arrives.
    pub loss: f64,
    /// It arrives twice.
    pub duplicate: f64,
    /// It is held up for another ten times the longest delay, so that later ones overtake it.
    pub reorder: f64,
    /// How long it is on its way; evenly spread.
    pub delay: Range<Duration>,
    /// Sending fails for want of memory (ENOBUFS).
    pub send_error: f64,
    /// The socket's buffer is full (EAGAIN) for a millisecond.
    pub send_blocked: f64,
}

impl Default for Faults {
    /// A network without faults and with 50 microseconds of delay.
    fn default() -> Self {
        let delay = Duration::from_micros(50);
        Faults {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            delay: delay..delay,
            send_error: 0.0,
            send_blocked: 0.0,
        }
    }
}

/// Names an interface of the network.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct InterfaceId(usize);

/// A network interface.
#[derive(Clone, Debug)]
pub struct SimInterface {
    /// What datagrams received by it say; 0 for none.
    pub ifindex: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// IP addresses; none for a machine that still has to ask for one.
    pub addresses: Vec<Address>,
    /// Which broadcast domain it is in.
    pub segment: u32,
}

/// A socket of a [`Sim`] backend.
#[derive(Clone, Debug)]
pub struct SimSocket {
    interface: InterfaceId,
    kind: Kind,
    steering: Option<Steering>,
    priority: Priority,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    Udp(SocketAddr),
    Packet,
}

impl SimSocket {
    /// A UDP socket. Port 0 takes a free one; several sockets may share an address, as with
    /// SO_REUSEPORT.
    pub fn udp(interface: InterfaceId, bind: impl Into<SocketAddr>) -> SimSocket {
        let priority = Priority::default();
        SimSocket { interface, kind: Kind::Udp(bind.into()), steering: None, priority }
    }

    /// The same as one of several shards.
    pub fn steered(self, steering: Steering) -> SimSocket {
        SimSocket { steering: Some(steering), ..self }
    }

    /// The same with this priority.
    pub fn with_priority(self, priority: Priority) -> SimSocket {
        SimSocket { priority, ..self }
    }

    /// A packet socket: sends Ethernet frames, receives nothing.
    pub fn packet(interface: InterfaceId) -> SimSocket {
        let priority = Priority::default();
        SimSocket { interface, kind: Kind::Packet, steering: None, priority }
    }
}

/// A datagram between an attached interface and a simulation that plays the rest of the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outside {
    /// The segment that it was sent into.
    pub segment: u32,
    /// The hardware address that it is for, where it was sent as a frame.
    pub mac: Option<[u8; 6]>,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// The network and its clock; clones are the same network.
#[derive(Clone)]
pub struct SimNetwork {
    state: Arc<Mutex<State>>,
}

impl SimNetwork {
    /// A network without interfaces, at time zero.
    pub fn new(seed: u64, faults: Faults) -> SimNetwork {
        SimNetwork { state: Arc::new(Mutex::new(State::new(seed, faults))) }
    }

    /// Adds an interface.
    pub fn attach(&self, interface: SimInterface) -> InterfaceId {
        self.state.lock().attach(interface)
    }

    /// Makes an endpoint.
    pub fn backend(&self, limits: &Limits) -> Sim {
        Sim::new(self.state.clone(), limits)
    }

    /// Replaces the faults. Datagrams on their way are not affected.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.state.lock().now
    }

    /// From now on what is sent reaches no socket and has no faults: [`SimNetwork::take_sent`]
    /// hands it over, and the caller decides what becomes of it.
    pub fn play_outside(&self) {
        self.state.lock().outside.get_or_insert_default();
    }

    /// What was sent since the last call, in order.
    pub fn take_sent(&self) -> Vec<Outside> {
        self.state.lock().outside.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A datagram from outside arrives now.
    pub fn arrive(&self, datagram: Outside) {
        self.state.lock().arrive_from_outside(datagram);
    }

    /// Moves the clock to `now`, whatever should have happened before.
    pub fn advance_to(&self, now: Moment) {
        let mut state = self.state.lock();
        state.now = state.now.max(now);
        state.deliver();
    }

    /// Leaps to the next moment at which anything happens: a datagram arrives, or a backend's last
    /// deadline is over. Stays where it is when something is ready already. `None` when nothing
    /// will ever happen again.
    pub fn advance(&self) -> Option<Moment> {
        self.state.lock().advance()
    }
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNetwork").finish_non_exhaustive()
    }
}
