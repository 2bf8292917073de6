//! The steps of a cycle, from whichever one the last run stopped at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Backend, Prefix, Put};
use crate::crypto::{self, Keys};
use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Forgotten, Mark, Pending, Plan};
use crate::format::session::Session;
use crate::id::{GcStage, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Published, Repository};
use crate::store::gc::{self, Cell, Cycles};
use crate::store::{Index, Store, compact};

use super::choose::choose;
use super::plan::Question;
use super::repack::{Known, repack};
use super::room::Room;
use super::usage::{Live, Usage};
use super::{PruneOptions, PruneReport, Writer};

/// How often a run begins or continues a cycle: somebody else's, its own, and once more if it lost a race; on a full place
/// the same after each of three ways to make do.
const CYCLES_MAX: usize = 8;
/// How often a foreign plan is held against what is there, while snapshots keep coming.
const LOOKS_MAX: usize = 8;
/// Between two looks at writers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

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
    proven: HashSet<PackId>,
    /// Whether the index speaks of packs that are gone.
    index_is_stale: bool,
    /// The cycle whose mark is this run's.
    own_mark: Option<u64>,
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
            self.evaluate(next(&cycles)?)?;
            return Ok(self.report);
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

    /// Waits for writers that are at work, until they are not, or the caller has enough.
    fn pause(&mut self) -> Result<()> {
        self.progress.report(Event::Stage { name: "waiting for writers" });
        while self.progress_of_writers()? {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Whether one of those that were waited for still is at work.
    fn progress_of_writers(&mut self) -> Result<bool> {
        for writer in std::mem::take(&mut self.report.waiting_for) {
            if !self.resolve(writer.session, 0)? {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Sessions whose name is taken need no cycle to go.
    fn remove_finished(&self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        for session in self.list_sessions()? {
            if gc::read_cell(self.backend(), self.keys(), session)? != Cell::Empty {
                self.remove_session(session)?;
            }
        }
        Ok(())
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

    /// Looks at everything, moves what must be moved, and says what may go. `None`: nothing.
    fn evaluate(&mut self, cycle: u64) -> Result<Option<Mark>> {
        // The dead are done with first: their packs are nobody's.
        if !self.options.dry_run {
            for session in self.list_sessions()? {
                self.resolve(session, cycle)?;
            }
            self.report.waiting_for.clear();
        }
        self.progress.report(Event::Stage { name: "packs and index" });
        let store = self.repository.fresh_store()?;
        let view = store.view();
        self.fail_closed(&view)?;
        self.index_is_stale = !view.report().missing_packs.is_empty();
        self.progress.report(Event::Stage { name: "trees" });
        let published = self.published()?;
        let expired = self.expired(&published);
        let stay = || {
            published
                .snapshots
                .iter()
                .map(|(snapshot, _)| snapshot)
                .filter(|snapshot| !expired.contains(&snapshot.id()))
        };
        // Those that are still shown first: what the forgotten add to that is theirs alone.
        let (mut shown, mut held) = (Vec::new(), Vec::new());
        for (snapshot, forgotten) in &published.snapshots {
            if !expired.contains(&snapshot.id()) {
                if forgotten.is_some() { &mut held } else { &mut shown }.push(&snapshot.record);
            }
        }
        let mut live = Live::find(&store, &view, shown.into_iter(), self.progress)?;
        let before = (!held.is_empty()).then(|| live.so_far());
        live.add(&store, &view, held.iter().copied(), self.progress)?;
        self.report.lost_chunks = live.lost_count;
        let writers: HashSet<SnapshotId> = self.list_sessions()?.into_iter().collect();
        let mut usage =
            Usage::measure(&view, &live, &self.retained, |pack| writers.contains(&view.packs()[pack].writer));
        let old = self.find_old(&store, &view, &published)?;
        for pack in &mut usage.packs {
            pack.is_old = old.contains_key(&pack.id);
        }
        let config = self.repository.config();
        let targets = [config.pack_data_bytes.into(), config.pack_meta_bytes.into()];
        let mut policy = self.options.policy(targets);
        if !self.room.allows_moving() {
            policy = policy.without_moving();
        }
        let mut choice = choose(&usage.packs, &self.retained, &policy);
        if !self.room.allows_moving() {
            choice.repack.clear();
        }
        self.tell(&view, &usage, &choice);
        let given_up = usage.given_up(&view, &live, &self.retained);
        self.tell_given_up(&view, &usage, &given_up);
        if let Some(before) = before {
            self.report.held_bytes = usage.stored_since(&view, &live, &before);
        }
        self.report.held_snapshots = held.len() as u64;
        let windows = published.snapshots.iter().filter(|(snapshot, _)| !expired.contains(&snapshot.id()));
        let ends = windows.filter_map(|(_, forgotten)| forgotten.as_ref()).map(|forgotten| forgotten.purge_after_ms);
        self.report.held_until_ms = ends.max().unwrap_or(0);
        if self.options.dry_run {
            self.tell_old(&old, &choice.unused.iter().chain(&choice.repack).copied().collect());
            self.report.expired_snapshots = expired.iter().copied().collect();
            return Ok(None);
        }
        let mut condemned: BTreeSet<PackId> = choice.unused.iter().chain(&given_up).copied().collect();
        if !choice.repack.is_empty() {
            self.progress.report(Event::Stage { name: "moving" });
            self.progress.report(Event::Total { files: 0, bytes: self.report.repack_bytes });
            let known = Known { store: &store, view: &view, live: &live, usage: &usage };
            self.was_moving = true;
            let moved = repack(&known, &choice.repack, self.by, self.repository.writer_options(), self.progress)?;
            self.was_moving = false;
            condemned.extend(&moved.emptied);
            self.proven.extend(moved.written);
            self.report.written_bytes += moved.written_bytes;
            self.report.problems.extend(moved.failed.iter().map(Error::to_string));
        }
        self.report.no_room_to_move &= !self.room.allows_moving();
        self.tell_old(&old, &condemned);
        if condemned.is_empty() && expired.is_empty() {
            return Ok(None);
        }
        let mut roots: Vec<SnapshotId> = stay().map(|snapshot| snapshot.id()).collect();
        roots.sort_unstable();
        Ok(Some(Mark {
            cycle,
            by: self.by,
            created_ms: self.now_ms,
            packs: condemned.into_iter().collect(),
            roots,
            expired: expired.into_iter().collect(),
            extensions: Vec::new(),
        }))
    }

    /// What cannot be read could speak of anything; only a pack speaks of nothing but itself, and is left alone.
    fn fail_closed(&self, view: &Index) -> Result<()> {
        let is_of_later = |problem: &Corruption| matches!(problem, Corruption::Unknown { .. });
        for error in &view.report().errors {
            if let Error::Corrupt { object, problem } = error
                && (!matches!(object, ObjectName::Pack(..)) || is_of_later(problem))
            {
                return Err(problem.clone().of(*object));
            }
        }
        Ok(())
    }

    /// Every snapshot; an error if one cannot be read.
    fn published(&self) -> Result<Published> {
        let mut published = self.repository.published()?;
        match published.unreadable.pop() {
            Some(error) => Err(error),
            None => Ok(published),
        }
    }

    /// Forgotten, the window over, and not pinned.
    fn expired(&self, published: &Published) -> BTreeSet<SnapshotId> {
        let is_over = |forgotten: &Forgotten| forgotten.purge_after_ms <= self.now_ms;
        let expired = published.snapshots.iter().filter(|(snapshot, forgotten)| {
            forgotten.as_ref().is_some_and(is_over) && snapshot.record.flags & crate::format::snapshot::FLAG_PINNED == 0
                || self.options.assume_expired.contains(&snapshot.id())
        });
        expired.map(|(snapshot, _)| snapshot.id()).collect()
    }

    fn tell(&mut self, view: &Index, usage: &Usage, choice: &super::choose::Choice) {
        let report = &mut self.report;
        report.packs = usage.packs.len() as u64;
        report.packs_bytes = usage.packs.iter().map(|pack| pack.stored).sum();
        report.chunks = view.chunk_count() as u64;
        report.remaining_unused_bytes = choice.remaining_unused_bytes;
        let of = |ids: &[PackId]| {
            let packs = usage.packs.iter().filter(|pack| ids.binary_search(&pack.id).is_ok());
            packs.fold((0, 0, 0), |(count, stored, live), pack| (count + 1, stored + pack.stored, live + pack.live))
        };
        let places = |ids: &[PackId]| {
            let packs = usage.packs.iter().filter(|pack| ids.binary_search(&pack.id).is_ok());
            packs.fold((0, 0), |(all, kept), pack| (all + pack.chunks, kept + pack.kept_chunks))
        };
        report.places = usage.packs.iter().map(|pack| pack.chunks).sum();
        report.used_places = usage.packs.iter().map(|pack| pack.kept_chunks).sum();
        report.duplicate_places = usage.duplicates;
        report.used_bytes = usage.packs.iter().map(|pack| pack.live).sum();
        report.used_packs =
            usage.packs.iter().filter(|pack| pack.kept_chunks > 0 && pack.chunks == pack.kept_chunks).count() as u64;
        (report.unused_packs_places, _) = places(&choice.unused);
        (report.repack_places, report.repack_used_places) = places(&choice.repack);
        (report.unused_packs, report.unused_packs_bytes, _) = of(&choice.unused);
        (report.repack_packs, report.repack_bytes, report.repack_live_bytes) = of(&choice.repack);
    }

    fn tell_given_up(&mut self, view: &Index, usage: &Usage, packs: &[PackId]) {
        for pack in packs {
            let bytes = view.report().listed_packs.get(pack).map_or(0, |(_, size)| *size);
            self.report.unused_packs += 1;
            self.report.unused_packs_bytes += bytes;
            if usage.packs.iter().all(|known| known.id != *pack) {
                self.report.packs += 1;
                self.report.packs_bytes += bytes;
            }
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

    /// A list that this run did not make may be anyone's, and leave out a writer that did not see the mark. So writers that it
    /// does not name are waited for too, unless they came after the mark by the place's own word: else a place where somebody
    /// always writes would never come to an end. For a list that is honest, this decides nothing.
    fn resolve_left_out(&mut self, cycle: u64, pending: &Pending) -> Result<()> {
        let age = |name: &ObjectName| match self.repository.inner.backend.age(name) {
            Ok(age) => Ok(age),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        };
        let mark_age = age(&ObjectName::Gc(cycle, GcStage::Mark))?;
        let mut left_out = self.list_sessions()?;
        left_out.retain(|session| pending.sessions.binary_search(session).is_err());
        for session in left_out {
            let came_after = match (age(&ObjectName::Session(session))?, mark_age) {
                (Some(age), Some(mark_age)) => age < mark_age,
                _ => false,
            };
            if !came_after {
                self.resolve(session, cycle)?;
            }
        }
        Ok(())
    }

    /// Which of the snapshots that a mark expires do go. A mark that this run did not set may be anyone's: of what it names,
    /// only what was forgotten, and whose window is over, by this run's own look.
    fn expired_by(&self, mark: &Mark, published: Option<&Published>) -> Result<BTreeSet<SnapshotId>> {
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

    /// What goes. The first plan that was written counts, whoever made it; `None`: the cycle ended meanwhile.
    fn plan(
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
        let store = self.repository.fresh_store()?;
        let view = store.view();
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
    fn check_plan(&mut self, mark: &Mark, plan: &Plan) -> Result<()> {
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

    /// Whether a writer is done with: it published, or never will. One that is at work is entered in the report.
    fn resolve(&mut self, session: SnapshotId, cycle: u64) -> Result<bool> {
        if gc::read_cell(self.backend(), self.keys(), session)? != Cell::Empty {
            return Ok(true);
        }
        let writer = match self.repository.read_session(session) {
            Ok(record) => {
                let writer = Writer {
                    session,
                    host: record.host.clone(),
                    process: record.process,
                    started_ms: record.started_ms,
                };
                let is_dead = is_dead(&record) && self.backend().weak().is_none();
                if !is_dead && !self.is_silent(session, Some(&record))? {
                    self.report.waiting_for.push(writer);
                    return Ok(false);
                }
                writer
            }
            // It gave up, or published just now: the fence tells which.
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {
                gc::fence(self.backend(), self.keys(), session, cycle, self.by)?;
                return Ok(true);
            }
            Err(Error::Corrupt { .. }) => {
                let writer = Writer { session, host: String::new(), process: 0, started_ms: session.started_ms() };
                if !self.is_silent(session, None)? {
                    self.report.waiting_for.push(writer);
                    return Ok(false);
                }
                writer
            }
            Err(error) => return Err(error),
        };
        if gc::fence(self.backend(), self.keys(), session, cycle, self.by)? == Cell::Tombstone {
            self.report.fenced.push(writer);
        }
        Ok(true)
    }

    /// Whether a writer gave no sign of life for as long as it promised, or as the caller says: by the place's clock, or
    /// where it has none by the writer's. Decides when it is fenced; that it may be, nothing decides.
    fn is_silent(&self, session: SnapshotId, record: Option<&Session>) -> Result<bool> {
        if self.backend().weak().is_some() {
            return self.is_long_silent(session, record);
        }
        let lease = record.map_or(Duration::from_secs(72 * 3600), |record| Duration::from_secs(record.lease_s.into()));
        let limit = self.options.fence_idle.unwrap_or(lease);
        let mut names = self.renewals_of(session)?;
        names.push(ObjectName::Session(session));
        let mut youngest: Option<Duration> = None;
        for name in names {
            let age = match self.backend().age(&name) {
                Ok(Some(age)) => age,
                Ok(None) => {
                    let started_ms = record.map_or(session.started_ms(), |record| record.started_ms);
                    Duration::from_millis(self.now_ms.saturating_sub(started_ms))
                }
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            youngest = Some(youngest.map_or(age, |known| known.min(age)));
        }
        Ok(youngest.is_none_or(|age| age >= limit))
    }

    /// Ascending.
    fn list_sessions(&self) -> Result<Vec<SnapshotId>> {
        let names = self.repository.objects(Prefix::Sessions)?.into_iter();
        Ok(names.filter_map(|(name, _)| if let ObjectName::Session(id) = name { Some(id) } else { None }).collect())
    }

    /// The signs of life of a session.
    pub(super) fn renewals_of(&self, session: SnapshotId) -> Result<Vec<ObjectName>> {
        let names = self.repository.objects(Prefix::Sessions)?.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| matches!(name, ObjectName::Renewal(id, _) if *id == session)).collect())
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

    fn ask(&self, pruning: &Pruning<'_>) -> Result<super::plan::Answer> {
        self.question(pruning).decide()
    }
}

/// The number of the cycle to begin. Whoever wrote the last possible one was not prune.
fn next(cycles: &Cycles) -> Result<u64> {
    let last = cycles.newest_done();
    last.checked_add(1).ok_or_else(|| LAST_CYCLE.of(ObjectName::Gc(last, GcStage::Done)))
}

const LAST_CYCLE: Corruption = Corruption::Malformed("number of a cycle: none comes after it");

/// Whether a writer of this boot of this machine runs no more.
fn is_dead(session: &Session) -> bool {
    if session.boot != host::boot_id() {
        return false;
    }
    match (session.process_start(), host::process_start(session.process)) {
        // Another process was given its id.
        (Some(then), Some(now)) => then != now,
        _ => !host::process_is_alive(session.process),
    }
}
