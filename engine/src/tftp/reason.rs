//! Why a request or a transfer did not end with a file.

use bootstorm_protocols::tftp::ErrorCode;

use super::images::Failure;
use super::map::Refusal;
use super::paths::PathError;

/// One reason: its number counts it, its text goes to the client and into the log, its code into the ERROR packet.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Reason {
    /// Not a request: another packet, or one that cannot be read.
    Malformed,
    /// An option whose value cannot be granted.
    BadOption,
    /// The name gives no file.
    Path(PathError),
    /// A map rule refuses the name.
    MapDenies,
    /// The map rules go round.
    MapEndless,
    /// `max-transfers` is reached.
    ServerLimit,
    /// `max-transfers-per-client` is reached.
    ClientLimit,
    /// Too many files wait to be opened. Nothing is sent: the client asks again.
    Overloaded,
    /// The same request again while its transfer begins. Nothing is sent.
    Repeated,
    /// Sent to a broadcast or multicast address. Nothing is sent (RFC 1123 section 4.2.3.4).
    Broadcast,
    /// No transfer between this pair of ports.
    UnknownTransfer,
    /// The file was written to while it was sent.
    FileChanged,
    /// The file cannot be read.
    FileUnreadable,
    /// The client is silent.
    TimedOut,
    /// The client ended it with an ERROR.
    ClientError,
    /// The client wanted the size only, or wants to ask again with other options: no failure.
    Probe,
    /// The client began another transfer from the same port.
    Superseded,
    /// The client sent a block that is longer than agreed.
    TooLongBlock,
    /// Uploads are not allowed.
    UploadsOff,
    /// The upload is longer than allowed.
    UploadTooLarge,
    /// The upload cannot be written.
    UploadNotWritten,
    /// The socket is gone.
    SocketClosed,
}

/// How many there are.
const COUNT: usize = 28;

/// The text of every reason, in the order of its counters.
pub const REASONS: [&str; COUNT] = {
    let mut texts = [""; COUNT];
    let mut place = 0;
    while place < COUNT {
        texts[place] = Reason::ALL[place].text();
        place += 1;
    }
    texts
};

impl Reason {
    /// Every reason; the place in it counts it.
    const ALL: [Self; COUNT] = [
        Self::Malformed,
        Self::BadOption,
        Self::Path(PathError::BadName),
        Self::Path(PathError::NotFound),
        Self::Path(PathError::Outside),
        Self::Path(PathError::Denied),
        Self::Path(PathError::NotAFile),
        Self::Path(PathError::Exists),
        Self::Path(PathError::Failed),
        Self::MapDenies,
        Self::MapEndless,
        Self::ServerLimit,
        Self::ClientLimit,
        Self::Overloaded,
        Self::Repeated,
        Self::Broadcast,
        Self::UnknownTransfer,
        Self::FileChanged,
        Self::FileUnreadable,
        Self::TimedOut,
        Self::ClientError,
        Self::Probe,
        Self::Superseded,
        Self::TooLongBlock,
        Self::UploadsOff,
        Self::UploadTooLarge,
        Self::UploadNotWritten,
        Self::SocketClosed,
    ];

    /// Its place in [`REASONS`].
    pub(super) fn number(self) -> usize {
        Self::ALL.iter().position(|each| *each == self).unwrap_or(COUNT)
    }

    /// For the client and the log.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "not a TFTP request",
            Self::BadOption => "option refused",
            Self::Path(error) => error.text(),
            Self::MapDenies => "access denied",
            Self::MapEndless => "file name mapping does not end",
            Self::ServerLimit => "server is busy",
            Self::ClientLimit => "too many transfers for this client",
            Self::Overloaded => "too many files wait to be opened",
            Self::Repeated => "request repeated",
            Self::Broadcast => "request was broadcast",
            Self::UnknownTransfer => "unknown transfer",
            Self::FileChanged => "file changed while it was sent",
            Self::FileUnreadable => "cannot read file",
            Self::TimedOut => "client does not answer",
            Self::ClientError => "ended by the client",
            Self::Probe => "client asked for the options only",
            Self::Superseded => "client began another transfer",
            Self::TooLongBlock => "block is longer than agreed",
            Self::UploadsOff => "uploads are not allowed",
            Self::UploadTooLarge => "upload is too large",
            Self::UploadNotWritten => "cannot write upload",
            Self::SocketClosed => "socket closed",
        }
    }

    /// The ERROR packet's code; `None` where nothing is to be sent.
    pub(super) fn code(self) -> Option<ErrorCode> {
        match self {
            Self::Malformed | Self::TooLongBlock => Some(ErrorCode::IllegalOperation),
            Self::BadOption => Some(ErrorCode::OptionRefused),
            Self::Path(error) => Some(error.code()),
            Self::MapDenies | Self::UploadsOff => Some(ErrorCode::AccessViolation),
            Self::UnknownTransfer => Some(ErrorCode::UnknownTransfer),
            Self::UploadTooLarge | Self::UploadNotWritten => Some(ErrorCode::DiskFull),
            Self::MapEndless
            | Self::ServerLimit
            | Self::ClientLimit
            | Self::FileChanged
            | Self::FileUnreadable
            | Self::TimedOut => Some(ErrorCode::NotDefined),
            Self::Overloaded
            | Self::Repeated
            | Self::Broadcast
            | Self::ClientError
            | Self::Probe
            | Self::Superseded
            | Self::SocketClosed => None,
        }
    }
}

impl From<PathError> for Reason {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::MapDenies,
            Refusal::Endless => Self::MapEndless,
        }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Changed => Self::FileChanged,
            Failure::Unreadable => Self::FileUnreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_share_a_counter_or_a_text() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.number(), place);
            assert!(!REASONS[place + 1..].contains(&REASONS[place]), "{}", REASONS[place]);
        }
    }
}
