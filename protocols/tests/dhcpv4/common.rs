//! What the tests share: messages from parts, messages written anew, and values of every type.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::options::{self, Kind};
use bootstorm_protocols::dhcpv4::{
    BOOTREPLY, ETHERNET, Header, Message, MessageWriter, OptionData, domains,
};
use bootstorm_protocols::wire::Writer;
use proptest::collection::vec;
use proptest::prelude::*;

/// Cases of a property: `BOOTSTORM_FUZZ_CASES` makes the same properties a long search.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("BOOTSTORM_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(default))
    }
}

/// Where the parts of a message begin.
pub(crate) const SNAME: usize = 44;
pub(crate) const FILE: usize = 108;
pub(crate) const COOKIE: usize = 236;
pub(crate) const OPTIONS: usize = 240;

/// A request of a machine on Ethernet, with the magic cookie and these bytes as options.
pub(crate) fn request(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; OPTIONS];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&[0x39, 0x03, 0xf3, 0x26]);
    bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    bytes[COOKIE..OPTIONS].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(options);
    bytes
}

/// A reply with nothing in it.
pub(crate) fn empty_reply() -> Header<'static> {
    Header {
        op: BOOTREPLY,
        htype: ETHERNET,
        hlen: 6,
        hops: 0,
        xid: 0x3903_f326,
        secs: 0,
        flags: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: [0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        sname: &[],
        file: &[],
    }
}

/// Writes a message with these options and checks that all fit.
pub(crate) fn written(header: &Header<'_>, max_len: usize, options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut buf = vec![0xee; 4096];
    let mut writer = MessageWriter::new(&mut buf, max_len, header).unwrap();
    for (code, value) in options {
        writer.option(*code, value).unwrap();
    }
    let len = writer.finish();
    buf.truncate(len);
    buf
}

/// The options of a message by code, in the order of their first pieces, without option 52, which
/// belongs to the layout.
pub(crate) fn option_values(message: &Message<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut values: Vec<(u8, Vec<u8>)> = Vec::new();
    for (code, _) in message.options() {
        if code != options::OPTION_OVERLOAD && values.iter().all(|(seen, _)| *seen != code) {
            values.push((code, bytes_of(message.option(code))));
        }
    }
    values
}

/// The bytes of an option that must be there.
pub(crate) fn bytes_of(data: Option<OptionData<'_>>) -> Vec<u8> {
    data.unwrap().bytes().collect()
}

/// The header that writes a message's fixed fields again.
pub(crate) fn header_of<'a>(message: &Message<'a>) -> Header<'a> {
    let mut chaddr = [0; 16];
    chaddr[..message.chaddr().len()].copy_from_slice(message.chaddr());
    Header {
        op: message.op(),
        htype: message.htype(),
        hlen: message.hlen(),
        hops: message.hops(),
        xid: message.xid(),
        secs: message.secs(),
        flags: message.flags(),
        ciaddr: message.ciaddr(),
        yiaddr: message.yiaddr(),
        siaddr: message.siaddr(),
        giaddr: message.giaddr(),
        chaddr,
        sname: message.server_name(),
        file: message.boot_file(),
    }
}

/// Everything two equal messages agree in, however their options are laid out.
pub(crate) fn assert_same(left: &Message<'_>, right: &Message<'_>) {
    assert_eq!(header_of(left), header_of(right));
    assert_eq!(option_values(left), option_values(right));
}

/// Calls every accessor and renders every option: nothing may panic, and a value in pieces must
/// read like the same value in one piece.
pub(crate) fn read_everything(message: &Message<'_>) {
    let mut text = format!("{message:?}{:?}{:?}", header_of(message), message.message_type());
    text += &format!("{:?}{:?}", message.architecture(), message.machine_id());
    text += &format!("{:?}{:?}", message.stage(), message.parameter_request_list().max());
    text += &format!("{:?}{:?}", message.requested_address(), message.server_identifier());
    text += &format!("{:?}{:?}", message.client_id(), message.subnet_selection());
    text += &format!("{:?}{:?}", message.rapid_commit(), message.lease_time());
    assert!((300..=548).contains(&message.reply_room(576)), "{text}");
    if let Some(class) = message.user_class() {
        assert!(class.classes().all(|name| class.contains(&bytes_of(Some(name)))));
    }
    if let Some(agent) = message.relay_agent_information() {
        let _ = (agent.link_selection(), agent.server_identifier_override());
        assert_eq!(agent.sub_options().count(), whole_sub_options(&bytes_of(Some(agent.data()))));
    }
    for code in 0..=255 {
        let Some(data) = message.option(code) else { continue };
        let whole = bytes_of(Some(data));
        assert_eq!(data.len(), whole.len());
        assert!(data == whole[..]);
        match message.value_offset(code) {
            Some(at) => assert_eq!(message.as_bytes()[at..at + whole.len()], whole),
            None => assert!(message.options().filter(|(known, _)| *known == code).count() > 1),
        }
        let shown = options::Rendered::new(code, data).to_string();
        assert_eq!(shown, options::Rendered::new(code, OptionData::from(&whole[..])).to_string());
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        for name in domains::Names::new(data).flatten() {
            assert!(name.to_string().len() <= 4 * 255);
        }
    }
}

/// Counts whole sub-options in another way than the code under test.
fn whole_sub_options(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, len, rest @ ..] = bytes {
        let Some(rest) = rest.get(usize::from(*len)..) else { break };
        bytes = rest;
        count += 1;
    }
    count
}

/// Values of a type, as they are on the wire.
pub(crate) fn value_of(kind: Kind) -> BoxedStrategy<Vec<u8>> {
    let list_of = |size: usize| (1..80usize).prop_flat_map(move |n| vec(any::<u8>(), n * size));
    match kind {
        Kind::Empty => Just(Vec::new()).boxed(),
        Kind::Flag => vec(0..2u8, 1).boxed(),
        Kind::U8 | Kind::I8 => vec(any::<u8>(), 1).boxed(),
        Kind::U16 => vec(any::<u8>(), 2).boxed(),
        Kind::U32 | Kind::I32 | Kind::Ipv4 => vec(any::<u8>(), 4).boxed(),
        Kind::Ipv6 => vec(any::<u8>(), 16).boxed(),
        Kind::U8List => list_of(1).boxed(),
        Kind::U16List => list_of(2).boxed(),
        Kind::Ipv4List => list_of(4).boxed(),
        Kind::Ipv4PairList => list_of(8).boxed(),
        Kind::Text => "[ -~]{1,300}".prop_map(String::into_bytes).boxed(),
        Kind::Bytes => vec(any::<u8>(), 1..300).boxed(),
        Kind::UserClass => vec(class(), 1..4).prop_map(|classes| classes.concat()).boxed(),
        Kind::Domain => names(1..2, false).boxed(),
        Kind::DomainList { compressed } => names(1..6, compressed).boxed(),
        Kind::ClasslessRoutes => vec(route(), 1..6).prop_map(|routes| routes.concat()).boxed(),
        Kind::SipServers => prop_oneof![
            names(1..3, false).prop_map(|names| [vec![0], names].concat()),
            vec(any::<u8>(), 4).prop_map(|address| [vec![1], address].concat()),
        ]
        .boxed(),
        Kind::ClientFqdn => {
            names(1..2, false).prop_map(|name| [vec![4, 0, 0], name].concat()).boxed()
        }
        Kind::VendorClasses | Kind::VendorOptions => (vec(any::<u8>(), 4), class())
            .prop_map(|(number, data)| [number, data].concat())
            .boxed(),
        Kind::Encapsulated(_) => vec((1..255u8, vec(any::<u8>(), 0..20)), 0..6)
            .prop_map(|parts| {
                let part = |(code, value): &(u8, Vec<u8>)| {
                    [vec![*code, value.len() as u8], value.clone()].concat()
                };
                parts.iter().flat_map(part).collect()
            })
            .boxed(),
        Kind::Record(fields) => fields
            .iter()
            .map(|field| value_of(*field))
            .collect::<Vec<_>>()
            .prop_map(|values| values.concat())
            .boxed(),
    }
}

/// A counted class.
fn class() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..20).prop_map(|name| [vec![name.len() as u8], name].concat())
}

/// A route, with no bits behind its prefix.
fn route() -> impl Strategy<Value = Vec<u8>> {
    (0..=32u8, any::<u32>(), any::<u32>()).prop_map(|(prefix, destination, router)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let significant = usize::from(prefix.div_ceil(8));
        let destination = (destination & mask).to_be_bytes();
        [&[prefix], &destination[..significant], &router.to_be_bytes()].concat()
    })
}

/// Names as configurations write them; the small alphabet makes them share suffixes.
pub(crate) fn name() -> impl Strategy<Value = String> {
    vec("[a-c]{1,3}|[A-Za-z0-9_-]{1,63}", 1..4).prop_map(|labels| labels.join("."))
}

fn names(count: std::ops::Range<usize>, compressed: bool) -> impl Strategy<Value = Vec<u8>> {
    vec(name(), count).prop_map(move |names| encoded_names(&names, compressed))
}

/// Names as they are on the wire.
pub(crate) fn encoded_names(names: &[String], compressed: bool) -> Vec<u8> {
    let mut buf = vec![0; 4096];
    let mut writer = Writer::new(&mut buf);
    let names = names.iter().map(String::as_str);
    if compressed {
        domains::encode_compressed(names, &mut writer).unwrap();
    } else {
        domains::encode(names, &mut writer).unwrap();
    }
    writer.written().to_vec()
}

/// Any header a message may have.
pub(crate) fn header() -> impl Strategy<Value = (Header<'static>, String, String)> {
    let numbers = (1..=2u8, any::<u8>(), 0..=16u8, any::<u8>(), any::<u32>(), any::<u16>());
    let addresses = [any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()];
    let names = ("|[!-~]{1,63}", "|[!-~]{1,127}");
    (numbers, any::<u16>(), addresses, any::<[u8; 16]>(), names).prop_map(
        |((op, htype, hlen, hops, xid, secs), flags, addresses, mut chaddr, (sname, file))| {
            chaddr[usize::from(hlen)..].fill(0);
            let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
            let header = Header {
                op,
                htype,
                hlen,
                hops,
                xid,
                secs,
                flags,
                ciaddr,
                yiaddr,
                siaddr,
                giaddr,
                chaddr,
                sname: &[],
                file: &[],
            };
            (header, sname, file)
        },
    )
}
