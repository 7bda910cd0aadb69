//! Dates, as dhcpd writes them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::super::problem::Fault;
use super::grammar::{Mistake, Parser};

/// `never`, `epoch SECONDS`, or weekday, date and time in UTC: `4 2026/11/26 10:00:00`. Seconds
/// since 1970.
pub(super) fn date(parser: &mut Parser<'_, '_, '_>) -> Result<i64, Mistake> {
    if parser.word("never") {
        return Ok(i64::MAX);
    }
    if parser.word("epoch") {
        return number(parser, "seconds since 1970");
    }
    let start = parser.cursor.place();
    number(parser, "the day of the week, a number from 0 to 6")?;
    let year = number(parser, "the year")?;
    let month = behind(parser, '/', "the month")?;
    let day = behind(parser, '/', "the day")?;
    let hour = number(parser, "the hour")?;
    let minute = behind(parser, ':', "the minute")?;
    let second = behind(parser, ':', "the second")?;
    let part = |value: i64| i8::try_from(value).ok();
    let time = || {
        let year = i16::try_from(year).ok()?;
        let (month, day) = (part(month)?, part(day)?);
        let (hour, minute, second) = (part(hour)?, part(minute)?, part(second)?);
        let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
    };
    time().ok_or_else(|| {
        let place = parser.cursor.since(start);
        let help = "write weekday, date and time in UTC: 4 2026/11/26 10:00:00";
        parser.wrong_at(place, Fault::new("there is no such time", help))
    })
}

fn number(parser: &mut Parser<'_, '_, '_>, what: &str) -> Result<i64, Mistake> {
    parser.count(what).map(|count| i64::try_from(count).unwrap_or(i64::MAX))
}

/// A number behind a separator.
fn behind(parser: &mut Parser<'_, '_, '_>, separator: char, what: &str) -> Result<i64, Mistake> {
    if !parser.symbol(separator) {
        return Err(parser.expected(&format!("a `{separator}`")));
    }
    number(parser, what)
}
