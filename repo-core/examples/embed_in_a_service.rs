//! Embeds the library in a service whose own code is async: a backup is awaited, watched, and cancelled.
//!
//! `cargo run -p repo-core --example embed_in_a_service`
//!
//! The library's verbs are synchronous: they keep processors and disks busy, and an executor's threads must not wait
//! for that. So a verb runs on a thread of its own (with tokio: `spawn_blocking`), and a future tells when it is done.
//! The executor here is the smallest there is, so that the example needs no other package; the rest is what a service
//! with a real one would write.

use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use repo_core::{
    BackupOptions, BackupReport, Error, Event, InitOptions, Memory, Progress, ReaderSource, Repository, Result, Secret,
    Silent, SnapshotFilter,
};

/// One backup of the service: what it has done so far, and a way to stop it.
#[derive(Default)]
struct Job {
    read_bytes: AtomicU64,
    problems: AtomicU64,
    stop: AtomicBool,
}

impl Job {
    fn cancel(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Called by the verb's threads, so it only counts; whoever wants to show something looks when it suits him.
impl Progress for Job {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Bytes { count } => drop(self.read_bytes.fetch_add(count, Ordering::Relaxed)),
            Event::Problem { .. } => drop(self.problems.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A value that another thread will bring.
struct Coming<T>(Arc<Mutex<Delivery<T>>>);

enum Delivery<T> {
    Awaited(Option<Waker>),
    Here(T),
    Taken,
}

impl<T> Future for Coming<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut delivery = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *delivery, Delivery::Taken) {
            Delivery::Here(value) => Poll::Ready(value),
            _ => {
                *delivery = Delivery::Awaited(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// Runs `work` on a thread of its own. `backup` and `check` turn a panic of theirs into an error, so a value comes.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Coming<T> {
    let delivery = Arc::new(Mutex::new(Delivery::Awaited(None)));
    let coming = Coming(delivery.clone());
    thread::spawn(move || {
        let value = work();
        let before =
            std::mem::replace(&mut *delivery.lock().unwrap_or_else(PoisonError::into_inner), Delivery::Here(value));
        if let Delivery::Awaited(Some(waker)) = before {
            waker.wake();
        }
    });
    coming
}

/// Begins a backup, which the service may await at once or later. `Repository` is cheap to clone, and its clones share
/// keys and caches.
fn back_up(
    repository: &Repository,
    name: &str,
    content: impl Read + Send + 'static,
    job: Arc<Job>,
) -> Coming<Result<BackupReport>> {
    let (repository, source) = (repository.clone(), ReaderSource::new(Path::new(name), content));
    let options = BackupOptions::new().host("orders-1").tag("service");
    blocking(move || repository.backup(&source, &options, job.as_ref()))
}

/// Never ends by itself, and asks to be stopped after its first 8 MiB, as a user might.
struct Endless {
    given_bytes: u64,
    job: Arc<Job>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for (place, byte) in (self.given_bytes..).zip(buffer.iter_mut()) {
            *byte = (place ^ place >> 8) as u8;
        }
        self.given_bytes += buffer.len() as u64;
        if self.given_bytes > 8 << 20 {
            self.job.cancel();
        }
        Ok(buffer.len())
    }
}

async fn serve() -> Result<()> {
    let (secret, _key_file) = Secret::generate_key()?;
    // A service bounds what it spends: two threads, and (in `BackupOptions`) bytes under way.
    let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?.with_threads(2);

    // Two at once: writers do not wait for each other, in one process or in many.
    let (orders, mails) = (Arc::new(Job::default()), Arc::new(Job::default()));
    let first = back_up(&repository, "/orders.csv", io::Cursor::new("1,apples\n".repeat(100_000)), orders.clone());
    let second = back_up(&repository, "/mails.txt", io::Cursor::new("Dear all,\n".repeat(50_000)), mails.clone());
    let (first, second) = (first.await?, second.await?);
    for (job, report) in [(orders, first), (mails, second)] {
        let snapshot = report.snapshot.expect("nothing was to be skipped");
        println!(
            "{}: read {} bytes, stored {}, {} problems",
            snapshot.id().short(),
            job.read_bytes.load(Ordering::Relaxed),
            report.summary.stored_bytes,
            job.problems.load(Ordering::Relaxed)
        );
    }

    // Cancelled: nothing of it is published, all else is as it was.
    let job = Arc::new(Job::default());
    let endless = Endless { given_bytes: 0, job: job.clone() };
    match back_up(&repository, "/endless", endless, job).await {
        Err(Error::Cancelled) => println!("cancelled"),
        other => panic!("an endless backup ended by itself: {other:?}"),
    }
    let (after, checked) = {
        let (lister, checker) = (repository.clone(), repository.clone());
        let list = blocking(move || lister.snapshots(&SnapshotFilter::new())).await?;
        (list, blocking(move || checker.check(&Default::default(), &Silent)).await?)
    };
    assert_eq!(after.snapshots.len(), 2);
    assert!(checked.is_whole());
    Ok(())
}

pub fn main() -> Result<()> {
    block_on(serve())
}

/// Wakes a thread that sleeps until its future may go on.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
