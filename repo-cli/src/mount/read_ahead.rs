//! Opens what a program that reads on will want next, beside the threads that answer it.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use repo_core::{Browser, Item};

/// Whoever passes a border of so many bytes reads on.
const STEP_BYTES: u64 = 512 << 10;
/// As much is opened ahead: two or three frames, so that each of two threads has one.
const AHEAD_BYTES: u64 = 3 << 20;
/// A frame takes its thread a few milliseconds. More threads would take the processor from who waits.
const THREADS: usize = 2;
/// What is not begun when so much waits is too late to be of use.
const WAITING_MAX: usize = 4;

/// Hands work to threads that end when this is dropped.
#[derive(Debug)]
pub struct ReadAhead {
    wanted: SyncSender<(Item, u64)>,
}

impl ReadAhead {
    /// Without a thread to be had nothing is read ahead.
    pub fn start(browser: &Arc<Browser>) -> Self {
        let (wanted, waiting) = mpsc::sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let (browser, waiting) = (Arc::clone(browser), Arc::clone(&waiting));
            let work = move || work(&browser, &waiting);
            thread::Builder::new().name(format!("ahead-{number}")).spawn(work).ok();
        }
        Self { wanted }
    }

    /// A program was given these bytes of a file. One that jumps about seldom passes a border, and costs little.
    pub fn note(&self, file: &Item, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        let passes = offset / STEP_BYTES != end / STEP_BYTES;
        if length > 0 && (passes || offset == 0) {
            self.wanted.try_send((file.clone(), end)).ok();
        }
    }
}

fn work(browser: &Browser, waiting: &Mutex<Receiver<(Item, u64)>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((file, offset)) = next else { return };
        browser.read_ahead(&file, offset, AHEAD_BYTES);
    }
}
