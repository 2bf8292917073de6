//! Chunks in, chunks out. Knows nothing of paths, nor of what a snapshot means.

mod census;
mod compact;
mod frames;
pub mod gc;
mod index;
mod rebuild;
mod session;
mod tables;
#[cfg(test)]
mod testing;
pub mod weak;
mod writer;

pub use census::Census;
pub use compact::compact;
pub use index::{ByPack, ChunkSet, Index, Place, StoredFrame, is_merged_away};
pub use rebuild::{IndexRepair, ToldFrame, repair_index, told_by, told_of};
pub use session::{Session, SessionKind, refuse_mirror};
pub use writer::{Sealing, Stored, Writer, WriterOptions};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::backend::{Backend, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::header::HEADER_LENGTH;
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind};
use crate::mutants::mutant;
use crate::pipeline::lock;
use crate::seal::PackKeys;

use frames::FrameCache;
use tables::Tables;

/// Plaintext of opened frames that is kept, in bytes: enough for two threads to restore in the order of the packs
/// while a tree is read beside them.
const FRAME_CACHE_BYTES: usize = 32 << 20;
/// The same of a store that is asked for trees, by one thread.
const METADATA_CACHE_BYTES: usize = 4 << 20;

/// Where chunks live: the index, and a cache of opened frames.
pub struct Store {
    backend: Arc<dyn Backend>,
    keys: Arc<Keys>,
    view: RwLock<Arc<Index>>,
    /// How it is loaded again.
    load: fn(&dyn Backend, &Keys) -> Result<Index>,
    frames: FrameCache,
    pack_keys: Mutex<HashMap<PackId, PackKeys>>,
    /// Packs' own tables, for when the index is wrong.
    tables: Mutex<Tables>,
    codecs: Mutex<Vec<FrameCodec>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.backend.place())
    }
}

impl Store {
    /// Lists the packs and loads the index. What is damaged is in the index's report, and never in the way of the rest.
    pub fn open(backend: Arc<dyn Backend>, keys: Arc<Keys>) -> Result<Self> {
        let index = Index::load(backend.as_ref(), &keys)?;
        Ok(Self::with(backend, keys, index, Index::load, FRAME_CACHE_BYTES))
    }

    /// The same with [`Index::load_metadata`]: for walks through trees, and for places that the caller has found himself.
    /// What `known`, a store of the same repository, finds damaged, this one takes for damaged too, and the other way round.
    pub fn open_metadata(backend: Arc<dyn Backend>, keys: Arc<Keys>, known: Option<&Self>) -> Result<Self> {
        let mut index = Index::load_metadata(backend.as_ref(), &keys)?;
        if let Some(known) = known {
            index = index.after(&known.view());
        }
        Ok(Self::with(backend, keys, index, Index::load_metadata, METADATA_CACHE_BYTES))
    }

    fn with(
        backend: Arc<dyn Backend>,
        keys: Arc<Keys>,
        index: Index,
        load: fn(&dyn Backend, &Keys) -> Result<Index>,
        cache_bytes: usize,
    ) -> Self {
        Self {
            backend,
            keys,
            view: RwLock::new(Arc::new(index)),
            load,
            frames: FrameCache::new(cache_bytes),
            pack_keys: Mutex::default(),
            tables: Mutex::default(),
            codecs: Mutex::default(),
        }
    }

    /// Lists and loads again: what other clients have added is seen, what is gone is no longer.
    pub fn reload(&self) -> Result<()> {
        if mutant!("what was listed once is not listed again") {
            return Ok(());
        }
        let index = (self.load)(self.backend.as_ref(), &self.keys)?;
        *lock(&self.tables) = Tables::default();
        self.replace_view(index);
        Ok(())
    }

    fn replace_view(&self, index: Index) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(index.after(&view));
    }

    /// The index as it is now; stays as it is while held.
    pub fn view(&self) -> Arc<Index> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The place.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// A chunk's plaintext, proven to have that name (invariant 4). Its frame is opened once and kept for a while,
    /// so reading chunks in the order they were stored costs one decompression a frame; threads that
    /// want the same frame wait for the first.
    ///
    /// The index is a hint: where it is wrong, or says nothing, packs are asked themselves.
    ///
    /// # Errors
    /// [`Error::ChunkLost`] if no place that is known has it; [`Error::Backend`] if a place might, and did not answer.
    pub fn get(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes> {
        let got = match self.get_once(kind, id) {
            // A pack may have been replaced since the index was read: look once more (invariant 6). Whoever moves
            // chunks writes an index object before the old pack goes, so without a new one there is nothing to see.
            Err(Error::ChunkLost { .. }) if self.view().is_outdated(self.backend.as_ref())? => {
                self.reload()?;
                self.get_once(kind, id)
            }
            other => other,
        };
        match got {
            Err(lost @ Error::ChunkLost { .. }) => self.get_by_tables(kind, id, lost),
            other => other,
        }
    }

    /// Opens the frame of a chunk, so that a [`get`](Self::get) soon after finds it open. Nothing is proven, and what
    /// fails will fail again, and be told, when the chunk is asked for.
    pub fn warm(&self, kind: ChunkKind, id: &ChunkId) {
        if let Some(place) = self.view().places(kind, id).first() {
            self.frames.get((place.pack, place.frame.ordinal), || self.open_frame(place)).ok();
        }
    }

    fn get_once(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes> {
        let view = self.view();
        let mut problem = "it is in no index and no pack".to_owned();
        let mut unanswered = None;
        for place in view.places(kind, id) {
            match self.get_at(kind, id, &place) {
                Ok(bytes) => return Ok(bytes),
                // Nothing was learnt of the chunk: who asks again may get it, so it is not lost.
                Err(Error::Backend(error)) if !error.is_damage() => unanswered = unanswered.or(Some(error)),
                Err(error) => {
                    if let Error::Corrupt { .. } = error {
                        view.distrust(place.pack);
                    }
                    problem = error.to_string();
                }
            }
        }
        Err(unanswered.map_or(Error::ChunkLost { id: *id, problem }, Error::Backend))
    }

    /// A chunk from one place alone.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not there as its name says.
    pub fn get_at(&self, kind: ChunkKind, id: &ChunkId, place: &Place) -> Result<Bytes> {
        let object = ObjectName::Pack(place.pack_kind, place.pack);
        let raw = self.frames.get((place.pack, place.frame.ordinal), || self.open_frame(place))?;
        let start = place.offset as usize;
        let end = start.checked_add(place.length as usize).filter(|end| *end <= raw.len());
        let end = end.ok_or_else(|| Corruption::Malformed("chunk outside its frame").of(object))?;
        let bytes = raw.slice(start..end);
        if self.keys.chunk_id(kind, &bytes) != *id {
            return Err(Corruption::ChunkId.of(object));
        }
        Ok(bytes)
    }

    /// Whether the chunk is whole at this place: the frame is opened and the chunk named.
    pub fn prove(&self, kind: ChunkKind, id: &ChunkId, place: &Place) -> Result<()> {
        self.get_at(kind, id, place).map(drop)
    }

    fn open_frame(&self, place: &Place) -> Result<Bytes> {
        let read = |backend: &dyn Backend, pack: &PackKeys| self.open_frame_from(backend, pack, place);
        let first = self.pack_keys(place.pack_kind, &place.pack).and_then(|pack| read(&*self.backend, &pack));
        let Some(mirror) = self.backend.mirror().filter(|_| first.is_err()) else { return first };
        // Not the keys that are kept: they may be of a damaged header.
        let second = self.read_pack_keys(mirror, place.pack_kind, &place.pack).and_then(|pack| read(mirror, &pack));
        second.or(first)
    }

    fn open_frame_from(&self, backend: &dyn Backend, pack: &PackKeys, place: &Place) -> Result<Bytes> {
        let object = ObjectName::Pack(place.pack_kind, place.pack);
        let record = place.frame.record;
        let span = Span::Range { offset: record.offset.into(), length: record.stored_length.into() };
        let sealed = backend.get(&object, span)?;
        if sealed.len() != record.stored_length as usize {
            return Err(Corruption::Truncated.of(object));
        }
        let sealed = sealed.try_into_mut().map_or_else(|shared| shared.to_vec(), Vec::from);
        self.with_codec(|codec| pack.open_frame(codec, place.frame, sealed))
            .map(Bytes::from)
            .map_err(|problem| problem.of(object))
    }

    fn pack_keys(&self, kind: PackKind, id: &PackId) -> Result<PackKeys> {
        if let Some(keys) = lock(&self.pack_keys).get(id) {
            return Ok(keys.clone());
        }
        let keys = self.read_pack_keys(&*self.backend, kind, id)?;
        let mut cache = lock(&self.pack_keys);
        if cache.len() >= 4096 {
            cache.clear(); // a bound, not a policy: 4096 packs are 64 GiB
        }
        cache.insert(*id, keys.clone());
        Ok(keys)
    }

    fn read_pack_keys(&self, backend: &dyn Backend, kind: PackKind, id: &PackId) -> Result<PackKeys> {
        let object = ObjectName::Pack(kind, *id);
        let header = backend.get(&object, Span::Range { offset: 0, length: HEADER_LENGTH as u64 })?;
        PackKeys::open(&self.keys, kind, &header).map_err(|problem| problem.of(object))
    }

    /// Lends a codec: making one costs more than a small frame.
    pub fn with_codec<T>(&self, work: impl FnOnce(&mut FrameCodec) -> T) -> T {
        let mut codec = lock(&self.codecs).pop().unwrap_or_else(|| FrameCodec::new(1));
        let result = work(&mut codec);
        lock(&self.codecs).push(codec);
        result
    }

    /// The error for a chunk that has its name and yet is not what its kind must be.
    pub fn corrupt(&self, _kind: ChunkKind, id: &ChunkId, problem: Corruption) -> Error {
        Error::CorruptChunk { id: *id, problem }
    }
}
