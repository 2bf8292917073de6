//! Reading one file of a snapshot, or a range of it, as a stream.

use std::io;

use crate::error::Result;
use crate::format::tree::Node;
use crate::repository::{Repository, Snapshot};

/// A file of a snapshot: `Read` and `Seek`. Holds one frame at a time.
#[derive(Debug)]
pub struct StoredFile {}

impl io::Read for StoredFile {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
}

impl io::Seek for StoredFile {
    fn seek(&mut self, _position: io::SeekFrom) -> io::Result<u64> {
        todo!()
    }
}

impl StoredFile {
    /// Its bytes.
    pub fn size(&self) -> u64 {
        todo!()
    }
}

impl Repository {
    /// Opens a file of a snapshot for reading.
    pub fn read(&self, _snapshot: &Snapshot, _path: &[u8]) -> Result<StoredFile> {
        todo!()
    }

    /// The entry at a path of a snapshot.
    pub fn node(&self, _snapshot: &Snapshot, _path: &[u8]) -> Result<Node> {
        todo!()
    }
}
