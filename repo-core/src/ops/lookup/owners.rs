//! Who refers to each chunk: one of many snapshots alone, several of them, or one that stays. Each shared part of the trees
//! is looked at twice at most, with two bytes a chunk.

use crate::error::{Error, Result};
use crate::id::{ChunkId, ChunkKind};
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::{Index, Store};
use crate::tree::{self, Visitor};

/// Nobody was seen yet.
const NOBODY: u16 = 0;
/// Several of those that are counted.
const SEVERAL: u16 = u16::MAX - 1;
/// One that stays.
const KEPT: u16 = u16::MAX;

/// Whose tree is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Of those that are counted, the one at this place of their list.
    Counted(usize),
    /// One that stays, whoever else goes.
    Kept,
}

/// Who refers to each chunk of an index.
pub struct Owners<'v> {
    view: &'v Index,
    owners: Vec<u16>,
    at: u16,
    progress: &'v dyn Progress,
    /// What could not be read: the answer is a guess then.
    pub problems: Vec<Error>,
}

/// Stored bytes by who refers to them: a chunk's part of its frame.
#[derive(Debug)]
pub struct OwnedBytes {
    by_owner: Vec<u64>,
}

impl<'v> Owners<'v> {
    /// Nobody refers to anything yet.
    pub fn new(view: &'v Index, progress: &'v dyn Progress) -> Self {
        Self { view, owners: vec![NOBODY; view.number_count()], at: KEPT, progress, problems: Vec::new() }
    }

    /// Adds all that a snapshot refers to. Those that stay come first: what is below theirs is looked at once.
    pub fn add(&mut self, store: &Store, snapshot: &Snapshot, owner: Owner) -> Result<()> {
        self.at = match owner {
            Owner::Kept => KEPT,
            // More than there are numbers count for the sum alone.
            Owner::Counted(place) => {
                u16::try_from(place).ok().and_then(|place| place.checked_add(1)).unwrap_or(SEVERAL).min(SEVERAL)
            }
        };
        match &snapshot.record().root.tree {
            Some(root) => tree::references(store, root, self),
            None => Ok(()),
        }
    }

    /// The bytes of each.
    pub fn bytes(&self) -> OwnedBytes {
        let mut by_owner = vec![0u64; usize::from(u16::MAX) + 1];
        for (number, owner) in self.owners.iter().enumerate().filter(|(_, owner)| **owner != NOBODY) {
            by_owner[usize::from(*owner)] += self.view.stored_bytes(number as u32);
        }
        OwnedBytes { by_owner }
    }

    /// The numbers of the chunks that anybody refers to, in the order of the index.
    pub fn referred(&self) -> impl Iterator<Item = u32> {
        self.owners.iter().enumerate().filter(|(_, owner)| **owner != NOBODY).map(|(number, _)| number as u32)
    }
}

impl OwnedBytes {
    /// What only the counted one at this place refers to; `None` for one that has no number of its own.
    pub fn unique(&self, place: usize) -> Option<u64> {
        let number = place.checked_add(1).filter(|number| *number < usize::from(SEVERAL))?;
        self.by_owner.get(number).copied()
    }

    /// What none but those that are counted refer to.
    pub fn counted(&self) -> u64 {
        self.by_owner[..usize::from(KEPT)].iter().sum()
    }
}

impl Visitor for Owners<'_> {
    /// A subtree is entered when it is met first, and once more when it turns out to be shared; never again after that.
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let Some(number) = self.view.number(kind, id) else {
            self.problems.push(Error::ChunkLost { id: *id, problem: "it is in no index and no pack".to_owned() });
            return Ok(false);
        };
        let owner = &mut self.owners[number as usize];
        let now = match *owner {
            NOBODY => self.at,
            KEPT => KEPT,
            known if known == self.at => known,
            _ => SEVERAL,
        };
        Ok(std::mem::replace(owner, now) != now)
    }

    fn lost(&mut self, error: Error) -> Result<()> {
        self.problems.push(error);
        Ok(())
    }
}
