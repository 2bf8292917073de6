//! What each subtree restores to, and which contents were met. A file with several names is written once by a restore: such
//! files are remembered by directory, so that a snapshot's are told apart without reading its tree again.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::tree::{Content, ExtentKind, Node, NodeKind};
use crate::id::ChunkId;
use crate::ops::lookup;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::{self, Measure};

/// Which contents are counted besides sizes.
pub(super) enum Contents {
    NotCounted,
    /// Each content once: the first half of a hash of what names it.
    ByContent(HashSet<[u8; 16]>),
    /// Likewise, and of each new one its chunks, each once for a path.
    ByChunk {
        contents: HashSet<[u8; 16]>,
        paths: HashSet<[u8; 16]>,
        chunks: HashSet<[u8; 16]>,
    },
}

/// What contents came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub files: u64,
    pub bytes: u64,
    pub chunks: u64,
}

/// The sizes of subtrees, by their roots.
pub(super) struct Sizes<'s> {
    store: &'s Store,
    progress: &'s dyn Progress,
    totals: HashMap<ChunkId, Totals>,
    /// Of subtrees with such files.
    linked: HashMap<ChunkId, Linked>,
    contents: Contents,
    counted: Counted,
    pub problems: Vec<Error>,
}

/// What is below a root, every name counted.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    entries: u64,
    bytes: u64,
    /// Of these, bytes of files that have several names.
    linked_bytes: u64,
}

/// Files with several names: those of the node itself, and the nodes below that have some.
#[derive(Debug, Default)]
struct Linked {
    files: Vec<((u64, u64), u64)>,
    below: Vec<ChunkId>,
}

#[derive(Debug, Default)]
pub(super) struct Sum {
    totals: Totals,
    linked: Linked,
}

impl Contents {
    /// Every content once.
    pub(super) fn by_content() -> Self {
        Self::ByContent(HashSet::new())
    }

    /// Every chunk once for a path.
    pub(super) fn by_chunk() -> Self {
        Self::ByChunk { contents: HashSet::new(), paths: HashSet::new(), chunks: HashSet::new() }
    }
}

impl<'s> Sizes<'s> {
    /// Knows nothing yet.
    pub(super) fn new(store: &'s Store, contents: Contents, progress: &'s dyn Progress) -> Self {
        let (totals, linked) = (HashMap::new(), HashMap::new());
        Self { store, progress, totals, linked, contents, counted: Counted::default(), problems: Vec::new() }
    }

    /// The entries below a root that was measured, and the bytes that a restore of it writes.
    pub(super) fn of(&self, root: &ChunkId) -> (u64, u64) {
        let Totals { entries, bytes, linked_bytes } = self.totals.get(root).copied().unwrap_or_default();
        let once = if linked_bytes == 0 { 0 } else { self.linked_once(root) };
        (entries, bytes.saturating_sub(linked_bytes).saturating_add(once))
    }

    /// The bytes of files with several names below a root, each file once.
    fn linked_once(&self, root: &ChunkId) -> u64 {
        let (mut seen, mut files, mut bytes) = (HashSet::from([root]), HashSet::new(), 0u64);
        let mut pending = vec![root];
        while let Some(linked) = pending.pop().and_then(|root| self.linked.get(root)) {
            for (file, size) in &linked.files {
                if files.insert(*file) {
                    bytes = bytes.saturating_add(*size);
                }
            }
            // A subtree that is there twice has the same files in both places.
            pending.extend(linked.below.iter().filter(|below| seen.insert(*below)));
        }
        bytes
    }

    /// What the contents came to.
    pub(super) fn counted(&self) -> Counted {
        self.counted
    }

    fn count_content(&mut self, directory: &[u8], node: &Node) -> Result<()> {
        match &mut self.contents {
            Contents::NotCounted => Ok(()),
            Contents::ByContent(contents) => {
                if contents.insert(content_key(&node.content)) {
                    self.counted.files += 1;
                    self.counted.bytes = self.counted.bytes.saturating_add(node.metadata.size);
                }
                Ok(())
            }
            Contents::ByChunk { contents, paths, chunks } => {
                if !contents.insert(content_key(&node.content)) {
                    return Ok(());
                }
                let path = key(&[directory, b"/", &node.name]);
                for extent in tree::extents(self.store, &node.content, 0) {
                    let extent = match extent {
                        Ok((_, extent)) => extent,
                        Err(error @ (Error::Backend(_) | Error::Cancelled)) => return Err(error),
                        Err(error) => {
                            self.problems.push(error);
                            continue;
                        }
                    };
                    let ExtentKind::Data(id) = extent.kind else { continue };
                    if chunks.insert(key(&[&path, &id.0])) {
                        self.counted.files += u64::from(paths.insert(path));
                        self.counted.chunks += 1;
                        self.counted.bytes = self.counted.bytes.saturating_add(extent.length);
                    }
                }
                Ok(())
            }
        }
    }
}

impl Measure for Sizes<'_> {
    type Sum = Sum;

    fn is_known(&self, root: &ChunkId) -> bool {
        self.totals.contains_key(root)
    }

    fn entries(&mut self, directory: &[u8], nodes: &[Node], sum: &mut Sum) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        for node in nodes {
            let (metadata, size) = (&node.metadata, lookup::content_bytes(&node.metadata));
            sum.totals.entries += 1;
            sum.totals.bytes = sum.totals.bytes.saturating_add(size);
            if metadata.kind != NodeKind::File {
                continue;
            }
            // Without a number of its own a file cannot be told from another.
            if metadata.links > 1 && metadata.inode != 0 {
                sum.totals.linked_bytes = sum.totals.linked_bytes.saturating_add(size);
                sum.linked.files.push(((metadata.device, metadata.inode), size));
            }
            self.count_content(directory, node)?;
        }
        Ok(())
    }

    fn below(&mut self, root: &ChunkId, sum: &mut Sum) {
        let below = self.totals.get(root).copied().unwrap_or_default();
        let totals = &mut sum.totals;
        totals.entries = totals.entries.saturating_add(below.entries);
        totals.bytes = totals.bytes.saturating_add(below.bytes);
        totals.linked_bytes = totals.linked_bytes.saturating_add(below.linked_bytes);
        if self.linked.contains_key(root) {
            sum.linked.below.push(*root);
        }
    }

    fn done(&mut self, root: ChunkId, sum: Sum) {
        self.totals.insert(root, sum.totals);
        if !sum.linked.files.is_empty() || !sum.linked.below.is_empty() {
            self.linked.insert(root, sum.linked);
        }
    }

    fn lost(&mut self, error: Error) -> Result<()> {
        self.problems.push(error);
        Ok(())
    }
}

/// The same for files of the same content: equal contents are cut alike, and lists of chunks made alike.
fn content_key(content: &Content) -> [u8; 16] {
    match content {
        Content::Inline(bytes) => key(&[b"inline", bytes]),
        Content::List { root, .. } => key(&[b"list", &root.0]),
        Content::Extents(extents) => {
            let mut parts = Vec::with_capacity(extents.len());
            for extent in extents {
                let (is_data, id) = match &extent.kind {
                    // Both read as zeros.
                    ExtentKind::Zero | ExtentKind::Hole => (0, [0; 32]),
                    ExtentKind::Data(id) => (1, id.0),
                };
                parts.push(is_data);
                parts.extend_from_slice(&extent.length.to_le_bytes());
                parts.extend_from_slice(&id);
            }
            key(&[b"extents", &parts])
        }
        Content::None | Content::Directory(_) | Content::Symlink(_) => key(&[b"none"]),
    }
}

/// Names 2^32 things with a chance of 2^-64 that two are taken for one.
fn key(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| _ = hasher.update(part));
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}
