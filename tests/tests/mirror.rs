//! Mirrors, and two copies against each other: the same bytes without a key, whole at every moment, refused to writers, and
//! each the other's healer.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use icecore_tests::bench::{Bench, options, published};
use icecore_tests::damage::{self, Damage, Kind};
use icecore_tests::whole;
use repo_core::{
    Backend, BackendError, Bytes, Capabilities, CrossOptions, Error, InitOptions, Listed, Local, Memory, MirrorOptions,
    Mode, ObjectName, PasswordCost, Prefix, Put, Removal, Repository, Secret, Side, Silent, Snapshot, SnapshotFilter,
    Span, cross_check, mirror, promote,
};

/// A place that fails from the n-th change on, and lets something happen before its k-th listing.
#[derive(Debug)]
struct Frail {
    inner: Memory,
    changes_left: AtomicI64,
}

impl Frail {
    fn new() -> Self {
        Self { inner: Memory::new(), changes_left: AtomicI64::new(i64::MAX) }
    }

    fn change(&self, name: &ObjectName) -> Result<(), BackendError> {
        match self.changes_left.fetch_sub(1, Ordering::Relaxed) {
            ..=0 => Err(BackendError::io("writing", name, io::Error::other("the place is gone"))),
            _ => Ok(()),
        }
    }
}

impl Backend for Frail {
    fn place(&self) -> String {
        "a frail place".into()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.change(name)?;
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.inner.get(name, span)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.change(name)?;
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// A source during whose run something happens, once: before the first object of a kind is read.
struct Moving<'a> {
    inner: &'a dyn Backend,
    before: fn(&ObjectName) -> bool,
    happens: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl std::fmt::Debug for Moving<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Moving")
    }
}

impl Backend for Moving<'_> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        if (self.before)(name)
            && let Some(happens) = self.happens.lock().expect("no test panics here").take()
        {
            happens();
        }
        self.inner.get(name, span)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn secret() -> Secret {
    Secret::Key([42; 32].into())
}

fn open(place: &Arc<dyn Backend>) -> Repository {
    Repository::open(place.clone(), &secret()).expect("the repository opens")
}

fn snapshots(place: &Arc<dyn Backend>) -> Vec<Snapshot> {
    open(place).snapshots(&SnapshotFilter::new()).expect("snapshots can be listed").snapshots
}

fn run(source: &dyn Backend, target: &dyn Backend) -> repo_core::MirrorReport {
    mirror(source, target, &MirrorOptions::new(), &Silent).expect("it is mirrored")
}

/// All objects with their bytes, but for the mark.
fn contents(place: &dyn Backend) -> Vec<(ObjectName, Bytes)> {
    let names = damage::objects(place).into_iter().filter(|name| *name != ObjectName::Mirror);
    names.map(|name| (name, place.get(&name, Span::All).expect("it was listed"))).collect()
}

fn bench() -> Bench {
    let bench = Bench::in_memory();
    bench.write("large", whole::noise(1, 700 << 10));
    bench.write("small", "x");
    bench.backup();
    bench.write("more", whole::noise(2, 200 << 10));
    bench.backup();
    bench
}

#[test]
fn a_mirror_has_the_same_bytes_and_restores_to_the_same_tree() {
    let bench = bench();
    let target: Arc<dyn Backend> = Arc::new(Local::new(bench.path().join("mirror")));
    let report = run(bench.backend(), &*target);
    assert!(report.copied > 5 && report.damaged.is_empty() && report.healed.is_empty(), "{report:?}");
    assert!(contents(bench.backend()) == contents(&*target));
    whole::is_whole(&open(&target)).expect("check finds nothing");
    let files = whole::contents(&bench.source());
    let newest = snapshots(&target).pop().expect("two snapshots");
    whole::reads_back(&open(&target), &newest, &files).expect("all is there");

    let again = run(bench.backend(), &*target);
    assert_eq!((again.copied, again.copied_bytes), (0, 0));
    bench.write("third", "y");
    bench.backup();
    assert!(run(bench.backend(), &*target).copied > 0);
    assert!(contents(bench.backend()) == contents(&*target));
}

#[test]
fn a_mirror_refuses_every_writer_until_it_is_promoted() {
    let bench = bench();
    let target: Arc<dyn Backend> = Arc::new(Memory::new());
    run(bench.backend(), &*target);
    let copy = open(&target);
    let before = contents(&*target);
    let is_refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Mirror { .. })), "{result:?}");
    is_refused(copy.backup(&bench.local_tree(), &options(Mode::Full), &Silent).map(drop));
    is_refused(copy.prune(&Default::default(), &Silent).map(drop));
    is_refused(copy.repair_parity(&Default::default(), &Silent).map(drop));
    is_refused(copy.add_key(&secret(), "another", PasswordCost::Default).map(drop));
    let other = Repository::init(Arc::new(Memory::new()), &secret(), &InitOptions::new()).expect("a place of our own");
    other.backup(&bench.local_tree(), &options(Mode::Full), &Silent).expect("a backup");
    let all = other.snapshots(&SnapshotFilter::new()).expect("listed").snapshots;
    is_refused(other.copy_to(&[&copy], &all, &Default::default(), &Silent).map(drop));
    assert!(before == contents(&*target), "nothing was written");

    promote(&*target).expect("it is a mirror");
    assert!(promote(&*target).is_err(), "it is none any more");
    copy.backup(&bench.local_tree(), &options(Mode::Full), &Silent).expect("it takes backups");
    let refused = mirror(bench.backend(), &*target, &MirrorOptions::new(), &Silent);
    assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
}

#[test]
fn only_a_place_that_is_empty_or_a_mirror_of_the_same_becomes_one() {
    let bench = bench();
    let other = Bench::in_memory();
    let is_refused = |target: &dyn Backend| {
        let result = mirror(bench.backend(), target, &MirrorOptions::new(), &Silent);
        assert!(matches!(result, Err(Error::NotEmpty { .. } | Error::SplitBrain { .. })), "{result:?}");
    };
    is_refused(other.backend());
    let target = Memory::new();
    run(other.backend(), &target);
    is_refused(&target);
    let nothing = mirror(&Memory::new(), &Memory::new(), &MirrorOptions::new(), &Silent);
    assert!(matches!(nothing, Err(Error::NoRepository { .. })), "{nothing:?}");
}

#[test]
fn two_that_have_both_been_written_to_are_told_apart() {
    let bench = bench();
    let target: Arc<dyn Backend> = Arc::new(Memory::new());
    run(bench.backend(), &*target);
    let mark = target.get(&ObjectName::Mirror, Span::All).expect("a mark");
    promote(&*target).expect("it is a mirror");
    open(&target).add_key(&Secret::Key([7; 32].into()), "of the mirror", PasswordCost::Default).expect("a key");
    target.put_new(&ObjectName::Mirror, mark).expect("the name is free");
    let is_split = || {
        let result = mirror(bench.backend(), &*target, &MirrorOptions::new(), &Silent);
        assert!(matches!(result, Err(Error::SplitBrain { .. })), "{result:?}");
    };
    is_split();
    // The same number, other bytes.
    bench.open().add_key(&Secret::Key([8; 32].into()), "of the source", PasswordCost::Default).expect("a key");
    is_split();
}

#[test]
fn a_mirror_that_dies_anywhere_has_whole_snapshots_only_and_the_next_run_completes_it() {
    let bench = bench();
    for changes in 0.. {
        let target: Arc<Frail> = Arc::new(Frail::new());
        let place: Arc<dyn Backend> = target.clone();
        target.changes_left.store(changes, Ordering::Relaxed);
        let result = mirror(bench.backend(), &*target, &MirrorOptions::new().threads(1), &Silent);
        target.changes_left.store(i64::MAX, Ordering::Relaxed);
        match Repository::open(place.clone(), &secret()) {
            Ok(repository) => whole::is_whole_but_for_copies(&repository).expect("what is there is whole"),
            Err(Error::NoRepository { .. }) => assert!(result.is_err()),
            Err(error) => panic!("after {changes} changes: {error}"),
        }
        run(bench.backend(), &*target);
        assert!(contents(bench.backend()) == contents(&*target), "after {changes} changes");
        if result.is_ok() {
            break;
        }
    }
}

#[test]
fn what_the_source_has_no_longer_goes_only_if_asked_for_and_snapshots_first() {
    let bench = bench();
    let target: Arc<dyn Backend> = Arc::new(Memory::new());
    run(bench.backend(), &*target);
    let gone = snapshots(&target)[0].id();
    for name in [ObjectName::SecondCopy(repo_core::Doubled::Snapshot(gone)), ObjectName::Snapshot(gone)] {
        bench.backend().remove(&name).expect("ours");
    }
    run(bench.backend(), &*target);
    assert_eq!(snapshots(&target).len(), 2);
    let report = mirror(bench.backend(), &*target, &MirrorOptions::new().delete(), &Silent).expect("it is mirrored");
    assert_eq!(report.removed, 1);
    assert_eq!(snapshots(&target).len(), 1);
    assert!(contents(bench.backend()) == contents(&*target));
    whole::is_whole(&open(&target)).expect("check finds nothing");
}

#[test]
fn a_source_that_is_pruned_meanwhile_gives_a_whole_mirror_all_the_same() {
    let befores: [fn(&ObjectName) -> bool; 3] = [
        |name| matches!(name, ObjectName::Pack(..)),
        |name| matches!(name, ObjectName::Index(_)),
        |name| matches!(name, ObjectName::Snapshot(_)),
    ];
    for (number, before) in befores.into_iter().enumerate() {
        let bench = bench();
        let target: Arc<dyn Backend> = Arc::new(Memory::new());
        let happens = || {
            // The first snapshot goes with a pack of its own that nothing else needs, and a new one comes.
            let first = bench.open().snapshots(&SnapshotFilter::new()).expect("listed").snapshots[0].id();
            for name in [ObjectName::SecondCopy(repo_core::Doubled::Snapshot(first)), ObjectName::Snapshot(first)] {
                bench.backend().remove(&name).expect("ours");
            }
            let mut options = repo_core::PruneOptions::new();
            options.accept_lost_snapshots = true;
            options.max_unused = repo_core::Unused::Percent(0.0);
            bench.open().prune(&options, &Silent).expect("it is pruned");
            bench.write("last", whole::noise(9, 100 << 10));
            bench.backup();
        };
        let moving = Moving { inner: bench.backend(), before, happens: Mutex::new(Some(Box::new(happens))) };
        mirror(&moving, &*target, &MirrorOptions::new().threads(1), &Silent).expect("it is mirrored");
        whole::is_whole(&open(&target)).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert!(!snapshots(&target).is_empty());
        mirror(bench.backend(), &*target, &MirrorOptions::new().delete(), &Silent).expect("it is mirrored");
        whole::is_whole(&open(&target)).unwrap_or_else(|error| panic!("{number}, later: {error}"));
        assert_eq!(snapshots(&target).len(), 2);
    }
}

#[test]
fn damage_of_the_source_is_named_and_not_mirrored_and_that_of_the_mirror_is_replaced() {
    let bench = bench();
    let place = bench.path().join("mirror");
    let target: Arc<dyn Backend> = Arc::new(Local::new(&place));
    let packs = damage::of_kind(bench.backend(), Kind::DataPack);
    let whole_pack = bench.backend().get(&packs[0], Span::All).expect("it is there");
    damage::damage(bench.backend(), &packs[0], Damage::Flip { at_percent: 50 });
    let report = run(bench.backend(), &*target);
    assert_eq!(report.damaged, [packs[0]]);
    assert!(target.get(&packs[0], Span::All).is_err_and(|error| error.is_absent()));
    bench.backend().remove(&packs[0]).expect("ours");
    bench.backend().put_new(&packs[0], whole_pack).expect("the name is free");
    assert!(run(bench.backend(), &*target).damaged.is_empty());
    // Cut short: that shows in a listing.
    damage::damage(&*target, &packs[0], Damage::Truncate { keep_percent: 50 });
    let report = run(bench.backend(), &*target);
    assert_eq!(report.healed, [packs[0]]);
    assert!(contents(bench.backend()) == contents(&*target));
}

#[test]
fn two_copies_heal_each_other_and_name_what_neither_has() {
    let bench = bench();
    let target = Local::new(bench.path().join("mirror"));
    run(bench.backend(), &target);
    let compare = |options: &CrossOptions| cross_check(bench.backend(), &target, options, &Silent).expect("compared");
    let clean = compare(&CrossOptions::new());
    assert!(clean.is_clean() && clean.healed.is_empty() && clean.compared > 5, "{clean:?}");

    let before = contents(bench.backend());
    let packs = damage::of_kind(bench.backend(), Kind::DataPack);
    let small = damage::of_kind(bench.backend(), Kind::Snapshot)[0];
    damage::damage(bench.backend(), &packs[0], Damage::Flip { at_percent: 50 });
    damage::damage(&target, &packs[1], Damage::Truncate { keep_percent: 50 });
    damage::damage(&target, &small, Damage::Flip { at_percent: 10 });
    let expected = [(Side::First, packs[0]), (Side::Second, packs[1]), (Side::Second, small)];
    let dry = compare(&CrossOptions::new().dry_run());
    assert_eq!(dry.healed, expected);
    let healed = compare(&CrossOptions::new());
    assert!(healed.is_clean() && healed.healed == expected, "{healed:?}");
    assert!(contents(bench.backend()) == before && contents(&target) == before);

    // Damaged in both; missing in one.
    damage::damage(bench.backend(), &packs[0], Damage::Flip { at_percent: 40 });
    damage::damage(&target, &packs[0], Damage::Flip { at_percent: 60 });
    damage::damage(bench.backend(), &packs[1], Damage::Delete);
    let report = compare(&CrossOptions::new());
    assert_eq!(
        report.unhealed.iter().map(|(side, name, _)| (*side, *name)).collect::<Vec<_>>(),
        [(Side::First, packs[0]), (Side::Second, packs[0])]
    );
    assert_eq!((report.only_first.len(), &report.only_second[..]), (0, &packs[1..2]));
    assert!(!report.is_clean());
    assert!(published(&bench.backup()).record().root.entries > 0);
}

#[test]
fn two_repositories_are_not_compared() {
    let (one, other) = (bench(), Bench::in_memory());
    let refused = cross_check(one.backend(), other.backend(), &CrossOptions::new(), &Silent);
    assert!(matches!(refused, Err(Error::SplitBrain { .. })), "{refused:?}");
}
