//! A handle that can only add: what a service gives to clients that it does not trust with the past.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::policy::{self, Writer};
use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::{BackendError, BackendErrorKind};
use crate::id::ObjectName;

/// Another backend, of which nothing can be removed or replaced, and where only what clients write can be added
/// ([`policy`](super::policy)). Everything can be read and listed.
///
/// It holds whoever has no other way to the place: put it where the client's requests arrive. In the client's own process
/// it guards against mistakes alone.
///
/// Backups and copies work. Their sessions stay, since they cannot be removed, and the next prune of whoever can removes them.
///
/// ```
/// use std::sync::Arc;
///
/// use repo_core::{AppendOnly, Backend, BackendErrorKind, Bytes, Memory, ObjectName};
///
/// let place = AppendOnly::new(Arc::new(Memory::new()));
/// let mark: ObjectName = "gc/0000000000000001.mark".parse().expect("a name of the grammar");
/// assert_eq!(place.put_new(&mark, Bytes::new()).unwrap_err().kind, BackendErrorKind::Denied);
/// assert_eq!(place.remove(&mark).unwrap_err().kind, BackendErrorKind::Denied);
/// ```
pub struct AppendOnly {
    inner: Arc<dyn Backend>,
}

impl AppendOnly {
    /// A handle to the same place.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner }
    }
}

impl fmt::Debug for AppendOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppendOnly({:?})", self.inner)
    }
}

fn refused(action: &'static str, name: &ObjectName, why: &str) -> BackendError {
    let source = io::Error::new(io::ErrorKind::PermissionDenied, format!("append-only: {why}"));
    BackendError { object: name.to_string(), action, kind: BackendErrorKind::Denied, source }
}

impl Backend for AppendOnly {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        match policy::writer(name) {
            Writer::Client => self.inner.put_new(name, bytes),
            Writer::Maintenance => Err(refused("writing", name, "such objects are written by maintenance only")),
        }
    }

    // A handle that only adds never writes over anything, so that it works only where `put_new` does: the default refuses.

    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.inner.make_durable(name)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.inner.get(name, span)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        self.inner.age(name)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        Err(refused("removing", name, "maintenance removes, and nobody else"))
    }

    fn replace_damaged(&self, name: &ObjectName, _bytes: Bytes) -> Result<(), BackendError> {
        Err(refused("replacing", name, "maintenance repairs, and nobody else"))
    }

    fn default_parity_percent(&self) -> u8 {
        self.inner.default_parity_percent()
    }

    // The room that is kept is for prune, which this is not for: the defaults give up and keep none.

    fn mirror(&self) -> Option<&dyn Backend> {
        self.inner.mirror()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;
    use crate::id::{Doubled, GcStage, PackId, PackKind, SnapshotId};

    #[test]
    fn what_is_there_stays_as_it_is_and_only_what_clients_write_is_added() {
        let place = Arc::new(Memory::new());
        let handle = AppendOnly::new(place.clone());
        let snapshot = Doubled::Snapshot(SnapshotId([1; 16]));
        let bytes = Bytes::from_static(b"as it is");
        for name in [
            ObjectName::from(snapshot),
            ObjectName::SecondCopy(snapshot),
            ObjectName::Session(SnapshotId([1; 16])),
            ObjectName::Pack(PackKind::Data, PackId([2; 32])),
            ObjectName::Parity(PackId([2; 32]), 1),
        ] {
            assert_eq!(handle.put_new(&name, bytes.clone()).unwrap(), Put::Created);
            assert_eq!(handle.put_new(&name, Bytes::new()).unwrap(), Put::Exists(bytes.clone()));
            assert_eq!(handle.remove(&name).unwrap_err().kind, BackendErrorKind::Denied);
            let error = handle.replace_damaged(&name, Bytes::new()).unwrap_err();
            assert_eq!(error.kind, BackendErrorKind::Denied);
            assert_eq!(handle.get(&name, Span::All).unwrap(), bytes);
        }
        for name in [
            ObjectName::Format,
            ObjectName::SecondCopy(Doubled::Format),
            ObjectName::Keyring(2),
            ObjectName::SecondCopy(Doubled::Keyring(2)),
            ObjectName::Config(2),
            ObjectName::Forgotten(SnapshotId([1; 16])),
            ObjectName::Damaged(PackId([2; 32]), 1),
            ObjectName::Gc(1, GcStage::Mark),
            ObjectName::Gc(1, GcStage::Done),
            ObjectName::Mirror,
        ] {
            let error = handle.put_new(&name, bytes.clone()).unwrap_err();
            assert_eq!(error.kind, BackendErrorKind::Denied);
            assert!(error.to_string().contains("append-only"), "{error}");
            assert!(place.get(&name, Span::All).unwrap_err().is_absent());
        }
    }
}
