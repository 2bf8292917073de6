//! What a rewritten snapshot says of itself: host, time, series, counts, and what was left out.

use std::collections::HashMap;

use super::RewriteOptions;
use super::filter::Rewritten;
use crate::error::{Error, Result};
use crate::format::snapshot::{Root, SnapshotRecord};
use crate::format::tree::{Content, Node, NodeKind};
use crate::id::{ChunkId, SeriesId};
use crate::ops::lookup;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::store::Store;
use crate::tree::{self, Measure};

/// What was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub files: u64,
    pub entries: u64,
    pub bytes: u64,
}

/// Files below a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Files {
    files: u64,
    entries: u64,
    bytes: u64,
}

impl Removed {
    /// And this too.
    pub(super) fn add(&mut self, more: Self) {
        self.files = self.files.saturating_add(more.files);
        self.entries = self.entries.saturating_add(more.entries);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// How records are changed.
pub(super) struct Shape<'r> {
    pub repository: &'r Repository,
    pub options: &'r RewriteOptions,
}

impl Shape<'_> {
    /// The record with all changes; its root is set when it is published. `None` if there are none.
    pub(super) fn applied(
        &self,
        old: &SnapshotRecord,
        rewritten: &Rewritten,
        recounted: Option<Files>,
    ) -> Option<SnapshotRecord> {
        let options = self.options;
        let mut new = old.clone();
        if let Some(host) = &options.host {
            new.host.clone_from(host);
            new.series = self.series(old, host);
        }
        if let Some(time_ns) = options.time_ns {
            new.end_ns = time_ns.saturating_add(old.end_ns.saturating_sub(old.start_ns));
            new.start_ns = time_ns;
        }
        if let Some(counted) = recounted {
            (new.summary.processed_files, new.summary.processed_bytes) = (counted.files, counted.bytes);
        }
        let is_smaller = rewritten.root != old.root;
        if is_smaller {
            let (removed, summary) = (rewritten.removed, &mut new.summary);
            summary.processed_files = summary.processed_files.saturating_sub(removed.files);
            summary.processed_bytes = summary.processed_bytes.saturating_sub(removed.bytes);
            let is_new = |text: &&String| !old.excludes.contains(text);
            new.excludes.extend(options.exclude_texts.iter().filter(is_new).cloned());
        }
        if new == *old && !is_smaller {
            return None;
        }
        for tag in &options.tags {
            if !new.tags.contains(tag) {
                new.tags.push(tag.clone());
            }
        }
        new.origin = Some(old.id);
        new.config_generation = self.repository.config().generation;
        new.keyring_generation = self.repository.inner.keyring_generation;
        new.program.clone_from(&options.program);
        Some(new)
    }

    /// That of backups of the new host, if it was that of the old host's: so those go on from here. A series that the user named
    /// stays what it is.
    fn series(&self, old: &SnapshotRecord, host: &str) -> SeriesId {
        let mut paths = old.paths.clone();
        paths.sort_unstable();
        let keys = &self.repository.inner.keys;
        let of = |host: &str| keys.series(&[b"paths\0", host.as_bytes(), b"\0", &paths.join(&0)].concat());
        if of(&old.host) == old.series { of(host) } else { old.series }
    }
}

/// Whether a snapshot that comes from the same one is what an earlier run made of it.
pub(super) fn is_as_wanted(known: &SnapshotRecord, wanted: &SnapshotRecord, root: &Root) -> bool {
    let said = |record: &SnapshotRecord| (record.host.clone(), record.start_ns, record.end_ns, record.summary);
    known.root == *root && said(known) == said(wanted)
}

/// What goes with an entry.
pub(super) fn removed(
    store: &Store,
    node: &Node,
    known: &mut HashMap<ChunkId, Files>,
    progress: &dyn Progress,
) -> Result<Removed> {
    let mut removed = Removed { files: 0, entries: 1, bytes: lookup::content_bytes(&node.metadata) };
    removed.files = u64::from(node.metadata.kind == NodeKind::File);
    if let Content::Directory(subtree) = &node.content {
        let below = below(store, &subtree.root, known, progress)?;
        removed.add(Removed { files: below.files, entries: below.entries, bytes: below.bytes });
    }
    Ok(removed)
}

/// The files of a snapshot.
pub(super) fn count(
    store: &Store,
    root: &Root,
    known: &mut HashMap<ChunkId, Files>,
    progress: &dyn Progress,
) -> Result<Files> {
    root.tree.map_or(Ok(Files::default()), |root| below(store, &root, known, progress))
}

fn below(store: &Store, root: &ChunkId, known: &mut HashMap<ChunkId, Files>, progress: &dyn Progress) -> Result<Files> {
    let mut counting = Counting { known, progress };
    tree::measure(store, root, &mut counting)?;
    Ok(counting.known.get(root).copied().unwrap_or_default())
}

struct Counting<'k> {
    known: &'k mut HashMap<ChunkId, Files>,
    progress: &'k dyn Progress,
}

impl Measure for Counting<'_> {
    type Sum = Files;

    fn is_known(&self, root: &ChunkId) -> bool {
        self.known.contains_key(root)
    }

    fn entries(&mut self, _: &[u8], nodes: &[Node], sum: &mut Files) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        for node in nodes {
            sum.entries = sum.entries.saturating_add(1);
            sum.files += u64::from(node.metadata.kind == NodeKind::File);
            sum.bytes = sum.bytes.saturating_add(lookup::content_bytes(&node.metadata));
        }
        Ok(())
    }

    fn below(&mut self, root: &ChunkId, sum: &mut Files) {
        let below = self.known.get(root).copied().unwrap_or_default();
        sum.files = sum.files.saturating_add(below.files);
        sum.entries = sum.entries.saturating_add(below.entries);
        sum.bytes = sum.bytes.saturating_add(below.bytes);
    }

    fn done(&mut self, root: ChunkId, sum: Files) {
        self.known.insert(root, sum);
    }

    /// What goes anyway may be damaged: it counts as far as it can be read.
    fn lost(&mut self, _: Error) -> Result<()> {
        Ok(())
    }
}
