//! The control socket, the client's end: what the subcommands talk to the running server with.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SOCKET_NAME;
use super::protocol::{LINE_LIMIT, Request, Response};
use crate::live_hosts::{Change, HostObject};

/// How long the server may take to answer; a reload of a large configuration takes some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to change hosts: many are checked, written and read again.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// What can go wrong between a subcommand and the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "{path}: no bootstorm is running on this state-dir; start it with `bootstorm serve`, or name its \
         configuration with --config",
        path = path.display()
    )]
    NotRunning {
        /// The control socket.
        path: PathBuf,
    },
    /// The socket cannot be opened.
    #[error("{path}: {cause}{hint}", path = path.display())]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
        /// What to do about it, with its punctuation.
        hint: &'static str,
    },
    /// The conversation broke off.
    #[error("the server did not answer: {0}; its log may say why")]
    Broken(io::Error),
    /// What came back is not of this protocol.
    #[error("the server answered in another language: {0}; are client and server of one version?")]
    Language(String),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
}

/// A conversation with the running server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Client {
    /// Connects to the server of a state directory.
    pub fn connect(state_dir: &Path) -> Result<Self, ClientError> {
        let path = state_dir.join(SOCKET_NAME);
        match UnixStream::connect(&path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(ClientError::Broken)?;
                Ok(Self::over(stream))
            }
            Err(cause) => Err(match cause.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NotRunning { path }
                }
                io::ErrorKind::PermissionDenied => {
                    let hint = "; run it as root, or as a member of the server's group";
                    ClientError::Connect { path, cause, hint }
                }
                _ => ClientError::Connect { path, cause, hint: "" },
            }),
        }
    }

    /// A conversation over a connection that stands.
    pub fn over(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream), line: Vec::new() }
    }

    /// Asks.
    pub fn ask(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut text = serde_json::to_vec(request)
            .map_err(|error| ClientError::Language(error.to_string()))?;
        text.push(b'\n');
        self.stream.get_mut().write_all(&text).map_err(ClientError::Broken)
    }

    /// Asks for a change of live hosts, and waits until it is done.
    pub fn change_hosts(
        &mut self,
        change: Change,
        hosts: &[HostObject],
    ) -> Result<Response, ClientError> {
        let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        self.ask(&Request::HostsChange { change, count })?;
        let mut text = Vec::new();
        for host in hosts {
            serde_json::to_writer(&mut text, host)
                .map_err(|error| ClientError::Language(error.to_string()))?;
            text.push(b'\n');
        }
        // A server that refuses them before it has read all says why.
        let sent = self.stream.get_mut().write_all(&text);
        let timeout = Some(CHANGE_TIMEOUT);
        self.stream.get_ref().set_read_timeout(timeout).map_err(ClientError::Broken)?;
        match self.response() {
            Err(ClientError::Broken(_)) if sent.is_err() => {
                Err(ClientError::Broken(sent.err().unwrap_or(io::ErrorKind::BrokenPipe.into())))
            }
            answer => answer,
        }
    }

    /// The next line of the answer. An `error` line is [`ClientError::Refused`].
    pub fn response(&mut self) -> Result<Response, ClientError> {
        self.line.clear();
        let read =
            (&mut self.stream).take(LINE_LIMIT as u64 * 16).read_until(b'\n', &mut self.line);
        if read.map_err(ClientError::Broken)? == 0 {
            return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&self.line) {
            Ok(Response::Error(message)) => Err(ClientError::Refused(message)),
            Ok(response) => Ok(response),
            Err(error) => Err(ClientError::Language(error.to_string())),
        }
    }

    /// The next event, however long it takes. `None` when the server has ended.
    pub fn next_event(&mut self) -> Result<Option<Response>, ClientError> {
        self.stream.get_ref().set_read_timeout(None).map_err(ClientError::Broken)?;
        match self.response() {
            Err(ClientError::Broken(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}
