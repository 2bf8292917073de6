//! Opened frames that are kept for a while; each is opened by one thread, and others wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::error::Result;
use crate::id::PackId;
use crate::pipeline::lock;

/// A frame's place: its pack and its number there.
type Key = (PackId, u32);

/// A cache bounded in bytes of plaintext; the least recently used goes first.
pub struct FrameCache {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    frames: HashMap<Key, Entry>,
    bytes: usize,
    tick: u64,
}

struct Entry {
    /// Held while the frame is being opened. Empty after a failure, so that the next one tries again.
    slot: Arc<Mutex<Option<Bytes>>>,
    bytes: usize,
    used: u64,
}

impl FrameCache {
    /// A cache of at most `limit` bytes, or one frame if that is more.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// The frame, from the cache or by `open`.
    pub fn get(&self, key: Key, open: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        let slot = self.slot(key);
        let mut frame = lock(&slot);
        if let Some(bytes) = &*frame {
            return Ok(bytes.clone());
        }
        match open() {
            Ok(bytes) => {
                *frame = Some(bytes.clone());
                drop(frame);
                self.keep(key, bytes.len());
                Ok(bytes)
            }
            Err(error) => {
                let mut state = lock(&self.state);
                let removed = state.frames.remove(&key).map_or(0, |entry| entry.bytes);
                state.bytes -= removed;
                Err(error)
            }
        }
    }

    fn slot(&self, key: Key) -> Arc<Mutex<Option<Bytes>>> {
        let mut state = lock(&self.state);
        state.tick += 1;
        let used = state.tick;
        let entry = state.frames.entry(key).or_insert_with(|| Entry { slot: Arc::default(), bytes: 0, used });
        entry.used = used;
        entry.slot.clone()
    }

    fn keep(&self, key: Key, length: usize) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.frames.get_mut(&key) {
            let before = std::mem::replace(&mut entry.bytes, length);
            state.bytes = state.bytes + length - before;
        }
        while state.bytes > self.limit {
            // A scan of a few dozen frames; those being opened (0 bytes) stay.
            let oldest = state.frames.iter().filter(|(other, entry)| entry.bytes > 0 && **other != key);
            let Some(oldest) = oldest.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else { break };
            if let Some(entry) = state.frames.remove(&oldest) {
                state.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_frame_is_opened_once_and_the_oldest_goes_first() {
        let cache = FrameCache::new(25);
        let opened = std::cell::Cell::new(0);
        let get = |number| {
            cache
                .get((PackId([0; 32]), number), || {
                    opened.set(opened.get() + 1);
                    Ok(Bytes::from(vec![0; 10]))
                })
                .unwrap()
        };
        get(1);
        get(2);
        get(1);
        assert_eq!(opened.get(), 2);
        get(3); // drops 2, the least recently used
        get(1);
        assert_eq!(opened.get(), 3);
        get(2);
        assert_eq!(opened.get(), 4);
        assert!(lock(&cache.state).bytes <= 25);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let cache = FrameCache::new(25);
        assert!(cache.get((PackId([0; 32]), 1), || Err(Error::Cancelled)).is_err());
        assert!(cache.get((PackId([0; 32]), 1), || Ok(Bytes::new())).is_ok());
    }
}
