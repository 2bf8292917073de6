//! Packs' own tables, asked when the index is wrong or says nothing: so an index object that is lost, damaged or lies may
//! cost time, and never a chunk.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::index::{Index, Place, read_footer};
use crate::error::{Error, Result};
use crate::format::pack::Footer;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind};
use crate::pipeline::lock;
use crate::seal::FramePlace;

/// Tables that are kept, at most; each is some tens of KiB.
const KEPT_MAX: usize = 256;

/// What was asked of packs so far.
#[derive(Default)]
pub(super) struct Tables {
    /// `None`: the pack has no table that can be read.
    known: HashMap<PackId, Option<Arc<Footer>>>,
    /// The index that is in use was made from tables.
    all_asked: bool,
}

/// What a pack's own table says of a place that the index gives.
enum Answer {
    /// The chunk is there: what is wrong is the pack, and not the index.
    There(Place),
    /// It is not: the index is wrong.
    Denied,
    /// There is no table to be had.
    Silent,
}

impl Store {
    /// What the index could not give. A chunk that a pack's own table confirms is lost with that pack. Otherwise nobody knows
    /// what the index left out, and all packs are asked, once for all chunks to come.
    pub(super) fn get_by_tables(&self, kind: ChunkKind, id: &ChunkId, lost: Error) -> Result<Bytes> {
        let view = self.view();
        let mut is_explained = false;
        for place in view.places(kind, id) {
            match self.ask(&place, kind, id)? {
                Answer::There(own) if own != unnumbered(place) => match self.get_at(kind, id, &own) {
                    Err(Error::Backend(error)) if !error.is_damage() => return Err(error.into()),
                    Err(_) => is_explained = true,
                    bytes => return bytes,
                },
                Answer::There(_) | Answer::Silent => is_explained = true,
                Answer::Denied => {}
            }
        }
        if is_explained || !self.ask_all(&view)? {
            return Err(lost);
        }
        self.get_once(kind, id)
    }

    fn ask(&self, place: &Place, kind: ChunkKind, id: &ChunkId) -> Result<Answer> {
        let Some(footer) = self.table_of(place.pack_kind, &place.pack)? else { return Ok(Answer::Silent) };
        let found = (0..footer.frames.len()).find_map(|ordinal| {
            let chunk = footer.chunks_of(ordinal).iter().find(|chunk| chunk.id == *id && chunk.kind == kind)?;
            let frame = FramePlace { ordinal: ordinal as u32, record: footer.frames[ordinal] };
            Some(Place { frame, offset: chunk.offset, length: chunk.length, ..*place })
        });
        Ok(found.map_or(Answer::Denied, |own| Answer::There(unnumbered(own))))
    }

    fn table_of(&self, kind: PackKind, id: &PackId) -> Result<Option<Arc<Footer>>> {
        if let Some(known) = lock(&self.tables).known.get(id) {
            return Ok(known.clone());
        }
        let Some(size) = self.view().report().listed_packs.get(id).map(|(_, size)| *size) else { return Ok(None) };
        let footer = match read_footer(self.backend.as_ref(), &self.keys, kind, id, size) {
            Ok(footer) => Some(Arc::new(footer)),
            Err(Error::Backend(error)) if !error.is_damage() => return Err(error.into()),
            Err(_) => None,
        };
        let mut tables = lock(&self.tables);
        if tables.known.len() >= KEPT_MAX {
            tables.known.clear();
        }
        tables.known.insert(*id, footer.clone());
        Ok(footer)
    }

    /// Makes the index anew from all packs' own tables, if that was not done yet. `false`: there is nothing in it that `seen`
    /// has not.
    fn ask_all(&self, seen: &Arc<Index>) -> Result<bool> {
        // Held, so that threads that miss something at once ask once.
        let mut tables = lock(&self.tables);
        if !tables.all_asked {
            let index = self.view().ask_tables(self.backend.as_ref(), &self.keys)?;
            self.replace_view(index);
            tables.all_asked = true;
        }
        Ok(!Arc::ptr_eq(seen, &self.view()))
    }
}

/// Index objects do not say which of its pack's chunks is a frame's first.
fn unnumbered(mut place: Place) -> Place {
    place.frame.record.first_chunk = 0;
    place
}
