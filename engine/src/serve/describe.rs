//! Interfaces in words: what changed, for the log, and how they are, for `bootstorm status`.

use std::net::Ipv4Addr;

use super::bindings::Bindings;
use crate::config::Dhcp;
use crate::control::status::InterfaceStatus;
use crate::interfaces::{Interface, Interfaces};

/// What is said of an interface that is not there.
const ABSENT: &str = "this host has no interface of that name; it is served when it is there";

/// Logs each interface that is, or was, to be served and has changed, in one line. Returns the
/// names of those where clients have become reachable.
pub(super) fn log_changes(before: &Interfaces, after: &Interfaces) -> Vec<String> {
    let mut appeared = Vec::new();
    for change in changes(before, after) {
        if change.is_loss {
            tracing::warn!("{}", change.line);
        } else {
            tracing::info!("{}", change.line);
        }
        appeared.extend(change.appeared);
    }
    appeared
}

/// What happened to one interface.
#[derive(PartialEq, Eq, Debug)]
struct Change {
    line: String,
    /// Its clients are not served any more.
    is_loss: bool,
    /// Its name, if clients on it can be served from now on.
    appeared: Option<String>,
}

fn changes(before: &Interfaces, after: &Interfaces) -> Vec<Change> {
    let mut names: Vec<&str> = before.served().iter().map(|each| each.name.as_str()).collect();
    names.extend(after.served().iter().map(|each| each.name.as_str()));
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| change(name, before, after)).collect()
}

fn change(name: &str, before: &Interfaces, after: &Interfaces) -> Option<Change> {
    let (was, is) = (before.named(name), after.named(name));
    let reachable = |each: &Interface| each.served && !each.addresses.is_empty();
    let appeared = is
        .filter(|is| reachable(is))
        .filter(|is| was.is_none_or(|was| was.index != is.index || !reachable(was)))
        .map(|is| is.name.clone());
    let line = match (was, is) {
        (_, None) => {
            let other = was.and_then(|was| after.get(was.index));
            let now = other.map_or("is gone".to_owned(), |other| format!("is now {}", other.name));
            format!("interface {name} {now}: its clients are not served until it is back")
        }
        (None, Some(is)) => format!("interface {name} is there: {}", whole(is)),
        (Some(was), Some(is)) if was.index != is.index => {
            format!("interface {name} was made again: {}", whole(is))
        }
        (Some(was), Some(is)) => format!("interface {name}: {}", differences(was, is)?),
    };
    let usable = |each: &Interface| reachable(each) && each.carrier;
    let is_loss = was.is_some_and(usable) && !is.is_some_and(usable);
    Some(Change { line, is_loss, appeared })
}

fn whole(interface: &Interface) -> String {
    format!("{}, {}, MTU {}", link(interface), list(&interface.addresses), interface.mtu)
}

fn link(interface: &Interface) -> &'static str {
    match (interface.up, interface.carrier) {
        (false, _) => "down",
        (true, false) => "no carrier",
        (true, true) => "up",
    }
}

fn list(addresses: &[Ipv4Addr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "no IPv4 address".to_owned() } else { texts.join(" ") }
}

/// `None` when there are none.
fn differences(was: &Interface, is: &Interface) -> Option<String> {
    let mut parts = Vec::new();
    if link(was) != link(is) {
        parts.push(link(is).to_owned());
    }
    if was.addresses != is.addresses {
        parts.push(format!("{} (was {})", list(&is.addresses), list(&was.addresses)));
    }
    if was.mtu != is.mtu {
        parts.push(format!("MTU {} (was {})", is.mtu, was.mtu));
    }
    if was.mac != is.mac {
        parts.push("another hardware address".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How each interface is that the configuration wants to be served: those of `names`, or where
/// there are none every one with an IPv4 address.
pub(super) fn states(
    names: Option<&[String]>,
    interfaces: &Interfaces,
    bindings: &Bindings,
    dhcp: &Dhcp,
) -> Vec<InterfaceStatus> {
    let state = |name: &str| match interfaces.named(name) {
        Some(interface) => present(interface, bindings, dhcp),
        None => InterfaceStatus {
            name: name.to_owned(),
            reason: Some(ABSENT.to_owned()),
            ..InterfaceStatus::default()
        },
    };
    match names {
        Some(names) => names.iter().map(|name| state(name)).collect(),
        None => interfaces.served().iter().map(|each| present(each, bindings, dhcp)).collect(),
    }
}

fn present(interface: &Interface, bindings: &Bindings, dhcp: &Dhcp) -> InterfaceStatus {
    let obstacle = if let Some(failure) = bindings.failure(interface.index) {
        Some(failure.to_owned())
    } else if !interface.up {
        Some(format!("it is down; `ip link set {} up` cures that", interface.name))
    } else if !interface.carrier {
        Some("no carrier: the cable or its other end".to_owned())
    } else if interface.addresses.is_empty() {
        Some("it has no IPv4 address".to_owned())
    } else {
        None
    };
    let in_subnet = interface.addresses.iter().any(|&own| dhcp.subnet_of(own).is_some());
    let served = obstacle.is_none();
    let relayed = || {
        let text = "relayed clients only: none of its addresses is in a [[dhcp.subnet]]";
        (!in_subnet).then(|| text.to_owned())
    };
    InterfaceStatus {
        name: interface.name.clone(),
        present: true,
        up: interface.carrier,
        served,
        reason: obstacle.or_else(relayed),
        addresses: interface.addresses.clone(),
        mtu: interface.mtu,
    }
}

/// `eth1 is not served: it is down`
pub(super) fn not_served(state: &InterfaceStatus) -> String {
    format!("{} is not served: {}", state.name, state.reason.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eth1() -> Interface {
        Interface {
            name: "eth1".to_owned(),
            addresses: vec![Ipv4Addr::new(10, 0, 0, 1)],
            served: true,
            ..Interface::unknown(2)
        }
    }

    fn between(
        before: impl IntoIterator<Item = Interface>,
        after: impl IntoIterator<Item = Interface>,
    ) -> Vec<Change> {
        changes(&Interfaces::of(before), &Interfaces::of(after))
    }

    fn lines(
        before: impl IntoIterator<Item = Interface>,
        after: impl IntoIterator<Item = Interface>,
    ) -> Vec<String> {
        between(before, after).into_iter().map(|change| change.line).collect()
    }

    #[test]
    fn each_change_is_a_line_and_no_change_is_none() {
        let here = eth1();
        assert_eq!(lines([here.clone()], [here.clone()]), [""; 0]);
        let gone = "interface eth1 is gone: its clients are not served until it is back";
        assert_eq!(lines([here.clone()], []), [gone]);
        let renamed = Interface { name: "lan".to_owned(), served: false, ..eth1() };
        let now = "interface eth1 is now lan: its clients are not served until it is back";
        assert_eq!(lines([here.clone()], [renamed]), [now]);
        let there = "interface eth1 is there: up, 10.0.0.1, MTU 1500";
        assert_eq!(lines([], [here.clone()]), [there]);
        let again = Interface { index: 9, addresses: vec![], ..eth1() };
        let made = "interface eth1 was made again: up, no IPv4 address, MTU 1500";
        assert_eq!(lines([here.clone()], [again]), [made]);
        let other = Interface {
            up: false,
            carrier: false,
            addresses: vec![Ipv4Addr::new(10, 0, 0, 2)],
            mtu: 9000,
            ..eth1()
        };
        let differs = "interface eth1: down, 10.0.0.2 (was 10.0.0.1), MTU 9000 (was 1500)";
        assert_eq!(lines([here], [other]), [differs]);
    }

    #[test]
    fn other_interfaces_of_the_host_are_not_logged() {
        let other = Interface { served: false, ..eth1() };
        assert_eq!(lines([], [other]), [""; 0]);
    }

    #[test]
    fn clients_are_reachable_where_an_address_came_or_the_interface_did() {
        fn appeared<const B: usize, const A: usize>(
            before: [Interface; B],
            after: [Interface; A],
        ) -> bool {
            between(before, after).into_iter().any(|each| each.appeared.is_some())
        }
        let bare = Interface { addresses: vec![], ..eth1() };
        assert!(appeared([], [eth1()]) && appeared([bare.clone()], [eth1()]));
        assert!(!appeared([], [bare]) && !appeared([eth1()], []));
        assert!(!appeared([eth1()], [Interface { mtu: 9000, ..eth1() }]));
    }

    #[test]
    fn a_state_says_why_an_interface_is_not_served() {
        let mut bindings = Bindings::default();
        let state = |interface: Option<Interface>, bindings: &Bindings| {
            let names = ["eth1".to_owned()];
            let host = Interfaces::of(interface);
            states(Some(&names), &host, bindings, &Dhcp::default()).remove(0)
        };
        let absent = state(None, &bindings);
        assert_eq!(
            (absent.present, absent.served, absent.reason.as_deref()),
            (false, false, Some(ABSENT))
        );
        let served = state(Some(eth1()), &bindings);
        assert!(served.present && served.up && served.served);
        assert!(served.reason.unwrap().starts_with("relayed clients only"));
        for (interface, why) in [
            (Interface { up: false, carrier: false, ..eth1() }, "it is down"),
            (Interface { carrier: false, ..eth1() }, "no carrier"),
            (Interface { addresses: vec![], ..eth1() }, "no IPv4 address"),
        ] {
            let state = state(Some(interface), &bindings);
            assert!(!state.served && state.reason.as_ref().unwrap().contains(why), "{state:?}");
        }
        bindings.failed(2, "port in use".to_owned());
        assert_eq!(not_served(&state(Some(eth1()), &bindings)), "eth1 is not served: port in use");
    }
}
