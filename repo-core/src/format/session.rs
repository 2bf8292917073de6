//! One writer's run: registered before it reads the index, removed after its snapshot is published.

use serde::{Deserialize, Serialize};

use super::{Extensions, SMALL_PAYLOAD_BYTES_MAX, check_extensions};
use crate::codec;
use crate::error::Corruption;
use crate::id::SnapshotId;

/// Payload of `sessions/<id>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: SnapshotId,
    /// 0 backup; 1 copy, 2 retag, 3 adopt, 4 upgrade, 5 read-hold are reserved.
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
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// A session of any reserved kind is read: whoever waits for sessions must see them all.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let session: Self = codec::decode(bytes, SMALL_PAYLOAD_BYTES_MAX, "session")?;
        if session.kind > 5 {
            return Err(Corruption::Unknown { field: "session kind", value: session.kind.into() });
        }
        check_extensions(&session.extensions)?;
        Ok(session)
    }
}
