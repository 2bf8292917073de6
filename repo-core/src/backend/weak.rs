//! The handle of a weak repository: a place whose `put_new` is missing, or not to be trusted, with the nearest thing to it;
//! and when each writer of this process last said that it lives. What follows from that is the store's business.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::{ObjectName, SnapshotId};
use crate::platform::host::Moment;

/// Another backend, whose `put_new` is used where it has one. Where not, this is the one place that stands in for it: it looks
/// whether the name is free, writes, and looks whose bytes stand there then.
///
/// **What that cannot promise:** of two who write one name at once both may be told that they were first, if each has looked
/// again before the other has written. The bytes of the one who wrote last stand. So a weak repository does not rely on it:
/// each name that several could want has one writer at a time, by its owner or by the times in `store::weak`.
pub struct Weak {
    inner: Arc<dyn Backend>,
    /// The place has said that it has no `put_new`.
    is_undecided: AtomicBool,
    writers: Mutex<HashMap<SnapshotId, Sign>>,
}

/// When a writer of this process said that it lives, before the put that said so was sent.
#[derive(Debug, Clone, Copy)]
struct Sign {
    last: Moment,
    /// When it last tried to.
    tried: Moment,
    /// Signs so far.
    number: u16,
}

impl fmt::Debug for Weak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weak({:?})", self.inner)
    }
}

impl Weak {
    /// A handle to the same place; the same handle, if it is one of these.
    pub fn around(inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if inner.weak().is_some() {
            return inner;
        }
        let is_undecided = AtomicBool::new(!inner.capabilities().put_if_absent);
        Arc::new(Self { inner, is_undecided, writers: Mutex::default() })
    }

    /// Puts these bytes under a name, whatever is there. For a writer that takes back what it should not have published.
    pub fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        match self.inner.put_over(name, bytes.clone()) {
            Err(error) if error.is_unsupported() => {
                self.inner.remove(name)?;
                self.inner.put_new(name, bytes).map(drop)
            }
            result => result,
        }
    }

    /// A writer has registered, or given a sign of life, by a put that it sent at this moment.
    pub fn signed(&self, session: SnapshotId, at: Moment) {
        let mut writers = self.writers();
        let number = writers.get(&session).map_or(0, |sign| sign.number);
        writers.insert(session, Sign { last: at, tried: at, number });
    }

    /// The number of the next sign of a writer that has given none for `after`, nor tried to for `retry`; from now on it has.
    pub fn next_sign(&self, session: SnapshotId, after: Duration, retry: Duration) -> Option<u16> {
        let mut writers = self.writers();
        let sign = writers.get_mut(&session)?;
        if sign.last.elapsed() < after || sign.tried.elapsed() < retry {
            return None;
        }
        sign.tried = Moment::now();
        sign.number = sign.number.wrapping_add(1);
        Some(sign.number)
    }

    /// How long ago a writer of this handle last gave a sign of life; `None`: it has none here.
    pub fn silent_for(&self, session: SnapshotId) -> Option<Duration> {
        self.writers().get(&session).map(|sign| sign.last.elapsed())
    }

    /// The writers at work by this handle, in order.
    pub fn sessions(&self) -> Vec<SnapshotId> {
        let mut sessions: Vec<SnapshotId> = self.writers().keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// A writer has ended.
    pub fn ended(&self, session: SnapshotId) {
        self.writers().remove(&session);
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<SnapshotId, Sign>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See the type: what it does, and what it cannot promise.
    fn put_looking(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        match self.inner.get(name, Span::All) {
            Ok(there) => return Ok(Put::Exists(there)),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
        self.inner.put_over(name, bytes.clone())?;
        if follows_from_its_name(name) {
            return Ok(Put::Created);
        }
        match self.inner.get(name, Span::All) {
            Ok(there) if there == bytes => Ok(Put::Created),
            Ok(there) => Ok(Put::Exists(there)),
            // Taken away since, by somebody for whom this writer was asleep for too long.
            Err(error) if error.is_absent() => Ok(Put::Unknown),
            Err(error) => Err(error),
        }
    }
}

/// Whoever writes such a name writes the same bytes, so that it does not matter who was first; and packs are large.
fn follows_from_its_name(name: &ObjectName) -> bool {
    matches!(name, ObjectName::Pack(..) | ObjectName::Index(_) | ObjectName::Parity(..))
}

impl Backend for Weak {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        if !self.is_undecided.load(Ordering::Relaxed) {
            match self.inner.put_new(name, bytes.clone()) {
                // A file system that turns out to have neither of the operations that decide races.
                Err(error) if error.is_unsupported() => self.is_undecided.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        self.put_looking(name, bytes)
    }

    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.inner.put_over(name, bytes)
    }

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
        self.inner.remove(name)
    }

    fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.inner.replace_damaged(name, bytes)
    }

    fn default_parity_percent(&self) -> u8 {
        self.inner.default_parity_percent()
    }

    fn release_reserve(&self) -> bool {
        self.inner.release_reserve()
    }

    fn keep_reserve(&self) {
        self.inner.keep_reserve();
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn weak(&self) -> Option<&Weak> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;

    const NAME: ObjectName = ObjectName::Config(1);

    /// A place that writes over what is there, and knows no other way; before its n-th write somebody else is faster.
    #[derive(Debug)]
    struct Undecided {
        objects: Memory,
        rival: Option<&'static [u8]>,
    }

    impl Backend for Undecided {
        fn place(&self) -> String {
            "a weak place".into()
        }
        fn prepare(&self) -> Result<(), BackendError> {
            Ok(())
        }
        fn put_new(&self, name: &ObjectName, _bytes: Bytes) -> Result<Put, BackendError> {
            Err(BackendError::io("writing", name, std::io::ErrorKind::Unsupported.into()))
        }
        fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
            self.objects.remove(name)?;
            let last = self.rival.map_or(bytes, Bytes::from_static);
            self.objects.put_new(name, last).map(drop)
        }
        fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
            self.objects.get(name, span)
        }
        fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
            self.objects.list(prefix, each)
        }
        fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
            self.objects.remove(name)
        }
        fn capabilities(&self) -> Capabilities {
            // As of a directory, whose file system says only when it is asked for the operation.
            Capabilities { put_if_absent: self.rival.is_none() }
        }
    }

    fn weak(rival: Option<&'static [u8]>) -> Arc<dyn Backend> {
        Weak::around(Arc::new(Undecided { objects: Memory::new(), rival }))
    }

    #[test]
    fn what_is_there_is_not_written_over_and_who_was_last_is_seen() {
        let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        let place = weak(None);
        assert_eq!(place.put_new(&NAME, one.clone()).unwrap(), Put::Created);
        assert_eq!(place.put_new(&NAME, two.clone()).unwrap(), Put::Exists(one.clone()));
        assert_eq!(place.get(&NAME, Span::All).unwrap(), one);
        let raced = weak(Some(b"two"));
        assert_eq!(raced.put_new(&NAME, one).unwrap(), Put::Exists(two));
    }

    #[test]
    fn what_should_not_have_been_published_is_taken_back_with_and_without_a_write_over_it() {
        for place in [weak(None), Weak::around(Arc::new(Memory::new()))] {
            place.put_new(&NAME, Bytes::from_static(b"one")).unwrap();
            place.weak().unwrap().replace(&NAME, Bytes::from_static(b"two")).unwrap();
            assert_eq!(place.get(&NAME, Span::All).unwrap(), Bytes::from_static(b"two"));
        }
    }

    #[test]
    fn a_handle_of_a_handle_is_the_same_handle() {
        let once = weak(None);
        let session = SnapshotId([7; 16]);
        once.weak().unwrap().signed(session, Moment::now());
        assert!(Weak::around(once).weak().unwrap().silent_for(session).is_some());
    }
}
