//! Two promises of every decoder, over generated input: what a writer can make reads back the same; and whatever bytes
//! come, they are refused or encode to themselves again.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::config::Config;
use super::header::Header;
use super::index::IndexBlock;
use super::key_slot::{KeySlot, SlotBody};
use super::keyring::Keyring;
use super::list::{ListChild, ListNode};
use super::marker::Marker;
use super::pack::{ChunkRecord, Codec, Footer, FrameRecord, Trailer};
use super::session::Session;
use super::snapshot::SnapshotRecord;
use super::tree::{
    Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, TreeNode, Xattrs, decode_tree_node,
    decode_xattrs, encode_branch, encode_xattrs,
};
use super::vectors::{encode_nodes, vector};
use super::xattrs::XattrList;
use super::{Extensions, FILE_BYTES_MAX};
use crate::error::Corruption;
use crate::id::{ChunkId, ChunkKind, SnapshotId};

/// Reads and writes again.
type Recode = fn(&[u8]) -> Result<Vec<u8>, Corruption>;

/// Each structure's vectors, and how they are read and written again. `true`: it ends with a hash of what is before.
fn structures() -> Vec<(Vec<u8>, bool, Recode)> {
    fn recode_tree(bytes: &[u8]) -> Result<Vec<u8>, Corruption> {
        decode_tree_node(bytes).map(|node| match node {
            TreeNode::Leaf(nodes) => encode_nodes(&nodes),
            TreeNode::Branch { level, children } => encode_branch(level, &children),
        })
    }
    fn snapshot(bytes: &[u8]) -> Result<Vec<u8>, Corruption> {
        SnapshotRecord::decode(bytes).map(|value| value.encode())
    }
    fn list(bytes: &[u8]) -> Result<Vec<u8>, Corruption> {
        ListNode::decode(bytes).map(|value| value.encode())
    }
    fn slot(bytes: &[u8]) -> Result<Vec<u8>, Corruption> {
        KeySlot::decode(bytes).map(|value| value.encode())
    }
    vec![
        (vector!("header"), false, |bytes| {
            // More than a header may be given: only the first bytes are one.
            Header::decode(bytes).map(|value| [&value.encode()[..], bytes.get(80..).unwrap_or_default()].concat())
        }),
        (vector!("marker"), true, |bytes| Marker::decode(bytes).map(|value| value.encode().to_vec())),
        (vector!("key_slot_argon2id"), true, slot),
        (vector!("key_slot_raw"), true, slot),
        (vector!("slot_body"), false, |bytes| {
            SlotBody::decode(bytes).map(|value| value.encode().expect("it was read").to_vec())
        }),
        (vector!("config"), false, |bytes| Config::decode(bytes).map(|value| value.encode())),
        (vector!("config_weak"), false, |bytes| Config::decode(bytes).map(|value| value.encode())),
        (vector!("keyring"), false, |bytes| Keyring::decode(bytes).map(|value| value.encode())),
        (vector!("session"), false, |bytes| Session::decode(bytes).map(|value| value.encode())),
        (vector!("snapshot_full"), false, snapshot),
        (vector!("snapshot_incremental"), false, snapshot),
        (vector!("footer"), false, |bytes| Footer::decode(bytes).map(|value| value.encode())),
        (vector!("trailer"), false, |bytes| Trailer::decode(bytes).map(|value| value.encode().to_vec())),
        (vector!("index_block"), false, |bytes| IndexBlock::decode(bytes).map(|value| value.encode())),
        (vector!("tree_leaf"), false, recode_tree),
        (vector!("tree_branch"), false, recode_tree),
        (vector!("list_leaf"), false, list),
        (vector!("list_branch"), false, list),
        (vector!("xattrs"), false, |bytes| decode_xattrs(bytes).map(|value| encode_xattrs(&value))),
    ]
}

fn refused_or_itself(bytes: &[u8], recode: Recode) {
    if let Ok(again) = recode(bytes) {
        assert_eq!(hex::encode(again), hex::encode(bytes));
    }
}

/// Restores the hash at the end, so that what it covers is looked at.
fn repair_hash(bytes: &mut [u8]) {
    if let Some((covered, hash)) = bytes.split_last_chunk_mut::<32>() {
        *hash = *blake3::hash(covered).as_bytes();
    }
}

#[test]
fn every_prefix_of_a_vector_is_refused_and_so_is_a_byte_more() {
    for (number, (bytes, hashed, recode)) in structures().into_iter().enumerate() {
        for length in 0..bytes.len() {
            assert!(recode(&bytes[..length]).is_err(), "structure {number}, {length} bytes");
        }
        let mut longer = [bytes, vec![0]].concat();
        if hashed {
            repair_hash(&mut longer);
        }
        // The header alone stands before other bytes.
        assert_eq!(recode(&longer).is_err(), number != 0, "structure {number}");
    }
}

#[test]
fn every_single_bit_changed_is_refused_or_another_value() {
    for (bytes, hashed, recode) in structures() {
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if hashed {
                assert!(recode(&changed).is_err());
                repair_hash(&mut changed);
            }
            refused_or_itself(&changed, recode);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_a_value(bytes in vec(any::<u8>(), 0..600)) {
        for (_, _, recode) in structures() {
            refused_or_itself(&bytes, recode);
        }
    }

    /// Overwrites a few places with the numbers that decoders stumble over, cuts out, and puts in.
    #[test]
    fn mutated_vectors_are_refused_or_another_value(
        overwritten in vec((any::<Index>(), prop_oneof![Just(0), Just(1), 250_u8..=255, any::<u8>()]), 0..4),
        removed in option::of((any::<Index>(), 1_usize..40)),
        inserted in option::of((any::<Index>(), vec(any::<u8>(), 1..40))),
    ) {
        for (mut bytes, hashed, recode) in structures() {
            for (place, value) in &overwritten {
                *place.get_mut(&mut bytes) = *value;
            }
            if let Some((place, length)) = removed {
                let start = place.index(bytes.len());
                bytes.drain(start..(start + length).min(bytes.len()));
            }
            if let Some((place, more)) = &inserted {
                let start = place.index(bytes.len() + 1);
                bytes.splice(start..start, more.iter().copied());
            }
            if hashed {
                repair_hash(&mut bytes);
            }
            refused_or_itself(&bytes, recode);
        }
    }

    #[test]
    fn a_leaf_reads_back(nodes in vec(node(), 1..8)) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        let sum = |node: &Node| match &node.content {
            Content::Directory(subtree) => subtree.bytes,
            _ => node.metadata.size,
        };
        prop_assume!(nodes.iter().try_fold(0_u64, |total, node| total.checked_add(sum(node))).is_some());
        prop_assert_eq!(decode_tree_node(&encode_nodes(&nodes)), Ok(TreeNode::Leaf(nodes)));
    }

    #[test]
    fn a_list_leaf_reads_back(extents in vec(extent(), 1..40)) {
        let node = ListNode::Leaf(extents);
        prop_assert_eq!(ListNode::decode(&node.encode()), Ok(node));
    }

    #[test]
    fn a_list_branch_reads_back(level in 1_u8..=6, children in vec((any::<[u8; 32]>(), 1..1_u64 << 50, 0..1_u64 << 50), 1..40)) {
        let children = children.into_iter().map(|(id, bytes, chunks)| ListChild { id: ChunkId(id), bytes, chunks }).collect();
        let node = ListNode::Branch { level, children };
        prop_assert_eq!(ListNode::decode(&node.encode()), Ok(node));
    }

    #[test]
    fn a_footer_reads_back(frames in vec((1_u32..5000, any::<bool>(), vec(1_u32..9000, 1..6)), 0..20), writer: [u8; 16]) {
        let footer = footer(&frames, SnapshotId(writer));
        prop_assert_eq!(Footer::decode(&footer.encode()), Ok(footer));
    }

    #[test]
    fn attributes_read_back(xattrs in xattrs(20)) {
        prop_assert_eq!(decode_xattrs(&encode_xattrs(&xattrs)), Ok(xattrs));
    }

    #[test]
    fn a_snapshot_reads_back(
        texts in vec("\\PC{0,12}", 0..5),
        paths in vec(vec(any::<u8>(), 0..300), 0..5),
        times: (i64, i64),
        numbers: [u64; 3],
        extensions in extensions(),
    ) {
        let mut record = super::vectors::sample_snapshot();
        record.host = texts.concat();
        (record.excludes, record.tags) = (texts.clone(), texts);
        record.paths = paths;
        (record.start_ns, record.end_ns) = times;
        [record.sequence, record.root.bytes, record.summary.read_bytes] = numbers;
        record.extensions = extensions;
        prop_assert_eq!(SnapshotRecord::decode(&record.encode()), Ok(record));
    }
}

fn footer(frames: &[(u32, bool, Vec<u32>)], writer: SnapshotId) -> Footer {
    let mut footer = Footer { writer, data_end: 80, frames: Vec::new(), chunks: Vec::new() };
    for (stored, raw, lengths) in frames {
        let first_chunk = footer.chunks.len() as u32;
        let mut offset = 0;
        for length in lengths {
            let kind = if *raw { ChunkKind::Tree } else { ChunkKind::Data };
            let id = ChunkId([footer.chunks.len() as u8; 32]);
            footer.chunks.push(ChunkRecord { id, offset, length: *length, kind });
            offset += length;
        }
        let codec = if *raw { Codec::Raw } else { Codec::Zstd };
        let stored_length = stored + 24;
        footer.frames.push(FrameRecord {
            offset: footer.data_end as u32,
            stored_length,
            raw_length: offset,
            codec,
            first_chunk,
        });
        footer.data_end += u64::from(stored_length);
    }
    footer
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("no separator", |byte| !matches!(byte, b'/' | 0)), 1..20)
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        (any::<[u8; 32]>(), 1..=16_u64 << 20)
            .prop_map(|(id, length)| Extent { length, kind: ExtentKind::Data(ChunkId(id)) }),
        (any::<bool>(), 1..1_u64 << 50)
            .prop_map(|(zero, length)| Extent { length, kind: if zero { ExtentKind::Zero } else { ExtentKind::Hole } }),
    ]
}

fn xattrs(count: usize) -> impl Strategy<Value = XattrList> {
    proptest::collection::btree_map(vec(1_u8.., 1..20), vec(any::<u8>(), 0..100), 0..count)
        .prop_map(|map| map.into_iter().collect())
}

fn extensions() -> impl Strategy<Value = Extensions> {
    proptest::collection::btree_map(0_u16..0x8000, vec(any::<u8>(), 0..20), 0..3)
        .prop_map(|map| map.into_iter().collect())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), 0..2_000_000_000_i64], 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let owner = || prop_oneof![Just(Vec::new()), Just(b"root".to_vec()), vec(any::<u8>(), 1..10)];
    let small = || prop_oneof![Just(0_u64), Just(1), any::<u64>()];
    let times = (timestamp(), option::of(timestamp()), option::of(timestamp()), option::of(timestamp()));
    let numbers = (small(), small(), 0..4_u32, small(), 0..3_u32, any::<bool>());
    ((0..0o10000_u32, 0..3_u32, 0..3_u32), (owner(), owner()), times, numbers).prop_map(
        |((mode, uid, gid), (user, group), (modified, changed, born, accessed), numbers)| {
            let (inode, device, links, special_device, flags, unstable) = numbers;
            let changed = changed.unwrap_or(modified);
            let (kind, size) = (NodeKind::Fifo, 0);
            Metadata {
                kind,
                mode,
                uid,
                gid,
                user,
                group,
                modified,
                changed,
                born,
                accessed,
                inode,
                device,
                links,
                size,
                special_device,
                flags,
                unstable,
            }
        },
    )
}

/// A content with the kind of node that has it, and the size that follows.
fn content() -> impl Strategy<Value = (NodeKind, Content, u64)> {
    let sum = |extents: &[Extent]| extents.iter().map(|extent| extent.length).sum();
    let kinds = [
        NodeKind::File,
        NodeKind::Directory,
        NodeKind::Fifo,
        NodeKind::Socket,
        NodeKind::BlockDevice,
        NodeKind::CharDevice,
    ];
    prop_oneof![
        proptest::sample::select(kinds.to_vec()).prop_map(|kind| (kind, Content::None, 0)),
        vec(any::<u8>(), 1..=512).prop_map(|bytes| (
            NodeKind::File,
            Content::Inline(bytes.clone()),
            bytes.len() as u64
        )),
        vec(extent(), 1..=64).prop_map(move |extents| (
            NodeKind::File,
            Content::Extents(extents.clone()),
            sum(&extents)
        )),
        (any::<[u8; 32]>(), 0..=6_u8, any::<u64>(), 0..=FILE_BYTES_MAX).prop_map(|(root, depth, chunks, size)| (
            NodeKind::File,
            Content::List { root: ChunkId(root), depth, chunks },
            size
        )),
        (any::<[u8; 32]>(), 1_u64.., any::<u64>()).prop_map(|(root, entries, bytes)| (
            NodeKind::Directory,
            Content::Directory(Subtree { root: ChunkId(root), entries, bytes }),
            0
        )),
        vec(any::<u8>(), 0..300).prop_map(|target| (NodeKind::Symlink, Content::Symlink(target), 0)),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let attributes =
        prop_oneof![xattrs(4).prop_map(Xattrs::Inline), any::<[u8; 32]>().prop_map(|id| Xattrs::Chunk(ChunkId(id)))];
    (name(), metadata(), content(), attributes, extensions()).prop_map(
        |(name, mut metadata, (kind, content, size), xattrs, extensions)| {
            (metadata.kind, metadata.size) = (kind, size);
            Node { name, metadata, content, xattrs, extensions }
        },
    )
}
