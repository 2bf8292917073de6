//! Sizes, durations, shares and compression levels, as people write and read them.

use std::time::Duration;

/// `1.720 GiB`, `17 B`: powers of 1024.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.3} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// `0:34`, `1:02:03`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// `part` of `whole`, from 0 to 1; 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => (part as f64 / whole as f64).min(1.0),
    }
}

/// `1 file`, `2 files`, `2 entries`.
pub fn count(number: u64, thing: &str) -> String {
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {thing}s"),
    }
}

/// Reads `500`, `10k`, `1.5G`: bytes, units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let problem = || format!("{text:?} is no size; write a number and perhaps one of k, M, G, T");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(problem()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(problem);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = digits.parse::<f64>().ok().filter(|_| plain && shift > 0).ok_or_else(problem)?;
    let bytes = number * (1u64 << shift) as f64;
    // Above 2^53 a fraction of a unit is not what was meant.
    if bytes < (1u64 << 53) as f64 { Ok(bytes as u64) } else { Err(problem()) }
}

/// Reads `10m`, `1h30m`, `45s`, `2d`: each unit at most once, the longest first.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{text:?} is no length of time; write 45s, 10m, 1h30m or 2d");
    let mut units = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)].iter();
    let (mut seconds, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(problem)?;
        let number: u64 = rest[..digits].parse().map_err(|_| problem())?;
        let letter = rest[digits..].chars().next().ok_or_else(problem)?;
        let (_, unit) = units.find(|(unit, _)| *unit == letter).ok_or_else(problem)?;
        seconds = number.checked_mul(*unit).and_then(|more| seconds.checked_add(more)).ok_or_else(problem)?;
        rest = &rest[digits + letter.len_utf8()..];
    }
    if text.is_empty() { Err(problem()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A zstd level, or the repository's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Repository,
    Level(i8),
}

impl Compression {
    /// The level to ask for; `None`: the repository's.
    pub fn level(self) -> Option<i8> {
        match self {
            Self::Repository => None,
            Self::Level(level) => Some(level),
        }
    }
}

/// Reads the value of `--compression`.
pub fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "auto" => Ok(Compression::Repository),
        "fastest" => Ok(Compression::Level(1)),
        "better" => Ok(Compression::Level(9)),
        "max" => Ok(Compression::Level(19)),
        "off" => Err("new data is always compressed where that makes it smaller; `fastest` costs the least".to_owned()),
        number => match number.parse::<i8>() {
            Ok(level @ 1..=19) => Ok(Compression::Level(level)),
            _ => Err("write auto, fastest, better, max, or a level from 1 to 19".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_with_three_decimals_and_read_back() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.000 KiB");
        assert_eq!(size(3 << 29), "1.500 GiB");
        assert_eq!(parse_size("10k"), Ok(10_240));
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size("17"), Ok(17));
        for bad in ["", "k", "-1", "1.5", "1x", "99999999T", "1e3k", "infk"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_have_units_the_longest_first() {
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("2d1s"), Ok(Duration::from_secs(172_801)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "10", "m", "-1m", "1.5h", "1m1h", "1m1m", "1w", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_show_hours_only_when_there_are_any() {
        assert_eq!(duration(Duration::from_secs(34)), "0:34");
        assert_eq!(duration(Duration::from_secs(3599)), "59:59");
        assert_eq!(duration(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn only_levels_that_the_library_has_are_offered() {
        assert_eq!(parse_compression("auto").map(Compression::level), Ok(None));
        assert_eq!(parse_compression("max").map(Compression::level), Ok(Some(19)));
        assert_eq!(parse_compression("7").map(Compression::level), Ok(Some(7)));
        for bad in ["off", "0", "20", "-1", "fast"] {
            assert!(parse_compression(bad).is_err(), "{bad}");
        }
    }
}
