//! The layout of a pack's parity object: what its shards are and how each is recognised. Plaintext, and of use without any
//! key. What is computed from the shards is the room `parity`'s business.

use super::cursor::Cursor;
use super::header::ObjectType;
use super::{MAGIC, OBJECT_BYTES_MAX, PARITY_SHARDS_MAX, SHARD_BYTES_MAX, VERSION_BYTE, check_version, refuse_unknown};
use crate::error::Corruption;
use crate::id::PackId;

/// Bytes that the first copy of the header begins with, and the second ends with.
pub const PARITY_HEAD_LENGTH: usize = 64;

/// Shards are cut at multiples of this: the code works on blocks of 64 bytes.
pub const SHARD_STEP: u32 = 64;

/// The first bytes of a shard's BLAKE3: enough to tell an accident. Forgers gain nothing, since the pack's own name decides.
pub type ShardHash = [u8; SHARD_HASH_LENGTH];

const SHARD_HASH_LENGTH: usize = 16;
const HASH_LENGTH: usize = 32;

/// Which pack, and how each of its shards and of those computed from them is recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParityHeader {
    pub pack: PackId,
    /// Of the whole pack, in bytes.
    pub pack_length: u64,
    /// Of each shard, in bytes; the pack's last one counts as filled up with zeros.
    pub shard_length: u32,
    /// One a shard of the pack: as many as its length and theirs say.
    pub data: Vec<ShardHash>,
    /// One a shard of parity.
    pub parity: Vec<ShardHash>,
}

/// What a shard is recognised by.
pub fn shard_hash(shard: &[u8]) -> ShardHash {
    let mut hash = [0; SHARD_HASH_LENGTH];
    hash.copy_from_slice(&blake3::hash(shard).as_bytes()[..SHARD_HASH_LENGTH]);
    hash
}

impl ParityHeader {
    /// How many shards a pack of `pack_length` bytes has.
    pub fn data_shards(pack_length: u64, shard_length: u32) -> u64 {
        pack_length.div_ceil(shard_length.into())
    }

    /// Bytes of one copy: `head ‖ table ‖ hash`.
    pub fn length(&self) -> usize {
        PARITY_HEAD_LENGTH + SHARD_HASH_LENGTH * (self.data.len() + self.parity.len()) + HASH_LENGTH
    }

    /// Bytes of the whole object.
    pub fn object_length(&self) -> usize {
        2 * self.length() + self.parity.len() * self.shard_length as usize
    }

    /// Where shard `number` of parity begins.
    pub fn parity_offset(&self, number: usize) -> usize {
        self.length() + number * self.shard_length as usize
    }

    /// `magic ‖ type ‖ version ‖ suite 0 ‖ flags 0 ‖ u32 shard length ‖ u16 parity shards ‖ u16 0 ‖ u64 pack length ‖ zeros[8] ‖
    /// pack[32]`.
    fn head(&self) -> [u8; PARITY_HEAD_LENGTH] {
        let mut head = [0; PARITY_HEAD_LENGTH];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = ObjectType::Parity as u8;
        head[5] = VERSION_BYTE;
        head[8..12].copy_from_slice(&self.shard_length.to_le_bytes());
        head[12..14].copy_from_slice(&(self.parity.len() as u16).to_le_bytes());
        head[16..24].copy_from_slice(&self.pack_length.to_le_bytes());
        head[32..].copy_from_slice(&self.pack.0);
        head
    }

    /// The object: `head ‖ table ‖ hash ‖ shards ‖ table ‖ hash ‖ head`. The second copy of the header ends with what the first
    /// begins with, so that whichever is whole is found without the other.
    ///
    /// # Panics
    /// If `shards` are not as many bytes as the header says.
    pub fn encode(&self, shards: &[u8]) -> Vec<u8> {
        assert_eq!(shards.len(), self.parity.len() * self.shard_length as usize, "the shards are those of the table");
        let head = self.head();
        let mut out = Vec::with_capacity(self.object_length());
        out.extend_from_slice(&head);
        self.data.iter().chain(&self.parity).for_each(|hash| out.extend_from_slice(hash));
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out.extend_from_slice(shards);
        out.extend_from_within(PARITY_HEAD_LENGTH..self.length());
        out.extend_from_slice(&head);
        out
    }

    /// The copy at the object's beginning; what follows it is not looked at.
    pub fn decode_first(object: &[u8]) -> Result<Self, Corruption> {
        let (head, rest) = object.split_first_chunk().ok_or(Corruption::Truncated)?;
        let Head { body_length, .. } = Head::decode(head)?;
        Self::decode(head, rest.get(..body_length).ok_or(Corruption::Truncated)?)
    }

    /// The copy at the object's end; what lies before it is not looked at.
    pub fn decode_last(object: &[u8]) -> Result<Self, Corruption> {
        let (rest, head) = object.split_last_chunk().ok_or(Corruption::Truncated)?;
        let Head { body_length, .. } = Head::decode(head)?;
        let start = rest.len().checked_sub(body_length).ok_or(Corruption::Truncated)?;
        Self::decode(head, &rest[start..])
    }

    /// `body`: `table ‖ hash`. The hash before the version, so that damage is not taken for another version.
    fn decode(head: &[u8; PARITY_HEAD_LENGTH], body: &[u8]) -> Result<Self, Corruption> {
        let (table, hash) = body.split_last_chunk::<HASH_LENGTH>().ok_or(Corruption::Truncated)?;
        if blake3::Hasher::new().update(head).update(table).finalize() != blake3::Hash::from_bytes(*hash) {
            return Err(Corruption::Hash);
        }
        let Head { pack, pack_length, shard_length, data_shards, .. } = Head::decode(head)?;
        check_version(head[5].into())?;
        let (hashes, _) = table.as_chunks();
        let (data, parity) = hashes.split_at_checked(data_shards).ok_or(Corruption::Truncated)?;
        Ok(Self { pack, pack_length, shard_length, data: data.to_vec(), parity: parity.to_vec() })
    }
}

/// The fields of a head, and what follows from them.
struct Head {
    pack: PackId,
    pack_length: u64,
    shard_length: u32,
    data_shards: usize,
    /// Of the table and its hash.
    body_length: usize,
}

impl Head {
    /// All checks but that of the version.
    fn decode(head: &[u8; PARITY_HEAD_LENGTH]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(head);
        if cursor.array()? != MAGIC {
            return Err(Corruption::Magic);
        }
        let [number, _version, suite, flags] = cursor.array()?;
        if number != ObjectType::Parity as u8 {
            return Err(Corruption::WrongType(number));
        }
        refuse_unknown("suite", suite.into())?;
        refuse_unknown("flag", flags.into())?;
        let shard_length = cursor.u32()?;
        let parity_shards = usize::from(cursor.u16()?);
        cursor.zeros(2)?;
        let pack_length = cursor.u64()?;
        cursor.zeros(8)?;
        let pack = PackId(cursor.array()?);
        cursor.finish()?;
        if shard_length == 0 || shard_length % SHARD_STEP != 0 {
            return Err(Corruption::Malformed("length of a shard"));
        }
        if shard_length > SHARD_BYTES_MAX {
            return Err(Corruption::OverLimit("length of a shard"));
        }
        if pack_length > OBJECT_BYTES_MAX {
            return Err(Corruption::OverLimit("length of a pack"));
        }
        let data_shards = ParityHeader::data_shards(pack_length, shard_length);
        let data_shards = usize::try_from(data_shards).map_err(|_| Corruption::OverLimit("count of shards"))?;
        if data_shards.max(parity_shards) > PARITY_SHARDS_MAX {
            return Err(Corruption::OverLimit("count of shards"));
        }
        if data_shards == 0 || parity_shards == 0 {
            return Err(Corruption::Malformed("count of shards"));
        }
        let body_length = SHARD_HASH_LENGTH * (data_shards + parity_shards) + HASH_LENGTH;
        Ok(Self { pack, pack_length, shard_length, data_shards, body_length })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{counting, vector};
    use super::*;

    fn sample() -> ParityHeader {
        ParityHeader {
            pack: PackId(counting(0x10)),
            pack_length: 300,
            shard_length: 128,
            data: vec![counting(0x20), counting(0x30), counting(0x40)],
            parity: vec![counting(0x50), counting(0x60)],
        }
    }

    /// The sample with bytes of its head replaced, in both copies, and its hashes made right again.
    fn with(offset: usize, bytes: &[u8]) -> [Result<ParityHeader, Corruption>; 2] {
        let header = sample();
        let mut object = header.encode(&[7; 256]);
        let (first, last) = (0, object.len() - PARITY_HEAD_LENGTH);
        for start in [first, last] {
            object[start + offset..][..bytes.len()].copy_from_slice(bytes);
        }
        let covered = header.length() - HASH_LENGTH;
        let hash = *blake3::hash(&object[..covered]).as_bytes();
        for start in [covered, last - HASH_LENGTH] {
            object[start..][..HASH_LENGTH].copy_from_slice(&hash);
        }
        [ParityHeader::decode_first(&object), ParityHeader::decode_last(&object)]
    }

    #[test]
    fn both_copies_read_back_whatever_became_of_the_other() {
        let object = sample().encode(&[7; 256]);
        assert_eq!(object.len(), sample().object_length());
        let mut damaged = object.clone();
        damaged[..200].fill(0xff);
        assert_eq!(ParityHeader::decode_last(&damaged), Ok(sample()));
        assert_eq!(ParityHeader::decode_first(&object[..sample().length()]), Ok(sample()));
        assert_eq!(ParityHeader::decode_first(&object[..sample().length() - 1]), Err(Corruption::Truncated));
        assert_eq!(ParityHeader::decode_last(&object[1..]), Ok(sample()), "where it begins does not matter");
        assert_eq!(ParityHeader::decode_last(&object[object.len() - 100..]), Err(Corruption::Truncated));
    }

    #[test]
    fn every_bit_of_a_copy_is_covered() {
        let object = sample().encode(&[7; 256]);
        let length = sample().length();
        for byte in 0..length {
            for place in [byte, object.len() - length + byte] {
                let mut damaged = object.clone();
                damaged[place] ^= 1;
                let read = if place < length {
                    ParityHeader::decode_first(&damaged)
                } else {
                    ParityHeader::decode_last(&damaged)
                };
                assert!(read.is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn what_no_writer_makes_is_refused_by_name() {
        let both = |offset, bytes: &[u8], problem: Corruption| {
            assert_eq!(with(offset, bytes), [Err(problem.clone()), Err(problem)], "{bytes:x?} at {offset}");
        };
        both(0, b"X", Corruption::Magic);
        both(4, &[1], Corruption::WrongType(1));
        both(5, &[1], Corruption::Unknown { field: "format version", value: 1 });
        both(6, &[1], Corruption::Unknown { field: "suite", value: 1 });
        both(7, &[1], Corruption::Unknown { field: "flag", value: 1 });
        both(8, &[0; 4], Corruption::Malformed("length of a shard"));
        both(8, &[130], Corruption::Malformed("length of a shard"));
        both(8, &[64, 0, 1], Corruption::OverLimit("length of a shard"));
        both(12, &[0, 0], Corruption::Malformed("count of shards"));
        both(12, &[1, 0x40], Corruption::OverLimit("count of shards"));
        both(14, &[1], Corruption::Malformed("zero bytes"));
        both(16, &[0; 8], Corruption::Malformed("count of shards"));
        both(16, &[1, 0, 0, 0x40], Corruption::OverLimit("length of a pack"));
        both(16, &[0, 0, 0, 0x40], Corruption::OverLimit("count of shards"));
        both(24, &[1], Corruption::Malformed("zero bytes"));
        // Another count of shards than the table has: too many to be there, or a hash in the wrong place.
        for read in with(12, &[1, 0]) {
            assert!(matches!(read, Err(Corruption::Hash | Corruption::Truncated)), "{read:?}");
        }
    }

    #[test]
    fn the_golden_object_has_the_layout_of_the_document() {
        let golden = vector!("parity");
        let header = ParityHeader::decode_first(&golden).unwrap();
        assert_eq!(ParityHeader::decode_last(&golden).as_ref(), Ok(&header));
        assert_eq!((header.pack_length, header.shard_length), (300, 64));
        assert_eq!((header.data.len(), header.parity.len()), (5, 3));
        let shards = &golden[header.parity_offset(0)..header.parity_offset(3)];
        assert_eq!(hex::encode(header.encode(shards)), hex::encode(golden));
    }
}
