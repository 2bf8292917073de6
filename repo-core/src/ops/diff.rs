//! What differs between two snapshots: entry by entry, and in chunks. Directories that both have are not entered.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::lookup::{self, Allowance, DEPTH_MAX};
use crate::error::{Error, Result};
use crate::format::tree::{Node, NodeKind, Subtree};
use crate::id::ChunkId;
use crate::repository::{Repository, Snapshot};
use crate::store::Store;
use crate::tree::{self, Met, Pair, Pairs};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is only in the later snapshot.
    Added,
    /// It is only in the earlier one.
    Removed,
    /// What was a file is a directory, and the like.
    Kind,
    /// A file's bytes, a symlink's target or a device's number are others; perhaps its metadata too. With `suspicious`,
    /// the file has the size and the times that it had: a sign of a failing disk, or of somebody who hides.
    Content {
        /// Only its bytes say that it changed.
        suspicious: bool,
    },
    /// What a restore would set is other: mode, owner, modification time, attributes, flags.
    Metadata,
}

/// One entry that differs.
#[derive(Debug)]
#[non_exhaustive]
pub struct Difference<'d> {
    /// From the top of the snapshots, or of the directories compared: raw bytes, beginning with `/`.
    pub path: &'d [u8],
    /// How.
    pub change: Change,
    /// The entry in the earlier snapshot.
    pub before: Option<&'d Node>,
    /// And in the later one.
    pub after: Option<&'d Node>,
}

/// Sums of one side: what is there and not on the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffCounts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks, devices, pipes, sockets.
    pub others: u64,
    /// Chunks of file content.
    pub data_chunks: u64,
    /// Nodes of directories and of large files' lists.
    pub tree_chunks: u64,
    /// Plaintext bytes of those chunks; nodes of lists are not counted.
    pub bytes: u64,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffReport {
    /// Files that both have, with other content.
    pub changed_files: u64,
    /// Only in the later snapshot.
    pub added: DiffCounts,
    /// Only in the earlier one.
    pub removed: DiffCounts,
}

impl Repository {
    /// Calls `each` for every entry that differs between two snapshots, or two directories in them: parents before children,
    /// names ascending. Of a directory that only one of them has, every entry below is named. Access and change times,
    /// inode and device numbers are recorded and never a difference.
    ///
    /// Reads what differs and no more: time and memory are O(differences × depth).
    ///
    /// # Errors
    /// [`Error::Path`] for a path that is not in its snapshot, or is no directory; the first part of a tree that cannot be read ends the
    /// comparison.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use std::ops::ControlFlow;
    ///
    /// use repo_core::{BackupOptions, Change, Silent};
    ///
    /// # let mut ids = Vec::new();
    /// # for text in ["buy milk", "buy milk and bread"] {
    /// # let source = ReaderSource::new("/notes/today".as_ref(), std::io::Cursor::new(text));
    /// # ids.push(repository.backup(&source, &BackupOptions::new(), &Silent)?.snapshot.expect("it was made"));
    /// # }
    /// # let (monday, tuesday) = (&ids[0], &ids[1]);
    /// let mut changed = Vec::new();
    /// let report = repository.diff((monday, b""), (tuesday, b""), &mut |difference| {
    ///     if let Change::Content { .. } = difference.change {
    ///         changed.push(difference.path.to_vec());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(changed, [b"/notes/today"]);
    /// assert_eq!(report.changed_files, 1);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn diff(
        &self,
        before: (&Snapshot, &[u8]),
        after: (&Snapshot, &[u8]),
        each: &mut dyn FnMut(&Difference<'_>) -> ControlFlow<()>,
    ) -> Result<DiffReport> {
        let store = self.store()?;
        let tops = [directory(&store, before)?, directory(&store, after)?];
        let mut diff = Diff {
            store: &store,
            each,
            report: DiffReport::default(),
            chunks: HashMap::new(),
            allowances: [before, after].map(|(snapshot, _)| Allowance::of(snapshot)),
        };
        diff.walk(&tops)?;
        diff.sum_chunks();
        Ok(diff.report)
    }
}

/// The directory at a path of a snapshot; `None`: it is empty.
fn directory(store: &Store, (snapshot, path): (&Snapshot, &[u8])) -> Result<Option<Subtree>> {
    match lookup::find(store, snapshot, path)? {
        None => Ok(lookup::root(snapshot)),
        Some(node) if node.metadata.kind == NodeKind::Directory => Ok(lookup::subtree(&node)),
        Some(_) => {
            let path = crate::platform::target::as_path(path).to_owned();
            Err(Error::Path { path, problem: "is not a directory" })
        }
    }
}

/// A chunk that the comparison met.
#[derive(Clone, Copy)]
struct Seen {
    /// On the earlier side, on the later.
    sides: [bool; 2],
    is_data: bool,
    length: u32,
}

struct Diff<'d, 's> {
    store: &'s Store,
    each: &'d mut dyn FnMut(&Difference<'_>) -> ControlFlow<()>,
    report: DiffReport,
    chunks: HashMap<ChunkId, Seen>,
    /// Of the earlier snapshot, of the later.
    allowances: [Allowance; 2],
}

/// Directories that differ, entered and not yet done with; and how long the path is there.
type Level<'s> = (usize, Pairs<'s>);

impl<'s> Diff<'_, 's> {
    fn walk(&mut self, tops: &[Option<Subtree>; 2]) -> Result<()> {
        if tops[0] == tops[1] {
            return Ok(());
        }
        let mut path = Vec::new();
        let mut levels: Vec<Level<'s>> = vec![(0, Pairs::new(self.store, tops[0].as_ref(), tops[1].as_ref()))];
        while let Some((length, pairs)) = levels.last_mut() {
            path.truncate(*length);
            let pair = pairs.next().transpose()?;
            let met = pairs.take_met();
            self.meet_nodes(&met);
            let Some(pair) = pair else {
                levels.pop();
                continue;
            };
            let (before, after) = match &pair {
                Pair::Before(node) => (Some(&**node), None),
                Pair::After(node) => (None, Some(&**node)),
                Pair::Both(before, after) => (Some(&**before), Some(&**after)),
            };
            let Some(name) = before.or(after).map(|node| &node.name) else { continue };
            for (allowance, node) in self.allowances.iter_mut().zip([before, after]) {
                node.map_or(Ok(()), |node| allowance.take(&node.metadata))?;
            }
            path.push(b'/');
            path.extend_from_slice(name);
            if self.entry(&path, before, after)?.is_break() {
                return Ok(());
            }
            let below = [before, after].map(|node| node.and_then(lookup::subtree));
            if below[0] != below[1] {
                if levels.len() >= DEPTH_MAX {
                    return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
                }
                levels.push((path.len(), Pairs::new(self.store, below[0].as_ref(), below[1].as_ref())));
            }
        }
        Ok(())
    }

    /// Counts an entry, and says it if it differs by itself.
    fn entry(&mut self, path: &[u8], before: Option<&Node>, after: Option<&Node>) -> Result<ControlFlow<()>> {
        let change = match (before, after) {
            (Some(before), Some(after)) => compare(before, after),
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
        };
        match change {
            Some(Change::Added | Change::Removed | Change::Kind) => {
                self.count(before, |report| &mut report.removed);
                self.count(after, |report| &mut report.added);
            }
            Some(Change::Content { .. }) => {
                let is_file = after.is_some_and(|node| node.metadata.kind == NodeKind::File);
                self.report.changed_files += u64::from(is_file);
            }
            Some(Change::Metadata) | None => {}
        }
        let contents = [before, after].map(|node| node.map(|node| &node.content));
        if contents[0] != contents[1] {
            let found = tree::chunks(self.store, contents[0], contents[1])?;
            for (side, chunks) in found.iter().enumerate() {
                chunks.data.iter().for_each(|chunk| self.meet(side, true, *chunk));
                chunks.lists.iter().for_each(|id| self.meet(side, false, (*id, 0)));
            }
        }
        match change {
            Some(change) => Ok((self.each)(&Difference { path, change, before, after })),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn count(&mut self, node: Option<&Node>, side: impl Fn(&mut DiffReport) -> &mut DiffCounts) {
        let Some(node) = node else { return };
        let counts = side(&mut self.report);
        match node.metadata.kind {
            NodeKind::File => counts.files += 1,
            NodeKind::Directory => counts.directories += 1,
            _ => counts.others += 1,
        }
    }

    fn meet_nodes(&mut self, met: &[Vec<Met>; 2]) {
        for (side, nodes) in met.iter().enumerate() {
            nodes.iter().for_each(|node| self.meet(side, false, *node));
        }
    }

    fn meet(&mut self, side: usize, is_data: bool, (id, length): Met) {
        let seen = self.chunks.entry(id).or_insert(Seen { sides: [false; 2], is_data, length });
        seen.sides[side] = true;
    }

    fn sum_chunks(&mut self) {
        for seen in self.chunks.values() {
            let counts = match seen.sides {
                [true, false] => &mut self.report.removed,
                [false, true] => &mut self.report.added,
                _ => continue,
            };
            if seen.is_data {
                counts.data_chunks += 1;
            } else {
                counts.tree_chunks += 1;
            }
            counts.bytes += u64::from(seen.length);
        }
    }
}

/// How two entries of one name differ, apart from what is below them.
fn compare(before: &Node, after: &Node) -> Option<Change> {
    let (old, new) = (&before.metadata, &after.metadata);
    if old.kind != new.kind {
        return Some(Change::Kind);
    }
    let same_content = match old.kind {
        NodeKind::Directory => true,
        _ => before.content == after.content && old.special_device == new.special_device,
    };
    let restored = |node: &Node| {
        let metadata = &node.metadata;
        (metadata.mode, metadata.uid, metadata.gid, metadata.modified, metadata.flags)
    };
    let same_metadata = restored(before) == restored(after)
        && (&old.user, &old.group) == (&new.user, &new.group)
        && before.xattrs == after.xattrs;
    match (same_content, same_metadata) {
        (true, true) => None,
        (true, false) => Some(Change::Metadata),
        (false, _) => {
            let suspicious = old.kind == NodeKind::File
                && (old.modified, old.changed, old.size) == (new.modified, new.changed, new.size);
            Some(Change::Content { suspicious })
        }
    }
}
