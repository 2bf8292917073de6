//! Dump: a directory of a snapshot, written as an archive to a stream, in one pass and in the order of the tree.
//!
//! Beside the walk (a few tree nodes), one frame of content and the names of hard links whose others are still to come,
//! nothing is kept: an archive of any size takes the same memory. Only a zip archive ends with a directory of all its
//! entries, which is kept until then.

mod regions;

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::lookup::{self, Allowance, DEPTH_MAX, Listing};
use crate::archive::compression::Compressor;
use crate::archive::tar::{self, MapSize, Shape, TarWriter};
use crate::archive::zip::ZipWriter;
use crate::error::{Error, Result};
use crate::format::tree::{Content, ExtentKind, Node, NodeKind, Xattrs, decode_xattrs};
use crate::id::ChunkKind;
use crate::platform::target::as_path;
use crate::progress::{Action, Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::store::Store;
use crate::tree::{self, StoredFile};

use regions::regions;

/// Directories whose leaves are in memory at once; those above are read again when their turn comes.
const OPEN_MAX: usize = 64;
/// Content is read and written in pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// tar of POSIX.1-2001 ("pax"): everything but sockets. Attributes, holes and inode flags are written as GNU tar and
    /// bsdtar understand them.
    #[default]
    Tar,
    /// The same, compressed by zstd (RFC 8878).
    TarZstd,
    /// zip: files, directories and symlinks, with modes, owners' numbers and times in whole seconds. Each of several hard
    /// links is a file of its own.
    Zip,
}

/// How a dump is made. `new()` gives the defaults.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DumpOptions {
    /// The form of the archive.
    pub format: ArchiveFormat,
    /// A directory of the snapshot; names in the archive are told from here on. It has no entry itself.
    pub relative_to: Vec<u8>,
}

impl DumpOptions {
    /// tar, with names from the snapshot's top on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The form of the archive.
    pub fn format(mut self, format: ArchiveFormat) -> Self {
        self.format = format;
        self
    }

    /// Names in the archive begin below this directory, raw bytes.
    pub fn relative_to(mut self, directory: impl Into<Vec<u8>>) -> Self {
        self.relative_to = directory.into();
        self
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DumpReport {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of files' content, holes too.
    pub bytes: u64,
    /// Entries that such an archive cannot hold; each was an [`Event::Note`].
    pub left_out: u64,
}

impl Repository {
    /// Writes what is at `path` (raw bytes; empty: everything) to `out` as an archive. The same snapshot gives the same
    /// bytes each time.
    ///
    /// # Errors
    /// What cannot be read whole ends it, as [`Error::Entry`] with the path: an archive cannot take back what it began,
    /// so what was written until then is incomplete and ends without its mark. [`Error::Output`] if `out` fails;
    /// [`Error::Path`] if the path is not in the snapshot, or not below `relative_to`; [`Error::Cancelled`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{ArchiveFormat, BackupOptions, DumpOptions, Selector, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// # let newest = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())?;
    /// let mut archive = Vec::new();
    /// let options = DumpOptions::new().format(ArchiveFormat::Zip);
    /// let report = repository.dump(&newest, b"/notes", &mut archive, &options, &Silent)?;
    /// assert_eq!((report.entries, report.bytes), (2, 8), "the directory and the file");
    /// assert!(archive.starts_with(b"PK"));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn dump(
        &self,
        snapshot: &Snapshot,
        path: &[u8],
        out: &mut dyn Write,
        options: &DumpOptions,
        progress: &dyn Progress,
    ) -> Result<DumpReport> {
        let store = self.store()?;
        let path = normal(path);
        let skipped = normal(&options.relative_to).len();
        if !path.starts_with(&normal(&options.relative_to)) || path.get(skipped).is_some_and(|byte| *byte != b'/') {
            return Err(Error::Path { path: as_path(&path).to_owned(), problem: "is not below the directory named" });
        }
        let archive = Archive::new(options.format, out).map_err(Error::Output)?;
        let links = HashMap::new();
        let report = DumpReport::default();
        let mut dump = Dump { store: &store, archive, progress, skipped, links, report, buffer: vec![0; BUFFER_BYTES] };
        dump.walk(snapshot, path)?;
        dump.archive.finish().map_err(Error::Output)?;
        Ok(dump.report)
    }
}

/// Beginning with `/` and without one at the end; empty for the top.
fn normal(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.flat_map(|name| [b"/", name].concat()).collect()
}

/// One dump.
struct Dump<'a> {
    store: &'a Arc<Store>,
    archive: Archive<'a>,
    progress: &'a dyn Progress,
    /// Bytes of a path that names in the archive do without.
    skipped: usize,
    links: HashMap<(u64, u64), First>,
    report: DumpReport,
    buffer: Vec<u8>,
}

/// The first of several hard links.
struct First {
    /// In the archive.
    path: Vec<u8>,
    kind: NodeKind,
    content: Content,
    /// Names still to come.
    left: u32,
}

/// An archive being written.
enum Archive<'a> {
    Tar(TarWriter<Compressor<&'a mut dyn Write>>),
    Zip(Box<ZipWriter<&'a mut dyn Write>>),
}

impl<'a> Archive<'a> {
    fn new(format: ArchiveFormat, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            ArchiveFormat::Tar => Self::Tar(TarWriter::new(Compressor::Plain(out))),
            ArchiveFormat::TarZstd => Self::Tar(TarWriter::new(Compressor::zstd(out)?)),
            ArchiveFormat::Zip => Self::Zip(Box::new(ZipWriter::new(out))),
        })
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tar(tar) => tar.content(bytes),
            Self::Zip(zip) => zip.content(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Tar(tar) => tar.finish()?.finish(),
            Self::Zip(zip) => zip.finish().map(drop),
        }
    }

    /// What such an archive cannot hold, in words.
    fn refuses(&self, kind: NodeKind) -> Option<&'static str> {
        match (self, kind) {
            (_, NodeKind::Socket) => Some("a socket, which no archive holds"),
            (Self::Zip(_), NodeKind::Fifo) => Some("a fifo, which a zip archive does not hold"),
            (Self::Zip(_), NodeKind::BlockDevice | NodeKind::CharDevice) => {
                Some("a device, which a zip archive does not hold")
            }
            _ => None,
        }
    }
}

impl Dump<'_> {
    fn walk(&mut self, snapshot: &Snapshot, mut path: Vec<u8>) -> Result<()> {
        let mut allowance = Allowance::of(snapshot);
        let store = self.store.clone();
        let top = match lookup::find(&store, snapshot, &path)? {
            None => lookup::root(snapshot),
            Some(node) => {
                if path.len() > self.skipped {
                    self.entry(&path, &node)?;
                }
                lookup::subtree(&node)
            }
        };
        let mut levels = vec![(path.len(), Listing::new(&store, top))];
        while let Some((length, listing)) = levels.last_mut() {
            path.truncate(*length);
            let Some(node) = listing.next().transpose().map_err(|error| of_entry(&path, error))? else {
                levels.pop();
                continue;
            };
            allowance.take(&node.metadata)?;
            path.push(b'/');
            path.extend_from_slice(&node.name);
            self.entry(&path, &node)?;
            if let Some(below) = lookup::subtree(&node) {
                if levels.len() >= DEPTH_MAX {
                    return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
                }
                if let Some(at) = levels.len().checked_sub(OPEN_MAX) {
                    levels[at].1.put_aside();
                }
                levels.push((path.len(), Listing::new(&store, Some(below))));
            }
        }
        Ok(())
    }

    fn entry(&mut self, full: &[u8], node: &Node) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let shown = as_path(full);
        if lookup::check_node(node).is_err() {
            return Err(Error::Path { path: shown.to_owned(), problem: "is malformed" });
        }
        if let Some(why) = self.archive.refuses(node.metadata.kind) {
            self.report.left_out += 1;
            self.progress.report(Event::Note { message: &format!("{}: {why}; it was left out", shown.display()) });
            return Ok(());
        }
        self.progress.report(Event::Started { path: shown });
        let path = &full[self.skipped + 1..];
        match self.archive {
            Archive::Tar(_) => self.tar_entry(path, node),
            Archive::Zip(_) => self.zip_entry(path, node),
        }
        .map_err(|error| of_entry(full, error))?;
        let bytes = lookup::content_bytes(&node.metadata);
        self.report.entries += 1;
        self.report.bytes += bytes;
        self.progress.report(Event::Done { path: shown, action: Action::New, bytes });
        Ok(())
    }

    fn zip_entry(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let Archive::Zip(zip) = &mut self.archive else { return Ok(()) };
        let target: &[u8] = if let Content::Symlink(target) = &node.content { target } else { b"" };
        zip.entry(path, &node.metadata, target).map_err(Error::Output)?;
        self.content(node, 0..node.metadata.size)
    }

    fn tar_entry(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let xattrs = self.xattrs(node)?;
        let first = self.first_name(path, node);
        let map = if first.is_none() { self.map(node)? } else { None };
        let shape = match (&first, &map, &node.content) {
            (Some(first), ..) => Shape::HardLink(first),
            (None, Some(map), _) => Shape::Sparse { stored_bytes: map.stored_bytes() },
            (None, None, Content::Symlink(target)) => Shape::Symlink(target),
            _ => Shape::Whole,
        };
        let entry = tar::Entry { path, metadata: &node.metadata, xattrs: &xattrs, shape };
        let Archive::Tar(tar) = &mut self.archive else { return Ok(()) };
        tar.entry(&entry).map_err(Error::Output)?;
        let size = node.metadata.size;
        match map {
            _ if first.is_some() => Ok(()),
            None => self.content(node, 0..size),
            Some(map) => {
                tar.map_begins(&map).map_err(Error::Output)?;
                for region in regions(self.store, node) {
                    tar.map_region(region?).map_err(Error::Output)?;
                }
                tar.map_ends(&map).map_err(Error::Output)?;
                regions(self.store, node).try_for_each(|region| {
                    let region = region?;
                    self.content(node, region.start..region.end)
                })
            }
        }
    }

    /// The name in the archive of which this is another one.
    fn first_name(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        let metadata = &node.metadata;
        if metadata.links < 2 || metadata.kind == NodeKind::Directory {
            return None;
        }
        let key = (metadata.device, metadata.inode);
        if let Some(first) = self.links.get_mut(&key)
            // A file may have changed between two looks at it, or its number been given to another.
            && first.kind == metadata.kind
            && first.content == node.content
        {
            first.left -= 1;
            let path = first.path.clone();
            if first.left == 0 {
                self.links.remove(&key);
            }
            return Some(path);
        }
        let first =
            First { path: path.to_vec(), kind: metadata.kind, content: node.content.clone(), left: metadata.links - 1 };
        self.links.insert(key, first);
        None
    }

    /// Where the data of a file with holes lies; `None` if it has none.
    fn map(&self, node: &Node) -> Result<Option<MapSize>> {
        let mut extents = tree::extents(self.store, &node.content, 0);
        let has_hole = extents
            .try_fold(false, |found, extent| extent.map(|(_, extent)| found || extent.kind == ExtentKind::Hole))?;
        if !has_hole {
            return Ok(None);
        }
        let mut map = MapSize::default();
        regions(self.store, node).try_for_each(|region| region.map(|region| map.add(region)))?;
        Ok(Some(map))
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match &node.xattrs {
            Xattrs::Inline(xattrs) => Ok(xattrs.clone()),
            Xattrs::Chunk(id) => {
                let bytes = self.store.get(ChunkKind::Xattr, id)?;
                decode_xattrs(&bytes).map_err(|problem| self.store.corrupt(ChunkKind::Xattr, id, problem))
            }
        }
    }

    /// Writes a part of a file's content.
    fn content(&mut self, node: &Node, part: std::ops::Range<u64>) -> Result<()> {
        let mut file = StoredFile::new(self.store.clone(), node.content.clone(), node.metadata.size);
        file.seek(SeekFrom::Start(part.start)).map_err(of_repository)?;
        let mut left = part.end - part.start;
        while left > 0 {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = file.read(&mut self.buffer[..wanted]).map_err(of_repository)?;
            if count == 0 {
                return Err(Error::Malformed("a file that ends before its size"));
            }
            self.archive.content(&self.buffer[..count]).map_err(Error::Output)?;
            left -= count as u64;
            self.progress.report(Event::Bytes { count: count as u64 });
        }
        Ok(())
    }
}

/// The library's own error in one of the standard library.
fn of_repository(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Bug(format!("reading a stored file: {error}")),
    }
}

/// Names the entry where the error says something of it.
fn of_entry(path: &[u8], error: Error) -> Error {
    match error {
        Error::ChunkLost { .. } | Error::Corrupt { .. } | Error::CorruptChunk { .. } | Error::Malformed(_) => {
            let path = if path.is_empty() { b"/" } else { path };
            Error::Entry { path: as_path(path).to_owned(), source: Box::new(error) }
        }
        error => error,
    }
}
