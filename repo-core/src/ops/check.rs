//! Check: looks, names what is wrong and what it touches, changes nothing.
//!
//! Each object that is damaged is named once, by whoever meets it first. What it touches is found by a second walk through
//! the damaged parts of the trees, which costs nothing where nothing is damaged.

mod choice;
mod options;
mod packs;
mod parity;
mod report;
mod touched;
mod trees;
mod verified;

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::backend::{Listed, Prefix};
use crate::error::{Corruption, Error, Result};
use crate::id::{Doubled, ObjectName, PackId, SnapshotId};
use crate::pipeline;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot, SnapshotFilter};
use crate::store::gc::{self, Cycles};
use crate::store::{Index, Store};

pub use options::{CheckLevel, CheckOptions, Subset};
pub use report::{CheckReport, Damage, Damaged, Loss, Touched};
pub use verified::VerifiedPacks;

use packs::Lost;
use report::Findings;
use touched::{Causes, Paths};
use trees::{Trees, Walked};

/// How often a check begins again because space was reclaimed under it: each time a step of a cycle came between.
const ATTEMPTS_MAX: usize = 3;

impl Repository {
    /// Checks names and index, the small objects in both copies, and as deep as the options say the trees and the packs.
    ///
    /// What is wrong is in the report, each object with the files and snapshots that need it. An error is returned only if
    /// the check itself could not go on: the place does not answer, or it was cancelled; or if it was asked for what has no
    /// meaning ([`Error::Usage`]) or is not there ([`Error::NoSnapshot`]).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, CheckOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let report = repository.check(&CheckOptions::new().read_data(), &Silent)?;
    /// for error in &report.errors {
    ///     eprintln!("{error}");
    /// }
    /// assert!(report.is_whole());
    /// assert_eq!(report.snapshots, 1);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn check(&self, options: &CheckOptions, progress: &dyn Progress) -> Result<CheckReport> {
        options.validate()?;
        pipeline::guarded(|| {
            let mut attempts = 1;
            loop {
                let before = Cycles::list(self.inner.backend.as_ref())?;
                let (findings, mut report) = self.check_once(options, progress)?;
                // What was found while packs were deleted may be gone by right, with the snapshots that needed it.
                let is_settled = findings.is_empty() || Cycles::list(self.inner.backend.as_ref())? == before;
                if is_settled || attempts == ATTEMPTS_MAX || options.is_over() {
                    findings.finish(&mut report);
                    return Ok(report);
                }
                attempts += 1;
                progress.report(Event::Note {
                    message: "space was reclaimed meanwhile; what seems to be missing is looked for again",
                });
            }
        })
    }

    fn check_once(&self, options: &CheckOptions, progress: &dyn Progress) -> Result<(Findings, CheckReport)> {
        let (mut findings, mut report) = (Findings::default(), CheckReport::default());
        progress.report(Event::Stage { name: "small objects" });
        self.check_boxes(options, &mut findings, &mut report)?;
        // Snapshots before the index: the other way round, one that is published meanwhile could seem to lack chunks
        // (invariant 6).
        let snapshots = self.chosen(options, &mut findings, &mut report)?;
        progress.report(Event::Stage { name: "packs and index" });
        let parity: Vec<_> = self.objects(Prefix::Parity)?.into_iter().map(|(name, _)| name).collect();
        let store = self.fresh_store()?;
        let view = store.view();
        let threads = self.inner.threads;
        let run =
            Run { store: &store, view: &view, snapshots: &snapshots, parity: &parity, threads, options, progress };
        run.check(&mut findings, &mut report)?;
        if self.config().parity_percent() > 0 {
            // Listed again: the parity of the newest packs came after the first listing.
            let names: Vec<_> = self.objects(Prefix::Parity)?.into_iter().map(|(name, _)| name).collect();
            parity::check_packs(&names, view.report().listed_packs.keys(), &mut report.notes);
        }
        Ok((findings, report))
    }

    /// Small objects and sessions.
    fn check_boxes(&self, options: &CheckOptions, findings: &mut Findings, report: &mut CheckReport) -> Result<()> {
        for error in self.check_small_objects(&mut report.notes)? {
            let snapshot = match &error {
                Error::Corrupt { object: ObjectName::Snapshot(id), .. }
                | Error::Corrupt { object: ObjectName::SecondCopy(Doubled::Snapshot(id)), .. } => Some(*id),
                _ => None,
            };
            if options.snapshots.as_ref().zip(snapshot).is_none_or(|(only, id)| only.contains(&id)) {
                findings.add_error(error);
            }
        }
        self.check_sessions(findings, report)
    }

    fn check_sessions(&self, findings: &mut Findings, report: &mut CheckReport) -> Result<()> {
        let mut sessions = Vec::new();
        self.inner.backend.list(Prefix::Sessions, &mut |listed| {
            if let Listed::Object { name: ObjectName::Session(id), .. } = listed {
                sessions.push(id);
            }
            ControlFlow::Continue(())
        })?;
        for id in sessions {
            match self.read_session(id) {
                Ok(session) => report.notes.push(format!(
                    "session {} of {} (process {}) is under way, or was cut off; that harms nothing",
                    id.short(),
                    session.host,
                    session.process
                )),
                Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {}
                Err(error @ Error::Corrupt { .. }) => findings.add_error(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The snapshots to look at. Those that cannot be read were named with the small objects.
    fn chosen(
        &self,
        options: &CheckOptions,
        findings: &mut Findings,
        report: &mut CheckReport,
    ) -> Result<Vec<Snapshot>> {
        let list = self.snapshots(&SnapshotFilter::default())?;
        let is_meant = |id: &SnapshotId| options.snapshots.as_ref().is_none_or(|only| only.contains(id));
        for error in &list.unreadable {
            let Error::Corrupt { object: object @ ObjectName::Snapshot(id), .. } = error else { continue };
            if is_meant(id) {
                report.damaged_snapshots.push(*id);
                findings.touch_snapshot(&Damaged::Object(*object), *id);
            }
        }
        let unreadable = &report.damaged_snapshots;
        let chosen: Vec<_> = list.snapshots.into_iter().filter(|snapshot| is_meant(&snapshot.id())).collect();
        // A check that looked at nothing must not pass for one that found nothing.
        let is_there = |id: &SnapshotId| unreadable.contains(id) || chosen.iter().any(|snapshot| snapshot.id() == *id);
        match options.snapshots.iter().flatten().find(|id| !is_there(id)) {
            Some(id) => Err(Error::NoSnapshot { selector: id.short() }),
            None => Ok(chosen),
        }
    }
}

/// One check, from the index on.
struct Run<'c> {
    store: &'c Store,
    view: &'c Index,
    snapshots: &'c [Snapshot],
    /// The names of all parity objects, listed before the packs: a pack is written before its parity.
    parity: &'c [ObjectName],
    threads: usize,
    options: &'c CheckOptions,
    progress: &'c dyn Progress,
}

impl Run<'_> {
    fn check(&self, findings: &mut Findings, report: &mut CheckReport) -> Result<()> {
        self.look(findings, report)?;
        // A pack that is written off is expected to be damaged; it matters as long as something needs what it lost.
        let written_off = findings.retain(|object, is_needed| match object {
            Damaged::Object(ObjectName::Pack(_, id)) => is_needed || !self.view.is_written_off(id),
            _ => true,
        });
        if written_off > 0 {
            let text = "damaged packs are recorded as such, and nothing needs what they lost; prune takes those away whose tables can be read";
            report.notes.push(format!("{written_off} {text}"));
        }
        Ok(())
    }

    fn look(&self, findings: &mut Findings, report: &mut CheckReport) -> Result<()> {
        let level = self.options.level;
        let mut lost = Lost::default();
        let planned = gc::planned(self.store.backend().as_ref(), self.store.keys())?;
        packs::check_index(self.view, &planned, findings, &mut lost, &mut report.notes);
        let is_listed = |pack: &PackId| self.view.report().listed_packs.contains_key(pack);
        parity::note_orphans(self.parity, is_listed, &mut report.notes);
        let listed = packs::listed(self.view);
        report.packs = listed.len() as u64;
        report.chunks = self.view.chunk_count() as u64;
        report.snapshots = self.snapshots.len() as u64;
        // Which packs some snapshots refer to, their trees alone know; else packs come first, so that one walk through the
        // trees is enough even if some of them are damaged.
        let is_part = self.options.snapshots.is_some();
        if level >= CheckLevel::Trees {
            // Known damage is looked at, however shallow the rest.
            self.read_whole(
                &self.view.damaged_packs().filter(|pack| !self.view.is_written_off(pack)).copied().collect(),
                findings,
                &mut lost,
            )?;
        }
        let mut walked = if is_part && level >= CheckLevel::Trees { Some(self.walk(&lost)?) } else { None };
        if level >= CheckLevel::Packs {
            let referred = walked.as_ref().and_then(|walked| walked.packs.as_ref());
            let is_meant = |id: &PackId| referred.is_none_or(|packs| packs.contains(id));
            if self.read_packs(
                listed.into_iter().filter(|pack| is_meant(&pack.id)).collect(),
                findings,
                &mut lost,
                report,
            )? {
                walked = None;
            }
        }
        if walked.is_none() && (level >= CheckLevel::Trees || !lost.is_empty()) {
            walked = Some(self.walk(&lost)?);
        }
        let Some(mut walked) = walked else { return Ok(()) };
        if level >= CheckLevel::Trees {
            self.look_at_suspects(&mut walked, findings, &mut lost)?;
            let is_damaged = |snapshot: &&Snapshot| {
                let root = snapshot.record().root.tree;
                root.is_some_and(|root| walked.known.get(&root) != Some(&true))
            };
            report.damaged_snapshots.extend(self.snapshots.iter().filter(is_damaged).map(Snapshot::id));
        }
        if !walked.missing.is_empty() {
            self.name_touched(&mut walked, findings, &lost)?;
        }
        if is_part {
            leave_out_others(&walked, findings, report);
        }
        Ok(())
    }

    fn walk(&self, lost: &Lost) -> Result<Walked> {
        self.progress.report(Event::Stage { name: "trees" });
        let with_packs = self.options.snapshots.is_some();
        let mut trees = Trees::new(self.store, self.view, lost, with_packs, self.progress);
        self.snapshots.iter().try_for_each(|snapshot| trees.check(snapshot.record()))?;
        Ok(trees.finish())
    }

    /// Reads those packs that the options ask for. `true`: more is lost than was known.
    fn read_packs(
        &self,
        packs: Vec<packs::Listed>,
        findings: &mut Findings,
        lost: &mut Lost,
        report: &mut CheckReport,
    ) -> Result<bool> {
        let deep = self.options.level >= CheckLevel::Data;
        self.progress.report(Event::Stage { name: if deep { "data" } else { "packs" } });
        if let Some(verified) = &self.options.verified {
            verified.retain(&self.view.report().listed_packs.keys().copied().collect());
        }
        let chosen = choice::choose(packs, self.options)?;
        let readings = packs::read(self.store, self.view, &chosen, self.threads, self.options, self.progress)?;
        report.read_packs = readings.packs;
        report.read_bytes = readings.bytes;
        report.unread_packs = chosen.len() as u64 - readings.packs;
        // They were taken in order, so those that were read are the first.
        let read: HashSet<_> = chosen.iter().take(readings.packs as usize).map(|pack| pack.id).collect();
        let more_is_lost = readings.name(findings, lost);
        self.read_parity(&read, findings, report)?;
        Ok(more_is_lost)
    }

    /// Parity objects of these packs, which cost a fraction of what the packs did.
    fn read_parity(&self, packs: &HashSet<PackId>, findings: &mut Findings, report: &mut CheckReport) -> Result<()> {
        let is_meant = |name: &&ObjectName| matches!(name, ObjectName::Parity(pack, _) if packs.contains(pack));
        let names: Vec<_> = self.parity.iter().filter(is_meant).copied().collect();
        let mut found = parity::Found::default();
        parity::read_all(self.store.backend().as_ref(), &names, self.threads, self.progress, &mut found)?;
        report.read_bytes += found.read_bytes;
        for (name, error) in found.errors {
            findings.add(Damaged::Object(name), error);
        }
        Ok(())
    }

    /// A chunk that could not be had from a pack that nobody complained of: the pack is read whole, so that it is named and
    /// not each of its chunks. If that found more to be lost, the trees are walked again: some of it was only looked up.
    fn look_at_suspects(&self, walked: &mut Walked, findings: &mut Findings, lost: &mut Lost) -> Result<()> {
        let suspects = touched::suspects(self.view, walked, findings);
        if suspects.is_empty() {
            return Ok(());
        }
        if self.read_whole(&suspects, findings, lost)? {
            *walked = self.walk(lost)?;
        }
        Ok(())
    }

    /// Decodes these packs, whatever the level. `true`: more is lost than was known.
    fn read_whole(&self, packs: &HashSet<PackId>, findings: &mut Findings, lost: &mut Lost) -> Result<bool> {
        let mut listed = packs::listed(self.view);
        listed.retain(|pack| packs.contains(&pack.id));
        if listed.is_empty() {
            return Ok(false);
        }
        let mut options = CheckOptions::new().level(CheckLevel::Data);
        options.verified.clone_from(&self.options.verified);
        options.time_ns = self.options.time_ns;
        let readings = packs::read(self.store, self.view, &listed, self.threads, &options, self.progress)?;
        Ok(readings.name(findings, lost))
    }

    /// Who needs what is missing.
    fn name_touched(&self, walked: &mut Walked, findings: &mut Findings, lost: &Lost) -> Result<()> {
        self.progress.report(Event::Stage { name: "what the damage touches" });
        let name_chunks = self.options.level >= CheckLevel::Trees;
        let causes = Causes::find(self.store, self.view, lost.packs(), walked, findings, name_chunks);
        let (known, causes) = (&walked.known, &causes);
        let mut paths = Paths { store: self.store, known, causes, findings, progress: self.progress };
        self.snapshots.iter().try_for_each(|snapshot| paths.walk(snapshot))
    }
}

/// What only other snapshots need is none of the caller's business, but that there is something should be known.
fn leave_out_others(walked: &Walked, findings: &mut Findings, report: &mut CheckReport) {
    let none = HashSet::new();
    let referred = walked.packs.as_ref().unwrap_or(&none);
    let others = findings.retain(|object, is_needed| match object {
        Damaged::Object(ObjectName::Pack(_, id)) => is_needed || referred.contains(id),
        _ => true,
    });
    if others > 0 {
        report
            .notes
            .push(format!("{others} damaged packs that these snapshots do not need; check without them names those"));
    }
}
