//! Sizes, durations, shares, compression levels and options of places, as people write and read them.

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

/// Reads `5m`, `1h30m`, `1.5s`, `0`: numbers, each with a unit, as restic's scripts write them.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 6] = [("h", 3600.0), ("ms", 1e-3), ("m", 60.0), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0)];
    let problem = || format!("{text:?} is no duration; write 30s, 5m or 1h30m");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() && text != "0" {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let number = rest[..digits].parse::<f64>().map_err(|_| problem())?;
        let unit = UNITS.iter().find(|(name, _)| rest[digits..].starts_with(name)).ok_or_else(problem)?;
        rest = &rest[digits + unit.0.len()..];
        seconds += number * unit.1;
    }
    match text.is_empty() {
        true => Err(problem()),
        false => Duration::try_from_secs_f64(seconds).map_err(|_| problem()),
    }
}

/// The value of `--pack-size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSize(Option<u32>);

impl PackSize {
    /// Bytes to ask for; `None`: the repository's.
    pub fn bytes(self) -> Option<u32> {
        self.0
    }
}

/// Reads MiB from 4 to 128. Nothing (a variable that is set to nothing) and 0 are the repository's own.
pub fn parse_pack_size(text: &str) -> Result<PackSize, String> {
    match text.parse::<u32>() {
        Ok(mib @ 4..=128) => Ok(PackSize(Some(mib << 20))),
        Ok(0) => Ok(PackSize(None)),
        Err(_) if text.is_empty() => Ok(PackSize(None)),
        _ => Err("write a number of MiB from 4 to 128".to_owned()),
    }
}

/// Reads a number of files from 1 to 1024; nothing and 0 mean the default.
pub fn parse_concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 0..=1024) => Ok(number),
        Err(_) if text.is_empty() => Ok(0),
        _ => Err("write a number from 1 to 1024".to_owned()),
    }
}

/// Reads the value of `--option`: a key that restic knows, for whatever place, and a value.
pub fn parse_option(text: &str) -> Result<String, String> {
    /// Every kind of place has this one.
    const CONNECTIONS: &str = "connections";
    const PLACES: [&str; 9] = ["local", "sftp", "rest", "s3", "azure", "gs", "b2", "swift", "rclone"];
    const OTHERS: [&str; 24] = [
        "azure.access-tier",
        "gs.region",
        "rclone.args",
        "rclone.program",
        "rclone.timeout",
        "s3.bucket-lookup",
        "s3.enable-restore",
        "s3.layout",
        "s3.list-objects-v1",
        "s3.region",
        "s3.restore-days",
        "s3.restore-tier",
        "s3.restore-timeout",
        "s3.retries",
        "s3.storage-class",
        "s3.unsafe-anonymous-auth",
        "sftp.args",
        "sftp.command",
        "sftp.layout",
        "local.layout",
        "vss.exclude-all-mount-points",
        "vss.exclude-volumes",
        "vss.provider",
        "vss.timeout",
    ];
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no value; write KEY=VALUE"))?;
    let place = key.split_once('.').filter(|(place, name)| *name == CONNECTIONS && PLACES.contains(place));
    match place {
        Some(_) if !value.parse::<u32>().is_ok_and(|number| number > 0) => {
            Err(format!("{key}: {value:?} is no number of connections"))
        }
        Some(_) => Ok(key.to_owned()),
        None if OTHERS.contains(&key) => Ok(key.to_owned()),
        None => Err(format!("there is no option {key:?}")),
    }
}

/// A zstd level, or the repository's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Repository,
    /// Of data; metadata is compressed a little all the same.
    Off,
    Level(i8),
}

impl Compression {
    /// The level to ask for; 0 is none, `None` the repository's.
    pub fn level(self) -> Option<i8> {
        match self {
            Self::Repository => None,
            Self::Off => Some(0),
            Self::Level(level) => Some(level),
        }
    }
}

/// Reads the value of `--compression`.
pub fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "auto" => Ok(Compression::Repository),
        "off" => Ok(Compression::Off),
        "fastest" => Ok(Compression::Level(1)),
        "better" => Ok(Compression::Level(9)),
        "max" => Ok(Compression::Level(19)),
        number => match number.parse::<i8>() {
            Ok(level @ 1..=19) => Ok(Compression::Level(level)),
            _ => Err("write auto, off, fastest, better, max, or a level from 1 to 19".to_owned()),
        },
    }
}

/// Reads a percentage from 0 to 100, with or without its sign.
pub fn parse_percent(text: &str) -> Result<u8, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    match digits.parse() {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err("write a whole number from 0 to 100, and perhaps %".to_owned()),
    }
}

/// A plain number.
pub fn parse_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no whole number, or too large a one"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn percentages_are_whole_and_within_their_bounds() {
        for (text, percent) in [("0", 0), ("5%", 5), ("100%", 100)] {
            assert_eq!(parse_percent(text), Ok(percent));
        }
        for text in ["101", "-1", "2.5%", "", "%", "5%%", "five"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

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
        assert_eq!(parse_compression("off").map(Compression::level), Ok(Some(0)));
        for bad in ["", "0", "20", "-1", "fast"] {
            assert!(parse_compression(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_numbers_with_units() {
        let parsed = |text| parse_duration(text).map(|duration| duration.as_millis());
        for (text, milliseconds) in [("5m", 300_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("20ms", 20), ("0", 0)] {
            assert_eq!(parsed(text), Ok(milliseconds), "{text}");
        }
        for bad in
            ["", "5", "m", "5 m", "-5m", "5m3", "1.2.3s", "five", "5d", "1e400h", &format!("{}h", "9".repeat(40))]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_of_places_are_those_that_restic_knows() {
        for good in
            ["local.connections=4", "s3.storage-class=STANDARD_IA", "sftp.args=-p 22 -o a=b", "rest.connections=1"]
        {
            assert!(parse_option(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "local.connections",
            "local.connections=0",
            "local.connections=x",
            "s3.nonsense=1",
            "vss.connections=1",
            "=1",
        ] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_with_bounds_take_nothing_for_the_default() {
        let packs = |text| parse_pack_size(text).map(PackSize::bytes);
        assert_eq!((packs("4"), packs("128")), (Ok(Some(4 << 20)), Ok(Some(128 << 20))));
        assert_eq!((packs(""), packs("0")), (Ok(None), Ok(None)));
        assert_eq!((parse_concurrency(""), parse_concurrency("1024")), (Ok(0), Ok(1024)));
        for bad in ["3", "129", "-1", "4.5", "16M", "x"] {
            assert!(packs(bad).is_err(), "{bad}");
        }
        for bad in ["1025", "-1", "x"] {
            assert!(parse_concurrency(bad).is_err(), "{bad}");
        }
    }
}
