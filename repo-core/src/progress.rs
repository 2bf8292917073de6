//! What a running verb tells, and the one question it asks. Drawing is the caller's business.

use std::path::Path;

/// Something that happened while a verb ran. Sizes are in bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What is known of the whole so far; comes again as more is known.
    Total {
        /// Entries, directories too; packs, where `check` reads them.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Work on this path begins.
    Started {
        /// Within the snapshot.
        path: &'a Path,
    },
    /// An entry is done: how it compared with the parent snapshot, or with the target.
    Done {
        /// Within the snapshot.
        path: &'a Path,
        /// How it compared.
        action: Action,
        /// The size of a file; 0 for a directory.
        bytes: u64,
    },
    /// Bytes were processed (read by backup, holes and moved files too, written by restore, verified by check).
    Bytes {
        /// Since the last such event.
        count: u64,
    },
    /// An entry could not be handled; the verb goes on and counts it.
    Problem {
        /// Which entry.
        path: &'a Path,
        /// What was tried, such as "opening the file".
        during: &'static str,
        /// Why it failed.
        message: &'a str,
    },
    /// Something that the user should know, and that is no failure.
    Note {
        /// In words.
        message: &'a str,
    },
    /// A verb of several steps begins its next one.
    Stage {
        /// In a word or two.
        name: &'static str,
    },
}

/// What was done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Not in the parent snapshot, or created in the target.
    New,
    /// Differs from the parent snapshot, or was changed in the target.
    Modified,
    /// As in the parent snapshot, or already so in the target.
    Unchanged,
    /// Removed from the target.
    Deleted,
}

/// Hears what a verb does, and may stop it. Called from several threads at once.
///
/// ```
/// # use std::sync::Arc;
/// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
/// # let (secret, _key_file) = Secret::generate_key()?;
/// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
/// use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
///
/// use repo_core::{BackupOptions, Error, Event, Progress};
///
/// /// Counts what was read, and stops when it is told to.
/// #[derive(Default)]
/// struct Meter {
///     read_bytes: AtomicU64,
///     stop: AtomicBool,
/// }
///
/// impl Progress for Meter {
///     fn report(&self, event: Event<'_>) {
///         if let Event::Bytes { count } = event {
///             self.read_bytes.fetch_add(count, Ordering::Relaxed);
///         }
///     }
///
///     fn is_cancelled(&self) -> bool {
///         self.stop.load(Ordering::Relaxed)
///     }
/// }
///
/// # let source = || ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
/// let meter = Meter::default();
/// repository.backup(&source(), &BackupOptions::new(), &meter)?;
/// assert_eq!(meter.read_bytes.load(Ordering::Relaxed), 8);
///
/// meter.stop.store(true, Ordering::Relaxed);
/// let stopped = repository.backup(&source(), &BackupOptions::new(), &meter);
/// assert!(matches!(stopped, Err(Error::Cancelled)));
/// # Ok::<(), repo_core::Error>(())
/// ```
pub trait Progress: Send + Sync {
    /// Takes one event. Must return soon: the caller is at work.
    fn report(&self, event: Event<'_>);

    /// Asked often; `true` ends the verb with [`Error::Cancelled`](crate::Error::Cancelled), nothing half published.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event<'_>) {}
}
