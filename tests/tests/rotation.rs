//! Rotation of the keys: who is shut out, of what, at which moment; and that a rotation cut off anywhere leaves a repository
//! that opens and that the next run tidies up.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use icecore_tests::whole::{self, noise};
use repo_core::{
    Backend, BackendError, BackupOptions, Bytes, Capabilities, Error, InitOptions, Listed, Memory, ObjectName,
    PasswordCost, Prefix, PruneOptions, Put, ReaderSource, Removal, Repository, RotateOptions, Rotated, Secret,
    Selector, Silent, SnapshotFilter, SnapshotId, Span, Unused,
};

const OLD: u8 = 1;
const NEW: u8 = 2;
const OTHER: u8 = 3;

fn key(seed: u8) -> Secret {
    Secret::Key([seed; 32].into())
}

fn init() -> (Arc<Memory>, Repository) {
    let memory = Arc::new(Memory::new());
    let repository = Repository::init(memory.clone(), &key(OLD), &InitOptions::new()).unwrap().with_threads(1);
    (memory, repository)
}

fn open(backend: &Arc<Memory>, seed: u8) -> Result<Repository, Error> {
    Repository::open(backend.clone(), &key(seed)).map(|repository| repository.with_threads(1))
}

fn rotate(repository: &Repository, seed: u8) -> Result<Rotated, Error> {
    repository.rotate_keys(&RotateOptions::new().key(&key(seed), "new", PasswordCost::Default))
}

fn back_up(repository: &Repository, name: &str, content: &[u8]) -> Result<SnapshotId, Error> {
    let source = ReaderSource::new(name.as_ref(), std::io::Cursor::new(content.to_vec()));
    let report = repository.backup(&source, &BackupOptions::new(), &Silent)?;
    Ok(report.snapshot.expect("no dry run").id())
}

fn reads(repository: &Repository, snapshot: SnapshotId, name: &str) -> Vec<u8> {
    let selector = Selector::Id(snapshot.to_string());
    let snapshot = repository.snapshot(&selector, &SnapshotFilter::new()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut repository.read(&snapshot, name.as_bytes()).unwrap(), &mut bytes).unwrap();
    bytes
}

/// The key epoch in each object's header, by name; of those that have one.
fn epochs(backend: &Memory) -> Vec<(String, u32)> {
    let mut epochs = Vec::new();
    let mut names = Vec::new();
    let list = backend.list(Prefix::All, &mut |listed| {
        if let Listed::Object { name, .. } = listed {
            names.push(name);
        }
        ControlFlow::Continue(())
    });
    list.unwrap();
    for name in names {
        let bytes = backend.get(&name, Span::All).unwrap();
        if !matches!(name, ObjectName::Format | ObjectName::KeySlot(_) | ObjectName::SecondCopy(_)) {
            epochs.push((name.to_string(), u32::from_le_bytes(bytes[8..12].try_into().unwrap())));
        }
    }
    epochs
}

fn slots(backend: &Memory) -> usize {
    let mut count = 0;
    let list = backend.list(Prefix::KeySlots, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    });
    list.unwrap();
    count
}

/// A backend that does something once, right before the first put of a name that it is told of; that loses answers; and
/// that dies after so many changes.
struct Meddling {
    inner: Arc<Memory>,
    when: fn(&ObjectName) -> bool,
    what: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    answer: Answer,
    changes_left: AtomicUsize,
}

/// What is said of the first put that it meddles with.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    True,
    Lost,
    Error,
}

impl fmt::Debug for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddling")
    }
}

impl Meddling {
    fn new(inner: &Arc<Memory>, when: fn(&ObjectName) -> bool, what: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            when,
            what: Mutex::new(Some(Box::new(what))),
            answer: Answer::True,
            changes_left: usize::MAX.into(),
        })
    }

    fn answering(inner: &Arc<Memory>, when: fn(&ObjectName) -> bool, answer: Answer) -> Arc<Self> {
        let what: Box<dyn FnOnce() + Send> = Box::new(|| ());
        let what = Mutex::new(Some(what));
        Arc::new(Self { inner: inner.clone(), when, what, answer, changes_left: usize::MAX.into() })
    }

    fn dying(inner: &Arc<Memory>, changes: usize) -> Arc<Self> {
        let what = Mutex::new(None);
        let changes_left = changes.into();
        Arc::new(Self { inner: inner.clone(), when: |_| false, what, answer: Answer::True, changes_left })
    }

    fn open(self: &Arc<Self>, seed: u8) -> Repository {
        Repository::open(self.clone(), &key(seed)).unwrap().with_threads(1)
    }

    fn dies(&self, name: &ObjectName) -> Result<(), BackendError> {
        let left = self.changes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(BackendError::io("writing", name, std::io::ErrorKind::PermissionDenied.into()));
        }
        self.changes_left.store(left - 1, Ordering::SeqCst);
        Ok(())
    }
}

impl Backend for Meddling {
    fn place(&self) -> String {
        "meddling".into()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.dies(name)?;
        let what = if (self.when)(name) { self.what.lock().unwrap().take() } else { None };
        let is_first = what.is_some();
        if let Some(what) = what {
            what();
        }
        let put = self.inner.put_new(name, bytes)?;
        match self.answer {
            Answer::Lost if is_first => Ok(Put::Unknown),
            Answer::Error if is_first => {
                Err(BackendError::io("writing", name, std::io::ErrorKind::ConnectionReset.into()))
            }
            _ => Ok(put),
        }
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        // A process that is dead reads nothing either.
        if self.changes_left.load(Ordering::SeqCst) == 0 {
            self.dies(name)?;
        }
        self.inner.get(name, span)
    }
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.dies(name)?;
        self.inner.remove(name)
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn is_keyring(name: &ObjectName) -> bool {
    matches!(name, ObjectName::Keyring(_))
}

#[test]
fn whoever_is_not_named_is_shut_out_and_what_was_stored_stays() {
    let (memory, repository) = init();
    let first = back_up(&repository, "/a", &noise(1, 300_000)).unwrap();
    repository.add_key(&key(OTHER), "stolen", PasswordCost::Default).unwrap();
    let kit = Secret::from_recovery_kit(&repository.recovery_kit()).unwrap();
    let rotated = rotate(&repository, NEW).unwrap();
    assert_eq!((rotated.epoch, rotated.left.len(), rotated.unfinished.is_none()), (2, 0, true));
    let labels: Vec<&str> = rotated.dropped.iter().map(|key| key.label.as_str()).collect();
    assert_eq!(labels, ["", "stolen"]);
    assert!(rotated.kept.len() == 1 && rotated.kept[0].current);
    assert_eq!(slots(&memory), 1);
    for seed in [OLD, OTHER] {
        assert!(matches!(open(&memory, seed), Err(Error::WrongSecret { slots: 1 })));
    }
    assert!(matches!(Repository::open(memory.clone(), &kit), Err(Error::Revoked)));

    let opened = open(&memory, NEW).unwrap();
    assert_eq!(opened.key_epoch(), 2);
    let kit = Secret::from_recovery_kit(&opened.recovery_kit()).unwrap();
    Repository::open(memory.clone(), &kit).unwrap();
    assert_eq!(reads(&opened, first, "/a"), noise(1, 300_000));
    whole::is_spotless(&opened).unwrap();

    // What is stored before is found again, chunk by chunk; what is new is under the new keys.
    let before = epochs(&memory);
    assert!(before.iter().any(|(name, epoch)| name.starts_with("packs/d") && *epoch == 1));
    let second = back_up(&opened, "/a", &[noise(1, 300_000), noise(2, 300_000)].concat()).unwrap();
    let after = epochs(&memory);
    let new: Vec<_> = after.iter().filter(|object| !before.contains(object)).collect();
    assert!(new.len() >= 4 && new.iter().all(|(_, epoch)| *epoch == 2), "{new:?}");
    let stored: u64 = opened.objects(Prefix::Packs(repo_core::PackKind::Data)).unwrap().iter().map(|(_, b)| b).sum();
    assert!(stored < 900_000, "ids are the same under new keys: {stored}");
    assert_eq!(reads(&opened, second, "/a").len(), 600_000);
    whole::is_spotless(&opened).unwrap();
}

#[test]
fn the_same_secret_goes_on_with_another_root_key() {
    let (memory, repository) = init();
    let kit = repository.recovery_kit();
    rotate(&repository, OLD).unwrap();
    let opened = open(&memory, OLD).unwrap();
    assert!(*opened.recovery_kit() != *kit && opened.keys().unwrap()[0].current);
    // And once more: epochs and keyrings add up.
    let rotated = rotate(&opened, OLD).unwrap();
    assert_eq!(rotated.epoch, 3);
    whole::is_spotless(&rotated.repository).unwrap();
    assert!(matches!(rotate(&repository, NEW), Err(Error::Rotated)), "a handle from before");
    let nobody = rotated.repository.rotate_keys(&RotateOptions::new());
    assert!(matches!(nobody, Err(Error::Usage(_))));
    let parameters = rotated.repository.config().clone();
    assert_eq!(parameters.generation, 3);
    assert_eq!(repo_core::Config { generation: 1, previous_digest: [0; 32], ..parameters }, *repository.config());
}

#[test]
fn of_two_that_rotate_at_once_one_wins_and_the_other_is_told() {
    let (memory, repository) = init();
    let meddling = Meddling::new(&memory, is_keyring, move || drop(rotate(&repository, OTHER).unwrap()));
    let second = meddling.open(OLD);
    assert!(matches!(rotate(&second, NEW), Err(Error::Rotated)));
    assert!(open(&memory, NEW).is_err() && open(&memory, OLD).is_err());
    let opened = open(&memory, OTHER).unwrap();
    assert_eq!((slots(&memory), opened.key_epoch()), (1, 2), "the loser's slot is gone");
    whole::is_spotless(&opened).unwrap();
}

#[test]
fn a_key_that_is_added_while_the_keys_are_rotated_is_dropped_too() {
    let (memory, repository) = init();
    let add = move || drop(repository.add_key(&key(OTHER), "late", PasswordCost::Default).unwrap());
    let meddling = Meddling::new(&memory, is_keyring, add);
    let rotated = rotate(&meddling.open(OLD), NEW).unwrap();
    assert_eq!(rotated.dropped.len(), 2, "{:?}", rotated.dropped);
    assert!(open(&memory, OTHER).is_err() && open(&memory, OLD).is_err());
    assert_eq!(slots(&memory), 1);
    whole::is_spotless(&open(&memory, NEW).unwrap()).unwrap();
}

#[test]
fn a_rotation_whose_answer_was_lost_or_was_an_error_has_happened() {
    for answer in [Answer::Lost, Answer::Error] {
        let (memory, _) = init();
        let meddling = Meddling::answering(&memory, is_keyring, answer);
        rotate(&meddling.open(OLD), NEW).unwrap();
        let opened = open(&memory, NEW).unwrap();
        assert!(open(&memory, OLD).is_err());
        whole::is_whole_but_for_copies(&opened).unwrap();
    }
}

/// At the last moment, whatever the run did until then: what it uploaded is used by the next one.
#[test]
fn a_backup_that_was_at_work_when_the_keys_were_rotated_publishes_nothing() {
    let (memory, repository) = init();
    let is_index = |name: &ObjectName| matches!(name, ObjectName::Index(_));
    let meddling = Meddling::new(&memory, is_index, move || drop(rotate(&repository, NEW).unwrap()));
    let at_work = meddling.open(OLD);
    assert!(matches!(back_up(&at_work, "/a", &noise(1, 300_000)), Err(Error::Rotated)));
    let opened = open(&memory, NEW).unwrap();
    assert!(opened.snapshots(&SnapshotFilter::new()).unwrap().snapshots.is_empty());
    assert_eq!(opened.objects(Prefix::Sessions).unwrap(), []);
    whole::is_spotless(&opened).unwrap();
    let packs = opened.objects(Prefix::Packs(repo_core::PackKind::Data)).unwrap();
    back_up(&opened, "/a", &noise(1, 300_000)).unwrap();
    assert_eq!(opened.objects(Prefix::Packs(repo_core::PackKind::Data)).unwrap(), packs);
    // And a handle from before does not begin anything.
    assert!(matches!(back_up(&at_work, "/b", b"b"), Err(Error::Rotated)));
    assert!(matches!(at_work.add_key(&key(OTHER), "", PasswordCost::Default), Err(Error::Rotated)));
    assert_eq!(opened.objects(Prefix::Sessions).unwrap(), []);
    whole::is_whole(&opened).unwrap();
}

fn all() -> PruneOptions {
    PruneOptions::new().max_unused(Unused::Bytes(0))
}

fn forget(repository: &Repository, snapshot: SnapshotId) {
    let options = repo_core::ForgetOptions::new().id(Selector::Id(snapshot.to_string())).window_ms(0);
    repository.forget(&repository.plan_forget(&options, &Silent).unwrap(), &Silent).unwrap();
}

#[test]
fn a_prune_that_was_at_work_when_the_keys_were_rotated_marks_nothing() {
    let (memory, repository) = init();
    let gone = back_up(&repository, "/a", &noise(1, 300_000)).unwrap();
    forget(&repository, gone);
    let is_mark = |name: &ObjectName| name.to_string().ends_with(".mark");
    // Right before its mark is put, after it looked: the rotation's own first cycle takes that number.
    let meddling = Meddling::new(&memory, is_mark, move || drop(rotate(&repository, NEW).unwrap()));
    meddling.open(OLD).prune(&all(), &Silent).unwrap_err();
    let opened = open(&memory, NEW).unwrap();
    assert!(epochs(&memory).iter().all(|(name, epoch)| !name.starts_with("gc/") || *epoch == 2));
    let report = opened.prune(&all(), &Silent).unwrap();
    assert!(report.deleted_packs > 0, "{report:?}");
    whole::is_spotless(&open(&memory, NEW).unwrap()).unwrap();
}

/// After a death at any change, the old or the new secret opens it, all is whole, and whoever prunes next tidies up.
#[test]
fn a_rotation_that_dies_after_any_change_is_completed() {
    let mut changes = 0;
    let mut opened_by = [0, 0];
    loop {
        let (memory, repository) = init();
        let gone = back_up(&repository, "/gone", &noise(2, 100_000)).unwrap();
        let first = back_up(&repository, "/a", &noise(1, 300_000)).unwrap();
        repository.add_key(&key(OTHER), "stolen", PasswordCost::Default).unwrap();
        forget(&repository, gone);
        repository.prune(&all(), &Silent).unwrap();
        let dying = Meddling::dying(&memory, changes);
        let rotated = if changes == 0 { None } else { rotate(&dying.open(OLD), NEW).ok() };
        let (old, new) = (open(&memory, OLD), open(&memory, NEW));
        assert!(old.is_ok() != new.is_ok(), "after {changes} changes: {old:?} {new:?}");
        assert_eq!(open(&memory, OTHER).is_ok(), old.is_ok(), "after {changes} changes");
        opened_by[usize::from(new.is_ok())] += 1;
        let is_new = new.is_ok();
        let opened = new.or(old).unwrap();
        assert_eq!(reads(&opened, first, "/a"), noise(1, 300_000));
        whole::is_whole_but_for_copies(&opened).unwrap();
        back_up(&opened, "/b", &noise(3, 10_000)).unwrap();
        let rotated = rotated.is_some_and(|rotated| rotated.unfinished.is_none());
        if is_new {
            opened.prune(&all(), &Silent).unwrap();
            assert_eq!(slots(&memory), 1, "after {changes} changes");
            let opened = open(&memory, NEW).unwrap();
            let under_old = |(name, epoch): &(String, u32)| name.starts_with("gc/") && *epoch != 2;
            assert!(!epochs(&memory).iter().any(under_old), "after {changes} changes");
            assert_eq!(opened.config().generation, 2);
        } else {
            // Whoever rotates again sweeps what the first one left.
            rotate(&opened, NEW).unwrap();
            assert_eq!(slots(&memory), 1, "after {changes} changes");
        }
        let opened = open(&memory, NEW).unwrap();
        assert_eq!(reads(&opened, first, "/a"), noise(1, 300_000));
        whole::is_whole_but_for_copies(&opened).unwrap();
        if rotated {
            whole::is_spotless(&opened).unwrap();
            break;
        }
        changes += 1;
    }
    assert!(opened_by[0] >= 3 && opened_by[1] > 12, "{opened_by:?} of {changes}");
}
