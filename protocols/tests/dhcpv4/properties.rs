//! What must hold for all messages. `BOOTSTORM_FUZZ_CASES=1000000` makes a search of them.

use bootstorm_protocols::dhcpv4::{
    Header, Message, MessageWriter, OptionData, RelayAgentInformation, SubOptions, options,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::common::{
    COOKIE, FILE, OPTIONS, SNAME, assert_same, cases, header, header_of, option_values,
    read_everything, request,
};

/// Options as a writer may be asked for: every code once, mostly short, some longer than a piece.
fn option_list() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let value = prop_oneof![
        8 => vec(any::<u8>(), 0..24),
        2 => vec(any::<u8>(), 0..200),
        1 => vec(any::<u8>(), 200..900),
    ];
    let code = (1..255u8).prop_filter("belongs to the layout", |code| {
        !matches!(
            *code,
            options::OPTION_OVERLOAD | options::MESSAGE_TYPE | options::RELAY_AGENT_INFORMATION
        )
    });
    (btree_map(code, value, 0..20), 0..19u8).prop_map(|(map, message_type)| {
        let mut list: Vec<(u8, Vec<u8>)> = map.into_iter().collect();
        if message_type > 0 {
            list.insert(0, (options::MESSAGE_TYPE, vec![message_type]));
        }
        list
    })
}

/// A message that was written, with what was put into it.
#[derive(Debug)]
struct Written {
    bytes: Vec<u8>,
    fits: Vec<(u8, Vec<u8>)>,
    echo: Option<Vec<u8>>,
}

fn write(
    header: &Header<'_>,
    max_len: usize,
    overload: bool,
    echo: Option<Vec<u8>>,
    list: Vec<(u8, Vec<u8>)>,
) -> Written {
    let mut bytes = vec![0xee; 2048];
    let mut fits = Vec::new();
    let agent = echo.as_deref().map(|value| RelayAgentInformation::new(OptionData::from(value)));
    let mut writer = MessageWriter::new(&mut bytes, max_len, header).unwrap();
    if !overload {
        writer.forbid_overload();
    }
    let echoed = agent.is_some_and(|agent| writer.echo(&agent).is_ok());
    for (code, value) in list {
        if writer.option(code, &value).is_ok() {
            fits.push((code, value));
        }
    }
    let len = writer.finish();
    bytes.truncate(len);
    Written { bytes, fits, echo: echo.filter(|_| echoed) }
}

/// Any message the writer makes.
fn any_written() -> impl Strategy<Value = (Written, usize)> {
    let echo = proptest::option::of(vec(any::<u8>(), 0..300));
    (header(), 0..1500usize, any::<bool>(), echo, option_list()).prop_map(
        |((header, sname, file), max_len, overload, echo, list)| {
            let header = Header { sname: sname.as_bytes(), file: file.as_bytes(), ..header };
            (write(&header, max_len, overload, echo, list), max_len)
        },
    )
}

/// The options of a message, read by a second, simpler reader: as lists of bytes, field by field.
fn read_simply(bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    fn field(mut bytes: &[u8], into: &mut Vec<(u8, Vec<u8>)>) -> Option<()> {
        loop {
            match bytes {
                [] | [255, ..] => return Some(()),
                [0, rest @ ..] => bytes = rest,
                [_] => return None,
                [code, len, rest @ ..] => {
                    let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                    into.push((*code, value.to_vec()));
                    bytes = rest;
                }
            }
        }
    }
    let mut pieces = Vec::new();
    if bytes.get(COOKIE..OPTIONS)? != [99, 130, 83, 99] {
        return Some(pieces);
    }
    field(&bytes[OPTIONS..], &mut pieces)?;
    let overload: Vec<u8> = pieces
        .iter()
        .filter(|(code, _)| *code == 52)
        .flat_map(|(_, value)| value.clone())
        .collect();
    let overloaded = pieces.iter().any(|(code, _)| *code == 52);
    match (overloaded, &overload[..]) {
        (false, _) => {}
        (true, [1]) => field(&bytes[FILE..COOKIE], &mut pieces)?,
        (true, [2]) => field(&bytes[SNAME..FILE], &mut pieces)?,
        (true, [3]) => {
            field(&bytes[FILE..COOKIE], &mut pieces)?;
            field(&bytes[SNAME..FILE], &mut pieces)?;
        }
        (true, _) => return None,
    }
    let types = pieces.iter().filter(|(code, _)| *code == 53);
    let lens: Vec<usize> = types.map(|(_, value)| value.len()).collect();
    (lens.is_empty() || lens.iter().sum::<usize>() == 1).then_some(pieces)
}

/// Both readers must agree on whether it is a message, and on every option.
fn readers_agree(bytes: &[u8]) {
    let parsed = Message::parse(bytes);
    let head = bytes.len() >= COOKIE && matches!(bytes[0], 1 | 2) && bytes[2] <= 16;
    let pieces = if bytes.len() < OPTIONS { Some(Vec::new()) } else { read_simply(bytes) };
    match (parsed, head, pieces) {
        (Ok(message), true, Some(pieces)) => {
            let read: Vec<(u8, Vec<u8>)> =
                message.options().map(|(code, value)| (code, value.to_vec())).collect();
            assert_eq!(read, pieces);
            for code in 0..=255 {
                let of_code: Vec<&(u8, Vec<u8>)> =
                    pieces.iter().filter(|(known, _)| *known == code).collect();
                let joined: Vec<u8> = of_code.iter().flat_map(|(_, value)| value.clone()).collect();
                let data = message.option(code).map(|data| data.bytes().collect::<Vec<u8>>());
                assert_eq!(data, (!of_code.is_empty()).then_some(joined));
            }
            read_everything(&message);
        }
        (Err(_), head, pieces) => assert!(!head || pieces.is_none(), "refused without need"),
        (Ok(_), head, pieces) => panic!("accepted: head {head}, options {pieces:?}"),
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in vec(any::<u8>(), 0..700)) {
        readers_agree(&bytes);
    }

    /// A value in one piece is read in another way than one in several.
    #[test]
    fn sub_options_are_the_same_wherever_their_option_is_split(
        value in vec(prop_oneof![Just(255), 0..6u8], 0..40),
        at in 0..40usize,
    ) {
        let (first, second) = value.split_at(at.min(value.len()));
        let mut list = Vec::new();
        for piece in [first, second] {
            list.extend([43, piece.len() as u8]);
            list.extend(piece);
        }
        list.push(255);
        let bytes = request(&list);
        let split = Message::parse(&bytes).unwrap().option(43).unwrap();
        let whole = OptionData::from(&value[..]);
        for (whole, split) in [
            (whole.encapsulated(), split.encapsulated()),
            (whole.sub_options(), split.sub_options()),
        ] {
            prop_assert_eq!(whole.well_formed(), split.well_formed());
            for code in 0..=255 {
                prop_assert_eq!(whole.find_code(code), split.find_code(code));
            }
            let codes = |list: SubOptions<'_>| list.map(|found| found.code).collect::<Vec<_>>();
            prop_assert_eq!(codes(whole), codes(split));
        }
    }

    /// Random bytes are hardly ever a message; these get past the fixed fields.
    #[test]
    fn no_options_make_the_parser_panic(
        head in vec(any::<u8>(), COOKIE),
        op in 1..=2u8,
        hlen in 0..=16u8,
        options in vec(prop_oneof![0..6u8, any::<u8>(), Just(52), Just(53), Just(82)], 0..400),
    ) {
        let mut bytes = head;
        bytes[0] = op;
        bytes[2] = hlen;
        bytes.extend([99, 130, 83, 99]);
        bytes.extend(options);
        readers_agree(&bytes);
    }

    #[test]
    fn no_mutation_of_a_message_makes_the_parser_panic(
        (written, _) in any_written(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = written.bytes;
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        readers_agree(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        (header, sname, file) in header(),
        max_len in 0..1500usize,
        overload in any::<bool>(),
        echo in proptest::option::of(vec(any::<u8>(), 0..300)),
        list in option_list(),
    ) {
        let header = Header { sname: sname.as_bytes(), file: file.as_bytes(), ..header };
        let asked = list.len();
        let total: usize = list.iter().map(|(_, value)| value.len() + 2).sum();
        let written = write(&header, max_len, overload, echo, list);
        let message = Message::parse(&written.bytes).unwrap();
        prop_assert_eq!(header_of(&message), header);
        let mut values = option_values(&message);
        let mut expected = written.fits.clone();
        expected.extend(written.echo.clone().map(|echo| (82, echo)));
        values.sort();
        expected.sort();
        prop_assert_eq!(values, expected);
        // What surely fits is not refused.
        let room = max_len.saturating_sub(OPTIONS + 300);
        prop_assert!(written.fits.len() == asked || total + 10 > room);
    }

    #[test]
    fn a_message_keeps_its_bounds_and_its_form((written, max_len) in any_written()) {
        let bytes = &written.bytes;
        prop_assert!((300..=max_len.max(300)).contains(&bytes.len()));
        let message = Message::parse(bytes).unwrap();
        // The options field ends with END, and behind it is nothing but padding.
        let mut rest = &bytes[OPTIONS..];
        let mut codes = Vec::new();
        while rest[0] != 255 {
            codes.push(rest[0]);
            rest = &rest[2 + usize::from(rest[1])..];
        }
        prop_assert!(rest[1..].iter().all(|byte| *byte == 0));
        prop_assert!(rest.len() == 1 || bytes.len() == 300);
        // The echo is the last option of the options field, and nowhere else.
        if let Some(echo) = &written.echo {
            let pieces = echo.len().div_ceil(255).max(1);
            prop_assert!(codes[codes.len() - pieces..].iter().all(|code| *code == 82));
            prop_assert_eq!(codes.iter().filter(|code| **code == 82).count(), pieces);
        }
        // Option 52 stands once, and only when a field holds options.
        let overload = message.option(options::OPTION_OVERLOAD);
        let overloads = codes.iter().filter(|code| **code == 52).count();
        prop_assert_eq!(overloads, usize::from(overload.is_some()));
    }

    #[test]
    fn reading_and_writing_again_changes_nothing((written, _) in any_written()) {
        let message = Message::parse(&written.bytes).unwrap();
        let header = header_of(&message);
        let again = write(&header, 2048, true, None, option_values(&message));
        assert_same(&message, &Message::parse(&again.bytes).unwrap());
    }
}
