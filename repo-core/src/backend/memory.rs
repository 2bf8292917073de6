//! Objects in memory: for tests, and for services that want a scratch repository.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::ObjectName;

/// A place that is gone with the process, which is as durable as its promises are taken here.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<ObjectName, Bytes>>,
}

impl Memory {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Bytes>> {
        // Each change is one call on the map, so that a panic elsewhere leaves it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("objects", &self.objects().len()).finish()
    }
}

impl Backend for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        Ok(match self.objects().entry(*name) {
            Entry::Occupied(there) => Put::Exists(there.get().clone()),
            Entry::Vacant(free) => {
                free.insert(bytes);
                Put::Created
            }
        })
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let objects = self.objects();
        let bytes =
            objects.get(name).ok_or_else(|| BackendError::io("reading", name, io::ErrorKind::NotFound.into()))?;
        let (offset, length) = span.within(bytes.len() as u64);
        // Both are within the object, whose size is a usize.
        Ok(bytes.slice(offset as usize..(offset + length) as usize))
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        // A copy of the names, so that `each` may use this very backend.
        let listed: Vec<_> = self
            .objects()
            .iter()
            .filter(|(name, _)| prefix.contains(name))
            .map(|(name, bytes)| Listed::Object { name: *name, size: bytes.len() as u64 })
            .collect();
        let _: ControlFlow<()> = listed.into_iter().try_for_each(each);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        Ok(match self.objects().remove(name) {
            Some(_) => Removal::Removed,
            None => Removal::Absent,
        })
    }

    fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        match self.objects().entry(*name) {
            Entry::Occupied(mut there) => {
                there.insert(bytes);
                Ok(())
            }
            Entry::Vacant(_) => Err(BackendError::io("replacing", name, io::ErrorKind::NotFound.into())),
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}
