//! The one place that knows bincode: bounded, exact, canonical. What the fields mean is `format`'s business.
//!
//! bincode 2.0.1 with its standard configuration, through serde. The library is no longer developed, so the bytes are
//! specified in docs/format.md on their own, and nothing else of the format depends on it.

use bincode::enc::write::{SizeWriter, Writer};
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Corruption;

/// bincode counts what it *claims*, and claims eight bytes for a variable-length integer that takes one. So eight times
/// the longest payload is the tightest limit that never refuses a payload within its own.
const CLAIM_LIMIT: usize = 8 * PAYLOAD_BYTES_MAX;
const LARGE_CLAIM_LIMIT: usize = 8 * LARGE_PAYLOAD_BYTES_MAX;

/// No payload but the large ones is longer than this; each type has its own limit, at most this one.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Lists of packs: two million names of 32 bytes.
pub const LARGE_PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// The bytes of a struct: its fields in the order they are declared.
///
/// The buffer is made once, at its final size: a keyring leaves no copies of keys behind in buffers that were outgrown.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    const WHY: &str = "the structs of format hold only what bincode can write";
    let configuration = bincode::config::standard();
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut size, configuration).expect(WHY);
    let mut bytes = vec![0; size.bytes_written];
    bincode::serde::encode_into_slice(value, &mut bytes, configuration).expect(WHY);
    bytes
}

/// Reads a struct from exactly `bytes`, which may be at most `bytes_max` long. `what` names it in the error.
///
/// Exact and canonical: what is left over is an error, and the value must encode to the same bytes again. bincode alone
/// accepts integers in longer forms than needed; two spellings of one value would be two objects that say the same.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    bytes_max: usize,
    what: &'static str,
) -> Result<T, Corruption> {
    if bytes.len() > bytes_max.min(LARGE_PAYLOAD_BYTES_MAX) {
        return Err(Corruption::OverLimit(what));
    }
    let standard = bincode::config::standard();
    let decoded = if bytes_max <= PAYLOAD_BYTES_MAX {
        bincode::serde::decode_from_slice(bytes, standard.with_limit::<CLAIM_LIMIT>())
    } else {
        bincode::serde::decode_from_slice(bytes, standard.with_limit::<LARGE_CLAIM_LIMIT>())
    };
    let (value, consumed): (T, usize) = decoded.map_err(|_| Corruption::Malformed(what))?;
    if consumed != bytes.len() {
        return Err(Corruption::Malformed(what));
    }
    let mut rest = Compare(bytes);
    let same = bincode::serde::encode_into_writer(&value, &mut rest, bincode::config::standard()).is_ok();
    if !same || !rest.0.is_empty() {
        return Err(Corruption::Malformed(what));
    }
    Ok(value)
}

/// A writer that keeps nothing and only compares, so that checking costs no memory and copies no secret.
struct Compare<'a>(&'a [u8]);

impl Writer for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::UnexpectedEnd)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone, Copy)]
    enum Choice {
        First,
        Second { value: u64 },
    }

    #[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
    struct Everything {
        byte: u8,
        signed_byte: i8,
        short: u16,
        signed_short: i16,
        word: u32,
        long: u64,
        signed_long: i64,
        truth: bool,
        array: [u8; 3],
        text: String,
        bytes: Vec<u8>,
        none: Option<u16>,
        some: Option<u16>,
        choices: Vec<Choice>,
    }

    fn everything() -> Everything {
        Everything {
            byte: 255,
            signed_byte: -1,
            short: 251,
            signed_short: -1,
            word: 0x1_0000,
            long: 1 << 32,
            signed_long: 125,
            truth: true,
            array: [251, 252, 253],
            text: "é".into(),
            bytes: vec![250, 251],
            none: None,
            some: Some(250),
            choices: vec![Choice::First, Choice::Second { value: 7 }],
        }
    }

    /// The encoding rules as docs/format.md gives them, byte by byte: a new bincode that writes otherwise fails here.
    #[test]
    fn the_rules_of_the_document_are_what_is_written() {
        let expected = [
            "ff",                 // u8: one byte
            "ff",                 // i8: one byte, two's complement
            "fbfb00",             // 251: marker fb, u16
            "01",                 // -1: zigzag 1
            "fc00000100",         // 2^16: marker fc, u32
            "fd0000000001000000", // 2^32: marker fd, u64
            "fa",                 // 125: zigzag 250, the largest one-byte value
            "01",                 // true
            "fbfcfd",             // an array: its bytes
            "02c3a9",             // text: count of bytes, UTF-8
            "02fafb",             // bytes: count, bytes
            "00",                 // None
            "01fa",               // Some(250)
            "02000107",           // two choices: number of the first; number of the second and its field
        ]
        .concat();
        assert_eq!(hex::encode(encode(&everything())), expected);
        assert_eq!(decode::<Everything>(&hex::decode(expected).unwrap(), 100, "x"), Ok(everything()));
    }

    #[test]
    fn a_longer_form_of_a_number_is_refused() {
        assert_eq!(decode::<u64>(&[250], 9, "n"), Ok(250));
        for spelling in [&[251, 250, 0][..], &[252, 250, 0, 0, 0], &[253, 250, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(decode::<u64>(spelling, 9, "n"), Err(Corruption::Malformed("n")));
        }
    }

    /// A struct whose reading and writing differ has no one spelling. Such a mistake must not wait for the first reader
    /// that compares digests.
    #[test]
    fn a_struct_that_reads_more_or_less_than_it_writes_never_decodes() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct ReadsMore {
            first: u8,
            #[serde(skip_serializing)]
            second: u8,
        }
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct WritesMore {
            first: u8,
            #[serde(skip_deserializing)]
            second: u8,
        }
        assert_eq!(decode::<ReadsMore>(&[1, 2], 9, "more"), Err(Corruption::Malformed("more")));
        assert_eq!(decode::<WritesMore>(&[1], 9, "less"), Err(Corruption::Malformed("less")));
    }

    #[test]
    fn bytes_left_over_and_bytes_over_the_limit_are_refused() {
        assert_eq!(decode::<u64>(&[1, 0], 9, "n"), Err(Corruption::Malformed("n")));
        assert_eq!(decode::<u64>(&[1, 0], 1, "n"), Err(Corruption::OverLimit("n")));
    }

    #[test]
    fn a_count_that_the_input_cannot_hold_ends_with_the_input() {
        let mut bytes = vec![253];
        bytes.extend(u64::MAX.to_le_bytes());
        assert!(decode::<Vec<Vec<u8>>>(&bytes, 100, "list").is_err());
        assert!(decode::<String>(&bytes, 100, "text").is_err());
    }

    #[test]
    fn a_payload_of_the_full_length_in_the_smallest_items_is_within_the_claims() {
        let list = vec![0u64; PAYLOAD_BYTES_MAX - 5];
        let bytes = encode(&list);
        assert_eq!(bytes.len(), PAYLOAD_BYTES_MAX);
        assert_eq!(decode::<Vec<u64>>(&bytes, PAYLOAD_BYTES_MAX, "list"), Ok(list));
    }
}
