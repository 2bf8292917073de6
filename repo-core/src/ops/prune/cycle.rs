//! The steps of a cycle, from whichever one the last run stopped at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::backend::{Backend, Prefix, Put};
use crate::crypto::{self, Keys};
use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Mark, Pending, Plan};
use crate::id::{GcStage, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Published, Repository};
use crate::store::gc::{self, Cycles};
use crate::store::{compact, is_merged_away};

use super::room::Room;
use super::{PruneOptions, PruneReport};

/// How often a run begins or continues a cycle: somebody else's, its own, and once more if it lost a race; on a full place
/// the same after each of three ways to make do.
const CYCLES_MAX: usize = 8;

/// One run.
pub(super) struct Pruning<'r> {
    pub(super) repository: &'r Repository,
    pub(super) options: &'r PruneOptions,
    pub(super) progress: &'r dyn Progress,
    /// The name of this run in what it writes.
    pub(super) by: SnapshotId,
    pub(super) now_ms: u64,
    pub(super) report: PruneReport,
    /// Refused deletes of earlier cycles.
    pub(super) retained: HashSet<PackId>,
    /// What is kept beside packs: parity, damage records.
    pub(super) companions: HashMap<PackId, Vec<ObjectName>>,
    /// Packs that this run wrote itself, each chunk named as it was moved.
    pub(super) proven: HashSet<PackId>,
    /// Whether the index speaks of packs that are gone.
    pub(super) index_is_stale: bool,
    /// The cycle whose mark is this run's.
    pub(super) own_mark: Option<u64>,
    /// What the place has room for.
    pub(super) room: Room,
    /// Whether the step that runs, or failed, was moving packs.
    pub(super) was_moving: bool,
}

/// How far a cycle came.
pub(super) enum Outcome {
    Done,
    /// Writers are at work.
    Waiting,
    /// Somebody else was faster.
    Again,
    /// There was nothing to do.
    Nothing,
}

impl<'r> Pruning<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        options: &'r PruneOptions,
        progress: &'r dyn Progress,
    ) -> Result<Self> {
        let now_ms = host::now_ms();
        Ok(Self {
            repository,
            options,
            progress,
            by: SnapshotId::new(now_ms, crypto::random()?),
            now_ms,
            report: PruneReport::default(),
            retained: HashSet::new(),
            companions: HashMap::new(),
            proven: HashSet::new(),
            index_is_stale: false,
            own_mark: None,
            room: Room::default(),
            was_moving: false,
        })
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        self.repository.inner.backend.as_ref()
    }

    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.repository.inner.keys
    }

    pub(super) fn run(mut self) -> Result<PruneReport> {
        if self.options.dry_run {
            let cycles = Cycles::list(self.backend())?;
            self.report.continued = cycles.open().is_some();
            self.retained = gc::retained(self.backend(), self.keys(), &cycles)?.into_iter().collect();
            let cycle = next(&cycles)?;
            for _ in 1..CYCLES_MAX {
                match self.evaluate(cycle) {
                    Err(error) if is_merged_away(&error) => {}
                    told => return told.map(|_| self.report),
                }
            }
            return self.evaluate(cycle).map(|_| self.report);
        }
        let result = self.cycles().and_then(|()| self.repository.finish_rotation());
        self.keep_reserve();
        result.map(|()| self.report)
    }

    fn cycles(&mut self) -> Result<()> {
        for _ in 0..CYCLES_MAX {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.was_moving = false;
            self.repository.finish_rotation()?;
            let outcome = match self.step() {
                Err(error) if self.makes_do(&error) => continue,
                // Somebody tidied up: the index has to be asked anew.
                Err(error) if is_merged_away(&error) => continue,
                outcome => outcome?,
            };
            if self.moves_now(&outcome) {
                self.own_mark = None;
                continue;
            }
            match outcome {
                Outcome::Nothing => return Ok(()),
                Outcome::Waiting if self.options.wait => self.pause()?,
                Outcome::Waiting => return Ok(()),
                Outcome::Done if self.own_mark.is_some() => return Ok(()),
                // Somebody else's cycle: what this run was asked for comes now.
                Outcome::Done | Outcome::Again => {}
            }
        }
        Ok(())
    }

    /// Begins a cycle or continues the open one.
    fn step(&mut self) -> Result<Outcome> {
        self.require_owner()?;
        let cycles = Cycles::list(self.backend())?;
        let retained = gc::retained(self.backend(), self.keys(), &cycles);
        self.retained = match retained {
            Ok(packs) => packs.into_iter().collect(),
            // The cycle after it ended since it was listed.
            Err(Error::Backend(error)) if error.is_absent() => return Ok(Outcome::Again),
            Err(error) => return Err(error),
        };
        if let Some(cycle) = cycles.open() {
            // Carried to its end it would leave no number for the next.
            if cycle == u64::MAX {
                return Err(LAST_CYCLE.of(ObjectName::Gc(cycle, GcStage::Mark)));
            }
            if self.own_mark != Some(cycle) {
                self.report.continued = true;
            }
            return self.finish(cycle, &cycles);
        }
        let cycle = next(&cycles)?;
        let mark = match self.check_roots(&cycles).and_then(|()| self.evaluate(cycle)) {
            Err(error) if self.is_overtaken(&error, &cycles)? => return Ok(Outcome::Again),
            mark => mark?,
        };
        let Some(mark) = mark else {
            self.remove_finished()?;
            // The last cycle's run died between its end and its tidying up: nobody else would do it.
            if self.index_is_stale || self.options.rekey && self.keys().has_older_epochs() {
                compact(self.backend(), self.keys(), self.by, self.options.rekey)?;
            }
            return Ok(Outcome::Nothing);
        };
        // After the cycles were listed: so a rotation that is not seen here finds either this mark or the name it takes.
        self.repository.check_generations()?;
        let bytes = gc::seal_step(self.keys(), cycle, GcStage::Mark, self.by, &mark.encode())?;
        if let Put::Created = self.backend().put_new(&ObjectName::Gc(cycle, GcStage::Mark), bytes)? {
            self.own_mark = Some(cycle);
        }
        // Looked at again: whoever was asleep for a whole cycle finds that his mark came too late.
        let cycles = Cycles::list(self.backend())?;
        if cycles.newest_done() >= cycle {
            if self.own_mark.take() == Some(cycle) && cycles.newest_done() > cycle {
                self.backend().remove(&ObjectName::Gc(cycle, GcStage::Mark))?;
            }
            return Ok(Outcome::Again);
        }
        self.finish(cycle, &cycles)
    }

    /// Whether what was to be read may be missing only because somebody else began a cycle meanwhile, or ended one.
    fn is_overtaken(&self, error: &Error, cycles: &Cycles) -> Result<bool> {
        let speaks_of_the_gone = match error {
            Error::Corrupt { .. } | Error::ChunkLost { .. } | Error::SnapshotsVanished { .. } => true,
            Error::Backend(error) => error.is_absent(),
            _ => false,
        };
        Ok(speaks_of_the_gone && Cycles::list(self.backend())? != *cycles)
    }

    /// A snapshot of the last mark that is gone, without a forget record or a successor, was taken away by somebody: perhaps
    /// only for a while. What it refers to must not be deleted on that ground.
    fn check_roots(&self, cycles: &Cycles) -> Result<()> {
        let last = cycles.newest_done();
        if last == 0 || !cycles.has(last, GcStage::Mark) || self.options.accept_lost_snapshots {
            return Ok(());
        }
        let (_, mark) = gc::read_mark(self.backend(), self.keys(), last)?;
        let there: BTreeSet<SnapshotId> = self.repository.snapshot_ids()?.into_iter().collect();
        let forgotten = self.repository.forgotten_ids()?;
        let missing: Vec<SnapshotId> =
            mark.roots.into_iter().filter(|id| !there.contains(id) && !forgotten.contains(id)).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::SnapshotsVanished { count: missing.len(), first: *first }),
        }
    }

    /// From the mark to the end.
    fn finish(&mut self, cycle: u64, cycles: &Cycles) -> Result<Outcome> {
        let (mark_bytes, mark) = match gc::read_mark(self.backend(), self.keys(), cycle) {
            Ok(mark) => mark,
            Err(Error::Backend(error)) if error.is_absent() => return Ok(Outcome::Again),
            Err(error) => return Err(error),
        };
        let (pending, is_own) = match self.pending(cycle) {
            // The cycle ended since, and even the one after it.
            Err(Error::Backend(error)) if error.is_absent() => return Ok(Outcome::Again),
            pending => pending?,
        };
        self.report.waiting_for.clear();
        if !mutant!("pending writers are not waited for") {
            for session in &pending.sessions {
                self.resolve(*session, cycle)?;
            }
            if !is_own {
                self.resolve_left_out(cycle, &pending)?;
            }
        }
        if !self.report.waiting_for.is_empty() {
            return Ok(Outcome::Waiting);
        }
        let had_plan = cycles.has(cycle, GcStage::Plan);
        let Some((plan_bytes, plan, is_own)) = self.plan(cycle, &mark, &mark_bytes, had_plan)? else {
            return Ok(Outcome::Again);
        };
        if !is_own && !mutant!("a foreign plan is obeyed") {
            if let Err(error) = self.check_plan(&mark, &plan) {
                // Nothing is deleted. If the cycle has ended meanwhile, what is there now is no judge of its plan.
                let is_over = Cycles::list(self.backend())?.newest_done() >= cycle;
                return if is_over { Ok(Outcome::Again) } else { Err(error) };
            }
            if !self.report.waiting_for.is_empty() {
                return Ok(Outcome::Waiting);
            }
        }
        self.require_owner()?;
        self.progress.report(Event::Stage { name: "deleting" });
        self.companions = self.list_companions(&plan)?;
        let expired = self.expired_by(&mark, None)?;
        self.execute(cycle, &expired, &plan, *blake3::hash(&plan_bytes).as_bytes())?;
        self.sweep(cycle, &pending.sessions)?;
        Ok(Outcome::Done)
    }

    /// Who was at work after the mark was set: the first list that was written counts.
    /// And whether it is this run's.
    fn pending(&self, cycle: u64) -> Result<(Pending, bool)> {
        let name = ObjectName::Gc(cycle, GcStage::Pending);
        let sessions = if mutant!("no pending list") { Vec::new() } else { self.list_sessions()? };
        let pending = Pending { cycle, sessions, extensions: Vec::new() };
        let bytes = gc::seal_step(self.keys(), cycle, GcStage::Pending, self.by, &pending.encode())?;
        match self.backend().put_new(&name, bytes)? {
            Put::Created => Ok((pending, true)),
            Put::Exists(_) | Put::Unknown => {
                let (_, pending) =
                    gc::read_step(self.backend(), self.keys(), cycle, GcStage::Pending, Pending::decode)?;
                Ok((pending, false))
            }
        }
    }

    /// Which of the snapshots that a mark expires do go. A mark that this run did not set may be anyone's: of what it names,
    /// only what was forgotten, and whose window is over, by this run's own look.
    pub(super) fn expired_by(&self, mark: &Mark, published: Option<&Published>) -> Result<BTreeSet<SnapshotId>> {
        let named = mark.expired.iter().copied();
        if self.own_mark == Some(mark.cycle) || mark.expired.is_empty() {
            return Ok(named.collect());
        }
        let expired = match published {
            Some(published) => self.expired(published),
            None => self.expired(&self.published()?),
        };
        Ok(named.filter(|id| expired.contains(id)).collect())
    }

    fn list_companions(&self, plan: &Plan) -> Result<HashMap<PackId, Vec<ObjectName>>> {
        let mut companions: HashMap<PackId, Vec<ObjectName>> = HashMap::new();
        for prefix in [Prefix::Parity, Prefix::Damaged] {
            for (name, _) in self.repository.objects(prefix)? {
                if let ObjectName::Parity(pack, _) | ObjectName::Damaged(pack, _) = name
                    && plan.delete.binary_search(&pack).is_ok()
                {
                    companions.entry(pack).or_default().push(name);
                }
            }
        }
        Ok(companions)
    }
}

/// The number of the cycle to begin. Whoever wrote the last possible one was not prune.
fn next(cycles: &Cycles) -> Result<u64> {
    let last = cycles.newest_done();
    last.checked_add(1).ok_or_else(|| LAST_CYCLE.of(ObjectName::Gc(last, GcStage::Done)))
}

const LAST_CYCLE: Corruption = Corruption::Malformed("number of a cycle: none comes after it");
