//! The first look of a cycle: at everything, to say what may go, after what must move was moved.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Forgotten, Mark};
use crate::id::{ObjectName, PackId, SnapshotId};
use crate::progress::Event;
use crate::repository::{Published, Repository};
use crate::store::{Index, Store};

use super::choose::{Choice, choose};
use super::cycle::Pruning;
use super::repack::{Known, repack};
use super::usage::{Live, Usage};

impl Pruning<'_> {
    /// Looks at everything, moves what must be moved, and says what may go. `None`: nothing.
    pub(super) fn evaluate(&mut self, cycle: u64) -> Result<Option<Mark>> {
        // The dead are done with first: their packs are nobody's.
        if !self.options.dry_run {
            for session in self.list_sessions()? {
                self.resolve(session, cycle)?;
            }
            self.report.waiting_for.clear();
        }
        self.progress.report(Event::Stage { name: "packs and index" });
        let (store, view) = look(self.repository)?;
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
        let is_busy = |pack: usize| writers.contains(&view.packs()[pack].writer);
        let mut usage = Usage::measure(&store, &view, &live, &self.retained, is_busy)?;
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
        self.report.chunks = live.stored_count(&view);
        self.tell(&usage, &choice);
        let given_up = usage.given_up(&view, &live, &self.retained);
        self.tell_given_up(&view, &usage, &given_up);
        if let Some(before) = before {
            self.report.held_bytes = usage.stored_since(&store, &view, &live, &before)?;
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
    pub(super) fn fail_closed(&self, view: &Index) -> Result<()> {
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
    pub(super) fn published(&self) -> Result<Published> {
        let mut published = self.repository.published()?;
        match published.unreadable.pop() {
            Some(error) => Err(error),
            None => Ok(published),
        }
    }

    /// Forgotten, the window over, and not pinned.
    pub(super) fn expired(&self, published: &Published) -> BTreeSet<SnapshotId> {
        let is_over = |forgotten: &Forgotten| forgotten.purge_after_ms <= self.now_ms;
        let expired = published.snapshots.iter().filter(|(snapshot, forgotten)| {
            forgotten.as_ref().is_some_and(is_over) && snapshot.record.flags & crate::format::snapshot::FLAG_PINNED == 0
                || self.options.assume_expired.contains(&snapshot.id())
        });
        expired.map(|(snapshot, _)| snapshot.id()).collect()
    }

    fn tell(&mut self, usage: &Usage, choice: &Choice) {
        let report = &mut self.report;
        report.packs = usage.packs.len() as u64;
        report.packs_bytes = usage.packs.iter().map(|pack| pack.stored).sum();
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
}

/// The index as it is now: what it knows of contents is read again whenever it is asked. As long as a pack is written off of
/// which nobody knows what it held, all of it is in memory instead: whether such a pack may go is a question of every chunk's
/// whole name.
pub(super) fn look(repository: &Repository) -> Result<(Arc<Store>, Arc<Index>)> {
    let store = repository.metadata_store()?;
    let view = store.view();
    if view.written_off_unknown().next().is_none() {
        return Ok((store, view));
    }
    drop((store, view));
    let store = repository.fresh_store()?;
    let view = store.view();
    Ok((store, view))
}
