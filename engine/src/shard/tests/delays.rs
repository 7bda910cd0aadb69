//! Replies that wait: `reply-delay` of scopes and of quirks.

use std::sync::atomic::Ordering;

use bootstorm_protocols::dhcpv4::MessageType::{
    self, Ack, Decline, Discover, Nak, Offer, Release, Request,
};
use bootstorm_protocols::dhcpv4::{ETHERNET, Header, Message, MessageWriter, options};

use super::*;
use crate::dhcp::Silence;

/// Machines whose hardware address begins with 02:51 wait 0.2 s, those with 02:52 a second.
const HALL: &str = r#"
[[dhcp.subnet]]
subnet = "10.0.0.0/16"
pools = ["10.0.16.0-10.0.63.255"]
[[dhcp.class]]
name = "soon"
mac-prefix = "02:51"
reply-delay = "200ms"
[[dhcp.class]]
name = "late"
mac-prefix = "02:52"
reply-delay = "1s"
[tftp]
root = "/"
"#;

const AT_ONCE: u8 = 0x50;
const SOON: u8 = 0x51;
const LATE: u8 = 0x52;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The machine with the number, as a relay agent forwards its message.
fn message(kind: MessageType, mac: [u8; 6], number: u32, address: Option<Ipv4Addr>) -> Vec<u8> {
    let header = Header { hops: 1, giaddr: RELAY, ..Header::request(ETHERNET, &mac, number) };
    let mut buf = [0; 600];
    let mut writer = MessageWriter::new(&mut buf, 600, &header).unwrap();
    writer.option(options::MESSAGE_TYPE, &[kind.code()]).unwrap();
    writer.option(options::VENDOR_CLASS_IDENTIFIER, b"PXEClient:Arch:00000").unwrap();
    if let Some(address) = address {
        writer.option(options::REQUESTED_ADDRESS, &address.octets()).unwrap();
    }
    let len = writer.finish();
    buf[..len].to_vec()
}

fn mac(kind: u8, number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, kind, a, b, c, d]
}

impl Lab {
    fn forward(&mut self, kind: MessageType, class: u8, number: u32, address: Option<Ipv4Addr>) {
        self.send(self.relay, RELAY, 67, &message(kind, mac(class, number), number, address));
    }

    fn discover(&mut self, class: u8, number: u32) {
        self.forward(Discover, class, number, None);
    }

    /// Lets time pass; returns what came meanwhile: when, of which type, for which machine.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, MessageType, u32)> {
        let until = self.network.now() + time;
        self.client.1.came.clear();
        self.client.1.alarm = Some(until);
        loop {
            self.client.0.turn(None, &mut self.client.1).unwrap();
            self.server.0.turn(None, &mut self.server.1).unwrap();
            if self.network.now() >= until {
                break;
            }
            self.network.advance();
        }
        self.client.1.alarm = None;
        let came = self.client.1.came.drain(..).map(|(when, payload)| {
            let message = Message::parse(&payload).unwrap();
            let when = when.since(Moment::default());
            (when, message.message_type().unwrap(), message.xid())
        });
        came.collect()
    }

    /// The address that a machine is offered, without a wait for the reply.
    fn offered(&mut self, class: u8, number: u32) -> Ipv4Addr {
        self.discover(class, number);
        let mut offers = Vec::new();
        while offers.is_empty() {
            self.client.1.came.clear();
            self.client.0.turn(None, &mut self.client.1).unwrap();
            self.server.0.turn(None, &mut self.server.1).unwrap();
            offers.extend(self.client.1.came.iter().map(|(_, payload)| payload[16..20].to_vec()));
            self.network.advance();
        }
        let octets: [u8; 4] = offers[0].as_slice().try_into().unwrap();
        Ipv4Addr::from(octets)
    }

    fn commit(&mut self) {
        self.committer.run_once(self.network.now());
    }

    fn undelayed(&self) -> u64 {
        self.metrics.shard(0).unwrap().undelayed.get()
    }
}

/// The way there and back takes 0.1 ms.
fn rounded(came: Vec<(Duration, MessageType, u32)>) -> Vec<(u128, MessageType, u32)> {
    came.into_iter().map(|(when, kind, number)| (when.as_millis(), kind, number)).collect()
}

#[test]
fn an_offer_waits_and_no_other_machine_with_it() {
    let mut lab = Lab::new(HALL);
    for (class, number) in [(LATE, 1), (SOON, 2), (AT_ONCE, 3), (LATE, 4)] {
        lab.discover(class, number);
    }
    let expected = [(0, Offer, 3), (200, Offer, 2), (1000, Offer, 1), (1000, Offer, 4)];
    assert_eq!(rounded(lab.pass(ms(3000))), expected);
    assert!(lab.server.1.is_idle());
    assert_eq!(lab.undelayed(), 0);
    lab.log.stop();
}

#[test]
fn an_ack_waits_for_the_disk_and_for_its_time_since_the_request_came() {
    let mut lab = Lab::new(HALL);
    let (first, second) = (lab.offered(LATE, 1), lab.offered(LATE, 2));
    lab.pass(ms(3000));
    let start = lab.network.now().since(Moment::default()).as_millis();
    lab.forward(Request, LATE, 1, Some(first));
    // INIT-REBOOT of an address that is offered: nothing but the delay is of interest here.
    assert_eq!(lab.pass(ms(300)), []);
    lab.commit();
    lab.forward(Request, LATE, 2, Some(second));
    assert_eq!(rounded(lab.pass(ms(1000))), [(start + 1000, Ack, 1)]);
    // The disk takes longer than the delay.
    assert_eq!(lab.pass(ms(700)), []);
    lab.commit();
    assert_eq!(rounded(lab.pass(ms(700))), [(start + 2000, Ack, 2)]);
    assert_eq!(lab.undelayed(), 0);
    lab.log.stop();
}

#[test]
fn an_ack_whose_lease_is_not_written_never_leaves() {
    let mut lab = Lab::new(HALL);
    let address = lab.offered(LATE, 1);
    lab.pass(ms(3000));
    lab.store.set_failing(true);
    lab.forward(Request, LATE, 1, Some(address));
    assert_eq!(lab.pass(ms(100)), []);
    lab.commit();
    assert_eq!(lab.pass(ms(3000)), []);
    assert!(lab.server.1.is_idle());
    lab.log.stop();
}

#[test]
fn an_ack_whose_address_is_given_back_while_it_waits_never_leaves() {
    let mut lab = Lab::new(HALL);
    let (first, second) = (lab.offered(LATE, 1), lab.offered(LATE, 2));
    lab.pass(ms(3000));
    let start = lab.network.now().since(Moment::default()).as_millis();
    lab.forward(Request, LATE, 1, Some(first));
    lab.forward(Request, LATE, 2, Some(second));
    assert_eq!(lab.pass(ms(100)), []);
    lab.commit();
    assert_eq!(lab.pass(ms(100)), []);
    lab.forward(Decline, LATE, 1, Some(first));
    assert_eq!(rounded(lab.pass(ms(3000))), [(start + 1000, Ack, 2)]);
    lab.commit();
    lab.pass(ms(100));
    assert!(lab.server.1.is_idle());
    lab.log.stop();
}

#[test]
fn an_ack_of_before_a_release_does_not_leave_for_a_lease_that_is_being_written() {
    let mut lab = Lab::new(HALL);
    let address = lab.offered(LATE, 1);
    lab.pass(ms(3000));
    lab.forward(Request, LATE, 1, Some(address));
    lab.pass(ms(100));
    lab.commit();
    // The ACK waits for its delay, when the client gives the address back and asks for it again.
    let mut release = message(Release, mac(LATE, 1), 1, None);
    release[12..16].copy_from_slice(&address.octets());
    lab.send(lab.relay, RELAY, 67, &release);
    lab.pass(ms(100));
    lab.commit();
    lab.pass(ms(100));
    lab.forward(Request, LATE, 1, Some(address));
    assert_eq!(lab.pass(ms(3000)), []);
    lab.commit();
    assert_eq!(lab.pass(ms(100)).len(), 1);
    assert!(lab.server.1.is_idle());
    lab.log.stop();
}

// A NAK is a reply as well.
#[test]
fn a_nak_waits_and_is_counted_when_it_leaves() {
    let mut lab =
        Lab::new(&HALL.replace("[[dhcp.subnet]]", "[dhcp]\nauthoritative = true\n[[dhcp.subnet]]"));
    lab.forward(Request, SOON, 1, Some(Ipv4Addr::new(10, 9, 0, 1)));
    let naks = |lab: &Lab| lab.metrics.shard(0).unwrap().naks.values().collect::<Vec<_>>();
    assert_eq!(lab.pass(ms(100)), []);
    assert_eq!(naks(&lab).iter().sum::<u64>(), 0);
    assert_eq!(rounded(lab.pass(ms(200))), [(200, Nak, 1)]);
    let place = crate::dhcp::NakReason::WrongNetwork.index();
    assert_eq!((naks(&lab)[place], naks(&lab).iter().sum::<u64>()), (1, 1));
    lab.log.stop();
}

#[test]
fn so_many_wait_and_the_others_are_answered_at_once() {
    const MOST: u32 = 1024;
    let mut lab = Lab::new(HALL);
    let mut early = 0;
    for first in (1..=MOST + 60).step_by(32) {
        (first..first + 32).for_each(|number| lab.discover(LATE, number));
        early += lab.pass(ms(2)).len();
    }
    let asked = (1..=MOST + 60).step_by(32).count() * 32;
    assert_eq!(early, asked - MOST as usize);
    assert_eq!(lab.undelayed(), early as u64);
    // Who needs no delay is served as ever.
    lab.discover(AT_ONCE, 9999);
    assert_eq!(lab.pass(ms(1)).len(), 1);
    assert_eq!(lab.pass(ms(1500)).len(), MOST as usize);
    lab.discover(LATE, 10_000);
    assert_eq!((lab.pass(ms(900)).len(), lab.pass(ms(200)).len()), (0, 1));
    assert_eq!(lab.metrics.shard(0).unwrap().send_failures.get(), 0);
    lab.log.stop();
}

#[test]
fn a_server_that_stops_sends_what_waits() {
    let mut lab = Lab::new(HALL);
    let address = lab.offered(LATE, 1);
    lab.pass(ms(3000));
    let start = lab.network.now().since(Moment::default()).as_millis();
    lab.forward(Request, LATE, 1, Some(address));
    lab.discover(SOON, 2);
    lab.pass(ms(10));
    lab.draining.store(true, Ordering::SeqCst);
    lab.commit();
    assert_eq!(rounded(lab.pass(ms(500))), [(start + 200, Offer, 2)]);
    assert!(!lab.server.1.is_idle());
    assert_eq!(rounded(lab.pass(ms(1000))), [(start + 1000, Ack, 1)]);
    assert!(lab.server.1.is_idle());
    lab.log.stop();
}

#[test]
fn a_ping_counts_towards_the_delay() {
    let mut lab = Lab::new(&format!("[dhcp]\nping-check = \"500ms\"\n{HALL}"));
    lab.discover(SOON, 1);
    lab.discover(LATE, 2);
    assert_eq!(rounded(lab.pass(ms(3000))), [(500, Offer, 1), (1000, Offer, 2)]);
    lab.log.stop();
}

#[test]
fn a_raspberry_pi_3_is_answered_after_a_second_unless_the_quirk_is_off() {
    const PI: [u8; 6] = [0xb8, 0x27, 0xeb, 1, 2, 3];
    for (off, millis) in [("", 1000), ("quirks-off = \"raspberry-pi-3-offer\"", 0)] {
        let mut lab = Lab::new(&format!("{HALL}{off}"));
        lab.send(lab.relay, RELAY, 67, &message(Discover, PI, 1, None));
        assert_eq!(rounded(lab.pass(ms(3000))), [(millis, Offer, 1)]);
        lab.log.stop();
    }
}

// Somebody may have a lease of an address that seems free.
#[test]
fn after_damage_no_offer_leaves_without_a_ping() {
    const MOST: u32 = 1024;
    let store = Arc::new(MemoryStore::default());
    store.damage();
    let mut lab = Lab::on(store, HALL);
    let withheld = |lab: &Lab| {
        let silences = &lab.metrics.shard(0).unwrap().silences;
        silences.values().nth(Silence::NotProbed.index())
    };
    let mut early = 0;
    for first in (1..=MOST + 64).step_by(32) {
        (first..first + 32).for_each(|number| lab.discover(AT_ONCE, number));
        early += lab.pass(ms(2)).len();
    }
    assert_eq!((early, withheld(&lab)), (0, Some(64)));
    assert_eq!(lab.pass(ms(3000)).len(), MOST as usize);
    // Nor where the ping cannot be sent.
    let icmp = lab.server.1.sockets.of(Role::Icmp).next().unwrap();
    lab.server.0.remove_socket(icmp).unwrap();
    lab.discover(AT_ONCE, 9999);
    assert_eq!((lab.pass(ms(3000)), withheld(&lab)), (vec![], Some(65)));
    assert_eq!(lab.metrics.shard(0).unwrap().ping_failures.get(), 65);
    assert!(lab.server.1.is_idle());
    lab.log.stop();
}

// That nobody answers a ping that never left says nothing of the address.
#[test]
fn a_ping_that_the_kernel_refuses_later_is_no_answer() {
    let refused = Faults { send_error: 1.0, ..Faults::default() };
    let full = Faults { send_blocked: 1.0, ..Faults::default() };
    for (faults, damaged) in [(&refused, false), (&refused, true), (&full, false), (&full, true)] {
        let store = Arc::new(MemoryStore::default());
        if damaged {
            store.damage();
        }
        let mut lab = Lab::on(store, &format!("[dhcp]\nping-check = \"500ms\"\n{HALL}"));
        lab.discover(AT_ONCE, 1);
        lab.client.0.turn(None, &mut lab.client.1).unwrap();
        lab.network.advance();
        lab.network.set_faults(faults.clone());
        lab.server.0.turn(None, &mut lab.server.1).unwrap();
        let waits = faults.send_blocked > 0.0;
        if waits {
            // As long as an answer is waited for.
            assert_eq!(lab.pass(ms(501)), []);
        }
        lab.network.set_faults(Faults::default());
        let offers = lab.pass(ms(5)).len();
        let metrics = lab.metrics.shard(0).unwrap();
        let withheld = metrics.silences.values().nth(Silence::NotProbed.index()).unwrap();
        assert_eq!((offers, withheld), if damaged { (0, 1) } else { (1, 0) });
        assert_eq!((metrics.ping_failures.get(), metrics.addresses_in_use.get()), (1, 0));
        // The network is whole again: the next one is pinged.
        lab.discover(AT_ONCE, 1);
        assert_eq!((lab.pass(ms(450)).len(), lab.pass(ms(100)).len()), (0, 1));
        assert_eq!(lab.metrics.shard(0).unwrap().ping_failures.get(), 1);
        lab.log.stop();
    }
}
