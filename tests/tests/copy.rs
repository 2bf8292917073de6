//! Copies of snapshots in other repositories: the same trees under other names, read once whatever the number of targets,
//! taken up again where a run ended; and damage of the source, which is named and stays there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::compare::assert_same;
use icecore_tests::damage::{self, Damage, Kind};
use icecore_tests::tree::{Planner, edit, soften};
use icecore_tests::whole;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use repo_core::{
    Backend, BackendError, BackupOptions, Bytes, Capabilities, CopyOptions, CopyReport, Error, Event, InitOptions,
    LineageRecord, Listed, Memory, Mode, ObjectName, PackKind, Prefix, Progress, Put, Removal, Repository,
    RestoreOptions, Secret, Silent, Snapshot, SnapshotFilter, Span,
};

/// Sizes at which something changes: least, mean and largest chunk, and a frame.
const BORDERS: [u64; 4] = [32 << 10, 128 << 10, 512 << 10, 1 << 20];

/// A place that counts what is read of data packs, and that dies after so many puts.
#[derive(Debug)]
struct Watched {
    inner: Memory,
    reads: Mutex<BTreeMap<(ObjectName, u64), u64>>,
    read_bytes: AtomicU64,
    put_bytes: AtomicU64,
    puts_left: AtomicI64,
}

impl Watched {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(),
            reads: Mutex::default(),
            read_bytes: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            puts_left: AtomicI64::new(i64::MAX),
        })
    }

    fn forget(&self) {
        self.reads.lock().expect("no test panics here").clear();
        self.read_bytes.store(0, Ordering::Relaxed);
        self.put_bytes.store(0, Ordering::Relaxed);
    }

    fn is_dead(&self) -> bool {
        self.puts_left.load(Ordering::Relaxed) < 0
    }

    fn alive(&self, object: &ObjectName) -> Result<(), BackendError> {
        match self.is_dead() {
            true => Err(BackendError::io("asking for", object, io::Error::other("the place is gone"))),
            false => Ok(()),
        }
    }
}

impl Backend for Watched {
    fn place(&self) -> String {
        "a watched place".into()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.puts_left.fetch_sub(1, Ordering::Relaxed);
        self.alive(name)?;
        if let ObjectName::Pack(PackKind::Data, _) = name {
            self.put_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.alive(name)?;
        let bytes = self.inner.get(name, span)?;
        // Headers and tables are no contents.
        if let (ObjectName::Pack(PackKind::Data, _), Span::Range { offset: offset @ 1.., .. }) = (name, span) {
            *self.reads.lock().expect("no test panics here").entry((*name, offset)).or_default() += 1;
            self.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.alive(&ObjectName::Format)?;
        self.inner.list(prefix, each)
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        self.inner.age(name)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.alive(name)?;
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// A repository in a watched place.
struct Vault {
    place: Arc<Watched>,
    secret: Secret,
}

impl Vault {
    fn new(number: u8) -> Self {
        let vault = Self { place: Watched::new(), secret: Secret::Key([number; 32].into()) };
        Repository::init(vault.place.clone(), &vault.secret, &InitOptions::default()).expect("a place of our own");
        vault
    }

    /// Opened anew: nothing is remembered from before.
    fn open(&self) -> Repository {
        Repository::open(self.place.clone(), &self.secret).expect("the repository opens").with_threads(2)
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.open().snapshots(&SnapshotFilter::new()).expect("snapshots can be listed").snapshots
    }

    /// Backs up the bench's source, which no test writes at the same time.
    fn backup(&self, bench: &Bench, options: &BackupOptions) -> Snapshot {
        let report = self.open().backup(&bench.local_tree(), options, &Silent).expect("a backup is made");
        report.snapshot.expect("it is published")
    }

    fn is_whole(&self) {
        whole::is_whole(&self.open()).expect("check finds nothing");
    }
}

fn copy(source: &Vault, targets: &[&Vault], options: &CopyOptions) -> CopyReport {
    let opened: Vec<Repository> = targets.iter().map(|target| target.open()).collect();
    let targets: Vec<&Repository> = opened.iter().collect();
    source.open().copy_to(&targets, &source.snapshots(), options, &Silent).expect("a copy is made")
}

/// Restores a snapshot as the bench does, from wherever it lies.
fn assert_restores_as(bench: &Bench, repository: &Repository, snapshot: &Snapshot, expected: &std::path::Path) {
    let target = bench.path().join(format!("of-{}", snapshot.id()));
    let options = RestoreOptions::default();
    let report = repository.restore(snapshot, &target, &options, &Silent).expect("a copy is restored");
    assert_eq!(report.problems, 0);
    let tree = target.join(bench.source().strip_prefix("/").expect("an absolute path"));
    assert_same(expected, &tree, icecore_tests::compare::Compared::default());
}

fn is_root() -> bool {
    icecore_tests::privilege::is_root()
}

#[test]
fn copies_in_two_targets_restore_to_what_was_backed_up_and_each_frame_is_read_once() {
    let bench = Bench::in_memory();
    bench.grow(&Planner::new(bench.path(), &BORDERS).everything());
    let (source, first, second) = (Vault::new(1), Vault::new(2), Vault::new(3));
    let before = source.backup(&bench, &options(Mode::Incremental));
    // What the bench's own repository has is what came back of the first edition.
    let kept = bench.restore(published(&bench.backup())).tree;
    soften(&bench.source());
    edit(&bench.source(), 7, 6);
    let after = source.backup(&bench, &options(Mode::Incremental));

    source.place.forget();
    let report = copy(&source, &[&first, &second], &CopyOptions::new());
    assert!(report.damaged.is_empty() && report.read_chunks > 0);
    let reads = source.place.reads.lock().expect("no test panics here").clone();
    let twice: Vec<_> = reads.iter().filter(|(_, count)| **count > 1).collect();
    assert!(!reads.is_empty() && twice.is_empty(), "read more than once: {twice:?}");

    for target in [&first, &second] {
        target.is_whole();
        let copies = target.snapshots();
        let origins: Vec<_> = copies.iter().map(|copy| copy.record().origin).collect();
        assert_eq!(origins, [Some(before.id()), Some(after.id())]);
        if is_root() {
            assert_restores_as(&bench, &target.open(), &copies[0], &kept);
            assert_restores_as(&bench, &target.open(), &copies[1], &bench.source());
        }
    }
    // Nothing of one place is known in another.
    let trees: BTreeSet<_> = [&source, &first, &second]
        .iter()
        .flat_map(|vault| vault.snapshots().into_iter().map(|snapshot| snapshot.record().root.tree))
        .collect();
    assert_eq!(trees.len(), 6);
}

#[test]
fn a_copy_keeps_what_people_know_it_by_and_its_place_among_the_others() {
    let bench = Bench::in_memory();
    let (source, target) = (Vault::new(1), Vault::new(2));
    for (edition, mode) in [Mode::Full, Mode::Incremental, Mode::Differential].into_iter().enumerate() {
        bench.write("file", format!("edition {edition}"));
        let mut made = options(mode).tag("nightly").excludes(["*.o".to_owned()]).user("ida", 7, 8);
        made.time_ns = Some(1_000_000_000 * (edition as i64 + 1));
        source.backup(&bench, &made);
    }
    let known = source.snapshots();
    copy(&source, &[&target], &CopyOptions::new());
    let copies = target.snapshots();
    assert_eq!(copies.len(), 3);
    for (number, (copy, origin)) in copies.iter().zip(&known).enumerate() {
        let (copy, origin) = (copy.record(), origin.record());
        assert_eq!(copy.origin, Some(origin.id));
        assert_ne!(copy.id, origin.id);
        assert_ne!(copy.series, origin.series, "names of series are secrets of a repository");
        assert_eq!(copy.sequence, number as u64);
        assert_eq!((copy.start_ns, copy.end_ns, &copy.host), (origin.start_ns, origin.end_ns, &origin.host));
        assert_eq!((&copy.user, copy.uid, copy.gid), (&origin.user, origin.uid, origin.gid));
        assert_eq!((&copy.paths, &copy.tags, &copy.excludes), (&origin.paths, &origin.tags, &origin.excludes));
        assert_eq!((copy.root.entries, copy.root.bytes), (origin.root.entries, origin.root.bytes));
    }
    let ids: Vec<_> = copies.iter().map(Snapshot::id).collect();
    let lineages: Vec<_> = copies.iter().map(|copy| copy.record().lineage).collect();
    assert_eq!(lineages[0], LineageRecord::Full);
    assert_eq!(lineages[1], LineageRecord::Incremental { parent: ids[0] });
    assert_eq!(lineages[2], LineageRecord::Differential { base: ids[0] });
    // A backup in the target goes on from the newest copy.
    let next = target.open().backup(&bench.local_tree(), &options(Mode::Incremental), &Silent).expect("a backup");
    assert_eq!(next.parent, Some(ids[2]));
}

#[test]
fn a_second_run_copies_nothing_and_a_later_one_only_what_is_new() {
    let bench = Bench::in_memory();
    let (source, target) = (Vault::new(1), Vault::new(2));
    bench.write("large", whole::noise(1, 6 << 20));
    bench.write("small", "small but not so small that it would lie in its node ".repeat(30));
    source.backup(&bench, &options(Mode::Incremental));
    let all = copy(&source, &[&target], &CopyOptions::new());
    source.place.forget();
    target.place.forget();
    let again = copy(&source, &[&target], &CopyOptions::new());
    assert!(again.targets[0].copied.is_empty() && again.targets[0].present.len() == 1);
    assert_eq!(again.read_chunks, 0);
    assert_eq!(
        (source.place.read_bytes.load(Ordering::Relaxed), target.place.put_bytes.load(Ordering::Relaxed)),
        (0, 0)
    );

    bench.write("new", whole::noise(2, 300 << 10));
    source.backup(&bench, &options(Mode::Incremental));
    let later = copy(&source, &[&target], &CopyOptions::new());
    assert_eq!(later.targets[0].copied.len(), 1);
    assert_eq!(later.read_bytes, 300 << 10, "of {} before", all.read_bytes);
    target.is_whole();

    // Whoever trusts no earlier copy reads all, and stores none of it again.
    bench.write("newer", "x");
    source.backup(&bench, &options(Mode::Incremental));
    let reread = copy(&source, &[&target], &CopyOptions::new().reread());
    assert!(reread.read_bytes >= all.read_bytes && reread.targets[0].added_bytes < 64 << 10, "{reread:?}");
}

#[test]
fn a_target_that_lacks_more_than_another_gets_more() {
    let bench = Bench::in_memory();
    let (source, behind, ahead) = (Vault::new(1), Vault::new(2), Vault::new(3));
    bench.write("a", whole::noise(1, 2 << 20));
    source.backup(&bench, &options(Mode::Incremental));
    copy(&source, &[&ahead], &CopyOptions::new());
    bench.write("b", whole::noise(2, 2 << 20));
    source.backup(&bench, &options(Mode::Incremental));
    let report = copy(&source, &[&behind, &ahead], &CopyOptions::new());
    assert_eq!(report.targets.iter().map(|target| target.copied.len()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(report.read_bytes, 4 << 20, "each chunk once");
    for (target, added) in report.targets.iter().zip([4 << 20, 2 << 20]) {
        assert!((added..added + (64 << 10)).contains(&target.added_bytes), "{target:?}");
    }
    let contents = whole::contents(&bench.source());
    for vault in [&behind, &ahead] {
        vault.is_whole();
        let newest = vault.snapshots().pop().expect("two copies");
        whole::reads_back(&vault.open(), &newest, &contents).expect("all is there");
    }
}

/// What is cut anew is what a backup there would have made, to the last bit.
fn assert_cut_as_a_backup_there(bench: &Bench) -> Result<(), TestCaseError> {
    let (source, target, rival) = (Vault::new(1), Vault::new(2), Vault::new(3));
    source.backup(bench, &options(Mode::Full));
    let report = copy(&source, &[&rival, &target], &CopyOptions::new().rechunk());
    let copied = &report.targets[1].copied[0];
    let backup = target.open().backup(&bench.local_tree(), &options(Mode::Full), &Silent).expect("a backup");
    prop_assert_eq!(backup.summary.data_chunks, 0, "all contents are there");
    // The directories above the source are everybody's, and change meanwhile.
    let below = |snapshot: &Snapshot| {
        let mut nodes = Vec::new();
        let path = bench.source();
        let listed = target.open().list(snapshot, path.as_os_str().as_encoded_bytes(), true, &mut |path, node| {
            nodes.push((path.to_vec(), node.clone()));
            ControlFlow::Continue(())
        });
        listed.map(|()| nodes).expect("a tree can be listed")
    };
    prop_assert_eq!(below(published(&backup)), below(copied));
    target.is_whole();
    Ok(())
}

#[test]
fn what_is_cut_anew_is_what_a_backup_in_the_target_would_have_made() {
    let bench = Bench::in_memory();
    bench.grow(&Planner::new(bench.path(), &BORDERS).everything());
    bench.write("zeros", vec![0; 3 << 20]);
    bench.write("zeros and not", [vec![0; 700 << 10], whole::noise(5, 700 << 10), vec![0; 90 << 10]].concat());
    assert_cut_as_a_backup_there(&bench).expect("it is");
}

#[test]
fn random_trees_cut_anew_are_what_a_backup_in_the_target_would_have_made() {
    let strategy = Planner::new(Bench::in_memory().path(), &BORDERS).strategy();
    let config = Config { cases: 6, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |planned| {
            let bench = Bench::in_memory();
            bench.grow(&planned);
            assert_cut_as_a_backup_there(&bench)
        })
        .expect("for every tree");
}

#[test]
fn without_new_cuts_a_backup_in_the_target_stores_large_files_again_and_with_them_the_next_copy_reads_what_changed() {
    let bench = Bench::in_memory();
    let (source, as_it_is, anew) = (Vault::new(1), Vault::new(2), Vault::new(3));
    bench.write("large", whole::noise(1, 4 << 20));
    bench.write("other", whole::noise(2, 4 << 20));
    source.backup(&bench, &options(Mode::Incremental));
    copy(&source, &[&as_it_is], &CopyOptions::new());
    copy(&source, &[&anew], &CopyOptions::new().rechunk());
    let added = |vault: &Vault| {
        let report = vault.open().backup(&bench.local_tree(), &options(Mode::Full), &Silent).expect("a backup");
        report.summary.data_chunks
    };
    assert!(added(&as_it_is) > 0);
    assert_eq!(added(&anew), 0);

    bench.write("large", [whole::noise(1, 2 << 20), whole::noise(3, 2 << 20)].concat());
    source.backup(&bench, &options(Mode::Incremental));
    let report = copy(&source, &[&as_it_is], &CopyOptions::new());
    assert!((2 << 20..3 << 20).contains(&report.read_bytes), "only new chunks: {}", report.read_bytes);
    let report = copy(&source, &[&anew], &CopyOptions::new().rechunk());
    assert_eq!(report.read_bytes, 4 << 20, "the file that changed, whole");
    assert!(report.targets[0].added_bytes < 3 << 20, "{report:?}");
    anew.is_whole();
    // Copies of both kinds side by side: one is no help to the other, and no harm.
    bench.write("third", "x");
    source.backup(&bench, &options(Mode::Incremental));
    copy(&source, &[&as_it_is], &CopyOptions::new().rechunk());
    assert_eq!(added(&as_it_is), 0);
    as_it_is.is_whole();
}

#[test]
fn a_run_that_dies_anywhere_leaves_a_whole_target_and_the_next_one_uses_what_it_stored() {
    let bench = Bench::in_memory();
    let source = Vault::new(1);
    let mut known = whole::Known::default();
    for edition in 0..3 {
        bench.write("large", whole::noise(edition, 3 << 20));
        bench.write(&format!("{edition}"), whole::noise(10 + edition, 100 << 10));
        let snapshot = source.backup(&bench, &options(Mode::Incremental));
        known.0.insert(snapshot.id(), whole::contents(&bench.source()));
    }
    let whole_bytes = {
        let target = Vault::new(2);
        copy(&source, &[&target], &CopyOptions::new());
        target.place.put_bytes.load(Ordering::Relaxed)
    };
    let mut used = 0;
    for puts in 0.. {
        let target = Vault::new(2);
        target.place.puts_left.store(puts, Ordering::Relaxed);
        let opened = source.open();
        let result = opened.copy_to(&[&target.open()], &source.snapshots(), &CopyOptions::new(), &Silent);
        let done = !target.place.is_dead();
        assert!(result.is_ok() || !done, "{result:?}");
        target.place.puts_left.store(i64::MAX, Ordering::Relaxed);
        target.is_whole();
        let first = target.place.put_bytes.load(Ordering::Relaxed);
        target.place.forget();
        copy(&source, &[&target], &CopyOptions::new());
        target.is_whole();
        let copies = target.snapshots();
        assert_eq!(copies.len(), 3, "after {puts} puts");
        for copy in &copies {
            let origin = copy.record().origin.expect("it is a copy");
            whole::reads_back(&target.open(), copy, &known.0[&origin]).expect("all is there");
        }
        let second = target.place.put_bytes.load(Ordering::Relaxed);
        used += u64::from(first > 0 && second < whole_bytes);
        if done {
            assert_eq!(second, 0, "nothing was left to do");
            break;
        }
    }
    assert!(used > 5, "what was stored was found again {used} times");
}

#[test]
fn damage_of_the_source_is_named_and_the_other_snapshots_are_copied() {
    let bench = Bench::in_memory();
    let (source, target) = (Vault::new(1), Vault::new(2));
    bench.write("kept", whole::noise(1, 400 << 10));
    source.backup(&bench, &options(Mode::Incremental));
    let packs = damage::of_kind(&*source.place, Kind::DataPack);
    bench.write("lost", whole::noise(2, 400 << 10));
    let hurt = source.backup(&bench, &options(Mode::Incremental));
    let fresh: Vec<_> =
        damage::of_kind(&*source.place, Kind::DataPack).into_iter().filter(|name| !packs.contains(name)).collect();
    fs::remove_file(bench.source().join("lost")).expect("ours");
    source.backup(&bench, &options(Mode::Incremental));
    for name in fresh {
        damage::damage(&*source.place, &name, Damage::Flip { at_percent: 50 });
    }
    for options in [CopyOptions::new(), CopyOptions::new().rechunk()] {
        let ears = Ears::default();
        let report =
            source.open().copy_to(&[&target.open()], &source.snapshots(), &options, &ears).expect("others are copied");
        assert_eq!(report.damaged.iter().map(|damaged| damaged.snapshot).collect::<Vec<_>>(), [hurt.id()]);
        let problems = ears.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("/lost: reading it from the source"), "{problems:?}");
        assert_eq!(target.snapshots().len(), 2);
        target.is_whole();
        assert_eq!(whole::check(&target.open()).expect("check runs").notes, Vec::<String>::new(), "no session is left");
    }
}

#[test]
fn a_damaged_tree_of_the_source_is_named_too() {
    let bench = Bench::in_memory();
    let (source, target) = (Vault::new(1), Vault::new(2));
    bench.write("one/file", "x");
    source.backup(&bench, &options(Mode::Full));
    for name in damage::of_kind(&*source.place, Kind::MetaPack) {
        damage::damage(&*source.place, &name, Damage::Delete);
    }
    let report = copy(&source, &[&target], &CopyOptions::new());
    assert_eq!((report.damaged.len(), report.damaged[0].problems), (1, 1));
    assert!(target.snapshots().is_empty());
    target.is_whole();
}

#[test]
fn a_snapshot_is_known_again_on_whatever_way_it_came() {
    let bench = Bench::in_memory();
    let (first, second, third) = (Vault::new(1), Vault::new(2), Vault::new(3));
    bench.write("file", "x");
    first.backup(&bench, &options(Mode::Full));
    let copied = |from: &Vault, to: &Vault| copy(from, &[to], &CopyOptions::new()).targets[0].copied.len();
    assert_eq!(copied(&first, &second), 1);
    assert_eq!(copied(&second, &first), 0, "it came from there");
    assert_eq!(copied(&second, &third), 1);
    assert_eq!(copied(&first, &third), 1, "a copy of a copy is named after that");
    assert_eq!(copied(&second, &third), 0);
    assert_eq!(copied(&third, &second), 0, "both came from the first");
}

#[test]
fn the_source_is_no_target_and_no_target_is_named_twice() {
    let (source, target) = (Vault::new(1), Vault::new(2));
    let (from, to) = (source.open(), target.open());
    for targets in [&[&from][..], &[&to, &to], &[&to, &from]] {
        let refused = from.copy_to(targets, &[], &CopyOptions::new(), &Silent);
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
}

/// Says stop once so many bytes are done.
struct StopsAfter {
    bytes: AtomicI64,
    stop: AtomicBool,
}

impl Progress for StopsAfter {
    fn report(&self, event: Event<'_>) {
        if let Event::Bytes { count } = event
            && self.bytes.fetch_sub(count as i64, Ordering::Relaxed) <= 0
        {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn a_cancelled_copy_leaves_whole_snapshots_and_no_session() {
    let bench = Bench::in_memory();
    let (source, target) = (Vault::new(1), Vault::new(2));
    for edition in 0..3 {
        bench.write("file", whole::noise(edition, 1 << 20));
        source.backup(&bench, &options(Mode::Full));
    }
    let progress = StopsAfter { bytes: AtomicI64::new((1 << 20) + 1), stop: AtomicBool::new(false) };
    let result = source.open().copy_to(&[&target.open()], &source.snapshots(), &CopyOptions::new(), &progress);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!((1..3).contains(&target.snapshots().len()));
    assert!(damage::of_kind(&*target.place, Kind::Session).is_empty());
    target.is_whole();
}
