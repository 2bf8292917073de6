//! Ranges of files: which pieces they are of, and their bytes. Reads what is asked for and no more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Browser, Item, Place};
use crate::error::{Corruption, Error, Result};
use crate::format::tree::{Content, Extent, ExtentKind, Node, NodeKind, Xattrs, decode_xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::pipeline::lock;
use crate::platform::target::as_path;
use crate::store::Store;
use crate::tree;

/// Extents of a list looked up at a time: 1,024 are about 60 KB, and 128 MiB of a file.
const LOOKED_UP_EXTENTS: usize = 1024;
/// Bytes that are reserved for a read at once: more than a kernel asks for.
const RESERVED_MAX: usize = 4 << 20;
/// Files with long lists of which such a stretch is kept.
const WINDOWS_MAX: usize = 32;
/// Chunks that are kept beside the store's frames, so that reading one in small pieces proves it once.
const CHUNKS_MAX: usize = 4;
/// Extents that are added up for what a file takes up; a longer list is estimated.
const ADDED_EXTENTS_MAX: usize = 1 << 20;
/// Up to as many chunks they are always added up, since that costs little: 512 MiB of a file.
const ADDED_CHUNKS_MIN: u64 = 4096;

/// What was looked up last of files with long lists, and proven last of chunks.
#[derive(Debug, Default)]
pub(super) struct Contents {
    windows: Mutex<VecDeque<(ChunkId, Arc<Mutex<Window>>)>>,
    chunks: Mutex<VecDeque<(ChunkId, Bytes)>>,
}

/// Extents that follow one another, each with its place in the file.
#[derive(Debug, Default)]
struct Window {
    extents: Vec<(u64, Extent)>,
}

fn end_of(extent: &(u64, Extent)) -> u64 {
    extent.0.saturating_add(extent.1.length)
}

impl Window {
    fn holds(&self, offset: u64) -> bool {
        let (first, last) = (self.extents.first(), self.extents.last());
        first.is_some_and(|first| first.0 <= offset) && last.is_some_and(|last| offset < end_of(last))
    }

    /// Looks up what is from `offset` on.
    fn fill(&mut self, store: &Store, content: &Content, offset: u64) -> Result<()> {
        self.extents.clear();
        for extent in tree::extents(store, content, offset).take(LOOKED_UP_EXTENTS) {
            match extent {
                Ok(extent) => self.extents.push(extent),
                // What comes before the damage can still be read.
                Err(_) if !self.extents.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What covers `offset..end`.
    fn pieces(&mut self, store: &Store, content: &Content, offset: u64, end: u64) -> Result<Vec<(u64, Extent)>> {
        let mut pieces = Vec::new();
        let mut at = offset;
        while at < end {
            if !self.holds(at) {
                self.fill(store, content, at)?;
            }
            if !self.holds(at) {
                return Err(Error::Malformed("a file that ends before its size"));
            }
            let first = self.extents.partition_point(|extent| end_of(extent) <= at);
            for piece in self.extents[first..].iter().take_while(|(start, _)| *start < end) {
                at = end_of(piece);
                pieces.push(*piece);
            }
        }
        Ok(pieces)
    }
}

impl Browser {
    /// Up to `length` bytes of a file from `offset` on; fewer only at its end. Only the chunks that these bytes are of are
    /// read, by whole frames.
    ///
    /// # Errors
    /// [`Error::Path`] if it is no file; [`Error::ChunkLost`] and its like if any of these bytes cannot be had.
    pub fn read(&self, file: &Item, offset: u64, length: usize) -> Result<Vec<u8>> {
        let node = self.file(file)?;
        let end = node.metadata.size.min(offset.saturating_add(length as u64));
        let Some(count) = end.checked_sub(offset).filter(|count| *count > 0) else { return Ok(Vec::new()) };
        if let Content::Inline(bytes) = &node.content {
            let range = offset as usize..end as usize; // within what is in memory already: its sum is the size
            return bytes.get(range).map(<[u8]>::to_vec).ok_or(Error::Malformed("a file that ends before its size"));
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(count).map_or(RESERVED_MAX, |count| count.min(RESERVED_MAX)));
        for (start, extent) in self.pieces(node, offset, end)? {
            let from = offset.max(start) - start;
            let to = end.min(start.saturating_add(extent.length)) - start;
            match extent.kind {
                ExtentKind::Zero | ExtentKind::Hole => {
                    bytes.resize(bytes.len() + usize::try_from(to - from).expect("no more than was asked for"), 0);
                }
                ExtentKind::Data(id) => {
                    let chunk = self.chunk_of(id, extent.length)?;
                    bytes.extend_from_slice(&chunk[from as usize..to as usize]); // as long as its extent
                }
            }
        }
        Ok(bytes)
    }

    /// Opens what holds these bytes of a file, so that a [`read`](Self::read) soon after finds it open. For a thread
    /// beside the one that reads. Whatever fails is told to who reads.
    pub fn read_ahead(&self, file: &Item, offset: u64, length: u64) {
        let Ok(node) = self.file(file) else { return };
        let end = node.metadata.size.min(offset.saturating_add(length));
        let pieces = if offset < end { self.pieces(node, offset, end).unwrap_or_default() } else { Vec::new() };
        for (_, extent) in pieces {
            if let ExtentKind::Data(id) = extent.kind {
                self.store.warm(ChunkKind::Data, &id);
            }
        }
    }

    /// Where data begins at or after `offset`; `None`: there is none. Written zeros are data.
    pub fn next_data(&self, file: &Item, offset: u64) -> Result<Option<u64>> {
        self.next(file, offset, |kind| kind != ExtentKind::Hole)
    }

    /// Where a hole begins at or after `offset`: the end of the file is one. `None`: `offset` is not before it.
    pub fn next_hole(&self, file: &Item, offset: u64) -> Result<Option<u64>> {
        let size = self.file(file)?.metadata.size;
        let hole = self.next(file, offset, |kind| kind == ExtentKind::Hole)?;
        Ok(hole.or((offset < size).then_some(size)))
    }

    fn next(&self, file: &Item, offset: u64, is_wanted: impl Fn(ExtentKind) -> bool) -> Result<Option<u64>> {
        let node = self.file(file)?;
        if offset >= node.metadata.size {
            return Ok(None);
        }
        if let Content::Inline(_) = node.content {
            return Ok(is_wanted(ExtentKind::Zero).then_some(offset));
        }
        for extent in tree::extents(&self.store, &node.content, offset) {
            let (start, extent) = extent?;
            if is_wanted(extent.kind) {
                return Ok(Some(start.max(offset)).filter(|start| *start < node.metadata.size));
            }
        }
        Ok(None)
    }

    /// Bytes that a file takes up, holes left out. Of a file of more than 512 MiB that has about as many chunks as its size
    /// makes one expect it is the size; of one with more than 10^6 extents an estimate.
    pub fn allocated_bytes(&self, file: &Item) -> Result<u64> {
        let node = self.file(file)?;
        let size = node.metadata.size;
        let limit = match &node.content {
            Content::None | Content::Inline(_) => return Ok(size),
            Content::List { chunks, .. } if *chunks > ADDED_CHUNKS_MIN => {
                let expected = chunks.saturating_mul(u64::from(self.average_chunk_bytes));
                if expected.saturating_add(expected / 4) >= size {
                    return Ok(size);
                }
                ADDED_EXTENTS_MAX
            }
            _ => ADDED_EXTENTS_MAX,
        };
        let (mut data, mut end) = (0u64, 0);
        for extent in tree::extents(&self.store, &node.content, 0).take(limit) {
            let (start, extent) = extent?;
            end = start.saturating_add(extent.length);
            if extent.kind != ExtentKind::Hole {
                data = data.saturating_add(extent.length);
            }
        }
        // What was not looked at counts as data.
        Ok(data.saturating_add(size.saturating_sub(end)))
    }

    /// The extended attributes of an entry of a snapshot, ascending by name; none of anything else.
    pub fn xattrs(&self, item: &Item) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match item.node().map(|node| &node.xattrs) {
            None => Ok(Vec::new()),
            Some(Xattrs::Inline(xattrs)) => Ok(xattrs.clone()),
            Some(Xattrs::Chunk(id)) => {
                let bytes = self.store.get(ChunkKind::Xattr, id)?;
                decode_xattrs(&bytes).map_err(|problem| self.store.corrupt(ChunkKind::Xattr, id, problem))
            }
        }
    }

    fn file<'i>(&self, item: &'i Item) -> Result<&'i Arc<Node>> {
        match &item.place {
            Place::Entry { node, .. } if node.metadata.kind == NodeKind::File => Ok(node),
            _ => Err(Error::Path { path: as_path(&self.path(item)).to_owned(), problem: "is not a file" }),
        }
    }

    fn pieces(&self, node: &Node, offset: u64, end: u64) -> Result<Vec<(u64, Extent)>> {
        match &node.content {
            Content::List { root, .. } => {
                let window = self.contents.window(root);
                let mut window = lock(&window);
                window.pieces(&self.store, &node.content, offset, end)
            }
            content => Window::default().pieces(&self.store, content, offset, end),
        }
    }

    fn chunk_of(&self, id: ChunkId, length: u64) -> Result<Bytes> {
        let bytes = match self.contents.chunk(&id) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.store.get(ChunkKind::Data, &id)?;
                self.contents.keep(id, bytes.clone());
                bytes
            }
        };
        if bytes.len() as u64 != length {
            let problem = Corruption::Malformed("extent: its chunk has another length").to_string();
            return Err(Error::ChunkLost { id, problem });
        }
        Ok(bytes)
    }
}

impl Contents {
    fn window(&self, root: &ChunkId) -> Arc<Mutex<Window>> {
        let mut windows = lock(&self.windows);
        let position = windows.iter().position(|(of, _)| of == root);
        let entry = position.and_then(|position| windows.remove(position)).unwrap_or_else(|| (*root, Arc::default()));
        let window = entry.1.clone();
        windows.push_front(entry);
        windows.truncate(WINDOWS_MAX);
        window
    }

    fn chunk(&self, id: &ChunkId) -> Option<Bytes> {
        lock(&self.chunks).iter().find(|(of, _)| of == id).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, id: ChunkId, bytes: Bytes) {
        let mut chunks = lock(&self.chunks);
        chunks.push_front((id, bytes));
        chunks.truncate(CHUNKS_MAX);
    }
}
