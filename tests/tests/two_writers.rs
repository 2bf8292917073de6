//! Two that write into one repository at the same time, as processes or as threads: both snapshots are whole.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use icecore_tests::process;
use icecore_tests::whole::{self, Known};
use repo_core::{InitOptions, Local, Prefix, Repository, SnapshotFilter};

/// What the processes do.
#[test]
fn another_process() {
    process::work();
}

fn init(vault: &Path) -> Repository {
    Repository::init(Arc::new(Local::new(vault)), &whole::secret(), &InitOptions::default()).unwrap()
}

/// Every snapshot that is there, with the tree it is of by its recorded path.
fn known(repository: &Repository) -> Known {
    use std::os::unix::ffi::OsStrExt;
    let snapshots = repository.snapshots(&SnapshotFilter::default()).unwrap().snapshots;
    let path = |paths: &[Vec<u8>]| Path::new(std::ffi::OsStr::from_bytes(&paths[0])).to_owned();
    Known(snapshots.iter().map(|one| (one.id(), whole::contents(&path(&one.record().paths)))).collect())
}

fn both_are_whole(vault: &Path, count: usize) {
    let repository = whole::open(vault).unwrap();
    let known = known(&repository);
    assert_eq!(known.0.len(), count);
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    known.are_restored(&repository).unwrap();
    whole::is_spotless(&repository).unwrap();
    assert_eq!(repository.objects(Prefix::Sessions).unwrap(), []);
}

#[test]
fn two_processes_that_back_up_different_trees_at_once_both_succeed() {
    let room = whole::roomy(1 << 29);
    let vault = room.path().join("vault");
    init(&vault);
    let (left, right) = (room.path().join("left"), room.path().join("right"));
    // Half of the one is half of the other.
    whole::write_large(&left, 3000, 12);
    whole::write_large(&right, 3006, 12);
    race(room.path(), &vault, [&left, &right]);
    both_are_whole(&vault, 2);
}

#[test]
fn two_processes_that_back_up_the_same_tree_at_once_both_succeed() {
    let room = whole::roomy(1 << 29);
    let vault = room.path().join("vault");
    init(&vault);
    let source = room.path().join("source");
    whole::write_large(&source, 4000, 8);
    race(room.path(), &vault, [&source, &source]);
    both_are_whole(&vault, 2);
    // And a third finds nothing new, but for the times of the directories above, in which others write.
    let report = whole::back_up(&whole::open(&vault).unwrap(), &source).unwrap();
    assert_eq!(report.summary.added_bytes, report.added_meta_bytes);
    both_are_whole(&vault, 3);
}

fn race(room: &Path, vault: &Path, sources: [&Path; 2]) {
    let gate = room.join("gate");
    std::fs::create_dir(&gate).unwrap();
    let children = sources.map(|source| process::start("another_process", vault, source, Some(&gate)));
    process::open_gate(&gate, sources.len());
    children.into_iter().for_each(process::join);
}

#[test]
fn two_threads_share_one_repository_while_a_third_reads_and_checks() {
    fn is_shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let room = whole::roomy(1 << 29);
    let vault = room.path().join("vault");
    let repository = init(&vault);
    is_shareable(&repository);
    let (left, right, small) = (room.path().join("left"), room.path().join("right"), room.path().join("small"));
    whole::write_large(&left, 5000, 6);
    whole::write_large(&right, 5003, 6);
    whole::write_edition(&small, 0);
    let mut before = Known::default();
    before.add(&whole::back_up(&repository, &small).unwrap(), &small);
    thread::scope(|scope| {
        for source in [&left, &right] {
            let repository = repository.clone();
            scope.spawn(move || {
                for _ in 0..2 {
                    whole::back_up(&repository, source).unwrap();
                }
            });
        }
        let (repository, before) = (repository.clone(), &before);
        scope.spawn(move || {
            for _ in 0..3 {
                let first = repository.snapshots(&SnapshotFilter::default()).unwrap().snapshots.remove(0);
                whole::reads_back(&repository, &first, &before.0[&first.id()]).unwrap();
                whole::is_whole(&repository).unwrap();
            }
        });
    });
    both_are_whole(&vault, 5);
}

#[test]
fn of_two_that_init_at_once_exactly_one_succeeds_and_the_repository_is_its() {
    for _ in 0..4 {
        let room = whole::roomy(1 << 20);
        let vault = room.path().join("vault");
        let secrets = [1_u8, 2].map(|seed| repo_core::Secret::Key([seed; 32].into()));
        let outcomes = thread::scope(|scope| {
            let run = |secret| {
                let vault = &vault;
                scope.spawn(move || Repository::init(Arc::new(Local::new(vault)), secret, &InitOptions::default()))
            };
            let [left, right] = [run(&secrets[0]), run(&secrets[1])];
            [left.join().unwrap(), right.join().unwrap()]
        });
        let open = |seed: usize| Repository::open(Arc::new(Local::new(&vault)), &secrets[seed]);
        let opened = [open(0), open(1)];
        for (outcome, opened) in outcomes.iter().zip(&opened) {
            assert_eq!(outcome.is_ok(), opened.is_ok(), "{outcome:?}, {opened:?}");
        }
        let winner = opened.iter().flatten().next().expect("one of the two won");
        assert_eq!(opened.iter().flatten().count(), 1);
        whole::is_whole(winner).unwrap();
    }
}
