//! Shards computed from a pack's stored bytes, of which any may stand in for a lost one: bit rot, lost sectors and
//! truncation heal without a key. When parity is written, and what becomes of a healed pack, is for others to say.
//!
//! A Reed–Solomon code over GF(2^16) by additive Fourier transforms (Lin, Chung and Han, "Novel Polynomial Basis and Its
//! Application to Reed–Solomon Erasure Codes", FOCS 2014), in the variant of Leopard; docs/format.md defines it without them.
//! It corrects erasures, so each shard's hash tells whether it is one. What comes out counts only if it has the pack's name:
//! a forged parity object can make healing fail, and nothing else.

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use crate::error::Corruption;
use crate::format::SHARD_BYTES_MAX;
use crate::format::parity::{ParityHeader, SHARD_STEP, shard_hash};
use crate::id::PackId;

/// A pack is cut into about this many shards: many, so that scattered damage costs few of them whole; not more, since each
/// has its hash in the table, twice.
const SHARDS: u64 = 512;

/// The least shard of our writer. Small packs have fewer shards instead of a table that outweighs them.
const SHARD_BYTES_MIN: u32 = 2048;

/// Two lost regions heal in the smallest pack too.
const PARITY_SHARDS_MIN: u64 = 2;

/// What the code works on at a time, in bytes: a column of all shards, since each block of 64 bytes is computed alone.
/// So memory does not grow with the pack, and stays in the processor's cache.
const COLUMN_BYTES: usize = 1 << 20;

/// No parity object is longer: as many shards of parity as a pack may have, and the tables.
pub const OBJECT_BYTES_MAX: u64 = 2 * crate::format::OBJECT_BYTES_MAX;

const CHECKED: &str = "counts and lengths of shards are within the code's bounds";

/// Why a pack was not brought back. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unhealed {
    /// Neither copy of the parity object's header is whole, or it is another pack's.
    #[error("its parity object is of no use: {0}")]
    NoParity(Corruption),
    /// More is lost than parity can stand in for.
    #[error("{lost} of its {shards} shards are lost, and {available} shards of parity are left")]
    TooMuchLost {
        /// Shards of the pack that are missing or changed.
        lost: usize,
        /// Shards of the pack in all.
        shards: usize,
        /// Shards of parity that are whole.
        available: usize,
    },
    /// What came out is not the pack: the parity object was not made from it.
    #[error("its parity object is of something else")]
    WrongResult,
}

/// A pack, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// Proven by the pack's name.
    pub bytes: Vec<u8>,
    /// Shards of the pack that were missing or changed.
    pub lost_shards: usize,
}

/// How many shards of parity a pack of `pack_length` bytes gets for `percent`, 0 to 100 (more counts as 100). 0: none.
pub fn shard_count(pack_length: u64, percent: u8) -> u16 {
    if percent == 0 || pack_length == 0 {
        return 0;
    }
    let data = ParityHeader::data_shards(pack_length, shard_length(pack_length));
    let parity = (data * u64::from(percent.min(100))).div_ceil(100).max(PARITY_SHARDS_MIN);
    u16::try_from(parity).expect("a pack has at most 16,384 shards")
}

/// How long our writer makes the shards of a pack, in bytes.
fn shard_length(pack_length: u64) -> u32 {
    let even = pack_length.div_ceil(SHARDS).next_multiple_of(SHARD_STEP.into());
    even.clamp(SHARD_BYTES_MIN.into(), SHARD_BYTES_MAX.into()) as u32
}

/// The parity object of a pack, with so many shards of parity ([`shard_count`]).
///
/// # Panics
/// If the pack is empty or over the limit of an object, or there are no shards or too many.
pub fn encode(pack: PackId, bytes: &[u8], shards: u16) -> Vec<u8> {
    encode_shards(pack, bytes, shard_length(bytes.len() as u64), shards)
}

fn encode_shards(pack: PackId, bytes: &[u8], shard_length: u32, count: u16) -> Vec<u8> {
    let (length, count) = (shard_length as usize, usize::from(count));
    let data = Shards { bytes, length };
    let mut parity = vec![0; count * length];
    let step = column_length(data.count().next_multiple_of(count.next_power_of_two()), length);
    let mut encoder: HighRateEncoder<DefaultEngine> =
        HighRateEncoder::new(data.count(), count, step, DefaultEngine::new(), None).expect(CHECKED);
    let mut scratch = Vec::new();
    for start in (0..length).step_by(step) {
        let width = step.min(length - start);
        encoder.reset(data.count(), count, width).expect(CHECKED);
        for number in 0..data.count() {
            encoder.add_original_shard(data.piece(number, start, width, &mut scratch)).expect(CHECKED);
        }
        let encoded = encoder.encode().expect(CHECKED);
        for (shard, column) in parity.chunks_exact_mut(length).zip(encoded.recovery_iter()) {
            shard[start..start + width].copy_from_slice(column);
        }
    }
    let header = ParityHeader {
        pack,
        pack_length: bytes.len() as u64,
        shard_length,
        data: (0..data.count()).map(|number| shard_hash(data.piece(number, 0, length, &mut scratch))).collect(),
        parity: parity.chunks_exact(length).map(shard_hash).collect(),
    };
    header.encode(&parity)
}

/// How long the pack is, by its parity object; `None` if neither copy of its header is whole. Not proven.
pub fn pack_length(pack: PackId, parity: &[u8]) -> Option<u64> {
    Found::header_of(pack, parity).ok().map(|found| found.header.pack_length)
}

/// Brings a pack back from what is stored of it, which may be damaged, cut short, too long, or nothing, and from its parity
/// object, which may be damaged too.
pub fn heal(pack: PackId, stored: &[u8], parity: &[u8]) -> Result<Healed, Unhealed> {
    let Found { header, parity_start } = Found::header_of(pack, parity)?;
    let length = header.shard_length as usize;
    let stored = &stored[..stored.len().min(header.pack_length as usize)];
    let data = Shards { bytes: stored, length };
    let mut scratch = Vec::new();
    let mut is_whole = |number| shard_hash(data.piece(number, 0, length, &mut scratch)) == header.data[number];
    let (whole, lost): (Vec<usize>, Vec<usize>) =
        (0..header.data.len()).partition(|number| *number < data.count() && is_whole(*number));
    let spare: Vec<(usize, &[u8])> = header
        .parity
        .iter()
        .enumerate()
        .filter_map(|(number, hash)| {
            let start = parity_start.checked_add_unsigned(number * length)?;
            let shard = parity.get(usize::try_from(start).ok()?..)?.get(..length)?;
            (shard_hash(shard) == *hash).then_some((number, shard))
        })
        .collect();
    if lost.len() > spare.len() {
        let (lost, shards, available) = (lost.len(), header.data.len(), spare.len());
        return Err(Unhealed::TooMuchLost { lost, shards, available });
    }
    // Only now: as many shards are there, here or there, as the pack has.
    let mut bytes = vec![0; header.data.len() * length];
    bytes[..stored.len()].copy_from_slice(stored);
    if !lost.is_empty() {
        restore(&header, data, &whole, &spare[..lost.len()], &mut bytes);
    }
    bytes.truncate(header.pack_length as usize);
    if blake3::hash(&bytes) != blake3::Hash::from_bytes(pack.0) {
        return Err(Unhealed::WrongResult);
    }
    Ok(Healed { bytes, lost_shards: lost.len() })
}

/// Computes what is neither in `whole` nor given by `spare`, into `bytes`.
fn restore(header: &ParityHeader, data: Shards<'_>, whole: &[usize], spare: &[(usize, &[u8])], bytes: &mut [u8]) {
    let (length, count, parity_count) = (data.length, header.data.len(), header.parity.len());
    let step = column_length((count + parity_count.next_power_of_two()).next_power_of_two(), length);
    let mut decoder: HighRateDecoder<DefaultEngine> =
        HighRateDecoder::new(count, parity_count, step, DefaultEngine::new(), None).expect(CHECKED);
    let mut scratch = Vec::new();
    for start in (0..length).step_by(step) {
        let width = step.min(length - start);
        decoder.reset(count, parity_count, width).expect(CHECKED);
        for number in whole {
            decoder.add_original_shard(*number, data.piece(*number, start, width, &mut scratch)).expect(CHECKED);
        }
        for (number, shard) in spare {
            decoder.add_recovery_shard(*number, &shard[start..start + width]).expect(CHECKED);
        }
        let decoded = decoder.decode().expect(CHECKED);
        for (number, column) in decoded.restored_original_iter() {
            bytes[number * length + start..][..width].copy_from_slice(column);
        }
    }
}

/// Whether a parity object is as it was written, for this pack, with so many shards of parity: both headers, every shard,
/// and nothing else. The pack is not looked at.
pub fn verify(pack: PackId, shards: u16, parity: &[u8]) -> Result<(), Corruption> {
    let header = ParityHeader::decode_first(parity)?;
    if header.pack != pack || header.parity.len() != usize::from(shards) {
        return Err(Corruption::Malformed("header: it is another object's"));
    }
    let shards = parity.get(header.parity_offset(0)..header.parity_offset(header.parity.len()));
    let shards = shards.ok_or(Corruption::Truncated)?;
    if parity.len() < header.object_length() {
        return Err(Corruption::Truncated);
    }
    if parity != header.encode(shards) {
        return Err(Corruption::Malformed("second copy of its header"));
    }
    let same =
        shards.chunks_exact(header.shard_length as usize).zip(&header.parity).all(|(s, hash)| shard_hash(s) == *hash);
    if same { Ok(()) } else { Err(Corruption::Hash) }
}

/// Bytes a shard is worked on at a time, if `count` shards are in memory at once.
fn column_length(count: usize, shard_length: usize) -> usize {
    let step = SHARD_STEP as usize;
    (COLUMN_BYTES / count / step * step).clamp(step, shard_length)
}

/// The header of a parity object, and where its shards lie.
struct Found {
    header: ParityHeader,
    /// Counted from the object's beginning, which may be missing.
    parity_start: isize,
}

impl Found {
    /// From whichever copy is whole. The second is counted from the end, so that shards are found even if the front is cut off.
    fn header_of(pack: PackId, object: &[u8]) -> Result<Self, Unhealed> {
        let first =
            ParityHeader::decode_first(object).map(|header| Self { parity_start: header.length() as isize, header });
        let found = first.or_else(|problem| {
            let header = ParityHeader::decode_last(object).map_err(|_| Unhealed::NoParity(problem))?;
            let behind = header.object_length() - header.parity_offset(0);
            Ok(Self { parity_start: object.len() as isize - behind as isize, header })
        })?;
        if found.header.pack == pack {
            Ok(found)
        } else {
            Err(Unhealed::NoParity(Corruption::Malformed("header: it is another object's")))
        }
    }
}

/// A pack, or what is left of it, cut into shards; the last counts as filled up with zeros.
#[derive(Clone, Copy)]
struct Shards<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Shards<'a> {
    fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.length)
    }

    /// `width` bytes of a shard that is there, from `start` of it. `scratch` is used where zeros must be filled in.
    fn piece<'s>(&self, number: usize, start: usize, width: usize, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        let offset = (number * self.length + start).min(self.bytes.len());
        let there = &self.bytes[offset..(offset + width).min(self.bytes.len())];
        if there.len() == width {
            return there;
        }
        scratch.clear();
        scratch.extend_from_slice(there);
        scratch.resize(width, 0);
        scratch
    }
}

#[cfg(test)]
mod tests;
