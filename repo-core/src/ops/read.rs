//! Reading one file of a snapshot, or a range of it, as a stream.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::lookup;
use crate::error::{Error, Result};
use crate::format::tree::{Node, NodeKind};
use crate::id::{ChunkId, ChunkKind};
use crate::platform::target::as_path;
use crate::repository::{Repository, Snapshot};
use crate::tree::StoredFile;

impl Repository {
    /// Opens a file of a snapshot for reading. `path` is raw bytes; symlinks are not followed.
    ///
    /// # Errors
    /// [`Error::Path`] if it is not in the snapshot, or not a file.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use std::io::{Read, Seek, SeekFrom};
    ///
    /// use repo_core::{BackupOptions, Selector, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// # let newest = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())?;
    /// let mut file = repository.read(&newest, b"/notes/today")?;
    /// let mut text = String::new();
    /// file.seek(SeekFrom::Start(4)).and_then(|_| file.read_to_string(&mut text)).expect("no chunk is lost");
    /// assert_eq!(text, "milk");
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn read(&self, snapshot: &Snapshot, path: &[u8]) -> Result<StoredFile> {
        let store = self.store()?;
        let refuse = |problem| Err(Error::Path { path: as_path(path).to_owned(), problem });
        let Some(node) = lookup::find(&store, snapshot, path)? else {
            return refuse("is a directory");
        };
        match node.metadata.kind {
            NodeKind::File => {}
            NodeKind::Directory => return refuse("is a directory"),
            NodeKind::Symlink => return refuse("is a symlink, which is not followed"),
            _ => return refuse("is not a file"),
        }
        if lookup::check_node(&node).is_err() {
            return refuse("is malformed");
        }
        Ok(StoredFile::new(store, node.content, node.metadata.size))
    }

    /// A chunk by its name alone, whatever it holds: its kind and its plaintext, proven to have that name. What a tree node
    /// or a list node says is better asked of [`list`](Self::list) and [`read`](Self::read).
    ///
    /// # Errors
    /// [`Error::Usage`] if neither index nor packs know of it; [`Error::ChunkLost`] if none of its places is whole.
    pub fn chunk(&self, id: &ChunkId) -> Result<(ChunkKind, Bytes)> {
        let store = self.fresh_store()?;
        let view = store.view();
        let kind = ChunkKind::ALL.into_iter().find(|kind| !view.places(*kind, id).is_empty());
        let kind = kind.ok_or_else(|| Error::Usage(format!("no chunk {id}")))?;
        Ok((kind, store.get(kind, id)?))
    }

    /// Calls `each` with every chunk that the index knows, once: its kind, its name and the length of its plaintext. In no
    /// order. Whether it is whole is not asked, nor whether a snapshot needs it.
    ///
    /// # Errors
    /// What cannot be read of the index, or listed.
    pub fn chunks(&self, each: &mut dyn FnMut(ChunkKind, &ChunkId, u32) -> ControlFlow<()>) -> Result<()> {
        let view = self.fresh_store()?.view();
        for number in (0..view.number_count()).filter_map(|number| u32::try_from(number).ok()) {
            let (kind, id, length) = view.chunk(number);
            // A chunk with several places has a row for each, and the number of one.
            if view.number(kind, id) == Some(number) && each(kind, id, length).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The entry at a path of a snapshot; symlinks are not followed.
    ///
    /// # Errors
    /// [`Error::Path`] if it is not in the snapshot. The top level itself has no entry.
    pub fn node(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Node> {
        let refuse = |problem| Error::Path { path: as_path(path).to_owned(), problem };
        lookup::find(&*self.store()?, snapshot, path)?.ok_or_else(|| refuse("is the snapshot's top level"))
    }
}
