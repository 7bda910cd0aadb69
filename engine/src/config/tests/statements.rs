//! `if`, expressions in the place of values, groups in groups and subclasses, as TOML has them.

use bumpalo::Bump;

use super::super::*;
use super::{Client, good};

const TEXT: &str = r#"
[dhcp]
options = { domain-name = "g" }
[[dhcp.if]]
test = 'known'
options = { domain-name = "known" }

[[dhcp.subnet]]
subnet = "10.0.0.0/8"
filename = { expression = 'concat("hosts/", option host-name)' }
lease-time = { expression = '600 + 60' }
always-broadcast = { expression = 'exists host-name' }
options = { domain-name = "s", ip-forwarding = { expression = 'option host-name = "a"' }, default-ip-ttl = { expression = '3' } }

[[dhcp.subnet.if]]
test = 'option host-name = "b"'
options = { domain-name = "b" }
elsif = [
  { test = 'option host-name = "a" and known', options = { domain-name = "a" }, min-lease-time = "1m" },
  { test = 'known', options = { domain-name = "never" } },
]
else = { options = { domain-name = "else" } }
"#;

/// A client of this name, which is known as `a`.
fn named(name: &'static [u8]) -> Client {
    Client { name, hardware: &[], known: name == b"a" }
}

#[test]
fn conditions_and_expressions_of_scopes() {
    let config = good(TEXT);
    let dhcp = &config.dhcp;
    let subnet = dhcp.subnet_of("10.1.1.1".parse().unwrap());
    let told = |name: &'static [u8]| {
        let arena = Bump::new();
        let chain = ScopeChain::new(dhcp, subnet, None, (&[], &[]), None, &arena);
        let chain = chain.run(&named(name), &arena);
        let (domain, scope) = chain.option(15).unwrap();
        assert_eq!(scope, ScopeId::Subnet(subnet.unwrap()));
        let line = chain.line_of(scope, Key::Option(15)).unwrap().line;
        let file = chain.setting(|settings| settings.filename.as_deref()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let bytes = [19, 23].map(|code| chain.option(code).unwrap().0[0]);
        let least = chain.setting(|settings| settings.min_lease_time).is_some();
        (text(domain), line, text(file), bytes, chain.is(Flag::AlwaysBroadcast), least)
    };
    assert_eq!(told(b"a"), ("a".into(), 19, "hosts/a".into(), [1, 3], true, true));
    assert_eq!(told(b"b"), ("b".into(), 17, "hosts/b".into(), [0, 3], true, false));
    assert_eq!(told(b"c"), ("else".into(), 22, "hosts/c".into(), [0, 3], true, false));
    let arena = Bump::new();
    let chain = ScopeChain::new(dhcp, subnet, None, (&[], &[]), None, &arena);
    assert_eq!(chain.run(&named(b"a"), &arena).lease_time_for(None, None).time.seconds(), 660);
}

#[test]
fn the_model_knows_the_lines_of_values_and_scopes() {
    let config = good(TEXT);
    let subnet = ScopeId::Subnet(SubnetId(0));
    let line = |id, key| config.dhcp.line_of(id, key).map(|line| line.line);
    assert_eq!(line(ScopeId::Global, Key::Option(15)), Some(3));
    assert_eq!(line(subnet, Key::Option(15)), Some(13));
    assert_eq!(line(subnet, Key::Option(3)), None);
    assert_eq!(config.dhcp.line_of_scope(subnet).map(|line| line.line), Some(8));
}

#[test]
fn a_group_in_a_group_is_the_narrower_one() {
    let config = good(
        r#"
        [[dhcp.subnet]]
        subnet = "10.0.0.0/8"
        [[dhcp.group]]
        options = { domain-name = "outer", root-path = "outer" }
        [[dhcp.group.group]]
        options = { domain-name = "inner" }
        [[dhcp.group.group.group]]
        [[dhcp.group.group.group.host]]
        name = "n01"
        hardware = "02:00:00:00:00:01"
        [[dhcp.group.host]]
        name = "n02"
        hardware = "02:00:00:00:00:02"
        "#,
    );
    let arena = Bump::new();
    let told = |name| {
        let host = config.dhcp.host_by_name(name);
        let chain = ScopeChain::new(&config.dhcp, None, None, (&[], &[]), host, &arena);
        [15, 17].map(|code| String::from_utf8(chain.option(code).unwrap().0.to_vec()).unwrap())
    };
    assert_eq!(told("n01"), ["inner", "outer"]);
    assert_eq!(told("n02"), ["outer", "outer"]);
}

#[test]
fn what_becomes_of_the_value_of_wider_scopes() {
    let config = good(
        r#"
[dhcp]
options = { domain-name = "g", domain-name-servers = ["10.0.0.1"] }

[[dhcp.subnet]]
subnet = "10.0.0.0/8"
[dhcp.subnet.options]
domain-name = { default = "never" }
host-name = { default = "new" }
domain-name-servers = { append = ["10.0.0.2", "10.0.0.3"] }
root-path = { prepend = { expression = 'option host-name' } }
routers = { prepend = ["10.0.0.9"] }

[[dhcp.subnet.if]]
test = 'option host-name = "a"'
options = { domain-name-servers = { prepend = ["10.0.0.4"] } }
"#,
    );
    let dhcp = &config.dhcp;
    let subnet = dhcp.subnet_of("10.1.1.1".parse().unwrap());
    let arena = Bump::new();
    let chain = ScopeChain::new(dhcp, subnet, None, (&[], &[]), None, &arena);
    let chain = chain.run(&named(b"a"), &arena);
    let value = |code| chain.option(code).unwrap().0;
    assert_eq!([value(15), value(12), value(17)], [&b"g"[..], b"new", b"a"]);
    let servers = [[10, 0, 0, 4], [10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
    assert_eq!(value(6), servers.as_flattened());
    assert_eq!(value(3), [10, 0, 0, 9]);
}

#[test]
fn conditions_run_in_their_order() {
    let [switch, condition] = [
        "[[dhcp.switch]]\nvalue = 'option host-name'\ncase = [{ is = \"a\", filename = \"switch\" }]",
        "[[dhcp.if]]\ntest = 'exists host-name'\nfilename = \"if\"",
    ];
    for (first, last, file) in [(switch, condition, "if"), (condition, switch, "switch")] {
        let subnet = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"";
        let config = good(&format!("{first}\n{last}\n{subnet}"));
        let arena = Bump::new();
        let chain = ScopeChain::new(&config.dhcp, None, None, (&[], &[]), None, &arena);
        let chain = chain.run(&named(b"a"), &arena);
        let found = chain.setting(|settings| settings.filename.as_deref());
        assert_eq!(found, Some(file.as_bytes()));
    }
}

#[test]
fn mistakes_in_what_becomes_of_a_value_are_told() {
    for (value, expected) in [
        ("{ append = 7 }", "option `domain-name-servers`"),
        ("{ append = { expression = 'option' } }", "`expression`"),
        ("{ add = [\"10.0.0.1\"] }", "domain-name-servers"),
        ("{ append = [\"10.0.0.1\"], default = [\"10.0.0.1\"] }", "domain-name-servers"),
    ] {
        let text = format!("[dhcp]\noptions = {{ domain-name-servers = {value} }}\n");
        let error = parse(std::path::Path::new("t.toml"), text.as_bytes()).unwrap_err();
        let text = error.render(false);
        assert!(text.contains(expected) && text.contains("t.toml:2"), "{text}");
    }
}
