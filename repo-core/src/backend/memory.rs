//! Objects in memory: for tests, and for services that want a scratch repository.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::ObjectName;

/// A place that is gone with the process.
#[derive(Debug, Default)]
pub struct Memory {}

impl Backend for Memory {
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
