//! Nodes of a directory's Merkle B-tree: the ordered entries of one directory, in chunks of kind `Tree`.
//! Where a node is split is `crate::tree`'s business.

use bytes::Bytes;

use super::cursor::Cursor;
use super::node::RECORD_BYTES_MIN;
pub use super::node::{
    Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, check_name, decode_node, encode_node,
};
pub use super::xattrs::{Xattrs, decode_xattrs, encode_xattrs};
use super::{TREE_LEVEL_MAX, TREE_NODE_BYTES_MAX};
use crate::error::Corruption;
use crate::id::ChunkId;

/// A node of the B-tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeNode {
    Leaf(Vec<Node>),
    /// Level at least 1.
    Branch {
        level: u8,
        children: Vec<Child>,
    },
}

/// A child of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    pub subtree: Subtree,
    pub first_name: Vec<u8>,
}

/// Version of a tree node's layout.
const VERSION: u8 = 1;

/// A leaf of already encoded records, ascending by name: `u8 version 1 ‖ u8 level 0 ‖ u16 0 ‖ u32 count`, then `u32 length ‖
/// record` each.
pub fn encode_leaf<'a>(records: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = prefix(0, records.len());
    for record in records {
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    out
}

/// A branch: the same eight bytes with its level, then `root[32] ‖ u64 entries ‖ u64 bytes ‖ u16 length ‖ first name` each.
pub fn encode_branch(level: u8, children: &[Child]) -> Vec<u8> {
    let mut out = prefix(level, children.len());
    for child in children {
        out.extend_from_slice(&child.subtree.root.0);
        out.extend_from_slice(&child.subtree.entries.to_le_bytes());
        out.extend_from_slice(&child.subtree.bytes.to_le_bytes());
        out.extend_from_slice(&(child.first_name.len() as u16).to_le_bytes());
        out.extend_from_slice(&child.first_name);
    }
    out
}

/// Bytes before a node's items.
pub const TREE_PREFIX_LENGTH: usize = 8;
/// Bytes of a branch's item without its name.
pub const CHILD_LENGTH: usize = 32 + 8 + 8 + 2;

fn prefix(level: u8, count: usize) -> Vec<u8> {
    let mut out = vec![VERSION, level, 0, 0];
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out
}

/// Either kind of node. Names must ascend strictly; sums must not overflow.
pub fn decode_tree_node(bytes: &[u8]) -> Result<TreeNode, Corruption> {
    let (mut cursor, level, count) = open_node(bytes)?;
    let node = if level == 0 { decode_leaf(&mut cursor, count)? } else { decode_branch(&mut cursor, level, count)? };
    cursor.finish()?;
    Ok(node)
}

/// The records of a leaf as they stand, for those who compare before they decode: what they say is not looked at, nor that
/// their names ascend. `None`: a branch.
pub fn leaf_records(bytes: &Bytes) -> Result<Option<Vec<Bytes>>, Corruption> {
    let (mut cursor, level, count) = open_node(bytes)?;
    if level > 0 {
        return Ok(None);
    }
    let count = count_of_records(&cursor, count)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(bytes.slice_ref(next_record(&mut cursor)?));
    }
    cursor.finish()?;
    Ok(Some(records))
}

/// Behind the eight bytes at the beginning of a node: its items, its level, and how many they are said to be.
fn open_node(bytes: &[u8]) -> Result<(Cursor<'_>, u8, u64), Corruption> {
    if bytes.len() > TREE_NODE_BYTES_MAX {
        return Err(Corruption::OverLimit("tree node"));
    }
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u8()?;
    if version != VERSION {
        return Err(Corruption::Unknown { field: "tree node version", value: version.into() });
    }
    let level = cursor.u8()?;
    cursor.zeros(2)?;
    let count = cursor.u32()?.into();
    if level > TREE_LEVEL_MAX {
        return Err(Corruption::OverLimit("level of a tree"));
    }
    if count == 0 {
        return Err(Corruption::Malformed("tree node: empty"));
    }
    Ok((cursor, level, count))
}

fn count_of_records(cursor: &Cursor<'_>, count: u64) -> Result<usize, Corruption> {
    cursor.count(count, 4 + RECORD_BYTES_MIN, TREE_NODE_BYTES_MAX, "count of nodes")
}

fn next_record<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Corruption> {
    let length = cursor.u32()? as usize;
    cursor.bytes(length)
}

fn decode_leaf(cursor: &mut Cursor<'_>, count: u64) -> Result<TreeNode, Corruption> {
    let count = count_of_records(cursor, count)?;
    let mut nodes: Vec<Node> = Vec::with_capacity(count);
    let mut bytes = 0_u64;
    for _ in 0..count {
        let node = decode_node(next_record(cursor)?)?;
        if nodes.last().is_some_and(|last| last.name >= node.name) {
            return Err(Corruption::Malformed("order of names"));
        }
        let more = if let Content::Directory(subtree) = &node.content { subtree.bytes } else { node.metadata.size };
        bytes = bytes.checked_add(more).ok_or(Corruption::OverLimit("sum of bytes"))?;
        nodes.push(node);
    }
    Ok(TreeNode::Leaf(nodes))
}

fn decode_branch(cursor: &mut Cursor<'_>, level: u8, count: u64) -> Result<TreeNode, Corruption> {
    let count = cursor.count(count, CHILD_LENGTH + 1, TREE_NODE_BYTES_MAX, "count of children")?;
    let mut children: Vec<Child> = Vec::with_capacity(count);
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    for _ in 0..count {
        let subtree = Subtree { root: ChunkId(cursor.array()?), entries: cursor.u64()?, bytes: cursor.u64()? };
        let length = cursor.u16()?.into();
        let first_name = cursor.bytes(length)?.to_vec();
        check_name(&first_name)?;
        if children.last().is_some_and(|last| last.first_name >= first_name) {
            return Err(Corruption::Malformed("order of names"));
        }
        if subtree.entries == 0 {
            return Err(Corruption::Malformed("tree node: empty child"));
        }
        entries = entries.checked_add(subtree.entries).ok_or(Corruption::OverLimit("sum of entries"))?;
        bytes = bytes.checked_add(subtree.bytes).ok_or(Corruption::OverLimit("sum of bytes"))?;
        children.push(Child { subtree, first_name });
    }
    Ok(TreeNode::Branch { level, children })
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{encode_nodes, sample_nodes, vector};
    use super::*;

    #[test]
    fn names_of_a_leaf_ascend_strictly() {
        const ORDER: Result<TreeNode, Corruption> = Err(Corruption::Malformed("order of names"));
        let mut nodes = sample_nodes();
        nodes.swap(2, 3);
        assert_eq!(decode_tree_node(&encode_nodes(&nodes)), ORDER);
        nodes[3] = nodes[2].clone();
        assert_eq!(decode_tree_node(&encode_nodes(&nodes)), ORDER);
    }

    fn child(first_name: &[u8], entries: u64, bytes: u64) -> Child {
        Child { subtree: Subtree { root: ChunkId([1; 32]), entries, bytes }, first_name: first_name.to_vec() }
    }

    fn branch(children: &[Child]) -> Result<(), Corruption> {
        decode_tree_node(&encode_branch(1, children)).map(drop)
    }

    #[test]
    fn names_of_a_branch_are_names_and_ascend_strictly() {
        const ORDER: Result<(), Corruption> = Err(Corruption::Malformed("order of names"));
        assert_eq!(branch(&[child(b"a", 1, 0), child(b"a\x01", 1, 0)]), Ok(()));
        assert_eq!(branch(&[child(b"b", 1, 0), child(b"a", 1, 0)]), ORDER);
        assert_eq!(branch(&[child(b"a", 1, 0), child(b"a", 1, 0)]), ORDER);
        for name in [&b""[..], b"..", b"a/b"] {
            assert_eq!(branch(&[child(name, 1, 0), child(b"zzz", 1, 0)]), Err(Corruption::Malformed("name")));
        }
        assert_eq!(branch(&[child(&[b'n'; 4097], 1, 0)]), Err(Corruption::OverLimit("name")));
    }

    #[test]
    fn sums_do_not_overflow_and_no_child_is_empty() {
        let two = |entries, bytes| branch(&[child(b"a", entries, bytes), child(b"b", 1, 1)]);
        assert_eq!(two(u64::MAX - 1, u64::MAX - 1), Ok(()));
        assert_eq!(two(u64::MAX, 0), Err(Corruption::OverLimit("sum of entries")));
        assert_eq!(two(1, u64::MAX), Err(Corruption::OverLimit("sum of bytes")));
        assert_eq!(two(0, 0), Err(Corruption::Malformed("tree node: empty child")));
    }

    #[test]
    fn versions_levels_and_counts_have_bounds() {
        let patched = |offset: usize, change: &[u8]| {
            let mut bytes = vector!("tree_branch");
            bytes[offset..][..change.len()].copy_from_slice(change);
            decode_tree_node(&bytes).map(drop)
        };
        assert_eq!(patched(0, &[0]), Err(Corruption::Unknown { field: "tree node version", value: 0 }));
        assert_eq!(patched(1, &[20]), Ok(()));
        assert_eq!(patched(1, &[21]), Err(Corruption::OverLimit("level of a tree")));
        assert_eq!(patched(2, &[1]), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(patched(4, &[0]), Err(Corruption::Malformed("tree node: empty")));
        assert_eq!(patched(4, &[3]), Err(Corruption::Truncated));
        assert_eq!(patched(4, &[0xff; 4]), Err(Corruption::OverLimit("count of children")));
        assert_eq!(patched(4, &[1]), Err(Corruption::Malformed("end: bytes are left over")));
        let long = vec![0; TREE_NODE_BYTES_MAX + 1];
        assert_eq!(decode_tree_node(&long), Err(Corruption::OverLimit("tree node")));
    }

    #[test]
    fn records_of_a_leaf_are_what_it_was_made_of_and_a_branch_has_none() {
        let nodes = sample_nodes();
        let records = leaf_records(&encode_nodes(&nodes).into()).expect("whole").expect("a leaf");
        let decoded: Vec<Node> = records.iter().map(|record| decode_node(record).expect("a record")).collect();
        assert_eq!(decoded, nodes);
        assert_eq!(leaf_records(&Bytes::from(vector!("tree_branch"))), Ok(None));
        let leaf = encode_nodes(&nodes);
        for length in 0..leaf.len() {
            assert!(leaf_records(&Bytes::copy_from_slice(&leaf[..length])).is_err(), "cut to {length}");
        }
        assert!(leaf_records(&[leaf, vec![0]].concat().into()).is_err());
    }

    #[test]
    fn a_record_is_exactly_as_long_as_its_length_says() {
        let leaf = encode_nodes(&sample_nodes()[..1]);
        let mut short = leaf.clone();
        short[8] -= 1;
        assert!(decode_tree_node(&short).is_err());
        let mut long = [leaf, vec![0]].concat();
        long[8] += 1;
        assert_eq!(decode_tree_node(&long), Err(Corruption::Malformed("end: bytes are left over")));
    }
}
