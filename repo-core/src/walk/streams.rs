//! Streams as files of a source: several, each under a name of its own, alone or beside another source. What they come
//! from is the caller's business; each is read once, and only when its turn has come.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Details, Entries, Source, SourceDirectory, SourceEntry, SourceFile, Unreadable};
use crate::error::{Error, Result};
use crate::format::tree::{Metadata, NodeKind, Timestamp};
use crate::platform::{host, source};

/// A longer name could be stored, and restored nowhere: NAME_MAX of file systems.
const NAME_BYTES_MAX: usize = 255;
/// Directories above a stream, at most: as many as a path of 4096 bytes can name.
const DEPTH_MAX: usize = 2048;

/// Files that come from readers, and if asked for another source around them: dumps of databases beside the directory with
/// their settings, in one snapshot.
///
/// Readers are read one after another, in the order of their names in the snapshot, each not before its turn. A file's
/// size is not known before its reader ends; metadata says 0. An error of a reader ends the backup and no snapshot is
/// published: give a reader that fails where its producer did (a command's exit status). What cannot be read of the other
/// source is a problem of its entry, as ever.
///
/// ```
/// # use std::sync::Arc;
/// # use repo_core::{Memory, InitOptions, Repository, Secret};
/// # let (secret, _key_file) = Secret::generate_key()?;
/// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
/// use repo_core::{BackupOptions, LocalTree, LocalTreeOptions, Silent, Source, Streams};
///
/// # let scratch = tempfile::tempdir().expect("a scratch directory");
/// # std::fs::write(scratch.path().join("settings"), "port = 5432").expect("a file");
/// # let settings = scratch.path().to_owned();
/// let source = Streams::new()
///     .add("/dumps/orders.sql".as_ref(), &b"CREATE TABLE orders"[..])?
///     .add("/dumps/people.sql".as_ref(), &b"CREATE TABLE people"[..])?
///     .beside(LocalTree::new(&[settings], LocalTreeOptions::new())?)?;
/// let report = repository.backup(&source, &BackupOptions::new(), &Silent)?;
/// assert_eq!(report.summary.files_new, 3);
///
/// // No two under one name, and none below another.
/// let streams = Streams::new().add("a".as_ref(), std::io::empty())?;
/// assert!(streams.add("a/b".as_ref(), std::io::empty()).is_err());
/// # Ok::<(), repo_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Streams {
    top: Arc<Places>,
    metadata: Metadata,
    beside: Option<Beside>,
}

/// Names of one level.
type Places = BTreeMap<Vec<u8>, Place>;

/// What is under a name.
#[derive(Debug, Clone)]
enum Place {
    Stream(Arc<Stream>),
    Directory(Arc<Places>),
}

/// The reader, until the file is opened.
struct Stream(Mutex<Option<Box<dyn io::Read + Send>>>);

struct Beside(Box<dyn Source>);

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stream")
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.paths().iter().map(|path| String::from_utf8_lossy(path))).finish()
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Streams {
    /// No files yet. They will be `rw-r--r--` and directories `rwxr-xr-x`, all belong to user 0 and were modified now,
    /// unless [`owner`](Self::owner) and [`modified`](Self::modified) say otherwise.
    pub fn new() -> Self {
        let metadata = Metadata::unknown(NodeKind::File, 0o644);
        Self { top: Arc::default(), metadata, beside: None }.modified(host::now())
    }

    /// Adds a file. `path` is its name in the snapshot; its parent directories are made up.
    ///
    /// # Errors
    /// [`Error::Usage`] for a path of no names, with `..` or a NUL in it, or with a name of over 255 bytes; for one that is
    /// there already, lies below another file, or above one.
    pub fn add(mut self, path: &Path, reader: impl io::Read + Send + 'static) -> Result<Self> {
        let shown = || String::from_utf8_lossy(source::path_bytes(path)).into_owned();
        let names: Vec<&[u8]> =
            source::path_bytes(path).split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        let is_name = |name: &&[u8]| *name != b".." && !name.contains(&0) && name.len() <= NAME_BYTES_MAX;
        if names.len() > DEPTH_MAX || !names.iter().all(is_name) {
            return Err(Error::Usage(format!("{:?} is no name for a file of a snapshot", shown())));
        }
        let Some((file, above)) = names.split_last() else {
            return Err(Error::Usage(format!("{:?} names no file", shown())));
        };
        let taken = || Error::Usage(format!("{:?}: another file has this name, or lies above or below it", shown()));
        let mut at = Arc::make_mut(&mut self.top);
        for name in above {
            let place = at.entry(name.to_vec()).or_insert_with(|| Place::Directory(Arc::default()));
            at = match place {
                Place::Directory(below) => Arc::make_mut(below),
                Place::Stream(_) => return Err(taken()),
            };
        }
        match at.entry(file.to_vec()) {
            btree_map::Entry::Occupied(_) => return Err(taken()),
            btree_map::Entry::Vacant(free) => {
                free.insert(Place::Stream(Arc::new(Stream(Mutex::new(Some(Box::new(reader)))))))
            }
        };
        Ok(self)
    }

    /// One file, by names that are taken as they are.
    pub(super) fn of_one(names: Vec<Vec<u8>>, reader: impl io::Read + Send + 'static) -> Self {
        let stream = Place::Stream(Arc::new(Stream(Mutex::new(Some(Box::new(reader))))));
        let top =
            names.into_iter().rev().fold(stream, |below, name| Place::Directory(Arc::new([(name, below)].into())));
        match top {
            Place::Directory(top) => Self { top, ..Self::new() },
            Place::Stream(_) => Self::new(),
        }
    }

    /// Puts the files among the entries of another source. Directories that both have are its own.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has an entry under the name of one of the files. One that comes later, while it is read, is a
    /// problem of that entry, and the stream is stored.
    pub fn beside(self, source: impl Source + 'static) -> Result<Self> {
        // What cannot be read here is told when the source is backed up.
        if let Ok(top) = source.root() {
            check(top.as_ref(), &self.top, &mut Vec::new())?;
        }
        Ok(Self { beside: Some(Beside(Box::new(source))), ..self })
    }

    /// When the files and the directories made up for them were modified.
    pub fn modified(mut self, time: Timestamp) -> Self {
        self.metadata.modified = time;
        self.metadata.changed = time;
        self
    }

    /// Whom they belong to. Names may be empty.
    pub fn owner(mut self, uid: u32, user: &str, gid: u32, group: &str) -> Self {
        self.metadata.uid = uid;
        self.metadata.gid = gid;
        self.metadata.user = user.into();
        self.metadata.group = group.into();
        self
    }
}

/// Whether the directory of a source leaves these names free.
fn check(directory: &dyn SourceDirectory, places: &Places, above: &mut Vec<u8>) -> Result<()> {
    let Ok(entries) = directory.entries() else { return Ok(()) };
    for entry in entries.flatten() {
        let Some(place) = places.get(&entry.name) else { continue };
        let length = above.len();
        above.extend([b"/", entry.name.as_slice()].concat());
        match place {
            Place::Directory(below) if entry.metadata.kind == NodeKind::Directory => {
                if entry.descend
                    && let Ok(directory) = directory.open_directory(&entry)
                {
                    check(directory.as_ref(), below, above)?;
                }
            }
            _ => {
                let path = String::from_utf8_lossy(above).into_owned();
                return Err(Error::Usage(format!("{path:?} is among what is backed up already; choose another name")));
            }
        }
        above.truncate(length);
    }
    Ok(())
}

impl Source for Streams {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        let base = self.beside.as_ref().map(|beside| beside.0.root()).transpose()?;
        Ok(Level::new(base.map(Ok), self.top.clone(), self.metadata.clone()))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        let mut paths = self.beside.as_ref().map(|beside| beside.0.paths()).unwrap_or_default();
        let mut under_way = vec![(Vec::new(), &self.top)];
        while let Some((above, places)) = under_way.pop() {
            for (name, place) in places.iter() {
                let path = [&above, b"/".as_slice(), name].concat();
                match place {
                    Place::Stream(_) => paths.push(path),
                    Place::Directory(below) => under_way.push((path, below)),
                }
            }
        }
        paths.sort_unstable();
        paths
    }

    fn is_stream(&self) -> bool {
        self.beside.as_ref().is_none_or(|beside| beside.0.is_stream())
    }

    fn is_read_once(&self) -> bool {
        true
    }

    fn notes(&self) -> Vec<String> {
        self.beside.as_ref().map(|beside| beside.0.notes()).unwrap_or_default()
    }
}

/// A directory: that of the other source if it has one, and the names of streams in it.
struct Level {
    base: Option<Arc<dyn SourceDirectory>>,
    /// Why the other source's could not be opened; told when the entries are asked for.
    failed: Mutex<Option<io::Error>>,
    places: Arc<Places>,
    metadata: Metadata,
    /// Directories of streams that the other source has too, and whether it would be read there.
    shared: Mutex<BTreeMap<Vec<u8>, bool>>,
}

#[derive(Clone)]
struct Directory(Arc<Level>);

impl Level {
    /// `base` is an error where the other source's directory could not be opened: streams below it are stored all the same.
    #[expect(clippy::new_ret_no_self, reason = "a level is used behind its handle alone")]
    fn new(
        base: Option<io::Result<Arc<dyn SourceDirectory>>>,
        places: Arc<Places>,
        metadata: Metadata,
    ) -> Arc<dyn SourceDirectory> {
        let (base, failed) = match base {
            Some(Ok(base)) => (Some(base), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let (failed, shared) = (Mutex::new(failed), Mutex::default());
        Arc::new(Directory(Arc::new(Self { base, failed, places, metadata, shared })))
    }

    /// The entry of a name that only the streams have.
    fn made_up(&self, name: &[u8], place: &Place) -> SourceEntry {
        let mut metadata = self.metadata.clone();
        if let Place::Directory(_) = place {
            metadata.kind = NodeKind::Directory;
            metadata.mode = 0o755;
        }
        SourceEntry { name: name.to_vec(), metadata, descend: true }
    }

    /// Whether the other source would be read below this name; `None`: it has no such directory.
    fn shared(&self, name: &[u8]) -> Option<bool> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn base(&self) -> io::Result<&dyn SourceDirectory> {
        self.base.as_deref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Both lists merged, ascending by name.
struct Merged {
    level: Arc<Level>,
    failed: Option<io::Error>,
    base: Option<Peekable<Entries>>,
    /// Of the streams.
    names: Peekable<std::vec::IntoIter<Vec<u8>>>,
}

impl Iterator for Merged {
    type Item = Result<SourceEntry, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(Unreadable { name: Vec::new(), during: "reading the directory", error }));
        }
        let name = self.names.peek();
        let order = match (self.base.as_mut().and_then(Peekable::peek), name) {
            (None, _) => Ordering::Greater,
            (Some(Ok(entry)), Some(name)) => entry.name.cmp(name),
            (Some(_), _) => Ordering::Less,
        };
        if order == Ordering::Greater {
            let name = self.names.next()?;
            return Some(Ok(self.level.made_up(&name, &self.level.places[&name])));
        }
        let entry = self.base.as_mut().and_then(Iterator::next)?;
        let Ok(mut entry) = entry else { return Some(entry) };
        if order == Ordering::Less {
            return Some(Ok(entry));
        }
        if matches!(self.level.places[&entry.name], Place::Directory(_)) && entry.metadata.kind == NodeKind::Directory {
            self.names.next();
            let mut shared = self.level.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.insert(entry.name.clone(), entry.descend);
            entry.descend = true;
            return Some(Ok(entry));
        }
        // It came since that was looked at. The name goes to the stream, which comes next.
        let error = io::Error::other("a stream is stored under this name");
        Some(Err(Unreadable { name: entry.name, during: "storing the entry", error }))
    }
}

impl SourceDirectory for Directory {
    fn entries(&self) -> io::Result<Entries> {
        let level = &self.0;
        let mut failed = level.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let base = match level.base.as_ref().map(|base| base.entries()) {
            Some(Ok(entries)) => Some(entries.peekable()),
            Some(Err(error)) => {
                failed = Some(error);
                None
            }
            None => None,
        };
        let names = level.places.keys().cloned().collect::<Vec<_>>().into_iter().peekable();
        Ok(Box::new(Merged { level: level.clone(), failed, base, names }))
    }

    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        let level = &self.0;
        let below = match level.places.get(&entry.name) {
            Some(Place::Directory(below)) if entry.metadata.kind == NodeKind::Directory => below,
            Some(Place::Stream(_)) => return Err(io::ErrorKind::NotFound.into()),
            // Nothing of the streams lies below.
            _ => return level.base()?.open_directory(entry),
        };
        let base = match level.shared(&entry.name) {
            Some(true) => Some(level.base()?.open_directory(entry)),
            Some(false) | None => None,
        };
        Ok(Level::new(base, below.clone(), level.metadata.clone()))
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        match self.0.places.get(&entry.name) {
            Some(Place::Stream(stream)) if entry.metadata.kind == NodeKind::File => {
                let reader = stream.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                let reader = reader.ok_or_else(|| io::Error::other("a stream can be read only once"))?;
                Ok(Box::new(StreamFile { reader, position: 0, metadata: self.0.metadata.clone() }))
            }
            Some(_) => Err(io::ErrorKind::NotFound.into()),
            None => self.0.base()?.open_file(entry),
        }
    }

    fn details(&self, entry: &SourceEntry) -> io::Result<Details> {
        match self.0.places.contains_key(&entry.name) && self.0.shared(&entry.name).is_none() {
            true => Ok(Details::default()),
            false => self.0.base()?.details(entry),
        }
    }

    fn numbers_last(&self) -> bool {
        self.0.base.as_ref().is_some_and(|base| base.numbers_last())
    }

    fn is_stream(&self, entry: &SourceEntry) -> bool {
        match self.0.places.get(&entry.name) {
            Some(place) => matches!(place, Place::Stream(_)),
            None => self.0.base.as_ref().is_some_and(|base| base.is_stream(entry)),
        }
    }
}

struct StreamFile {
    reader: Box<dyn io::Read + Send>,
    position: u64,
    metadata: Metadata,
}

impl SourceFile for StreamFile {
    /// Only where the reading before it ended: a stream cannot go back.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset != self.position {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a stream can be read only in order"));
        }
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let count = result?;
                    self.position += count as u64;
                    return Ok(count);
                }
            }
        }
    }

    /// All data, to an end that nobody knows.
    fn next_data(&mut self, offset: u64, _size: u64) -> io::Result<Option<(u64, u64)>> {
        Ok(Some((offset, u64::MAX)))
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(self.metadata.clone())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}

#[cfg(test)]
mod tests;
