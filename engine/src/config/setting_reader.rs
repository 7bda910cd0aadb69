//! Reading the settings of a scope: what has one value, beside options.

use std::borrow::Cow;
use std::time::Duration;

use super::fields::Fields;
use super::problem::{Fault, Problems};
use super::settings::{Date, Milliseconds};
use super::tree::{Node, Value};
use super::{BootRule, Flag, Flags, Parameter, Settings, units};

/// The longest text that `sname` holds with its closing NUL.
const HEADER_NAME: usize = 63;

/// Takes the settings of a table.
pub(super) fn settings(
    always_send: Vec<u8>,
    boot: Vec<BootRule>,
    fields: &mut Fields,
    problems: &mut Problems,
) -> Settings<'static> {
    let mut flags = flags(fields, problems);
    let ping_timeout_ms = ping(fields, &mut flags, problems);
    let mut value = Values { fields, problems };
    Settings {
        always_send,
        boot,
        flags,
        lease_time: value.of(Parameter::LeaseTime, units::lease_time),
        min_lease_time: value.of(Parameter::MinLeaseTime, units::lease_time),
        max_lease_time: value.of(Parameter::MaxLeaseTime, units::lease_time),
        next_server: value.of(Parameter::NextServer, units::ipv4),
        filename: value.of(Parameter::Filename, file_name),
        // The values are put together for each scope when it is read.
        vendor_option_space: None,
        server_identifier: value.of(Parameter::ServerIdentifier, units::host_ipv4),
        server_name: value.of(Parameter::ServerName, server_name),
        reply_delay: value.of(Parameter::ReplyDelay, units::reply_delay),
        min_secs: value.of(Parameter::MinSecs, |node| units::integer(node, 0..=u8::MAX)),
        cache_threshold: value.of(Parameter::CacheThreshold, |node| units::integer(node, 0..=100)),
        bootp_lease_time: value.of(Parameter::BootpLeaseTime, units::lease_time),
        ping_timeout: None,
        ping_timeout_ms,
        ping_cltt: value.of(Parameter::PingCltt, units::whole_seconds),
        adaptive_threshold: value
            .of(Parameter::AdaptiveThreshold, |node| units::integer(node, 0..=100)),
        bootp_lease_cutoff: value.of(Parameter::BootpLeaseCutoff, |node| {
            let seconds = units::date(node)?;
            u32::try_from(seconds).map(Date).map_err(|_| units::no_date(node))
        }),
    }
}

fn flags(fields: &mut Fields, problems: &mut Problems) -> Flags {
    let mut flags = Flags::NONE;
    for flag in Flag::ALL.into_iter().filter(|flag| *flag != Flag::PingCheck) {
        if fields.may_have(flag.name())
            && let Some(on) = fields.get(flag.name(), problems, units::boolean)
        {
            flags.set(flag, on);
        }
    }
    flags
}

/// The settings of a table.
struct Values<'f, 'p> {
    fields: &'f mut Fields,
    problems: &'p mut Problems,
}

impl Values<'_, '_> {
    fn of<T>(
        &mut self,
        parameter: Parameter,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> Option<T> {
        self.fields.get(parameter.key(), self.problems, read)
    }
}

/// `ping-check` and `ping-timeout`. The first may say the time, too.
fn ping(fields: &mut Fields, flags: &mut Flags, problems: &mut Problems) -> Option<Milliseconds> {
    // A client waits about four seconds for an offer (RFC 2131, section 4.1).
    let time =
        |node: &Node| units::duration_in(node, Duration::from_millis(1), Duration::from_secs(3));
    let check = fields.get_placed("ping-check", problems, |node| match node.value {
        Value::Bool(check) => Ok((check, None)),
        _ => time(node).map(|time| (true, Some(time))),
    });
    let timeout = fields.get_placed("ping-timeout", problems, time);
    if let Some(((on, _), _)) = check {
        flags.set(Flag::PingCheck, on);
    }
    let short = check.and_then(|((_, time), place)| Some((time?, place)));
    if let (Some((_, first)), Some((_, place))) = (short, timeout) {
        let fault = Fault::new("the time of a ping is set twice", "write ping-check = true");
        problems.conflict(place, fault, first, "the other is here");
    }
    let (time, _) = short.or(timeout)?;
    // Three seconds at most.
    u32::try_from(time.as_millis()).ok().map(Milliseconds)
}

fn server_name(node: &Node) -> Result<Cow<'static, [u8]>, Fault> {
    let name = units::text(node)?;
    if name.len() > HEADER_NAME || name.contains('\0') {
        return Err(units::must_be("at most 63 bytes", node, "it is sent in the field `sname`"));
    }
    Ok(Cow::Owned(name.as_bytes().to_vec()))
}

/// `filename`
fn file_name(node: &Node) -> Result<Cow<'static, [u8]>, Fault> {
    path(node).map(|file| Cow::Owned(file.as_bytes().to_vec()))
}

/// A path without control characters.
pub(super) fn path(node: &Node) -> Result<&str, Fault> {
    let path = units::text(node)?;
    if path.contains(char::is_control) {
        return Err(units::must_be("a text without control characters", node, "remove them"));
    }
    Ok(path)
}
