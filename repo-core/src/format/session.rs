//! One writer's run: registered before it reads the index, removed after its snapshot is published.

use serde::{Deserialize, Serialize};

use super::Extensions;
use crate::error::Corruption;
use crate::id::SnapshotId;

/// Payload of `sessions/<id>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: SnapshotId,
    /// 0 backup.
    pub kind: u8,
    pub started_ms: u64,
    pub lease_s: u32,
    /// Host, boot and process, so that a dead local writer is known at once.
    pub host: String,
    pub boot: [u8; 16],
    pub process: u32,
    pub program: String,
    pub extensions: Extensions,
}

impl Session {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
