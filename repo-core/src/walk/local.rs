//! Directory trees of this machine as a source.

use std::path::PathBuf;
use std::sync::Arc;

use super::filter::Patterns;
use super::{Source, SourceDirectory};
use crate::error::Result;

/// What a [`LocalTree`] shows and leaves out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LocalTreeOptions {
    /// Never applied to the paths themselves.
    pub excludes: Patterns,
    /// Directories that hold such a file are left empty but for it: `(name, first bytes of it or empty)`.
    pub exclude_if_present: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files over this many bytes.
    pub exclude_larger_than_bytes: Option<u64>,
    /// Stay on the file systems of the given paths.
    pub one_file_system: bool,
    /// Directories that are left out and said, by device and inode: the repository itself.
    pub leave_out: Vec<PathBuf>,
    /// Record access times.
    pub with_atime: bool,
}

/// One or several paths of this machine.
#[derive(Debug)]
pub struct LocalTree {}

impl LocalTree {
    /// The tree of these paths. A path that does not exist is an error here, if it is the only one.
    pub fn new(_paths: &[PathBuf], _options: LocalTreeOptions) -> Result<Self> {
        todo!()
    }
}

impl Source for LocalTree {
    fn root(&self) -> std::io::Result<Arc<dyn SourceDirectory>> {
        todo!()
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        todo!()
    }
}
