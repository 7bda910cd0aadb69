mod journal;

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(value: Value) -> HostObject {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

#[test]
fn changes_are_made_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.toml");
    let mut hosts = LiveHosts::read(&path).unwrap();
    assert!(hosts.is_empty());
    let first = json!({"name": "n1", "hardware": "52:54:00:00:00:01", "ip": "10.1.0.7",
                       "options": {"host-name": "a \"b\"\n", "domain-name-servers": ["10.0.0.1"]}});
    hosts.change(Change::Add, object(first.clone()), None).unwrap();
    let wrong = hosts.change(Change::Add, object(json!({"name": "n1"})), None).unwrap_err();
    assert!(wrong.contains("`host set` changes it"), "{wrong}");
    hosts.change(Change::Set, object(json!({"name": "n0", "uuid": "x"})), None).unwrap();
    for (host, expected) in [
        (json!({"hardware": "1"}), "no `name`"),
        (json!({"name": 1}), "`name` must be a text"),
        (json!({"name": "n2", "ip": null}), "host `n2`: `ip`: null says nothing"),
        (json!({"name": "n2", "lease-time": 1.5}), "1.5 is no whole number"),
    ] {
        let wrong = hosts.change(Change::Set, object(host), None).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }
    hosts.write(&path).unwrap();
    let mut again = LiveHosts::read(&path).unwrap();
    assert_eq!(again, hosts);
    let objects: Vec<_> = again.objects().map(Value::Object).collect();
    assert_eq!(objects, [json!({"name": "n0", "uuid": "x"}), first]);

    again.change(Change::Remove, object(json!({"name": "n0"})), None).unwrap();
    let wrong = again.change(Change::Remove, object(json!({"name": "n0"})), None).unwrap_err();
    assert!(wrong.contains("no live host `n0`"), "{wrong}");
    assert_eq!(again.len(), 1);
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.toml");
    for (text, line) in [
        ("[[dhcp.host]]\nhardware = \"1\"\n", 2),
        ("name = \"n1\"\n", 1),
        ("[[dhcp.host]]\nname = \"n1\"\n[dhcp.host.options]\n", 3),
        ("[[dhcp.host]]\n[[dhcp.host]]\n", 2),
    ] {
        fs::write(&path, text).unwrap();
        match LiveHosts::read(&path) {
            Err(LiveHostsError::Strange { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn many_hosts_come_from_csv_and_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    let hosts = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut hosts = Vec::new();
        read(&path, |host| hosts.push(Value::Object(host))).map(|()| hosts)
    };
    let csv = "# ours\nname,hardware,ip,host-name,boot-file,lease-time\n\
               n1,52:54:00:00:00:01 52:54:00:00:00:02,10.1.0.7,\"n,1\",a.efi,600\nn2,,,,,1h\n";
    assert_eq!(
        hosts(csv).unwrap(),
        [
            json!({"name": "n1", "hardware": ["52:54:00:00:00:01", "52:54:00:00:00:02"],
                   "ip": "10.1.0.7", "options": {"host-name": "n,1"}, "boot": {"file": "a.efi"},
                   "lease-time": 600}),
            json!({"name": "n2", "lease-time": "1h"}),
        ]
    );
    let two = [json!({"name": "a"}), json!({"name": "b"})];
    for text in ["[{\"name\": \"a\"}, {\"name\": \"b\"}]", "{\"name\": \"a\"}\n{\"name\":\"b\"}\n"]
    {
        assert_eq!(hosts(text).unwrap(), two);
    }
    for (text, expected) in [
        ("hardware\n", ":1: the first line must name the columns"),
        ("name,ip\nn1\n", ":2: this row has 1 cells"),
        ("{\"name\": }\n", ":1: this is not JSON"),
        ("[1]", ":1: 1 is no object"),
    ] {
        let wrong = hosts(text).unwrap_err().to_string();
        assert!(wrong.contains(expected), "{wrong}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_host_says_comes_back(
        name in "\\PC{1,20}",
        keys in prop::collection::btree_map("[a-z-]{1,8}|\\PC{0,4}", value(), 0..4),
    ) {
        let mut host: HostObject = keys.into_iter().collect();
        host.insert("name".to_owned(), Value::String(name));
        let mut hosts = LiveHosts::default();
        hosts.change(Change::Add, host.clone(), None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.toml");
        hosts.write(&path).unwrap();
        let read = LiveHosts::read(&path).unwrap();
        prop_assert_eq!(&read, &hosts);
        prop_assert_eq!(read.objects().next(), Some(host));
    }
}
