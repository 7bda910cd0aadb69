//! Whatever is written, the reader comes to an end, and says where the mistake is.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use crate::config::parse;

/// Statements of all kinds, to be damaged.
static PIECES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dhcpd");
    let mut pieces = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        pieces.extend(text.split_inclusive(['\n', ' ', ';']).map(str::to_owned));
    }
    pieces.sort();
    pieces.dedup();
    pieces
});

fn comes_to_an_end(text: &[u8]) {
    if let Err(error) = parse(Path::new("dhcpd.conf"), text) {
        assert!(!error.problems().is_empty());
        let _shown = error.render(false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_in_any_order_are_no_danger(order in prop::collection::vec(any::<prop::sample::Index>(), 1..80)) {
        let pieces = order.iter().map(|index| index.get(&PIECES).as_str());
        let text: String = std::iter::once("authoritative;\n").chain(pieces).collect();
        comes_to_an_end(text.as_bytes());
    }

    #[test]
    fn neither_are_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut text = b"authoritative; option x code 230 = ".to_vec();
        text.extend(bytes);
        comes_to_an_end(&text);
    }
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    for open in [
        "group {",
        "if known {",
        "option x = concat(\"a\", ",
        "class \"c\" {",
        "switch (1) { case 1: ",
    ] {
        let text = format!("authoritative;\n{}", open.repeat(20_000));
        comes_to_an_end(text.as_bytes());
        assert!(parse(Path::new("dhcpd.conf"), text.as_bytes()).is_err());
    }
}
