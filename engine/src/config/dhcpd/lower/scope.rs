//! One scope: the values that stand in it at last, and the statements.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::builder::Placed;
use super::super::super::expression::Data;
use super::super::super::scope_draft::ScopeDraft;
use super::super::super::scope_reader::ScopePlaces;
use super::super::super::statement::{Action, Mode, Statement};
use super::super::super::{
    BootFile, BootRule, ClientMatch, Flag, Key, LeaseTime, Line, Parameter, Settings,
};
use super::super::ast::{Body, Entry, Value, What};
use super::super::spaces::{SpaceNumber, Spaces};
use super::super::standard;

/// A scope while it is put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    scope: ScopeDraft,
    places: ScopePlaces,
}

impl Draft {
    /// The outermost scope, with what dhcpd does where nothing is said.
    pub(super) fn outermost() -> Self {
        let mut draft = Self::default();
        let line = Line { file: 0, line: 1 };
        let silent = |all: &mut Settings<'static>| all.flags.set(Flag::EchoClientId, false);
        draft.scope.set(Parameter::Flag(Flag::EchoClientId), silent, line);
        let quarter = |all: &mut Settings<'static>| all.cache_threshold = Some(25);
        draft.scope.set(Parameter::CacheThreshold, quarter, line);
        draft
    }

    /// Adds what an entry says; `false` if scopes have no such setting.
    pub(super) fn add(&mut self, spaces: &Spaces, entry: &Entry) -> bool {
        match key(spaces, &entry.what) {
            Some(Key::Option(options::ROUTERS)) => self.places.routers = Some(entry.place),
            Some(Key::Parameter(Parameter::ServerIdentifier)) => {
                self.places.server_identifier = Some(entry.place);
            }
            Some(Key::Parameter(Parameter::Filename)) => self.places.boot = vec![entry.place],
            _ => {}
        }
        assign(&mut self.scope, spaces, &entry.what, (Mode::Supersede, entry.line))
    }

    pub(super) fn finish(self, body: &Body) -> Placed {
        let (scope, lines) = self.scope.finish();
        // The file of a condition is looked for elsewhere.
        let mut places = self.places;
        if scope.settings().boot.is_empty() {
            places.boot = Vec::new();
        }
        (places.line, places.lines) = (body.line, lines);
        (scope, places)
    }
}

/// Puts what was read into a scope or a body of a condition; `false` if scopes have no such
/// setting.
pub(in super::super) fn assign(
    draft: &mut ScopeDraft,
    spaces: &Spaces,
    what: &What,
    (mode, line): (Mode, Line),
) -> bool {
    let value = match what {
        What::Statements(statements) => {
            statements.iter().for_each(|statement| draft.push(statement.clone()));
            return true;
        }
        What::Option { value, .. } | What::Parameter { value, .. } => value,
    };
    let Some(key) = key(spaces, what) else { return matches!(what, What::Option { .. }) };
    let data = match value {
        Value::Missing => return true,
        Value::Bytes(bytes) if mode == Mode::Supersede => {
            match key {
                Key::Option(code) => draft.option(code, bytes.as_slice(), line),
                Key::InSpace(space, code) => draft.in_space(space, code, bytes.as_slice(), line),
                Key::Parameter(parameter) => {
                    draft.set(parameter, |all| set(all, parameter, bytes), line);
                }
                Key::Boot(_) | Key::AlwaysSend => {}
            }
            return true;
        }
        Value::Bytes(bytes) => Data::Constant(bytes.as_slice().into()),
        Value::Expression(data) => data.clone(),
    };
    draft.push(Statement { line, action: Action::Assign(mode, key, data) });
    true
}

/// What an entry sets.
fn key(spaces: &Spaces, what: &What) -> Option<Key> {
    match what {
        What::Option { space, code, .. } => option(spaces, *space, *code),
        What::Parameter { row, .. } => match parameter(row.name) {
            Some(parameter) => Some(Key::Parameter(parameter)),
            None => spaces.parameter(row),
        },
        What::Statements(_) => None,
    }
}

/// What an option is in the model; `None` if a scope does not have it.
pub(in super::super) fn option(spaces: &Spaces, space: SpaceNumber, code: u32) -> Option<Key> {
    match &*spaces.get(space).name {
        standard::FQDN | standard::AGENT | standard::DHCP6 => None,
        standard::DHCP => match u8::try_from(code).ok()? {
            options::SERVER_IDENTIFIER => Some(Key::Parameter(Parameter::ServerIdentifier)),
            // What is sent, whatever the client asks for.
            options::PARAMETER_REQUEST_LIST => Some(Key::Option(options::PARAMETER_REQUEST_LIST)),
            code if options::is_protocol(code) || code == options::LEASE_TIME => None,
            code => Some(Key::Option(code)),
        },
        _ => Some(Key::InSpace(space.id(), code)),
    }
}

/// What a parameter is in the model; `None` if scopes do not have it.
pub(in super::super) fn parameter(name: &str) -> Option<Parameter> {
    Some(match name {
        "default-lease-time" => Parameter::LeaseTime,
        "min-lease-time" => Parameter::MinLeaseTime,
        "max-lease-time" => Parameter::MaxLeaseTime,
        "next-server" => Parameter::NextServer,
        "server-identifier" => Parameter::ServerIdentifier,
        "server-name" => Parameter::ServerName,
        "filename" => Parameter::Filename,
        "min-secs" => Parameter::MinSecs,
        "dhcp-cache-threshold" => Parameter::CacheThreshold,
        "dynamic-bootp-lease-length" => Parameter::BootpLeaseTime,
        "vendor-option-space" => Parameter::VendorOptionSpace,
        "allow-bootp" => Parameter::Flag(Flag::Bootp),
        "allow-booting" => Parameter::Flag(Flag::Booting),
        _ => Parameter::Flag(Flag::by_name(name)?),
    })
}

/// Gives a setting the value of these bytes.
fn set(all: &mut Settings<'static>, parameter: Parameter, bytes: &[u8]) {
    let number = bytes.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
    let time = Some(LeaseTime::from_seconds(number));
    let address = bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    match parameter {
        Parameter::LeaseTime => all.lease_time = time,
        Parameter::MinLeaseTime => all.min_lease_time = time,
        Parameter::MaxLeaseTime => all.max_lease_time = time,
        Parameter::NextServer => all.next_server = address,
        Parameter::ServerIdentifier => all.server_identifier = address,
        Parameter::ServerName => all.server_name = Some(bytes.to_vec().into()),
        Parameter::Filename => {
            let (file, matches) = (BootFile::File(bytes.into()), ClientMatch::default());
            all.boot = vec![BootRule { matches, file, next_server: None }];
        }
        Parameter::MinSecs => all.min_secs = bytes.first().copied(),
        Parameter::CacheThreshold => all.cache_threshold = bytes.first().copied(),
        Parameter::BootpLeaseTime => all.bootp_lease_time = time,
        Parameter::VendorOptionSpace => all.vendor_option_space = Some(bytes.to_vec().into()),
        // 2 is for `ignore`.
        Parameter::Flag(flag) => all.flags.set(flag, bytes == [1]),
        // No parameter of dhcpd.
        Parameter::ReplyDelay => {}
    }
}
