//! What `explain` says of a machine that somebody describes.

use bootstorm_protocols::dhcpv4::MessageType;

use super::*;
use crate::explain::Asked;

fn machine(number: u8) -> Asked {
    Asked { mac: format!("5254.0000.00{number:02x}"), ..Asked::default() }
}

fn with_message(message: &str, number: u8) -> Asked {
    Asked { message: message.to_owned(), ..machine(number) }
}

#[test]
fn messages_of_a_machine_that_has_an_address() {
    let mut server = Server::new(HALL);
    let client = Client::plain(mac(1));
    let renew = Asked { renew: true, ..machine(1) };
    assert!(server.asked(&renew).unwrap_err().contains("--ciaddr"));
    let leased = server.lease(&client);
    let explained = server.asked(&renew).unwrap();
    let answer = |explained: &crate::explain::Explanation| explained.answer.kind.clone();
    assert_eq!((answer(&explained), explained.request.ciaddr), ("ack".to_owned(), Some(leased)));
    // Another one's address.
    let wrong = Asked { ciaddr: Some(leased), ..with_message("request", 2) };
    assert_eq!(answer(&server.asked(&wrong).unwrap()), "nak");
    let inform = Asked { ciaddr: Some(ip("10.1.0.99")), ..with_message("inform", 2) };
    assert_eq!(answer(&server.asked(&inform).unwrap()), "ack");
    assert!(server.asked(&with_message("inform", 2)).unwrap_err().contains("--ciaddr"));
    for message in ["release", "decline"] {
        assert_eq!(answer(&server.asked(&with_message(message, 1)).unwrap()), "none", "{message}");
    }
    assert_eq!(answer(&server.asked(&with_message("bootp", 0x11)).unwrap()), "boot-reply");
    assert!(server.asked(&with_message("offer", 1)).unwrap_err().contains("there are discover"));
    // Nothing has changed.
    server.expect(MessageType::Ack, &client.renew(leased));
}

#[test]
fn the_part_of_a_test_that_is_not_true_is_named_with_what_it_finds() {
    let class = r#"
[[dhcp.class]]
name = "ours"
test = 'exists host-name and (substring(option vendor-class-identifier, 0, 4) = "Cisc" or option agent.circuit-id = "eth0")'

[[dhcp.class]]
name = "racks"
match = 'option host-name'
"#;
    let server = Server::new(&(HALL.to_owned() + class));
    let why = |asked: Asked| {
        let classes = server.asked(&asked).unwrap().classes;
        classes.into_iter().map(|class| class.why).collect::<Vec<_>>()
    };
    let known = Asked { vendor_class: Some("PXEClient".to_owned()), ..machine(0x11) };
    let [ours, racks] = why(known.clone()).try_into().unwrap();
    assert_eq!(ours, "its test is not true: exists host-name is false");
    assert_eq!(racks, "its `match` is null for the client");
    let named = Asked { options: vec!["host-name=n01".to_owned()], ..known };
    let [ours, racks] = why(named).try_into().unwrap();
    assert!(
        ours.contains(
            "(substring(option vendor-class-identifier, 0, 4) = \"Cisc\") finds \"PXEC\"; "
        ),
        "{ours}"
    );
    assert!(ours.ends_with("(option agent.circuit-id = \"eth0\") finds null"), "{ours}");
    assert_eq!(racks, "it has no subclass for \"n01\"");
}

#[test]
fn a_lease_time_is_of_the_setting_that_decided() {
    let decided = |settings: &str, wish: Option<u32>| {
        let as_dhcpd = format!("[dhcp]\ncompatibility = \"dhcpd\"\n{settings}\n[[dhcp.subnet]]");
        let from = HALL.find("[dhcp]").unwrap()..HALL.find("[[dhcp.subnet]]").unwrap() + 15;
        let mut text = HALL.to_owned();
        text.replace_range(from, &as_dhcpd);
        let text = text.replacen(
            "subnet = \"10.1.0.0/16\"",
            "subnet = \"10.1.0.0/16\"\nmin-lease-time = \"2m\"",
            1,
        );
        let options = wish.map(|wish| format!("51={wish}")).into_iter().collect();
        let asked = Asked { options, ..machine(1) };
        let lease = Server::new(&text).asked(&asked).unwrap().lease_time.unwrap();
        (lease.seconds, lease.key, lease.source.name, lease.hides.len())
    };
    let is = |seconds, key: &str, source: &str, hides| {
        (seconds, key.to_owned(), source.to_owned(), hides)
    };
    assert_eq!(decided("", None), is(43_200, "lease-time", "default", 0));
    assert_eq!(decided("", Some(u32::MAX)), is(86_400, "max-lease-time", "default", 0));
    assert_eq!(
        decided("max-lease-time = 60", None),
        is(120, "min-lease-time", "subnet 10.1.0.0/16", 0)
    );
    assert_eq!(
        decided("min-lease-time = 60", Some(1)),
        is(120, "min-lease-time", "subnet 10.1.0.0/16", 1)
    );
    assert_eq!(decided("max-lease-time = 600", None), is(600, "max-lease-time", "[dhcp]", 0));
    assert_eq!(decided("", Some(4000)), is(4000, "option 51", "client", 0));
}

// Two settings of one value are told apart by what decided, not by what they say.
#[test]
fn a_lease_time_is_of_what_decided_where_a_setting_has_the_same_value() {
    let explained = |server: &Server, asked: &Asked| {
        let lease = server.asked(asked).unwrap().lease_time.unwrap();
        (lease.seconds, lease.key, lease.source.name)
    };
    let is = |seconds, key: &str, source: &str| (seconds, key.to_owned(), source.to_owned());
    let hall = |pool: &str, settings: &str| {
        let settings = format!("min-lease-time = \"1m\"\n{settings}");
        Server::new(&with_pool(HALL, pool).replace("min-lease-time = \"10m\"", &settings))
    };
    let pool = "pool 10.1.4.0-10.1.4.9";
    // The clock shows 2023-11-14T22:13:20Z.
    let until = hall("deny = [\"after 2023-11-14T22:14:20Z\"]", "");
    assert_eq!(explained(&until, &machine(1)), is(60, "after", pool));
    let key = "adaptive-lease-time-threshold";
    let mut full = hall("", &format!("{key} = 10"));
    full.lease(&Client::plain(mac(2)));
    assert_eq!(explained(&full, &machine(1)), is(60, key, "[dhcp]"));
    let bootp = with_message("bootp", 1);
    let length = "dynamic-bootp-lease-length = 100";
    let cutoff = format!("{length}\ndynamic-bootp-lease-cutoff = \"2023-11-14T22:15:00Z\"");
    let pool = "allow = [\"bootp\"]";
    let key = "dynamic-bootp-lease-cutoff";
    assert_eq!(explained(&hall(pool, &cutoff), &bootp), is(100, key, "[dhcp]"));
    let key = "dynamic-bootp-lease-length";
    assert_eq!(explained(&hall(pool, length), &bootp), is(100, key, "[dhcp]"));
    assert_eq!(explained(&hall(pool, ""), &bootp), is(u32::MAX, "bootp", "server"));
    let mut renewed = hall("", "dhcp-cache-threshold = 25");
    let client = Client::plain(mac(1));
    renewed.lease(&client);
    let renew = Asked { renew: true, ..machine(1) };
    assert_eq!(explained(&renewed, &renew), is(3600, "lease", "server"));
}

/// Branches as `line: branch taken` or `line: not branch`, each with its reason.
fn branches(server: &Server, asked: &Asked) -> Vec<(String, String)> {
    let explained = server.asked(asked).unwrap();
    let branches = explained.branches.into_iter().map(|part| {
        let line = part.source.at.unwrap().rsplit(':').next().unwrap().to_owned();
        let not = if part.taken { "" } else { "not " };
        (format!("{line}: {not}{} of {}", part.branch, part.source.name), part.why)
    });
    branches.collect()
}

#[test]
fn the_branches_that_are_taken_and_those_that_are_not() {
    let server = Server::new(
        r#"set place = "here";
subnet 10.1.0.0 netmask 255.255.0.0 {
  range 10.1.4.0 10.1.4.9;
  if option host-name = "a" {
    option domain-name "a.example";
  } elsif exists user-class and option host-name = "b" {
    option domain-name "b.example";
  } else {
    option domain-name "c.example";
    switch (option host-name) {
      case "c":
        option domain-name "cc.example";
        break;
      case "d":
        break;
      default:
        if place = "here" { option domain-name "d.example"; }
    }
  }
  on commit {
    if leased-address = 0a:01:04:00 { log(info, "first"); }
  }
}"#,
    );
    let named = |name: &str, more: Option<&str>| Asked {
        options: vec![format!("host-name={name}")],
        user_class: more.map(str::to_owned),
        ..machine(1)
    };
    let found = |asked: &Asked| branches(&server, asked);
    let is = |what: &str, why: &str| (what.to_owned(), why.to_owned());
    let subnet = "of subnet 10.1.0.0/16";
    let earlier = "a branch before it is taken";
    let commit = is("21: if of on commit", "(leased-address = 0a:01:04:00) finds 0a:01:04:00");
    assert_eq!(
        found(&named("a", None)),
        [
            is(&format!("4: if {subnet}"), "(option host-name = \"a\") finds \"a\""),
            is(&format!("6: not elsif {subnet}"), earlier),
            is(&format!("9: not else {subnet}"), earlier),
            commit.clone(),
        ]
    );
    let no_a = |name: &str| format!("(option host-name = \"a\") finds \"{name}\"");
    let b = found(&named("b", Some("x")));
    assert_eq!(b[0], is(&format!("4: not if {subnet}"), &no_a("b")));
    assert_eq!(b[1].0, format!("6: elsif {subnet}"));
    assert_eq!(
        found(&named("c", None)),
        [
            is(&format!("4: not if {subnet}"), &no_a("c")),
            is(&format!("6: not elsif {subnet}"), "exists user-class is false"),
            is(&format!("9: else {subnet}"), "no condition before it is true"),
            is(&format!("11: case {subnet}"), "\"c\": option host-name finds \"c\""),
            is(&format!("14: not case {subnet}"), "\"d\": option host-name finds \"c\""),
            is(&format!("16: not default {subnet}"), "option host-name finds \"c\", a label"),
            commit.clone(),
        ]
    );
    let e = found(&named("e", None));
    assert_eq!(
        e[5],
        is(&format!("16: default {subnet}"), "option host-name finds \"e\", no label")
    );
    // A variable is what the statements before made of it.
    assert_eq!(e[6], is(&format!("17: if {subnet}"), "(place = \"here\") finds \"here\""));
    assert_eq!(e[7], commit);
}

// 800 of the 1000 times that the expressions of one message may name what is sent.
#[test]
fn what_is_explained_is_decided_as_it_is_for_a_message() {
    let parts: Vec<_> = (0..20).map(|n| format!("config-option root-path = \"{n}\"")).collect();
    let one = format!("  if {} {{ deny booting; }}\n", parts.join(" or "));
    let choice = format!("  switch (concat(\"n\", {})) {{ case \"n\": break; }}\n", {
        let parts: Vec<_> = (0..20).map(|_| "config-option domain-name".to_owned()).collect();
        parts.join(", ")
    });
    let last = "  if config-option domain-name = \"a\" { option host-name \"b\"; }\n";
    let server = Server::new(&format!(
        "subnet 10.1.0.0 netmask 255.255.0.0 {{\n  range 10.1.4.0 10.1.4.9;\n  \
         option domain-name \"a\"; option root-path \"r\";\n{}{}{last}}}",
        one.repeat(20),
        choice.repeat(20),
    ));
    let asked = Asked { options: vec!["55=hex:0c".to_owned()], ..machine(1) };
    let text = server.asked(&asked).unwrap().to_string();
    assert!(text.contains("host-name"), "{text}");
    let why = branches(&server, &asked).pop().unwrap();
    assert_eq!(why.0, "44: if of subnet 10.1.0.0/16");
}

// Silence comes of statements as well.
#[test]
fn the_branch_that_denies_a_machine_is_named() {
    let server = Server::new(
        r#"subnet 10.1.0.0 netmask 255.255.0.0 {
  range 10.1.4.0 10.1.4.9;
  if option host-name = "a" { deny booting; }
}"#,
    );
    let asked = Asked { options: vec!["host-name=a".to_owned()], ..machine(1) };
    assert_eq!(server.asked(&asked).unwrap().answer.kind, "silence");
    assert_eq!(branches(&server, &asked)[0].0, "3: if of subnet 10.1.0.0/16");
}

#[test]
fn the_leases_of_a_class_are_counted() {
    let class = r#"
[[dhcp.class]]
name = "few"
match = 'hardware'
spawn = true
lease-limit = 1

[[dhcp.class]]
name = "port"
match = 'option agent.circuit-id'
lease-limit = 2

[[dhcp.class.subclass]]
value = "eth0"
"#;
    let mut server = Server::new(&(HALL.to_owned() + class));
    let limits = |server: &Server, number| {
        let asked = Asked {
            relay: Some(ip("10.2.0.1")),
            circuit_id: Some("eth0".to_owned()),
            ..machine(number)
        };
        let explained = server.asked(&asked).unwrap();
        let limits = explained.classes.iter().map(|class| {
            let limit = class.limit.as_ref().unwrap();
            (limit.used, limit.most, limit.full)
        });
        (limits.collect::<Vec<_>>(), explained.to_string())
    };
    assert_eq!(limits(&server, 1).0, [(0, 1, false), (0, 2, false)]);
    server.lease(&Client::plain(mac(1)).behind(ip("10.2.0.1"), b"\x01\x04eth0"));
    // It may keep what it has.
    let (used, text) = limits(&server, 1);
    assert_eq!(used, [(1, 1, false), (0, 2, false)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("; its members have 1 of 1 leases class"), "{text}");
}

#[test]
fn a_live_host_is_shown_as_what_it_is() {
    use crate::live_hosts::{By, Change, HostObject, LiveHosts, Origin};

    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::new(HALL);
    let live = |server: &Server| {
        let explained = server.asked(&machine(0x11)).unwrap();
        (explained.hosts[0].live.clone(), explained.to_string())
    };
    assert_eq!(live(&server).0, None);
    let mut hosts = LiveHosts::default();
    let at = "2026-11-28T09:20:00Z".parse().unwrap();
    let host = serde_json::from_str::<HostObject>(r#"{ "name": "rack1-n01" }"#).unwrap();
    hosts.change(Change::Add, host, Some(Origin::new(at, By::Omapi))).unwrap();
    hosts.write(&directory.path().join(crate::config::LIVE_HOSTS)).unwrap();
    server.state_dir = directory.path().to_owned();
    let (part, text) = live(&server);
    let part = part.unwrap();
    assert_eq!(part.changed.as_deref(), Some("2026-11-28T09:20:00Z"));
    assert_eq!(part.through.as_deref(), Some("OMAPI"));
    let line = "a live host, added while the server ran, at 2026-11-28T09:20:00Z through OMAPI";
    assert!(text.contains(line), "{text}");
}

#[test]
fn the_option_of_a_host_identifier_is_named() {
    let identifier = "host-identifier = { user-class = \"n8\", host-name = \"n7\" }";
    let server = Server::new(&format!("{HALL}[[dhcp.host]]\nname = \"named\"\n{identifier}\n"));
    for (said, option) in [("host-name=n7", "host-name"), ("user-class=n8", "user-class")] {
        let asked = Asked { options: vec![said.to_owned()], ..machine(1) };
        let text = server.asked(&asked).unwrap().to_string();
        let line = format!("host \"named\" by host-identifier option {option}\n");
        assert!(text.contains(&line), "{text}");
    }
}
