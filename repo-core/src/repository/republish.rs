//! A published snapshot under a new name: retagged, pinned, brought back. A name is never written twice, so whatever
//! changes about a snapshot makes a new one, with the old one as its origin.

use std::collections::BTreeSet;

use super::{Repository, Snapshot, Witness};
use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Forgotten, Successor};
use crate::format::snapshot::SnapshotRecord;
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::platform::host;
use crate::progress::Progress;
use crate::store::{ChunkSet, Index, Sealing, Session, SessionKind, Store, WriterOptions};
use crate::tree::{self, Visitor};

/// Sessions that are open at once: each is an object, and all share one look at the index.
const BATCH: usize = 64;

/// Whether what the old snapshot refers to may be taken for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    /// It is shown, so its chunks are there, unless packs are condemned: then each is looked for.
    Shown,
    /// It was forgotten, and its chunks may be gone: each is looked for.
    Forgotten,
}

impl Repository {
    /// Publishes each record, whose `id` is that of the snapshot it comes from, under a name of its own. As each is done, tells
    /// its place among them, and the new snapshot or why there is none.
    pub(crate) fn republish(
        &self,
        records: Vec<SnapshotRecord>,
        old: Old,
        program: &str,
        progress: &dyn Progress,
        done: &mut dyn FnMut(usize, Result<Snapshot>),
    ) -> Result<()> {
        let mut records = records.into_iter().enumerate().peekable();
        while records.peek().is_some() {
            let batch: Vec<_> = records.by_ref().take(BATCH).collect();
            // Registered before the index is loaded, so that nobody takes away what is relied on from here on.
            let register = |_: &(usize, SnapshotRecord)| {
                Session::register(&self.inner.backend, &self.inner.keys, SessionKind::Retag, program)
            };
            let sessions = batch.iter().map(register).collect::<Result<Vec<_>>>()?;
            let store = self.fresh_store()?;
            let view = store.view();
            let forgotten = self.forgotten_ids()?;
            let mut seen = Seen::new(&view, progress);
            for ((at, record), session) in batch.into_iter().zip(sessions) {
                if progress.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                done(at, self.republish_one(record, session, old, &forgotten, &store, &mut seen));
            }
        }
        Ok(())
    }

    fn republish_one(
        &self,
        mut record: SnapshotRecord,
        session: Session,
        old: Old,
        forgotten: &BTreeSet<SnapshotId>,
        store: &Store,
        seen: &mut Seen<'_>,
    ) -> Result<Snapshot> {
        let origin = record.id;
        // Looked at again after the session was registered: it may have gone since the caller saw it.
        let there = match self.read_published(origin) {
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => None,
            there => there?,
        };
        let is_there = there.is_some() && (forgotten.contains(&origin) == (old == Old::Forgotten));
        if !is_there {
            return Err(Error::NoSnapshot { selector: origin.short() });
        }
        if let Some(root) = record.root.tree.filter(|_| old == Old::Forgotten || seen.view.has_condemned()) {
            seen.look(store, &root)?;
        }
        record.origin = Some(origin);
        let tree =
            Sealing::new(store, session.id(), WriterOptions { threads: 1, parity_percent: 0, ..self.writer_options() })
                .finish(record.root, seen.view)?;
        self.check_generations()?;
        Ok(Snapshot { record: session.publish(&tree, record)? })
    }

    /// Forgets a snapshot whose place another one took. It can be brought back for `window_ms` milliseconds. If somebody else has
    /// forgotten it meanwhile, his word holds, and the new one goes again: else what one client removed, another would bring back.
    pub(crate) fn supersede(&self, old: &Snapshot, new: &Snapshot, by: &str, window_ms: u64) -> Result<()> {
        let now_ns = host::now_ns();
        let at_ms = now_ns.max(0) as u64 / 1_000_000;
        let forget = |snapshot: SnapshotId, purge_after_ms, reason: String, extensions| {
            let by = by.to_owned();
            self.write_forgotten(&Forgotten { snapshot, at_ms, purge_after_ms, reason, by, extensions })
        };
        let Witness { begun_ms, stored_ms } = self.witness(old, now_ns)?;
        let successor = Successor { snapshot: new.id(), begun_ms, stored_ms: stored_ms.unwrap_or(0) };
        let until_ms = at_ms.saturating_add(window_ms);
        forget(old.id(), until_ms, format!("now {}", new.id().short()), successor.extensions())?;
        if self.is_successor(old.id(), new)? {
            return Ok(());
        }
        forget(new.id(), at_ms, format!("{} was forgotten meanwhile", old.id().short()), Vec::new())?;
        Err(Error::NoSnapshot { selector: old.id().short() })
    }

    /// Whether a writer that was registered before `view` was loaded may rely on all that is below `root`.
    ///
    /// # Errors
    /// [`Error::ChunkLost`] for the first chunk that it may not rely on.
    pub(crate) fn require(&self, store: &Store, root: &ChunkId, progress: &dyn Progress) -> Result<()> {
        let view = store.view();
        Seen::new(&view, progress).look(store, root)
    }
}

/// The chunks that were found where a writer may rely on them, with all that is below them.
pub(crate) struct Seen<'v> {
    view: &'v Index,
    found: ChunkSet,
    progress: &'v dyn Progress,
}

impl<'v> Seen<'v> {
    /// Nothing was found yet.
    pub(crate) fn new(view: &'v Index, progress: &'v dyn Progress) -> Self {
        Self { view, found: view.empty_set(), progress }
    }

    /// Looks for all that is below a root, but for what was found before.
    ///
    /// # Errors
    /// [`Error::ChunkLost`] for the first chunk that a writer may not rely on.
    pub(crate) fn look(&mut self, store: &Store, root: &ChunkId) -> Result<()> {
        let found = tree::references(store, root, self);
        if found.is_err() {
            // What was met was not looked below in full: the next tree that shares it must be.
            self.found = self.view.empty_set();
        }
        found
    }
}

impl Visitor for Seen<'_> {
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // In one that may be relied on, it has a place, and so a bit.
        let is_new = if self.view.contains(kind, id) { self.view.insert_into(&mut self.found, kind, id) } else { None };
        let problem = "it is in no pack that may still be used";
        is_new.ok_or_else(|| Error::ChunkLost { id: *id, problem: problem.to_owned() })
    }
}
