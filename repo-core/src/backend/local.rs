//! Objects as files of a directory: temporary file, fsync, link without replacing, fsync of the directory.

use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::ObjectName;

/// A directory of this machine.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Nothing is read or made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Backend for Local {
    fn place(&self) -> String {
        todo!()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        todo!()
    }

    fn put_new(&self, _name: &ObjectName, _bytes: Bytes) -> Result<Put, BackendError> {
        todo!()
    }

    fn get(&self, _name: &ObjectName, _span: Span) -> Result<Bytes, BackendError> {
        todo!()
    }

    fn list(&self, _prefix: Prefix, _each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        todo!()
    }

    fn remove(&self, _name: &ObjectName) -> Result<Removal, BackendError> {
        todo!()
    }

    fn capabilities(&self) -> Capabilities {
        todo!()
    }
}
