//! The repository, opened: init, open, key slots, snapshots and how to select one, objects described. What verbs do with
//! it is in `ops`.

mod describe;
mod doubled;
mod inspect;
mod keys;
mod mend;
mod open;
mod options;
mod parameters;
mod republish;
mod rollback;
mod rotate;
mod snapshots;
mod weak;
mod witness;

pub(crate) use republish::{Old, Seen};
pub(crate) use witness::Witness;

pub use describe::{ChunkDescription, FrameDescription, IndexDescription, IndexedPack, PackDescription};
pub use mend::Mended;
pub use rollback::Sighting;
pub use rotate::{RotateOptions, Rotated};

pub(crate) use snapshots::Published;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;

use zeroize::Zeroizing;

use crate::backend::{Backend, Draft};
use crate::crypto::{Keys, PasswordCost};
use crate::error::{Error, Result};
use crate::format::config::{ChunkerParameters, Config};
use crate::format::snapshot::{FLAG_PARTIAL, FLAG_PINNED, SnapshotRecord};
use crate::id::{OwnerId, RepositoryId, SlotId, SnapshotId};
use crate::pipeline::lock;
use crate::store::{Store, WriterOptions};

/// An open, unlocked repository. Cheap to clone; clones share keys and caches.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) config: Config,
    pub(crate) keyring_generation: u64,
    /// The digest of the config that counts although it is of an earlier epoch: a rotation was cut off.
    interim_config: Option<[u8; 32]>,
    /// Whether the last rotation has something left to do.
    is_rotating: bool,
    pub(crate) id: RepositoryId,
    /// The slot that opened it; `None` for a root key.
    pub(crate) slot: Option<SlotId>,
    /// Who uses it, where that matters.
    owner: Option<OwnerId>,
    /// Opens the keyring; needed again when key slots change.
    root_key: Zeroizing<[u8; 32]>,
    /// Worker threads of every verb.
    pub(crate) threads: usize,
    store: Mutex<Option<Arc<Store>>>,
}

/// How a repository is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InitOptions {
    /// Cost of a password slot.
    pub password_cost: PasswordCost,
    /// Cut points; the default was measured (docs/design.md).
    pub chunker: ChunkerParameters,
    /// Plaintext bytes a frame; of trees 256 KiB at most.
    pub frame_target_bytes: u32,
    /// The mean size of data packs, 64 KiB to 512 MiB.
    pub pack_data_bytes: u32,
    /// zstd level, 1 to 19.
    pub level: i8,
    /// Percent of parity that packs get, 0 to 100; `None`: what the place says.
    pub parity_percent: Option<u8>,
    /// Of the first key slot.
    pub label: String,
    /// Makes a weak repository, with this owner: see [`InitOptions::weak_store`].
    pub weak_store: Option<OwnerId>,
}

/// How a repository is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The first digits of the key slot that is tried first. One that is not there, or is not the secret's, is passed
    /// over.
    pub key_hint: Option<String>,
    /// Who this client is, to a weak repository.
    pub owner: Option<OwnerId>,
}

/// A key slot, as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its name.
    pub slot: SlotId,
    /// The slot that opened this repository.
    pub current: bool,
    /// What opens it.
    pub kind: KeyKind,
    /// What its owner called it.
    pub label: String,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_ms: u64,
}

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// A password, through Argon2id.
    Password,
    /// 32 random bytes.
    KeyFile,
}

/// Which snapshot.
///
/// ```
/// use repo_core::Selector;
///
/// assert_eq!("latest".parse::<Selector>()?, Selector::Latest { back: 0 });
/// assert_eq!("latest~2".parse::<Selector>()?, Selector::Latest { back: 2 });
/// assert_eq!("40DC1520".parse::<Selector>()?, Selector::Id("40dc1520".into()));
/// assert!("yesterday".parse::<Selector>().is_err(), "a time is `Selector::At`");
/// # Ok::<(), repo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// `latest`, or `latest~N`: the N-th before the newest. Partial ones do not count.
    Latest {
        /// 0: the newest.
        back: usize,
    },
    /// A full id, or a prefix of one; capital digits mean the same.
    Id(String),
    /// The newest whose reading had ended by this time (nanoseconds since 1970 UTC). Partial ones do not count.
    At {
        /// In nanoseconds since 1970 UTC.
        time_ns: i64,
    },
}

/// Which snapshots are looked at; empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFilter {
    /// Any of these.
    pub hosts: Vec<String>,
    /// Any of these lists, of which each tag must be there; an empty list: no tags at all.
    pub tags: Vec<Vec<String>>,
    /// All of these.
    pub paths: Vec<PathBuf>,
}

/// A published snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub(crate) record: SnapshotRecord,
}

impl Snapshot {
    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.record.id
    }

    /// Whether no policy may forget it.
    pub fn is_pinned(&self) -> bool {
        self.record.flags & FLAG_PINNED != 0
    }

    /// Whether its backup was ended early, and it has what was stored by then: see
    /// [`BackupOptions::keep_partial`](crate::BackupOptions::keep_partial). Only its id selects it.
    pub fn is_partial(&self) -> bool {
        self.record.flags & FLAG_PARTIAL != 0
    }

    /// Everything it records.
    pub fn record(&self) -> &SnapshotRecord {
        &self.record
    }
}

/// What a listing of snapshots found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SnapshotList {
    /// Ascending by end time, then sequence, then id.
    pub snapshots: Vec<Snapshot>,
    /// Those that could not be read, each named by its error; the others are whole.
    pub unreadable: Vec<Error>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({} at {})", self.inner.id, self.inner.backend.place())
    }
}

impl Default for InitOptions {
    /// What was measured best over source trees, disk images and databases (docs/design.md).
    fn default() -> Self {
        Self {
            password_cost: PasswordCost::Default,
            chunker: ChunkerParameters {
                algorithm: 1,
                normalization: 2,
                min_bytes: 32 << 10,
                average_bytes: 128 << 10,
                max_bytes: 512 << 10,
            },
            frame_target_bytes: 1 << 20,
            // Sealed bytes wait in memory until their pack is full and written: with two threads five packs, which this
            // keeps near 64 MiB.
            pack_data_bytes: 12 << 20,
            level: 3,
            parity_percent: None,
            label: String::new(),
            weak_store: None,
        }
    }
}

impl SnapshotFilter {
    /// Whether a snapshot passes.
    pub fn matches(&self, record: &SnapshotRecord) -> bool {
        let host = self.hosts.is_empty() || self.hosts.contains(&record.host);
        let has_all = |tags: &Vec<String>| match tags.as_slice() {
            [] => record.tags.is_empty(),
            tags => tags.iter().all(|tag| record.tags.contains(tag)),
        };
        let tags = self.tags.is_empty() || self.tags.iter().any(has_all);
        let has_path =
            |path: &PathBuf| record.paths.iter().any(|known| known.as_slice() == path.as_os_str().as_encoded_bytes());
        host && tags && self.paths.iter().all(has_path)
    }
}

impl FromStr for Selector {
    type Err = Error;

    /// `latest`, `latest~2`, or an id or its beginning, in digits of either case.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("latest") {
            let back = match rest.strip_prefix('~') {
                None if rest.is_empty() => Some(0),
                None => None,
                Some(count) => count.parse().ok(),
            };
            return back.map(|back| Self::Latest { back }).ok_or_else(|| {
                Error::Usage(format!("{text:?} is no snapshot: latest, or latest~1 for the one before"))
            });
        }
        if text.is_empty() || text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let problem = "a snapshot is `latest`, `latest~N`, or the beginning of an id (digits 0-9, a-f)";
            return Err(Error::Usage(format!("{text:?} is no snapshot: {problem}")));
        }
        Ok(Self::Id(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest { back: 0 } => f.write_str("latest"),
            Self::Latest { back } => write!(f, "latest~{back}"),
            Self::Id(prefix) => f.write_str(prefix),
            Self::At { time_ns } => write!(f, "at {} s since 1970", time_ns.div_euclid(1_000_000_000)),
        }
    }
}

impl Repository {
    /// The same repository with this many worker threads (default: as many as the machine has cores).
    pub fn with_threads(&self, threads: usize) -> Self {
        let store = lock(&self.inner.store).clone();
        self.with(self.inner.backend.clone(), threads.max(1), store)
    }

    /// The same repository under a layer in memory that takes all writes and is gone with it: nothing changes below. Of what
    /// is backed up there, metadata is kept and the content of files dropped. So what a source has now can be compared with a
    /// snapshot, as a backup of it would be, and nothing is stored. Memory is O(metadata that differs).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use std::ops::ControlFlow;
    ///
    /// use repo_core::{BackupOptions, Change, LocalTree, LocalTreeOptions, Silent, SnapshotFilter};
    ///
    /// # let scratch = tempfile::tempdir().expect("a scratch directory");
    /// # let home = scratch.path().to_owned();
    /// # std::fs::write(home.join("letter"), "Dear reader").expect("a file");
    /// let source = || LocalTree::new(&[home.clone()], LocalTreeOptions::new());
    /// let then = repository.backup(&source()?, &BackupOptions::new(), &Silent)?.snapshot.expect("it was made");
    /// std::fs::remove_file(home.join("letter")).expect("it is gone");
    ///
    /// let draft = repository.draft();
    /// let now = draft.backup(&source()?, &BackupOptions::new(), &Silent)?.snapshot.expect("it was made");
    /// let mut removed = Vec::new();
    /// draft.diff((&then, b""), (&now, b""), &mut |difference| {
    ///     if difference.change == Change::Removed {
    ///         removed.push(difference.path.to_vec());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(removed[0].ends_with(b"/letter"));
    /// assert_eq!(repository.snapshots(&SnapshotFilter::new())?.snapshots.len(), 1);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn draft(&self) -> Self {
        self.with(Arc::new(Draft::new(self.inner.backend.clone())), self.inner.threads, None)
    }

    fn with(&self, backend: Arc<dyn Backend>, threads: usize, store: Option<Arc<Store>>) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                backend,
                keys: inner.keys.clone(),
                config: inner.config.clone(),
                keyring_generation: inner.keyring_generation,
                interim_config: inner.interim_config,
                is_rotating: inner.is_rotating,
                id: inner.id,
                slot: inner.slot,
                owner: inner.owner,
                root_key: inner.root_key.clone(),
                threads,
                store: Mutex::new(store),
            }),
        }
    }

    /// The chunks, with the index loaded; loaded once and kept.
    pub(crate) fn store(&self) -> Result<Arc<Store>> {
        let mut store = lock(&self.inner.store);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let opened = Arc::new(Store::open(self.inner.backend.clone(), self.inner.keys.clone())?);
        *store = Some(opened.clone());
        Ok(opened)
    }

    /// The chunks, with the index as it is now.
    pub(crate) fn fresh_store(&self) -> Result<Arc<Store>> {
        let mut store = lock(&self.inner.store);
        if let Some(store) = &*store {
            store.reload()?;
            return Ok(store.clone());
        }
        let opened = Arc::new(Store::open(self.inner.backend.clone(), self.inner.keys.clone())?);
        *store = Some(opened.clone());
        Ok(opened)
    }

    /// The chunks, for a walk through all trees: with an index as it is now that has only metadata in memory. Not kept.
    pub(crate) fn metadata_store(&self) -> Result<Arc<Store>> {
        let known = lock(&self.inner.store).clone();
        Ok(Arc::new(Store::open_metadata(self.inner.backend.clone(), self.inner.keys.clone(), known.as_deref())?))
    }

    /// How this repository's chunks are gathered and sealed, unless a verb's options say otherwise.
    pub(crate) fn writer_options(&self) -> WriterOptions {
        let config = self.config();
        WriterOptions {
            threads: self.inner.threads,
            level: config.level.into(),
            verify: true,
            dry_run: false,
            frame_target_bytes: config.frame.target_bytes as usize,
            pack_data_bytes: config.pack_data_bytes as usize,
            pack_meta_bytes: config.pack_meta_bytes as usize,
            isolate_owners: config.frame.isolation > 0,
            parity_percent: config.parity_percent(),
        }
    }

    /// Its random name.
    pub fn id(&self) -> RepositoryId {
        self.inner.id
    }

    /// Its parameters.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Where it lies.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.inner.backend
    }
}

/// As many as the machine has cores.
fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
