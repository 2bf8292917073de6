//! Snapshots and a place that the tests of this room share.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::backend::{Backend, Capabilities, Listed, Memory, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::format::snapshot::SnapshotRecord;
use crate::id::{ObjectName, SnapshotId};
use crate::repository::Snapshot;

/// A snapshot of nothing.
pub fn record(number: u8, start_ns: i64) -> SnapshotRecord {
    let id = SnapshotId([number; 16]);
    SnapshotRecord { sequence: number.into(), start_ns, end_ns: start_ns, ..SnapshotRecord::blank(id) }
}

/// The same, of a host.
pub fn snapshot(number: u8, start_ns: i64, host: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot { record: SnapshotRecord { host: host.to_owned(), ..record(number, start_ns) } })
}

/// A place that counts the bytes read from it.
#[derive(Default)]
pub struct Counting {
    inner: Memory,
    pub read: AtomicU64,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({:?})", self.inner)
    }
}

impl Backend for Counting {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let bytes = self.inner.get(name, span)?;
        self.read.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(bytes)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
