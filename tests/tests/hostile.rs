//! Hostile repositories: trees that no writer of ours makes, sealed by one who has the key. They cost bounded memory and
//! time, are named, and nothing is ever written outside the target.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use icecore_tests::bench::{Bench, Ears};
use repo_core::internals::format::list::{ListChild, ListNode};
use repo_core::internals::format::tree::{Child, encode_branch, encode_leaf, encode_node};
use repo_core::internals::pipeline;
use repo_core::internals::store::{self, Sealing, Session, SessionKind, Store, Writer, WriterOptions};
use repo_core::{
    ChunkId, ChunkKind, Content, Damaged, Error, Extent, ExtentKind, Loss, Metadata, Node, NodeKind, Repository, Root,
    Snapshot, Subtree, Xattrs,
};

/// Puts chunks of any content, as one who has the key can.
struct Forger<'a, 'scope, 's> {
    writer: Writer<'scope, 's>,
    store: &'a Store,
}

impl Forger<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        let id = self.store.keys().chunk_id(kind, bytes);
        self.writer.put(kind, id, bytes, false, 0, &self.store.view()).expect("the writer takes any chunk");
        id
    }

    /// A directory of these nodes, in this order, whatever they are.
    fn directory(&mut self, nodes: &[Node]) -> Subtree {
        let records: Vec<Vec<u8>> = nodes
            .iter()
            .map(|node| {
                let mut record = Vec::new();
                encode_node(node, &mut record);
                record
            })
            .collect();
        let root = self.put(ChunkKind::Tree, &encode_leaf(records.iter().map(Vec::as_slice)));
        Subtree { root, entries: nodes.len() as u64, bytes: 0 }
    }
}

fn node(name: &[u8], kind: NodeKind, size: u64, content: Content) -> Node {
    let metadata = Metadata { inode: 1, device: 1, size, ..Metadata::unknown(kind, 0o755) };
    Node { name: name.to_vec(), metadata, content, xattrs: Xattrs::Inline(Vec::new()), extensions: Vec::new() }
}

fn file(name: &[u8], content: &[u8]) -> Node {
    node(name, NodeKind::File, content.len() as u64, Content::Inline(content.to_vec()))
}

fn directory(name: &[u8], subtree: Subtree) -> Node {
    node(name, NodeKind::Directory, 0, Content::Directory(subtree))
}

/// The record of a file whose name no writer would write: that of a file `q` with the name replaced.
fn misnamed(name: &[u8]) -> Vec<u8> {
    let mut honest = Vec::new();
    encode_node(&file(b"q", b"evil"), &mut honest);
    assert_eq!(honest[..2], [1, b'q'], "a record begins with its name");
    let mut record = match u8::try_from(name.len()) {
        Ok(length) => vec![length],
        Err(_) => [&[251], &(name.len() as u16).to_le_bytes()[..]].concat(),
    };
    record.extend_from_slice(name);
    record.extend_from_slice(&honest[2..]);
    record
}

/// Publishes a snapshot of what `forge` makes. An honest one is made first, whose record is used again.
fn forge(bench: &Bench, build: impl FnOnce(&mut Forger<'_, '_, '_>) -> Subtree) -> (Repository, Snapshot) {
    bench.write("honest", b"a file of an honest snapshot");
    let honest = bench.backup().snapshot.expect("an honest backup is published");
    let repository = bench.open();
    let store = store::of(&repository).unwrap();
    let session = Session::register(store.backend(), store.keys(), SessionKind::Backup, "forger").unwrap();
    let options = WriterOptions {
        threads: 1,
        level: 1,
        verify: false,
        dry_run: false,
        frame_target_bytes: 1 << 20,
        pack_data_bytes: 1 << 20,
        pack_meta_bytes: 1 << 20,
        isolate_owners: false,
        parity_percent: 0,
    };
    let sealing = Sealing::new(&store, session.id(), options);
    let subtree = pipeline::scope(|scope| {
        let mut forger = Forger { writer: sealing.start(scope)?, store: &store };
        let subtree = build(&mut forger);
        forger.writer.finish()?;
        Ok(subtree)
    })
    .unwrap();
    let root = Root { tree: Some(subtree.root), entries: subtree.entries, bytes: subtree.bytes };
    let tree = sealing.finish(root, &store.view()).unwrap();
    let record = session.publish(&tree, honest.record().clone()).unwrap();
    let repository = bench.open();
    let selector = record.id.to_string().parse().unwrap();
    let snapshot = repository.snapshot(&selector, &Default::default()).unwrap();
    (repository, snapshot)
}

/// Restores, and proves that whatever the snapshot says was written below the target or not at all.
/// Returns whether it was said that something is wrong.
fn restore_is_contained(bench: &Bench, repository: &Repository, snapshot: &Snapshot) -> bool {
    let around = bench.path().join("around");
    let target = around.join("target");
    fs::create_dir_all(&around).unwrap();
    fs::write(around.join("neighbour"), b"untouched").unwrap();
    let heard = Ears::default();
    let result = repository.restore(snapshot, &target, &Default::default(), &heard);
    assert_eq!(names(&around), ["neighbour", "target"], "something was written beside the target");
    assert_eq!(fs::read(around.join("neighbour")).unwrap(), b"untouched");
    assert!(!Path::new("/forged").exists() && !bench.path().join("forged").exists());
    match result {
        Ok(report) => report.problems > 0 && !heard.problems().is_empty(),
        Err(Error::Bug(message)) => panic!("a panic: {message}"),
        Err(_) => true,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "target" || directory.join(name).is_dir())
        .collect();
    names.sort();
    names
}

fn check_names_it(repository: &Repository) {
    let report = repository.check(&Default::default(), &Ears::default()).unwrap();
    assert!(!report.errors.is_empty(), "check says nothing of it");
    assert!(!report.damaged_snapshots.is_empty(), "check names no snapshot");
}

#[test]
fn names_that_lead_out_of_the_target_are_refused() {
    let long = vec![b'n'; 5000];
    let bad: [&[u8]; 9] = [b"", b".", b"..", b"/forged", b"../forged", b"a/../../forged", b"a/b", b"forged\0", &long];
    for name in bad {
        let bench = Bench::in_memory();
        let (repository, snapshot) = forge(&bench, |forger| {
            let root = forger.put(ChunkKind::Tree, &encode_leaf([misnamed(name).as_slice()].into_iter()));
            Subtree { root, entries: 1, bytes: 4 }
        });
        assert!(restore_is_contained(&bench, &repository, &snapshot), "{name:?} was restored without a word");
        check_names_it(&repository);
        let listed = repository.list(&snapshot, b"", true, &mut |_, _| ControlFlow::Continue(()));
        assert!(listed.is_err(), "{name:?} was listed");
    }
}

#[test]
fn a_name_that_comes_twice_cannot_turn_a_link_into_a_directory() {
    let bench = Bench::in_memory();
    let outside = bench.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.clone().into_os_string().into_encoded_bytes();
    let (repository, snapshot) = forge(&bench, |forger| {
        let inside = forger.directory(&[file(b"planted", b"evil")]);
        let link = node(b"x", NodeKind::Symlink, 0, Content::Symlink(target));
        forger.directory(&[link, directory(b"x", inside)])
    });
    assert!(restore_is_contained(&bench, &repository, &snapshot));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "a file was planted through the link");
    check_names_it(&repository);
}

#[test]
fn a_few_nodes_that_mean_billions_of_entries_end_at_what_the_snapshot_says() {
    let bench = Bench::in_memory();
    let (repository, snapshot) = forge(&bench, |forger| {
        let mut below = forger.directory(&[file(b"leaf", b"x")]);
        for _ in 0..16 {
            let nodes: Vec<Node> = (b'a'..=b'p').map(|name| directory(&[name], below)).collect();
            below = forger.directory(&nodes);
        }
        Subtree { entries: 100, ..below }
    });
    assert!(restore_is_contained(&bench, &repository, &snapshot));
    let mut listed = 0u64;
    let result = repository.list(&snapshot, b"", true, &mut |_, _| {
        listed += 1;
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(Error::Limit { .. } | Error::Malformed(_))), "{result:?} after {listed} entries");
    assert!(listed < 10_000, "{listed} entries were listed of a snapshot that says it has 100");
    // A check looks at each node once, however often it is referred to.
    repository.check(&Default::default(), &Ears::default()).unwrap();
}

#[test]
fn directories_deeper_than_the_limit_end_in_a_word_and_not_in_the_stack() {
    let bench = Bench::in_memory();
    let (repository, snapshot) = forge(&bench, |forger| {
        let mut below = forger.directory(&[file(b"leaf", b"x")]);
        for depth in 0..6000 {
            below = forger.directory(&[directory(b"d", below)]);
            below.entries = depth + 2;
        }
        below
    });
    assert!(restore_is_contained(&bench, &repository, &snapshot));
    check_names_it(&repository);
    assert!(repository.list(&snapshot, b"", true, &mut |_, _| ControlFlow::Continue(())).is_err());
}

#[test]
fn levels_that_do_not_descend_are_refused() {
    let bench = Bench::in_memory();
    let (repository, snapshot) = forge(&bench, |forger| {
        let leaf = forger.directory(&[file(b"a", b"x")]);
        let child = |subtree, name: &[u8]| Child { subtree, first_name: name.to_vec() };
        let low = forger.put(ChunkKind::Tree, &encode_branch(1, &[child(leaf, b"a")]));
        let low = Subtree { root: low, entries: 1, bytes: 0 };
        // A branch of level 5 whose child is of level 1.
        let root = forger.put(ChunkKind::Tree, &encode_branch(5, &[child(low, b"a")]));
        Subtree { root, entries: 1, bytes: 0 }
    });
    assert!(restore_is_contained(&bench, &repository, &snapshot));
    check_names_it(&repository);
}

#[test]
fn lengths_that_overflow_or_contradict_each_other_are_refused() {
    let hole = |length| Extent { length, kind: ExtentKind::Hole };
    let bench = Bench::in_memory();
    let (repository, snapshot) = forge(&bench, |forger| {
        let leaf = ListNode::Leaf(vec![hole(10)]).encode();
        let leaf = forger.put(ChunkKind::List, &leaf);
        let children = vec![ListChild { id: leaf, bytes: 1 << 40, chunks: 1 }; 3];
        let root = forger.put(ChunkKind::List, &ListNode::Branch { level: 1, children }.encode());
        let content = Content::List { root, depth: 1, chunks: 3 };
        forger.directory(&[node(b"evil", NodeKind::File, 3 << 40, content)])
    });
    assert!(restore_is_contained(&bench, &repository, &snapshot));
    check_names_it(&repository);
}

fn child(root: ChunkId, first_name: &[u8], entries: u64) -> Child {
    Child { subtree: Subtree { root, entries, bytes: 0 }, first_name: first_name.to_vec() }
}

/// One leaf of a directory is nowhere. What comes behind it is looked at, down to the content of its files, and of the lost
/// leaf itself is said where it was and how much it held.
#[test]
fn a_lost_leaf_does_not_hide_what_comes_behind_it() {
    let bench = Bench::in_memory();
    let (leaf, chunk) = (ChunkId([0x4c; 32]), ChunkId([0x5c; 32]));
    let (repository, snapshot) = forge(&bench, |forger| {
        let first = forger.directory(&[file(b"a", b"1"), file(b"b", b"2")]);
        let content = Content::Extents(vec![Extent { length: 9, kind: ExtentKind::Data(chunk) }]);
        let last = forger.directory(&[node(b"y", NodeKind::File, 9, content), file(b"z", b"3")]);
        let children = [child(first.root, b"a", 2), child(leaf, b"m", 5), child(last.root, b"y", 2)];
        let inner = Subtree { root: forger.put(ChunkKind::Tree, &encode_branch(1, &children)), entries: 9, bytes: 0 };
        forger.directory(&[directory(b"inner", inner)])
    });
    let report = repository.check(&Default::default(), &Ears::default()).unwrap();
    assert_eq!(report.damaged_snapshots, [snapshot.id()]);
    let found: Vec<_> = report.damage.iter().map(|damage| (damage.object, damage.touched.as_slice())).collect();
    let [(Damaged::Chunk(one), [hidden]), (Damaged::Chunk(other), [hurt])] = found[..] else { panic!("{found:?}") };
    assert_eq!((one, other), (leaf, chunk));
    let entries = Loss::Entries { from: b"m".to_vec(), count: 5 };
    assert_eq!((hidden.path.as_slice(), &hidden.loss), (&b"/inner"[..], &entries));
    assert_eq!((hurt.path.as_slice(), &hurt.loss), (&b"/inner/y"[..], &Loss::Content));
}

/// Branches that name one lost leaf, and each other, many times over unfold to 16^12 ways to it. Names must ascend on all
/// of them, so one is gone.
#[test]
fn lost_leaves_that_are_shared_many_times_over_are_not_all_looked_for() {
    let bench = Bench::in_memory();
    let (repository, _) = forge(&bench, |forger| {
        let mut below = ChunkId([0x4c; 32]);
        for level in 1..=12 {
            let children: Vec<_> = (0..16u8).map(|number| child(below, &[b'a' + number], 1)).collect();
            below = forger.put(ChunkKind::Tree, &encode_branch(level, &children));
        }
        Subtree { root: below, entries: u64::MAX, bytes: 0 }
    });
    check_names_it(&repository);
}

/// The same of a file's chunk list.
#[test]
fn lost_parts_of_a_list_that_are_shared_many_times_over_are_not_all_looked_for() {
    let bench = Bench::in_memory();
    let (repository, _) = forge(&bench, |forger| {
        let (mut below, mut bytes) = (ChunkId([0x4c; 32]), 1);
        for level in 1..=6 {
            let children = vec![ListChild { id: below, bytes, chunks: 1 }; 200];
            below = forger.put(ChunkKind::List, &ListNode::Branch { level, children }.encode());
            bytes *= 200;
        }
        let content = Content::List { root: below, depth: 6, chunks: 1 };
        forger.directory(&[node(b"file", NodeKind::File, bytes, content)])
    });
    check_names_it(&repository);
}
