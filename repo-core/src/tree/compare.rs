//! Two trees side by side: the entries of a directory in which they differ, and the chunks of a file in which its versions
//! differ. What both share is passed over by its id, and in a leaf by its record, undecoded: the cost is the difference's.

use std::cmp::Ordering;
use std::collections::HashSet;

use bytes::Bytes;

use super::read::{check_level, malformed};
use super::references::load_list;
use crate::error::Result;
use crate::format::list::ListNode;
use crate::format::tree::{
    Child, Content, Extent, ExtentKind, Node, Subtree, TreeNode, decode_node, decode_tree_node, leaf_records,
};
use crate::id::{ChunkId, ChunkKind};
use crate::store::Store;

/// An entry that is not the same on both sides. Boxed, since nodes are large and few differ.
#[derive(Debug)]
pub enum Pair {
    Before(Box<Node>),
    After(Box<Node>),
    /// Of one name.
    Both(Box<Node>, Box<Node>),
}

/// The pairs of one directory in which its two versions differ, ascending by name.
#[derive(Debug)]
pub struct Pairs<'s> {
    store: &'s Store,
    before: Side,
    after: Side,
}

/// A node that was looked into on one side: its id and the length of its plaintext.
pub type Met = (ChunkId, u32);

impl<'s> Pairs<'s> {
    /// `None`: empty, or not there.
    pub fn new(store: &'s Store, before: Option<&Subtree>, after: Option<&Subtree>) -> Self {
        Self { store, before: Side::new(before), after: Side::new(after) }
    }

    /// The tree nodes that were looked into since this was last asked, before and after.
    pub fn take_met(&mut self) -> [Vec<Met>; 2] {
        [std::mem::take(&mut self.before.met), std::mem::take(&mut self.after.met)]
    }

    fn advance(&mut self) -> Result<Option<Pair>> {
        loop {
            self.pass_equal_records()?;
            self.before.decode_next(self.store)?;
            self.after.decode_next(self.store)?;
            let step = match (self.before.front(), self.after.front()) {
                (None, None) => return Ok(None),
                (Some(Front::Node(_)), None) => Step::Before,
                (None, Some(Front::Node(_))) => Step::After,
                (Some(Front::Below(_)), None) => Step::EnterBefore,
                (None, Some(Front::Below(_))) => Step::EnterAfter,
                (Some(before), Some(after)) => compare(&before, &after),
            };
            match step {
                Step::EnterBefore => self.before.enter(self.store)?,
                Step::EnterAfter => self.after.enter(self.store)?,
                Step::EnterBoth => {
                    self.before.enter(self.store)?;
                    self.after.enter(self.store)?;
                }
                Step::Pass => {
                    self.before.pass()?;
                    self.after.pass()?;
                }
                Step::Before => return Ok(self.before.take()?.map(Pair::Before)),
                Step::After => return Ok(self.after.take()?.map(Pair::After)),
                Step::Both => {
                    if let (Some(before), Some(after)) = (self.before.take()?, self.after.take()?)
                        && before != after
                    {
                        return Ok(Some(Pair::Both(before, after)));
                    }
                }
            }
        }
    }

    /// What is recorded with the same bytes is the same. Of a directory of which little changed that is nearly all.
    fn pass_equal_records(&mut self) -> Result<()> {
        while let (Some(before), Some(after)) = (self.before.record(), self.after.record())
            && before == after
        {
            self.before.drop_record()?;
            self.after.drop_record()?;
        }
        Ok(())
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.before.end();
            self.after.end();
        }
        next.transpose()
    }
}

enum Step {
    EnterBefore,
    EnterAfter,
    EnterBoth,
    /// Both sides have the same here.
    Pass,
    Before,
    After,
    Both,
}

fn compare(before: &Front<'_>, after: &Front<'_>) -> Step {
    match (before, after) {
        (Front::Node(before), Front::Node(after)) => match before.name.cmp(&after.name) {
            Ordering::Less => Step::Before,
            Ordering::Greater => Step::After,
            Ordering::Equal => Step::Both,
        },
        // What is below a child begins with its first name: an entry that comes before that has no partner there.
        (Front::Node(node), Front::Below(child)) if node.name < child.first_name => Step::Before,
        (Front::Below(child), Front::Node(node)) if node.name < child.first_name => Step::After,
        (Front::Node(_), Front::Below(_)) => Step::EnterAfter,
        (Front::Below(_), Front::Node(_)) => Step::EnterBefore,
        (Front::Below(before), Front::Below(after)) if before.subtree == after.subtree => Step::Pass,
        // The one that begins earlier, else the larger one, may hold what the other is.
        (Front::Below(before), Front::Below(after)) => {
            let earlier = before.first_name.cmp(&after.first_name);
            match earlier.then(after.subtree.entries.cmp(&before.subtree.entries)) {
                Ordering::Less => Step::EnterBefore,
                Ordering::Greater => Step::EnterAfter,
                Ordering::Equal => Step::EnterBoth,
            }
        }
    }
}

/// What comes next on one side.
enum Front<'a> {
    Node(&'a Node),
    /// A part of the directory that was not looked into.
    Below(&'a Child),
}

/// One version of the directory. Names must ascend, as far as they are looked at, and entries be no more than was said, as
/// in [`super::Nodes`].
#[derive(Debug)]
struct Side {
    /// The entry that comes next, if it was looked at.
    next: Option<Box<Node>>,
    /// The entries behind it in the same leaf, and the leaf's id.
    records: std::vec::IntoIter<Bytes>,
    leaf: ChunkId,
    /// The parts behind the leaf, each with the level it must have; the next one last.
    pending: Vec<(Option<u8>, Child)>,
    last_name: Option<Vec<u8>>,
    entries_left: u64,
    met: Vec<Met>,
}

impl Side {
    fn new(directory: Option<&Subtree>) -> Self {
        let root = directory.map(|subtree| (None, Child { subtree: *subtree, first_name: Vec::new() }));
        Self {
            next: None,
            records: Vec::new().into_iter(),
            leaf: ChunkId([0; 32]),
            pending: root.into_iter().collect(),
            last_name: None,
            entries_left: directory.map_or(0, |subtree| subtree.entries),
            met: Vec::new(),
        }
    }

    /// The record that comes next, if nothing that was decoded comes before it.
    fn record(&self) -> Option<&Bytes> {
        self.records.as_slice().first().filter(|_| self.next.is_none())
    }

    fn drop_record(&mut self) -> Result<()> {
        self.records.next();
        self.count(1)
    }

    fn decode_next(&mut self, store: &Store) -> Result<()> {
        if self.next.is_none()
            && let Some(record) = self.records.next()
        {
            let node = decode_node(&record);
            self.next = Some(Box::new(node.map_err(|problem| store.corrupt(ChunkKind::Tree, &self.leaf, problem))?));
        }
        Ok(())
    }

    fn front(&self) -> Option<Front<'_>> {
        let below = || self.pending.last().map(|(_, child)| Front::Below(child));
        self.next.as_deref().map(Front::Node).or_else(below)
    }

    /// Looks into the part that comes next, when no entry comes before it.
    fn enter(&mut self, store: &Store) -> Result<()> {
        let Some((level, Child { subtree, .. })) = self.pending.pop() else { return Ok(()) };
        let bytes = store.get(ChunkKind::Tree, &subtree.root)?;
        self.met.push((subtree.root, bytes.len() as u32));
        let corrupt = |problem| store.corrupt(ChunkKind::Tree, &subtree.root, problem);
        if let Some(records) = leaf_records(&bytes).map_err(corrupt)? {
            check_level(0, level)?;
            (self.records, self.leaf) = (records.into_iter(), subtree.root);
        } else if let TreeNode::Branch { level: found, children } = decode_tree_node(&bytes).map_err(corrupt)? {
            check_level(found, level)?;
            self.pending.extend(children.into_iter().rev().map(|child| (Some(found - 1), child)));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Box<Node>>> {
        let Some(node) = self.next.take() else { return Ok(None) };
        if self.last_name.as_ref().is_some_and(|last| *last >= node.name) {
            return Err(malformed("a directory whose names do not ascend"));
        }
        self.last_name = Some(node.name.clone());
        self.count(1)?;
        Ok(Some(node))
    }

    fn pass(&mut self) -> Result<()> {
        let Some((_, child)) = self.pending.pop() else { return Ok(()) };
        self.last_name = self.last_name.take().max(Some(child.first_name));
        // A subtree counts what lies below its directories too.
        self.entries_left = self.entries_left.saturating_sub(child.subtree.entries);
        Ok(())
    }

    fn count(&mut self, entries: u64) -> Result<()> {
        let left = self.entries_left.checked_sub(entries);
        self.entries_left = left.ok_or_else(|| malformed("a directory with too many entries"))?;
        Ok(())
    }

    fn end(&mut self) {
        self.next = None;
        self.records = Vec::new().into_iter();
        self.pending.clear();
    }
}

/// Chunks of two versions of a file.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Chunks of data, and their lengths.
    pub data: Vec<Met>,
    /// Nodes of its list; their own lengths are not known.
    pub lists: Vec<ChunkId>,
}

/// What two versions of a file refer to, without the parts of their lists that both share.
pub fn chunks(store: &Store, before: Option<&Content>, after: Option<&Content>) -> Result<[Chunks; 2]> {
    let mut found = [Chunks::default(), Chunks::default()];
    let mut level_of = [None, None];
    let mut lists: [Vec<ChunkId>; 2] = [Vec::new(), Vec::new()];
    for (side, content) in [before, after].into_iter().enumerate() {
        match content {
            Some(Content::Extents(extents)) => found[side].take(extents),
            Some(Content::List { root, depth, .. }) => {
                lists[side].push(*root);
                level_of[side] = Some(*depth);
            }
            _ => {}
        }
    }
    // Level by level from the top: what stands on both sides is not entered.
    let top = level_of.into_iter().flatten().max();
    for level in (0..=top.unwrap_or(0)).rev() {
        if top.is_none() {
            break;
        }
        let reached = [0, 1].map(|side| level_of[side].is_some_and(|top| top >= level));
        if reached == [true, true] {
            let [ours, theirs] = [0, 1].map(|side| lists[side].iter().copied().collect::<HashSet<ChunkId>>());
            lists[0].retain(|id| !theirs.contains(id));
            lists[1].retain(|id| !ours.contains(id));
        }
        for side in [0, 1] {
            if !reached[side] {
                continue;
            }
            for id in std::mem::take(&mut lists[side]) {
                found[side].lists.push(id);
                match load_list(store, &id, level)? {
                    ListNode::Leaf(extents) => found[side].take(&extents),
                    ListNode::Branch { children, .. } => lists[side].extend(children.iter().map(|child| child.id)),
                }
            }
        }
    }
    Ok(found)
}

impl Chunks {
    fn take(&mut self, extents: &[Extent]) {
        for extent in extents {
            if let ExtentKind::Data(id) = &extent.kind {
                self.data.push((*id, u32::try_from(extent.length).unwrap_or(u32::MAX)));
            }
        }
    }
}
