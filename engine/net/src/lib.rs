//! The packet engine: receives and sends datagrams. It knows bytes and addresses, never DHCP or
//! TFTP.
//!
//! One interface ([`Backend`], [`Transmit`], [`Handler`]) has three implementations, which pass the
//! same tests: [`Uring`] is the product, [`Mmsg`] serves hosts where io_uring is denied, [`sim`] is
//! a network in memory with a virtual clock and seeded faults.
//!
//! ```text
//! run loop of one shard, in its own thread
//!
//!   let mut next = None;
//!   loop { next = backend.turn(next, &mut handler)?; }
//!
//!   turn: send what was queued, wait (at most until `next`), then
//!         datagram* | woken | sent*  -> handler, which queues replies
//!         batch_end                  -> handler, which says when it wants to be called again
//! ```
//!
//! A backend, its buffers and its slots belong to the thread that made them. [`Limits`] bounds
//! everything. What does not fit is refused to the caller or counted in [`Drops`], never queued
//! without end.

mod backend;
mod bytes;
mod clock;
mod drops;
mod engine;
pub mod file;
mod inherited;
mod interfaces;
mod link;
mod memory;
mod message;
mod mmsg;
mod outbox;
mod send_room;
pub mod sim;
mod sockets;
mod steering;
mod table;
mod timer;
mod uring;
mod waker;

pub use backend::{
    BUSY_POLL, Backend, Datagram, Handler, Held, Limits, Priority, Refused, SocketId, Target,
    Transmit,
};
pub use bytes::SharedBytes;
pub use clock::{clock_is_synchronised, now};
pub use drops::{Drops, KernelLoss, SendErrors};
pub use engine::{Denied, Engine, EngineChoice, EngineKind, Reason};
pub use inherited::inherited;
pub use interfaces::{Address, Interface, InterfaceWatch, interfaces};
pub use link::LinkSocket;
pub use memory::give_back_memory;
pub use mmsg::Mmsg;
pub use outbox::Outbox;
pub use sockets::{
    MtuDiscovery, PacketSocketSpec, ReceiveFrames, Socket, UdpSocketSpec, icmp_socket,
};
pub use steering::{Split, Steering};
pub use timer::{TimerKey, TimerWheel};
pub use uring::Uring;
pub use waker::Waker;
