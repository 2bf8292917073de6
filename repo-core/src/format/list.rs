//! Nodes of a large file's chunk list, in chunks of kind `List`.

use super::tree::Extent;
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

impl ListNode {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
