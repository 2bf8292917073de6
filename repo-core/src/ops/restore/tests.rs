//! Snapshots that no writer of ours makes: restored in bounded time and space, and never outside the target.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::RestoreOptions;
use crate::backend::Memory;
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::list::ListNode;
use crate::format::snapshot::{Root, SnapshotRecord};
use crate::format::tree::{
    Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs, encode_leaf, encode_node,
};
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::pipeline;
use crate::progress::{Event, Progress};
use crate::repository::{InitOptions, Repository, Snapshot};
use crate::store::{Sealing, WriterOptions};

/// Stores chunks as they are given.
type Put<'a> = dyn FnMut(ChunkKind, &[u8]) -> ChunkId + 'a;

/// A repository and a snapshot of it whose chunks and root `build` makes.
fn forged(build: impl FnOnce(&mut Put<'_>) -> Root) -> (Repository, Snapshot) {
    let secret = Secret::Key([7; 32].into());
    let repository = Repository::init(Arc::new(Memory::default()), &secret, &InitOptions::default()).expect("memory");
    let store = repository.store().expect("an empty index");
    let options = WriterOptions {
        threads: 1,
        level: 1,
        verify: true,
        dry_run: false,
        frame_target_bytes: 1 << 20,
        pack_data_bytes: 1 << 20,
        pack_meta_bytes: 1 << 20,
        isolate_owners: true,
        parity_percent: 0,
    };
    let sealing = Sealing::new(&store, SnapshotId([1; 16]), options);
    let root = pipeline::scope(|scope| {
        let mut writer = sealing.start(scope)?;
        let view = store.view();
        let root = build(&mut |kind, bytes| {
            let id = store.keys().chunk_id(kind, bytes);
            writer.put(kind, id, bytes, false, 0, &view).expect("memory");
            id
        });
        writer.finish()?;
        Ok(root)
    })
    .expect("memory");
    sealing.finish(root, &store.view()).expect("memory");
    store.reload().expect("memory");
    (repository, Snapshot { record: record(root) })
}

fn record(root: Root) -> SnapshotRecord {
    SnapshotRecord { root, ..SnapshotRecord::blank(SnapshotId([1; 16])) }
}

fn node(name: &[u8], kind: NodeKind, size: u64, content: Content) -> Node {
    let metadata = Metadata {
        // Whoever runs the test.
        uid: crate::platform::host::current_user().uid,
        gid: crate::platform::host::current_user().gid,
        modified: Timestamp { seconds: 1_000_000_000, nanoseconds: 7 },
        inode: 1,
        device: 1,
        size,
        ..Metadata::unknown(kind, if kind == NodeKind::Directory { 0o755 } else { 0o644 })
    };
    Node { name: name.to_vec(), metadata, content, xattrs: Xattrs::Inline(Vec::new()), extensions: Vec::new() }
}

fn leaf(nodes: &[Node]) -> Vec<u8> {
    let records = nodes.iter().map(|node| {
        let mut record = Vec::new();
        encode_node(node, &mut record);
        record
    });
    let records: Vec<_> = records.collect();
    encode_leaf(records.iter().map(Vec::as_slice))
}

#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Progress for Ears {
    fn report(&self, event: Event<'_>) {
        if let Event::Problem { path, message, .. } = event {
            self.0.lock().expect("no panic").push(format!("{}: {message}", path.display()));
        }
    }
}

struct Restored {
    room: tempfile::TempDir,
    result: Result<super::RestoreReport>,
    problems: Vec<String>,
}

impl Restored {
    fn of((repository, snapshot): &(Repository, Snapshot), verify: bool) -> Self {
        let room = tempfile::tempdir().expect("a temporary directory");
        let ears = Ears::default();
        let options = RestoreOptions { verify, ..RestoreOptions::new() };
        let result = repository.restore(snapshot, &room.path().join("target"), &options, &ears);
        Self { room, result, problems: ears.0.into_inner().expect("no panic") }
    }

    fn target(&self) -> PathBuf {
        self.room.path().join("target")
    }
}

/// A tree of 20 levels in each of which ten names lead to the same directory: 10^20 entries in 20 chunks.
#[test]
fn a_tree_that_unfolds_without_end_is_cut_off_where_the_snapshot_says() {
    let forged = forged(|put| {
        let file = node(b"file", NodeKind::File, 1, Content::Inline(vec![1]));
        let mut root = put(ChunkKind::Tree, &leaf(&[file]));
        for _ in 0..20 {
            let subtree = Subtree { root, entries: 50, bytes: 50 };
            let name = |number: u8| [b'a' + number];
            let nodes: Vec<_> = (0..10)
                .map(|number| node(&name(number), NodeKind::Directory, 0, Content::Directory(subtree)))
                .collect();
            root = put(ChunkKind::Tree, &leaf(&nodes));
        }
        Root { tree: Some(root), entries: 100, bytes: 100 }
    });
    let restored = Restored::of(&forged, false);
    assert!(matches!(restored.result, Err(Error::Limit { .. })), "{:?}", restored.result);
    let (repository, snapshot) = &forged;
    let mut entries = 0;
    let listed = repository.list(snapshot, b"/", true, &mut |_, _| {
        entries += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(listed, Err(Error::Limit { .. })) && entries <= 1110, "{entries}");
}

#[test]
fn names_that_lead_elsewhere_are_refused_and_the_rest_goes_on() {
    for name in [&b".."[..], b".", b"/etc/planted", b"../planted", b"a/../../planted", b"nul\0"] {
        let forged = forged(|put| {
            // No encoder writes such a name; it is put into the bytes afterwards.
            let harmless = vec![b'Q'; name.len()];
            let mut bad = leaf(&[node(&harmless, NodeKind::File, 1, Content::Inline(vec![1]))]);
            let found = bad.windows(name.len()).rposition(|window| window == harmless).expect("a name stands in it");
            bad[found..found + name.len()].copy_from_slice(name);
            let root = put(ChunkKind::Tree, &bad);
            let subtree = Subtree { root, entries: 1, bytes: 1 };
            let root = put(
                ChunkKind::Tree,
                &leaf(&[
                    node(b"bad", NodeKind::Directory, 0, Content::Directory(subtree)),
                    node(b"good", NodeKind::File, 1, Content::Inline(vec![1])),
                ]),
            );
            Root { tree: Some(root), entries: 3, bytes: 2 }
        });
        let restored = Restored::of(&forged, false);
        assert_eq!(restored.problems.len(), 1, "{:?}", restored.problems);
        assert!(restored.target().join("good").is_file());
        assert_eq!(std::fs::read_dir(restored.target().join("bad")).expect("made").count(), 0);
        assert_eq!(std::fs::read_dir(restored.room.path()).expect("ours").count(), 1);
        assert!(!std::path::Path::new("/etc/planted").exists());
    }
}

/// Deeper than any path the kernel takes, and than the descriptors a process may have.
#[test]
fn a_tree_of_4000_directories_within_one_another_comes_back() {
    let chain = |depth: usize| {
        forged(|put| {
            let file = node(b"file", NodeKind::File, 1, Content::Inline(vec![1]));
            let mut subtree =
                Subtree { root: put(ChunkKind::Tree, &leaf(std::slice::from_ref(&file))), entries: 1, bytes: 1 };
            for _ in 0..depth {
                let down = node(b"down", NodeKind::Directory, 0, Content::Directory(subtree));
                let root = put(ChunkKind::Tree, &leaf(&[down, file.clone()]));
                subtree = Subtree { root, entries: subtree.entries + 2, bytes: subtree.bytes + 1 };
            }
            Root { tree: Some(subtree.root), entries: subtree.entries, bytes: subtree.bytes }
        })
    };
    let restored = Restored::of(&chain(4000), true);
    assert_eq!(restored.problems, Vec::<String>::new());
    let report = restored.result.as_ref().expect("within the limits");
    assert_eq!((report.restored_files, report.verified_files, report.restored_bytes), (8001, 8001, 4001));
    // The topmost was left last, long after its descriptor had been closed.
    let down = std::fs::metadata(restored.target().join("down")).expect("restored");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 7);
    assert_eq!(down.modified().expect("has one"), time);
    assert!(matches!(Restored::of(&chain(4200), false).result, Err(Error::Limit { .. })));
}

#[test]
fn a_file_whose_extents_do_not_add_up_is_told_and_bounded() {
    let forged = forged(|put| {
        let chunk = put(ChunkKind::Data, &[5; 1000]);
        let data = |length| Extent { length, kind: ExtentKind::Data(chunk) };
        let list = put(ChunkKind::List, &ListNode::Leaf(vec![data(1000), data(1000)]).encode());
        let list = Content::List { root: list, depth: 0, chunks: 2 };
        let file = |name: &[u8], size, content| node(name, NodeKind::File, size, content);
        let nodes = [
            file(b"a-short", 3000, list.clone()),
            file(b"b-long", 1500, list.clone()),
            file(b"c-other", 999, Content::Extents(vec![data(999)])),
            file(
                b"d-absent",
                9,
                Content::Extents(vec![Extent { length: 9, kind: ExtentKind::Data(ChunkId([9; 32])) }]),
            ),
            file(b"e-whole", 2000, list),
        ];
        Root { tree: Some(put(ChunkKind::Tree, &leaf(&nodes))), entries: 5, bytes: 7508 }
    });
    let restored = Restored::of(&forged, false);
    let report = restored.result.as_ref().expect("the rest goes on");
    assert!(restored.target().join("e-whole").metadata().expect("restored").len() == 2000);
    assert_eq!((report.problems, report.restored_files), (4, 1), "{:?}", restored.problems);
    for name in ["a-short", "b-long", "c-other", "d-absent"] {
        assert!(restored.problems.iter().any(|problem| problem.contains(name)), "{name}: {:?}", restored.problems);
    }
}

#[test]
fn a_file_larger_than_the_snapshot_says_ends_the_run() {
    let forged = forged(|put| {
        let zeros = Extent { length: 1 << 40, kind: ExtentKind::Zero };
        let file = node(b"file", NodeKind::File, 1 << 40, Content::Extents(vec![zeros]));
        Root { tree: Some(put(ChunkKind::Tree, &leaf(&[file]))), entries: 1, bytes: 1000 }
    });
    assert!(matches!(Restored::of(&forged, false).result, Err(Error::Limit { .. })));
}
