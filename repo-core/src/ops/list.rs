//! Listing a snapshot's entries, in order.

use std::ops::ControlFlow;

use super::lookup::{self, Allowance, DEPTH_MAX, Listing};
use crate::error::{Error, Result};
use crate::format::tree::{Node, NodeKind};
use crate::repository::{Repository, Snapshot};

/// Directories whose leaves are in memory at once; those above are read again when their turn comes.
const OPEN_MAX: usize = 64;

impl Repository {
    /// Calls `each` with the path (raw bytes, beginning with `/`) and node of every entry below `path`,
    /// parents before children, names ascending; only the direct ones unless `recursive`. If `path` is not a
    /// directory, it is called for that entry alone.
    ///
    /// # Errors
    /// The first part of the tree that cannot be read ends the listing, as do [`Error::Path`] for a path that is not
    /// in the snapshot and [`Error::Limit`] for a tree that unfolds to more than the snapshot says.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use std::ops::ControlFlow;
    ///
    /// use repo_core::{BackupOptions, NodeKind, Selector, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// # let newest = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())?;
    /// let mut files = Vec::new();
    /// repository.list(&newest, b"", true, &mut |path, node| {
    ///     if node.metadata.kind == NodeKind::File {
    ///         files.push((path.to_vec(), node.metadata.size));
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(files, [(b"/notes/today".to_vec(), 8)]);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn list(
        &self,
        snapshot: &Snapshot,
        path: &[u8],
        recursive: bool,
        each: &mut dyn FnMut(&[u8], &Node) -> ControlFlow<()>,
    ) -> Result<()> {
        let store = self.store()?;
        let mut full = Vec::new();
        for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            full.push(b'/');
            full.extend_from_slice(name);
        }
        let top = match lookup::find(&store, snapshot, path)? {
            None => lookup::root(snapshot),
            Some(node) if node.metadata.kind == NodeKind::Directory => lookup::subtree(&node),
            Some(node) => {
                let _ = each(&full, &node);
                return Ok(());
            }
        };
        let mut allowance = Allowance::of(snapshot);
        let mut levels = vec![(full.len(), Listing::new(&store, top))];
        while let Some((length, listing)) = levels.last_mut() {
            full.truncate(*length);
            let Some(node) = listing.next().transpose()? else {
                levels.pop();
                continue;
            };
            allowance.take(&node.metadata)?;
            full.push(b'/');
            full.extend_from_slice(&node.name);
            if each(&full, &node).is_break() {
                return Ok(());
            }
            if recursive && let Some(below) = lookup::subtree(&node) {
                if levels.len() >= DEPTH_MAX {
                    return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
                }
                if let Some(at) = levels.len().checked_sub(OPEN_MAX) {
                    levels[at].1.put_aside();
                }
                levels.push((full.len(), Listing::new(&store, Some(below))));
            }
        }
        Ok(())
    }
}
