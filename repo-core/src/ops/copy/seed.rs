//! What an earlier copy tells: which chunks of the source the target has, and under which names. Only what the target's
//! index knows as whole counts, so nothing of it is believed but that a copy is a copy of what it says.

use super::Ready;
use super::memo::{Memos, key_of};
use crate::error::{Error, Result};
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::ops::lookup::{self, DEPTH_MAX};
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::Store;
use crate::tree::{self, ChunkSink, ContentBuilder, Nodes};

/// A snapshot of the source and its copy.
pub struct Pair<'p> {
    pub source: &'p Store,
    pub base: &'p Snapshot,
    pub target: &'p Ready,
    pub copy: &'p Snapshot,
    /// Which target.
    pub number: usize,
}

impl<'p> Pair<'p> {
    /// Walks both trees in step.
    pub fn learn(&self, memos: &Memos, rechunk: bool, progress: &dyn Progress) -> Result<()> {
        let open = |base: Option<&Subtree>, copy: Option<&Subtree>| -> (Nodes<'p>, Nodes<'p>) {
            (tree::nodes(self.source, base), tree::nodes(&self.target.store, copy))
        };
        let mut anew = Anew::default();
        let mut levels = vec![open(lookup::root(self.base).as_ref(), lookup::root(self.copy).as_ref())];
        while let Some((base, copy)) = levels.last_mut() {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let (base, copy) = match (base.next(), copy.next()) {
                (Some(base), Some(copy)) => (base?, copy?),
                _ => {
                    levels.pop();
                    continue;
                }
            };
            if base.name != copy.name
                || base.metadata.kind != copy.metadata.kind
                || base.metadata.size != copy.metadata.size
            {
                return Err(Error::Malformed("the copy is not of this snapshot"));
            }
            match rechunk {
                true => self.content_cut_anew(&base, &copy, memos, &mut anew)?,
                false => self.chunks(&base, &copy, memos)?,
            }
            if let (Some(base), Some(copy)) = (lookup::subtree(&base), lookup::subtree(&copy))
                && levels.len() < DEPTH_MAX
            {
                levels.push(open(Some(&base), Some(&copy)));
            }
        }
        Ok(())
    }

    /// A copy that was not cut anew has the same chunks in the same order, under other names.
    fn chunks(&self, base: &Node, copy: &Node, memos: &Memos) -> Result<()> {
        if let (Xattrs::Chunk(base), Xattrs::Chunk(copy)) = (&base.xattrs, &copy.xattrs) {
            self.chunk(ChunkKind::Xattr, *base, *copy, memos);
        }
        let base = tree::extents(self.source, &base.content, 0);
        for pair in base.zip(tree::extents(&self.target.store, &copy.content, 0)) {
            let ((_, base), (_, copy)) = (pair.0?, pair.1?);
            if base.length != copy.length {
                break; // it was cut anew
            }
            if let (ExtentKind::Data(base), ExtentKind::Data(copy)) = (base.kind, copy.kind) {
                self.chunk(ChunkKind::Data, base, copy, memos);
            }
        }
        Ok(())
    }

    /// A copy that was cut anew has its contents as a backup in the target would have them; another one has not, and is of no
    /// use here. Files of one chunk do not tell which it is, they wait for the first that does.
    fn content_cut_anew(&self, base: &Node, copy: &Node, memos: &Memos, anew: &mut Anew) -> Result<()> {
        let Some(key) = key_of(&base.content) else { return Ok(()) };
        let (mut count, mut are_alike) = (0u64, true);
        let lengths = |store, node: &Node| tree::extents(store, &node.content, 0);
        let mut others = lengths(&self.target.store, copy);
        for extent in lengths(self.source, base) {
            let length = extent?.1.length;
            are_alike &= others.next().transpose()?.is_some_and(|(_, other)| other.length == length);
            count += 1;
        }
        anew.is_so = anew.is_so.or((count > 1).then_some(!are_alike));
        if self.is_whole(&copy.content)? {
            anew.waiting.push((key, copy.content.clone()));
        }
        match anew.is_so {
            Some(true) => anew.waiting.drain(..).for_each(|(key, content)| memos.files.set(key, self.number, content)),
            Some(false) => anew.waiting.clear(),
            None => {}
        }
        Ok(())
    }

    fn chunk(&self, kind: ChunkKind, base: ChunkId, copy: ChunkId, memos: &Memos) {
        if self.target.view.contains(kind, &copy) {
            memos.chunks.set(base, self.number, copy);
        }
    }

    /// Whether the target has all that this content refers to, the nodes of its list too.
    fn is_whole(&self, content: &Content) -> Result<bool> {
        let mut sink = Looking { pair: self, has_all: true };
        let mut builder = ContentBuilder::new();
        for extent in tree::extents(&self.target.store, content, 0) {
            let (_, extent) = extent?;
            if let ExtentKind::Data(id) = extent.kind {
                sink.has_all &= self.target.view.contains(ChunkKind::Data, &id);
            }
            builder.push(extent, &mut sink)?;
        }
        Ok(builder.finish(&mut sink)? == *content && sink.has_all)
    }
}

/// Whether a copy was cut anew, and what waits for the answer.
#[derive(Default)]
struct Anew {
    is_so: Option<bool>,
    waiting: Vec<(ChunkId, Content)>,
}

/// Stores nothing: looks whether what would be stored is there.
struct Looking<'p> {
    pair: &'p Pair<'p>,
    has_all: bool,
}

impl ChunkSink for Looking<'_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.pair.target.store.keys().chunk_id(kind, &bytes);
        self.has_all &= self.pair.target.view.contains(kind, &id);
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.pair.target.store.keys().splits_tree_after(name)
    }
}
