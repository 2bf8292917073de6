//! Bounded, ordered, parallel stages; the only room that spawns threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Produces items on the calling thread and works on them on `threads` others, with at most `queue` waiting between.
/// Ends at the first error, wherever it comes from.
pub fn for_each_parallel<T: Send>(
    threads: usize,
    queue: usize,
    items: impl Iterator<Item = Result<T>>,
    worker: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let (sender, receiver) = crossbeam_channel::bounded(queue);
    let stop = AtomicBool::new(false);
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |error| {
        stop.store(true, Ordering::Relaxed);
        first.lock().expect("no thread panics with the lock").get_or_insert(error);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                for item in &receiver {
                    // After an error the queue is emptied, so that the producer never waits for ever.
                    if !stop.load(Ordering::Relaxed)
                        && let Err(error) = worker(item)
                    {
                        fail(error);
                    }
                }
            });
        }
        for item in items {
            match item {
                Ok(item) if !stop.load(Ordering::Relaxed) && sender.send(item).is_ok() => {}
                Ok(_) => break,
                Err(error) => {
                    fail(error);
                    break;
                }
            }
        }
        drop(sender);
    });
    first.into_inner().expect("no thread panics with the lock").map_or(Ok(()), Err)
}
