//! Chunks of packs that do not come back as they were: found one by one in what is left of their pack, or in another pack.
//! Those that no other pack holds are stored again, each proven by its name.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::pack::Codec;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind};
use crate::seal::PackKeys;
use crate::store::{self, Index, Store, ToldFrame, Writer};

/// A pack, and what can be read of it.
pub(super) struct Left {
    pub kind: PackKind,
    pub pack: PackId,
    /// Whole, damaged, or nothing.
    pub bytes: Bytes,
}

/// What became of the chunks of one pack.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Another pack holds them.
    pub elsewhere: u64,
    /// They were stored again.
    pub rescued: u64,
    /// Bytes of those.
    pub rescued_bytes: u64,
    /// They can be read nowhere.
    pub lost: Vec<(ChunkKind, ChunkId)>,
    /// Nobody knows what the pack held: neither its own table nor an index object tells.
    pub is_unknown: bool,
}

/// The search for chunks.
pub(super) struct Rescue<'r> {
    pub store: &'r Store,
    pub view: &'r Index,
    /// Packs that are no place for a chunk: they are what this is about.
    pub damaged: HashSet<PackId>,
    /// What index objects say of them.
    pub told: HashMap<PackId, (PackKind, Vec<ToldFrame>)>,
    /// Chunks that are safe, of whichever pack.
    pub saved: HashSet<(ChunkKind, ChunkId)>,
}

impl Rescue<'_> {
    /// Looks for every chunk of a pack. With a writer, those that no other pack holds are stored again.
    pub(super) fn search(&mut self, left: &Left, mut writer: Option<&mut Writer<'_, '_>>) -> Result<Tally> {
        let keys = PackKeys::open(self.store.keys(), left.kind, &left.bytes).ok();
        let mut tally = Tally::default();
        let Some(frames) = self.frames_of(left, keys.as_ref()) else {
            tally.is_unknown = true;
            return Ok(tally);
        };
        for frame in &frames {
            let raw = keys.as_ref().and_then(|keys| self.open(keys, frame, &left.bytes));
            // What lay together may lie together again: whoever owned one of these chunks owned all.
            let owner = u64::from_le_bytes(left.pack.0[..8].try_into().expect("eight of 32 bytes"))
                ^ u64::from(frame.place.ordinal);
            let incompressible = frame.place.record.codec == Codec::Raw;
            for chunk in &frame.chunks {
                let name = (chunk.kind, chunk.id);
                if self.saved.contains(&name) {
                    tally.elsewhere += 1;
                    continue;
                }
                if self.is_elsewhere(chunk.kind, &chunk.id)? {
                    tally.elsewhere += 1;
                    self.saved.insert(name);
                    continue;
                }
                let range = chunk.offset as usize..chunk.offset as usize + chunk.length as usize;
                let bytes = raw.as_ref().and_then(|raw| raw.get(range));
                let Some(bytes) = bytes.filter(|bytes| self.store.keys().chunk_id(chunk.kind, bytes) == chunk.id)
                else {
                    tally.lost.push(name);
                    continue;
                };
                if let Some(writer) = &mut writer {
                    writer.put(chunk.kind, chunk.id, bytes, incompressible, owner, self.view)?;
                }
                tally.rescued += 1;
                tally.rescued_bytes += bytes.len() as u64;
                self.saved.insert(name);
            }
        }
        Ok(tally)
    }

    /// The pack's table: its own if that can be read, else what the index objects say.
    fn frames_of(&self, left: &Left, keys: Option<&PackKeys>) -> Option<Vec<ToldFrame>> {
        let footer = keys.and_then(|keys| keys.open_footer(&left.bytes, left.bytes.len() as u64).ok());
        match footer {
            Some(footer) => Some(store::told_by(&footer).into_values().collect()),
            None => self.told.get(&left.pack).map(|(_, frames)| frames.clone()),
        }
    }

    fn open(&self, keys: &PackKeys, frame: &ToldFrame, bytes: &[u8]) -> Option<Vec<u8>> {
        let record = frame.place.record;
        let sealed = bytes.get(record.offset as usize..)?.get(..record.stored_length as usize)?.to_vec();
        self.store.with_codec(|codec| keys.open_frame(codec, frame.place, sealed)).ok()
    }

    /// Whether another pack holds it: read from there, and proven.
    fn is_elsewhere(&self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        for place in self.view.places(kind, id) {
            let is_safe = !self.damaged.contains(&place.pack)
                && !self.view.is_condemned(&place.pack)
                && !self.view.has_lost(&place.pack, id);
            if !is_safe {
                continue;
            }
            match self.store.get_at(kind, id, &place) {
                Ok(_) => return Ok(true),
                Err(Error::Backend(error)) if !error.is_damage() => return Err(error.into()),
                Err(_) => self.view.distrust(place.pack),
            }
        }
        Ok(false)
    }
}
