//! The steady path of a shard makes no heap allocation: a machine that boots again, renews and
//! rebinds, from the bytes of its message to the bytes of the reply. And known machines, of which
//! there may be a million, make few.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use bootstorm::config::{Host, HostKey, Hosts, OptionSet, Scope};
use bootstorm::dhcp::{Action, Arrival, Decision, ReplyCache, answer, decided, logged, received};
use bootstorm::leases::{Clock, Leases, MemoryStore, ShardLeases};
use bootstorm::quirks::{BUILT_IN, BuiltIn, Notes, Quirks};
use bootstorm_protocols::dhcpv4::{ETHERNET, Header, Message, MessageType, MessageWriter};
use bootstorm_protocols::time::Moment;
use bumpalo::Bump;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

const CONFIG: &str = r#"
[dhcp]
lease-time = "1h"
[[dhcp.class]]
name = "pi"
mac-prefix = "b8:27:eb"
# One of each kind that tests can have; the first two are found by the value of what they compare.
[[dhcp.class]]
name = "equal"
test = 'substring(option vendor-class-identifier, 0, 9) = "PXEClient"'
[[dhcp.class]]
name = "equal too"
test = 'substring(option vendor-class-identifier, 0, 9) = "HTTPClien" and known'
[[dhcp.class]]
name = "pattern"
test = '(option vendor-class-identifier ~= "Arch:0000[67]:.*[0-9]{3}$") or option host-name ~~ "^N0"'
[[dhcp.class]]
name = "numbers"
test = '(extract-int(option pxe-system-type, 16) & 255) = 7 and not (extract-int(hardware, 8) = 6)'
[[dhcp.class]]
name = "bytes"
test = 'concat(lcase(option host-name), ucase(filename), reverse(2, packet(0, 4)), encode-int(7, 32)) != pick-first-value(server-name, option agent.circuit-id, null)'
[[dhcp.class]]
name = "digits"
test = 'binary-to-ascii(16, 8, ":", suffix(hardware, 6)) ~= "^52:54:0:" and exists agent.remote-id'
[[dhcp.class]]
name = "others"
test = 'check "equal" or check "pattern"'
# Statements, and subclasses whose leases are counted.
[[dhcp.class]]
name = "ports"
match = 'option agent.circuit-id'
spawn = true
lease-limit = 1000
[[dhcp.class.subclass]]
value = "port7"
options = { nis-domain = { expression = 'concat("port-", config-option domain-name)' } }
[[dhcp.if]]
test = 'known or exists pxe-system-type'
min-lease-time = { expression = '60 + 60' }
elsif = [{ test = 'check "pi"', lease-time = "2h" }]
else = { options = { domain-name = "else.example" } }
[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.255.250"]
options = { routers = ["10.1.0.1"], domain-name-servers = ["10.1.0.2"], domain-name = { expression = 'binary-to-ascii(10, 8, "-", leased-address)' } }
boot = [{ user-class = "iPXE", file = "boot.ipxe" }, { arch = "x86-64-efi", file = "ipxe.efi" }, { file = "pxelinux.0" }]
[[dhcp.host]]
name = "reserved"
uuid = "564d3210-aabb-ccdd-0102-030405060708"
ip = "10.1.0.17"
"#;

/// The same kinds of things in dhcpd's language, and what only that has.
const DHCPD: &str = r#"
ping-check off;
dhcp-cache-threshold 0;
option domain-name "example.org";
option space boot;
option boot.file code 1 = text;
option boot.servers code 2 = array of ip-address;
option boot.name code 3 = text;
# What a variable is lies with the lease, which allocates when that changes.
set kind = concat("host-", option host-name);
if exists pxe-system-type {
  default-lease-time 600;
} elsif known {
  max-lease-time 1800;
} else {
  option domain-name "else.example";
}
switch (extract-int(option pxe-system-type, 16)) {
  case 7:
    filename "ipxe.efi";
    break;
  default:
    filename "pxelinux.0";
}
class "ports" {
  match option agent.circuit-id;
  lease limit 200;
}
subclass "ports" "port7" {
  option nis-domain = concat("port-", config-option domain-name);
  lease limit 150;
}
class "spawned" {
  spawn with option agent.remote-id;
  lease limit 250;
}
class "firmware" {
  match if substring(option vendor-class-identifier, 0, 9) = "PXEClient";
  vendor-option-space boot;
  option boot.file "menu";
}
class "absent" {
  match if option user-class = "absent";
}
shared-network rack {
  subnet 10.1.0.0 netmask 255.255.0.0 {
    option routers 10.1.0.1;
    append domain-name-servers 10.1.0.2;
    default host-name = binary-to-ascii(10, 8, "-", leased-address);
    prepend boot.servers 10.1.0.3, 10.1.0.4;
    option boot.name = concat("is ", pick-first-value(kind, "none"));
    pool {
      range 10.1.4.0 10.1.255.250;
      deny members of "absent";
    }
  }
}
host reserved {
  hardware ethernet 52:54:00:00:00:07;
  fixed-address 10.1.0.17;
  option host-name = concat("n", binary-to-ascii(16, 8, "", suffix(hardware, 2)));
}
"#;

/// A message of UEFI firmware through a relay agent.
fn message(kind: MessageType, machine: u8, ciaddr: Ipv4Addr, named: &[(u8, Ipv4Addr)]) -> Vec<u8> {
    let header = Header {
        hops: 1,
        ciaddr,
        giaddr: if ciaddr.is_unspecified() { RELAY } else { Ipv4Addr::UNSPECIFIED },
        ..Header::request(ETHERNET, &[0x52, 0x54, 0, 0, 0, machine], 7)
    };
    let mut buf = [0; 1400];
    let mut writer = MessageWriter::new(&mut buf, 1400, &header).unwrap();
    writer.option(53, &[kind.code()]).unwrap();
    writer.option(55, &[1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97]).unwrap();
    // Some firmware says less in its REQUEST than in its DISCOVER.
    let says_less = kind == MessageType::Request && machine.is_multiple_of(2);
    if !says_less {
        writer.option(60, b"PXEClient:Arch:00007:UNDI:003016").unwrap();
        writer.option(93, &[0, 7]).unwrap();
    }
    writer.option(61, &[1, 0x52, 0x54, 0, 0, 0, machine]).unwrap();
    writer.option(12, b"n01").unwrap();
    for (code, address) in named {
        writer.option(*code, &address.octets()).unwrap();
    }
    if ciaddr.is_unspecified() {
        writer.option(82, b"\x01\x05port7\x02\x07switch1").unwrap();
    }
    let len = writer.finish();
    buf[..len].to_vec()
}

struct Shard {
    config: bootstorm::config::Config,
    leases: ShardLeases,
    arena: Bump,
    cache: ReplyCache,
    buf: [u8; 2048],
    quirks: Quirks,
    notes: Notes,
}

impl Shard {
    /// The way of one datagram through the rules; the type and the address of the reply.
    fn pass(&mut self, payload: &[u8], destination: Ipv4Addr, now: Moment) -> Option<Ipv4Addr> {
        let arrival = Arrival {
            ifindex: 2,
            interface: &[SERVER],
            server: &[SERVER],
            mtu: 1500,
            destination: Some(destination),
            source: SocketAddrV4::new(RELAY, 67),
        };
        let message = Message::parse(payload).ok()?;
        std::hint::black_box(received(&message, &arrival));
        let dhcp = &self.config.dhcp;
        let Decision { action, changes, .. } =
            answer(&message, &arrival, dhcp, &mut self.leases, now, &self.arena);
        let event = decided(&message, &arrival, &action);
        std::hint::black_box(&event);
        logged(&action, &event).for_each(|event| _ = std::hint::black_box(event));
        let class = action.reply().map_or(&[][..], |reply| reply.vendor_class);
        let set = self.quirks.of(message.chaddr(), class);
        let token = matches!(action, Action::AckWhenDurable(_)).then_some(1);
        self.leases.submit(changes, token, now).unwrap();
        let address = match action {
            Action::Reply(reply) | Action::AckWhenDurable(reply) => {
                assert!(reply.write(&mut self.cache, &mut self.buf) >= 300);
                Some(reply.yiaddr)
            }
            _ => None,
        };
        if let Some(address) = address {
            self.notes.note(address, &self.quirks, set);
        }
        self.arena.reset();
        address
    }
}

#[test]
fn the_steady_path_allocates_nothing() {
    allocates_nothing("a.toml", CONFIG);
}

#[test]
fn nor_does_it_with_a_configuration_in_the_language_of_dhcpd() {
    allocates_nothing("dhcpd.conf", DHCPD);
}

fn allocates_nothing(name: &str, text: &str) {
    let config = bootstorm::config::parse(Path::new(name), text.as_bytes()).unwrap();
    let clock =
        Clock { now: Moment::from_nanos(0), wall: 0, boot: Default::default(), synchronised: true };
    let leases = Leases::open(Arc::new(MemoryStore::default()), &config.dhcp, 1, clock).unwrap();
    let mut committer = leases.committer();
    let shard = leases.shard(0, || ());
    let quirks = Quirks::new(BUILT_IN.iter().map(BuiltIn::quirk).collect());
    let (arena, notes) = (Bump::new(), Notes::default());
    let mut shard = Shard {
        config,
        leases: shard,
        arena,
        cache: ReplyCache::default(),
        buf: [0; 2048],
        quirks,
        notes,
    };
    let none = Ipv4Addr::UNSPECIFIED;

    let mut counted = 0;
    for round in 0..20_u64 {
        // The first rounds make the leases, grow tables and arena.
        let warm = round >= 4;
        for machine in 1..=100 {
            let now = Moment::from_nanos(round * 1_000_000_000);
            let discover = message(MessageType::Discover, machine, none, &[]);
            let mut offered = None;
            let discovering = allocation_counter::measure(|| {
                offered = shard.pass(&discover, SERVER, now);
            });
            let address = offered.expect("no offer");
            let named = [(50, address), (54, SERVER)];
            let select = message(MessageType::Request, machine, none, &named);
            let mut acked = None;
            let selecting = allocation_counter::measure(|| {
                acked = shard.pass(&select, SERVER, now);
            });
            assert_eq!(acked, Some(address));
            committer.run_once(now);
            shard.leases.completed(|_, result| result.unwrap());
            let renew = message(MessageType::Request, machine, address, &[]);
            let mut renewed = None;
            let renewing = allocation_counter::measure(|| {
                renewed = shard.pass(&renew, SERVER, now);
            });
            assert_eq!(renewed, Some(address));
            committer.run_once(now);
            let mut completed = 0;
            let completing = allocation_counter::measure(|| {
                shard.leases.completed(|_, _| completed += 1);
            });
            assert_eq!(completed, 1);
            if warm {
                let all = [discovering, selecting, renewing, completing];
                counted += all.iter().map(|info| info.count_total).sum::<u64>();
            }
        }
    }
    assert_eq!(counted, 0, "heap allocations on the steady path");
    let noted = (4..=255)
        .filter(|&host| !shard.notes.of(Ipv4Addr::new(10, 1, 4, host), &shard.quirks).is_empty());
    assert!(noted.count() > 0, "machines with quirks are among them");
}

#[test]
fn a_host_with_an_option_of_its_own_owns_its_name_and_its_options() {
    const HOSTS: u32 = 10_000;
    let host = |number: u32| {
        let name = format!("n{number:05}");
        let [_, _, a, b] = number.to_be_bytes();
        let mut host = Host {
            name: name.as_str().into(),
            keys: vec![HostKey::Hardware([2, 0, 0, 0, a, b].into())],
            ips: vec![Ipv4Addr::new(10, 1, a, b)],
            group: None,
            scope: Scope::default(),
        };
        host.scope.options = OptionSet::new([(12, name.into_bytes())]);
        host
    };
    let mut hosts = Hosts::default();
    let info = allocation_counter::measure(|| hosts = (0..HOSTS).map(host).collect());
    assert_eq!(hosts.len(), HOSTS as usize);
    let (hosts, lists) = (i64::from(HOSTS), 20);
    assert!(info.count_current <= 2 * hosts + lists, "{info:?}");
    assert!(info.bytes_current <= 200 * hosts, "{info:?}");
}

// The counter counts: a test that cannot fail proves nothing.
#[test]
fn the_counter_sees_an_allocation() {
    let info = allocation_counter::measure(|| {
        std::hint::black_box(Box::new(7_u64));
    });
    assert_eq!(info.count_total, 1);
}
