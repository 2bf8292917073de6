//! The walk: the source's tree in order, and requests for what the targets may lack.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::fetch::{Fetched, Job, Request};
use super::memo::{Memos, key_of};
use crate::error::{Error, Result};
use crate::format::tree::{Content, Extent, ExtentKind, Node, NodeKind, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::ops::lookup::{self, Allowance, DEPTH_MAX};
use crate::pipeline::Budget;
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::Store;
use crate::tree::{self, Nodes};

/// Plaintext that one job of a reading thread asks for: about a frame.
const JOB_BYTES: u64 = 1 << 20;
/// Steps that wait for their job to be full.
const HELD_MAX: usize = 512;
/// Extents that go to the assembly at once.
const PART_EXTENTS: usize = 256;
/// What an attribute chunk counts for, whose length nobody knows before it is read.
const XATTR_BYTES: u64 = 64 << 10;

/// A chunk on its way, or on none.
pub type Reply = Option<Receiver<Result<Fetched>>>;

/// One step of the walk.
pub enum Item {
    /// A directory that is not empty begins.
    Enter { node: Node, xattr: Reply },
    /// It ends; `false`: not all of it could be read.
    Leave { is_whole: bool },
    /// An entry whose content is in its node.
    Plain { node: Node, xattr: Reply },
    /// A directory or file that all targets have.
    Same { node: Node, xattr: Reply },
    /// A file of chunks begins.
    Begin { node: Node, xattr: Reply },
    /// Its next extents.
    Part(Vec<(Extent, Reply)>),
    /// It ends.
    End,
    /// Something cannot be read; `name` is of an entry of the open directory, empty for that itself.
    Problem { name: Vec<u8>, error: Error },
    /// The walk cannot go on.
    Failed(Error),
}

/// What is wanted of the walk.
#[derive(Clone, Copy)]
pub struct Mode<'w> {
    pub rechunk: bool,
    /// The targets that get this snapshot.
    pub lacking: &'w [usize],
}

pub struct Walker<'w> {
    source: &'w Store,
    mode: Mode<'w>,
    memos: &'w Memos,
    allowance: Allowance,
    budget: Arc<Budget>,
    items: Sender<Item>,
    jobs: Sender<Job>,
    progress: &'w dyn Progress,
    /// Steps are sent after the job that they wait for: else the assembly could wait for a chunk that nobody reads yet,
    /// and this thread for the memory that the assembly holds.
    held: Vec<Item>,
    requests: Vec<Request>,
    request_bytes: u64,
}

/// The assembly has given up, or was told why this does.
struct Stop;

type Walk<T = ()> = Result<T, Stop>;

struct Level<'w> {
    nodes: Nodes<'w>,
    is_whole: bool,
}

impl<'w> Walker<'w> {
    #[expect(clippy::too_many_arguments, reason = "each is one end of a channel or a thing that all share")]
    pub fn new(
        source: &'w Store,
        snapshot: &Snapshot,
        mode: Mode<'w>,
        memos: &'w Memos,
        budget: Arc<Budget>,
        items: Sender<Item>,
        jobs: Sender<Job>,
        progress: &'w dyn Progress,
    ) -> Self {
        let (held, requests) = (Vec::new(), Vec::new());
        let allowance = Allowance::of(snapshot);
        Self { source, mode, memos, allowance, budget, items, jobs, progress, held, requests, request_bytes: 0 }
    }

    /// Walks all of it. That it ended early is seen by the assembly.
    pub fn walk(mut self, root: Option<Subtree>) {
        let _: Walk = self.levels(root).and_then(|()| self.flush());
    }

    fn levels(&mut self, root: Option<Subtree>) -> Walk {
        let open = |source: &'w Store, subtree: Option<&Subtree>| Level {
            nodes: tree::nodes(source, subtree),
            is_whole: true,
        };
        let mut levels = vec![open(self.source, root.as_ref())];
        while let Some(level) = levels.last_mut() {
            if self.progress.is_cancelled() {
                return self.fail(Error::Cancelled);
            }
            match level.nodes.next() {
                Some(Ok(node)) => {
                    if let Err(error) = self.allowance.take(&node.metadata) {
                        // A tree that unfolds to more than its snapshot says is not copied; others are.
                        self.hold(Item::Problem { name: node.name, error })?;
                        return (1..levels.len()).try_for_each(|_| self.hold(Item::Leave { is_whole: false }));
                    }
                    let Some(subtree) = self.node(node, levels.len())? else { continue };
                    levels.push(open(self.source, Some(&subtree)));
                }
                Some(Err(error)) => {
                    level.is_whole = false;
                    self.hold(Item::Problem { name: Vec::new(), error })?;
                }
                None => {
                    let is_whole = level.is_whole;
                    levels.pop();
                    if !levels.is_empty() {
                        self.hold(Item::Leave { is_whole })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One entry; a directory to go into is returned.
    fn node(&mut self, node: Node, depth: usize) -> Walk<Option<Subtree>> {
        if let Err(problem) = lookup::check_node(&node) {
            let error = Error::Path { path: crate::platform::target::as_path(&node.name).to_owned(), problem };
            return self.hold(Item::Problem { name: node.name, error }).map(|()| None);
        }
        let xattr = match &node.xattrs {
            Xattrs::Inline(_) => None,
            Xattrs::Chunk(id) => self.want(ChunkKind::Xattr, *id, XATTR_BYTES)?,
        };
        if let Some(subtree) = lookup::subtree(&node) {
            if self.memos.trees.is_known(&subtree.root, self.mode.lacking) {
                return self.hold(Item::Same { node, xattr }).map(|()| None);
            }
            if depth >= DEPTH_MAX {
                let error = Error::Malformed("a tree deeper than 4096 directories");
                return self.hold(Item::Problem { name: node.name, error }).map(|()| None);
            }
            return self.hold(Item::Enter { node, xattr }).map(|()| Some(subtree));
        }
        match &node.content {
            Content::Extents(_) | Content::List { .. } if node.metadata.kind == NodeKind::File => {
                self.file(node, xattr).map(|()| None)
            }
            _ => self.hold(Item::Plain { node, xattr }).map(|()| None),
        }
    }

    fn file(&mut self, node: Node, xattr: Reply) -> Walk {
        if self.mode.rechunk
            && let Some(key) = key_of(&node.content)
            && !self.memos.files.must_read(key, self.mode.lacking)
        {
            return self.hold(Item::Same { node, xattr });
        }
        let content = node.content.clone();
        let (name, size) = (node.name.clone(), node.metadata.size);
        self.hold(Item::Begin { node, xattr })?;
        let mut part = Vec::new();
        let mut length = 0u64;
        for extent in tree::extents(self.source, &content, 0) {
            let extent = match extent {
                Ok((position, extent)) => {
                    length = position.saturating_add(extent.length);
                    extent
                }
                Err(error) => {
                    self.hold(Item::Problem { name, error })?;
                    return self.hold(Item::End);
                }
            };
            let reply = match extent.kind {
                ExtentKind::Data(id) => {
                    // Its length is believed only up to what a chunk may have: it is compared when the chunk is here.
                    let bytes = extent.length.min(crate::format::CHUNK_BYTES_MAX.into());
                    if self.request_bytes + bytes > JOB_BYTES && !part.is_empty() {
                        // What was asked for goes with the job that is about to be sent.
                        self.held.push(Item::Part(std::mem::take(&mut part)));
                    }
                    self.want(ChunkKind::Data, id, bytes)?
                }
                ExtentKind::Zero | ExtentKind::Hole => None,
            };
            part.push((extent, reply));
            if part.len() >= PART_EXTENTS {
                self.hold(Item::Part(std::mem::take(&mut part)))?;
            }
            if self.progress.is_cancelled() {
                return self.fail(Error::Cancelled);
            }
        }
        self.hold(Item::Part(part))?;
        if length != size {
            let error = Error::Malformed("a file whose extents do not add up to its size");
            self.hold(Item::Problem { name, error })?;
        }
        self.hold(Item::End)
    }

    /// Asks for a chunk unless the targets have it or it is asked for. A file that is cut anew needs all of its own.
    fn want(&mut self, kind: ChunkKind, id: ChunkId, bytes: u64) -> Walk<Reply> {
        let is_cut_anew = self.mode.rechunk;
        if !is_cut_anew && !self.memos.chunks.must_read(id, self.mode.lacking) {
            return Ok(None);
        }
        if self.request_bytes + bytes > JOB_BYTES {
            self.flush()?;
        }
        let (reply, fetched) = bounded(1);
        self.requests.push(Request { kind, id, reply });
        self.request_bytes += bytes;
        Ok(Some(fetched))
    }

    fn hold(&mut self, item: Item) -> Walk {
        self.held.push(item);
        if self.held.len() >= HELD_MAX { self.flush() } else { Ok(()) }
    }

    /// Sends the job, then what waits for it.
    fn flush(&mut self) -> Walk {
        if !self.requests.is_empty() {
            let permit = self.budget.take(self.request_bytes as usize);
            let requests = std::mem::take(&mut self.requests);
            self.request_bytes = 0;
            self.jobs.send(Job { requests, permit }).map_err(|_| Stop)?;
        }
        self.held.drain(..).try_for_each(|item| self.items.send(item).map_err(|_| Stop))
    }

    fn fail(&mut self, error: Error) -> Walk {
        self.flush()?;
        self.items.send(Item::Failed(error)).map_err(|_| Stop)?;
        Err(Stop)
    }
}
