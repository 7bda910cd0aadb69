//! Hosts, classes, networks, subnets and pools.

use std::net::Ipv4Addr;
use std::rc::Rc;

use super::super::expression::{self, Token};
use super::super::problem::Fault;
use super::super::schema;
use super::super::source::Place;
use super::super::{ClassTest, HostKey, Prefix, Submatch};
use super::ast::{
    Body, Child, ClassNumber, Host, Network, Permission, Pool, Range, Subclass, Subnet, Value, Who,
};
use super::grammar::{Mistake, Parser, Within};
use super::time;

/// Relay agents of DHCPv6, one behind the other, at most (RFC 8415, section 7.6). To dhcpd a
/// greater number is the message itself.
const MOST_RELAYS: u64 = 32;

/// Bytes of the longest hardware address of a DHCP message (RFC 2131, section 2).
const HARDWARE: usize = 16;

impl Parser<'_, '_, '_> {
    /// A host, from its name on; `None` if there is one of that name.
    pub(super) fn host(&mut self) -> Result<Option<Host>, Mistake> {
        let place = self.cursor.place();
        let name = self.host_name().ok_or_else(|| self.expected("the name of the host"))?;
        let place = self.cursor.since(place);
        let mut host = Host {
            name: name.into(),
            place,
            keys: Vec::new(),
            identifier: None,
            addresses: Vec::new(),
            group: None,
            body: Body::default(),
        };
        let (mut fixed, mut identifier): (Option<Place>, Option<Place>) = (None, None);
        host.body = self.block(Within::Host, &mut |parser, word| {
            let start = parser.cursor.place();
            match word {
                "hardware" => parser.hardware(&mut host)?,
                "fixed-address" => {
                    parser.take();
                    let addresses = parser.fixed_addresses()?;
                    let place = parser.cursor.since(start);
                    parser.semicolon()?;
                    if let Some(first) = fixed.replace(place) {
                        let fault = Fault::new("a host has one `fixed-address`", SEVERAL);
                        parser.reader.problems.conflict(place, fault, first, "the first is here");
                    } else {
                        host.addresses = addresses;
                    }
                }
                "fixed-address6" | "fixed-prefix6" => parser.addresses6(word)?,
                "uid" => {
                    parser.take();
                    let bytes = parser.bytes()?;
                    let place = parser.cursor.since(start);
                    parser.semicolon()?;
                    host.keys.push((HostKey::ClientId(bytes.into()), place));
                }
                "host-identifier" => {
                    parser.take();
                    let key = parser.host_identifier(&mut host, start)?;
                    let place = parser.cursor.since(start);
                    if let Some(first) = identifier.replace(place) {
                        let fault = Fault::new("a host has one `host-identifier`", ONE);
                        parser.reader.problems.conflict(place, fault, first, "the first is here");
                    }
                    host.keys.extend(key);
                }
                "group" => {
                    parser.take();
                    let name = parser.text("the name of a group")?;
                    let name: Rc<str> = String::from_utf8_lossy(&name).into();
                    if !parser.reader.groups.contains(&name) {
                        let place = parser.cursor.since(start);
                        let text = format!("there is no group `{name}` before this host");
                        return Err(parser.wrong_at(place, Fault::plain(text)));
                    }
                    parser.semicolon()?;
                    host.group = Some(name);
                }
                "dynamic" | "deleted" => {
                    parser.take();
                    parser.semicolon()?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if let Some(&first) = self.reader.hosts.get(&host.name) {
            let text = format!("there are two hosts `{}`", host.name);
            let fault = Fault::new(text, "give one of them another name");
            self.reader.problems.conflict(place, fault, first, "the first is here");
            return Ok(None);
        }
        self.reader.hosts.insert(host.name.clone(), place);
        Ok(Some(host))
    }

    fn hardware(&mut self, host: &mut Host) -> Result<(), Mistake> {
        let start = self.cursor.place();
        self.take();
        let kinds = ["ethernet", "token-ring", "fddi", "infiniband"];
        let known = self.cursor.word().is_some_and(|word| {
            let word = word.to_ascii_lowercase();
            kinds.contains(&word.as_str()) || word.starts_with("unknown-")
        });
        if !known {
            return Err(self.expected("the type of the card: ethernet, token-ring, infiniband"));
        }
        self.take();
        let at = self.cursor.place();
        let bytes = if *self.cursor.peek() == Token::Symbol(';') {
            Vec::new()
        } else if let Token::Name(word) = self.cursor.peek()
            && word.contains('-')
        {
            let help = "write colons between the bytes: 52:54:00:12:34:56";
            return Err(self.wrong(Fault::new("this is no hardware address", help)));
        } else {
            self.hex_list()?
        };
        let place = self.cursor.since(at);
        self.semicolon()?;
        if bytes.len() > HARDWARE {
            let text = format!("a hardware address has {HARDWARE} bytes at most");
            return Err(self.wrong_at(place, Fault::plain(text)));
        }
        let first = host.keys.iter().find(|(key, _)| matches!(key, HostKey::Hardware(_)));
        if let Some(&(_, first)) = first {
            let place = self.cursor.since(start);
            let fault = Fault::new(
                "a host has one hardware address",
                "write a host of another name for the other card",
            );
            self.reader.problems.conflict(place, fault, first, "the first is here");
        } else if !bytes.is_empty() {
            host.keys.push((HostKey::Hardware(bytes.into()), place));
        }
        Ok(())
    }

    /// Addresses and names with commas between them, each with its place.
    fn fixed_addresses(&mut self) -> Result<Vec<(Ipv4Addr, Place)>, Mistake> {
        let mut all = Vec::new();
        loop {
            let start = self.cursor.place();
            let addresses = self.addresses()?;
            let place = self.cursor.since(start);
            all.extend(addresses.into_iter().map(|address| (address, place)));
            if !self.symbol(',') {
                return Ok(all);
            }
        }
    }

    /// What stands behind `host-identifier`. Nothing for an option that no message of DHCPv4 has:
    /// nobody is found by it.
    fn host_identifier(
        &mut self,
        host: &mut Host,
        start: Place,
    ) -> Result<Option<(HostKey, Place)>, Mistake> {
        let mut is_of_relay = false;
        if self.cursor.peek().is_word("v6relopt") {
            self.take();
            is_of_relay = (1..=MOST_RELAYS).contains(&self.count("a number")?);
        } else if !self.word("option") {
            return Err(self.expected("`option`"));
        }
        let (space, name, place) = self.option_name()?;
        let definition = match self.reader.spaces.option(space, &name) {
            Ok(definition) => definition,
            Err(fault) => return Err(self.wrong_at(place, fault)),
        };
        let value = self.value(&definition.format)?;
        let whole = self.cursor.since(start);
        self.semicolon()?;
        let (Value::Bytes(value), false) = (value, is_of_relay) else { return Ok(None) };
        let value: Box<[u8]> = value.into();
        let (number, space) = (space, self.reader.spaces.get(space).name.clone());
        let Ok(path) = self.reader.option_path(Some(&space), &name) else { return Ok(None) };
        host.identifier = Some((number, definition.code));
        let known = self.reader.identifiers.entry(definition.code).or_insert((number, whole));
        let (first_space, first) = *known;
        if first_space != number {
            let text = "this `host-identifier` names another option of the same number";
            let help = "here each is looked for by itself; dhcpd looks for the first one only";
            let (place, fault) = (whole, Fault::new(text, help));
            self.reader.problems.warn_of(place, fault, first, "the first is here");
        }
        Ok(Some((HostKey::of_option(path, value), whole)))
    }

    /// A class or a subclass, from that word on.
    pub(super) fn class(&mut self, sub: bool) -> Result<Option<Child>, Mistake> {
        self.take();
        let place = self.cursor.place();
        let Token::Text(name) = self.cursor.peek() else {
            return Err(self.expected("the name of the class in quotes"));
        };
        let name: Rc<str> = String::from_utf8_lossy(name).into();
        self.take();
        let known = self.reader.class_names.get(&name).copied();
        if sub {
            let Some(class) = known else {
                let text = format!("there is no class `{name}` before this subclass");
                let help = self.nearest_class(&name);
                return Err(self.wrong_at(place, Fault { message: text, help }));
            };
            return self.subclass(class, place).map(Some);
        }
        let (number, new) = match known {
            Some(number) => (number, false),
            None => (self.reader.add_class(name), true),
        };
        let (mut test, mut submatch, mut limit) = (None, None, None);
        let mut sources = Vec::new();
        let body = self.block(Within::Class, &mut |parser, word| {
            match word {
                "match" => {
                    parser.take();
                    if !parser.word("if") {
                        sources.push(("match", parser.submatch(&mut submatch, false)?));
                        return Ok(true);
                    }
                    if test.is_some() {
                        let help = "join them: match if A and B";
                        let fault = Fault::new("a class has one `match if`", help);
                        return Err(parser.wrong(fault));
                    }
                    let start = parser.cursor.place();
                    let condition = parser.expression(true, expression::boolean)?;
                    sources.push(("match if", parser.cursor.since(start)));
                    parser.semicolon()?;
                    test = Some(ClassTest::new(condition));
                }
                "spawn" => {
                    parser.take();
                    if !parser.word("with") {
                        return Err(parser.expected("`with`"));
                    }
                    sources.push(("spawn", parser.submatch(&mut submatch, true)?));
                }
                "lease" => limit = Some(parser.lease_limit()?),
                "dynamic" | "deleted" => {
                    parser.take();
                    parser.semicolon()?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let class = self.reader.class_mut(number);
        class.body.entries.extend(body.entries);
        class.body.children.extend(body.children);
        class.body.line = class.body.line.or(body.line);
        class.match_if = test.or(class.match_if.take());
        class.submatch = submatch.or(class.submatch.take());
        class.lease_limit = limit.or(class.lease_limit);
        class.sources.extend(sources);
        Ok(new.then_some(Child::Class(number)))
    }

    /// What tells the subclasses of a class apart.
    fn submatch(&mut self, submatch: &mut Option<Submatch>, spawn: bool) -> Result<Place, Mistake> {
        if submatch.is_some() {
            let text = "a class has one `match` or `spawn with`";
            return Err(self.wrong(Fault::plain(text)));
        }
        let start = self.cursor.place();
        let expression = self.expression(true, expression::data)?;
        let place = self.cursor.since(start);
        self.semicolon()?;
        *submatch = Some(Submatch { expression, spawn });
        Ok(place)
    }

    /// `lease limit NUMBER;`
    fn lease_limit(&mut self) -> Result<u32, Mistake> {
        self.take();
        if !self.word("limit") {
            return Err(self.expected("`limit`"));
        }
        let limit = self.count("a number")?;
        self.semicolon()?;
        Ok(u32::try_from(limit).unwrap_or(u32::MAX))
    }

    fn subclass(&mut self, class: ClassNumber, start: Place) -> Result<Child, Mistake> {
        let value = self.bytes()?;
        let place = self.cursor.since(start);
        let mut lease_limit = self.reader.class_mut(class).lease_limit;
        let body = if self.symbol(';') {
            Body { line: Some(self.cursor.line(start)), ..Body::default() }
        } else {
            self.block(Within::Class, &mut |parser, word| match word {
                "match" | "spawn" => {
                    let text = format!("a subclass has no `{word}`");
                    Err(parser.wrong(Fault::new(text, "it stands in the class")))
                }
                "lease" => {
                    lease_limit = Some(parser.lease_limit()?);
                    Ok(true)
                }
                "dynamic" | "deleted" => {
                    parser.take();
                    parser.semicolon().map(|()| true)
                }
                _ => Ok(false),
            })?
        };
        Ok(Child::Subclass(Subclass { class, value, lease_limit, place, body }))
    }

    fn nearest_class(&self, name: &str) -> Option<String> {
        let known = self.reader.class_names.keys().map(|name| &**name);
        schema::nearest(name, known).map(|near| format!("did you mean `{near}`?"))
    }

    /// A shared network, from its name on.
    pub(super) fn network(&mut self) -> Result<Option<Network>, Mistake> {
        let place = self.cursor.place();
        let name = match self.cursor.peek() {
            Token::Text(text) => {
                let name = String::from_utf8_lossy(text).into_owned();
                self.take();
                name
            }
            _ => {
                let name = self.host_name();
                name.ok_or_else(|| self.expected("the name of the shared network"))?
            }
        };
        let place = self.cursor.since(place);
        if name.is_empty() {
            return Err(self.wrong_at(place, Fault::plain("a shared network has a name")));
        }
        let body = self.block(Within::Network, &mut |_, _| Ok(false))?;
        if !has_subnet(&body) {
            let text = format!("shared network `{name}` has no subnet");
            let help = "declare its subnets between its braces";
            self.reader.problems.error(place, Fault::new(text, help));
            return Ok(None);
        }
        Ok(Some(Network { name, place, body }))
    }

    /// A subnet, from its address on.
    pub(super) fn subnet(&mut self, in_network: bool) -> Result<Subnet, Mistake> {
        let start = self.cursor.place();
        let address = self.address()?;
        if !self.word("netmask") {
            return Err(self.expected("`netmask`"));
        }
        let mask = self.address()?;
        let place = self.cursor.since(start);
        let length = mask.to_bits().leading_ones();
        let prefix = u8::try_from(length)
            .ok()
            .and_then(|length| Prefix::containing(address, length))
            .filter(|prefix| prefix.mask() == mask);
        let Some(prefix) = prefix else {
            let text = format!("{mask} is no netmask");
            let help = "a mask is ones and then zeroes, as in 255.255.252.0";
            return Err(self.wrong_at(place, Fault::new(text, help)));
        };
        if prefix.network() != address {
            let text = format!("{address} is no network with netmask {mask}");
            let help = format!("write subnet {} netmask {mask}", prefix.network());
            return Err(self.wrong_at(place, Fault::new(text, help)));
        }
        let body = self.block(Within::Subnet(in_network), &mut |_, _| Ok(false))?;
        Ok(Subnet { prefix, place, body })
    }

    /// A pool, from its `{` on.
    pub(super) fn pool(&mut self) -> Result<Pool, Mistake> {
        let place = self.cursor.place();
        let (mut ranges, mut permits) = (Vec::new(), Vec::new());
        let mut failed = false;
        let body = self.block(Within::Pool, &mut |parser, word| {
            match word {
                "range" => {
                    parser.take();
                    let range = parser.range();
                    failed |= range.is_err();
                    ranges.push(range?);
                }
                "allow" | "deny" => {
                    let allow = word == "allow";
                    let start = parser.cursor.place();
                    parser.take();
                    let who = parser.permit()?;
                    let place = parser.cursor.since(start);
                    parser.semicolon()?;
                    let after = |who| matches!(who, Who::After(_));
                    let twice = permits.iter().any(|other: &Permission| after(other.who));
                    if after(who) && twice {
                        return Err(parser.wrong_at(place, Fault::plain("a pool has one `after`")));
                    }
                    permits.push(Permission { allow, who });
                }
                "no" => {
                    parser.take();
                    parser.failover_peer(false)?;
                }
                "failover" => parser.failover_peer(true)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if ranges.is_empty() && !failed {
            let help = "add range 10.1.4.0 10.1.255.250;";
            self.reader.problems.error(place, Fault::new("this pool has no range", help));
        }
        Ok(Pool { ranges, permits, body })
    }

    /// What stands behind `range`, with its `;`.
    pub(super) fn range(&mut self) -> Result<Range, Mistake> {
        let bootp = self.word("dynamic-bootp");
        let start = self.cursor.place();
        let first = self.address()?;
        let last = match self.cursor.peek() {
            Token::Number(_) => self.address()?,
            _ => first,
        };
        let place = self.cursor.since(start);
        self.semicolon()?;
        Ok(Range { first: first.min(last), last: first.max(last), bootp, place })
    }

    /// What stands behind `allow` or `deny` in a pool.
    pub(super) fn permit(&mut self) -> Result<Who, Mistake> {
        let word = self.cursor.word().unwrap_or_default().to_ascii_lowercase();
        let who = match word.as_str() {
            "known-clients" => Who::Known,
            "unknown-clients" => Who::Unknown,
            "known" | "unknown" | "authenticated" | "unauthenticated" | "all" | "dynamic" => {
                self.take();
                if word == "dynamic" && !self.word("bootp") {
                    return Err(self.expected("`bootp`"));
                }
                if !self.cursor.peek().is_word("clients") {
                    return Err(self.expected("`clients`"));
                }
                match word.as_str() {
                    "known" => Who::Known,
                    "unknown" => Who::Unknown,
                    "authenticated" => Who::Authenticated,
                    "unauthenticated" => Who::Unauthenticated,
                    "all" => Who::All,
                    _ => Who::Bootp,
                }
            }
            "members" => {
                self.take();
                if !self.word("of") {
                    return Err(self.expected("`of`"));
                }
                let Token::Text(name) = self.cursor.peek() else {
                    return Err(self.expected("the name of a class in quotes"));
                };
                let name = String::from_utf8_lossy(name).into_owned();
                let Some(&class) = self.reader.class_names.get(name.as_str()) else {
                    let message = format!("there is no class `{name}` before this pool");
                    let help = self.nearest_class(&name);
                    return Err(self.wrong(Fault { message, help }));
                };
                Who::Member(class)
            }
            "after" => {
                self.take();
                return time::date(self).map(Who::After);
            }
            _ => {
                return Err(self.expected(
                    "known-clients, unknown-clients, members of \"CLASS\", all clients, dynamic \
                     bootp clients or after DATE",
                ));
            }
        };
        self.take();
        Ok(who)
    }
}

const ONE: &str = "write a host of another name for the other";
const SEVERAL: &str = "write several addresses with commas between them";

/// Whether some subnet stands in it, perhaps inside of groups.
fn has_subnet(body: &Body) -> bool {
    body.children.iter().any(|child| match child {
        Child::Subnet(_) | Child::Subnet6(_) => true,
        Child::Group(group) => has_subnet(&group.body),
        _ => false,
    })
}
