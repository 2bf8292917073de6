//! A place behind a bottleneck: what is put and what is read passes at no more than so many bytes a second.
//! Names, listings and removals are small and pass as they are.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::ObjectName;

/// Another backend, slowed down. The rates hold for all threads together, averaged over objects: an object goes out as
/// one, after the time that its bytes take.
///
/// ```
/// use std::sync::Arc;
///
/// use repo_core::{Backend, Bytes, Limited, Memory, ObjectName, Span};
///
/// let place = Limited::new(Arc::new(Memory::new())).put_bytes_per_second(1 << 20);
/// let name: ObjectName = "format".parse().expect("a name of the grammar");
/// place.put_new(&name, Bytes::from_static(b"a thousandth of a second"))?;
/// assert_eq!(place.get(&name, Span::Suffix(6))?, "second");
/// # Ok::<(), repo_core::Error>(())
/// ```
pub struct Limited {
    inner: Arc<dyn Backend>,
    put: Option<Bucket>,
    get: Option<Bucket>,
    started: Instant,
    /// Sleeps, except in tests.
    pause: fn(Duration),
}

impl Limited {
    /// Nothing is limited yet.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, put: None, get: None, started: Instant::now(), pause: thread::sleep }
    }

    /// What is put; 0 lifts the limit.
    pub fn put_bytes_per_second(mut self, bytes: u64) -> Self {
        self.put = Bucket::new(bytes);
        self
    }

    /// What is read; 0 lifts the limit.
    pub fn get_bytes_per_second(mut self, bytes: u64) -> Self {
        self.get = Bucket::new(bytes);
        self
    }

    fn wait(&self, bucket: Option<&Bucket>, bytes: usize) {
        if let Some(bucket) = bucket {
            let wait = bucket.take(bytes as u64, self.started.elapsed());
            if !wait.is_zero() {
                (self.pause)(wait);
            }
        }
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limited({:?})", self.inner)
    }
}

/// A token bucket that holds no more than what drips in: time that nobody used is gone. Times are since the start.
#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// When everything that was promised so far has passed.
    free_at: Mutex<Duration>,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Option<Self> {
        (bytes_per_second > 0).then(|| Self { bytes_per_second, free_at: Mutex::default() })
    }

    /// Takes a turn for so many bytes, and says how long it is from `now` to its end.
    fn take(&self, bytes: u64, now: Duration) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let length = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now).saturating_add(length);
        *free_at - now
    }
}

impl Backend for Limited {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.wait(self.put.as_ref(), bytes.len());
        self.inner.put_new(name, bytes)
    }

    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.wait(self.put.as_ref(), bytes.len());
        self.inner.put_over(name, bytes)
    }

    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.inner.make_durable(name)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        // How much it is shows when it is here.
        let bytes = self.inner.get(name, span)?;
        self.wait(self.get.as_ref(), bytes.len());
        Ok(bytes)
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

    fn release_reserve(&self) -> bool {
        self.inner.release_reserve()
    }

    fn keep_reserve(&self) {
        self.inner.keep_reserve();
    }

    fn mirror(&self) -> Option<&dyn Backend> {
        self.inner.mirror()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::backend::Memory;

    thread_local! {
        static PAUSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn turns_follow_one_another_and_idle_time_is_not_saved_up() {
        let bucket = Bucket::new(100).expect("a limit");
        assert_eq!(bucket.take(200, seconds(0)), seconds(2));
        assert_eq!(bucket.take(100, seconds(0)), seconds(3), "behind the first");
        assert_eq!(bucket.take(100, seconds(1)), seconds(3), "ends at 4");
        assert_eq!(bucket.take(100, seconds(50)), seconds(1), "after a long rest as at the beginning");
        assert_eq!(bucket.take(0, seconds(60)), seconds(0));
        assert!(bucket.take(u64::MAX, seconds(60)) > seconds(1 << 30), "no overflow");
        assert!(Bucket::new(0).is_none());
    }

    #[test]
    fn what_is_put_and_what_is_read_have_limits_of_their_own() {
        let limited = |put, get| {
            let place =
                Limited { pause: |wait| PAUSED.set(PAUSED.get() + wait), ..Limited::new(Arc::new(Memory::new())) };
            place.put_bytes_per_second(put).get_bytes_per_second(get)
        };
        let paused = |place: &Limited| {
            let seconds_of = |action: &dyn Fn()| {
                PAUSED.set(Duration::ZERO);
                action();
                PAUSED.get().as_secs()
            };
            let put = seconds_of(&|| drop(place.put_new(&ObjectName::Format, Bytes::from_static(&[0; 300])).unwrap()));
            let get = seconds_of(&|| drop(place.get(&ObjectName::Format, Span::Suffix(200)).unwrap()));
            (put, get)
        };
        assert_eq!(paused(&limited(1, 0)), (300, 0));
        assert_eq!(paused(&limited(0, 1)), (0, 200));
        assert_eq!(paused(&limited(3, 10)), (100, 20));
    }
}
