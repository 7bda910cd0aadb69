//! A dhcpd.conf, as it was read: names resolved, constant values encoded, everything with its
//! place, in the order of the file.

use std::net::Ipv4Addr;
use std::rc::Rc;

use super::super::expression::Data;
use super::super::source::Place;
use super::super::statement::Statement;
use super::super::{ClassTest, HostKey, Line, Prefix, Submatch};
use super::spaces::SpaceNumber;
use super::table::Row;

/// What stands between braces, or in a file.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Where it begins.
    pub(super) line: Option<Line>,
    /// Parameters, options and statements.
    pub(super) entries: Vec<Entry>,
    pub(super) children: Vec<Child>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) line: Line,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// `option`
    Option { space: SpaceNumber, code: u32, value: Value },
    /// A parameter of the server.
    Parameter { row: &'static Row, value: Value },
    /// Statements that are carried out for each message.
    Statements(Box<[Statement]>),
}

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Bytes(Vec<u8>),
    /// It depends on the message.
    Expression(Data),
    /// A name in it is not known to anybody, or there is no value: it is left out.
    Missing,
}

#[derive(Debug)]
pub(super) enum Child {
    Group(Group),
    Network(Network),
    Subnet(Subnet),
    Subnet6(Subnet6),
    Pool(Pool),
    /// A range outside of any pool.
    Range(Range),
    Host(Host),
    /// Where a class begins: the scopes around its first declaration are its own.
    Class(ClassNumber),
    Subclass(Subclass),
}

impl Child {
    /// What stands in it. That of a class stands in the list of classes.
    pub(super) fn body(&self) -> Option<&Body> {
        Some(match self {
            Self::Group(group) => &group.body,
            Self::Network(network) => &network.body,
            Self::Subnet(subnet) => &subnet.body,
            Self::Subnet6(subnet) => &subnet.body,
            Self::Pool(pool) => &pool.body,
            Self::Host(host) => &host.body,
            Self::Subclass(subclass) => &subclass.body,
            Self::Range(_) | Self::Class(_) => return None,
        })
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Option<(Rc<str>, Place)>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Subnet {
    pub(super) prefix: Prefix,
    pub(super) place: Place,
    pub(super) body: Body,
}

/// Checked, and not served: but hosts and classes in it count.
#[derive(Debug)]
pub(super) struct Subnet6 {
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) ranges: Vec<Range>,
    pub(super) permits: Vec<Permission>,
    pub(super) body: Body,
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Range {
    pub(super) first: Ipv4Addr,
    pub(super) last: Ipv4Addr,
    /// `dynamic-bootp`
    pub(super) bootp: bool,
    pub(super) place: Place,
}

/// `allow` or `deny` in a pool.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Permission {
    pub(super) allow: bool,
    pub(super) who: Who,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Who {
    All,
    Known,
    Unknown,
    Bootp,
    /// Nobody is: authentication is not served.
    Authenticated,
    Unauthenticated,
    Member(ClassNumber),
    /// From that second on, counted from 1970.
    After(i64),
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Rc<str>,
    pub(super) place: Place,
    pub(super) keys: Vec<(HostKey, Place)>,
    /// The option of `host-identifier`.
    pub(super) identifier: Option<(SpaceNumber, u32)>,
    pub(super) addresses: Vec<(Ipv4Addr, Place)>,
    /// `group`, with the name of one that is declared before.
    pub(super) group: Option<Rc<str>>,
    pub(super) body: Body,
}

/// A place in the list of classes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ClassNumber(pub(super) u32);

#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: Rc<str>,
    pub(super) match_if: Option<ClassTest>,
    /// Where the expressions of `match if`, `match` and `spawn` are written.
    pub(super) sources: Vec<(&'static str, Place)>,
    /// `match` or `spawn with`
    pub(super) submatch: Option<Submatch>,
    pub(super) lease_limit: Option<u32>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Subclass {
    pub(super) class: ClassNumber,
    pub(super) value: Vec<u8>,
    pub(super) lease_limit: Option<u32>,
    pub(super) place: Place,
    pub(super) body: Body,
}
