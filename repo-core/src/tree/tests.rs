//! Shapes of trees and lists, and reading them back from a real store.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::backend::Memory;
use crate::crypto::Secret;
use crate::format::tree::{
    Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs, encode_node,
};
use crate::pipeline;
use crate::repository::{InitOptions, Repository};
use crate::store::{Sealing, Session, SessionKind, Store, Writer, WriterOptions};

/// Counts what a builder stores, and keeps nothing.
#[derive(Default)]
struct Counting {
    ids: HashSet<ChunkId>,
    new: usize,
}

impl ChunkSink for Counting {
    fn put(&mut self, _: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId(*blake3::hash(&bytes).as_bytes());
        self.new += usize::from(self.ids.insert(id));
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        blake3::hash(name).as_bytes()[0] == 0
    }
}

/// Stores what a builder makes.
struct Storing<'a, 'scope, 's> {
    writer: Writer<'scope, 's>,
    store: &'a Store,
}

impl ChunkSink for Storing<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.store.keys().chunk_id(kind, &bytes);
        self.writer.put(kind, id, &bytes, false, 0, &self.store.view())?;
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.store.keys().splits_tree_after(name)
    }
}

fn node(name: String, size: u64) -> Node {
    let metadata = Metadata {
        uid: 1000,
        gid: 1000,
        user: b"someone".to_vec(),
        group: b"some".to_vec(),
        modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
        changed: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
        inode: size,
        device: 1,
        size,
        ..Metadata::unknown(NodeKind::File, 0o644)
    };
    let kind = ExtentKind::Data(ChunkId([7; 32]));
    let content = if size == 0 { Content::None } else { Content::Extents(vec![Extent { length: size, kind }]) };
    Node { name: name.into_bytes(), metadata, content, xattrs: Xattrs::Inline(Vec::new()), extensions: Vec::new() }
}

fn build(nodes: &[Node], sink: &mut dyn ChunkSink) -> Option<Subtree> {
    let mut builder = TreeBuilder::new();
    for node in nodes {
        builder.push(node, sink).unwrap();
    }
    builder.finish(sink).unwrap()
}

/// Stores by `build` and hands the store to `look`.
fn stored<T>(build: impl FnOnce(&mut dyn ChunkSink) -> T, look: impl FnOnce(&Store, T)) {
    let (secret, _) = Secret::generate_key().unwrap();
    let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::default()).unwrap();
    let store = repository.store().unwrap();
    let session = Session::register(store.backend(), store.keys(), SessionKind::Backup, "test").unwrap();
    let options = WriterOptions {
        threads: 2,
        level: 1,
        verify: true,
        dry_run: false,
        frame_target_bytes: 64 << 10,
        pack_data_bytes: 1 << 20,
        pack_meta_bytes: 256 << 10,
        isolate_owners: true,
        parity_percent: 0,
    };
    let sealing = Sealing::new(&store, session.id(), options);
    let built = pipeline::scope(|scope| {
        let mut sink = Storing { writer: sealing.start(scope)?, store: &store };
        let built = build(&mut sink);
        sink.writer.finish()?;
        Ok(built)
    });
    let root = crate::format::snapshot::Root { tree: None, entries: 0, bytes: 0 };
    sealing.finish(root, &store.view()).unwrap();
    store.reload().unwrap();
    look(&store, built.unwrap());
}

#[test]
fn one_change_among_a_hundred_thousand_entries_writes_one_node_a_level() {
    let mut nodes: Vec<Node> = (0..100_000).map(|number| node(format!("file-{number:06}"), number)).collect();
    let mut sink = Counting::default();
    let before = build(&nodes, &mut sink).unwrap();
    assert!(sink.new > 50, "a hundred thousand entries are many nodes, not {}", sink.new);
    sink.new = 0;
    nodes[50_000].metadata.mode = 0o600;
    let after = build(&nodes, &mut sink).unwrap();
    assert_ne!(before.root, after.root);
    assert!(sink.new <= 4, "{} nodes were rewritten", sink.new);
    sink.new = 0;
    nodes.remove(10);
    build(&nodes, &mut sink);
    assert!(sink.new <= 5, "{} nodes were rewritten after a removal", sink.new);
}

#[test]
fn an_empty_directory_has_no_tree_and_counts_are_kept() {
    let mut sink = Counting::default();
    assert_eq!(build(&[], &mut sink), None);
    let subtree = build(&[node("a".into(), 3), node("b".into(), 4)], &mut sink).unwrap();
    assert_eq!((subtree.entries, subtree.bytes), (2, 7));
}

#[test]
fn every_entry_is_read_back_in_order_and_found_by_name() {
    let nodes: Vec<Node> = (0..20_000).map(|number| node(format!("{number:05}"), number)).collect();
    stored(
        |sink| build(&nodes, sink).unwrap(),
        |store, subtree| {
            let read: Vec<Node> = super::nodes(store, Some(&subtree)).map(Result::unwrap).collect();
            assert_eq!(read, nodes);
            for name in ["00000", "00001", "10000", "19999"] {
                assert_eq!(find(store, Some(&subtree), name.as_bytes()).unwrap().unwrap().name, name.as_bytes());
            }
            for name in ["", "0", "00000a", "2", "zz"] {
                assert!(find(store, Some(&subtree), name.as_bytes()).unwrap().is_none(), "{name}");
            }
            // A directory that says it has fewer entries than it has is not believed.
            let fewer = Subtree { entries: 10, ..subtree };
            assert!(super::nodes(store, Some(&fewer)).any(|node| node.is_err()));
        },
    );
}

fn data(number: u64) -> Extent {
    Extent {
        length: 1000 + number % 7,
        kind: ExtentKind::Data(ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())),
    }
}

fn content(extents: &[Extent], sink: &mut dyn ChunkSink) -> Content {
    let mut builder = ContentBuilder::new();
    for extent in extents {
        builder.push(*extent, sink).unwrap();
    }
    builder.finish(sink).unwrap()
}

#[test]
fn an_insertion_at_the_head_of_a_long_list_rewrites_few_of_its_nodes() {
    let mut extents: Vec<Extent> = (0..300_000).map(data).collect();
    let mut sink = Counting::default();
    assert!(matches!(content(&extents, &mut sink), Content::List { depth: 1, chunks: 300_000, .. }));
    let all = std::mem::take(&mut sink.new);
    extents.insert(0, data(1_000_000));
    content(&extents, &mut sink);
    assert!(all > 100 && sink.new <= 10, "{} of {all} nodes were rewritten", sink.new);
}

#[test]
fn runs_of_zeros_and_holes_are_one_extent_each_and_not_of_each_other() {
    let zero = |length| Extent { length, kind: ExtentKind::Zero };
    let hole = |length| Extent { length, kind: ExtentKind::Hole };
    let mut sink = Counting::default();
    let content = content(&[zero(1), zero(2), hole(3), hole(4), zero(5), data(1), hole(6)], &mut sink);
    assert_eq!(content, Content::Extents(vec![zero(3), hole(7), zero(5), data(1), hole(6)]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn extents_from_any_offset_are_those_of_a_naive_scan(
        kinds in proptest::collection::vec(0u8..12, 0..3000),
        offsets in proptest::collection::vec(0.0f64..1.1, 1..20),
    ) {
        // Neighbours differ, so that nothing is joined.
        let extents: Vec<Extent> = kinds
            .iter()
            .enumerate()
            .map(|(position, kind)| match (kind, position % 2) {
                (0, 0) => Extent { length: 4096, kind: ExtentKind::Hole },
                (1, 1) => Extent { length: 8192, kind: ExtentKind::Zero },
                _ => data(position as u64),
            })
            .collect();
        let total: u64 = extents.iter().map(|extent| extent.length).sum();
        stored(
            |sink| content(&extents, sink),
            |store, content| {
                for share in offsets {
                    let offset = (total as f64 * share) as u64;
                    let mut position = 0;
                    let mut expected = Vec::new();
                    for extent in &extents {
                        if position + extent.length > offset {
                            expected.push((position, *extent));
                        }
                        position += extent.length;
                    }
                    let read: Vec<_> = super::extents(store, &content, offset).map(Result::unwrap).collect();
                    assert_eq!(read, expected);
                }
            },
        );
    }
}

/// The length of a record was once counted twice, so that leaves were closed a record early.
#[test]
fn a_leaf_is_filled_to_its_last_byte() {
    // Four records of this length, their own lengths in front, are all that a leaf may hold.
    let length = (131_072 - 8) / 4 - 4;
    let long = |name: &str, length: usize| {
        let mut long = node(name.into(), 0);
        long.metadata.kind = NodeKind::Symlink;
        let mut record = Vec::new();
        long.content = Content::Symlink(vec![b't'; 32_000]);
        encode_node(&long, &mut record);
        long.content = Content::Symlink(vec![b't'; 32_000 + length - record.len()]);
        long
    };
    let nodes_of = |lengths: [usize; 4]| {
        let nodes: Vec<_> = ["a", "b", "c", "d"].iter().zip(lengths).map(|(name, length)| long(name, length)).collect();
        let mut sink = Counting::default();
        build(&nodes, &mut sink);
        sink.new
    };
    assert_eq!(nodes_of([length; 4]), 1, "all in one leaf");
    assert_eq!(nodes_of([length, length, length, length + 1]), 3, "one byte more: two leaves and a branch");
}

#[test]
fn pages_in_a_row_hold_every_entry_once_and_each_answers_for_its_names() {
    let nodes: Vec<Node> = (0..20_000).map(|number| node(format!("{number:05}"), number)).collect();
    stored(
        |sink| build(&nodes, sink).unwrap(),
        |store, subtree| {
            let (mut read, mut pages, mut from) = (Vec::new(), 0, Some(Vec::new()));
            while let Some(name) = from {
                let page = page(store, Some(&subtree), &name).unwrap();
                assert_eq!(page.from, name, "it begins where the one before it ended");
                read.extend(page.nodes);
                (pages, from) = (pages + 1, page.next);
            }
            assert!(pages > 5 && read == nodes, "{pages} pages of {} entries", read.len());
            for name in ["", "0", "00000a", "12345", "19999", "zz"] {
                let page = page(store, Some(&subtree), name.as_bytes()).unwrap();
                assert!(page.from.as_slice() <= name.as_bytes());
                assert!(page.next.is_none_or(|next| next.as_slice() > name.as_bytes()), "{name}");
                let inside: Vec<_> = page.nodes.iter().filter(|node| node.name == name.as_bytes()).collect();
                let there = nodes.iter().filter(|node| node.name == name.as_bytes());
                assert!(inside.into_iter().eq(there), "{name}");
            }
            assert!(page(store, None, b"a").unwrap().nodes.is_empty());
        },
    );
}

/// One leaf in the place of many would let a directory unfold without end.
#[test]
fn a_leaf_that_stands_in_two_places_is_no_page_of_either() {
    use crate::format::tree::{Child, encode_branch, encode_leaf};
    stored(
        |sink| {
            let mut record = Vec::new();
            encode_node(&node("b".into(), 1), &mut record);
            let leaf = sink.put(ChunkKind::Tree, encode_leaf([record.as_slice()].into_iter())).unwrap();
            let subtree = Subtree { root: leaf, entries: 1, bytes: 1 };
            let child = |name: &str| Child { subtree, first_name: name.into() };
            let root = sink.put(ChunkKind::Tree, encode_branch(1, &[child("b"), child("c"), child("d")])).unwrap();
            Subtree { root, entries: 3, bytes: 3 }
        },
        |store, subtree| {
            assert_eq!(page(store, Some(&subtree), b"a").unwrap().next, Some(b"c".to_vec()));
            for name in [b"c", b"d"] {
                assert!(page(store, Some(&subtree), name).is_err());
            }
        },
    );
}
