//! Integers and byte strings of the hand-written layouts, in and out. Nothing is read that is not there, and nothing is
//! allocated here.

use crate::error::Corruption;

/// What is between `magic` and the BLAKE3 of all before it, by which a client's own files begin and end. `beginning`: what is
/// wrong if it begins otherwise.
pub(super) fn between_magic_and_hash<'a>(
    bytes: &'a [u8],
    magic: &[u8; 8],
    beginning: &'static str,
) -> Result<Cursor<'a>, Corruption> {
    let (body, hash) = bytes.split_last_chunk::<32>().ok_or(Corruption::Truncated)?;
    let mut cursor = Cursor::new(body);
    if cursor.array::<8>()? != *magic {
        return Err(Corruption::Malformed(beginning));
    }
    if blake3::hash(body) != blake3::Hash::from_bytes(*hash) {
        return Err(Corruption::Hash);
    }
    Ok(cursor)
}

/// Reads from the front of a slice.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Corruption> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Corruption::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Corruption> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Corruption::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Corruption> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Corruption> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Corruption> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Corruption> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes that must be zero.
    pub(crate) fn zeros(&mut self, length: usize) -> Result<(), Corruption> {
        if self.bytes(length)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Corruption::Malformed("zero bytes"))
        }
    }

    /// An integer of variable length, by the codec's own rule: below 251 one byte; else 251, 252 or 253 and a `u16`, `u32`
    /// or `u64`. The shortest form is the only one.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Corruption> {
        let (value, least) = match self.u8()? {
            byte @ 0..=250 => return Ok(byte.into()),
            251 => (self.u16()?.into(), 251),
            252 => (self.u32()?.into(), 1 << 16),
            253 => (self.u64()?, 1 << 32),
            _ => return Err(Corruption::Malformed("integer")),
        };
        if value < least { Err(Corruption::Malformed("integer")) } else { Ok(value) }
    }

    /// A variable-length integer that must fit into 32 bits.
    #[inline]
    pub(crate) fn varint_u32(&mut self) -> Result<u32, Corruption> {
        u32::try_from(self.varint()?).map_err(|_| Corruption::Malformed("integer"))
    }

    /// A variable-length signed integer: zigzag.
    #[inline]
    pub(crate) fn varint_i64(&mut self) -> Result<i64, Corruption> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string: its length as a variable-length integer, at most `length_max`, then its bytes.
    #[inline]
    pub(crate) fn string(&mut self, length_max: usize, what: &'static str) -> Result<&'a [u8], Corruption> {
        let length = usize::try_from(self.varint()?).map_err(|_| Corruption::OverLimit(what))?;
        if length > length_max {
            return Err(Corruption::OverLimit(what));
        }
        self.bytes(length)
    }

    /// Checks a count against its limit and against the bytes that are left, of which each item takes at least
    /// `item_bytes_min`. Only a count that passed may be reserved for.
    pub(crate) fn count(
        &self,
        count: u64,
        item_bytes_min: usize,
        count_max: usize,
        what: &'static str,
    ) -> Result<usize, Corruption> {
        let count = usize::try_from(count).map_err(|_| Corruption::OverLimit(what))?;
        if count > count_max {
            return Err(Corruption::OverLimit(what));
        }
        if count > self.rest.len() / item_bytes_min {
            return Err(Corruption::Truncated);
        }
        Ok(count)
    }

    /// Everything must have been read.
    pub(crate) fn finish(self) -> Result<(), Corruption> {
        if self.rest.is_empty() { Ok(()) } else { Err(Corruption::Malformed("end: bytes are left over")) }
    }
}

/// Appends an integer in its shortest variable-length form.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    if value < 251 {
        out.push(value as u8);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(251);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(252);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        out.push(253);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends a signed integer, zigzag.
#[inline]
pub(crate) fn put_varint_i64(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends a byte string with its length.
#[inline]
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_take_the_shortest_form_at_every_border() {
        for (value, expected) in [
            (0, "00"),
            (250, "fa"),
            (251, "fbfb00"),
            (0xffff, "fbffff"),
            (0x1_0000, "fc00000100"),
            (0xffff_ffff, "fcffffffff"),
            (0x1_0000_0000, "fd0000000001000000"),
            (u64::MAX, "fdffffffffffffffff"),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(hex::encode(&out), expected);
            assert_eq!(Cursor::new(&out).varint(), Ok(value));
        }
    }

    #[test]
    fn longer_forms_and_unused_markers_are_refused() {
        for text in ["fbfa00", "fcffff0000", "fdffffffff00000000", "fe", "ff"] {
            let bytes = hex::decode(text).unwrap();
            assert_eq!(Cursor::new(&bytes).varint(), Err(Corruption::Malformed("integer")), "{text}");
        }
        assert_eq!(Cursor::new(&[251, 0]).varint(), Err(Corruption::Truncated));
    }

    proptest! {
        #[test]
        fn signed_integers_read_back(value: i64) {
            let mut out = Vec::new();
            put_varint_i64(&mut out, value);
            prop_assert_eq!(Cursor::new(&out).varint_i64(), Ok(value));
        }
    }
}
