//! Where less is granted than asked for: quirks, and clients whose windows lost much.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_net::sim::Faults;

use super::clients::{Plan, content};
use super::simulation::Simulation;
use crate::event::Detail;
use crate::quirks::{BUILT_IN, BuiltIn, Quirk, Quirks, TftpOption};
use crate::tftp::TftpServer;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const UEFI: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";

fn simulation(faults: Faults, quirks: &Quirks) -> Simulation {
    let simulation = Simulation::new(1, faults, |config| {
        config.quirks = quirks.clone();
        config.clamp_to_mtu = false;
    });
    simulation.file("loader", &content(100_000, 1));
    simulation
}

/// Notes the quirks of a class for [`CLIENT`], as DHCP does when it assigns the address.
fn give_address(simulation: &Simulation, quirks: &Quirks, class: &[u8]) {
    simulation.server.notes.note(CLIENT, quirks, quirks.of(&[0x52, 0x54, 0, 0, 0, 1], class));
}

/// The blksize and windowsize granted when 1468 and 4 are asked for; 0 where the OACK has none.
fn granted(simulation: &mut Simulation) -> (u16, u16) {
    let client = simulation.add(Plan::get("loader").options(1468, 4));
    simulation.run();
    simulation.drain();
    assert!(simulation.bytes(client) == content(100_000, 1));
    let granted = simulation.clients.list[client].granted;
    (granted.blksize.unwrap_or(0), granted.windowsize.unwrap_or(0))
}

#[test]
fn a_machine_with_quirks_is_granted_less_until_its_address_is_anothers() {
    let quirks = Quirks::new(BUILT_IN.iter().map(BuiltIn::quirk).collect());
    let mut simulation = simulation(Faults::default(), &quirks);
    assert_eq!(granted(&mut simulation), (1468, 4), "nothing is noted");
    give_address(&simulation, &quirks, UEFI);
    assert_eq!(granted(&mut simulation), (1024, 1));
    let named: Vec<String> = simulation.shards[0]
        .1
        .events
        .iter()
        .map(|event| {
            let Detail::Transfer { quirks, .. } = event.detail else { panic!("{event:?}") };
            format!("{:?} {quirks:?}", event.kind)
        })
        .collect();
    let both = "edk2-windowsize,ovmf-blksize";
    assert_eq!(
        named,
        [
            "TransferStarted ".to_owned(),
            "TransferFinished ".to_owned(),
            format!("TransferStarted {both}"),
            format!("TransferFinished {both}"),
        ]
    );
    give_address(&simulation, &quirks, b"PXEClient:Arch:00000:UNDI:002001");
    assert_eq!(granted(&mut simulation), (1468, 4), "bios-fragments has nothing to lower");
    let counted = simulation.all_metrics().quirks.values(["bios-fragments"].into_iter());
    let counted: Vec<(&str, u64)> = counted.iter().map(|(name, &count)| (&**name, count)).collect();
    assert_eq!(counted, [("bios-fragments", 0), ("edk2-windowsize", 1), ("ovmf-blksize", 1)]);
}

#[test]
fn without_options_the_transfer_is_one_of_rfc_1350() {
    let all = TftpOption::ALL.into_iter().map(|(_, option)| option).collect();
    let rfc1350 = Quirk {
        name: "rfc1350".into(),
        vendor_class: Vec::new(),
        mac_prefix: vec![[0x52].into()],
        max_blksize: None,
        max_windowsize: None,
        ignore_options: all,
        min_retry: None,
        reply_delay: None,
    };
    let quirks = Quirks::new(vec![rfc1350]);
    let mut simulation = simulation(Faults::default(), &quirks);
    give_address(&simulation, &quirks, UEFI);
    assert_eq!(granted(&mut simulation), (0, 0));
    let client = &simulation.clients.list[0];
    assert!(!client.granted.needs_option_ack());
}

#[test]
fn a_reload_switches_quirks_off_at_once_and_on_for_addresses_given_later() {
    let on = Quirks::new(BUILT_IN.iter().map(BuiltIn::quirk).collect());
    let mut simulation = simulation(Faults::default(), &on);
    give_address(&simulation, &on, UEFI);
    assert_eq!(granted(&mut simulation), (1024, 1));
    let mut config = crate::config::Tftp::new(simulation.path(""));
    config.quirks = Quirks::new(Vec::new());
    simulation.server.apply(TftpServer::prepare(&config).unwrap());
    assert_eq!(granted(&mut simulation), (1468, 4));
    config.quirks = Quirks::default();
    simulation.server.apply(TftpServer::prepare(&config).unwrap());
    give_address(&simulation, &config.quirks, UEFI);
    assert_eq!(granted(&mut simulation), (1468, 4), "bios-fragments is not UEFI's");
}

/// The windows granted to clients of one address, one after another, when 16 is asked for.
fn windows(simulation: &mut Simulation, count: usize) -> Vec<u16> {
    let mut windows = Vec::new();
    for _ in 0..count {
        let client = simulation.add(Plan::get("loader").options(512, 16));
        simulation.run();
        simulation.drain();
        assert!(simulation.bytes(client) == content(100_000, 1));
        windows.push(simulation.clients.list[client].granted.windowsize.unwrap());
    }
    windows
}

#[test]
fn windows_shrink_where_much_is_lost_and_grow_where_nothing_is() {
    let lossy = Faults {
        loss: 0.15,
        delay: Duration::from_micros(100)..Duration::from_micros(200),
        ..Faults::default()
    };
    let mut simulation = simulation(lossy, &Quirks::default());
    assert_eq!(windows(&mut simulation, 6), [16, 8, 4, 2, 1, 1]);
    simulation.network.set_faults(Faults::default());
    assert_eq!(windows(&mut simulation, 6)[1..], [2, 4, 8, 16, 16]);
    assert!(simulation.metrics(0).windows_narrowed.get() >= 9);
}

#[test]
fn a_loss_now_and_then_narrows_nothing() {
    let mut simulation = simulation(Faults { loss: 0.01, ..Faults::default() }, &Quirks::default());
    assert_eq!(windows(&mut simulation, 8), [16; 8]);
    assert!(simulation.metrics(0).retransmits.get() > 0);
}

#[test]
fn windows_stay_where_they_are_told_to() {
    let lossy = Faults { loss: 0.1, ..Faults::default() };
    let mut simulation = Simulation::new(1, lossy, |config| config.adaptive_windowsize = false);
    simulation.file("loader", &content(100_000, 1));
    assert_eq!(windows(&mut simulation, 4), [16; 4]);
}
