//! Times, sizes and shares as people write them: `500ms`, `1MiB`, `0.5%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A length of time: `90s`, `1m 30s`, `500ms`; a bare `0` is none.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span(pub Duration);

/// A number of bytes: `1MiB`, `64k`, `512`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Size(pub u64);

/// A share from 0 to 1: `0.5%`, `0.005`.
#[derive(Copy, Clone, PartialEq, PartialOrd, Debug, Default)]
pub struct Share(pub f64);

/// A value that cannot be read, with examples of ones that can.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct NotA {
    text: String,
    what: &'static str,
}

impl NotA {
    fn new(text: &str, what: &'static str) -> NotA {
        NotA { text: text.to_owned(), what }
    }
}

impl FromStr for Span {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        humantime::parse_duration(text)
            .map(Span)
            .map_err(|_| NotA::new(text, "a time such as 500ms, 90s or 2h 30m"))
    }
}

impl FromStr for Size {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        parse_size::Config::new()
            .with_binary()
            .parse_size(text)
            .map(Size)
            .map_err(|_| NotA::new(text, "a size such as 512, 64k or 1MiB"))
    }
}

impl FromStr for Share {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let (number, whole) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (text.trim(), 1.0),
        };
        let share = number.trim().parse::<f64>().ok().map(|share| share / whole);
        share
            .filter(|share| (0.0..=1.0).contains(share))
            .map(Share)
            .ok_or_else(|| NotA::new(text, "a share from 0 to 1, such as 0.5% or 0.005"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Reads a text by its `FromStr`, or a number that means the same.
struct Reader<T> {
    number: fn(f64) -> Option<T>,
    what: &'static str,
}

impl<T: FromStr<Err = NotA>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::custom(format!("{number} is not {}", self.what)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a time in quotes, such as \"500ms\" or \"90s\"";
        let number = |number| (number == 0.0).then_some(Span(Duration::ZERO));
        from.deserialize_any(Reader { number, what })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a number of bytes, or a size in quotes such as \"1MiB\"";
        let number = |number: f64| (number >= 0.0).then_some(Size(number as u64));
        from.deserialize_any(Reader { number, what })
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a share from 0 to 1, such as 0.01 or \"1%\"";
        let number = |number| (0.0..=1.0).contains(&number).then_some(Share(number));
        from.deserialize_any(Reader { number, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units_in_many_ways() {
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("1m 30s".parse(), Ok(Span(Duration::from_secs(90))));
        for (text, bytes) in [("512", 512), ("64k", 65_536), ("1MiB", 1 << 20), ("1 MiB", 1 << 20)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!("0.5%".parse(), Ok(Share(0.005)));
        assert_eq!("1".parse(), Ok(Share(1.0)));
    }

    #[test]
    fn what_cannot_be_read_says_what_could() {
        let error = "soon".parse::<Span>().unwrap_err().to_string();
        assert_eq!(error, "`soon` is not a time such as 500ms, 90s or 2h 30m");
        for text in ["-1", "many", ""] {
            assert!(text.parse::<Size>().is_err(), "{text}");
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert!("101%".parse::<Share>().is_err());
        assert!("NaN".parse::<Share>().is_err());
    }
}
