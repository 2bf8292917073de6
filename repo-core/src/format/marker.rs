//! The object `format`: what makes a place a repository. Plaintext, 128 bytes, checksummed.

use super::cursor::Cursor;
use super::header::ObjectType;
use super::{MAGIC, VERSION_BYTE, check_version, refuse_unknown};
use crate::error::Corruption;
use crate::id::RepositoryId;

/// The object `format`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The oldest format version whose readers understand the repository.
    pub min_reader: u32,
    pub repository: RepositoryId,
    pub created_ms: u64,
}

/// Bytes of the object.
pub const MARKER_LENGTH: usize = 128;

impl Marker {
    /// `magic ‖ type ‖ version ‖ suite 0 ‖ flags 0 ‖ u32 min_reader ‖ u32 0 ‖ repository[16] ‖ u64 created_ms ‖ zeros[56] ‖ hash`.
    pub fn encode(&self) -> [u8; MARKER_LENGTH] {
        let mut bytes = [0; MARKER_LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = ObjectType::Format as u8;
        bytes[5] = VERSION_BYTE;
        bytes[8..12].copy_from_slice(&self.min_reader.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..40].copy_from_slice(&self.created_ms.to_le_bytes());
        let checksum = blake3::hash(&bytes[..96]);
        bytes[96..].copy_from_slice(checksum.as_bytes());
        bytes
    }

    /// The hash first: a flipped bit must not look like another version. Its place is the same in every version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != MAGIC {
            return Err(Corruption::Magic);
        }
        let checked = bytes.get(..96).ok_or(Corruption::Truncated)?;
        let checksum = bytes.get(96..MARKER_LENGTH).ok_or(Corruption::Truncated)?;
        if blake3::hash(checked).as_bytes() != checksum {
            return Err(Corruption::Hash);
        }
        let [number, version, suite, flags] = cursor.array()?;
        if number != ObjectType::Format as u8 {
            return Err(Corruption::WrongType(number));
        }
        check_version(version.into())?;
        refuse_unknown("suite", suite.into())?;
        refuse_unknown("flag", flags.into())?;
        let min_reader = cursor.u32()?;
        if min_reader > super::FORMAT_VERSION {
            return Err(Corruption::Unknown { field: "format version", value: min_reader.into() });
        }
        cursor.zeros(4)?;
        let repository = RepositoryId(cursor.array()?);
        let created_ms = cursor.u64()?;
        cursor.zeros(56)?;
        cursor.bytes(32)?;
        cursor.finish()?;
        Ok(Self { min_reader, repository, created_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    /// The golden marker with one byte changed and its hash made right again.
    fn with(offset: usize, value: u8) -> Result<Marker, Corruption> {
        let mut bytes = vector!("marker");
        bytes[offset] = value;
        let checksum = blake3::hash(&bytes[..96]);
        bytes[96..].copy_from_slice(checksum.as_bytes());
        Marker::decode(&bytes)
    }

    #[test]
    fn another_version_is_refused_by_name() {
        assert_eq!(with(5, 1), Err(Corruption::Unknown { field: "format version", value: 1 }));
        assert_eq!(with(8, 9), Err(Corruption::Unknown { field: "format version", value: 9 }));
        assert_eq!(with(6, 1), Err(Corruption::Unknown { field: "suite", value: 1 }));
        assert_eq!(with(7, 1), Err(Corruption::Unknown { field: "flag", value: 1 }));
        assert_eq!(with(4, 4), Err(Corruption::WrongType(4)));
        assert_eq!(with(12, 1), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(with(95, 1), Err(Corruption::Malformed("zero bytes")));
    }

    #[test]
    fn a_flipped_version_is_damage_and_not_another_version() {
        let mut bytes = vector!("marker");
        bytes[5] ^= 1;
        assert_eq!(Marker::decode(&bytes), Err(Corruption::Hash));
    }
}
