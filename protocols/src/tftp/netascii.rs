//! The netascii mode (RFC 1350 section 1, RFC 764): a line ends with CR LF, a bare CR is CR NUL.
//!
//! Both directions work in pieces: a line end may be split between two of them.

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Turns a file's bytes into netascii.
#[derive(Copy, Clone, Debug, Default)]
pub struct Encoder {
    /// The second byte of a pair whose first byte filled the output.
    owed: Option<u8>,
}

impl Encoder {
    /// Fills `output` from `input`; returns how many bytes were taken and how many written.
    /// The input is finished when all was taken and nothing is [`owed`](Self::owes).
    pub fn encode(&mut self, input: &[u8], output: &mut [u8]) -> (usize, usize) {
        let (mut taken, mut written) = (0, 0);
        for slot in output {
            if let Some(byte) = self.owed.take() {
                *slot = byte;
            } else if let Some(&byte) = input.get(taken) {
                taken += 1;
                (*slot, self.owed) = match byte {
                    LF => (CR, Some(LF)),
                    CR => (CR, Some(0)),
                    other => (other, None),
                };
            } else {
                break;
            }
            written += 1;
        }
        (taken, written)
    }

    /// Whether one more byte is to come without further input.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.owed.is_some()
    }
}

/// Turns netascii into a file's bytes.
#[derive(Copy, Clone, Debug, Default)]
pub struct Decoder {
    after_cr: bool,
}

impl Decoder {
    /// Appends the decoded `input` through `output`. A CR in front of anything but LF and NUL is
    /// kept as it is, for not every client converts.
    pub fn decode(&mut self, input: &[u8], mut output: impl FnMut(u8)) {
        for &byte in input {
            if std::mem::take(&mut self.after_cr) {
                match byte {
                    LF => {
                        output(LF);
                        continue;
                    }
                    0 => {
                        output(CR);
                        continue;
                    }
                    _ => output(CR),
                }
            }
            if byte == CR {
                self.after_cr = true;
            } else {
                output(byte);
            }
        }
    }

    /// Ends the file: a CR that nothing followed is a CR.
    pub fn finish(&mut self, mut output: impl FnMut(u8)) {
        if std::mem::take(&mut self.after_cr) {
            output(CR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8], piece: usize) -> Vec<u8> {
        let (mut encoder, mut rest, mut all) = (Encoder::default(), text, Vec::new());
        while !rest.is_empty() || encoder.owes() {
            let mut output = vec![0; piece];
            let (taken, written) = encoder.encode(rest, &mut output);
            rest = &rest[taken..];
            all.extend_from_slice(&output[..written]);
        }
        all
    }

    #[test]
    fn line_ends_and_bare_carriage_returns() {
        assert_eq!(encode(b"a\nb\rc\r\n", 64), b"a\r\nb\r\0c\r\0\r\n");
        let mut plain = Vec::new();
        let mut decoder = Decoder::default();
        decoder.decode(b"a\r\nb\r\0c\rd\r", |byte| plain.push(byte));
        decoder.finish(|byte| plain.push(byte));
        assert_eq!(plain, b"a\nb\rc\rd\r");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_decoding_undoes_it(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n\0".to_vec()), 0..200),
            piece in 1usize..20,
        ) {
            let encoded = encode(&text, piece);
            prop_assert_eq!(&encoded, &encode(&text, 4096));
            let (mut decoder, mut plain) = (Decoder::default(), Vec::new());
            for part in encoded.chunks(piece) {
                decoder.decode(part, |byte| plain.push(byte));
            }
            decoder.finish(|byte| plain.push(byte));
            prop_assert_eq!(plain, text);
        }
    }
}
