//! Nodes of a large file's chunk list, in chunks of kind `List`.

use super::cursor::Cursor;
use super::node::{Extent, ExtentKind, add_extent, add_file_bytes};
use super::{LIST_ITEMS_MAX, LIST_LEVEL_MAX};
use crate::error::Corruption;
use crate::id::ChunkId;

/// A node of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListNode {
    Leaf(Vec<Extent>),
    /// Level at least 1.
    Branch {
        level: u8,
        children: Vec<ListChild>,
    },
}

/// A child of a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListChild {
    pub id: ChunkId,
    pub bytes: u64,
    pub chunks: u64,
}

/// Version of a list node's layout.
const VERSION: u8 = 1;

/// Bytes of an item, in leaves and in branches.
const ITEM_LENGTH: usize = 48;

impl ListNode {
    /// `u8 version 1 ‖ u8 level ‖ u16 0 ‖ u32 count ‖ items`, 48 bytes each.
    ///
    /// Leaf: `id[32] ‖ u64 length ‖ u8 kind (0 data, 1 zero, 2 hole) ‖ zeros[7]`, the id zeros but for data.
    /// Branch: `id[32] ‖ u64 bytes ‖ u64 chunks`.
    pub fn encode(&self) -> Vec<u8> {
        let (level, count) = match self {
            Self::Leaf(extents) => (0, extents.len()),
            Self::Branch { level, children } => (*level, children.len()),
        };
        let mut out = Vec::with_capacity(8 + count * ITEM_LENGTH);
        out.extend_from_slice(&[VERSION, level, 0, 0]);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        match self {
            Self::Leaf(extents) => extents.iter().for_each(|extent| encode_extent(extent, &mut out)),
            Self::Branch { children, .. } => {
                for child in children {
                    out.extend_from_slice(&child.id.0);
                    out.extend_from_slice(&child.bytes.to_le_bytes());
                    out.extend_from_slice(&child.chunks.to_le_bytes());
                }
            }
        }
        out
    }

    /// No item is empty, and no sum exceeds what a file can hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(Corruption::Unknown { field: "list node version", value: version.into() });
        }
        let level = cursor.u8()?;
        cursor.zeros(2)?;
        let count = u64::from(cursor.u32()?);
        let count = cursor.count(count, ITEM_LENGTH, LIST_ITEMS_MAX, "count of list items")?;
        if level > LIST_LEVEL_MAX {
            return Err(Corruption::OverLimit("level of a list"));
        }
        if count == 0 {
            return Err(Corruption::Malformed("list node: empty"));
        }
        let node =
            if level == 0 { decode_leaf(&mut cursor, count)? } else { decode_branch(&mut cursor, level, count)? };
        cursor.finish()?;
        Ok(node)
    }
}

fn encode_extent(extent: &Extent, out: &mut Vec<u8>) {
    let (id, kind) = match extent.kind {
        ExtentKind::Data(id) => (id.0, 0),
        ExtentKind::Zero => ([0; 32], 1),
        ExtentKind::Hole => ([0; 32], 2),
    };
    out.extend_from_slice(&id);
    out.extend_from_slice(&extent.length.to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
}

fn decode_leaf(cursor: &mut Cursor<'_>, count: usize) -> Result<ListNode, Corruption> {
    let mut extents = Vec::with_capacity(count);
    let mut bytes = 0;
    for _ in 0..count {
        let id: [u8; 32] = cursor.array()?;
        let length = cursor.u64()?;
        let kind = match cursor.u8()? {
            0 => ExtentKind::Data(ChunkId(id)),
            1 => ExtentKind::Zero,
            2 => ExtentKind::Hole,
            number => return Err(Corruption::Unknown { field: "kind of an extent", value: number.into() }),
        };
        cursor.zeros(7)?;
        if !matches!(kind, ExtentKind::Data(_)) && id != [0; 32] {
            return Err(Corruption::Malformed("extent"));
        }
        bytes = add_extent(bytes, Extent { length, kind })?;
        extents.push(Extent { length, kind });
    }
    Ok(ListNode::Leaf(extents))
}

fn decode_branch(cursor: &mut Cursor<'_>, level: u8, count: usize) -> Result<ListNode, Corruption> {
    let mut children = Vec::with_capacity(count);
    let (mut bytes, mut chunks) = (0_u64, 0_u64);
    for _ in 0..count {
        let child = ListChild { id: ChunkId(cursor.array()?), bytes: cursor.u64()?, chunks: cursor.u64()? };
        if child.bytes == 0 {
            return Err(Corruption::Malformed("list node: empty child"));
        }
        bytes = add_file_bytes(bytes, child.bytes)?;
        chunks = chunks.checked_add(child.chunks).ok_or(Corruption::OverLimit("count of chunks"))?;
        children.push(child);
    }
    Ok(ListNode::Branch { level, children })
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    /// A golden node with bytes changed.
    fn patched(mut bytes: Vec<u8>, offset: usize, change: &[u8]) -> Result<ListNode, Corruption> {
        bytes[offset..][..change.len()].copy_from_slice(change);
        ListNode::decode(&bytes)
    }

    #[test]
    fn extents_of_a_leaf_are_refused_if_no_writer_makes_them() {
        let leaf = |offset, change: &[u8]| patched(vector!("list_leaf"), offset, change);
        const EXTENT: Result<ListNode, Corruption> = Err(Corruption::Malformed("extent"));
        let chunk = Err(Corruption::OverLimit("length of a chunk"));
        assert_eq!(leaf(8 + 32, &0_u64.to_le_bytes()), EXTENT);
        assert!(leaf(8 + 32, &(16_u64 << 20).to_le_bytes()).is_ok());
        assert_eq!(leaf(8 + 32, &((16_u64 << 20) + 1).to_le_bytes()), chunk);
        assert_eq!(leaf(8 + 48, &[1]), EXTENT); // a zero extent with an id
        assert_eq!(leaf(8 + 40, &[3]), Err(Corruption::Unknown { field: "kind of an extent", value: 3 }));
        assert_eq!(leaf(8 + 41, &[1]), Err(Corruption::Malformed("zero bytes")));
        let long = Err(Corruption::OverLimit("length of a file"));
        assert_eq!(leaf(8 + 96 + 32, &(i64::MAX as u64).to_le_bytes()), long);
        assert_eq!(leaf(8 + 96 + 32, &u64::MAX.to_le_bytes()), long);
    }

    #[test]
    fn sums_of_a_branch_do_not_overflow() {
        let branch = |offset, change: u64| patched(vector!("list_branch"), offset, &change.to_le_bytes());
        assert_eq!(branch(8 + 32, u64::MAX), Err(Corruption::OverLimit("length of a file")));
        assert_eq!(branch(8 + 32, i64::MAX as u64), Err(Corruption::OverLimit("length of a file")));
        assert_eq!(branch(8 + 40, u64::MAX), Err(Corruption::OverLimit("count of chunks")));
        assert_eq!(branch(8 + 32, 0), Err(Corruption::Malformed("list node: empty child")));
    }

    #[test]
    fn versions_levels_and_counts_have_bounds() {
        let branch = |offset, change: &[u8]| patched(vector!("list_branch"), offset, change);
        assert_eq!(branch(0, &[2]), Err(Corruption::Unknown { field: "list node version", value: 2 }));
        assert!(branch(1, &[6]).is_ok());
        assert_eq!(branch(1, &[7]), Err(Corruption::OverLimit("level of a list")));
        assert_eq!(branch(2, &[1]), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(branch(4, &[0]), Err(Corruption::Malformed("list node: empty")));
        assert_eq!(branch(4, &[3]), Err(Corruption::Truncated));
        assert_eq!(branch(4, &4097_u32.to_le_bytes()), Err(Corruption::OverLimit("count of list items")));
        assert_eq!(branch(4, &[1]), Err(Corruption::Malformed("end: bytes are left over")));
    }
}
