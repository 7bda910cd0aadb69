//! Declarations that are read and checked, and not served: DHCPv6, failover, keys and zones.

use std::net::Ipv6Addr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::super::expression::Token;
use super::super::problem::Fault;
use super::super::{OmapiAlgorithm, OmapiKey};
use super::ast::Subnet6;
use super::grammar::{Mistake, Parser, Within};

/// dhcpd looks at what is behind the last whole byte no more than this.
const SECRET: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Settings of a failover peer that are numbers, of this server and of its partner.
const PEER_NUMBERS: [&str; 10] = [
    "port",
    "max-lease-misbalance",
    "max-lease-ownership",
    "max-balance",
    "min-balance",
    "auto-partner-down",
    "max-response-delay",
    "max-unacked-updates",
    "mclt",
    "split",
];

impl Parser<'_, '_, '_> {
    /// A subnet6, from its address on.
    pub(super) fn subnet6(&mut self, in_network: bool) -> Result<Subnet6, Mistake> {
        let start = self.cursor.place();
        let (address, length) = self.prefix6()?;
        let place = self.cursor.since(start);
        if network6(address, length) != address {
            let text = format!("{address} has bits set behind the first {length}");
            let help = format!("write subnet6 {}/{length}", network6(address, length));
            return Err(self.wrong_at(place, Fault::new(text, help)));
        }
        let around = self.reader.subnet6.replace((address, length));
        let body = self.block(Within::Subnet(in_network), &mut |_, _| Ok(false));
        self.reader.subnet6 = around;
        Ok(Subnet6 { body: body? })
    }

    fn address6(&mut self) -> Result<Ipv6Addr, Mistake> {
        let address = self.cursor.address6(self.reader.problems);
        address.ok_or_else(|| self.expected("an IPv6 address"))
    }

    fn prefix6(&mut self) -> Result<(Ipv6Addr, u8), Mistake> {
        let address = self.address6()?;
        if !self.symbol('/') {
            return Err(self.expected("a `/` and the length of the prefix"));
        }
        Ok((address, self.length6()?))
    }

    fn length6(&mut self) -> Result<u8, Mistake> {
        let place = self.cursor.place();
        match self.count("the length of the prefix")? {
            length @ 0..=128 => Ok(u8::try_from(length).unwrap_or(128)),
            _ => Err(self.wrong_at(place, Fault::plain("a prefix has 128 bits at most"))),
        }
    }

    /// A statement about addresses of IPv6, from its name on.
    pub(super) fn addresses6(&mut self, name: &str) -> Result<(), Mistake> {
        let start = self.cursor.place();
        self.take();
        match name {
            "fixed-address6" => {
                self.address6()?;
                while self.symbol(',') {
                    self.address6()?;
                }
            }
            "fixed-prefix6" => drop(self.prefix6()?),
            "range6" => self.range6()?,
            "prefix6" => {
                self.address6()?;
                self.prefix6()?;
            }
            _ => return self.pool6(start),
        }
        self.semicolon()
    }

    fn range6(&mut self) -> Result<(), Mistake> {
        let start = self.cursor.place();
        let first = self.address6()?;
        let mut last = first;
        if self.symbol('/') {
            self.length6()?;
            self.word("temporary");
        } else if !self.word("temporary") {
            last = self.address6()?;
        }
        if let Some((network, length)) = self.reader.subnet6
            && let Some(outside) =
                [first, last].into_iter().find(|&one| network6(one, length) != network)
        {
            let place = self.cursor.since(start);
            let text = format!("{outside} is not in subnet6 {network}/{length}");
            return Err(self.wrong_at(place, Fault::plain(text)));
        }
        Ok(())
    }

    fn pool6(&mut self, start: super::super::source::Place) -> Result<(), Mistake> {
        let mut ranges = 0;
        self.block(Within::Pool, &mut |parser, word| {
            match word {
                "range6" | "prefix6" => {
                    ranges += 1;
                    parser.addresses6(word)?;
                }
                "allow" | "deny" => {
                    parser.take();
                    parser.permit()?;
                    parser.semicolon()?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if ranges == 0 {
            let text = "this pool has no range6 and no prefix6";
            return Err(self.wrong_at(start, Fault::plain(text)));
        }
        Ok(())
    }

    /// `key NAME { algorithm ...; secret ...; }`
    pub(super) fn key(&mut self) -> Result<(), Mistake> {
        self.take();
        let name = match self.cursor.peek() {
            Token::Text(text) => {
                let name = String::from_utf8_lossy(text).into_owned();
                self.take();
                Some(name)
            }
            _ => self.host_name(),
        };
        let name = name.ok_or_else(|| self.expected("the name of the key"))?;
        let place = self.cursor.place();
        let (mut algorithm, mut secret) = (None, None);
        self.block(Within::Host, &mut |parser, word| {
            match word {
                "algorithm" => {
                    parser.take();
                    let name = parser.host_name();
                    algorithm =
                        Some(name.ok_or_else(|| parser.expected("an algorithm, as hmac-md5"))?);
                }
                "secret" => {
                    parser.take();
                    secret = Some(parser.base64()?);
                }
                _ => return Err(parser.expected("`algorithm` or `secret`")),
            }
            parser.semicolon().map(|()| true)
        })?;
        // Some end it like a statement.
        self.symbol(';');
        let (Some(algorithm), Some(secret)) = (algorithm, secret) else {
            let text = format!("key `{name}` needs an algorithm and a secret");
            return Err(self.wrong_at(place, Fault::plain(text)));
        };
        let secret = SECRET.decode(secret).ok();
        let named = |own: &&(&str, _)| own.0.eq_ignore_ascii_case(&algorithm);
        let known = OmapiAlgorithm::NAMES.iter().find(named).map(|(_, algorithm)| *algorithm);
        let key = secret.filter(|secret| !secret.is_empty()).zip(known);
        let lower = name.to_ascii_lowercase();
        let key =
            key.map(|(secret, algorithm)| OmapiKey { name, algorithm, secret: secret.into() });
        self.reader.keys.insert(lower, key);
        Ok(())
    }

    /// A text in quotes, or characters of base 64 up to the `;`.
    fn base64(&mut self) -> Result<Vec<u8>, Mistake> {
        let mut text = Vec::new();
        loop {
            match self.cursor.peek() {
                Token::Text(part) => text.extend_from_slice(part),
                Token::Number(part) | Token::NumberOrName(part) | Token::Name(part) => {
                    text.extend_from_slice(part.as_bytes());
                }
                Token::Symbol(symbol @ ('+' | '/' | '=')) => {
                    text.extend_from_slice(symbol.to_string().as_bytes());
                }
                _ if text.is_empty() => return Err(self.expected("a secret in base 64")),
                _ => return Ok(text),
            }
            self.take();
        }
    }

    /// `zone NAME { primary ...; key ...; }`
    pub(super) fn zone(&mut self) -> Result<(), Mistake> {
        self.take();
        if matches!(self.cursor.peek(), Token::Text(_)) {
            self.take();
        } else if self.host_name().is_none() {
            return Err(self.expected("the name of the zone"));
        }
        let place = self.cursor.place();
        let mut servers = false;
        self.block(Within::Host, &mut |parser, word| {
            match word {
                "primary" | "secondary" => {
                    parser.take();
                    servers = true;
                    loop {
                        parser.addresses()?;
                        if !parser.symbol(',') {
                            break;
                        }
                    }
                }
                "primary6" | "secondary6" => {
                    parser.take();
                    servers = true;
                    parser.address6()?;
                    while parser.symbol(',') {
                        parser.address6()?;
                    }
                }
                "key" => {
                    parser.take();
                    let place = parser.cursor.place();
                    let name = match parser.cursor.peek() {
                        Token::Text(text) => {
                            let name = String::from_utf8_lossy(text).into_owned();
                            parser.take();
                            Some(name)
                        }
                        _ => parser.host_name(),
                    };
                    let name = name.ok_or_else(|| parser.expected("the name of a key"))?;
                    if !parser.reader.keys.contains_key(&name.to_ascii_lowercase()) {
                        let text = format!("there is no key `{name}` before this zone");
                        return Err(parser.wrong_at(place, Fault::plain(text)));
                    }
                }
                _ => return Err(parser.expected("`primary`, `secondary` or `key`")),
            }
            parser.semicolon().map(|()| true)
        })?;
        self.symbol(';');
        if !servers {
            let text = "a zone needs the server that takes updates";
            return Err(self.wrong_at(place, Fault::new(text, "add primary 127.0.0.1;")));
        }
        Ok(())
    }

    /// A failover peer: its declaration, or a reference to it in a shared network.
    pub(super) fn failover(&mut self, within: Within) -> Result<(), Mistake> {
        if !matches!(within, Within::Root | Within::Network) {
            let text = "a failover peer stands outside of all braces, or in a shared network";
            return Err(self.wrong(Fault::plain(text)));
        }
        self.take();
        if !self.word("peer") {
            return Err(self.expected("`peer`"));
        }
        let place = self.cursor.place();
        let name = self.text("the name of the peer")?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let known = self.reader.peers.contains(&name);
        if self.symbol(';') {
            if within != Within::Network || !known {
                let text = format!("there is no failover peer `{name}` to be named here");
                return Err(self.wrong_at(place, Fault::plain(text)));
            }
            return Ok(());
        }
        if known {
            let text = format!("failover peer `{name}` is declared twice");
            return Err(self.wrong_at(place, Fault::plain(text)));
        }
        let (mut primary, mut secondary, mut address) = (false, false, false);
        let (mut balance, mut mclt) = (false, false);
        self.block(Within::Host, &mut |parser, word| {
            let peer = word == "peer";
            if peer {
                parser.take();
            }
            let word = parser.cursor.word().unwrap_or_default().to_ascii_lowercase();
            match word.as_str() {
                "primary" => primary = true,
                "secondary" => secondary = true,
                "address" => {
                    parser.take();
                    parser.addresses()?;
                    address |= peer;
                    return parser.semicolon().map(|()| true);
                }
                "load" => {
                    for word in ["load", "balance", "max"] {
                        if !parser.word(word) {
                            return Err(parser.expected(&format!("`{word}`")));
                        }
                    }
                    if !parser.word("seconds") && !parser.word("secs") {
                        return Err(parser.expected("`seconds`"));
                    }
                    parser.count("a number")?;
                    return parser.semicolon().map(|()| true);
                }
                "hba" => {
                    parser.take();
                    let place = parser.cursor.place();
                    if parser.hex_list()?.len() != 32 {
                        let text = "the hash buckets are 32 bytes";
                        return Err(parser.wrong_at(place, Fault::plain(text)));
                    }
                    balance = true;
                    return parser.semicolon().map(|()| true);
                }
                word if PEER_NUMBERS.contains(&word) => {
                    let place = parser.cursor.place();
                    balance |= word == "split";
                    mclt |= word == "mclt";
                    let split = word == "split";
                    parser.take();
                    if parser.count("a number")? > 256 && split {
                        let text = "a split is a number from 0 to 256";
                        return Err(parser.wrong_at(place, Fault::plain(text)));
                    }
                    if split && secondary {
                        let text = "the secondary has no `split`";
                        return Err(parser.wrong_at(place, Fault::plain(text)));
                    }
                    return parser.semicolon().map(|()| true);
                }
                _ => return Err(parser.expected("a setting of a failover peer")),
            }
            parser.take();
            parser.semicolon().map(|()| true)
        })?;
        let lacks = if !address {
            Some("peer address")
        } else if primary && !balance {
            Some("split, as it is the primary")
        } else if primary && !mclt {
            Some("mclt, as it is the primary")
        } else {
            None
        };
        if let Some(lacks) = lacks {
            let text = format!("failover peer `{name}` has no {lacks}");
            return Err(self.wrong_at(place, Fault::plain(text)));
        }
        self.reader.peers.insert(name);
        Ok(())
    }

    /// `failover peer "NAME";` or `no failover peer;` in a pool.
    pub(super) fn failover_peer(&mut self, named: bool) -> Result<(), Mistake> {
        if !self.word("failover") {
            return Err(self.expected("`failover`"));
        }
        if !self.word("peer") {
            return Err(self.expected("`peer`"));
        }
        if named {
            let Token::Text(name) = self.cursor.peek() else {
                return Err(self.expected("the name of a failover peer in quotes"));
            };
            let name = String::from_utf8_lossy(name).into_owned();
            if !self.reader.peers.contains(&name) {
                let text = format!("there is no failover peer `{name}` before this pool");
                return Err(self.wrong(Fault::plain(text)));
            }
            self.take();
            return self.semicolon();
        }
        // dhcpd wants no `;` here, and its manual has one.
        self.symbol(';');
        Ok(())
    }

    /// Statements about files that are not written here.
    pub(super) fn checked(&mut self, name: &str) -> Result<(), Mistake> {
        self.take();
        match name {
            "lease-id-format" => {
                if !self.word("octal") && !self.word("hex") {
                    return Err(self.expected("octal or hex"));
                }
            }
            "db-time-format" => {
                if !self.word("default") && !self.word("local") {
                    return Err(self.expected("default or local"));
                }
            }
            _ => self.server_duid()?,
        }
        self.semicolon()
    }

    fn server_duid(&mut self) -> Result<(), Mistake> {
        if matches!(self.cursor.peek(), Token::Text(_)) {
            return self.bytes().map(drop);
        }
        let kind = self.cursor.word().unwrap_or_default().to_ascii_lowercase();
        match kind.as_str() {
            "en" => {
                self.take();
                self.count("an enterprise number")?;
                self.bytes()?;
            }
            "llt" | "ll" => {
                self.take();
                if self.word("ethernet") || self.word("infiniband") {
                    if kind == "llt" {
                        self.count("a time in seconds since 2000")?;
                    }
                    self.hex_list()?;
                }
            }
            _ if matches!(self.cursor.peek(), Token::Number(_)) => {
                self.count("the type of the identifier")?;
                self.bytes()?;
            }
            _ => return Err(self.expected("LLT, LL, EN or a text")),
        }
        Ok(())
    }
}

fn network6(address: Ipv6Addr, length: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}
