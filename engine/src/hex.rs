//! Bytes in hexadecimal.

/// The digits of bytes, two for each, with a text between the bytes.
pub(crate) fn digits(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

/// The bytes of digits, with or without `:` between them; `None` for other text, and for none.
pub(crate) fn bytes(text: &str) -> Option<Box<[u8]>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b':')
        .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let whole = digits.len().is_multiple_of(2) && !digits.is_empty();
    whole.then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Bytes as dhcpd writes them, `a:0:0:7`, with two digits for each and nothing between them.
pub(crate) fn padded(text: &str) -> String {
    let two = |byte: &str| if byte.len() == 1 { format!("0{byte}") } else { byte.to_owned() };
    text.split(':').map(two).collect()
}
