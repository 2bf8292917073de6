//! A place to read from, with a mirror of it behind: what the one does not give, the other may.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::{BackendError, BackendErrorKind};
use crate::id::ObjectName;

/// A backend to read from, and a mirror of it ([`mirror`](crate::mirror)), which has the same objects byte for byte. What the
/// first has not, or cannot give, is read from the mirror; so are packs of which the first gives bytes that prove to be
/// damaged. Nothing is written to either.
///
/// ```
/// use std::sync::Arc;
///
/// use repo_core::{Backend, Bytes, Memory, Mirrored, ObjectName, Span};
///
/// let (first, mirror) = (Memory::new(), Memory::new());
/// let name: ObjectName = "format".parse().expect("a name of the grammar");
/// mirror.put_new(&name, Bytes::from_static(b"all that is left"))?;
/// let place = Mirrored::new(Arc::new(first), Arc::new(mirror));
/// assert_eq!(place.get(&name, Span::All)?, "all that is left");
/// assert_eq!(place.taken_from_mirror(), 1);
/// # Ok::<(), repo_core::Error>(())
/// ```
pub struct Mirrored {
    first: Arc<dyn Backend>,
    mirror: Counted,
}

/// Counts what is taken.
struct Counted {
    inner: Arc<dyn Backend>,
    taken: AtomicU64,
}

impl Mirrored {
    /// Reads from `first`, and where that fails from `mirror`.
    pub fn new(first: Arc<dyn Backend>, mirror: Arc<dyn Backend>) -> Self {
        Self { first, mirror: Counted { inner: mirror, taken: AtomicU64::new(0) } }
    }

    /// How often something was read from the mirror.
    pub fn taken_from_mirror(&self) -> u64 {
        self.mirror.taken.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirrored({:?}, else {:?})", self.first, self.mirror.inner)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn refused(action: &'static str, name: &ObjectName) -> BackendError {
    let source = io::Error::new(io::ErrorKind::PermissionDenied, "with a mirror behind it a repository is only read");
    BackendError { object: name.to_string(), action, kind: BackendErrorKind::Denied, source }
}

/// The part of a place that reads, and nothing else.
impl Backend for Counted {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, _bytes: Bytes) -> Result<Put, BackendError> {
        Err(refused("writing", name))
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let bytes = self.inner.get(name, span)?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(bytes)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        Err(refused("removing", name))
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

impl Backend for Mirrored {
    fn place(&self) -> String {
        format!("{}, else {}", self.first.place(), self.mirror.place())
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, _bytes: Bytes) -> Result<Put, BackendError> {
        Err(refused("writing", name))
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        // That it is a mirror is no news of the repository itself.
        if *name == ObjectName::Mirror {
            return self.first.get(name, span);
        }
        // The first error is the one to tell: nobody asked for the mirror by name.
        self.first.get(name, span).or_else(|error| self.mirror.get(name, span).map_err(|_| error))
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let mut known = HashSet::new();
        let mut flow = ControlFlow::Continue(());
        let listed = self.first.list(prefix, &mut |listed| {
            if let Listed::Object { name, .. } = &listed {
                known.insert(*name);
            }
            flow = each(listed);
            flow
        });
        if flow.is_break() {
            return Ok(());
        }
        // What was listed before an error counts: more may follow from the mirror, and nothing twice.
        let mirrored = self.mirror.list(prefix, &mut |listed| match &listed {
            Listed::Object { name, .. } if !known.contains(name) && *name != ObjectName::Mirror => each(listed),
            _ => ControlFlow::Continue(()),
        });
        listed.or_else(|error| mirrored.map_err(|_| error))
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        self.first.age(name)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        Err(refused("removing", name))
    }

    fn mirror(&self) -> Option<&dyn Backend> {
        Some(&self.mirror)
    }

    fn capabilities(&self) -> Capabilities {
        self.first.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;
    use crate::id::{PackId, PackKind};

    #[test]
    fn what_either_has_is_read_and_listed_once_and_neither_is_written() {
        let (first, mirror) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let pack = |number| ObjectName::Pack(PackKind::Data, PackId([number; 32]));
        for (place, numbers) in [(&first, [1, 2]), (&mirror, [2, 3])] {
            for number in numbers {
                place.put_new(&pack(number), Bytes::from(vec![number])).unwrap();
            }
        }
        mirror.put_new(&ObjectName::Mirror, Bytes::new()).unwrap();
        let both = Mirrored::new(first.clone(), mirror.clone());
        for number in [1, 2, 3] {
            assert_eq!(both.get(&pack(number), Span::All).unwrap(), vec![number]);
        }
        assert_eq!(both.taken_from_mirror(), 1, "only what the first has not");
        assert!(both.get(&pack(4), Span::All).unwrap_err().is_absent());
        assert!(both.get(&ObjectName::Mirror, Span::All).unwrap_err().is_absent());
        let mut names = Vec::new();
        both.list(Prefix::All, &mut |listed| {
            if let Listed::Object { name, .. } = listed {
                names.push(name);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(names, [1, 2, 3].map(pack));
        assert_eq!(both.remove(&pack(1)).unwrap_err().kind, BackendErrorKind::Denied);
        assert_eq!(both.put_new(&pack(5), Bytes::new()).unwrap_err().kind, BackendErrorKind::Denied);
        let behind = both.mirror().unwrap();
        assert_eq!(behind.put_new(&pack(5), Bytes::new()).unwrap_err().kind, BackendErrorKind::Denied);
        assert_eq!(behind.remove(&pack(3)).unwrap_err().kind, BackendErrorKind::Denied);
    }
}
