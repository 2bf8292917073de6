//! Times as people write them, and as they are shown: local, unless an offset stands beside them.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// What a date without a time of day means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareDate {
    /// Its first moment: when something is dated.
    Start,
    /// Its last moment: "as it was on that day".
    End,
}

/// Reads a time of `--at`: nanoseconds since 1970 UTC.
pub fn parse_at(text: &str) -> Result<i64, String> {
    parse(text, BareDate::End, &TimeZone::system())
}

/// Reads a time of `--time`: nanoseconds since 1970 UTC.
pub fn parse_time(text: &str) -> Result<i64, String> {
    parse(text, BareDate::Start, &TimeZone::system())
}

fn parse(text: &str, bare: BareDate, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    if text == "now" {
        return nanoseconds(Timestamp::now());
    }
    // Offsets first: a civil time would overlook them.
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanoseconds(time);
    }
    let is_bare = text.len() <= "-YYYYYY-MM-DD".len() && !text.contains([':', 'T', 't', ' ']);
    let local = |civil: civil::DateTime| {
        zone.to_ambiguous_timestamp(civil).compatible().map_err(|error| format!("{text:?}: {error}"))
    };
    if is_bare && let Ok(date) = text.parse::<civil::Date>() {
        let time = match bare {
            BareDate::Start => local(date.at(0, 0, 0, 0))?,
            BareDate::End => {
                let next = date.tomorrow().map_err(|error| format!("{text:?}: {error}"))?;
                local(next.at(0, 0, 0, 0))?.checked_sub(1.nanosecond()).map_err(|error| format!("{text:?}: {error}"))?
            }
        };
        return nanoseconds(time);
    }
    let civil = text.parse::<civil::DateTime>().map_err(|_| {
        format!("{text:?} is no time; write 2026-11-20, \"2026-11-20 12:00\", 2026-11-20T12:00:00+02:00 or now")
    })?;
    nanoseconds(local(civil)?)
}

fn nanoseconds(time: Timestamp) -> Result<i64, String> {
    i64::try_from(time.as_nanosecond()).map_err(|_| format!("{time} is beyond the years 1677 to 2262"))
}

/// `2026-11-20 12:00:00`, local.
pub fn shown(time_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time_ns)).expect("every i64 of nanoseconds is in range");
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same for a file's time, which may lie beyond what a clock of nanoseconds or a calendar can hold.
pub fn shown_file_time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{seconds}"),
    }
}

/// `2026-11-20T12:00:00.5+02:00` (RFC 3339), in the zone that many minutes east of Greenwich.
pub fn rfc3339(seconds: i64, nanoseconds: u32, zone_minutes: i16) -> String {
    let offset = Offset::from_seconds(i32::from(zone_minutes) * 60).unwrap_or(Offset::UTC);
    match i32::try_from(nanoseconds).ok().and_then(|part| Timestamp::new(seconds, part).ok()) {
        // Z where it is UTC: there are parsers that know nothing else.
        Some(time) if offset == Offset::UTC => time.to_string(),
        Some(time) => time.display_with_offset(offset).to_string(),
        None => format!("@{seconds}.{nanoseconds:09}"),
    }
}

/// The same, from nanoseconds since 1970.
pub fn rfc3339_ns(time_ns: i64, zone_minutes: i16) -> String {
    rfc3339(time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000) as u32, zone_minutes)
}

/// Minutes east of Greenwich, here and at that time (`None`: now).
pub fn zone_minutes(time_ns: Option<i64>) -> i16 {
    let time =
        time_ns.and_then(|time| Timestamp::from_nanosecond(i128::from(time)).ok()).unwrap_or_else(Timestamp::now);
    (TimeZone::system().to_offset(time).seconds() / 60) as i16
}

/// What the local zone is called now.
pub fn zone_name() -> String {
    let zone = TimeZone::system();
    zone.to_offset_info(Timestamp::now()).abbreviation().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vienna() -> TimeZone {
        TimeZone::get("Europe/Vienna").expect("a zone that is compiled in or installed")
    }

    fn at(text: &str) -> String {
        let time_ns = parse(text, BareDate::End, &vienna()).expect(text);
        Timestamp::from_nanosecond(i128::from(time_ns)).expect("in range").to_string()
    }

    #[test]
    fn a_time_is_local_unless_an_offset_is_given() {
        assert_eq!(at("2026-11-20 12:00"), "2026-11-20T11:00:00Z");
        assert_eq!(at("2026-07-20T12:00:30"), "2026-07-20T10:00:30Z");
        assert_eq!(at("2026-11-20 12:00:00Z"), "2026-11-20T12:00:00Z");
        assert_eq!(at("2026-11-20T12:00:00-05:00"), "2026-11-20T17:00:00Z");
    }

    #[test]
    fn a_bare_date_is_its_end_for_at_and_its_start_for_time() {
        assert_eq!(at("2026-11-20"), "2026-11-20T22:59:59.999999999Z");
        assert_eq!(parse("2026-11-20", BareDate::Start, &vienna()), Ok(1_795_129_200_000_000_000));
        // A day of 25 hours ends when the next begins.
        assert_eq!(at("2026-10-25"), "2026-10-25T22:59:59.999999999Z");
    }

    #[test]
    fn an_hour_that_the_clock_skips_is_the_one_after() {
        assert_eq!(at("2026-03-29 02:30"), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "yesterday", "2026-13-01", "2026-11-20 25:00", "12:00", "2026-11-20 12:00 x", "9999-12-31"] {
            assert!(parse(bad, BareDate::End, &vienna()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_before_1970_are_printed_right() {
        assert_eq!(rfc3339_ns(-1, 0), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(0, 500_000_000, 330), "1970-01-01T05:30:00.5+05:30");
    }
}
