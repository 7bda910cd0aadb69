//! What files mean.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bumpalo::Bump;

use super::super::*;
use super::good;
use crate::quirks::{BUILT_IN, Quirk, Quirks, TftpOption};

/// Every key, as the manual and migrations from other servers write them.
pub(super) const FULL: &str = include_str!("full.toml");

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn settings_of_the_server() {
    let config = good(FULL);
    assert_eq!(
        config.server,
        Server {
            interfaces: Some(vec!["eth1".to_owned()]),
            state_dir: PathBuf::from("/var/lib/bootstorm"),
            shards: Some(2),
            engine: EngineChoice::Uring,
            busy_poll: false,
            user: Some("bootstorm".to_owned()),
            group: Some("netboot".to_owned()),
            allow_other_servers: OtherServers::List(vec![ip("10.1.0.250")]),
            lease_file: None,
        }
    );
    let rule = |operation: &str, pattern: &str, replacement: &str| {
        MapRule::new(operation.to_owned(), pattern.to_owned(), replacement.to_owned())
    };
    assert_eq!(
        config.tftp,
        Some(Tftp {
            root: PathBuf::from("/srv/tftp"),
            upload: UploadMode::Overwrite,
            max_blksize: 1468,
            max_windowsize: 16,
            adaptive_windowsize: false,
            multicast: Some(Multicast {
                groups: Prefix::containing(ip("239.255.9.0"), 28).unwrap(),
                port: 1759,
                ttl: 4,
            }),
            clamp_to_mtu: false,
            max_transfers: 1000,
            max_transfers_per_client: 2,
            port_range: Some((40000, 40999)),
            single_port: false,
            map: vec![rule("ri", "^old/", "new/"), rule("a", "secret", "")],
            case_insensitive: true,
            image_budget: 256 << 20,
            client_rate: Some(50_000_000),
            interface_rates: vec![(None, 1_125_000_000), (Some("eth1".to_owned()), 112_500_000)],
            timeout: Duration::from_millis(500),
            min_retry: Duration::from_millis(100),
            retries: 4,
            quirks: quirks(),
        })
    );
    let tftp = config.tftp.as_ref().unwrap();
    assert_eq!(
        (tftp.rate_of("eth0"), tftp.rate_of("eth1")),
        (Some(1_125_000_000), Some(112_500_000))
    );
    assert_eq!(config.control.metrics, Some("0.0.0.0:9548".parse().unwrap()));
    let key = OmapiKey {
        name: "omapi".to_owned(),
        algorithm: OmapiAlgorithm::Sha256,
        secret: (*b"only for this test").into(),
    };
    let omapi = Omapi { address: "0.0.0.0:7911".parse().unwrap(), key: Some(key) };
    assert_eq!(config.control.omapi, Some(omapi));
    assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Json });
    let dhcp = &config.dhcp;
    let flags = dhcp.global.settings().flags;
    assert_eq!(flags.get(Flag::Authoritative), Some(true));
    assert_eq!(flags.get(Flag::BootUnknownClients), Some(false));
    assert!(dhcp.rapid_commit);
    assert_eq!(dhcp.identity, Identity::ClientId);
    assert_eq!(dhcp.offer_time, Duration::from_secs(30));
    assert_eq!(dhcp.decline_time, Duration::from_secs(600));
    assert_eq!(flags.get(Flag::PingCheck), Some(true));
    assert_eq!(dhcp.server_identifiers, [ip("10.1.0.9"), ip("192.0.2.9")]);
    let excluded = [
        (ip("10.1.0.1"), Use::Router),
        (ip("10.1.0.6"), Use::NextServer),
        (ip("10.1.0.7"), Use::NextServer),
        (ip("10.1.0.8"), Use::NextServer),
        (ip("10.1.0.9"), Use::ServerIdentifier),
        (ip("192.0.2.9"), Use::ServerIdentifier),
    ];
    assert_eq!(dhcp.excluded, excluded);
    // Only what lies in a pool is worth a note.
    let own = [ip("10.1.0.2"), ip("10.1.4.2")];
    let left_out = [(ip("10.1.4.2"), "this host"), (ip("192.0.2.9"), "a server-identifier")];
    assert_eq!(dhcp.left_out(&own), left_out);
}

/// Those of [`FULL`]: the built-in ones in the order of their table, then the file's.
fn quirks() -> Quirks {
    let built_in = |name| BUILT_IN.iter().find(|quirk| quirk.name == name).unwrap().quirk();
    let bytes = |bytes: &[u8]| Box::<[u8]>::from(bytes);
    let old_blades = Quirk {
        name: "old-blades".into(),
        vendor_class: vec![bytes(b"PXEClient:Arch:00000"), bytes(b"PXEClient:Arch:00007")],
        mac_prefix: vec![bytes(&[0x00, 0x1a, 0x64])],
        max_blksize: Some(1024),
        max_windowsize: Some(2),
        ignore_options: vec![TftpOption::Tsize, TftpOption::Timeout],
        min_retry: Some(Duration::from_secs(2)),
        reply_delay: Some(Duration::from_millis(500)),
    };
    let rfc1350 = Quirk {
        name: "rfc1350".into(),
        vendor_class: Vec::new(),
        mac_prefix: vec![bytes(&[2])],
        max_blksize: None,
        max_windowsize: None,
        ignore_options: TftpOption::ALL.into_iter().map(|(_, option)| option).collect(),
        min_retry: None,
        reply_delay: None,
    };
    let [edk2, ovmf, pi] = ["edk2-windowsize", "ovmf-blksize", "raspberry-pi-retry"].map(built_in);
    Quirks::new(vec![edk2, ovmf, pi, old_blades, rfc1350])
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = good("[tftp]\nroot = \"/srv/tftp\"\n");
    assert_eq!(config.server, Server::default());
    assert_eq!(config.tftp, Some(Tftp::new(PathBuf::from("/srv/tftp"))));
    assert_eq!(config.control, Control::default());
    assert_eq!(config.log, Log::default());
    assert!(config.dhcp.subnets.is_empty());
    for off in ["\"off\"", "false"] {
        let text = format!("[control]\nmetrics = {off}\n[tftp]\nroot = \"/\"");
        assert_eq!(good(&text).control.metrics, None, "{off}");
    }
    let all = good("[server]\nallow-other-servers = true\n[tftp]\nroot = \"/\"");
    assert_eq!(all.server.allow_other_servers, OtherServers::All);
}

#[test]
fn subnets_networks_and_pools() {
    let config = good(FULL);
    let dhcp = &config.dhcp;
    let prefixes: Vec<String> =
        dhcp.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.1.0.0/16", "10.2.0.0/24", "192.0.2.0/24"]);

    let hall = dhcp.network(dhcp.subnets[0].network);
    assert_eq!(hall.name.as_deref(), Some("hall3"));
    assert_eq!(hall.subnets.len(), 2);
    assert_eq!(hall.scope.options.get(15), Some(&b"hall3.example.net"[..]));
    let own = dhcp.network(dhcp.subnets[2].network);
    assert_eq!((own.name.as_deref(), own.subnets.len()), (None, 1));

    let ranges: Vec<_> = dhcp.pools.iter().map(|pool| pool.range).collect();
    assert_eq!(
        ranges,
        [
            (ip("10.1.4.0"), ip("10.1.127.250")),
            (ip("10.1.128.0"), ip("10.1.191.255")),
            (ip("10.1.192.0"), ip("10.1.255.250")),
            (ip("192.0.2.1"), ip("192.0.2.254")),
        ]
    );
    let pool = dhcp.pool(dhcp.pool_of(ip("10.1.200.0")).unwrap());
    let gpu = dhcp.class_ids().next().unwrap();
    assert_eq!(pool.allow, [Permit::Known, Permit::Member(gpu)]);
    assert_eq!(pool.deny, [Permit::Bootp]);
    assert_eq!(pool.class, Some(gpu));
    assert_eq!(pool.scope.settings().boot[0].file, BootFile::None);
    assert_eq!(dhcp.subnet(pool.subnet).pools.len(), 3);

    assert_eq!(dhcp.subnet_of(ip("10.1.255.255")), Some(dhcp.pools[0].subnet));
    assert_eq!(dhcp.subnet_of(ip("10.0.255.255")), None);
    assert_eq!(dhcp.subnet_of(ip("10.2.1.0")), None);
    assert_eq!(dhcp.subnet_of(ip("0.0.0.0")), None);
    assert_eq!(dhcp.pool_of(ip("10.1.127.251")), None);
    assert_eq!(dhcp.pool_of(ip("255.255.255.255")), None);
}

#[test]
fn hosts_are_found_by_all_that_identifies_them() {
    let config = good(FULL);
    let dhcp = &config.dhcp;
    let name = |id: &HostId| &**dhcp.host(*id).name();
    let names = |ids: &[HostId]| ids.iter().map(name).collect::<Vec<_>>();

    assert_eq!(names(dhcp.hosts_by_hardware(&[0x52, 0x54, 0, 0x12, 0x34, 0x56])), ["n01"]);
    assert_eq!(names(dhcp.hosts_by_hardware(&[0x52, 0x54, 0, 0x12, 0x34, 0x57])), ["n01"]);
    assert_eq!(names(dhcp.hosts_by_hardware(&[0x52, 0x54, 0, 0x12, 0x34, 0x58])), ["n03"]);
    assert!(dhcp.hosts_by_hardware(&[]).is_empty());
    let uuid = *b"\x4c\x4c\x45\x44\x00\x42\x35\x10\x80\x51\xb2\xc0\x4f\x4b\x35\x32";
    assert_eq!(names(dhcp.hosts_by_uuid(&uuid)), ["n02"]);
    assert_eq!(names(dhcp.hosts_by_client_id(b"\x01\x52\x54\x00\x12")), ["n02"]);
    // Clients send a text as it is, or behind an octet for its type.
    assert_eq!(names(dhcp.hosts_by_client_id(b"node-2")), ["n02"]);
    assert_eq!(names(dhcp.hosts_by_client_id(b"\0node-2")), ["n02"]);

    let circuit = |circuit: Option<&[u8]>, remote: Option<&'static [u8]>| {
        let at_switch = dhcp.hosts_at_switch(remote);
        names(&dhcp.hosts_at_port(circuit, remote).chain(at_switch).collect::<Vec<_>>())
    };
    assert_eq!(circuit(Some(b"\x00\x04"), Some(b"sw1")), ["n04"]);
    assert!(circuit(Some(b"\x00\x04"), Some(b"sw2")).is_empty());
    assert!(circuit(Some(b"\x00\x04"), None).is_empty());
    assert_eq!(circuit(Some(b"ge-0/0/47"), Some(b"any")), ["n05"]);
    assert_eq!(circuit(None, Some(b"sw9")), ["n06"]);
    assert!(circuit(None, None).is_empty());

    let n01 = dhcp.host_by_ip(ip("10.1.0.17")).unwrap();
    assert_eq!(name(&n01), "n01");
    assert_eq!(dhcp.host_by_ip(ip("192.0.2.17")), Some(n01));
    assert_eq!(dhcp.host_by_ip(ip("10.1.0.99")), None);
    assert_eq!(dhcp.host_address(n01, dhcp.subnets[2].network), Some(ip("192.0.2.17")));
    assert_eq!(dhcp.host_address(n01, dhcp.subnets[1].network), Some(ip("10.1.0.17")));
    let group = |id: HostId| dhcp.group(dhcp.host(id).group().unwrap()).name.clone();
    assert_eq!(group(n01).as_deref(), Some("rack1"));
    let n03 = dhcp.hosts_by_hardware(&[0x52, 0x54, 0, 0x12, 0x34, 0x58])[0];
    assert_eq!(group(n03).as_deref(), Some("rack1"));
}

#[test]
fn hosts_that_share_a_key_are_all_found_by_it_and_by_their_names() {
    let port = "x".repeat(100);
    let config = good(&format!(
        "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\n[[dhcp.subnet]]\nsubnet = \"10.0.1.0/24\"\n\
         [[dhcp.host]]\nname = \"a\"\nhardware = \"02:00:00:00:00:01\"\nip = \"10.0.0.2\"\n\
         [[dhcp.host]]\nname = \"b\"\nhardware = \"02:00:00:00:00:02\"\nnext-server = \"10.0.0.9\"\n\
         [[dhcp.host]]\nname = \"c\"\nhardware = \"02:00:00:00:00:01\"\nip = \"10.0.1.2\"\n\
         [[dhcp.host]]\nname = \"d\"\nhardware = \"02:00:00:00:00:01\"\nnext-server = \"10.0.0.9\"\n\
         [[dhcp.host]]\nname = \"e\"\ncircuit-id = \"{port}\"\nremote-id = \"s1\"\nip = \"10.0.0.3\"\n\
         [[dhcp.host]]\nname = \"f\"\ncircuit-id = \"{port}\"\nremote-id = \"s2\"\nip = \"10.0.0.4\"\n"
    ));
    let dhcp = &config.dhcp;
    let names =
        |ids: &[HostId]| ids.iter().map(|id| dhcp.host(*id).name().to_string()).collect::<Vec<_>>();
    assert_eq!(names(dhcp.hosts_by_hardware(&[2, 0, 0, 0, 0, 1])), ["a", "c", "d"]);
    assert_eq!(names(dhcp.hosts_by_hardware(&[2, 0, 0, 0, 0, 2])), ["b"]);
    assert!(dhcp.hosts_by_client_id(&[2, 0, 0, 0, 0, 2]).is_empty());
    let at = |switch: &'static [u8]| {
        names(&dhcp.hosts_at_port(Some(port.as_bytes()), Some(switch)).collect::<Vec<_>>())
    };
    assert_eq!((at(b"s1"), at(b"s2"), at(b"s3")), (vec!["e".into()], vec!["f".into()], vec![]));
    for host in dhcp.hosts.iter() {
        let found = dhcp.host_by_name(host.name()).unwrap();
        assert_eq!(dhcp.host(found).name(), host.name());
        assert_eq!(host.ips().len(), usize::from(host.scope().is_none()), "{}", host.name());
    }
    assert_eq!(dhcp.host_by_name("g"), None);
    // What is the same for both is held once.
    let scope = |name| dhcp.host(dhcp.host_by_name(name).unwrap()).scope().unwrap();
    assert!(std::ptr::eq(scope("b"), scope("d")));
    let e = dhcp.host(dhcp.host_by_name("e").unwrap());
    let key = HostKey::Circuit { circuit_id: Some(port.as_bytes()), remote_id: Some(&b"s1"[..]) };
    assert_eq!(e.keys().collect::<Vec<_>>(), [key]);
}

#[test]
fn boot_rules_and_classes() {
    let config = good(FULL);
    let dhcp = &config.dhcp;
    let rules = &dhcp.subnets[0].scope.settings().boot;
    let file = |text: &str| BootFile::File(text.as_bytes().into());
    assert_eq!(rules[0].matches.user_class, [Box::from(*b"iPXE")]);
    assert_eq!(rules[0].file, file("boot.ipxe"));
    // 9 is what the RFC gave to what firmware calls 7.
    assert_eq!(rules[1].matches.arch, [7, 9]);
    assert_eq!(rules[2].matches.arch, [0, 11, 1000]);
    assert_eq!(rules[2].file, BootFile::Url(b"http://10.1.0.6/x".as_slice().into()));
    assert_eq!(rules[3].matches.mac_prefix, [Box::from([0x52, 0x54, 0])]);
    assert_eq!(rules[3].matches.circuit_id, [Box::from([0, 4])]);
    assert_eq!(rules[3].next_server, Some(ip("10.1.0.8")));
    assert!(rules[4].matches.is_empty());
    assert_eq!(dhcp.subnets[0].scope.settings().next_server, Some(ip("10.1.0.6")));
    assert_eq!(dhcp.subnets[0].scope.settings().server_identifier, Some(ip("10.1.0.9")));

    assert_eq!(dhcp.classes[0].name, "gpu");
    assert_eq!(dhcp.classes[0].matches.vendor_class, [Box::from(*b"PXEClient:Arch:00007")]);
    assert_eq!(dhcp.classes[0].scope.settings().lease_time, Some(LeaseTime::from_seconds(7200)));
    assert!(dhcp.classes[1].test.is_some());
}

#[test]
fn the_narrowest_scope_wins() {
    let config = good(
        r#"
        [dhcp]
        options = { host-name = "global", domain-name = "global", root-path = "global", nis-domain = "global", merit-dump = "global", tftp-server-name = "global", bootfile-name = "global" }
        always-send = ["host-name"]
        lease-time = "10s"
        min-lease-time = "5s"
        max-lease-time = "20s"
        boot = { file = "global" }
        server-identifier = "10.0.0.3"
        reply-delay = "3s"
        [[dhcp.shared-network]]
        name = "n"
        options = { domain-name = "network", root-path = "network", nis-domain = "network", merit-dump = "network", tftp-server-name = "network", bootfile-name = "network" }
        next-server = "10.0.0.1"
        server-identifier = "10.0.0.2"
        reply-delay = "200ms"
        [[dhcp.subnet]]
        subnet = "10.1.0.0/24"
        shared-network = "n"
        options = { root-path = "subnet", nis-domain = "subnet", merit-dump = "subnet", tftp-server-name = "subnet", bootfile-name = "subnet" }
        lease-time = "15s"
        boot = { user-class = "iPXE", file = "subnet" }
        pools = [{ range = "10.1.0.10-10.1.0.20", options = { nis-domain = "pool", merit-dump = "pool", tftp-server-name = "pool", bootfile-name = "pool" }, always-send = [6] }]
        [[dhcp.subnet]]
        subnet = "10.2.0.0/24"
        shared-network = "n"
        [[dhcp.class]]
        name = "first"
        arch = 7
        options = { merit-dump = "class", tftp-server-name = "class", bootfile-name = "class" }
        [[dhcp.class]]
        name = "second"
        arch = 7
        options = { merit-dump = "second", time-servers = ["10.0.0.9"] }
        [[dhcp.group]]
        name = "g"
        options = { tftp-server-name = "group", bootfile-name = "group" }
        server-name = "group"
        [[dhcp.host]]
        name = "h"
        hardware = "02:00:00:00:00:01"
        group = "g"
        options = { bootfile-name = "host" }
        "#,
    );
    let dhcp = &config.dhcp;
    let classes: Vec<ClassId> = dhcp.class_ids().collect();
    let subnet = dhcp.subnet_of(ip("10.1.0.10"));
    let pool = dhcp.pool_of(ip("10.1.0.10"));
    let host = dhcp.hosts_by_hardware(&[2, 0, 0, 0, 0, 1]).first().copied();
    let arena = Bump::new();
    let chain = ScopeChain::new(dhcp, subnet, pool, (&classes, &[]), host, &arena);
    let text = |code| {
        let (value, scope) = chain.option(code).unwrap();
        (std::str::from_utf8(value).unwrap(), scope)
    };
    let (subnet, pool, host) = (subnet.unwrap(), pool.unwrap(), host.unwrap());
    let network = dhcp.subnet(subnet).network;
    let group = dhcp.host(host).group().unwrap();
    assert_eq!(text(12), ("global", ScopeId::Global));
    assert_eq!(text(15), ("network", ScopeId::Network(network)));
    assert_eq!(text(17), ("subnet", ScopeId::Subnet(subnet)));
    assert_eq!(text(40), ("pool", ScopeId::Pool(pool)));
    assert_eq!(text(14), ("class", ScopeId::Class(classes[0])));
    assert_eq!(text(66), ("group", ScopeId::Group(group)));
    assert_eq!(text(67), ("host", ScopeId::Host(host)));
    assert_eq!(chain.option(4), Some((&[10, 0, 0, 9][..], ScopeId::Class(classes[1]))));
    assert_eq!(chain.option(3), None);

    assert_eq!(chain.next_server(), Some(ip("10.0.0.1")));
    assert_eq!(chain.server_identifier(), Some(ip("10.0.0.2")));
    assert_eq!(chain.reply_delay(), Duration::from_millis(200));
    assert_eq!(chain.server_name(), Some(&b"group"[..]));
    assert!(chain.always_sends(12) && chain.always_sends(6) && !chain.always_sends(3));
    let term = |wish| chain.lease_time_for(wish, None);
    let seconds = |wish| term(Some(LeaseTime::from_seconds(wish))).time.seconds();
    let usual = term(None).time.seconds();
    assert_eq!((usual, seconds(1), seconds(7), seconds(99)), (15, 5, 7, 20));
    assert_eq!(term(Some(LeaseTime::INFINITE)).time.seconds(), 20);

    // A scope whose rules do not match leaves the choice to wider ones.
    let rule = |ipxe| chain.boot(|rule| rule.matches.user_class.is_empty() || ipxe).unwrap();
    assert_eq!(rule(true).1, ScopeId::Subnet(subnet));
    assert_eq!(rule(false).1, ScopeId::Global);

    let nowhere = ScopeChain::new(dhcp, None, None, (&[], &[]), None, &arena);
    let mut levels = Vec::new();
    nowhere.for_each(|id, _| levels.push(id));
    assert_eq!(levels, [ScopeId::Global]);
    assert_eq!(nowhere.option(67), Some((&b"global"[..], ScopeId::Global)));
}

#[test]
fn without_limits_a_wish_for_another_lease_time_counts_for_nothing() {
    let config = good("[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\n");
    let arena = Bump::new();
    let chain = ScopeChain::new(&config.dhcp, None, None, (&[], &[]), None, &arena);
    for wish in [None, Some(LeaseTime::INFINITE), Some(LeaseTime::from_seconds(1))] {
        assert_eq!(chain.lease_time_for(wish, None).time, Dhcp::DEFAULT_LEASE_TIME);
    }
}

#[test]
fn many_subnets_and_hosts_are_all_found() {
    use std::fmt::Write;
    let mut text = String::new();
    for n in 0..2000_u32 {
        let net = Ipv4Addr::from_bits(0x0a00_0000 + (n << 8));
        let [a, b, c, _] = net.octets();
        write!(text, "[[dhcp.subnet]]\nsubnet = \"{net}/24\"\npools = [\"{a}.{b}.{c}.100-{a}.{b}.{c}.200\"]\n").unwrap();
        for host in 1..=10 {
            write!(
                text,
                "[[dhcp.host]]\nname = \"h{n}-{host}\"\nhardware = \"02:00:{:02x}:{b:02x}:{c:02x}:{host:02x}\"\nip = \"{a}.{b}.{c}.{host}\"\n",
                n % 256
            )
            .unwrap();
        }
    }
    let config = good(&text);
    let dhcp = &config.dhcp;
    assert_eq!((dhcp.subnets.len(), dhcp.pools.len(), dhcp.hosts.len()), (2000, 2000, 20_000));
    for n in 0..2000_u32 {
        let at = |last| Ipv4Addr::from_bits(0x0a00_0000 + (n << 8) + last);
        assert_eq!(dhcp.subnet_of(at(255)).map(|id| id.index()), Some(n as usize));
        assert_eq!(dhcp.pool_of(at(100)).map(|id| id.index()), Some(n as usize));
        assert_eq!(dhcp.pool_of(at(99)), None);
        let host = dhcp.host_by_ip(at(7)).unwrap();
        assert_eq!(**dhcp.host(host).name(), *format!("h{n}-7"));
        let Some(HostKey::Hardware(hardware)) = dhcp.host(host).keys().next() else {
            panic!("no hardware")
        };
        assert_eq!(dhcp.hosts_by_hardware(hardware), [host]);
    }
}

#[test]
fn an_option_set_is_what_was_put_in() {
    let set = OptionSet::new([
        (254, vec![1]),
        (0, vec![]),
        (63, vec![2; 300]),
        (64, vec![3]),
        (0, vec![4]),
    ]);
    assert_eq!(set.get(0), Some(&[4][..]));
    assert_eq!(set.get(63), Some(&[2; 300][..]));
    assert_eq!(set.get(64), Some(&[3][..]));
    assert_eq!((set.get(1), set.get(255), set.contains(254)), (None, None, true));
    // Codes that differ from one of the set by 64.
    assert_eq!((set.get(127), set.get(128), set.get(190)), (None, None, None));
    assert_eq!(set.iter().map(|(code, _)| code).collect::<Vec<_>>(), [0, 63, 64, 254]);
    assert!(OptionSet::default().is_empty() && OptionSet::default().get(1).is_none());
    let value = |code: u8| vec![code; usize::from(code % 3)];
    let all = OptionSet::new((0..=u8::MAX).map(|code| (code, value(code))));
    assert_eq!(all.len(), 256);
    assert!((0..=u8::MAX).all(|code| all.get(code) == Some(&value(code)[..])));
}

#[test]
fn prefixes_know_their_addresses() {
    let prefix = |text: &str, length| Prefix::containing(ip(text), length).unwrap();
    let rack = prefix("10.1.2.3", 23);
    assert_eq!(rack.to_string(), "10.1.2.0/23");
    assert_eq!((rack.mask(), rack.broadcast()), (ip("255.255.254.0"), ip("10.1.3.255")));
    assert!(rack.contains(ip("10.1.3.255")) && !rack.contains(ip("10.1.4.0")));
    assert!(rack.overlaps(prefix("10.0.0.0", 8)) && !rack.overlaps(prefix("10.1.4.0", 24)));
    let all = prefix("10.1.2.3", 0);
    assert_eq!((all.to_string(), all.broadcast()), ("0.0.0.0/0".to_owned(), ip("255.255.255.255")));
    assert_eq!(prefix("10.1.2.3", 32).broadcast(), ip("10.1.2.3"));
    assert!(Prefix::containing(ip("10.1.2.3"), 33).is_none());
    assert_eq!(prefix("10.1.2.2", 30).hosts(), (ip("10.1.2.1"), ip("10.1.2.2")));
    assert_eq!(prefix("10.1.2.2", 31).hosts(), (ip("10.1.2.2"), ip("10.1.2.3")));
    assert_eq!(prefix("10.1.2.2", 32).hosts(), (ip("10.1.2.2"), ip("10.1.2.2")));
    assert_eq!(prefix("0.0.0.0", 0).hosts(), (ip("0.0.0.1"), ip("255.255.255.254")));
}
