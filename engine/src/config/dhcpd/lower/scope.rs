//! One scope: the values that stand in it at last, and the statements.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::builder::Placed;
use super::super::super::expression::Data;
use super::super::super::scope_draft::ScopeDraft;
use super::super::super::scope_reader::ScopePlaces;
use super::super::super::statement::{Action, Mode, Statement};
use super::super::super::{Flag, Key, Line, Parameter, Settings};
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
        let ping = |all: &mut Settings<'static>| all.flags.set(Flag::PingCheck, true);
        draft.scope.set(Parameter::Flag(Flag::PingCheck), ping, line);
        let minute = |all: &mut Settings<'static>| all.ping_cltt = Some(Duration::from_secs(60));
        draft.scope.set(Parameter::PingCltt, minute, line);
        draft
    }

    /// Adds what an entry says; `false` if scopes have no such setting.
    pub(super) fn add(&mut self, spaces: &Spaces, entry: &Entry) -> bool {
        match key(spaces, &entry.what) {
            Some(Key::Option(options::ROUTERS)) => self.places.routers = Some(entry.place),
            Some(Key::Parameter(Parameter::ServerIdentifier)) => {
                self.places.server_identifier = Some(entry.place);
            }
            Some(Key::Parameter(Parameter::Filename)) => self.places.filename = Some(entry.place),
            _ => {
                let names_routers = match &entry.what {
                    What::Statements(all) => all.iter().any(Statement::names_routers),
                    _ => false,
                };
                self.places.routers = self.places.routers.or(names_routers.then_some(entry.place));
            }
        }
        assign(&mut self.scope, spaces, &entry.what, (Mode::Supersede, entry.line))
    }

    pub(super) fn finish(self, body: &Body) -> Placed {
        let (scope, lines) = self.scope.finish();
        let mut places = self.places;
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
                    draft.set(parameter, |all| all.set(parameter, bytes), line);
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
        What::Parameter { row, .. } => match Parameter::by_dhcpd_name(row.name) {
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
