//! An explanation as JSON and as text.

use super::*;

/// Every field has a value.
fn whole() -> Explanation {
    let ip = Some(Ipv4Addr::LOCALHOST);
    let text = || Some("text".to_owned());
    let source = || Source { name: "subnet".to_owned(), at: text() };
    let option = ValuePart::default;
    Explanation {
        request: RequestPart {
            received: text(),
            interface: text(),
            relay: ip,
            ciaddr: ip,
            firmware: text(),
            options: vec![option()],
            ..RequestPart::default()
        },
        answer: AnswerPart { reason: text(), remedy: text(), after: text(), ..Default::default() },
        link: Some(LinkPart { network: Some(source()), ..LinkPart::default() }),
        identity: text(),
        classes: vec![ClassPart { limit: Some(LimitPart::default()), ..ClassPart::default() }],
        more_classes: 1,
        branches: vec![BranchPart::default()],
        more_branches: 1,
        hosts: vec![HostPart {
            address: ip,
            why: text(),
            option: text(),
            live: Some(LivePart { changed: text(), through: text() }),
            ..HostPart::default()
        }],
        held: vec![HeldPart {
            refused: true,
            variables: vec!["a = 1".to_owned()],
            ..HeldPart::default()
        }],
        address: Some(AddressPart::default()),
        pools: vec![PoolPart::default()],
        pools_elsewhere: 1,
        lease_time: Some(LeaseTimePart {
            asked: Some(1),
            hides: vec![HiddenPart::default()],
            ..LeaseTimePart::default()
        }),
        boot: Some(BootPart {
            server: ip,
            server_from: Some(source()),
            why: text(),
            rules: vec![RulePart { passed: text(), ..RulePart::default() }],
            ..BootPart::default()
        }),
        programs: vec!["\"/bin/x\"".to_owned()],
        options: vec![OptionPart { hides: vec![HiddenPart::default()], ..OptionPart::default() }],
        unsent: vec![UnsentPart::default()],
        reply: Some(ReplyPart {
            server_name: "text".to_owned(),
            delay_ms: 1,
            ..ReplyPart::default()
        }),
        ..Explanation::default()
    }
}

fn each_key(value: &serde_json::Value, see: &mut dyn FnMut(&str)) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            see(key);
            each_key(value, see);
        }),
        serde_json::Value::Array(values) => values.iter().for_each(|each| each_key(each, see)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented() {
    let page = include_str!("../../../docs/EXPLAIN.md");
    let json = serde_json::to_value(whole()).unwrap();
    let mut keys = 0;
    each_key(&json, &mut |key| {
        keys += 1;
        assert!(page.contains(&format!("`{key}`")), "{key} is not in docs/EXPLAIN.md");
    });
    assert!(keys > 90, "only {keys} keys");
    assert_eq!(serde_json::from_value::<Explanation>(json).unwrap(), whole());
}

#[test]
fn what_has_no_value_is_left_out() {
    let json = serde_json::to_string(&Explanation::default()).unwrap();
    let request = r#""request":{"message":"","mac":"","options":[]}"#;
    assert_eq!(
        json,
        format!(r#"{{"config":"","leases":"server",{request},"answer":{{"kind":""}}}}"#)
    );
}
