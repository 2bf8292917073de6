//! A walk ahead of a backup: it counts what the source holds, so that the status line can tell how much is left.
//! It looks at entries and reads no file. What it cannot look at it passes over: to name that is the backup's business.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

use repo_core::{NodeKind, Source};

use super::line::Total;

/// A walk on a thread of its own. It ends when this is dropped, and nobody waits for it: it may be held up by a
/// file system that does not answer, and writes nothing.
#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    total: OnceLock<Total>,
}

impl Scan {
    /// Begins. `stop` ends it too. Where no thread can be had there will be no total, and that is all.
    pub fn start(source: Box<dyn Source>, stop: Arc<AtomicBool>) -> Self {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let work = move || {
            if let Some(total) = count(source.as_ref(), || its.ended.load(Relaxed) || stop.load(Relaxed)) {
                its.total.set(total).ok();
            }
        };
        thread::Builder::new().name("scan".to_owned()).spawn(work).ok();
        Self { shared }
    }

    /// Once everything is counted.
    pub fn total(&self) -> Option<Total> {
        self.shared.total.get().copied()
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
    }
}

/// All entries as a backup reports them, directories too; `None` if the walk was ended or could not begin.
fn count(source: &dyn Source, is_ended: impl Fn() -> bool) -> Option<Total> {
    let mut total = Total { files: 0, bytes: 0 };
    let root = source.root().ok()?;
    let entries = root.entries().ok()?;
    let mut levels = vec![(root, entries)];
    while let Some((directory, entries)) = levels.last_mut() {
        if is_ended() {
            return None;
        }
        match entries.next() {
            None => drop(levels.pop()),
            Some(Err(_)) => {}
            Some(Ok(entry)) => {
                total.files += 1;
                if entry.metadata.kind != NodeKind::Directory {
                    total.bytes = total.bytes.saturating_add(entry.metadata.size);
                } else if entry.descend
                    && let Ok(below) = directory.open_directory(&entry)
                    && let Ok(entries) = below.entries()
                {
                    levels.push((below, entries));
                }
            }
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use repo_core::ReaderSource;

    use super::*;

    /// A file two directories down.
    fn source() -> ReaderSource {
        ReaderSource::new(Path::new("/a/b/c"), &b"content"[..])
    }

    #[test]
    fn directories_count_as_entries() {
        assert_eq!(count(&source(), || false), Some(Total { files: 3, bytes: 0 }), "a stream's size is not known");
    }

    #[test]
    fn a_walk_that_was_ended_tells_nothing() {
        // After any number of looks but the last, where all is counted.
        let looks = Cell::new(0);
        count(&source(), || {
            looks.set(looks.get() + 1);
            false
        })
        .expect("nothing ends it");
        for last in 0..looks.get() {
            let left = Cell::<usize>::new(last);
            let total = count(&source(), || left.replace(left.get().saturating_sub(1)) == 0);
            assert_eq!(total, None, "ended at look {last}");
        }
    }
}
