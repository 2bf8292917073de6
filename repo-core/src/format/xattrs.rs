//! Extended attributes: a list in the node's record, or in a chunk of its own.

use super::cursor::{Cursor, put_string, put_varint};
use super::{XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX};
use crate::error::Corruption;
use crate::id::ChunkId;

/// Names and values.
pub type XattrList = Vec<(Vec<u8>, Vec<u8>)>;

/// Extended attributes, POSIX ACLs among them; ascending by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Xattrs {
    /// At most 4 KiB in sum.
    Inline(XattrList),
    /// The id of a chunk of kind `Xattr` (`encode_xattrs`).
    Chunk(ChunkId),
}

/// Version of the chunk's layout.
const VERSION: u8 = 1;

/// The content of a chunk of kind `Xattr`: `u8 version 1 ‖ count ‖ (name ‖ value)` each.
pub fn encode_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_xattrs(&mut out, xattrs);
    out
}

/// Names must ascend strictly.
pub fn decode_xattrs(bytes: &[u8]) -> Result<XattrList, Corruption> {
    if bytes.len() > XATTR_BYTES_MAX {
        return Err(Corruption::OverLimit("extended attributes"));
    }
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u8()?;
    if version != VERSION {
        return Err(Corruption::Unknown { field: "attributes version", value: version.into() });
    }
    let xattrs = take_xattrs(&mut cursor, XATTR_BYTES_MAX)?;
    cursor.finish()?;
    check_xattrs(&xattrs, XATTR_BYTES_MAX)?;
    Ok(xattrs)
}

pub(super) fn put_xattrs(out: &mut Vec<u8>, xattrs: &[(Vec<u8>, Vec<u8>)]) {
    put_varint(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        put_string(out, name);
        put_string(out, value);
    }
}

pub(super) fn take_xattrs(cursor: &mut Cursor<'_>, bytes_max: usize) -> Result<XattrList, Corruption> {
    let count = cursor.varint()?;
    let count = cursor.count(count, 3, bytes_max, "count of extended attributes")?;
    let mut xattrs = Vec::new();
    for _ in 0..count {
        let name = cursor.string(XATTR_NAME_BYTES_MAX, "name of an extended attribute")?;
        let value = cursor.string(bytes_max, "extended attribute")?;
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    Ok(xattrs)
}

pub(super) fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)], bytes_max: usize) -> Result<(), Corruption> {
    let bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > bytes_max {
        return Err(Corruption::OverLimit("extended attributes"));
    }
    let named =
        xattrs.iter().all(|(name, _)| !name.is_empty() && name.len() <= XATTR_NAME_BYTES_MAX && !name.contains(&0));
    if named && xattrs.is_sorted_by(|a, b| a.0 < b.0) {
        Ok(())
    } else {
        Err(Corruption::Malformed("names of extended attributes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&[u8]]) -> Result<(), Corruption> {
        let xattrs: XattrList = names.iter().map(|name| (name.to_vec(), b"value".to_vec())).collect();
        decode_xattrs(&encode_xattrs(&xattrs)).map(|read| assert_eq!(read, xattrs))
    }

    #[test]
    fn names_ascend_and_are_names() {
        const NAMES: Result<(), Corruption> = Err(Corruption::Malformed("names of extended attributes"));
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[b"user.a", b"user.b"]), Ok(()));
        assert_eq!(check(&[b"user.b", b"user.a"]), NAMES);
        assert_eq!(check(&[b"user.a", b"user.a"]), NAMES);
        assert_eq!(check(&[b""]), NAMES);
        assert_eq!(check(&[b"user.\0"]), NAMES);
        assert_eq!(check(&[&[b'n'; XATTR_NAME_BYTES_MAX]]), Ok(()));
        let long = Err(Corruption::OverLimit("name of an extended attribute"));
        assert_eq!(check(&[&[b'n'; XATTR_NAME_BYTES_MAX + 1]]), long);
    }

    #[test]
    fn a_count_or_a_length_beyond_the_input_is_refused() {
        assert_eq!(decode_xattrs(&[1, 250]), Err(Corruption::Truncated));
        assert_eq!(decode_xattrs(&[1, 1, 1, b'n', 2, 0]), Err(Corruption::Truncated));
        assert_eq!(decode_xattrs(&[2, 0]), Err(Corruption::Unknown { field: "attributes version", value: 2 }));
        assert_eq!(
            decode_xattrs(&[1, 253, 255, 255, 255, 255, 255, 255, 255, 255]),
            Err(Corruption::OverLimit("count of extended attributes"))
        );
    }
}
