//! The calendar that retention counts by: minutes, hours, days, ISO weeks, months and years of the Gregorian calendar at
//! an offset from UTC. No clock and no zones with summer time: a snapshot records the offset that it was taken at.

use std::fmt;
use std::str::FromStr;

use crate::calendar::{date, day_number};

/// Nanoseconds a minute.
const MINUTE_NS: i64 = 60 * 1_000_000_000;
/// Minutes a day.
const DAY_MINUTES: i64 = 24 * 60;

/// A stretch of the calendar, of which a rule keeps one snapshot each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// From midnight to midnight.
    Day,
    /// Of ISO 8601: from Monday to Sunday.
    Week,
    /// January to December.
    Month,
    /// Three months, from January, April, July, October.
    Quarter,
    /// Six months, from January and July.
    HalfYear,
    /// From the first of January.
    Year,
}

/// A length by the calendar: `1y5m7d2h`. A month before the 31st is counted by the months' numbers; a day that the month
/// does not have runs over into the next one, as the 31st of September is the first of October.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CalendarSpan {
    /// `y`
    pub years: u32,
    /// `m`
    pub months: u32,
    /// `d`
    pub days: u32,
    /// `h`
    pub hours: u32,
}

impl Period {
    /// All, from the shortest.
    pub const ALL: [Self; 8] =
        [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Quarter, Self::HalfYear, Self::Year];

    /// As in `daily snapshot`.
    pub fn adverb(self) -> &'static str {
        match self {
            Self::Minute => "minutely",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Quarter => "quarterly",
            Self::HalfYear => "half-yearly",
            Self::Year => "yearly",
        }
    }

    /// The number of the period that holds this time, ascending with time. Two times with one offset lie in the same
    /// period if their numbers are equal.
    pub fn number(self, time_ns: i64, zone_minutes: i16) -> i64 {
        // No more than 1.6e8 minutes either way: nothing below overflows.
        let minutes = time_ns.div_euclid(MINUTE_NS) + i64::from(zone_minutes);
        let days = minutes.div_euclid(DAY_MINUTES);
        let months = || {
            let (year, month, _) = date(days);
            year * 12 + month - 1
        };
        match self {
            Self::Minute => minutes,
            Self::Hour => minutes.div_euclid(60),
            Self::Day => days,
            // Day 0, the first of January 1970, was a Thursday.
            Self::Week => (days + 3).div_euclid(7),
            Self::Month => months(),
            Self::Quarter => months().div_euclid(3),
            Self::HalfYear => months().div_euclid(6),
            Self::Year => date(days).0,
        }
    }
}

impl CalendarSpan {
    /// Of no length.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The time so long before another, in the zone so many minutes east of Greenwich. Nanoseconds since 1970 UTC, wider
    /// than a snapshot's time can be, since a span may reach back further.
    pub fn before(self, time_ns: i64, zone_minutes: i16) -> i128 {
        let local_ns = i128::from(time_ns) + i128::from(zone_minutes) * i128::from(MINUTE_NS);
        let day_ns = i128::from(DAY_MINUTES * MINUTE_NS);
        let (days, of_day_ns) = (local_ns.div_euclid(day_ns), local_ns.rem_euclid(day_ns));
        let (year, month, day) = date(days as i64); // 64 bits of nanoseconds are 2e5 days
        let months = (year - i64::from(self.years)) * 12 + month - 1 - i64::from(self.months);
        let first = day_number(months.div_euclid(12), months.rem_euclid(12) + 1, 1);
        let days = first + day - 1 - i64::from(self.days);
        i128::from(days) * day_ns + of_day_ns
            - i128::from(zone_minutes) * i128::from(MINUTE_NS)
            - i128::from(self.hours) * 60 * i128::from(MINUTE_NS)
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

/// The text is not a span: numbers with y, m, d or h behind each, as in `1y5m7d2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is written as in 1y5m7d2h: years, months, days, hours")]
pub struct NotASpan;

impl FromStr for CalendarSpan {
    type Err = NotASpan;

    /// `1y5m7d2h` and any part of it, in any order; each unit once.
    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let mut span = Self::default();
        let mut seen = [false; 4];
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or(NotASpan)?;
            let count: u32 = rest[..end].parse().map_err(|_| NotASpan)?;
            let unit = rest[end..].chars().next().ok_or(NotASpan)?;
            let (slot, field) = match unit {
                'y' => (0, &mut span.years),
                'm' => (1, &mut span.months),
                'd' => (2, &mut span.days),
                'h' => (3, &mut span.hours),
                _ => return Err(NotASpan),
            };
            if std::mem::replace(&mut seen[slot], true) {
                return Err(NotASpan);
            }
            *field = count;
            rest = &rest[end + unit.len_utf8()..];
        }
        if text.is_empty() { Err(NotASpan) } else { Ok(span) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Midnight UTC of a date, and so many seconds more.
    fn at(year: i64, month: i64, day: i64, seconds: i64) -> i64 {
        (day_number(year, month, day) * 86_400 + seconds) * 1_000_000_000
    }

    #[test]
    fn each_period_ends_where_the_calendar_says() {
        // The last second before a border and the border itself; a date one period earlier than the border.
        let borders = [
            (Period::Minute, at(2026, 3, 4, 59), at(2026, 3, 4, 60), at(2026, 3, 4, 0)),
            (Period::Hour, at(2026, 3, 4, 3599), at(2026, 3, 4, 3600), at(2026, 3, 4, 0)),
            (Period::Day, at(2026, 3, 4, 86_399), at(2026, 3, 5, 0), at(2026, 3, 4, 0)),
            // 2026-03-09 is a Monday. And ISO 2020 had 53 weeks, the last of which ended in 2021.
            (Period::Week, at(2026, 3, 8, 86_399), at(2026, 3, 9, 0), at(2026, 3, 2, 0)),
            (Period::Week, at(2021, 1, 3, 86_399), at(2021, 1, 4, 0), at(2020, 12, 28, 0)),
            (Period::Month, at(2024, 2, 29, 86_399), at(2024, 3, 1, 0), at(2024, 2, 1, 0)),
            (Period::Quarter, at(2026, 6, 30, 86_399), at(2026, 7, 1, 0), at(2026, 4, 1, 0)),
            (Period::HalfYear, at(2026, 6, 30, 86_399), at(2026, 7, 1, 0), at(2026, 1, 1, 0)),
            (Period::Year, at(1969, 12, 31, 86_399), at(1970, 1, 1, 0), at(1969, 1, 1, 0)),
        ];
        for (period, last, border, first) in borders {
            assert_eq!(period.number(last, 0) + 1, period.number(border, 0), "{period:?} ends there");
            assert_eq!(period.number(last, 0), period.number(first, 0), "{period:?} begins there");
            assert_eq!(period.number(first - 1, 0) + 1, period.number(first, 0), "{period:?} not before");
        }
    }

    #[test]
    fn a_zone_moves_the_borders() {
        let late = at(2026, 3, 4, 23 * 3600 + 1800);
        assert_eq!(Period::Day.number(late, 60), Period::Day.number(at(2026, 3, 5, 0), 0));
        assert_eq!(Period::Day.number(late, -60), Period::Day.number(late, 0));
        // Half hours, as in India.
        assert_eq!(Period::Hour.number(at(2026, 3, 4, 1800), 330), Period::Hour.number(at(2026, 3, 4, 6 * 3600), 0));
    }

    #[test]
    fn the_ends_of_time_have_periods_too() {
        for period in Period::ALL {
            for zone in [-1439, 0, 1439] {
                assert!(period.number(i64::MIN, zone) < period.number(i64::MAX, zone));
            }
        }
        let all = CalendarSpan { years: u32::MAX, months: u32::MAX, days: u32::MAX, hours: u32::MAX };
        assert!(all.before(i64::MIN, -1439) < i128::from(i64::MIN));
    }

    #[test]
    fn a_span_is_counted_back_by_the_calendar() {
        let back = |text: &str, time_ns| text.parse::<CalendarSpan>().unwrap().before(time_ns, 0);
        let is = |time_ns: i64| i128::from(time_ns);
        assert_eq!(back("1m", at(2026, 3, 15, 7)), is(at(2026, 2, 15, 7)));
        assert_eq!(back("1m", at(2026, 10, 31, 0)), is(at(2026, 10, 1, 0)), "September has no 31st");
        assert_eq!(back("1m", at(2026, 3, 31, 0)), is(at(2026, 3, 3, 0)), "February has 28 days");
        assert_eq!(back("1y", at(2024, 2, 29, 0)), is(at(2023, 3, 1, 0)));
        assert_eq!(back("1y13m", at(2026, 1, 5, 0)), is(at(2023, 12, 5, 0)));
        assert_eq!(back("7d25h", at(2026, 1, 10, 3600)), is(at(2026, 1, 2, 0)));
        // The 31st over there is the 30th in Greenwich.
        let east = CalendarSpan { months: 1, ..CalendarSpan::default() }.before(at(2026, 10, 30, 23 * 3600), 60);
        assert_eq!(east, is(at(2026, 9, 30, 23 * 3600)));
    }

    #[test]
    fn a_span_reads_back_from_its_text_and_nothing_else_is_one() {
        for text in ["1y5m7d2h", "30d", "1h", "12m2h"] {
            assert_eq!(text.parse::<CalendarSpan>().unwrap().to_string(), text);
        }
        assert_eq!("2h1d".parse::<CalendarSpan>().unwrap().to_string(), "1d2h");
        assert!("0d".parse::<CalendarSpan>().unwrap().is_zero());
        for bad in ["", "7", "d", "-1d", "+1d", "1w", "1d1d", "1d ", "4294967296h", "1.5d", "1D", "1ü"] {
            assert_eq!(bad.parse::<CalendarSpan>(), Err(NotASpan), "{bad}");
        }
    }
}
