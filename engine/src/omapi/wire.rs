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

/// The message is longer than any, or has more values.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct TooLong;

/// The message that some bytes begin with; `None` if more of it is to come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Received<'_>>, TooLong> {
    let mut rest = Rest(bytes);
    let Some(read) = message(&mut rest) else {
        return if bytes.len() >= LONGEST { Err(TooLong) } else { Ok(None) };
    };
    let (message, length) = read?;
    // What stands before the signature.
    let end = bytes.len() - rest.0.len();
    if length > LONGEST || end.saturating_add(length) > LONGEST {
        return Err(TooLong);
    }
    let Some(signature) = rest.take(length) else { return Ok(None) };
    Ok(Some(Received { message, signed: &bytes[4..end], signature, length: end + length }))
}

/// A message and the length of its signature; `None` if it is not whole.
fn message(rest: &mut Rest<'_>) -> Option<Result<(Message, usize), TooLong>> {
    let authenticator = rest.number()?;
    let length = usize::try_from(rest.number()?).unwrap_or(usize::MAX);
    let operation = Operation::of(rest.number()?);
    let (handle, id, answers) = (rest.number()?, rest.number()?, rest.number()?);
    let mut values = || match rest.values()? {
        Ok(values) => Some(Ok(values)),
        Err(error) => Some(Err(error)),
    };
    let message = match values()? {
        Ok(values) => values,
        Err(error) => return Some(Err(error)),
    };
    let object = match values()? {
        Ok(values) => values,
        Err(error) => return Some(Err(error)),
    };
    let message = Message { authenticator, operation, handle, id, answers, message, object };
    Some(Ok((message, length)))
}

struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn values(&mut self) -> Option<Result<Values, TooLong>> {
        let mut values = Values::default();
        loop {
            let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
            if length == 0 {
                return Some(Ok(values));
            }
            let name = String::from_utf8_lossy(self.take(length.into())?).into_owned();
            let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
            if length > LONGEST || values.0.len() == MOST {
                return Some(Err(TooLong));
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
