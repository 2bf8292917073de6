//! What forgetting frees: bytes that only one of the snapshots to be forgotten refers to, and bytes that only they do.
//! One walk over the trees of all snapshots, each shared part once, with two bytes a chunk.

use crate::error::{Error, Result};
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::progress::Progress;
use crate::repository::{Repository, Snapshot};
use crate::store::Index;
use crate::tree::{self, Visitor};

/// What space comes back when packs are pruned and the windows are over. In stored bytes: a chunk's part of its frame.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Freed {
    /// What none but the snapshots to be forgotten refer to.
    pub bytes: u64,
    /// In the order of the question: what none but this snapshot refers to. Less in sum than [`bytes`](Self::bytes), where
    /// they share.
    pub unique_bytes: Vec<(SnapshotId, u64)>,
    /// Parts of trees that could not be read: the answer is a guess then.
    pub problems: Vec<Error>,
}

/// Nobody was seen yet.
const NOBODY: u16 = 0;
/// Several of the snapshots to be forgotten.
const SEVERAL: u16 = u16::MAX - 1;
/// A snapshot that stays.
const KEPT: u16 = u16::MAX;

impl Repository {
    /// What forgetting `gone` frees, if `kept` stay. Snapshots that are forgotten already count as gone.
    pub(super) fn freed(&self, kept: &[&Snapshot], gone: &[&Snapshot], progress: &dyn Progress) -> Result<Freed> {
        let store = self.fresh_store()?;
        let view = store.view();
        let mut owners =
            Owners { view: &view, owners: vec![NOBODY; view.number_count()], at: KEPT, progress, problems: Vec::new() };
        let numbered = (1..SEVERAL).map(Some).chain(std::iter::repeat(None));
        let gone: Vec<_> = gone.iter().zip(numbered).collect();
        // Those that stay first: what is below theirs is looked at once.
        let kept = kept.iter().map(|snapshot| (*snapshot, KEPT));
        // More than have numbers count for the sum alone.
        let all = kept.chain(gone.iter().map(|(snapshot, number)| (**snapshot, number.unwrap_or(SEVERAL))));
        for (snapshot, owner) in all {
            owners.at = owner;
            if let Some(root) = &snapshot.record.root.tree {
                tree::references(&store, root, &mut owners)?;
            }
        }
        let mut by_owner = vec![0u64; usize::from(u16::MAX) + 1];
        for (number, owner) in owners.owners.iter().enumerate().filter(|(_, owner)| **owner != NOBODY) {
            by_owner[usize::from(*owner)] += view.stored_bytes(number as u32);
        }
        let unique_bytes = gone
            .iter()
            .filter_map(|(snapshot, number)| number.map(|number| (snapshot.id(), by_owner[usize::from(number)])));
        Ok(Freed {
            unique_bytes: unique_bytes.collect(),
            bytes: by_owner[..usize::from(KEPT)].iter().sum(),
            problems: owners.problems,
        })
    }
}

/// Who refers to each chunk.
struct Owners<'v> {
    view: &'v Index,
    owners: Vec<u16>,
    /// Whose tree is walked.
    at: u16,
    progress: &'v dyn Progress,
    problems: Vec<Error>,
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
