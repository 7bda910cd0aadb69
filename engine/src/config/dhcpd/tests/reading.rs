//! What is taken and what is refused, and where the mistake is.

use std::path::Path;

use super::super::lower;
use super::super::table::{Kind, Status};
use crate::config::{
    Config, ConfigError, Date, Flag, HostKey, Identity, LeaseTime, OmapiAlgorithm, Parameter,
    Permit, PoolId,
};

fn read(text: &str) -> Result<Config, ConfigError> {
    crate::config::parse(Path::new("dhcpd.conf"), text.as_bytes())
}

/// The same with a subnet behind it.
fn with_subnet(text: &str) -> Result<Config, ConfigError> {
    read(&format!("{text}\nsubnet 10.0.0.0 netmask 255.0.0.0 {{}}\n"))
}

#[track_caller]
fn taken(text: &str) -> Config {
    match with_subnet(text) {
        Ok(config) => config,
        Err(error) => panic!("{}", error.render(false)),
    }
}

/// The first mistake: line, column, message.
#[track_caller]
fn refused(text: &str) -> (usize, usize, String) {
    let error = with_subnet(text).expect_err(text);
    let problem = &error.problems()[0];
    let (_, line, column) = problem.place().expect("a place");
    (line, column, problem.message().to_owned())
}

#[test]
fn what_is_set_when_something_happens_is_warned_of() {
    let config = taken(
        "if known { on commit { execute(\"/bin/true\"); } }\n\
         on release { set x = \"y\"; }\n\
         class \"c\" { match if known; }\n\
         if known { add \"c\"; }\n\
         on expiry { if known { option domain-name \"x\"; } }",
    );
    let warned = config.warnings.iter().filter(|problem| problem.message().contains("not sent"));
    let warned: Vec<_> = warned.map(|problem| problem.one_line().to_string()).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains(":5:4"), "{warned:?}");
}

#[test]
fn a_tutorials_file_is_served() {
    let config = read(
        r#"# A comment, then
option domain-name "example.org";
option domain-name-servers 10.1.0.2, 10.1.0.3;
default-lease-time 600;
max-lease-time 7200;
subnet 10.1.0.0 netmask 255.255.255.0 {
  range 10.1.0.100 10.1.0.200;
  option routers 10.1.0.1;
  filename "pxelinux.0";
  next-server 10.1.0.6;
}
host n01 {
  hardware ethernet 52:54:0:12:34:56;
  fixed-address 10.1.0.17;
  option routers 10.1.0.254;
}
"#,
    )
    .unwrap();
    let dhcp = &config.dhcp;
    assert_eq!(dhcp.global.options.get(15), Some(&b"example.org"[..]));
    assert_eq!(dhcp.global.options.get(6), Some(&[10, 1, 0, 2, 10, 1, 0, 3][..]));
    assert_eq!(dhcp.global.settings().lease_time, Some(LeaseTime::from_seconds(600)));
    let subnet = &dhcp.subnets[0];
    assert_eq!(subnet.scope.options.get(3), Some(&[10, 1, 0, 1][..]));
    assert_eq!(subnet.scope.settings().next_server, Some([10, 1, 0, 6].into()));
    assert_eq!(subnet.scope.settings().filename.as_deref(), Some(&b"pxelinux.0"[..]));
    assert_eq!(dhcp.pools[0].range, ([10, 1, 0, 100].into(), [10, 1, 0, 200].into()));
    let host = dhcp.hosts.iter().next().unwrap();
    assert_eq!(&**host.name(), "n01");
    assert_eq!(host.keys().next(), Some(HostKey::Hardware(&[0x52, 0x54, 0, 0x12, 0x34, 0x56][..])));
    assert_eq!(host.ips(), [std::net::Ipv4Addr::new(10, 1, 0, 17)]);
    assert_eq!(host.scope().unwrap().options.get(3), Some(&[10, 1, 0, 254][..]));
}

#[test]
fn dhcpds_defaults_come_with_its_language() {
    let dhcp = taken("").dhcp;
    assert_eq!(dhcp.global.settings().flags.get(Flag::PingCheck), Some(true));
    assert_eq!(dhcp.global.settings().ping_cltt, Some(std::time::Duration::from_secs(60)));
    assert_eq!(dhcp.decline_time, std::time::Duration::from_secs(86_400));
    // Those of lease times among them.
    assert!(dhcp.is_as_dhcpd());
    assert_eq!(dhcp.identity, Identity::ClientIdOrHardware);
    assert_eq!(dhcp.global.settings().flags.get(Flag::EchoClientId), Some(false));
    assert_eq!(dhcp.global.settings().flags.get(Flag::Authoritative), None);
    let flags = taken("authoritative; ignore bootp; allow unknown-clients;").dhcp;
    let flags = flags.global.settings().flags;
    assert_eq!(flags.get(Flag::Authoritative), Some(true));
    assert_eq!(flags.get(Flag::Bootp), Some(false));
    assert_eq!(flags.get(Flag::BootUnknownClients), Some(true));
    let flags = taken("ping-check off;").dhcp.global.settings().flags;
    assert_eq!(flags.get(Flag::PingCheck), Some(false));
}

#[test]
fn ranges_are_counted_to_the_pool_that_dhcpd_counts_them_to() {
    let text = "shared-network s {
         subnet 192.168.0.0 netmask 255.255.255.0 { range 192.168.0.10 192.168.0.19; }
         subnet 192.168.1.0 netmask 255.255.255.0 { range 192.168.1.10 192.168.1.19; }
         pool { min-lease-time 60; range 192.168.0.20 192.168.0.29; range 192.168.1.20 192.168.1.29; }
         pool { allow unknown-clients; range 192.168.0.30 192.168.0.39; }
         pool { allow unknown-clients; range 192.168.1.30 192.168.1.39; }
         pool { allow unknown-clients; min-secs 1; range 192.168.0.40 192.168.0.49; }
       }
       subnet 192.169.0.0 netmask 255.255.255.0 { range 192.169.0.10 192.169.0.19; }";
    let dhcp = taken(text).dhcp;
    let first = |id: &PoolId| dhcp.pool(*id).range.0.to_string();
    let declared = dhcp.declared_pools.iter();
    let declared: Vec<Vec<String>> =
        declared.map(|pools| pools.iter().map(first).collect()).collect();
    let expected: &[&[&str]] = &[
        &["192.168.0.10", "192.168.1.10"],
        &["192.168.0.20", "192.168.1.20"],
        &["192.168.0.30", "192.168.1.30"],
        &["192.168.0.40"],
        &["192.169.0.10"],
    ];
    assert_eq!(declared, expected);
}

#[test]
fn the_time_of_a_ping_is_of_each_scope_and_milliseconds_go_first() {
    let config = taken("ping-timeout-ms 300; group { ping-check off; ping-timeout 2; }");
    let global = config.dhcp.global.settings();
    assert_eq!(global.ping_timeout_ms.map(|time| time.duration().as_millis()), Some(300));
    let group = config.dhcp.groups[0].scope.settings();
    assert_eq!(group.ping_timeout, Some(std::time::Duration::from_secs(2)));
    assert_eq!(group.flags.get(Flag::PingCheck), Some(false));
}

#[test]
fn omapi_is_spoken_where_the_file_says_and_with_its_key() {
    let key = "key K { algorithm HMAC-SHA256; secret YWJj+ZA==; }; omapi-key k; omapi-port 7911;";
    let key = key.replace("YWJj+ZA==", "YWJjZA==");
    let omapi = taken(&key).control.omapi.unwrap();
    assert_eq!(omapi.address, "0.0.0.0:7911".parse().unwrap());
    let key = omapi.key.unwrap();
    assert_eq!(
        (&*key.name, key.algorithm, &*key.secret),
        ("K", OmapiAlgorithm::Sha256, &b"abcd"[..])
    );
    let open = taken("omapi-port 7911;");
    assert_eq!(open.control.omapi.unwrap().address, "127.0.0.1:7911".parse().unwrap());
    let warned =
        |text: &str| open.warnings.iter().any(|one| one.one_line().to_string().contains(text));
    assert!(warned("OMAPI without a key is spoken on 127.0.0.1 alone"));
    assert_eq!(taken("key K { algorithm hmac-foo; secret AAAA; }").control.omapi, None);
    for (text, wrong) in [
        ("omapi-port 7911; omapi-key nobody;", "there is no key `nobody`"),
        (
            "key k { algorithm hmac-foo; secret AAAA; } omapi-key k;",
            "OMAPI cannot sign with key `k`",
        ),
    ] {
        let error = with_subnet(text).unwrap_err().render(false);
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn ports_broadcasts_and_dates_of_the_file_are_taken() {
    let config = taken(
        "remote-port 1068; limited-broadcast-address 10.255.255.255; \
         dynamic-bootp-lease-cutoff 1795845650; adaptive-lease-time-threshold 80;",
    );
    let dhcp = &config.dhcp;
    assert_eq!(dhcp.client_port, 1068);
    assert_eq!(dhcp.limited_broadcast, std::net::Ipv4Addr::new(10, 255, 255, 255));
    assert_eq!(dhcp.global.settings().bootp_lease_cutoff, Some(Date(1_795_845_650)));
    assert_eq!(dhcp.global.settings().adaptive_threshold, Some(80));
    assert!(dhcp.used.dates);
    let pools = "subnet 10.9.0.0 netmask 255.255.0.0 { \
                 pool { range 10.9.0.9 10.9.0.20; allow after 4 2026/11/26 10:00:00; } \
                 pool { range 10.9.0.30; deny after epoch 5; } }";
    let dhcp = read(pools).unwrap().dhcp;
    assert_eq!(dhcp.pools[0].allow, [Permit::After(1_795_687_200)]);
    assert_eq!(dhcp.pools[1].deny, [Permit::After(5)]);
}

// dhcpd goes by the number alone, of whatever space the option is.
#[test]
fn identifiers_of_one_number_and_two_spaces_are_warned_of() {
    let host = |name: &str, option: &str| {
        format!("host {name} {{ host-identifier option {option} 10.0.0.1; }}")
    };
    let both = ["agent.link-selection", "ien116-name-servers", "agent.link-selection"];
    for (options, times) in
        [(&both[..], 1), (&both[1..2], 0), (&["agent.link-selection", "routers"], 0)]
    {
        let hosts = options.iter().enumerate().map(|(n, option)| host(&format!("h{n}"), option));
        let config = read(&hosts.collect::<String>()).unwrap();
        let told = config.warnings.iter().map(|warning| warning.one_line().to_string());
        let named = told.filter(|text| text.contains("another option of the same number"));
        assert_eq!(named.count(), times, "{options:?}");
    }
}

// Of two subnets that have an address dhcpd takes the one that was declared last.
#[test]
fn a_subnet_may_lie_in_one_that_stands_before_it() {
    let (outer, inner) = ("10.9.0.0 netmask 255.255.0.0", "10.9.4.0 netmask 255.255.255.0");
    let text = format!("subnet {outer} {{ range 10.9.5.1 10.9.5.9; }} subnet {inner} {{ }}");
    let config = read(&text).unwrap();
    let told = config.warnings.iter().map(|warning| warning.one_line().to_string());
    assert_eq!(
        told.filter(|text| text.contains("10.9.4.0/24 lies in subnet 10.9.0.0/16")).count(),
        1
    );
    let prefix = |address: [u8; 4]| {
        let subnet = config.dhcp.subnet_of(address.into());
        subnet.map(|id| config.dhcp.subnet(id).prefix.to_string())
    };
    assert_eq!(prefix([10, 9, 3, 9]).as_deref(), Some("10.9.0.0/16"));
    assert_eq!(prefix([10, 9, 4, 9]).as_deref(), Some("10.9.4.0/24"));
    assert_eq!(prefix([10, 9, 5, 9]).as_deref(), Some("10.9.0.0/16"));
    assert_eq!(prefix([10, 10, 5, 9]), None);
    for (text, wrong) in [
        (format!("subnet {inner} {{ }} subnet {outer} {{ }}"), "hides 10.9.4.0/24"),
        (format!("subnet {outer} {{ }} subnet {outer} {{ }}"), "is declared twice"),
        (
            format!("subnet {outer} {{ range 10.9.3.1 10.9.4.9; }} subnet {inner} {{ }}"),
            "this range of subnet 10.9.0.0/16 is in subnet 10.9.4.0/24",
        ),
    ] {
        let error = read(&text).unwrap_err().render(false);
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_dhcpd_takes_is_taken() {
    for text in [
        "dynamic-bootp-lease-cutoff 100;",
        "default-lease-time infinite;",
        "default-lease-time 0600;",
        "default-lease-time -1;",
        "db-time-format local;",
        "ddns-update-style interim;",
        "key foo { algorithm hmac-md5; secret abcdef==; }\nomapi-key foo;",
        "key foo { algorithm hmac-md5; secret abcdef==; };\nzone x. { primary 127.0.0.1; key foo; }",
        "check-secs-byte-order true;",
        "option nis-domain foo;",
        "filename pxe;",
        "authoritative; not authoritative;",
        "option dhcp-lease-time 5;",
        "host a { }",
        "host a.b.c { hardware ethernet 1:2:3:4:5; }",
        "host a { hardware unknown-8 1:2:3:4:5:6; }",
        "host a { hardware ethernet 1:2:3:4:5:6; fixed-address 10.0.0.1, 10.0.0.2; }",
        "host a { option dhcp-client-identifier 1:2:3; uid \"foo\"; }",
        "host a { host-identifier option agent.circuit-id \"x\"; }",
        "group { } group x { } host y { group x; }",
        "group { option routers 10.0.0.1; host a { } option host-name \"x\"; }",
        "class \"a\" { match if known; } class \"a\" { filename \"x\"; }",
        "subnet 192.168.0.0 netmask 255.255.255.0 { range 192.168.0.10 192.168.0.5; }",
        "shared-network \"a b\" { subnet 1.0.0.0 netmask 255.0.0.0 { } }",
        "shared-network a { subnet 192.168.0.0 netmask 255.255.255.0 {} pool { range 192.168.0.4; } }",
        "default-lease-time 60 ; max-lease-time 20;",
        "option domain-name \"\u{fc}\";",
        "option space foo; option foo.bar code 1 = text;",
        "option foo code 224 = text; option foo code 225 = text; option foo \"x\";",
        "option slp-service-scope true;",
        "option slp-directory-agent true 10.0.0.1, 10.0.0.2;",
        "option static-routes 10.0.0.1 10.0.0.2, 10.0.0.3 10.0.0.4;",
        "option x code 230 = { ip-address, integer 8 }; option x 10.0.0.1 5;",
        "option x code 230 = array of { ip-address, integer 8 }; option x 10.0.0.1 5, 10.0.0.3 4;",
        "option unknown-230 \"a\";",
        "option unknown-230 0a:b;",
        "option dhcp-parameter-request-list 1,3,6;",
        "allow dynamic-bootp; deny unknown-clients; ignore bootp; allow client-updates;",
        "if known { filename \"a\"; } elsif exists user-class { deny booting; } else { }",
        "switch (substring(hardware, 1, 1)) { case \"x\": filename \"a\"; break; default: min-secs 3; }",
        "set x = 5; unset x; log(info, \"x\"); on commit { set y = leased-address; }",
        "option domain-name = config-option server.ddns-hostname;",
        "default-lease-time = encode-int(extract-int(hardware, 8), 32);",
        "option host-name = pick-first-value(option host-name, host-decl-name, \"none\");",
        "append domain-name \"x\"; prepend routers 10.0.0.1; supersede host-name \"y\";",
        "class \"c\" { match hardware; lease limit 4; } subclass \"c\" 1:2:3 { filename \"x\"; }",
        "class \"c\" { spawn with option agent.circuit-id; }",
        "option space PXE; option PXE.mtftp-ip code 1 = ip-address; vendor-option-space PXE; option PXE.mtftp-ip 0.0.0.0;",
        "option server.filename \"x\";",
        "option agent.circuit-id \"x\"; option fqdn.no-client-update on;",
        "log-facility local7; pid-file-name \"/x\"; lease-file-name \"/var/lib/dhcp/dhcpd.leases\";",
    ] {
        taken(text);
    }
}

#[test]
fn what_dhcpd_refuses_is_refused_where_it_stands() {
    for (text, line, column, message) in [
        ("default-lease-time 09;", 1, 20, "`09` is no number"),
        ("min-secs 300;", 1, 10, "300 is more than this value holds"),
        ("authoritative", 1, 13, "there must be a `;`, not `subnet`"),
        ("option host-name 5;", 1, 18, "there must be a text in quotes, not `5`"),
        ("option routers 10.0.0.1 10.0.0.2;", 1, 25, "there must be a `;`, not `10`"),
        (
            "option domain-name-servers 10.0.0.1,;",
            1,
            37,
            "there must be an IPv4 address or a name, not `;`",
        ),
        ("option ip-forwarding yes;", 1, 22, "there must be true or false, not `yes`"),
        ("option rooters 10.0.0.1;", 1, 8, "there is no option `rooters`"),
        ("option foo.bar 1;", 1, 8, "there is no option space `foo`"),
        ("option x code 230 = array of text;", 1, 30, "there are no arrays of this type"),
        ("option x code 230 = { text, ip-address };", 1, 27, "this type must end its record"),
        ("option x code 230 = encapsulate foo;", 1, 36, "there is no option space `foo`"),
        ("defalt-lease-time 600;", 1, 1, "there is no statement `defalt-lease-time`"),
        ("filename \"x\";;", 1, 14, "there must be a statement, not `;`"),
        ("host \"a\" { }", 1, 6, "there must be the name of the host, not a text"),
        (
            "host a { hardware foo 1:2:3:4:5:6; }",
            1,
            19,
            "there must be the type of the card: ethernet, token-ring, infiniband, not `foo`",
        ),
        ("host a { hardware ethernet 1-2-3-4-5-6; }", 1, 28, "this is no hardware address"),
        (
            "host a { fixed-address 10.0.0.1; fixed-address 10.0.0.1; }",
            1,
            34,
            "a host has one `fixed-address`",
        ),
        ("host a { }\nhost a { }", 2, 6, "there are two hosts `a`"),
        ("hardware ethernet 1:2:3:4:5:6;", 1, 1, "`hardware` stands only in a host"),
        ("range 10.0.0.1 10.0.0.2;", 1, 1, "a range stands only in a subnet or a pool"),
        ("subclass \"z\" 1:2;", 1, 10, "there is no class `z` before this subclass"),
        ("shared-network a { }", 1, 16, "shared network `a` has no subnet"),
        (
            "subnet 192.168.0.1 netmask 255.255.255.0 {}",
            1,
            8,
            "192.168.0.1 is no network with netmask 255.255.255.0",
        ),
        (
            "subnet 192.168.0.0 netmask 255.255.255.0 { range 192.168.1.1; }",
            1,
            50,
            "192.168.1.1 is not in subnet 192.168.0.0/24",
        ),
        ("subnet 192.168.0.0 netmask 255.255.255.0 { pool { } }", 1, 49, "this pool has no range"),
        (
            "zone x. { primary 127.0.0.1; key foo; }",
            1,
            34,
            "there is no key `foo` before this zone",
        ),
        (
            "subnet 192.168.0.0 netmask 255.255.255.0 { pool { range 192.168.0.1 192.168.0.9;} pool { range 192.168.0.4;} }",
            1,
            96,
            "these pools overlap",
        ),
        ("vendor-class \"x\" { }", 1, 1, "`vendor-class` is not served"),
        (
            "include \"/nowhere/at/all\";",
            1,
            9,
            "/nowhere/at/all cannot be read: No such file or directory (os error 2)",
        ),
        ("failover peer \"x\" { primary; }", 1, 15, "failover peer `x` has no peer address"),
        ("option domain-name \"x;", 1, 20, "this text has no end"),
        ("if known { foo 1; }", 1, 12, "`foo` is no statement"),
        ("if option foo = 1 { }", 1, 11, "there is no option `foo`"),
        ("option host-name = substring(5);", 1, 31, "there must be a `,`, not `)`"),
        (
            "class \"c\" { match hardware; match hardware; }",
            1,
            35,
            "a class has one `match` or `spawn with`",
        ),
        ("class \"c\" { match if check \"d\"; }", 1, 28, "there is no class `d` before this"),
    ] {
        assert_eq!(refused(text), (line, column, message.to_owned()), "{text}");
    }
}

#[test]
fn a_mistake_in_a_condition_does_not_hide_what_stands_behind_it() {
    let text = "if known { foo 1; } elsif exists bar { option x 1; } else { }\nbar 1;";
    let error = with_subnet(text).unwrap_err();
    let lines: Vec<usize> =
        error.problems().iter().map(|problem| problem.place().unwrap().1).collect();
    assert_eq!(lines, [1, 2]);
}

#[test]
fn what_depends_on_the_message_is_a_statement_and_the_rest_is_not() {
    let dhcp = taken(
        "filename \"a\";\nif known { filename \"b\"; }\noption domain-name = \"x\";\n\
         option host-name = binary-to-ascii(16, 8, \"-\", hardware);",
    )
    .dhcp;
    assert!(dhcp.has_statements);
    assert_eq!(dhcp.global.options.get(15), None, "it stands behind a statement");
    assert_eq!(dhcp.global.statements().len(), 3);
    let plain = taken("filename \"a\"; option domain-name = \"x\";").dhcp;
    assert!(!plain.has_statements);
    assert_eq!(plain.global.options.get(15), Some(&b"x"[..]));
}

#[test]
fn subclasses_are_of_their_class_and_hosts_stand_in_their_scopes() {
    let dhcp = taken(
        "class \"c\" { match hardware; }\nsubclass \"c\" 1:0:1:2:3:4:5 { option host-name \"x\"; }\n\
         group { option domain-name \"g\"; group { host a { hardware ethernet 0:1:2:3:4:5; } } }\n\
         subnet 192.168.0.0 netmask 255.255.255.0 { host b { hardware ethernet 0:1:2:3:4:6; } }",
    )
    .dhcp;
    assert!(dhcp.classes[0].submatch.as_ref().is_some_and(|submatch| !submatch.spawn));
    let hosts: Vec<_> = dhcp.hosts.iter().collect();
    let inner = dhcp.group(hosts[0].group().unwrap());
    assert_eq!(inner.within.len(), 1);
    let of_subnet = dhcp.group(hosts[1].group().unwrap());
    assert_eq!(
        &*of_subnet.within,
        [crate::config::ScopeId::Subnet(dhcp.subnet_of([192, 168, 0, 1].into()).unwrap())]
    );
}

#[test]
fn every_parameter_that_is_served_has_its_place() {
    for row in super::super::table::ROWS {
        let served = row.status == Status::Served;
        if let (Kind::Parameter(_), true) = (&row.kind, served) {
            let known =
                Parameter::by_dhcpd_name(row.name).is_some() || lower::ONCE.contains(&row.name);
            assert!(known, "{}", row.name);
        }
    }
}

#[test]
fn every_mistake_is_told_and_what_follows_is_read() {
    let text =
        "option rooters 10.0.0.1;\nauthoritative\ndefault-lease-time x;\nhost a { foo 1; bar 2; }";
    let error = with_subnet(text).unwrap_err();
    let lines: Vec<usize> =
        error.problems().iter().map(|problem| problem.place().unwrap().1).collect();
    assert_eq!(lines, [1, 2, 3, 4, 4]);
}

#[test]
fn the_language_is_told_by_what_is_written() {
    let is_dhcpd = |text| super::super::is_dhcpd(text);
    for text in ["subnet 10.0.0.0 netmask 255.0.0.0 {}", "# x\nauthoritative;", "defalt 600;"] {
        assert!(is_dhcpd(text), "{text}");
    }
    for text in ["", "# x", "[dhcp]", "include = [\"a\"]", "dhcp.x = 1", "\"a\" = 1", "key"] {
        assert!(!is_dhcpd(text), "{text}");
    }
}
