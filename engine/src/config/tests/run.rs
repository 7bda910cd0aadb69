//! What statements set, level by level. The expectations are what dhcpd 4.4 sends of the same
//! configuration.

use std::borrow::Cow;

use bumpalo::Bump;

use super::super::definitions::Definitions;
use super::super::expression::{self, Boolean, Data, Tokens, Value, Vocabulary};
use super::super::problem::Fault;
use super::super::scope_draft::ScopeDraft;
use super::super::statement::{Action, Branch, Mode, Operand, Statement, SwitchPart};
use super::super::*;
use super::Client;

/// Option 224 to 226 are called v0 to v2, the variables x and y.
struct Words;

fn own(name: &str) -> Option<u8> {
    name.strip_prefix('v')?.parse::<u8>().ok().map(|number| 224 + number)
}

impl Vocabulary for Words {
    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        match own(name) {
            Some(code) => Ok(OptionPath { code, inner: None, text: false }),
            None => Definitions::default().in_message(space, name),
        }
    }

    fn class(&self, _name: &str) -> Result<ClassId, Fault> {
        Ok(ClassId(0))
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        Ok(VariableId(u32::from(name == "y")))
    }

    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        match (space, name) {
            (Some("server"), _) => Ok(Key::Parameter(Parameter::Filename)),
            _ => Ok(Key::Option(own(name).expect("an option"))),
        }
    }

    fn host_name(&self, _name: &str) -> Result<Data, Fault> {
        Ok(Data::Null)
    }

    fn own_host_name(&self) -> Option<Box<[u8]>> {
        None
    }
}

fn data(text: &str) -> Data {
    expression::data(&mut Tokens::new(text), &Words, &mut Vec::new()).unwrap()
}

fn boolean(text: &str) -> Boolean {
    expression::boolean(&mut Tokens::new(text), &Words, &mut Vec::new()).unwrap()
}

const CLIENT: Client = Client { name: b"a", hardware: &[1, 2, 0, 0, 0, 0, 1], known: true };

const LINE: Line = Line { file: 0, line: 7 };

fn statement(action: Action) -> Statement {
    Statement { line: LINE, action }
}

fn assign(mode: Mode, name: &str, value: &str) -> Statement {
    statement(Action::Assign(mode, Key::Option(own(name).unwrap()), data(value)))
}

/// `option NAME "value"`
fn option(name: &str, value: &str) -> Statement {
    let mut draft = ScopeDraft::default();
    draft.option(own(name).unwrap(), value, LINE);
    let mut block = draft.block().into_vec();
    block.remove(0)
}

fn branch(condition: &str, then: Vec<Statement>) -> Branch {
    Branch { line: LINE, condition: boolean(condition), statements: then.into() }
}

fn when(condition: &str, then: Vec<Statement>, otherwise: Vec<Statement>) -> Statement {
    statement(Action::If([branch(condition, then)].into(), otherwise.into()))
}

fn scope(statements: Vec<Statement>) -> Scope {
    let mut draft = ScopeDraft::default();
    statements.into_iter().for_each(|statement| draft.push(statement));
    draft.finish().0
}

/// A model of one subnet.
fn model(global: Scope, subnet: Scope) -> Dhcp {
    let mut dhcp = super::good("[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n").dhcp;
    dhcp.global = global;
    dhcp.subnets[0].scope = subnet;
    dhcp.has_statements = true;
    dhcp
}

fn chain<'c>(dhcp: &'c Dhcp, arena: &'c Bump) -> ScopeChain<'c> {
    ScopeChain::new(dhcp, Some(SubnetId(0)), None, (&[], &[]), None, arena).run(&CLIENT, arena)
}

/// What v0, v1, v2 are; `-` for what is not sent.
fn sent(global: Scope, subnet: Scope) -> String {
    let (dhcp, arena) = (model(global, subnet), Bump::new());
    let chain = chain(&dhcp, &arena);
    let text = |code| match chain.option(code) {
        Some((value, _)) => String::from_utf8_lossy(value).into_owned(),
        None => "-".to_owned(),
    };
    [224, 225, 226].map(text).join(" ")
}

#[test]
fn what_is_sent_is_what_was_set_last() {
    use Mode::{Append, Default, Prepend, Supersede};
    let cases: [(&str, Vec<Statement>, Vec<Statement>, &str); 14] = [
        ("narrower levels win", vec![option("v0", "g")], vec![option("v0", "s")], "s - -"),
        (
            "what stands behind a condition counts after it",
            vec![],
            vec![when("known", vec![option("v0", "if")], vec![]), option("v0", "st")],
            "st - -",
        ),
        (
            "append, prepend and default see what wider levels set",
            vec![option("v0", "g")],
            vec![
                assign(Append, "v0", "\"s\""),
                assign(Prepend, "v0", "\"x\""),
                assign(Default, "v0", "\"no\""),
                assign(Default, "v1", "\"d\""),
            ],
            "xgs d -",
        ),
        (
            "null hides what wider levels set",
            vec![option("v0", "g"), option("v1", "k")],
            vec![
                assign(Supersede, "v0", "option domain-name"),
                assign(Append, "v1", "option domain-name"),
            ],
            "- - -",
        ),
        (
            "a null condition is false",
            vec![],
            vec![when(
                "option domain-name = \"x\" and known",
                vec![option("v0", "y")],
                vec![option("v0", "n")],
            )],
            "n - -",
        ),
        (
            "values are worked out last, conditions at once",
            vec![
                assign(Supersede, "v0", "concat(config-option v1, \"!\")"),
                when("config-option v1 = \"s\"", vec![option("v2", "early")], vec![]),
            ],
            vec![
                option("v1", "s"),
                when("config-option v1 = \"s\"", vec![option("v2", "late")], vec![]),
            ],
            "s! s late",
        ),
        (
            "a value that names itself is null",
            vec![],
            vec![assign(Supersede, "v0", "concat(config-option v0, \"+\")")],
            "- - -",
        ),
        (
            "variables keep their last value",
            vec![
                statement(Action::Set(VariableId(0), Operand::Data(data("\"1\"")))),
                assign(Supersede, "v0", "concat(x, \"\")"),
                when("defined(y)", vec![option("v2", "y")], vec![]),
            ],
            vec![
                statement(Action::Set(VariableId(0), Operand::Data(data("\"2\"")))),
                when("x = \"2\"", vec![option("v1", "two")], vec![]),
                statement(Action::Unset(VariableId(1))),
            ],
            "2 two -",
        ),
        (
            "a case falls through to the next",
            vec![],
            vec![switch(vec![
                case("\"z\""),
                SwitchPart::Statement(option("v0", "z")),
                case("\"a\""),
                SwitchPart::Statement(option("v0", "1")),
                SwitchPart::Default(LINE),
                SwitchPart::Statement(option("v1", "d")),
                case("\"q\""),
                SwitchPart::Statement(option("v2", "q")),
            ])],
            "1 d q",
        ),
        (
            "default is for what equals no label",
            vec![],
            vec![switch(vec![
                SwitchPart::Default(LINE),
                SwitchPart::Statement(option("v1", "d")),
                SwitchPart::Statement(statement(Action::Break)),
                case("\"z\""),
                SwitchPart::Statement(option("v0", "z")),
            ])],
            "- d -",
        ),
        (
            "a break inside a condition ends the condition only",
            vec![],
            vec![switch(vec![
                case("\"a\""),
                SwitchPart::Statement(when(
                    "known",
                    vec![option("v1", "in"), statement(Action::Break), option("v1", "not")],
                    vec![],
                )),
                SwitchPart::Statement(option("v2", "after")),
                SwitchPart::Statement(statement(Action::Break)),
                SwitchPart::Statement(option("v0", "not")),
            ])],
            "- in after",
        ),
        (
            "a break inside an inner switch ends that one",
            vec![],
            vec![switch(vec![
                case("\"a\""),
                SwitchPart::Statement(switch(vec![
                    case("\"a\""),
                    SwitchPart::Statement(option("v1", "2")),
                    SwitchPart::Statement(statement(Action::Break)),
                ])),
                SwitchPart::Statement(option("v2", "after")),
            ])],
            "- 2 after",
        ),
        (
            "of several conditions the first",
            vec![],
            vec![statement(Action::If(
                [
                    branch("not known", vec![option("v0", "1")]),
                    branch("known", vec![option("v0", "2")]),
                    branch("known", vec![option("v1", "3")]),
                ]
                .into(),
                vec![option("v2", "4")].into(),
            ))],
            "2 - -",
        ),
        (
            "an empty value is a value",
            vec![option("v0", "g")],
            vec![assign(Supersede, "v0", "\"\"")],
            " - -",
        ),
    ];
    for (what, global, subnet, expected) in cases {
        assert_eq!(sent(scope(global), scope(subnet)), expected, "{what}");
    }
}

#[test]
fn a_value_of_many_parts_takes_as_much_memory_as_its_parts() {
    let all_of = |count: usize| {
        let parts = (0..count).map(|number| match number % 3 {
            0 => assign(Mode::Prepend, "v0", "\"<\""),
            _ => assign(Mode::Append, "v0", "\">\""),
        });
        let statements = [assign(Mode::Supersede, "v0", "\"-\"")].into_iter().chain(parts);
        let (dhcp, arena) = (model(scope(statements.collect()), Scope::default()), Bump::new());
        let chain = chain(&dhcp, &arena);
        let (value, _) = chain.option(own("v0").unwrap()).unwrap();
        let expected = ["<".repeat(count / 3), "-".into(), ">".repeat(count / 3 * 2)].concat();
        assert_eq!(String::from_utf8_lossy(value), expected);
        arena.allocated_bytes()
    };
    // The arena grows in steps of twice as much.
    assert!(all_of(2400) <= 16 * all_of(300));
}

fn switch(parts: Vec<SwitchPart>) -> Statement {
    statement(Action::Switch(Operand::Data(data("option host-name")), parts.into()))
}

fn case(label: &str) -> SwitchPart {
    SwitchPart::Case(LINE, Operand::Data(data(label)))
}

#[test]
fn settings_take_what_expressions_yield() {
    let set = |parameter, value: &str| {
        statement(Action::Assign(Mode::Supersede, Key::Parameter(parameter), data(value)))
    };
    let global = scope(vec![
        set(Parameter::LeaseTime, "encode-int(700, 32)"),
        set(Parameter::NextServer, "0a:01:02:03"),
        set(Parameter::Filename, "\"wide\""),
        set(Parameter::MinLeaseTime, "\"too long for a number\""),
    ]);
    let subnet = scope(vec![set(Parameter::Filename, "concat(\"a/\", option host-name)")]);
    let (dhcp, arena) = (model(global, subnet), Bump::new());
    let chain = chain(&dhcp, &arena);
    assert_eq!(chain.lease_time_for(None, None).time.seconds(), 700);
    assert_eq!(chain.next_server(), Some("10.1.2.3".parse().unwrap()));
    assert_eq!(chain.setting(|settings| settings.filename.as_deref()), Some(&b"a/a"[..]));
    assert_eq!(chain.setting(|settings| settings.min_lease_time), None);
    let subnet = ScopeId::Subnet(SubnetId(0));
    assert_eq!(chain.line_of(subnet, Key::Parameter(Parameter::Filename)), Some(LINE));
    assert_eq!(chain.line_of(subnet, Key::Parameter(Parameter::NextServer)), None);
}

#[test]
fn a_file_name_of_null_is_no_file_name() {
    let global = scope(vec![statement(Action::Assign(
        Mode::Supersede,
        Key::Parameter(Parameter::Filename),
        data("option domain-name"),
    ))]);
    let (dhcp, arena) = (model(global, Scope::default()), Bump::new());
    let chain = chain(&dhcp, &arena);
    assert_eq!(chain.setting(|settings| settings.filename.as_deref()), Some(&b""[..]));
}

#[test]
fn what_a_log_statement_writes_and_which_variables_were_set_is_told() {
    let global = scope(vec![
        statement(Action::Log(LogLevel::Info, data("concat(\"hello \", option host-name)"))),
        statement(Action::Log(LogLevel::Info, data("option domain-name"))),
        statement(Action::Set(VariableId(1), Operand::Data(data("\"v\"")))),
    ]);
    let (dhcp, arena) = (model(global, Scope::default()), Bump::new());
    let effects = chain(&dhcp, &arena).effects();
    assert_eq!(effects.now.logs, [(LogLevel::Info, &b"hello a"[..])]);
    assert_eq!(effects.now.variables, [(VariableId(1), Some(Value::Data(b"v")))]);
}

/// The value of option 43, 125 and 128, in hexadecimal.
fn carried(global: ScopeDraft, subnet: ScopeDraft, dhcp_spaces: Vec<Space>) -> [String; 3] {
    let mut dhcp = model(global.finish().0, subnet.finish().0);
    dhcp.spaces = dhcp_spaces;
    let arena = Bump::new();
    let chain = chain(&dhcp, &arena);
    [43, 125, 128].map(|code| {
        let value = chain.option(code).map_or(&b"-"[..], |(value, _)| value);
        value.escape_ascii().to_string()
    })
}

fn space(name: &str, carrier: Carrier) -> Space {
    Space { name: name.into(), code_width: 1, length_width: 1, carrier }
}

#[test]
fn options_of_spaces_are_put_together_code_by_code() {
    let spaces = || {
        vec![
            space("v", Carrier::Vendor),
            space("other", Carrier::Vendor),
            space("e", Carrier::Option(128)),
            Space { code_width: 2, length_width: 1, ..space("n", Carrier::Enterprise(4491)) },
        ]
    };
    let wide = || {
        let mut draft = ScopeDraft::default();
        for number in 0..4 {
            draft.in_space(SpaceId(number), 1, &b"g1"[..], LINE);
            draft.in_space(SpaceId(number), 2, &b"g2"[..], LINE);
        }
        draft
    };
    let mut narrow = ScopeDraft::default();
    narrow.in_space(SpaceId(0), 1, &b"s1"[..], LINE);
    narrow.in_space(SpaceId(2), 3, &b"s3"[..], LINE);
    narrow.push(statement(Action::Assign(
        Mode::Supersede,
        Key::InSpace(SpaceId(2), 1),
        data("option host-name"),
    )));
    narrow.push(statement(Action::Assign(
        Mode::Supersede,
        Key::InSpace(SpaceId(2), 2),
        data("option domain-name"),
    )));
    let name = Cow::Borrowed(&b"v"[..]);
    narrow.set(Parameter::VendorOptionSpace, |set| set.vendor_option_space = Some(name), LINE);
    let enterprise = r"\x00\x00\x11\x8b\n\x00\x01\x02g1\x00\x02\x02g2";
    assert_eq!(
        carried(wide(), narrow, spaces()),
        [r"\x01\x02s1\x02\x02g2", enterprise, r"\x01\x01a\x03\x02s3"]
    );
    assert_eq!(
        carried(wide(), ScopeDraft::default(), spaces()),
        ["-", enterprise, r"\x01\x02g1\x02\x02g2"],
        "no vendor-option-space, no option 43"
    );
    let mut whole = ScopeDraft::default();
    whole.option(128, &b"own"[..], LINE);
    assert_eq!(
        carried(whole, wide(), spaces())[2],
        "own",
        "an option that is set as a whole counts, even on a wider level"
    );
}
