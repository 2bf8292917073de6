//! A content-addressed, deduplicating, encrypted backup repository, to embed.
//!
//! What was stored comes back, bit for bit and with its metadata; nobody without the key learns what it is; equal
//! content is stored once. The command line `icecore` is a thin program in front of this library.
//!
//! # A backup and its way back
//!
//! ```
//! use std::sync::Arc;
//!
//! use repo_core::{
//!     BackupOptions, CheckOptions, InitOptions, Local, LocalTree, LocalTreeOptions, Repository, RestoreOptions,
//!     Secret, Selector, Silent, SnapshotFilter,
//! };
//!
//! # let scratch = tempfile::tempdir().expect("a scratch directory");
//! # let (vault, data, target) = (scratch.path().join("v"), scratch.path().join("d"), scratch.path().join("t"));
//! # std::fs::create_dir(&data).expect("a directory");
//! # std::fs::write(data.join("letter"), "Dear reader").expect("a file");
//! // Once. Keep the key file's text, and the recovery kit on paper: nothing else opens the repository.
//! let (secret, key_file) = Secret::generate_key()?;
//! Repository::init(Arc::new(Local::new(&vault)), &secret, &InitOptions::new())?;
//!
//! // Every night.
//! let repository = Repository::open(Arc::new(Local::new(&vault)), &secret)?;
//! let source = LocalTree::new(&[data.clone()], LocalTreeOptions::new())?;
//! let report = repository.backup(&source, &BackupOptions::new().host("laptop").tag("nightly"), &Silent)?;
//! assert_eq!(report.summary.problems, 0);
//!
//! // To be sure.
//! assert!(repository.check(&CheckOptions::new().read_data(), &Silent)?.is_whole());
//!
//! // When it is needed.
//! let newest = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new().tag("nightly"))?;
//! let options = RestoreOptions::new().subpath(data.as_os_str().as_encoded_bytes());
//! repository.restore(&newest, &target, &options, &Silent)?;
//! assert_eq!(std::fs::read(target.join("letter")).expect("it is back"), b"Dear reader");
//! # Ok::<(), repo_core::Error>(())
//! ```
//!
//! # What there is
//!
//! - [`Repository`]: always open, always unlocked; `Send`, `Sync` and cheap to clone. Its verbs take the subject, then
//!   options, then a [`Progress`]: [`init`](Repository::init), [`open`](Repository::open),
//!   [`backup`](Repository::backup), [`restore`](Repository::restore), [`check`](Repository::check),
//!   [`read`](Repository::read), [`list`](Repository::list), [`snapshots`](Repository::snapshots),
//!   [`snapshot`](Repository::snapshot), [`repair_parity`](Repository::repair_parity),
//!   [`describe_pack`](Repository::describe_pack) and [`describe_index`](Repository::describe_index) for those who look
//!   closer, and key slots from [`add_key`](Repository::add_key) to
//!   [`recovery_kit`](Repository::recovery_kit).
//! - [`Browser`], of [`browse`](Repository::browse): all snapshots as one tree of directories, to be walked, listed and read
//!   piece by piece, as a mount or a server needs it.
//! - [`Backend`]: where objects lie. [`Local`] is a directory, [`Memory`] is gone with the process, [`Limited`] slows
//!   another down, [`AppendOnly`] only adds; six promises make one of your own.
//! - [`Source`]: what is backed up. [`LocalTree`] is paths of this machine, [`ReaderSource`] a stream, [`TarSource`] an
//!   archive; anything with names and contents can be one.
//! - [`ClientState`]: what a client keeps outside the repository, by which it notices that the repository went back.
//! - [`Secret`]: a password, a key file or a recovery kit.
//!
//! Options are built by `new()` and one call a wish; reports are plain structs. Both may gain fields.
//!
//! # What to rely on
//!
//! - **Errors.** A verb fails ([`Error`]) only if it could not do its work. One file that cannot be read, one damaged
//!   object, one owner that cannot be set is an [`Event::Problem`] or an entry of the report, and the verb goes on:
//!   look at `problems`, and at [`CheckReport::is_whole`]. A panic inside [`backup`](Repository::backup) or
//!   [`check`](Repository::check) becomes [`Error::Bug`].
//! - **Crashes.** A snapshot is published by one write, after all that it needs is durable. Ended at any moment, a
//!   backup leaves every published snapshot whole, and the next run uses what was uploaded.
//! - **Several at once.** Any number of processes may back up, restore and check one repository at the same time,
//!   without locks.
//! - **Threads and memory.** Verbs are synchronous and end before they return. They use
//!   [`with_threads`](Repository::with_threads) threads for the work (default: one a core) and a few that mostly
//!   wait; [`BackupOptions::memory_bytes`] bounds the plaintext under way. An async service runs them on a thread of
//!   its own and cancels through [`Progress::is_cancelled`].
//! - **Silence.** The library never prints, asks, or reads environment variables. What a snapshot records of host, user
//!   and program comes from the options, and its time too if you like ([`BackupOptions::time_ns`]).
//! - **Units.** Sizes are bytes, times are nanoseconds since 1970 UTC (where a name does not say otherwise), paths and
//!   names within a snapshot are raw bytes.
//!
//! Whole programs are in `examples/`: `main_job` (all verbs on files of your own), `embed_in_a_service`,
//! `not_a_directory`, `write_a_backend`.
//!
//! # The house
//!
//! Each module imports only from those below it; `ARCHITECTURE.md` tells why, and a test holds it.
//!
//! ```text
//! ops          verbs: backup, restore, check, list, read
//! repository   init, open, key slots, snapshots        walk, tree   entries in order; Merkle trees of them
//! store        chunks in, chunks out: index, packs, sessions
//! backend      objects by name: Local, Memory
//! seal, frame, crypto, chunker, pipeline, platform     bytes to bytes, threads, the operating system
//! format, codec                                        docs/format.md in code
//! id, error, progress                                  words
//! ```
//!
//! Algorithms and where they come from: BLAKE3 (names, key derivation), FastCDC (Xia et al., USENIX ATC 2016, and TPDS
//! 2020), zstd (RFC 8878), AES-256-GCM (NIST SP 800-38D), Argon2id (RFC 9106), Padmé (Nikitin et al., PoPETs 2019).
//! What each is used for, to the byte, is in `docs/format.md`.

// `internals` makes private rooms reachable, which need no documentation for users.
#![cfg_attr(not(feature = "internals"), warn(missing_docs))]

mod archive;
mod backend;
mod calendar;
mod chunker;
mod codec;
mod crypto;
mod error;
mod format;
mod frame;
mod id;
mod mutants;
mod ops;
mod parity;
mod pipeline;
mod platform;
mod progress;
mod repository;
mod seal;
mod store;
mod tree;
mod walk;
#[cfg(feature = "internals")]
mod world;

pub use bytes::Bytes;

pub use backend::policy;
pub use backend::{
    AppendOnly, Backend, Capabilities, Limited, Listed, Local, Memory, Mirrored, Prefix, Put, Removal, Span,
};
pub use crypto::{PasswordCost, Secret};
pub use error::{BackendError, BackendErrorKind, Corruption, Error, Result, RollbackSign};
pub use format::client_state::ClientState;
pub use format::config::{ChunkerParameters, Config, FrameParameters};
pub use format::known_place::KnownPlace;
pub use format::snapshot::{LineageRecord, Root, SnapshotRecord, Summary};
pub use format::tree::{Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs};
pub use id::{
    ChunkId, ChunkKind, Doubled, GcStage, IndexId, NotAnId, ObjectName, OwnerId, PackId, PackKind, RepositoryId,
    SeriesId, SlotId, SnapshotId,
};
pub use ops::backup::{Alike, BackupOptions, BackupReport, Mode};
pub use ops::browse::{BrowseOptions, Browser, Item, ItemKind, ItemList, PathTemplate};
pub use ops::check::{CheckLevel, CheckOptions, CheckReport, Damage, Damaged, Loss, Subset, Touched, VerifiedPacks};
pub use ops::copy::{CopyOptions, CopyReport, CopyTarget, DamagedSource, PresentCopy};
pub use ops::diff::{Change, DiffCounts, DiffReport, Difference};
pub use ops::dump::{ArchiveFormat, DumpOptions, DumpReport};
pub use ops::find::{Finder, Wanted};
pub use ops::forget::calendar::{CalendarSpan, NotASpan, Period};
pub use ops::forget::freed::Freed;
pub use ops::forget::group::{GroupBy, GroupKey};
pub use ops::forget::guard::{Guard, Uncounted};
pub use ops::forget::plan::{ForgetGroup, ForgetOptions, ForgetPlan, ForgetReport};
pub use ops::forget::policy::{Candidate, Count, Decision, Policy, Reason, Zone};
pub use ops::mirror::{
    CrossCheckReport, CrossOptions, MirrorOptions, MirrorReport, Side, cross_check, mirror, promote,
};
pub use ops::prune::{PruneOptions, PruneReport, Unused, WeakStore, Writer};
pub use ops::recover::{RecoverOptions, RecoverReport};
pub use ops::repair::index::RepairIndexOptions;
pub use ops::repair::packs::{PackOutcome, RepairPacksOptions, RepairPacksReport, RepairedPack};
pub use ops::repair::parity::{ParityOptions, ParityReport, Unhealed};
pub use ops::repair::snapshots::{RepairSnapshotsOptions, RepairSnapshotsReport, RepairedSnapshot};
pub use ops::repair::{LostEntry, LostPart};
pub use ops::restore::{Overwrite, Owner, RestoreOptions, RestoreReport};
pub use ops::rewrite::{RewriteOptions, RewriteReport, RewrittenSnapshot};
pub use ops::stats::{RawStats, SnapshotStats, StatsMode, StatsReport};
pub use ops::tag::{ForgottenSnapshot, TagOptions, TagReport};
pub use progress::{Action, Event, Progress, Silent};
pub use repository::{
    ChunkDescription, FrameDescription, IndexDescription, IndexedPack, InitOptions, KeyInfo, KeyKind, Mended,
    OpenOptions, PackDescription, Repository, RotateOptions, Rotated, Selector, Sighting, Snapshot, SnapshotFilter,
    SnapshotList,
};
pub use store::IndexRepair;
pub use tree::StoredFile;
pub use walk::filter::{BadPattern, Patterns};
pub use walk::local::{LocalTree, LocalTreeOptions};
pub use walk::reader::ReaderSource;
pub use walk::streams::Streams;
pub use walk::tar::TarSource;
pub use walk::{
    Details, Entries, EntryStream, Source, SourceDirectory, SourceEntry, SourceFile, StreamedEntry, Unreadable,
};

/// What a program in front of this library needs of the machine it runs on.
pub mod system {
    #[cfg(target_os = "linux")]
    pub use crate::platform::frontend::unmount;
    pub use crate::platform::frontend::{
        TerminalModes, create_private_directories, create_private_file, ignores_signal, path_from_bytes, wait_readable,
    };
    pub use crate::platform::host::{CurrentUser, Names, current_user, host_name};
}

/// The back door for benches, fuzz targets and tests of this project. No promise of any kind.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub mod archive {
        pub use crate::archive::*;
    }
    pub mod backend {
        pub use crate::backend::*;
    }
    pub mod chunker {
        pub use crate::chunker::*;
    }
    pub mod codec {
        pub use crate::codec::*;
    }
    pub mod crypto {
        pub use crate::crypto::*;
    }
    pub mod error {
        pub use crate::error::*;
    }
    pub mod format {
        pub use crate::format::*;
    }
    pub mod frame {
        pub use crate::frame::*;
    }
    pub mod id {
        pub use crate::id::*;
    }
    #[cfg(feature = "mutants")]
    pub mod mutants {
        pub use crate::mutants::{activate, is_active};
    }
    pub mod parity {
        pub use crate::parity::*;
    }
    pub mod pipeline {
        pub use crate::pipeline::*;
    }
    pub mod platform {
        pub use crate::platform::*;
    }
    pub mod seal {
        pub use crate::seal::*;
    }
    pub mod store {
        pub use crate::store::*;

        /// The chunks of an open repository.
        pub fn of(repository: &crate::Repository) -> crate::Result<std::sync::Arc<Store>> {
            repository.fresh_store()
        }
    }
    pub mod tree {
        pub use crate::tree::*;
    }
    pub mod walk {
        pub use crate::walk::*;
    }
    pub mod world {
        pub use crate::world::*;
    }
}
