//! After a power failure at any moment, a directory holds what it promised, whole; and every fsync is needed for that.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use icecore_tests::contract;
use icecore_tests::crash::{Crash, Crashes, Log, Recorder, for_each_crash};
use repo_core::internals::backend::Backend;
use repo_core::internals::platform::files::FileOperations;
use repo_core::{Doubled, Listed, Local, ObjectName, PackId, PackKind, Prefix, Put, Removal, SlotId, Span};

const KEY_SLOT: ObjectName = ObjectName::KeySlot(SlotId([1; 16]));
const COPY: ObjectName = ObjectName::SecondCopy(Doubled::KeySlot(SlotId([1; 16])));
const DATA: ObjectName = ObjectName::Pack(PackKind::Data, PackId([0xab; 32]));
const META: ObjectName = ObjectName::Pack(PackKind::Meta, PackId([0; 32]));

/// What an object of these tests holds: another length for each, never zeros, and more than a byte.
fn content(name: &ObjectName) -> Vec<u8> {
    name.to_string().into_bytes()
}

/// A place on a disk under observation.
struct Bench {
    disk: tempfile::TempDir,
    recorder: Arc<Recorder>,
    local: Local,
}

impl Bench {
    /// `start` makes what is there, safely, before the run.
    fn new(start: impl FnOnce(&Path), record: impl FnOnce(&Path) -> Recorder) -> Self {
        let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        start(&disk.path().join("vault"));
        let recorder = Arc::new(record(disk.path()));
        let local = Local::with_operations(disk.path().join("vault"), recorder.clone());
        Self { disk, recorder, local }
    }

    /// Puts an object and says when that is done.
    fn put(&self, name: ObjectName) {
        assert_eq!(self.local.put_new(&name, content(&name).into()).unwrap(), Put::Created);
        self.recorder.mark(put(&name));
    }

    /// Removes an object and says when that begins and is done.
    fn remove(&self, name: ObjectName) {
        self.recorder.mark(removing(&name));
        assert_eq!(self.local.remove(&name).unwrap(), Removal::Removed);
        self.recorder.mark(removed(&name));
    }
}

fn put(name: &ObjectName) -> String {
    format!("put {name}")
}

fn removing(name: &ObjectName) -> String {
    format!("removing {name}")
}

fn removed(name: &ObjectName) -> String {
    format!("removed {name}")
}

/// The folders that the tests without `prepare` need; its 512 would make each of thousands of states slow.
fn small_layout(root: &Path) {
    for folder in ["keys", "packs/d/ab", "packs/m/00", "tmp", "r/keys"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
}

/// Whether every object of `names` is there, or may be missing at this moment, and is whole where it is there; and whether the
/// place can be written again.
fn promises_hold(names: &[ObjectName], crash: &Crash, disk: &Path) -> Result<(), String> {
    let local = Local::new(disk.join("vault"));
    for name in names {
        let must_be_there = crash.has_passed(&put(name)) && !crash.has_passed(&removing(name));
        match local.get(name, Span::All) {
            Ok(_) if crash.has_passed(&removed(name)) => return Err(format!("{name} is back")),
            Ok(bytes) if bytes == content(name) => {}
            Ok(bytes) => return Err(format!("{name} is torn: {} bytes", bytes.len())),
            Err(error) if error.is_absent() && !must_be_there => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let something_is_safe = names.iter().any(|name| crash.has_passed(&put(name))) || crash.has_passed("prepared");
    if something_is_safe {
        list(&local)?;
        write_again(&local, names)?;
    }
    Ok(())
}

/// A listing shows whole objects and nothing foreign.
fn list(local: &Local) -> Result<(), String> {
    let mut problem = Ok(());
    let mut each = |listed| {
        match listed {
            Listed::Object { name, size } if size == content(&name).len() as u64 => return ControlFlow::Continue(()),
            other => problem = Err(format!("{other:?} is listed")),
        }
        ControlFlow::Break(())
    };
    local.list(Prefix::All, &mut each).map_err(|error| error.to_string())?;
    problem
}

/// The run, done again after the failure, completes.
fn write_again(local: &Local, names: &[ObjectName]) -> Result<(), String> {
    for name in names {
        match local.put_new(name, content(name).into()) {
            Ok(Put::Created) => {}
            Ok(Put::Exists(bytes)) if bytes == content(name) => {}
            other => return Err(format!("{name} cannot be written again: {other:?}")),
        }
    }
    Ok(())
}

/// The fsyncs of a run without which no promise would be broken.
fn needless_syncs(log: &Log, check: &dyn Fn(&Crash, &Path) -> Result<(), String>) -> Vec<String> {
    let syncs = log.syncs().into_iter().enumerate();
    syncs
        .filter(|(n, _)| {
            let (without, position) = log.without_sync(*n);
            Crashes::of(&without).after(position).find_bad(&mut |crash, disk| check(crash, disk)).is_none()
        })
        .map(|(_, sync)| sync)
        .collect()
}

#[test]
fn an_object_is_absent_or_whole_and_stays_once_it_was_put() {
    for without_rename in [false, true] {
        let bench = Bench::new(small_layout, |base| match without_rename {
            true => Recorder::new(base).without_rename(),
            false => Recorder::new(base),
        });
        let names = [KEY_SLOT, DATA, META, COPY, ObjectName::Format];
        names.into_iter().for_each(|name| bench.put(name));
        let log = bench.recorder.finish();
        let check = |crash: &Crash, disk: &Path| promises_hold(&names, crash, disk);
        let count = for_each_crash(&log, &mut { check });
        assert!(count > 100, "{count} states are too few to mean anything");
        assert_eq!(log.syncs().len(), 2 * names.len());
        assert_eq!(needless_syncs(&log, &check), [""; 0], "without rename: {without_rename}");
    }
}

#[test]
fn what_was_removed_stays_removed_and_harms_no_other() {
    let neighbour = ObjectName::KeySlot(SlotId([2; 16]));
    let bench = Bench::new(small_layout, Recorder::new);
    let names = [KEY_SLOT, neighbour, DATA];
    names.into_iter().for_each(|name| bench.put(name));
    bench.remove(DATA);
    bench.remove(KEY_SLOT);
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| promises_hold(&names, crash, disk);
    for_each_crash(&log, &mut { check });
    assert_eq!(log.syncs().len(), 8);
    assert_eq!(needless_syncs(&log, &check), [""; 0]);
}

#[test]
fn a_place_once_prepared_keeps_what_is_put_there() {
    let bench = Bench::new(|_| {}, Recorder::new);
    bench.local.prepare().unwrap();
    bench.recorder.mark("prepared");
    // `format` last, as `init` does: its directory is the root, whose sync would hide that one was forgotten.
    let names = [KEY_SLOT, DATA, META, COPY, ObjectName::Format];
    names.into_iter().for_each(|name| bench.put(name));
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| {
        promises_hold(&names, crash, disk)?;
        let local = Local::new(disk.join("vault"));
        local.prepare().and_then(|()| local.prepare()).map_err(|error| error.to_string())?;
        write_again(&local, &names)
    };
    let ignoring = || Crashes::of(&log).ignoring("vault/tmp");
    assert!(ignoring().check(&mut { check }) > 100);
    let in_prepare = log.syncs().len() - 2 * names.len();
    assert_eq!(in_prepare, 6, "the root's parent, the root, packs, packs/d, packs/m, r");
    for n in 0..in_prepare {
        let (without, position) = log.without_sync(n);
        let bad = Crashes::of(&without).after(position).ignoring("vault/tmp").find_bad(&mut { check });
        assert!(bad.is_some(), "{} is needless", log.syncs()[n]);
    }
}

#[test]
fn a_damaged_object_is_as_it_was_or_whole_and_stays_whole_once_it_was_replaced() {
    let start = |root: &Path| {
        small_layout(root);
        fs::write(root.join(DATA.to_string()), "damaged").unwrap();
    };
    let bench = Bench::new(start, Recorder::new);
    bench.local.replace_damaged(&DATA, content(&DATA).into()).unwrap();
    bench.recorder.mark("replaced");
    assert_eq!(fs::read_dir(bench.disk.path().join("vault/tmp")).unwrap().count(), 0, "the old bytes are gone");
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| match Local::new(disk.join("vault")).get(&DATA, Span::All) {
        Ok(bytes) if bytes == content(&DATA) => Ok(()),
        Ok(bytes) if bytes == b"damaged".as_slice() && !crash.has_passed("replaced") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    assert!(for_each_crash(&log, &mut { check }) > 5);
    assert_eq!(log.syncs().len(), 2);
    assert_eq!(needless_syncs(&log, &check), [""; 0]);
}

#[test]
fn a_place_that_cannot_exchange_files_keeps_the_damaged_one() {
    let bench = Bench::new(small_layout, |base| Recorder::new(base).without_rename());
    bench.put(DATA);
    let error = bench.local.replace_damaged(&DATA, b"other".to_vec().into()).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert_eq!(bench.local.get(&DATA, Span::All).unwrap(), content(&DATA));
    assert_eq!(fs::read_dir(bench.disk.path().join("vault/tmp")).unwrap().count(), 0);
}

/// A writer who died between the name and its sync leaves an object that the next failure may take. Who is told that it
/// exists builds on it.
#[test]
fn an_object_that_was_found_to_exist_stays() {
    let bench = Bench::new(small_layout, Recorder::new);
    let root = bench.disk.path().join("vault");
    let (temporary, target) = (root.join("tmp/of the dead"), root.join(DATA.to_string()));
    let mut file = bench.recorder.create_new(&temporary).unwrap();
    bench.recorder.write(&temporary, &mut file, &content(&DATA)).unwrap();
    bench.recorder.fsync_file(&temporary, &file).unwrap();
    bench.recorder.rename_no_replace(&temporary, &target).unwrap();

    let answer = bench.local.put_new(&DATA, content(&DATA).into()).unwrap();
    assert_eq!(answer, Put::Exists(content(&DATA).into()));
    bench.recorder.mark(put(&DATA));
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| promises_hold(&[DATA], crash, disk);
    for_each_crash(&log, &mut { check });
    // What the loser had written himself never gets a name.
    let needless = needless_syncs(&log, &check);
    assert!(matches!(&needless[..], [one] if one.starts_with("fsync file vault/tmp/")), "{needless:?}");
}

/// Likewise of a remover who died: who is told that it is absent may build on that.
#[test]
fn an_object_that_was_found_absent_stays_absent() {
    let bench = Bench::new(small_layout, Recorder::new);
    bench.put(KEY_SLOT);
    bench.recorder.mark(removing(&KEY_SLOT));
    bench.recorder.unlink(&bench.disk.path().join("vault").join(KEY_SLOT.to_string())).unwrap();
    assert_eq!(bench.local.remove(&KEY_SLOT).unwrap(), Removal::Absent);
    bench.recorder.mark(removed(&KEY_SLOT));
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| promises_hold(&[KEY_SLOT], crash, disk);
    for_each_crash(&log, &mut { check });
    assert_eq!(needless_syncs(&log, &check), [""; 0]);
}

#[test]
fn an_object_in_a_folder_made_again_stays() {
    let bench = Bench::new(|root| fs::create_dir_all(root).unwrap(), Recorder::new);
    bench.put(DATA);
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| promises_hold(&[DATA], crash, disk);
    for_each_crash(&log, &mut { check });
    // Temporary files need no folder that stays.
    assert_eq!(needless_syncs(&log, &check), ["fsync directory vault"]);
}

#[test]
fn writers_side_by_side_lose_nothing() {
    let bench = Bench::new(small_layout, Recorder::new);
    let names: Vec<_> = (0..4).map(|i| ObjectName::KeySlot(SlotId([i; 16]))).chain([KEY_SLOT, DATA, META]).collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for name in &names {
                    let there = bench.local.put_new(name, content(name).into()).unwrap();
                    assert!(there == Put::Created || there == Put::Exists(content(name).into()));
                    bench.recorder.mark(put(name));
                }
            });
        }
    });
    assert_eq!(contract::listed(&bench.local, Prefix::All).len(), 6);
    let log = bench.recorder.finish();
    let check = |crash: &Crash, disk: &Path| promises_hold(&names, crash, disk);
    Crashes::of(&log).ignoring("vault/tmp").check(&mut { check });
}

/// Of a put that failed, one temporary file is all that stays, and no listing shows it.
#[test]
fn a_failed_put_leaves_one_temporary_file_at_most() {
    let bench = Bench::new(small_layout, Recorder::new);
    bench.put(KEY_SLOT);
    let log = bench.recorder.finish();
    let mut left = BTreeMap::new();
    for_each_crash(&log, &mut |_, disk| {
        let temporaries = fs::read_dir(disk.join("vault/tmp")).map_err(|error| error.to_string())?.count();
        *left.entry(temporaries).or_insert(0) += 1;
        let local = Local::new(disk.join("vault"));
        let mut problem = Ok(());
        let mut each = |listed| {
            if !matches!(listed, Listed::Object { name: KEY_SLOT, .. }) {
                problem = Err(format!("{listed:?} is listed"));
            }
            ControlFlow::Continue(())
        };
        local.list(Prefix::All, &mut each).map_err(|error| error.to_string())?;
        problem
    });
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [0, 1]);
}
