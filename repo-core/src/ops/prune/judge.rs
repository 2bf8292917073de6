//! The second look of a cycle, when every writer that was at work is done with: what goes, or whether what somebody else says
//! may go.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::Put;
use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Mark, Plan};
use crate::id::{GcStage, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::progress::Event;
use crate::store::gc::{self, Cycles};
use crate::store::{Index, Store};

use super::cycle::Pruning;
use super::evaluate::look;
use super::plan::{Answer, Question};
use super::usage::Live;

/// How often a foreign plan is held against what is there, while snapshots keep coming.
const LOOKS_MAX: usize = 8;

impl Pruning<'_> {
    /// What goes. The first plan that was written counts, whoever made it; `None`: the cycle ended meanwhile.
    pub(super) fn plan(
        &mut self,
        cycle: u64,
        mark: &Mark,
        mark_bytes: &Bytes,
        had_plan: bool,
    ) -> Result<Option<(Bytes, Plan, bool)>> {
        let name = ObjectName::Gc(cycle, GcStage::Plan);
        if !had_plan {
            let answer = match self.look_again(mark).and_then(|question| question.ask(self)) {
                // Likewise; then nobody asks for this plan.
                Err(Error::Corrupt { .. } | Error::ChunkLost { .. })
                    if Cycles::list(self.backend())?.newest_done() >= cycle =>
                {
                    return Ok(None);
                }
                answer => answer?,
            };
            let plan = Plan {
                cycle,
                mark_digest: *blake3::hash(mark_bytes).as_bytes(),
                delete: answer.delete,
                rescued: answer.rescued,
                extensions: Vec::new(),
            };
            let bytes = gc::seal_step(self.keys(), cycle, GcStage::Plan, self.by, &plan.encode())?;
            let put = self.backend().put_new(&name, bytes.clone())?;
            if Cycles::list(self.backend())?.newest_done() >= cycle {
                return Ok(None);
            }
            if put == Put::Created || mutant!("everyone obeys his own plan") {
                return Ok(Some((bytes, plan, true)));
            }
        }
        match gc::read_step(self.backend(), self.keys(), cycle, GcStage::Plan, Plan::decode) {
            Ok((bytes, plan)) => {
                if plan.mark_digest != *blake3::hash(mark_bytes).as_bytes()
                    || plan.delete.iter().any(|pack| mark.packs.binary_search(pack).is_err())
                {
                    return Err(Corruption::Malformed("a plan of another mark").of(name));
                }
                Ok(Some((bytes, plan, false)))
            }
            Err(Error::Backend(error)) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Loads the index, and only then the snapshots. One that is published between the two has packs that are not in the view;
    /// its writer came after the mark, and relies on nothing that is marked.
    fn look_again(&self, mark: &Mark) -> Result<SecondLook> {
        self.progress.report(Event::Stage { name: "packs and index" });
        let early = if mutant!("snapshots are not read again") { Some(mark.roots.clone()) } else { None };
        let (store, view) = look(self.repository)?;
        self.fail_closed(&view)?;
        self.progress.report(Event::Stage { name: "trees" });
        // Forgotten ones too, as long as this cycle does not expire them: they keep their data for their window.
        let published = self.published()?;
        let expired = self.expired_by(mark, Some(&published))?;
        let live = published.snapshots.iter().filter(|(snapshot, forgotten)| {
            let goes = expired.contains(&snapshot.id());
            let loses_its_window = forgotten.is_some() && mutant!("the forgotten lose their window");
            !goes && !loses_its_window && early.as_ref().is_none_or(|roots| roots.binary_search(&snapshot.id()).is_ok())
        });
        let live = Live::find(&store, &view, live.map(|(snapshot, _)| &snapshot.record), self.progress)?;
        let snapshots = published.snapshots.iter().map(|(snapshot, _)| snapshot.id()).collect();
        Ok(SecondLook { store, view, live, snapshots, marked: mark.packs.iter().copied().collect() })
    }

    /// A plan that this run did not make may have been made by anyone: it is carried out only if every writer that this run
    /// sees is done with, and by this run's own look nothing that lives is lost. All of it, or nothing.
    pub(super) fn check_plan(&mut self, mark: &Mark, plan: &Plan) -> Result<()> {
        for session in self.list_sessions()? {
            self.resolve(session, mark.cycle)?;
        }
        if !self.report.waiting_for.is_empty() {
            return Ok(());
        }
        let delete: BTreeSet<PackId> = plan.delete.iter().copied().collect();
        let mut seen = None;
        for _ in 0..LOOKS_MAX {
            let look = self.look_again(mark)?;
            if look.question(self).may_all_go(&delete)? {
                return Ok(());
            }
            // A snapshot that was published after the index was loaded has packs of its own that this index does not know, and
            // seems to need the marked ones. Once the same snapshots were there before the index was loaded, it is so.
            let snapshots = Some(look.snapshots);
            if seen == snapshots {
                break;
            }
            seen = snapshots;
        }
        let name = ObjectName::Gc(mark.cycle, GcStage::Plan);
        Err(Corruption::Malformed("plan: it would delete what snapshots need").of(name))
    }
}

/// What is there when every pending writer is done with.
struct SecondLook {
    store: Arc<Store>,
    view: Arc<Index>,
    live: Live,
    /// All that were listed.
    snapshots: Vec<SnapshotId>,
    marked: BTreeSet<PackId>,
}

impl SecondLook {
    fn question<'q>(&'q self, pruning: &'q Pruning<'_>) -> Question<'q> {
        Question {
            store: &self.store,
            view: &self.view,
            live: &self.live,
            marked: &self.marked,
            retained: &pruning.retained,
            proven: &pruning.proven,
        }
    }

    fn ask(&self, pruning: &Pruning<'_>) -> Result<Answer> {
        self.question(pruning).decide()
    }
}
