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

const LINES: [&str; 15] = [
    r#"always-send = ["root-path"]"#,
    r#"always-send = ["host-name", "tftp-server-name"]"#,
    r#"always-send = ["bootfile-name", "merit-dump", 175]"#,
    r#"boot = { file = "none" }"#,
    r#"boot = { arch = "x86-64-efi", file = "ipxe.efi" }"#,
    r#"boot = [{ user-class = "iPXE", url = "http://10.1.0.6/boot.ipxe" }, { file = "pxelinux.0" }]"#,
    r#"boot = [{ class = "firmware", file = "a/b.efi", next-server = "10.1.0.8" }]"#,
    r#"lease-time = "infinite""#,
    r#"lease-time = "10m""#,
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
        r#"merit-dump = "/b""#,
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
    (prop::collection::vec(line, 0..3), prop::collection::vec(option, 0..4))
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
        for (host, _) in levels[8..].iter_mut().zip(named_only).filter(|(_, only)| *only) {
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

const HEADS: [&str; 11] = [
    "[dhcp]\nauthoritative = true\nrapid-commit = true",
    "[[dhcp.shared-network]]\nname = \"hall\"",
    "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\nshared-network = \"hall\"",
    "pools = { range = \"10.1.4.0-10.1.4.9\", LEVEL }, \"10.1.5.0-10.1.5.9\"",
    "[[dhcp.subnet]]\nsubnet = \"10.2.0.0/24\"\npools = [\"10.2.0.10-10.2.0.99\"]",
    "[[dhcp.class]]\nname = \"firmware\"\nvendor-class = \"PXEClient\"",
    "[[dhcp.class]]\nname = \"efi\"\narch = 7",
    "[[dhcp.group]]\nname = \"rack\"",
    "[[dhcp.host]]\nname = \"h1\"\nhardware = \"52:54:00:00:00:01\"\ngroup = \"rack\"",
    "[[dhcp.host]]\nname = \"h2\"\nhardware = \"52:54:00:00:00:02\"\ngroup = \"rack\"",
    "[[dhcp.host]]\nname = \"h3\"\nhardware = \"52:54:00:00:00:03\"",
];

#[derive(Clone, Debug)]
enum Step {
    /// A machine boots.
    Boots(Client),
    /// The other configuration is in force.
    Reload,
}

fn client() -> impl Strategy<Value = Client> {
    let asked = prop::sample::select(vec![
        &[][..],
        &[1, 3, 6, 12, 17, 40, 60, 66, 67],
        &[12, 3, 1],
        &[17, 14, 40, 12, 43, 66, 67, 97],
    ]);
    let client_id = vec![&[][..], &[1, 2, 3], &[1, 2, 4], &[0; 17], &[9; 200]];
    let client_id = prop::sample::select(client_id);
    let information = vec![&b""[..], b"\x01\x02ab", b"\x01\x02cd", b"\x01\x05abcde"];
    let information = prop::sample::select(information);
    let size = prop::sample::select(vec![None, Some(576_u16), Some(700), Some(1472)]);
    let program = prop::sample::select(vec![
        Client::bios as fn([u8; 6]) -> Client,
        Client::edk2,
        Client::http_boot,
        Client::ipxe,
        Client::plain,
    ]);
    let wish = prop::sample::select(vec![None, Some(60_u32), Some(u32::MAX)]);
    let parts = (1..6_u8, program, asked, client_id, information, size, wish, 0..4_u8);
    parts.prop_map(|(machine, program, asked, client_id, information, size, wish, link)| {
        let mut client = program(mac(machine)).without(55).without(57);
        if !asked.is_empty() {
            client = client.with(55, asked);
        }
        if !client_id.is_empty() {
            client = client.with(61, client_id);
        }
        if let Some(size) = size {
            client = client.with(57, &size.to_be_bytes());
        }
        if let Some(wish) = wish {
            client = client.with(51, &wish.to_be_bytes());
        }
        match link {
            0 => client.behind(ip("10.2.0.1"), information),
            1 => client.behind(ip("10.1.0.1"), information),
            2 => client.with(118, &[10, 2, 0, 0]),
            _ => client,
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![12 => client().prop_map(Step::Boots), 1 => Just(Step::Reload)];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_copied_reply_is_what_would_be_written(
        first in any_configuration(),
        second in any_configuration(),
        steps in steps(),
    ) {
        let mut server = Server::new(&first);
        let mut other = (&second, &first);
        for step in steps {
            match step {
                Step::Reload => {
                    server.reload(other.0);
                    other = (other.1, other.0);
                }
                Step::Boots(client) => {
                    if let Outcome::Reply(offer) = server.receive(&client.discover()) {
                        let _ack = server.receive(&client.select(&offer));
                    }
                    let _rapid = server.receive(&client.clone().with(80, &[]).discover());
                    let _informed = server.receive(&client.inform(ip("10.1.4.200")));
                    let _booted = server.receive(&client.without(55).bootp());
                }
            }
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
