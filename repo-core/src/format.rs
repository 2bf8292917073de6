//! docs/format.md in code: structs to bytes and back. No I/O, no keys, no time.
//! Every decoder is bounded by its input (invariant 8) and accepts one spelling of each value only.

pub mod client_state;
pub mod config;
mod cursor;
pub mod gc;
pub mod header;
pub mod index;
pub mod key_slot;
pub mod keyring;
pub mod known_place;
pub mod list;
pub mod marker;
pub mod mirror;
pub mod node;
pub mod pack;
pub mod parity;
#[cfg(test)]
mod properties;
pub mod session;
pub mod snapshot;
pub mod tree;
#[cfg(test)]
pub(crate) mod vectors;
pub mod verified;
pub mod xattrs;

use crate::error::Corruption;

/// The version of the whole format. 0 until the first release: readable by the same build's format only.
pub const FORMAT_VERSION: u32 = 0;

/// Fields of later versions: `(tag, bytes)`, ascending by tag. Bit 15 of a tag means "refuse if unknown".
pub type Extensions = Vec<(u16, Vec<u8>)>;

/// What every object begins with.
pub const MAGIC: [u8; 4] = *b"RCO1";

/// The version byte of headers, the marker and key slots.
pub(crate) const VERSION_BYTE: u8 = FORMAT_VERSION as u8;

/// Payload of a config or a session: a few hundred bytes in practice; 64 KiB leaves room for long labels and extensions.
pub const SMALL_PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// Payload of a keyring or a snapshot: 1 MiB holds thousands of paths, or of key slots.
pub const PAYLOAD_BYTES_MAX: usize = crate::codec::PAYLOAD_BYTES_MAX;

/// Payload of a mark, a plan or an end of a reclaiming cycle: two million names of packs, which are 24 TiB in packs of
/// 12 MiB.
pub const LARGE_PAYLOAD_BYTES_MAX: usize = crate::codec::LARGE_PAYLOAD_BYTES_MAX;

/// A chunk, and so a frame that holds one: 16 MiB is the longest chunk FastCDC is allowed to make, and what a reader must
/// be ready to hold in memory whole.
pub const CHUNK_BYTES_MAX: u32 = 16 << 20;

/// Plaintext of a frame.
pub const FRAME_RAW_BYTES_MAX: u32 = 16 << 20;

/// A pack or index object: 1 GiB stays far below what one AES-GCM key may seal, and below every store's limit for one put.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// Frames of one object: each is a message under one key, and its number is 16 bits in an index block.
pub const FRAMES_MAX: usize = 65_535;

/// Chunks of one pack: keeps the footer below its limit.
pub const PACK_CHUNKS_MAX: usize = 1 << 20;

/// A sealed footer: 2^20 chunks and 65,535 frames take 46 MiB.
pub const FOOTER_BYTES_MAX: usize = 64 << 20;

/// A shard of a pack: the least that parity brings back. A whole disk sector, or a few, are lost together.
pub const SHARD_BYTES_MAX: u32 = 64 << 10;

/// Shards of one pack, and shards of parity for it: 1 GiB in the longest shards.
pub const PARITY_SHARDS_MAX: usize = (OBJECT_BYTES_MAX / SHARD_BYTES_MAX as u64) as usize;

/// Plaintext of an index block: what a reader holds while it looks one up.
pub const INDEX_BLOCK_BYTES_MAX: usize = 1 << 20;

/// A tree node: writers close nodes below 128 KiB, and one record is at most a name, a link target and 4 KiB of
/// attributes beyond that.
pub const TREE_NODE_BYTES_MAX: usize = 1 << 20;

/// Levels above the leaves of one directory's tree: branches have at least four children, and 4^20 entries are more than
/// any file system holds.
pub const TREE_LEVEL_MAX: u8 = 20;

/// A name: Linux allows 255 bytes; other systems' names in UTF-8 take up to 1,020; 4096 is a whole Linux path.
pub const NAME_BYTES_MAX: usize = 4096;

/// A user's or group's name: Linux's own limit is 32 or 256, directory services' names are longer.
pub const OWNER_BYTES_MAX: usize = 1024;

/// A symlink's target: Linux allows 4095 bytes; 64 KiB leaves room for other systems.
pub const LINK_TARGET_BYTES_MAX: usize = 64 << 10;

/// A file this small lies in its tree record: naming it as a chunk would take 130 bytes of ids and tables.
pub const INLINE_BYTES_MAX: usize = 512;

/// Extents in a tree record; files of more have a list. 64 keep a record below 3 KiB, so that a leaf keeps its size.
pub const NODE_EXTENTS_MAX: usize = 64;

/// Extended attributes in a tree record, names and values together; more have a chunk of their own.
pub const INLINE_XATTR_BYTES_MAX: usize = 4096;

/// Extended attributes of one file, in their chunk.
pub const XATTR_BYTES_MAX: usize = CHUNK_BYTES_MAX as usize;

/// An extended attribute's name: Linux allows 255 bytes; the same room as for any name.
pub const XATTR_NAME_BYTES_MAX: usize = NAME_BYTES_MAX;

/// Items of a list node: the hard cap of the split rule.
pub const LIST_ITEMS_MAX: usize = 4096;

/// Levels above the leaves of a chunk list: nodes have at least 256 items but for the last of each level, so that six
/// levels hold more than 2^48 chunks.
pub const LIST_LEVEL_MAX: u8 = 6;

/// A file's length: what `off_t` can say.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// Extensions must ascend, and one that its writer marked as critical must be known. Most objects know none.
pub(crate) fn check_extensions(extensions: &Extensions) -> Result<(), Corruption> {
    check_extensions_knowing(extensions, &[])
}

/// The same, of an object that has critical extensions of these tags.
pub(crate) fn check_extensions_knowing(extensions: &Extensions, known: &[u16]) -> Result<(), Corruption> {
    if !extensions.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Corruption::Malformed("order of extensions"));
    }
    match extensions.iter().find(|(tag, _)| tag & 0x8000 != 0 && !known.contains(tag)) {
        Some((tag, _)) => Err(Corruption::Unknown { field: "critical extension", value: (*tag).into() }),
        None => Ok(()),
    }
}

/// Accepts zero only: a field, flag or bit that has no meaning yet.
pub(crate) fn refuse_unknown(field: &'static str, value: u64) -> Result<(), Corruption> {
    if value == 0 { Ok(()) } else { Err(Corruption::Unknown { field, value }) }
}

/// Accepts this build's format version only.
pub(crate) fn check_version(version: u32) -> Result<(), Corruption> {
    if version == FORMAT_VERSION {
        Ok(())
    } else {
        Err(Corruption::Unknown { field: "format version", value: version.into() })
    }
}
