//! TFTP: packets, option negotiation, and the two ends of one transfer as plain state machines.
//!
//! Sources: RFC 1350 (protocol), RFC 2090 (multicast), RFC 2347 (option extension), RFC 2348
//! (blksize), RFC 2349 (timeout and tsize), RFC 7440 (windowsize), and the `rollover` option that
//! tftp-hpa and atftp know.
//!
//! The state machines count blocks. They see no byte of the file, read no clock and send nothing.
//! The caller hands in what arrived and the time, asks what is to be sent, and reports what has
//! been sent. Blocks carry their absolute number (the first is 1) as a `u64`; only [`Rollover`]
//! knows the 16 bits on the wire.

mod block;
mod multicast;
mod negotiate;
pub mod netascii;
mod pace;
mod packet;
mod receiver;
mod rtt;
mod sender;

pub use block::Rollover;
pub use multicast::{Listener, ListenerSend, MAX_MULTICAST_BLOCKS, MULTICAST_PORT, Multicast};
pub use negotiate::{
    Direction, Limits, MAX_BLKSIZE, MAX_WINDOWSIZE, MIN_BLKSIZE, Negotiated, Refused, accept,
    blksize_for_mtu, negotiate,
};
pub use packet::{
    DATA_HEADER_LEN, ErrorCode, Mode, OptionWriter, Options, Packet, ParseError, Request, ack,
    data_header, write_error, write_request,
};
pub use receiver::{Arrived, Receiver, ReceiverSend};
pub use rtt::{GaveUp, RetryPolicy};
pub use sender::{Acked, Sender, SenderSend};
