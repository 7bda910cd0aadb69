//! Another server, which is this one with another configuration, and its clients.

use std::path::Path;

use super::*;
use crate::dhcp::ReplyCache;
use crate::explain::Asked;

const HALL: &str = r#"
[dhcp]
authoritative = true
lease-time = "1h"

[[dhcp.subnet]]
subnet = "10.1.0.0/16"
pools = ["10.1.4.0-10.1.4.9"]
options = { routers = ["10.1.0.1"], domain-name = "rack.example" }

[[dhcp.host]]
name = "n01"
hardware = "52:54:00:00:00:11"
ip = "10.1.0.17"
"#;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 6);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);

fn configuration(text: &str) -> Config {
    crate::config::parse(Path::new("test.toml"), text.as_bytes()).unwrap()
}

/// The server that is there.
struct Other {
    config: Config,
    leases: ShardLeases,
    committer: Committer,
    now: Moment,
}

impl Other {
    fn new(text: &str) -> Self {
        let config = configuration(text);
        let store = Arc::new(MemoryStore::default());
        let leases = Leases::open(store, &config.dhcp, 1, Clock::default()).unwrap();
        let (shard, committer) = (leases.shard(0, || ()), leases.committer());
        Self { config, leases: shard, committer, now: Moment::from_nanos(1_000_000_000) }
    }

    fn answer(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(payload).unwrap();
        let own = [SERVER];
        let arrival = Arrival {
            ifindex: 1,
            interface: &own,
            server: &own,
            mtu: 1500,
            destination: Some(*EVERYBODY.ip()),
            source: CLIENT,
        };
        let arena = Bump::new();
        let dhcp = &self.config.dhcp;
        let decision = dhcp::answer(&message, &arrival, dhcp, &mut self.leases, self.now, &arena);
        self.leases.submit(decision.changes, None, self.now).unwrap();
        self.committer.run_once(self.now);
        let reply = decision.action.reply()?;
        let mut buf = [0; 2048];
        let len = reply.write(&mut ReplyCache::default(), &mut buf);
        Some(buf[..len].to_vec())
    }

    /// A message and its answer, as the rehearsal sees them.
    fn exchange(
        &mut self,
        payload: &[u8],
        rehearsal: &mut Rehearsal<'_>,
    ) -> (Option<Vec<u8>>, Vec<Differing>) {
        self.now = self.now + Duration::from_millis(1);
        let (at, source) = (self.now, CLIENT);
        let mut found = rehearsal.see(&Seen { at, source, destination: EVERYBODY, payload });
        let answer = self.answer(payload);
        if let Some(payload) = &answer {
            let source = SocketAddrV4::new(SERVER, 67);
            let destination = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
            found.extend(rehearsal.see(&Seen { at, source, destination, payload }));
        }
        (answer, found)
    }

    /// A client's four messages: its address, and what differs.
    fn lease(
        &mut self,
        asked: &Asked,
        rehearsal: &mut Rehearsal<'_>,
    ) -> (Ipv4Addr, Vec<Differing>) {
        let discover = asked.message(None).unwrap();
        let (offer, mut found) = self.exchange(&discover, rehearsal);
        let offer = offer.unwrap();
        let offer = Message::parse(&offer).unwrap();
        let (ip, server) = (offer.yiaddr(), offer.server_identifier());
        let request = asked.message(Some((ip, server))).unwrap();
        found.extend(self.exchange(&request, rehearsal).1);
        (ip, found)
    }
}

fn machine(last: u8) -> Asked {
    Asked { mac: format!("52:54:00:00:00:{last:02x}"), ..Asked::default() }
}

fn rehearsal(config: &Config) -> Rehearsal<'_> {
    Rehearsal::new(config, Clock::default(), &[], &[]).unwrap()
}

fn differences(found: &[Differing]) -> Vec<(&str, &str, &str)> {
    let all = found.iter().flat_map(|each| &each.differences);
    all.map(|each| (&*each.what, &*each.theirs, &*each.ours)).collect()
}

#[test]
fn the_same_configuration_is_safe_to_switch_to() {
    let config = configuration(HALL);
    let mut rehearsal = rehearsal(&config);
    let mut other = Other::new(HALL);
    for last in [0x11, 1, 2, 3, 1, 0x11] {
        let (_, found) = other.lease(&machine(last), &mut rehearsal);
        assert_eq!(differences(&found), []);
    }
    let (found, summary) = rehearsal.finish();
    assert_eq!(differences(&found), []);
    assert!(summary.safe, "{summary:?}");
    assert_eq!((summary.clients, summary.compared), (4, 12));
}

#[test]
fn each_difference_is_told_once_for_each_client_with_its_place() {
    let text = HALL.replace("10.1.0.1\"", "10.1.0.254\"");
    let config = configuration(&text);
    let mut rehearsal = rehearsal(&config);
    let mut other = Other::new(HALL);
    let (_, found) = other.lease(&machine(1), &mut rehearsal);
    assert_eq!(differences(&found), [("option 3 routers", "10.1.0.1", "10.1.0.254")]);
    assert!(found[0].differences[0].from.starts_with("subnet 10.1.0.0/16"), "{found:?}");
    let (_, again) = other.lease(&machine(1), &mut rehearsal);
    assert_eq!(differences(&again), []);
    other.lease(&machine(2), &mut rehearsal);
    let summary = rehearsal.finish().1;
    assert!(!summary.safe && summary.clients_differing == 2, "{summary:?}");
    assert_eq!(summary.by_difference.get("option 3 routers"), Some(&2));
}

#[test]
fn any_free_address_will_do_for_a_new_client_and_only_its_own_for_one_that_comes_back() {
    let config = configuration(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.3-10.1.4.9"));
    let mut rehearsal = rehearsal(&config);
    let mut other = Other::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.5-10.1.4.9"));
    let (first, found) = other.lease(&machine(1), &mut rehearsal);
    assert_eq!((first, differences(&found)), (Ipv4Addr::new(10, 1, 4, 5), vec![]));
    // It comes back, and gets what it has: that was learned.
    let (again, found) = other.lease(&machine(1), &mut rehearsal);
    assert_eq!((again, differences(&found)), (first, vec![]));
    // Another server forgets it.
    let mut other = Other::new(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.4.7-10.1.4.9"));
    let (_, found) = other.lease(&machine(1), &mut rehearsal);
    assert!(differences(&found).contains(&("address", "10.1.4.7", "10.1.4.5")), "{found:?}");
}

#[test]
fn an_address_that_could_not_have_been_given_differs() {
    let config = configuration(&HALL.replace("10.1.4.0-10.1.4.9", "10.1.5.0-10.1.5.9"));
    let mut rehearsal = rehearsal(&config);
    let (_, found) = Other::new(HALL).lease(&machine(1), &mut rehearsal);
    assert_eq!(
        differences(&found)[0],
        ("address", "10.1.4.0", "10.1.5.0"),
        "the OFFER, and then the REQUEST: {found:?}"
    );
    assert!(differences(&found).iter().any(|(what, ..)| *what == "answer"), "{found:?}");
}

#[test]
fn silence_of_either_server_is_told() {
    let strict = HALL.replace("[dhcp]", "[dhcp]\nboot-unknown-clients = false");
    let config = configuration(&strict);
    let mut here = rehearsal(&config);
    let discover = machine(1).message(None).unwrap();
    let (_, found) = Other::new(HALL).exchange(&discover, &mut here);
    assert_eq!(differences(&found), [("answer", "OFFER", "silence: unknown client ignored")]);
    assert!(found[0].differences[0].from.contains("boot-unknown-clients = true"), "{found:?}");
    let config = configuration(HALL);
    let mut here = rehearsal(&config);
    let mut other = Other::new(&strict);
    // Before anything is heard of the other server, it may not be there.
    other.exchange(&discover, &mut here);
    other.now = other.now + Duration::from_secs(60);
    let (_, found) = other.lease(&machine(0x11), &mut here);
    assert_eq!(differences(&found), []);
    other.exchange(&discover, &mut here);
    other.now = other.now + Duration::from_secs(60);
    let (_, found) = other.lease(&machine(0x11), &mut here);
    assert_eq!(differences(&found), [("answer", "silence", "OFFER")]);
}

#[test]
fn so_many_messages_wait_and_no_more() {
    let strict = HALL.replace("[dhcp]", "[dhcp]\nboot-unknown-clients = false");
    let config = configuration(HALL);
    let mut here = rehearsal(&config);
    let mut other = Other::new(&strict);
    // The other server is there.
    other.lease(&machine(0x11), &mut here);
    let mut found = Vec::new();
    let count = WAITING + 10;
    for number in 0..count {
        let [.., high, middle, low] = (number as u32).to_be_bytes();
        let mac = format!("52:54:01:{high:02x}:{middle:02x}:{low:02x}");
        let discover = Asked { mac, ..Asked::default() }.message(None).unwrap();
        let at = other.now;
        let (source, destination) = (CLIENT, EVERYBODY);
        found.extend(here.see(&Seen { at, source, destination, payload: &discover }));
        assert!(here.waiting.len() <= WAITING && here.order.len() <= 2 * WAITING);
    }
    // Ten had to make room, the oldest ones; each differs, for this server would have answered.
    assert_eq!(found.len(), 10);
    assert_eq!((&*found[0].mac, &*found[9].mac), ("52:54:01:00:00:00", "52:54:01:00:00:09"));
    other.now = other.now + Duration::from_secs(60);
    let (_, found) = other.lease(&machine(0x11), &mut here);
    assert_eq!(found.len(), WAITING);
    assert!(here.waiting.is_empty());
}

/// An Ethernet frame around a payload.
fn frame(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    use bootstorm_protocols::frame::{HEADROOM, UdpFrame};
    let mut frame = vec![0; HEADROOM + payload.len()];
    frame[HEADROOM..].copy_from_slice(payload);
    let addresses = UdpFrame { src_mac: [2; 6], dst_mac: [0xff; 6], src: source, dst: destination };
    addresses.seal(&mut frame, payload.len()).unwrap();
    frame
}

/// The same frames as pcap and as pcapng, one a second from 1,700,000,000 on.
fn captures(frames: &[Vec<u8>], link: u16) -> [Vec<u8>; 2] {
    let u32s = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut classic = u32s(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, link.into()]);
    let mut next = u32s(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    next.extend(u32s(&[1, 20, link.into(), 65535, 20]));
    for (number, frame) in frames.iter().enumerate() {
        let (seconds, len) = (1_700_000_000 + number as u32, frame.len() as u32);
        classic.extend(u32s(&[seconds, 5, len, len]));
        classic.extend(frame);
        let micros = u64::from(seconds) * 1_000_000 + 5;
        let padded = frame.len().next_multiple_of(4);
        let whole = 32 + padded as u32;
        next.extend(u32s(&[6, whole, 0, (micros >> 32) as u32, micros as u32, len, len]));
        next.extend(frame);
        next.resize(next.len() + padded - frame.len(), 0);
        next.extend(u32s(&[whole]));
    }
    [classic, next]
}

/// When, and which payload.
type Payloads = Vec<(u64, Vec<u8>)>;

fn read(bytes: &[u8]) -> (Payloads, Result<(), CaptureError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    std::fs::write(&path, bytes).unwrap();
    let mut seen = Vec::new();
    let result = Frames::open(&path).and_then(|frames| {
        frames.each(|each| seen.push((each.at.as_nanos(), each.payload.to_vec())))
    });
    (seen, result)
}

#[test]
fn captures_of_both_formats_are_read() {
    let frames =
        [frame(CLIENT, EVERYBODY, &[1; 301]), vec![0; 60], frame(EVERYBODY, CLIENT, &[2; 300])];
    for bytes in captures(&frames, 1) {
        let (seen, result) = read(&bytes);
        assert!(result.is_ok(), "{result:?}");
        let at = |second: u64| (1_700_000_000 + second) * 1_000_000_000 + 5000;
        assert_eq!(seen, [(at(0), vec![1; 301]), (at(2), vec![2; 300])]);
        // As tcpdump leaves it when it is killed.
        let (seen, result) = read(&bytes[..bytes.len() - 40]);
        assert!(result.is_ok() && seen.len() == 1, "{result:?}");
    }
}

#[test]
fn what_is_no_capture_of_ethernet_is_refused() {
    assert!(matches!(read(b"hello, this is no capture").1, Err(CaptureError::Format(_))));
    assert!(read(b"").1.is_err());
    for bytes in captures(&[], 113) {
        assert!(matches!(read(&bytes).1, Err(CaptureError::LinkType(113))));
    }
}
