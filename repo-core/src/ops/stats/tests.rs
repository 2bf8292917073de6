//! What is counted is what a walk that knows no sharing counts, and nothing is read twice for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::backend::Memory;
use crate::crypto::Secret;
use crate::format::tree::{Content, ExtentKind, Node, NodeKind};
use crate::id::ChunkId;
use crate::ops::backup::BackupOptions;
use crate::progress::{Event, Silent};
use crate::repository::InitOptions;
use crate::tree::{Measure, Visitor};
use crate::walk::local::{LocalTree, LocalTreeOptions};

struct Bench {
    repository: Repository,
    source: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (secret, _) = Secret::generate_key().unwrap();
        let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new()).unwrap();
        Self { repository, source: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let path = |name: &str| self.source.path().join(name);
        fs::create_dir_all(path(to).parent().unwrap()).unwrap();
        fs::hard_link(path(from), path(to)).unwrap();
    }

    fn backup(&self) -> Snapshot {
        let tree = LocalTree::new(&[self.source.path().to_owned()], LocalTreeOptions::new()).unwrap();
        self.repository.backup(&tree, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap()
    }

    fn stats(&self, snapshots: &[Snapshot], mode: StatsMode) -> StatsReport {
        let report = self.repository.stats(snapshots, mode, &Silent).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        report
    }

    /// Every entry of a snapshot, with its path.
    fn entries(&self, snapshot: &Snapshot) -> Vec<(Vec<u8>, Node)> {
        let mut entries = Vec::new();
        let each = &mut |path: &[u8], node: &Node| {
            entries.push((path.to_vec(), node.clone()));
            ControlFlow::Continue(())
        };
        self.repository.list(snapshot, b"", true, each).unwrap();
        entries
    }

    /// The chunks that a snapshot refers to, with what they take in packs.
    fn chunks(&self, snapshot: &Snapshot) -> BTreeMap<u32, u64> {
        struct All<'v>(&'v Index, BTreeMap<u32, u64>);
        impl Visitor for All<'_> {
            fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
                let number = self.0.number(kind, id).unwrap();
                self.1.insert(number, self.0.stored_bytes(number));
                Ok(true)
            }
        }
        let store = self.repository.fresh_store().unwrap();
        let view = store.view();
        let mut all = All(&view, BTreeMap::new());
        if let Some(root) = &snapshot.record().root.tree {
            tree::references(&store, root, &mut all).unwrap();
        }
        all.1
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Three snapshots that share most of what they have; files with several names lie in one directory, in two, and twice where
/// directories are the same.
fn three_snapshots(bench: &Bench) -> Vec<Snapshot> {
    bench.write("docs/small", b"a few words");
    bench.write("docs/large", &noise(1, 700_000));
    bench.write("docs/same", &noise(1, 700_000));
    bench.write("docs/deep/er/linked", &noise(2, 90_000));
    bench.link("docs/deep/er/linked", "docs/deep/er/again");
    bench.link("docs/deep/er/linked", "other/place");
    bench.write("empty", b"");
    let first = bench.backup();
    bench.write("docs/large", &[noise(1, 600_000), noise(3, 100_000)].concat());
    bench.link("docs/same", "other/same");
    let second = bench.backup();
    fs::remove_file(bench.source.path().join("other/place")).unwrap();
    fs::remove_file(bench.source.path().join("docs/deep/er/again")).unwrap();
    bench.write("new", &noise(4, 50_000));
    vec![first, second, bench.backup()]
}

#[test]
fn a_restore_writes_each_file_once_however_many_names_it_has() {
    let bench = Bench::new();
    let snapshots = three_snapshots(&bench);
    let report = bench.stats(&snapshots, StatsMode::RestoreSize);
    for (snapshot, counted) in snapshots.iter().zip(&report.snapshots) {
        let entries = bench.entries(snapshot);
        let mut files = BTreeMap::new();
        let is_file = |node: &&(Vec<u8>, Node)| node.1.metadata.kind == NodeKind::File;
        for (_, node) in entries.iter().filter(is_file) {
            files.insert((node.metadata.device, node.metadata.inode), node.metadata.size);
        }
        assert_eq!((counted.id, counted.entries), (snapshot.id(), entries.len() as u64));
        assert_eq!(counted.restore_bytes, files.values().sum::<u64>());
        assert_eq!(counted.unique_bytes, None);
    }
    let [first, second, third] = [0, 1, 2].map(|place: usize| report.snapshots[place].restore_bytes);
    assert_eq!((first, second), (1_490_011, 1_490_011), "two larges, one linked file, one small");
    assert_eq!(third, 1_540_011);
    assert_eq!(report.total_bytes, first + second + third);
    assert_eq!(report.total_files, report.snapshots.iter().map(|one| one.entries).sum::<u64>());
}

#[test]
fn contents_are_counted_once_wherever_they_are() {
    let bench = Bench::new();
    let snapshots = three_snapshots(&bench);
    let (mut contents, mut chunks) = (BTreeMap::new(), BTreeSet::new());
    for (path, node) in snapshots.iter().flat_map(|snapshot| bench.entries(snapshot)) {
        if node.metadata.kind != NodeKind::File {
            continue;
        }
        if contents.insert(format!("{:?}", node.content), node.metadata.size).is_some() {
            continue;
        }
        if let Content::Extents(extents) = &node.content {
            for extent in extents {
                let ExtentKind::Data(id) = extent.kind else { panic!("noise has no zeros") };
                chunks.insert((path.clone(), id, extent.length));
            }
        }
    }
    let by_content = bench.stats(&snapshots, StatsMode::FilesByContents);
    let expected = (contents.len() as u64, contents.values().sum::<u64>());
    assert_eq!((by_content.total_files, by_content.total_bytes), expected);
    assert_eq!(expected.0, 6, "small, two editions of large, linked, empty and new");
    let by_chunk = bench.stats(&snapshots, StatsMode::ChunksPerFile);
    assert_eq!(by_chunk.total_chunks, chunks.len() as u64);
    assert_eq!(by_chunk.total_bytes, chunks.iter().map(|(_, _, length)| length).sum::<u64>());
    // Of the second edition only what the first has not at this path.
    let paths: BTreeSet<_> = chunks.iter().map(|(path, _, _)| path).collect();
    assert_eq!(by_chunk.total_files, paths.len() as u64);
    assert!(by_chunk.total_bytes < 700_000 + 700_000 + 90_000 + 50_000, "{}", by_chunk.total_bytes);
}

#[test]
fn raw_data_is_what_is_referred_to_and_unique_what_no_other_snapshot_refers_to() {
    let bench = Bench::new();
    let all = three_snapshots(&bench);
    let chunks: Vec<_> = all.iter().map(|snapshot| bench.chunks(snapshot)).collect();
    for chosen in [vec![0, 1, 2], vec![2, 0], vec![1], vec![]] {
        let snapshots: Vec<Snapshot> = chosen.iter().map(|place| all[*place].clone()).collect();
        let report = bench.stats(&snapshots, StatsMode::RawData);
        let union: BTreeMap<u32, u64> = chosen.iter().flat_map(|place| chunks[*place].clone()).collect();
        assert_eq!(report.total_chunks, union.len() as u64);
        assert_eq!(report.total_bytes, union.values().sum::<u64>(), "of {chosen:?}");
        for (place, counted) in chosen.iter().zip(&report.snapshots) {
            let others = || chunks.iter().enumerate().filter(|(other, _)| other != place);
            let is_own = |number: &u32| others().all(|(_, chunks)| !chunks.contains_key(number));
            let own = chunks[*place].iter().filter(|(number, _)| is_own(number)).map(|(_, bytes)| bytes).sum::<u64>();
            assert_eq!(counted.unique_bytes, Some(own), "snapshot {place} of {chosen:?}");
            assert!(own > 0);
        }
        let raw = report.raw.unwrap();
        assert_eq!(raw.stored_bytes, report.total_bytes);
        assert_eq!(raw.restore_bytes, report.snapshots.iter().map(|one| one.restore_bytes).sum::<u64>());
        assert!(raw.content_bytes <= raw.plain_bytes);
        match chosen.len() {
            0 => assert_eq!((raw.deduplication_ratio(), raw.compression_ratio()), (1.0, 1.0)),
            // Noise does not compress, and is there three times.
            3 => assert!(raw.deduplication_ratio() > 2.5 && raw.compression_ratio() < 1.5, "{raw:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_snapshot_without_entries_and_one_that_is_asked_twice_count_as_they_are() {
    let bench = Bench::new();
    let snapshots = three_snapshots(&bench);
    let twice = bench.stats(&[snapshots[0].clone(), snapshots[0].clone()], StatsMode::RestoreSize);
    assert_eq!(twice.snapshots[0], twice.snapshots[1]);
    assert_eq!(twice.total_bytes, 2 * twice.snapshots[0].restore_bytes);
}

/// Ends what it is asked about.
struct Impatient;

impl Progress for Impatient {
    fn report(&self, _: Event<'_>) {}
    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn counting_ends_when_it_is_told_to() {
    let bench = Bench::new();
    let snapshots = three_snapshots(&bench);
    for mode in [StatsMode::RestoreSize, StatsMode::FilesByContents, StatsMode::ChunksPerFile, StatsMode::RawData] {
        assert!(matches!(bench.repository.stats(&snapshots, mode, &Impatient), Err(Error::Cancelled)));
    }
}

/// Counts the entries that it is shown.
#[derive(Default)]
struct Shown {
    known: BTreeSet<ChunkId>,
    entries: usize,
    directories: BTreeSet<Vec<u8>>,
}

impl Measure for Shown {
    type Sum = ();
    fn is_known(&self, root: &ChunkId) -> bool {
        self.known.contains(root)
    }
    fn entries(&mut self, directory: &[u8], nodes: &[Node], (): &mut ()) -> Result<()> {
        self.entries += nodes.len();
        self.directories.insert(directory.to_vec());
        Ok(())
    }
    fn below(&mut self, root: &ChunkId, (): &mut ()) {
        assert!(self.known.contains(root), "what is below is known before what is above");
    }
    fn done(&mut self, root: ChunkId, (): ()) {
        assert!(self.known.insert(root), "nothing is measured twice");
    }
    fn lost(&mut self, error: Error) -> Result<()> {
        Err(error)
    }
}

/// One entry of a large directory changed: of the second snapshot a few nodes are read, not the directory.
#[test]
fn what_snapshots_share_is_read_once_within_directories_too() {
    let bench = Bench::new();
    for number in 0..3000 {
        bench.write(&format!("many/file-{number:05}"), &noise(number, 40));
    }
    bench.write("beside/it", b"x");
    let first = bench.backup();
    bench.write("many/file-01500", b"changed");
    let second = bench.backup();
    let store = bench.repository.fresh_store().unwrap();
    let mut shown = Shown::default();
    let measure = |snapshot: &Snapshot, shown: &mut Shown| {
        tree::measure(&store, &snapshot.record().root.tree.unwrap(), shown).unwrap();
    };
    measure(&first, &mut shown);
    assert_eq!(shown.entries, bench.entries(&first).len());
    let top = bench.source.path().as_os_str().as_encoded_bytes();
    assert!(shown.directories.contains(&[top, b"/many"].concat()), "directories come with their paths");
    assert!(shown.directories.contains(&Vec::new()), "the top has none");
    shown.entries = 0;
    measure(&second, &mut shown);
    assert!((1..1500).contains(&shown.entries), "{} entries were read again", shown.entries);
    shown.entries = 0;
    measure(&second, &mut shown);
    assert_eq!(shown.entries, 0);
}
