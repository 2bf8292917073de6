//! The assembly: takes what the walk sends, in its order; puts chunks, builds the trees, counts.

mod unordered;

use std::path::Path;

use crossbeam_channel::Receiver;

use super::reading::{Body, FileResult, Piece, ReadFile};
use super::walker::{Attributes, Item, Status};
use crate::error::{Corruption, Error, Result};
use crate::format::snapshot::{Root, Summary};
use crate::format::tree::{Content, Extent, ExtentKind, Metadata, Node, Subtree, Xattrs, decode_xattrs, encode_xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::platform::target::as_path;
use crate::progress::{Action, Event, Progress};
use crate::store::{Index, Store, Writer};
use crate::tree::{ChunkSink, ContentBuilder, TreeBuilder};
use crate::walk::{Details, Unreadable};

pub use unordered::Unordered;

/// Extended attributes up to this many bytes lie in the node.
const XATTRS_INLINE_MAX_BYTES: usize = 4 << 10;

/// What was assembled.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub root: Root,
    pub summary: Summary,
    /// Metadata's share of the bytes added.
    pub added_meta_bytes: u64,
    /// The run was cancelled before the source had ended.
    pub is_partial: bool,
}

pub struct Assembly<'a, 'scope, 's> {
    sink: Sink<'a, 'scope, 's>,
    progress: &'a dyn Progress,
    root: TreeBuilder,
    open: Vec<OpenDirectory>,
    /// Path of the innermost open directory, beginning with `/` where it is not the top.
    path: Vec<u8>,
    large: Option<OpenLarge>,
    summary: Summary,
    /// Of a stream of entries: those that came, until there are no more.
    unordered: Option<Unordered>,
    /// What is done when the run is cancelled is a tree too.
    pub keeps_partial: bool,
}

struct OpenDirectory {
    name: Vec<u8>,
    metadata: Metadata,
    xattrs: Xattrs,
    before: Option<Box<Node>>,
    tree: TreeBuilder,
    /// Length of the path above it.
    path_length: usize,
}

struct OpenLarge {
    name: Vec<u8>,
    status: Status,
    owner: u32,
    content: ContentBuilder,
}

/// Puts chunks and counts them.
struct Sink<'a, 'scope, 's> {
    writer: Writer<'scope, 's>,
    store: &'a Store,
    view: &'a Index,
    data_chunks: u64,
    tree_chunks: u64,
    added_data_bytes: u64,
    added_meta_bytes: u64,
}

impl ChunkSink for Sink<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.store.keys().chunk_id(kind, &bytes);
        let length = bytes.len() as u64;
        if self.writer.put(kind, id, &bytes, false, 0, self.view)? {
            self.tree_chunks += 1;
            self.added_meta_bytes += length;
        }
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.store.keys().splits_tree_after(name)
    }
}

impl Sink<'_, '_, '_> {
    fn put_piece(&mut self, piece: Piece, owner: u32) -> Result<Extent> {
        if let ExtentKind::Data(id) = piece.extent.kind
            && self.writer.put(ChunkKind::Data, id, &piece.bytes, piece.incompressible, owner.into(), self.view)?
        {
            self.data_chunks += 1;
            self.added_data_bytes += piece.extent.length;
        }
        Ok(piece.extent)
    }

    fn xattrs(&mut self, details: &Details) -> Result<Xattrs> {
        if fits_inline(&details.xattrs) {
            return Ok(Xattrs::Inline(details.xattrs.clone()));
        }
        self.put(ChunkKind::Xattr, encode_xattrs(&details.xattrs)).map(Xattrs::Chunk)
    }
}

/// Whether these attributes lie in the node.
pub fn fits_inline(xattrs: &[(Vec<u8>, Vec<u8>)]) -> bool {
    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= XATTRS_INLINE_MAX_BYTES
}

impl<'a, 'scope, 's> Assembly<'a, 'scope, 's> {
    /// With `unordered`, entries come under their whole paths, and the trees are built when all have come.
    pub fn new(
        store: &'a Store,
        view: &'a Index,
        writer: Writer<'scope, 's>,
        progress: &'a dyn Progress,
        unordered: Option<Unordered>,
    ) -> Self {
        let sink =
            Sink { writer, store, view, data_chunks: 0, tree_chunks: 0, added_data_bytes: 0, added_meta_bytes: 0 };
        Self {
            sink,
            progress,
            root: TreeBuilder::new(),
            open: Vec::new(),
            path: Vec::new(),
            large: None,
            summary: Summary::default(),
            unordered,
            keeps_partial: false,
        }
    }

    /// Takes every item, and closes the root.
    pub fn take_all(&mut self, items: Receiver<Item>) -> Result<Totals> {
        // After that nobody takes items, which ends the walk.
        let taken = items.into_iter().try_for_each(|item| self.take_next(item));
        let is_partial = match taken {
            Err(Error::Cancelled) if self.keeps_partial && self.unordered.is_none() => {
                self.close_all()?;
                true
            }
            result => {
                result?;
                self.build()?;
                false
            }
        };
        if !self.open.is_empty() || self.large.is_some() {
            return Err(Error::Bug("the walk ended inside a directory".into()));
        }
        let (entries, bytes) = self.root.totals();
        let tree = std::mem::take(&mut self.root).finish(&mut self.sink)?.map(|subtree| subtree.root);
        Ok(Totals {
            root: Root { tree, entries, bytes },
            summary: Summary {
                data_chunks: self.sink.data_chunks,
                tree_chunks: self.sink.tree_chunks,
                added_bytes: self.sink.added_data_bytes + self.sink.added_meta_bytes,
                ..self.summary
            },
            added_meta_bytes: self.sink.added_meta_bytes,
            is_partial,
        })
    }

    fn take_next(&mut self, item: Item) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.sink.writer.keep_alive();
        self.take(item)
    }

    /// Closes what is open: a file that was not read to its end is left out, directories end with what was done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if nothing was done but to open directories.
    fn close_all(&mut self) -> Result<()> {
        self.large = None;
        let begun = self.open.len() as u64;
        while !self.open.is_empty() {
            self.leave()?;
        }
        if self.root.totals().0 == begun { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Sends the last frames on their way.
    pub fn finish(self) -> Result<()> {
        self.sink.writer.finish()
    }

    fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Enter { name, metadata, attributes, before } => self.enter(name, metadata, attributes, before),
            Item::Leave => self.leave(),
            Item::Ready { node, status } => self.add(node, status, 0),
            Item::Special { entry, details, status } => {
                let xattrs = self.attributes(&entry.name, &details)?;
                let content = match entry.metadata.kind {
                    crate::format::tree::NodeKind::Symlink => Content::Symlink(details.link_target),
                    _ => Content::None,
                };
                let metadata = Metadata { flags: details.flags, ..entry.metadata };
                self.add(Node { name: entry.name, metadata, content, xattrs, extensions: Vec::new() }, status, 0)
            }
            Item::File { name, status, result } => {
                let result = result.recv().map_err(|_| Error::Bug("a reading thread ended early".into()))?;
                self.file(name, status, result)
            }
            Item::LargeBegin { name, status, owner } => {
                // What comes in any order is not done before all has come.
                if self.unordered.is_none() {
                    self.with_path(&name, |progress, path| progress.report(Event::Started { path }));
                }
                self.large = Some(OpenLarge { name, status, owner, content: ContentBuilder::new() });
                Ok(())
            }
            Item::LargePart(pieces) => {
                let pieces = pieces.recv().map_err(|_| Error::Bug("a reading thread ended early".into()))?;
                pieces.into_iter().try_for_each(|piece| self.large_piece(piece))
            }
            Item::LargeHole(piece) => self.large_piece(piece),
            Item::LargeRestart => {
                self.large()?.content = ContentBuilder::new();
                Ok(())
            }
            Item::LargeEnd { metadata, details, read_bytes } => {
                let large = self.large.take().ok_or_else(no_large)?;
                let content = large.content.finish(&mut self.sink)?;
                let xattrs = self.attributes(&large.name, &details)?;
                let metadata = Metadata { flags: details.flags, ..metadata };
                let node = Node { name: large.name, metadata, content, xattrs, extensions: Vec::new() };
                self.add(node, large.status, read_bytes)
            }
            Item::LargeFailed(unreadable) => {
                self.large = None;
                self.problem(&unreadable);
                Ok(())
            }
            Item::Link { path, target } => match &mut self.unordered {
                Some(unordered) => unordered.link(path, target),
                None => Err(Error::Bug("a link in a walk".into())),
            },
            Item::Problem(unreadable) => {
                self.problem(&unreadable);
                Ok(())
            }
            Item::Failed(error) => Err(error),
        }
    }

    fn enter(
        &mut self,
        name: Vec<u8>,
        metadata: Metadata,
        attributes: Attributes,
        before: Option<Box<Node>>,
    ) -> Result<()> {
        let (xattrs, flags) = match attributes {
            Attributes::Known(xattrs) => (xattrs, metadata.flags),
            Attributes::Read(details) => (self.attributes(&name, &details)?, details.flags),
        };
        let path_length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&name);
        let metadata = Metadata { flags, ..metadata };
        self.open.push(OpenDirectory { name, metadata, xattrs, before, tree: TreeBuilder::new(), path_length });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let directory = self.open.pop().ok_or_else(|| Error::Bug("a directory ended that had not begun".into()))?;
        let content = directory.tree.finish(&mut self.sink)?.map_or(Content::None, Content::Directory);
        self.path.truncate(directory.path_length);
        let node = Node {
            name: directory.name,
            metadata: directory.metadata,
            content,
            xattrs: directory.xattrs,
            extensions: Vec::new(),
        };
        let (status, count) = match &directory.before {
            None => (Status::New, &mut self.summary.directories_new),
            Some(before) if **before == node => (Status::Unmodified, &mut self.summary.directories_unmodified),
            Some(_) => (Status::Changed, &mut self.summary.directories_changed),
        };
        *count += 1;
        self.report_done(&node, status);
        self.push(&node)
    }

    fn file(&mut self, name: Vec<u8>, status: Status, result: FileResult) -> Result<()> {
        let ReadFile { metadata, details, body, read_bytes } = match result {
            Ok(file) => file,
            Err(failure) => {
                self.problem(&Unreadable { name, during: failure.during, error: failure.error });
                return Ok(());
            }
        };
        let owner = metadata.uid;
        let content = match body {
            Body::Inline(bytes) if bytes.is_empty() => Content::None,
            Body::Inline(bytes) => Content::Inline(bytes),
            Body::Pieces(pieces) => {
                let mut content = ContentBuilder::new();
                for piece in pieces {
                    let extent = self.sink.put_piece(piece, owner)?;
                    content.push(extent, &mut self.sink)?;
                }
                content.finish(&mut self.sink)?
            }
        };
        let xattrs = self.attributes(&name, &details)?;
        let metadata = Metadata { flags: details.flags, ..metadata };
        self.add(Node { name, metadata, content, xattrs, extensions: Vec::new() }, status, read_bytes)
    }

    fn large(&mut self) -> Result<&mut OpenLarge> {
        self.large.as_mut().ok_or_else(no_large)
    }

    fn large_piece(&mut self, piece: Piece) -> Result<()> {
        let large = self.large.as_mut().ok_or_else(no_large)?;
        let extent = self.sink.put_piece(piece, large.owner)?;
        large.content.push(extent, &mut self.sink)
    }

    /// Stores attributes; those that could not be read are a problem, and the entry is stored without them.
    fn attributes(&mut self, name: &[u8], details: &Details) -> Result<Xattrs> {
        for message in &details.problems {
            self.summary.problems += 1;
            self.with_path(name, |progress, path| {
                progress.report(Event::Problem { path, during: "reading the entry's attributes", message });
            });
        }
        if !fits_inline(&details.xattrs)
            && let Err(problem) = check_xattrs(&details.xattrs)
        {
            let error = std::io::Error::other(problem.to_string());
            self.problem(&Unreadable { name: name.to_vec(), during: "storing the entry's attributes", error });
            return Ok(Xattrs::Inline(Vec::new()));
        }
        self.sink.xattrs(details)
    }

    /// Adds an entry that is not a directory.
    fn add(&mut self, node: Node, status: Status, read_bytes: u64) -> Result<()> {
        if let Some(unordered) = &mut self.unordered {
            self.summary.read_bytes += read_bytes;
            return unordered.put(node);
        }
        if node.metadata.kind == crate::format::tree::NodeKind::File {
            self.summary.processed_files += 1;
            self.summary.processed_bytes += node.metadata.size;
            self.summary.read_bytes += read_bytes;
            *match status {
                Status::New => &mut self.summary.files_new,
                Status::Changed => &mut self.summary.files_changed,
                Status::Unmodified => &mut self.summary.files_unmodified,
            } += 1;
            if node.metadata.unstable {
                let message = "it changed while it was read, three times; the snapshot has what the last reading saw";
                self.with_path(&node.name, |progress, path| {
                    progress.report(Event::Note { message: &format!("{}: {message}", path.display()) });
                });
            }
        }
        self.report_done(&node, status);
        self.push(&node)
    }

    /// Adds a node to the innermost open directory. What no tree can hold (a name with a slash, from a source that is
    /// no file system) is a problem of that entry, and never an unreadable tree.
    fn push(&mut self, node: &Node) -> Result<()> {
        if let Err(problem) = node.check() {
            let error = std::io::Error::other(problem.to_string());
            self.problem(&Unreadable { name: node.name.clone(), during: "storing the entry", error });
            return Ok(());
        }
        let tree = self.open.last_mut().map_or(&mut self.root, |directory| &mut directory.tree);
        tree.push(node, &mut self.sink)
    }

    fn report_done(&mut self, node: &Node, status: Status) {
        let action = match status {
            Status::New => Action::New,
            Status::Changed => Action::Modified,
            Status::Unmodified => Action::Unchanged,
        };
        let bytes = match node.content {
            Content::Directory(Subtree { .. }) => 0,
            _ => node.metadata.size,
        };
        self.with_path(&node.name, |progress, path| progress.report(Event::Done { path, action, bytes }));
    }

    fn problem(&mut self, unreadable: &Unreadable) {
        self.summary.problems += 1;
        let message = unreadable.error.to_string();
        self.with_path(&unreadable.name, |progress, path| {
            progress.report(Event::Problem { path, during: unreadable.during, message: &message });
        });
    }

    fn with_path(&mut self, name: &[u8], tell: impl FnOnce(&dyn Progress, &Path)) {
        let length = self.path.len();
        if !name.is_empty() {
            self.path.push(b'/');
            self.path.extend_from_slice(name);
        }
        tell(self.progress, as_path(&self.path));
        self.path.truncate(length);
    }
}

/// Whether a chunk of these attributes could be read back: its decoder is the one judge.
fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Corruption> {
    decode_xattrs(&encode_xattrs(xattrs)).map(drop)
}

fn no_large() -> Error {
    Error::Bug("a part of a file that had not begun".into())
}
