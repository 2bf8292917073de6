//! What damage touches: the object that a missing chunk lay in, then every entry of every snapshot that needs it. A second
//! walk through what the first found damaged, and through nothing else.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::report::{Damaged, Findings, Loss, Touched};
use super::trees::{Walked, holder, subject};
use crate::error::{Error, Result};
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ObjectName, PackId, SnapshotId};
use crate::ops::lookup::{self, Allowance, DEPTH_MAX};
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::{Index, Store};
use crate::tree::{self, Nodes};

/// The findings by the chunks that are missing through them.
#[derive(Debug)]
pub struct Causes(HashMap<ChunkId, Vec<usize>>);

/// Packs that hold missing chunks and are not known to be damaged.
pub fn suspects(view: &Index, walked: &Walked, findings: &Findings) -> HashSet<PackId> {
    let places =
        walked.missing.iter().filter(|(id, _)| is_lost(walked, id)).flat_map(|(id, kind)| view.places(*kind, id));
    let unnamed = |name| findings.number(&Damaged::Object(name)).is_none();
    places.filter(|place| unnamed(ObjectName::Pack(place.pack_kind, place.pack))).map(|place| place.pack).collect()
}

/// A chunk that opened and contradicts itself says nothing of its pack.
fn is_lost(walked: &Walked, id: &ChunkId) -> bool {
    !matches!(walked.errors.get(id), Some(Error::Malformed(_) | Error::CorruptChunk { .. }))
}

impl Causes {
    /// Finds the object that each missing chunk lay in. With `name_chunks`, a chunk that lay in none becomes a finding of
    /// its own.
    pub fn find(
        store: &Store,
        view: &Index,
        lost_packs: &HashSet<PackId>,
        walked: &mut Walked,
        findings: &mut Findings,
        name_chunks: bool,
    ) -> Self {
        let mut causes: HashMap<ChunkId, Vec<usize>> = HashMap::new();
        let mut add = |id: &ChunkId, number: Option<usize>| {
            let numbers: &mut Vec<usize> = causes.entry(*id).or_default();
            numbers.extend(number.filter(|number| !numbers.contains(number)));
        };
        for (id, kind) in &walked.missing {
            let packs = if is_lost(walked, id) { view.places(*kind, id) } else { Vec::new() };
            for place in packs {
                add(id, findings.number(&Damaged::Object(ObjectName::Pack(place.pack_kind, place.pack))));
            }
        }
        // The index in memory has no places in packs that are gone.
        if !lost_packs.is_empty() {
            view.chunks_of(store.backend().as_ref(), store.keys(), lost_packs, &mut |pack, id| {
                if let Some(kind) = walked.missing.get(id) {
                    add(id, findings.number(&Damaged::Object(ObjectName::Pack(kind.pack_kind(), pack))));
                }
            });
        }
        if name_chunks {
            let mut orphans: Vec<_> = walked.missing.keys().copied().collect();
            orphans.retain(|id| causes.get(id).is_none_or(Vec::is_empty));
            orphans.sort_unstable();
            for id in orphans {
                let unknown = || Error::ChunkLost { id, problem: "it is in no index and no pack".to_owned() };
                let error = walked.errors.remove(&id).unwrap_or_else(unknown);
                causes.entry(id).or_default().extend(findings.add(Damaged::Chunk(id), error));
            }
        }
        causes.retain(|_, numbers| !numbers.is_empty());
        Self(causes)
    }

    fn of(&self, id: &ChunkId) -> &[usize] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }
}

/// The walk through one damaged snapshot.
pub struct Paths<'c> {
    pub store: &'c Store,
    pub known: &'c HashMap<ChunkId, bool>,
    pub causes: &'c Causes,
    pub findings: &'c mut Findings,
    pub progress: &'c dyn Progress,
}

struct Open<'c> {
    root: ChunkId,
    path_length: usize,
    nodes: Nodes<'c>,
}

impl<'c> Paths<'c> {
    /// Names every entry of the snapshot that needs something damaged.
    pub fn walk(&mut self, snapshot: &Snapshot) -> Result<()> {
        let Some(top) = lookup::root(snapshot).filter(|top| self.is_damaged(&top.root)) else { return Ok(()) };
        // A hostile tree may unfold to any size; as much as the snapshot says is looked at.
        let mut allowance = Allowance::of(snapshot);
        let mut path = Vec::new();
        let mut open = vec![self.open(&top, 0)];
        while let Some(directory) = open.last_mut() {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            path.truncate(directory.path_length);
            let root = directory.root;
            match directory.nodes.next() {
                Some(Ok(node)) => {
                    if allowance.take(&node.metadata).is_err() {
                        return Ok(());
                    }
                    path.push(b'/');
                    path.extend_from_slice(&node.name);
                    self.node(snapshot.id(), &path, &node, root);
                    if let Content::Directory(subtree) = &node.content {
                        if open.len() >= DEPTH_MAX {
                            self.lose_entries(snapshot.id(), &path, &subtree.root, Vec::new(), subtree.entries);
                        } else if self.is_damaged(&subtree.root) {
                            open.push(self.open(subtree, path.len()));
                        }
                    }
                }
                Some(Err(error @ (Error::Backend(_) | Error::Cancelled))) => return Err(error),
                Some(Err(error)) => {
                    // Without an order to go on in, all the rest of the directory is lost.
                    let (from, count) = match directory.nodes.lost() {
                        Some(child) => (child.first_name.clone(), child.subtree.entries),
                        None => directory.nodes.rest(),
                    };
                    self.lose_entries(snapshot.id(), &path, &subject(&error, root), from, count);
                }
                None => _ = open.pop(),
            }
        }
        Ok(())
    }

    /// Not known to be whole.
    fn is_damaged(&self, root: &ChunkId) -> bool {
        self.known.get(root) != Some(&true)
    }

    fn open(&self, subtree: &Subtree, path_length: usize) -> Open<'c> {
        Open { root: subtree.root, path_length, nodes: tree::nodes(self.store, Some(subtree)).going_on() }
    }

    fn lose_entries(&mut self, snapshot: SnapshotId, path: &[u8], id: &ChunkId, from: Vec<u8>, count: u64) {
        let path = if path.is_empty() { b"/" } else { path };
        let touched = Touched { snapshot, path: path.to_vec(), loss: Loss::Entries { from, count } };
        self.causes.of(id).iter().for_each(|number| self.findings.touch(*number, &touched));
    }

    fn node(&mut self, snapshot: SnapshotId, path: &[u8], node: &Node, directory: ChunkId) {
        let causes = self.causes;
        if let Xattrs::Chunk(id) = &node.xattrs
            && !causes.of(id).is_empty()
        {
            let touched = Touched { snapshot, path: path.to_vec(), loss: Loss::Attributes };
            causes.of(id).iter().for_each(|number| self.findings.touch(*number, &touched));
        }
        let is_damaged = match &node.content {
            Content::Extents(_) => true,
            Content::List { root, .. } => self.is_damaged(root),
            _ => false,
        };
        if !is_damaged {
            return;
        }
        let mut numbers = BTreeSet::new();
        let mut length = 0;
        for extent in tree::extents(self.store, &node.content, 0).going_on() {
            match extent {
                Ok((position, extent)) => {
                    length = position.saturating_add(extent.length);
                    if let ExtentKind::Data(id) = extent.kind {
                        numbers.extend(causes.of(&id));
                    }
                }
                Err(error) => {
                    length = node.metadata.size;
                    numbers.extend(causes.of(&subject(&error, holder(node, directory))));
                }
            }
        }
        if length != node.metadata.size {
            numbers.extend(causes.of(&holder(node, directory)));
        }
        let touched = Touched { snapshot, path: path.to_vec(), loss: Loss::Content };
        numbers.into_iter().for_each(|number| self.findings.touch(number, &touched));
    }
}
