//! The content of a file: its extents in the node, or, for a large one, a list of its own.

use crate::error::{Error, Result};
use crate::format::list::{ListChild, ListNode};
use crate::format::tree::{Content, Extent, ExtentKind};
use crate::id::{ChunkId, ChunkKind};
use crate::store::Store;

use super::ChunkSink;

/// Extents that lie in the node itself.
const NODE_EXTENTS_MAX: usize = 64;
/// A list node ends at the earliest after this many items…
const SPLIT_MIN_ITEMS: usize = 256;
/// …and at the latest after this many.
const SPLIT_MAX_ITEMS: usize = 4096;
/// A depth that no file of 2^64 bytes needs.
const DEPTH_MAX: u8 = 6;

/// Whether a list node may end after the chunk of this name: cut by the names themselves, so that an insertion
/// rewrites a few nodes and not all that follow.
fn splits_after(id: &ChunkId) -> bool {
    u16::from_le_bytes([id.0[30], id.0[31]]) & 0x3FF == 0
}

/// Gathers a file's extents, in order.
#[derive(Debug, Default)]
pub struct ContentBuilder {
    /// The current leaf; the last extent may still grow if it is a zero or a hole.
    leaf: Vec<Extent>,
    branches: Vec<Vec<ListChild>>,
    is_list: bool,
    chunks: u64,
}

impl ContentBuilder {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next extent. Runs of zeros and of holes are joined.
    pub fn push(&mut self, extent: Extent, sink: &mut dyn ChunkSink) -> Result<()> {
        match (self.leaf.last_mut(), extent.kind) {
            (Some(last), ExtentKind::Zero | ExtentKind::Hole) if last.kind == extent.kind => {
                last.length += extent.length;
                return Ok(());
            }
            _ => {}
        }
        // Closed before the next item and not after the last: a run of zeros must be able to grow.
        self.is_list |= self.leaf.len() == NODE_EXTENTS_MAX;
        if self.is_list && self.leaf_is_full() {
            self.close_leaf(sink)?;
        }
        self.chunks += u64::from(matches!(extent.kind, ExtentKind::Data(_)));
        self.leaf.push(extent);
        Ok(())
    }

    /// What the file's node holds.
    pub fn finish(mut self, sink: &mut dyn ChunkSink) -> Result<Content> {
        if !self.is_list {
            return Ok(if self.leaf.is_empty() { Content::None } else { Content::Extents(self.leaf) });
        }
        self.close_leaf(sink)?;
        for level in 0.. {
            let top = level + 1 == self.branches.len();
            match self.branches[level].as_slice() {
                [root] if top => {
                    let depth = u8::try_from(level).expect("a list has few levels");
                    return Ok(Content::List { root: root.id, depth, chunks: self.chunks });
                }
                [] => {}
                _ => self.close_branch(level, sink)?,
            }
        }
        unreachable!("the loop ends at the top level")
    }

    fn leaf_is_full(&self) -> bool {
        let at_split = match self.leaf.last() {
            Some(Extent { kind: ExtentKind::Data(id), .. }) => splits_after(id),
            _ => false,
        };
        self.leaf.len() >= SPLIT_MAX_ITEMS || self.leaf.len() >= SPLIT_MIN_ITEMS && at_split
    }

    fn close_leaf(&mut self, sink: &mut dyn ChunkSink) -> Result<()> {
        let extents = std::mem::take(&mut self.leaf);
        let bytes = extents.iter().map(|extent| extent.length).sum();
        let chunks = extents.iter().filter(|extent| matches!(extent.kind, ExtentKind::Data(_))).count() as u64;
        let id = sink.put(ChunkKind::List, ListNode::Leaf(extents).encode())?;
        self.push_child(0, ListChild { id, bytes, chunks }, sink)
    }

    fn push_child(&mut self, level: usize, child: ListChild, sink: &mut dyn ChunkSink) -> Result<()> {
        if self.branches.len() == level {
            self.branches.push(Vec::new());
        }
        self.branches[level].push(child);
        let items = self.branches[level].len();
        if items >= SPLIT_MAX_ITEMS || items >= SPLIT_MIN_ITEMS && splits_after(&child.id) {
            self.close_branch(level, sink)?;
        }
        Ok(())
    }

    fn close_branch(&mut self, level: usize, sink: &mut dyn ChunkSink) -> Result<()> {
        let children = std::mem::take(&mut self.branches[level]);
        let bytes = children.iter().map(|child| child.bytes).sum();
        let chunks = children.iter().map(|child| child.chunks).sum();
        let number = u8::try_from(level + 1).expect("a list has few levels");
        let id = sink.put(ChunkKind::List, ListNode::Branch { level: number, children }.encode())?;
        self.push_child(level + 1, ListChild { id, bytes, chunks }, sink)
    }
}

/// The extents of a file in order, one leaf of its list in memory at a time.
#[derive(Debug)]
pub struct Extents<'s> {
    store: &'s Store,
    /// List nodes still to come, each with its level, its place in the file and its length if a parent told it;
    /// the next one last.
    pending: Vec<(u8, u64, Option<u64>, ChunkId)>,
    leaf: std::vec::IntoIter<Extent>,
    position: u64,
    /// Extents that end at or before this are skipped.
    from: u64,
    /// Errors after which it still goes on with what comes behind them.
    failures_left: u32,
    met: Vec<ChunkId>,
}

/// Reads a file's extents from `offset` on: the first one yielded is that which holds `offset`, with the
/// position in the file where it begins. Inline content and what is not a file have none.
pub fn extents<'s>(store: &'s Store, content: &Content, offset: u64) -> Extents<'s> {
    let (mut pending, mut leaf) = (Vec::new(), Vec::new());
    match content {
        Content::Extents(extents) => leaf.clone_from(extents),
        Content::List { root, depth, .. } => pending.push((*depth, 0, None, *root)),
        _ => {}
    }
    let leaf = leaf.into_iter();
    Extents { store, pending, leaf, position: 0, from: offset, failures_left: 0, met: Vec::new() }
}

/// A list of which more nodes than this cannot be read is given up: a hostile one may have any number.
const FAILURES_MAX: u32 = 1000;

impl Extents<'_> {
    /// Goes on behind a node of the list that cannot be read.
    pub fn going_on(mut self) -> Self {
        self.failures_left = FAILURES_MAX;
        self
    }

    /// The names of the list's nodes that were met since this was last asked.
    pub fn take_met(&mut self) -> Vec<ChunkId> {
        std::mem::take(&mut self.met)
    }

    fn advance(&mut self) -> Result<Option<(u64, Extent)>> {
        loop {
            if let Some(extent) = self.leaf.next() {
                let position = self.position;
                self.position = position.checked_add(extent.length).ok_or(OVERFLOW)?;
                if self.position > self.from {
                    return Ok(Some((position, extent)));
                }
                continue;
            }
            let Some((level, position, length, id)) = self.pending.pop() else { return Ok(None) };
            if length.is_some_and(|length| position.saturating_add(length) <= self.from) {
                continue;
            }
            if self.failures_left > 0 {
                self.met.push(id);
            }
            self.enter(level, position, length, &id)?;
        }
    }

    fn enter(&mut self, level: u8, position: u64, length: Option<u64>, id: &ChunkId) -> Result<()> {
        let bytes = self.store.get(ChunkKind::List, id)?;
        let node = ListNode::decode(&bytes).map_err(|problem| self.store.corrupt(ChunkKind::List, id, problem))?;
        match node {
            ListNode::Leaf(extents) if level == 0 => {
                let sum =
                    extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.length)).ok_or(OVERFLOW)?;
                if length.is_some_and(|length| length != sum) {
                    return Err(Error::Malformed("a chunk list whose lengths do not add up"));
                }
                self.position = position;
                self.leaf = extents.into_iter();
                Ok(())
            }
            ListNode::Branch { level: found, children } if found == level && level <= DEPTH_MAX => {
                let mut at = position;
                let mut below = Vec::with_capacity(children.len());
                for child in children {
                    below.push((level - 1, at, Some(child.bytes), child.id));
                    at = at.checked_add(child.bytes).ok_or(OVERFLOW)?;
                }
                if length.is_some_and(|length| position.checked_add(length) != Some(at)) {
                    return Err(Error::Malformed("a chunk list whose lengths do not add up"));
                }
                self.pending.extend(below.into_iter().rev());
                Ok(())
            }
            _ => Err(Error::Malformed("a chunk list whose levels do not descend")),
        }
    }
}

const OVERFLOW: Error = Error::Malformed("a chunk list longer than 2^64 bytes");

impl Iterator for Extents<'_> {
    type Item = Result<(u64, Extent)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.failures_left = self.failures_left.saturating_sub(1);
        }
        if next.is_err() && self.failures_left == 0 {
            self.pending.clear();
            self.leaf = Vec::new().into_iter();
        }
        next.transpose()
    }
}
