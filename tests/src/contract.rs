//! What every backend promises, asked of any backend. The numbers are those of `Backend`'s documentation.
//! Durability (promises 1 and 5) needs a power failure: see `crash`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use repo_core::internals::backend::Backend;
use repo_core::{
    Doubled, GcStage, IndexId, Listed, ObjectName, PackId, PackKind, Prefix, Put, Removal, SlotId, SnapshotId, Span,
};

/// As many writers of one name at once, and as often, as `init` probes with (docs/format.md).
const WRITERS: usize = 8;
const ROUNDS: u8 = 16;

/// Checks every promise; `make` gives a new, empty place each time, prepared or not. Panics where one is broken.
pub fn run(make: &dyn Fn() -> Arc<dyn Backend>) {
    let prepared = || {
        let backend = make();
        backend.prepare().expect("an empty place can be prepared");
        backend.prepare().expect("to prepare again is harmless");
        backend
    };
    assert!(prepared().capabilities().put_if_absent, "this suite is for places that decide races themselves");
    what_was_written_is_read_and_listed(&*prepared());
    a_name_is_never_replaced(&*prepared());
    to_prepare_again_harms_no_object(&*prepared());
    a_missing_name_is_absent(&*prepared());
    spans_are_cut_to_the_object(&*prepared());
    what_was_removed_is_gone(&*prepared());
    each_prefix_lists_its_own(&*prepared());
    a_listing_stops_when_told_and_lets_its_caller_read(&*prepared());
    what_was_damaged_is_replaced_and_what_is_gone_stays_so(&*prepared());
    of_racing_replacers_each_leaves_whole_bytes(&*prepared());
    of_racing_writers_exactly_one_creates(&*prepared());
    of_racing_removers_exactly_one_removes(&*prepared());
    writers_of_different_names_do_not_disturb_each_other(&*prepared());
    a_listing_shows_what_existed_throughout(&*prepared());
}

/// One name of every kind, and two more packs that share a shard.
pub fn names() -> Vec<ObjectName> {
    let snapshot = SnapshotId::new(1_700_000_000_000, [9; 10]);
    let mut neighbour = [0xab; 32];
    neighbour[31] = 0;
    vec![
        ObjectName::Format,
        ObjectName::KeySlot(SlotId([1; 16])),
        ObjectName::Keyring(1),
        ObjectName::Config(u64::MAX),
        ObjectName::Pack(PackKind::Data, PackId([0xab; 32])),
        ObjectName::Pack(PackKind::Data, PackId(neighbour)),
        ObjectName::Pack(PackKind::Data, PackId([0; 32])),
        ObjectName::Pack(PackKind::Meta, PackId([0xff; 32])),
        ObjectName::Index(IndexId([3; 32])),
        ObjectName::Snapshot(snapshot),
        ObjectName::Session(snapshot),
        ObjectName::Renewal(snapshot, 1),
        ObjectName::Gc(7, GcStage::Mark),
        ObjectName::Gc(7, GcStage::Done),
        ObjectName::Forgotten(snapshot),
        ObjectName::Damaged(PackId([0xab; 32]), 0),
        ObjectName::Parity(PackId([0xab; 32]), 2),
        ObjectName::SecondCopy(Doubled::Format),
        ObjectName::SecondCopy(Doubled::KeySlot(SlotId([1; 16]))),
        ObjectName::SecondCopy(Doubled::Keyring(1)),
        ObjectName::SecondCopy(Doubled::Config(1)),
        ObjectName::SecondCopy(Doubled::Snapshot(snapshot)),
    ]
}

/// All objects of a prefix with their sizes. No name may be shown twice, and none that is foreign.
pub fn listed(backend: &dyn Backend, prefix: Prefix) -> BTreeMap<ObjectName, u64> {
    let mut objects = BTreeMap::new();
    let mut each = |listed| {
        match listed {
            Listed::Object { name, size } => assert_eq!(objects.insert(name, size), None, "{name} is listed twice"),
            Listed::Foreign { name } => panic!("{name} is nobody's"),
        }
        ControlFlow::Continue(())
    };
    backend.list(prefix, &mut each).expect("a prepared place can be listed");
    objects
}

fn create(backend: &dyn Backend, name: &ObjectName, bytes: &[u8]) {
    assert_eq!(backend.put_new(name, bytes.to_vec().into()).unwrap(), Put::Created, "{name}");
}

/// Bytes that no other object of the test has.
fn content(name: &ObjectName) -> Vec<u8> {
    format!("the bytes of {name}").into_bytes()
}

/// Promises 1 and 2; an object may be empty, and may be larger than any buffer on the way.
fn what_was_written_is_read_and_listed(backend: &dyn Backend) {
    assert_eq!(listed(backend, Prefix::All), BTreeMap::new());
    let mut expected = BTreeMap::new();
    for name in names() {
        let bytes = content(&name);
        create(backend, &name, &bytes);
        assert_eq!(backend.get(&name, Span::All).unwrap(), bytes, "{name}");
        expected.insert(name, bytes.len() as u64);
        assert_eq!(listed(backend, Prefix::All), expected, "just after {name}");
    }
    let (empty, large) = (ObjectName::Keyring(7), ObjectName::Keyring(8));
    let bytes: Vec<u8> = (0..5_000_011_u32).map(|i| (i % 251) as u8).collect();
    create(backend, &empty, b"");
    create(backend, &large, &bytes);
    assert_eq!(backend.get(&empty, Span::All).unwrap(), b"".as_slice());
    assert!(backend.get(&large, Span::All).unwrap() == bytes);
    assert_eq!(listed(backend, Prefix::Keyrings)[&empty], 0);
    assert_eq!(listed(backend, Prefix::Keyrings)[&large], 5_000_011);
}

/// Promise 3.
fn a_name_is_never_replaced(backend: &dyn Backend) {
    for (name, first) in [(ObjectName::Format, b"first".as_slice()), (ObjectName::Config(1), b"")] {
        create(backend, &name, first);
        for second in [b"second".as_slice(), first, b""] {
            assert_eq!(backend.put_new(&name, second.to_vec().into()).unwrap(), Put::Exists(first.to_vec().into()));
            assert_eq!(backend.get(&name, Span::All).unwrap(), first);
        }
    }
}

fn to_prepare_again_harms_no_object(backend: &dyn Backend) {
    create(backend, &ObjectName::Format, b"here");
    backend.prepare().unwrap();
    assert_eq!(backend.get(&ObjectName::Format, Span::All).unwrap(), b"here".as_slice());
}

/// Promise 4.
fn a_missing_name_is_absent(backend: &dyn Backend) {
    for name in names() {
        for span in [Span::All, Span::Range { offset: 0, length: 0 }, Span::Suffix(0), Span::Suffix(9)] {
            let error = backend.get(&name, span).expect_err("nothing was written");
            assert!(error.is_absent(), "{error}");
            assert_eq!(error.object, name.to_string());
        }
        assert_eq!(backend.remove(&name).unwrap(), Removal::Absent);
    }
}

fn spans_are_cut_to_the_object(backend: &dyn Backend) {
    let bytes = b"0123456789";
    for (name, bytes) in [(ObjectName::Config(1), bytes.as_slice()), (ObjectName::Config(2), b"")] {
        create(backend, &name, bytes);
        let ends = [0, 1, 3, 9, 10, 11, 1000, u64::MAX];
        for offset in ends {
            let from = bytes.len().min(usize::try_from(offset).unwrap());
            for length in ends {
                let expected = &bytes[from..][..(bytes.len() - from).min(usize::try_from(length).unwrap())];
                assert_eq!(backend.get(&name, Span::Range { offset, length }).unwrap(), expected, "{offset}+{length}");
            }
            let expected = &bytes[bytes.len() - from..];
            assert_eq!(backend.get(&name, Span::Suffix(offset)).unwrap(), expected, "the last {offset}");
        }
    }
}

/// Promise 5, but for its durability.
fn what_was_removed_is_gone(backend: &dyn Backend) {
    let kept = ObjectName::Keyring(2);
    create(backend, &kept, b"kept");
    for name in names() {
        create(backend, &name, b"old");
        assert_eq!(backend.remove(&name).unwrap(), Removal::Removed, "{name}");
        assert!(backend.get(&name, Span::All).unwrap_err().is_absent(), "{name}");
        assert_eq!(listed(backend, Prefix::All), BTreeMap::from([(kept, 4)]));
        assert_eq!(backend.remove(&name).unwrap(), Removal::Absent, "{name}");
        create(backend, &name, b"new");
        assert_eq!(backend.get(&name, Span::All).unwrap(), b"new".as_slice(), "{name}");
        backend.remove(&name).unwrap();
    }
}

fn each_prefix_lists_its_own(backend: &dyn Backend) {
    for name in names() {
        create(backend, &name, &content(&name));
    }
    let prefixes = [
        (Prefix::All, ""),
        (Prefix::KeySlots, "keys/"),
        (Prefix::Keyrings, "keyring/"),
        (Prefix::Configs, "config/"),
        (Prefix::Packs(PackKind::Data), "packs/d/"),
        (Prefix::Packs(PackKind::Meta), "packs/m/"),
        (Prefix::Indexes, "index/"),
        (Prefix::Snapshots, "snapshots/"),
        (Prefix::Sessions, "sessions/"),
        (Prefix::Gc, "gc/"),
        (Prefix::Forgotten, "forgotten/"),
        (Prefix::Damaged, "damaged/"),
        (Prefix::Parity, "parity/"),
        (Prefix::SecondCopies, "r/"),
    ];
    for (prefix, text) in prefixes {
        let expected: BTreeMap<_, _> = names()
            .into_iter()
            .filter(|name| name.to_string().starts_with(text))
            .map(|name| (name, content(&name).len() as u64))
            .collect();
        assert!(!expected.is_empty(), "{text}");
        assert_eq!(listed(backend, prefix), expected, "{text}");
    }
}

fn a_listing_stops_when_told_and_lets_its_caller_read(backend: &dyn Backend) {
    for name in names() {
        create(backend, &name, b"x");
    }
    for stop_after in 1..=3 {
        let mut calls = 0;
        let mut each = |listed| {
            let Listed::Object { name, .. } = listed else { panic!("{listed:?}") };
            assert_eq!(backend.get(&name, Span::All).unwrap(), b"x".as_slice());
            calls += 1;
            if calls == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        backend.list(Prefix::All, &mut each).unwrap();
        assert_eq!(calls, stop_after);
    }
}

/// Of places that replace at all.
fn replaces(backend: &dyn Backend) -> bool {
    match backend.replace_damaged(&ObjectName::Keyring(77), b"x".to_vec().into()) {
        Err(error) if error.is_unsupported() => false,
        Err(error) if error.is_absent() => {
            // Perhaps only because nothing is there: asked again of something that is.
            create(backend, &ObjectName::Keyring(77), b"damaged");
            let answer = backend.replace_damaged(&ObjectName::Keyring(77), b"whole".to_vec().into());
            backend.remove(&ObjectName::Keyring(77)).unwrap();
            !answer.is_err_and(|error| error.is_unsupported())
        }
        other => panic!("{other:?} of a name that is free"),
    }
}

fn what_was_damaged_is_replaced_and_what_is_gone_stays_so(backend: &dyn Backend) {
    if !replaces(backend) {
        return;
    }
    for name in names() {
        let error = backend.replace_damaged(&name, content(&name).into()).expect_err("nothing was written");
        assert!(error.is_absent(), "{error}");
        assert_eq!(error.object, name.to_string());
    }
    assert_eq!(listed(backend, Prefix::All), BTreeMap::new());
    let mut expected = BTreeMap::new();
    for name in names() {
        for damaged in [b"damaged".as_slice(), b"", &[7; 100_000]] {
            create(backend, &name, damaged);
            backend.replace_damaged(&name, content(&name).into()).unwrap();
            assert_eq!(backend.get(&name, Span::All).unwrap(), content(&name), "{name}");
            backend.remove(&name).unwrap();
            assert!(backend.replace_damaged(&name, content(&name).into()).unwrap_err().is_absent(), "{name}");
        }
        create(backend, &name, b"damaged");
        backend.replace_damaged(&name, content(&name).into()).unwrap();
        expected.insert(name, content(&name).len() as u64);
        assert_eq!(listed(backend, Prefix::All), expected);
        assert_eq!(backend.put_new(&name, b"other".to_vec().into()).unwrap(), Put::Exists(content(&name).into()));
    }
}

fn of_racing_replacers_each_leaves_whole_bytes(backend: &dyn Backend) {
    if !replaces(backend) {
        return;
    }
    let name = ObjectName::Pack(PackKind::Data, PackId([0x55; 32]));
    let bytes = |writer: usize| vec![writer as u8; 10_000 + writer];
    let is_whole = |seen: &[u8]| (0..=WRITERS).any(|writer| seen == bytes(writer));
    create(backend, &name, &bytes(WRITERS));
    all_at_once(|writer| {
        for _ in 0..ROUNDS {
            backend.replace_damaged(&name, bytes(writer).into()).unwrap();
            assert!(is_whole(&backend.get(&name, Span::All).unwrap()), "seen in part");
        }
    });
    assert!(is_whole(&backend.get(&name, Span::All).unwrap()));
    // One takes it away: nobody brings it back.
    all_at_once(|writer| match writer {
        0 => assert_eq!(backend.remove(&name).unwrap(), Removal::Removed),
        _ => _ = backend.replace_damaged(&name, bytes(writer).into()).is_err_and(|error| error.is_absent()),
    });
    assert!(backend.get(&name, Span::All).unwrap_err().is_absent());
    assert_eq!(listed(backend, Prefix::All), BTreeMap::new());
}

/// Promises 1 and 3 under a race: the losers are given the winner's bytes, whole.
fn of_racing_writers_exactly_one_creates(backend: &dyn Backend) {
    for round in 0..ROUNDS {
        // In turn a small object, and packs in shards old and new.
        let name = match round % 2 {
            0 => ObjectName::Keyring(u64::from(round)),
            _ => ObjectName::Pack(PackKind::Data, PackId([round; 32])),
        };
        let bytes = |writer: usize| vec![writer as u8; 10_000 + writer];
        let answers = all_at_once(|writer| backend.put_new(&name, bytes(writer).into()).unwrap());
        let winners: Vec<_> = (0..WRITERS).filter(|writer| answers[*writer] == Put::Created).collect();
        let [winner] = winners[..] else { panic!("round {round}: {winners:?} each say they created {name}") };
        assert!(backend.get(&name, Span::All).unwrap() == bytes(winner), "round {round}");
        for (writer, answer) in answers.into_iter().enumerate() {
            assert!(writer == winner || answer == Put::Exists(bytes(winner).into()), "round {round}, writer {writer}");
        }
    }
}

fn of_racing_removers_exactly_one_removes(backend: &dyn Backend) {
    for round in 0..ROUNDS {
        let name = ObjectName::Keyring(u64::from(round));
        create(backend, &name, b"x");
        let answers = all_at_once(|_| backend.remove(&name).unwrap());
        assert_eq!(answers.iter().filter(|answer| **answer == Removal::Removed).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == Removal::Absent).count(), WRITERS - 1, "{answers:?}");
    }
}

fn writers_of_different_names_do_not_disturb_each_other(backend: &dyn Backend) {
    let name = |writer: usize, i: u8| {
        let mut id = [i; 32];
        id[31] = writer as u8;
        ObjectName::Pack(PackKind::Meta, PackId(id))
    };
    all_at_once(|writer| {
        for i in 0..8 {
            create(backend, &name(writer, i), &content(&name(writer, i)));
        }
    });
    assert_eq!(listed(backend, Prefix::Packs(PackKind::Meta)).len(), 8 * WRITERS);
    for (writer, i) in (0..WRITERS).flat_map(|writer| (0..8).map(move |i| (writer, i))) {
        assert_eq!(backend.get(&name(writer, i), Span::All).unwrap(), content(&name(writer, i)));
    }
}

/// Promise 6: others come and go meanwhile, and none is seen in part.
fn a_listing_shows_what_existed_throughout(backend: &dyn Backend) {
    let stable: BTreeSet<_> = (0..50).map(|i| ObjectName::Keyring(i * 1000)).collect();
    for name in &stable {
        create(backend, name, b"stable");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Set however this thread ends, or the other would wait for ever.
            let _done = OnDrop(&done);
            for i in 0..200 {
                let name = ObjectName::Keyring(i * 1000 + 1);
                create(backend, &name, b"passing");
                if i >= 3 {
                    backend.remove(&ObjectName::Keyring((i - 3) * 1000 + 1)).unwrap();
                }
            }
        });
        while !done.load(Ordering::Acquire) {
            let seen = listed(backend, Prefix::Keyrings);
            let missing: Vec<_> = stable.iter().filter(|name| seen.get(name) != Some(&6)).collect();
            assert!(missing.is_empty(), "{missing:?}");
            for (name, size) in seen.iter().filter(|(name, _)| !stable.contains(name)) {
                assert_eq!(*size, 7, "{name} was seen in part");
            }
        }
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs the same on as many threads as there are writers, from one signal, and gives what each returned.
fn all_at_once<T: Send>(run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(WRITERS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    barrier.wait();
                    run(writer)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no writer panics")).collect()
    })
}
