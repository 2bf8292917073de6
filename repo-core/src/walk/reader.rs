//! A single stream as a source: what `--stdin` backs up. It can be read once.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Details, Entries, Source, SourceDirectory, SourceEntry, SourceFile};
use crate::format::tree::{Metadata, NodeKind, Timestamp};
use crate::platform::source;

/// One file that comes from a reader.
///
/// The file's size is not known before the reader ends; metadata says 0. An error of the reader ends the backup
/// ([`Source::is_stream`]): give a reader that fails where its producer did (a command's exit status), and
/// no half stream is ever published.
#[derive(Debug)]
pub struct ReaderSource {
    /// The directories above the file, and the file.
    names: Arc<[Vec<u8>]>,
    metadata: Metadata,
    stream: Arc<Stream>,
}

/// The reader, until the file is opened.
struct Stream(Mutex<Option<Box<dyn io::Read + Send>>>);

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stream")
    }
}

impl ReaderSource {
    /// `path` is the file's name in the snapshot; its parent directories are made up. `.` and `..` are taken out of it;
    /// if nothing is left the file is called `stdin`. The file is `rw-r--r--`, directories are `rwxr-xr-x`, all belong
    /// to user 0 and were modified now, unless [`owner`](Self::owner) and [`modified`](Self::modified) say otherwise.
    pub fn new(path: &Path, reader: impl io::Read + Send + 'static) -> Self {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for name in source::path_bytes(path).split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name.to_vec()),
            }
        }
        if names.is_empty() {
            names.push(b"stdin".to_vec());
        }
        let stream = Arc::new(Stream(Mutex::new(Some(Box::new(reader)))));
        Self { names: names.into(), metadata: file_metadata(now()), stream }
    }

    /// When the file and its directories were modified.
    pub fn modified(mut self, time: Timestamp) -> Self {
        self.metadata.modified = time;
        self.metadata.changed = time;
        self
    }

    /// Whom the file and its directories belong to. Names may be empty.
    pub fn owner(mut self, uid: u32, user: &str, gid: u32, group: &str) -> Self {
        self.metadata.uid = uid;
        self.metadata.gid = gid;
        self.metadata.user = user.into();
        self.metadata.group = group.into();
        self
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs().try_into().unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
}

fn file_metadata(time: Timestamp) -> Metadata {
    Metadata { modified: time, changed: time, ..Metadata::unknown(NodeKind::File, 0o644) }
}

impl Source for ReaderSource {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Directory {
            names: self.names.clone(),
            depth: 0,
            metadata: self.metadata.clone(),
            stream: self.stream.clone(),
        }))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![self.names.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect()]
    }

    fn is_stream(&self) -> bool {
        true
    }
}

/// A made-up directory: it holds one entry.
#[derive(Debug)]
struct Directory {
    names: Arc<[Vec<u8>]>,
    depth: usize,
    metadata: Metadata,
    stream: Arc<Stream>,
}

impl Directory {
    fn entry(&self) -> SourceEntry {
        let mut metadata = self.metadata.clone();
        if self.depth + 1 < self.names.len() {
            metadata.kind = NodeKind::Directory;
            metadata.mode = 0o755;
        }
        SourceEntry { name: self.names[self.depth].clone(), metadata, descend: true }
    }

    fn check(&self, entry: &SourceEntry, kind: NodeKind) -> io::Result<()> {
        let own = self.entry();
        if entry.name == own.name && own.metadata.kind == kind {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

impl SourceDirectory for Directory {
    fn entries(&self) -> io::Result<Entries> {
        Ok(Box::new(std::iter::once(Ok(self.entry()))))
    }

    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        self.check(entry, NodeKind::Directory)?;
        Ok(Arc::new(Self {
            names: self.names.clone(),
            depth: self.depth + 1,
            metadata: self.metadata.clone(),
            stream: self.stream.clone(),
        }))
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        self.check(entry, NodeKind::File)?;
        let reader = self.stream.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = reader.ok_or_else(|| io::Error::other("a stream can be read only once"))?;
        Ok(Box::new(StreamFile { reader, position: 0, metadata: self.metadata.clone() }))
    }

    fn details(&self, _entry: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
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
mod tests {
    use super::*;

    fn only(directory: &Arc<dyn SourceDirectory>) -> SourceEntry {
        let mut entries = directory.entries().unwrap();
        let entry = entries.next().unwrap().unwrap();
        assert!(entries.next().is_none());
        entry
    }

    #[test]
    fn a_stream_lies_at_the_end_of_its_made_up_directories_and_is_read_once() {
        let time = Timestamp { seconds: -5, nanoseconds: 7 };
        let source = ReaderSource::new(Path::new("/a/./x/../b"), &b"content"[..]).modified(time).owner(5, "u", 6, "g");
        assert_eq!(source.paths(), [b"/a/b"]);
        assert!(source.is_stream());
        let root = source.root().unwrap();
        let directory = only(&root);
        assert_eq!((directory.name.as_slice(), directory.metadata.kind), (&b"a"[..], NodeKind::Directory));
        assert_eq!((directory.metadata.mode, directory.metadata.uid), (0o755, 5));
        assert!(root.open_file(&directory).is_err());
        let below = root.open_directory(&directory).unwrap();
        let entry = only(&below);
        assert_eq!((entry.name.as_slice(), entry.metadata.kind), (&b"b"[..], NodeKind::File));
        assert_eq!((entry.metadata.mode, entry.metadata.modified, entry.metadata.size), (0o644, time, 0));
        assert!(below.open_directory(&entry).is_err());
        let mut file = below.open_file(&entry).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 4);
        assert!(file.read_at(0, &mut buffer).is_err(), "a stream does not go back");
        assert_eq!(file.read_at(4, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"ent");
        assert_eq!(file.read_at(7, &mut buffer).unwrap(), 0);
        assert!(below.open_file(&entry).is_err(), "read once");
    }

    #[test]
    fn a_path_of_nothing_is_called_stdin() {
        assert_eq!(ReaderSource::new(Path::new("/.."), io::empty()).paths(), [b"/stdin"]);
    }

    #[test]
    fn an_error_of_the_reader_comes_through_and_an_interruption_does_not() {
        struct Failing(u32);
        impl io::Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(if self.0 == 1 { io::ErrorKind::Interrupted.into() } else { io::Error::other("exit status 1") })
            }
        }
        let root = ReaderSource::new(Path::new("x"), Failing(0)).root().unwrap();
        let mut file = root.open_file(&only(&root)).unwrap();
        assert_eq!(file.read_at(0, &mut [0; 8]).unwrap_err().to_string(), "exit status 1");
    }
}
