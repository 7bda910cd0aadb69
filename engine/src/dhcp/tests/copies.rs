//! A reply that is copied from one that was written before is the same as if it were written anew:
//! under any configuration, for any machines in any order, over reloads. That is compared with
//! every reply of these tests, in `Server::receive`; here for what nobody would think of.

use std::fmt::Write;

use bootstorm_protocols::dhcpv4::MessageType;
use proptest::prelude::*;

use super::*;

/// What a level may say.
#[derive(Clone, Debug, Default)]
struct Level {
    lines: Vec<&'static str>,
    options: Vec<String>,
}

const LINES: [&str; 17] = [
    r#"always-send = ["root-path"]"#,
    r#"always-send = ["host-name", "tftp-server-name"]"#,
    r#"always-send = ["bootfile-name", "merit-dump", 175]"#,
    r#"boot = { file = "none" }"#,
    r#"boot = { mac-prefix = "52:54:00:00:00:01", file = "none" }"#,
    r#"boot = { arch = "x86-64-efi", file = "a/b.efi" }"#,
    r#"boot = [{ user-class = "iPXE", url = "http://10.1.0.6/boot.ipxe" }, { file = "pxelinux.0" }]"#,
    r#"boot = [{ class = "two", file = "a/b.efi", next-server = "10.1.0.8" }, { file = "a/c.efi" }]"#,
    r#"lease-time = "infinite""#,
    r#"lease-time = "10m""#,
    "use-host-decl-names = true",
    "use-host-decl-names = true",
    r#"next-server = "10.1.0.9""#,
    r#"server-identifier = "10.1.0.6""#,
    r#"server-identifier = "192.0.2.6""#,
    r#"server-name = "boot""#,
    r#"server-name = "elsewhere""#,
];

/// Values of one length, of other lengths, and some that are longer than a field.
fn options() -> Vec<String> {
    let mut options: Vec<String> = [
        r#"host-name = "n01""#,
        r#"host-name = "n02""#,
        r#"host-name = "longer""#,
        r#"routers = ["10.1.0.1"]"#,
        r#"routers = ["10.1.0.1", "10.1.0.2"]"#,
        r#"root-path = "/a""#,
        r#"root-path = "/c""#,
        r#"nis-domain = "d""#,
        r#"nis-domain = "e""#,
        r#"merit-dump = "/b""#,
        r#"merit-dump = "/d""#,
        r#"subnet-mask = "255.255.0.0""#,
        r#"tftp-server-name = "t""#,
        r#"bootfile-name = "b""#,
        r#"vendor-class-identifier = "PXEClient""#,
        r#"dhcp-renewal-time = 60"#,
        r#"dhcp-rebinding-time = 90"#,
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, len) in [("root-path", 300), ("merit-dump", 150), ("nis-domain", 90)] {
        options.push(format!("{name} = \"{}\"", "x".repeat(len)));
    }
    options
}

fn level() -> impl Strategy<Value = Level> {
    let line = prop::sample::select(&LINES[..]);
    let option = prop::sample::select(options());
    (prop::collection::vec(line, 0..3), prop::collection::vec(option, 0..6))
        .prop_map(|(lines, options)| Level { lines, options })
}

/// Keeps the first of what begins with the same key.
fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let key = |text: &'t str| text.split(" = ").next();
    let mut kept: Vec<&str> = Vec::new();
    for text in texts {
        if kept.iter().all(|known| key(known) != key(text)) {
            kept.push(text);
        }
    }
    kept
}

impl Level {
    fn lines(&self) -> Vec<&str> {
        distinct(self.lines.iter().copied())
    }

    fn options(&self) -> String {
        format!(
            "options = {{ {} }}",
            distinct(self.options.iter().map(|option| &**option)).join(", ")
        )
    }
}

/// A configuration whose levels say anything, with two subnets and three hosts in a group.
fn any_configuration() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(level(), HEADS.len());
    (levels, any::<[bool; 3]>()).prop_map(|(mut levels, named_only)| {
        // Some hosts say nothing but their name.
        for (host, _) in levels[HOSTS..].iter_mut().zip(named_only).filter(|(_, only)| *only) {
            host.lines.clear();
            host.options.retain(|option| option.starts_with("host-name"));
        }
        let mut text = String::new();
        for (head, level) in HEADS.iter().zip(&levels) {
            let (lines, options) = (level.lines(), level.options());
            if let Some(rest) = head.strip_prefix("pools = ") {
                let all = [&lines[..], &[&options]].concat().join(", ");
                writeln!(text, "pools = [{}]", rest.replace("LEVEL", &all)).unwrap();
            } else {
                writeln!(text, "{head}\n{}\n{options}", lines.join("\n")).unwrap();
            }
        }
        text
    })
}

const HEADS: [&str; 12] = [
    "[dhcp]\nauthoritative = true\nrapid-commit = true",
    "[[dhcp.shared-network]]\nname = \"hall\"",
    "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\nshared-network = \"hall\"",
    "pools = { range = \"10.1.4.0-10.1.4.1\", LEVEL }, \"10.1.5.0-10.1.5.9\"",
    "[[dhcp.subnet]]\nsubnet = \"10.2.0.0/24\"\npools = [\"10.2.0.10-10.2.0.99\"]",
    "[[dhcp.subnet]]\nsubnet = \"10.3.0.0/24\"\nshared-network = \"hall\"",
    "[[dhcp.class]]\nname = \"one\"\nmac-prefix = [\"52:54:00:00:00:01\", \"52:54:00:00:00:04\"]",
    "[[dhcp.class]]\nname = \"two\"\nmac-prefix = [\"52:54:00:00:00:02\", \"52:54:00:00:00:05\"]",
    "[[dhcp.group]]\nname = \"rack\"",
    "[[dhcp.host]]\nname = \"h01\"\nhardware = \"52:54:00:00:00:01\"\ngroup = \"rack\"",
    "[[dhcp.host]]\nname = \"h02\"\nhardware = \"52:54:00:00:00:02\"\ngroup = \"rack\"",
    "[[dhcp.host]]\nname = \"h03\"\nhardware = \"52:54:00:00:00:03\"",
];
/// Of these the hosts come last.
const HOSTS: usize = 9;

/// Who asks, and how.
#[derive(Clone, Debug)]
struct Asks {
    machine: u8,
    program: fn([u8; 6]) -> Client,
    /// Options 55, 61 and 82, empty for none.
    asked: &'static [u8],
    client_id: &'static [u8],
    information: &'static [u8],
    size: Option<u16>,
    wish: Option<u32>,
    /// Where: behind which relay agent, or by which selected subnet.
    link: u8,
    /// The address of the server on the client's link.
    server: Ipv4Addr,
    /// What it has where it only asks for options.
    informs: Ipv4Addr,
}

/// One thing that is otherwise with the next that asks.
#[derive(Clone, Debug)]
enum Step {
    Machine(u8),
    Program(fn([u8; 6]) -> Client),
    Asked(&'static [u8]),
    ClientId(&'static [u8]),
    Information(&'static [u8]),
    Size(Option<u16>),
    Wish(Option<u32>),
    Link(u8),
    Server(u8),
    Informs([u8; 4]),
    /// The other configuration is in force.
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let programs: Vec<fn([u8; 6]) -> Client> =
        vec![Client::bios, Client::edk2, Client::http_boot, Client::ipxe, Client::plain];
    // Values of one length, and of others.
    let asked = vec![
        &[][..],
        &[1, 3, 12, 17, 40, 66, 67],
        &[12, 3, 17, 14, 40, 43, 67],
        &[17, 14, 66, 12, 97, 60, 1],
        &[12, 3, 1],
    ];
    let client_ids = vec![&[][..], &[1, 2, 3], &[1, 2, 4], &[9; 17], &[9; 200]];
    // Two with the server identifier that the relay agent wants (RFC 5107).
    let information = vec![
        &b""[..],
        b"\x01\x04abcd",
        b"\x0b\x04\x0a\x01\x00\x08",
        b"\x0b\x04\x0a\x01\x00\x09",
        b"\x01\x05abcde",
    ];
    prop_oneof![
        4 => (1..8_u8).prop_map(Step::Machine),
        1 => prop::sample::select(programs).prop_map(Step::Program),
        2 => prop::sample::select(asked).prop_map(Step::Asked),
        1 => prop::sample::select(client_ids).prop_map(Step::ClientId),
        1 => prop::sample::select(information).prop_map(Step::Information),
        1 => prop::option::of(prop_oneof![Just(576), Just(700)]).prop_map(Step::Size),
        1 => prop::option::of(prop_oneof![Just(60), Just(u32::MAX)]).prop_map(Step::Wish),
        1 => (0..4_u8).prop_map(Step::Link),
        1 => (6..8_u8).prop_map(Step::Server),
        1 => prop::sample::select(vec![[10, 1, 6, 1], [10, 3, 0, 1], [10, 1, 4, 0], [10, 2, 0, 1]])
            .prop_map(Step::Informs),
        1 => Just(Step::Reload),
    ]
}

impl Asks {
    fn change(&mut self, step: Step) {
        match step {
            Step::Machine(machine) => self.machine = machine,
            Step::Program(program) => self.program = program,
            Step::Asked(asked) => self.asked = asked,
            Step::ClientId(client_id) => self.client_id = client_id,
            Step::Information(information) => self.information = information,
            Step::Size(size) => self.size = size,
            Step::Wish(wish) => self.wish = wish,
            Step::Link(link) => self.link = link,
            Step::Server(host) => self.server = Ipv4Addr::new(10, 1, 0, host),
            Step::Informs(address) => self.informs = address.into(),
            Step::Reload => {}
        }
    }

    fn client(&self) -> Client {
        let mut client = (self.program)(mac(self.machine)).without(55).without(57).without(61);
        for (code, value) in [(55, self.asked), (61, self.client_id)] {
            if !value.is_empty() {
                client = client.with(code, value);
            }
        }
        if let Some(size) = self.size {
            client = client.with(57, &size.to_be_bytes());
        }
        if let Some(wish) = self.wish {
            client = client.with(51, &wish.to_be_bytes());
        }
        match self.link {
            0 => client.behind(ip("10.2.0.1"), self.information),
            1 => client.behind(ip("10.1.0.1"), self.information),
            2 => client.with(118, &[10, 2, 0, 0]),
            _ => client,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_copied_reply_is_what_would_be_written(
        first in any_configuration(),
        second in any_configuration(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut server = Server::new(&first);
        let mut other = (&second, &first);
        let mut asks = Asks {
            machine: 1,
            program: Client::bios,
            asked: &[],
            client_id: &[],
            information: &[],
            size: None,
            wish: None,
            link: 3,
            server: ip("10.1.0.6"),
            informs: ip("10.1.6.1"),
        };
        for step in steps {
            if matches!(step, Step::Reload) {
                server.reload(other.0);
                other = (other.1, other.0);
            }
            asks.change(step);
            server.interface = vec![asks.server];
            let client = asks.client();
            if let Outcome::Reply(offer) = server.receive(&client.discover()) {
                let _ack = server.receive(&client.select(&offer));
            }
            let _rapid = server.receive(&client.clone().with(80, &[]).discover());
            let _informed = server.receive(&client.inform(asks.informs));
        }
    }
}

/// The cache is used: else the property above would hold of anything.
#[test]
fn machines_of_one_kind_get_copies_and_a_reload_drops_them() {
    let mut server = Server::new(HALL);
    for number in 0x20..0x28 {
        server.lease(&Client::edk2(mac(number)));
    }
    // An OFFER and an ACK were written, and copied for all the others.
    assert_eq!(server.cache.kept(), 2);
    server.reload(&HALL.replace("10.1.0.2", "10.1.0.3"));
    let offer = server.expect(MessageType::Offer, &Client::edk2(mac(0x30)).discover());
    assert_eq!(offer.option(6), Some(vec![10, 1, 0, 3]));
    assert_eq!(server.cache.kept(), 1);
}

/// A client that asks for nothing gets its name first, and the other options level by level.
#[test]
fn a_name_stands_at_the_same_place_wherever_it_comes_from() {
    let mut server = Server::new(
        r#"
        [dhcp]
        options = { host-name = "n00", root-path = "/" }
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.4.9"]
        options = { nis-domain = "n" }
        [[dhcp.host]]
        name = "h"
        hardware = "52:54:00:00:00:01"
        options = { host-name = "n01" }
        "#,
    );
    for number in [1, 2, 1] {
        let offer = server.expect(MessageType::Offer, &Client::plain(mac(number)).discover());
        let sent = offer.codes().into_iter().filter(|code| [12, 40, 17].contains(code));
        assert_eq!(sent.collect::<Vec<_>>(), [12, 40, 17]);
    }
}

/// Machines with the same levels and the same words, but for what is told of each.
#[test]
fn what_one_machine_has_for_itself_no_other_gets() {
    let mut server = Server::new(
        r#"
        [dhcp]
        options = { bootfile-name = "other" }
        [[dhcp.subnet]]
        subnet = "10.1.0.0/16"
        pools = ["10.1.4.0-10.1.4.9"]
        boot = [
            { mac-prefix = "52:54:00:00:00:01", file = "a", next-server = "10.1.0.8" },
            { mac-prefix = "52:54:00:00:00:02", file = "a", next-server = "10.1.0.9" },
            { mac-prefix = "52:54:00:00:00:03", file = "none" },
        ]
        [[dhcp.host]]
        name = "five"
        hardware = "52:54:00:00:00:05"
        options = { root-path = "/5" }
        [[dhcp.host]]
        name = "six"
        hardware = "52:54:00:00:00:06"
        options = { root-path = "/6" }
        "#,
    );
    let mut told = |number, code| {
        let client = Client::bios(mac(number)).with(55, &[66, 67, 17]);
        server.expect(MessageType::Offer, &client.discover()).option(code)
    };
    assert_eq!(told(1, 66), Some(b"10.1.0.8".to_vec()));
    assert_eq!(told(2, 66), Some(b"10.1.0.9".to_vec()));
    assert_eq!(told(3, 67), None);
    assert_eq!(told(4, 67), Some(b"other\0".to_vec()));
    assert_eq!(told(5, 17), Some(b"/5".to_vec()));
    assert_eq!(told(6, 17), Some(b"/6".to_vec()));
}

#[test]
fn memory_is_bounded() {
    let mut server = Server::new(HALL);
    for wish in 600..2600_u32 {
        let client = Client::plain(mac(0x20)).with(51, &wish.to_be_bytes());
        server.expect(MessageType::Offer, &client.discover());
    }
    let kept = server.cache.kept();
    assert!((900..=1024).contains(&kept), "{kept}");
}
