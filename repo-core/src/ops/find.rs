//! Entries of many snapshots, by whatever the caller asks of them. A directory that several snapshots share is looked
//! through once: what has nothing in it is remembered.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::lookup::{self, Allowance, DEPTH_MAX, Listing};
use crate::error::{Error, Result};
use crate::format::tree::{Content, Node, Subtree};
use crate::id::{ChunkId, ChunkKind, PackId};
use crate::repository::{Repository, Snapshot};
use crate::store::Store;
use crate::tree;

/// Directories whose leaves are in memory at once.
const OPEN_MAX: usize = 64;

/// What is looked for. Paths are raw bytes and begin with `/`.
pub enum Wanted<'w> {
    /// Entries of which `is_found` says so; it must always say the same of the same path and node. Directories of which
    /// `may_be_below` says no are not entered.
    Entries {
        /// Whether this entry is one.
        is_found: &'w dyn Fn(&[u8], &Node) -> bool,
        /// Whether something below this directory may be one.
        may_be_below: &'w dyn Fn(&[u8]) -> bool,
    },
    /// Files that refer to one of these chunks, and directories whose tree has it as its root.
    Chunks(&'w HashSet<ChunkId>),
}

impl fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries { .. } => "Wanted::Entries",
            Self::Chunks(_) => "Wanted::Chunks",
        })
    }
}

/// Looks for the same in one snapshot after the other.
#[derive(Debug)]
pub struct Finder<'w> {
    store: Arc<Store>,
    wanted: Wanted<'w>,
    /// Directories, each under its path, in which nothing was found.
    barren: HashSet<[u8; 16]>,
}

/// A directory that is being looked through.
struct Level<'s> {
    path_length: usize,
    key: [u8; 16],
    listing: Listing<'s>,
    has_found: bool,
}

impl Repository {
    /// Begins a search. Memory is 16 bytes for each directory without a find.
    pub fn finder<'w>(&self, wanted: Wanted<'w>) -> Result<Finder<'w>> {
        Ok(Finder { store: self.store()?, wanted, barren: HashSet::new() })
    }

    /// The packs that hold a chunk, by what the index says; none: it is not in the repository.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn packs_with(&self, chunk: &ChunkId) -> Result<Vec<PackId>> {
        let view = self.store()?.view();
        let mut packs: Vec<PackId> = Vec::new();
        for place in ChunkKind::ALL.into_iter().flat_map(|kind| view.places(kind, chunk)) {
            if !packs.contains(&place.pack) {
                packs.push(place.pack);
            }
        }
        Ok(packs)
    }

    /// The entry at a path of a snapshot, symlinks not followed. `None`: there is none, or it is the top itself.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn entry(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Node>> {
        match lookup::find(&*self.store()?, snapshot, path) {
            Err(Error::Path { .. }) => Ok(None),
            found => found,
        }
    }
}

impl Finder<'_> {
    /// Calls `each` for every entry of the snapshot that is wanted: parents before children, names ascending.
    ///
    /// # Errors
    /// The first part of the tree that cannot be read ends the search.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use std::ops::ControlFlow;
    ///
    /// use repo_core::{BackupOptions, Silent, SnapshotFilter, Wanted};
    ///
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let is_found = |path: &[u8], _: &repo_core::Node| path.ends_with(b"/today");
    /// let mut finder = repository.finder(Wanted::Entries { is_found: &is_found, may_be_below: &|_| true })?;
    /// let mut found = Vec::new();
    /// for snapshot in repository.snapshots(&SnapshotFilter::new())?.snapshots {
    ///     finder.search(&snapshot, &mut |path, node| {
    ///         found.push((path.to_vec(), node.metadata.size));
    ///         ControlFlow::Continue(())
    ///     })?;
    /// }
    /// assert_eq!(found, [(b"/notes/today".to_vec(), 8)]);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn search(&mut self, snapshot: &Snapshot, each: &mut dyn FnMut(&[u8], &Node) -> ControlFlow<()>) -> Result<()> {
        let store = self.store.clone();
        let mut allowance = Allowance::of(snapshot);
        let mut path = Vec::new();
        let mut levels: Vec<Level<'_>> = Vec::new();
        levels.extend(self.enter(&store, &path, lookup::root(snapshot)));
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_length);
            let Some(node) = level.listing.next().transpose()? else {
                let Some(done) = levels.pop() else { break };
                if let Some(above) = levels.last_mut() {
                    above.has_found |= done.has_found;
                }
                if !done.has_found {
                    self.barren.insert(done.key);
                }
                continue;
            };
            allowance.take(&node.metadata)?;
            path.push(b'/');
            path.extend_from_slice(&node.name);
            if self.is_wanted(&path, &node)? {
                level.has_found = true;
                if each(&path, &node).is_break() {
                    return Ok(());
                }
            }
            if let Some(below) = lookup::subtree(&node)
                && let Some(level) = self.enter(&store, &path, Some(below))
            {
                if levels.len() >= DEPTH_MAX {
                    return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
                }
                if let Some(at) = levels.len().checked_sub(OPEN_MAX) {
                    levels[at].listing.put_aside();
                }
                levels.push(level);
            }
        }
        Ok(())
    }

    /// `None`: nothing is there, or it is known that nothing is to be found.
    fn enter<'s>(&self, store: &'s Store, path: &[u8], directory: Option<Subtree>) -> Option<Level<'s>> {
        let root = directory?.root;
        // What an entry's path says matters only if it is asked.
        let key = match self.wanted {
            Wanted::Entries { may_be_below, .. } => may_be_below(path).then(|| key(path, &root))?,
            Wanted::Chunks(_) => key(b"", &root),
        };
        let is_new = !self.barren.contains(&key);
        is_new.then(|| Level {
            path_length: path.len(),
            key,
            listing: Listing::new(store, directory),
            has_found: false,
        })
    }

    fn is_wanted(&self, path: &[u8], node: &Node) -> Result<bool> {
        let chunks = match &self.wanted {
            Wanted::Entries { is_found, .. } => return Ok(is_found(path, node)),
            Wanted::Chunks(chunks) => chunks,
        };
        match &node.content {
            Content::Directory(subtree) => Ok(chunks.contains(&subtree.root)),
            Content::Extents(_) | Content::List { .. } => {
                let [_, mine] = tree::chunks(&self.store, None, Some(&node.content))?;
                Ok(mine.data.iter().any(|(id, _)| chunks.contains(id))
                    || mine.lists.iter().any(|id| chunks.contains(id)))
            }
            _ => Ok(false),
        }
    }
}

fn key(path: &[u8], root: &ChunkId) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&root.0).update(path);
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}
