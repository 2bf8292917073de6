//! What lost its snapshot is found; what somebody refers to, or what has lost something itself, is not.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::backend::{Memory, Prefix};
use crate::crypto::Secret;
use crate::id::{Doubled, ObjectName, PackKind};
use crate::ops::backup::BackupOptions;
use crate::ops::check::CheckOptions;
use crate::ops::forget::plan::ForgetOptions;
use crate::ops::prune::{PruneOptions, Unused};
use crate::progress::Silent;
use crate::repository::{InitOptions, Selector, SnapshotFilter};
use crate::walk::local::{LocalTree, LocalTreeOptions};

struct Bench {
    repository: Repository,
    source: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (secret, _) = Secret::generate_key().unwrap();
        let options = InitOptions::new().parity_percent(0);
        let repository = Repository::init(Arc::new(Memory::new()), &secret, &options).unwrap().with_threads(1);
        let bench = Self { repository, source: tempfile::tempdir().unwrap() };
        bench.write("same/file", 1);
        bench.write("other/file", 2);
        bench
    }

    /// A file that lies in a chunk of its own.
    fn write(&self, name: &str, seed: u64) {
        let path = self.source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(seed)).unwrap();
    }

    fn backup(&self) -> Snapshot {
        let tree = LocalTree::new(&[self.source.path().to_owned()], LocalTreeOptions::new()).unwrap();
        self.repository.backup(&tree, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap()
    }

    /// As if it had never been.
    fn lose(&self, snapshot: &Snapshot) {
        let name = Doubled::Snapshot(snapshot.id());
        self.repository.backend().remove(&name.into()).unwrap();
        self.repository.backend().remove(&ObjectName::SecondCopy(name)).unwrap();
    }

    fn recover(&self) -> RecoverReport {
        self.repository.recover(&RecoverOptions::new().host("here"), &Silent).unwrap()
    }

    fn read(&self, snapshot: &Snapshot, path: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.repository.read(snapshot, path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn path(&self, tree: &ChunkId, name: &str) -> Vec<u8> {
        [b"/", tree.to_string().as_bytes(), self.source.path().join(name).as_os_str().as_encoded_bytes()].concat()
    }

    fn shown(&self) -> usize {
        self.repository.snapshots(&SnapshotFilter::default()).unwrap().snapshots.len()
    }
}

fn content(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 5000];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_lost_snapshot_comes_back_once_and_whole() {
    let bench = Bench::new();
    let lost = bench.backup();
    bench.write("new", 3);
    let kept = bench.backup();
    assert!(bench.recover().trees.is_empty(), "nothing is lost yet");
    assert_eq!(bench.shown(), 2);
    bench.lose(&lost);
    let root = lost.record.root.tree.unwrap();
    let dry = bench.repository.recover(&RecoverOptions::new().dry_run(), &Silent).unwrap();
    assert_eq!((dry.trees.as_slice(), dry.snapshot), (&[root][..], None));
    let report = bench.recover();
    assert_eq!((report.trees.as_slice(), report.broken), (&[root][..], 0));
    assert!(report.nodes > 3);
    let snapshot = report.snapshot.unwrap();
    for (name, seed) in [("same/file", 1), ("other/file", 2)] {
        assert_eq!(bench.read(&snapshot, &bench.path(&root, name)), content(seed));
    }
    let record = &snapshot.record;
    assert_eq!(
        (record.host.as_str(), record.tags.as_slice(), &record.paths[0][..]),
        ("here", &[TAG.to_owned()][..], PATH)
    );
    assert_eq!(record.root.entries, lost.record.root.entries + 1);
    assert_eq!(record.root.bytes, lost.record.root.bytes);
    let again = bench.recover();
    assert!(again.trees.is_empty() && again.snapshot.is_none(), "it has a snapshot now");
    assert_eq!(bench.shown(), 2);
    assert!(bench.repository.objects(Prefix::Sessions).unwrap().is_empty(), "nobody seems to be at work");
    assert!(bench.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());
    // And a prune takes nothing of it.
    bench.repository.prune(&PruneOptions::new().max_unused(Unused::Bytes(0)), &Silent).unwrap();
    assert_eq!(bench.read(&snapshot, &bench.path(&root, "same/file")), content(1));
    assert!(bench.repository.node(&kept, &bench.path(&root, "new")).is_err());
}

#[test]
fn a_second_recovery_follows_the_first() {
    let bench = Bench::new();
    for seed in [3, 4] {
        bench.write("new", seed);
        let lost = bench.backup();
        bench.lose(&lost);
        let found = bench.recover();
        assert_eq!(found.trees, [lost.record.root.tree.unwrap()]);
        assert_eq!(found.snapshot.unwrap().record.sequence, seed - 3);
    }
}

#[test]
fn what_can_be_brought_back_is_not_lost() {
    let bench = Bench::new();
    let forgotten = bench.backup();
    let options = ForgetOptions::new().id(Selector::Id(forgotten.id().short()));
    let plan = bench.repository.plan_forget(&options, &Silent).unwrap();
    bench.repository.forget(&plan, &Silent).unwrap();
    assert!(bench.recover().trees.is_empty());
}

#[test]
fn of_a_tree_that_lost_something_the_directories_that_are_whole_come_back() {
    let bench = Bench::new();
    bench.backup();
    let packs = |bench: &Bench| bench.repository.objects(Prefix::Packs(PackKind::Data)).unwrap();
    let before = packs(&bench);
    bench.write("other/more", 7);
    bench.write("fresh/file", 8);
    // In a pack of its own.
    let lost = bench.backup();
    bench.write("gone/file", 9);
    let between = packs(&bench);
    let broken = bench.backup();
    let pack = packs(&bench).into_iter().find(|pack| !between.contains(pack)).unwrap().0;
    assert!(before.len() < between.len());
    [&lost, &broken].into_iter().for_each(|snapshot| bench.lose(snapshot));
    bench.repository.backend().remove(&pack).unwrap();
    let report = bench.recover();
    let whole = lost.record.root.tree.unwrap();
    assert!(report.trees.contains(&whole), "one of the two is whole");
    assert!(!report.trees.contains(&broken.record.root.tree.unwrap()));
    assert!(report.broken > 0);
    let snapshot = report.snapshot.unwrap();
    assert_eq!(bench.read(&snapshot, &bench.path(&whole, "fresh/file")), content(8));
    let check = bench.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(check.damaged_snapshots.is_empty(), "{:?}", check.damaged_snapshots);
}

/// The first level below the lost file's directory is broken up to the top; its neighbours are found one by one.
#[test]
fn neighbours_of_what_is_lost_are_found_below_it() {
    let bench = Bench::new();
    let before = bench.repository.objects(Prefix::Packs(PackKind::Data)).unwrap();
    let lost = bench.backup();
    assert!(before.is_empty());
    bench.write("gone/file", 9);
    let known = bench.repository.objects(Prefix::Packs(PackKind::Data)).unwrap();
    let broken = bench.backup();
    let packs = bench.repository.objects(Prefix::Packs(PackKind::Data)).unwrap();
    let pack = packs.into_iter().find(|pack| !known.contains(pack)).unwrap().0;
    let same = bench.repository.node(&broken, &bench.source.path().join("same").into_os_string().into_encoded_bytes());
    let Content::Directory(same) = same.unwrap().content else { panic!("a directory") };
    // Only the broken one has them now: nothing whole above refers to them.
    [&lost, &broken].into_iter().for_each(|snapshot| bench.lose(snapshot));
    bench.repository.backend().remove(&pack).unwrap();
    let report = bench.recover();
    assert!(report.trees.contains(&lost.record.root.tree.unwrap()));
    assert!(!report.trees.contains(&same.root), "it is in the one that is whole");
    let found: Vec<_> = report.trees.iter().collect();
    assert_eq!(found.len(), 1, "{found:?}");
}
