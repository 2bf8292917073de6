//! A single stream as a source: what `--stdin` backs up. It can be read once.

use std::io;
use std::path::Path;

/// One file that comes from a reader.
#[derive(Debug)]
pub struct ReaderSource {}

impl ReaderSource {
    /// `path` is the file's name in the snapshot; its parent directories are made up.
    pub fn new(_path: &Path, _reader: impl io::Read + Send + 'static) -> Self {
        todo!()
    }
}
