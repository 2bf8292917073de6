//! The processes and the stores that simulations are made of.

use std::io::Read;
use std::time::Duration;

use repo_core::internals::format::gc::Forgotten;
use repo_core::internals::format::header::ObjectType;
use repo_core::internals::format::index::IndexBlock;
use repo_core::internals::format::keyring::Purpose;
use repo_core::internals::{seal, store};
use repo_core::{
    BackupOptions, ChunkKind, CopyOptions, Corruption, Error, InitOptions, ObjectName, PackKind, Patterns, Prefix,
    PruneOptions, PruneReport, Put, RecoverOptions, RepairIndexOptions, RepairPacksOptions, Repository, Result,
    RewriteOptions, Silent, SnapshotFilter, SnapshotId, Unused,
};

use super::explore::{Chooser, Situation};
use super::run::{End, Faults, Move, Role, Scenario, Stage, Start};
use super::source::Letters;
use crate::faulty::{self, Faulty, Objects};
use crate::whole;

/// Backs up these letters as the host of this name, which is the snapshot's series.
///
/// # Errors
/// Those of the verb.
pub fn back_up(repository: &Repository, host: &str, letters: &str) -> Result<()> {
    repository.backup(&Letters::new(letters), &BackupOptions::new().host(host), &Silent).map(drop)
}

/// A process that backs up. That somebody took its name is no failure: a user begins again.
pub fn backup(host: &'static str, letters: &'static str) -> Role {
    Role::new(host, move |stage: &Stage| accept_fence(back_up(&stage.repository()?, host, letters)))
}

fn accept_fence(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Fenced) => Ok(()),
        other => other,
    }
}

/// A process that backs up with an index that it loaded before anything else happened.
pub fn stale_backup(host: &'static str, letters: &'static str) -> Role {
    Role::new(host, move |stage: &Stage| accept_fence(back_up(&stage.with_stale_index()?, host, letters)))
}

/// Waits for nobody, and moves whatever can be moved.
pub fn thorough() -> PruneOptions {
    PruneOptions::new().fence_idle(Duration::ZERO).max_unused(Unused::Bytes(0))
}

/// Waits for nobody, and moves nothing.
pub fn plain() -> PruneOptions {
    PruneOptions::new().fence_idle(Duration::ZERO).max_unused(Unused::Unlimited)
}

/// A process that prunes.
pub fn prune(options: PruneOptions) -> Role {
    Role::new("prune", move |stage: &Stage| stage.repository()?.prune(&options, &Silent).map(drop))
}

/// A process that prunes a weak repository as its owner.
pub fn owner_prune() -> Role {
    let options = PruneOptions::new().max_unused(Unused::Unlimited);
    Role::new("prune", move |stage: &Stage| stage.owned_repository()?.prune(&options, &Silent).map(drop))
}

/// Longer than anybody waits for a silent writer.
const LONG_NS: i64 = 8 * 24 * 3600 * 1_000_000_000;

/// At some moment everybody sleeps.
pub fn long_sleep() -> Role {
    Role::new("sleep", |stage: &Stage| stage.pass_for_all_ns(LONG_NS))
}

/// A process that prunes twice.
pub fn prune_twice(options: PruneOptions) -> Role {
    Role::new("prune", move |stage: &Stage| {
        let repository = stage.repository()?;
        repository.prune(&options, &Silent)?;
        repository.prune(&options, &Silent).map(drop)
    })
}

/// Just before the simulated clocks begin.
const BEFORE_ALL_MS: u64 = 1_799_999_999_000;

/// When a forgotten snapshot may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// At once.
    Over,
    /// Not in this simulation.
    Open,
}

/// Forgets the snapshots of a host.
///
/// # Errors
/// Those of the store.
pub fn forget_host(repository: &Repository, host: &str, window: Window) -> Result<()> {
    let filter = SnapshotFilter::new().host(host);
    repository.snapshots(&filter)?.snapshots.iter().try_for_each(|snapshot| forget(repository, snapshot.id(), window))
}

fn forget(repository: &Repository, snapshot: SnapshotId, window: Window) -> Result<()> {
    let record = Forgotten {
        snapshot,
        at_ms: BEFORE_ALL_MS,
        purge_after_ms: if window == Window::Over { BEFORE_ALL_MS } else { u64::MAX },
        reason: String::new(),
        by: String::new(),
        extensions: Vec::new(),
    };
    let name = ObjectName::Forgotten(snapshot);
    let keys = store::of(repository)?.keys().clone();
    let bytes = seal::seal_box(&keys, Purpose::GcMark, ObjectType::Forgotten, &name, &snapshot.0, &record.encode())?;
    match repository.backend().put_new(&name, bytes.into())? {
        Put::Created | Put::Exists(_) | Put::Unknown => Ok(()),
    }
}

/// A process that forgets what a host backed up.
pub fn forgetter(host: &'static str, window: Window) -> Role {
    Role::new("forget", move |stage: &Stage| forget_host(&stage.repository()?, host, window))
}

/// A process that merges index objects, as a prune does at its end.
pub fn compactor() -> Role {
    Role::new("compactor", |stage: &Stage| {
        let keys = store::of(&stage.repository()?)?.keys().clone();
        store::compact(stage.backend().as_ref(), &keys, SnapshotId([0x63; 16]), false).map(drop)
    })
}

/// A process that copies these letters from a repository that nobody else uses, as a snapshot of the host `copied`.
pub fn copier(letters: &'static str) -> Role {
    let source = whole_elsewhere(letters);
    Role::new("copy", move |stage: &Stage| {
        let target = stage.repository()?;
        let source = Repository::open(Faulty::new(source.clone(), None), &whole::secret())?.with_threads(1);
        let snapshots = source.snapshots(&SnapshotFilter::new())?.snapshots;
        let report = source.copy_to(&[&target], &snapshots, &CopyOptions::new(), &Silent);
        accept_fence(report.map(drop))
    })
}

/// The objects of another repository.
fn whole_elsewhere(letters: &'static str) -> Objects {
    let place = Faulty::new(Objects::new(), None);
    // Of another stream of chance, or it would be the same repository.
    let _stay = faulty::enter(77);
    Repository::init(place.clone(), &whole::secret(), &InitOptions::default()).expect("an empty place");
    back_up(&whole::open_on(place.clone()), "copied", letters).expect("a backup that is alone");
    place.objects()
}

/// A process that repairs the index.
pub fn index_repairer() -> Role {
    Role::new("repair index", |stage: &Stage| {
        stage.repository()?.repair_index(&RepairIndexOptions::new(), &Silent).map(drop)
    })
}

/// A process that repairs packs.
pub fn pack_repairer() -> Role {
    Role::new("repair packs", |stage: &Stage| {
        accept_fence(stage.repository()?.repair_packs(&RepairPacksOptions::new(), &Silent).map(drop))
    })
}

/// A process that reads every file of every snapshot, as a restore does.
pub fn reader() -> Role {
    Role::new("reader", |stage: &Stage| read_all(&stage.repository()?))
}

/// Reads every file of every snapshot. A snapshot that is expired meanwhile is nobody's concern.
///
/// # Errors
/// Those of the verb.
///
/// # Panics
/// If other bytes come back than were stored.
pub fn read_all(repository: &Repository) -> Result<()> {
    for snapshot in repository.snapshots(&SnapshotFilter::new())?.snapshots {
        let letters = b'a'..=b'z';
        let read = letters.clone().try_for_each(|letter| read_letter(repository, &snapshot, letter));
        if let Err(error) = read {
            let is_there = repository.snapshots(&SnapshotFilter::new())?.snapshots.contains(&snapshot);
            if is_there {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn read_letter(repository: &Repository, snapshot: &repo_core::Snapshot, letter: u8) -> Result<()> {
    let mut file = match repository.read(snapshot, &[b'/', letter]) {
        Ok(file) => file,
        Err(Error::Path { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::Stream)?;
    assert_eq!(bytes, Letters::content(letter), "what comes back is what was stored");
    Ok(())
}

/// A repository in which nobody has backed up yet.
pub fn empty() -> Start {
    Start::new(|_| {})
}

/// A repository with a snapshot of each of these.
pub fn with(backups: &[(&str, &str)]) -> Start {
    Start::new(|repository| {
        for (host, letters) in backups {
            back_up(repository, host, letters).expect("a backup that is alone");
        }
    })
}

/// A weak repository with a snapshot of these letters that is forgotten, its window over.
pub fn weak_garbage(letters: &str) -> Start {
    let start = Start::weak(|repository| back_up(repository, "old", letters).expect("a backup that is alone"));
    expired(&start, "old")
}

/// Forgets all of a host, with a window that is over.
pub fn expired(start: &Start, host: &str) -> Start {
    start.then(|repository| forget_host(repository, host, Window::Over).expect("memory writes"))
}

/// What two writers leave that store the same at the same time: everything twice.
pub fn twice(start: &Start, letters: &'static str) -> Start {
    let scenario = Scenario::new(start, vec![backup("left", letters), backup("right", letters)]);
    let (left, ran) = scenario.run_to_end(&mut TakingTurns);
    assert_eq!(ran.problem, None);
    left
}

/// Every process one call after the other.
#[derive(Debug)]
struct TakingTurns;

impl Chooser for TakingTurns {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        let other = now.moves.iter().position(|one| one.process() != now.moves[0].process() && !one.is_fault());
        Some(other.unwrap_or(0))
    }
}

/// A process that brings back what is forgotten. That it came too late is no failure.
pub fn undelete() -> Role {
    Role::new("undelete", |stage: &Stage| {
        let repository = stage.repository()?;
        for one in repository.forgotten()? {
            match repository.undelete(&one.snapshot.id().short(), &Silent) {
                Ok(_) | Err(Error::NoSnapshot { .. } | Error::ChunkLost { .. } | Error::Fenced) => {}
                // Taken since it was listed.
                Err(Error::Corrupt { object: ObjectName::Snapshot(_), problem: Corruption::Missing }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// A process that leaves this file out of all snapshots and forgets what they were. That it came too late is no failure.
pub fn rewriter(letter: &'static str) -> Role {
    Role::new("rewrite", move |stage: &Stage| {
        let repository = stage.repository()?;
        let snapshots = repository.snapshots(&SnapshotFilter::new())?.snapshots;
        let mut left_out = Patterns::new();
        left_out.add(letter, false).expect("a pattern");
        let options = RewriteOptions::new().exclude(left_out).forget().window_ms(0);
        let report = repository.rewrite(&snapshots, &options, &Silent)?;
        let is_too_late =
            |error: &Error| matches!(error, Error::NoSnapshot { .. } | Error::ChunkLost { .. } | Error::Fenced);
        report.failed.into_iter().map(|(_, error)| error).find(|error| !is_too_late(error)).map_or(Ok(()), Err)
    })
}

/// A process that makes a snapshot of the trees that have none.
pub fn recoverer() -> Role {
    Role::new("recover", |stage: &Stage| {
        accept_fence(stage.repository()?.recover(&RecoverOptions::new(), &Silent).map(drop))
    })
}

/// What is left when the names of writers are not needed any more.
pub fn without_sessions(start: &Start) -> Start {
    start.then(|repository| {
        for (name, _) in repository.objects(Prefix::Sessions).expect("memory lists") {
            repository.backend().remove(&name).expect("memory removes");
        }
    })
}

/// A process that carries out deletes that it was told of long ago.
pub fn zombie(packs: Vec<ObjectName>) -> Role {
    Role::new("zombie", move |stage: &Stage| {
        packs.iter().try_for_each(|name| stage.backend().remove(name).map(drop).map_err(Error::from))
    })
}

/// What a writer of these letters leaves that dies before it asks for this.
pub fn orphans(start: &Start, letters: &'static str, before: &'static str) -> Start {
    cut_off(start, backup("dies", letters), before)
}

/// What a process leaves that dies before it asks for this.
pub fn cut_off(start: &Start, role: Role, before: &'static str) -> Start {
    let scenario = Scenario::new(start, vec![role.mortal()]).faults(Faults::CRASH);
    let mut dying = DiesBefore { request: before, is_dead: false };
    let (left, ran) = scenario.run_to_end(&mut dying);
    assert_eq!(ran.problem, None);
    assert!(dying.is_dead, "it asked for {before}: {:?}", ran.trace);
    left
}

/// A data pack of `a` and `b`, of which a snapshot needs `b` alone; its table is damaged, and the index has only `a`.
pub fn half_indexed() -> Start {
    let start = with_damaged_table(&expired(&with(&[("old", "ab"), ("kept", "b")]), "old"));
    start.alter(|keys, objects| {
        let old: Vec<_> = objects.keys().filter(|name| matches!(name, ObjectName::Index(_))).copied().collect();
        for name in old {
            let bytes = objects.remove(&name).expect("it is there");
            let mut blocks = Vec::new();
            let mut trim = |mut block: IndexBlock| {
                let needed = keys.chunk_id(ChunkKind::Data, &Letters::content(b'b'));
                block.chunks.retain(|chunk| chunk.id != needed);
                blocks.push(block);
            };
            seal::open_index(keys, &bytes, &mut trim).expect("it opens");
            let (id, bytes) = seal::seal_index(keys, SnapshotId([9; 16]), 1, &blocks).expect("it seals");
            objects.insert(ObjectName::Index(id), bytes);
        }
    })
}

/// The first data pack has a damaged table; the index knows what is in it.
pub fn with_damaged_table(start: &Start) -> Start {
    let is_data = |name: &&ObjectName| matches!(name, ObjectName::Pack(PackKind::Data, _));
    let pack = *start.objects().keys().find(is_data).expect("there is content");
    start.alter(|_, objects| {
        let mut damaged = objects[&pack].to_vec();
        let end = damaged.len() - 100;
        damaged[end] ^= 1;
        objects.insert(pack, damaged.into());
    })
}

/// The first process dies when it asks for this; whatever else there is goes on.
#[derive(Debug)]
pub struct DiesBefore {
    pub request: &'static str,
    pub is_dead: bool,
}

impl Chooser for DiesBefore {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        let is_it = |one: &Move| {
            let text = (now.shown)(*one);
            text.contains(self.request) && text.ends_with("→ Dies")
        };
        let dies = now.moves.iter().position(is_it);
        self.is_dead |= dies.is_some();
        Some(dies.unwrap_or(0))
    }
}

/// Everybody has done his work, all that is there comes back, and a check of every byte finds nothing that matters: a pack
/// that was deleted may still be in the index, and a second copy may come after its snapshot was expired.
///
/// # Errors
/// What is not so, in words.
pub fn is_whole(end: &End) -> std::result::Result<(), String> {
    end.all_are_done()?;
    let repository = end.repository();
    read_all(&repository).map_err(whole::in_words("reading"))?;
    let report = whole::check(&repository)?;
    let matters = |error: &&Error| match error {
        Error::Corrupt { object, problem: Corruption::Missing } => {
            let is_copy = matches!(object, ObjectName::SecondCopy(_) | ObjectName::Snapshot(_));
            !(is_copy || matches!(object, ObjectName::Pack(..)) && report.damaged_snapshots.is_empty())
        }
        _ => true,
    };
    report.errors.iter().find(matters).map_or(Ok(()), |error| Err(format!("check found: {error}")))
}

/// As [`is_whole`]; and after one more prune nothing is left that nobody needs.
///
/// # Errors
/// What is not so, in words.
pub fn is_reclaimed(end: &End) -> std::result::Result<(), String> {
    is_whole(end)?;
    let repository = end.repository();
    for _ in 0..2 {
        prune_to(&repository, &plain())?;
    }
    let left = prune_to(&repository, &plain().dry_run())?;
    if left.unused_packs > 0 || left.remaining_unused_bytes > 0 && left.packs == 0 {
        return Err(format!("{} packs are left that nobody needs", left.unused_packs));
    }
    let sessions = repository.objects(Prefix::Sessions).map_err(whole::in_words("listing"))?;
    if let Some((name, _)) = sessions.first() {
        return Err(format!("{name} is left"));
    }
    is_whole(end)
}

fn prune_to(repository: &Repository, options: &PruneOptions) -> std::result::Result<PruneReport, String> {
    repository.prune(options, &Silent).map_err(whole::in_words("prune"))
}
