//! What is known of the source's things in the targets: a chunk's name there, a file's content, a directory's tree. Good for
//! one batch of snapshots, whose sessions may all rely on it.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::format::tree::{Content, Subtree};
use crate::id::ChunkId;
use crate::pipeline::lock;

/// All that a batch remembers. Shared by the walk, which asks what must be read, and the assembly, which learns.
pub struct Memos {
    /// Chunks of contents and attributes, by their names in the source: about 50 bytes each and 33 a target.
    pub chunks: Memo<ChunkId>,
    /// Contents of files that were cut anew, by a hash of what they are in the source.
    pub files: Memo<Content>,
    /// Directories, by the roots of their trees.
    pub trees: Memo<Subtree>,
}

impl Memos {
    /// For so many targets.
    pub fn new(targets: usize) -> Self {
        Self { chunks: Memo::new(targets), files: Memo::new(targets), trees: Memo::new(targets) }
    }

    /// The next snapshot begins: what was asked for and did not come is asked for again.
    pub fn begin(&self, pass: u32) {
        lock(&self.chunks.rows).pass = pass;
        lock(&self.files.rows).pass = pass;
    }
}

/// What one kind of thing is called in each target.
pub struct Memo<V> {
    targets: usize,
    rows: Mutex<Rows<V>>,
}

struct Rows<V> {
    pass: u32,
    positions: HashMap<ChunkId, u32>,
    /// The pass in which it was last asked for.
    asked: Vec<u32>,
    /// `targets` for each row.
    values: Vec<Option<V>>,
}

impl<V: Clone> Memo<V> {
    fn new(targets: usize) -> Self {
        let rows = Rows { pass: 0, positions: HashMap::new(), asked: Vec::new(), values: Vec::new() };
        Self { targets, rows: Mutex::new(rows) }
    }

    /// Whether all of these targets have it.
    pub fn is_known(&self, key: &ChunkId, targets: &[usize]) -> bool {
        let rows = lock(&self.rows);
        rows.positions.get(key).is_some_and(|position| self.has_all(&rows, *position, targets))
    }

    /// Whether it must be read: some of these targets lack it, and in this pass nobody has asked for it yet. Counts as
    /// asking: whoever meets it next will find that it is known, since all is taken in order, or that it failed.
    pub fn must_read(&self, key: ChunkId, targets: &[usize]) -> bool {
        let mut rows = lock(&self.rows);
        let position = self.position(&mut rows, key);
        if self.has_all(&rows, position, targets) || rows.asked[position as usize] == rows.pass {
            return false;
        }
        rows.asked[position as usize] = rows.pass;
        true
    }

    /// What it is in one target.
    pub fn get(&self, key: &ChunkId, target: usize) -> Option<V> {
        let rows = lock(&self.rows);
        let position = *rows.positions.get(key)? as usize;
        rows.values[position * self.targets + target].clone()
    }

    /// What it is in one target, which has it.
    pub fn set(&self, key: ChunkId, target: usize, value: V) {
        let mut rows = lock(&self.rows);
        let position = self.position(&mut rows, key) as usize;
        rows.values[position * self.targets + target] = Some(value);
    }

    fn position(&self, rows: &mut Rows<V>, key: ChunkId) -> u32 {
        let next = rows.asked.len() as u32;
        let position = *rows.positions.entry(key).or_insert(next);
        if position == next {
            rows.asked.push(0);
            rows.values.resize(rows.values.len() + self.targets, None);
        }
        position
    }

    fn has_all(&self, rows: &Rows<V>, position: u32, targets: &[usize]) -> bool {
        let first = position as usize * self.targets;
        targets.iter().all(|target| rows.values[first + target].is_some())
    }
}

/// The key of a file's content, where that is chunks: it has the same one in every snapshot of the source.
pub fn key_of(content: &Content) -> Option<ChunkId> {
    match content {
        Content::List { root, .. } => Some(*root),
        Content::Extents(extents) => {
            let mut hasher = blake3::Hasher::new();
            for extent in extents {
                use crate::format::tree::ExtentKind::{Data, Hole, Zero};
                hasher.update(&extent.length.to_le_bytes());
                match extent.kind {
                    Data(id) => hasher.update(&[0]).update(&id.0),
                    Zero => hasher.update(&[1]),
                    Hole => hasher.update(&[2]),
                };
            }
            Some(ChunkId(*hasher.finalize().as_bytes()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_asked_for_once_a_pass_until_all_who_need_it_have_it() {
        let memos = Memos::new(2);
        let key = ChunkId([1; 32]);
        memos.begin(1);
        assert!(memos.chunks.must_read(key, &[0, 1]));
        assert!(!memos.chunks.must_read(key, &[0, 1]), "it is on its way");
        memos.chunks.set(key, 0, ChunkId([2; 32]));
        memos.begin(2);
        assert!(!memos.chunks.must_read(key, &[0]));
        assert!(memos.chunks.must_read(key, &[0, 1]), "the second target lacks it");
        memos.chunks.set(key, 1, ChunkId([3; 32]));
        memos.begin(3);
        assert!(!memos.chunks.must_read(key, &[0, 1]) && memos.chunks.is_known(&key, &[1]));
        assert_eq!(memos.chunks.get(&key, 0), Some(ChunkId([2; 32])));
        assert_eq!(memos.chunks.get(&ChunkId([9; 32]), 0), None);
    }
}
