//! `tftp://host[:port]/name[;mode=octet]` (RFC 3617).

use std::fmt;
use std::str::FromStr;

const TFTP_PORT: u16 = 69;

/// A file on a TFTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TftpUrl {
    /// Name or address of the server.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// The file, as the server is asked for it: without the slash behind the host.
    pub(super) file: Vec<u8>,
}

impl TftpUrl {
    /// The last part of the file's path, if that is a name that a file can have here.
    pub(super) fn base_name(&self) -> Option<String> {
        let name = self.file.rsplit(|byte| matches!(byte, b'/' | b'\\')).next()?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        (!matches!(&*name, "" | "." | "..")).then_some(name)
    }
}

impl fmt::Display for TftpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        write!(f, "tftp://{open}{}{close}", self.host)?;
        if self.port != TFTP_PORT {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}", self.file.escape_ascii())
    }
}

impl FromStr for TftpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; write tftp://HOST[:PORT]/FILE");
        let rest = text
            .split_at_checked("tftp://".len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("tftp://"))
            .ok_or_else(|| wrong("not a TFTP URL"))?
            .1;
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("no file is named"))?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong("] is missing"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => TFTP_PORT,
            Some(digits) => digits.parse().map_err(|_| wrong("the port is not a number"))?,
            None => return Err(wrong("what follows ] is not a port")),
        };
        let path = match path.split_once(";mode=") {
            None => path,
            Some((path, mode)) if mode.eq_ignore_ascii_case("octet") => path,
            Some(_) => return Err("only mode=octet is fetched: the bytes as they are".to_owned()),
        };
        let file = unescape(path).ok_or_else(|| wrong("% is not followed by two digits"))?;
        if host.is_empty() {
            return Err(wrong("no host is named"));
        }
        if file.is_empty() {
            return Err(wrong("no file is named"));
        }
        if file.contains(&0) {
            return Err("a file name cannot hold a zero byte".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, file })
    }
}

/// Takes percent encoding off (RFC 3986 section 2.1).
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8 // at most 255
            }
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |text: &str| text.parse::<TftpUrl>().unwrap();
        let plain = url("tftp://10.1.0.6/ipxe.efi");
        assert_eq!((&*plain.host, plain.port, &*plain.file), ("10.1.0.6", 69, &b"ipxe.efi"[..]));
        let full = url("TFTP://[fd00::6]:6969/boot/a%20b%2f.c;mode=OCTET");
        assert_eq!((&*full.host, full.port), ("fd00::6", 6969));
        assert_eq!(full.file, b"boot/a b/.c");
        assert_eq!(url("tftp://h//abs").file, b"/abs");
        assert_eq!(full.to_string(), "tftp://[fd00::6]:6969/boot/a b/.c");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_form() {
        for (text, what) in [
            ("http://h/f", "not a TFTP URL"),
            ("tftp:/", "not a TFTP URL"),
            ("tftp://host", "no file"),
            ("tftp://host/", "no file"),
            ("tftp:///f", "no host"),
            ("tftp://h:x/f", "port"),
            ("tftp://[::1/f", "]"),
            ("tftp://[::1]x/f", "port"),
            ("tftp://h/%4", "%"),
            ("tftp://h/a%00b", "zero byte"),
            ("tftp://h/f;mode=netascii", "octet"),
        ] {
            let error = text.parse::<TftpUrl>().unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn a_base_name_never_leaves_the_directory() {
        let name = |text: &str| text.parse::<TftpUrl>().unwrap().base_name();
        assert_eq!(name("tftp://h/a/b.efi").as_deref(), Some("b.efi"));
        assert_eq!(name("tftp://h/a%5cb.efi").as_deref(), Some("b.efi"));
        for text in ["tftp://h/a/", "tftp://h/..", "tftp://h/a/.", "tftp://h/%ff"] {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
