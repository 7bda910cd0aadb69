//! Who has a quirk, what it changes, and what is remembered of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::{ETHERNET, Header, MessageWriter};
use bootstorm_protocols::tftp::Negotiated;
use proptest::prelude::*;

use super::*;

/// A DISCOVER of a machine that says this of itself.
pub(crate) fn discover(mac: [u8; 6], class: Option<&[u8]>) -> Vec<u8> {
    let header = Header::request(ETHERNET, &mac, 7);
    let mut buf = [0; 600];
    let mut writer = MessageWriter::new(&mut buf, 600, &header).unwrap();
    writer.option(53, &[1]).unwrap();
    if let Some(class) = class {
        writer.option(60, class).unwrap();
    }
    let len = writer.finish();
    buf[..len].to_vec()
}

const QEMU: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const OTHER: [u8; 6] = [0x0c, 0xc4, 0x7a, 1, 2, 3];
const UEFI: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";
const BIOS: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";

fn built_in(name: &str) -> Quirk {
    BUILT_IN.iter().find(|quirk| quirk.name == name).unwrap().quirk()
}

fn has(quirk: &Quirk, mac: [u8; 6], class: Option<&[u8]>) -> bool {
    quirk.matches(&mac, class.unwrap_or_default())
}

fn custom(name: &str) -> Quirk {
    Quirk {
        name: name.into(),
        vendor_class: vec![b"PXEClient"[..].into()],
        mac_prefix: Vec::new(),
        max_blksize: None,
        max_windowsize: None,
        ignore_options: Vec::new(),
        min_retry: None,
        reply_delay: None,
    }
}

const ASKED: Negotiated = Negotiated {
    blksize: Some(1468),
    windowsize: Some(4),
    timeout: None,
    tsize: Some(0),
    rollover: None,
    multicast: None,
};

fn terms(negotiated: Negotiated) -> Terms {
    Terms { negotiated, min_retry: Duration::from_millis(200) }
}

#[test]
fn class_and_hardware_address_must_both_fit() {
    let ovmf = built_in("ovmf-blksize");
    assert!(has(&ovmf, QEMU, Some(UEFI)));
    assert!(!has(&ovmf, OTHER, Some(UEFI)));
    assert!(!has(&ovmf, QEMU, Some(BIOS)));
    assert!(!has(&ovmf, QEMU, None));
    let bios = built_in("bios-fragments");
    assert!(has(&bios, OTHER, Some(BIOS)) && !has(&bios, OTHER, Some(UEFI)));
    // A beginning, not a part.
    assert!(!has(&bios, OTHER, Some(b"xPXEClient:Arch:00000")));
    assert!(!has(&bios, OTHER, Some(b"PXEClient:Arch:0000")));
    let either = Quirk { mac_prefix: vec![[0x0c].into(), [0x52, 0x54].into()], ..custom("either") };
    assert!(has(&either, QEMU, Some(BIOS)) && has(&either, OTHER, Some(UEFI)));
    assert!(!has(&either, [2, 0, 0, 0, 0, 1], Some(BIOS)));
}

#[test]
fn a_quirk_lowers_and_never_raises() {
    let both = Quirk { max_blksize: Some(1024), max_windowsize: Some(1), ..custom("both") };
    let mut granted = terms(ASKED);
    assert!(both.apply(&mut granted));
    assert_eq!(
        granted.negotiated,
        Negotiated { blksize: Some(1024), windowsize: Some(1), ..ASKED }
    );
    assert!(!both.apply(&mut granted), "it is granted already");
    // Who asked for nothing gets RFC 1350, without an OACK.
    let mut nothing = terms(Negotiated::default());
    assert!(!both.apply(&mut nothing) && !nothing.negotiated.needs_option_ack());
}

#[test]
fn the_loader_of_a_raspberry_pi_is_given_a_second_and_its_system_is_not() {
    const PI: [u8; 6] = [0xdc, 0xa6, 0x32, 1, 2, 3];
    let on = Quirks::default();
    let seconds = |mac: [u8; 6], class: Option<&[u8]>| {
        let set = on.of(&mac, class.unwrap_or_default());
        let mut granted = terms(ASKED);
        on.apply(set, &mut granted, |_| {});
        (granted.negotiated == ASKED).then_some(granted.min_retry)
    };
    assert_eq!(seconds(PI, Some(BIOS)), Some(Duration::from_secs(1)));
    assert_eq!(seconds(OTHER, Some(BIOS)), Some(Duration::from_millis(200)));
    assert_eq!(seconds(PI, Some(b"dhcpcd-9.4.1")), Some(Duration::from_millis(200)));
    assert_eq!(seconds(PI, None), Some(Duration::from_millis(200)));
}

#[test]
fn an_ignored_option_is_not_answered() {
    let tsize = Quirk { ignore_options: vec![TftpOption::Tsize], ..custom("tsize") };
    let mut granted = terms(ASKED);
    assert!(tsize.apply(&mut granted));
    assert_eq!(granted.negotiated, Negotiated { tsize: None, ..ASKED });
    let all = TftpOption::ALL.into_iter().map(|(_, option)| option).collect();
    let mut granted = terms(Negotiated {
        timeout: Some(3),
        rollover: Some(Default::default()),
        multicast: Some(Default::default()),
        ..ASKED
    });
    assert!(Quirk { ignore_options: all, ..custom("all") }.apply(&mut granted));
    assert!(!granted.negotiated.needs_option_ack());
}

#[test]
fn those_that_are_on_slow_nobody_on_a_usual_network() {
    let on = Quirks::default();
    assert_eq!(
        on.iter().map(|quirk| &*quirk.name).collect::<Vec<_>>(),
        ["bios-fragments", "raspberry-pi-retry", "raspberry-pi-3-offer"]
    );
    for class in [BIOS, UEFI] {
        let set = on.of(&QEMU, class);
        let mut granted = terms(ASKED);
        on.apply(set, &mut granted, |quirk| panic!("{} changed something", quirk.name));
    }
    let mut jumbo = terms(Negotiated { blksize: Some(8968), ..ASKED });
    let mut names = Vec::new();
    let set = on.of(&QEMU, BIOS);
    on.apply(set, &mut jumbo, |quirk| names.push(quirk.name.clone()));
    assert_eq!((jumbo.negotiated.blksize, names.len()), (Some(1468), 1));
}

#[test]
fn names_are_unique_and_short() {
    for (at, quirk) in BUILT_IN.iter().enumerate() {
        assert!(quirk.name.len() <= MAX_NAME);
        assert!(BUILT_IN[..at].iter().all(|other| other.name != quirk.name));
    }
}

fn address(network: u8, host: u16) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(10, network, high, low)
}

#[test]
fn a_note_holds_until_another_machine_has_the_address() {
    let (notes, quirks) = (Notes::default(), Quirks::new(vec![custom("a"), custom("b")]));
    let here = address(1, 7);
    assert!(notes.of(here, &quirks).is_empty());
    notes.note(here, &quirks, QuirkSet(0b10));
    assert_eq!(notes.of(here, &quirks), QuirkSet(0b10));
    assert!(
        notes.of(address(2, 7), &quirks).is_empty() && notes.of(address(1, 8), &quirks).is_empty()
    );
    notes.note(here, &quirks, QuirkSet(0b01));
    assert_eq!(notes.of(here, &quirks), QuirkSet(0b01));
    notes.note(here, &quirks, QuirkSet(0));
    assert!(notes.of(here, &quirks).is_empty());
}

#[test]
fn a_note_means_nothing_to_another_list() {
    let (notes, quirks) = (Notes::default(), Quirks::new(vec![custom("a"), custom("b")]));
    notes.note(address(1, 7), &quirks, QuirkSet(1));
    assert!(notes.of(address(1, 7), &Quirks::new(vec![custom("b"), custom("a")])).is_empty());
    // As a reload that changes nothing makes it.
    let same = Quirks::new(vec![custom("a"), custom("b")]);
    assert_eq!(notes.of(address(1, 7), &same), QuirkSet(1));
}

#[test]
fn whole_networks_fit_side_by_side_and_one_too_many_pushes_out() {
    let (notes, quirks) = (Notes::default(), Quirks::default());
    let hosts =
        || (0..4).flat_map(|network| (0..=u16::MAX).map(move |host| address(network, host)));
    hosts().for_each(|address| notes.note(address, &quirks, QuirkSet(1)));
    assert!(hosts().all(|address| notes.of(address, &quirks) == QuirkSet(1)));
    notes.note(address(9, 7), &quirks, QuirkSet(1));
    assert_eq!(notes.of(address(9, 7), &quirks), QuirkSet(1));
    assert_eq!(hosts().filter(|&address| notes.of(address, &quirks).is_empty()).count(), 1);
}

proptest! {
    #[test]
    fn whatever_is_forbidden_is_not_granted(
        blksize in prop::option::of(8u16..=65_464),
        windowsize in prop::option::of(1u16..),
        max_blksize in prop::option::of(8u16..=65_464),
        max_windowsize in prop::option::of(1u16..),
        ignored in prop::sample::subsequence(TftpOption::ALL.to_vec(), 0..=5),
        min_retry in prop::option::of((0u64..2_000).prop_map(Duration::from_millis)),
    ) {
        let ignore_options = ignored.into_iter().map(|(_, option)| option).collect();
        let quirk =
            Quirk { max_blksize, max_windowsize, ignore_options, min_retry, ..custom("any") };
        let before = terms(Negotiated { blksize, windowsize, ..Negotiated::default() });
        let mut after = before;
        prop_assert_eq!(quirk.apply(&mut after), after != before);
        prop_assert_eq!(after.min_retry, min_retry.unwrap_or_default().max(before.min_retry));
        let (before, after) = (before.negotiated, after.negotiated);
        for (was, is, most) in [
            (before.blksize, after.blksize, max_blksize),
            (before.windowsize, after.windowsize, max_windowsize),
        ] {
            prop_assert!(is.is_none() || is <= was);
            prop_assert!(is.is_none_or(|is| is <= most.unwrap_or(u16::MAX)));
        }
    }
}
