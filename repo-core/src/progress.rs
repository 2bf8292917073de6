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
    /// Bytes were processed (read by backup, written by restore, verified by check).
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
    /// Left out by a filter.
    Excluded,
}

/// Hears what a verb does, and may stop it. Called from several threads at once.
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
