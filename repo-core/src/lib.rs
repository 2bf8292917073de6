//! A content-addressed, deduplicating, encrypted backup repository.

// `internals` makes private rooms reachable, which need no documentation for users.
#![cfg_attr(not(feature = "internals"), warn(missing_docs))]

mod backend;
mod chunker;
mod codec;
mod crypto;
mod error;
mod format;
mod frame;
mod id;
mod ops;
mod pipeline;
mod platform;
mod progress;
mod repository;
mod seal;
mod store;
mod tree;
mod walk;

pub use bytes::Bytes;

pub use backend::{Backend, Capabilities, Listed, Local, Memory, Prefix, Put, Removal, Span};
pub use crypto::{PasswordCost, Secret};
pub use error::{BackendError, BackendErrorKind, Corruption, Error, Result};
pub use format::config::{ChunkerParameters, Config};
pub use format::snapshot::{LineageRecord, Root, SnapshotRecord, Summary};
pub use format::tree::{Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs};
pub use id::{
    ChunkId, ChunkKind, Doubled, IndexId, NotAnId, ObjectName, PackId, PackKind, RepositoryId, SeriesId, SlotId,
    SnapshotId,
};
pub use ops::backup::{BackupOptions, BackupReport, Mode};
pub use ops::check::{CheckOptions, CheckReport};
pub use ops::read::StoredFile;
pub use ops::restore::{Overwrite, RestoreOptions, RestoreReport};
pub use progress::{Action, Event, Progress, Silent};
pub use repository::{InitOptions, KeyInfo, KeyKind, Repository, Selector, Snapshot, SnapshotFilter, SnapshotList};
pub use walk::filter::{BadPattern, Patterns};
pub use walk::local::{LocalTree, LocalTreeOptions};
pub use walk::reader::ReaderSource;
pub use walk::{Details, Entries, Source, SourceDirectory, SourceEntry, SourceFile, Unreadable};

/// What a program in front of this library needs of the machine it runs on.
pub mod system {
    pub use crate::platform::frontend::{create_private_file, path_from_bytes};
    pub use crate::platform::host::{CurrentUser, current_user, host_name};
}

/// The back door for benches, fuzz targets and tests of this project. No promise of any kind.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
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
}
