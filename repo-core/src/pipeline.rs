//! Bounded, ordered, parallel stages. The only room that spawns threads.
//! What flows through them is the caller's business; so is what to do with the first error.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::bounded;

use crate::error::{Error, Result};

/// Locks, also after another thread panicked: every value behind these locks is whole between statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that end before the call that made them does.
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    inner: &'scope thread::Scope<'scope, 'env>,
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a named thread.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'scope) -> Result<()> {
        // A walk and the drop of a deep tree may recurse with its depth.
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(8 << 20);
        #[cfg(feature = "internals")]
        let work = crate::world::inherit(work);
        match builder.spawn_scoped(self.inner, work) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Local { path: name.into(), what: "starting a thread", source }),
        }
    }
}

/// Runs `body` with threads of its own; all of them have ended when this returns. A panic in one goes on here.
pub fn scope<'env, T>(body: impl for<'scope> FnOnce(&Scope<'scope, 'env>) -> Result<T>) -> Result<T> {
    thread::scope(|inner| body(&Scope { inner }))
}

/// A pool for data-parallel loops: of a repository's own, since the process may use the global one for other things.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "worker".to_owned());
    #[cfg(feature = "internals")]
    let builder = builder.start_handler(crate::world::inherit_each());
    builder.build().map_err(|error| Error::Local {
        path: "worker".into(),
        what: "starting threads",
        source: std::io::Error::other(error),
    })
}

/// The first error of several threads; the others ask whether to go on.
#[derive(Debug, Default)]
pub struct FirstError {
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl FirstError {
    /// Keeps the error if it is the first.
    pub fn set(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    /// Whether there was one.
    pub fn is_set(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The first error, if there was one.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { lock(&self.error).take().map_or(Ok(()), Err) } else { Ok(()) }
    }
}

/// Calls `worker` for every item on `threads` threads. Items are made on the calling thread, at most `queue` ahead.
/// The first error, of an item or a worker, ends it.
pub fn for_each_parallel<T: Send>(
    threads: usize,
    queue: usize,
    items: impl Iterator<Item = Result<T>>,
    worker: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let failure = FirstError::default();
    let (sender, receiver) = bounded::<T>(queue.max(1));
    scope(|scope| {
        for _ in 0..threads.max(1) {
            let receiver = receiver.clone();
            let (worker, failure) = (&worker, &failure);
            scope.spawn("worker", move || {
                // Goes on receiving after a failure, so that the sender never waits for nobody.
                for item in receiver {
                    if !failure.is_set()
                        && let Err(error) = worker(item)
                    {
                        failure.set(error);
                    }
                }
            })?;
        }
        drop(receiver);
        for item in items {
            let item = item?;
            if failure.is_set() || sender.send(item).is_err() {
                break;
            }
        }
        drop(sender);
        Ok(())
    })?;
    failure.check()
}

/// Bytes that may be under way at once. Taken in order by one thread, given back by any.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Waits until `bytes` fit, or nothing else is under way.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        let mut used = lock(&self.used);
        while *used > 0 && *used + bytes > self.limit {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Permit { budget: self.clone(), bytes }
    }
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.budget.used) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// Buffers that are used again: large ones that come and go between threads would leave the allocator's
/// memory in pieces, and the process several times as large as what it holds.
#[derive(Debug)]
pub struct Pool {
    capacity: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A pool of buffers of `capacity` bytes.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, free: Mutex::default() })
    }

    /// The capacity of its buffers.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        lock(&self.free).pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Takes a buffer back; one that has grown or shrunk is let go.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == self.capacity {
            buffer.clear();
            lock(&self.free).push(buffer);
        }
    }
}

/// A pool's buffer that counts against a budget for as long as any slice of it lives, and then goes back:
/// `Bytes::from_owner(buffer)` hands it on without copying.
#[derive(Debug)]
pub struct Budgeted {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
    _permit: Permit,
}

impl Budgeted {
    /// Ties the buffer to its permit.
    pub fn new(bytes: Vec<u8>, pool: Arc<Pool>, permit: Permit) -> Self {
        Self { bytes, pool, _permit: permit }
    }
}

impl AsRef<[u8]> for Budgeted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Budgeted {
    fn drop(&mut self) {
        // Before the permit, so that whoever waits for it finds the buffer.
        self.pool.give(std::mem::take(&mut self.bytes));
    }
}

/// Runs `work` and turns a panic into an error of the library: a bug in one verb must not take a service down.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match panic::catch_unwind(panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(Error::Bug(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        let sum = AtomicUsize::new(0);
        for_each_parallel(3, 2, (1..=100).map(Ok), |item| {
            sum.fetch_add(item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let made = AtomicUsize::new(0);
        let items = (0..1_000_000).map(|item| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(item)
        });
        let result = for_each_parallel(2, 4, items, |item| if item == 10 { Err(Error::Cancelled) } else { Ok(()) });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(made.into_inner() < 1_000_000);
    }

    #[test]
    fn a_budget_holds_back_until_bytes_come_back() {
        let budget = Budget::new(10);
        let first = budget.take(8);
        let taken = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let permit = budget.take(4);
                taken.store(true, Ordering::SeqCst);
                drop(permit);
            });
            thread::yield_now();
            assert!(!taken.load(Ordering::SeqCst));
            drop(first);
            waiting.join().unwrap();
        });
        assert!(taken.load(Ordering::SeqCst));
        // More than the whole budget passes alone, so that one large thing is never stuck.
        drop(budget.take(100));
    }
}
