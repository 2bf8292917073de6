//! Invariant 7, asked of the objects themselves after every change: whatever a published snapshot refers to is in a pack
//! that is there, by that pack's own table. Reads no index and calls no verb.
//!
//! An object's bytes never change, so what was once found out of a pack or a snapshot is kept, also from one run to
//! the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use repo_core::internals::crypto::Keys;
use repo_core::internals::format::gc::{Forgotten, Mark};
use repo_core::internals::format::header::{HEADER_LENGTH, Header, ObjectType};
use repo_core::internals::format::keyring::Purpose;
use repo_core::internals::format::list::ListNode;
use repo_core::internals::format::snapshot::SnapshotRecord;
use repo_core::internals::format::tree::{TreeNode, decode_tree_node};
use repo_core::internals::frame::FrameCodec;
use repo_core::internals::seal::{self, FramePlace, PackKeys};
use repo_core::{
    Bytes, ChunkId, ChunkKind, Content, Corruption, Doubled, Extent, ExtentKind, GcStage, Node, ObjectName, PackKind,
    SnapshotId, Xattrs,
};

/// What was found out of objects, by name.
struct Known {
    keys: Arc<Keys>,
    /// The chunks of each pack, of which every one was opened and named again.
    packs: HashMap<ObjectName, Arc<Vec<ChunkId>>>,
    /// Plaintext of trees and lists.
    nodes: HashMap<ChunkId, (ChunkKind, Bytes)>,
    /// What the snapshot of these bytes refers to.
    snapshots: HashMap<[u8; 32], Option<Arc<Vec<ChunkId>>>>,
}

/// What is stored and what is needed.
#[derive(Clone)]
pub struct Oracle {
    known: Arc<Mutex<Known>>,
    /// In how many packs each chunk is.
    holders: HashMap<ChunkId, u32>,
    /// The snapshots that are there and that no cycle expired, with what they refer to.
    valid: BTreeMap<SnapshotId, Arc<Vec<ChunkId>>>,
    expired: BTreeSet<SnapshotId>,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").field("valid", &self.valid.keys()).field("expired", &self.expired).finish()
    }
}

impl Oracle {
    /// Of an empty store.
    pub fn new(keys: Arc<Keys>) -> Self {
        let known = Known { keys, packs: HashMap::new(), nodes: HashMap::new(), snapshots: HashMap::new() };
        Self {
            known: Arc::new(Mutex::new(known)),
            holders: HashMap::new(),
            valid: BTreeMap::new(),
            expired: BTreeSet::new(),
        }
    }

    /// An object appeared. `read` gives others that are there.
    ///
    /// # Errors
    /// What is lost, in words.
    pub fn put(
        &mut self,
        name: &ObjectName,
        bytes: &Bytes,
        read: impl Fn(&ObjectName) -> Option<Bytes>,
    ) -> Result<(), String> {
        match name {
            ObjectName::Gc(cycle, GcStage::Mark) => {
                let keys = self.known.lock().expect("the oracle does not panic").keys.clone();
                let mark = open(&keys, ObjectType::Mark, name, bytes).and_then(|payload| Mark::decode(&payload));
                let mark = mark.map_err(|problem| format!("the mark of cycle {cycle} is damaged: {problem}"))?;
                mark.expired.into_iter().try_for_each(|id| {
                    let name = ObjectName::Forgotten(id);
                    let record = read(&name).map(|bytes| open(&keys, ObjectType::Forgotten, &name, &bytes));
                    let record = record.and_then(Result::ok).and_then(|payload| Forgotten::decode(&payload).ok());
                    if record.is_none_or(|record| record.purge_after_ms > EXPIRED_BEFORE_MS) {
                        return Err(format!("cycle {cycle} expires snapshot {id}, which may still be wanted"));
                    }
                    self.expired.insert(id);
                    self.withdraw(id);
                    Ok(())
                })
            }
            ObjectName::Pack(kind, _) => {
                let chunks = self.known.lock().expect("the oracle does not panic").pack(name, *kind, bytes)?;
                for chunk in chunks.iter() {
                    *self.holders.entry(*chunk).or_default() += 1;
                }
                Ok(())
            }
            // A second copy publishes nothing that its first did not.
            ObjectName::Snapshot(id) => {
                let refs = self.known.lock().expect("the oracle does not panic").snapshot(*id, bytes)?;
                match refs {
                    Some(refs) => self.publish(*id, refs),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// An object is gone. `still` tells of what is left.
    ///
    /// # Errors
    /// What is lost, in words.
    pub fn removed(&mut self, name: &ObjectName, still: impl Fn(&ObjectName) -> bool) -> Result<(), String> {
        match name {
            // From here on a snapshot of this id would be shown, and would have to be whole.
            ObjectName::Forgotten(id) => {
                self.expired.remove(id);
                Ok(())
            }
            ObjectName::Pack(..) => {
                let chunks = self.known.lock().expect("the oracle does not panic").packs[name].clone();
                for chunk in chunks.iter() {
                    let holders = self.holders.get_mut(chunk).expect("it was counted when it was put");
                    *holders -= 1;
                    if *holders == 0
                        && let Some((id, _)) = self.valid.iter().find(|(_, refs)| refs.contains(chunk))
                    {
                        return Err(format!(
                            "{name} held the last copy of chunk {chunk}, which snapshot {id} refers to"
                        ));
                    }
                }
                Ok(())
            }
            ObjectName::Snapshot(id) | ObjectName::SecondCopy(Doubled::Snapshot(id)) => {
                let doubled = Doubled::Snapshot(*id);
                if still(&ObjectName::from(doubled)) || still(&ObjectName::SecondCopy(doubled)) {
                    return Ok(());
                }
                match self.withdraw(*id) {
                    true => Err(format!("snapshot {id} is gone, and no cycle had expired it")),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Those of the repository.
    pub fn keys(&self) -> Arc<Keys> {
        self.known.lock().expect("the oracle does not panic").keys.clone()
    }

    /// A part of the state that the objects alone do not tell: what was expired by cycles that are over.
    pub fn print(&self) -> u64 {
        crate::simulate::store::hash(&self.expired)
    }

    fn publish(&mut self, id: SnapshotId, refs: Arc<Vec<ChunkId>>) -> Result<(), String> {
        if self.expired.contains(&id) || self.valid.contains_key(&id) {
            return Ok(());
        }
        for chunk in refs.iter() {
            if self.holders.get(chunk).copied().unwrap_or(0) == 0 {
                return Err(format!("snapshot {id} was published and refers to chunk {chunk}, which is in no pack"));
            }
        }
        self.valid.insert(id, refs);
        Ok(())
    }

    /// Whether it was there.
    fn withdraw(&mut self, id: SnapshotId) -> bool {
        self.valid.remove(&id).is_some()
    }
}

/// No simulated clock comes so far: windows end before it or never.
const EXPIRED_BEFORE_MS: u64 = 4_000_000_000_000;

fn open(keys: &Keys, object_type: ObjectType, name: &ObjectName, bytes: &Bytes) -> Result<Vec<u8>, Corruption> {
    seal::open_box(keys, Purpose::GcMark, object_type, name, bytes)
}

impl Known {
    fn pack(&mut self, name: &ObjectName, kind: PackKind, bytes: &Bytes) -> Result<Arc<Vec<ChunkId>>, String> {
        if let Some(chunks) = self.packs.get(name) {
            return Ok(chunks.clone());
        }
        let wrong = |problem| format!("{name} was written and is damaged: {problem}");
        let pack = PackKeys::open(&self.keys, kind, bytes).map_err(wrong)?;
        let footer = pack.open_footer(bytes, bytes.len() as u64).map_err(wrong)?;
        let mut codec = FrameCodec::new(1);
        for (ordinal, record) in footer.frames.iter().enumerate() {
            let sealed = bytes[record.offset as usize..record.end() as usize].to_vec();
            let place = FramePlace { ordinal: ordinal as u32, record: *record };
            let raw = pack.open_frame(&mut codec, place, sealed).map_err(wrong)?;
            seal::verify_chunks(&self.keys, &raw, footer.chunks_of(ordinal)).map_err(wrong)?;
            let raw = Bytes::from(raw);
            for chunk in footer.chunks_of(ordinal) {
                if matches!(chunk.kind, ChunkKind::Tree | ChunkKind::List) {
                    let start = chunk.offset as usize;
                    self.nodes.insert(chunk.id, (chunk.kind, raw.slice(start..start + chunk.length as usize)));
                }
            }
        }
        let chunks = Arc::new(footer.chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>());
        self.packs.insert(*name, chunks.clone());
        Ok(chunks)
    }

    /// What a snapshot refers to; `None`: it is a tombstone.
    fn snapshot(&mut self, id: SnapshotId, bytes: &Bytes) -> Result<Option<Arc<Vec<ChunkId>>>, String> {
        let digest = *blake3::hash(bytes).as_bytes();
        if let Some(refs) = self.snapshots.get(&digest) {
            return Ok(refs.clone());
        }
        let refs =
            self.read_snapshot(id, bytes).map_err(|problem| format!("snapshot {id} was published: {problem}"))?;
        let refs = refs.map(|refs| Arc::new(refs.into_iter().collect::<Vec<_>>()));
        self.snapshots.insert(digest, refs.clone());
        Ok(refs)
    }

    fn read_snapshot(&self, id: SnapshotId, bytes: &Bytes) -> Result<Option<BTreeSet<ChunkId>>, String> {
        let header = bytes.first_chunk::<HEADER_LENGTH>().ok_or("it is cut short")?;
        let header = Header::decode(header).map_err(|problem| problem.to_string())?;
        if header.object_type != ObjectType::Snapshot {
            return Ok(None);
        }
        let name = ObjectName::Snapshot(id);
        let record = seal::open_box(&self.keys, Purpose::Snapshot, ObjectType::Snapshot, &name, bytes)
            .and_then(|payload| SnapshotRecord::decode(&payload))
            .map_err(|problem| problem.to_string())?;
        let mut refs = BTreeSet::new();
        if let Some(root) = record.root.tree {
            self.walk(root, &mut refs)?;
        }
        Ok(Some(refs))
    }

    /// All chunks below one, itself included.
    fn walk(&self, top: ChunkId, refs: &mut BTreeSet<ChunkId>) -> Result<(), String> {
        let mut open = vec![top];
        while let Some(id) = open.pop() {
            if !refs.insert(id) {
                continue;
            }
            // Of a data chunk nothing is kept, and nothing is below it; a node that nobody ever stored is a hole.
            let Some((kind, bytes)) = self.nodes.get(&id) else { return Err(format!("node {id} was never stored")) };
            match kind {
                ChunkKind::Tree => match decode_tree_node(bytes).map_err(|problem| problem.to_string())? {
                    TreeNode::Leaf(nodes) => nodes.iter().for_each(|node| below(node, &mut open, refs)),
                    TreeNode::Branch { children, .. } => open.extend(children.iter().map(|child| child.subtree.root)),
                },
                _ => match ListNode::decode(bytes).map_err(|problem| problem.to_string())? {
                    ListNode::Leaf(found) => extents(&found, refs),
                    ListNode::Branch { children, .. } => open.extend(children.iter().map(|child| child.id)),
                },
            }
        }
        Ok(())
    }
}

/// What a node refers to: nodes go to `open`, data to `refs`.
fn below(node: &Node, open: &mut Vec<ChunkId>, refs: &mut BTreeSet<ChunkId>) {
    if let Xattrs::Chunk(id) = &node.xattrs {
        refs.insert(*id);
    }
    match &node.content {
        Content::Directory(subtree) => open.push(subtree.root),
        Content::List { root, .. } => open.push(*root),
        Content::Extents(found) => extents(found, refs),
        Content::None | Content::Inline(_) | Content::Symlink(_) => {}
    }
}

fn extents(found: &[Extent], refs: &mut BTreeSet<ChunkId>) {
    refs.extend(found.iter().filter_map(|extent| match extent.kind {
        ExtentKind::Data(id) => Some(id),
        ExtentKind::Zero | ExtentKind::Hole => None,
    }));
}
