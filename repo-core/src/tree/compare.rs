//! Two trees side by side: the entries of a directory in which they differ, and the chunks of a file in which its versions
//! differ. What both share is passed over by its id, so that the cost is that of the difference.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::read::{load_sized, malformed};
use super::references::load_list;
use crate::error::Result;
use crate::format::list::ListNode;
use crate::format::tree::{Child, Content, Extent, ExtentKind, Node, Subtree, TreeNode};
use crate::id::ChunkId;
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
            let (before, after) = (self.before.pending.last(), self.after.pending.last());
            let step = match (before, after) {
                (None, None) => return Ok(None),
                (Some(Item::Node(_)), None) => Step::Before,
                (None, Some(Item::Node(_))) => Step::After,
                (Some(Item::Below(..)), None) => Step::EnterBefore,
                (None, Some(Item::Below(..))) => Step::EnterAfter,
                (Some(before), Some(after)) => compare(before, after),
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
                Step::Before => return self.before.take().map(|node| Some(Pair::Before(node))),
                Step::After => return self.after.take().map(|node| Some(Pair::After(node))),
                Step::Both => {
                    let (before, after) = (self.before.take()?, self.after.take()?);
                    if before != after {
                        return Ok(Some(Pair::Both(before, after)));
                    }
                }
            }
        }
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.before.pending.clear();
            self.after.pending.clear();
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

fn compare(before: &Item, after: &Item) -> Step {
    match (before, after) {
        (Item::Node(before), Item::Node(after)) => match before.name.cmp(&after.name) {
            Ordering::Less => Step::Before,
            Ordering::Greater => Step::After,
            Ordering::Equal => Step::Both,
        },
        // What is below a child begins with its first name: an entry that comes before that has no partner there.
        (Item::Node(node), Item::Below(_, child)) if node.name < child.first_name => Step::Before,
        (Item::Below(_, child), Item::Node(node)) if node.name < child.first_name => Step::After,
        (Item::Node(_), Item::Below(..)) => Step::EnterAfter,
        (Item::Below(..), Item::Node(_)) => Step::EnterBefore,
        (Item::Below(_, before), Item::Below(_, after)) if before.subtree == after.subtree => Step::Pass,
        // The one that begins earlier, else the larger one, may hold what the other is.
        (Item::Below(_, before), Item::Below(_, after)) => {
            let earlier = before.first_name.cmp(&after.first_name);
            match earlier.then(after.subtree.entries.cmp(&before.subtree.entries)) {
                Ordering::Less => Step::EnterBefore,
                Ordering::Greater => Step::EnterAfter,
                Ordering::Equal => Step::EnterBoth,
            }
        }
    }
}

#[derive(Debug)]
enum Item {
    Node(Box<Node>),
    /// A part of the directory that was not looked into, and the level it must have.
    Below(Option<u8>, Child),
}

/// One version of the directory. Names must ascend and entries be no more than was said, as in [`super::Nodes`].
#[derive(Debug)]
struct Side {
    /// The next one last.
    pending: Vec<Item>,
    last_name: Option<Vec<u8>>,
    entries_left: u64,
    met: Vec<Met>,
}

impl Side {
    fn new(directory: Option<&Subtree>) -> Self {
        let root = directory.map(|subtree| Item::Below(None, Child { subtree: *subtree, first_name: Vec::new() }));
        Self {
            pending: root.into_iter().collect(),
            last_name: None,
            entries_left: directory.map_or(0, |subtree| subtree.entries),
            met: Vec::new(),
        }
    }

    fn enter(&mut self, store: &Store) -> Result<()> {
        let Some(Item::Below(level, child)) = self.pending.pop() else { return Ok(()) };
        let (node, length) = load_sized(store, &child.subtree.root, level)?;
        self.met.push((child.subtree.root, length));
        match node {
            TreeNode::Leaf(nodes) => {
                self.pending.extend(nodes.into_iter().rev().map(|node| Item::Node(Box::new(node))))
            }
            TreeNode::Branch { level, children } => {
                self.pending.extend(children.into_iter().rev().map(|child| Item::Below(Some(level - 1), child)));
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Box<Node>> {
        match self.pending.pop() {
            Some(Item::Node(node)) => {
                if self.last_name.as_ref().is_some_and(|last| *last >= node.name) {
                    return Err(malformed("a directory whose names do not ascend"));
                }
                self.last_name = Some(node.name.clone());
                self.count(1)?;
                Ok(node)
            }
            _ => Err(crate::Error::Bug("an entry was taken where none is".into())),
        }
    }

    fn pass(&mut self) -> Result<()> {
        let Some(Item::Below(_, child)) = self.pending.pop() else { return Ok(()) };
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
