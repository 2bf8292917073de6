//! Listing a snapshot's entries, in order.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::tree::Node;
use crate::repository::{Repository, Snapshot};

impl Repository {
    /// Calls `each` with the path (raw bytes, beginning with `/`) and node of every entry below `path`,
    /// parents before children, names ascending; only the direct ones unless `recursive`.
    pub fn list(
        &self,
        _snapshot: &Snapshot,
        _path: &[u8],
        _recursive: bool,
        _each: &mut dyn FnMut(&[u8], &Node) -> ControlFlow<()>,
    ) -> Result<()> {
        todo!()
    }
}
