//! A single stream as a source: what `--stdin` backs up. It can be read once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::streams::Streams;
use super::{Source, SourceDirectory};
use crate::format::tree::Timestamp;
use crate::platform::source;

/// One file that comes from a reader; of several, and of some beside another source, [`Streams`] is made.
///
/// The file's size is not known before the reader ends; metadata says 0. An error of the reader ends the backup
/// ([`Source::is_stream`]): give a reader that fails where its producer did (a command's exit status), and
/// no half stream is ever published.
#[derive(Debug)]
pub struct ReaderSource(Streams);

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
        Self(Streams::of_one(names, reader))
    }

    /// When the file and its directories were modified.
    pub fn modified(self, time: Timestamp) -> Self {
        Self(self.0.modified(time))
    }

    /// Whom the file and its directories belong to. Names may be empty.
    pub fn owner(self, uid: u32, user: &str, gid: u32, group: &str) -> Self {
        Self(self.0.owner(uid, user, gid, group))
    }
}

impl Source for ReaderSource {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        self.0.root()
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        self.0.paths()
    }

    fn is_stream(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::NodeKind;
    use crate::walk::SourceEntry;

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
