//! Firmware waits, repeats and gives up as its specification says, and the same seed makes the same
//! storm.

use bootstorm_protocols::dhcpv4::{Message, MessageType, options};

use crate::run::{Ended, play, play_and};
use crate::server::Fault;

fn one(program: &str) -> String {
    format!(
        "name = \"one\"\nsummary = \"One machine.\"\nmachines = 1\nlimit = \"10m\"\n\
         [firmware]\n{program} = 1\n[[stage]]\ndhcp = \"firmware\"\n"
    )
}

/// When the messages of a kind came, in whole seconds.
fn seconds(ended: &Ended, kind: MessageType) -> Vec<u64> {
    let of_kind = |(at, found): (f64, MessageType)| (found == kind).then_some(at.round() as u64);
    ended.server.messages().into_iter().filter_map(of_kind).collect()
}

fn giveups(ended: &Ended) -> Vec<(String, u64)> {
    ended.clients.metrics.giveups().into_iter().map(|row| (row.reason, row.count)).collect()
}

#[test]
fn pxe_asks_four_times_and_gives_up() {
    for program in ["pxe-bios", "edk2"] {
        let ended = play(&one(program), 1, Fault::Silent);
        assert_eq!(seconds(&ended, MessageType::Discover), [0, 4, 12, 28], "{program}");
        assert_eq!(giveups(&ended), [("no OFFER".to_owned(), 1)]);
    }
}

#[test]
fn each_firmware_repeats_its_request_in_its_own_way() {
    let requests = |program| {
        let ended = play(&one(program), 1, Fault::OffersOnly);
        assert_eq!(giveups(&ended), [("no ACK".to_owned(), 1)], "{program}");
        seconds(&ended, MessageType::Request)
    };
    assert_eq!(requests("pxe-bios"), [0, 1, 3, 6]);
    // EDK2 collects offers for its first four seconds.
    assert_eq!(requests("edk2"), [4, 8, 16, 32]);
}

#[test]
fn who_is_refused_begins_anew_but_not_for_ever() {
    let ended = play(&one("plain"), 1, Fault::Naks);
    assert_eq!(giveups(&ended), [("NAK".to_owned(), 1)]);
    let dhcp = ended.clients.metrics.dhcp();
    assert_eq!((dhcp.discovers, dhcp.naks, dhcp.unanswered), (3, 3, 0));
}

#[test]
fn ipxe_waits_for_a_proxy_unless_the_offer_says_that_there_is_none() {
    let text = one("plain").replace("dhcp = \"firmware\"", "dhcp = \"ipxe\"");
    // Its banner takes two seconds; then it asks again after one, and takes the offer after three.
    for fault in [Fault::Nothing, Fault::NoProxy(0)] {
        let ended = play(&text, 1, fault);
        assert_eq!(seconds(&ended, MessageType::Discover), [2, 3], "{fault:?}");
        assert_eq!(seconds(&ended, MessageType::Request), [5], "{fault:?}");
    }
    for fault in [Fault::PxeServer, Fault::NoProxy(1)] {
        let ended = play(&text, 1, fault);
        assert_eq!(seconds(&ended, MessageType::Discover), [2], "{fault:?}");
        assert_eq!(seconds(&ended, MessageType::Request), [2], "{fault:?}");
    }
}

#[test]
fn a_lease_is_renewed_at_a_half_and_a_machine_that_hears_nothing_begins_again() {
    let text = one("plain").replace("limit = \"10m\"", "limit = \"130s\"\nrenew = true");
    let ended = play(&text, 1, Fault::Nothing);
    // The lease is 100 s long; each answer begins a new one.
    assert_eq!(seconds(&ended, MessageType::Request), [0, 50, 100]);
    assert_eq!(ended.clients.metrics.dhcp.renewals, 2);
    assert_eq!(ended.violations(), [""; 0]);
}

const ROW: &str = r#"
name = "row"
summary = "Thirty machines, everything they do."
machines = 30
limit = "5m"
expect-boot-file = { pxe-bios = "boot.img", edk2 = "boot.img" }
[arrival]
rack = 10
every = "500ms"
post = ["1s", "4s"]
[firmware]
edk2 = 1
pxe-bios = 1
[network]
loss = "3%"
duplicate = "2%"
reorder = "2%"
jitter = "3ms"
[[stage]]
dhcp = "firmware"
[[stage]]
tftp = ["@boot-file"]
[[stage]]
dhcp = "ipxe"
[[stage]]
dhcp = "installer"
"#;

#[test]
fn the_same_seed_is_the_same_storm_packet_for_packet() {
    let storm = |seed| {
        let ended = play(ROW, seed, Fault::Nothing);
        assert_eq!(ended.clients.metrics.machines(30, 0).up, 30, "{:?}", giveups(&ended));
        assert_eq!(ended.violations(), [""; 0]);
        (ended.clients.schedule(), ended.server.heard)
    };
    let (first, second) = (storm(5), storm(5));
    assert_eq!(first, second);
    let (other, _) = storm(6);
    assert_ne!(first.0, other);
}

#[test]
fn loss_duplicates_and_reordering_cost_time_and_nothing_else() {
    let ended = play(ROW, 11, Fault::Nothing);
    let metrics = &ended.clients.metrics;
    assert!(metrics.dhcp.retransmissions + metrics.tftp.figures.retransmissions > 0);
    assert!(metrics.dhcp.late > 0, "{:?}", metrics.dhcp);
    assert_eq!(metrics.machines(30, 0).up, 30);
}

#[test]
fn racks_that_lose_power_come_back() {
    let cuts = "[power-cuts]\ntimes = 3\nafter = [\"2s\", \"9s\"]\noff = \"1s\"\n[[stage]]";
    let ended = play(&ROW.replacen("[[stage]]", cuts, 1), 3, Fault::Nothing);
    let machines = ended.clients.metrics.machines(30, 0);
    assert_eq!(machines.up, 30);
    assert!(machines.boots > 60, "{machines:?}");
    assert_eq!(ended.violations(), [""; 0]);
}

#[test]
fn machines_that_decline_come_up_with_another_exchange() {
    let text = one("plain").replace("machines = 1", "machines = 40");
    let text = text.replace("[firmware]", "[decline]\nshare = \"50%\"\ntimes = 1\n[firmware]");
    let ended = play(&text, 3, Fault::Nothing);
    let dhcp = ended.clients.metrics.dhcp();
    assert_eq!(ended.clients.metrics.machines(40, 0).up, 40);
    assert_eq!(dhcp.exchanges, 40 + dhcp.declines);
    assert!((10..30).contains(&dhcp.declines), "{dhcp:?}");
    // This server offers a declined address again, which is a violation.
    assert_eq!(ended.violations(), ["declined-address"]);
}

#[test]
fn what_fails_is_infinitely_late_in_every_quantile() {
    let text = one("plain").replace("machines = 1\n", "machines = 10\n");
    let ended = play(&text, 1, Fault::OffersOnly);
    let latency = ended.clients.metrics.latency();
    let found = |what: &str| {
        let found = &latency[what];
        (found.count, found.failed, found.with_failures().p50.is_some())
    };
    assert_eq!(found("offer"), (10, 0, true));
    assert_eq!(found("ack"), (0, 10, false));
    assert_eq!(found("dora"), (0, 10, false));
    assert_eq!(found("boot"), (0, 10, false));
    // Half of all answers failed, so half of them did not.
    assert_eq!(found("answer"), (10, 10, true));
    assert_eq!(latency["answer"].with_failures().p90, None);
    // A NAK is no answer in time either, though it came.
    let naks = play(&text, 1, Fault::Naks).clients.metrics.latency();
    assert_eq!((naks["ack"].failed, naks["ack"].with_failures().p50), (30, None));
}

/// What the server was asked, a line each: type, ciaddr, options 50 and 54.
fn asked(ended: &Ended) -> Vec<String> {
    let line = |bytes: &Vec<u8>| {
        let message = Message::parse(bytes).ok()?;
        let kind = message.message_type()?;
        let address = message.option(options::REQUESTED_ADDRESS).and_then(|data| data.ipv4());
        let server = message.server_identifier();
        Some(format!("{kind:?} {} {address:?} {server:?}", message.ciaddr()))
    };
    ended.server.heard.iter().filter_map(|(_, _, bytes)| line(bytes)).collect()
}

const LIFE: &str = r#"
name = "life"
summary = "An installed machine."
machines = 1
limit = "5m"
[[stage]]
dhcp = "installer"
[[stage]]
reboot = "installer"
[[stage]]
inform = "installer"
[[stage]]
release = "installer"
"#;

#[test]
fn an_installed_machine_confirms_asks_for_parameters_and_releases() {
    let ended = play(LIFE, 1, Fault::Nothing);
    let (a, server) = ("10.9.1.0", "10.9.255.1");
    assert_eq!(
        asked(&ended),
        [
            "Discover 0.0.0.0 None None".to_owned(),
            format!("Request 0.0.0.0 Some({a}) Some({server})"),
            format!("Request 0.0.0.0 Some({a}) None"),
            format!("Inform {a} None None"),
            format!("Release {a} None Some({server})"),
        ]
    );
    let dhcp = ended.clients.metrics.dhcp();
    assert_eq!((dhcp.exchanges, dhcp.reboots, dhcp.informs, dhcp.releases), (1, 1, 1, 1));
    assert_eq!(ended.violations(), [""; 0]);
    assert_eq!(ended.clients.metrics.machines(1, 0).up, 1);
}

#[test]
fn an_answer_to_an_inform_gives_no_lease() {
    assert_eq!(play(LIFE, 1, Fault::InformLease).violations(), ["inform-ack"]);
}

#[test]
fn an_address_that_nobody_confirms_is_asked_for_anew() {
    let ended = play(LIFE, 1, Fault::NaksReboot);
    let kinds: Vec<_> = ended.server.messages().into_iter().map(|(_, kind)| kind).collect();
    use MessageType::{Discover, Inform, Release, Request};
    assert_eq!(kinds, [Discover, Request, Request, Discover, Request, Inform, Release]);
}

#[test]
fn after_a_trial_machines_give_back_what_they_hold() {
    let text = one("plain").replace("machines = 1\n", "machines = 50\n");
    let ended = play_and(&text, 1, Fault::Nothing, Some(1000));
    let released = asked(&ended).into_iter().filter(|line| line.starts_with("Release"));
    let mut addresses: Vec<String> = released.map(|line| line.replace("Release ", "")).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50);
    assert!(ended.clients.validator.leases().is_empty());
}
