//! The only door between plaintext and stored bytes (invariant 5): small sealed objects ("boxes"), packs, padding.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::{Keys, ObjectKeys};
use crate::error::{Corruption, Result};
use crate::format::header::{Header, ObjectType};
use crate::format::keyring::Purpose;
use crate::format::pack::{ChunkRecord, Footer, FrameRecord};
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};

/// Seals a small object's payload: padded, bound to its name, checksummed.
pub fn seal_box(
    _keys: &Keys,
    _purpose: Purpose,
    _object_type: ObjectType,
    _name: &ObjectName,
    _writer: &[u8; 16],
    _payload: &[u8],
) -> Result<Vec<u8>> {
    todo!()
}

/// Opens a small object under the name it was found by (a second copy under its first name).
pub fn open_box(
    _keys: &Keys,
    _purpose: Purpose,
    _object_type: ObjectType,
    _name: &ObjectName,
    _bytes: &[u8],
) -> Result<Vec<u8>, Corruption> {
    todo!()
}

/// A chunk on its way into a frame.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub id: ChunkId,
    pub kind: ChunkKind,
    pub bytes: &'a [u8],
}

/// Where a pack's frames may be read from: `pack.frame()` wants these facts, from the footer or from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    pub ordinal: u32,
    pub record: FrameRecord,
}

/// A pack being built, in one buffer of its final form: frames are compressed into it and encrypted there in place.
/// Not `Clone`, and consumed by [`finish`](Self::finish): a nonce never serves twice.
pub struct PackBuilder {}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackBuilder")
    }
}

/// A finished pack.
#[derive(Debug, Clone)]
pub struct SealedPack {
    pub id: PackId,
    pub kind: PackKind,
    pub bytes: Bytes,
    pub footer: Footer,
}

impl PackBuilder {
    /// `capacity`: bytes to reserve. `counter`: the writer's count of objects so far (see [`Keys::new_object`]).
    pub fn new(_keys: &Keys, _kind: PackKind, _writer: SnapshotId, _counter: u64, _capacity: usize) -> Result<Self> {
        todo!()
    }

    /// Compresses and seals one frame. `raw` is the concatenation of the parts. With `verify`, the sealed frame is opened
    /// again, decompressed, and every id recomputed before this returns ([`Error::SelfCheck`](crate::Error::SelfCheck)).
    pub fn push_frame(
        &mut self,
        _keys: &Keys,
        _codec: &mut FrameCodec,
        _parts: &[Part<'_>],
        _raw: &[u8],
        _verify: bool,
    ) -> Result<FrameRecord> {
        todo!()
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        todo!()
    }

    /// Chunks so far.
    pub fn chunk_count(&self) -> usize {
        todo!()
    }

    /// Pads, seals the table, hashes.
    pub fn finish(self) -> Result<SealedPack> {
        todo!()
    }
}

/// The keys of a stored pack, from its first 80 bytes.
#[derive(Debug, Clone)]
pub struct PackKeys {
    pub header: Header,
    pub keys: Arc<ObjectKeys>,
}

impl PackKeys {
    /// From a pack's first bytes; the header's type must be that of `kind`.
    pub fn open(_keys: &Keys, _kind: PackKind, _first_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }

    /// Opens a frame: `sealed` are its `stored_length` bytes. The ids of its chunks are the caller's to verify.
    pub fn open_frame(
        &self,
        _codec: &mut FrameCodec,
        _place: FramePlace,
        _sealed: Vec<u8>,
    ) -> Result<Vec<u8>, Corruption> {
        todo!()
    }

    /// Opens the table: `tail` are the pack's last bytes, at least [`Self::tail_length`] of them.
    pub fn open_footer(&self, _tail: &[u8], _object_length: u64) -> Result<Footer, Corruption> {
        todo!()
    }

    /// How many of a pack's last bytes hold the trailer and the table. `last_bytes`: the last 24 or more.
    pub fn tail_length(_last_bytes: &[u8], _object_length: u64) -> Result<u64, Corruption> {
        todo!()
    }
}

/// Whether a pack's or an index object's bytes hash to its name. Needs no key.
pub fn has_name(bytes: &[u8], name: &[u8; 32]) -> bool {
    blake3::hash(bytes) == blake3::Hash::from_bytes(*name)
}

/// Checks a frame's chunks against their ids.
pub fn verify_chunks(_keys: &Keys, _raw: &[u8], _chunks: &[ChunkRecord]) -> Result<(), Corruption> {
    todo!()
}

/// Seals an index object: each block one frame. Returns the object and its name.
pub fn seal_index(
    _keys: &Keys,
    _writer: SnapshotId,
    _counter: u64,
    _blocks: &[crate::format::index::IndexBlock],
) -> Result<(crate::id::IndexId, Bytes)> {
    todo!()
}

/// Opens a whole index object, calling `each` for every block.
pub fn open_index(
    _keys: &Keys,
    _bytes: &[u8],
    _each: &mut dyn FnMut(crate::format::index::IndexBlock),
) -> Result<(), Corruption> {
    todo!()
}
