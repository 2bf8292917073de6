//! The 80 bytes that every sealed object begins with. Key slots, the marker and parity have layouts of their own.

use super::cursor::Cursor;
use super::{MAGIC, VERSION_BYTE, check_version, refuse_unknown};
use crate::error::Corruption;

/// What an object is. The number stands in its header.
///
/// Reserved for later verbs, and refused until then: 16 lock, 19 inventory, 20 audit, 21 journal,
/// 22 attestation, 24 verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ObjectType {
    DataPack = 1,
    MetaPack = 2,
    Index = 3,
    Snapshot = 4,
    Session = 5,
    Mark = 6,
    Pending = 7,
    Plan = 8,
    Done = 9,
    Config = 10,
    Keyring = 11,
    Parity = 12,
    KeySlot = 13,
    Tombstone = 14,
    Format = 15,
    Forgotten = 17,
    Damaged = 18,
    Mirror = 23,
}

/// Bytes of a header without extension.
pub const HEADER_LENGTH: usize = 80;

/// Where the bytes end that an object's keys are derived from.
pub const HEADER_KEYED_LENGTH: usize = 48;

/// Suite 1: BLAKE3 key derivation and AES-256-GCM.
const SUITE: u8 = 1;

/// Flag bit 0.
const FLAG_PADDED: u8 = 1;

/// The header of a sealed object (suite 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub object_type: ObjectType,
    pub padded: bool,
    pub key_epoch: u32,
    pub salt: [u8; 32],
    pub commitment: [u8; 32],
}

impl ObjectType {
    /// The type with this number, if this build knows it.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::DataPack,
            2 => Self::MetaPack,
            3 => Self::Index,
            4 => Self::Snapshot,
            5 => Self::Session,
            6 => Self::Mark,
            7 => Self::Pending,
            8 => Self::Plan,
            9 => Self::Done,
            10 => Self::Config,
            11 => Self::Keyring,
            12 => Self::Parity,
            13 => Self::KeySlot,
            14 => Self::Tombstone,
            15 => Self::Format,
            17 => Self::Forgotten,
            18 => Self::Damaged,
            23 => Self::Mirror,
            _ => return None,
        })
    }
}

impl Header {
    /// `magic ‖ type ‖ version ‖ suite ‖ flags ‖ u32 epoch ‖ u16 extension length ‖ u16 0 ‖ salt[32] ‖ commitment[32]`.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.object_type as u8;
        bytes[5] = VERSION_BYTE;
        bytes[6] = SUITE;
        bytes[7] = if self.padded { FLAG_PADDED } else { 0 };
        bytes[8..12].copy_from_slice(&self.key_epoch.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.salt);
        bytes[48..].copy_from_slice(&self.commitment);
        bytes
    }

    /// Reads the header from an object's first bytes; more than [`HEADER_LENGTH`] may be given.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != MAGIC {
            return Err(Corruption::Magic);
        }
        let [number, version, suite, flags] = cursor.array()?;
        check_version(version.into())?;
        let object_type = match ObjectType::from_number(number) {
            // Their layouts are their own; here they are out of place.
            Some(ObjectType::Parity | ObjectType::KeySlot | ObjectType::Format | ObjectType::Mirror) => {
                return Err(Corruption::WrongType(number));
            }
            Some(object_type) => object_type,
            None => return Err(Corruption::Unknown { field: "object type", value: number.into() }),
        };
        // Suite 0 would be plaintext: never for a sealed object, or the store could say what it likes.
        if suite != SUITE {
            return Err(Corruption::Unknown { field: "suite", value: suite.into() });
        }
        refuse_unknown("header flag", (flags & !FLAG_PADDED).into())?;
        let key_epoch = cursor.u32()?;
        refuse_unknown("header extension of length", cursor.u16()?.into())?;
        cursor.zeros(2)?;
        Ok(Self {
            object_type,
            padded: flags & FLAG_PADDED != 0,
            key_epoch,
            salt: cursor.array()?,
            commitment: cursor.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    /// The golden header with one byte changed.
    fn with(offset: usize, value: u8) -> Result<Header, Corruption> {
        let mut bytes = vector!("header");
        bytes[offset] = value;
        Header::decode(&bytes)
    }

    fn unknown(field: &'static str, value: u64) -> Result<Header, Corruption> {
        Err(Corruption::Unknown { field, value })
    }

    #[test]
    fn what_this_build_does_not_know_is_refused_by_name() {
        assert_eq!(with(0, b'X'), Err(Corruption::Magic));
        assert_eq!(with(5, 1), unknown("format version", 1));
        assert_eq!(with(6, 0), unknown("suite", 0));
        assert_eq!(with(6, 2), unknown("suite", 2));
        assert_eq!(with(7, 3), unknown("header flag", 2));
        assert_eq!(with(12, 1), unknown("header extension of length", 1));
        assert_eq!(with(13, 1), unknown("header extension of length", 256));
        assert_eq!(with(14, 1), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(with(15, 1), Err(Corruption::Malformed("zero bytes")));
    }

    #[test]
    fn reserved_types_are_unknown_and_types_of_other_layouts_out_of_place() {
        for number in 0..=255 {
            let expected = match number {
                1..=11 | 14 | 17 | 18 => Ok(number),
                12 | 13 | 15 | 23 => Err(Corruption::WrongType(number)),
                _ => Err(Corruption::Unknown { field: "object type", value: number.into() }),
            };
            assert_eq!(with(4, number).map(|header| header.object_type as u8), expected);
        }
    }
}
