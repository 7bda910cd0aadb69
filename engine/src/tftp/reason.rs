//! Why a request or a transfer did not end with a file.

use bootstorm_protocols::tftp::ErrorCode;

use crate::event::Kind;

use super::images::Failure;
use super::map::Refusal;
use super::paths::PathError;

/// Declares the reasons, each with its text and the code of the ERROR packet, in one table.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $code:expr;)*) => {
        /// One reason. It has a counter, a text for the client and the log, and a code.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub(super) enum Reason {
            $($(#[$doc])* $name,)*
            /// The name gives no file.
            Path(PathError),
        }

        impl Reason {
            /// All reasons but [`Self::Path`].
            const PLAIN: &[Self] = &[$(Self::$name,)*];

            /// The text for the client and the log.
            pub(super) const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Path(error) => error.text(),
                }
            }

            /// The code of the ERROR packet. With `None` nothing is sent.
            pub(super) const fn code(self) -> Option<ErrorCode> {
                match self {
                    $(Self::$name => $code,)*
                    Self::Path(error) => Some(error.code()),
                }
            }
        }
    };
}

reasons! {
    /// Not a request: another packet, or one that cannot be read.
    Malformed: "not a TFTP request", Some(ErrorCode::IllegalOperation);
    /// An option whose value cannot be granted.
    BadOption: "option refused", Some(ErrorCode::OptionRefused);
    /// A map rule refuses the name.
    MapDenies: "access denied", Some(ErrorCode::AccessViolation);
    /// The map rules do not end.
    MapEndless: "file name mapping does not end", Some(ErrorCode::NotDefined);
    /// `max-transfers` is reached. The client asks again.
    ServerLimit: "server is busy", None;
    /// `max-transfers-per-client` is reached. The client asks again.
    ClientLimit: "too many transfers for this client", None;
    /// Too many files wait to be opened. The client asks again.
    Overloaded: "too many files wait to be opened", None;
    /// The same request again while its transfer begins.
    Repeated: "request repeated", None;
    /// Sent to a broadcast or multicast address (RFC 1123 section 4.2.3.4).
    Broadcast: "request was broadcast", None;
    /// No transfer between this pair of ports.
    UnknownTransfer: "unknown transfer", Some(ErrorCode::UnknownTransfer);
    /// The file was written to while it was sent.
    FileChanged: "file changed while it was sent", Some(ErrorCode::NotDefined);
    /// The file cannot be read.
    FileUnreadable: "cannot read file", Some(ErrorCode::NotDefined);
    /// The client is silent.
    TimedOut: "client does not answer", Some(ErrorCode::NotDefined);
    /// The client ended the transfer with an ERROR.
    ClientError: "ended by the client", None;
    /// The client wanted the size only, or will ask again with other options: no failure.
    Probe: "client asked for the options only", None;
    /// The client began another transfer from the same port.
    Superseded: "client began another transfer", None;
    /// The client sent a block that is longer than agreed.
    TooLongBlock: "block is longer than agreed", Some(ErrorCode::IllegalOperation);
    /// Uploads are not allowed.
    UploadsOff: "uploads are not allowed", Some(ErrorCode::AccessViolation);
    /// The upload is longer than allowed.
    UploadTooLarge: "upload is too large", Some(ErrorCode::DiskFull);
    /// The upload cannot be written.
    UploadNotWritten: "cannot write upload", Some(ErrorCode::DiskFull);
    /// The socket is gone.
    SocketClosed: "socket closed", None;
}

/// The number of reasons.
const COUNT: usize = Reason::PLAIN.len() + PathError::ALL.len();

const _: () = assert!(COUNT <= crate::metrics::REASONS, "each reason has a counter");

/// The text of every reason, in the order of their counters.
pub(crate) const REASONS: [&str; COUNT] = {
    let mut texts = [""; COUNT];
    let (mut plain, mut path) = (0, 0);
    while plain < Reason::PLAIN.len() {
        texts[plain] = Reason::PLAIN[plain].text();
        plain += 1;
    }
    while path < PathError::ALL.len() {
        texts[plain + path] = PathError::ALL[path].text();
        path += 1;
    }
    texts
};

impl Reason {
    /// The event that is logged. That a file is missing is no failure: firmware tries many names.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Path(PathError::NotFound | PathError::NotAFile) => Kind::FileMissing,
            _ => Kind::TransferFailed,
        }
    }

    /// The index of its counter, and of its text in [`REASONS`].
    pub(super) fn number(self) -> usize {
        match self {
            Self::Path(error) => {
                let place = PathError::ALL.iter().position(|each| *each == error);
                place.map_or(COUNT, |place| Self::PLAIN.len() + place)
            }
            plain => Self::PLAIN.iter().position(|each| *each == plain).unwrap_or(COUNT),
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
        let plain = Reason::PLAIN.iter().copied();
        let all = plain.chain(PathError::ALL.iter().copied().map(Reason::Path));
        for (place, reason) in all.enumerate() {
            assert_eq!(reason.number(), place);
            assert_eq!(REASONS[place], reason.text());
            assert!(!REASONS[place + 1..].contains(&REASONS[place]), "{}", REASONS[place]);
        }
    }
}
