//! Numbers for things that a caller knows by number alone, as a kernel does, until it gives them back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{Browser, Directory, Item, Place, TOP};
use crate::error::Result;
use crate::pipeline::lock;

/// What is known of a number: where the thing is, not what it is, so that a million of them take 100 MB.
#[derive(Debug)]
struct Row {
    place: Remembered,
    /// How often it was given out.
    count: u64,
}

#[derive(Debug, Clone)]
enum Remembered {
    Top(Arc<Directory>),
    Entry { home: Arc<Directory>, name: Arc<[u8]> },
}

/// Who was given which number.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<HashMap<u64, Row>>);

impl Browser {
    /// Remembers an item, so that [`item`](Self::item) finds it by its number; once more if it is remembered already.
    pub fn remember(&self, item: &Item) {
        let place = match &item.place {
            // These are few, and known anyway.
            Place::Hall { .. } | Place::Link { .. } => return,
            Place::Top(top) => Remembered::Top(top.clone()),
            Place::Entry { home, node } => Remembered::Entry { home: home.clone(), name: node.name.as_slice().into() },
        };
        // Of a file with several names it is the first that was met: what it is by one, it is by all.
        lock(&self.handles.0).entry(item.number()).or_insert(Row { place, count: 0 }).count += 1;
    }

    /// Takes back `times` of what [`remember`](Self::remember) did for a number.
    pub fn forget(&self, number: u64, times: u64) {
        let mut handles = lock(&self.handles.0);
        if let Some(row) = handles.get_mut(&number) {
            row.count = row.count.saturating_sub(times);
            if row.count == 0 {
                handles.remove(&number);
            }
        }
    }

    /// How many numbers are remembered.
    pub fn remembered(&self) -> usize {
        lock(&self.handles.0).len()
    }

    /// What has this number: it is remembered, or it is a directory or a `latest` above the snapshots. `None`: nothing,
    /// or no longer.
    pub fn item(&self, number: u64) -> Result<Option<Item>> {
        if number == TOP {
            return Ok(Some(self.top()));
        }
        let remembered = lock(&self.handles.0).get(&number).map(|row| row.place.clone());
        match remembered {
            Some(Remembered::Top(top)) => Ok(Some(Item::top(top))),
            Some(Remembered::Entry { home, name }) => self.entry_of(&home, &name),
            None => Ok(self.above_snapshots(number)),
        }
    }
}
