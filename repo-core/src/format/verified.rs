//! When a client last verified each pack: a file of the client's own, beside no repository and part of none.
//! Where it lies is the caller's business, and it may be lost at any time.
//!
//! `magic[8] ‖ repository[16] ‖ (pack[32] ‖ u64 hashed ‖ u64 decoded) … ‖ BLAKE3[32] of all before`; times in nanoseconds since
//! 1970 UTC, 0 is never; packs ascending.

use super::cursor::between_magic_and_hash;
use crate::error::Corruption;
use crate::id::{PackId, RepositoryId};

const MAGIC: [u8; 8] = *b"RCOVER\0\x01";
const HASH_LENGTH: usize = 32;
const ROW_LENGTH: usize = 32 + 8 + 8;

/// A pack, and when it was whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedRow {
    pub pack: PackId,
    /// Its bytes had its name.
    pub hashed_ns: i64,
    /// All its chunks had theirs.
    pub decoded_ns: i64,
}

/// The file; rows ascending by pack.
pub fn encode(repository: RepositoryId, rows: &[VerifiedRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + 16 + rows.len() * ROW_LENGTH + HASH_LENGTH);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&repository.0);
    for row in rows {
        out.extend_from_slice(&row.pack.0);
        out.extend_from_slice(&row.hashed_ns.to_le_bytes());
        out.extend_from_slice(&row.decoded_ns.to_le_bytes());
    }
    out.extend_from_slice(blake3::hash(&out).as_bytes());
    out
}

/// Refuses what is damaged or of another repository.
pub fn decode(bytes: &[u8], repository: RepositoryId) -> Result<Vec<VerifiedRow>, Corruption> {
    let mut cursor = between_magic_and_hash(bytes, &MAGIC, "beginning of a list of verified packs")?;
    if cursor.array::<16>()? != repository.0 {
        return Err(Corruption::Malformed("repository of a list of verified packs: another one"));
    }
    let mut rows: Vec<VerifiedRow> = Vec::with_capacity(cursor.remaining() / ROW_LENGTH);
    for _ in 0..cursor.remaining() / ROW_LENGTH {
        let pack = PackId(cursor.array()?);
        let (hashed_ns, decoded_ns) = (cursor.u64()?.cast_signed(), cursor.u64()?.cast_signed());
        if rows.last().is_some_and(|last| last.pack >= pack) {
            return Err(Corruption::Malformed("order of verified packs"));
        }
        rows.push(VerifiedRow { pack, hashed_ns, decoded_ns });
    }
    cursor.finish()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: RepositoryId = RepositoryId([3; 16]);

    fn rows() -> Vec<VerifiedRow> {
        let row = |number: u8| VerifiedRow { pack: PackId([number; 32]), hashed_ns: i64::from(number), decoded_ns: 0 };
        vec![row(1), row(2), row(9)]
    }

    #[test]
    fn what_was_written_reads_back() {
        assert_eq!(decode(&encode(OURS, &rows()), OURS), Ok(rows()));
        assert_eq!(decode(&encode(OURS, &[]), OURS), Ok(vec![]));
    }

    #[test]
    fn no_other_bytes_are_believed() {
        let whole = encode(OURS, &rows());
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 1;
            assert!(decode(&turned, OURS).is_err(), "a bit turned at {at}");
            assert!(decode(&whole[..at], OURS).is_err(), "cut to {at}");
        }
        assert!(decode(&whole, RepositoryId([4; 16])).is_err(), "of another repository");
        let mut rows = rows();
        rows.swap(0, 1);
        assert!(decode(&encode(OURS, &rows), OURS).is_err(), "out of order");
    }
}
