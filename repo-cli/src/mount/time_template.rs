//! How the times of snapshots are written in names: by Go's reference time, as restic's users know it, or by strftime.

use std::fmt::Write;
use std::str::FromStr;

use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

/// A way to write times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    /// Variables of strftime.
    Formatted(String),
    /// `Z` in Greenwich, else as this says.
    Zone(&'static str),
    /// The separator and that many digits of the second's fraction; `trimmed`: without zeros at the end, or at all.
    Fraction {
        separator: char,
        digits: usize,
        trimmed: bool,
    },
    /// The zone's sign and hours alone.
    ZoneHours,
}

/// Strftime has no name for it.
const HOURS: &str = "";

/// Go's elements and what strftime calls them. An element comes before those that it begins with.
const ELEMENTS: [(&str, &str); 28] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("2006", "%Y"),
    ("_2006", "_%Y"),
    ("_2", "%e"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("-07", HOURS),
    ("Z07:00", "%:z"),
    ("Z0700", "%z"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

impl FromStr for TimeTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let template = match text.contains('%') {
            true => Self(vec![Part::Formatted(text.to_owned())]),
            false => Self(of_go(text)),
        };
        let sample = template.written(&Zoned::new(Timestamp::UNIX_EPOCH, TimeZone::UTC))?;
        if sample.split('/').all(|name| matches!(name, "" | "." | "..")) {
            return Err(format!("{text:?} writes no name"));
        }
        Ok(template)
    }
}

impl TimeTemplate {
    /// A time in nanoseconds since 1970 UTC, in the zone that many minutes east of Greenwich.
    pub fn write(&self, time_ns: i64, zone_minutes: i16) -> String {
        let offset = Offset::from_seconds(i32::from(zone_minutes) * 60).unwrap_or(Offset::UTC);
        let time = Timestamp::from_nanosecond(i128::from(time_ns)).expect("every i64 of nanoseconds is in range");
        // What was written once is written always.
        self.written(&time.to_zoned(TimeZone::fixed(offset))).unwrap_or_else(|_| time_ns.to_string())
    }

    fn written(&self, time: &Zoned) -> Result<String, String> {
        let mut out = String::new();
        let format = |format: &str| strtime::format(format, time).map_err(|error| format!("{format:?}: {error}"));
        for part in &self.0 {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Formatted(text) => out.push_str(&format(text)?),
                Part::Zone(_) if time.offset() == Offset::UTC => out.push('Z'),
                Part::Zone(text) => out.push_str(&format(text)?),
                Part::ZoneHours => out.push_str(format("%z")?.get(..3).unwrap_or_default()),
                Part::Fraction { separator, digits, trimmed } => {
                    let all = format!("{:09}", time.subsec_nanosecond());
                    let shown = &all[..*digits];
                    let shown = if *trimmed { shown.trim_end_matches('0') } else { shown };
                    if !shown.is_empty() {
                        write!(out, "{separator}{shown}").expect("a String takes everything");
                    }
                }
            }
        }
        Ok(out)
    }
}

/// What a layout of Go means.
fn of_go(layout: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = layout;
    while let Some(letter) = rest.chars().next() {
        if let Some((part, length)) = fraction(rest) {
            parts.push(part);
            rest = &rest[length..];
        } else if let Some((element, meaning)) = element(rest) {
            parts.push(match meaning {
                HOURS => Part::ZoneHours,
                _ if element.starts_with('Z') => Part::Zone(meaning),
                _ => Part::Formatted(meaning.to_owned()),
            });
            rest = &rest[element.len()..];
        } else {
            match parts.last_mut() {
                Some(Part::Plain(text)) => text.push(letter),
                _ => parts.push(Part::Plain(letter.to_string())),
            }
            rest = &rest[letter.len_utf8()..];
        }
    }
    parts
}

fn element(text: &str) -> Option<(&'static str, &'static str)> {
    ELEMENTS.into_iter().find(|(element, _)| text.starts_with(element))
}

/// `.000` or `,999`: a separator and up to nine equal digits, after which no other digit comes.
fn fraction(text: &str) -> Option<(Part, usize)> {
    let separator = text.chars().next().filter(|letter| matches!(letter, '.' | ','))?;
    let digit = text.chars().nth(1).filter(|digit| matches!(digit, '0' | '9'))?;
    let digits = text[1..].chars().take_while(|letter| *letter == digit).count();
    let ends = !text[1 + digits..].starts_with(|letter: char| letter.is_ascii_digit());
    let part = Part::Fraction { separator, digits, trimmed: digit == '9' };
    (ends && digits <= 9).then_some((part, 1 + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-05 09:03:07.120 in a zone two hours east.
    fn written(template: &str, zone_minutes: i16) -> String {
        let time_ns = 1_793_869_387_120_000_000 - i64::from(zone_minutes) * 60_000_000_000;
        template.parse::<TimeTemplate>().expect(template).write(time_ns, zone_minutes)
    }

    #[test]
    fn layouts_of_go_are_understood() {
        assert_eq!(written("2006-01-02T15:04:05Z07:00", 120), "2026-11-05T09:03:07+02:00");
        assert_eq!(written("2006-01-02T15:04:05Z07:00", 0), "2026-11-05T09:03:07Z");
        assert_eq!(written("2006/01/02 15_04_05-0700", -90), "2026/11/05 09_03_07-0130");
        assert_eq!(written("Mon Jan _2 3:04PM 06", 0), "Thu Nov  5 9:03AM 26");
        assert_eq!(written("Monday, 2. January, 15h 4m 5s", 0), "Thursday, 5. November, 09h 3m 7s");
        assert_eq!(written("05.000 05,999 05.0001", 0), "07.120 07,12 07.0011");
        assert_eq!(written("-07 -07:00 Z0700", 330), "+05 +05:30 +0530");
    }

    #[test]
    fn a_percent_sign_makes_it_strftime() {
        assert_eq!(written("%Y/%m/%d-%H%M 2006", 60), "2026/11/05-0903 2006");
    }

    #[test]
    fn what_writes_no_name_is_refused() {
        for bad in ["", "/", "..", "%", "%Y-%&", "../."] {
            assert!(bad.parse::<TimeTemplate>().is_err(), "{bad:?}");
        }
        assert!("a".parse::<TimeTemplate>().is_ok(), "all of one name: they are numbered");
    }
}
