//! The repository, opened: init, open, key slots, snapshots and how to select one. What verbs do with it is in `ops`.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::backend::Backend;
use crate::crypto::{Keys, PasswordCost, Secret};
use crate::error::Result;
use crate::format::config::{ChunkerParameters, Config};
use crate::format::snapshot::SnapshotRecord;
use crate::id::{RepositoryId, SeriesId, SlotId, SnapshotId};

/// An open, unlocked repository. Cheap to clone; clones share keys and caches.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) config: Config,
    pub(crate) keyring_generation: u64,
    pub(crate) id: RepositoryId,
    /// The slot that opened it; `None` for a root key.
    pub(crate) slot: Option<SlotId>,
    /// Worker threads of every verb.
    pub(crate) threads: usize,
}

/// How a repository is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InitOptions {
    /// Cost of a password slot.
    pub password_cost: PasswordCost,
    /// Cut points; the default was measured (docs/design.md).
    pub chunker: ChunkerParameters,
    /// Plaintext bytes a frame.
    pub frame_target_bytes: u32,
    /// zstd level, 1 to 19.
    pub level: i8,
    /// Of the first key slot.
    pub label: String,
}

/// A key slot, as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    pub slot: SlotId,
    /// The slot that opened this repository.
    pub current: bool,
    pub kind: KeyKind,
    pub label: String,
    pub created_ms: u64,
}

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    Password,
    KeyFile,
}

/// Which snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// `latest`, or `latest~N`: the N-th before the newest.
    Latest { back: usize },
    /// A full id, or a prefix of one, as typed.
    Id(String),
    /// The newest whose reading had ended by this time (nanoseconds since 1970 UTC).
    At { time_ns: i64 },
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

    /// Everything it records.
    pub fn record(&self) -> &SnapshotRecord {
        &self.record
    }
}

/// What a listing of snapshots found.
#[derive(Debug)]
#[non_exhaustive]
pub struct SnapshotList {
    /// Ascending by end time, then sequence, then id.
    pub snapshots: Vec<Snapshot>,
    /// Those that could not be read, each named by its error; the others are whole.
    pub unreadable: Vec<crate::Error>,
}

impl Repository {
    /// Makes a repository: key slot, keyring, config, and last the object `format`, from which on it exists.
    pub fn init(_backend: Arc<dyn Backend>, _secret: &Secret, _options: &InitOptions) -> Result<Self> {
        todo!()
    }

    /// Opens one. Every slot is tried.
    pub fn open(_backend: Arc<dyn Backend>, _secret: &Secret) -> Result<Self> {
        todo!()
    }

    /// The same repository with this many worker threads (default: as many as the machine has cores).
    pub fn with_threads(self, _threads: usize) -> Self {
        todo!()
    }

    /// The chunks, with the index loaded; loaded once and kept.
    pub(crate) fn store(&self) -> Result<Arc<crate::store::Store>> {
        todo!()
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

    /// All snapshots that pass the filter.
    pub fn snapshots(&self, _filter: &SnapshotFilter) -> Result<SnapshotList> {
        todo!()
    }

    /// The snapshot that the selector means, among those that pass the filter.
    pub fn snapshot(&self, _selector: &Selector, _filter: &SnapshotFilter) -> Result<Snapshot> {
        todo!()
    }

    /// The snapshots of one series, newest last.
    pub fn series(&self, _series: SeriesId) -> Result<Vec<Snapshot>> {
        todo!()
    }

    /// The key slots.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        todo!()
    }

    /// Adds a key slot.
    pub fn add_key(&self, _secret: &Secret, _label: &str, _cost: PasswordCost) -> Result<KeyInfo> {
        todo!()
    }

    /// Removes a key slot; never the last, never the one in use.
    pub fn remove_key(&self, _slot: SlotId) -> Result<()> {
        todo!()
    }

    /// Replaces the slot in use by one for `secret`.
    pub fn change_key(&self, _secret: &Secret, _cost: PasswordCost) -> Result<KeyInfo> {
        todo!()
    }

    /// A text to print and keep safe: it alone opens the repository ([`Secret`] reads it back).
    pub fn recovery_kit(&self) -> Result<Zeroizing<String>> {
        todo!()
    }
}
