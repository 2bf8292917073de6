//! A layer over another place that takes all writes and is gone with the process: for a verb that must write in order to
//! find out, and whose writing nobody wants. What is below is only read.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Memory, Prefix, Put, Removal, Span};
use crate::error::{BackendError, BackendErrorKind};
use crate::id::{ObjectName, PackKind};

/// Another backend under a layer of memory. Packs of file content and all parity are accepted and dropped, so that memory
/// holds metadata alone: what is written here can be listed and compared, and its content not be read.
pub(crate) struct Draft {
    below: Arc<dyn Backend>,
    above: Memory,
}

impl Draft {
    /// An empty layer over `below`.
    pub(crate) fn new(below: Arc<dyn Backend>) -> Self {
        Self { below, above: Memory::new() }
    }

    fn refused(&self, action: &'static str, name: &ObjectName) -> BackendError {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "what is only compared is not changed");
        BackendError { object: name.to_string(), action, kind: BackendErrorKind::Denied, source }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({:?} over {:?})", self.above, self.below)
    }
}

impl Backend for Draft {
    fn place(&self) -> String {
        self.below.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        if matches!(name, ObjectName::Pack(PackKind::Data, _) | ObjectName::Parity(..)) {
            return Ok(Put::Created);
        }
        match self.below.get(name, Span::All) {
            Ok(there) => Ok(Put::Exists(there)),
            Err(error) if error.is_absent() => self.above.put_new(name, bytes),
            Err(error) => Err(error),
        }
    }

    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        match self.above.get(name, Span::Suffix(0)) {
            Ok(_) => Ok(()),
            Err(_) => self.below.make_durable(name),
        }
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        match self.above.get(name, span) {
            // A mirror wants no writers, and none come to it.
            Err(error) if error.is_absent() && *name != ObjectName::Mirror => self.below.get(name, span),
            result => result,
        }
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let mut flow = ControlFlow::Continue(());
        self.below.list(prefix, &mut |listed| {
            flow = each(listed);
            flow
        })?;
        match flow {
            ControlFlow::Continue(()) => self.above.list(prefix, each),
            ControlFlow::Break(()) => Ok(()),
        }
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        match self.above.get(name, Span::Suffix(0)) {
            Ok(_) => Ok(None),
            Err(_) => self.below.age(name),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        match self.above.remove(name)? {
            Removal::Absent if super::is_there(&*self.below, name)? => Err(self.refused("removing", name)),
            removal => Ok(removal),
        }
    }

    // What is damaged below stays so, and room is neither given up nor kept: the defaults refuse and do nothing.

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Doubled, PackId, SnapshotId};

    #[test]
    fn what_is_written_is_read_and_listed_and_nothing_of_it_comes_below() {
        let below = Arc::new(Memory::new());
        let old = ObjectName::from(Doubled::Snapshot(SnapshotId([1; 16])));
        below.put_new(&old, Bytes::from_static(b"old")).unwrap();
        let draft = Draft::new(below.clone());
        let new = ObjectName::from(Doubled::Snapshot(SnapshotId([2; 16])));
        assert_eq!(draft.put_new(&new, Bytes::from_static(b"new")).unwrap(), Put::Created);
        assert_eq!(draft.put_new(&old, Bytes::from_static(b"other")).unwrap(), Put::Exists(Bytes::from_static(b"old")));
        assert_eq!(draft.get(&old, Span::All).unwrap(), "old");
        assert_eq!(draft.get(&new, Span::Suffix(1)).unwrap(), "w");
        let mut names = Vec::new();
        draft
            .list(Prefix::Snapshots, &mut |listed| {
                names.push(listed);
                ControlFlow::Continue(())
            })
            .unwrap();
        let object = |name| Listed::Object { name, size: 3 };
        assert_eq!(names, [object(old), object(new)]);
        assert!(below.get(&new, Span::All).unwrap_err().is_absent());
    }

    #[test]
    fn a_mirror_may_be_drafted_on() {
        let below = Arc::new(Memory::new());
        below.put_new(&ObjectName::Mirror, Bytes::from_static(b"mark")).unwrap();
        assert!(Draft::new(below).get(&ObjectName::Mirror, Span::All).unwrap_err().is_absent());
    }

    #[test]
    fn what_is_below_cannot_be_removed_or_replaced_and_content_is_dropped() {
        let below = Arc::new(Memory::new());
        let old = ObjectName::Session(SnapshotId([1; 16]));
        below.put_new(&old, Bytes::from_static(b"old")).unwrap();
        let draft = Draft::new(below.clone());
        assert_eq!(draft.remove(&old).unwrap_err().kind, BackendErrorKind::Denied);
        assert!(draft.replace_damaged(&old, Bytes::new()).is_err());
        assert_eq!(below.get(&old, Span::All).unwrap(), "old");
        let new = ObjectName::Session(SnapshotId([2; 16]));
        draft.put_new(&new, Bytes::new()).unwrap();
        assert_eq!(draft.remove(&new).unwrap(), Removal::Removed);
        assert_eq!(draft.remove(&new).unwrap(), Removal::Absent);
        let content = ObjectName::Pack(PackKind::Data, PackId([3; 32]));
        assert_eq!(draft.put_new(&content, Bytes::from_static(b"much")).unwrap(), Put::Created);
        assert!(draft.get(&content, Span::All).unwrap_err().is_absent());
    }
}
