//! Extended headers: records `LENGTH KEY=VALUE\n`, the length in decimal digits and of the whole record.

use std::io;

use crate::archive::malformed;
use crate::format::tree::Timestamp;

/// One record.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// Appends a record. The key must have no `=`.
pub fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits, of which it may need one more for that.
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// All records, in order.
pub fn records(mut bytes: &[u8]) -> io::Result<Vec<Record<'_>>> {
    let mut records = Vec::new();
    // Some writers fill the last block's rest within the length they give.
    while bytes.first().is_some_and(|byte| *byte != 0) {
        let record = take(&mut bytes).ok_or_else(|| malformed("an extended header that is malformed"))?;
        records.push(record);
    }
    Ok(records)
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = decimal(&bytes[..blank])?.try_into().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    *bytes = rest;
    Some((&text[..equals], &text[equals + 1..]))
}

/// Digits alone.
pub fn decimal(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

const SECOND_NS: i128 = 1_000_000_000;

/// A time as text: seconds, and as many decimal places as it takes.
pub fn time_text(time: Timestamp) -> String {
    let ns = i128::from(time.seconds) * SECOND_NS + i128::from(time.nanoseconds);
    let sign = if ns < 0 { "-" } else { "" };
    let (seconds, fraction) = (ns.abs() / SECOND_NS, ns.abs() % SECOND_NS);
    match fraction {
        0 => format!("{sign}{seconds}"),
        fraction => format!("{sign}{seconds}.{}", format!("{fraction:09}").trim_end_matches('0')),
    }
}

/// A time from text; what is finer than nanoseconds is left out.
pub fn time(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    if whole.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|digit| i128::from(digit - b'0')).chain(std::iter::repeat(0)).take(9);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + digit);
    let ns = i128::from(decimal(whole)?) * SECOND_NS + fraction;
    let ns = if is_negative { -ns } else { ns };
    let seconds = i64::try_from(ns.div_euclid(SECOND_NS)).ok()?;
    Some(Timestamp { seconds, nanoseconds: ns.rem_euclid(SECOND_NS) as u32 })
}

/// The name of an attribute as a key: GNU tar's escapes for what may not stand there.
pub fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = ATTRIBUTE.to_vec();
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(*byte),
        }
    }
    key
}

/// The attribute that a key names.
pub fn attribute_name(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(ATTRIBUTE).filter(|name| !name.is_empty())?;
    let mut name = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let (byte, after) = match (rest.strip_prefix(b"%25"), rest.strip_prefix(b"%3D")) {
            (Some(after), _) => (b'%', after),
            (_, Some(after)) => (b'=', after),
            _ => (*first, after),
        };
        name.push(byte);
        rest = after;
    }
    Some(name)
}

const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let one = |value: usize| {
            let mut out = Vec::new();
            put(&mut out, b"k", &vec![b'v'; value]);
            out
        };
        assert_eq!(one(1), b"6 k=v\n");
        assert_eq!(one(4), b"9 k=vvvv\n");
        assert_eq!(one(5), b"11 k=vvvvv\n", "the digit more is counted too");
        for value in 0..2000 {
            let bytes = one(value);
            assert_eq!(records(&bytes).unwrap(), [(&b"k"[..], &vec![b'v'; value][..])]);
        }
    }

    #[test]
    fn values_are_any_bytes_and_records_end_where_they_say() {
        let mut out = Vec::new();
        put(&mut out, b"path", b"a\n12 b=c\n=\0\xff");
        put(&mut out, b"size", b"");
        let read = records(&out).unwrap();
        assert_eq!(read, [(&b"path"[..], &b"a\n12 b=c\n=\0\xff"[..]), (b"size", b"")]);
        assert_eq!(records(b"").unwrap(), []);
        assert_eq!(records(&[out.as_slice(), &[0; 7]].concat()).unwrap().len(), 2);
        for bad in [
            "5 a=b\n",
            "7 a=b\n",
            "x a=b\n",
            "-6 a=b\n",
            "6 a+b\n",
            "6  a=\n x",
            "99999999999999999999 a=b\n",
            "0 a=b\n",
        ] {
            assert!(records(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_come_back_on_both_sides_of_1970() {
        let samples = [(0, 0), (1, 1), (-1, 0), (-2, 500_000_000), (-1, 999_999_999), (i64::MAX, 1), (i64::MIN, 1)];
        for (seconds, nanoseconds) in samples {
            let one = Timestamp { seconds, nanoseconds };
            assert_eq!(time(time_text(one).as_bytes()), Some(one), "{one:?}");
        }
        assert_eq!(time_text(Timestamp { seconds: -2, nanoseconds: 500_000_000 }), "-1.5");
        assert_eq!(time(b"1.0000000019"), Some(Timestamp { seconds: 1, nanoseconds: 1 }));
        for bad in ["", "-", "1.x", ".5", "1e9", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn names_of_attributes_may_have_any_byte() {
        for name in [&b"user.a"[..], b"user.a=b%c", b"user.%3D", b"user.\xff\n"] {
            let key = attribute_key(name);
            assert!(!key.contains(&b'='));
            assert_eq!(attribute_name(&key).as_deref(), Some(name));
        }
        assert_eq!(attribute_name(b"SCHILY.xattr."), None);
        assert_eq!(attribute_name(b"SCHILY.acl.access"), None);
    }
}
