//! After a power failure at any moment of any verb that writes, the repository opens, every published snapshot is whole,
//! and the verb runs again; and of the verb's fsyncs none could be left out. After a kill at any moment, the next run
//! makes durable whatever it builds on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_tests::crash::{Crash, Crashes, Failing, Fault, Log, Recorder};
use icecore_tests::whole::{self, Known, in_words};
use repo_core::{
    Doubled, Error, InitOptions, Local, ObjectName, PasswordCost, Patterns, Prefix, PruneOptions, RecoverOptions,
    Repository, RewriteOptions, RotateOptions, Secret, Silent, SnapshotFilter, SnapshotId,
};

/// Create, write, sync, rename, sync.
const CHANGES_OF_A_PUT: usize = 5;

/// Files without a name of their own: no verb reads them.
const TEMPORARY: &str = "vault/tmp";

/// A disk with a repository on it that is safe, and a source beside it that is not on that disk.
struct Bench {
    disk: tempfile::TempDir,
    source: tempfile::TempDir,
    known: Known,
}

impl Bench {
    /// An empty disk.
    fn empty() -> Self {
        let room = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let bench = Self { disk: room(), source: room(), known: Known::default() };
        whole::write_edition(bench.source.path(), 0);
        bench
    }

    /// A repository with that many snapshots; the source is changed after each.
    fn with_snapshots(count: u64) -> Self {
        let mut bench = Self::empty();
        init(Local::new(bench.vault())).unwrap();
        for edition in 0..count {
            let report = whole::back_up(&whole::open(&bench.vault()).unwrap(), bench.source.path()).unwrap();
            bench.known.add(&report, bench.source.path());
            whole::write_edition(bench.source.path(), edition + 1);
        }
        bench
    }

    fn vault(&self) -> PathBuf {
        self.disk.path().join("vault")
    }

    fn recorder(&self) -> Arc<Recorder> {
        Arc::new(Recorder::new(self.disk.path()))
    }

    /// The repository as a process has it that is killed after so many changes.
    fn mortal(&self, recorder: &Arc<Recorder>, changes: usize) -> (Local, Arc<Failing>) {
        let operations = Arc::new(Failing::after(changes, Fault::Killed, recorder.clone()));
        (Local::with_operations(self.vault(), operations.clone()), operations)
    }

    fn back_up(&self, local: Local) -> Result<SnapshotId, Error> {
        let repository = Repository::open(Arc::new(local), &whole::secret())?.with_threads(1);
        let report = whole::back_up(&repository, self.source.path())?;
        Ok(report.snapshot.expect("a snapshot was published").id())
    }
}

fn init(local: Local) -> Result<Repository, Error> {
    Repository::init(Arc::new(local), &whole::secret(), &InitOptions::default())
}

/// The fsyncs of a run without which no promise would be broken.
fn needless_syncs(log: &Log, check: &dyn Fn(&Crash, &Path) -> Result<(), String>) -> Vec<String> {
    let syncs = log.syncs().into_iter().enumerate();
    let is_needless = |(n, _): &(usize, String)| {
        let (without, position) = log.without_sync(*n);
        let crashes = Crashes::of(&without).after(position).ignoring(TEMPORARY);
        crashes.find_bad(&mut |crash, disk| check(crash, disk)).is_none()
    };
    // Of folders that are made when they are first needed each one above is synced: who made it may have died before that,
    // as nobody did in these runs.
    let is_of_folder = |sync: &String| ["fsync directory vault", "fsync directory vault/parity"].contains(&&**sync);
    syncs.filter(is_needless).map(|(_, sync)| sync).filter(|sync| !is_of_folder(sync)).collect()
}

/// After init was begun: it is there, or can be completed.
fn init_is_done_or_can_be(crash: &Crash, disk: &Path) -> Result<(), String> {
    let vault = disk.join("vault");
    let repository = match whole::open(&vault) {
        Ok(repository) => {
            match crash.has_passed("done") {
                false => whole::is_whole_but_for_copies(&repository),
                true if crash.has_passed("backing up") && !crash.has_passed("published") => {
                    whole::is_whole(&repository)
                }
                true => whole::is_spotless(&repository),
            }?;
            repository
        }
        Err(Error::NoRepository { .. }) if !crash.has_passed("done") => {
            init(Local::new(&vault)).map_err(in_words("init again"))?;
            let repository = whole::open(&vault).map_err(in_words("after init again"))?;
            whole::is_whole(&repository)?;
            repository
        }
        Err(error) => return Err(format!("it does not open: {error}")),
    };
    match init(Local::new(&vault)) {
        Err(Error::RepositoryExists { .. }) => {}
        other => return Err(format!("another init answers {other:?}")),
    }
    // It can be used.
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("file"), "content").unwrap();
    whole::back_up(&repository, source.path()).map(drop).map_err(in_words("a backup"))
}

/// With a first backup right after it: whether init made the folders durable that nobody syncs later shows there.
#[test]
fn an_init_cut_off_by_a_power_failure_is_done_or_can_be_completed() {
    let bench = Bench::empty();
    let recorder = bench.recorder();
    let local = || Local::with_operations(bench.vault(), recorder.clone());
    init(local()).unwrap();
    recorder.mark("done");
    recorder.mark("backing up");
    let published = bench.back_up(local()).unwrap();
    recorder.mark("published");
    let log = recorder.finish();
    let mut known = Known::default();
    known.0.insert(published, whole::contents(bench.source.path()));
    let check = |crash: &Crash, disk: &Path| {
        if crash.has_passed("published") {
            let repository = whole::open(&disk.join("vault")).map_err(in_words("it does not open"))?;
            known.are_whole(&repository, [published])?;
        }
        init_is_done_or_can_be(crash, disk)
    };
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
    assert!(count > 100, "{count} states are too few to mean anything");
    assert_eq!(needless_syncs(&log, &check), [""; 0]);
}

/// What holds at every moment of a backup that is the last thing done.
fn backup_is_done_or_can_be(bench: &Bench, known: &Known, crash: &Crash, disk: &Path) -> Result<(), String> {
    let repository = whole::open(&disk.join("vault")).map_err(in_words("it does not open"))?;
    let published = crash.has_passed("published");
    let required = if published { &known.0 } else { &bench.known.0 };
    known.are_whole(&repository, required.keys().copied())?;
    known.are_restored(&repository)?;
    // After its end a backup leaves nothing to note: no session, no pack without an index, no copy too few.
    if published { whole::is_spotless(&repository) } else { whole::is_whole(&repository) }?;
    let report = whole::back_up(&repository, bench.source.path()).map_err(in_words("the backup, run again"))?;
    let mut known = known.clone();
    let new = known.add(&report, bench.source.path());
    known.are_whole(&repository, required.keys().copied().chain([new]))?;
    whole::is_whole(&repository)
}

#[test]
fn a_backup_cut_off_by_a_power_failure_harms_no_snapshot_and_runs_again() {
    for snapshots in [0, 1] {
        let bench = Bench::with_snapshots(snapshots);
        let recorder = bench.recorder();
        let published = bench.back_up(Local::with_operations(bench.vault(), recorder.clone())).unwrap();
        recorder.mark("published");
        let log = recorder.finish();
        let mut known = bench.known.clone();
        known.0.insert(published, whole::contents(bench.source.path()));
        let check = |crash: &Crash, disk: &Path| backup_is_done_or_can_be(&bench, &known, crash, disk);
        let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
        assert!(count > 8, "{count} states are too few to mean anything");
        assert_eq!(needless_syncs(&log, &check), [""; 0]);
    }
}

/// The one who was killed may have given names that were not yet durable; the next run finds them, builds on them, and is
/// followed by a power failure.
#[test]
fn a_backup_makes_durable_what_one_that_was_killed_left() {
    let changes = {
        let bench = Bench::with_snapshots(0);
        let (local, operations) = bench.mortal(&bench.recorder(), usize::MAX);
        bench.back_up(local).unwrap();
        usize::MAX - operations.left()
    };
    assert!(changes > 20, "{changes} changes make no backup");
    for killed_after in 0..changes {
        let bench = Bench::with_snapshots(0);
        let recorder = bench.recorder();
        let (local, operations) = bench.mortal(&recorder, killed_after);
        // Also a run that failed may have published, if that was the last it did; and one that published does not fail.
        let first = bench.back_up(local).ok();
        assert_eq!(operations.left(), 0);
        let second = bench.back_up(Local::with_operations(bench.vault(), recorder.clone())).unwrap();
        let log = recorder.finish();
        let list = whole::open(&bench.vault()).unwrap().snapshots(&SnapshotFilter::default()).unwrap().snapshots;
        let source = whole::contents(bench.source.path());
        let known = Known(list.iter().map(|snapshot| (snapshot.id(), source.clone())).collect());
        let required: Vec<SnapshotId> = first.into_iter().chain([second]).collect();
        Crashes::of(&log).after(log.operations()).ignoring(TEMPORARY).check(&mut |_, disk| {
            let repository = whole::open(&disk.join("vault")).map_err(in_words("it does not open"))?;
            known
                .are_whole(&repository, required.iter().copied())
                .and_then(|()| whole::is_whole(&repository))
                .map_err(|problem| format!("killed after {killed_after} of {changes} changes: {problem}"))
        });
    }
}

/// Likewise of an init that another completes.
#[test]
fn an_init_makes_durable_what_one_that_was_killed_left() {
    let changes = {
        let bench = Bench::empty();
        let (local, operations) = bench.mortal(&bench.recorder(), usize::MAX);
        init(local).unwrap();
        usize::MAX - operations.left()
    };
    // Earlier ones are all about folders; the next init makes those that are missing, and syncs all.
    let objects = changes - 8 * CHANGES_OF_A_PUT;
    for killed_after in [1, 100].into_iter().chain(objects - 1..changes) {
        let bench = Bench::empty();
        let recorder = bench.recorder();
        let (local, operations) = bench.mortal(&recorder, killed_after);
        let first = init(local);
        assert!(
            first.is_err() && operations.left() == 0,
            "killed after {killed_after} of {changes} changes: {first:?}"
        );
        let second = init(Local::with_operations(bench.vault(), recorder.clone()));
        let exists = matches!(second, Err(Error::RepositoryExists { .. }));
        let log = recorder.finish();
        Crashes::of(&log).after(log.operations()).ignoring(TEMPORARY).check(&mut |_, disk| {
            let what = || format!("killed after {killed_after} of {changes} changes");
            match whole::open(&disk.join("vault")) {
                // The first had come so far that there was nothing to complete; whether it was durable is its own affair.
                Err(Error::NoRepository { .. }) if exists => {
                    init(Local::new(disk.join("vault"))).map(drop).map_err(in_words("init again"))
                }
                Ok(repository) if exists => whole::is_whole_but_for_copies(&repository),
                Ok(repository) => whole::is_whole(&repository),
                Err(error) => Err(error.to_string()),
            }
            .map_err(|problem| format!("{}: {problem}", what()))
        });
    }
}

/// The keys of these tests beside the first.
const ADDED: u8 = 2;
const CHANGED: u8 = 3;
const AGAIN: u8 = 4;

fn key(seed: u8) -> Secret {
    Secret::Key([seed; 32].into())
}

/// Opens with a key: `None` if the repository says that it is none of its own.
fn open_with(vault: &Path, secret: &Secret) -> Result<Option<Repository>, String> {
    match Repository::open(Arc::new(Local::new(vault)), secret) {
        Ok(repository) => Ok(Some(repository)),
        Err(Error::WrongSecret { .. } | Error::Revoked) => Ok(None),
        Err(error) => Err(format!("it does not open: {error}")),
    }
}

/// At every moment exactly the keys open that should; nothing else is harmed; and the verbs run again.
fn keys_are_what_they_should_be(known: &Known, crash: &Crash, disk: &Path) -> Result<(), String> {
    let vault = disk.join("vault");
    let is_under_way = |begin, end| crash.has_passed(begin) && !crash.has_passed(end);
    let first = open_with(&vault, &whole::secret())?;
    let added = open_with(&vault, &key(ADDED))?;
    let changed = open_with(&vault, &key(CHANGED))?;
    let must_be = |name: &str, is: bool, must: bool| match is == must {
        true => Ok(()),
        false => Err(format!("the {name} key opens: {is}")),
    };
    if !is_under_way("adding", "added") && !is_under_way("removing", "removed") {
        must_be("added", added.is_some(), crash.has_passed("added") && !crash.has_passed("removed"))?;
    }
    // While it is changed, one of the two opens, and never both.
    must_be("changed", changed.is_some(), first.is_none())?;
    if !is_under_way("changing", "changed") {
        must_be("first", first.is_some(), !crash.has_passed("changed"))?;
    }
    let repository = first.or(changed).expect("one of the two is there");
    known.are_whole(&repository, known.0.keys().copied())?;
    let under_way = [("adding", "added"), ("removing", "removed"), ("changing", "changed")];
    if under_way.into_iter().any(|(begin, end)| is_under_way(begin, end)) {
        whole::is_whole_but_for_copies(&repository)?;
    } else {
        whole::is_spotless(&repository)?;
    }
    keys_can_be_changed_again(&vault, &repository)
}

fn keys_can_be_changed_again(vault: &Path, repository: &Repository) -> Result<(), String> {
    // Every slot but the one in use goes, also what is no more than a leftover.
    let slots = repository.objects(Prefix::KeySlots).map_err(in_words("listing key slots"))?;
    let copies = repository.objects(Prefix::SecondCopies).map_err(in_words("listing key slots"))?;
    let in_use = repository.keys().map_err(in_words("keys"))?.iter().find(|key| key.current).expect("it is open").slot;
    let slots: BTreeSet<_> = slots
        .iter()
        .chain(&copies)
        .filter_map(|(name, _)| match name {
            ObjectName::KeySlot(slot) | ObjectName::SecondCopy(Doubled::KeySlot(slot)) => Some(*slot),
            _ => None,
        })
        .filter(|slot| *slot != in_use)
        .collect();
    // Added before the leftovers go: a leftover of the same key must not hide it.
    repository.add_key(&key(ADDED), "", PasswordCost::Default).map_err(in_words("adding the key again"))?;
    open_with(vault, &key(ADDED))?.ok_or("the key that was added again does not open")?;
    for slot in slots {
        repository.remove_key(slot).map_err(in_words("removing a key again"))?;
    }
    repository.change_key(&key(AGAIN), PasswordCost::Default).map_err(in_words("changing the key again"))?;
    let repository = open_with(vault, &key(AGAIN))?.ok_or("the key that was changed again does not open")?;
    let slots = repository.objects(Prefix::KeySlots).map_err(in_words("listing key slots"))?.len();
    if slots == 2 { Ok(()) } else { Err(format!("{slots} key slots are left")) }
}

#[test]
fn a_change_of_keys_cut_off_by_a_power_failure_locks_nobody_out_and_runs_again() {
    let bench = Bench::with_snapshots(1);
    let recorder = bench.recorder();
    let local = Arc::new(Local::with_operations(bench.vault(), recorder.clone()));
    let repository = Repository::open(local, &whole::secret()).unwrap();
    recorder.mark("adding");
    let added = repository.add_key(&key(ADDED), "added", PasswordCost::Default).unwrap();
    recorder.mark("added");
    recorder.mark("removing");
    repository.remove_key(added.slot).unwrap();
    recorder.mark("removed");
    recorder.mark("changing");
    repository.change_key(&key(CHANGED), PasswordCost::Default).unwrap();
    recorder.mark("changed");
    let log = recorder.finish();
    let check = |crash: &Crash, disk: &Path| keys_are_what_they_should_be(&bench.known, crash, disk);
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
    assert!(count > 20, "{count} states are too few to mean anything");
    assert_eq!(needless_syncs(&log, &check), [""; 0]);
}

/// While the keys are rotated the old secrets open the repository or the new one does, never both, and never neither; whoever
/// opens it finds everything, and whoever prunes next tidies up.
fn keys_are_old_or_new(known: &Known, crash: &Crash, disk: &Path) -> Result<(), String> {
    let vault = disk.join("vault");
    let old = open_with(&vault, &whole::secret())?;
    let added = open_with(&vault, &key(ADDED))?;
    let new = open_with(&vault, &key(CHANGED))?;
    if old.is_some() == new.is_some() || old.is_some() != added.is_some() {
        let opens = [old.is_some(), added.is_some(), new.is_some()];
        return Err(format!("the old, the dropped and the new key open: {opens:?}"));
    }
    if crash.has_passed("rotated") && new.is_none() {
        return Err("the rotation is undone".to_owned());
    }
    let is_new = new.is_some();
    let repository = new.or(old).expect("one of the two is there");
    known.are_whole(&repository, known.0.keys().copied())?;
    match crash.has_passed("rotated") {
        true => whole::is_spotless(&repository)?,
        false => whole::is_whole_but_for_copies(&repository)?,
    }
    if is_new {
        repository.prune(&PruneOptions::new(), &Silent).map_err(in_words("prune"))?;
    } else {
        let options = RotateOptions::new().key(&key(CHANGED), "", PasswordCost::Default);
        repository.rotate_keys(&options).map_err(in_words("rotating again"))?;
    }
    let repository = open_with(&vault, &key(CHANGED))?.ok_or("the new key does not open")?;
    known.are_whole(&repository, known.0.keys().copied())?;
    whole::is_whole_but_for_copies(&repository)?;
    let slots = repository.objects(Prefix::KeySlots).map_err(in_words("listing key slots"))?.len();
    if slots == 1 { Ok(()) } else { Err(format!("{slots} key slots are left")) }
}

#[test]
fn a_rotation_cut_off_by_a_power_failure_locks_nobody_out_and_is_completed() {
    let bench = Bench::with_snapshots(1);
    whole::open(&bench.vault()).unwrap().add_key(&key(ADDED), "dropped", PasswordCost::Default).unwrap();
    let recorder = bench.recorder();
    let local = Arc::new(Local::with_operations(bench.vault(), recorder.clone()));
    let repository = Repository::open(local, &whole::secret()).unwrap();
    let options = RotateOptions::new().key(&key(CHANGED), "", PasswordCost::Default);
    let rotated = repository.rotate_keys(&options).unwrap();
    assert!(rotated.unfinished.is_none(), "{:?}", rotated.unfinished);
    recorder.mark("rotated");
    let log = recorder.finish();
    let check = |crash: &Crash, disk: &Path| keys_are_old_or_new(&bench.known, crash, disk);
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
    assert!(count > 15, "{count} states are too few to mean anything");
}

/// Leaves one file out of every snapshot, and forgets what they were: each old id with the new one.
fn rewrite(repository: &Repository) -> Result<BTreeMap<SnapshotId, SnapshotId>, Error> {
    let mut left_out = Patterns::new();
    left_out.add("small", false).expect("a pattern");
    let snapshots = repository.snapshots(&SnapshotFilter::default())?.snapshots;
    let options = RewriteOptions::new().exclude(left_out).forget();
    let report = repository.rewrite(&snapshots, &options, &Silent)?;
    if let Some((_, error)) = report.failed.into_iter().next() {
        return Err(error);
    }
    let pairs = report.rewritten.into_iter().filter_map(|one| Some((one.snapshot, one.replacement?.id())));
    Ok(pairs.collect())
}

/// What is there with the files that each new snapshot should have.
fn with_rewritten(known: &Known, repository: &Repository) -> Result<Known, String> {
    let mut all = known.clone();
    for snapshot in repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing"))?.snapshots {
        let Some(mut files) = snapshot.record().origin.and_then(|origin| known.0.get(&origin)).cloned() else {
            continue;
        };
        files.retain(|path, _| !path.ends_with(b"/small"));
        all.0.insert(snapshot.id(), files);
    }
    Ok(all)
}

/// Each snapshot is there as it was, or as it should be, and another run ends what was begun.
fn snapshots_are_old_or_rewritten(known: &Known, crash: &Crash, disk: &Path) -> Result<(), String> {
    let repository = whole::open(&disk.join("vault")).map_err(in_words("it does not open"))?.with_threads(1);
    let all = with_rewritten(known, &repository)?;
    all.are_whole(&repository, [])?;
    let left = |repository: &Repository| -> Result<(BTreeSet<SnapshotId>, BTreeSet<SnapshotId>), String> {
        let shown = repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing"))?.snapshots;
        let (old, new): (Vec<_>, Vec<_>) = shown.iter().partition(|one| known.0.contains_key(&one.id()));
        let origins = new.iter().filter_map(|one| one.record().origin).collect();
        Ok((old.iter().map(|one| one.id()).collect(), origins))
    };
    let (old, rewritten) = left(&repository)?;
    if let Some(lost) = known.0.keys().find(|id| !old.contains(id) && !rewritten.contains(id)) {
        return Err(format!("{lost} is there neither as it was nor rewritten"));
    }
    if crash.has_passed("rewritten") {
        if !old.is_empty() {
            return Err(format!("{old:?} were forgotten, and are there"));
        }
        whole::is_spotless(&repository)?;
    } else {
        whole::is_whole_but_for_copies(&repository)?;
    }
    rewrite(&repository).map_err(in_words("rewriting again"))?;
    with_rewritten(known, &repository)?.are_whole(&repository, [])?;
    let (old, rewritten) = left(&repository)?;
    let count = repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing"))?.snapshots.len();
    match old.is_empty() && rewritten.len() == known.0.len() && count == known.0.len() {
        true => whole::is_whole_but_for_copies(&repository),
        false => Err(format!("{count} snapshots are left: {old:?} as they were, of {rewritten:?} others")),
    }
}

#[test]
fn a_rewrite_cut_off_by_a_power_failure_leaves_each_snapshot_old_or_new_and_is_completed() {
    let bench = Bench::with_snapshots(2);
    let recorder = bench.recorder();
    let local = Arc::new(Local::with_operations(bench.vault(), recorder.clone()));
    let repository = Repository::open(local, &whole::secret()).unwrap().with_threads(1);
    assert_eq!(rewrite(&repository).unwrap().len(), 2);
    recorder.mark("rewritten");
    let log = recorder.finish();
    let check = |crash: &Crash, disk: &Path| snapshots_are_old_or_rewritten(&bench.known, crash, disk);
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
    assert!(count > 15, "{count} states are too few to mean anything");
}

/// Nothing is there, or the snapshot of what was lost; another run makes one of it, and no second.
fn what_was_lost_is_recovered_once(known: &Known, crash: &Crash, disk: &Path) -> Result<(), String> {
    let repository = whole::open(&disk.join("vault")).map_err(in_words("it does not open"))?.with_threads(1);
    let recovered = |repository: &Repository| -> Result<usize, String> {
        let all = repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing"))?;
        if let Some(error) = all.unreadable.first() {
            return Err(format!("a snapshot cannot be read: {error}"));
        }
        let is_known = |id: &SnapshotId| all.snapshots.iter().any(|snapshot| snapshot.id() == *id);
        match known.0.keys().find(|id| !is_known(id)) {
            Some(lost) => Err(format!("{lost} is gone")),
            None => Ok(all.snapshots.len() - known.0.len()),
        }
    };
    let before = recovered(&repository)?;
    if before > 1 || crash.has_passed("recovered") && before != 1 {
        return Err(format!("{before} snapshots were recovered"));
    }
    match crash.has_passed("recovered") {
        true => whole::is_spotless(&repository)?,
        false => whole::is_whole_but_for_copies(&repository)?,
    }
    repository.recover(&RecoverOptions::new(), &Silent).map_err(in_words("recovering again"))?;
    match recovered(&repository)? {
        1 => whole::is_whole_but_for_copies(&repository),
        count => Err(format!("{count} snapshots were recovered in the end")),
    }
}

#[test]
fn a_recovery_cut_off_by_a_power_failure_is_done_or_runs_again() {
    let mut bench = Bench::with_snapshots(2);
    let lost = *bench.known.0.keys().next().expect("two");
    bench.known.0.remove(&lost);
    let repository = whole::open(&bench.vault()).unwrap();
    for name in [ObjectName::Snapshot(lost), ObjectName::SecondCopy(Doubled::Snapshot(lost))] {
        repository.backend().remove(&name).unwrap();
    }
    let recorder = bench.recorder();
    let local = Arc::new(Local::with_operations(bench.vault(), recorder.clone()));
    let repository = Repository::open(local, &whole::secret()).unwrap().with_threads(1);
    assert!(repository.recover(&RecoverOptions::new(), &Silent).unwrap().snapshot.is_some());
    recorder.mark("recovered");
    let log = recorder.finish();
    let check = |crash: &Crash, disk: &Path| what_was_lost_is_recovered_once(&bench.known, crash, disk);
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut { check });
    assert!(count > 8, "{count} states are too few to mean anything");
}
