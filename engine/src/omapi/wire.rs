//! Messages of OMAPI as they travel. ISC dhcp has no document of them; this is what dhcpd 4.4 and
//! its clients say.
//!
//! Both ends begin with version and header size, 4 bytes each. Then messages follow, numbers
//! big-endian:
//! ```text
//! authenticator 4 | signature length 4 | operation 4 | handle 4 | id 4 | id it answers 4 |
//! values of the message | values of the object | signature
//! values: each name length 2, name, value length 4, value; then a name length of 0
//! ```
//! The signature is over everything but the authenticator and itself.

/// What both ends say first.
pub(super) const STARTUP: [u8; 8] = [0, 0, 0, 100, 0, 0, 0, 24];

/// The longest message.
pub(super) const LONGEST: usize = 64 << 10;

/// The most values of one message.
const MOST: usize = 256;

/// The operation of a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Open,
    Refresh,
    Update,
    Notify,
    Status,
    Delete,
    Other(u32),
}

impl Operation {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::Open,
            2 => Self::Refresh,
            3 => Self::Update,
            4 => Self::Notify,
            5 => Self::Status,
            6 => Self::Delete,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Open => 1,
            Self::Refresh => 2,
            Self::Update => 3,
            Self::Notify => 4,
            Self::Status => 5,
            Self::Delete => 6,
            Self::Other(number) => number,
        }
    }
}

/// Values by their names, in the order of the message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Values(pub(super) Vec<(String, Vec<u8>)>);

impl Values {
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Whether a number is there and not 0.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.iter().any(|byte| *byte != 0))
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_owned(), value.into()));
    }
}

/// One message, without its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    /// 0 for a message without a signature.
    pub(super) authenticator: u32,
    pub(super) operation: Operation,
    pub(super) handle: u32,
    pub(super) id: u32,
    pub(super) answers: u32,
    pub(super) message: Values,
    pub(super) object: Values,
}

/// A message as it was received.
#[derive(Debug)]
pub(super) struct Received<'b> {
    pub(super) message: Message,
    /// What the signature is over.
    pub(super) signed: &'b [u8],
    pub(super) signature: &'b [u8],
    /// Bytes of all of it.
    pub(super) length: usize,
}

/// Why some bytes do not begin with a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    /// More of it is to come.
    More,
    /// It is longer than any, or has more values.
    TooLong,
}

/// The message that some bytes begin with.
pub(super) fn read(bytes: &[u8]) -> Result<Received<'_>, Unread> {
    begun(bytes).map_err(|error| if bytes.len() >= LONGEST { Unread::TooLong } else { error })
}

fn begun(bytes: &[u8]) -> Result<Received<'_>, Unread> {
    let mut rest = Rest(bytes);
    let authenticator = rest.number()?;
    let length = rest.length()?;
    let operation = Operation::of(rest.number()?);
    let (handle, id, answers) = (rest.number()?, rest.number()?, rest.number()?);
    let (message, object) = (rest.values()?, rest.values()?);
    let message = Message { authenticator, operation, handle, id, answers, message, object };
    // What stands before the signature.
    let end = bytes.len() - rest.0.len();
    if end.saturating_add(length) > LONGEST {
        return Err(Unread::TooLong);
    }
    let signature = rest.take(length)?;
    Ok(Received { message, signed: &bytes[4..end], signature, length: end + length })
}

struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Unread> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Unread::More)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Unread::More)?;
        self.0 = tail;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u32, Unread> {
        self.array().map(u32::from_be_bytes)
    }

    fn length(&mut self) -> Result<usize, Unread> {
        Ok(usize::try_from(self.number()?).unwrap_or(usize::MAX))
    }

    fn values(&mut self) -> Result<Values, Unread> {
        let mut values = Values::default();
        loop {
            let length = u16::from_be_bytes(self.array()?);
            if length == 0 {
                return Ok(values);
            }
            let name = String::from_utf8_lossy(self.take(length.into())?).into_owned();
            let length = self.length()?;
            if length > LONGEST || values.0.len() == MOST {
                return Err(Unread::TooLong);
            }
            values.0.push((name, self.take(length)?.to_vec()));
        }
    }
}

/// Writes a message; `sign` makes the signature of bytes, which is `length` bytes long.
pub(super) fn write(
    message: &Message,
    length: usize,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let length = u32::try_from(length).unwrap_or(0);
    let Message { authenticator, operation, handle, id, answers, message, object } = message;
    for number in [*authenticator, length, operation.number(), *handle, *id, *answers] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for values in [message, object] {
        for (name, value) in &values.0 {
            // Names and values are this program's: a name has a few bytes, a value a few hundred.
            out.extend_from_slice(&(name.len() as u16).to_be_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&[0, 0]);
    }
    let signature = sign(&out[4..]);
    out.extend_from_slice(&signature);
    out
}
