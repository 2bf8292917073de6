//! One walk: every tree, on disk or in a snapshot, is an ordered stream of entries, so that two can be walked in step.
//! A walk knows no packs and no keys.

use std::io;
use std::sync::Arc;

use crate::format::tree::Metadata;

pub mod filter;
pub mod local;
pub mod reader;
pub mod streams;
pub mod tar;

/// Something that can be backed up: a tree of entries, not necessarily a directory.
///
/// ```
/// # use std::sync::Arc;
/// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
/// # let (secret, _key_file) = Secret::generate_key()?;
/// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
/// use std::path::Path;
///
/// use repo_core::{BackupOptions, Silent, Source};
///
/// // The output of a program, or anything else that can be read once.
/// let dump = ReaderSource::new(Path::new("/dumps/orders.sql"), &b"CREATE TABLE orders"[..]);
/// assert_eq!(dump.paths(), [b"/dumps/orders.sql"]);
/// let report = repository.backup(&dump, &BackupOptions::new(), &Silent)?;
/// assert_eq!(report.summary.processed_bytes, 19);
/// # Ok::<(), repo_core::Error>(())
/// ```
///
/// A source of one's own, whose entries come from memory, is shown whole in `examples/not_a_directory.rs`.
pub trait Source: Send + Sync {
    /// The top level. Its entries are what a snapshot's root shows.
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>>;

    /// What the snapshot records as its paths.
    fn paths(&self) -> Vec<Vec<u8>>;

    /// Whether its files are streams: their size is not known before they end (metadata says 0), they are read once and
    /// in ascending order, and an error while reading means that the whole is worth nothing: then a backup fails and
    /// publishes no snapshot, where for other sources it would name a problem and go on.
    fn is_stream(&self) -> bool {
        false
    }

    /// Whether it, or a file in it, can be read a single time: then a backup that would have to begin again fails instead.
    fn is_read_once(&self) -> bool {
        self.is_stream()
    }

    /// Its entries in whatever order they come, for a source that can only be read from its beginning to its end: an
    /// archive. If it gives any, [`root`](Self::root) is not asked for, and nothing is published unless all of it was read.
    fn in_any_order(&self) -> Option<Box<dyn EntryStream>> {
        None
    }

    /// What was met so far that should be said and is no failure (a repository that was left out), each once.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What an iteration yields: an entry, or something that is there and cannot be told of, with its name.
pub type Entries = Box<dyn Iterator<Item = Result<SourceEntry, Unreadable>> + Send>;

/// An entry of the source that could not be looked at: a named problem, never the end of a run.
#[derive(Debug)]
pub struct Unreadable {
    /// The entry's name; empty if the directory's own listing broke off.
    pub name: Vec<u8>,
    /// What was tried: "reading the directory", "looking at the entry".
    pub during: &'static str,
    /// Why it failed.
    pub error: io::Error,
}

/// One entry of a source.
#[derive(Debug, Clone)]
pub struct SourceEntry {
    /// Raw bytes.
    pub name: Vec<u8>,
    /// One look at it, without following links.
    pub metadata: Metadata,
    /// False where only the name may be recorded but nothing below it read (another file system, a cache directory).
    pub descend: bool,
}

/// A directory of a source. Handles are cheap to keep: a source closes and opens descriptors as it must.
pub trait SourceDirectory: Send + Sync {
    /// The entries, ascending by raw name bytes, filters applied. One at a time, so that 10^6 are never in memory whole.
    /// The order must be the same as that of names in a tree.
    fn entries(&self) -> Result<Entries, io::Error>;

    /// A directory below this one, which must still be the one that was looked at.
    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>>;

    /// A file, without following links and without blocking; it must still be the one that was looked at.
    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>>;

    /// What is asked only of changed entries: link target, extended attributes, inode flags.
    fn details(&self, entry: &SourceEntry) -> io::Result<Details>;

    /// Whether device, inode and birth time name one thing here for as long as it exists, wherever it is moved to: the
    /// numbers are written down, and not made up as names are looked up. A backup does not read again what it finds by
    /// them under another path, so a wrong yes loses data. No (the default) costs reading what was moved.
    fn numbers_last(&self) -> bool {
        false
    }

    /// Whether this file is a stream, in the sense of [`Source::is_stream`], of a source that has other files too.
    fn is_stream(&self, _entry: &SourceEntry) -> bool {
        false
    }
}

/// What is asked only of changed entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Of a symlink.
    pub link_target: Vec<u8>,
    /// Ascending by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// inode flags.
    pub flags: u32,
    /// Attributes or flags that could not be read, in words; the entry is stored without them and it is said.
    pub problems: Vec<String>,
}

/// An open file of a source.
pub trait SourceFile: Send {
    /// Reads at `offset`; 0 is the end. May return less than asked for.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The next run of data at or after `offset`, as `start..end`; `None` if only a hole follows.
    /// The default knows no holes.
    fn next_data(&mut self, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        Ok((offset < size).then_some((offset, size)))
    }

    /// A second look, through the open descriptor.
    fn metadata(&mut self) -> io::Result<Metadata>;

    /// Extended attributes and flags, through the open descriptor.
    fn details(&mut self) -> io::Result<Details>;
}

/// The entries of a source that cannot be asked for them by name, each with its whole path.
pub trait EntryStream: Send {
    /// The next entry; `None` after the last. What was not read of the one before is passed over. Where a path comes
    /// twice, the later counts. Directories that never come are made up.
    fn next(&mut self) -> io::Result<Option<StreamedEntry>>;

    /// The next bytes of the last entry's data, that of its holes left out; 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// One entry of an [`EntryStream`].
#[derive(Debug, Clone)]
pub struct StreamedEntry {
    /// Names from the top with `/` between them, raw bytes.
    pub path: Vec<u8>,
    /// Its size is the file's, holes too.
    pub metadata: Metadata,
    /// Link target, extended attributes, inode flags.
    pub details: Details,
    /// Of a file the runs of its data, as `start..end`, ascending.
    pub data: Vec<(u64, u64)>,
    /// It is another name of the entry that came under this path before; then nothing else of it counts.
    pub hard_link: Option<Vec<u8>>,
}
