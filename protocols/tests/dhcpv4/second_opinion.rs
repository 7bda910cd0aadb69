//! dhcproto reads what we write and writes what we read; both must see the same message.
//!
//! Left out where dhcproto 0.15 differs from the RFCs or does less: it does not know overload, it
//! reads option 37 as option 23, it writes no empty option, it keeps one architecture and one TFTP
//! server address of a list, and it writes names with its own compression.

use std::collections::BTreeMap;

use bootstorm_protocols::dhcpv4::options::{self, DEFINITIONS, Definition, Kind};
use bootstorm_protocols::dhcpv4::{Header, Message, OptionData, RelayAgentInformation, domains};
use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::common::{bytes_of, cases, header, option_values, value_of, written};

/// Options that dhcproto keeps as they are.
fn comparable(definition: &Definition) -> bool {
    use options::{
        CLIENT_FQDN, DEFAULT_TCP_TTL, OPTION_OVERLOAD, PXE_SYSTEM_TYPE, RELAY_AGENT_INFORMATION,
        STATUS_CODE, TFTP_SERVER_ADDRESS,
    };
    let left_out = [
        CLIENT_FQDN,
        DEFAULT_TCP_TTL,
        OPTION_OVERLOAD,
        PXE_SYSTEM_TYPE,
        RELAY_AGENT_INFORMATION,
        STATUS_CODE,
        TFTP_SERVER_ADDRESS,
    ];
    // Enumerations: dhcproto refuses or folds values it does not know.
    let enumerations = [
        options::NETBIOS_NODE_TYPE,
        options::AUTO_CONFIG,
        options::DHCP_STATE,
        options::DATA_SOURCE,
    ];
    !left_out.contains(&definition.code)
        && !enumerations.contains(&definition.code)
        && !matches!(definition.kind, Kind::Domain | Kind::DomainList { .. })
}

/// Options with values of their types, by code, in the order dhcproto writes them.
fn typed_options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let comparable: Vec<&Definition> = DEFINITIONS.iter().filter(|d| comparable(d)).collect();
    let option = proptest::sample::select(comparable)
        .prop_flat_map(|definition| (Just(definition.code), value_of(definition.kind)));
    vec(option, 0..12).prop_map(|list| {
        let map: BTreeMap<u8, Vec<u8>> = list.into_iter().collect();
        let written =
            |(code, value): &(u8, Vec<u8>)| !value.is_empty() || *code == options::RAPID_COMMIT;
        map.into_iter().filter(written).collect()
    })
}

fn decode(bytes: &[u8]) -> v4::Message {
    v4::Message::decode(&mut Decoder::new(bytes)).unwrap()
}

/// The value of one option as dhcproto writes it, its pieces joined.
fn encoded_value(option: &DhcpOption) -> Vec<u8> {
    let bytes = option.to_vec().unwrap();
    let mut rest = &bytes[..];
    let mut value = Vec::new();
    while let [_, len, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*len));
        value.extend(piece);
        rest = tail;
    }
    value
}

/// A name field as dhcproto keeps it: with its NUL, or nothing.
fn with_nul(name: &[u8]) -> Option<Vec<u8>> {
    (!name.is_empty()).then(|| [name, &[0]].concat())
}

fn fixed_fields_agree(ours: &Message<'_>, theirs: &v4::Message) {
    assert_eq!(u8::from(theirs.opcode()), ours.op());
    assert_eq!(u8::from(theirs.htype()), ours.htype());
    assert_eq!((theirs.hlen(), theirs.hops()), (ours.hlen(), ours.hops()));
    assert_eq!((theirs.xid(), theirs.secs()), (ours.xid(), ours.secs()));
    assert_eq!(u16::from(theirs.flags()), ours.flags());
    assert_eq!(theirs.flags().broadcast(), ours.broadcast());
    assert_eq!((theirs.ciaddr(), theirs.yiaddr()), (ours.ciaddr(), ours.yiaddr()));
    assert_eq!((theirs.siaddr(), theirs.giaddr()), (ours.siaddr(), ours.giaddr()));
    assert_eq!(theirs.chaddr(), ours.chaddr());
    assert_eq!(theirs.sname(), with_nul(ours.server_name()).as_deref());
    assert_eq!(theirs.fname(), with_nul(ours.boot_file()).as_deref());
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn dhcproto_reads_what_we_write(
        (header, sname, file) in header(),
        list in typed_options(),
    ) {
        let header = Header { sname: sname.as_bytes(), file: file.as_bytes(), ..header };
        let bytes = written(&header, 4096, &list);
        let theirs = decode(&bytes);
        fixed_fields_agree(&Message::parse(&bytes).unwrap(), &theirs);
        let read: Vec<(u8, Vec<u8>)> = theirs
            .opts()
            .iter()
            .map(|(code, option)| (u8::from(*code), encoded_value(option)))
            .collect();
        prop_assert_eq!(read, list);
    }

    #[test]
    fn we_read_what_dhcproto_writes(
        (header, sname, file) in header(),
        list in typed_options(),
    ) {
        // From our bytes to their message, and from their bytes to ours.
        let named = Header { sname: sname.as_bytes(), file: file.as_bytes(), ..header };
        let theirs = decode(&written(&named, 4096, &list));
        let bytes = theirs.to_vec().unwrap();
        let ours = Message::parse(&bytes).unwrap();
        fixed_fields_agree(&ours, &theirs);
        prop_assert_eq!(option_values(&ours), list);
    }

    #[test]
    fn dhcproto_reads_names_as_we_write_them(
        names in vec(super::common::name(), 1..6),
        compressed in any::<bool>(),
    ) {
        let value = super::common::encoded_names(&names, compressed);
        let search = [(options::DOMAIN_SEARCH, value)];
        let bytes = written(&super::common::empty_reply(), 4096, &search);
        let theirs = decode(&bytes);
        let Some(DhcpOption::DomainSearch(read)) = theirs.opts().get(OptionCode::DomainSearch)
        else {
            panic!("no domain search in {theirs:?}");
        };
        prop_assert_eq!(read.len(), names.len());
        for (read, name) in read.iter().zip(&names) {
            let labels: Vec<String> = read
                .iter()
                .map(|label| String::from_utf8_lossy(label).into_owned())
                .collect();
            prop_assert!(labels.join(".").eq_ignore_ascii_case(name), "{} {}", read, name);
        }
        // And back: the names in dhcproto's own compression.
        let again = theirs.to_vec().unwrap();
        let ours = Message::parse(&again).unwrap();
        let value = bytes_of(ours.option(options::DOMAIN_SEARCH));
        let read = domains::Names::new(OptionData::from(&value[..]));
        let read: Vec<String> = read.map(|name| name.unwrap().to_string()).collect();
        prop_assert_eq!(read.join(" ").to_ascii_lowercase(), names.join(" ").to_ascii_lowercase());
    }

    #[test]
    fn dhcproto_reads_the_echo(
        parts in btree_map(
            any::<u8>().prop_filter("typed", |code| !matches!(code, 4 | 5 | 10 | 11)),
            vec(any::<u8>(), 0..30),
            0..8,
        ),
        link in any::<[u8; 4]>(),
    ) {
        let mut value = vec![5, 4];
        value.extend(link);
        for (code, part) in &parts {
            value.extend([*code, part.len() as u8]);
            value.extend(part);
        }
        let information = [(options::RELAY_AGENT_INFORMATION, value.clone())];
        let bytes = written(&super::common::empty_reply(), 4096, &information);
        let theirs = decode(&bytes);
        let Some(DhcpOption::RelayAgentInformation(agent)) =
            theirs.opts().get(OptionCode::RelayAgentInformation)
        else {
            panic!("no relay agent information in {theirs:?}");
        };
        let ours = RelayAgentInformation::new(OptionData::from(&value[..]));
        prop_assert_eq!(ours.link_selection(), Some(link.into()));
        prop_assert_eq!(agent.iter().count(), parts.len() + 1);
        for (code, info) in agent.iter() {
            let sub_option = ours.sub_option(u8::from(*code)).unwrap();
            let encoded = info.to_vec().unwrap();
            prop_assert!(sub_option == encoded[2..], "{:?}", info);
        }
    }
}
