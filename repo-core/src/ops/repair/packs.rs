//! Damaged packs, brought back as far as anything can: as they were, by reading them again, parity, or a mirror; else chunk by
//! chunk, into new packs. What is lost then is recorded, so that the next backup that meets it stores it again.
//!
//! A pack's name is never written anew, but by the very bytes it stands for and only where damaged ones are. What is missing
//! comes back in new packs alone: it may have been removed on purpose, a moment ago.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rayon::prelude::*;

use super::heal::{self, Healing, ParityNames, Rebuilt};
use super::losses::{LostEntry, Survey};
use super::rescue::{Left, Rescue, Tally};
use crate::backend::{Backend, Put, Span};
use crate::error::{BackendErrorKind, Error, Result};
use crate::format::gc::Damaged;
use crate::format::snapshot::Root;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};
use crate::pipeline::{self, lock};
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, SnapshotFilter};
use crate::seal;
use crate::store::refuse_mirror;
use crate::store::{self, Index, Sealing, Session, SessionKind, Store, Writer, gc};

/// How to repair packs.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RepairPacksOptions {
    /// These; none: every pack that is there or that the index knows.
    pub packs: Vec<PackId>,
    /// A place with byte-identical objects.
    pub mirror: Option<Arc<dyn Backend>>,
    /// Say what would be done.
    pub dry_run: bool,
    /// What the session says who wrote it.
    pub program: String,
}

/// What a repair of packs did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RepairPacksReport {
    /// Packs that were read.
    pub read_packs: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Each pack that was damaged, missing, or recorded as damaged; ascending.
    pub packs: Vec<RepairedPack>,
    /// Chunks that were stored again, or would be.
    pub rescued_chunks: u64,
    /// Bytes of those.
    pub rescued_bytes: u64,
    /// Chunks that can be read nowhere.
    pub lost_chunks: u64,
    /// What of snapshots is lost with them: a thousand entries at most.
    pub losses: Vec<LostEntry>,
    /// How many entries those are in all.
    pub loss_count: u64,
    /// The snapshots that they are in, ascending.
    pub damaged_snapshots: Vec<SnapshotId>,
}

/// A pack that was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedPack {
    /// Which one.
    pub pack: PackId,
    /// Of which kind.
    pub kind: PackKind,
    /// What is or was wrong with it, in words.
    pub problem: String,
    /// What became of it.
    pub outcome: PackOutcome,
    /// Its chunks that another pack holds.
    pub chunks_elsewhere: u64,
    /// Its chunks that were stored again.
    pub chunks_rescued: u64,
    /// Its chunks that can be read nowhere.
    pub chunks_lost: u64,
}

/// What became of a damaged pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackOutcome {
    /// Read again, it is whole.
    ReadAgain,
    /// It is as it was, by its parity.
    HealedByParity,
    /// It is as it was, by the mirror.
    HealedByMirror,
    /// None of its chunks is lost: other packs hold them, old ones or new ones.
    Replaced,
    /// Some of its chunks are lost. If it is there, that is recorded.
    Lost,
}

impl fmt::Debug for RepairPacksOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairPacksOptions").field("packs", &self.packs).field("dry_run", &self.dry_run).finish()
    }
}

impl RepairPacksOptions {
    /// Every pack; parity and what the repository itself holds alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// One pack more; those that are not named are not looked at.
    pub fn pack(mut self, pack: PackId) -> Self {
        self.packs.push(pack);
        self
    }

    /// Takes from there, too, what is whole.
    pub fn mirror(mut self, mirror: Arc<dyn Backend>) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// Says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl Repository {
    /// Reads packs, and brings back those that are damaged or missing. In this order: they are read again; parity; the mirror.
    /// A pack that none of these gives is replaced chunk by chunk: what no other pack holds and can still be read of it is
    /// stored again in new packs. What is lost then is said, file by file. A damaged pack that was replaced or lost is recorded
    /// as damaged: no writer relies on it any more, so the next backup that meets what was lost stores it again.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, RepairPacksOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let report = repository.repair_packs(&RepairPacksOptions::new(), &Silent)?;
    /// assert_eq!(report.packs, [], "nothing is damaged");
    /// assert_eq!(report.lost_chunks, 0);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a place does not answer; [`Error::Usage`] for a pack that nobody knows; [`Error::Cancelled`].
    pub fn repair_packs(&self, options: &RepairPacksOptions, progress: &dyn Progress) -> Result<RepairPacksReport> {
        if !options.dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        pipeline::guarded(|| Run { repository: self, options, progress }.go())
    }
}

/// A pack to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    pack: PackId,
    kind: PackKind,
    /// `None`: it is not listed.
    size: Option<u64>,
}

/// A pack that is not whole, or that no writer relies on.
struct Patient {
    candidate: Candidate,
    problem: String,
    source: Source,
    is_recorded: bool,
}

/// What gives a pack's bytes whole. They are asked for again when their turn comes: there may be more packs than memory.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Itself, or its parity.
    Rebuilt,
    Mirror,
    Nothing,
}

struct Run<'r> {
    repository: &'r Repository,
    options: &'r RepairPacksOptions,
    progress: &'r dyn Progress,
}

impl Run<'_> {
    fn go(&self) -> Result<RepairPacksReport> {
        let mut report = RepairPacksReport::default();
        self.progress.report(Event::Stage { name: "packs" });
        let store = self.repository.fresh_store()?;
        let parity = ParityNames::list(self.repository.backend().as_ref())?;
        let suspects = self.read(&self.candidates(&store)?, &store.view(), &mut report)?;
        let mut patients = Vec::new();
        for candidate in suspects {
            self.check_cancelled()?;
            patients.extend(self.heal(candidate, &store.view(), &parity, &mut report)?);
        }
        if !patients.is_empty() {
            self.rescue(&patients, &parity, &mut report)?;
        }
        report.packs.sort_unstable_by_key(|pack| pack.pack);
        Ok(report)
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn candidates(&self, store: &Store) -> Result<Vec<Candidate>> {
        let view = store.view();
        let loaded = view.report();
        let mut known: BTreeMap<PackId, Candidate> = BTreeMap::new();
        for (kind, pack) in &loaded.missing_packs {
            known.insert(*pack, Candidate { pack: *pack, kind: *kind, size: None });
        }
        for (pack, (kind, size)) in &loaded.listed_packs {
            known.insert(*pack, Candidate { pack: *pack, kind: *kind, size: Some(*size) });
        }
        if self.options.packs.is_empty() {
            return Ok(known.into_values().collect());
        }
        let named: BTreeSet<&PackId> = self.options.packs.iter().collect();
        named
            .into_iter()
            .map(|pack| known.get(pack).copied().ok_or_else(|| Error::Usage(format!("no pack {pack}"))))
            .collect()
    }

    /// Hashes these packs, and gives those that are not whole or that no writer relies on.
    fn read(&self, candidates: &[Candidate], view: &Index, report: &mut RepairPacksReport) -> Result<Vec<Candidate>> {
        let backend = self.repository.backend();
        let bytes = candidates.iter().filter_map(|candidate| candidate.size).sum();
        self.progress.report(Event::Total { files: candidates.len() as u64, bytes });
        let found = Mutex::new((Vec::new(), 0, 0));
        let recorded: HashSet<&PackId> = view.damaged_packs().collect();
        let look_at = |candidate: &Candidate| -> Result<()> {
            self.check_cancelled()?;
            let mut length = 0;
            let is_whole = match backend.get(&ObjectName::Pack(candidate.kind, candidate.pack), Span::All) {
                Ok(bytes) => {
                    length = bytes.len() as u64;
                    seal::has_name(&bytes, &candidate.pack.0)
                }
                Err(error) if error.is_absent() => false,
                Err(error) if matches!(error.kind, BackendErrorKind::Denied) => return Err(error.into()),
                // Whether it was the line or the disk, reading it again will tell.
                Err(_) => false,
            };
            self.progress.report(Event::Bytes { count: candidate.size.unwrap_or(0) });
            let mut found = lock(&found);
            found.1 += u64::from(length > 0);
            found.2 += length;
            if !is_whole || recorded.contains(&candidate.pack) {
                found.0.push(*candidate);
            }
            Ok(())
        };
        // One pack a thread is in memory at a time.
        pipeline::pool(self.repository.inner.threads)?
            .install(|| candidates.par_iter().with_max_len(1).try_for_each(look_at))?;
        let (mut suspects, packs, bytes) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        suspects.sort_unstable();
        (report.read_packs, report.read_bytes) = (packs, bytes);
        Ok(suspects)
    }

    /// Brings one pack back as it was. `Some`: its chunks must be looked for one by one.
    fn heal(
        &self,
        candidate: Candidate,
        view: &Index,
        parity: &ParityNames,
        report: &mut RepairPacksReport,
    ) -> Result<Option<Patient>> {
        let Candidate { pack, kind, .. } = candidate;
        let backend = self.repository.backend().as_ref();
        let is_recorded = view.damaged_packs().any(|recorded| *recorded == pack);
        let rebuilt = heal::rebuild_pack(backend, parity, kind, pack)?;
        let (bytes, problem, is_missing, outcome) = match rebuilt {
            Rebuilt::Whole(_) if is_recorded => {
                // Whoever trusts the record condemns the pack sooner or later: what is only there moves.
                let problem = "it is recorded as damaged, and is whole".to_owned();
                return Ok(Some(Patient { candidate, problem, source: Source::Rebuilt, is_recorded }));
            }
            Rebuilt::Whole(_) => {
                let problem = "it was read with other bytes once".to_owned();
                report.packs.push(healed(candidate, problem, PackOutcome::ReadAgain));
                return Ok(None);
            }
            Rebuilt::Healed { bytes, is_missing } => {
                (Some(bytes), damage(is_missing), is_missing, PackOutcome::HealedByParity)
            }
            Rebuilt::Lost { reasons, is_missing } => match self.mirrored(kind, pack)? {
                Some(bytes) => (Some(bytes), damage(is_missing), is_missing, PackOutcome::HealedByMirror),
                None => (None, reasons.join("; "), is_missing, PackOutcome::Lost),
            },
        };
        if is_missing && candidate.size.is_some() {
            // Removed since it was listed, as packs are whose chunks are elsewhere.
            return Ok(None);
        }
        let source = match outcome {
            PackOutcome::HealedByParity => Source::Rebuilt,
            PackOutcome::HealedByMirror => Source::Mirror,
            _ => Source::Nothing,
        };
        let Some(whole) = bytes.filter(|_| !is_missing && !is_recorded) else {
            return Ok(Some(Patient { candidate, problem, source, is_recorded }));
        };
        if self.options.dry_run {
            report.packs.push(healed(candidate, problem, outcome));
            return Ok(None);
        }
        match heal::write_back(backend, kind, pack, whole)? {
            Healing::Healed(_) | Healing::Whole(_) => {
                report.packs.push(healed(candidate, problem, outcome));
                Ok(None)
            }
            Healing::Missing => Ok(None),
            Healing::Irreplaceable => Ok(Some(Patient { candidate, problem, source, is_recorded })),
            Healing::Lost(reasons) => Ok(Some(Patient { candidate, problem: reasons.join("; "), source, is_recorded })),
        }
    }

    /// Believed only by its name; a mirror that does not answer is an error, since the caller counts on it.
    fn mirrored(&self, kind: PackKind, pack: PackId) -> Result<Option<Bytes>> {
        let Some(mirror) = &self.options.mirror else { return Ok(None) };
        match mirror.get(&ObjectName::Pack(kind, pack), Span::All) {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| seal::has_name(bytes, &pack.0))),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces packs chunk by chunk, and records those that are there as damaged.
    fn rescue(&self, patients: &[Patient], parity: &ParityNames, report: &mut RepairPacksReport) -> Result<()> {
        self.progress.report(Event::Stage { name: "chunks of damaged packs" });
        let inner = &self.repository.inner;
        // Registered before the index is read: whatever this run relies on stays, and nobody takes its packs away.
        let session = match self.options.dry_run {
            true => None,
            false => Some(Session::register(&inner.backend, &inner.keys, SessionKind::Adopt, &self.options.program)?),
        };
        if session.is_some() {
            self.repository.check_generations()?;
        }
        let store = self.repository.fresh_store()?;
        let view = store.view();
        let damaged: HashSet<PackId> = patients.iter().map(|patient| patient.candidate.pack).collect();
        damaged.iter().for_each(|pack| view.distrust(*pack));
        let told = store::told_of(&store, &damaged)?;
        let mut rescue = Rescue { store: &store, view: &view, damaged, told, saved: HashSet::new() };
        let tallies = match &session {
            None => self.search(patients, parity, &mut rescue, None)?,
            Some(session) => {
                let sealing = Sealing::new(&store, session.id(), self.repository.writer_options());
                let tallies = pipeline::scope(|scope| {
                    let mut writer = sealing.start(scope)?;
                    let tallies = self.search(patients, parity, &mut rescue, Some(&mut writer))?;
                    writer.finish()?;
                    Ok(tallies)
                });
                // A thread's own error says more than that its channel closed.
                sealing.check()?;
                let tallies = tallies?;
                // Durable and indexed, before a record says that the pack is of no use.
                sealing.finish(Root { tree: None, entries: 0, bytes: 0 }, &view)?;
                for patient in patients.iter().filter(|patient| patient.candidate.size.is_some()) {
                    if !view.is_written_off(&patient.candidate.pack) {
                        self.record(patient.candidate.pack)?;
                    }
                }
                tallies
            }
        };
        if let Some(session) = session {
            session.give_up()?;
        }
        let is_unknown = tallies.iter().any(|tally| tally.is_unknown);
        let lost = self.tell(patients, tallies, &rescue, report);
        if !self.options.dry_run {
            store.reload()?;
        }
        if lost.is_empty() && !is_unknown { Ok(()) } else { self.name_losses(&store, report) }
    }

    fn search(
        &self,
        patients: &[Patient],
        parity: &ParityNames,
        rescue: &mut Rescue<'_>,
        mut writer: Option<&mut Writer<'_, '_>>,
    ) -> Result<Vec<Tally>> {
        let mut tallies = Vec::new();
        for Patient { candidate, source, .. } in patients {
            self.check_cancelled()?;
            let bytes = self.bytes_of(*candidate, *source, parity)?;
            let left = Left { kind: candidate.kind, pack: candidate.pack, bytes };
            tallies.push(rescue.search(&left, writer.as_deref_mut())?);
        }
        Ok(tallies)
    }

    /// All of a pack, or what is left of it.
    fn bytes_of(&self, candidate: Candidate, source: Source, parity: &ParityNames) -> Result<Bytes> {
        let Candidate { pack, kind, size } = candidate;
        let backend = self.repository.backend().as_ref();
        let whole = match source {
            Source::Rebuilt => match heal::rebuild_pack(backend, parity, kind, pack)? {
                Rebuilt::Whole(bytes) | Rebuilt::Healed { bytes, .. } => Some(bytes),
                Rebuilt::Lost { .. } => None,
            },
            Source::Mirror => self.mirrored(kind, pack)?,
            Source::Nothing => None,
        };
        Ok(match (whole, size) {
            (Some(bytes), _) => bytes,
            (None, Some(size)) => {
                let name = ObjectName::Pack(kind, pack);
                heal::read_what_is_left(backend, &name, size).unwrap_or_default().into()
            }
            (None, None) => Bytes::new(),
        })
    }

    /// Writes a pack off, under the first number that is free: all of its chunks are elsewhere now, or lost.
    fn record(&self, pack: PackId) -> Result<()> {
        let inner = &self.repository.inner;
        let at_ms = host::now_ms();
        let record = Damaged { pack, chunks: Vec::new(), at_ms, extensions: Vec::new() };
        for number in 0..=u16::MAX {
            let (name, bytes) = gc::seal_damage_record(&inner.keys, number, &record)?;
            match inner.backend.put_new(&name, bytes)? {
                Put::Created => return Ok(()),
                // Of this pack there is one already, which may say less.
                Put::Exists(_) => {}
                Put::Unknown => {
                    return Err(Error::Usage(format!("the store lost its answer to {name}; run the command again")));
                }
            }
        }
        Err(Error::Usage(format!("pack {pack} has as many damage records as there can be")))
    }

    /// Enters what became of each pack, and gives the chunks that are lost.
    fn tell(
        &self,
        patients: &[Patient],
        tallies: Vec<Tally>,
        rescue: &Rescue<'_>,
        report: &mut RepairPacksReport,
    ) -> HashMap<ChunkId, ChunkKind> {
        let mut lost = HashMap::new();
        for (Patient { candidate, problem, is_recorded, .. }, mut tally) in patients.iter().zip(tallies) {
            // Another pack of this run may have had it.
            tally.lost.retain(|name| !rescue.saved.contains(name));
            tally.lost.sort_unstable();
            tally.lost.dedup();
            report.rescued_chunks += tally.rescued;
            report.rescued_bytes += tally.rescued_bytes;
            let is_lost = !tally.lost.is_empty() || tally.is_unknown;
            // What was recorded before, and of which nothing is new, has been told.
            if !is_recorded || tally.rescued > 0 || is_lost {
                report.packs.push(RepairedPack {
                    pack: candidate.pack,
                    kind: candidate.kind,
                    problem: problem.clone(),
                    outcome: if is_lost { PackOutcome::Lost } else { PackOutcome::Replaced },
                    chunks_elsewhere: tally.elsewhere,
                    chunks_rescued: tally.rescued,
                    chunks_lost: tally.lost.len() as u64,
                });
            }
            lost.extend(tally.lost.into_iter().map(|(kind, id)| (id, kind)));
        }
        report.lost_chunks = lost.len() as u64;
        lost
    }

    /// Who needs what is lost.
    fn name_losses(&self, store: &Store, report: &mut RepairPacksReport) -> Result<()> {
        /// Entries that are named one by one.
        const NAMED_MAX: usize = 1000;
        self.progress.report(Event::Stage { name: "what is lost" });
        let view = store.view();
        let mut survey = Survey::new(store, &view, self.progress);
        for snapshot in self.repository.snapshots(&SnapshotFilter::default())?.snapshots {
            let mut is_damaged = false;
            survey.walk(&snapshot, &mut |entry| {
                is_damaged = true;
                report.loss_count += 1;
                if report.losses.len() < NAMED_MAX {
                    report.losses.push(entry);
                }
            })?;
            if is_damaged {
                report.damaged_snapshots.push(snapshot.id());
            }
        }
        report.damaged_snapshots.sort_unstable();
        Ok(())
    }
}

fn healed(candidate: Candidate, problem: String, outcome: PackOutcome) -> RepairedPack {
    let Candidate { pack, kind, .. } = candidate;
    RepairedPack { pack, kind, problem, outcome, chunks_elsewhere: 0, chunks_rescued: 0, chunks_lost: 0 }
}

fn damage(is_missing: bool) -> String {
    if is_missing { "it is missing".to_owned() } else { "its bytes changed".to_owned() }
}
