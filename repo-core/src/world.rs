//! What a process is given from outside besides its backend: randomness, the clock, its own identity. A simulation
//! puts a world of its own in the place of the operating system's, thread by thread, so that one order of events always
//! gives the same bytes. Built only with `internals`; what is simulated is the business of tests.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// What one simulated process lives in.
pub trait World: Send + Sync + fmt::Debug {
    /// The time in nanoseconds since 1970 UTC.
    fn now_ns(&self) -> i64;

    /// Nanoseconds since this machine began to run; the same clock unless a world has two.
    fn since_boot_ns(&self) -> i64 {
        self.now_ns()
    }

    /// This process's id.
    fn process_id(&self) -> u32;

    /// Whether the process of this id runs.
    fn process_is_alive(&self, process: u32) -> bool;

    /// Whether this rule of the protocol is broken on purpose here.
    fn is_mutant(&self, _name: &str) -> bool {
        false
    }
}

/// A world, and a thread's own stream of randomness in it.
#[derive(Clone)]
struct Place {
    world: Arc<dyn World>,
    stream: [u8; 32],
    drawn: u64,
    children: u64,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Leaves the world when dropped.
#[derive(Debug)]
pub struct Stay(());

impl Drop for Stay {
    fn drop(&mut self) {
        PLACE.set(None);
    }
}

/// Puts this thread into a world. All that it draws comes from `stream`.
pub fn enter(world: Arc<dyn World>, stream: [u8; 32]) -> Stay {
    PLACE.set(Some(Place { world, stream, drawn: 0, children: 0 }));
    Stay(())
}

/// Gives a new thread the world of the one that starts it, with a stream of its own: which of them draws first then
/// makes no difference.
pub(crate) fn inherit<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let place = child();
    move || {
        let _stay = place.map(|place| {
            PLACE.set(Some(place));
            Stay(())
        });
        work()
    }
}

/// As [`inherit`], for the threads of a pool, each of which calls this with its number when it starts.
pub(crate) fn inherit_each() -> impl Fn(usize) + Send + Sync {
    let place = child();
    move |number| {
        PLACE.set(place.clone().map(|place| {
            let stream = *blake3::keyed_hash(&place.stream, &number.to_le_bytes()).as_bytes();
            Place { stream, ..place }
        }));
    }
}

fn child() -> Option<Place> {
    PLACE.with_borrow_mut(|place| {
        place.as_mut().map(|place| {
            place.children += 1;
            let stream = *blake3::keyed_hash(&place.stream, format!("child {}", place.children).as_bytes()).as_bytes();
            Place { world: place.world.clone(), stream, drawn: 0, children: 0 }
        })
    })
}

/// Fills `bytes` from this thread's stream; `false` outside of any world.
pub(crate) fn fill_random(bytes: &mut [u8]) -> bool {
    PLACE.with_borrow_mut(|place| {
        let Some(place) = place else { return false };
        place.drawn += 1;
        let mut hasher = blake3::Hasher::new_keyed(&place.stream);
        hasher.update(&place.drawn.to_le_bytes()).finalize_xof().fill(bytes);
        true
    })
}

/// Asks the world; `None` outside of any.
pub(crate) fn ask<T>(question: impl FnOnce(&dyn World) -> T) -> Option<T> {
    // Not while the cell is borrowed: the answer may come from a lock that others hold.
    let world = PLACE.with_borrow(|place| place.as_ref().map(|place| place.world.clone()));
    world.map(|world| question(world.as_ref()))
}
