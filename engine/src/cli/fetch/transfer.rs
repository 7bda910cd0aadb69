//! One TFTP transfer to this end, over a socket. The rules are the receiver's in `protocols::tftp`.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bootstorm_protocols::tftp::{
    Arrived, ErrorCode, GaveUp, MAX_BLKSIZE, Mode, Negotiated, Packet, Receiver, ReceiverSend,
    RetryPolicy, ack, write_error, write_request,
};
use bootstorm_protocols::time::Moment;

/// How often a silent socket looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// Room for the windows that may be on their way, as far as the system allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The server said no.
    #[error("{message} (TFTP error {code})", code = code.code())]
    Refused {
        /// Its code.
        code: ErrorCode,
        /// Its words, with escapes for what is not printable.
        message: String,
    },
    /// Nobody answered, or nobody any more.
    #[error(
        "{0}; is a TFTP server running there, and does a firewall let UDP replies from any port through?"
    )]
    Silent(GaveUp),
    /// The server broke the protocol.
    #[error("the server breaks the protocol: {0}")]
    Broken(String),
    /// The socket failed.
    #[error(transparent)]
    Network(io::Error),
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// A file that came whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    /// Its bytes.
    pub(super) bytes: u64,
    /// From the request to the last block.
    pub(super) took: Duration,
    /// What was agreed on.
    pub(super) negotiated: Negotiated,
}

/// Fetches `file` from `server` into `output`; `progress` is told bytes so far, and the size when
/// the server says it.
pub(super) fn fetch(
    server: SocketAddr,
    file: &[u8],
    asked: &Negotiated,
    policy: &RetryPolicy,
    output: &mut dyn Write,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<Fetched, FetchError> {
    let mut transfer = Transfer::begin(server, file, asked, policy)?;
    let began = bootstorm_net::now();
    let mut buffer = vec![0; usize::from(MAX_BLKSIZE) + 4];
    let mut bytes = 0;
    loop {
        transfer.speak()?;
        // No dallying after the last ACK: should it be lost, the server waits in vain, and loses
        // nothing by it.
        if transfer.receiver.is_complete() {
            let took = bootstorm_net::now().since(began);
            return Ok(Fetched { bytes, took, negotiated: *transfer.receiver.negotiated() });
        }
        let Some((len, from)) = transfer.hear(&mut buffer)? else { continue };
        let Some(data) = transfer.take(&buffer[..len], from)? else { continue };
        output.write_all(data).map_err(FetchError::Output)?;
        bytes += data.len() as u64;
        progress(bytes, transfer.receiver.negotiated().tsize);
    }
}

struct Transfer<'f> {
    socket: UdpSocket,
    file: &'f [u8],
    asked: Negotiated,
    receiver: Receiver,
    server: SocketAddr,
    /// The port that the server answers from (RFC 1350 section 4), once it has answered.
    peer: Option<SocketAddr>,
}

impl<'f> Transfer<'f> {
    fn begin(
        server: SocketAddr,
        file: &'f [u8],
        asked: &Negotiated,
        policy: &RetryPolicy,
    ) -> Result<Self, FetchError> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(FetchError::Network)?;
        socket.set_read_timeout(Some(TICK)).map_err(FetchError::Network)?;
        // A small buffer only makes it slower.
        let _smaller = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let receiver = Receiver::asking(asked, policy, bootstorm_net::now());
        Ok(Self { socket, file, asked: *asked, receiver, server, peer: None })
    }

    /// Sends what is due.
    fn speak(&mut self) -> Result<(), FetchError> {
        while let Some(send) = self.receiver.pending() {
            let mut request = [0; 1024];
            let packet: &[u8] = match send {
                ReceiverSend::Request => {
                    let len = self.write_request(&mut request).map_err(|_| {
                        FetchError::Broken("the file name is too long for one packet".to_owned())
                    })?;
                    &request[..len]
                }
                ReceiverSend::Ack(block) => &ack(block, self.receiver.negotiated().rollover()),
                // Only a server sends it.
                ReceiverSend::OptionAck => &[],
            };
            let to = self.peer.unwrap_or(self.server);
            self.socket.send_to(packet, to).map_err(FetchError::Network)?;
            self.receiver.sent(bootstorm_net::now());
        }
        Ok(())
    }

    fn write_request(&self, buffer: &mut [u8]) -> Result<usize, bootstorm_protocols::wire::Full> {
        let mut writer = write_request(buffer, false, self.file, Mode::Octet)?;
        self.asked.write_options(&mut writer)?;
        Ok(writer.finish())
    }

    /// Waits for a packet of this transfer. `None` when none came in time, or another's did.
    fn hear(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>, FetchError> {
        let received = self.socket.recv_from(buffer);
        let now = bootstorm_net::now();
        let (len, from) = match received {
            Ok(received) => received,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                self.tick(now)?;
                return Ok(None);
            }
            Err(error) => return Err(FetchError::Network(error)),
        };
        match self.peer {
            None if from.ip() == self.server.ip() => Ok(Some((len, from))),
            Some(peer) if peer == from => Ok(Some((len, from))),
            Some(peer) if peer.ip() == from.ip() => {
                self.complain(ErrorCode::UnknownTransfer, "another transfer", from);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn tick(&mut self, now: Moment) -> Result<(), FetchError> {
        if self.receiver.deadline().is_some_and(|deadline| now >= deadline) {
            self.receiver.on_deadline(now).map_err(FetchError::Silent)?;
        }
        Ok(())
    }

    /// Acts on a packet; the data in it that belongs to the file.
    fn take<'b>(
        &mut self,
        packet: &'b [u8],
        from: SocketAddr,
    ) -> Result<Option<&'b [u8]>, FetchError> {
        let now = bootstorm_net::now();
        match Packet::parse(packet) {
            Ok(Packet::Data { block, data }) => match self.receiver.on_data(block, data.len(), now)
            {
                Arrived::Take | Arrived::Complete => {
                    self.peer = Some(from);
                    Ok(Some(data))
                }
                Arrived::Ignored => Ok(None),
                Arrived::TooLong => {
                    let what = format!("{} bytes are more than the block size", data.len());
                    self.complain(ErrorCode::IllegalOperation, &what, from);
                    Err(FetchError::Broken(what))
                }
            },
            Ok(Packet::OptionAck(options)) => match self.receiver.on_option_ack(&options, now) {
                Ok(_) => {
                    self.peer = Some(from);
                    Ok(None)
                }
                Err(refused) => {
                    let what = format!("its answer to option {} is wrong", refused.option);
                    self.complain(ErrorCode::OptionRefused, &what, from);
                    Err(FetchError::Broken(what))
                }
            },
            Ok(Packet::Error { code, message }) => {
                let message = message.escape_ascii().to_string();
                Err(FetchError::Refused { code, message })
            }
            // Not of a download: late, mangled, or a stranger's.
            Ok(Packet::Read(_) | Packet::Write(_) | Packet::Ack { .. }) | Err(_) => Ok(None),
        }
    }

    /// Tells the other end with an ERROR, once; it may be lost, as any packet.
    fn complain(&self, code: ErrorCode, message: &str, to: SocketAddr) {
        let mut buffer = [0; 128];
        if let Ok(len) = write_error(&mut buffer, code, message) {
            let _lost = self.socket.send_to(&buffer[..len], to);
        }
    }
}
