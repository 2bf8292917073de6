//! What was moved since the parent was made is not read again: its tree says by which device, inode and birth time each
//! entry was met, so that a directory under a new path is compared with the one it was.
//!
//! Looking for it costs reading the parent's tree, and most of what is new was never anywhere else. So nobody looks before
//! what would be read is worth more than that tree: then the search costs no more than was read already, whatever
//! comes of it, and a run that meets little that is new never begins it. What was read until then is all that a
//! moved directory costs.
//!
//! A wrong match would lose a file silently. So what is met elsewhere must be the same by everything that makes an entry
//! unchanged where it was (`is_unchanged`) and by device and birth time too; and only file systems count whose numbers
//! stay with the file (`SourceDirectory::numbers_last`). By its identity alone a directory is only *looked at*: whether
//! each file in it is the one it was is asked of that file.

use std::hash::{BuildHasher, RandomState};

use super::{Before, Level, Nodes, Walk, Walker, started_ns};
use crate::format::snapshot::Root;
use crate::format::tree::{Metadata, Node, NodeKind, Subtree};
use crate::id::ChunkId;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree;
use crate::walk::SourceEntry;

/// What an entry takes in a tree, about.
const ENTRY_BYTES: u64 = 100;
/// Opening a file takes as long as reading so much of it, at least.
const OPENING_BYTES: u64 = 4 << 10;
/// What the table may take. It is enough for the directories of tens of millions of files; what lay in others is read.
const TABLE_BYTES_MAX: usize = 48 << 20;
/// Of rows with one hash so many are looked at: names of one file, or places where one directory is mounted.
const CANDIDATES_MAX: usize = 4;

/// How far the search for what was moved has come.
pub(super) enum Moves {
    /// There is nothing to compare with, or what is compared has no numbers to rely on.
    Never,
    /// Not begun; what was read so far of files that the parent has not where they are.
    Unsought { bytes: u64 },
    /// Begun and ended.
    Sought(Places),
}

/// Where things lay in the parent.
pub(super) struct Places {
    hashes: RandomState,
    /// The leaves in which they are.
    leaves: Vec<ChunkId>,
    /// Ascending.
    rows: Vec<Row>,
    /// The leaf looked at last: neighbours move together.
    last: Option<(u32, Vec<Node>)>,
}

/// One entry: a hash of what it is known by, and its leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    hash: u64,
    leaf: u32,
}

impl Places {
    /// Of a whole snapshot, as far as it can be read and there is room. Files are in it `with_files` alone.
    fn of(store: &Store, root: &Subtree, with_files: bool, progress: &dyn Progress) -> Self {
        let mut places = Self { hashes: RandomState::new(), leaves: Vec::new(), rows: Vec::new(), last: None };
        for leaf in tree::leaves(store, root) {
            // Damage is said by the walk, where it meets it. A place that does not answer is not asked for the rest.
            let Ok((id, nodes)) = leaf else { break };
            if progress.is_cancelled() || places.is_full() {
                break;
            }
            places.add(id, &nodes, with_files);
        }
        places.rows.sort_unstable();
        places
    }

    fn is_full(&self) -> bool {
        size_of_val(&*self.rows) + size_of_val(&*self.leaves) >= TABLE_BYTES_MAX
    }

    fn add(&mut self, id: ChunkId, nodes: &[Node], with_files: bool) {
        let leaf = self.leaves.len() as u32; // far fewer: see is_full
        let known = nodes.iter().map(|node| &node.metadata).filter(|metadata| {
            let is_wanted = metadata.kind == NodeKind::Directory || (with_files && metadata.kind == NodeKind::File);
            is_wanted && has_identity(metadata)
        });
        let hashes = &self.hashes;
        let before = self.rows.len();
        self.rows.extend(known.map(|metadata| Row { hash: hash(hashes, metadata), leaf }));
        if self.rows.len() > before {
            self.leaves.push(id);
        }
    }

    /// The parent's node of this thing, wherever it was.
    fn find(&mut self, store: &Store, now: &Metadata) -> Option<Node> {
        let hash = hash(&self.hashes, now);
        let Self { rows, leaves, last, .. } = self;
        let first = rows.partition_point(|row| row.hash < hash);
        for row in rows[first..].iter().take(CANDIDATES_MAX).take_while(|row| row.hash == hash) {
            if last.as_ref().is_none_or(|(leaf, _)| *leaf != row.leaf) {
                *last = Some((row.leaf, tree::leaf(store, &leaves[row.leaf as usize]).unwrap_or_default()));
            }
            let nodes = last.as_ref().map_or(&[][..], |(_, nodes)| nodes);
            if let Some(node) = nodes.iter().find(|node| is_same_thing(now, &node.metadata)) {
                return Some(node.clone());
            }
        }
        None
    }
}

fn hash(hashes: &RandomState, metadata: &Metadata) -> u64 {
    hashes.hash_one((metadata.kind, metadata.device, metadata.inode, metadata.born))
}

/// Whether an entry can be told from all others: who made it did not leave out a number, and told when it was born, since
/// a number is given again when a file is gone.
fn has_identity(metadata: &Metadata) -> bool {
    metadata.device != 0 && metadata.inode != 0 && metadata.born.is_some()
}

/// Whether both were met of one thing, whatever has become of it meanwhile.
fn is_same_thing(now: &Metadata, before: &Metadata) -> bool {
    let identity = |metadata: &Metadata| (metadata.kind, metadata.device, metadata.inode, metadata.born);
    has_identity(now) && identity(now) == identity(before)
}

/// Whether the parent has something else under this path, or nothing.
pub(super) fn is_elsewhere(now: &Metadata, before: Option<&Before>) -> bool {
    before.is_none_or(|Before { node, .. }| node.metadata.kind != now.kind || node.metadata.inode != now.inode)
}

impl<'r> Walker<'r> {
    /// What an entry was in the parent under another path: a directory to compare with, or a file to take over. Only if
    /// the entry is not what it was under its own.
    pub(super) fn find_moved(
        &mut self,
        level: &mut Level<'r>,
        entry: &SourceEntry,
        before: Option<&Before>,
    ) -> Option<Before> {
        let now = &entry.metadata;
        if !is_elsewhere(now, before) {
            return None;
        }
        let started_ns = started_ns(self.run.lineage.parent.as_ref()?);
        let found = next_of(&mut level.origin, &entry.name).filter(|node| is_same_thing(now, &node.metadata));
        let found = found.or_else(|| match &mut self.moves {
            Moves::Sought(places) => places.find(&self.run.store, now),
            _ => None,
        });
        let found = Before { node: found?, started_ns };
        // Of a directory its own file system is asked, when it is open.
        (now.kind == NodeKind::Directory || level.knows(now) && self.is_unchanged(now, &found)).then_some(found)
    }

    /// Counts what is about to be read, and begins the search once it is worth that.
    pub(super) fn weigh(&mut self, levels: &mut [Level<'r>], entry: &SourceEntry, before: Option<&Before>) -> Walk {
        let now = &entry.metadata;
        let (Moves::Unsought { bytes }, Some(level)) = (&mut self.moves, levels.last_mut()) else { return Ok(()) };
        if now.kind != NodeKind::File || !is_elsewhere(now, before) || !has_identity(now) || !level.knows(now) {
            return Ok(());
        }
        *bytes = bytes.saturating_add(now.size).saturating_add(OPENING_BYTES);
        let Some(parent) = &self.run.lineage.parent else { return Ok(()) };
        let root = parent.record.root;
        if *bytes < root.entries.saturating_mul(ENTRY_BYTES) {
            return Ok(());
        }
        // The assembly may wait for a file of the open unit, and this takes a while.
        self.send_unit()?;
        let mut places = self.seek(root);
        for level in levels {
            let itself = level.elsewhere.as_ref().filter(|_| level.origin.is_none());
            let origin = itself.and_then(|itself| places.find(&self.run.store, itself));
            if origin.is_some() && level.numbers_last() {
                let origin = origin.map(|node| Before { node, started_ns: started_ns(parent) });
                level.origin = self.below(origin.as_ref());
            }
        }
        self.moves = Moves::Sought(places);
        Ok(())
    }

    fn seek(&self, root: Root) -> Places {
        let Root { tree: Some(id), entries, bytes } = root else {
            return Places { hashes: RandomState::new(), leaves: Vec::new(), rows: Vec::new(), last: None };
        };
        // On all file systems that count, a rename changes the ctime of what is renamed, and of nothing below it. So a file
        // that was moved by itself can be told from one that was changed only by those who do without the ctime.
        let with_files = self.run.options.ignore_ctime;
        Places::of(&self.run.store, &Subtree { root: id, entries, bytes }, with_files, self.run.progress)
    }
}

impl Level<'_> {
    /// Whether what is in this directory can be known by its numbers. A file that is mounted here lies elsewhere.
    fn knows(&mut self, entry: &Metadata) -> bool {
        self.device == Some(entry.device) && self.numbers_last()
    }

    fn numbers_last(&mut self) -> bool {
        *self.numbers_last.get_or_insert_with(|| self.directory.numbers_last())
    }
}

/// The node of that name; what comes before it is passed over. What cannot be read ends the list: it is read again.
fn next_of(known: &mut Option<Nodes<'_>>, name: &[u8]) -> Option<Node> {
    loop {
        let next =
            known.as_mut()?.nodes.next_if(|node| node.as_ref().map_or(true, |node| node.name.as_slice() <= name))?;
        match next {
            Ok(node) if node.name == name => return Some(node),
            Ok(_) => {}
            Err(_) => *known = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::Timestamp;

    fn numbered(device: u64, inode: u64, born: i64) -> Metadata {
        let mut metadata = Metadata::unknown(NodeKind::File, 0o644);
        (metadata.device, metadata.inode) = (device, inode);
        metadata.born = Some(Timestamp { seconds: born, nanoseconds: 1 });
        metadata
    }

    #[test]
    fn a_thing_is_known_by_kind_device_inode_and_birth_and_by_none_of_them_alone() {
        let before = numbered(1, 2, 3);
        assert!(is_same_thing(&before, &before));
        for other in [numbered(9, 2, 3), numbered(1, 9, 3), numbered(1, 2, 9)] {
            assert!(!is_same_thing(&other, &before), "{other:?}");
        }
        assert!(!is_same_thing(&Metadata { kind: NodeKind::Directory, ..before.clone() }, &before));
    }

    #[test]
    fn the_table_takes_48_mib_and_no_more() {
        let (hash, leaf) = (0, 0);
        let rows = vec![Row { hash, leaf }; TABLE_BYTES_MAX / 16 - 2];
        let mut places = Places { hashes: RandomState::new(), leaves: Vec::new(), rows, last: None };
        assert!(!places.is_full(), "16 bytes a row");
        places.leaves.push(ChunkId([0; 32]));
        assert!(places.is_full(), "and 32 a leaf");
    }

    #[test]
    fn what_lacks_a_number_or_its_birth_is_nothing_that_can_be_found_again() {
        for unnumbered in [
            numbered(0, 2, 3),
            numbered(1, 0, 3),
            Metadata { born: None, ..numbered(1, 2, 3) },
            Metadata::unknown(NodeKind::Directory, 0o755),
        ] {
            assert!(!is_same_thing(&unnumbered, &unnumbered), "{unnumbered:?}");
        }
    }
}
