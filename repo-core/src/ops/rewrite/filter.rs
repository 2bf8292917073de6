//! A tree without what is left out. A directory of which nothing goes stays as it is, by its name; of others new nodes are made.
//! What was found of a directory is remembered, so that equal directories cost one look, in however many snapshots they are.

use std::collections::HashMap;

use super::RewriteOptions;
use super::shape::{self, Removed};
use crate::error::{Error, Result};
use crate::format::snapshot::Root;
use crate::format::tree::{Content, Node, Subtree};
use crate::id::ChunkId;
use crate::ops::lookup::{self, Allowance, DEPTH_MAX, Listing};
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::Store;
use crate::tree::{ChunkSink, TreeBuilder};
use crate::walk::filter::{Patterns, Reached};

/// Directories whose nodes are in memory at once.
const OPEN_MAX: usize = 64;

/// What was found out about directories: the same directory, reached with the same parts of patterns matched, becomes the same.
#[derive(Debug, Default)]
pub(super) struct Memo {
    directories: HashMap<(ChunkId, Reached), Directory>,
    /// Files below trees, and their bytes.
    pub files: HashMap<ChunkId, shape::Files>,
}

impl Memo {
    /// Forgets what was made; what was counted stays true.
    pub(super) fn forget(&mut self) {
        self.directories.clear();
    }
}

/// What became of a directory.
#[derive(Debug, Clone, Copy)]
struct Directory {
    /// `None`: nothing is left in it.
    tree: Option<Subtree>,
    removed: Removed,
}

/// What became of a snapshot's tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rewritten {
    pub root: Root,
    pub removed: Removed,
}

/// One tree on its way.
pub(super) struct Filter<'a, S> {
    store: &'a Store,
    patterns: &'a Patterns,
    /// What matches stays, instead of going.
    keeps_matches: bool,
    progress: &'a dyn Progress,
    sink: S,
    memo: &'a mut Memo,
}

/// A directory that is being rewritten.
struct Level<'s> {
    /// Its node; the top has none.
    node: Option<Node>,
    old: Option<Subtree>,
    reached: Reached,
    listing: Listing<'s>,
    tree: TreeBuilder,
    removed: Removed,
    /// Something in it is not as it was.
    is_changed: bool,
}

/// What is to be done with an entry.
enum Verdict {
    /// It stays as it is, with all below it.
    Keep,
    /// It goes, with all below it.
    Drop,
    /// It is a directory, and what is below it is asked one by one.
    Enter(Reached),
}

impl<'a, S: ChunkSink> Filter<'a, S> {
    /// With neither excludes nor includes everything stays.
    pub(super) fn new(
        store: &'a Store,
        options: &'a RewriteOptions,
        progress: &'a dyn Progress,
        sink: S,
        memo: &'a mut Memo,
    ) -> Self {
        let keeps_matches = !options.include.is_empty();
        let patterns = if keeps_matches { &options.include } else { &options.exclude };
        Self { store, patterns, keeps_matches, progress, sink, memo }
    }

    /// For who has to finish it.
    pub(super) fn into_sink(self) -> S {
        self.sink
    }

    /// The snapshot's tree without what is left out.
    pub(super) fn tree(&mut self, snapshot: &Snapshot) -> Result<Rewritten> {
        let old = lookup::root(snapshot);
        let reached = self.patterns.root();
        if old.is_none() || self.patterns.is_empty() {
            return Ok(Rewritten { root: snapshot.record.root, removed: Removed::default() });
        }
        let mut allowance = Allowance::of(snapshot);
        let mut open = vec![self.level(None, old, reached)];
        loop {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let depth = open.len();
            let Some(innermost) = open.last_mut() else {
                return Err(Error::Bug("a tree ended above its top".into()));
            };
            if let Some(node) = innermost.listing.next().transpose()? {
                allowance.take(&node.metadata)?;
                if let Some(below) = self.take(innermost, node)? {
                    if depth >= DEPTH_MAX {
                        let what = "the depth of directories".to_owned();
                        return Err(Error::Limit { what, limit: DEPTH_MAX as u64 });
                    }
                    if let Some(at) = depth.checked_sub(OPEN_MAX) {
                        open[at].listing.put_aside();
                    }
                    open.push(below);
                }
                continue;
            }
            let Some(mut done) = open.pop() else { continue };
            let node = done.node.take();
            let directory = self.finish(done)?;
            match (node, open.last_mut()) {
                (Some(node), Some(above)) => self.add(above, node, directory)?,
                _ => {
                    let Directory { tree, removed } = directory;
                    let (entries, bytes) = tree.map_or((0, 0), |tree| (tree.entries, tree.bytes));
                    return Ok(Rewritten { root: Root { tree: tree.map(|tree| tree.root), entries, bytes }, removed });
                }
            }
        }
    }

    fn level(&self, node: Option<Node>, old: Option<Subtree>, reached: Reached) -> Level<'a> {
        let listing = Listing::new(self.store, old);
        let (tree, removed) = (TreeBuilder::new(), Removed::default());
        Level { node, old, reached, listing, tree, removed, is_changed: false }
    }

    fn judge(&self, above: &Reached, node: &Node) -> Verdict {
        let reached = self.patterns.step(above, &node.name);
        let is_matched = self.patterns.matched(&reached);
        let has_entries = matches!(node.content, Content::Directory(_));
        match (self.keeps_matches, is_matched) {
            (false, true) | (true, false) if !(self.keeps_matches && has_entries) => Verdict::Drop,
            (true, false) if !self.patterns.may_match_beyond(&reached) => Verdict::Drop,
            (false, false) if !has_entries || !self.patterns.may_match_beyond(&reached) => Verdict::Keep,
            (true, true) if !has_entries || self.patterns.takes_all_below(&reached) => Verdict::Keep,
            _ => Verdict::Enter(reached),
        }
    }

    /// Takes the next entry of a directory. A directory that is to be entered comes back.
    fn take(&mut self, level: &mut Level<'a>, node: Node) -> Result<Option<Level<'a>>> {
        let reached = match self.judge(&level.reached, &node) {
            Verdict::Keep => {
                level.tree.push(&node, &mut self.sink)?;
                return Ok(None);
            }
            Verdict::Drop => {
                level.is_changed = true;
                let removed = shape::removed(self.store, &node, &mut self.memo.files, self.progress)?;
                level.removed.add(removed);
                return Ok(None);
            }
            Verdict::Enter(reached) => reached,
        };
        let Some(below) = lookup::subtree(&node) else {
            return Err(Error::Bug("a directory without entries was to be entered".into()));
        };
        match self.memo.directories.get(&(below.root, reached.clone())).copied() {
            Some(known) => {
                self.add(level, node, known)?;
                Ok(None)
            }
            None => Ok(Some(self.level(Some(node), Some(below), reached))),
        }
    }

    /// All entries of a directory were taken.
    fn finish(&mut self, done: Level<'a>) -> Result<Directory> {
        let Level { old, reached, tree, removed, is_changed, .. } = done;
        // One that is as it was keeps its nodes, however they were cut.
        let tree = if is_changed { tree.finish(&mut self.sink)? } else { old };
        let directory = Directory { tree, removed };
        if let Some(old) = old {
            self.memo.directories.insert((old.root, reached), directory);
        }
        Ok(directory)
    }

    /// Adds a directory to the one above it.
    fn add(&mut self, above: &mut Level<'_>, mut node: Node, directory: Directory) -> Result<()> {
        let is_same = lookup::subtree(&node).map(|old| old.root) == directory.tree.map(|tree| tree.root);
        above.removed.add(directory.removed);
        above.is_changed |= !is_same;
        // One that led to nothing that stays, and does not stay by itself, was no more than a way.
        if directory.tree.is_none() && self.keeps_matches {
            let reached = self.patterns.step(&above.reached, &node.name);
            if !self.patterns.matched(&reached) {
                above.removed.entries = above.removed.entries.saturating_add(1);
                return Ok(());
            }
        }
        node.content = directory.tree.map_or(Content::None, Content::Directory);
        above.tree.push(&node, &mut self.sink)
    }
}
