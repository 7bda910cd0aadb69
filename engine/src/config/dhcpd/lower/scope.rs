//! One scope: the values that stand in it at last.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::options;

use super::super::super::builder::Placed;
use super::super::super::scope_draft::ScopeDraft;
use super::super::super::scope_reader::ScopePlaces;
use super::super::super::{
    BootFile, BootRule, ClientMatch, Flag, LeaseTime, Line, Parameter, Settings,
};
use super::super::ast::Entry;

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
        let times = |all: &mut Settings<'static>| {
            all.lease_time = Some(LeaseTime::from_seconds(43_200));
            all.min_lease_time = Some(LeaseTime::from_seconds(300));
            all.max_lease_time = Some(LeaseTime::from_seconds(86_400));
        };
        draft.scope.set(Parameter::LeaseTime, times, line);
        draft
    }

    /// Sets an option of the message.
    pub(super) fn option(&mut self, code: u32, value: &[u8], entry: &Entry) {
        let Ok(code) = u8::try_from(code) else { return };
        match code {
            options::SERVER_IDENTIFIER => {
                self.parameter("server-identifier", value, entry);
                return;
            }
            options::ROUTERS => self.places.routers = Some(entry.place),
            // The server decides them, as dhcpd does.
            _ if options::is_protocol(code) || code == options::LEASE_TIME => return,
            _ => {}
        }
        self.scope.option(code, value, entry.line);
    }

    /// Sets a parameter of the server; `false` if a scope has none of that name.
    pub(super) fn parameter(&mut self, name: &str, bytes: &[u8], entry: &Entry) -> bool {
        if let Some(flag) = flag(name) {
            // 2 is for `ignore`.
            let on = bytes == [1];
            let set = |all: &mut Settings<'static>| all.flags.set(flag, on);
            self.scope.set(Parameter::Flag(flag), set, entry.line);
            return true;
        }
        let number = bytes.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        let time = Some(LeaseTime::from_seconds(number));
        let address = bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        let mut set = |parameter, set: &dyn Fn(&mut Settings<'static>)| {
            self.scope.set(parameter, set, entry.line);
        };
        match name {
            "default-lease-time" => set(Parameter::LeaseTime, &|all| all.lease_time = time),
            "min-lease-time" => set(Parameter::MinLeaseTime, &|all| all.min_lease_time = time),
            "max-lease-time" => set(Parameter::MaxLeaseTime, &|all| all.max_lease_time = time),
            "next-server" => set(Parameter::NextServer, &|all| all.next_server = address),
            "server-identifier" => {
                set(Parameter::ServerIdentifier, &|all| all.server_identifier = address);
                self.places.server_identifier = Some(entry.place);
            }
            "server-name" => set(Parameter::ServerName, &|all| {
                all.server_name = Some(bytes.to_vec().into());
            }),
            "min-secs" => set(Parameter::MinSecs, &|all| all.min_secs = bytes.first().copied()),
            "filename" => {
                set(Parameter::Filename, &|all| {
                    let file = BootFile::File(bytes.into());
                    let matches = ClientMatch::default();
                    all.boot = vec![BootRule { matches, file, next_server: None }];
                });
                self.places.boot = vec![entry.place];
            }
            _ => return false,
        }
        true
    }

    pub(super) fn finish(self) -> Placed {
        (self.scope.finish().0, self.places)
    }
}

/// The flag of a parameter.
fn flag(name: &str) -> Option<Flag> {
    match name {
        "allow-bootp" => Some(Flag::Bootp),
        "allow-booting" => Some(Flag::Booting),
        _ => Flag::by_name(name),
    }
}
