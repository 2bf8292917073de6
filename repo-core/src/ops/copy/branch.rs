//! What grows in one target: its trees, its contents, its chunks.

use std::collections::HashSet;

use bytes::Bytes;

use super::Ready;
use super::assembly::Grown;
use crate::chunker::Chunker;
use crate::error::Result;
use crate::format::snapshot::Root;
use crate::format::tree::{Content, Extent, ExtentKind, Node, Subtree};
use crate::frame;
use crate::id::{ChunkId, ChunkKind};
use crate::store::{Index, Store, Writer};
use crate::tree::{ChunkSink, ContentBuilder, TreeBuilder};

/// Zeros that were written are cut like any other bytes, so many at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// One target's side of a copy.
pub struct Branch<'a, 'scope, 's> {
    /// Which target.
    pub number: usize,
    sink: Sink<'a, 'scope, 's>,
    /// The root's tree, and those of the open directories.
    trees: Vec<TreeBuilder>,
    content: ContentBuilder,
    cutter: Option<Cutter>,
}

/// Puts chunks and counts them.
struct Sink<'a, 'scope, 's> {
    store: &'a Store,
    view: &'a Index,
    /// Of the batch's snapshots before this one.
    stored: &'a HashSet<ChunkId>,
    writer: Writer<'scope, 's>,
    new: Vec<ChunkId>,
    data_chunks: u64,
    tree_chunks: u64,
    added_bytes: u64,
}

impl Sink<'_, '_, '_> {
    fn store(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8], incompressible: bool, owner: u32) -> Result<()> {
        if self.stored.contains(&id) || !self.writer.put(kind, id, bytes, incompressible, owner.into(), self.view)? {
            return Ok(());
        }
        self.new.push(id);
        self.added_bytes += bytes.len() as u64;
        *match kind {
            ChunkKind::Data => &mut self.data_chunks,
            _ => &mut self.tree_chunks,
        } += 1;
        Ok(())
    }
}

impl ChunkSink for Sink<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.store.keys().chunk_id(kind, &bytes);
        self.store(kind, id, &bytes, false, 0)?;
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.store.keys().splits_tree_after(name)
    }
}

impl<'a, 'scope, 's> Branch<'a, 'scope, 's> {
    pub fn new(number: usize, ready: &'a Ready, writer: Writer<'scope, 's>, chunker: Option<Chunker>) -> Self {
        let sink = Sink {
            store: &ready.store,
            view: &ready.view,
            stored: &ready.stored,
            writer,
            new: Vec::new(),
            data_chunks: 0,
            tree_chunks: 0,
            added_bytes: 0,
        };
        let cutter = chunker.map(|chunker| Cutter { chunker, uncut: Vec::new() });
        Self { number, sink, trees: vec![TreeBuilder::new()], content: ContentBuilder::new(), cutter }
    }

    /// Whether contents are cut here, and not taken as they were cut in the source.
    pub fn cuts_anew(&self) -> bool {
        self.cutter.is_some()
    }

    /// A chunk that is no content, under the name it has here.
    pub fn put(&mut self, kind: ChunkKind, bytes: &Bytes) -> Result<ChunkId> {
        self.sink.put(kind, bytes.to_vec())
    }

    /// Says that this run lives, now and then.
    pub fn keep_alive(&mut self) {
        self.sink.writer.keep_alive();
    }

    /// A directory begins.
    pub fn enter(&mut self) {
        self.trees.push(TreeBuilder::new());
    }

    /// It ends; `None`: it is empty.
    pub fn leave(&mut self) -> Result<Option<Subtree>> {
        let tree = self.trees.pop().unwrap_or_default();
        tree.finish(&mut self.sink)
    }

    /// Adds an entry to the open directory.
    pub fn push(&mut self, node: &Node) -> Result<()> {
        match self.trees.last_mut() {
            Some(tree) => tree.push(node, &mut self.sink),
            None => Ok(()),
        }
    }

    /// A file begins.
    pub fn begin(&mut self) {
        self.content = ContentBuilder::new();
        if let Some(cutter) = &mut self.cutter {
            cutter.uncut.clear();
        }
    }

    /// Its next extent: a chunk of the source, named as it is here, with its bytes if they were read.
    pub fn chunk(&mut self, id: ChunkId, read: Option<(&[u8], bool)>, length: u64, owner: u32) -> Result<()> {
        if let Some((bytes, incompressible)) = read {
            self.sink.store(ChunkKind::Data, id, bytes, incompressible, owner)?;
        }
        self.content.push(Extent { length, kind: ExtentKind::Data(id) }, &mut self.sink)
    }

    /// Its next bytes, which are cut as this target cuts.
    pub fn bytes(&mut self, bytes: &[u8], owner: u32) -> Result<()> {
        let Some(cutter) = &mut self.cutter else { return Ok(()) };
        cutter.uncut.extend_from_slice(bytes);
        self.cut(false, owner)
    }

    /// Zeros that were written, or a hole. Where there is a hole a piece of data ends.
    pub fn gap(&mut self, extent: Extent, owner: u32) -> Result<()> {
        match (&self.cutter, extent.kind) {
            (Some(_), ExtentKind::Zero) => {
                let mut left = extent.length;
                while left > 0 {
                    let count = left.min(ZEROS.len() as u64);
                    self.bytes(&ZEROS[..count as usize], owner)?;
                    left -= count;
                }
                Ok(())
            }
            (Some(_), _) => {
                self.cut(true, owner)?;
                self.content.push(extent, &mut self.sink)
            }
            (None, _) => self.content.push(extent, &mut self.sink),
        }
    }

    /// The file ends.
    pub fn end(&mut self, owner: u32) -> Result<Content> {
        self.cut(true, owner)?;
        std::mem::take(&mut self.content).finish(&mut self.sink)
    }

    /// Cuts what can be cut; what more bytes could cut differently waits for them.
    fn cut(&mut self, is_end: bool, owner: u32) -> Result<()> {
        let Some(Cutter { chunker, uncut }) = &mut self.cutter else { return Ok(()) };
        let mut start = 0;
        while start < uncut.len() && (is_end || uncut.len() - start >= chunker.max_bytes()) {
            let bytes = &uncut[start..];
            let bytes = &bytes[..chunker.cut(bytes)];
            let kind = match bytes.iter().all(|byte| *byte == 0) {
                true => ExtentKind::Zero,
                false => {
                    let id = self.sink.store.keys().chunk_id(ChunkKind::Data, bytes);
                    self.sink.store(ChunkKind::Data, id, bytes, frame::looks_incompressible(bytes), owner)?;
                    ExtentKind::Data(id)
                }
            };
            self.content.push(Extent { length: bytes.len() as u64, kind }, &mut self.sink)?;
            start += bytes.len();
        }
        uncut.drain(..start);
        Ok(())
    }

    /// Sends the last chunks on their way.
    pub fn finish(mut self) -> Result<Grown> {
        let root = self.trees.pop().unwrap_or_default();
        let (entries, bytes) = root.totals();
        let tree = root.finish(&mut self.sink)?.map(|subtree| subtree.root);
        self.sink.writer.finish()?;
        Ok(Grown {
            root: Root { tree, entries, bytes },
            stored: self.sink.new,
            data_chunks: self.sink.data_chunks,
            tree_chunks: self.sink.tree_chunks,
            added_bytes: self.sink.added_bytes,
            read_chunks: 0,
            read_bytes: 0,
        })
    }
}

/// Cuts a file as the target's own backups would.
struct Cutter {
    chunker: Chunker,
    uncut: Vec<u8>,
}
